#include "tests/unit/proto/wire_test.h"

#include "proto/wire_numbers.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

static struct wire_arena *arena;
static struct pcv_err e;

static int setup(void **state)
{
    (void)state;
    arena = wire_arena_new();
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    wire_arena_free(arena);
    return 0;
}

/* Reads the array into out, which has room for `room`; the text has no byte behind it. */
static int numbers(const char *text, enum pcv_dtype t, void *out, int64_t room, int64_t *n)
{
    size_t len = strlen(text);
    char *exact = wire_arena_get(arena, len);
    struct wire_reader rd;
    int r;

    memcpy(exact, text, len);
    wire_reader_init(&rd, exact, len, "$", arena, &e);
    r = wire_read_numbers(&rd, t, out, room, n);
    return r < 0 ? r : wire_read_end(&rd);
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void same_as_strtod(const char *text)
{
    struct wire_number n;
    char behind[1100];
    double got, want;

    snprintf(behind, sizeof(behind), "%s,", text);
    if (!wire_number_lex(behind, behind + strlen(behind), &n) || *n.end != ',')
        fail_msg("%s is no number", text);
    got = wire_number_f64(&n);
    want = strtod(text, NULL);
    if (memcmp(&got, &want, 8) != 0)
        fail_msg("%s: %a, want %a", text, got, want);
}

/* Correctly rounded, bit for bit, in all the ways there are to get there. */
static void test_doubles(void **state)
{
    static const char *const edges[] = {
        "0",
        "-0",
        "-0.0",
        "0e5",
        "0.000e-400",
        "1",
        "0.1",
        "1e22",
        "1e23",
        "9007199254740993", /* 2^53 + 1: halfway */
        "9007199254740993e1",
        "9007199254740992.5",
        "9007199254740993.00000000000000000000000000001",
        "18446744073709551615", /* 2^64 - 1 */
        "18446744073709551616",
        "18446744073709551615e27",
        "18446744073709551615e-27",
        "1e27",
        "1e28",
        "1e-27",
        "1e-28",
        "123456789012345678901234567890",
        "0.3000000000000000166533453693773481063544750213623046875",
        "1.7976931348623157e308",
        "1.7976931348623159e308", /* overflows */
        "1e400",
        "-1e400",
        "1e999999999999999999999",
        "4.9e-324",
        "2.4703282292062327e-324", /* half the least */
        "2.4703282292062328e-324",
        "2.2250738585072011e-308",
        "1e-400",
        "1e-99999999999999999999",
        "5e-27",
        "0.0000000000000000000000000000000000000000000000000001",
        "10000000000000000000000000000000000000000000000000000000000000000000000000000000e-60",
    };
    uint64_t s = 88172645463325252u;
    char text[1000];

    (void)state;
    for (size_t i = 0; i < LEN(edges); i++)
        same_as_strtod(edges[i]);
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = next_random(&s);
        double d;

        memcpy(&d, &bits, 8);
        switch (i % 4) {
        case 0: snprintf(text, sizeof(text), "%.17g", isfinite(d) ? d : 1.5); break;
        case 1: snprintf(text, sizeof(text), "%.17g", (double)(float)(bits >> 11) * 0x1p-50); break;
        case 2:
            snprintf(text, sizeof(text), "%llu.%llue%d", (unsigned long long)(bits >> (bits % 63)),
                     (unsigned long long)(next_random(&s) >> (bits % 61)), (int)(bits % 60) - 30);
            break;
        case 3: /* halfway between two doubles, scaled */
            snprintf(text, sizeof(text), "%lluE%d",
                     (unsigned long long)(bits >> 10 | 1ull << 53 | 1), (int)(bits % 56) - 28);
            break;
        }
        same_as_strtod(text);
    }
    memset(text, '7', sizeof(text)); /* more digits than any buffer inside */
    text[sizeof(text) - 1] = '\0';
    text[300] = '.';
    same_as_strtod(text);
    text[0] = '0'; /* 0.777... */
    text[1] = '.';
    text[300] = '7';
    same_as_strtod(text);
    /* 2^53 + 1, halfway, and a digit far behind that decides */
    memset(text, '0', sizeof(text));
    memcpy(text, "9007199254740993.", 17);
    text[900] = '\0';
    same_as_strtod(text);
    text[899] = '1';
    same_as_strtod(text);
    memcpy(text + 900, "e-300", 6);
    same_as_strtod(text);
}

static void test_not_numbers(void **state)
{
    static const char *const bad[] = {"",    "-",   "+1", ".5",  "1.",       "1.x", "1e",
                                      "1e-", "--1", "x",  "NaN", "Infinity", "-I",  "e5"};
    struct wire_number n;

    (void)state;
    for (size_t i = 0; i < LEN(bad); i++)
        assert_false(wire_number_lex(bad[i], bad[i] + strlen(bad[i]), &n));
    assert_true(wire_number_lex("012", (const char *)"012" + 3, &n)); /* a 0, and what follows */
}

/* Digits are read eight at a time: any other byte ends them wherever it stands, and so does the end
 * of the text. */
static void test_digits_end_anywhere(void **state)
{
    static const char digits[] = "1234567890987654321";
    struct wire_number n;
    char text[sizeof(digits)];

    (void)state;
    for (int k = 1; k < (int)sizeof(digits); k++) {
        uint64_t want = strtoull(memcpy(text, digits, sizeof(digits)), NULL, 10);

        for (int i = k; i < (int)sizeof(digits) - 1; i++)
            want /= 10;
        assert_true(wire_number_lex(text, text + k, &n));
        assert_ptr_equal(n.end, text + k);
        assert_true(n.mantissa == want && n.exp10 == 0 && !n.dropped);
        for (int byte = 0; byte < 256 && k < (int)sizeof(digits) - 1; byte++) {
            if (strchr("0123456789.eE", byte) && byte)
                continue;
            text[k] = (char)byte;
            assert_true(wire_number_lex(text, text + sizeof(digits) - 1, &n));
            assert_ptr_equal(n.end, text + k);
            assert_true(n.mantissa == want);
        }
    }
}

/* Flat and nested arrays are the same numbers. */
static void test_shapes(void **state)
{
    static const char *const same[] = {
        "[1,2,3,4,5,6]",       " [ 1 , 2\n,\t3,4,5 , 6 ] ",
        "[[1,2,3],[4,5,6]]",   "[[[1],[2],[3]],[[4],[5],[6]]]",
        "[[[[1,2,3,4,5,6]]]]", "[ [ 1,2 ] ,[3,4],[ 5,6 ]]",
    };

    (void)state;
    for (size_t i = 0; i < LEN(same); i++) {
        float v[6] = {0};
        int64_t n = 0;

        assert_ok(numbers(same[i], PCV_F32, v, 6, &n), e);
        assert_int_equal(n, 6);
        for (int k = 0; k < 6; k++)
            assert_true(v[k] == (float)(k + 1));
    }
}

static void test_empty(void **state)
{
    static const char *const none[] = {"[]", "[ ]", "[[]]", "[[],[]]", "[[[],[]],[[],[]]]"};

    (void)state;
    for (size_t i = 0; i < LEN(none); i++) {
        int64_t n = -1;

        assert_ok(numbers(none[i], PCV_F32, NULL, 0, &n), e);
        assert_int_equal(n, 0);
    }
}

static void test_bad_arrays(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *where, *words;
    } cases[] = {
        {"", PCV_EFORMAT, "$", "an array of numbers"},
        {"1", PCV_EFORMAT, "$", "expected an array of numbers at byte 0"},
        {"{}", PCV_EFORMAT, "$", "expected an array of numbers at byte 0"},
        {"[", PCV_EFORMAT, "$[0]", "ends at byte 1"},
        {"[[", PCV_EFORMAT, "$[0][0]", "ends at byte 2"},
        {"[1", PCV_EFORMAT, "$[0]", "ends at byte 2"},
        {"[1,", PCV_EFORMAT, "$[1]", "ends at byte 3"},
        {"[1,]", PCV_EFORMAT, "$[1]", "expected a number at byte 3"},
        {"[,1]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[1 2]", PCV_EFORMAT, "$[0]", "expected ',' or ']' at byte 3"},
        {"[1.5.2]", PCV_EFORMAT, "$[0]", "expected ',' or ']' at byte 4"},
        {"[012]", PCV_EFORMAT, "$[0]", "expected ',' or ']' at byte 2"},
        {"[0x10]", PCV_EFORMAT, "$[0]", "expected ',' or ']' at byte 2"},
        {"[1}", PCV_EFORMAT, "$[0]", "expected ',' or ']' at byte 2"},
        {"[[1,2],[3,4]", PCV_EFORMAT, "$[1]", "ends at byte 12"},
        {"[[1,2],]", PCV_EFORMAT, "$[1]", "expected a number at byte 7"},
        {"[\"NaN\"]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[NaN]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[1,-Infinity]", PCV_EFORMAT, "$[1]", "expected a number at byte 3"},
        {"[null]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[true]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[{}]", PCV_EFORMAT, "$[0]", "expected a number at byte 1"},
        {"[1e400]", PCV_ERANGE, "$[0]", "1e400 does not fit"},
        {"[0,[1]]", PCV_ESHAPE, "$[1]", "an array where"},
        {"[[0],1]", PCV_ESHAPE, "$[1]", "a number where"},
        {"[[],1]", PCV_ESHAPE, "$[1]", "a number where"},
        {"[[1,2],[3]]", PCV_ESHAPE, "$[1][0]", "a row of 1 where the one before has 2"},
        {"[[1,2],[3,4,5]]", PCV_ESHAPE, "$[1][2]", "a row of 3"},
        {"[[1],[]]", PCV_ESHAPE, "$[1]", "a row of 0"},
        {"[[[1],[2]],[[3]]]", PCV_ESHAPE, "$[1][0]", "a row of 1"},
        {"[[],[[]]]", PCV_ESHAPE, "$[1][0]", "a row of 1"},
    };
    float v[8];
    int64_t n = -5;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        assert_fails(numbers(cases[i].text, PCV_F32, v, 8, &n), e, cases[i].code, cases[i].where,
                     cases[i].words);
    assert_int_equal(n, -5);
    assert_fails(numbers("[1]", PCV_F16, v, 8, &n), e, PCV_EFORMAT, "$", "F16");
    assert_fails(numbers("[1]", PCV_BF16, v, 8, &n), e, PCV_EFORMAT, "$", "BF16");
}

/* Deeply nested numbers are refused where the limit is, without recursion. */
static void test_depth(void **state)
{
    static const size_t depths[] = {64, 65, 10000};
    char *text = malloc(20002);
    float v = 0;
    int64_t n;

    (void)state;
    for (size_t i = 0; i < LEN(depths); i++) {
        memset(text, '[', depths[i]);
        text[depths[i]] = '1';
        memset(text + depths[i] + 1, ']', depths[i]);
        text[2 * depths[i] + 1] = '\0';
        if (depths[i] <= WIRE_MAX_DEPTH) {
            assert_ok(numbers(text, PCV_F32, &v, 1, &n), e);
            assert_true(v == 1);
        } else {
            assert_int_equal(numbers(text, PCV_F32, &v, 1, &n), PCV_ELIMIT);
            assert_non_null(strstr(e.msg, "at byte 64"));
        }
    }
    free(text);
}

/* What does not fit is counted and not stored. */
static void test_room(void **state)
{
    float v[3] = {-1, -1, -1};
    int64_t n;

    (void)state;
    assert_ok(numbers("[1,2,3,4,5]", PCV_F32, v, 2, &n), e);
    assert_int_equal(n, 5);
    assert_true(v[0] == 1 && v[1] == 2 && v[2] == -1);
}

static void test_floats(void **state)
{
    float v[8];
    double d[4];
    int64_t n;

    (void)state;
    assert_ok(numbers("[-0, -0.0, 1e-400, -1e-400, 3.4028235e38, 0.1, 1e-45, 16777217]", PCV_F32, v,
                      8, &n),
              e);
    assert_true(v[0] == 0 && signbit(v[0]));
    assert_true(v[1] == 0 && signbit(v[1]));
    assert_true(v[2] == 0 && !signbit(v[2]));
    assert_true(v[3] == 0 && signbit(v[3]));
    assert_true(v[4] == FLT_MAX);
    assert_true(v[5] == 0.1f);
    assert_true(v[6] == 0x1p-149f);
    assert_true(v[7] == 16777216.0f); /* halfway, to even */
    assert_fails(numbers("[1, 3.5e38]", PCV_F32, v, 8, &n), e, PCV_ERANGE, "$[1]", "3.5e38");
    assert_fails(numbers("[[1, -1e39]]", PCV_F32, v, 8, &n), e, PCV_ERANGE, "$[0][1]", "-1e39");
    assert_ok(numbers("[3.5e38, 0.1, 1.7976931348623157e308, 5e-324]", PCV_F64, d, 4, &n), e);
    assert_true(d[0] == 3.5e38 && d[1] == 0.1 && d[2] == DBL_MAX && d[3] == 0x1p-1074);
    assert_fails(numbers("[1.8e308]", PCV_F64, d, 4, &n), e, PCV_ERANGE, "$[0]", "1.8e308");
}

static void test_integers(void **state)
{
    static const struct {
        enum pcv_dtype t;
        const char *least, *most, *below, *above;
    } cases[] = {
        {PCV_BOOL, "0", "1", "-1", "2"},
        {PCV_U8, "0", "255", "-1", "256"},
        {PCV_I8, "-128", "127", "-129", "128"},
        {PCV_U16, "0", "65535", "-1", "65536"},
        {PCV_I16, "-32768", "32767", "-32769", "32768"},
        {PCV_U32, "0", "4294967295", "-1", "4294967296"},
        {PCV_I32, "-2147483648", "2147483647", "-2147483649", "2147483648"},
        {PCV_I64, "-9223372036854775808", "9223372036854775807", "-9223372036854775809",
         "9223372036854775808"},
        {PCV_U64, "0", "18446744073709551615", "-1", "18446744073709551616"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        unsigned char v[32], out[5 * 8];
        size_t size = pcv_dtype_size(cases[i].t);
        char text[128];
        int64_t n;

        snprintf(text, sizeof(text), "[%s,%s,-0]", cases[i].least, cases[i].most);
        memset(out, 0xee, sizeof(out));
        assert_ok(numbers(text, cases[i].t, out, 3, &n), e);
        assert_int_equal(n, 3);
        assert_int_equal(out[3 * size], 0xee); /* not beyond */
        memset(v, 0, sizeof(v));               /* least, most and 0, byte by byte */
        if (cases[i].least[0] == '-')
            v[size - 1] = 0x80;
        memset(v + size, 0xff, size);
        if (cases[i].least[0] == '-')
            v[2 * size - 1] = 0x7f;
        if (cases[i].t == PCV_BOOL)
            v[1] = 1;
        assert_memory_equal(out, v, 3 * size);
        snprintf(text, sizeof(text), "[0,%s]", cases[i].below);
        assert_fails(numbers(text, cases[i].t, out, 3, &n), e, PCV_ERANGE, "$[1]", cases[i].below);
        snprintf(text, sizeof(text), "[%s]", cases[i].above);
        assert_fails(numbers(text, cases[i].t, out, 3, &n), e, PCV_ERANGE, "$[0]", cases[i].above);
        assert_int_equal(strstr(e.msg, "neither 0 nor 1") != NULL, cases[i].t == PCV_BOOL);
        assert_fails(numbers("[1.0]", cases[i].t, out, 3, &n), e, PCV_EFORMAT, "$[0]", "1.0");
        assert_fails(numbers("[1e0]", cases[i].t, out, 3, &n), e, PCV_EFORMAT, "$[0]", "1e0");
    }
}

static void test_booleans(void **state)
{
    unsigned char v[6];
    int64_t n;

    (void)state;
    assert_ok(numbers("[true, false ,1,0]", PCV_BOOL, v, 6, &n), e);
    assert_memory_equal(v, "\1\0\1\0", 4);
    assert_fails(numbers("[truth]", PCV_BOOL, v, 6, &n), e, PCV_EFORMAT, "$[0]", "byte 1");
    assert_fails(numbers("[tru]", PCV_BOOL, v, 6, &n), e, PCV_EFORMAT, "$[0]", "true or false");
    assert_fails(numbers("[\"true\"]", PCV_BOOL, v, 6, &n), e, PCV_EFORMAT, "$[0]", "0 or 1");
    assert_fails(numbers("[true]", PCV_U8, v, 6, &n), e, PCV_EFORMAT, "$[0]", "a number");
}

/* A locale with a decimal comma changes nothing, where the machine has one. */
static void test_locale(void **state)
{
    double d[2];
    int64_t n;

    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        skip();
    assert_ok(numbers("[1.5, 1.23456789012345678901234567890123]", PCV_F64, d, 2, &n), e);
    assert_true(d[0] == 1.5 && d[1] == 1.23456789012345678901234567890123);
    setlocale(LC_ALL, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_doubles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_digits_end_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_arrays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_integers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_booleans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locale, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
