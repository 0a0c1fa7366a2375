/* queries.c - which output query rows a task has for an input, and which a person means. */
#include "lib/input/text.h"
#include "lib/model/model.h"

#include <stdlib.h>
#include <string.h>

const struct pcv_tokens *pcv_queries_of(const struct pcv_model *m, int task,
                                        const struct pcv_input *in)
{
    switch (m->bp.task[task].source) {
    case PCV_QUERY_GRID: return &m->bp.task[task].queries;
    case PCV_QUERY_INPUT:
        if (!in)
            return NULL;
        return in->queries.nsegments ? &in->queries : &in->tokens;
    case PCV_QUERY_CALLER: return in ? &in->queries : NULL;
    case PCV_QUERY_LEARNED: break;
    }
    return NULL;
}

bool pcv_task_reads_input(const struct pcv_model *m, int task)
{
    const struct pcv_task *t = &m->bp.task[task];

    return t->decoder == PCV_DECODER_ATTEND &&
           (t->source == PCV_QUERY_INPUT || t->source == PCV_QUERY_CALLER);
}

int pcv_query_rows_all(const struct pcv_model *m, int task, const struct pcv_input *in)
{
    const struct pcv_tokens *queries = pcv_queries_of(m, task, in);

    if (m->bp.task[task].kind == PCV_TASK_FILL_MASK && in)
        return in->positions;
    return queries ? (int)pcv_tokens_count(queries) : m->bp.task[task].rows;
}

int pcv_query_rows_default(const struct pcv_model *m, int task, const struct pcv_input *in,
                           int32_t *rows, int max)
{
    const int all = pcv_query_rows_all(m, task, in);
    int n = 0;

    for (int i = 0; i < all; i++) {
        if (m->bp.task[task].kind == PCV_TASK_FILL_MASK && in && in->ids[i] != PCV_TOKEN_MASK)
            continue;
        if (n < max)
            rows[n] = i;
        n++;
    }
    return n;
}

/* Whether the task has an answer for this input at all; in may be NULL. */
static int check_task(const struct pcv_model *m, const struct pcv_input *in, int task,
                      struct pcv_err *e)
{
    const struct pcv_task *t = &m->bp.task[task];

    if (!in && pcv_task_reads_input(m, task)) {
        pcv_fail(e, PCV_EMISSING,
                 "the input itself is missing; the task's output queries are of it");
        return pcv_err_at(e, "%s", t->name);
    }
    if (in && m->bp.separate && t->inputs && !(t->inputs >> in->which & 1)) {
        pcv_fail(e, PCV_EUNSUPPORTED, "the task has no answer for input %s",
                 m->bp.input[in->which].name);
        return pcv_err_at(e, "%s", t->name);
    }
    if (!in || t->source != PCV_QUERY_CALLER)
        return 0;
    if (in->queries.nsegments == 0) {
        pcv_fail(e, PCV_EMISSING, "input is missing; task %s answers them", t->name);
        return pcv_err_at(e, "queries");
    }
    if (pcv_tokens_count(&in->queries) > t->rows) {
        pcv_fail(e, PCV_ELIMIT, "%lld output queries, task %s takes %d",
                 (long long)pcv_tokens_count(&in->queries), t->name, t->rows);
        return pcv_err_at(e, "queries");
    }
    return 0;
}

int pcv_query_check(const struct pcv_model *m, const struct pcv_input *in,
                    const struct pcv_query *q, struct pcv_err *e)
{
    int all, r;

    if (q->task < 0 || q->task >= m->bp.ntasks)
        return pcv_fail(e, PCV_EUNKNOWN, "no task of index %d", q->task);
    r = check_task(m, in, q->task, e);
    if (r < 0)
        return r;
    if (q->rows && q->nrows < 0)
        return pcv_fail(e, PCV_ERANGE, "%d output queries", q->nrows);
    all = pcv_query_rows_all(m, q->task, in);
    for (int i = 0; q->rows && i < q->nrows; i++)
        if (q->rows[i] < 0 || q->rows[i] >= all)
            return pcv_fail(e, PCV_ERANGE, "output query %d is outside 0..%d", q->rows[i], all - 1);
    return 0;
}

int pcv_query_rows_from_tensors(const struct pcv_model *m, int task, const struct pcv_tensor *t,
                                int n, int32_t **rows, int *nrows, struct pcv_err *e)
{
    const struct pcv_task *task_of = &m->bp.task[task];
    const struct pcv_tensor *points = NULL;
    int64_t count;
    int32_t *own;
    int r = 0;

    for (int i = 0; task_of->points && i < n; i++)
        if (t[i].name && strcmp(t[i].name, task_of->points) == 0)
            points = &t[i];
    *rows = NULL;
    *nrows = 0;
    if (!points)
        return 0;
    count = points->shape[0];
    if (points->ndim != 1 || count < 1 || count > task_of->rows) {
        pcv_fail(e, PCV_ESHAPE, "wants one dimension of 1 to %d output points", task_of->rows);
        return pcv_err_at(e, "%s", task_of->points);
    }
    own = malloc((size_t)count * sizeof(*own));
    if (!own)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld output points", (long long)count);
    for (int64_t i = 0; i < count && r == 0; i++) {
        int64_t v;

        r = pcv_tensor_to_i64(points, i, 1, &v, e);
        if (r == 0 && (v < 0 || v >= task_of->rows))
            r = pcv_fail(e, PCV_ERANGE, "output point %lld is outside 0..%d", (long long)v,
                         task_of->rows - 1);
        own[i] = (int32_t)v;
    }
    if (r < 0) {
        free(own);
        pcv_err_at(e, "%s", task_of->points);
        return r;
    }
    *rows = own;
    *nrows = (int)count;
    return 0;
}
