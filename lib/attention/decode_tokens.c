/* decode_tokens.c - output queries that are a factored token array: the mirror image of
 * encode_factored.c.
 *
 * With x^ = r (x - mu) a query's LayerNorm before gamma and beta, and per latent and head
 * k' = gamma (Wq^T k) / sqrt(d):
 *
 *     score = r [ x . k' - mu sum(k') ] + (Wq beta + bq) . k / sqrt(d)
 *
 * x . k' splits over the groups of x: tables meet k' once per item ([rows, latents]), content is
 * one narrow matrix product per tile. Values meet the out projection once per item (v' = Wo_h v_h),
 * so that a tile goes from weights to the layer's width at once. The specification (job->plain)
 * writes the queries out and does what the formula says; so does a decoder whose queries do not
 * gain from being factored (d->written): their tables are longer than they are many, or they are
 * wide content. */
#include "lib/attention/decode_internal.h"
#include "lib/kernel/linear.h"

#include <math.h>
#include <string.h>

/* ---- memory
 * --------------------------------------------------------------------------------------- */

/* Of an item; [heads, latents, ...] where not said otherwise. */
struct prepared {
    float *xn;            /* [latents, kv_dim] */
    float *keys, *values; /* [latents, qk], [latents, v] */
    float *kq;            /* [heads, latents, q_dim]: k' */
    float *sum, *add;     /* sum(k'); (Wq beta + bq) . k / sqrt(d) */
    float *base;          /* constant groups and lift biases . k' */
    float *content;       /* [heads, raw <= q_dim, latents] */
    float *tables;        /* [heads, table_rows, latents], table after table */
    float *vo;            /* [heads, q_dim, key_step]: v', one channel's latents side by side */
};

/* Floats from row to row where latents are columns: rows of a power of two would compete for the
 * same places in the cache. */
static size_t key_step(const struct pcv_decoder *d)
{
    return (size_t)d->latents + 16;
}

static struct prepared prepared_of(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t n = (size_t)d->latents, heads = d->written ? 0 : (size_t)l->heads;

    return (struct prepared){
        .xn = pcv_take(b, n * l->kv_dim),
        .keys = pcv_take(b, n * l->qk),
        .values = pcv_take(b, n * l->v),
        .kq = pcv_take(b, heads * n * l->q_dim),
        .sum = pcv_take(b, heads * n),
        .add = pcv_take(b, heads * n),
        .base = pcv_take(b, heads * n),
        .content = pcv_take(b, heads * n * l->q_dim),
        .tables = pcv_take(b, heads * n * (size_t)d->table_rows),
        .vo = pcv_take(b, heads * l->q_dim * key_step(d)),
    };
}

struct scratch {
    float *x;      /* [tile, q_dim] content, or queries written out */
    float *own;    /* [tile, q_dim] */
    float *q;      /* [tile, qk] plain */
    float *ctx;    /* [tile, v] plain */
    float *scores; /* [tile, key_step] */
    float *out;    /* [tile, q_dim] */
    float *panels; /* the same in panels */
    float *part;   /* [tile, PCV_PANEL_DEPTH] of the scores, in panels */
    float *tail;
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t rows = PCV_DECODE_TILE; /* PCV_DECODE_BLOCK is less */
    const size_t lanes = pcv_panel_need(PCV_DECODE_TILE, PCV_DECODE_TILE);

    return (struct scratch){
        .x = pcv_take(b, rows * l->q_dim),
        .q = pcv_take(b, rows * l->qk),
        .ctx = pcv_take(b, rows * l->v),
        .scores = pcv_take(b, rows * key_step(d)),
        .out = pcv_take(b, rows * l->q_dim),
        .panels = pcv_take(b, lanes * (size_t)l->q_dim),
        .part = pcv_take(b, lanes * PCV_PANEL_DEPTH),
        .tail = pcv_take(b, pcv_layer_tail_need(l, PCV_DECODE_TILE)),
        .own = pcv_take(b, rows * l->q_dim),
    };
}

size_t pcv_decode_tokens_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    carve(&count, d);
    return count.used;
}

size_t pcv_decode_tokens_item_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    prepared_of(&count, d);
    return count.used;
}

/* ---- once per item: latents [row0, row0 + rows)
 * ---------------------------------------------------- */

/* k' of one head, with its two sums. */
static void absorb_queries(const struct pcv_decoder *d, const struct pcv_kernels *k,
                           const struct prepared *p, int h, int row0, int rows)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.q_dim, dk = l->d.qk / l->d.heads;
    const float scale = 1.0f / sqrtf((float)dk);
    const float *wq = l->q.w + (size_t)h * dk * c;

    pcv_rows_nn(k, rows, c, dk, p->keys + (size_t)row0 * l->d.qk + (size_t)h * dk, l->d.qk, wq, c,
                p->kq + ((size_t)h * d->latents + row0) * c, c, 0);
    for (int i = row0; i < row0 + rows; i++) {
        const float *key = p->keys + (size_t)i * l->d.qk + (size_t)h * dk;
        const size_t at = (size_t)h * d->latents + i;
        float *kq = p->kq + at * c;

        p->add[at] = k->dot(kq, l->norm_q.beta, c);
        if (l->q.b)
            p->add[at] += k->dot(key, l->q.b + (size_t)h * dk, dk);
        p->add[at] *= scale;
        p->sum[at] = 0;
        for (int j = 0; j < c; j++) {
            kq[j] *= l->norm_q.gamma[j] * scale;
            p->sum[at] += kq[j];
        }
    }
}

/* The group's part of k' for these latents, packed: own [rows, n]. */
static void gather_group(const struct pcv_decoder *d, const struct prepared *p,
                         const struct pcv_group *g, int h, int row0, int rows, float *own)
{
    const int c = d->layer->d.q_dim;

    for (int i = 0; i < rows; i++)
        pcv_group_gather(g, p->kq + ((size_t)h * d->latents + row0 + i) * c,
                         own + (size_t)i * g->n);
}

static void meet_groups(const struct pcv_decoder *d, const struct pcv_kernels *k,
                        const struct pcv_segment *s, const struct prepared *p, int h, int row0,
                        int rows, float *own)
{
    const size_t at = (size_t)h * d->latents + (size_t)row0;
    float *tables = p->tables + (size_t)h * d->latents * d->table_rows;

    memset(p->base + at, 0, (size_t)rows * sizeof(float));
    for (int j = 0; j < s->ngroups; j++) {
        const struct pcv_group *g = &s->group[j];

        gather_group(d, p, g, h, row0, rows, own);
        if (g->kind == PCV_GROUP_TABLE) {
            pcv_rows_nt(k, g->rows, rows, g->n, g->table, g->n, own, g->n, tables + row0,
                        d->latents, 0);
            tables += (size_t)g->rows * d->latents;
        }
        for (int i = 0; i < rows; i++) {
            const float *kg = own + (size_t)i * g->n;
            float *content = p->content + (size_t)h * d->latents * d->layer->d.q_dim + row0 + i;

            if (g->kind == PCV_GROUP_CONST) {
                p->base[at + i] += k->dot(kg, g->value, g->n);
            } else if (g->kind == PCV_GROUP_DENSE && g->lift) {
                for (int r = 0; r < g->raw; r++) {
                    float sum = 0;

                    for (int c = 0; c < g->n; c++)
                        sum += kg[c] * g->lift[(size_t)c * g->raw + r];
                    content[(size_t)r * d->latents] = sum;
                }
                p->base[at + i] += k->dot(kg, g->lift_bias, g->n);
            } else if (g->kind == PCV_GROUP_DENSE) {
                for (int c = 0; c < g->n; c++)
                    content[(size_t)c * d->latents] = kg[c];
            }
        }
    }
}

void pcv_decode_tokens_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                               const struct pcv_decode_job *job, int row0, int rows, float *scratch)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.kv_dim, qk = l->d.qk, v = l->d.v, n = l->d.q_dim;
    const int dv = v / l->d.heads;
    struct pcv_bump item = {.base = job->item_scratch}, mine = {.base = scratch};
    const struct prepared p = prepared_of(&item, d);
    const struct scratch sc = carve(&mine, d);
    float *xn = p.xn + (size_t)row0 * c;

    k->norm(xn, c, job->latents + (size_t)row0 * c, c, l->norm_kv.gamma, l->norm_kv.beta, rows, c,
            l->eps);
    pcv_linear(k, rows, qk, c, xn, c, l->k.w, l->k.b, p.keys + (size_t)row0 * qk, qk, false);
    pcv_linear(k, rows, v, c, xn, c, l->val.w, l->val.b, p.values + (size_t)row0 * v, v, false);
    for (int h = 0; h < l->d.heads && !job->plain; h++) {
        absorb_queries(d, k, &p, h, row0, rows);
        meet_groups(d, k, &job->queries->segment[0], &p, h, row0, rows, sc.own);
        pcv_rows_nt(k, n, rows, dv, l->out.w + (size_t)h * dv, v,
                    p.values + (size_t)row0 * v + (size_t)h * dv, v,
                    p.vo + (size_t)h * n * key_step(d) + row0, (int)key_step(d), false);
    }
}

/* ---- once per tile
 * ----------------------------------------------------------------------------------- */

/* Weights of attention [rows, latents] of one head, in three passes over each row. */
static void weigh(const struct pcv_decoder *d, const struct pcv_kernels *k,
                  const struct pcv_decode_job *job, const struct prepared *p, int h, int row0,
                  int rows, const struct scratch *sc)
{
    const struct pcv_segment *s = &job->queries->segment[0];
    const int n = d->latents, c = d->layer->d.q_dim;
    const size_t at = (size_t)h * n, step = key_step(d);
    bool given = false;

    for (int j = 0; j < s->ngroups; j++)
        if (s->group[j].kind == PCV_GROUP_DENSE) {
            const int raw = s->group[j].raw;

            pcv_rows_nn(k, rows, n, raw, sc->x, raw, p->content + at * c, n, sc->scores, (int)step,
                        false);
            given = true;
        }
    for (int i = 0; i < rows; i++) {
        const int row = pcv_decode_row(job, row0 + i);
        const float *table = p->tables + at * d->table_rows, *parts[PCV_MAX_GROUPS + 1];
        struct pcv_score_terms terms = {
            .parts = parts,
            .sum = p->sum + at,
            .add = p->add + at,
            .mu = s->mean[row],
            .r = s->r[row],
        };
        float *weights = sc->scores + (size_t)i * step, most;

        for (int j = 0; j < s->ngroups; j++) {
            const struct pcv_group *g = &s->group[j];

            if (g->kind != PCV_GROUP_TABLE)
                continue;
            parts[terms.nparts++] = table + (size_t)pcv_group_row(g, row) * n;
            table += (size_t)g->rows * n;
        }
        parts[terms.nparts++] = p->base + at;
        most = k->score_row(weights, n, &terms, given);
        k->scale(weights, 1.0f / k->exp_sum(weights, n, most), n);
    }
}

/* out += weights v' of one head, all panels of the tile against each part of v': it is read once.
 */
static void add_values(const struct pcv_decoder *d, const struct pcv_panel_kernels *k,
                       const struct prepared *p, int h, int rows, const struct scratch *sc)
{
    const size_t step = key_step(d), lanes = (size_t)k->lanes;
    const int c = d->layer->d.q_dim;

    for (int k0 = 0; k0 < d->latents; k0 += PCV_PANEL_DEPTH) {
        const int depth = d->latents - k0 < PCV_PANEL_DEPTH ? d->latents - k0 : PCV_PANEL_DEPTH;
        const struct pcv_product product = {
            .rows = rows,
            .n = c,
            .k = depth,
            .a = sc->part,
            .a_step = (size_t)depth * lanes,
            .w = p->vo + (size_t)h * c * step + k0,
            .ldw = step,
            .c = sc->panels,
            .c_step = (size_t)c * lanes,
            .add = true,
        };

        pcv_rows_to_panels(k, sc->part, sc->scores + k0, step, rows, depth);
        k->product(&product);
    }
}

/* Content of the tile's queries, token after token: x [rows, raw]. */
static void gather_content(const struct pcv_decode_job *job, int row0, int rows, float *x)
{
    const struct pcv_segment *s = &job->queries->segment[0];

    for (int j = 0; j < s->ngroups; j++) {
        const struct pcv_group *g = &s->group[j];

        if (g->kind != PCV_GROUP_DENSE)
            continue;
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < g->raw; c++)
                x[(size_t)i * g->raw + c] =
                    g->planes[c * s->tokens + pcv_decode_row(job, row0 + i)];
    }
}

static void write_queries(const struct pcv_decoder *d, const struct pcv_decode_job *job, int row0,
                          int rows, float *to, float *own)
{
    const int c = d->layer->d.q_dim;

    for (int i = 0; i < rows; i++)
        pcv_segment_token(&job->queries->segment[0], c, pcv_decode_row(job, row0 + i),
                          to + (size_t)i * c, own);
}

/* As the formula says: queries written out, normalised, projected. */
static void plain_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                       const struct pcv_decode_job *job, const struct prepared *p, int row0,
                       int rows, const struct scratch *sc)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.q_dim, qk = l->d.qk;
    const struct pcv_attend a = pcv_decode_attend(d, p->keys, p->values);

    write_queries(d, job, row0, rows, sc->out, sc->own);
    k->norm(sc->x, c, sc->out, c, l->norm_q.gamma, l->norm_q.beta, rows, c, l->eps);
    pcv_linear(k, rows, qk, c, sc->x, c, l->q.w, l->q.b, sc->q, qk, false);
    pcv_attend_rows(&a, k, rows, sc->q, qk, sc->ctx, l->d.v, sc->scores);
    pcv_layer_tail(l, k, rows, sc->ctx, sc->out, sc->out, sc->tail);
}

void pcv_decode_tokens_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                            const struct pcv_decode_job *job, int row0, int rows, float *scratch)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.q_dim;
    struct pcv_bump item = {.base = job->item_scratch}, mine = {.base = scratch};
    const struct prepared p = prepared_of(&item, d);
    const struct scratch sc = carve(&mine, d);

    if (job->plain) {
        plain_tile(d, k, job, &p, row0, rows, &sc);
    } else {
        if (l->d.residual)
            write_queries(d, job, row0, rows, sc.out, sc.own);
        for (int i = 0; i < rows; i++) {
            if (!l->d.residual)
                memset(sc.out + (size_t)i * c, 0, (size_t)c * sizeof(float));
            if (l->out.b)
                k->axpy(sc.out + (size_t)i * c, 1.0f, l->out.b, c);
        }
        pcv_rows_to_panels(k->panel, sc.panels, sc.out, (size_t)c, rows, c);
        gather_content(job, row0, rows, sc.x);
        for (int h = 0; h < l->d.heads; h++) {
            weigh(d, k, job, &p, h, row0, rows, &sc);
            add_values(d, k->panel, &p, h, rows, &sc);
        }
        pcv_layer_mlp_panels(l, k->panel, rows, sc.panels, sc.tail);
        pcv_panels_to_rows(k->panel, sc.out, sc.panels, rows, c);
    }
    pcv_decode_head(d, k, rows, sc.out, job->logits + (size_t)row0 * d->width, false);
}
