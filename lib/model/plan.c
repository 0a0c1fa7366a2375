#include "lib/model/plan.h"

#include "lib/base/mem.h"
#include "lib/kernel/linear.h"
#include "lib/model/cost.h"

#include <stdlib.h>
#include <string.h>

static float *take(struct pcv_plan *p, size_t count)
{
    float *a;

    if (p->nowned == p->capacity) {
        const int capacity = 2 * p->capacity + 16;
        float **owned = realloc(p->owned, (size_t)capacity * sizeof(*owned));

        if (!owned)
            return NULL;
        p->owned = owned;
        p->capacity = capacity;
    }
    a = pcv_alloc(count, sizeof(float));
    if (a) {
        p->owned[p->nowned++] = a;
        p->bytes += count * sizeof(float);
    }
    return a;
}

void pcv_plan_clear(struct pcv_plan *p)
{
    for (int i = 0; i < p->nowned; i++)
        pcv_free(p->owned[i]);
    free(p->owned);
    *p = (struct pcv_plan){0};
}

/* ---- y = W (norm or gamma x) [+ b], rows shared among threads ----------------------------------
 */

struct project {
    const struct pcv_kernels *k;
    const struct pcv_norm *norm; /* whole LayerNorm, when gamma is NULL */
    const float *gamma;          /* or only the product with it */
    float eps;
    const float *x;
    int rows, in, out;
    const struct pcv_affine *w;
    float *y, *tmp; /* tmp [rows, in] */
};

static void project_part(int i, int n, void *arg)
{
    const struct project *p = arg;
    const int row0 = (int)((int64_t)p->rows * i / n);
    const int rows = (int)((int64_t)p->rows * (i + 1) / n) - row0;
    const float *x = p->x + (size_t)row0 * p->in;
    float *t = p->tmp + (size_t)row0 * p->in;

    if (rows == 0)
        return;
    if (p->gamma)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < p->in; c++)
                t[(size_t)r * p->in + c] = x[(size_t)r * p->in + c] * p->gamma[c];
    else
        p->k->norm(t, p->in, x, p->in, p->norm->gamma, p->norm->beta, rows, p->in, p->eps);
    pcv_linear(p->k, rows, p->out, p->in, t, p->in, p->w->w, p->gamma ? NULL : p->w->b,
               p->y + (size_t)row0 * p->out, p->out, false);
}

static int project(struct project *p, struct pcv_pool *pool, struct pcv_err *e)
{
    p->tmp = pcv_alloc((size_t)p->rows * p->in, sizeof(float));
    if (!p->tmp)
        return pcv_fail(e, PCV_ENOMEM, "no memory to project %d rows", p->rows);
    pcv_pool_run(pool, project_part, p);
    pcv_free(p->tmp);
    return 0;
}

/* ---- encoder
 * ---------------------------------------------------------------------------------------- */

/* sum[o] = sum_c W[o,c] gamma[c], bias[o] = b[o] + sum_c W[o,c] beta[c] */
static int fold_norm(struct pcv_plan *p, const struct pcv_layer *l, const struct pcv_affine *a,
                     int out, const float **sum, const float **bias, struct pcv_err *e)
{
    const int in = l->d.kv_dim;
    float *s = take(p, (size_t)out), *b = take(p, (size_t)out);

    if (!s || !b)
        return pcv_fail(e, PCV_ENOMEM, "no memory for folded norms");
    for (int o = 0; o < out; o++) {
        const float *row = a->w + (size_t)o * in;

        s[o] = p->k->dot(row, l->norm_kv.gamma, in);
        b[o] = (a->b ? a->b[o] : 0) + p->k->dot(row, l->norm_kv.beta, in);
    }
    *sum = s;
    *bias = b;
    return 0;
}

static int plan_tables(struct pcv_plan *p, struct pcv_encoder *enc, const struct pcv_adapter *a,
                       struct pcv_pool *pool, struct pcv_err *e)
{
    const struct pcv_layer *l = enc->layer;
    const struct {
        const float *table;
        int rows;
    } tables[] = {{a->text.bytes, a->text.vocab}, {a->text.positions, a->text.max_positions}};
    int r = fold_norm(p, l, &l->k, l->d.qk, &enc->key_sum, &enc->key_bias, e);

    if (r == 0)
        r = fold_norm(p, l, &l->val, l->d.v, &enc->value_sum, &enc->value_bias, e);
    enc->ntables = 2;
    for (int i = 0; i < enc->ntables && r == 0; i++) {
        float *keys = take(p, (size_t)tables[i].rows * l->d.qk);
        float *values = take(p, (size_t)tables[i].rows * l->d.v);
        struct project job = {.k = p->k,
                              .gamma = l->norm_kv.gamma,
                              .x = tables[i].table,
                              .rows = tables[i].rows,
                              .in = l->d.kv_dim};

        if (!keys || !values)
            return pcv_fail(e, PCV_ENOMEM, "no memory for projected tables");
        job.w = &l->k;
        job.out = l->d.qk;
        job.y = keys;
        r = project(&job, pool, e);
        job.w = &l->val;
        job.out = l->d.v;
        job.y = values;
        if (r == 0)
            r = project(&job, pool, e);
        enc->table[i].keys = keys;
        enc->table[i].values = values;
    }
    return r;
}

/* Queries of the learned latents are constants: projected, and absorbed, once. */
static int plan_first(struct pcv_plan *p, const struct pcv_blueprint *bp, struct pcv_encoder *enc,
                      struct pcv_pool *pool, struct pcv_err *e)
{
    const struct pcv_layer *l = enc->layer;
    const size_t step = (size_t)bp->num_latents * l->d.kv_dim;
    float *q = take(p, (size_t)bp->num_latents * l->d.qk), *u;
    struct project job = {.k = p->k,
                          .norm = &l->norm_q,
                          .eps = l->eps,
                          .x = bp->latents,
                          .rows = bp->num_latents,
                          .in = l->d.q_dim,
                          .out = l->d.qk,
                          .w = &l->q,
                          .y = q};
    int r;

    if (!q)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d latent queries", bp->num_latents);
    r = project(&job, pool, e);
    if (r < 0)
        return r;
    enc->q = q;
    if (enc->mode == PCV_ENCODE_TABLES)
        return 0;
    u = take(p, (size_t)l->d.heads * step);
    if (!u)
        return pcv_fail(e, PCV_ENOMEM, "no memory for absorbed queries");
    pcv_encode_absorb(l, p->k, q, bp->num_latents, u, step);
    enc->u = u;
    return 0;
}

/* The only input that cross-attention i reads, or -1: all together, or several in turn. */
static int only_input(const struct pcv_blueprint *bp, int i)
{
    int only = bp->ninputs == 1 ? 0 : -1, n = 0;

    for (int j = 0; bp->separate && j < bp->ninputs; j++)
        if (bp->input[j].encoder == i) {
            only = j;
            n++;
        }
    return n > 1 ? -1 : only;
}

static int plan_encoder(struct pcv_plan *p, const struct pcv_blueprint *bp, int i,
                        struct pcv_pool *pool, struct pcv_err *e)
{
    struct pcv_encoder *enc = &p->encoder[i];
    const int input = only_input(bp, i);
    int r = 0;

    *enc = (struct pcv_encoder){
        .layer = &bp->cross[i],
        .num_latents = bp->num_latents,
        .channels = bp->cross[i].d.kv_dim,
    };
    enc->mode = input < 0 ? PCV_ENCODE_FACTORED : pcv_encode_choose(enc, bp, input);
    if (enc->mode == PCV_ENCODE_TABLES)
        r = plan_tables(p, enc, &bp->input[input], pool, e);
    if (r == 0 && (bp->separate || bp->step[0].layer == i))
        r = plan_first(p, bp, enc, pool, e);
    return r;
}

/* ---- decoders
 * ------------------------------------------------------------------------------------- */

/* The input whose tokens are this task's output queries. */
static const struct pcv_adapter *queried_input(const struct pcv_blueprint *bp,
                                               const struct pcv_task *t)
{
    int i = 0;

    while (t->inputs && !(t->inputs >> i & 1))
        i++;
    return &bp->input[i];
}

static int query_table_rows(const struct pcv_blueprint *bp, const struct pcv_task *t)
{
    int rows = 0;

    if (t->source == PCV_QUERY_INPUT)
        return pcv_adapter_table_rows(queried_input(bp, t));
    for (int i = 0; t->source == PCV_QUERY_GRID && i < t->queries.segment[0].ngroups; i++)
        if (t->queries.segment[0].group[i].kind == PCV_GROUP_TABLE)
            rows += t->queries.segment[0].group[i].rows;
    return rows;
}

/* Whether queries are cheaper written out than factored. */
static bool writes_queries(const struct pcv_blueprint *bp, const struct pcv_task *t)
{
    const struct pcv_layer_dims *d = &t->layer.d;
    const double n = bp->num_latents, wide = d->qk + d->v;

    if (t->source == PCV_QUERY_INPUT)
        return queried_input(bp, t)->kind == PCV_INPUT_TEXT;
    return t->source == PCV_QUERY_CALLER && (n + d->q_dim) * wide < 2 * n * d->heads * d->q_dim;
}

/* Most numbers that the queries of a grid may become when the model opens. */
enum { MOST_CONSTANTS = 4 << 20 };

/* Whether queries on a grid are cheaper as constants of the model, projected when it opens, than
 * factored: with many heads on few channels, keys absorb more than they save. */
static bool tabulates(const struct pcv_blueprint *bp, const struct pcv_task *t)
{
    const struct pcv_layer_dims *d = &t->layer.d;
    const double n = bp->num_latents;

    return t->source == PCV_QUERY_GRID && t->decoder == PCV_DECODER_ATTEND &&
           (double)t->rows * (d->qk + d->q_dim) <= MOST_CONSTANTS &&
           n * (d->qk + d->v) + (double)d->q_dim * d->v < d->heads * n * d->q_dim;
}

/* The rows of a grid written out, as a table of learned queries has them. */
static int write_grid(struct pcv_plan *p, const struct pcv_task *t, const float **ret,
                      struct pcv_err *e)
{
    const size_t n = (size_t)t->layer.d.q_dim;
    float *rows = take(p, (size_t)t->rows * n), *scratch = pcv_alloc(n, sizeof(float));

    if (rows && scratch)
        pcv_tokens_rows(&t->queries, 0, t->rows, rows, scratch);
    pcv_free(scratch);
    *ret = rows;
    return rows && scratch ? 0
                           : pcv_fail(e, PCV_ENOMEM, "no memory for %d output queries", t->rows);
}

static int plan_decoder(struct pcv_plan *p, const struct pcv_blueprint *bp, int i,
                        struct pcv_pool *pool, struct pcv_err *e)
{
    const struct pcv_task *t = &bp->task[i];
    const struct pcv_layer *l = &t->layer;
    struct pcv_decoder *d = &p->decoder[i];
    struct project job = {.k = p->k, .norm = &l->norm_q, .eps = l->eps, .rows = t->rows};
    const bool constant = t->source == PCV_QUERY_LEARNED || tabulates(bp, t);
    float *q;

    *d = (struct pcv_decoder){
        .kind = t->decoder == PCV_DECODER_POOL      ? PCV_DECODE_POOL
                : t->decoder == PCV_DECODER_LATENTS ? PCV_DECODE_LATENTS
                : constant                          ? PCV_DECODE_LEARNED
                                                    : PCV_DECODE_TOKENS,
        .layer = l,
        .norm = t->norm,
        .latents = bp->num_latents,
        .d_latents = bp->d_latents,
        .rows = t->rows,
        .query = t->query,
        .head = t->head,
        .width = t->width,
    };
    d->written = d->kind == PCV_DECODE_TOKENS && writes_queries(bp, t);
    d->table_rows = d->written ? 0 : query_table_rows(bp, t);
    if (d->kind != PCV_DECODE_LEARNED)
        return 0;
    if (t->source == PCV_QUERY_GRID) {
        const int r = write_grid(p, t, &d->query, e);

        if (r < 0)
            return r;
    }
    job.x = d->query;
    d->q = q = take(p, (size_t)t->rows * l->d.qk);
    if (!q)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d output queries", t->rows);
    job.in = l->d.q_dim;
    job.out = l->d.qk;
    job.w = &l->q;
    job.y = q;
    return project(&job, pool, e);
}

/* Same cross-attention, read by learned queries: what is prepared of an item is the same. Factored
 * queries prepare more, of their own. */
static bool shares_reader(const struct pcv_decoder *a, const struct pcv_decoder *b)
{
    return a->kind == PCV_DECODE_LEARNED && b->kind == PCV_DECODE_LEARNED &&
           a->layer->k.w == b->layer->k.w && a->layer->val.w == b->layer->val.w &&
           a->layer->q.w == b->layer->q.w && a->layer->out.w == b->layer->out.w;
}

static void plan_readers(struct pcv_plan *p, const struct pcv_blueprint *bp)
{
    for (int i = 0; i < bp->ntasks; i++) {
        int of = 0;

        while (of < i && !shares_reader(&p->decoder[of], &p->decoder[i]))
            of++;
        p->reader[i] = of < i ? p->reader[of] : p->nreaders++;
        p->reader_floats[p->reader[i]] = pcv_pad_floats(pcv_decode_item_need(&p->decoder[i]));
    }
}

int pcv_plan_make(struct pcv_plan *p, const struct pcv_blueprint *bp, const struct pcv_kernels *k,
                  struct pcv_pool *pool, struct pcv_err *e)
{
    int r = 0;

    p->k = k;
    for (int i = 0; i < bp->ninputs; i++) {
        const int rows = pcv_adapter_table_rows(&bp->input[i]);

        p->table_rows = rows > p->table_rows ? rows : p->table_rows;
    }
    for (int i = 1; i < bp->nsteps; i++)
        p->repeats |= bp->step[i].kind == PCV_STEP_CROSS;
    for (int i = 0; i < bp->ncross && r == 0; i++)
        r = plan_encoder(p, bp, i, pool, e);
    for (int i = 0; i < bp->ntasks && r == 0; i++)
        r = plan_decoder(p, bp, i, pool, e);
    if (r == 0)
        plan_readers(p, bp);
    return r;
}
