/* wire_parts.c - media as raw bodies and forms, with options in the query string or in fields. */
#include "proto/wire_decode.h"

#include <stdio.h>
#include <string.h>

/* Options as they come, first those of the query string, then those of the form. */
struct options {
    struct wire_request *req;
    bool queries; /* a JSON array of them came */
    bool top_k, format, priority, timeout;
    bool last_top_k; /* the last task has its own */
};

/* An option and where it came from: "?top_k" or "form.top_k". */
struct option {
    const char *name, *value;
    size_t len;
    const char *place; /* "?" or "form." */
};

static int fail_at(const struct option *o, int code, struct pcv_err *e)
{
    if (e && !e->where[0])
        pcv_err_at(e, "%s%.64s", o->place, o->name);
    return code;
}

static int whole_number(const struct option *o, int64_t min, int64_t max, int64_t *v,
                        struct pcv_err *e)
{
    int64_t n = 0;

    for (size_t i = 0; i < o->len; i++) {
        if (o->value[i] < '0' || o->value[i] > '9')
            return pcv_fail(e, PCV_EFORMAT, "\"%.*s\" is not a whole number",
                            (int)(o->len < 40 ? o->len : 40), o->value);
        n = n > max ? n : n * 10 + (o->value[i] - '0');
    }
    if (o->len == 0)
        return pcv_fail(e, PCV_EFORMAT, "a whole number is expected");
    if (n < min || n > max)
        return pcv_fail(e, PCV_ERANGE, "%.*s is outside %lld..%lld",
                        (int)(o->len < 40 ? o->len : 40), o->value, (long long)min, (long long)max);
    *v = n;
    return 0;
}

static int once(bool *seen, struct pcv_err *e)
{
    if (*seen)
        return pcv_fail(e, PCV_EFORMAT, "given twice");
    *seen = true;
    return 0;
}

static int take_task(struct options *s, const struct option *o, struct pcv_err *e)
{
    struct wire_query *q;
    int r;

    if (s->queries)
        return pcv_fail(e, PCV_EFORMAT, "tasks are given by queries already");
    if (o->len == 0)
        return pcv_fail(e, PCV_EMISSING, "the task's name is empty");
    if ((r = wire_add_query(s->req, &q, e)) < 0)
        return r;
    q->task = wire_arena_text(s->req->arena, o->value, o->len);
    q->top_k = s->req->default_top_k;
    s->last_top_k = false;
    return q->task ? 0 : pcv_fail(e, PCV_ENOMEM, "out of memory");
}

/* Of the task before it, or of all when none came yet. */
static int take_top_k(struct options *s, const struct option *o, struct pcv_err *e)
{
    int64_t v = 0;
    int r;

    if (s->queries)
        return pcv_fail(e, PCV_EFORMAT, "tasks are given by queries already");
    if ((r = once(s->req->nqueries ? &s->last_top_k : &s->top_k, e)) < 0 ||
        (r = whole_number(o, 1, WIRE_MAX_TOP_K, &v, e)) < 0)
        return r;
    if (s->req->nqueries)
        s->req->queries[s->req->nqueries - 1].top_k = (int)v;
    else
        s->req->default_top_k = (int)v;
    return 0;
}

/* A JSON array, as in a JSON request. */
static int take_queries(struct options *s, const struct option *o, struct pcv_err *e)
{
    struct wire_reader rd;
    char root[16];
    int r;

    if (s->req->nqueries || s->top_k)
        return pcv_fail(e, PCV_EFORMAT, "tasks are given already");
    s->queries = true;
    snprintf(root, sizeof(root), "%squeries", o->place);
    wire_reader_init(&rd, o->value, o->len, root, s->req->arena, e);
    r = wire_read_queries(&rd, s->req);
    return r < 0 ? r : wire_read_end(&rd);
}

static int take_format(struct options *s, const struct option *o, struct pcv_err *e)
{
    int r = once(&s->format, e);

    return r < 0 ? r : wire_format_of(o->value, o->len, &s->req->format, e);
}

static int take_priority(struct options *s, const struct option *o, struct pcv_err *e)
{
    int64_t v = 0;
    int r;

    if ((r = once(&s->priority, e)) < 0 || (r = whole_number(o, 0, WIRE_MAX_PRIORITY, &v, e)) < 0)
        return r;
    s->req->priority = (int)v;
    return 0;
}

static int take_timeout(struct options *s, const struct option *o, struct pcv_err *e)
{
    int64_t v = 0;
    int r;

    if ((r = once(&s->timeout, e)) < 0 || (r = whole_number(o, 0, WIRE_MAX_TIMEOUT_MS, &v, e)) < 0)
        return r;
    s->req->timeout_us = (uint64_t)v * 1000;
    return 0;
}

static const struct {
    const char *name;
    int (*take)(struct options *s, const struct option *o, struct pcv_err *e);
    bool argument; /* also in the query string */
} known[] = {
    {"task", take_task, true},          {"top_k", take_top_k, true},
    {"queries", take_queries, false},   {"priority", take_priority, true},
    {"timeout_ms", take_timeout, true}, {"format", take_format, true},
};

/* Index into known, or -1. */
static int find_option(const char *name)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strcmp(known[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int take_argument(struct options *s, const struct wire_arg *arg, struct pcv_err *e)
{
    struct option o = {arg->name, arg->value ? arg->value : "", 0, "?"};
    int k = find_option(arg->name), r;

    o.len = strlen(o.value);
    if (k < 0 || !known[k].argument)
        r = pcv_fail(e, PCV_EUNKNOWN,
                     "unknown argument; known are task, top_k, format, priority, timeout_ms");
    else
        r = known[k].take(s, &o, e);
    return r < 0 ? fail_at(&o, r, e) : 0;
}

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
    struct option o = {p->name, p->data, p->len, "form."};
    int k = p->name ? find_option(p->name) : -1;
    int r = k < 0 ? media_of_part(s->req, p, e) : known[k].take(s, &o, e);

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
    for (int i = 0; i < nargs && r == 0; i++)
        r = take_argument(&s, &args[i], e);
    for (int i = 0; i < nparts && r == 0; i++)
        r = take_part(&s, &parts[i], e);
    if (r == 0 && req->nmedia == 0)
        r = wire_fail(e, PCV_EMISSING, "form", "no input");
    if (r < 0) {
        wire_request_free(req);
        return r;
    }
    *ret = req;
    return 0;
}
