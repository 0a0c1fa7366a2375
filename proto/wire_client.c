/* wire_client.c - requests as a client writes them. */
#include "proto/wire_client.h"
#include "proto/wire_decode.h"
#include "proto/wire_oip.h"
#include "proto/wire_utf8.h"
#include "proto/wire_writer.h"

#include <stdlib.h>
#include <string.h>

char *wire_client_path(const char *before, const char *name, const char *behind)
{
    static const char hex[] = "0123456789ABCDEF";
    const size_t len = strlen(name);
    char *path = malloc(strlen(before) + 3 * len + strlen(behind) + 1), *p;

    if (!path)
        return NULL;
    p = stpcpy(path, before);
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)name[i];

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            strchr("-._~", c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    memcpy(p, behind, strlen(behind) + 1);
    return path;
}

/* ---- native requests ------------------------------------------------------------------------- */

static void put_media(struct wire_writer *w, const struct wire_media *m)
{
    if (m->type && strcmp(m->type, "text/plain") == 0 &&
        wire_utf8_valid(m->data, m->len) == m->len) {
        wire_text_n(w, m->data, m->len);
        return;
    }
    wire_open(w, '{');
    if (m->type) {
        wire_key(w, "type");
        wire_text(w, m->type);
    }
    wire_key(w, "b64");
    wire_b64(w, m->data, m->len);
    wire_close(w, '}');
}

/* Only the one medium of an item may be without a name. */
static const char *name_of(const struct wire_media *m)
{
    return m->input ? m->input : "";
}

static bool same_input(const struct wire_media *a, const struct wire_media *b)
{
    return strcmp(name_of(a), name_of(b)) == 0;
}

/* All of an input's media, of which the first is m[at]: one, or an array of frames. */
static void put_input(struct wire_writer *w, const struct wire_media *m, int n, int at)
{
    int several = 0;

    for (int i = at; i < n; i++)
        several += same_input(&m[at], &m[i]);
    wire_key(w, name_of(&m[at]));
    if (several > 1)
        wire_open(w, '[');
    for (int i = at; i < n; i++)
        if (same_input(&m[at], &m[i]))
            put_media(w, &m[i]);
    if (several > 1)
        wire_close(w, ']');
}

/* The media of one item. */
static void put_item(struct wire_writer *w, const struct wire_media *m, int n)
{
    if (n == 1 && !m->input) {
        put_media(w, m);
        return;
    }
    wire_open(w, '{');
    for (int i = 0; i < n; i++) {
        int first = 0;

        while (!same_input(&m[first], &m[i]))
            first++;
        if (first == i)
            put_input(w, m, n, i);
    }
    wire_close(w, '}');
}

static void put_inputs(struct wire_writer *w, const struct wire_request *r)
{
    wire_key(w, "inputs");
    if (r->batch)
        wire_open(w, '[');
    for (int i = 0, n; i < r->nmedia; i += n) {
        for (n = 1; i + n < r->nmedia && r->media[i + n].item == r->media[i].item;)
            n++;
        put_item(w, &r->media[i], n);
    }
    if (r->batch)
        wire_close(w, ']');
}

static void put_ints(struct wire_writer *w, const char *key, const int32_t *v, int n)
{
    wire_key(w, key);
    wire_open(w, '[');
    for (int i = 0; i < n; i++)
        wire_int(w, v[i]);
    wire_close(w, ']');
}

/* Which output queries are wanted. */
static void put_rows(struct wire_writer *w, const struct wire_query *q)
{
    if (q->nrows)
        put_ints(w, strcmp(q->task, "attention") == 0 ? "latents" : "positions", q->rows, q->nrows);
    if (q->has_region)
        put_ints(w, "region", q->region, 4);
    if (q->npoints) {
        wire_key(w, "points");
        wire_open(w, '[');
        for (int i = 0; i < q->npoints; i++) {
            wire_open(w, '[');
            wire_int(w, q->points[i][0]);
            wire_int(w, q->points[i][1]);
            wire_close(w, ']');
        }
        wire_close(w, ']');
    }
    if (q->nframes)
        put_ints(w, "frames", q->frames, q->nframes);
}

static void put_query(struct wire_writer *w, const struct wire_query *q, bool batch)
{
    wire_open(w, '{');
    wire_key(w, "task");
    wire_text(w, q->task);
    if (batch && q->input >= 0) {
        wire_key(w, "input");
        wire_int(w, q->input);
    }
    if (q->nclasses) {
        wire_key(w, "classes");
        wire_open(w, '[');
        for (int i = 0; i < q->nclasses; i++)
            wire_text(w, q->classes[i]);
        wire_close(w, ']');
    } else if (q->top_k) {
        wire_key(w, "top_k");
        wire_int(w, q->top_k);
    }
    put_rows(w, q);
    if (q->pooled) {
        wire_key(w, "pool");
        wire_text(w, q->pool == WIRE_POOL_NONE ? "none" : "mean");
    }
    wire_close(w, '}');
}

static void put_options(struct wire_writer *w, const struct wire_request *r)
{
    if (r->format != WIRE_JSON) {
        wire_key(w, "format");
        wire_text(w, wire_format_name(r->format));
    }
    if (r->keep_ms) {
        wire_key(w, "keep");
        wire_fixed(w, (double)r->keep_ms / 1e3, 3);
    }
    if (r->no_cache) {
        wire_key(w, "cache");
        wire_bool(w, false);
    }
    if (r->no_share) {
        wire_key(w, "share");
        wire_bool(w, false);
    }
    if (r->stream) {
        wire_key(w, "stream");
        wire_bool(w, true);
    }
    if (r->priority) {
        wire_key(w, "priority");
        wire_int(w, r->priority);
    }
    if (r->timeout_us) {
        wire_key(w, "timeout_ms");
        wire_uint(w, (r->timeout_us + 999) / 1000);
    }
}

char *wire_client_native(const struct wire_request *r, size_t *len)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    if (r->nmedia)
        put_inputs(&w, r);
    if (r->nqueries) {
        wire_key(&w, "queries");
        wire_open(&w, '[');
        for (int i = 0; i < r->nqueries; i++)
            put_query(&w, &r->queries[i], r->batch);
        wire_close(&w, ']');
    } else if (r->default_top_k) {
        wire_key(&w, "top_k");
        wire_int(&w, r->default_top_k);
    }
    put_options(&w, r);
    wire_close(&w, '}');
    return wire_finish(&w, len);
}

/* ---- Open Inference Protocol requests -------------------------------------------------------- */

static void put_parameters(struct wire_writer *w, const struct wire_request *r)
{
    wire_key(w, "parameters");
    wire_open(w, '{');
    wire_key(w, "binary_data_output");
    wire_bool(w, r->binary_default);
    if (r->priority) {
        wire_key(w, "priority");
        wire_int(w, r->priority);
    }
    if (r->timeout_us) {
        wire_key(w, "timeout");
        wire_uint(w, r->timeout_us);
    }
    if (r->no_cache) {
        wire_key(w, "cache");
        wire_bool(w, false);
    }
    if (r->no_share) {
        wire_key(w, "share");
        wire_bool(w, false);
    }
    wire_close(w, '}');
}

static void put_tensor(struct wire_writer *w, const struct pcv_tensor *t)
{
    wire_open(w, '{');
    wire_key(w, "name");
    wire_text(w, t->name);
    wire_key(w, "shape");
    wire_open(w, '[');
    for (int i = 0; i < t->ndim; i++)
        wire_int(w, t->shape[i]);
    wire_close(w, ']');
    wire_key(w, "datatype");
    wire_text(w, wire_oip_datatype(t->dtype));
    wire_key(w, "parameters");
    wire_open(w, '{');
    wire_key(w, "binary_data_size");
    wire_uint(w, t->nbytes);
    wire_close(w, '}');
    wire_close(w, '}');
}

static void put_output(struct wire_writer *w, const struct wire_output *o)
{
    wire_open(w, '{');
    wire_key(w, "name");
    wire_text(w, o->name);
    wire_key(w, "parameters");
    wire_open(w, '{');
    wire_key(w, "binary_data");
    wire_bool(w, o->binary);
    if (o->classification) {
        wire_key(w, "classification");
        wire_int(w, o->classification);
    }
    wire_close(w, '}');
    wire_close(w, '}');
}

char *wire_client_oip(const struct wire_request *r, size_t *len, int64_t *header_len)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    if (r->id) {
        wire_key(&w, "id");
        wire_text(&w, r->id);
    }
    put_parameters(&w, r);
    wire_key(&w, "inputs");
    wire_open(&w, '[');
    for (int i = 0; i < r->ntensors; i++)
        put_tensor(&w, &r->tensors[i]);
    wire_close(&w, ']');
    if (r->noutputs) {
        wire_key(&w, "outputs");
        wire_open(&w, '[');
        for (int i = 0; i < r->noutputs; i++)
            put_output(&w, &r->outputs[i]);
        wire_close(&w, ']');
    }
    wire_close(&w, '}');
    *header_len = (int64_t)w.len;
    for (int i = 0; i < r->ntensors; i++)
        wire_raw(&w, r->tensors[i].data, r->tensors[i].nbytes);
    return wire_finish(&w, len);
}
