/* wire_client_reply.c - replies as a client reads them: answers, errors, lines of a stream. */
#include "proto/wire_client.h"
#include "proto/wire_decode.h"
#include "proto/wire_fields.h"

#include <limits.h>
#include <string.h>

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

static const struct wire_field motion_fields[] = {
    WIRE_FIELD(INT, "x", struct wire_motion, x),
    WIRE_FIELD(INT, "y", struct wire_motion, y),
    WIRE_FIELD(F32, "u", struct wire_motion, u),
    WIRE_FIELD(F32, "v", struct wire_motion, v),
};
static const struct wire_table motion_table = WIRE_TABLE(struct wire_motion, motion_fields);

static const struct wire_field file_fields[] = {
    WIRE_FIELD(INT, "index", struct wire_file, index, .optional = true, .absent = -1),
    WIRE_FIELD(TEXT, "type", struct wire_file, type),
    WIRE_FIELD(BASE64, "b64", struct wire_file, data, .count = offsetof(struct wire_file, len)),
};
static const struct wire_table file_table = WIRE_TABLE(struct wire_file, file_fields);

static const struct wire_field value_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_label, label, .optional = true),
    WIRE_FIELD(F32, "value", struct wire_label, score),
};
static const struct wire_table value_table = WIRE_TABLE(struct wire_label, value_fields);

/* A result while it is being read: what says of which kind it is. */
struct result {
    struct wire_result r;
    const struct wire_label *values;
    int nvalues;
    const void *bytes; /* of a tensor */
    size_t nbytes;
    struct wire_floats embedding;
};

static const struct wire_field result_fields[] = {
    WIRE_FIELD(TEXT, "task", struct result, r.task),
    WIRE_ARRAY("labels", struct result, r.labels, r.nlabels, label_table, .optional = true),
    WIRE_ARRAY("masks", struct result, r.fills, r.nfills, fill_table, .optional = true),
    WIRE_FIELD(TEXT, "text", struct result, r.text, .count = offsetof(struct result, r.text_len),
               .optional = true),
    WIRE_FIELD(BYTES, "bytes", struct result, r.text, .count = offsetof(struct result, r.text_len),
               .optional = true),
    WIRE_ARRAY("points", struct result, r.motions, r.nmotions, motion_table, .optional = true),
    WIRE_FIELD(SHAPE, "shape", struct result, r.shape, .count = offsetof(struct result, r.ndim),
               .optional = true),
    WIRE_FIELD(BASE64, "b64", struct result, bytes, .count = offsetof(struct result, nbytes),
               .optional = true),
    WIRE_ARRAY("files", struct result, r.files, r.nfiles, file_table, .optional = true),
    WIRE_FIELD(FLOATS, "embedding", struct result, embedding, .optional = true),
    WIRE_ARRAY("values", struct result, values, nvalues, value_table, .optional = true),
};
static const struct wire_table result_table = WIRE_TABLE(struct result, result_fields);

static int take_tensor(const struct wire_reader *rd, struct result *got)
{
    if (pcv_shape_bytes(PCV_F32, got->r.shape, got->r.ndim) != (int64_t)got->nbytes)
        return wire_read_fail_member(rd, "b64", PCV_ESHAPE, "%zu bytes do not fill the shape",
                                     got->nbytes);
    got->r.kind = WIRE_TENSOR;
    got->r.numbers = got->bytes;
    return 0;
}

static void take_vectors(struct result *got)
{
    got->r.kind = WIRE_VECTORS;
    got->r.numbers = got->embedding.v;
    got->r.ndim = got->embedding.ndim;
    memcpy(got->r.shape, got->embedding.shape, sizeof(got->embedding.shape));
}

static void take_values(struct result *got)
{
    struct wire_label *values = (struct wire_label *)got->values; /* of our arena */

    got->r.kind = WIRE_VALUES;
    got->r.labels = values;
    got->r.nlabels = got->nvalues;
    for (int i = 0; i < got->nvalues; i++)
        values[i].index = i;
}

/* The next value, a result. */
static int read_result(struct wire_reader *rd, struct wire_result *ret)
{
    struct result got = {.r = {.kind = WIRE_CLASSES}};
    int r = wire_read_fields(rd, &result_table, &got);

    if (!got.bytes)
        got.r.ndim = 0; /* a shape of nothing */
    if (r == 0 && got.bytes)
        r = take_tensor(rd, &got);
    else if (got.embedding.v)
        take_vectors(&got);
    else if (got.values)
        take_values(&got);
    else if (got.r.fills)
        got.r.kind = WIRE_FILLS;
    else if (got.r.motions)
        got.r.kind = WIRE_MOTIONS;
    else if (got.r.files)
        got.r.kind = WIRE_FILES;
    *ret = got.r;
    return r;
}

static const struct wire_field usage_fields[] = {
    WIRE_FIELD(I64, "tokens", struct wire_reply, tokens),
    WIRE_FIELD(I64, "output_queries", struct wire_reply, output_queries),
    WIRE_FIELD(OBJECT, "gmac", struct wire_reply, gmac, .of = &wire_stages_table),
    WIRE_FIELD(INT, "batch", struct wire_reply, batch_items),
    WIRE_FIELD(BOOL, "cached", struct wire_reply, cached),
    WIRE_FIELD(INT, "cached_items", struct wire_reply, cached_items, .optional = true),
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

/* One item's results, behind those that were read before. */
static int read_results(struct wire_reader *rd, struct wire_reply *reply)
{
    struct wire_result *all = (struct wire_result *)reply->results; /* of our arena */
    int r = wire_read_open(rd, '[', "an array of results");

    if (r < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (!(all = wire_arena_room(rd->arena, all, reply->nresults, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        reply->results = all;
        if ((r = read_result(rd, &all[reply->nresults++])) < 0)
            return r;
    }
    return r;
}

/* Is the array that comes next one of arrays? */
static bool is_nested(const struct wire_reader *rd)
{
    struct wire_reader ahead = *rd;

    ahead.e = NULL;
    return wire_read_open(&ahead, '[', "") == 0 && wire_read_peek(&ahead) == '[';
}

/* The results of one input, or an array of them for each of a batch. */
static int read_all_results(struct wire_reader *rd, struct wire_reply *reply)
{
    int *counts = NULL;
    int r, before;

    if (!is_nested(rd))
        return read_results(rd, reply);
    reply->batch = true;
    if ((r = wire_read_open(rd, '[', "an array of results")) < 0)
        return r;
    reply->nitems = 0;
    while ((r = wire_read_item(rd)) > 0) {
        before = reply->nresults;
        if (!(counts = wire_arena_room(rd->arena, counts, reply->nitems, sizeof(*counts))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((r = read_results(rd, reply)) < 0)
            return r;
        counts[reply->nitems++] = reply->nresults - before;
    }
    reply->counts = counts;
    return r;
}

/* A handle, or null. */
static int read_handle(struct wire_reader *rd, const char **handle)
{
    return wire_read_peek(rd) == 'n' ? wire_read_skip(rd) : wire_read_cstr(rd, handle);
}

static int read_handles(struct wire_reader *rd, struct wire_reply *reply, int *n)
{
    const char **all = wire_arena_zero(rd->arena, sizeof(*all));
    int r;

    *n = 1;
    if (!all)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    reply->latents = all;
    if (wire_read_peek(rd) != '[')
        return read_handle(rd, all);
    reply->batch = true;
    *n = 0;
    if ((r = wire_read_open(rd, '[', "an array of handles")) < 0)
        return r;
    for (all = NULL; (r = wire_read_item(rd)) > 0; ++*n) {
        if (!(all = wire_arena_room(rd->arena, all, *n, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        reply->latents = all;
        if ((r = read_handle(rd, &all[*n])) < 0)
            return r;
    }
    return r;
}

static int read_expiry(struct wire_reader *rd, struct wire_reply *reply)
{
    static const struct wire_field field[] = {
        WIRE_FIELD(F64, "expires_s", struct wire_reply, expires_s)};

    return wire_read_peek(rd) == 'n' ? wire_read_skip(rd) : wire_read_field(rd, field, reply);
}

/* A reply, whose results may be on lines before it. */
static int read_reply(struct wire_reader *rd, struct wire_reply *reply, bool streamed)
{
    enum { MODEL, VERSION, USAGE, TIMING, RESULTS, ID, LATENTS, EXPIRY };
    static const char *const keys[] = {"model", "version", "usage",     "timing_ms", "results",
                                       "id",    "latents", "expires_s", NULL};
    uint32_t seen = 0;
    int k = 0, nhandles = -1, r = wire_read_open(rd, '{', "an object");

    if (r < 0)
        return r;
    reply->nitems = 1;
    while ((r = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        switch (k) {
        case MODEL: r = wire_read_cstr(rd, &reply->model); break;
        case VERSION: r = wire_read_cstr(rd, &reply->version); break;
        case USAGE: r = wire_read_fields(rd, &usage_table, reply); break;
        case TIMING: r = wire_read_fields(rd, &timing_table, reply); break;
        case RESULTS: r = read_all_results(rd, reply); break;
        case ID: r = read_handle(rd, &reply->request_id); break;
        case LATENTS: r = read_handles(rd, reply, &nhandles); break;
        case EXPIRY: r = read_expiry(rd, reply); break;
        }
        if (r < 0)
            return r;
    }
    for (int i = MODEL; r == 0 && i <= (streamed ? TIMING : RESULTS); i++)
        if (!(seen & 1u << i))
            return wire_read_missing(rd, keys[i]);
    if (r == 0 && streamed && nhandles >= 0)
        reply->nitems = nhandles;
    if (r == 0 && nhandles >= 0 && nhandles != reply->nitems)
        return wire_read_fail_member(rd, "latents", PCV_ESHAPE, "%d handles for %d inputs",
                                     nhandles, reply->nitems);
    return r;
}

int wire_client_reply(struct wire_arena *a, const char *body, size_t len, struct wire_reply *ret,
                      struct pcv_err *e)
{
    struct wire_reply reply = {0};
    struct wire_reader rd;
    int r;

    wire_reader_init(&rd, body, len, "$", a, e);
    if ((r = read_reply(&rd, &reply, false)) < 0 || (r = wire_read_end(&rd)) < 0)
        return r;
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

/* ---- lines of a stream ----------------------------------------------------------------------- */

/* A line's members, but for those of a reply. */
struct line {
    int input;
    const char *task;
    int64_t rows[PCV_MAX_DIMS], shape[PCV_MAX_DIMS];
    int nrows, nshape;
    const void *bytes;
    size_t nbytes;
};

static const struct wire_field chunk_fields[] = {
    WIRE_FIELD(INT, "input", struct line, input, .optional = true, .absent = -1),
    WIRE_FIELD(TEXT, "task", struct line, task),
    WIRE_FIELD(SHAPE, "rows", struct line, rows, .count = offsetof(struct line, nrows)),
    WIRE_FIELD(SHAPE, "shape", struct line, shape, .count = offsetof(struct line, nshape)),
    WIRE_FIELD(BASE64, "b64", struct line, bytes, .count = offsetof(struct line, nbytes)),
};
static const struct wire_table chunk_table = WIRE_TABLE(struct line, chunk_fields);

static int read_chunk(struct wire_reader *rd, struct wire_client_line *ret)
{
    struct line l = {0};
    int r = wire_read_fields(rd, &chunk_table, &l);

    if (r < 0)
        return r;
    if (l.nrows != 2 || l.nshape != 2 || l.rows[0] < 0 || l.rows[1] != l.shape[0] ||
        l.shape[1] > INT_MAX || pcv_shape_bytes(PCV_F32, l.shape, 2) != (int64_t)l.nbytes)
        return wire_read_fail_member(rd, "rows", PCV_ESHAPE, "rows, shape and bytes do not agree");
    ret->input = l.input;
    ret->chunk = (struct wire_chunk){.input = l.input,
                                     .task = l.task,
                                     .first = l.rows[0],
                                     .n = l.rows[1],
                                     .width = (int)l.shape[1],
                                     .numbers = l.bytes};
    return 0;
}

static int read_result_line(struct wire_reader *rd, struct wire_client_line *ret)
{
    static const char *const keys[] = {"input", "result", NULL};
    uint32_t seen = 0;
    int64_t v = -1;
    int k = 0, r = wire_read_open(rd, '{', "an object");

    if (r < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        r = k ? read_result(rd, &ret->result) : wire_read_int(rd, 0, INT_MAX, &v);
        if (r < 0)
            return r;
    }
    ret->input = (int)v;
    return r;
}

/* Which of the kinds of line it is: by the key that only this kind has. */
static int kind_of_line(struct wire_reader *rd, enum wire_line_kind *kind)
{
    static const char *const keys[] = {
        [WIRE_LINE_CHUNK] = "b64",   [WIRE_LINE_RESULT] = "result", [WIRE_LINE_DONE] = "done",
        [WIRE_LINE_ERROR] = "error", [WIRE_LINE_ERROR + 1] = NULL,
    };
    uint32_t seen = 0;
    int k = 0, r = wire_read_open(rd, '{', "an object");

    if (r < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        *kind = (enum wire_line_kind)k;
        if ((r = wire_read_skip(rd)) < 0)
            return r;
    }
    if (r < 0 || (r = wire_read_end(rd)) < 0)
        return r;
    return seen ? 0 : wire_read_fail(rd, PCV_EFORMAT, "no b64, result, done or error");
}

int wire_client_line(struct wire_arena *a, const char *line, size_t len,
                     struct wire_client_line *ret, struct pcv_err *e)
{
    struct wire_client_line got = {.input = -1};
    struct wire_reader rd;
    int r;

    wire_reader_init(&rd, line, len, "$", a, e);
    if ((r = kind_of_line(&rd, &got.kind)) < 0)
        return r;
    wire_reader_init(&rd, line, len, "$", a, e);
    switch (got.kind) {
    case WIRE_LINE_CHUNK: r = read_chunk(&rd, &got); break;
    case WIRE_LINE_RESULT: r = read_result_line(&rd, &got); break;
    case WIRE_LINE_DONE: r = read_reply(&rd, &got.reply, true); break;
    case WIRE_LINE_ERROR: r = wire_client_error(a, line, len, &got.error, e); break;
    }
    if (r == 0)
        *ret = got;
    return r;
}
