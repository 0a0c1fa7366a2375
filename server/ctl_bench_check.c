/* ctl_bench_check.c - is a reply the same as the first for its request? */
#include "proto/wire_client.h"
#include "server/ctl_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- near ------------------------------------------------------------------------------------ */

static bool near(float a, float b, double tolerance)
{
    const double scale = fabs((double)a) > 1 ? fabs((double)a) : 1;

    return a == b || (isnan(a) && isnan(b)) || fabs((double)a - (double)b) <= tolerance * scale;
}

static bool all_near(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!near(a[i], b[i], tolerance))
            return false;
    return true;
}

static bool labels_near(const struct wire_label *a, int na, const struct wire_label *b, int nb,
                        bool ranked, double tolerance)
{
    if (na != nb)
        return false;
    for (int i = 0; i < na; i++)
        if (!near(a[i].score, b[i].score, tolerance) || (!ranked && a[i].index != b[i].index))
            return false;
    return true;
}

/* The text with the best candidates in place follows from them. */
static bool fills_near(const struct wire_result *a, const struct wire_result *b, double tolerance)
{
    if (a->nfills != b->nfills)
        return false;
    for (int i = 0; i < a->nfills; i++) {
        const struct wire_fill *f = &a->fills[i], *g = &b->fills[i];

        if (f->position != g->position || f->byte_offset != g->byte_offset ||
            !labels_near(f->labels, f->nlabels, g->labels, g->nlabels, true, tolerance))
            return false;
    }
    return true;
}

static bool motions_near(const struct wire_result *a, const struct wire_result *b, double tolerance)
{
    if (a->nmotions != b->nmotions)
        return false;
    for (int i = 0; i < a->nmotions; i++) {
        const struct wire_motion *m = &a->motions[i], *n = &b->motions[i];

        if (m->x != n->x || m->y != n->y || !near(m->u, n->u, tolerance) ||
            !near(m->v, n->v, tolerance))
            return false;
    }
    return true;
}

static bool numbers_near(const struct wire_result *a, const struct wire_result *b, double tolerance)
{
    size_t n = 1;

    if (a->ndim != b->ndim || memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof(*a->shape)) != 0)
        return false;
    for (int i = 0; i < a->ndim; i++)
        n *= (size_t)a->shape[i];
    return all_near(a->numbers, b->numbers, n, tolerance);
}

static bool files_same(const struct wire_result *a, const struct wire_result *b)
{
    if (a->nfiles != b->nfiles)
        return false;
    for (int i = 0; i < a->nfiles; i++) {
        const struct wire_file *f = &a->files[i], *g = &b->files[i];

        if (f->index != g->index || f->len != g->len || memcmp(f->data, g->data, f->len) != 0)
            return false;
    }
    return true;
}

static bool result_near(const struct wire_result *a, const struct wire_result *b, double tolerance)
{
    if (a->kind != b->kind || strcmp(a->task, b->task) != 0)
        return false;
    switch (a->kind) {
    case WIRE_CLASSES:
        return labels_near(a->labels, a->nlabels, b->labels, b->nlabels, true, tolerance);
    case WIRE_VALUES:
        return labels_near(a->labels, a->nlabels, b->labels, b->nlabels, false, tolerance);
    case WIRE_FILLS: return fills_near(a, b, tolerance);
    case WIRE_MOTIONS: return motions_near(a, b, tolerance);
    case WIRE_TENSOR:
    case WIRE_VECTORS: return numbers_near(a, b, tolerance);
    case WIRE_FILES: return files_same(a, b);
    }
    return false;
}

bool ctl_bench_near(const struct wire_reply *a, const struct wire_reply *b, double tolerance)
{
    if (a->nresults != b->nresults)
        return false;
    for (int i = 0; i < a->nresults; i++)
        if (!result_near(&a->results[i], &b->results[i], tolerance))
            return false;
    return true;
}

/* ---- one reply ------------------------------------------------------------------------------- */

static int keep(struct ctl_sample *s, const void *json, size_t json_len, const void *binary,
                size_t binary_len, struct pcv_err *e)
{
    s->answer = malloc(json_len + binary_len + 1);
    if (!s->answer)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a reply");
    memcpy(s->answer, json, json_len);
    if (binary_len)
        memcpy(s->answer + json_len, binary, binary_len);
    s->json_len = json_len;
    s->answer_len = json_len + binary_len;
    return 0;
}

/* Binary outputs: floats all of them; they may stand anywhere. */
static bool binary_near(const char *a, const char *b, size_t len, double tolerance)
{
    float x, y;

    if (tolerance == 0)
        return memcmp(a, b, len) == 0;
    for (; len >= sizeof(x); len -= sizeof(x), a += sizeof(x), b += sizeof(x)) {
        memcpy(&x, a, sizeof(x));
        memcpy(&y, b, sizeof(y));
        if (!near(x, y, tolerance))
            return false;
    }
    return memcmp(a, b, len) == 0;
}

static int check_answer(struct ctl_bench *b, struct ctl_sample *s, struct wire_arena *a,
                        const struct ctl_reply *reply, struct pcv_err *e)
{
    struct wire_str json, binary;
    int r = wire_client_answer(a, b->options.binary ? WIRE_OIP : WIRE_NATIVE, reply->body,
                               reply->len, reply->header_len, &json, &binary, e);

    if (r < 0)
        return pcv_err_at(e, "reply");
    if (!s->answer)
        return keep(s, json.s, json.len, binary.s, binary.len, e);
    b->different += s->json_len != json.len || s->answer_len != json.len + binary.len ||
                    memcmp(s->answer, json.s, json.len) != 0 ||
                    !binary_near(s->answer + json.len, binary.s, binary.len, b->options.tolerance);
    return 0;
}

static int check_near(struct ctl_bench *b, struct ctl_sample *s, struct wire_arena *a,
                      const struct ctl_reply *reply, struct pcv_err *e)
{
    struct wire_reply first, now;
    int r = wire_client_reply(a, reply->body, reply->len, &now, e);

    if (r == 0 && !s->answer)
        return keep(s, reply->body, reply->len, NULL, 0, e);
    if (r == 0)
        r = wire_client_reply(a, s->answer, s->answer_len, &first, e);
    if (r != 0)
        return pcv_err_at(e, "reply");
    b->different += !ctl_bench_near(&first, &now, b->options.tolerance);
    return 0;
}

int ctl_bench_check(struct ctl_bench *b, struct ctl_sample *s, const struct ctl_reply *reply,
                    struct pcv_err *e)
{
    struct wire_arena *a = wire_arena_new();
    int r;

    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a reply");
    r = b->options.tolerance > 0 && !b->options.binary ? check_near(b, s, a, reply, e)
                                                       : check_answer(b, s, a, reply, e);
    wire_arena_free(a);
    return r;
}
