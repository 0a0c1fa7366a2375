#include "lib/attention/shared.h"

struct job {
    const struct pcv_panel_kernels *k;
    const struct pcv_product *p;
};

static void some_columns(int unit, int thread, const void *arg)
{
    const struct job *j = arg;
    const int from = unit * PCV_PANEL_COLUMNS, left = j->p->n - from;
    struct pcv_product p = *j->p;

    (void)thread;
    p.n = left < PCV_PANEL_COLUMNS ? left : PCV_PANEL_COLUMNS;
    p.after = left - p.n;
    p.w += (size_t)from * p.ldw;
    p.c += (size_t)from * (size_t)j->k->lanes;
    if (p.bias)
        p.bias += from;
    j->k->product(&p);
}

void pcv_shared_product(const struct pcv_worker *w, const struct pcv_panel_kernels *k,
                        const struct pcv_product *p)
{
    const struct job j = {k, p};
    const size_t unit = (size_t)p->rows * (size_t)p->k * PCV_PANEL_COLUMNS;

    if (!w || !pcv_worth_sharing(unit))
        k->product(p);
    else
        pcv_share(w, (p->n + PCV_PANEL_COLUMNS - 1) / PCV_PANEL_COLUMNS, some_columns, &j);
}
