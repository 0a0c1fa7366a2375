#include "tests/unit/proto/wire_test.h"

#include "proto/wire_reader.h"

#include <jansson.h>
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

/* A reader of text that lives in memory of just its size, so that a sanitizer sees a step too far.
 */
static struct wire_reader reader(const char *text, size_t len)
{
    struct wire_reader rd;
    char *exact = wire_arena_get(arena, len);

    memcpy(exact, text, len);
    wire_reader_init(&rd, exact, len, "$", arena, &e);
    return rd;
}

static struct wire_reader read_of(const char *text)
{
    return reader(text, strlen(text));
}

/* Passes over the whole text. */
static int check(const char *text, size_t len)
{
    struct wire_reader rd = reader(text, len);
    int r = wire_read_skip(&rd);

    return r < 0 ? r : wire_read_end(&rd);
}

/* What JSON is and what it is not: every text is judged as jansson does. */
static void test_grammar(void **state)
{
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0e-0",
        "1E+5",
        "123456789.125e2",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "\t\r\n{ } ",
        "[1]",
        "[1 , 2]",
        "[[],[[]],{}]",
        "{\"a\":1}",
        "{\"a\" : { \"b\" : [ { } ] } , \"c\" : null}",
        "\"\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00e4 \\ud83d\\ude00\"",
        "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \x7f\"",
        "[\"a\",\"b\",1.5,true,null,{\"k\":[]}]",
    };
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nulll",
        "tru",
        "truth",
        "falsey",
        "+1",
        "01",
        "-",
        "-a",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\\\\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\\udc00\"",
        "\"\\udfff\"",
        "\"\\udbff\\udbff\"",
        "\"\\ud800\\ue000\"",
        "\"\\u0000\"",
        "\"tab\there\"",
        "\"line\nhere\"",
        "\"\x80\"",
        "\"\xc3\"",
        "\"\xed\xa0\x80\"",
        "\"\xc0\xaf\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1]",
        "{1:2}",
        "1 2",
        "[] []",
        "{} x",
        "[1]\xef\xbb\xbf",
        "\xef\xbb\xbf[1]",
        "/* no */ 1",
    };
    json_error_t je;

    (void)state;
    for (size_t i = 0; i < LEN(good); i++) {
        json_t *j = json_loads(good[i], JSON_DECODE_ANY, &je);

        if (!j || check(good[i], strlen(good[i])) != 0)
            fail_msg("%s: %s %s", good[i], e.where, e.msg);
        json_decref(j);
    }
    for (size_t i = 0; i < LEN(bad); i++)
        if (json_loads(bad[i], JSON_DECODE_ANY, &je) ||
            check(bad[i], strlen(bad[i])) != PCV_EFORMAT)
            fail_msg("%s is taken", bad[i]);
    assert_int_equal(check("[1]\0", 4), PCV_EFORMAT);
    assert_int_equal(check("\"a\0b\"", 5), PCV_EFORMAT);
}

/* Every text cut at every byte is an error that names a byte inside it. */
static void test_cut_short(void **state)
{
    static const char text[] = "{\"a\": [1.5, -2e3, {\"b\": \"x\\u00e9\\ud83d\\ude00\xc3\xa9\"}], "
                               "\"c\": [true, false, null]}";

    (void)state;
    assert_int_equal(check(text, sizeof(text) - 1), 0);
    for (size_t n = 0; n < sizeof(text) - 1; n++)
        if (check(text, n) != PCV_EFORMAT)
            fail_msg("%.*s is taken", (int)n, text);
}

/* 64 levels are read, more are refused, however many more, in arrays and objects. */
static void test_depth(void **state)
{
    static const int depths[] = {1, 63, 64, 65, 100, 10000, 1000000};

    (void)state;
    for (size_t i = 0; i < LEN(depths); i++) {
        size_t n = (size_t)depths[i], len = 0;
        char *text = malloc(n * 6 + 2);

        for (size_t k = 0; k < n; k++)
            text[len++] = '[';
        for (size_t k = 0; k < n; k++)
            text[len++] = ']';
        assert_int_equal(check(text, len), n <= WIRE_MAX_DEPTH ? 0 : PCV_ELIMIT);
        len = 0;
        for (size_t k = 0; k < n; k++, len += 5)
            memcpy(text + len, "{\"a\":", 5);
        text[len++] = '1';
        for (size_t k = 0; k < n; k++)
            text[len++] = '}';
        assert_int_equal(check(text, len), n <= WIRE_MAX_DEPTH ? 0 : PCV_ELIMIT);
        if (n == 10000) {
            assert_non_null(strstr(e.msg, "nested deeper than 64 at byte 320"));
            assert_non_null(strstr(e.where, "$.a.a.a."));
        }
        free(text);
    }
}

static void test_paths(void **state)
{
    static const struct {
        const char *text, *where, *words;
    } cases[] = {
        {"[1,x]", "$[1]", "expected a value at byte 3"},
        {"{\"a\":[{\"b\":[0,0,tru]}]}", "$.a[0].b[2]", "at byte 16"},
        {"{\"a b\":x}", "$[\"a b\"]", "at byte 7"},
        {"{\"\":x}", "$[\"\"]", "at byte 4"},
        {"{\"a\":1,b}", "$.a", "expected a key in quotes at byte 7"},
        {"[1 2]", "$[0]", "expected ',' or ']' at byte 3"},
        {"{\"a\" 2}", "$.a", "expected ':' at byte 5"},
        {"[1] x", "$", "expected the end at byte 4"},
        {"[[1],[2", "$[1][0]", "ends at byte 7 where ',' or ']' was expected"},
        {"[\"ab\xff\"]", "$[0]", "invalid UTF-8 at byte 4"},
        {"[\"a\\u0000\"]", "$[0]", "NUL in a string at byte 3"},
        {"[\"a\\q\"]", "$[0]", "unknown escape at byte 3"},
        {"[\"abc", "$[0]", "string without an end, begun at byte 1"},
        {"[\"a\\udc01\"]", "$[0]", "second half of a surrogate pair alone at byte 3"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        assert_fails(check(cases[i].text, strlen(cases[i].text)), e, PCV_EFORMAT, cases[i].where,
                     cases[i].words);
}

/* A path too long for its buffer ends in dots, whatever names are in it. */
static void test_long_path(void **state)
{
    char text[8192], *p = text;
    struct wire_reader rd;

    (void)state;
    for (int i = 0; i < 40; i++)
        p += sprintf(p, "{\"%.*s\":", 40 + i,
                     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
                     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");
    rd = read_of(text);
    assert_int_equal(wire_read_skip(&rd), PCV_EFORMAT);
    assert_true(strlen(e.where) < sizeof(e.where));
    assert_string_equal(e.where + strlen(e.where) - 3, "...");
}

static void test_strings(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\"\"", ""},
        {"\"plain text of more than eight bytes\"", "plain text of more than eight bytes"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\uDBFF\\uDFFF\"",
         "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"},
        {"\"\\u007f\\u0080\\u07ff\\u0800\\ud800\\udc00\"",
         "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xf0\x90\x80\x80"},
        {"\"\\u00AF\\u00fA\\ud800\\uDC00\\ufffd\"", "\xc2\xaf\xc3\xba\xf0\x90\x80\x80\xef\xbf\xbd"},
        {"\"ends in a backslash \\\\\"", "ends in a backslash \\"},
        {"\"caf\xc3\xa9\"", "caf\xc3\xa9"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_reader rd = read_of(cases[i].text);
        struct wire_str s;
        const char *c;

        assert_ok(wire_read_text(&rd, &s), e);
        assert_int_equal(s.len, strlen(cases[i].want));
        assert_memory_equal(s.s, cases[i].want, s.len);
        assert_ok(wire_read_end(&rd), e);
        rd = read_of(cases[i].text);
        assert_ok(wire_read_cstr(&rd, &c), e);
        assert_string_equal(c, cases[i].want);
    }
}

/* A quote, a backslash, a control character and a bad byte are found wherever they stand. */
static void test_string_scan(void **state)
{
    (void)state;
    for (size_t at = 0; at < 24; at++) {
        static const struct {
            char c;
            int want;
        } cases[] = {{'"', 0},           {'\x1f', PCV_EFORMAT}, {'\xff', PCV_EFORMAT},
                     {' ', PCV_EFORMAT}, {'\x7f', PCV_EFORMAT}, {'!', PCV_EFORMAT}};

        for (size_t i = 0; i < LEN(cases); i++) {
            char text[32];
            struct wire_reader rd;
            struct wire_str s = {NULL, 0};

            memset(text, 'a', sizeof(text));
            text[0] = '"';
            text[1 + at] = cases[i].c;
            rd = reader(text, 28); /* without another quote behind it */
            assert_int_equal(wire_read_text(&rd, &s), cases[i].want);
            if (cases[i].want == 0)
                assert_int_equal(s.len, at);
        }
    }
}

static void test_scalars(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max, want;
        int code;
    } ints[] = {
        {"5", 1, 10, 5, 0},
        {"-0", 0, 10, 0, 0},
        {"9223372036854775807", 0, INT64_MAX, INT64_MAX, 0},
        {"-9223372036854775808", INT64_MIN, 0, INT64_MIN, 0},
        {"9223372036854775808", 0, INT64_MAX, 0, PCV_ERANGE},
        {"-9223372036854775809", INT64_MIN, 0, 0, PCV_ERANGE},
        {"18446744073709551617", 0, INT64_MAX, 0, PCV_ERANGE}, /* 1 if it wrapped */
        {"100000000000000000000000000000005", 1, 10, 0, PCV_ERANGE},
        {"0", 1, 10, 0, PCV_ERANGE},
        {"11", 1, 10, 0, PCV_ERANGE},
        {"5.0", 1, 10, 0, PCV_EFORMAT},
        {"5e0", 1, 10, 0, PCV_EFORMAT},
        {"\"5\"", 1, 10, 0, PCV_EFORMAT},
        {"-", 1, 10, 0, PCV_EFORMAT},
        {"-x", 1, 10, 0, PCV_EFORMAT},
        {"true", 0, 10, 0, PCV_EFORMAT},
        {"null", 0, 10, 0, PCV_EFORMAT},
    };
    struct wire_reader rd;
    bool b;

    (void)state;
    for (size_t i = 0; i < LEN(ints); i++) {
        int64_t v = 77;

        rd = read_of(ints[i].text);
        assert_int_equal(wire_read_int(&rd, ints[i].min, ints[i].max, &v), ints[i].code);
        assert_int_equal(v, ints[i].code ? 77 : ints[i].want);
    }
    rd = read_of(" true");
    assert_ok(wire_read_bool(&rd, &b), e);
    assert_true(b);
    rd = read_of("false");
    assert_ok(wire_read_bool(&rd, &b), e);
    assert_false(b);
    rd = read_of("1");
    assert_fails(wire_read_bool(&rd, &b), e, PCV_EFORMAT, "$", "expected true or false at byte 0");
}

static void test_keys(void **state)
{
    static const char *const keys[] = {"one", "two", NULL};
    struct wire_reader rd = read_of("{\"two\": 2, \"other\": [1, {\"one\": 0}], \"\\u006fne\": 1}");
    uint32_t seen = 0;
    int64_t v;
    int k;

    (void)state;
    assert_ok(wire_read_open(&rd, '{', "an object"), e);
    assert_int_equal(wire_read_key(&rd, keys, WIRE_LENIENT, &seen, &k), 1);
    assert_int_equal(k, 1);
    assert_ok(wire_read_int(&rd, 0, 9, &v), e);
    assert_int_equal(wire_read_key(&rd, keys, WIRE_LENIENT, &seen, &k), 1);
    assert_int_equal(k, 0); /* "other" was passed over; \u006f is an o */
    assert_ok(wire_read_int(&rd, 0, 9, &v), e);
    assert_int_equal(v, 1);
    assert_int_equal(wire_read_key(&rd, keys, WIRE_LENIENT, &seen, &k), 0);
    assert_int_equal(seen, 3);
    assert_ok(wire_read_end(&rd), e);

    rd = read_of("{\"one\": 1, \"one\": 1}");
    seen = 0;
    assert_ok(wire_read_open(&rd, '{', "an object"), e);
    assert_int_equal(wire_read_key(&rd, keys, WIRE_STRICT, &seen, &k), 1);
    assert_ok(wire_read_int(&rd, 0, 9, &v), e);
    assert_fails(wire_read_key(&rd, keys, WIRE_STRICT, &seen, &k), e, PCV_EFORMAT, "$.one",
                 "twice");

    rd = read_of("{\"three\": 1}");
    seen = 0;
    assert_ok(wire_read_open(&rd, '{', "an object"), e);
    assert_fails(wire_read_key(&rd, keys, WIRE_STRICT, &seen, &k), e, PCV_EUNKNOWN, "$.three",
                 "known are one, two");

    rd = read_of("[]");
    assert_fails(wire_read_open(&rd, '{', "an object"), e, PCV_EFORMAT, "$", "expected an object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_grammar, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_string_scan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scalars, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
