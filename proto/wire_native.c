/* wire_native.c - {"inputs": ..., "queries": [...]} becomes a wire_request. */
#include "proto/wire_base64.h"
#include "proto/wire_decode.h"

#include <string.h>

/* ---- queries --------------------------------------------------------------------------------- */

/* [x, y] */
static int read_point(struct wire_reader *rd, int32_t *to)
{
    int64_t v;
    int r, n = 0;

    if ((r = wire_read_open(rd, '[', "a point [x, y]")) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == 2)
            return wire_read_fail(rd, PCV_EFORMAT, "a point is [x, y]");
        if ((r = wire_read_int(rd, 0, WIRE_MAX_COORDINATE, &v)) < 0)
            return r;
        to[n++] = (int32_t)v;
    }
    return r == 0 && n < 2 ? wire_read_fail(rd, PCV_EFORMAT, "a point is [x, y]") : r;
}

static int read_points(struct wire_reader *rd, struct wire_query *q)
{
    int32_t(*all)[2] = NULL;
    int r, n = 0;

    if ((r = wire_read_open(rd, '[', "an array of points [x, y]")) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == WIRE_MAX_POINTS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d points", WIRE_MAX_POINTS);
        if (!(all = wire_arena_room(rd->arena, all, n, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((r = read_point(rd, all[n++])) < 0)
            return r;
    }
    if (r == 0 && n == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no point; leave it out to ask all");
    q->points = (const int32_t(*)[2])all;
    q->npoints = n;
    return r;
}

static int read_frames(struct wire_reader *rd, struct wire_query *q)
{
    int32_t *all = NULL;
    int64_t v;
    int r, n = 0;

    if ((r = wire_read_open(rd, '[', "an array of frame numbers")) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == WIRE_MAX_FRAMES)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d frames", WIRE_MAX_FRAMES);
        if (!(all = wire_arena_room(rd->arena, all, n, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((r = wire_read_int(rd, 0, WIRE_MAX_COORDINATE, &v)) < 0)
            return r;
        all[n++] = (int32_t)v;
    }
    if (r == 0 && n == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no frame; leave it out to ask all");
    q->frames = all;
    q->nframes = n;
    return r;
}

static int read_pool(struct wire_reader *rd, struct wire_query *q)
{
    struct wire_str s;
    int r = wire_read_text(rd, &s);

    if (r < 0)
        return r;
    q->pooled = true;
    q->pool = s.len == 4 && memcmp(s.s, "none", 4) == 0 ? WIRE_POOL_NONE : WIRE_POOL_MEAN;
    if (q->pool == WIRE_POOL_MEAN && (s.len != 4 || memcmp(s.s, "mean", 4)))
        return wire_read_fail(rd, PCV_EUNKNOWN, "known are mean and none");
    return 0;
}

static int read_top_k(struct wire_reader *rd, struct wire_query *q)
{
    int64_t top_k;
    int r = wire_read_int(rd, 1, WIRE_MAX_TOP_K, &top_k);

    if (r == 0)
        q->top_k = (int)top_k;
    return r;
}

static int read_query(struct wire_reader *rd, struct wire_query *q)
{
    static const char *const keys[] = {"task", "top_k", "points", "frames", "pool", NULL};
    static int (*const read[])(struct wire_reader *, struct wire_query *) = {
        NULL, read_top_k, read_points, read_frames, read_pool};
    uint32_t seen = 0;
    int r, k;

    q->top_k = WIRE_DEFAULT_TOP_K;
    if ((r = wire_read_open(rd, '{', "an object with a task")) < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0) {
        r = read[k] ? read[k](rd, q) : wire_read_cstr(rd, &q->task);
        if (r < 0)
            return r;
    }
    if (r == 0 && !q->task)
        return wire_read_missing(rd, "task");
    return r;
}

int wire_read_queries(struct wire_reader *rd, struct wire_request *r)
{
    int ret;

    if ((ret = wire_read_open(rd, '[', "an array of queries")) < 0)
        return ret;
    while ((ret = wire_read_item(rd)) > 0) {
        struct wire_query *q;

        if ((ret = wire_add_query(r, &q, rd->e)) < 0)
            return wire_read_fail_at(rd, ret);
        if ((ret = read_query(rd, q)) < 0)
            return ret;
    }
    if (ret == 0 && r->nqueries == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no query; leave it out to ask every task");
    return ret;
}

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

static int read_inputs(struct wire_reader *rd, struct wire_request *r)
{
    struct wire_media *m;
    struct wire_str name;
    const char *input;
    int ret;

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
    }
    if (ret == 0 && r->nmedia == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no input");
    return ret;
}

static int read_format(struct wire_reader *rd, struct wire_request *r)
{
    struct wire_str s;
    int ret = wire_read_text(rd, &s);

    if (ret == 0 && (ret = wire_format_of(s.s, s.len, &r->format, rd->e)) < 0)
        return wire_read_fail_at(rd, ret);
    return ret;
}

static int read_request(struct wire_reader *rd, struct wire_request *r)
{
    static const char *const keys[] = {"inputs",     "queries", "priority",
                                       "timeout_ms", "format",  NULL};
    uint32_t seen = 0;
    int64_t v = 0;
    int ret, k;

    if ((ret = wire_read_open(rd, '{', "a JSON object")) < 0)
        return ret;
    while ((ret = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0) {
        switch (k) {
        case 0: ret = read_inputs(rd, r); break;
        case 1: ret = wire_read_queries(rd, r); break;
        case 2:
            ret = wire_read_int(rd, 0, WIRE_MAX_PRIORITY, &v);
            r->priority = (int)v;
            break;
        case 3:
            ret = wire_read_int(rd, 0, WIRE_MAX_TIMEOUT_MS, &v);
            r->timeout_us = (uint64_t)v * 1000;
            break;
        case 4: ret = read_format(rd, r); break;
        }
        if (ret < 0)
            return ret;
    }
    if (ret == 0 && !(seen & 1))
        return wire_read_missing(rd, "inputs");
    return ret < 0 ? ret : wire_read_end(rd);
}

int wire_native_decode(struct wire_request **ret, const char *body, size_t len, struct pcv_err *e)
{
    struct wire_request *r = wire_request_new(WIRE_NATIVE);
    struct wire_reader rd;
    int code;

    if (!r)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    wire_reader_init(&rd, body, len, "$", r->arena, e);
    code = read_request(&rd, r);
    if (code < 0) {
        wire_request_free(r);
        return code;
    }
    *ret = r;
    return 0;
}
