/* inputs.c - which adapter an input goes to: media by name and type, tensors by name. */
#include "lib/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct pcv_input *new_input(struct pcv_err *e)
{
    struct pcv_input *in = calloc(1, sizeof(*in));

    if (!in)
        pcv_fail(e, PCV_ENOMEM, "no memory for an input");
    return in;
}

/* ---- media
 * ------------------------------------------------------------------------------------------ */

static int from_picture(struct pcv_input *in, const struct pcv_adapter *a,
                        const struct pcv_media *media, struct pcv_err *e)
{
    struct pcv_image picture = {0};
    float *chw = NULL;
    int width, height;
    int r = pcv_image_decode(&picture, media->data, media->len, media->type, e);

    if (r == 0)
        r = pcv_image_to_chw(&picture, &a->image.prep, &chw, &width, &height, e);
    pcv_image_free(&picture);
    if (r == 0)
        r = pcv_image_tokens(in, a, chw, height, width, e);
    free(chw);
    return r;
}

static int is_text_type(const char *type)
{
    return !type || strncmp(type, "text/plain", 10) == 0;
}

int pcv_input_from_media(struct pcv_input **ret, const struct pcv_model *m,
                         const struct pcv_media *media, int n, struct pcv_err *e)
{
    const struct pcv_adapter *a = &m->bp.input[0];
    struct pcv_input *in;
    int r;

    if (n != m->bp.ninputs)
        return pcv_fail(e, n < m->bp.ninputs ? PCV_EMISSING : PCV_ERANGE,
                        "%d inputs sent, the model takes %d (%s)", n, m->bp.ninputs, a->name);
    if (media->input && strcmp(media->input, a->name) != 0) {
        pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes %s", a->name);
        return pcv_err_at(e, "%.60s", media->input);
    }
    in = new_input(e);
    if (!in)
        return PCV_ENOMEM;
    if (a->kind == PCV_INPUT_IMAGE)
        r = from_picture(in, a, media, e);
    else if (is_text_type(media->type))
        r = pcv_text_from_utf8(in, a, media->data, media->len, e);
    else
        r = pcv_fail(e, PCV_EUNSUPPORTED, "media type %.60s where text/plain is wanted",
                     media->type);
    if (r < 0) {
        pcv_input_free(in);
        pcv_err_at(e, "%s", a->name);
        return r;
    }
    *ret = in;
    return 0;
}

/* ---- tensors
 * ---------------------------------------------------------------------------------------- */

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

int64_t pcv_tensors_batch(const struct pcv_model *m, const struct pcv_tensor *t, int n,
                          struct pcv_err *e)
{
    int64_t batch = -1;

    for (int i = 0; i < n; i++) {
        const struct pcv_tensor_spec *s = spec_of(m, t[i].name);
        int r;

        if (!s) {
            pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes %s",
                     m->tensors[0].name);
            return pcv_err_at(e, "%.60s", t[i].name ? t[i].name : "(unnamed)");
        }
        if (find(t, i, t[i].name)) {
            pcv_fail(e, PCV_EFORMAT, "is given twice");
            return pcv_err_at(e, "%s", s->name);
        }
        r = check_tensor(&t[i], s, e);
        if (r < 0)
            return r;
        if (batch >= 0 && t[i].shape[0] != batch) {
            pcv_fail(e, PCV_ESHAPE, "batch of %lld, others have %lld", (long long)t[i].shape[0],
                     (long long)batch);
            return pcv_err_at(e, "%s", s->name);
        }
        batch = t[i].shape[0];
    }
    for (int i = 0; i < m->info.ntensors; i++)
        if (!m->tensors[i].optional && !find(t, n, m->tensors[i].name)) {
            pcv_fail(e, PCV_EMISSING, "input is missing");
            return pcv_err_at(e, "%s", m->tensors[i].name);
        }
    return batch;
}

/* attention_mask: 1 = keep, 0 = leave out, in any datatype. */
static int read_mask(const struct pcv_tensor *t, int64_t from, int64_t n, uint8_t *keep,
                     struct pcv_err *e)
{
    float *v = malloc((size_t)n * sizeof(*v));
    int r = 0;

    if (!v)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a mask of %lld", (long long)n);
    pcv_tensor_to_f32(t, from, n, v);
    for (int64_t i = 0; i < n && r == 0; i++) {
        if (v[i] != 0 && v[i] != 1)
            r = pcv_fail(e, PCV_ERANGE, "element %lld is neither 0 nor 1", (long long)(from + i));
        keep[i] = v[i] == 1;
    }
    free(v);
    return r;
}

static int text_row(struct pcv_input *in, const struct pcv_adapter *a, const struct pcv_tensor *ids,
                    const struct pcv_tensor *mask, int64_t row, struct pcv_err *e)
{
    const int64_t n = ids->shape[1];
    int64_t *numbers;
    uint8_t *keep = NULL;
    int r;

    if (n > a->text.max_positions) {
        pcv_fail(e, PCV_ELIMIT, "%lld positions, the model has %d", (long long)n,
                 a->text.max_positions);
        return pcv_err_at(e, "inputs");
    }
    if (mask && mask->shape[1] != n) {
        pcv_fail(e, PCV_ESHAPE, "%lld positions, inputs has %lld", (long long)mask->shape[1],
                 (long long)n);
        return pcv_err_at(e, "attention_mask");
    }
    numbers = malloc((size_t)n * sizeof(*numbers));
    keep = mask ? malloc((size_t)n) : NULL;
    if (!numbers || (mask && !keep)) {
        r = pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)n);
    } else {
        const char *where = "inputs";

        r = pcv_tensor_to_i64(ids, row * n, n, numbers, e);
        if (r == 0 && mask) {
            r = read_mask(mask, row * n, n, keep, e);
            where = r < 0 ? "attention_mask" : where;
        }
        if (r == 0)
            r = pcv_text_from_ids(in, a, numbers, keep, (int)n, e);
        if (r < 0)
            pcv_err_at(e, "%s", where);
    }
    free(numbers);
    free(keep);
    return r;
}

static int image_row(struct pcv_input *in, const struct pcv_adapter *a, const struct pcv_tensor *t,
                     int64_t row, struct pcv_err *e)
{
    const int64_t each = t->shape[1] * t->shape[2] * t->shape[3];
    float *chw;
    int r;

    if (t->shape[2] > PCV_MAX_AXIS || t->shape[3] > PCV_MAX_AXIS ||
        t->shape[2] * t->shape[3] > PCV_MAX_PIXELS) {
        pcv_fail(e, PCV_ELIMIT, "%lld x %lld pixels; sides of %d and %d pixels are the limit",
                 (long long)t->shape[2], (long long)t->shape[3], PCV_MAX_AXIS, PCV_MAX_PIXELS);
        return pcv_err_at(e, "inputs");
    }
    chw = malloc((size_t)each * sizeof(*chw));
    if (!chw)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld numbers", (long long)each);
    pcv_tensor_to_f32(t, row * each, each, chw);
    r = pcv_image_tokens(in, a, chw, (int)t->shape[2], (int)t->shape[3], e);
    if (r < 0)
        pcv_err_at(e, "inputs");
    free(chw);
    return r;
}

int pcv_input_from_tensors(struct pcv_input **ret, const struct pcv_model *m,
                           const struct pcv_tensor *t, int n, int64_t row, struct pcv_err *e)
{
    const struct pcv_adapter *a = &m->bp.input[0];
    const int64_t batch = pcv_tensors_batch(m, t, n, e);
    struct pcv_input *in;
    int r;

    if (batch < 0)
        return (int)batch;
    if (row < 0 || row >= batch)
        return pcv_fail(e, PCV_ERANGE, "row %lld of a batch of %lld", (long long)row,
                        (long long)batch);
    in = new_input(e);
    if (!in)
        return PCV_ENOMEM;
    if (a->kind == PCV_INPUT_TEXT)
        r = text_row(in, a, find(t, n, "inputs"), find(t, n, "attention_mask"), row, e);
    else
        r = image_row(in, a, find(t, n, "inputs"), row, e);
    if (r < 0) {
        pcv_input_free(in);
        return r;
    }
    *ret = in;
    return 0;
}
