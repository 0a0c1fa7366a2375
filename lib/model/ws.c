#include "lib/model/ws.h"

#include "lib/attention/self.h"
#include "lib/base/pool.h"
#include "lib/model/forward.h"

#include <stdlib.h>

int pcv_ws_block(const struct pcv_model *m, int threads)
{
    const int latents = m->bp.num_latents, rows = m->bp.d_latents <= 512 ? 512 : 256;
    int blocks = threads * ((latents + rows * threads - 1) / (rows * threads));

    if (blocks > latents / 16)
        blocks = latents / 16 > 0 ? latents / 16 : 1;
    return (latents + blocks - 1) / blocks;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

int pcv_ws_slice(int latents, int threads, int items)
{
    int n = 2048 / latents;

    if (n < threads)
        n = threads;
    return n < items ? n : items;
}

/* The longest scratch that any phase wants from one thread. */
static size_t thread_need(const struct pcv_model *m, int block)
{
    const struct pcv_blueprint *bp = &m->bp;
    size_t n = 0;

    for (int i = 0; i < bp->ncross; i++) {
        const struct pcv_encoder *enc = &m->plan.encoder[i];

        n = most(n, enc->mode == PCV_ENCODE_TABLES
                        ? pcv_encode_tables_need(enc)
                        : pcv_encode_factored_need(enc, m->plan.table_rows));
        n = most(n, pcv_layer_tail_need(&bp->cross[i].d, block));
        n = most(n, (size_t)block * (size_t)bp->d_latents); /* queries' LayerNorm */
        n = most(n, pcv_pass_attention_need(&bp->cross[i].d));
    }
    for (int i = 0; i < bp->nself; i++)
        n = most(n, pcv_self_need(&bp->self[i], block));
    for (int i = 0; i < bp->ntasks; i++)
        n = most(n, pcv_decode_need(&m->plan.decoder[i]));
    return pcv_pad_floats(n);
}

static void size_arrays(struct pcv_ws_arrays *a, const struct pcv_model *m, int threads)
{
    const struct pcv_blueprint *bp = &m->bp;
    const int shared = pcv_ws_block(m, threads), whole = pcv_ws_block(m, 1);
    const size_t lanes =
        most(pcv_panel_need(bp->num_latents, shared), pcv_panel_need(bp->num_latents, whole));
    const size_t latents = (size_t)bp->num_latents;

    for (int i = 0; i < bp->ncross; i++) {
        const struct pcv_layer_dims *d = &bp->cross[i].d;

        a->ctx_floats = most(a->ctx_floats, latents * (size_t)d->v);
        if (!m->plan.repeats)
            continue;
        a->cross_q_floats = most(a->cross_q_floats, latents * (size_t)d->qk);
        if (m->plan.encoder[i].mode == PCV_ENCODE_FACTORED)
            a->cross_u_floats =
                most(a->cross_u_floats, latents * (size_t)d->heads * (size_t)d->kv_dim);
    }
    for (int i = 0; i < bp->nself; i++) {
        a->q_floats = most(a->q_floats, lanes * (size_t)bp->self[i].d.qk);
        a->v_floats = most(a->v_floats, lanes * (size_t)bp->self[i].d.v);
    }
    for (int i = 0; i < bp->ntasks; i++)
        a->decode_floats = most(a->decode_floats, pcv_decode_item_need(&m->plan.decoder[i]));
    a->panels_floats = pcv_pad_floats(lanes * (size_t)bp->d_latents);
    a->k_floats = a->q_floats = pcv_pad_floats(a->q_floats);
    a->v_floats = pcv_pad_floats(a->v_floats);
    a->decode_floats = pcv_pad_floats(a->decode_floats);
    a->thread_floats = most(thread_need(m, shared), thread_need(m, whole));
}

struct pcv_ws_arrays pcv_ws_carve(struct pcv_bump *b, const struct pcv_model *m, int items,
                                  int threads)
{
    const size_t n = (size_t)pcv_ws_slice(m->bp.num_latents, threads, items);
    const size_t sets = (size_t)pcv_ws_sets(threads);
    struct pcv_ws_arrays a = {0};

    size_arrays(&a, m, threads);
    a.x = pcv_take(b, n * (size_t)m->bp.num_latents * (size_t)m->bp.d_latents);
    a.ctx = pcv_take(b, n * a.ctx_floats);
    a.cross_q = pcv_take(b, n * a.cross_q_floats);
    a.cross_u = pcv_take(b, n * a.cross_u_floats);
    a.panels = pcv_take(b, sets * a.panels_floats);
    a.q = pcv_take(b, sets * a.q_floats);
    a.k = pcv_take(b, sets * a.k_floats);
    a.v = pcv_take(b, sets * a.v_floats);
    a.decode = pcv_take(b, n * a.decode_floats);
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
    free(ws->fresh);
    free(ws->first);
    free(ws->claims);
    free(ws);
}

static int reserve_items(struct pcv_ws *ws, int n, struct pcv_err *e)
{
    int *fresh, *first;
    uint32_t *claims;

    if (n <= ws->max_items)
        return 0;
    fresh = calloc((size_t)n, sizeof(*fresh));
    first = calloc((size_t)n, sizeof(*first));
    claims = calloc((size_t)n, sizeof(*claims));
    if (!fresh || !first || !claims) {
        free(fresh);
        free(first);
        free(claims);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d items", n);
    }
    free(ws->fresh);
    free(ws->first);
    free(ws->claims);
    ws->fresh = fresh;
    ws->first = first;
    ws->claims = claims;
    return 0;
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
    if (r == 0)
        r = reserve_items(ws, max_items, e);
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

static void touch_part(int i, int n, void *arg)
{
    const struct pcv_ws *ws = arg;
    const size_t from = ws->capacity * (size_t)i / (size_t)n;
    const size_t to = ws->capacity * (size_t)(i + 1) / (size_t)n;

    if (ws->arena)
        pcv_touch(ws->arena + from, (to - from) * sizeof(float));
}

void pcv_ws_touch(struct pcv_ws *ws)
{
    pcv_pool_run(ws->pool, touch_part, ws);
}

size_t pcv_ws_bytes(const struct pcv_ws *ws)
{
    return ws->capacity * sizeof(float);
}
