#include "lib/input/image.h"

#include "lib/input/media.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- memory -------------------------------------------------------------------------------- */

int pcv_image_alloc(struct pcv_image *ret, uint64_t width, uint64_t height, const char *what,
                    struct pcv_err *e)
{
    uint8_t *rgb;

    if (width == 0 || height == 0) {
        pcv_fail(e, PCV_EFORMAT, "%s: no pixels", what);
        return PCV_EFORMAT;
    }
    if (width > PCV_IMAGE_MAX_SIDE || height > PCV_IMAGE_MAX_SIDE ||
        width * height > PCV_IMAGE_MAX_PIXELS) {
        pcv_fail(e, PCV_ELIMIT, "%s: %llu x %llu pixels, at most %d a side and %d are taken", what,
                 (unsigned long long)width, (unsigned long long)height, PCV_IMAGE_MAX_SIDE,
                 PCV_IMAGE_MAX_PIXELS);
        return PCV_ELIMIT;
    }
    rgb = malloc(width * height * 3);
    if (!rgb) {
        pcv_fail(e, PCV_ENOMEM, "%s: no memory for %llu x %llu pixels", what,
                 (unsigned long long)width, (unsigned long long)height);
        return PCV_ENOMEM;
    }
    *ret = (struct pcv_image){(int)width, (int)height, rgb};
    return 0;
}

void pcv_image_free(struct pcv_image *im)
{
    free(im->rgb);
    *im = (struct pcv_image){0};
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* Whether media type `type`, up to its parameters, is `name`. */
static bool type_is(const char *type, const char *name)
{
    size_t n = strcspn(type, "; \t");

    return n == strlen(name) && strncasecmp(type, name, n) == 0;
}

static bool type_agrees(const char *type, bool jpeg)
{
    if (!type || !*type || type_is(type, "application/octet-stream") || type_is(type, "image/*"))
        return true;
    if (jpeg)
        return type_is(type, "image/jpeg") || type_is(type, "image/jpg");
    return type_is(type, "image/png");
}

/* A client's media type for a message: what is not plain ASCII is shown as '?'. */
static const char *type_text(const char *type, char buf[64])
{
    size_t n = 0;

    for (; type[n] && n < 63; n++)
        buf[n] = type[n];
    buf[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (buf[i] < 0x20 || buf[i] > 0x7e)
            buf[i] = '?';
    return buf;
}

int pcv_image_decode(struct pcv_image *ret, const void *data, size_t len, const char *type,
                     struct pcv_err *e)
{
    bool jpeg = pcv_media_is_jpeg(data, len), png = pcv_media_is_png(data, len);
    char said[64];

    if (!jpeg && !png)
        return type && *type
                   ? pcv_fail(e, PCV_EUNSUPPORTED, "media type %s, but neither JPEG nor PNG",
                              type_text(type, said))
                   : pcv_fail(e, PCV_EUNSUPPORTED, "neither JPEG nor PNG");
    if (!type_agrees(type, jpeg))
        return pcv_fail(e, PCV_EUNSUPPORTED, "media type %s, but the bytes are image/%s",
                        type_text(type, said), jpeg ? "jpeg" : "png");
    return jpeg ? pcv_media_jpeg(ret, data, len, e) : pcv_media_png(ret, data, len, e);
}

/* ---- from picture to model ----------------------------------------------------------------- */

void pcv_image_prep_default(struct pcv_image_prep *p)
{
    *p = (struct pcv_image_prep){
        .do_center_crop = true,
        .do_resize = true,
        .do_rescale = true,
        .do_normalize = true,
        .crop_height = 256,
        .crop_width = 256,
        .height = 224,
        .width = 224,
        .resample = 3,
        .rescale_factor = 1.0 / 255,
        .mean = {0.485f, 0.456f, 0.406f},
        .std = {0.229f, 0.224f, 0.225f},
    };
}

/* Sides of what the upstream's crop leaves. */
static int crop_sides(const struct pcv_image *in, const struct pcv_image_prep *p, int *height,
                      int *width, struct pcv_err *e)
{
    int side = in->width < in->height ? in->width : in->height;
    double h, w; /* quotient first, as upstream: another order rounds differently */

    if (p->crop_height < 1 || p->crop_width < 1 || p->height < 1 || p->width < 1) {
        pcv_fail(e, PCV_ERANGE, "size or crop_size below 1");
        return PCV_ERANGE;
    }
    h = (double)p->height / p->crop_height * side;
    w = (double)p->width / p->crop_width * side;
    if (h < 1 || w < 1 || h >= in->height + 1.0 || w >= in->width + 1.0) {
        pcv_fail(e, PCV_ERANGE, "centre crop of %.0f x %.0f pixels from %d x %d", w, h, in->width,
                 in->height);
        return PCV_ERANGE;
    }
    *height = (int)h;
    *width = (int)w;
    return 0;
}

/* Sides of the largest part that is shaped as the model's pictures are. */
static int shape_sides(const struct pcv_image *in, const struct pcv_image_prep *p, int *height,
                       int *width, struct pcv_err *e)
{
    const int64_t h = p->height, w = p->width;

    *height = in->height;
    *width = in->width;
    if (in->width * h > in->height * w)
        *width = (int)(in->height * w / h);
    else
        *height = (int)(in->width * h / w);
    if (*height >= 1 && *width >= 1)
        return 0;
    return pcv_fail(e, PCV_ERANGE, "%d x %d pixels have no part shaped as %d x %d", in->width,
                    in->height, p->width, p->height);
}

static int crop(struct pcv_image *ret, const struct pcv_image *in, const struct pcv_image_prep *p,
                struct pcv_err *e)
{
    int height, width;
    int r = (p->crop_to_shape ? shape_sides : crop_sides)(in, p, &height, &width, e);
    size_t top, left;

    if (r < 0)
        return r;
    if ((r = pcv_image_alloc(ret, (uint64_t)width, (uint64_t)height, "crop", e)) < 0)
        return r;
    top = (size_t)((in->height - height) / 2);
    left = (size_t)((in->width - width) / 2);
    for (size_t y = 0; y < (size_t)height; y++)
        memcpy(ret->rgb + y * (size_t)width * 3,
               in->rgb + ((top + y) * (size_t)in->width + left) * 3, (size_t)width * 3);
    return 0;
}

/* Rescale and normalise: each channel's 256 possible values are computed once. */
static int to_planes(float **ret, const struct pcv_image *im, const struct pcv_image_prep *p,
                     struct pcv_err *e)
{
    size_t n = (size_t)im->width * (size_t)im->height;
    float *chw = malloc(n * 3 * sizeof(*chw));
    float value[256];

    if (!chw)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d x %d pixels", im->width, im->height);
    for (size_t c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            value[v] = p->do_rescale ? (float)(v * p->rescale_factor) : (float)v;
            if (p->do_normalize)
                value[v] = (value[v] - p->mean[c]) / p->std[c];
        }
        for (size_t i = 0; i < n; i++)
            chw[c * n + i] = value[im->rgb[i * 3 + c]];
    }
    *ret = chw;
    return 0;
}

/* Pillow's convert("L"), in all three channels. */
static int grey(struct pcv_image *ret, const struct pcv_image *in, struct pcv_err *e)
{
    const size_t n = (size_t)in->width * (size_t)in->height;
    int r = pcv_image_alloc(ret, (uint64_t)in->width, (uint64_t)in->height, "grey", e);

    for (size_t i = 0; i < n && r == 0; i++) {
        const uint8_t *rgb = in->rgb + 3 * i;
        const uint32_t l = 19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u;

        memset(ret->rgb + 3 * i, (int)(l >> 16), 3);
    }
    return r;
}

int pcv_image_to_chw(const struct pcv_image *in, const struct pcv_image_prep *p, float **chw,
                     int *width, int *height, struct pcv_err *e)
{
    struct pcv_image single = {0}, cropped = {0}, resized = {0};
    const struct pcv_image *im = in;
    int r = 0;

    if (in->width < 1 || in->height < 1)
        return pcv_fail(e, PCV_ERANGE, "a picture of %d x %d pixels", in->width, in->height);
    if (p->single_channel) {
        if ((r = grey(&single, im, e)) < 0)
            goto out;
        im = &single;
    }
    if (p->do_center_crop) {
        if ((r = crop(&cropped, im, p, e)) < 0)
            goto out;
        im = &cropped;
    }
    if (p->do_resize) {
        if ((r = pcv_image_resize(&resized, im, p->width, p->height, p->resample, e)) < 0)
            goto out;
        im = &resized;
    }
    if ((r = to_planes(chw, im, p, e)) < 0)
        goto out;
    *width = im->width;
    *height = im->height;
out:
    pcv_image_free(&single);
    pcv_image_free(&cropped);
    pcv_image_free(&resized);
    return r;
}
