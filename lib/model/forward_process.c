/* forward_process.c - the process stage of a pass.
 *
 * As many items as divide among the threads go through the whole stack by one thread each: no
 * barrier. The rest is shared: every thread has its blocks of rows, and one barrier per layer.
 * Block boundaries are the same either way. A cancelled item is left at the next layer. */
#include "lib/attention/self.h"
#include "lib/base/pool.h"
#include "lib/model/forward.h"

static struct pcv_self self_of(const struct pcv_pass *p, const struct pcv_layer *l, int item,
                               int set)
{
    return (struct pcv_self){
        .layer = l,
        .latents = p->m->bp.num_latents,
        .x = pcv_pass_x(p, item),
        .q = p->a.q + (size_t)set * p->a.q_floats,
        .k = p->a.k + (size_t)set * p->a.k_floats,
        .v = p->a.v + (size_t)set * p->a.v_floats,
    };
}

typedef void (*half_fn)(const struct pcv_self *s, const struct pcv_kernels *k, int row0, int rows,
                        float *scratch);

/* Blocks [from, to) of rows. */
static void half(const struct pcv_pass *p, const struct pcv_self *s, half_fn f, int from, int to,
                 float *scratch)
{
    for (int b = from; b < to; b++) {
        const int row0 = b * p->block;
        const int rows = s->latents - row0 < p->block ? s->latents - row0 : p->block;

        f(s, p->m->plan.k, row0, rows, scratch);
    }
}

/* Whether the step at i is another layer of the same run. */
static bool more(const struct pcv_blueprint *bp, int i)
{
    return i < bp->nsteps && bp->step[i].kind == PCV_STEP_SELF;
}

static void whole_item(struct pcv_pass *p, int item, int step, int thread)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const int blocks = (bp->num_latents + p->block - 1) / p->block;

    for (int i = step; more(bp, i) && !pcv_item_cancelled(&p->items[item]); i++) {
        const struct pcv_self s = self_of(p, &bp->self[bp->step[i].layer], item, thread);

        half(p, &s, pcv_self_project, 0, blocks, pcv_pass_scratch(p, thread));
        half(p, &s, pcv_self_update, 0, blocks, pcv_pass_scratch(p, thread));
    }
}

static void shared_item(struct pcv_pass *p, int item, int step, int thread)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const int blocks = (bp->num_latents + p->block - 1) / p->block;
    const int from = blocks * thread / p->threads, to = blocks * (thread + 1) / p->threads;

    for (int i = step; more(bp, i); i++) {
        const bool skip = pcv_item_cancelled(&p->items[item]);
        const struct pcv_self s = self_of(p, &bp->self[bp->step[i].layer], item, i % 2);

        if (!skip)
            half(p, &s, pcv_self_project, from, to, pcv_pass_scratch(p, thread));
        pcv_pool_barrier(p->pool);
        if (!skip)
            half(p, &s, pcv_self_update, from, to, pcv_pass_scratch(p, thread));
    }
    pcv_pool_barrier(p->pool);
}

void pcv_pass_process(struct pcv_pass *p, int thread, int step, int n)
{
    const int whole = p->nfresh - p->nfresh % p->threads;

    for (int i; (i = pcv_units_next(&p->process[n])) < whole;)
        whole_item(p, p->fresh[i], step, thread);
    pcv_pool_barrier(p->pool);
    for (int i = whole; i < p->nfresh; i++)
        shared_item(p, p->fresh[i], step, thread);
}
