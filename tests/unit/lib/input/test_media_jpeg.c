/* Hostile and unusual JPEG files, built byte by byte; good ones are compared with Pillow in
 * test_image_resize.c. */
#include "lib/input/media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bytes {
    uint8_t *data;
    size_t len, room;
};

static void put(struct bytes *b, const void *data, size_t n)
{
    if (b->len + n > b->room) {
        b->room = 2 * (b->len + n);
        b->data = realloc(b->data, b->room);
        assert_non_null(b->data);
    }
    if (n > 0)
        memcpy(b->data + b->len, data, n);
    b->len += n;
}

#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

enum { BASELINE = 0xc0, EXTENDED = 0xc1, PROGRESSIVE = 0xc2, LOSSLESS = 0xc3, ARITHMETIC = 0xc9 };

/* Everything up to the first scan: quantisers of 1, and Huffman tables of one code each, "0": for
 * the DC a difference of 0, for the AC `ac` (0x00: all coefficients 0; 0xe0: in this block and the
 * 16383 + next 14 bits after it). */
static void put_header(struct bytes *b, int sof, int width, int height, int components,
                       uint8_t precision, uint8_t ac)
{
    uint8_t frame[] = {0xff,
                       (uint8_t)sof,
                       0,
                       (uint8_t)(8 + 3 * components),
                       precision,
                       (uint8_t)(height >> 8),
                       (uint8_t)height,
                       (uint8_t)(width >> 8),
                       (uint8_t)width,
                       (uint8_t)components};
    uint8_t table[64];

    memset(table, 1, sizeof(table));
    PUT(b, "\xff\xd8\xff\xdb\0\x43\0");
    put(b, table, 64);
    put(b, frame, sizeof(frame));
    for (uint8_t c = 1; c <= components; c++) {
        uint8_t component[] = {c, 0x11, 0};

        put(b, component, 3);
    }
    PUT(b, "\xff\xc4\0\x14\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    PUT(b, "\xff\xc4\0\x14\x10\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    put(b, &ac, 1);
}

/* One scan of the first component, coefficients from..to, with nbits bits of 0. */
static void put_scan(struct bytes *b, uint8_t from, uint8_t to, size_t nbits)
{
    uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, from, to, 0};
    static const uint8_t zeros[64];

    put(b, scan, sizeof(scan));
    for (size_t n = (nbits + 7) / 8; n > 0; n -= n < 64 ? n : 64)
        put(b, zeros, n < 64 ? n : 64);
}

/* A grey picture of mid-grey blocks; two bits for each. */
static struct bytes grey(int width, int height)
{
    struct bytes b = {0};

    put_header(&b, BASELINE, width, height, 1, 8, 0);
    put_scan(&b, 0, 63, 2 * (size_t)((width + 7) / 8) * (size_t)((height + 7) / 8));
    PUT(&b, "\xff\xd9");
    return b;
}

static void refused(struct bytes *b, int code, const char *part)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    assert_int_equal(pcv_media_jpeg(&im, b->data, b->len, &e), code);
    assert_null(im.rgb);
    assert_int_equal(e.code, code);
    if (!strstr(e.msg, part))
        fail_msg("\"%s\" is not in \"%s\"", part, e.msg);
    assert_int_equal(pcv_media_jpeg(&im, b->data, b->len, NULL), code);
    free(b->data);
    *b = (struct bytes){0};
}

static void accepted(struct bytes *b, int width, int height)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    if (pcv_media_jpeg(&im, b->data, b->len, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(im.width, width);
    assert_int_equal(im.height, height);
    for (int i = 0; i < width * height * 3; i++)
        assert_int_equal(im.rgb[i], 128);
    pcv_image_free(&im);
    free(b->data);
    *b = (struct bytes){0};
}

static void decodes_what_tests_build(void **state)
{
    struct bytes b = grey(13, 21);

    (void)state;
    accepted(&b, 13, 21);
    b = grey(1, 1);
    accepted(&b, 1, 1);
}

/* Padding before a marker and anything behind the end cost no pixel; cameras write both. */
static void forgives_padding(void **state)
{
    struct bytes b = grey(16, 16);

    (void)state;
    b.len -= 2;
    PUT(&b, "some thirty bytes that no code uses\xff\xd9 and more");
    accepted(&b, 16, 16);
}

static void refuses_large(void **state)
{
    static const int sides[][2] = {{60000, 60000}, {32769, 1}, {1, 32769}, {8193, 8193}};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct bytes b = {0};
        char said[32];

        put_header(&b, BASELINE, sides[i][0], sides[i][1], 1, 8, 0);
        put_scan(&b, 0, 63, 8); /* refused by what it declares, not for the pixels it lacks */
        snprintf(said, sizeof(said), "%d x %d", sides[i][0], sides[i][1]);
        refused(&b, PCV_ELIMIT, said);
    }
}

static void refuses_no_pixels(void **state)
{
    struct bytes b = grey(0, 8);

    (void)state;
    refused(&b, PCV_EFORMAT, "JPEG");
    b = grey(8, 0);
    refused(&b, PCV_EFORMAT, "JPEG");
}

static void refuses_unusual_kinds(void **state)
{
    static const struct {
        int sof, components, precision;
        const char *part;
    } kinds[] = {{LOSSLESS, 1, 8, "SOF type"},
                 {ARITHMETIC, 1, 8, "arithmetic"},
                 {EXTENDED, 1, 12, "precision"},
                 {BASELINE, 2, 8, "2 colour components"}};

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        struct bytes b = {0};

        put_header(&b, kinds[i].sof, 8, 8, kinds[i].components, (uint8_t)kinds[i].precision, 0);
        put_scan(&b, 0, 63, 8);
        PUT(&b, "\xff\xd9");
        refused(&b, PCV_EUNSUPPORTED, kinds[i].part);
    }
}

/* Never a half-grey picture: not for a missing end, and not for a missing middle. */
static void refuses_cut_off(void **state)
{
    struct bytes whole = grey(64, 64);

    (void)state;
    for (size_t n = 2; n < whole.len; n++) {
        struct bytes b = {0};

        put(&b, whole.data, n);
        refused(&b, PCV_EFORMAT, "JPEG");
        if (n < whole.len - 2) {
            put(&b, whole.data, n);
            PUT(&b, "\xff\xd9");
            refused(&b, PCV_EFORMAT, "JPEG");
        }
    }
    free(whole.data);
}

static void refuses_bad_codes(void **state)
{
    struct bytes b = grey(64, 64);

    (void)state;
    b.data[b.len - 8] = 0xfe; /* no code begins with 1 */
    refused(&b, PCV_EFORMAT, "Huffman");
}

/* A scan of no change costs eleven bytes and a walk over all pixels. */
static void refuses_many_scans(void **state)
{
    struct bytes b = {0};

    (void)state;
    for (int extra = 0; extra <= 1; extra++) {
        put_header(&b, PROGRESSIVE, 8, 8, 1, 8, 0);
        for (int i = 0; i < 500 + extra; i++)
            put_scan(&b, 0, 0, 1);
        PUT(&b, "\xff\xd9");
        if (extra)
            refused(&b, PCV_ELIMIT, "501 scans");
        else
            accepted(&b, 8, 8);
    }
}

/* For a large picture fewer scans do: 33 of 32 million pixels are more than 2^30. */
static void refuses_many_scans_of_many_pixels(void **state)
{
    enum { W = 8192, H = 4096, BLOCKS = W / 8 * (H / 8) };
    struct bytes b = {0};

    (void)state;
    put_header(&b, PROGRESSIVE, W, H, 1, 8, 0xe0);
    put_scan(&b, 0, 0, BLOCKS);
    for (int i = 1; i < 33; i++)
        put_scan(&b, 1, 63, BLOCKS / 16384 * 15);
    PUT(&b, "\xff\xd9");
    refused(&b, PCV_ELIMIT, "33 scans");
}

/* ---- the golden pictures, damaged ---------------------------------------------------------------
 */

static size_t slurp(const char *path, uint8_t *buf, size_t room)
{
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f)
        fail_msg("%s: not found; tests run in the repository's root", path);
    n = fread(buf, 1, room, f);
    fclose(f);
    return n;
}

static const char *const files[] = {
    "tests/golden/pillow/portrait.jpg",
    "tests/golden/pillow/full-chroma.jpg",
    "tests/golden/pillow/cmyk.jpg",
};

static void refuses_cut_off_pictures(void **state)
{
    uint8_t buf[8192];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t n = slurp(files[i], buf, sizeof(buf));

        for (size_t cut = 0; cut < n; cut += 1 + cut / 50) {
            struct bytes b = {0};

            put(&b, buf, cut);
            refused(&b, PCV_EFORMAT, "JPEG");
        }
    }
}

/* Whatever a damaged byte makes of a picture: a whole one, or an error with a message. */
static void survives_damage(void **state)
{
    uint32_t random = 1;
    uint8_t buf[8192];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t n = slurp(files[i], buf, sizeof(buf));

        for (int k = 0; k < 300; k++) {
            struct pcv_image im = {0};
            struct pcv_err e = {0};
            size_t at;
            uint8_t old;

            random = random * 1664525 + 1013904223;
            at = (random >> 8) % n;
            old = buf[at];
            buf[at] = (uint8_t)(random >> 16);
            if (pcv_media_jpeg(&im, buf, n, &e) < 0) {
                assert_null(im.rgb);
                assert_true(strncmp(e.msg, "JPEG: ", 6) == 0);
            } else {
                assert_non_null(im.rgb);
                pcv_image_free(&im);
            }
            buf[at] = old;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_tests_build),
        cmocka_unit_test(forgives_padding),
        cmocka_unit_test(refuses_large),
        cmocka_unit_test(refuses_no_pixels),
        cmocka_unit_test(refuses_unusual_kinds),
        cmocka_unit_test(refuses_cut_off),
        cmocka_unit_test(refuses_bad_codes),
        cmocka_unit_test(refuses_many_scans),
        cmocka_unit_test(refuses_many_scans_of_many_pixels),
        cmocka_unit_test(refuses_cut_off_pictures),
        cmocka_unit_test(survives_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
