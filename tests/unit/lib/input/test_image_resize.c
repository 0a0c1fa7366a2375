/* Resizing against Pillow: tests/golden/pillow holds the pictures and Pillow's results. */
#include "lib/input/image.h"
#include "lib/load/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/pillow/"

static const char *const pictures[] = {
    "cat.jpg",  "coffee.png", "portrait.jpg", "full-chroma.jpg", "grey.jpg",
    "cmyk.jpg", "rgb.png",    "alpha.png",    "palette.png",     "bilevel.png",
};

static void load(const char *name, struct pcv_image *im, struct pcv_safetensors **golden)
{
    char path[256];
    struct pcv_err e = {0};
    uint8_t *file = malloc(1 << 20);
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), GOLDEN "%s", name);
    f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: not found; tests run in the repository's root", path);
    n = fread(file, 1, 1 << 20, f);
    fclose(f);
    if (pcv_image_decode(im, file, n, NULL, &e) < 0)
        fail_msg("%s: %s", name, e.msg);
    free(file);
    snprintf(path, sizeof(path), GOLDEN "%s.safetensors", name);
    if (pcv_safetensors_open(golden, path, &e) < 0)
        fail_msg("%s: %s", e.where, e.msg);
}

static void near_u8(const char *name, const char *tensor, const uint8_t *got, const uint8_t *want,
                    size_t n, int tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (abs(got[i] - want[i]) > tolerance)
            fail_msg("%s: %s: element %zu is %d, Pillow's is %d", name, tensor, i, got[i], want[i]);
}

/* The golden patch is the middle of the picture. Another libjpeg may differ a little from the one
 * that Pillow was built with. */
static void check_decoded(const char *name, const struct pcv_image *im, const struct pcv_tensor *t)
{
    size_t h = (size_t)t->shape[0], w = (size_t)t->shape[1];
    size_t top = ((size_t)im->height - h) / 2, left = ((size_t)im->width - w) / 2;
    int tolerance = strstr(name, ".jpg") ? 2 : 0;

    for (size_t y = 0; y < h; y++)
        near_u8(name, t->name, im->rgb + ((top + y) * (size_t)im->width + left) * 3,
                (const uint8_t *)t->data + y * w * 3, w * 3, tolerance);
}

static void check_resized(const char *name, const struct pcv_image *im, const struct pcv_tensor *t)
{
    int resample = strncmp(t->name, "nearest", 7) == 0    ? 0
                   : strncmp(t->name, "bilinear", 8) == 0 ? 2
                                                          : 3;
    int h = (int)t->shape[0], w = (int)t->shape[1];
    int tolerance = strstr(name, ".jpg") ? 2 : 0; /* as above; for PNG bit for bit */
    struct pcv_image out = {0};
    struct pcv_err e = {0};

    if (pcv_image_resize(&out, im, w, h, resample, &e) < 0)
        fail_msg("%s: %s: %s", name, t->name, e.msg);
    assert_int_equal(out.width, w);
    assert_int_equal(out.height, h);
    near_u8(name, t->name, out.rgb, t->data, t->nbytes, tolerance);
    pcv_image_free(&out);
}

static void check_chw(const char *name, const struct pcv_image *im, const struct pcv_tensor *t)
{
    struct pcv_image_prep p;
    struct pcv_err e = {0};
    int w = 0, h = 0;
    float *chw = NULL;
    float *want = malloc(t->nbytes); /* the file's data may be unaligned */
    /* PNG: the same float operations on the same bytes. JPEG: one level. */
    float tolerance = strstr(name, ".jpg") ? 1.0f / 255 / 0.224f : 0;

    pcv_tensor_to_f32(t, 0, (int64_t)t->nbytes / 4, want);
    pcv_image_prep_default(&p);
    if (pcv_image_prep_read(&p, GOLDEN "preprocessor_config.json", &e) < 0 ||
        pcv_image_to_chw(im, &p, &chw, &w, &h, &e) < 0)
        fail_msg("%s: %s", e.where, e.msg);
    assert_int_equal(h, t->shape[1]);
    assert_int_equal(w, t->shape[2]);
    for (int i = 0; i < 3 * w * h; i++)
        if (!(fabsf(chw[i] - want[i]) <= tolerance))
            fail_msg("%s: chw: element %d is %.9g, Pillow's is %.9g", name, i, chw[i], want[i]);
    free(chw);
    free(want);
}

static void agrees_with_pillow(void **state)
{
    int checked = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(pictures) / sizeof(*pictures); i++) {
        struct pcv_safetensors *golden = NULL;
        struct pcv_image im = {0};

        load(pictures[i], &im, &golden);
        for (int k = 0; k < pcv_safetensors_count(golden); k++, checked++) {
            const struct pcv_tensor *t = pcv_safetensors_at(golden, k);

            if (strcmp(t->name, "decoded") == 0)
                check_decoded(pictures[i], &im, t);
            else if (strcmp(t->name, "chw") == 0)
                check_chw(pictures[i], &im, t);
            else
                check_resized(pictures[i], &im, t);
        }
        pcv_image_free(&im);
        pcv_safetensors_close(golden);
    }
    assert_true(checked >= 70);
}

/* ---- properties that need no reference ------------------------------------------------------- */

static struct pcv_image checkerboard(int width, int height)
{
    struct pcv_image im = {width, height, malloc((size_t)width * (size_t)height * 3)};

    for (int i = 0; i < width * height; i++)
        memset(im.rgb + 3 * i, (i % width + i / width) % 2 ? 255 : 0, 3);
    return im;
}

static void same_size_copies(void **state)
{
    struct pcv_image in = checkerboard(7, 5), out = {0};

    (void)state;
    for (int resample = 0; resample <= 3; resample += resample ? 1 : 2) {
        assert_int_equal(pcv_image_resize(&out, &in, 7, 5, resample, NULL), 0);
        assert_ptr_not_equal(out.rgb, in.rgb);
        assert_memory_equal(out.rgb, in.rgb, 7 * 5 * 3);
        pcv_image_free(&out);
    }
    pcv_image_free(&in);
}

/* Overshoot of the cubic is cut at 0 and 255: white stays white, whatever the sizes. */
static void flat_stays_flat(void **state)
{
    static const int sizes[][4] = {
        {1, 1, 50, 50}, {300, 2, 1, 1}, {3, 400, 64, 7}, {17, 13, 13, 17}};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        const int *s = sizes[i];
        struct pcv_image in = checkerboard(s[0], s[1]), out = {0};

        memset(in.rgb, 255, (size_t)s[0] * (size_t)s[1] * 3);
        for (int resample = 2; resample <= 3; resample++) {
            assert_int_equal(pcv_image_resize(&out, &in, s[2], s[3], resample, NULL), 0);
            for (int k = 0; k < s[2] * s[3] * 3; k++)
                assert_int_equal(out.rgb[k], 255);
            pcv_image_free(&out);
        }
        pcv_image_free(&in);
    }
}

static void refuses_sizes(void **state)
{
    static const int bad[][3] = {{0, 5, 3},  {5, 0, 3}, {-1, 5, 3}, {32769, 1, 3}, {1, 32769, 3},
                                 {5, 5, -1}, {5, 5, 1}, {5, 5, 4},  {5, 5, 5}};
    struct pcv_image in = checkerboard(6, 6), thin = checkerboard(1, 32768), out = {0};
    struct pcv_err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(pcv_image_resize(&out, &in, bad[i][0], bad[i][1], bad[i][2], &e),
                         PCV_ERANGE);
        assert_null(out.rgb);
    }
    assert_int_equal(pcv_image_resize(&out, &in, 32768, 32768, 3, &e), PCV_ELIMIT);
    assert_int_equal(pcv_image_resize(&out, &out, 5, 5, 3, &e), PCV_ERANGE); /* of no pixels */
    /* A small result through a large picture between the passes. */
    assert_int_equal(pcv_image_resize(&out, &thin, 32768, 1, 3, &e), PCV_ELIMIT);
    assert_null(out.rgb);
    pcv_image_free(&in);
    pcv_image_free(&thin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_pillow),
        cmocka_unit_test(same_size_copies),
        cmocka_unit_test(flat_stays_flat),
        cmocka_unit_test(refuses_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
