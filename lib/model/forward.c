#include "lib/model/forward.h"

#include "lib/model/latents.h"

#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Time since the last mark goes to *stage. */
static void mark(struct pcv_pass *p, int thread, double *stage)
{
    double now;

    if (thread != 0)
        return;
    now = seconds();
    if (stage)
        *stage += now - p->last;
    p->last = now;
}

/* Latents that the caller wants to see, or to keep. */
static void copy_latents(struct pcv_pass *p, int thread, bool encoded)
{
    const size_t bytes = (size_t)p->m->bp.num_latents * (size_t)p->m->bp.d_latents * sizeof(float);

    for (int i = thread; i < p->nfresh; i += p->threads) {
        const int item = p->fresh[i];
        const struct pcv_item *it = &p->items[item];
        float *to = encoded ? it->encoded : it->latents;

        if (to)
            memcpy(to, pcv_pass_x(p, item), bytes);
        if (it->kept && !encoded)
            memcpy(it->kept->x, pcv_pass_x(p, item), bytes);
    }
    for (int i = thread; i < p->n && !encoded; i += p->threads) {
        const struct pcv_item *it = &p->items[i];

        if (it->latents && it->kept && pcv_latents_filled(it->kept))
            memcpy(it->latents, it->kept->x, bytes);
    }
}

static void run(int thread, int threads, void *arg)
{
    struct pcv_pass *p = arg;
    const struct pcv_blueprint *bp = &p->m->bp;

    (void)threads;
    mark(p, thread, NULL);
    for (int step = 0, n = 0; step < bp->nsteps && p->nfresh > 0; n++) {
        if (p->dense)
            pcv_pass_encode_dense(p, thread, step, n);
        else
            pcv_pass_encode(p, thread, step, n);
        if (n == 0) {
            copy_latents(p, thread, true);
            pcv_pool_barrier(p->pool);
        }
        mark(p, thread, &p->encode_s);
        pcv_pass_process(p, thread, ++step, n);
        mark(p, thread, &p->process_s);
        while (step < bp->nsteps && bp->step[step].kind == PCV_STEP_SELF)
            step++;
    }
    copy_latents(p, thread, false);
    pcv_pass_attention(p, thread, 0);
    mark(p, thread, &p->encode_s);
    pcv_pass_decode(p, thread);
    mark(p, thread, &p->decode_s);
}

/* A cancelled item may lack any part of it. An item that is not, now that all is done, never was.
 */
static void settle_items(struct pcv_item *items, int n)
{
    for (int i = 0; i < n; i++) {
        items[i].dropped = pcv_item_cancelled(&items[i]);
        if (items[i].kept && !items[i].dropped)
            pcv_latents_fill(items[i].kept);
    }
}

/* One slice of the batch: as many items as the workspace holds arrays for. */
static int forward_slice(const struct pcv_model *m, struct pcv_ws *ws, struct pcv_item *items,
                         int n, struct pcv_timing *t, struct pcv_err *e)
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

    p.fresh = ws->fresh;
    p.claims = ws->claims;
    for (int i = 0; i < n; i++) {
        ws->claims[i] = 0;
        if (!items[i].kept || !pcv_latents_filled(items[i].kept))
            ws->fresh[p.nfresh++] = i;
    }
    p.a = pcv_ws_carve(&bump, m, n, p.threads);
    p.shared_block = pcv_ws_block(m, p.threads);
    p.whole_block = pcv_ws_block(m, 1);
    r = pcv_pass_plan_decode(&p, e);
    if (r == 0 && (ws->flags & PCV_WS_DENSE))
        r = pcv_pass_dense_new(&p, e);
    if (r == 0 && pcv_pass_is_small(&p)) {
        p.pool = NULL;
        p.threads = 1;
    }
    if (r == 0)
        pcv_pool_run(p.pool, run, &p);
    pcv_pass_settle(&p, r == 0);
    if (r < 0)
        return r;
    settle_items(items, n);
    pcv_pass_dense_free(&p);
    t->encode_s += p.encode_s;
    t->process_s += p.process_s;
    t->decode_s += p.decode_s;
    t->tiles += p.ntiles;
    return 0;
}

int pcv_forward(const struct pcv_model *m, struct pcv_ws *ws, struct pcv_item *items, int n,
                struct pcv_timing *t, struct pcv_err *e)
{
    const int threads = pcv_pool_threads(ws->pool);
    const int slice = pcv_ws_slice(m->bp.num_latents, threads, n);
    struct pcv_timing sum = {0};

    if (n < 1 || n > ws->max_items)
        return pcv_fail(e, PCV_ELIMIT, "%d items, the workspace has room for 1 to %d", n,
                        ws->max_items);
    if (pcv_ws_need(m, n, threads, ws->flags) > pcv_ws_bytes(ws))
        return pcv_fail(e, PCV_ELIMIT, "the workspace was not reserved for this model");
    for (int i = 0; i < n; i += slice) {
        const int r = forward_slice(m, ws, items + i, n - i < slice ? n - i : slice, &sum, e);

        if (r < 0)
            return r;
    }
    if (t)
        *t = sum;
    return 0;
}
