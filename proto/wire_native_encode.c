/* wire_native_encode.c - replies of the native API, whole or as lines of a stream. */
#include "proto/wire_decode.h"
#include "proto/wire_utf8.h"
#include "proto/wire_writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "bytes": the numbers behind a text that is not UTF-8. */
static void bytes_beside(struct wire_writer *w, const char *s, size_t len)
{
    if (wire_utf8_valid(s, len) == len)
        return;
    wire_key(w, "bytes");
    wire_open(w, '[');
    for (size_t i = 0; i < len; i++)
        wire_uint(w, (unsigned char)s[i]);
    wire_close(w, ']');
}

/* [{"index", "label", "score"}]; false when a score is not finite. */
static bool labels(struct wire_writer *w, const struct wire_label *l, int n)
{
    wire_open(w, '[');
    for (int i = 0; i < n; i++) {
        if (!isfinite(l[i].score))
            return false;
        wire_open(w, '{');
        wire_key(w, "index");
        wire_int(w, l[i].index);
        wire_key(w, "label");
        wire_text(w, l[i].label);
        if (l[i].label)
            bytes_beside(w, l[i].label, strlen(l[i].label));
        wire_key(w, "score");
        wire_f32(w, l[i].score);
        wire_close(w, '}');
    }
    wire_close(w, ']');
    return true;
}

static void offset(struct wire_writer *w, const char *key, int64_t v)
{
    wire_key(w, key);
    if (v < 0)
        wire_null(w);
    else
        wire_int(w, v);
}

static bool fills(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "masks");
    wire_open(w, '[');
    for (int i = 0; i < r->nfills; i++) {
        const struct wire_fill *f = &r->fills[i];

        wire_open(w, '{');
        wire_key(w, "position");
        wire_int(w, f->position);
        offset(w, "byte_offset", f->byte_offset);
        offset(w, "char_offset", f->char_offset);
        wire_key(w, "candidates");
        if (!labels(w, f->labels, f->nlabels))
            return false;
        wire_close(w, '}');
    }
    wire_close(w, ']');
    wire_key(w, "text");
    if (r->text) {
        wire_text_n(w, r->text, r->text_len);
        bytes_beside(w, r->text, r->text_len);
    } else {
        wire_null(w);
    }
    return true;
}

static bool motions(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "points");
    wire_open(w, '[');
    for (int i = 0; i < r->nmotions; i++) {
        const struct wire_motion *m = &r->motions[i];

        if (!isfinite(m->u) || !isfinite(m->v))
            return false;
        wire_open(w, '{');
        wire_key(w, "x");
        wire_int(w, m->x);
        wire_key(w, "y");
        wire_int(w, m->y);
        wire_key(w, "u");
        wire_f32(w, m->u);
        wire_key(w, "v");
        wire_f32(w, m->v);
        wire_close(w, '}');
    }
    wire_close(w, ']');
    return true;
}

static size_t count_of(const struct wire_result *r)
{
    size_t n = 1;

    for (int i = 0; i < r->ndim; i++)
        n *= (size_t)r->shape[i];
    return n;
}

static bool tensor(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "shape");
    wire_open(w, '[');
    for (int i = 0; i < r->ndim; i++)
        wire_int(w, r->shape[i]);
    wire_close(w, ']');
    wire_key(w, "b64");
    wire_b64(w, r->numbers, count_of(r) * sizeof(float));
    return true;
}

static bool files(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "files");
    wire_open(w, '[');
    for (int i = 0; i < r->nfiles; i++) {
        wire_open(w, '{');
        wire_key(w, "index");
        if (r->files[i].index < 0)
            wire_null(w);
        else
            wire_int(w, r->files[i].index);
        wire_key(w, "type");
        wire_text(w, r->files[i].type);
        wire_key(w, "b64");
        wire_b64(w, r->files[i].data, r->files[i].len);
        wire_close(w, '}');
    }
    wire_close(w, ']');
    return true;
}

static bool vectors(struct wire_writer *w, const struct wire_result *r)
{
    const size_t n = count_of(r), width = (size_t)r->shape[r->ndim - 1];

    for (size_t i = 0; i < n; i++)
        if (!isfinite(r->numbers[i]))
            return false;
    wire_key(w, "embedding");
    wire_open(w, '[');
    for (size_t i = 0; i < n; i += width) {
        if (r->ndim > 1)
            wire_open(w, '[');
        wire_f32s(w, r->numbers + i, width);
        if (r->ndim > 1)
            wire_close(w, ']');
    }
    wire_close(w, ']');
    return true;
}

static bool classes(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "labels");
    return labels(w, r->labels, r->nlabels);
}

static bool values(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "values");
    wire_open(w, '[');
    for (int i = 0; i < r->nlabels; i++) {
        if (!isfinite(r->labels[i].score))
            return false;
        wire_open(w, '{');
        wire_key(w, "name");
        wire_text(w, r->labels[i].label);
        wire_key(w, "value");
        wire_f32(w, r->labels[i].score);
        wire_close(w, '}');
    }
    wire_close(w, ']');
    return true;
}

static bool result(struct wire_writer *w, const struct wire_result *r)
{
    static bool (*const write[])(struct wire_writer *, const struct wire_result *) = {
        [WIRE_CLASSES] = classes, [WIRE_FILLS] = fills, [WIRE_MOTIONS] = motions,
        [WIRE_TENSOR] = tensor,   [WIRE_FILES] = files, [WIRE_VECTORS] = vectors,
        [WIRE_VALUES] = values,
    };
    bool ok;

    wire_open(w, '{');
    wire_key(w, "task");
    wire_text(w, r->task);
    ok = write[r->kind](w, r);
    wire_close(w, '}');
    return ok;
}

static void field(struct wire_writer *w, const char *key, double v, int decimals)
{
    wire_key(w, key);
    wire_fixed(w, v, decimals);
}

static void usage(struct wire_writer *w, const struct wire_reply *r)
{
    const struct wire_stages *g = &r->gmac;

    wire_key(w, "usage");
    wire_open(w, '{');
    wire_key(w, "tokens");
    wire_int(w, r->tokens);
    wire_key(w, "output_queries");
    wire_int(w, r->output_queries);
    wire_key(w, "gmac");
    wire_open(w, '{');
    field(w, "encode", g->encode, 9);
    field(w, "process", g->process, 9);
    field(w, "decode", g->decode, 9);
    field(w, "total", g->encode + g->process + g->decode, 9);
    wire_close(w, '}');
    wire_key(w, "batch");
    wire_int(w, r->batch_items);
    wire_key(w, "cached");
    wire_bool(w, r->cached);
    if (r->batch) {
        wire_key(w, "cached_items");
        wire_int(w, r->cached_items);
    }
    wire_close(w, '}');
}

static void timing(struct wire_writer *w, const struct wire_reply *r)
{
    wire_key(w, "timing_ms");
    wire_open(w, '{');
    field(w, "adapt", r->ms.adapt, 3);
    field(w, "queue", r->ms.queue, 3);
    field(w, "encode", r->ms.encode, 3);
    field(w, "process", r->ms.process, 3);
    field(w, "decode", r->ms.decode, 3);
    field(w, "total", r->ms.total, 3);
    wire_close(w, '}');
}

/* ---- the reply ------------------------------------------------------------------------------- */

/* "latents": a handle, or one for each item; nothing when none was asked for. */
static void handles(struct wire_writer *w, const struct wire_reply *r)
{
    bool any = false;

    if (!r->latents)
        return;
    wire_key(w, "latents");
    if (r->batch)
        wire_open(w, '[');
    for (int i = 0; i < (r->batch ? r->nitems : 1); i++) {
        wire_text(w, r->latents[i]);
        any |= r->latents[i] != NULL;
    }
    if (r->batch)
        wire_close(w, ']');
    wire_key(w, "expires_s");
    if (any)
        wire_fixed(w, r->expires_s, 3);
    else
        wire_null(w);
}

/* What stands before the answers. */
static void head(struct wire_writer *w, const struct wire_reply *r)
{
    wire_key(w, "model");
    wire_text(w, r->model);
    wire_key(w, "version");
    wire_text(w, r->version);
    wire_key(w, "id");
    wire_text(w, r->request_id);
    handles(w, r);
}

static int not_finite(struct wire_writer *w, const struct wire_result *r, const char *where,
                      struct pcv_err *e)
{
    wire_discard(w);
    return wire_fail(e, PCV_ERANGE, where, "a score of task \"%.64s\" is not finite", r->task);
}

/* [result...], or with batch [[result...]...]. */
static int results(struct wire_writer *w, const struct wire_reply *r, struct pcv_err *e)
{
    const struct wire_result *next = r->results;
    char where[48];

    wire_open(w, '[');
    for (int i = 0; i < (r->batch ? r->nitems : 1); i++) {
        const int n = r->batch ? r->counts[i] : r->nresults;

        if (r->batch)
            wire_open(w, '[');
        for (int k = 0; k < n; k++, next++) {
            if (result(w, next))
                continue;
            if (r->batch)
                snprintf(where, sizeof(where), "$.results[%d][%d]", i, k);
            else
                snprintf(where, sizeof(where), "$.results[%d]", k);
            return not_finite(w, next, where, e);
        }
        if (r->batch)
            wire_close(w, ']');
    }
    wire_close(w, ']');
    return 0;
}

static int finish(struct wire_writer *w, char **body, size_t *len, struct pcv_err *e)
{
    char *text = wire_finish(w, len);

    if (!text)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    *body = text;
    return 0;
}

int wire_native_encode(const struct wire_reply *r, char **body, size_t *len, struct pcv_err *e)
{
    struct wire_writer w = {0};
    int code;

    wire_open(&w, '{');
    head(&w, r);
    wire_key(&w, "results");
    if ((code = results(&w, r, e)) < 0)
        return code;
    usage(&w, r);
    timing(&w, r);
    wire_close(&w, '}');
    return finish(&w, body, len, e);
}

/* ---- lines of a stream ----------------------------------------------------------------------- */

static int end_line(struct wire_writer *w, char **line, size_t *len, struct pcv_err *e)
{
    wire_close(w, '}');
    wire_raw(w, "\n", 1);
    return finish(w, line, len, e);
}

static void item(struct wire_writer *w, int input)
{
    wire_open(w, '{');
    if (input < 0)
        return;
    wire_key(w, "input");
    wire_int(w, input);
}

static void pair(struct wire_writer *w, const char *key, int64_t a, int64_t b)
{
    wire_key(w, key);
    wire_open(w, '[');
    wire_int(w, a);
    wire_int(w, b);
    wire_close(w, ']');
}

int wire_chunk_encode(const struct wire_chunk *c, char **line, size_t *len, struct pcv_err *e)
{
    struct wire_writer w = {0};

    item(&w, c->input);
    wire_key(&w, "task");
    wire_text(&w, c->task);
    pair(&w, "rows", c->first, c->n);
    pair(&w, "shape", c->n, c->width);
    wire_key(&w, "b64");
    wire_b64(&w, c->numbers, (size_t)c->n * (size_t)c->width * sizeof(float));
    return end_line(&w, line, len, e);
}

int wire_result_line_encode(const struct wire_result *r, int input, char **line, size_t *len,
                            struct pcv_err *e)
{
    struct wire_writer w = {0};

    item(&w, input);
    wire_key(&w, "result");
    if (!result(&w, r))
        return not_finite(&w, r, "$.result", e);
    return end_line(&w, line, len, e);
}

int wire_done_encode(const struct wire_reply *r, char **line, size_t *len, struct pcv_err *e)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    wire_key(&w, "done");
    wire_bool(&w, true);
    head(&w, r);
    usage(&w, r);
    timing(&w, r);
    return end_line(&w, line, len, e);
}
