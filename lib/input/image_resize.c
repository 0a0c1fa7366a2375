/* image_resize.c - resampling that equals Pillow's bit for bit.
 *
 * Each output sample is a weighted sum of input samples under a filter that widens when the picture
 * shrinks (antialiasing). Two passes, horizontal first; a pass that changes nothing is left out.
 * Weights are fixed-point integers and samples are rounded to 8 bits after each pass: that, and the
 * order of the double operations that make the weights, is what makes results equal.
 *
 * The order of the passes is Pillow's up to version 12. Pillow 13 runs the vertical pass first
 * where the height shrinks more than the width; a square made from a square is the same in both. */
#include "lib/input/media.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 8 bits of sample and 2 of headroom: sums of weights may exceed 1 where the filter is negative. */
enum { WEIGHT_BITS = 32 - 8 - 2 };

enum { NEAREST = 0, BILINEAR = 2, BICUBIC = 3 };

/* ---- filters ------------------------------------------------------------------------------- */

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -0.5. */
static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* ---- weights of one axis ------------------------------------------------------------------- */

/* Output sample i is the sum over k < count[i] of weight[i * width + k] times input first[i] + k.
 */
struct axis {
    int out, width;
    int *first, *count;
    int32_t *weight;
};

static void axis_free(struct axis *a)
{
    free(a->first);
    free(a->count);
    free(a->weight);
}

static int32_t to_fixed(double w)
{
    w *= 1 << WEIGHT_BITS;
    return (int32_t)(w < 0 ? w - 0.5 : w + 0.5); /* half away from zero */
}

/* own: axis_free, also after failure */
static int axis_make(struct axis *a, int in, int out, int resample, struct pcv_err *e)
{
    double (*filter)(double) = resample == BICUBIC ? cubic : triangle;
    double scale = (double)in / out;
    double widen = scale < 1.0 ? 1.0 : scale;
    double support = (resample == BICUBIC ? 2.0 : 1.0) * widen;
    double *w;

    a->out = out;
    a->width = (int)ceil(support) * 2 + 1;
    w = malloc((size_t)a->width * sizeof(*w));
    a->first = malloc((size_t)out * sizeof(*a->first));
    a->count = malloc((size_t)out * sizeof(*a->count));
    a->weight = malloc((size_t)out * (size_t)a->width * sizeof(*a->weight));
    if (!w || !a->first || !a->count || !a->weight) {
        free(w);
        pcv_fail(e, PCV_ENOMEM, "no memory to resize %d to %d", in, out);
        return PCV_ENOMEM;
    }
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale;
        double from = centre - support + 0.5, to = centre + support + 0.5;
        int first = from < 0 ? 0 : (int)from;
        int count = (to > in ? in : (int)to) - first;
        double sum = 0.0;

        for (int k = 0; k < count; k++) {
            w[k] = filter((k + first - centre + 0.5) * (1.0 / widen));
            sum += w[k];
        }
        for (int k = 0; k < count; k++)
            a->weight[(size_t)i * (size_t)a->width + (size_t)k] =
                to_fixed(sum != 0.0 ? w[k] / sum : w[k]);
        a->first[i] = first;
        a->count[i] = count;
    }
    free(w);
    return 0;
}

/* ---- the passes ---------------------------------------------------------------------------- */

static uint8_t to_sample(int32_t sum)
{
    sum >>= WEIGHT_BITS; /* arithmetic: rounds down, the half was added before */
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

static void pass_horizontal(struct pcv_image *out, const struct pcv_image *in, const struct axis *a)
{
    for (int y = 0; y < in->height; y++) {
        const uint8_t *row = in->rgb + (size_t)y * (size_t)in->width * 3;
        uint8_t *to = out->rgb + (size_t)y * (size_t)a->out * 3;

        for (int x = 0; x < a->out; x++, to += 3) {
            const int32_t *w = a->weight + (size_t)x * (size_t)a->width;
            const uint8_t *p = row + (size_t)a->first[x] * 3;
            int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;

            for (int k = 0; k < a->count[x]; k++, p += 3) {
                r += p[0] * w[k];
                g += p[1] * w[k];
                b += p[2] * w[k];
            }
            to[0] = to_sample(r);
            to[1] = to_sample(g);
            to[2] = to_sample(b);
        }
    }
}

/* Row by row of the input, so that memory is read in order: sums [width * 3] is scratch. */
static void pass_vertical(struct pcv_image *out, const struct pcv_image *in, const struct axis *a,
                          int32_t *sums)
{
    size_t n = (size_t)in->width * 3;

    for (int y = 0; y < a->out; y++) {
        const int32_t *w = a->weight + (size_t)y * (size_t)a->width;
        const uint8_t *p = in->rgb + (size_t)a->first[y] * n;
        uint8_t *to = out->rgb + (size_t)y * n;

        for (size_t i = 0; i < n; i++)
            sums[i] = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < a->count[y]; k++, p += n)
            for (size_t i = 0; i < n; i++)
                sums[i] += p[i] * w[k];
        for (size_t i = 0; i < n; i++)
            to[i] = to_sample(sums[i]);
    }
}

static int widen_pass(struct pcv_image *out, const struct pcv_image *in, int width, int resample,
                      struct pcv_err *e)
{
    struct axis a = {0};
    int r;

    if ((r = pcv_image_alloc(out, (uint64_t)width, (uint64_t)in->height, "resizing", e)) == 0 &&
        (r = axis_make(&a, in->width, width, resample, e)) == 0)
        pass_horizontal(out, in, &a);
    axis_free(&a);
    return r;
}

static int heighten_pass(struct pcv_image *out, const struct pcv_image *in, int height,
                         int resample, struct pcv_err *e)
{
    struct axis a = {0};
    int32_t *sums = NULL;
    int r;

    if ((r = pcv_image_alloc(out, (uint64_t)in->width, (uint64_t)height, "resizing", e)) < 0 ||
        (r = axis_make(&a, in->height, height, resample, e)) < 0)
        goto out;
    sums = malloc((size_t)in->width * 3 * sizeof(*sums));
    if (sums)
        pass_vertical(out, in, &a, sums);
    else
        r = pcv_fail(e, PCV_ENOMEM, "no memory to resize %d to %d", in->height, height);
out:
    free(sums);
    axis_free(&a);
    return r;
}

/* ---- nearest ------------------------------------------------------------------------------- */

/* Input index of every output sample. Positions are summed up step by step, as Pillow does: a
 * product would round differently on some of them. own: free() */
static int *nearest_index(int in, int out)
{
    int *index = malloc((size_t)out * sizeof(*index));
    double step = (double)in / out, at = step * 0.5;

    for (int i = 0; index && i < out; i++) {
        index[i] = at < in ? (int)at : in - 1;
        at += step;
    }
    return index;
}

static int resize_nearest(struct pcv_image *out, const struct pcv_image *in, int width, int height,
                          struct pcv_err *e)
{
    int *col = nearest_index(in->width, width), *row = nearest_index(in->height, height);
    uint8_t *to;
    int r;

    if (!col || !row) {
        r = pcv_fail(e, PCV_ENOMEM, "no memory to resize");
        goto out;
    }
    if ((r = pcv_image_alloc(out, (uint64_t)width, (uint64_t)height, "resizing", e)) < 0)
        goto out;
    to = out->rgb;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, to += 3)
            memcpy(to, in->rgb + ((size_t)row[y] * (size_t)in->width + (size_t)col[x]) * 3, 3);
out:
    free(col);
    free(row);
    return r;
}

/* ---- public -------------------------------------------------------------------------------- */

int pcv_image_resize(struct pcv_image *ret, const struct pcv_image *in, int width, int height,
                     int resample, struct pcv_err *e)
{
    struct pcv_image wide = {0}, out = {0};
    const struct pcv_image *from = in;
    int r = 0;

    if (resample != NEAREST && resample != BILINEAR && resample != BICUBIC)
        return pcv_fail(e, PCV_ERANGE, "resample %d is none of 0, 2, 3", resample);
    if (width < 1 || height < 1 || width > PCV_IMAGE_MAX_SIDE || height > PCV_IMAGE_MAX_SIDE)
        return pcv_fail(e, PCV_ERANGE, "size %d x %d, sides are 1 to %d", width, height,
                        PCV_IMAGE_MAX_SIDE);
    if (in->width < 1 || in->height < 1)
        return pcv_fail(e, PCV_ERANGE, "a picture of %d x %d pixels", in->width, in->height);
    if (width == in->width && height == in->height) {
        r = pcv_image_alloc(&out, (uint64_t)width, (uint64_t)height, "resizing", e);
        if (r == 0)
            memcpy(out.rgb, in->rgb, (size_t)width * (size_t)height * 3);
    } else if (resample == NEAREST) {
        r = resize_nearest(&out, in, width, height, e);
    } else if (height == in->height) {
        r = widen_pass(&out, in, width, resample, e);
    } else {
        if (width != in->width) {
            r = widen_pass(&wide, in, width, resample, e);
            from = &wide;
        }
        if (r == 0)
            r = heighten_pass(&out, from, height, resample, e);
    }
    pcv_image_free(&wide);
    if (r < 0)
        pcv_image_free(&out);
    else
        *ret = out;
    return r;
}
