#include "proto/wire_client.h"
#include "proto/wire_decode.h"
#include "proto/wire_fields.h"
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

/* The value of the key just written. Nothing but the object's end may follow it: wire_raw sets no
 * commas. */
static void put_base64(struct wire_writer *w, const unsigned char *in, size_t len)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char out[4096];
    size_t n = 0;

    wire_raw(w, "\"", 1);
    for (size_t i = 0; i < len; i += 3) {
        const size_t left = len - i;
        const unsigned a = in[i], b = left > 1 ? in[i + 1] : 0, c = left > 2 ? in[i + 2] : 0;

        out[n++] = digit[a >> 2];
        out[n++] = digit[(a << 4 | b >> 4) & 63];
        out[n++] = left > 1 ? digit[(b << 2 | c >> 6) & 63] : '=';
        out[n++] = left > 2 ? digit[c & 63] : '=';
        if (n == sizeof(out)) {
            wire_raw(w, out, n);
            n = 0;
        }
    }
    wire_raw(w, out, n);
    wire_raw(w, "\"", 1);
}

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
    put_base64(w, m->data, m->len);
    wire_close(w, '}');
}

static void put_inputs(struct wire_writer *w, const struct wire_request *r)
{
    wire_key(w, "inputs");
    if (r->nmedia == 1 && !r->media[0].input) {
        put_media(w, &r->media[0]);
        return;
    }
    wire_open(w, '{');
    for (int i = 0; i < r->nmedia; i++) {
        wire_key(w, r->media[i].input);
        put_media(w, &r->media[i]);
    }
    wire_close(w, '}');
}

char *wire_client_native(const struct wire_request *r, size_t *len)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    put_inputs(&w, r);
    if (r->nqueries) {
        wire_key(&w, "queries");
        wire_open(&w, '[');
        for (int i = 0; i < r->nqueries; i++) {
            wire_open(&w, '{');
            wire_key(&w, "task");
            wire_text(&w, r->queries[i].task);
            wire_key(&w, "top_k");
            wire_int(&w, r->queries[i].top_k);
            wire_close(&w, '}');
        }
        wire_close(&w, ']');
    }
    if (r->priority) {
        wire_key(&w, "priority");
        wire_int(&w, r->priority);
    }
    if (r->timeout_us) {
        wire_key(&w, "timeout_ms");
        wire_uint(&w, (r->timeout_us + 999) / 1000);
    }
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

/* ---- native replies -------------------------------------------------------------------------- */

static const struct wire_field label_fields[] = {
    WIRE_FIELD(INT, "index", struct wire_label, index),
    WIRE_FIELD(TEXT, "label", struct wire_label, label, .optional = true),
    WIRE_FIELD(BYTES, "bytes", struct wire_label, label, .optional = true),
    WIRE_FIELD(F32, "score", struct wire_label, score),
};
static const struct wire_table label_table = WIRE_TABLE(struct wire_label, label_fields);

static const struct wire_field fill_fields[] = {
    WIRE_FIELD(INT, "position", struct wire_fill, position),
    WIRE_FIELD(I64, "byte_offset", struct wire_fill, byte_offset, .optional = true, .absent = -1),
    WIRE_FIELD(I64, "char_offset", struct wire_fill, char_offset, .optional = true, .absent = -1),
    WIRE_ARRAY("candidates", struct wire_fill, labels, nlabels, label_table),
};
static const struct wire_table fill_table = WIRE_TABLE(struct wire_fill, fill_fields);

static const struct wire_field result_fields[] = {
    WIRE_FIELD(TEXT, "task", struct wire_result, task),
    WIRE_ARRAY("labels", struct wire_result, labels, nlabels, label_table, .optional = true),
    WIRE_ARRAY("masks", struct wire_result, fills, nfills, fill_table, .optional = true),
    WIRE_FIELD(TEXT, "text", struct wire_result, text,
               .count = offsetof(struct wire_result, text_len), .optional = true),
    WIRE_FIELD(BYTES, "bytes", struct wire_result, text,
               .count = offsetof(struct wire_result, text_len), .optional = true),
};
static const struct wire_table result_table = WIRE_TABLE(struct wire_result, result_fields);

static const struct wire_field usage_fields[] = {
    WIRE_FIELD(I64, "tokens", struct wire_reply, tokens),
    WIRE_FIELD(I64, "output_queries", struct wire_reply, output_queries),
    WIRE_FIELD(OBJECT, "gmac", struct wire_reply, gmac, .of = &wire_stages_table),
    WIRE_FIELD(INT, "batch", struct wire_reply, batch_items),
    WIRE_FIELD(BOOL, "cached", struct wire_reply, cached),
};
static const struct wire_table usage_table = WIRE_TABLE(struct wire_reply, usage_fields);

static const struct wire_field timing_fields[] = {
    WIRE_FIELD(F64, "adapt", struct wire_reply, ms.adapt),
    WIRE_FIELD(F64, "queue", struct wire_reply, ms.queue),
    WIRE_FIELD(F64, "encode", struct wire_reply, ms.encode),
    WIRE_FIELD(F64, "process", struct wire_reply, ms.process),
    WIRE_FIELD(F64, "decode", struct wire_reply, ms.decode),
    WIRE_FIELD(F64, "total", struct wire_reply, ms.total),
};
static const struct wire_table timing_table = WIRE_TABLE(struct wire_reply, timing_fields);

static const struct wire_field reply_fields[] = {
    WIRE_FIELD(TEXT, "model", struct wire_reply, model),
    WIRE_FIELD(TEXT, "version", struct wire_reply, version),
    WIRE_FIELD(TEXT, "id", struct wire_reply, request_id, .optional = true),
    WIRE_ARRAY("results", struct wire_reply, results, nresults, result_table),
    WIRE_PART("usage", usage_table),
    WIRE_PART("timing_ms", timing_table),
};
static const struct wire_table reply_table = WIRE_TABLE(struct wire_reply, reply_fields);

int wire_client_reply(struct wire_arena *a, const char *body, size_t len, struct wire_reply *ret,
                      struct pcv_err *e)
{
    struct wire_reply reply = {0};
    struct wire_result *results;
    int r = wire_read_document(a, body, len, &reply_table, &reply, e);

    if (r < 0)
        return r;
    results = (struct wire_result *)reply.results; /* of our arena */
    for (int i = 0; i < reply.nresults; i++)
        results[i].kind = results[i].fills ? WIRE_FILLS : WIRE_CLASSES;
    *ret = reply;
    return 0;
}

/* ---- replies of either form ------------------------------------------------------------------ */

/* The value of a top-level key, as it stands. */
static int find_member(struct wire_reader *rd, const char *key, struct wire_str *value)
{
    const char *const keys[] = {key, NULL};
    uint32_t seen = 0;
    int k, r = wire_read_open(rd, '{', "a JSON object");

    if (r < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        wire_read_space(rd);
        value->s = rd->p;
        if ((r = wire_read_skip(rd)) < 0)
            return r;
        value->len = (size_t)(rd->p - value->s);
    }
    if (r == 0 && !seen)
        return wire_read_missing(rd, key);
    return r < 0 ? r : wire_read_end(rd);
}

int wire_client_answer(struct wire_arena *a, enum wire_form form, const char *body, size_t len,
                       int64_t header_len, struct wire_str *json, struct wire_str *binary,
                       struct pcv_err *e)
{
    const size_t text = header_len < 0 ? len : (size_t)header_len;
    struct wire_str value = {0};
    struct wire_reader rd;
    int r;

    if (text > len)
        return wire_fail(e, PCV_ERANGE, "Inference-Header-Content-Length",
                         "%lld, the body has %zu bytes", (long long)header_len, len);
    wire_reader_init(&rd, body, text, "$", a, e);
    if ((r = find_member(&rd, form == WIRE_NATIVE ? "results" : "outputs", &value)) < 0)
        return r;
    *json = value;
    *binary = (struct wire_str){body + text, len - text};
    return 0;
}

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct wire_field error_fields[] = {
    WIRE_FIELD(TEXT, "code", struct wire_client_error, code, .optional = true),
    WIRE_FIELD(TEXT, "message", struct wire_client_error, message),
    WIRE_FIELD(TEXT, "path", struct wire_client_error, path, .optional = true),
};
static const struct wire_table error_table = WIRE_TABLE(struct wire_client_error, error_fields);

int wire_client_error(struct wire_arena *a, const char *body, size_t len,
                      struct wire_client_error *ret, struct pcv_err *e)
{
    struct wire_client_error error = {0};
    struct wire_str value = {0};
    struct wire_reader rd;
    int r;

    wire_reader_init(&rd, body, len, "$", a, e);
    if ((r = find_member(&rd, "error", &value)) < 0)
        return r;
    wire_reader_init(&rd, value.s, value.len, "$.error", a, e);
    if (wire_read_peek(&rd) == '"')
        r = wire_read_cstr(&rd, &error.message);
    else
        r = wire_read_fields(&rd, &error_table, &error);
    if (r < 0)
        return r;
    *ret = error;
    return 0;
}
