/* Conversions are checked against values built from their bits' meaning with ldexp. */
#include "lib/base/tensor.h"

#include "tests/unit/check.h"

static uint32_t bits_of(float f)
{
    uint32_t b;

    memcpy(&b, &f, 4);
    return b;
}

/* What 16 bits mean: `exponent` bits of exponent, `fraction` of fraction. */
static double meaning(uint16_t h, int exponent, int fraction)
{
    const int bias = (1 << (exponent - 1)) - 1, top = (1 << exponent) - 1;
    const int e = h >> fraction & top, f = h & ((1 << fraction) - 1);
    double v;

    if (e == top)
        v = f ? NAN : INFINITY;
    else if (e == 0)
        v = ldexp(f, 1 - bias - fraction);
    else
        v = ldexp(1 << fraction | f, e - bias - fraction);
    return h & 0x8000 ? -v : v;
}

static void every_half_widens_exactly(void **state)
{
    (void)state;
    for (int h = 0; h < 65536; h++) {
        const double f16 = meaning((uint16_t)h, 5, 10), bf16 = meaning((uint16_t)h, 8, 7);
        const float a = pcv_f16_to_f32((uint16_t)h), b = pcv_bf16_to_f32((uint16_t)h);

        if (isnan(f16) ? !isnan(a) : a != f16 || !signbit(a) != !signbit(f16))
            fail_msg("F16 %04x becomes %a, means %a", h, a, f16);
        if (isnan(bf16) ? !isnan(b) : b != bf16 || !signbit(b) != !signbit(bf16))
            fail_msg("BF16 %04x becomes %a, means %a", h, b, bf16);
    }
}

static void every_half_comes_back(void **state)
{
    (void)state;
    for (int h = 0; h < 65536; h++) {
        const float f = pcv_f16_to_f32((uint16_t)h);
        const uint16_t back = pcv_f32_to_f16(f);

        if (isnan(f) ? !isnan(pcv_f16_to_f32(back)) || (back & 0x8000) != (h & 0x8000) : back != h)
            fail_msg("F16 %04x comes back as %04x", h, back);
    }
}

/* Between neighbours: to the nearer, half way to the even one. The neighbour of the largest number
 * is what would be 2^16. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (int h = 0; h < 0x7c00; h++) {
        const float lo = (float)meaning((uint16_t)h, 5, 10);
        const float hi = h == 0x7bff ? 65536.0f : (float)meaning((uint16_t)(h + 1), 5, 10);
        const float mid = lo + (hi - lo) / 2; /* exact in f32 */
        const uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);

        assert_int_equal(pcv_f32_to_f16(mid), even);
        assert_int_equal(pcv_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(pcv_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(pcv_f32_to_f16(-mid), even | 0x8000);
    }
    assert_int_equal(pcv_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(pcv_f32_to_f16(-0x1p-149f), 0x8000);
    assert_int_equal(pcv_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(pcv_f32_to_f16(-INFINITY), 0xfc00);
    assert_true(isnan(pcv_f16_to_f32(pcv_f32_to_f16(NAN))));
}

static void names_and_sizes(void **state)
{
    static const struct {
        const char *name;
        size_t size;
    } want[PCV_DTYPES] = {{"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"U16", 2}, {"I16", 2},
                          {"F16", 2},  {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},
                          {"U64", 8},  {"I64", 8},  {"F64", 8}};

    (void)state;
    for (int i = 0; i < PCV_DTYPES; i++) {
        assert_string_equal(pcv_dtype_name((enum pcv_dtype)i), want[i].name);
        assert_int_equal(pcv_dtype_size((enum pcv_dtype)i), want[i].size);
    }
}

static void counts_shapes(void **state)
{
    static const int64_t a[] = {2, 3, 5}, negative[] = {2, -1}, zero[] = {0, 7};
    static const int64_t huge[] = {INT64_C(1) << 32, INT64_C(1) << 31};

    (void)state;
    assert_int_equal(pcv_shape_count(a, 3), 30);
    assert_int_equal(pcv_shape_count(a, 0), 1);
    assert_int_equal(pcv_shape_count(zero, 2), 0);
    assert_int_equal(pcv_shape_count(negative, 2), -1);
    assert_int_equal(pcv_shape_count(huge, 2), -1);
    assert_int_equal(pcv_shape_bytes(PCV_F32, a, 3), 120);
    assert_int_equal(pcv_shape_bytes(PCV_U8, huge, 1), INT64_C(1) << 32);
    assert_int_equal(pcv_shape_bytes(PCV_F64, (const int64_t[]){INT64_C(1) << 60}, 1), -1);
}

static void writes_shapes_into_any_room(void **state)
{
    static const int64_t a[] = {1, -1, INT64_MIN};
    char buf[64];

    (void)state;
    assert_string_equal(pcv_shape_text(a, 3, buf, sizeof(buf)), "[1,-1,-9223372036854775808]");
    assert_string_equal(pcv_shape_text(a, 0, buf, sizeof(buf)), "[]");
    for (size_t room = 1; room < 28; room++) {
        memset(buf, 'x', sizeof(buf));
        pcv_shape_text(a, 3, buf, room);
        assert_true(strlen(buf) < room);
        assert_int_equal(buf[room], 'x');
        assert_memory_equal("[1,-1,-9223372036854775808]", buf, strlen(buf));
    }
}

/* Four elements of each datatype, one byte off any alignment, and what they are as f32. */
static void every_datatype_becomes_f32(void **state)
{
    static const float want[PCV_DTYPES][4] = {
        [PCV_BOOL] = {0, 1, 1, 0},
        [PCV_U8] = {0, 1, 128, 255},
        [PCV_I8] = {0, 1, -128, -1},
        [PCV_U16] = {0, 1, 32768, 65535},
        [PCV_I16] = {0, 1, -32768, -1},
        [PCV_F16] = {0, 1, -2, 65504},
        [PCV_BF16] = {0, 1, -2, 0x1.fep127f},
        [PCV_U32] = {0, 1, 0x1p31f, 0x1p32f},
        [PCV_I32] = {0, 1, -0x1p31f, -1},
        [PCV_F32] = {0, 1, -2, 3.25f},
        [PCV_U64] = {0, 1, 0x1p63f, 0x1p64f},
        [PCV_I64] = {0, 1, -0x1p63f, -1},
        [PCV_F64] = {0, 1, -2, 0x1.000002p0f},
    };
    static const double f64[] = {0, 1, -2, 0x1.000001000001p0}; /* above half: rounds up */
    static const float f32[] = {0, 1, -2, 3.25f};
    static const uint64_t integer[] = {0, 1, 0x8000000000000000, UINT64_MAX};
    static const uint16_t f16[] = {0, 0x3c00, 0xc000, 0x7bff}, bf16[] = {0, 0x3f80, 0xc000, 0x7f7f};
    static const uint8_t boolean[] = {0, 1, 1, 0};

    (void)state;
    for (int d = 0; d < PCV_DTYPES; d++) {
        const size_t size = pcv_dtype_size((enum pcv_dtype)d);
        char data[1 + 4 * 8];
        struct pcv_tensor t = {.dtype = (enum pcv_dtype)d, .ndim = 1, .shape = {4}};
        float out[5] = {9, 9, 9, 9, 9};

        for (size_t i = 0; i < 4; i++) {
            /* small integers are their low bytes, the extreme ones their high bytes */
            const char *high = (const char *)&integer[i] + (i < 2 ? 0 : 8 - size);
            const void *from = d == PCV_F64    ? (const void *)&f64[i]
                               : d == PCV_F32  ? (const void *)&f32[i]
                               : d == PCV_F16  ? (const void *)&f16[i]
                               : d == PCV_BF16 ? (const void *)&bf16[i]
                               : d == PCV_BOOL ? (const void *)&boolean[i]
                                               : high;

            memcpy(data + 1 + i * size, from, size);
        }
        t.data = data + 1;
        t.nbytes = 4 * size;
        pcv_tensor_to_f32(&t, 0, 4, out);
        for (int i = 0; i < 4; i++)
            CHECK_ONE(out[i], want[d][i], 0, "%s element %d", pcv_dtype_name(t.dtype), i);
        assert_true(out[4] == 9);
        pcv_tensor_to_f32(&t, 2, 1, out);
        CHECK_ONE(out[0], want[d][2], 0, "%s from 2", pcv_dtype_name(t.dtype));
        pcv_tensor_to_f32(&t, 4, 0, out);
    }
}

static struct pcv_tensor tensor(enum pcv_dtype d, const void *data, int64_t n)
{
    return (struct pcv_tensor){
        .dtype = d, .ndim = 1, .shape = {n}, .data = data, .nbytes = (size_t)n * pcv_dtype_size(d)};
}

static void integers_are_taken_as_they_are(void **state)
{
    static const uint64_t words[] = {0, 1, INT64_MAX, 0x8000000000000000};
    static const double f64[] = {-0.0, -0x1p63, 0x1.fffffffffffffp62, 7};
    static const float f32[] = {3, -0x1p63f, 16777216, -1};
    static const int8_t i8[] = {-128, 127, 0, -1};
    struct pcv_tensor t = tensor(PCV_I64, words, 4);
    struct pcv_err e = {0};
    int64_t out[4];

    (void)state;
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_memory_equal(out, words, sizeof(words));
    t = tensor(PCV_U64, words, 3);
    CHECK_OK(pcv_tensor_to_i64(&t, 1, 2, out, &e), e);
    assert_true(out[0] == 1 && out[1] == INT64_MAX);
    t = tensor(PCV_F64, f64, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == 0 && out[1] == INT64_MIN && out[2] == INT64_MAX - 1023 && out[3] == 7);
    t = tensor(PCV_F32, f32, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == 3 && out[1] == INT64_MIN && out[2] == 16777216 && out[3] == -1);
    t = tensor(PCV_I8, i8, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == -128 && out[1] == 127 && out[2] == 0 && out[3] == -1);
    t = tensor(PCV_U8, i8, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == 128 && out[1] == 127 && out[2] == 0 && out[3] == 255);
    t = tensor(PCV_U32, words, 2);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 2, out, &e), e);
    assert_true(out[0] == 0 && out[1] == 0);
    t = tensor(PCV_I32, words + 2, 2);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 2, out, &e), e);
    assert_true(out[0] == -1 && out[1] == INT32_MAX);
    t = tensor(PCV_U16, words + 3, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == 0 && out[3] == 32768);
    t = tensor(PCV_I16, words + 3, 4);
    CHECK_OK(pcv_tensor_to_i64(&t, 0, 4, out, &e), e);
    assert_true(out[0] == 0 && out[3] == INT16_MIN);
}

static void what_is_no_integer_is_refused_untouched(void **state)
{
    static const double f64[][2] = {{1, 0.5}, {1, NAN}, {1, INFINITY}, {1, 0x1p63}, {1, -0x1.1p63}};
    static const float f32[] = {1, 1.5f};
    static const uint64_t u64[] = {1, UINT64_C(1) << 63};
    static const uint16_t half[] = {0, 0};
    struct pcv_tensor t;
    struct pcv_err e = {0};

    (void)state;
    for (size_t i = 0; i < LEN(f64) + 2; i++) {
        int64_t out[2] = {77, 78};

        t = i < LEN(f64)    ? tensor(PCV_F64, f64[i], 2)
            : i == LEN(f64) ? tensor(PCV_F32, f32, 2)
                            : tensor(PCV_U64, u64, 2);
        CHECK_FAILS(pcv_tensor_to_i64(&t, 0, 2, out, &e), e, PCV_ERANGE, "", "element 1 ");
        assert_true(out[0] == 77 && out[1] == 78);
        CHECK_FAILS(pcv_tensor_to_i64(&t, 1, 1, out, &e), e, PCV_ERANGE, "", "element 1 ");
        CHECK_OK(pcv_tensor_to_i64(&t, 0, 1, out, &e), e);
        assert_true(out[0] == 1);
    }
    for (int i = 0; i < 2; i++) {
        int64_t out[2];

        t = tensor(i ? PCV_BF16 : PCV_F16, half, 2);
        CHECK_FAILS(pcv_tensor_to_i64(&t, 0, 2, out, &e), e, PCV_EUNSUPPORTED, "",
                    i ? "BF16" : "F16");
    }
}

static void bits_survive(void **state)
{
    static const uint32_t nan_bits[] = {0x7fc01234, 0xff800001};
    const struct pcv_tensor t = tensor(PCV_F32, nan_bits, 2);
    float out[2];

    (void)state;
    pcv_tensor_to_f32(&t, 0, 2, out);
    assert_int_equal(bits_of(out[0]), nan_bits[0]);
    assert_int_equal(bits_of(out[1]), nan_bits[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_widens_exactly),
        cmocka_unit_test(every_half_comes_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(names_and_sizes),
        cmocka_unit_test(counts_shapes),
        cmocka_unit_test(writes_shapes_into_any_room),
        cmocka_unit_test(every_datatype_becomes_f32),
        cmocka_unit_test(integers_are_taken_as_they_are),
        cmocka_unit_test(what_is_no_integer_is_refused_untouched),
        cmocka_unit_test(bits_survive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
