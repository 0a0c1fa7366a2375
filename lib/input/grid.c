/* grid.c - numbers on a grid as tokens: content first, position channels after it, padding last. */
#include "lib/attention/encode.h"
#include "lib/base/floats.h"
#include "lib/input/fourier.h"
#include "lib/input/input.h"
#include "lib/kernel/gemm.h"

#include <math.h>
#include <string.h>

/* Where [pos, sin, cos] of axis `axis` stand in the token. */
static void fourier_ranges(const struct pcv_grid_adapter *g, int axis, int first,
                           struct pcv_group *to)
{
    const int k = g->bands, d = g->axes;

    to->n = 1 + 2 * k;
    to->nranges = 3;
    if (g->order == PCV_FOURIER_BY_KIND) {
        to->range[0].from = first + axis;
        to->range[1].from = first + d + axis * k;
        to->range[2].from = first + d + d * k + axis * k;
    } else {
        to->range[0].from = first + axis * (2 * k + 1) + 2 * k;
        to->range[1].from = first + axis * (2 * k + 1);
        to->range[2].from = first + axis * (2 * k + 1) + k;
    }
    to->range[0].n = 1;
    to->range[1].n = to->range[2].n = k;
}

/* Which tokens stay: their numbers in order, or NULL when all do. */
static int kept_tokens(struct pcv_input *in, const uint8_t *keep, int64_t tokens, int32_t **kept,
                       int64_t *n, struct pcv_err *e)
{
    *kept = NULL;
    *n = keep ? 0 : tokens;
    for (int64_t i = 0; keep && i < tokens; i++)
        *n += keep[i] != 0;
    if (*n == 0)
        return pcv_fail(e, PCV_ERANGE, "the mask keeps no token");
    if (*n == tokens)
        return 0;
    *kept = pcv_input_take(in, (size_t)*n, sizeof(**kept));
    if (!*kept)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a mask of %lld", (long long)tokens);
    for (int64_t i = 0, at = 0; i < tokens; i++)
        if (keep[i])
            (*kept)[at++] = (int32_t)i;
    return 0;
}

/* Coordinates of kept tokens on one axis; of a table with a row for each token, the rows
 * themselves, so that it stays one. */
static int select_rows(struct pcv_input *in, struct pcv_group *g, const int32_t *kept, int64_t n,
                       bool single, struct pcv_err *e)
{
    float *rows;
    int32_t *ids;

    if (!single) {
        ids = pcv_input_take(in, (size_t)n, sizeof(*ids));
        if (!ids)
            return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)n);
        for (int64_t i = 0; i < n; i++)
            ids[i] = (int32_t)(kept[i] / g->div % g->rows);
        g->ids = ids;
        return 0;
    }
    rows = pcv_input_take(in, (size_t)n * g->n, sizeof(float));
    if (!rows)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++)
        memcpy(rows + i * g->n, g->table + (size_t)kept[i] * g->n, (size_t)g->n * sizeof(float));
    g->table = rows;
    g->rows = (int)n;
    g->sums = (struct pcv_row_sums){NULL, NULL};
    g->constant = -1;
    return 0;
}

static int add_fourier(struct pcv_input *in, const struct pcv_grid_adapter *a,
                       struct pcv_segment *s, const int *size, int64_t tokens, const int32_t *kept,
                       struct pcv_err *e)
{
    int64_t div = tokens;
    int r = 0;

    for (int axis = 0; axis < a->axes && r == 0; axis++) {
        struct pcv_group *g = &s->group[s->ngroups++];
        const float *table = size[axis] == a->size[axis] || a->shorter ? a->axis_table[axis] : NULL;

        if (!table) {
            float *own = pcv_input_take(in, (size_t)size[axis] * (1 + 2 * a->bands), sizeof(float));

            if (!own)
                return pcv_fail(e, PCV_ENOMEM, "no memory for %d positions", size[axis]);
            pcv_fourier_axis(own, size[axis], a->bands, a->max_resolution[axis]);
            table = own;
        }
        div /= size[axis];
        *g = (struct pcv_group){.kind = PCV_GROUP_TABLE,
                                .table = table,
                                .rows = size[axis],
                                .div = div,
                                .constant = -1};
        if (table == a->axis_table[axis])
            g->sums = a->axis_sums[axis];
        fourier_ranges(a, axis, a->content, g);
        if (kept)
            r = select_rows(in, g, kept, s->tokens, a->axes == 1, e);
    }
    return r;
}

static void add_range(struct pcv_segment *s, struct pcv_group g, int from, int n)
{
    g.n = n;
    g.nranges = 1;
    g.range[0].from = from;
    g.range[0].n = n;
    s->group[s->ngroups++] = g;
}

/* Which rows of the full grid's table the tokens of a smaller one read; NULL: the first ones. */
static int smaller_grid(struct pcv_input *in, const struct pcv_grid_adapter *a, const int *size,
                        int64_t tokens, int32_t **rows, struct pcv_err *e)
{
    bool smaller = false;

    *rows = NULL;
    for (int i = 1; i < a->axes; i++)
        smaller |= size[i] != a->size[i];
    if (!a->shorter || !smaller)
        return 0;
    *rows = pcv_input_take(in, (size_t)tokens, sizeof(**rows));
    if (!*rows)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)tokens);
    for (int64_t m = 0; m < tokens; m++) {
        int64_t rest = m, row = 0, step = 1;

        for (int i = a->axes; i-- > 0; rest /= size[i], step *= a->size[i])
            row += rest % size[i] * step;
        (*rows)[m] = (int32_t)row;
    }
    return 0;
}

static int add_learned(struct pcv_input *in, const struct pcv_grid_adapter *a,
                       struct pcv_segment *s, const int *size, int64_t tokens, const int32_t *kept,
                       struct pcv_err *e)
{
    int32_t *rows;
    int r = smaller_grid(in, a, size, tokens, &rows, e);

    if (r < 0)
        return r;
    add_range(s,
              (struct pcv_group){.kind = PCV_GROUP_TABLE,
                                 .table = a->positions,
                                 .rows = (int)tokens,
                                 .sums = a->position_sums,
                                 .div = 1,
                                 .constant = 0},
              a->content, a->position_channels);
    if (rows && kept) /* of the smaller grid's tokens */
        for (int64_t i = 0; i < s->tokens; i++)
            rows[i] = rows[kept[i]];
    if (rows || kept)
        r = select_rows(in, &s->group[s->ngroups - 1], rows ? rows : kept, s->tokens, true, e);
    return r;
}

/* Content of kept tokens, packed in place. */
static void pack_content(float *x, enum pcv_content_order order, int raw, int64_t tokens,
                         const int32_t *kept, int64_t n)
{
    for (int64_t i = 0; order == PCV_BY_TOKEN && i < n; i++)
        memmove(x + i * raw, x + (int64_t)kept[i] * raw, (size_t)raw * sizeof(*x));
    for (int c = 0; order == PCV_BY_PLANE && c < raw; c++)
        for (int64_t i = 0; i < n; i++)
            x[c * n + i] = x[c * tokens + kept[i]];
}

static int check_size(const struct pcv_grid_adapter *g, const int *size, int64_t *tokens,
                      struct pcv_err *e)
{
    *tokens = 1;
    for (int i = 0; i < g->axes; i++) {
        const bool shorter = g->shorter && size[i] < g->size[i];

        if (g->fixed && size[i] != g->size[i] && !shorter)
            return pcv_fail(e, PCV_ESHAPE, "%d positions along axis %d, the model has %s%d",
                            size[i], i, g->shorter ? "up to " : "", g->size[i]);
        if (size[i] < 1 || (g->axes > 1 && size[i] > PCV_MAX_AXIS) ||
            (*tokens *= size[i]) > PCV_MAX_PIXELS)
            return pcv_fail(e, PCV_ELIMIT,
                            "%d positions along axis %d; at most %d, and %d altogether, are served",
                            size[i], i, g->axes > 1 ? PCV_MAX_AXIS : PCV_MAX_PIXELS,
                            PCV_MAX_PIXELS);
    }
    return 0;
}

int pcv_grid_append(struct pcv_input *in, const struct pcv_adapter *a, float *content,
                    enum pcv_content_order order, const int *size, const uint8_t *keep,
                    struct pcv_err *e)
{
    const struct pcv_grid_adapter *g = &a->grid;
    struct pcv_segment *s;
    int64_t tokens, n = 0;
    int32_t *kept = NULL;
    int r = check_size(g, size, &tokens, e);

    if (r == 0)
        r = kept_tokens(in, keep, tokens, &kept, &n, e);
    if (r < 0)
        return r;
    if (kept)
        pack_content(content, order, g->raw, tokens, kept, n);
    s = pcv_input_segment(&in->tokens, a->channels, n);
    in->nsides = kept || in->tokens.nsegments > 1 ? 0 : g->axes;
    memcpy(in->sides, size, (size_t)in->nsides * sizeof(*size));
    add_range(s,
              (struct pcv_group){.kind = PCV_GROUP_DENSE,
                                 .content = order == PCV_BY_TOKEN
                                                ? (struct pcv_values){content, (size_t)g->raw, 1}
                                                : (struct pcv_values){content, 1, (size_t)n},
                                 .raw = g->raw,
                                 .lift = g->lift,
                                 .lift_bias = g->lift_bias,
                                 .constant = -1},
              0, g->content);
    if (g->position == PCV_POSITION_FOURIER)
        r = add_fourier(in, g, s, size, tokens, kept, e);
    else if (g->position == PCV_POSITION_LEARNED)
        r = add_learned(in, g, s, size, tokens, kept, e);
    if (g->npad > 0)
        add_range(s, (struct pcv_group){.kind = PCV_GROUP_CONST, .value = g->pad, .constant = -1},
                  a->channels - g->npad, g->npad);
    return r;
}

/* ---- from tensors -------------------------------------------------------------------------------
 */

/* How content stands: the encoder reads much of it token after token, and little of it plane after
 * plane. */
static enum pcv_content_order order_of(const struct pcv_grid_adapter *g)
{
    return g->raw > PCV_ENCODE_NARROW && !g->coordinates && !g->stem.weight ? PCV_BY_TOKEN
                                                                            : PCV_BY_PLANE;
}

/* [before, tokens] to content: a linear map that is cheaper once per token than once per query. */
static int project(struct pcv_input *in, const struct pcv_grid_adapter *g, const float *before,
                   int64_t tokens, float **content, struct pcv_err *e)
{
    const int n = (int)tokens;
    float *out = pcv_input_take(in, (size_t)g->raw * (size_t)tokens, sizeof(float));

    if (!out)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)tokens);
    *content = out;
    if (order_of(g) == PCV_BY_TOKEN) {
        for (int64_t i = 0; i < tokens; i++)
            memcpy(out + i * g->raw, g->project_bias, (size_t)g->raw * sizeof(*out));
        pcv_gemm_tt(n, g->raw, g->before, before, n, g->project, g->before, out, g->raw, 1);
        return 0;
    }
    for (int c = 0; c < g->raw; c++)
        for (int64_t i = 0; i < tokens; i++)
            out[c * tokens + i] = g->project_bias[c];
    pcv_gemm_nn(g->raw, n, g->before, g->project, g->before, before, n, out, n, 1);
    return 0;
}

/* Fourier features of coordinates: plane c becomes sines, cosines and itself. */
static int encode_coordinates(struct pcv_input *in, const struct pcv_grid_adapter *g,
                              float **planes, int64_t tokens, struct pcv_err *e)
{
    const int each = 2 * g->bands + 1;
    float *out = pcv_input_take(in, (size_t)g->raw * (size_t)tokens, sizeof(float));

    if (!out)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld points", (long long)tokens);
    for (int c = 0; c < g->before; c++) {
        const float *x = *planes + c * tokens;
        float *to = out + (int64_t)c * each * tokens;

        for (int k = 0; k < g->bands; k++) {
            const float f = pcv_linspace(1.0f, g->max_resolution[0] / 2.0f, g->bands, k);

            for (int64_t i = 0; i < tokens; i++) {
                to[k * tokens + i] = sinf(x[i] * f * (float)M_PI);
                to[(g->bands + k) * tokens + i] = cosf(x[i] * f * (float)M_PI);
            }
        }
        memcpy(to + 2 * (int64_t)g->bands * tokens, x, (size_t)tokens * sizeof(float));
    }
    *planes = out;
    return 0;
}

/* Offsets that walk an adapter's tensor: how far apart neighbours of an axis and channels are. */
struct walk {
    int64_t axis[PCV_MAX_AXES], channel;
    int channels;
};

static struct walk walk_of(const struct pcv_adapter *a, const int *size, bool last)
{
    const struct pcv_grid_adapter *g = &a->grid;
    struct walk w = {.channels = g->before, .channel = 1};
    int64_t step = last ? g->before : 1;

    if (a->kind == PCV_INPUT_VIDEO) { /* [frames, 3, height, width] */
        w.channels = 3;
        w.axis[2] = 1;
        w.axis[1] = size[2];
        w.channel = (int64_t)size[1] * size[2];
        w.axis[0] = 3 * w.channel;
        return w;
    }
    for (int i = g->axes; i-- > 0; step *= size[i])
        w.axis[i] = step;
    if (!last) /* [channels, axes..] */
        w.channel = step;
    return w;
}

/* Where element `index` of the first n axes stands, counted in `count` along each, steps of `unit`.
 */
static int64_t offset_of(const struct walk *w, int n, const int *count, const int *unit,
                         int64_t index)
{
    int64_t at = 0;

    for (int i = n; i-- > 0; index /= count[i])
        at += index % count[i] * (unit ? unit[i] : 1) * w->axis[i];
    return at;
}

/* Space to depth: channel (offsets within a patch.., channel), token (patch along each axis..), a
 * row of tokens at a time. `to` [tokens, channels] in either order. */
static void rearrange(const struct pcv_grid_adapter *g, const struct walk *w, const float *from,
                      const int *tokens, enum pcv_content_order order, float *to)
{
    const int last = g->axes - 1, n = tokens[last];
    const int64_t step = g->patch[last] * w->axis[last];
    int64_t patch = 1, rows = 1, next, plane;

    for (int i = 0; i < g->axes; i++) {
        patch *= g->patch[i];
        rows *= i < last ? tokens[i] : 1;
    }
    next = order == PCV_BY_TOKEN ? patch * w->channels : 1;
    plane = order == PCV_BY_TOKEN ? 1 : rows * n;
    for (int64_t row = 0; row < rows; row++, to += n * next) {
        const float *first = from + offset_of(w, last, tokens, g->patch, row);
        float *out = to;

        for (int64_t d = 0; d < patch; d++) {
            const float *x = first + offset_of(w, g->axes, g->patch, NULL, d);

            for (int c = 0; c < w->channels; c++, x += w->channel, out += plane)
                for (int k = 0; k < n; k++)
                    out[k * next] = x[k * step];
        }
    }
}

/* Whether the tensor's elements stand in this order. */
static bool stands_so(const struct pcv_adapter *a, const struct walk *w, bool last,
                      enum pcv_content_order order)
{
    bool whole =
        a->kind != PCV_INPUT_VIDEO && (w->channels == 1 || last == (order == PCV_BY_TOKEN));

    for (int i = 0; i < a->grid.axes; i++)
        whole &= a->grid.patch[i] == 1;
    return whole;
}

/* The tensor's elements as content, projected where the model wants that. */
static int content_of(struct pcv_input *in, const struct pcv_adapter *a, const struct walk *w,
                      const float *numbers, size_t elements, bool last, const int *tokens,
                      int64_t n, float **content, struct pcv_err *e)
{
    const struct pcv_grid_adapter *g = &a->grid;
    const enum pcv_content_order order = g->project ? PCV_BY_PLANE : order_of(g);
    float *own;
    int r;

    if (g->project && stands_so(a, w, last, order))
        return project(in, g, numbers, n, content, e);
    own = pcv_input_take(in, elements, sizeof(float));
    if (!own)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu numbers", elements);
    if (stands_so(a, w, last, order))
        memcpy(own, numbers, elements * sizeof(float));
    else
        rearrange(g, w, numbers, tokens, order, own);
    *content = own;
    if (!g->project)
        return 0;
    r = project(in, g, own, n, content, e);
    pcv_input_drop(in, own);
    return r;
}

static int from_walk(struct pcv_input *in, const struct pcv_adapter *a, const float *numbers,
                     const int *size, bool last, const uint8_t *keep, struct pcv_err *e)
{
    const struct pcv_grid_adapter *g = &a->grid;
    const struct walk w = walk_of(a, size, last);
    int tokens[PCV_MAX_AXES] = {0}, r = 0;
    int64_t n = 1, elements = w.channels, bad;
    float *content;

    if (g->axes < 1) /* no layout makes one; told to the reader and to clang-tidy */
        return pcv_fail(e, PCV_ESHAPE, "a grid without axes");
    for (int i = 0; i < g->axes; i++) {
        if (size[i] % g->patch[i])
            return pcv_fail(e, PCV_ESHAPE, "%d along axis %d is no multiple of %d", size[i], i,
                            g->patch[i]);
        tokens[i] = size[i] / g->patch[i];
        n *= tokens[i];
        elements *= size[i];
    }
    bad = pcv_first_not_finite(numbers, elements);
    if (bad < elements)
        return pcv_fail(e, PCV_ERANGE, "element %lld is not finite", (long long)bad);
    if (g->stem.weight)
        r = pcv_conv_stem_run(in, &g->stem, numbers, size[0], size[1], &content, &tokens[0],
                              &tokens[1], e);
    else
        r = content_of(in, a, &w, numbers, (size_t)elements, last, tokens, n, &content, e);
    if (r == 0 && g->coordinates)
        r = encode_coordinates(in, g, &content, n, e);
    return r < 0 ? r : pcv_grid_append(in, a, content, order_of(g), tokens, keep, e);
}

bool pcv_grid_channels_last(const struct pcv_adapter *a)
{
    return a->kind == PCV_INPUT_ARRAY || a->kind == PCV_INPUT_AUDIO || a->grid.channels_last;
}

int pcv_grid_from_numbers(struct pcv_input *in, const struct pcv_adapter *a, const float *numbers,
                          const int *size, const uint8_t *keep, struct pcv_err *e)
{
    return from_walk(in, a, numbers, size, pcv_grid_channels_last(a), keep, e);
}

int pcv_grid_from_planes(struct pcv_input *in, const struct pcv_adapter *a, const float *planes,
                         const int *size, struct pcv_err *e)
{
    return from_walk(in, a, planes, size, false, NULL, e);
}

int pcv_label_append(struct pcv_input *in, const struct pcv_adapter *a, struct pcv_err *e)
{
    struct pcv_segment *s = pcv_input_segment(&in->tokens, a->channels, 1);

    (void)e;
    in->nsides = 0;
    add_range(s, (struct pcv_group){.kind = PCV_GROUP_CONST, .value = a->token, .constant = -1}, 0,
              a->channels);
    return 0;
}
