/* wire_native.c - {"inputs": ..., "queries": [...]} becomes a wire_request. */
#include "proto/wire_base64.h"
#include "proto/wire_decode.h"

#include <string.h>

/* ---- inputs ---------------------------------------------------------------------------------- */

static int read_base64(struct wire_reader *rd, struct wire_media *m)
{
    struct wire_str s;
    size_t n;
    void *out;
    int r;

    if ((r = wire_read_text(rd, &s)) < 0)
        return r;
    out = wire_arena_get(rd->arena, wire_base64_room(s.len));
    if (!out)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    if ((r = wire_base64_decode(s.s, s.len, out, &n, rd->e)) < 0)
        return wire_read_fail_at(rd, r);
    m->data = out;
    m->len = n;
    return 0;
}

static int read_media_type(struct wire_reader *rd, struct wire_media *m)
{
    struct wire_str s;
    int r;

    if ((r = wire_read_text(rd, &s)) < 0)
        return r;
    r = wire_media_type(rd->arena, s.s, s.len, &m->type, rd->e);
    return r < 0 ? wire_read_fail_at(rd, r) : 0;
}

/* A JSON string as text input. */
static int read_plain(struct wire_reader *rd, struct wire_media *m)
{
    struct wire_str s;
    int r = wire_read_text(rd, &s);

    if (r < 0)
        return r;
    m->data = s.s;
    m->len = s.len;
    m->type = "text/plain";
    return 0;
}

/* {"b64": STR [, "type": STR]}, {"text": STR} or STR. */
static int read_value(struct wire_reader *rd, struct wire_media *m)
{
    static const char *const keys[] = {"b64", "text", "type", NULL};
    uint32_t seen = 0;
    int r, k;

    if (wire_read_peek(rd) == '"')
        return read_plain(rd, m);
    if ((r = wire_read_open(rd, '{', "a text, or an object with b64 or text")) < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0) {
        if ((seen & 3) == 3 || (seen & 6) == 6)
            return wire_read_fail(rd, PCV_EFORMAT, "text stands alone, without b64 and type");
        r = k == 0 ? read_base64(rd, m) : k == 1 ? read_plain(rd, m) : read_media_type(rd, m);
        if (r < 0)
            return r;
    }
    if (r == 0 && !(seen & 3))
        return wire_read_fail(rd, PCV_EMISSING, "neither b64 nor text");
    if (r == 0 && (r = wire_media_check(m, rd->e)) < 0)
        return wire_read_fail_at(rd, r);
    return r;
}

/* Are the object's keys those of a value ("b64", "type") instead of names of inputs? {"text":
 * "..."} reads either way and means the same to a model whose text input is called "text". */
static bool is_unnamed(const struct wire_reader *rd)
{
    struct wire_reader ahead = *rd;
    struct wire_str name;

    ahead.e = NULL;
    if (wire_read_peek(&ahead) == '"')
        return true;
    if (wire_read_open(&ahead, '{', "") < 0 || wire_read_name(&ahead, &name) <= 0)
        return false;
    return (name.len == 3 && memcmp(name.s, "b64", 3) == 0) ||
           (name.len == 4 && memcmp(name.s, "type", 4) == 0);
}

/* The value of an input, or an array of them: frames. */
static int read_named(struct wire_reader *rd, struct wire_request *r, const char *input)
{
    const bool several = wire_read_peek(rd) == '[';
    struct wire_media *m;
    int ret, n = 0;

    if (!several) {
        ret = wire_add_media(r, input, false, &m, rd->e);
        return ret < 0 ? wire_read_fail_at(rd, ret) : read_value(rd, m);
    }
    if ((ret = wire_read_open(rd, '[', "an array of inputs")) < 0)
        return ret;
    while ((ret = wire_read_item(rd)) > 0) {
        if ((ret = wire_add_media(r, input, n++ > 0, &m, rd->e)) < 0)
            return wire_read_fail_at(rd, ret);
        if ((ret = read_value(rd, m)) < 0)
            return ret;
    }
    return ret == 0 && n == 0 ? wire_read_fail(rd, PCV_EMISSING, "no input") : ret;
}

/* One item: a value without a name, or an object of inputs. */
static int read_item(struct wire_reader *rd, struct wire_request *r)
{
    struct wire_media *m;
    struct wire_str name;
    const char *input;
    int ret, n = 0;

    r->nitems++;
    if (is_unnamed(rd)) {
        ret = wire_add_media(r, NULL, false, &m, rd->e);
        return ret < 0 ? wire_read_fail_at(rd, ret) : read_value(rd, m);
    }
    if ((ret = wire_read_open(rd, '{', "a text, or an object of inputs")) < 0)
        return ret;
    while ((ret = wire_read_name(rd, &name)) > 0) {
        input = wire_arena_text(rd->arena, name.s, name.len);
        if (!input)
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((ret = read_named(rd, r, input)) < 0)
            return ret;
        n++;
    }
    return ret == 0 && n == 0 ? wire_read_fail(rd, PCV_EMISSING, "no input") : ret;
}

/* One item, or a batch of them. */
static int read_inputs(struct wire_reader *rd, struct wire_request *r)
{
    int ret;

    r->batch = wire_read_peek(rd) == '[';
    if (!r->batch)
        return read_item(rd, r);
    if ((ret = wire_read_open(rd, '[', "an array of inputs")) < 0)
        return ret;
    while ((ret = wire_read_item(rd)) > 0) {
        if (r->nitems == WIRE_MAX_ITEMS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d inputs", WIRE_MAX_ITEMS);
        if ((ret = read_item(rd, r)) < 0)
            return ret;
    }
    return ret == 0 && r->nitems == 0 ? wire_read_fail(rd, PCV_EMISSING, "no input") : ret;
}

/* ---- options --------------------------------------------------------------------------------- */

static int read_format(struct wire_reader *rd, struct wire_request *r)
{
    struct wire_str s;
    int ret = wire_read_text(rd, &s);

    if (ret == 0 && (ret = wire_format_of(s.s, s.len, &r->format, rd->e)) < 0)
        return wire_read_fail_at(rd, ret);
    return ret;
}

/* "10m", "90" or 90: what stands there is the same to wire_keep_of. */
static int read_keep(struct wire_reader *rd, struct wire_request *r)
{
    struct wire_str s = {rd->p, 0};
    int ret;

    if (wire_read_peek(rd) == '"') {
        ret = wire_read_text(rd, &s);
    } else if (wire_read_peek(rd) == '0') {
        s.s = rd->p;
        ret = wire_read_skip(rd);
        s.len = (size_t)(rd->p - s.s);
    } else {
        return wire_read_syntax(rd, "seconds, or a text as \"10m\"");
    }
    if (ret == 0 && (ret = wire_keep_of(s.s, s.len, &r->keep_ms, rd->e)) < 0)
        return wire_read_fail_at(rd, ret);
    return ret;
}

static int read_priority(struct wire_reader *rd, struct wire_request *r)
{
    int64_t v = 0;
    int ret = wire_read_int(rd, 0, WIRE_MAX_PRIORITY, &v);

    r->priority = (int)v;
    return ret;
}

static int read_timeout(struct wire_reader *rd, struct wire_request *r)
{
    int64_t v = 0;
    int ret = wire_read_int(rd, 0, WIRE_MAX_TIMEOUT_MS, &v);

    r->timeout_us = (uint64_t)v * 1000;
    return ret;
}

static int read_cache(struct wire_reader *rd, struct wire_request *r)
{
    bool v = true;
    int ret = wire_read_bool(rd, &v);

    r->no_cache = !v;
    return ret;
}

static int read_share(struct wire_reader *rd, struct wire_request *r)
{
    bool v = true;
    int ret = wire_read_bool(rd, &v);

    r->no_share = !v;
    return ret;
}

static int read_stream(struct wire_reader *rd, struct wire_request *r)
{
    return wire_read_bool(rd, &r->stream);
}

static int read_top_k(struct wire_reader *rd, struct wire_request *r)
{
    int64_t v = r->default_top_k;
    int ret = wire_read_int(rd, 1, WIRE_MAX_TOP_K, &v);

    r->default_top_k = (int)v;
    return ret;
}

/* ---- the request ----------------------------------------------------------------------------- */

static const struct {
    const char *key;
    int (*read)(struct wire_reader *rd, struct wire_request *r);
    bool input_only; /* says something about an input: not for questions to kept latents */
} members[] = {
    {"inputs", read_inputs, true},      {"queries", wire_read_queries, false},
    {"priority", read_priority, false}, {"timeout_ms", read_timeout, false},
    {"format", read_format, false},     {"keep", read_keep, true},
    {"cache", read_cache, true},        {"share", read_share, true},
    {"stream", read_stream, false},     {"top_k", read_top_k, false},
};
enum { MEMBERS = sizeof(members) / sizeof(*members), TOP_K = MEMBERS - 1 };

/* What only the whole request shows. */
static int check_request(struct wire_reader *rd, const struct wire_request *r, bool top_k)
{
    int ret;

    for (int i = 0; i < r->nqueries; i++)
        if ((ret = wire_query_check(r, i, "$.queries", rd->e)) < 0)
            return ret;
    if (r->nqueries && top_k)
        return wire_read_fail_member(rd, "top_k", PCV_EFORMAT,
                                     "goes without queries; each of them says its own");
    if (r->stream && r->format != WIRE_JSON)
        return wire_read_fail_member(rd, "stream", PCV_EFORMAT, WIRE_STREAM_IS_JSON);
    return 0;
}

static int read_request(struct wire_reader *rd, struct wire_request *r, bool kept)
{
    const char *keys[MEMBERS + 1] = {NULL};
    uint32_t seen = 0;
    int ret, k = 0;

    for (int i = 0; i < MEMBERS; i++)
        keys[i] = members[i].key;
    if ((ret = wire_read_open(rd, '{', "a JSON object")) < 0)
        return ret;
    while ((ret = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0) {
        if (kept && members[k].input_only)
            return wire_read_fail(rd, PCV_EFORMAT,
                                  "not in questions to kept latents: they have their input");
        if ((ret = members[k].read(rd, r)) < 0)
            return ret;
    }
    if (ret == 0 && !kept && !(seen & 1))
        return wire_read_missing(rd, "inputs");
    return ret < 0 || (ret = wire_read_end(rd)) < 0 ? ret : check_request(rd, r, seen >> TOP_K & 1);
}

static int decode(struct wire_request **ret, const char *body, size_t len, bool kept,
                  struct pcv_err *e)
{
    struct wire_request *r = wire_request_new(WIRE_NATIVE);
    struct wire_reader rd;
    int code;

    if (!r)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    wire_reader_init(&rd, body, len, "$", r->arena, e);
    code = read_request(&rd, r, kept);
    if (code < 0) {
        wire_request_free(r);
        return code;
    }
    *ret = r;
    return 0;
}

int wire_native_decode(struct wire_request **ret, const char *body, size_t len, struct pcv_err *e)
{
    return decode(ret, body, len, false, e);
}

int wire_native_decode_query(struct wire_request **ret, const char *body, size_t len,
                             struct pcv_err *e)
{
    return decode(ret, body, len, true, e);
}
