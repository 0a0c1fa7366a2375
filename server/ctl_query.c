#include "server/ctl_query.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char no_memory[] = "no memory",
                  behind_task[] = "comes behind the --task it belongs to";

int ctl_questions_open(struct ctl_questions *q, struct pcv_err *e)
{
    *q = (struct ctl_questions){.arena = wire_arena_new()};
    return q->arena ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a question");
}

void ctl_questions_close(struct ctl_questions *q)
{
    wire_arena_free(q->arena);
}

void ctl_questions_into(const struct ctl_questions *q, struct wire_request *r)
{
    r->nqueries = q->n;
    r->queries = q->queries;
    r->default_top_k = q->top_k;
    for (int i = 0; i < q->n; i++)
        if (!q->queries[i].top_k)
            q->queries[i].top_k = q->top_k;
}

/* ---- options --------------------------------------------------------------------------------- */

const char *ctl_take_task(void *ctx, const char *value, char message[96])
{
    struct ctl_questions *q = ctx;
    struct wire_query *all = wire_arena_room(q->arena, q->queries, q->n, sizeof(*all));
    const char *task = wire_arena_text(q->arena, value, strlen(value));

    (void)message;
    if (!all || !task)
        return no_memory;
    q->queries = all;
    all[q->n++] = (struct wire_query){.task = task, .input = -1};
    return NULL;
}

/* The question that an option belongs to, or NULL. */
static struct wire_query *last(struct ctl_questions *q)
{
    return q->n ? &q->queries[q->n - 1] : NULL;
}

/* A number of decimal digits and what follows it; negative when there is none up to max. */
static long whole(const char **at, long max)
{
    char *end;
    long n;

    if (!isdigit((unsigned char)**at))
        return -1;
    errno = 0;
    n = strtol(*at, &end, 10);
    *at = end;
    return errno || n > max ? -1 : n;
}

const char *ctl_take_top_k(void *ctx, const char *value, char message[96])
{
    struct ctl_questions *q = ctx;
    struct wire_query *query = last(q);
    const long n = whole(&value, WIRE_MAX_TOP_K);

    if (n < 1 || *value) {
        snprintf(message, 96, "not a number from 1 to %d", WIRE_MAX_TOP_K);
        return message;
    }
    *(query ? &query->top_k : &q->top_k) = (int)n;
    return NULL;
}

static int add_class(struct ctl_questions *q, struct wire_query *query, const char *label)
{
    const char **all =
        wire_arena_room(q->arena, (void *)query->classes, query->nclasses, sizeof(*all));

    if (!all)
        return -1;
    all[query->nclasses++] = label;
    query->classes = all;
    return 0;
}

const char *ctl_take_classes(void *ctx, const char *value, char message[96])
{
    struct ctl_questions *q = ctx;
    struct wire_query *query = last(q);
    char *text = wire_arena_text(q->arena, value, strlen(value)), *to = text;

    (void)message;
    if (!query)
        return behind_task;
    if (!text || add_class(q, query, text) < 0)
        return no_memory;
    for (; *value; value++) {
        if (*value == ',') {
            *to++ = '\0';
            if (add_class(q, query, to) < 0)
                return no_memory;
            continue;
        }
        value += value[0] == '\\' && value[1] == ',';
        *to++ = *value;
    }
    *to = '\0';
    return NULL;
}

static const char *add_rows(struct ctl_questions *q, struct wire_query *query, long from, long to)
{
    int32_t *rows;

    if (to - from >= WIRE_MAX_ROWS - query->nrows)
        return "too many";
    for (; from <= to; from++) {
        rows = wire_arena_room(q->arena, (void *)query->rows, query->nrows, sizeof(*rows));
        if (!rows)
            return no_memory;
        rows[query->nrows++] = (int32_t)from;
        query->rows = rows;
    }
    return NULL;
}

/* "1,2,8-11". */
static const char *take_rows(struct ctl_questions *q, struct wire_query *query, const char *value)
{
    static const char wrong[] = "not a list of numbers: 1,2,8-11";
    const char *problem = NULL;

    do {
        const long from = whole(&value, WIRE_MAX_COORDINATE);
        long to = from;

        if (from < 0)
            return wrong;
        if (*value == '-') {
            value++;
            to = whole(&value, WIRE_MAX_COORDINATE);
        }
        if (to < from || (*value && *value != ','))
            return wrong;
        problem = add_rows(q, query, from, to);
    } while (!problem && *value++ == ',');
    return problem;
}

static bool reads_attention(const struct wire_query *query)
{
    return strcmp(query->task, "attention") == 0;
}

const char *ctl_take_positions(void *ctx, const char *value, char message[96])
{
    struct wire_query *query = last(ctx);

    (void)message;
    if (!query)
        return behind_task;
    return reads_attention(query) ? "the task attention takes --latents"
                                  : take_rows(ctx, query, value);
}

const char *ctl_take_latents(void *ctx, const char *value, char message[96])
{
    struct wire_query *query = last(ctx);

    (void)message;
    return query && reads_attention(query) ? take_rows(ctx, query, value)
                                           : "comes behind --task attention";
}

const char *ctl_take_region(void *ctx, const char *value, char message[96])
{
    struct wire_query *query = last(ctx);

    (void)message;
    if (!query)
        return behind_task;
    for (int i = 0; i < 4; i++) {
        const long n = whole(&value, WIRE_MAX_COORDINATE);

        if (n < 0 || *value != (i < 3 ? ',' : '\0'))
            return "not x,y,width,height in pixels";
        query->region[i] = (int32_t)n;
        value++;
    }
    query->has_region = true;
    return NULL;
}

const char *ctl_take_duration(void *ctx, const char *value, char message[96])
{
    static const char units[] = "smhd";
    static const double seconds[] = {1, 60, 3600, 86400};
    char *end = (char *)value;
    const double n = isdigit((unsigned char)*value) ? strtod(value, &end) : -1;
    const char *unit = *end ? strchr(units, *end) : units;
    double ms;

    if (n < 0 || !unit || (*end && end[1]))
        return "not a time: 90s, 10m, 1.5h, 2d";
    ms = n * seconds[unit - units] * 1e3;
    if (!(ms >= 1 && ms <= WIRE_MAX_KEEP_MS)) {
        snprintf(message, 96, "outside 1 ms..%u d", WIRE_MAX_KEEP_MS / 86400000u);
        return message;
    }
    *(uint64_t *)ctx = (uint64_t)ms;
    return NULL;
}

const char *ctl_take_format(void *ctx, const char *value, char message[96])
{
    static const char *const names[] = {"json", "png", "flo", "wav", "raw"};

    (void)message;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(value, names[i]) == 0) {
            *(enum wire_format *)ctx = (enum wire_format)i;
            return NULL;
        }
    }
    return "none of json, png, flo, wav, raw";
}
