/* wire_queries.c - the array of queries of a native request. */
#include "proto/wire_decode.h"

#include <stdio.h>
#include <string.h>

/* ---- arrays of whole numbers ----------------------------------------------------------------- */

/* What an array holds, in the words of its errors. */
struct kind {
    const char *array, *one, *several;
    int max;
};

static int read_ints(struct wire_reader *rd, const struct kind *kind, const int32_t **ret, int *len)
{
    int32_t *all = NULL;
    int64_t v;
    int r, n = 0;

    if ((r = wire_read_open(rd, '[', kind->array)) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == kind->max)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d %s", kind->max, kind->several);
        if (!(all = wire_arena_room(rd->arena, all, n, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((r = wire_read_int(rd, 0, WIRE_MAX_COORDINATE, &v)) < 0)
            return r;
        all[n++] = (int32_t)v;
    }
    if (r == 0 && n == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no %s; leave it out to ask all", kind->one);
    *ret = all;
    *len = n;
    return r;
}

static int read_frames(struct wire_reader *rd, struct wire_query *q)
{
    static const struct kind kind = {"an array of frame numbers", "frame", "frames",
                                     WIRE_MAX_FRAMES};

    return read_ints(rd, &kind, &q->frames, &q->nframes);
}

static int read_positions(struct wire_reader *rd, struct wire_query *q)
{
    static const struct kind kind = {"an array of positions", "position", "positions",
                                     WIRE_MAX_ROWS};

    return read_ints(rd, &kind, &q->rows, &q->nrows);
}

static int read_latents(struct wire_reader *rd, struct wire_query *q)
{
    static const struct kind kind = {"an array of latents", "latent", "latents", WIRE_MAX_ROWS};

    return read_ints(rd, &kind, &q->rows, &q->nrows);
}

/* n numbers; the first `from_zero` of them may be 0, the others not. */
static int read_tuple(struct wire_reader *rd, int n, int from_zero, const char *what, int32_t *to)
{
    int64_t v;
    int r, i = 0;

    if ((r = wire_read_open(rd, '[', what)) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (i == n)
            break;
        if ((r = wire_read_int(rd, i < from_zero ? 0 : 1, WIRE_MAX_COORDINATE, &v)) < 0)
            return r;
        to[i++] = (int32_t)v;
    }
    return r < 0 || (r == 0 && i == n) ? r : wire_read_fail(rd, PCV_EFORMAT, "not %s", what);
}

static int read_region(struct wire_reader *rd, struct wire_query *q)
{
    q->has_region = true;
    return read_tuple(rd, 4, 2, "a region [x, y, width, height]", q->region);
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
        if ((r = read_tuple(rd, 2, 2, "a point [x, y]", all[n++])) < 0)
            return r;
    }
    if (r == 0 && n == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no point; leave it out to ask all");
    q->points = (const int32_t(*)[2])all;
    q->npoints = n;
    return r;
}

/* ---- the other members ----------------------------------------------------------------------- */

static int read_task(struct wire_reader *rd, struct wire_query *q)
{
    return wire_read_cstr(rd, &q->task);
}

static int read_input(struct wire_reader *rd, struct wire_query *q)
{
    int64_t v;
    int r = wire_read_int(rd, 0, WIRE_MAX_ITEMS - 1, &v);

    if (r == 0)
        q->input = (int)v;
    return r;
}

static int read_top_k(struct wire_reader *rd, struct wire_query *q)
{
    int64_t top_k;
    int r = wire_read_int(rd, 1, WIRE_MAX_TOP_K, &top_k);

    if (r == 0)
        q->top_k = (int)top_k;
    return r;
}

static int read_classes(struct wire_reader *rd, struct wire_query *q)
{
    const char **all = NULL;
    int r, n = 0;

    if ((r = wire_read_open(rd, '[', "an array of classes' names")) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == WIRE_MAX_CLASSES)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d classes", WIRE_MAX_CLASSES);
        if (!(all = wire_arena_room(rd->arena, all, n, sizeof(*all))))
            return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
        if ((r = wire_read_cstr(rd, &all[n++])) < 0)
            return r;
    }
    if (r == 0 && n == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no class; leave it out to ask for the best");
    q->classes = all;
    q->nclasses = n;
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

/* ---- a query --------------------------------------------------------------------------------- */

/* Places in the table below. */
enum { TASK, INPUT, TOP_K, CLASSES, POSITIONS, LATENTS, REGION, POINTS, FRAMES, POOL, MEMBERS };

static const struct {
    const char *key;
    int (*read)(struct wire_reader *rd, struct wire_query *q);
    uint32_t against; /* members that it cannot stand beside */
} members[MEMBERS] = {
    [TASK] = {"task", read_task, 0},
    [INPUT] = {"input", read_input, 0},
    [TOP_K] = {"top_k", read_top_k, 0},
    [CLASSES] = {"classes", read_classes, 1u << TOP_K},
    [POSITIONS] = {"positions", read_positions, 0},
    [LATENTS] = {"latents", read_latents, 1u << POSITIONS},
    [REGION] = {"region", read_region, 1u << POSITIONS | 1u << LATENTS},
    [POINTS] = {"points", read_points, 1u << POSITIONS | 1u << LATENTS | 1u << REGION},
    [FRAMES] = {"frames", read_frames, 1u << POSITIONS | 1u << LATENTS | 1u << POINTS},
    [POOL] = {"pool", read_pool, 0},
};

/* Members that say the same thing twice, or that the task cannot tell from each other. */
static int check_members(struct wire_reader *rd, const struct wire_query *q, uint32_t seen)
{
    const bool attention = strcmp(q->task, "attention") == 0;

    for (int i = 0; i < MEMBERS; i++)
        for (int k = 0; k < MEMBERS; k++)
            if ((seen & 1u << i) && (seen & members[i].against & 1u << k))
                return wire_read_fail_member(rd, members[i].key, PCV_EFORMAT,
                                             "does not go together with %s", members[k].key);
    if (attention && (seen & 1u << POSITIONS))
        return wire_read_fail_member(rd, "positions", PCV_EFORMAT, "%s",
                                     wire_rows_wrong(attention));
    if (!attention && (seen & 1u << LATENTS))
        return wire_read_fail_member(rd, "latents", PCV_EFORMAT, "%s", wire_rows_wrong(attention));
    return 0;
}

const char *wire_rows_wrong(bool attention)
{
    return attention ? "the task attention has latents, and no positions"
                     : "only the task attention has latents; others have positions";
}

static int read_query(struct wire_reader *rd, struct wire_query *q)
{
    const char *keys[MEMBERS + 1] = {NULL};
    uint32_t seen = 0;
    int r, k = 0;

    for (int i = 0; i < MEMBERS; i++)
        keys[i] = members[i].key;
    if ((r = wire_read_open(rd, '{', "an object with a task")) < 0)
        return r;
    while ((r = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0)
        if ((r = members[k].read(rd, q)) < 0)
            return r;
    if (r == 0 && !q->task)
        return wire_read_missing(rd, "task");
    return r < 0 ? r : check_members(rd, q, seen);
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

int wire_query_check(const struct wire_request *r, int i, const char *root, struct pcv_err *e)
{
    const int input = r->queries[i].input;
    char where[64];

    if (input < 0 || (r->batch && input < r->nitems))
        return 0;
    snprintf(where, sizeof(where), "%s[%d].input", root, i);
    if (!r->batch)
        return wire_fail(e, PCV_EFORMAT, where, "there is one input: only a list has several");
    return wire_fail(e, PCV_ERANGE, where, "%d is outside 0..%d", input, r->nitems - 1);
}
