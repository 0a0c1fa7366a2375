#include "lib/input/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int setup(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/test_preprocessor.XXXXXX");
    fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Reads this text over the defaults. */
static struct pcv_image_prep reads(const char *text)
{
    struct pcv_image_prep p;
    struct pcv_err e = {0};

    pcv_image_prep_default(&p);
    put(text, strlen(text));
    if (pcv_image_prep_read(&p, path, &e) < 0)
        fail_msg("%s: %s: %s", text, e.where, e.msg);
    return p;
}

/* Refused with this code, naming path and key, and leaving *p as it was. */
static void refused(const char *text, int code, const char *key)
{
    struct pcv_image_prep p, before;
    struct pcv_err e = {0};
    size_t n = strlen(path);
    int r;

    pcv_image_prep_default(&p);
    before = p;
    put(text, strlen(text));
    r = pcv_image_prep_read(&p, path, &e);
    if (r != code)
        fail_msg("%s: code %d, not %d: %s: %s", text, r, code, e.where, e.msg);
    assert_int_equal(e.code, code);
    assert_memory_equal(&p, &before, sizeof(p));
    assert_memory_equal(e.where, path, n);
    if (key && (strncmp(e.where + n, ": ", 2) != 0 || strcmp(e.where + n + 2, key) != 0))
        fail_msg("%s: the place is \"%s\"", text, e.where);
    assert_true(e.msg[0]);
    assert_int_equal(pcv_image_prep_read(&p, path, NULL), code);
}

/* ---- good files --------------------------------------------------------------------------------
 */

static void reads_every_key(void **state)
{
    struct pcv_image_prep p = reads(
        "{\"do_center_crop\": false, \"do_resize\": false, \"do_rescale\": false,"
        " \"do_normalize\": false, \"crop_size\": {\"height\": 90, \"width\": 80},"
        " \"size\": {\"width\": 50, \"height\": 60}, \"resample\": 2, \"rescale_factor\": 0.5,"
        " \"image_mean\": [0, -0.25, 1], \"image_std\": [1, 2, 0.5],"
        " \"image_processor_type\": \"PerceiverImageProcessor\", \"data_format\": {\"x\": [1]}}");

    (void)state;
    assert_false(p.do_center_crop || p.do_resize || p.do_rescale || p.do_normalize);
    assert_int_equal(p.crop_height, 90);
    assert_int_equal(p.crop_width, 80);
    assert_int_equal(p.height, 60);
    assert_int_equal(p.width, 50);
    assert_int_equal(p.resample, 2);
    assert_true(p.rescale_factor == 0.5);
    assert_true(p.mean[0] == 0 && p.mean[1] == -0.25f && p.mean[2] == 1);
    assert_true(p.std[0] == 1 && p.std[1] == 2 && p.std[2] == 0.5f);
}

/* As krasserm/perceiver-io writes them for MNIST. */
static void one_number_serves_all_channels(void **state)
{
    struct pcv_image_prep p =
        reads("{\"single_channel\": true, \"image_mean\": 0.25, \"image_std\": 0.5,"
              " \"image_processor_type\": \"PerceiverImageClassifierInputProcessor\"}");

    (void)state;
    assert_true(p.single_channel);
    for (int c = 0; c < 3; c++)
        assert_true(p.mean[c] == 0.25f && p.std[c] == 0.5f);
    assert_false(reads("{}").single_channel);
    refused("{\"single_channel\": 1}", PCV_ERANGE, "single_channel");
    refused("{\"image_std\": 0}", PCV_ERANGE, "image_std");
}

static void keeps_what_the_file_lacks(void **state)
{
    struct pcv_image_prep p = reads("{}"), d;

    (void)state;
    pcv_image_prep_default(&d);
    assert_memory_equal(&p, &d, sizeof(p));
    p = reads("{\"do_resize\": true}");
    assert_memory_equal(&p, &d, sizeof(p));
}

/* As the feature extractor, the image processor's ancestor, wrote it. */
static void reads_the_older_form(void **state)
{
    struct pcv_image_prep p = reads(
        "{\"crop_size\": 32, \"do_center_crop\": true, \"do_normalize\": true, \"do_resize\": true,"
        " \"feature_extractor_type\": \"PerceiverFeatureExtractor\","
        " \"image_mean\": [0.5, 0.5, 0.5], \"image_std\": [0.5, 0.5, 0.5], \"resample\": 3,"
        " \"size\": 28}");

    (void)state;
    assert_true(p.do_rescale);
    assert_int_equal(p.crop_height, 32);
    assert_int_equal(p.crop_width, 32);
    assert_int_equal(p.height, 28);
    assert_int_equal(p.width, 28);
}

static void reads_limits_of_ranges(void **state)
{
    struct pcv_image_prep p =
        reads("{\"size\": {\"height\": 1, \"width\": 32768}, \"crop_size\": 32768,"
              " \"resample\": 0, \"rescale_factor\": -1}");

    (void)state;
    assert_int_equal(p.width, 32768);
    assert_int_equal(p.resample, 0);
    p = reads("{\"size\": 300, \"do_center_crop\": false}"); /* then crop_size says nothing */
    assert_int_equal(p.height, 300);
}

/* ---- bad files
 * ------------------------------------------------------------------------------------ */

static void refuses_bad_json(void **state)
{
    (void)state;
    refused("", PCV_EFORMAT, NULL);
    refused("[]", PCV_EFORMAT, NULL);
    refused("{", PCV_EFORMAT, NULL);
    refused("{} x", PCV_EFORMAT, NULL);
    refused("{\"size\": 1, \"size\": 2}", PCV_EFORMAT, NULL);
    refused("{\"rescale_factor\": NaN}", PCV_EFORMAT, NULL);
    refused("{\"rescale_factor\": 1e999}", PCV_EFORMAT, NULL);
    refused("{\"a\": \"\\u0000\"}", PCV_EFORMAT, NULL);
}

static void refuses_wrong_types_and_ranges(void **state)
{
    static const struct {
        const char *key, *bad[8];
    } keys[] = {
        {"do_center_crop", {"1", "\"true\"", "null"}},
        {"do_resize", {"0", "[]"}},
        {"do_rescale", {"1.0"}},
        {"do_normalize", {"{}"}},
        {"size", {"0", "-1", "224.0", "\"224\"", "32769", "null", "[224, 224]"}},
        {"size",
         {"{\"shortest_edge\": 224}", "{\"height\": 1}", "{\"width\": 1}", "{}",
          "{\"height\": 1, \"width\": 0}", "{\"height\": 1.5, \"width\": 1}",
          "{\"height\": 1, \"width\": 1, \"x\": 1}"}},
        {"crop_size", {"0", "99999999999", "true", "{\"height\": 300}"}},
        {"resample", {"1", "4", "-1", "3.0", "\"bicubic\"", "null"}},
        {"rescale_factor", {"\"1/255\"", "null", "1e300", "true"}},
        {"image_mean",
         {"\"0.5\"", "[0.5]", "[0.5, 0.5, 0.5, 0.5]", "[0.5, 0.5, \"0.5\"]", "[0, 0, null]",
          "[0, 1e39, 0]", "{}"}},
        {"image_std",
         {"[1, 1]", "[1, 1, 0]", "[1, -1, 1]", "[1, 1, 1e39]", "[1, 1, 1e-60]", "[1, 1, 1e-39]",
          "null"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        for (size_t k = 0; k < 8 && keys[i].bad[k]; k++) {
            char text[256];

            snprintf(text, sizeof(text), "{\"%s\": %s}", keys[i].key, keys[i].bad[k]);
            refused(text, PCV_ERANGE, keys[i].key);
        }
}

static void refuses_what_it_would_do_wrong(void **state)
{
    (void)state;
    refused("{\"image_processor_type\": \"ViTImageProcessor\"}", PCV_EUNSUPPORTED,
            "image_processor_type");
    refused("{\"feature_extractor_type\": 1}", PCV_EUNSUPPORTED, "feature_extractor_type");
    refused("{\"size\": 257}", PCV_EUNSUPPORTED, "crop_size"); /* of 256 */
    refused("{\"crop_size\": {\"height\": 300, \"width\": 223}}", PCV_EUNSUPPORTED, "crop_size");
    refused("{\"size\": 32768, \"do_center_crop\": false}", PCV_ELIMIT, "size");
}

static void refuses_files_that_are_none(void **state)
{
    struct pcv_image_prep p;
    struct pcv_err e = {0};
    char *large = malloc((1 << 20) + 1);

    (void)state;
    pcv_image_prep_default(&p);
    memset(large, ' ', (1 << 20) + 1);
    memcpy(large, "{}", 2);
    put(large, 1 << 20);
    assert_int_equal(pcv_image_prep_read(&p, path, &e), 0);
    put(large, (1 << 20) + 1);
    assert_int_equal(pcv_image_prep_read(&p, path, &e), PCV_ELIMIT);
    free(large);
    assert_int_equal(pcv_image_prep_read(&p, "/tmp", &e), PCV_EIO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pcv_image_prep_read(&p, path, &e), PCV_EMISSING);
    assert_int_equal(mkfifo(path, 0600), 0); /* not waited for */
    assert_int_equal(pcv_image_prep_read(&p, path, &e), PCV_EIO);
    assert_string_equal(e.where, path);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_every_key),
        TEST(one_number_serves_all_channels),
        TEST(keeps_what_the_file_lacks),
        TEST(reads_the_older_form),
        TEST(reads_limits_of_ranges),
        TEST(refuses_bad_json),
        TEST(refuses_wrong_types_and_ranges),
        TEST(refuses_what_it_would_do_wrong),
        TEST(refuses_files_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
