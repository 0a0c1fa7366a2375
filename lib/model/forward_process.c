/* forward_process.c - the process stage of a pass.
 *
 * As many items as divide among the threads go through the whole stack by one thread each: no
 * barrier. The rest is shared: every thread has its blocks of rows, and one barrier per layer.
 * Latents are put into panels before and taken out after. A cancelled item is left at the next
 * layer. */
#include "lib/attention/self.h"
#include "lib/base/pool.h"
#include "lib/model/forward.h"

static struct pcv_self self_of(const struct pcv_pass *p, const struct pcv_layer *l, int x, int set)
{
    return (struct pcv_self){
        .layer = l,
        .latents = p->m->bp.num_latents,
        .block = p->block,
        .x = p->a.panels + (size_t)x * p->a.panels_floats,
        .q = p->a.q + (size_t)set * p->a.q_floats,
        .k = p->a.k + (size_t)set * p->a.k_floats,
        .v = p->a.v + (size_t)set * p->a.v_floats,
    };
}

/* Whether the step at i is another layer of the same run. */
static bool more(const struct pcv_blueprint *bp, int i)
{
    return i < bp->nsteps && bp->step[i].kind == PCV_STEP_SELF;
}

/* Blocks [from, to) of the item's latents, to the panels of set x and back. */
static void enter(struct pcv_pass *p, int item, int x, int from, int to)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const int n = p->m->bp.d_latents;

    for (int b = from; b < to; b++)
        pcv_rows_to_panels(
            k, p->a.panels + (size_t)x * p->a.panels_floats + pcv_self_block(k, p->block, b, n),
            pcv_pass_x(p, item) + (size_t)b * (size_t)p->block * (size_t)n, (size_t)n,
            pcv_self_rows(p->m->bp.num_latents, p->block, b), n);
}

static void leave(struct pcv_pass *p, int item, int x, int from, int to)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const int n = p->m->bp.d_latents;

    for (int b = from; b < to; b++)
        pcv_panels_to_rows(k, pcv_pass_x(p, item) + (size_t)b * (size_t)p->block * (size_t)n,
                           p->a.panels + (size_t)x * p->a.panels_floats +
                               pcv_self_block(k, p->block, b, n),
                           pcv_self_rows(p->m->bp.num_latents, p->block, b), n);
}

static void whole_item(struct pcv_pass *p, int item, int step, int thread)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const struct pcv_blueprint *bp = &p->m->bp;
    const int blocks = (bp->num_latents + p->block - 1) / p->block;
    float *scratch = pcv_pass_scratch(p, thread);

    enter(p, item, thread, 0, blocks);
    for (int i = step; more(bp, i) && !pcv_item_cancelled(&p->items[item]); i++) {
        const struct pcv_self s = self_of(p, &bp->self[bp->step[i].layer], thread, thread);

        for (int b = 0; b < blocks; b++)
            pcv_self_project(&s, k, b, scratch);
        for (int b = 0; b < blocks; b++)
            pcv_self_update(&s, k, b, scratch);
    }
    leave(p, item, thread, 0, blocks);
}

static void shared_item(struct pcv_pass *p, int item, int step, int thread)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const struct pcv_blueprint *bp = &p->m->bp;
    const int blocks = (bp->num_latents + p->block - 1) / p->block;
    const int from = blocks * thread / p->threads, to = blocks * (thread + 1) / p->threads;
    float *scratch = pcv_pass_scratch(p, thread);

    enter(p, item, 0, from, to);
    for (int i = step; more(bp, i); i++) {
        const bool skip = pcv_item_cancelled(&p->items[item]);
        const struct pcv_self s = self_of(p, &bp->self[bp->step[i].layer], 0, i % 2);

        for (int b = from; b < to && !skip; b++)
            pcv_self_project(&s, k, b, scratch);
        pcv_pool_barrier(p->pool);
        for (int b = from; b < to && !skip; b++)
            pcv_self_update(&s, k, b, scratch);
    }
    leave(p, item, 0, from, to);
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
