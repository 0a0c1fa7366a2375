/* forward_encode.c - the encode stage of a pass: attention by units, then the rest of the layer by
 * blocks of rows. */
#include "lib/base/pool.h"
#include "lib/kernel/gemm.h"
#include "lib/model/forward.h"

/* Units of one item's attention: a head of all queries, or a block of queries of a head. */
static int units_per_item(const struct pcv_encoder *enc)
{
    const int blocks = (enc->num_latents + PCV_ENCODE_BLOCK - 1) / PCV_ENCODE_BLOCK;

    return enc->layer->d.heads * (enc->mode == PCV_ENCODE_TABLES ? 1 : blocks);
}

static void attend(struct pcv_pass *p, int item, int unit, float *scratch)
{
    const struct pcv_encoder *enc = &p->m->plan.encoder;
    const struct pcv_tokens *t = &p->items[item].input->tokens;
    const int heads = enc->layer->d.heads;
    float *ctx = p->a.ctx + (size_t)item * (size_t)enc->num_latents * (size_t)enc->layer->d.v;
    int row0, rows;

    if (enc->mode == PCV_ENCODE_TABLES) {
        pcv_encode_tables(enc, p->m->plan.k, t, unit, ctx, scratch);
        return;
    }
    row0 = unit / heads * PCV_ENCODE_BLOCK;
    rows = enc->num_latents - row0;
    if (rows > PCV_ENCODE_BLOCK)
        rows = PCV_ENCODE_BLOCK;
    pcv_encode_factored(enc, p->m->plan.k, t, unit % heads, row0, rows, ctx, scratch);
}

/* Out projection and MLP of all items, by blocks of rows. */
static void tails(struct pcv_pass *p, int thread)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const struct pcv_layer *l = p->m->plan.encoder.layer;
    const int blocks = (bp->num_latents + p->block - 1) / p->block;

    for (int u; (u = pcv_units_next(&p->tails)) < p->n * blocks;) {
        const int item = u / blocks, row0 = u % blocks * p->block;
        const int rows = bp->num_latents - row0 < p->block ? bp->num_latents - row0 : p->block;
        const size_t at = (size_t)item * (size_t)bp->num_latents + (size_t)row0;

        if (pcv_item_cancelled(&p->items[item]))
            continue;
        pcv_layer_tail(l, p->m->plan.k, rows, p->a.ctx + at * (size_t)l->d.v,
                       bp->latents + (size_t)row0 * (size_t)bp->d_latents,
                       p->a.x + at * (size_t)bp->d_latents, 0, pcv_pass_scratch(p, thread));
    }
    pcv_pool_barrier(p->pool);
}

void pcv_pass_encode(struct pcv_pass *p, int thread)
{
    const int units = units_per_item(&p->m->plan.encoder);

    for (int u; (u = pcv_units_next(&p->encode)) < p->n * units;) {
        if (!pcv_item_cancelled(&p->items[u / units]))
            attend(p, u / units, u % units, pcv_pass_scratch(p, thread));
    }
    pcv_pool_barrier(p->pool);
    tails(p, thread);
}

/* ---- dense
 * ------------------------------------------------------------------------------------------ */

enum { TOKEN_ROWS = 512, QUERY_ROWS = 16 };

struct pcv_dense_arrays {
    int64_t tokens; /* of the largest item */
    float *keys, *values, *q;
    float *x;      /* [threads, TOKEN_ROWS, C] tokens written out, and one row of scratch */
    float *scores; /* [threads, QUERY_ROWS, tokens] */
};

int pcv_pass_dense_new(struct pcv_pass *p, struct pcv_err *e)
{
    const struct pcv_layer_dims *d = &p->m->bp.cross[0].d;
    const size_t threads = (size_t)p->threads;
    struct pcv_dense_arrays *a = pcv_alloc_zero(1, sizeof(*a));

    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the dense path");
    p->dense = a;
    for (int i = 0; i < p->n; i++)
        if (pcv_tokens_count(&p->items[i].input->tokens) > a->tokens)
            a->tokens = pcv_tokens_count(&p->items[i].input->tokens);
    a->keys = pcv_alloc((size_t)a->tokens, (size_t)d->qk * sizeof(float));
    a->values = pcv_alloc((size_t)a->tokens, (size_t)d->v * sizeof(float));
    a->q = pcv_alloc((size_t)p->m->bp.num_latents, (size_t)(d->qk + d->q_dim) * sizeof(float));
    a->x = pcv_alloc(threads * (TOKEN_ROWS + 1), (size_t)d->kv_dim * sizeof(float));
    a->scores = pcv_alloc(threads * QUERY_ROWS, (size_t)a->tokens * sizeof(float));
    if (a->keys && a->values && a->q && a->x && a->scores)
        return 0;
    pcv_pass_dense_free(p);
    return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens computed densely",
                    (long long)p->items[0].input->tokens.segment[0].tokens);
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
static void dense_queries(struct pcv_pass *p)
{
    const struct pcv_blueprint *bp = &p->m->bp;
    const struct pcv_layer *l = &bp->cross[0];
    struct pcv_dense_arrays *a = p->dense;
    float *xn = a->q + (size_t)bp->num_latents * (size_t)l->d.qk;

    p->m->plan.k->norm(xn, l->d.q_dim, bp->latents, l->d.q_dim, l->norm_q.gamma, l->norm_q.beta,
                       bp->num_latents, l->d.q_dim, l->eps);
    pcv_linear(p->m->plan.k, bp->num_latents, l->d.qk, l->d.q_dim, xn, l->d.q_dim, l->q.w, l->q.b,
               a->q, l->d.qk, 0, 0);
}

/* Threads share tokens by thread index: the dense path has no units, only halves. */
static void dense_item(struct pcv_pass *p, int item, int thread)
{
    const struct pcv_layer *l = &p->m->bp.cross[0];
    const struct pcv_tokens *t = &p->items[item].input->tokens;
    const int64_t tokens = pcv_tokens_count(t);
    const int latents = p->m->bp.num_latents;
    struct pcv_dense_arrays *a = p->dense;
    float *x = a->x + (size_t)thread * (TOKEN_ROWS + 1) * (size_t)l->d.kv_dim;
    float *ctx = p->a.ctx + (size_t)item * (size_t)latents * (size_t)l->d.v;

    for (int64_t m = (int64_t)thread * TOKEN_ROWS; m < tokens; m += p->threads * TOKEN_ROWS) {
        const int64_t rows = tokens - m < TOKEN_ROWS ? tokens - m : TOKEN_ROWS;

        pcv_tokens_rows(t, m, rows, x, x + (size_t)TOKEN_ROWS * (size_t)l->d.kv_dim);
        pcv_encode_dense_kv(l, p->m->plan.k, rows, x, a->keys + (size_t)m * (size_t)l->d.qk,
                            a->values + (size_t)m * (size_t)l->d.v);
    }
    pcv_pool_barrier(p->pool);
    for (int i = thread * QUERY_ROWS; i < latents; i += p->threads * QUERY_ROWS)
        pcv_encode_dense_rows(
            l, p->m->plan.k, tokens, a->q, i, latents - i < QUERY_ROWS ? latents - i : QUERY_ROWS,
            a->keys, a->values, ctx, a->scores + (size_t)thread * QUERY_ROWS * (size_t)a->tokens);
    pcv_pool_barrier(p->pool);
}

void pcv_pass_encode_dense(struct pcv_pass *p, int thread)
{
    if (thread == 0)
        dense_queries(p);
    pcv_pool_barrier(p->pool);
    for (int i = 0; i < p->n; i++)
        dense_item(p, i, thread);
    tails(p, thread);
}
