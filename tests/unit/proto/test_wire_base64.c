#include "tests/unit/proto/wire_test.h"

#include "proto/wire_base64.h"

#include <stdlib.h>
#include <string.h>

/* The test vectors of RFC 4648, section 10, and bytes above 127. */
static void test_decodes(void **state)
{
    static const struct {
        const char *in, *out;
        size_t n;
    } cases[] = {
        {"", "", 0},
        {"Zg==", "f", 1},
        {"Zm8=", "fo", 2},
        {"Zm9v", "foo", 3},
        {"Zm9vYg==", "foob", 4},
        {"Zm9vYmE=", "fooba", 5},
        {"Zm9vYmFy", "foobar", 6},
        {"+/+/", "\xfb\xff\xbf", 3},
        {"AAAA", "\0\0\0", 3},
        {"/w==", "\xff", 1},
    };
    struct pcv_err e;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        unsigned char out[16];
        size_t n = 99;

        assert_true(wire_base64_room(strlen(cases[i].in)) >= cases[i].n);
        assert_ok(wire_base64_decode(cases[i].in, strlen(cases[i].in), out, &n, &e), e);
        assert_int_equal(n, cases[i].n);
        assert_memory_equal(out, cases[i].out, n);
    }
}

static void test_refuses(void **state)
{
    static const struct {
        const char *in, *words;
    } cases[] = {
        {"Zg", "multiple of 4"},         /* padding left out */
        {"Zg=", "multiple of 4"},        /* padding half there */
        {"Zg===", "multiple of 4"},      /* too much of it */
        {"Zg==Zg==", "padding"},         /* text behind the end */
        {"====", "padding"},             /* nothing but padding */
        {"Z===", "padding"},             /* one character is no byte */
        {"Zh==", "not zero"},            /* spare bits set */
        {"Zm9=", "not zero"},            /* likewise, of two bytes */
        {"Zm9v\nYg==", "white space"},   /* MIME lines; 9 characters */
        {"Zm9 vYg=", "white space"},     /* a blank */
        {"-_-_", "URL-safe"},            /* section 5's alphabet */
        {"Zm9_", "URL-safe"},            /* in the last four */
        {"Zm9v\x80vYg", "0x80"},         /* not ASCII */
        {"Zm9*", "0x2a at character 3"}, /* not in the alphabet */
        {"data:image/png;base64,Zm9v", "data: URL"},
        {"data:;base64,Zm9vYmFyYmE", "data: URL"}, /* length a multiple of 4 */
    };
    struct pcv_err e;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        unsigned char out[32];
        size_t n = 99;
        int r = wire_base64_decode(cases[i].in, strlen(cases[i].in), out, &n, &e);

        assert_fails(r, e, PCV_EFORMAT, "", cases[i].words);
        assert_int_equal(n, 99); /* outputs stay untouched */
    }
}

/* Every byte value at every place of a group, against an encoder written the other way round. */
static void test_all_bytes(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct pcv_err e;

    (void)state;
    for (int b = 0; b < 256; b++) {
        for (int at = 0; at < 3; at++) {
            unsigned char in[3] = {0x5a, 0xa5, 0x3c}, out[8];
            char text[5] = {0};
            size_t n;

            in[at] = (unsigned char)b;
            text[0] = alphabet[in[0] / 4];
            text[1] = alphabet[in[0] % 4 * 16 + in[1] / 16];
            text[2] = alphabet[in[1] % 16 * 4 + in[2] / 64];
            text[3] = alphabet[in[2] % 64];
            assert_ok(wire_base64_decode(text, 4, out, &n, &e), e);
            assert_int_equal(n, 3);
            assert_memory_equal(out, in, 3);
        }
    }
}

/* The same vectors the other way. */
static void test_encodes(void **state)
{
    static const struct {
        const char *in, *out;
        size_t n;
    } cases[] = {
        {"", "", 0},
        {"f", "Zg==", 1},
        {"fo", "Zm8=", 2},
        {"foo", "Zm9v", 3},
        {"foob", "Zm9vYg==", 4},
        {"\xfb\xff\xbf", "+/+/", 3},
        {"\xff\xff", "//8=", 2},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        char out[16] = "";

        assert_int_equal(wire_base64_length(cases[i].n), strlen(cases[i].out));
        wire_base64_encode(cases[i].in, cases[i].n, out);
        assert_string_equal(out, cases[i].out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_all_bytes),
        cmocka_unit_test(test_encodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
