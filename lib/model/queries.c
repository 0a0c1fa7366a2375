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
    case PCV_QUERY_INPUT: return in->queries.nsegments ? &in->queries : &in->tokens;
    case PCV_QUERY_CALLER: return &in->queries;
    case PCV_QUERY_LEARNED: break;
    }
    return NULL;
}

int pcv_query_rows_all(const struct pcv_model *m, int task, const struct pcv_input *in)
{
    const struct pcv_tokens *queries = pcv_queries_of(m, task, in);

    if (m->bp.task[task].kind == PCV_TASK_FILL_MASK)
        return in->positions;
    return queries ? (int)pcv_tokens_count(queries) : m->bp.task[task].rows;
}

int pcv_query_rows_default(const struct pcv_model *m, int task, const struct pcv_input *in,
                           int32_t *rows, int max)
{
    const int all = pcv_query_rows_all(m, task, in);
    int n = 0;

    for (int i = 0; i < all; i++) {
        if (m->bp.task[task].kind == PCV_TASK_FILL_MASK && in->ids[i] != PCV_TOKEN_MASK)
            continue;
        if (n < max)
            rows[n] = i;
        n++;
    }
    return n;
}

int pcv_query_check(const struct pcv_model *m, const struct pcv_input *in,
                    const struct pcv_query *q, struct pcv_err *e)
{
    int all;

    if (q->task < 0 || q->task >= m->bp.ntasks)
        return pcv_fail(e, PCV_EUNKNOWN, "no task of index %d", q->task);
    if (m->bp.task[q->task].source == PCV_QUERY_CALLER && in->queries.nsegments == 0) {
        pcv_fail(e, PCV_EMISSING, "input is missing; task %s answers them",
                 m->bp.task[q->task].name);
        return pcv_err_at(e, "queries");
    }
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
