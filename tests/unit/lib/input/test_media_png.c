/* PNG of every kind, and hostile ones, built chunk by chunk; files that another program wrote are
 * compared with Pillow in test_image_resize.c. */
#include "lib/input/media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

struct png {
    uint8_t *data;
    size_t len;
};

static void put(struct png *p, const void *data, size_t n)
{
    p->data = realloc(p->data, p->len + n + 1);
    assert_non_null(p->data);
    if (n > 0)
        memcpy(p->data + p->len, data, n);
    p->len += n;
}

static void put32(struct png *p, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    put(p, b, 4);
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void put_chunk(struct png *p, const char type[4], const void *data, size_t n)
{
    size_t at = p->len + 4;

    put32(p, (uint32_t)n);
    put(p, type, 4);
    put(p, data, n);
    put32(p, crc32_of(p->data + at, n + 4));
}

static void begin(struct png *p, uint32_t width, uint32_t height, uint8_t bits, uint8_t kind,
                  uint8_t interlace)
{
    struct png h = {0};
    uint8_t rest[5] = {bits, kind, 0, 0, interlace};

    *p = (struct png){0};
    put(p, "\x89PNG\r\n\x1a\n", 8);
    put32(&h, width);
    put32(&h, height);
    put(&h, rest, 5);
    put_chunk(p, "IHDR", h.data, h.len);
    free(h.data);
}

/* The picture's data as one stored (uncompressed) zlib block of at most 65535 bytes. */
static void put_idat(struct png *p, const void *raw, size_t n)
{
    uint32_t a = 1, b = 0;
    uint8_t head[7] = {0x78, 1, 1, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};
    struct png z = {0};

    for (size_t i = 0; i < n; i++) {
        a = (a + ((const uint8_t *)raw)[i]) % 65521;
        b = (b + a) % 65521;
    }
    put(&z, head, 7);
    put(&z, raw, n);
    put32(&z, b << 16 | a);
    put_chunk(p, "IDAT", z.data, z.len);
    free(z.data);
}

static void end(struct png *p)
{
    put_chunk(p, "IEND", NULL, 0);
}

/* A good 2 x 1 RGB picture, with `type` (NULL: none) between header and picture. */
static struct png small(const char *type, const void *data, size_t n)
{
    struct png p;

    begin(&p, 2, 1, 8, RGB, 0);
    if (type)
        put_chunk(&p, type, data, n);
    put_idat(&p, "\0\1\2\3\4\5\6", 7);
    end(&p);
    return p;
}

static void refused(struct png *p, int code, const char *part)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    assert_int_equal(pcv_media_png(&im, p->data, p->len, &e), code);
    assert_null(im.rgb);
    assert_int_equal(e.code, code);
    if (!strstr(e.msg, part))
        fail_msg("\"%s\" is not in \"%s\"", part, e.msg);
    assert_int_equal(pcv_media_png(&im, p->data, p->len, NULL), code);
    free(p->data);
}

static void accepted(struct png *p, int width, int height, const void *rgb)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    if (pcv_media_png(&im, p->data, p->len, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(im.width, width);
    assert_int_equal(im.height, height);
    assert_memory_equal(im.rgb, rgb, (size_t)width * (size_t)height * 3);
    pcv_image_free(&im);
    free(p->data);
}

/* ---- every kind becomes RGB --------------------------------------------------------------------
 */

static void decodes_grey_of_every_depth(void **state)
{
    static const struct {
        uint8_t bits;
        const char *raw;
        size_t len;
        uint8_t want[2];
    } kinds[] = {{1, "\0\x40", 2, {0, 255}},
                 {2, "\0\x60", 2, {85, 170}},
                 {4, "\0\x7e", 2, {119, 238}},
                 {8, "\0\x12\xfe", 3, {0x12, 0xfe}},
                 {16, "\0\x12\xff\xfe\x01", 5, {0x12, 0xfe}}}; /* the high byte */

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        uint8_t a = kinds[i].want[0], b = kinds[i].want[1], rgb[6] = {a, a, a, b, b, b};
        struct png p;

        begin(&p, 2, 1, kinds[i].bits, GREY, 0);
        put_idat(&p, kinds[i].raw, kinds[i].len);
        end(&p);
        accepted(&p, 2, 1, rgb);
    }
}

static void decodes_colour_and_drops_alpha(void **state)
{
    struct png p = small(NULL, NULL, 0);

    (void)state;
    accepted(&p, 2, 1, "\1\2\3\4\5\6");
    begin(&p, 1, 1, 16, RGB, 0);
    put_idat(&p, "\0\1\xff\2\xff\3\xff", 7);
    end(&p);
    accepted(&p, 1, 1, "\1\2\3");
    begin(&p, 2, 1, 8, RGB_ALPHA, 0);
    put_idat(&p, "\0\1\2\3\0\4\5\6\x80", 9);
    end(&p);
    accepted(&p, 2, 1, "\1\2\3\4\5\6");
    begin(&p, 2, 1, 8, GREY_ALPHA, 0);
    put_idat(&p, "\0\7\0\11\xff", 5);
    end(&p);
    accepted(&p, 2, 1, "\7\7\7\11\11\11");
}

static void decodes_palettes(void **state)
{
    struct png p;

    (void)state;
    begin(&p, 4, 1, 2, PALETTE, 0);
    put_chunk(&p, "PLTE", "\1\2\3\4\5\6\7\10\11", 9);
    put_chunk(&p, "tRNS", "\0\x80", 2); /* transparent entries keep their colours */
    put_idat(&p, "\0\x18", 2);
    end(&p);
    accepted(&p, 4, 1, "\1\2\3\4\5\6\7\10\11\1\2\3");
}

/* Colours stay as stored: gamma, background and transparent colour change nothing. */
static void applies_no_corrections(void **state)
{
    struct png p = small("gAMA", "\0\0\xb1\x8f", 4);

    (void)state;
    accepted(&p, 2, 1, "\1\2\3\4\5\6");
    p = small("tRNS", "\0\1\0\2\0\3", 6);
    accepted(&p, 2, 1, "\1\2\3\4\5\6");
    p = small("sBIT", "\4\4\4", 3);
    accepted(&p, 2, 1, "\1\2\3\4\5\6");
}

/* 3 x 3 in Adam7: pass 1 holds (0,0), pass 5 row 2 of even columns, pass 6 column 1, pass 7 row 1.
 */
static void decodes_interlaced(void **state)
{
    struct png p;

    (void)state;
    begin(&p, 3, 3, 8, GREY, 1);
    put_idat(&p,
             "\0\1"
             "\0\3"
             "\0\7\11"
             "\0\2"
             "\0\10"
             "\0\4\5\6",
             15);
    end(&p);
    accepted(&p, 3, 3, "\1\1\1\2\2\2\3\3\3\4\4\4\5\5\5\6\6\6\7\7\7\10\10\10\11\11\11");
}

/* ---- hostile files
 * ------------------------------------------------------------------------------- */

static void refuses_large(void **state)
{
    static const uint32_t sides[][2] = {{60000, 60000}, {32769, 1}, {1, 32769}, {8193, 8193}};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct png p;
        char said[32];

        begin(&p, sides[i][0], sides[i][1], 8, RGB, 0); /* nothing follows: the header decides */
        snprintf(said, sizeof(said), "%u x %u", sides[i][0], sides[i][1]);
        refused(&p, PCV_ELIMIT, said);
    }
    for (uint8_t kind = 0; kind <= 6; kind += 2) {
        struct png p;

        begin(&p, 0x7fffffff, 0x7fffffff, 16, kind, 1);
        refused(&p, PCV_ELIMIT, "PNG");
    }
}

static void refuses_bad_headers(void **state)
{
    static const struct {
        uint32_t width, height;
        uint8_t bits, kind, interlace;
    } bad[] = {{0, 1, 8, RGB, 0},  {1, 0, 8, RGB, 0},      {0x80000000, 1, 8, RGB, 0},
               {1, 1, 3, GREY, 0}, {1, 1, 16, PALETTE, 0}, {1, 1, 4, RGB, 0},
               {1, 1, 8, 5, 0},    {1, 1, 8, RGB, 2}};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct png p;

        begin(&p, bad[i].width, bad[i].height, bad[i].bits, bad[i].kind, bad[i].interlace);
        put_idat(&p, "\0\0\0\0\0\0\0", 7);
        end(&p);
        refused(&p, PCV_EFORMAT, "PNG");
    }
}

static void refuses_bad_structure(void **state)
{
    struct png p;

    (void)state;
    begin(&p, 2, 1, 8, PALETTE, 0);
    put_idat(&p, "\0\0\1", 3);
    end(&p);
    refused(&p, PCV_EFORMAT, "PLTE");
    begin(&p, 2, 1, 8, RGB, 0);
    end(&p);
    refused(&p, PCV_EFORMAT, "PNG");
    p = small("ABCD", "x", 1); /* a critical chunk that nobody knows */
    refused(&p, PCV_EFORMAT, "critical");
    begin(&p, 2, 1, 8, RGB, 0);
    put_idat(&p, "\7\1\2\3\4\5\6", 7); /* filters are 0 to 4 */
    end(&p);
    refused(&p, PCV_EFORMAT, "filter");
    begin(&p, 2, 2, 8, RGB, 0);
    put_idat(&p, "\0\1\2\3\4\5\6", 7); /* one row of two */
    end(&p);
    refused(&p, PCV_EFORMAT, "PNG");
}

static void refuses_wrong_checksums(void **state)
{
    struct png p = small(NULL, NULL, 0);

    (void)state;
    p.data[p.len - 13] ^= 1; /* of IDAT */
    refused(&p, PCV_EFORMAT, "checksum");
    p = small("gAMA", "\0\0\xb1\x8f", 4);
    p.data[8 + 25 + 12] ^= 1; /* a chunk that decoders may leave out is held to its checksum too */
    refused(&p, PCV_EFORMAT, "checksum");
}

static void refuses_cut_off(void **state)
{
    struct png whole = small("tEXt", "Title\0shoe", 10);

    (void)state;
    for (size_t n = 0; n < whole.len - 4; n++) { /* the last four are the end's own checksum */
        struct png p = {0};

        put(&p, whole.data, n);
        refused(&p, PCV_EFORMAT, "PNG");
    }
    free(whole.data);
}

/* Chunks beside the picture are unpacked within limits; a picture's own data has none but size. */
static void limits_other_chunks(void **state)
{
    enum { N = 17 << 20 };
    char *text = malloc(N);
    struct png p;

    (void)state;
    memset(text, 'x', N);
    text[5] = '\0';
    p = small("tEXt", text, N);
    refused(&p, PCV_ELIMIT, "limits");
    free(text);
}

/* One IDAT chunk larger than those limits. */
static void decodes_large_chunks(void **state)
{
    enum { SIDE = 2500, ROW = 1 + 3 * SIDE };
    struct pcv_image im = {0};
    struct pcv_err e = {0};
    struct png p, z = {0};
    uint32_t a = 1, b = 0;
    uint8_t row[ROW] = {0};

    (void)state;
    begin(&p, SIDE, SIDE, 8, RGB, 0);
    z.data = malloc(SIDE * (ROW + 5) + 6);
    memcpy(z.data, "\x78\1", z.len = 2);
    for (int y = 0; y < SIDE; y++) {
        uint8_t head[5] = {y == SIDE - 1, ROW & 255, ROW >> 8, ~ROW & 255, ~ROW >> 8 & 255};

        memset(row + 1, y, ROW - 1);
        memcpy(z.data + z.len, head, 5);
        memcpy(z.data + z.len + 5, row, ROW);
        z.len += ROW + 5;
        for (int i = 0; i < ROW; i++) {
            a = (a + row[i]) % 65521;
            b = (b + a) % 65521;
        }
    }
    put32(&z, b << 16 | a);
    assert_true(z.len > 16 << 20);
    put_chunk(&p, "IDAT", z.data, z.len);
    end(&p);
    if (pcv_media_png(&im, p.data, p.len, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(im.rgb[3 * (SIDE * 201 + 7)], 201);
    pcv_image_free(&im);
    free(p.data);
    free(z.data);
}

/* Every damaged byte is noticed, by structure or by checksum; in the declared sides, as too large.
 */
static void survives_damage(void **state)
{
    uint8_t buf[8192];
    FILE *f = fopen("tests/golden/pillow/alpha.png", "rb");
    size_t n;

    (void)state;
    assert_non_null(f);
    n = fread(buf, 1, sizeof(buf), f);
    fclose(f);
    for (size_t at = 0; at < n - 4; at++) {
        struct pcv_image im = {0};
        struct pcv_err e = {0};
        int r;

        buf[at] ^= 0x11;
        r = pcv_media_png(&im, buf, n, &e);
        buf[at] ^= 0x11;
        assert_true(r == PCV_EFORMAT || (r == PCV_ELIMIT && at >= 16 && at < 24));
        assert_null(im.rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_grey_of_every_depth),
        cmocka_unit_test(decodes_colour_and_drops_alpha),
        cmocka_unit_test(decodes_palettes),
        cmocka_unit_test(applies_no_corrections),
        cmocka_unit_test(decodes_interlaced),
        cmocka_unit_test(refuses_large),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(refuses_bad_structure),
        cmocka_unit_test(refuses_wrong_checksums),
        cmocka_unit_test(refuses_cut_off),
        cmocka_unit_test(limits_other_chunks),
        cmocka_unit_test(decodes_large_chunks),
        cmocka_unit_test(survives_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
