/* encode_tables.c - tokens that are sums of table rows: text.
 *
 * The tables are projected when the model opens; a token's key is then
 *
 *     k_m = r_m ( sum_g keys_g[row_g(m)] - mu_m Wk gamma 1 ) + (bk + Wk beta)
 *
 * and its value likewise: additions instead of products. One head at a time builds keys and values
 * of a tile of tokens, which all latents read while it is in the cache: blocks of queries as lanes
 * of panels, scores in base 2, with a running maximum. */
#include "lib/attention/encode.h"

#include "lib/attention/layer.h"
#include "lib/attention/running_softmax.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TILE = PCV_PANEL_DEPTH, QUERIES = 256, FETCHED = 4 /* tokens ahead */ };

struct scratch {
    float *keys;             /* [TILE, dk] */
    float *rows, *values;    /* [TILE, dv], [dv, TILE] */
    float *q, *acc;          /* of all latents, in panels: [dk]; [dv] weights times values */
    float *from, *max, *sum; /* by panel: running maximum, what it may become, sum of weights */
    float *s;                /* of one block, in panels: [TILE] scores, then weights */
    float *scale, *factor;   /* [lanes] */
    float *nothing;          /* [TILE] zeros */
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_encoder *enc)
{
    const struct pcv_layer_dims *d = &enc->layer->d;
    const size_t dk = (size_t)(d->qk / d->heads), dv = (size_t)(d->v / d->heads);
    const size_t lanes = pcv_panel_need(enc->num_latents, QUERIES);

    return (struct scratch){
        .keys = pcv_take(b, TILE * dk),
        .rows = pcv_take(b, TILE * dv),
        .values = pcv_take(b, TILE * dv),
        .q = pcv_take(b, lanes * dk),
        .acc = pcv_take(b, lanes * dv),
        .from = pcv_take(b, lanes),
        .max = pcv_take(b, lanes),
        .sum = pcv_take(b, lanes),
        .s = pcv_take(b, pcv_panel_need(QUERIES, QUERIES) * TILE),
        .scale = pcv_take(b, PCV_PANEL_MOST_LANES),
        .factor = pcv_take(b, PCV_PANEL_MOST_LANES),
        .nothing = pcv_take(b, TILE),
    };
}

size_t pcv_encode_tables_need(const struct pcv_encoder *enc)
{
    struct pcv_bump count = {0};

    carve(&count, enc);
    return count.used;
}

/* What a token's row is made of: columns of a projected table, of their sums, of the bias. */
struct projection {
    const float *table[PCV_MAX_GROUPS]; /* [rows, ld] */
    int ld;
    const float *sum, *bias;
};

static struct projection projection_of(const struct pcv_encoder *enc, const struct pcv_segment *s,
                                       bool values, int from)
{
    struct projection p = {
        .ld = values ? enc->layer->d.v : enc->layer->d.qk,
        .sum = (values ? enc->value_sum : enc->key_sum) + from,
        .bias = (values ? enc->value_bias : enc->key_bias) + from,
    };

    for (int j = 0; j < s->ngroups; j++) {
        const int table = s->group[j].constant;

        p.table[j] = (values ? enc->table[table].values : enc->table[table].keys) + from;
    }
    return p;
}

static const float *row_of(const struct projection *p, const struct pcv_segment *s, int j,
                           int64_t m)
{
    return p->table[j] + (size_t)pcv_group_row(&s->group[j], m) * (size_t)p->ld;
}

/* Rows of a table are far apart, and only some columns of each are read: the processor guesses
 * neither. */
static void fetch(const float *row, int width)
{
    for (int c = 0; c < width; c += 16)
        __builtin_prefetch(row + c);
}

/* out [n, width]: the projections of tokens m0.. */
static void project_tile(const struct projection *p, const struct pcv_segment *s, int64_t m0, int n,
                         int width, float *restrict out)
{
    const int last = s->ngroups - 1;

    for (int64_t m = m0; m < m0 + n; m++, out += width) {
        const float mean = s->mean[m], r = s->r[m];
        const float *row = row_of(p, s, 0, m);

        for (int j = 0; j <= last && m + FETCHED < m0 + n; j++)
            fetch(row_of(p, s, j, m + FETCHED), width);
        for (int c = 0; c < width; c++)
            out[c] = row[c] - mean * p->sum[c];
        for (int j = 1; j < last; j++) {
            row = row_of(p, s, j, m);
            for (int c = 0; c < width; c++)
                out[c] += row[c];
        }
        row = row_of(p, s, last, m);
        for (int c = 0; c < width; c++)
            out[c] = (last > 0 ? out[c] + row[c] : out[c]) * r + p->bias[c];
    }
}

/* One head. */
struct head {
    const struct pcv_panel_kernels *k;
    int dk, dv, latents;
    struct scratch sc;
};

/* A block of queries, and where its first panel is among those of all. */
struct queries {
    int rows;
    size_t at; /* lanes */
};

static struct queries block_of(const struct head *h, int row0)
{
    const int left = h->latents - row0, blocks = row0 / QUERIES;

    return (struct queries){left < QUERIES ? left : QUERIES,
                            (size_t)(blocks * pcv_panel_count(QUERIES, h->k->lanes) * h->k->lanes)};
}

static void begin(const struct head *h, const struct pcv_encoder *enc, const float *q)
{
    const struct scratch *sc = &h->sc;
    const size_t lanes = (size_t)h->k->lanes, all = pcv_panel_need(h->latents, QUERIES);

    for (size_t i = 0; i < all; i++) {
        sc->from[i] = sc->max[i] = -FLT_MAX;
        sc->sum[i] = 0;
    }
    for (size_t i = 0; i < lanes; i++)
        sc->scale[i] = (float)M_LOG2E / sqrtf((float)h->dk); /* e^x = 2^(x log2 e) */
    memset(sc->nothing, 0, TILE * sizeof(float));
    memset(sc->acc, 0, all * (size_t)h->dv * sizeof(float));
    for (int i = 0; i < h->latents; i += QUERIES) {
        const struct queries b = block_of(h, i);

        pcv_rows_to_panels(h->k, sc->q + b.at * (size_t)h->dk, q + (size_t)i * enc->layer->d.qk,
                           (size_t)enc->layer->d.qk, b.rows, h->dk);
    }
}

/* Scores of one panel become weights. */
static void weigh(const struct head *h, float *s, int n, size_t at, int rows)
{
    const struct scratch *sc = &h->sc;
    const struct pcv_query_terms terms = {
        .n = n, .same = sc->nothing, .r = sc->scale, .add = sc->nothing};
    const struct pcv_running panel = {
        sc->from + at, sc->max + at, sc->sum + at, sc->factor, sc->acc + at * (size_t)h->dv, h->dv};

    pcv_running_weights(h->k, &panel, s, &terms, rows, true);
}

/* A block of queries reads n tokens. */
static void read_tile(const struct head *h, int n, struct queries b)
{
    const struct scratch *sc = &h->sc;
    const size_t lanes = (size_t)h->k->lanes;
    const struct pcv_product scores = {
        .rows = b.rows,
        .n = n,
        .k = h->dk,
        .a = sc->q + b.at * (size_t)h->dk,
        .a_step = (size_t)h->dk * lanes,
        .w = sc->keys,
        .ldw = (size_t)h->dk,
        .c = sc->s,
        .c_step = (size_t)n * lanes,
    };
    const struct pcv_product sums = {
        .rows = b.rows,
        .n = h->dv,
        .k = n,
        .a = sc->s,
        .a_step = (size_t)n * lanes,
        .w = sc->values,
        .ldw = (size_t)n,
        .c = sc->acc + b.at * (size_t)h->dv,
        .c_step = (size_t)h->dv * lanes,
        .add = true,
    };

    h->k->product(&scores);
    for (int row = 0, i = 0, rows; row < b.rows; row += rows, i++) {
        rows = pcv_panel_rows(b.rows - row, h->k->lanes);
        weigh(h, sc->s + (size_t)i * scores.c_step, n, b.at + (size_t)i * lanes, rows);
    }
    h->k->product(&sums);
}

/* Sums over weights, to rows of `ctx`. */
static void finish(const struct head *h, struct queries b, float *ctx, size_t ldctx)
{
    const size_t lanes = (size_t)h->k->lanes;

    for (int row = 0, rows; row < b.rows; row += rows, b.at += lanes) {
        float *acc = h->sc.acc + b.at * (size_t)h->dv;

        rows = pcv_panel_rows(b.rows - row, h->k->lanes);
        for (int i = 0; i < rows; i++)
            h->sc.factor[i] = 1.0f / h->sc.sum[b.at + (size_t)i];
        for (int j = 0; j < h->dv; j++)
            h->k->multiply(acc + (size_t)j * lanes, h->sc.factor, rows, 1);
        h->k->unpack(ctx + (size_t)row * ldctx, ldctx, acc, rows, h->dv, false);
    }
}

void pcv_encode_tables(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                       const struct pcv_tokens *t, const float *q, int head, float *ctx,
                       float *scratch)
{
    const struct pcv_layer_dims *d = &enc->layer->d;
    struct pcv_bump bump = {.base = scratch};
    const struct head h = {k->panel, d->qk / d->heads, d->v / d->heads, enc->num_latents,
                           carve(&bump, enc)};
    const struct scratch *sc = &h.sc;

    begin(&h, enc, q + (size_t)head * h.dk);
    for (int g = 0; g < t->nsegments; g++) {
        const struct pcv_segment *s = &t->segment[g];
        const struct projection keys = projection_of(enc, s, false, head * h.dk);
        const struct projection values = projection_of(enc, s, true, head * h.dv);

        for (int64_t m0 = 0; m0 < s->tokens; m0 += TILE) {
            const int n = s->tokens - m0 < TILE ? (int)(s->tokens - m0) : TILE;

            project_tile(&keys, s, m0, n, h.dk, sc->keys);
            project_tile(&values, s, m0, n, h.dv, sc->rows);
            k->panel->transpose(sc->values, sc->rows, h.dv, h.dv, n);
            for (int i = 0; i < h.latents; i += QUERIES)
                read_tile(&h, n, block_of(&h, i));
        }
    }
    for (int i = 0; i < h.latents; i += QUERIES)
        finish(&h, block_of(&h, i), ctx + (size_t)i * d->v + (size_t)head * h.dv, (size_t)d->v);
}
