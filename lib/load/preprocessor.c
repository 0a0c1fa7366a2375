/* preprocessor.c - preprocessor_config.json as Hugging Face writes it for Perceiver. */
#include "lib/input/image.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 1 << 20 }; /* bytes */

/* ---- one reader for each type of key: a missing key changes nothing -------------------------- */

/* Errors of a reader say what the value must be; the key is put before it. */
static int must_be(struct pcv_err *e, const char *key, const char *what)
{
    pcv_fail(e, PCV_ERANGE, "must be %s", what);
    return pcv_err_at(e, "%s", key);
}

static int read_bool(bool *ret, const json_t *j, const char *key, struct pcv_err *e)
{
    const json_t *v = json_object_get(j, key);

    if (v && !json_is_boolean(v))
        return must_be(e, key, "true or false");
    if (v)
        *ret = json_is_true(v);
    return 0;
}

static bool is_side(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 1 &&
           json_integer_value(v) <= PCV_IMAGE_MAX_SIDE;
}

/* An integer, or an object of height and width and nothing else. */
static int read_size(int *height, int *width, const json_t *j, const char *key, struct pcv_err *e)
{
    const json_t *v = json_object_get(j, key), *h = v, *w = v;

    if (!v)
        return 0;
    if (json_is_object(v)) {
        h = json_object_get(v, "height");
        w = json_object_get(v, "width");
    }
    if (!is_side(h) || !is_side(w) || (json_is_object(v) && json_object_size(v) != 2)) {
        pcv_fail(e, PCV_ERANGE,
                 "must be an integer of 1 to %d or {\"height\", \"width\"} of such integers",
                 PCV_IMAGE_MAX_SIDE);
        return pcv_err_at(e, "%s", key);
    }
    *height = (int)json_integer_value(h);
    *width = (int)json_integer_value(w);
    return 0;
}

static int read_resample(int *ret, const json_t *j, struct pcv_err *e)
{
    const json_t *v = json_object_get(j, "resample");
    json_int_t n = json_integer_value(v);

    if (v && (!json_is_integer(v) || (n != 0 && n != 2 && n != 3)))
        return must_be(e, "resample", "0 (nearest), 2 (bilinear) or 3 (bicubic)");
    if (v)
        *ret = (int)n;
    return 0;
}

static int read_factor(double *ret, const json_t *j, struct pcv_err *e)
{
    const json_t *v = json_object_get(j, "rescale_factor");

    if (v && (!json_is_number(v) || !(fabs(json_number_value(v)) <= FLT_MAX)))
        return must_be(e, "rescale_factor", "a finite number");
    if (v)
        *ret = json_number_value(v);
    return 0;
}

/* Three numbers, or one for all channels; above 0 when they are divided by. */
static int read_channels(float ret[3], const json_t *j, const char *key, bool positive,
                         struct pcv_err *e)
{
    const json_t *v = json_object_get(j, key);
    float x[3];

    if (!v)
        return 0;
    for (size_t i = 0; i < 3; i++) {
        const json_t *n = json_is_number(v) ? v : json_array_get(v, i);

        x[i] = (float)json_number_value(n);
        if ((n != v && json_array_size(v) != 3) || !json_is_number(n) || !isfinite(x[i]) ||
            (positive && x[i] <= 0))
            return must_be(e, key,
                           positive ? "three finite numbers above 0" : "three finite numbers");
    }
    memcpy(ret, x, sizeof(x));
    return 0;
}

/* ---- what must hold between keys ---------------------------------------------------------------
 */

/* Other processors do other things under the same keys. */
static int check_type(const json_t *j, const char *key, struct pcv_err *e)
{
    const json_t *v = json_object_get(j, key);
    const char *s = json_string_value(v);

    if (!v || (s && strncmp(s, "Perceiver", strlen("Perceiver")) == 0))
        return 0;
    pcv_fail(e, PCV_EUNSUPPORTED, "must name one of Perceiver's image processors");
    return pcv_err_at(e, "%s", key);
}

static int check_together(const struct pcv_image_prep *p, struct pcv_err *e)
{
    if ((int64_t)p->height * p->width > PCV_IMAGE_MAX_PIXELS) {
        pcv_fail(e, PCV_ELIMIT, "%d x %d, at most %d pixels", p->width, p->height,
                 PCV_IMAGE_MAX_PIXELS);
        return pcv_err_at(e, "size");
    }
    if (p->do_center_crop && (p->height > p->crop_height || p->width > p->crop_width)) {
        pcv_fail(e, PCV_EUNSUPPORTED,
                 "%d x %d is smaller than size %d x %d: the picture would have to be padded",
                 p->crop_width, p->crop_height, p->width, p->height);
        return pcv_err_at(e, "crop_size");
    }
    for (int c = 0; p->do_normalize && c < 3; c++) {
        float most = p->do_rescale ? (float)(255 * p->rescale_factor) : 255.0f;

        if (!isfinite((fabsf(most) + fabsf(p->mean[c])) / p->std[c])) {
            pcv_fail(e, PCV_ERANGE, "channel %d: pixels become infinite", c);
            return pcv_err_at(e, "image_std");
        }
    }
    return 0;
}

static int read_keys(struct pcv_image_prep *p, const json_t *j, struct pcv_err *e)
{
    int r;

    if (!json_is_object(j))
        return pcv_fail(e, PCV_EFORMAT, "not a JSON object");
    if ((r = check_type(j, "image_processor_type", e)) < 0 ||
        (r = check_type(j, "feature_extractor_type", e)) < 0 ||
        (r = read_bool(&p->do_center_crop, j, "do_center_crop", e)) < 0 ||
        (r = read_bool(&p->do_resize, j, "do_resize", e)) < 0 ||
        (r = read_bool(&p->do_rescale, j, "do_rescale", e)) < 0 ||
        (r = read_bool(&p->do_normalize, j, "do_normalize", e)) < 0 ||
        (r = read_bool(&p->single_channel, j, "single_channel", e)) < 0 ||
        (r = read_size(&p->crop_height, &p->crop_width, j, "crop_size", e)) < 0 ||
        (r = read_size(&p->height, &p->width, j, "size", e)) < 0 ||
        (r = read_resample(&p->resample, j, e)) < 0 ||
        (r = read_factor(&p->rescale_factor, j, e)) < 0 ||
        (r = read_channels(p->mean, j, "image_mean", false, e)) < 0 ||
        (r = read_channels(p->std, j, "image_std", true, e)) < 0)
        return r;
    return check_together(p, e);
}

/* ---- the file
 * ------------------------------------------------------------------------------------ */

/* The whole file, NUL-terminated. own: free(*ret) */
static int read_file(char **ret, size_t *len, const char *path, struct pcv_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0;
    char *buf = NULL;
    struct stat st;
    size_t n = 0;
    ssize_t got = 0;

    if (fd < 0)
        return pcv_fail(e, errno == ENOENT ? PCV_EMISSING : PCV_EIO, "cannot open: %s",
                        strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        r = pcv_fail(e, PCV_EIO, "not a regular file");
    else if (st.st_size > MAX_FILE)
        r = pcv_fail(e, PCV_ELIMIT, "%lld bytes, at most %d are taken", (long long)st.st_size,
                     MAX_FILE);
    else if (!(buf = malloc((size_t)st.st_size + 1)))
        r = pcv_fail(e, PCV_ENOMEM, "no memory for the file");
    while (r == 0 && n < (size_t)st.st_size &&
           ((got = read(fd, buf + n, (size_t)st.st_size - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    if (r == 0 && got < 0)
        r = pcv_fail(e, PCV_EIO, "cannot read: %s", strerror(errno));
    close(fd);
    if (r < 0) {
        free(buf);
        return r;
    }
    *ret = buf;
    *len = n;
    return 0;
}

int pcv_image_prep_read(struct pcv_image_prep *p, const char *path, struct pcv_err *e)
{
    struct pcv_image_prep got = *p;
    struct pcv_err own;
    json_error_t je;
    json_t *j = NULL;
    char *text = NULL;
    size_t len = 0;
    int r;

    e = e ? e : &own;
    if ((r = read_file(&text, &len, path, e)) < 0)
        goto out;
    j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    r = j ? read_keys(&got, j, e)
          : pcv_fail(e, PCV_EFORMAT, "not JSON: %s (line %d)", je.text, je.line);
    if (r == 0)
        *p = got;
out:
    json_decref(j);
    free(text);
    return r < 0 ? pcv_err_at(e, "%s", path) : 0;
}
