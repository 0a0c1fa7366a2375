/* forward_encode.c - the encode stage of a pass: attention by units, then the rest of the layer by
 * blocks of rows. */
#include "lib/base/pool.h"
#include "lib/kernel/linear.h"
#include "lib/model/forward.h"

/* Units of one item's attention: a head of all queries, or a block of queries of a head. */
static int units_per_item(const struct pcv_encoder *enc)
{
    const int block = pcv_encode_block(enc->num_latents);
    const int blocks = (enc->num_latents + block - 1) / block;

    return enc->layer->d.heads * (enc->mode == PCV_ENCODE_TABLES ? 1 : blocks);
}

/* Queries of latents that have changed since the model opened: LN_q, projection, absorbed. */
static void changed_queries(struct pcv_pass *p, const struct pcv_encoder *enc, int n, int thread)
{
    const struct pcv_layer *l = enc->layer;
    const int latents = enc->num_latents, block = pcv_pass_block(p);
    const int blocks = pcv_pass_blocks(p, block);
    float *xn = pcv_pass_scratch(p, thread);

    for (int u; (u = pcv_units_next(&p->queries[n])) < p->nfresh * blocks;) {
        const int item = p->fresh[u / blocks], row0 = u % blocks * block;
        const int rows = latents - row0 < block ? latents - row0 : block;
        float *q = p->a.cross_q + (size_t)item * p->a.cross_q_floats + (size_t)row0 * l->d.qk;

        if (pcv_item_cancelled(&p->items[item]))
            continue;
        p->m->plan.k->norm(xn, l->d.q_dim, pcv_pass_x(p, item) + (size_t)row0 * l->d.q_dim,
                           l->d.q_dim, l->norm_q.gamma, l->norm_q.beta, rows, l->d.q_dim, l->eps);
        pcv_linear(p->m->plan.k, rows, l->d.qk, l->d.q_dim, xn, l->d.q_dim, l->q.w, l->q.b, q,
                   l->d.qk, false);
        if (enc->mode == PCV_ENCODE_FACTORED)
            pcv_encode_absorb(l, p->m->plan.k, q, rows,
                              p->a.cross_u + (size_t)item * p->a.cross_u_floats +
                                  (size_t)row0 * l->d.kv_dim,
                              (size_t)latents * l->d.kv_dim);
    }
    pcv_pool_barrier(p->pool);
}

static void attend(struct pcv_pass *p, const struct pcv_encoder *enc, bool first, int item,
                   int unit, float *scratch)
{
    const struct pcv_tokens *t = &p->items[item].input->tokens;
    const int heads = enc->layer->d.heads, head = unit % heads;
    const int block = pcv_encode_block(enc->num_latents);
    const float *q = first ? enc->q : p->a.cross_q + (size_t)item * p->a.cross_q_floats;
    const float *u = first ? enc->u : p->a.cross_u + (size_t)item * p->a.cross_u_floats;
    float *ctx = p->a.ctx + (size_t)item * p->a.ctx_floats;
    int row0, rows;

    if (enc->mode == PCV_ENCODE_TABLES) {
        pcv_encode_tables(enc, p->m->plan.k, t, q, head, ctx, scratch);
        return;
    }
    row0 = unit / heads * block;
    rows = enc->num_latents - row0 < block ? enc->num_latents - row0 : block;
    u += ((size_t)head * (size_t)enc->num_latents + (size_t)row0) * (size_t)enc->channels;
    pcv_encode_factored(enc, p->m->plan.k, t, u, head, row0, rows, ctx, scratch);
}

/* Out projection and MLP of all items, by blocks of rows. The first step reads the learned latents.
 */
static void tails(struct pcv_pass *p, int step, int n, int thread)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const int block = pcv_pass_block(p), blocks = pcv_pass_blocks(p, block);
    const struct pcv_worker w = {p->pool, thread};

    for (int u; (u = pcv_units_next(&p->tails[n])) < p->nfresh * blocks;) {
        const int item = p->fresh[u / blocks], row0 = u % blocks * block;
        const int rows = bp->num_latents - row0 < block ? bp->num_latents - row0 : block;
        const struct pcv_layer *l = &bp->cross[pcv_pass_cross(p, item, step, n)];
        const size_t at = (size_t)row0 * (size_t)bp->d_latents;
        float *x = pcv_pass_x(p, item) + at;

        if (pcv_item_cancelled(&p->items[item]))
            continue;
        pcv_layer_tail(l, p->m->plan.k, &w, rows,
                       p->a.ctx + (size_t)item * p->a.ctx_floats + (size_t)row0 * (size_t)l->d.v,
                       n == 0 ? bp->latents + at : x, x, pcv_pass_scratch(p, thread));
    }
    pcv_pool_meet(&w);
}

/* The most units that an item of the batch has at this step. */
static int most_units(const struct pcv_pass *p, int step, int n)
{
    int most = 1;

    for (int i = 0; i < p->nfresh; i++) {
        const int units =
            units_per_item(&p->m->plan.encoder[pcv_pass_cross(p, p->fresh[i], step, n)]);

        most = units > most ? units : most;
    }
    return most;
}

void pcv_pass_encode(struct pcv_pass *p, int thread, int step, int n)
{
    const int units = most_units(p, step, n);

    if (n > 0)
        changed_queries(p, &p->m->plan.encoder[p->m->bp.step[step].layer], n, thread);
    for (int u; (u = pcv_units_next(&p->encode[n])) < p->nfresh * units;) {
        const int item = p->fresh[u / units], unit = u % units;
        const struct pcv_encoder *enc = &p->m->plan.encoder[pcv_pass_cross(p, item, step, n)];

        if (unit < units_per_item(enc) && !pcv_item_cancelled(&p->items[item]))
            attend(p, enc, n == 0, item, unit, pcv_pass_scratch(p, thread));
    }
    pcv_pool_barrier(p->pool);
    tails(p, step, n, thread);
}

/* ---- dense
 * ------------------------------------------------------------------------------------------ */

enum { TOKEN_ROWS = 512, QUERY_ROWS = 16 };

struct pcv_dense_arrays {
    int64_t tokens;  /* of the largest item */
    size_t channels; /* of the widest */
    float *keys, *values, *q;
    float *x;      /* [threads, TOKEN_ROWS, C] tokens written out, and one row of scratch */
    float *scores; /* [threads, QUERY_ROWS, tokens] */
};

int pcv_pass_dense_new(struct pcv_pass *p, struct pcv_err *e)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const size_t threads = (size_t)p->threads;
    struct pcv_dense_arrays *a = pcv_alloc_zero(1, sizeof(*a));
    size_t qk = 0, v = 0, channels = 0;

    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the dense path");
    p->dense = a;
    for (int i = 0; i < bp->ncross; i++) {
        qk = (size_t)bp->cross[i].d.qk > qk ? (size_t)bp->cross[i].d.qk : qk;
        v = (size_t)bp->cross[i].d.v > v ? (size_t)bp->cross[i].d.v : v;
        channels =
            (size_t)bp->cross[i].d.kv_dim > channels ? (size_t)bp->cross[i].d.kv_dim : channels;
    }
    for (int i = 0; i < p->nfresh; i++) {
        const int64_t tokens = pcv_tokens_count(&p->items[p->fresh[i]].input->tokens);

        a->tokens = tokens > a->tokens ? tokens : a->tokens;
    }
    a->channels = channels;
    a->keys = pcv_alloc((size_t)a->tokens, qk * sizeof(float));
    a->values = pcv_alloc((size_t)a->tokens, v * sizeof(float));
    a->q = pcv_alloc((size_t)bp->num_latents, (qk + (size_t)bp->d_latents) * sizeof(float));
    a->x = pcv_alloc(threads * (TOKEN_ROWS + 1), channels * sizeof(float));
    a->scores = pcv_alloc(threads * QUERY_ROWS, (size_t)a->tokens * sizeof(float));
    if (a->keys && a->values && a->q && a->x && a->scores)
        return 0;
    pcv_pass_dense_free(p);
    return pcv_fail(e, PCV_ENOMEM, "no memory for tokens computed densely");
}

void pcv_pass_dense_free(struct pcv_pass *p)
{
    if (!p->dense)
        return;
    pcv_free(p->dense->keys);
    pcv_free(p->dense->values);
    pcv_free(p->dense->q);
    pcv_free(p->dense->x);
    pcv_free(p->dense->scores);
    pcv_free(p->dense);
    p->dense = NULL;
}

/* The latents' queries as the formula says: LN_q, then the projection. */
static void dense_queries(struct pcv_pass *p, const struct pcv_layer *l, const float *x)
{
    const int latents = p->m->bp.num_latents;
    struct pcv_dense_arrays *a = p->dense;
    float *xn = a->q + (size_t)latents * (size_t)l->d.qk;

    p->m->plan.k->norm(xn, l->d.q_dim, x, l->d.q_dim, l->norm_q.gamma, l->norm_q.beta, latents,
                       l->d.q_dim, l->eps);
    pcv_linear(p->m->plan.k, latents, l->d.qk, l->d.q_dim, xn, l->d.q_dim, l->q.w, l->q.b, a->q,
               l->d.qk, false);
}

/* Threads share tokens by thread index: the dense path has no units, only halves. */
static void dense_item(struct pcv_pass *p, const struct pcv_layer *l, int item, int n, int thread)
{
    const struct pcv_tokens *t = &p->items[item].input->tokens;
    const int64_t tokens = pcv_tokens_count(t);
    const int latents = p->m->bp.num_latents;
    struct pcv_dense_arrays *a = p->dense;
    float *x = a->x + (size_t)thread * (TOKEN_ROWS + 1) * a->channels;

    if (thread == 0)
        dense_queries(p, l, n == 0 ? p->m->bp.latents : pcv_pass_x(p, item));
    for (int64_t m = (int64_t)thread * TOKEN_ROWS; m < tokens;
         m += (int64_t)p->threads * TOKEN_ROWS) {
        const int64_t rows = tokens - m < TOKEN_ROWS ? tokens - m : TOKEN_ROWS;

        pcv_tokens_rows(t, m, rows, x, x + (size_t)TOKEN_ROWS * (size_t)l->d.kv_dim);
        pcv_encode_dense_kv(l, p->m->plan.k, rows, x, a->keys + (size_t)m * (size_t)l->d.qk,
                            a->values + (size_t)m * (size_t)l->d.v);
    }
    pcv_pool_barrier(p->pool);
    for (int i = thread * QUERY_ROWS; i < latents; i += p->threads * QUERY_ROWS)
        pcv_encode_dense_rows(l, p->m->plan.k, tokens, a->q, i,
                              latents - i < QUERY_ROWS ? latents - i : QUERY_ROWS, a->keys,
                              a->values, p->a.ctx + (size_t)item * p->a.ctx_floats,
                              a->scores + (size_t)thread * QUERY_ROWS * (size_t)a->tokens);
    pcv_pool_barrier(p->pool);
}

void pcv_pass_encode_dense(struct pcv_pass *p, int thread, int step, int n)
{
    for (int i = 0; i < p->nfresh; i++)
        dense_item(p, &p->m->bp.cross[pcv_pass_cross(p, p->fresh[i], step, n)], p->fresh[i], n,
                   thread);
    tails(p, step, n, thread);
}
