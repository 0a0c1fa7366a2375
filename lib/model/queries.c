/* queries.c - which output query rows a task has for an input, and which a person means. */
#include "lib/input/text.h"
#include "lib/model/model.h"

int pcv_query_rows_all(const struct pcv_model *m, int task, const struct pcv_input *in)
{
    return m->bp.task[task].kind == PCV_TASK_FILL_MASK ? in->positions : m->bp.task[task].rows;
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
    all = pcv_query_rows_all(m, q->task, in);
    for (int i = 0; q->rows && i < q->nrows; i++)
        if (q->rows[i] < 0 || q->rows[i] >= all)
            return pcv_fail(e, PCV_ERANGE, "output query %d is outside 0..%d", q->rows[i], all - 1);
    return 0;
}
