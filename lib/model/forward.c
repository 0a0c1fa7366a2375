#include "lib/model/forward.h"

#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void mark(struct pcv_pass *p, int thread, int stage)
{
    if (thread == 0)
        p->at[stage] = seconds();
}

static void copy_latents(struct pcv_pass *p, int thread, bool encoded)
{
    const size_t bytes = (size_t)p->m->bp.num_latents * (size_t)p->m->bp.d_latents * sizeof(float);

    if (thread != 0)
        return;
    for (int i = 0; i < p->n; i++) {
        float *to = encoded ? p->items[i].encoded : p->items[i].latents;

        if (to)
            memcpy(to, pcv_pass_x(p, i), bytes);
    }
}

static void run(int thread, int threads, void *arg)
{
    struct pcv_pass *p = arg;

    (void)threads;
    mark(p, thread, 0);
    if (p->dense)
        pcv_pass_encode_dense(p, thread);
    else
        pcv_pass_encode(p, thread);
    copy_latents(p, thread, true);
    pcv_pool_barrier(p->pool);
    mark(p, thread, 1);
    pcv_pass_process(p, thread);
    mark(p, thread, 2);
    copy_latents(p, thread, false);
    pcv_pass_decode(p, thread);
    mark(p, thread, 3);
}

int pcv_forward(const struct pcv_model *m, struct pcv_ws *ws, struct pcv_item *items, int n,
                struct pcv_timing *t, struct pcv_err *e)
{
    struct pcv_pass p = {
        .m = m,
        .ws = ws,
        .pool = ws->pool,
        .items = items,
        .n = n,
        .threads = pcv_pool_threads(ws->pool),
    };
    struct pcv_bump bump = {.base = ws->arena};
    int r;

    if (n < 1 || n > ws->max_items)
        return pcv_fail(e, PCV_ELIMIT, "%d items, the workspace has room for 1 to %d", n,
                        ws->max_items);
    if (pcv_ws_need(m, n, p.threads, ws->flags) > pcv_ws_bytes(ws))
        return pcv_fail(e, PCV_ELIMIT, "the workspace was not reserved for this model");
    p.a = pcv_ws_carve(&bump, m, n, p.threads);
    p.block = pcv_ws_block(m->bp.num_latents, p.threads);
    r = pcv_pass_plan_decode(&p, e);
    if (r == 0 && (ws->flags & PCV_WS_DENSE))
        r = pcv_pass_dense_new(&p, e);
    if (r < 0)
        return r;
    pcv_pool_run(ws->pool, run, &p);
    pcv_pass_dense_free(&p);
    for (int i = 0; i < n; i++)
        items[i].dropped = pcv_item_cancelled(&items[i]);
    if (t)
        *t = (struct pcv_timing){p.at[1] - p.at[0], p.at[2] - p.at[1], p.at[3] - p.at[2]};
    return 0;
}
