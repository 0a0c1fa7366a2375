/* wire_parts.c - media as raw bodies and forms, with options in the query string or in fields. */
#include "proto/wire_decode.h"

#include <stdio.h>
#include <string.h>

/* Options as they come, first those of the query string, then those of the form. */
struct options {
    struct wire_request *req;
    uint32_t seen;      /* options that were given, by their places in the table */
    uint32_t last_seen; /* of the last task, those that belong to one */
    const char *stream; /* where stream was said, for errors: "?" or "form." */
};

/* An option and where it came from: "?top_k" or "form.top_k". */
struct option {
    const char *name, *value;
    size_t len;
    const char *place; /* "?" or "form." */
};

/* Places in the table of options. */
enum {
    TASK,
    TOP_K,
    POSITIONS,
    LATENTS,
    REGION,
    QUERIES,
    FORMAT,
    KEEP,
    CACHE,
    SHARE,
    STREAM,
    PRIORITY,
    TIMEOUT,
    OPTIONS
};

static int fail_at(const struct option *o, int code, struct pcv_err *e)
{
    if (e && !e->where[0])
        pcv_err_at(e, "%s%.64s", o->place, o->name);
    return code;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int whole_number(const char *s, size_t len, int64_t min, int64_t max, int64_t *v,
                        struct pcv_err *e)
{
    const int shown = (int)(len < 40 ? len : 40);
    int64_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return pcv_fail(e, PCV_EFORMAT, "\"%.*s\" is not a whole number", shown, s);
        n = n > max ? n : n * 10 + (s[i] - '0');
    }
    if (len == 0)
        return pcv_fail(e, PCV_EFORMAT, "a whole number is expected");
    if (n < min || n > max)
        return pcv_fail(e, PCV_ERANGE, "%.*s is outside %lld..%lld", shown, s, (long long)min,
                        (long long)max);
    *v = n;
    return 0;
}

/* The next of the whole numbers that commas separate: moves o's value behind it. */
static int next_number(struct option *o, int64_t min, int64_t *v, struct pcv_err *e)
{
    const char *comma = o->len ? memchr(o->value, ',', o->len) : NULL;
    const size_t len = comma ? (size_t)(comma - o->value) : o->len;
    int r = whole_number(o->value, len, min, WIRE_MAX_COORDINATE, v, e);

    o->value += len + (comma != NULL);
    o->len -= len + (comma != NULL);
    return r == 0 && comma && o->len == 0 ? pcv_fail(e, PCV_EFORMAT, "a comma at the end") : r;
}

static int truth(const struct option *o, bool *v, struct pcv_err *e)
{
    *v = o->len == 4 && memcmp(o->value, "true", 4) == 0;
    if (!*v && (o->len != 5 || memcmp(o->value, "false", 5) != 0))
        return pcv_fail(e, PCV_EFORMAT, "true or false is expected");
    return 0;
}

/* ---- options of a task ----------------------------------------------------------------------- */

static int take_task(struct options *s, struct option *o, struct pcv_err *e)
{
    struct wire_query *q;
    int r;

    if (o->len == 0)
        return pcv_fail(e, PCV_EMISSING, "the task's name is empty");
    if ((r = wire_add_query(s->req, &q, e)) < 0)
        return r;
    q->task = wire_arena_text(s->req->arena, o->value, o->len);
    s->last_seen = 0;
    return q->task ? 0 : pcv_fail(e, PCV_ENOMEM, "out of memory");
}

/* The last task. Only top_k may come before all. */
static struct wire_query *last_task(const struct options *s)
{
    return s->req->nqueries ? &s->req->queries[s->req->nqueries - 1] : NULL;
}

/* Of the task before it, or of all when none came yet. */
static int take_top_k(struct options *s, struct option *o, struct pcv_err *e)
{
    struct wire_query *q = last_task(s);
    int64_t v = 0;
    int r = whole_number(o->value, o->len, 1, WIRE_MAX_TOP_K, &v, e);

    if (r < 0)
        return r;
    *(q ? &q->top_k : &s->req->default_top_k) = (int)v;
    return 0;
}

/* positions or latents of the last task. */
static int take_rows(struct options *s, struct option *o, struct pcv_err *e)
{
    struct wire_query *q = last_task(s);
    int32_t *rows = NULL;
    int64_t v = 0;
    int r, n = 0;

    if (s->last_seen & 1u << REGION)
        return pcv_fail(e, PCV_EFORMAT, "does not go together with region");
    do {
        if (n == WIRE_MAX_ROWS)
            return pcv_fail(e, PCV_ELIMIT, "more than %d numbers", WIRE_MAX_ROWS);
        if ((r = next_number(o, 0, &v, e)) < 0)
            return r;
        if (!(rows = wire_arena_room(s->req->arena, rows, n, sizeof(*rows))))
            return pcv_fail(e, PCV_ENOMEM, "out of memory");
        rows[n++] = (int32_t)v;
    } while (o->len);
    q->rows = rows;
    q->nrows = n;
    return 0;
}

static int take_positions(struct options *s, struct option *o, struct pcv_err *e)
{
    if (strcmp(last_task(s)->task, "attention") == 0)
        return pcv_fail(e, PCV_EFORMAT, "%s", wire_rows_wrong(true));
    return take_rows(s, o, e);
}

static int take_latents(struct options *s, struct option *o, struct pcv_err *e)
{
    if (strcmp(last_task(s)->task, "attention") != 0)
        return pcv_fail(e, PCV_EFORMAT, "%s", wire_rows_wrong(false));
    return take_rows(s, o, e);
}

static int take_region(struct options *s, struct option *o, struct pcv_err *e)
{
    struct wire_query *q = last_task(s);
    int64_t v = 0;
    int r;

    if (s->last_seen & (1u << POSITIONS | 1u << LATENTS))
        return pcv_fail(e, PCV_EFORMAT, "does not go together with positions and latents");
    for (int i = 0; i < 4; i++) {
        if (i && !o->len)
            return pcv_fail(e, PCV_EFORMAT, "not a region x,y,width,height");
        if ((r = next_number(o, i < 2 ? 0 : 1, &v, e)) < 0)
            return r;
        q->region[i] = (int32_t)v;
    }
    q->has_region = true;
    return o->len ? pcv_fail(e, PCV_EFORMAT, "not a region x,y,width,height") : 0;
}

/* A JSON array, as in a JSON request. */
static int take_queries(struct options *s, struct option *o, struct pcv_err *e)
{
    struct wire_reader rd;
    char root[16];
    int r;

    snprintf(root, sizeof(root), "%squeries", o->place);
    wire_reader_init(&rd, o->value, o->len, root, s->req->arena, e);
    if ((r = wire_read_queries(&rd, s->req)) < 0 || (r = wire_read_end(&rd)) < 0)
        return r;
    for (int i = 0; i < s->req->nqueries && r == 0; i++)
        r = wire_query_check(s->req, i, root, e);
    return r;
}

/* ---- options of the request ------------------------------------------------------------------ */

static int take_format(struct options *s, struct option *o, struct pcv_err *e)
{
    return wire_format_of(o->value, o->len, &s->req->format, e);
}

static int take_keep(struct options *s, struct option *o, struct pcv_err *e)
{
    return wire_keep_of(o->value, o->len, &s->req->keep_ms, e);
}

static int take_cache(struct options *s, struct option *o, struct pcv_err *e)
{
    bool v;
    int r = truth(o, &v, e);

    s->req->no_cache = r == 0 && !v;
    return r;
}

static int take_share(struct options *s, struct option *o, struct pcv_err *e)
{
    bool v;
    int r = truth(o, &v, e);

    s->req->no_share = r == 0 && !v;
    return r;
}

static int take_stream(struct options *s, struct option *o, struct pcv_err *e)
{
    s->stream = o->place;
    return truth(o, &s->req->stream, e);
}

static int take_priority(struct options *s, struct option *o, struct pcv_err *e)
{
    int64_t v = 0;
    int r = whole_number(o->value, o->len, 0, WIRE_MAX_PRIORITY, &v, e);

    s->req->priority = (int)v;
    return r;
}

static int take_timeout(struct options *s, struct option *o, struct pcv_err *e)
{
    int64_t v = 0;
    int r = whole_number(o->value, o->len, 0, WIRE_MAX_TIMEOUT_MS, &v, e);

    s->req->timeout_us = (uint64_t)v * 1000;
    return r;
}

enum { OF_TASK = 1 /* belongs to the task before it */, FIELD = 2 /* not in the query string */ };

static const struct {
    const char *name;
    int (*take)(struct options *s, struct option *o, struct pcv_err *e);
    int flags;
} known[OPTIONS] = {
    [TASK] = {"task", take_task, 0},
    [TOP_K] = {"top_k", take_top_k, OF_TASK},
    [POSITIONS] = {"positions", take_positions, OF_TASK},
    [LATENTS] = {"latents", take_latents, OF_TASK},
    [REGION] = {"region", take_region, OF_TASK},
    [QUERIES] = {"queries", take_queries, FIELD},
    [FORMAT] = {"format", take_format, 0},
    [KEEP] = {"keep", take_keep, 0},
    [CACHE] = {"cache", take_cache, 0},
    [SHARE] = {"share", take_share, 0},
    [STREAM] = {"stream", take_stream, 0},
    [PRIORITY] = {"priority", take_priority, 0},
    [TIMEOUT] = {"timeout_ms", take_timeout, 0},
};

/* Index into known, or -1. */
static int find_option(const char *name)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strcmp(known[i].name, name) == 0)
            return i;
    return -1;
}

/* Tasks come by queries or by task, and everything once: options of a task once for each. */
static int check_order(const struct options *s, int k, struct pcv_err *e)
{
    const bool of_task = known[k].flags & OF_TASK;
    const uint32_t seen = of_task && s->req->nqueries ? s->last_seen : s->seen;

    if ((s->seen & 1u << QUERIES) && (of_task || k == TASK))
        return pcv_fail(e, PCV_EFORMAT, "tasks are given by queries already");
    if (k == QUERIES && (s->req->nqueries || (s->seen & 1u << TOP_K)))
        return pcv_fail(e, PCV_EFORMAT, "tasks are given already");
    if (of_task && k != TOP_K && !s->req->nqueries)
        return pcv_fail(e, PCV_EFORMAT, "comes behind the task it belongs to");
    return k != TASK && (seen & 1u << k) ? pcv_fail(e, PCV_EFORMAT, "given twice") : 0;
}

static int take_option(struct options *s, int k, struct option *o, struct pcv_err *e)
{
    const bool of_task = (known[k].flags & OF_TASK) && s->req->nqueries;
    int r = check_order(s, k, e);

    if (r < 0)
        return r;
    if ((r = known[k].take(s, o, e)) == 0)
        *(of_task ? &s->last_seen : &s->seen) |= 1u << k;
    return r;
}

/* "unknown argument; known are a, b, c" */
static int unknown_argument(struct pcv_err *e)
{
    char list[160] = "";

    for (int i = 0; i < OPTIONS; i++) {
        const size_t at = strlen(list);

        if (!(known[i].flags & FIELD))
            snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", known[i].name);
    }
    return pcv_fail(e, PCV_EUNKNOWN, "unknown argument; known are %s", list);
}

static int take_argument(struct options *s, const struct wire_arg *arg, struct pcv_err *e)
{
    struct option o = {arg->name, arg->value ? arg->value : "", 0, "?"};
    int k = find_option(arg->name), r;

    o.len = strlen(o.value);
    r = k < 0 || (known[k].flags & FIELD) ? unknown_argument(e) : take_option(s, k, &o, e);
    return r < 0 ? fail_at(&o, r, e) : 0;
}

/* ---- media ----------------------------------------------------------------------------------- */

static int media_of_part(struct wire_request *r, const struct wire_part *p, struct pcv_err *e)
{
    const char *input = p->name ? wire_arena_text(r->arena, p->name, strlen(p->name)) : NULL;
    struct wire_media *m;
    int code;

    if (p->name && !input)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    if (!p->name && p->len == 0)
        return pcv_fail(e, PCV_EMISSING, "the body is empty");
    if ((code = wire_add_media(r, input, true, &m, e)) < 0)
        return code;
    m->data = p->data ? p->data : "";
    m->len = p->len;
    if (p->type)
        code = wire_media_type(r->arena, p->type, strlen(p->type), &m->type, e);
    else if (p->name && !p->filename)
        m->type = "text/plain"; /* a field a person typed */
    if (code == 0 && m->type && strcmp(m->type, "application/x-www-form-urlencoded") == 0)
        return pcv_fail(
            e, PCV_EUNSUPPORTED,
            "a form, not a medium; say what the body is, as in Content-Type: image/png");
    return code < 0 ? code : wire_media_check(m, e);
}

static int take_part(struct options *s, const struct wire_part *p, struct pcv_err *e)
{
    struct option o = {p->name, p->data ? p->data : "", p->len, "form."};
    int k = p->name ? find_option(p->name) : -1;
    int r = k < 0 ? media_of_part(s->req, p, e) : take_option(s, k, &o, e);

    if (r == 0)
        return 0;
    if (!p->name)
        o = (struct option){.name = "body", .place = ""};
    return fail_at(&o, r, e);
}

int wire_native_from_parts(struct wire_request **ret, const struct wire_part *parts, int nparts,
                           const struct wire_arg *args, int nargs, struct pcv_err *e)
{
    struct wire_request *req = wire_request_new(WIRE_NATIVE);
    struct options s = {.req = req};
    int r = 0;

    if (!req)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    req->nitems = 1;
    for (int i = 0; i < nargs && r == 0; i++)
        r = take_argument(&s, &args[i], e);
    for (int i = 0; i < nparts && r == 0; i++)
        r = take_part(&s, &parts[i], e);
    if (r == 0 && req->nmedia == 0)
        r = wire_fail(e, PCV_EMISSING, "form", "no input");
    if (r == 0 && req->stream && req->format != WIRE_JSON)
        r = fail_at(&(struct option){.name = "stream", .place = s.stream},
                    pcv_fail(e, PCV_EFORMAT, WIRE_STREAM_IS_JSON), e);
    if (r < 0) {
        wire_request_free(req);
        return r;
    }
    *ret = req;
    return 0;
}
