/* What image.c does itself: recognising, media types, centre crop, rescale and normalise. */
#include "lib/input/image.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t jpeg[8192], png[8192];
static size_t jpeg_len, png_len;

static size_t slurp(const char *path, uint8_t *buf, size_t room)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(buf, 1, room, f) : 0;

    if (f)
        fclose(f);
    return n;
}

static int setup(void **state)
{
    (void)state;
    jpeg_len = slurp("tests/golden/pillow/grey.jpg", jpeg, sizeof(jpeg));
    png_len = slurp("tests/golden/pillow/alpha.png", png, sizeof(png));
    return jpeg_len && png_len ? 0 : -1; /* tests run in the repository's root */
}

/* ---- decoding ----------------------------------------------------------------------------------
 */

static void taken(const void *data, size_t len, const char *type, int width, int height)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    if (pcv_image_decode(&im, data, len, type, &e) < 0)
        fail_msg("%s: %s", type ? type : "no type", e.msg);
    assert_int_equal(im.width, width);
    assert_int_equal(im.height, height);
    pcv_image_free(&im);
    assert_null(im.rgb);
    pcv_image_free(&im);
}

static void unsupported(const void *data, size_t len, const char *type, const char *part1,
                        const char *part2)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    assert_int_equal(pcv_image_decode(&im, data, len, type, &e), PCV_EUNSUPPORTED);
    assert_null(im.rgb);
    if (!strstr(e.msg, part1) || !strstr(e.msg, part2))
        fail_msg("\"%s\" and \"%s\" are not both in \"%s\"", part1, part2, e.msg);
}

static void recognises_by_bytes(void **state)
{
    (void)state;
    taken(jpeg, jpeg_len, NULL, 61, 43);
    taken(png, png_len, NULL, 45, 31);
}

static void accepts_types_that_agree(void **state)
{
    static const char *const any[] = {"", "application/octet-stream", "image/*"};

    (void)state;
    taken(jpeg, jpeg_len, "image/jpeg", 61, 43);
    taken(jpeg, jpeg_len, "image/jpg", 61, 43);
    taken(jpeg, jpeg_len, "IMAGE/Jpeg; q=1", 61, 43);
    taken(png, png_len, "image/png", 45, 31);
    taken(png, png_len, "image/png;a=b", 45, 31);
    for (size_t i = 0; i < 3; i++) {
        taken(jpeg, jpeg_len, any[i], 61, 43);
        taken(png, png_len, any[i], 45, 31);
    }
}

static void refuses_types_that_contradict(void **state)
{
    (void)state;
    unsupported(jpeg, jpeg_len, "image/png", "image/png", "image/jpeg");
    unsupported(png, png_len, "image/jpeg", "image/jpeg", "image/png");
    unsupported(png, png_len, "text/plain", "text/plain", "image/png");
    unsupported(png, png_len, "image/pngx", "image/pngx", "image/png");
    unsupported(png, png_len, "image/pn", "image/pn", "image/png");
}

static void refuses_other_bytes(void **state)
{
    char longer[400];

    (void)state;
    unsupported(NULL, 0, NULL, "JPEG", "PNG");
    unsupported("\xff\xd8", 2, NULL, "JPEG", "PNG");
    unsupported("\x89PNG\r\n\x1a", 7, NULL, "JPEG", "PNG");
    unsupported("GIF89a", 6, NULL, "JPEG", "PNG");
    unsupported("GIF89a", 6, "image/gif", "image/gif", "PNG");
    unsupported("GIF89a", 6, "image/png", "image/png", "neither");
    /* A type from the network is shown as plain, short text. */
    memset(longer, 'x', sizeof(longer));
    memcpy(longer, "a/\n\xff", 4);
    longer[399] = '\0';
    unsupported("GIF89a", 6, longer, "a/??xxx", "neither");
}

static void names_the_format_that_is_broken(void **state)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};

    (void)state;
    assert_int_equal(pcv_image_decode(&im, jpeg, jpeg_len / 2, NULL, &e), PCV_EFORMAT);
    assert_non_null(strstr(e.msg, "JPEG"));
    assert_int_equal(pcv_image_decode(&im, png, png_len / 2, NULL, &e), PCV_EFORMAT);
    assert_non_null(strstr(e.msg, "PNG"));
    assert_null(im.rgb);
}

/* ---- from picture to model
 * ------------------------------------------------------------------------ */

/* Red tells the column, green the row. */
static struct pcv_image grid(int width, int height)
{
    struct pcv_image im = {width, height, calloc((size_t)width * (size_t)height, 3)};

    assert_non_null(im.rgb);
    for (int i = 0; i < width * height; i++) {
        im.rgb[3 * i] = (uint8_t)(i % width);
        im.rgb[3 * i + 1] = (uint8_t)(i / width);
    }
    return im;
}

/* Only the crop: what is left begins at (left, top) and has this size. */
static void crops(int width, int height, int size, int crop_size, int side, int left, int top)
{
    struct pcv_image im = grid(width, height);
    struct pcv_image_prep p = {.do_center_crop = true,
                               .height = size,
                               .width = size,
                               .crop_height = crop_size,
                               .crop_width = crop_size};
    struct pcv_err e = {0};
    int w = 0, h = 0;
    float *chw = NULL;

    if (pcv_image_to_chw(&im, &p, &chw, &w, &h, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(w, side);
    assert_int_equal(h, side);
    assert_true(chw[0] == (float)left);
    assert_true(chw[side * side] == (float)top);
    assert_true(chw[side * side - 1] == (float)(left + side - 1));
    assert_true(chw[2 * side * side - 1] == (float)(top + side - 1));
    free(chw);
    pcv_image_free(&im);
}

static void crops_a_share_of_the_shorter_side(void **state)
{
    (void)state;
    crops(100, 60, 224, 256, 52, 24, 4);  /* int(0.875 x 60) */
    crops(61, 101, 224, 256, 53, 4, 24);  /* int(53.375); offsets rounded down */
    crops(100, 60, 224, 224, 60, 20, 0);  /* all of the shorter side */
    crops(7, 9, 1, 3, 2, 2, 3);           /* int(2.33) */
    crops(100, 100, 29, 100, 28, 36, 36); /* 29 / 100 x 100 is a little less than 29 */
}

static void crops_each_side_by_its_own_share(void **state)
{
    struct pcv_image im = grid(90, 60);
    struct pcv_image_prep p = {
        .do_center_crop = true, .height = 1, .width = 3, .crop_height = 2, .crop_width = 4};
    int w = 0, h = 0;
    float *chw = NULL;

    (void)state;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_int_equal(h, 30);
    assert_int_equal(w, 45);
    assert_true(chw[0] == 22.0f);
    assert_true(chw[30 * 45] == 15.0f);
    free(chw);
    pcv_image_free(&im);
}

static void refuses_impossible_crops(void **state)
{
    static const int bad[][2] = {{1, 100}, {261, 256}, {100, 0}, {0, 100}, {-5, -7}, {5, -7}};
    struct pcv_image im = grid(60, 60);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct pcv_image_prep p = {.do_center_crop = true,
                                   .height = bad[i][0],
                                   .width = bad[i][0],
                                   .crop_height = bad[i][1],
                                   .crop_width = bad[i][1]};
        struct pcv_err e = {0};
        int w = 1, h = 2;
        float *chw = NULL;

        assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, &e), PCV_ERANGE);
        assert_null(chw);
        assert_int_equal(w, 1);
        assert_int_equal(h, 2);
    }
    pcv_image_free(&im);
}

/* Every step can be left out; values are what the upstream's float arithmetic gives. */
static void rescales_and_normalises(void **state)
{
    uint8_t rgb[3] = {10, 200, 255};
    struct pcv_image im = {1, 1, rgb};
    struct pcv_image_prep p;
    int w = 0, h = 0;
    float *chw = NULL;

    (void)state;
    pcv_image_prep_default(&p);
    p.do_center_crop = p.do_resize = false;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    for (int c = 0; c < 3; c++)
        assert_true(chw[c] == ((float)(rgb[c] * (1.0 / 255)) - p.mean[c]) / p.std[c]);
    free(chw);
    p.do_normalize = false;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_true(chw[0] == (float)(10 / 255.0) && chw[2] == 1.0f);
    free(chw);
    p.do_rescale = false;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_true(chw[0] == 10.0f && chw[1] == 200.0f && chw[2] == 255.0f);
    free(chw);
    p.do_normalize = true;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_true(chw[1] == (200.0f - 0.456f) / 0.224f);
    free(chw);
    assert_int_equal(w, 1);
    assert_int_equal(h, 1);
}

/* What Pillow's convert("L") gives, before anything else is done. */
static void single_channel_is_grey_first(void **state)
{
    uint8_t rgb[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 77, 255, 255, 255, 1, 1, 1};
    static const float want[] = {76, 150, 29, 130, 255, 1};
    struct pcv_image im = {6, 1, rgb};
    struct pcv_image_prep p;
    int w = 0, h = 0;
    float *chw = NULL;

    (void)state;
    pcv_image_prep_default(&p);
    p.do_center_crop = p.do_resize = p.do_rescale = p.do_normalize = false;
    p.single_channel = true;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_int_equal(w, 6);
    for (int i = 0; i < 18; i++)
        assert_true(chw[i] == want[i % 6]);
    free(chw);
    assert_int_equal(rgb[0], 255); /* the picture itself stays */
    assert_int_equal(rgb[1], 0);
}

static void defaults_make_the_model_s_size(void **state)
{
    struct pcv_image im = grid(173, 97);
    struct pcv_image_prep p;
    struct pcv_err e = {0};
    int w = 0, h = 0;
    float *chw = NULL;

    (void)state;
    pcv_image_prep_default(&p);
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, NULL), 0);
    assert_int_equal(w, 224);
    assert_int_equal(h, 224);
    free(chw);
    chw = NULL;
    p.resample = 1;
    assert_int_equal(pcv_image_to_chw(&im, &p, &chw, &w, &h, &e), PCV_ERANGE);
    assert_null(chw);
    pcv_image_free(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognises_by_bytes),
        cmocka_unit_test(accepts_types_that_agree),
        cmocka_unit_test(refuses_types_that_contradict),
        cmocka_unit_test(refuses_other_bytes),
        cmocka_unit_test(names_the_format_that_is_broken),
        cmocka_unit_test(crops_a_share_of_the_shorter_side),
        cmocka_unit_test(crops_each_side_by_its_own_share),
        cmocka_unit_test(refuses_impossible_crops),
        cmocka_unit_test(rescales_and_normalises),
        cmocka_unit_test(single_channel_is_grey_first),
        cmocka_unit_test(defaults_make_the_model_s_size),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
