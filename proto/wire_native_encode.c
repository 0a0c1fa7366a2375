/* wire_native_encode.c - replies of the native API. */
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

static bool fills(struct wire_writer *w, const struct wire_result *r)
{
    wire_key(w, "masks");
    wire_open(w, '[');
    for (int i = 0; i < r->nfills; i++) {
        const struct wire_fill *f = &r->fills[i];

        wire_open(w, '{');
        wire_key(w, "position");
        wire_int(w, f->position);
        wire_key(w, "byte_offset");
        if (f->byte_offset < 0)
            wire_null(w);
        else
            wire_int(w, f->byte_offset);
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

static bool result(struct wire_writer *w, const struct wire_result *r)
{
    bool ok;

    wire_open(w, '{');
    wire_key(w, "task");
    wire_text(w, r->task);
    if (r->kind == WIRE_CLASSES) {
        wire_key(w, "labels");
        ok = labels(w, r->labels, r->nlabels);
    } else {
        ok = fills(w, r);
    }
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

int wire_native_encode(const struct wire_reply *r, char **body, size_t *len, struct pcv_err *e)
{
    struct wire_writer w = {0};
    char where[32], *text;

    wire_open(&w, '{');
    wire_key(&w, "model");
    wire_text(&w, r->model);
    wire_key(&w, "version");
    wire_text(&w, r->version);
    wire_key(&w, "id");
    wire_text(&w, r->request_id);
    wire_key(&w, "results");
    wire_open(&w, '[');
    for (int i = 0; i < r->nresults; i++) {
        if (!result(&w, &r->results[i])) {
            wire_discard(&w);
            snprintf(where, sizeof(where), "$.results[%d]", i);
            return wire_fail(e, PCV_ERANGE, where, "a score of task \"%.64s\" is not finite",
                             r->results[i].task);
        }
    }
    wire_close(&w, ']');
    usage(&w, r);
    timing(&w, r);
    wire_close(&w, '}');
    if (!(text = wire_finish(&w, len)))
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    *body = text;
    return 0;
}
