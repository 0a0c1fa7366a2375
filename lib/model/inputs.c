/* inputs.c - inputs from tensors: which goes to which adapter, by name. */
#include "lib/model/inputs_internal.h"

#include "lib/base/floats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pcv_input *pcv_inputs_new(struct pcv_err *e)
{
    struct pcv_input *in = pcv_input_new();

    if (!in)
        pcv_fail(e, PCV_ENOMEM, "no memory for an input");
    return in;
}

int pcv_inputs_finish(struct pcv_input **ret, struct pcv_input *in, const struct pcv_kernels *k,
                      float eps, int r, struct pcv_err *e)
{
    if (r == 0)
        r = pcv_input_finish(in, &in->tokens, k, eps, e);
    if (r == 0)
        r = pcv_input_finish(in, &in->queries, k, eps, e);
    if (r < 0)
        pcv_input_free(in);
    else
        *ret = in;
    return r;
}

const char *pcv_inputs_names(const struct pcv_model *m, char buf[160])
{
    size_t n = 0;

    buf[0] = '\0';
    for (int i = 0; i < m->bp.ninputs && n < 160; i++)
        n += (size_t)snprintf(buf + n, 160 - n, "%s%s", i ? ", " : "", m->bp.input[i].name);
    return buf;
}

static const struct pcv_tensor *find(const struct pcv_tensor *t, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (t[i].name && strcmp(t[i].name, name) == 0)
            return &t[i];
    return NULL;
}

static const struct pcv_tensor_spec *spec_of(const struct pcv_model *m, const char *name)
{
    for (int i = 0; i < m->info.ntensors; i++)
        if (name && strcmp(m->tensors[i].name, name) == 0)
            return &m->tensors[i];
    return NULL;
}

static bool is_float(enum pcv_dtype t)
{
    return t == PCV_F16 || t == PCV_BF16 || t == PCV_F32 || t == PCV_F64;
}

/* Names, ranks, sizes and kinds of number against the model's specification. */
static int check_tensor(const struct pcv_tensor *t, const struct pcv_tensor_spec *s,
                        struct pcv_err *e)
{
    char have[96], want[96];

    if (t->ndim != s->ndim)
        goto shape;
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] < 1 || (s->shape[i] >= 0 && t->shape[i] != s->shape[i]))
            goto shape;
    if (s->dtype == PCV_F32 && !is_float(t->dtype)) {
        pcv_fail(e, PCV_ESHAPE, "datatype %s where floats are wanted", pcv_dtype_name(t->dtype));
        return pcv_err_at(e, "%s", s->name);
    }
    return 0;
shape:
    pcv_fail(e, PCV_ESHAPE, "shape %s, the model wants %s",
             pcv_shape_text(t->shape, t->ndim, have, sizeof(have)),
             pcv_shape_text(s->shape, s->ndim, want, sizeof(want)));
    return pcv_err_at(e, "%s", s->name);
}

static int check_batch(const struct pcv_tensor *t, const struct pcv_tensor_spec *s, int64_t *batch,
                       struct pcv_err *e)
{
    if (s->shared)
        return 0;
    if (*batch >= 0 && t->shape[0] != *batch) {
        pcv_fail(e, PCV_ESHAPE, "batch of %lld, others have %lld", (long long)t->shape[0],
                 (long long)*batch);
        return pcv_err_at(e, "%s", s->name);
    }
    *batch = t->shape[0];
    return 0;
}

/* Names of the tensors of inputs, joined by ", ". */
static const char *tensor_names(const struct pcv_model *m, char buf[160])
{
    size_t at = 0;

    buf[0] = '\0';
    for (int i = 0; i < m->bp.ninputs && at < 160; i++)
        at +=
            (size_t)snprintf(buf + at, 160 - at, "%s%s", i ? ", " : "", m->bp.input[i].tensor.name);
    return buf;
}

/* Which one input the tensors are of: its index, or an error naming what may be given. */
static int batch_input(const struct pcv_model *m, const struct pcv_tensor *t, int n,
                       struct pcv_err *e)
{
    char known[160];
    int which = -1;

    for (int i = 0; i < m->bp.ninputs; i++) {
        const struct pcv_adapter *a = &m->bp.input[i];

        if (!find(t, n, a->tensor.name)) {
            if (!a->mask.name || !find(t, n, a->mask.name))
                continue;
            pcv_fail(e, PCV_EMISSING, "input is missing, its mask is given");
            return pcv_err_at(e, "%s", a->tensor.name);
        }
        if (which >= 0)
            return pcv_fail(e, PCV_EFORMAT, "%s and %s are given; an input is one of %s",
                            m->bp.input[which].tensor.name, a->tensor.name, tensor_names(m, known));
        which = i;
    }
    return which >= 0 ? which
                      : pcv_fail(e, PCV_EMISSING, "no input is given; one of %s is wanted",
                                 tensor_names(m, known));
}

int64_t pcv_tensors_batch(const struct pcv_model *m, const struct pcv_tensor *t, int n,
                          struct pcv_err *e)
{
    int64_t batch = -1;

    for (int i = 0; i < n; i++) {
        const struct pcv_tensor_spec *s = spec_of(m, t[i].name);
        int r;

        if (!s) {
            char known[160];

            pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes %s",
                     tensor_names(m, known));
            return pcv_err_at(e, "%.60s", t[i].name ? t[i].name : "(unnamed)");
        }
        if (find(t, i, t[i].name)) {
            pcv_fail(e, PCV_EFORMAT, "is given twice");
            return pcv_err_at(e, "%s", s->name);
        }
        r = check_tensor(&t[i], s, e);
        if (r == 0)
            r = check_batch(&t[i], s, &batch, e);
        if (r < 0)
            return r;
    }
    if (m->bp.separate && batch_input(m, t, n, e) < 0)
        return e ? e->code : PCV_EMISSING;
    for (int i = 0; i < m->info.ntensors; i++)
        if (!m->tensors[i].optional && !find(t, n, m->tensors[i].name)) {
            pcv_fail(e, PCV_EMISSING, "input is missing");
            return pcv_err_at(e, "%s", m->tensors[i].name);
        }
    return batch;
}

/* A mask: 1 = keep, 0 = leave out, in any datatype. own: free() */
static int read_mask(const struct pcv_tensor *t, int64_t from, int64_t n, uint8_t **keep,
                     struct pcv_err *e)
{
    float *v = malloc((size_t)n * sizeof(*v));
    uint8_t *k = malloc((size_t)n);
    int r = v && k ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a mask of %lld", (long long)n);

    if (r == 0)
        pcv_tensor_to_f32(t, from, n, v);
    for (int64_t i = 0; i < n && r == 0; i++) {
        if (v[i] != 0 && v[i] != 1)
            r = pcv_fail(e, PCV_ERANGE, "element %lld is neither 0 nor 1", (long long)(from + i));
        k[i] = v[i] == 1;
    }
    free(v);
    if (r < 0)
        free(k);
    else
        *keep = k;
    return r;
}

/* The mask must have one element for each of `tokens` tokens, shaped as they are. */
static int mask_of(const struct pcv_adapter *a, const struct pcv_tensor *mask, const int64_t *shape,
                   int ndim, int64_t row, uint8_t **keep, struct pcv_err *e)
{
    const int64_t tokens = pcv_shape_count(shape, ndim);
    char have[96], want[96];
    int r = 0;

    *keep = NULL;
    if (!mask)
        return 0;
    if (mask->ndim != ndim + 1 || memcmp(mask->shape + 1, shape, (size_t)ndim * sizeof(*shape)))
        r = pcv_fail(e, PCV_ESHAPE, "shape %s, %s has %s",
                     pcv_shape_text(mask->shape + 1, mask->ndim - 1, have, sizeof(have)),
                     a->tensor.name, pcv_shape_text(shape, ndim, want, sizeof(want)));
    else
        r = read_mask(mask, row * tokens, tokens, keep, e);
    if (r < 0)
        pcv_err_at(e, "%s", a->mask.name);
    return r;
}

static int text_row(struct pcv_input *in, const struct pcv_adapter *a, const struct pcv_tensor *ids,
                    const struct pcv_tensor *mask, int64_t row, struct pcv_err *e)
{
    const int64_t n = ids->shape[1];
    int64_t *numbers;
    uint8_t *keep;
    int r;

    if (n > a->text.max_positions) {
        pcv_fail(e, PCV_ELIMIT, "%lld positions, the model has %d", (long long)n,
                 a->text.max_positions);
        return pcv_err_at(e, "%s", a->tensor.name);
    }
    r = mask_of(a, mask, ids->shape + 1, 1, row, &keep, e);
    if (r < 0)
        return r;
    numbers = malloc((size_t)n * sizeof(*numbers));
    r = numbers ? pcv_tensor_to_i64(ids, row * n, n, numbers, e)
                : pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)n);
    if (r == 0)
        r = pcv_text_from_ids(in, a, numbers, keep, (int)n, e);
    if (r < 0)
        pcv_err_at(e, "%s", a->tensor.name);
    free(numbers);
    free(keep);
    return r;
}

/* Which dimensions of an adapter's tensor are the axes of its grid. */
static void axes_of(const struct pcv_adapter *a, const struct pcv_tensor *t, int64_t *axis)
{
    const int axes = a->grid.axes;

    for (int i = 0; i < axes; i++) {
        if (a->kind == PCV_INPUT_VIDEO)
            axis[i] = t->shape[i == 0 ? 1 : i + 2];
        else if (pcv_grid_channels_last(a))
            axis[i] = t->shape[1 + i];
        else
            axis[i] = t->shape[t->ndim - axes + i];
    }
}

/* Elements [from, from + n) as floats: where they lie, if they are, or converted (*own, pcv_free).
 * NULL: no memory. */
static const float *floats_of(const struct pcv_tensor *t, int64_t from, int64_t n, float **own)
{
    const char *at = (const char *)t->data + (size_t)from * pcv_dtype_size(t->dtype);

    *own = NULL;
    if (pcv_tensor_in_place(t))
        return (const float *)(const void *)at;
    *own = pcv_alloc((size_t)n, sizeof(**own));
    if (*own)
        pcv_tensor_to_f32(t, from, n, *own);
    return *own;
}

static int grid_row(struct pcv_input *in, const struct pcv_adapter *a, const struct pcv_tensor *t,
                    const struct pcv_tensor *mask, int64_t row, struct pcv_err *e)
{
    const int64_t each = pcv_shape_count(t->shape + 1, t->ndim - 1);
    int64_t axis[PCV_MAX_AXES];
    int size[PCV_MAX_AXES];
    uint8_t *keep = NULL;
    const float *numbers;
    float *own = NULL;
    int r = 0;

    axes_of(a, t, axis);
    for (int i = 0; i < a->grid.axes; i++) {
        if (axis[i] > PCV_MAX_PIXELS)
            return pcv_fail(e, PCV_ELIMIT, "%lld along axis %d; %d are the limit",
                            (long long)axis[i], i, PCV_MAX_PIXELS);
        size[i] = (int)axis[i];
    }
    for (int i = 0; i < a->grid.axes; i++) /* a mask is for tokens */
        axis[i] /= a->grid.patch[i];
    r = mask_of(a, mask, axis, a->grid.axes, row, &keep, e);
    if (r < 0)
        return r;
    numbers = floats_of(t, row * each, each, &own);
    if (numbers) {
        r = a->grid.samples ? pcv_sound_append(in, a, numbers, each, e)
                            : pcv_grid_from_numbers(in, a, numbers, size, keep, e);
    } else {
        r = pcv_fail(e, PCV_ENOMEM, "no memory for %lld numbers", (long long)each);
    }
    if (r < 0)
        pcv_err_at(e, "%s", a->tensor.name);
    pcv_free(own);
    free(keep);
    return r;
}

/* Output queries that a caller may give: as many as the task that takes most. */
static int most_queries(const struct pcv_model *m)
{
    int most = 0;

    for (int i = 0; i < m->bp.ntasks; i++)
        if (m->bp.task[i].source == PCV_QUERY_CALLER && m->bp.task[i].rows > most)
            most = m->bp.task[i].rows;
    return most;
}

/* Output queries given by the caller: vectors, the same for the whole batch. */
static int caller_queries(struct pcv_input *in, const struct pcv_tensor *t, int most,
                          struct pcv_err *e)
{
    const int64_t rows = t->shape[0], width = t->shape[1];
    struct pcv_segment *s;
    float *numbers;
    int64_t bad;

    if (rows > most) {
        pcv_fail(e, PCV_ELIMIT, "%lld output queries, at most %d are served", (long long)rows,
                 most);
        return pcv_err_at(e, "%s", t->name);
    }
    numbers = pcv_input_take(in, (size_t)(rows * width), sizeof(float));
    if (!numbers)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld output queries", (long long)rows);
    pcv_tensor_to_f32(t, 0, rows * width, numbers);
    bad = pcv_first_not_finite(numbers, rows * width);
    if (bad < rows * width) {
        pcv_fail(e, PCV_ERANGE, "element %lld is not finite", (long long)bad);
        return pcv_err_at(e, "%s", t->name);
    }
    s = pcv_input_segment(&in->queries, (int)width, rows);
    s->ngroups = 1;
    s->group[0] = (struct pcv_group){.kind = PCV_GROUP_DENSE,
                                     .n = (int)width,
                                     .nranges = 1,
                                     .range = {{0, (int)width}},
                                     .content = {numbers, (size_t)width, 1},
                                     .raw = (int)width,
                                     .constant = -1};
    return 0;
}

static int adapter_row(struct pcv_input *in, const struct pcv_adapter *a,
                       const struct pcv_tensor *t, int n, int64_t row, struct pcv_err *e)
{
    const struct pcv_tensor *mask = a->mask.name ? find(t, n, a->mask.name) : NULL;

    if (a->kind == PCV_INPUT_LABEL)
        return pcv_label_append(in, a, e);
    if (a->kind == PCV_INPUT_TEXT)
        return text_row(in, a, find(t, n, a->tensor.name), mask, row, e);
    return grid_row(in, a, find(t, n, a->tensor.name), mask, row, e);
}

int pcv_input_from_tensors(struct pcv_input **ret, const struct pcv_model *m,
                           const struct pcv_tensor *t, int n, int64_t row, struct pcv_err *e)
{
    const int64_t batch = pcv_tensors_batch(m, t, n, e);
    const struct pcv_tensor *queries = find(t, n, "queries");
    struct pcv_input *in;
    int r = 0;

    if (batch < 0)
        return (int)batch;
    if (row < 0 || row >= batch)
        return pcv_fail(e, PCV_ERANGE, "row %lld of a batch of %lld", (long long)row,
                        (long long)batch);
    in = pcv_inputs_new(e);
    if (!in)
        return PCV_ENOMEM;
    if (m->bp.separate)
        in->which = batch_input(m, t, n, NULL);
    for (int i = 0; i < m->bp.ninputs && r == 0; i++)
        if (!m->bp.separate || i == in->which)
            r = adapter_row(in, &m->bp.input[i], t, n, row, e);
    if (r == 0 && queries)
        r = caller_queries(in, queries, most_queries(m), e);
    return pcv_inputs_finish(ret, in, m->plan.k, m->bp.cross[0].eps, r, e);
}
