#include "tests/unit/proto/wire_test.h"

#include "proto/wire_utf8.h"

/* Encodes as Unicode's table 3-6 says, without caring what may be encoded. */
static int encode(uint32_t c, char *out)
{
    if (c < 0x80)
        return out[0] = (char)c, 1;
    if (c < 0x800)
        return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)),
               out[2] = (char)(0x80 | (c & 63)), 3;
    return out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)),
           out[2] = (char)(0x80 | (c >> 6 & 63)), out[3] = (char)(0x80 | (c & 63)), 4;
}

/* Every code point, surrogates and what lies beyond Unicode too; and cut short. */
static void test_code_points(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        char s[4];
        int n = encode(c, s);
        int want = (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : n;

        if (wire_utf8_sequence(s, (size_t)n) != want)
            fail_msg("U+%04X: %d, want %d", c, wire_utf8_sequence(s, (size_t)n), want);
        if (n > 1 && wire_utf8_sequence(s, (size_t)n - 1) != 0)
            fail_msg("U+%04X cut short is taken", c);
    }
}

static void test_bad_sequences(void **state)
{
    static const char *const bad[] = {
        "\x80",             /* a continuation alone */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong U+007F */
        "\xe0\x9f\xbf",     /* overlong U+07FF */
        "\xf0\x8f\xbf\xbf", /* overlong U+FFFF */
        "\xf5\x80\x80\x80", /* beyond the last lead byte */
        "\xff",             /* never in UTF-8 */
        "\xc3(",            /* no continuation */
        "\xe2\x82(",
        "\xf0\x9f\x98(",
    };

    (void)state;
    for (size_t i = 0; i < LEN(bad); i++)
        assert_int_equal(wire_utf8_sequence(bad[i], strlen(bad[i])), 0);
}

/* The position of the first bad byte, wherever the eight-byte steps begin. */
static void test_valid(void **state)
{
    char text[64];

    (void)state;
    for (size_t bad = 0; bad < 40; bad++) {
        memset(text, 'a', sizeof(text));
        memcpy(text + 40, "\xe2\x82\xac", 3);
        assert_int_equal(wire_utf8_valid(text, 60), 60);
        text[bad] = '\xff';
        assert_int_equal(wire_utf8_valid(text, 60), bad);
    }
    assert_int_equal(wire_utf8_valid("ab\xe2\x82", 4), 2);
    assert_int_equal(wire_utf8_valid("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_bad_sequences),
        cmocka_unit_test(test_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
