/* decode_learned.c - output queries that are rows of a table: the masked LM's positions, a
 * classifier's one query. Their LayerNorm and projection are constants of the model. */
#include "lib/attention/decode_internal.h"
#include "lib/attention/shared.h"
#include "lib/kernel/linear.h"

#include <math.h>
#include <string.h>

struct scratch {
    float *q, *query, *ctx, *out, *u, *agg, *scores, *logits, *tail; /* row-major */
    float *q_panels, *ctx_panels, *xn_panels, *attend;
};

/* Rows of all heads that attend_absorbed takes at a time. */
static int absorbed_rows(const struct pcv_layer_dims *l)
{
    return l->heads < PCV_DECODE_TILE ? PCV_DECODE_TILE : l->heads;
}

static struct scratch carve(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t rows = PCV_DECODE_TILE, lanes = pcv_panel_need(PCV_DECODE_TILE, PCV_DECODE_TILE);
    const size_t together = absorbed_rows(l);

    return (struct scratch){
        .q = pcv_take(b, rows * l->qk),
        .query = pcv_take(b, rows * l->q_dim),
        .ctx = pcv_take(b, rows * l->v),
        .out = pcv_take(b, rows * l->q_dim),
        .u = pcv_take(b, together * l->kv_dim),
        .agg = pcv_take(b, together * l->kv_dim),
        .scores = pcv_take(b, together * d->latents),
        .logits = pcv_take(b, rows * d->width),
        .tail = pcv_take(b, pcv_layer_tail_need(l, PCV_DECODE_TILE)),
        .q_panels = pcv_take(b, lanes * l->qk),
        .ctx_panels = pcv_take(b, lanes * l->v),
        .xn_panels = pcv_take(b, lanes * l->kv_dim),
        .attend = pcv_take(b, pcv_attend_need(PCV_DECODE_TILE, l->qk / l->heads)),
    };
}

size_t pcv_decode_learned_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    carve(&count, d);
    return count.used;
}

/* What is kept of an item: normalised latents, row-major; keys and values in panels. */
struct prepared {
    float *xn, *keys, *values;
};

static struct prepared prepared_of(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t lanes = pcv_panel_need(d->latents, PCV_DECODE_BLOCK);

    return (struct prepared){
        .xn = pcv_take(b, (size_t)d->latents * l->kv_dim),
        .keys = pcv_take(b, lanes * l->qk),
        .values = pcv_take(b, lanes * l->v),
    };
}

size_t pcv_decode_learned_item_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    prepared_of(&count, d);
    return count.used;
}

/* Multiply-adds of attention of so many rows: absorbed, or with keys and values that are there. */
static double attend_macs(const struct pcv_decoder *d, double rows, bool lean)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, c = l->kv_dim, wide = l->qk + l->v;

    return rows * (lean ? c * wide + 2 * l->heads * n * c : n * wide);
}

bool pcv_decode_learned_lean(const struct pcv_decoder *d, int nrows)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double keys_and_values = (double)d->latents * l->kv_dim * (l->qk + l->v);

    return attend_macs(d, nrows, true) < keys_and_values + attend_macs(d, nrows, false);
}

void pcv_decode_learned_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                                const struct pcv_decode_job *job, int row0, int rows,
                                float *scratch)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.kv_dim, qk = l->d.qk, v = l->d.v;
    const size_t lanes = (size_t)k->panel->lanes;
    struct pcv_bump bump = {.base = job->item_scratch}, mine = {.base = scratch};
    const struct prepared p = prepared_of(&bump, d);
    const struct scratch sc = carve(&mine, d);
    float *xn = p.xn + (size_t)row0 * c;
    struct pcv_product project = {
        .rows = rows, .k = c, .a = sc.xn_panels, .a_step = (size_t)c * lanes, .ldw = (size_t)c};

    k->norm(xn, c, job->latents + (size_t)row0 * c, c, l->norm_kv.gamma, l->norm_kv.beta, rows, c,
            l->eps);
    if (job->lean)
        return;
    pcv_rows_to_panels(k->panel, sc.xn_panels, xn, (size_t)c, rows, c);
    project.n = qk;
    project.w = l->k.w;
    project.bias = l->k.b;
    project.c = p.keys + (size_t)row0 * qk; /* a block is whole panels */
    project.c_step = (size_t)qk * lanes;
    k->panel->product(&project);
    project.n = v;
    project.w = l->val.w;
    project.bias = l->val.b;
    project.c = p.values + (size_t)row0 * v;
    project.c_step = (size_t)v * lanes;
    k->panel->product(&project);
}

/* Copies the job's query rows, projected (for attention) and as they are (for the residual). */
static void gather(const struct pcv_decoder *d, const struct pcv_decode_job *job, int row0,
                   int rows, float *q, float *query)
{
    const struct pcv_layer_dims *l = &d->layer->d;

    for (int i = 0; i < rows; i++) {
        const int row = pcv_decode_row(job, row0 + i);

        memcpy(q + (size_t)i * l->qk, d->q + (size_t)row * l->qk, (size_t)l->qk * sizeof(float));
        if (l->residual)
            memcpy(query + (size_t)i * l->q_dim, d->query + (size_t)row * l->q_dim,
                   (size_t)l->q_dim * sizeof(float));
    }
}

/* q.(Wk x + bk) = (Wk^T q).x + a term equal for all latents; sum p (Wv x + bv) = Wv sum p x + bv.
 * Keys and values being the same for all heads, these are rows of one attention. */
static void attend_absorbed_some(const struct pcv_decoder *d, const struct pcv_kernels *k,
                                 const struct prepared *p, int rows, const float *q, float *ctx,
                                 const struct scratch *sc)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.kv_dim, dk = l->d.qk / l->d.heads, dv = l->d.v / l->d.heads;
    const struct pcv_attend a = {
        .heads = 1,
        .dk = c,
        .dv = c,
        .nkv = d->latents,
        .keys = p->xn,
        .values = p->xn,
        .ldk = c,
        .ldv = c,
        .scale = 1.0f / sqrtf((float)dk),
    };

    for (int h = 0; h < l->d.heads; h++)
        pcv_rows_nn(k, rows, c, dk, q + (size_t)h * dk, l->d.qk, l->k.w + (size_t)h * dk * c, c,
                    sc->u + (size_t)h * rows * c, c, 0);
    pcv_attend_rows(&a, k, l->d.heads * rows, sc->u, c, sc->agg, c, sc->scores);
    for (int h = 0; h < l->d.heads; h++)
        pcv_linear(k, rows, dv, c, sc->agg + (size_t)h * rows * c, c, l->val.w + (size_t)h * dv * c,
                   l->val.b ? l->val.b + (size_t)h * dv : NULL, ctx + (size_t)h * dv, l->d.v,
                   false);
}

static void attend_absorbed(const struct pcv_decoder *d, const struct pcv_kernels *k,
                            const struct prepared *p, int rows, const float *q, float *ctx,
                            const struct scratch *sc)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const int most = absorbed_rows(l) / l->heads;

    for (int i = 0, n; i < rows; i += n) {
        n = rows - i < most ? rows - i : most;
        attend_absorbed_some(d, k, p, n, q + (size_t)i * l->qk, ctx + (size_t)i * l->v, sc);
    }
}

static void attend_projected(const struct pcv_decoder *d, const struct pcv_kernels *k,
                             const struct prepared *p, int rows, const float *q, float *ctx,
                             const struct scratch *sc)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t lanes = (size_t)k->panel->lanes;
    const struct pcv_attend_panels a = {
        .heads = l->heads,
        .dk = l->qk / l->heads,
        .dv = l->v / l->heads,
        .keys = {p->keys, (size_t)l->qk * lanes, d->latents, PCV_DECODE_BLOCK},
        .values = {p->values, (size_t)l->v * lanes, d->latents, PCV_DECODE_BLOCK},
        .scratch = sc->attend,
    };

    pcv_rows_to_panels(k->panel, sc->q_panels, q, (size_t)l->qk, rows, l->qk);
    pcv_attend_panels(&a, k->panel, NULL, rows, sc->q_panels, sc->ctx_panels);
    pcv_panels_to_rows(k->panel, ctx, sc->ctx_panels, rows, l->v);
}

static void attend(const struct pcv_decoder *d, const struct pcv_kernels *k,
                   const struct pcv_decode_job *job, int rows, const float *q, float *ctx,
                   const struct scratch *sc)
{
    struct pcv_bump bump = {.base = job->item_scratch};
    const struct prepared p = prepared_of(&bump, d);

    (job->lean ? attend_absorbed : attend_projected)(d, k, &p, rows, q, ctx, sc);
}

void pcv_decode_learned_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                             const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                             int rows, float *scratch)
{
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, d);

    gather(d, job, row0, rows, sc.q, sc.query);
    attend(d, k, job, rows, sc.q, sc.ctx, &sc);
    pcv_layer_tail(d->layer, k, w, rows, sc.ctx, sc.query, sc.out, sc.tail);
    pcv_decode_head(d, k, rows, sc.out, job->logits + (size_t)row0 * d->width);
}

/* Heads of jobs that stand together and belong to one task: one product. */
static int pack_heads(const struct pcv_kernels *k, const struct pcv_decode_job *const *jobs,
                      int njobs, const float *out, float *logits)
{
    const struct pcv_decoder *d = jobs[0]->d;
    int n = 0, rows = 0;

    while (n < njobs && jobs[n]->d == d)
        rows += jobs[n++]->nrows;
    pcv_decode_head(d, k, rows, out, logits);
    for (int i = 0; i < n; i++) {
        const size_t count = (size_t)jobs[i]->nrows * (size_t)d->width;

        memcpy(jobs[i]->logits, logits, count * sizeof(float));
        logits += count;
    }
    return n;
}

/* Jobs of one tile, and where its rows go. */
struct pack {
    const struct pcv_kernels *k;
    const struct pcv_decoder *widest; /* scratch is carved for this one */
    const struct pcv_decode_job *const *jobs;
    int njobs, each; /* jobs of a unit of shared work */
    struct pcv_decode_scratch scratch;
    struct scratch to;
};

static struct scratch scratch_of(const struct pack *p, int thread)
{
    struct pcv_bump bump = {.base = p->scratch.at + (size_t)thread * p->scratch.step};

    return carve(&bump, p->widest);
}

static void attend_some(int unit, int thread, const void *arg)
{
    const struct pack *p = arg;
    const struct pcv_layer_dims *l = &p->widest->layer->d;
    const struct scratch sc = scratch_of(p, thread);
    const int first = unit * p->each;
    size_t row = 0;

    for (int i = 0; i < p->njobs && i < first + p->each; row += (size_t)p->jobs[i++]->nrows) {
        const struct pcv_decode_job *job = p->jobs[i];
        float *q = p->to.q + row * (size_t)l->qk;

        if (i < first)
            continue;
        gather(job->d, job, 0, job->nrows, q, p->to.query + row * (size_t)l->q_dim);
        attend(job->d, p->k, job, job->nrows, q, p->to.ctx + row * (size_t)l->v, &sc);
    }
}

/* Every job attends to latents of its own: units of several are worth sharing. */
static void attend_all(struct pack *p, const struct pcv_worker *w)
{
    double macs = 0;

    for (int i = 0; i < p->njobs; i++)
        macs += attend_macs(p->jobs[i]->d, p->jobs[i]->nrows, p->jobs[i]->lean);
    p->each = p->njobs;
    while (p->each > 1 && pcv_worth_sharing((size_t)(macs / p->njobs * p->each / 2)))
        p->each = (p->each + 1) / 2;
    pcv_share(w, (p->njobs + p->each - 1) / p->each, attend_some, p);
}

void pcv_decode_pack(const struct pcv_kernels *k, const struct pcv_worker *w,
                     const struct pcv_decode_job *const *jobs, int njobs,
                     struct pcv_decode_scratch scratch)
{
    const struct pcv_layer *layer = jobs[0]->d->layer;
    struct pack p = {
        .k = k, .widest = jobs[0]->d, .jobs = jobs, .njobs = njobs, .scratch = scratch};
    struct scratch sc;
    int rows = 0;

    for (int i = 0; i < njobs; i++) {
        if (jobs[i]->d->width > p.widest->width)
            p.widest = jobs[i]->d;
        rows += jobs[i]->nrows;
    }
    sc = p.to = scratch_of(&p, w ? w->thread : 0);
    attend_all(&p, w);
    pcv_layer_tail(layer, k, w, rows, sc.ctx, sc.query, sc.out, sc.tail);
    for (int i = 0, at = 0; i < njobs;) {
        const int n =
            pack_heads(k, jobs + i, njobs - i, sc.out + (size_t)at * layer->d.q_dim, sc.logits);

        for (const int end = i + n; i < end; i++)
            at += jobs[i]->nrows;
    }
}
