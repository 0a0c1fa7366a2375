/* image_tokens.c - pixels as tokens: content first, position channels after it. */
#include "lib/input/fourier.h"
#include "lib/input/input.h"

#include <math.h>
#include <string.h>

static int copy_planes(struct pcv_input *in, const struct pcv_adapter *a, const float *chw,
                       int64_t pixels, struct pcv_err *e)
{
    const struct pcv_image_adapter *im = &a->image;
    struct pcv_segment *s = &in->tokens.segment[0];
    const int64_t n = im->raw * pixels;
    float *planes = pcv_input_take(in, (size_t)n, sizeof(float));

    if (!planes)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld pixels", (long long)pixels);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(chw[i]))
            return pcv_fail(e, PCV_ERANGE, "element %lld is not finite", (long long)i);
        planes[i] = chw[i];
    }
    s->group[s->ngroups++] = (struct pcv_group){
        .kind = PCV_GROUP_DENSE,
        .n = im->content,
        .nranges = 1,
        .range = {{0, im->content}},
        .planes = planes,
        .raw = im->raw,
        .lift = im->lift,
        .lift_bias = im->lift_bias,
        .constant = -1,
    };
    return 0;
}

/* One group per axis: [pos, sin, cos] scatter to three places of the token. */
static int add_fourier(struct pcv_input *in, const struct pcv_image_adapter *im, const int *size,
                       struct pcv_err *e)
{
    struct pcv_segment *s = &in->tokens.segment[0];
    const int axes = 2, k = im->bands, first = im->content;
    int64_t div = s->tokens;

    for (int a = 0; a < axes; a++) {
        float *table = pcv_input_take(in, (size_t)size[a] * (1 + 2 * k), sizeof(float));

        if (!table)
            return pcv_fail(e, PCV_ENOMEM, "no memory for %d positions", size[a]);
        pcv_fourier_axis(table, size[a], k, im->max_resolution[a]);
        div /= size[a];
        s->group[s->ngroups++] = (struct pcv_group){
            .kind = PCV_GROUP_TABLE,
            .n = 1 + 2 * k,
            .nranges = 3,
            .range = {{first + a, 1},
                      {first + axes + a * k, k},
                      {first + axes + axes * k + a * k, k}},
            .table = table,
            .rows = size[a],
            .div = div,
            .constant = -1,
        };
    }
    return 0;
}

static void add_learned(struct pcv_input *in, const struct pcv_image_adapter *im)
{
    struct pcv_segment *s = &in->tokens.segment[0];

    s->group[s->ngroups++] = (struct pcv_group){
        .kind = PCV_GROUP_TABLE,
        .n = im->position_channels,
        .nranges = 1,
        .range = {{im->content, im->position_channels}},
        .table = im->positions,
        .rows = im->height * im->width,
        .div = 1,
        .constant = 0,
    };
}

int pcv_image_tokens(struct pcv_input *in, const struct pcv_adapter *a, const float *chw,
                     int height, int width, struct pcv_err *e)
{
    const struct pcv_image_adapter *im = &a->image;
    const int size[2] = {height, width};
    int r;

    if (im->position == PCV_POSITION_LEARNED && (height != im->height || width != im->width))
        return pcv_fail(e, PCV_ESHAPE,
                        "%d x %d pixels, the model has learned positions for %d x %d", height,
                        width, im->height, im->width);
    if (height < 1 || width < 1 || height > PCV_MAX_AXIS || width > PCV_MAX_AXIS ||
        (int64_t)height * width > PCV_MAX_PIXELS)
        return pcv_fail(e, PCV_ELIMIT,
                        "%d x %d pixels; sides of 1 to %d and %d pixels are the limit", height,
                        width, PCV_MAX_AXIS, PCV_MAX_PIXELS);
    in->adapter = a;
    in->tokens.channels = a->channels;
    in->tokens.nsegments = 1;
    in->tokens.segment[0] = (struct pcv_segment){.tokens = (int64_t)height * width};
    r = copy_planes(in, a, chw, (int64_t)height * width, e);
    if (r == 0 && im->position == PCV_POSITION_FOURIER)
        r = add_fourier(in, im, size, e);
    else if (r == 0)
        add_learned(in, im);
    return r < 0 ? r : pcv_input_finish(in, e);
}
