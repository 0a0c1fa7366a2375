/* A model's tensors as f32: widened, named when something is wrong, all of them accounted for. */
#include "lib/load/weights.h"

#include "lib/base/pool.h"
#include "lib/load/safetensors.h"
#include "tests/unit/tiny.h"

static struct pcv_err e;

/* Six numbers that every float format holds exactly. */
static const float numbers[6] = {0, -1, 0.5f, 1024, -0.25f, 3};
static const uint16_t as_f16[6] = {0, 0xbc00, 0x3800, 0x6400, 0xb400, 0x4200};
static const uint16_t as_bf16[6] = {0, 0xbf80, 0x3f00, 0x4480, 0xbe80, 0x4040};

static struct pcv_tensor tensor(const char *name, enum pcv_dtype dtype, const void *data)
{
    return (struct pcv_tensor){.name = name,
                               .dtype = dtype,
                               .ndim = 2,
                               .shape = {2, 3},
                               .data = data,
                               .nbytes = 6 * pcv_dtype_size(dtype)};
}

static struct pcv_weights *open_tensors(const struct pcv_tensor *t, int n)
{
    struct pcv_weights *w = NULL;

    CHECK_OK(pcv_safetensors_write(tiny_path("model.safetensors"), t, n, &e), e);
    CHECK_OK(pcv_weights_open(&w, tiny_dir, &e), e);
    return w;
}

static const int64_t two_three[] = {2, 3};

static void every_float_is_widened(void **state)
{
    const struct pcv_tensor t[] = {tensor("f32", PCV_F32, numbers), tensor("f16", PCV_F16, as_f16),
                                   tensor("bf16", PCV_BF16, as_bf16)};
    struct pcv_weights *w = open_tensors(t, 3);
    const float *x;

    (void)state;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "%s", t[i].name), e);
        CHECK_BITS(x, numbers, 6);
    }
    CHECK_OK(pcv_weights_done(w, &e), e);
    assert_int_equal(pcv_weights_parameters(w), 18);
    assert_int_equal(pcv_weights_mapped(w), 24); /* f32 is read in place, the others are not */
    assert_int_equal(pcv_weights_owned(w), 48);
    pcv_weights_close(w);
}

/* One byte before it: the f32 tensor is not aligned in the file. */
static void what_is_not_aligned_is_copied(void **state)
{
    static const uint8_t byte[6] = {1, 2, 3, 4, 5, 6};
    const struct pcv_tensor t[] = {tensor("a", PCV_U8, byte), tensor("b", PCV_F32, numbers)};
    struct pcv_tensor odd[2] = {t[0], t[1]};
    struct pcv_weights *w;
    const float *x;

    (void)state;
    odd[0].shape[0] = 1;
    odd[0].nbytes = 3;
    w = open_tensors(odd, 2);
    CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "b"), e);
    assert_int_equal((uintptr_t)x % sizeof(float), 0);
    CHECK_BITS(x, numbers, 6);
    pcv_weights_close(w);
}

static void a_tensor_may_be_bound_twice(void **state)
{
    const struct pcv_tensor t[] = {tensor("a", PCV_F16, as_f16)};
    struct pcv_weights *w = open_tensors(t, 1);
    const float *x, *y;

    (void)state;
    CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "a"), e);
    CHECK_OK(pcv_weights_bind(w, &y, two_three, 2, &e, "a"), e);
    assert_ptr_equal(x, y);
    assert_int_equal(pcv_weights_parameters(w), 6); /* counted once */
    pcv_weights_close(w);
}

static void axes_may_be_in_another_order(void **state)
{
    static const float turned[6] = {0, 1024, -1, -0.25f, 0.5f, 3};
    static const int64_t three_two[] = {3, 2};
    const struct pcv_tensor t[] = {tensor("a", PCV_F16, as_f16)};
    struct pcv_weights *w = open_tensors(t, 1);
    const float *x, *y;

    (void)state;
    CHECK_OK(pcv_weights_bind_transposed(w, &x, three_two, &e, "%s", "a"), e);
    CHECK_BITS(x, turned, 6);
    CHECK_OK(pcv_weights_bind(w, &y, two_three, 2, &e, "a"), e);
    CHECK_BITS(y, numbers, 6);
    assert_int_equal(pcv_weights_parameters(w), 6);
    CHECK_FAILS(pcv_weights_bind_transposed(w, &x, two_three, &e, "a"), e, PCV_ESHAPE,
                "model.safetensors: a", "[2,3]");
    pcv_weights_close(w);
}

static void what_is_wrong_is_named(void **state)
{
    static const int64_t three_two[] = {3, 2};
    static const int32_t integers[6];
    const struct pcv_tensor t[] = {tensor("layer.0.w", PCV_F32, numbers),
                                   tensor("layer.1.w", PCV_I32, integers)};
    struct pcv_weights *w = open_tensors(t, 2);
    const float *x = numbers;

    (void)state;
    CHECK_FAILS(pcv_weights_bind(w, &x, two_three, 2, &e, "layer.%d.w", 7), e, PCV_EMISSING,
                "model.safetensors: layer.7.w", "missing");
    CHECK_FAILS(pcv_weights_bind(w, &x, three_two, 2, &e, "layer.%d.w", 0), e, PCV_ESHAPE,
                "model.safetensors: layer.0.w", "shape [2,3], the configuration wants [3,2]");
    CHECK_FAILS(pcv_weights_bind(w, &x, two_three, 1, &e, "layer.0.w"), e, PCV_ESHAPE, "layer.0.w",
                "wants [2]");
    CHECK_FAILS(pcv_weights_bind(w, &x, two_three, 2, &e, "layer.1.w"), e, PCV_EUNSUPPORTED,
                "model.safetensors: layer.1.w", "datatype I32");
    assert_ptr_equal(x, numbers);
    assert_int_equal(pcv_weights_parameters(w), 0);
    pcv_weights_close(w);
}

static void what_nobody_knows_is_an_error(void **state)
{
    const struct pcv_tensor t[] = {tensor("a", PCV_F32, numbers), tensor("b", PCV_F32, numbers),
                                   tensor("c", PCV_F32, numbers)};
    struct pcv_weights *w = open_tensors(t, 3);
    const float *x;

    (void)state;
    CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "a"), e);
    CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "c"), e);
    CHECK_FAILS(pcv_weights_done(w, &e), e, PCV_EUNKNOWN, "model.safetensors: b", "not part of");
    pcv_weights_ignore(w, "b");
    pcv_weights_ignore(w, "there is no such");
    CHECK_OK(pcv_weights_done(w, &e), e);
    assert_int_equal(pcv_weights_parameters(w), 12);
    assert_null(pcv_weights_find(w, "d"));
    assert_string_equal(pcv_weights_find(w, "b")->name, "b");
    pcv_weights_close(w);
}

/* NaN and both infinities, first and last, in every float. */
static void numbers_are_finite(void **state)
{
    static const uint32_t f32[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f800001};
    static const uint16_t f16[] = {0x7e00, 0x7c00, 0xfc00, 0x7c01};
    static const uint16_t bf16[] = {0x7fc0, 0x7f80, 0xff80, 0x7f81};

    (void)state;
    for (int i = 0; i < 8; i++) {
        float a[6];
        uint16_t b[6], c[6];
        const struct pcv_tensor t[] = {tensor("f32", PCV_F32, a), tensor("f16", PCV_F16, b),
                                       tensor("bf16", PCV_BF16, c)};
        struct pcv_weights *w;

        memcpy(a, numbers, sizeof(a));
        memcpy(b, as_f16, sizeof(b));
        memcpy(c, as_bf16, sizeof(c));
        memcpy(&a[i < 4 ? 0 : 5], &f32[i % 4], sizeof(float));
        b[i < 4 ? 0 : 5] = f16[i % 4];
        c[i < 4 ? 0 : 5] = bf16[i % 4];
        w = open_tensors(t, 3);
        for (int k = 0; k < 3; k++)
            for (int again = 0; again < 2; again++) { /* and again: nothing was kept */
                const float *x = numbers;

                CHECK_FAILS(pcv_weights_bind(w, &x, two_three, 2, &e, "%s", t[k].name), e,
                            PCV_ERANGE, t[k].name, "not finite");
                assert_ptr_equal(x, numbers);
            }
        pcv_weights_close(w);
    }
}

/* All threads look at large tensors in pieces: whichever piece holds the one bad number, its tensor
 * is named and the others are bound, in place or copied. */
static void all_threads_look(void **state)
{
    enum { ROWS = 1100, COLS = 1000, BAD = 3 };
    static const int64_t shape[] = {ROWS, COLS}, turned[] = {COLS, ROWS};
    static const int at[] = {0, ROWS * COLS - 1, 1 << 20, (1 << 20) - 1};
    const size_t bytes = sizeof(float) * ROWS * COLS;
    float *good = calloc(1, bytes), *bad = calloc(1, bytes);
    struct pcv_pool *pool;

    (void)state;
    assert_true(good && bad);
    CHECK_OK(pcv_pool_new(&pool, 2, &e), e);
    for (size_t i = 0; i < LEN(at); i++) {
        const struct pcv_tensor big = {NULL, PCV_F32, 2, {ROWS, COLS}, good, bytes};
        struct pcv_tensor t[] = {tensor("a", PCV_F32, numbers), big, big, big,
                                 tensor("e", PCV_F16, as_f16)};
        struct pcv_weights *w;
        const float *x;

        for (int k = 1; k <= BAD; k++)
            t[k].name = (const char *const[]){"b", "c", "d"}[k - 1];
        bad[at[i]] = INFINITY;
        t[BAD].data = bad;
        w = open_tensors(t, LEN(t));
        pcv_weights_look(w, i % 2 ? pool : NULL);
        for (size_t k = 0; k < LEN(t); k++) {
            const int64_t *want = t[k].data == bad || t[k].data == good ? shape : two_three;

            if (k == BAD)
                continue;
            CHECK_OK(pcv_weights_bind(w, &x, want, 2, &e, "%s", t[k].name), e);
        }
        CHECK_OK(pcv_weights_bind_transposed(w, &x, turned, &e, "b"), e);
        CHECK_FAILS(pcv_weights_bind(w, &x, shape, 2, &e, "d"), e, PCV_ERANGE, "d", "not finite");
        CHECK_FAILS(pcv_weights_bind_transposed(w, &x, turned, &e, "d"), e, PCV_ERANGE, "d",
                    "not finite");
        pcv_weights_close(w);
        bad[at[i]] = 0;
    }
    pcv_pool_free(pool);
    free(good);
    free(bad);
}

/* The largest finite numbers are fine. */
static void large_numbers_are_taken(void **state)
{
    static const uint32_t f32[6] = {0x7f7fffff, 0xff7fffff, 1, 0x80000001, 0, 0x80000000};
    const struct pcv_tensor t[] = {tensor("a", PCV_F32, f32)};
    struct pcv_weights *w = open_tensors(t, 1);
    const float *x;

    (void)state;
    CHECK_OK(pcv_weights_bind(w, &x, two_three, 2, &e, "a"), e);
    assert_memory_equal(x, f32, sizeof(f32));
    pcv_weights_close(w);
}

static void a_folder_without_weights_is_refused(void **state)
{
    struct pcv_weights *w = (void *)0x1;

    (void)state;
    unlink(tiny_path("model.safetensors"));
    CHECK_FAILS(pcv_weights_open(&w, tiny_dir, &e), e, PCV_EMISSING, tiny_dir, "model.safetensors");
    tiny_write_text("model.safetensors", "no");
    CHECK_FAILS(pcv_weights_open(&w, tiny_dir, &e), e, PCV_EFORMAT, "model.safetensors", "");
    assert_ptr_equal(w, (void *)0x1);
    pcv_weights_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_float_is_widened),
        cmocka_unit_test(what_is_not_aligned_is_copied),
        cmocka_unit_test(a_tensor_may_be_bound_twice),
        cmocka_unit_test(axes_may_be_in_another_order),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(what_nobody_knows_is_an_error),
        cmocka_unit_test(numbers_are_finite),
        cmocka_unit_test(all_threads_look),
        cmocka_unit_test(large_numbers_are_taken),
        cmocka_unit_test(a_folder_without_weights_is_refused),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
