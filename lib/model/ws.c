#include "lib/model/ws.h"

#include "lib/attention/self.h"
#include "lib/model/forward.h"

#include <stdlib.h>

int pcv_ws_block(int latents, int threads)
{
    int blocks = threads * ((latents + 256 * threads - 1) / (256 * threads));

    if (blocks > latents / 16)
        blocks = latents / 16 > 0 ? latents / 16 : 1;
    return (latents + blocks - 1) / blocks;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The longest scratch that any phase wants from one thread. */
static size_t thread_need(const struct pcv_model *m, int block)
{
    const struct pcv_blueprint *bp = &m->bp;
    size_t n = m->plan.encoder.mode == PCV_ENCODE_TABLES
                   ? pcv_encode_tables_need(&m->plan.encoder)
                   : pcv_encode_factored_need(&m->plan.encoder, m->plan.table_rows);

    for (int i = 0; i < bp->ncross; i++)
        n = most(n, pcv_layer_tail_need(&bp->cross[i].d, block));
    for (int i = 0; i < bp->nself; i++)
        n = most(n, pcv_self_need(&bp->self[i], bp->num_latents, block));
    for (int i = 0; i < bp->ntasks; i++)
        n = most(n, pcv_decode_need(&m->plan.decoder[i]));
    return pcv_pad_floats(n);
}

struct pcv_ws_arrays pcv_ws_carve(struct pcv_bump *b, const struct pcv_model *m, int items,
                                  int threads)
{
    const struct pcv_blueprint *bp = &m->bp;
    const size_t latents = (size_t)bp->num_latents, sets = (size_t)pcv_ws_sets(threads);
    const size_t width = latents * (size_t)bp->d_latents;
    struct pcv_ws_arrays a = {0};
    size_t qk = 0, v = 0, task_qk = 0, task_v = 0;

    for (int i = 0; i < bp->nself; i++) {
        qk = most(qk, (size_t)bp->self[i].d.qk);
        v = most(v, (size_t)bp->self[i].d.v);
    }
    for (int i = 0; i < bp->ntasks; i++) {
        task_qk = most(task_qk, (size_t)bp->task[i].layer.d.qk);
        task_v = most(task_v, (size_t)bp->task[i].layer.d.v);
    }
    a.q_floats = a.k_floats = pcv_pad_floats(latents * qk);
    a.v_floats = pcv_pad_floats(latents * v);
    a.key_floats = pcv_pad_floats(latents * task_qk);
    a.value_floats = pcv_pad_floats(latents * task_v);
    a.thread_floats = thread_need(m, pcv_ws_block(bp->num_latents, threads));
    a.x = pcv_take(b, (size_t)items * width);
    a.ctx = pcv_take(b, (size_t)items * latents * (size_t)bp->cross[0].d.v);
    a.q = pcv_take(b, sets * a.q_floats);
    a.k = pcv_take(b, sets * a.k_floats);
    a.v = pcv_take(b, sets * a.v_floats);
    a.xn = pcv_take(b, (size_t)items * width);
    a.keys = pcv_take(b, (size_t)items * a.key_floats);
    a.values = pcv_take(b, (size_t)items * a.value_floats);
    a.thread = pcv_take(b, (size_t)threads * a.thread_floats);
    return a;
}

size_t pcv_ws_need(const struct pcv_model *m, int max_items, int threads, int flags)
{
    struct pcv_bump count = {0};

    (void)flags; /* dense arrays depend on the input: each forward takes and returns them */
    pcv_ws_carve(&count, m, max_items, threads);
    return count.used * sizeof(float);
}

int pcv_ws_new(struct pcv_ws **ret, struct pcv_pool *pool, struct pcv_err *e)
{
    struct pcv_ws *ws = calloc(1, sizeof(*ws));

    if (!ws)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a workspace");
    ws->pool = pool;
    *ret = ws;
    return 0;
}

void pcv_ws_free(struct pcv_ws *ws)
{
    if (!ws)
        return;
    pcv_free(ws->arena);
    free(ws->jobs);
    free(ws->pack);
    free(ws->groups);
    free(ws);
}

int pcv_ws_reserve(struct pcv_ws *ws, const struct pcv_model *m, int max_items, int flags,
                   struct pcv_err *e)
{
    const size_t need =
        pcv_ws_need(m, max_items, pcv_pool_threads(ws->pool), flags) / sizeof(float);
    int r;

    if (max_items < 1)
        return pcv_fail(e, PCV_ERANGE, "a workspace for %d items", max_items);
    r = pcv_ws_reserve_jobs(ws, 4 * max_items, e);
    if (r < 0)
        return r;
    if (need > ws->capacity) {
        float *arena = pcv_alloc(need, sizeof(float));

        if (!arena)
            return pcv_fail(e, PCV_ENOMEM, "no memory for a workspace of %zu MB",
                            need * sizeof(float) >> 20);
        pcv_free(ws->arena);
        ws->arena = arena;
        ws->capacity = need;
    }
    if (max_items > ws->max_items)
        ws->max_items = max_items;
    ws->flags = flags;
    return 0;
}

size_t pcv_ws_bytes(const struct pcv_ws *ws)
{
    return ws->capacity * sizeof(float);
}
