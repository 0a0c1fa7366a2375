/* wire_oip_encode.c - infer replies of the Open Inference Protocol, JSON and binary.
 *
 * Easy to get wrong: clients take an output that has `parameters` for binary, so an output has none
 * unless binary_data_size is in it; usage and timing are parameters of the whole reply. */
#include "proto/wire_decode.h"
#include "proto/wire_oip.h"
#include "proto/wire_writer.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More classification strings than this are refused. */
enum { MAX_STRINGS = 1000000 };

/* The reply being written: JSON, and the binary tensors that go behind it. */
struct parts {
    struct wire_writer json, binary;
    struct wire_writer line; /* scratch */
    bool any_binary;
};

/* ---- classification -------------------------------------------------------------------------- */

static int best_first(const void *a, const void *b, void *values)
{
    const float *v = values;
    int i = *(const int *)a, j = *(const int *)b;

    return v[i] > v[j] ? -1 : v[i] < v[j] ? 1 : i < j ? -1 : i > j;
}

/* v as %f prints it in the C locale: whatever stands before the last six digits is the point. */
static size_t fixed6(float v, char buf[64])
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%f", (double)v), whole = 0;

    if (!isfinite(v))
        return (size_t)snprintf(buf, 64, "%s", text);
    while (text[whole] == '-' || (text[whole] >= '0' && text[whole] <= '9'))
        whole++;
    return (size_t)snprintf(buf, 64, "%.*s.%s", whole, text, text + n - 6);
}

/* "value:index[:label]" */
static void put_ranked(struct parts *p, const struct wire_out_tensor *o, float value, int index)
{
    char buf[64], number[16];

    p->line.len = 0;
    wire_raw(&p->line, buf, fixed6(value, buf));
    wire_raw(&p->line, number, (size_t)snprintf(number, sizeof(number), ":%d", index));
    if (o->labels && o->labels[index] && *o->labels[index]) {
        wire_raw(&p->line, ":", 1);
        wire_raw(&p->line, o->labels[index], strlen(o->labels[index]));
    }
    if (p->line.failed) {
        p->json.failed = true;
    } else if (o->binary) {
        uint32_t len = (uint32_t)p->line.len;

        wire_raw(&p->binary, &len, 4);
        wire_raw(&p->binary, p->line.data, len);
    } else {
        wire_text_n(&p->json, p->line.data, p->line.len);
    }
}

/* The n best of each row, as strings. order has room for a row. */
static int put_rows(struct parts *p, const struct wire_out_tensor *o, int64_t rows, int width,
                    int n, int *order, struct pcv_err *e)
{
    const float *v = o->t.data;

    for (int64_t row = 0; row < rows; row++, v += width) {
        for (int i = 0; i < width; i++) {
            if (isnan(v[i]))
                return wire_fail(e, PCV_ERANGE, o->t.name, "element %lld is NaN: no ranking",
                                 (long long)row * width + i);
            order[i] = i;
        }
        qsort_r(order, (size_t)width, sizeof(*order), best_first, (void *)v);
        for (int i = 0; i < n; i++)
            put_ranked(p, o, v[order[i]], order[i]);
    }
    return 0;
}

/* Checks that o can be ranked: *rows of *width, *n of each. */
static int ranking(const struct wire_out_tensor *o, int64_t *rows, int64_t *width, int64_t *n,
                   struct pcv_err *e)
{
    int64_t count = pcv_shape_count(o->t.shape, o->t.ndim);

    if (o->t.dtype != PCV_F32)
        return wire_fail(e, PCV_EUNSUPPORTED, o->t.name, "no classification of %s",
                         wire_oip_datatype(o->t.dtype));
    if (o->t.ndim == 0 || count <= 0)
        return wire_fail(e, PCV_ESHAPE, o->t.name, "no classes to rank");
    *width = o->t.shape[o->t.ndim - 1];
    *rows = count / *width;
    *n = o->classification < *width ? o->classification : *width;
    if (*width < 1 || *width > INT_MAX || *rows > MAX_STRINGS / *n)
        return wire_fail(e, PCV_ERANGE, o->t.name,
                         "classification of %lld rows by %lld: more than %d", (long long)*rows,
                         (long long)*n, MAX_STRINGS);
    return 0;
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* {"name", "datatype", "shape", "parameters" or "data" */
static void head(struct parts *p, const struct wire_out_tensor *o, const char *datatype,
                 int64_t last, size_t binary_size)
{
    struct wire_writer *w = &p->json;

    wire_open(w, '{');
    wire_key(w, "name");
    wire_text(w, o->t.name);
    wire_key(w, "datatype");
    wire_text(w, datatype);
    wire_key(w, "shape");
    wire_open(w, '[');
    for (int i = 0; i < o->t.ndim; i++)
        wire_int(w, i == o->t.ndim - 1 ? last : o->t.shape[i]);
    wire_close(w, ']');
    if (o->binary) {
        wire_key(w, "parameters");
        wire_open(w, '{');
        wire_key(w, "binary_data_size");
        wire_uint(w, binary_size);
        wire_close(w, '}');
        p->any_binary = true;
    } else {
        wire_key(w, "data");
        wire_open(w, '[');
    }
}

static void tail(struct parts *p, const struct wire_out_tensor *o)
{
    if (!o->binary)
        wire_close(&p->json, ']');
    wire_close(&p->json, '}');
}

static int put_classes(struct parts *p, const struct wire_out_tensor *o, struct pcv_err *e)
{
    size_t before = p->binary.len;
    int64_t rows = 0, width = 0, n = 0;
    int *order, r;

    if ((r = ranking(o, &rows, &width, &n, e)) < 0)
        return r;
    if (!(order = calloc((size_t)width + 1, sizeof(*order))))
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    if (!o->binary)
        head(p, o, "BYTES", n, 0);
    r = put_rows(p, o, rows, (int)width, (int)n, order, e);
    free(order);
    if (r < 0)
        return r;
    if (o->binary)
        head(p, o, "BYTES", n, p->binary.len - before);
    tail(p, o);
    return 0;
}

static int put_tensor(struct parts *p, const struct wire_out_tensor *o, struct pcv_err *e)
{
    const int64_t last = o->t.ndim ? o->t.shape[o->t.ndim - 1] : 0;
    const float *v = o->t.data;
    size_t count = o->t.nbytes / 4;

    if (!o->binary && o->t.dtype != PCV_F32)
        return wire_fail(e, PCV_EUNSUPPORTED, o->t.name, "%s only travels in the binary form",
                         wire_oip_datatype(o->t.dtype));
    head(p, o, wire_oip_datatype(o->t.dtype), last, o->t.nbytes);
    if (o->binary) {
        wire_raw(&p->binary, o->t.data, o->t.nbytes);
    } else {
        for (size_t i = 0; i < count; i++)
            if (!isfinite(v[i]))
                return wire_fail(
                    e, PCV_ERANGE, o->t.name,
                    "element %zu is not finite, which JSON cannot say; ask for binary_data", i);
        wire_f32s(&p->json, v, count);
    }
    tail(p, o);
    return 0;
}

/* ---- the reply ------------------------------------------------------------------------------- */

static void number(struct wire_writer *w, const char *key, double v, int decimals)
{
    wire_key(w, key);
    wire_fixed(w, v, decimals);
}

static void parameters(struct wire_writer *w, const struct wire_reply *r)
{
    wire_key(w, "parameters");
    wire_open(w, '{');
    wire_key(w, "tokens");
    wire_int(w, r->tokens);
    wire_key(w, "output_queries");
    wire_int(w, r->output_queries);
    wire_key(w, "batch");
    wire_int(w, r->batch_items);
    wire_key(w, "cached");
    wire_bool(w, r->cached);
    number(w, "gmac_encode", r->gmac.encode, 9);
    number(w, "gmac_process", r->gmac.process, 9);
    number(w, "gmac_decode", r->gmac.decode, 9);
    number(w, "gmac_total", r->gmac.encode + r->gmac.process + r->gmac.decode, 9);
    number(w, "ms_adapt", r->ms.adapt, 3);
    number(w, "ms_queue", r->ms.queue, 3);
    number(w, "ms_encode", r->ms.encode, 3);
    number(w, "ms_process", r->ms.process, 3);
    number(w, "ms_decode", r->ms.decode, 3);
    number(w, "ms_total", r->ms.total, 3);
    wire_close(w, '}');
}

static int put_reply(struct parts *p, const struct wire_reply *r, struct pcv_err *e)
{
    struct wire_writer *w = &p->json;

    wire_open(w, '{');
    wire_key(w, "model_name");
    wire_text(w, r->model);
    wire_key(w, "model_version");
    wire_text(w, r->version);
    if (r->id) {
        wire_key(w, "id");
        wire_text(w, r->id);
    }
    parameters(w, r);
    wire_key(w, "outputs");
    wire_open(w, '[');
    for (int i = 0; i < r->noutputs; i++) {
        const struct wire_out_tensor *o = &r->outputs[i];
        int code = o->classification > 0 ? put_classes(p, o, e) : put_tensor(p, o, e);

        if (code < 0)
            return code;
    }
    wire_close(w, ']');
    wire_close(w, '}');
    return 0;
}

int wire_oip_encode(const struct wire_reply *r, char **body, size_t *len, int64_t *header_len,
                    struct pcv_err *e)
{
    struct parts p = {.any_binary = false};
    int code = put_reply(&p, r, e);
    int64_t json_len = (int64_t)p.json.len;
    char *text;

    if (code == 0 && p.binary.failed)
        p.json.failed = true;
    if (code == 0)
        wire_raw(&p.json, p.binary.data, p.binary.len);
    wire_discard(&p.binary);
    wire_discard(&p.line);
    if (code < 0) {
        wire_discard(&p.json);
        return code;
    }
    if (!(text = wire_finish(&p.json, len)))
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    *body = text;
    *header_len = p.any_binary ? json_len : -1;
    return 0;
}
