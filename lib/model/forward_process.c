/* forward_process.c - the process stage of a pass.
 *
 * As many items as divide among the threads go through the whole stack by one thread each: no
 * barrier. The rest is shared: blocks of rows go to whoever comes first, with one barrier per
 * layer. Who has nothing left helps the others. Latents are put into panels before and taken out
 * after. A cancelled item is left at the next layer. */
#include "lib/attention/self.h"
#include "lib/base/pool.h"
#include "lib/model/forward.h"

static struct pcv_self self_of(const struct pcv_pass *p, const struct pcv_layer *l, int block,
                               int x, int set)
{
    return (struct pcv_self){
        .layer = l,
        .latents = p->m->bp.num_latents,
        .block = block,
        .x = p->a.panels + (size_t)x * p->a.panels_floats,
        .q = p->a.q + (size_t)set * p->a.q_floats,
        .k = p->a.k + (size_t)set * p->a.k_floats,
        .v = p->a.v + (size_t)set * p->a.v_floats,
        .scratch = p->a.thread,
        .scratch_step = p->a.thread_floats,
    };
}

/* Whether the step at i is another layer of the same run. */
static bool more(const struct pcv_blueprint *bp, int i)
{
    return i < bp->nsteps && bp->step[i].kind == PCV_STEP_SELF;
}

/* Block b of the item's latents, to the panels of set x and back. */
static void enter(struct pcv_pass *p, int item, int x, int block, int b)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const int n = p->m->bp.d_latents;

    pcv_rows_to_panels(
        k, p->a.panels + (size_t)x * p->a.panels_floats + pcv_self_block(k, block, b, n),
        pcv_pass_x(p, item) + (size_t)b * (size_t)block * (size_t)n, (size_t)n,
        pcv_self_rows(p->m->bp.num_latents, block, b), n);
}

static void leave(struct pcv_pass *p, int item, int x, int block, int b)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const int n = p->m->bp.d_latents;

    pcv_panels_to_rows(k, pcv_pass_x(p, item) + (size_t)b * (size_t)block * (size_t)n,
                       p->a.panels + (size_t)x * p->a.panels_floats +
                           pcv_self_block(k, block, b, n),
                       pcv_self_rows(p->m->bp.num_latents, block, b), n);
}

static void whole_item(struct pcv_pass *p, int item, int step, const struct pcv_worker *w)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const struct pcv_blueprint *bp = &p->m->bp;
    const int block = p->whole_block, blocks = pcv_pass_blocks(p, block);
    const int thread = w->thread;

    for (int b = 0; b < blocks; b++)
        enter(p, item, thread, block, b);
    for (int i = step; more(bp, i) && !pcv_item_cancelled(&p->items[item]); i++) {
        const struct pcv_self s = self_of(p, &bp->self[bp->step[i].layer], block, thread, thread);

        for (int b = 0; b < blocks; b++)
            pcv_self_project(&s, k, w, b);
        for (int b = 0; b < blocks; b++)
            pcv_self_update(&s, k, w, b);
    }
    for (int b = 0; b < blocks; b++)
        leave(p, item, thread, block, b);
}

/* What a block needs between two barriers: to be brought through a layer, and to be projected for
 * the next. The stack has `layers`; at 0 nothing has been done, at `layers` all is. */
static void shared_block(struct pcv_pass *p, int item, int step, int at, int layers, int b,
                         const struct pcv_worker *w)
{
    const struct pcv_panel_kernels *k = p->m->plan.k->panel;
    const struct pcv_blueprint *bp = &p->m->bp;
    const int block = p->shared_block;

    if (at == 0) {
        enter(p, item, 0, block, b);
    } else {
        const struct pcv_self s =
            self_of(p, &bp->self[bp->step[step + at - 1].layer], block, 0, (at - 1) % 2);

        pcv_self_update(&s, k, w, b);
    }
    if (at == layers) {
        leave(p, item, 0, block, b);
    } else {
        const struct pcv_self s =
            self_of(p, &bp->self[bp->step[step + at].layer], block, 0, at % 2);

        pcv_self_project(&s, k, w, b);
    }
}

/* Three counters take turns: the one that is made ready here was used before the last barrier, and
 * will be after the next. turn: how many were used before; returns how many are now. */
static int shared_item(struct pcv_pass *p, int item, int step, const struct pcv_worker *w,
                       struct pcv_units *units, int turn)
{
    const int blocks = pcv_pass_blocks(p, p->shared_block);
    int layers = 0;

    while (more(&p->m->bp, step + layers))
        layers++;
    for (int at = 0; at <= layers; at++, turn++) {
        const bool skip = pcv_item_cancelled(&p->items[item]);

        if (w->thread == 0)
            pcv_units_reset(&units[(turn + 2) % 3]);
        for (int b; (b = pcv_units_next(&units[turn % 3])) < blocks;)
            if (!skip)
                shared_block(p, item, step, at, layers, b, w);
        pcv_pool_meet(w);
    }
    return turn;
}

void pcv_pass_process(struct pcv_pass *p, int thread, int step, int n)
{
    const struct pcv_worker w = {p->pool, thread};
    const int whole = p->nfresh - p->nfresh % p->threads;
    int turn = 0;

    for (int i; (i = pcv_units_next(&p->process[n])) < whole;)
        whole_item(p, p->fresh[i], step, &w);
    pcv_pool_meet(&w);
    for (int i = whole; i < p->nfresh; i++)
        turn = shared_item(p, p->fresh[i], step, &w, p->blocks[n], turn);
}
