#include "tests/unit/proto/wire_test.h"

#include "proto/wire_writer.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

/* What was written, which must be these bytes and JSON. Frees it. */
static void assert_written(struct wire_writer *w, const char *want)
{
    size_t len = 0;
    char *text = wire_finish(w, &len);
    json_error_t je;
    json_t *j;

    assert_non_null(text);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    j = json_loadb(text, len, JSON_DECODE_ANY, &je);
    if (!j)
        fail_msg("%s: %s", text, je.text);
    json_decref(j);
    free(text);
}

static void test_structure(void **state)
{
    struct wire_writer w = {0};

    (void)state;
    wire_open(&w, '{');
    wire_key(&w, "a");
    wire_open(&w, '[');
    wire_int(&w, 1);
    wire_open(&w, '[');
    wire_close(&w, ']');
    wire_open(&w, '{');
    wire_close(&w, '}');
    wire_null(&w);
    wire_close(&w, ']');
    wire_key(&w, "b");
    wire_bool(&w, true);
    wire_key(&w, "c");
    wire_text(&w, NULL);
    wire_key(&w, "d");
    wire_f32s(&w, NULL, 0);
    wire_bool(&w, false);
    wire_close(&w, '}');
    assert_written(&w, "{\"a\":[1,[],{},null],\"b\":true,\"c\":null,\"d\":false}");
    assert_null(w.data); /* empty again, and of use */
    wire_text(&w, "again");
    assert_written(&w, "\"again\"");
}

static void test_integers(void **state)
{
    struct wire_writer w = {0};

    (void)state;
    wire_open(&w, '[');
    wire_int(&w, 0);
    wire_int(&w, -7);
    wire_int(&w, INT64_MAX);
    wire_int(&w, INT64_MIN);
    wire_close(&w, ']');
    assert_written(&w, "[0,-7,9223372036854775807,-9223372036854775808]");
    wire_uint(&w, UINT64_MAX); /* beyond jansson's integers */
    w.comma = false;
    free(wire_finish(&w, NULL));
}

static void test_text(void **state)
{
    static const struct {
        const char *s;
        size_t len;
        const char *want;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"\"\\/\b\f\n\r\t\x01\x1f\x7f", 12,
         "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0001\\u001f\\u007f\\u0000\""},
        {"caf\xc3\xa9 \xf0\x9f\x98\x80", 10, "\"caf\xc3\xa9 \xf0\x9f\x98\x80\""},
        {"a\xff"
         "b",
         3,
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* cut short: one for each byte */
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_writer w = {0};
        size_t len;
        char *text;

        wire_text_n(&w, cases[i].s, cases[i].len);
        text = wire_finish(&w, &len);
        assert_string_equal(text, cases[i].want);
        free(text);
    }
}

/* Text longer than one portion, with characters across its end. */
static void test_long_text(void **state)
{
    enum { N = 5000 };
    struct wire_writer w = {0};
    char in[N + 4], *text;
    size_t len;
    json_t *j;

    (void)state;
    for (int shift = 0; shift < 4; shift++) {
        memset(in, 'x', (size_t)shift);
        for (int i = shift; i < N; i += 4)
            memcpy(in + i, "\xf0\x9f\x98\x80", 4);
        wire_text_n(&w, in, N - 4 + (size_t)shift);
        text = wire_finish(&w, &len);
        j = json_loadb(text, len, JSON_DECODE_ANY, NULL);
        assert_int_equal(json_string_length(j), N - 4 + shift);
        assert_memory_equal(json_string_value(j), in, N - 4 + (size_t)shift);
        json_decref(j);
        free(text);
    }
    memset(in, 1, N); /* every byte becomes six */
    wire_text_n(&w, in, N);
    text = wire_finish(&w, &len);
    assert_int_equal(len, 6 * N + 2);
    free(text);
}

static void test_fixed(void **state)
{
    static const struct {
        double v;
        int decimals;
        const char *want;
    } cases[] = {
        {0, 3, "0.0"},
        {-0.0, 3, "0.0"},
        {1, 3, "1.0"},
        {1.5, 3, "1.5"},
        {1.2345, 3, "1.234"}, /* ties to even, of the double just below */
        {1.2346, 3, "1.235"},
        {0.0004, 3, "0.0"},
        {-0.0004, 3, "0.0"},
        {-2.75, 3, "-2.75"},
        {0.104857600, 9, "0.1048576"}, /* multiply-adds in GMAC are exact */
        {203.123456789, 9, "203.123456789"},

        {0.9996, 3, "1.0"},
        {8999999999.0, 9, "8999999999.0"},
        {9e9, 3, "null"},
        {NAN, 3, "null"},
        {INFINITY, 3, "null"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_writer w = {0};

        wire_fixed(&w, cases[i].v, cases[i].decimals);
        assert_written(&w, cases[i].want);
    }
}

static void test_floats(void **state)
{
    static const float v[] = {1.5f, -0.25f, 3};
    struct wire_writer w = {0};

    (void)state;
    wire_open(&w, '[');
    wire_int(&w, 7);
    wire_f32s(&w, v, 3);
    wire_f32(&w, 0.1f);
    wire_close(&w, ']');
    assert_written(&w, "[7,1.5,-0.25,3.0,0.1]");
}

static void test_discard(void **state)
{
    struct wire_writer w = {0};

    (void)state;
    wire_text(&w, "text");
    wire_discard(&w);
    assert_null(w.data);
    wire_discard(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_text),      cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_fixed),     cmocka_unit_test(test_floats),
        cmocka_unit_test(test_discard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
