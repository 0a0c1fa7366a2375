/* encode_factored.c - attention over tokens that are never written out.
 *
 * With x^ = r (x - mu) a token's LayerNorm before gamma and beta, and u = gamma (Wk^T q) / sqrt(d):
 *
 *     score = r [ u . x - mu sum(u) ]                  (+ a term equal for all tokens: dropped)
 *     b = exp(score - max) r
 *     sum p LN(x) = gamma ( sum b x - sum b mu ) / sum e + beta
 *
 * u . x splits over the groups of a token. A table's part is looked up in u . table^T [rows], made
 * once per query; sum b x for a table is (b summed by row) . table, made once at the end. Per query
 * and token that leaves an addition per table and the content's few products.
 *
 * A tile of tokens goes by for a block of queries at a time; max and sums are kept as running
 * values (online softmax), so nothing grows with the number of tokens. Within a tile, runs are
 * stretches where one table advances row by row and the others stand still.
 *
 * A table with as many rows as tokens (learned positions) saves nothing by lookup: it is `direct`,
 * and goes through matrix products tile by tile. */
#include "lib/attention/encode.h"

#include "lib/kernel/linear.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TILE = PCV_ENCODE_TILE };

struct group_state {
    const struct pcv_group *g;
    bool direct;
    float *u;      /* [block, n], or [block, raw] for content */
    float *scores; /* small table: [block, rows], u . row */
    float
        *sum;  /* small table: [block, rows], b by row; content: [block, raw]; direct: [block, n] */
    int width; /* of sum */
};

/* A stretch of the tile where one table advances row by row and the others stand still. */
struct tile_run {
    int from, n;
    int inner;                 /* first row of the table that advances */
    int outer[PCV_MAX_GROUPS]; /* row of each table that stands still */
};

struct pass {
    const struct pcv_kernels *k;
    const struct pcv_segment *s;
    int rows; /* queries */
    int ngroups;
    struct group_state group[PCV_MAX_GROUPS];
    struct group_state *inner;   /* the table that advances with every token, or NULL */
    struct group_state *content; /* the narrow content that runs carry, or NULL */
    struct group_state *outer[PCV_MAX_GROUPS]; /* tables that stand still for several tokens */
    int nouter, nruns;
    struct tile_run run[TILE];
    bool prepared; /* score rows already hold something before the runs */
    float base[PCV_ENCODE_BLOCK], usum[PCV_ENCODE_BLOCK];
    float *max, *e, *b, *bmu; /* [block] running values; max and e span all segments */
    float *s_tile;            /* [block, TILE] */
    int channels;
    float *agg; /* [block, C] sums of the segments that are done */
};

/* Scratch of one block; base NULL counts. */
struct scratch {
    float *u_all, *u_own, *tables, *s_tile, *agg, *own, *running;
};

static struct scratch carve(struct pcv_bump *b, int channels, int table_rows)
{
    const size_t block = PCV_ENCODE_BLOCK;

    return (struct scratch){
        .u_all = pcv_take(b, block * channels),
        .u_own = pcv_take(b, 3 * block * channels +
                                 (size_t)PCV_MAX_GROUPS * 32), /* u, content and direct sums */
        .tables = pcv_take(b, 2 * block * table_rows + (size_t)PCV_MAX_GROUPS * 32),
        .s_tile = pcv_take(b, block * TILE + 8), /* kernels write a vector at the end */
        .agg = pcv_take(b, block * channels),
        .own = pcv_take(b, block * channels),
        .running = pcv_take(b, 4 * block),
    };
}

size_t pcv_encode_factored_need(const struct pcv_encoder *enc, int table_rows)
{
    struct pcv_bump count = {0};

    carve(&count, enc->channels, table_rows);
    return count.used;
}

void pcv_encode_absorb(const struct pcv_layer *l, const struct pcv_kernels *k, const float *q,
                       int rows, float *u, size_t head_step)
{
    const int dk = l->d.qk / l->d.heads, channels = l->d.kv_dim;
    const float scale = 1.0f / sqrtf((float)dk);

    for (int h = 0; h < l->d.heads; h++) {
        float *of = u + (size_t)h * head_step;

        pcv_rows_nn(k, rows, channels, dk, q + (size_t)h * dk, l->d.qk,
                    l->k.w + (size_t)h * dk * channels, channels, of, channels, 0);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < channels; c++)
                of[(size_t)i * channels + c] *= l->norm_kv.gamma[c] * scale;
    }
}

/* ---- one segment: what the queries see of each group ------------------------------------------
 */

/* u for the content itself: lifted content takes lift^T u, and its bias joins the base. */
static void start_dense(struct pass *p, struct group_state *st, const float *u_all, int channels,
                        float *own)
{
    const struct pcv_group *g = st->g;

    for (int i = 0; i < p->rows; i++) {
        float *u = st->u + (size_t)i * g->raw;

        if (!g->lift) {
            pcv_group_gather(g, u_all + (size_t)i * channels, u);
            continue;
        }
        pcv_group_gather(g, u_all + (size_t)i * channels, own);
        memset(u, 0, (size_t)g->raw * sizeof(float));
        for (int c = 0; c < g->n; c++)
            p->k->axpy(u, own[c], g->lift + (size_t)c * g->raw, g->raw);
        p->base[i] += p->k->dot(own, g->lift_bias, g->n);
    }
}

static void start_table(struct pass *p, struct group_state *st, const float *u_all, int channels)
{
    const struct pcv_group *g = st->g;

    for (int i = 0; i < p->rows; i++)
        pcv_group_gather(g, u_all + (size_t)i * channels, st->u + (size_t)i * g->n);
    if (!st->direct)
        pcv_rows_nt(p->k, p->rows, g->rows, g->n, st->u, g->n, g->table, g->n, st->scores, g->rows,
                    0);
}

/* Lays the groups' arrays into scratch and computes u by group. */
static void start_segment(struct pass *p, const struct scratch *sc, int channels)
{
    float *u = sc->u_own, *tables = sc->tables;

    p->inner = p->content = NULL;
    p->prepared = false;
    p->nouter = 0;
    p->ngroups = p->s->ngroups;
    for (int i = 0; i < p->rows; i++) {
        p->base[i] = p->usum[i] = p->b[i] = p->bmu[i] = 0;
        for (int c = 0; c < channels; c++)
            p->usum[i] += sc->u_all[(size_t)i * channels + c];
    }
    for (int i = 0; i < p->ngroups; i++) {
        const struct pcv_group *g = &p->s->group[i];
        struct group_state *st = &p->group[i];
        const int block = PCV_ENCODE_BLOCK;

        *st = (struct group_state){.g = g, .direct = pcv_encode_direct(g, p->s->tokens), .u = u};
        u += pcv_pad_floats((size_t)block * g->n);
        st->width = g->kind == PCV_GROUP_CONST   ? 0
                    : g->kind == PCV_GROUP_DENSE ? g->raw
                    : st->direct                 ? g->n
                                                 : g->rows;
        if (g->kind == PCV_GROUP_TABLE && !st->direct) {
            st->scores = tables;
            st->sum = tables + pcv_pad_floats((size_t)block * g->rows);
            tables = st->sum + pcv_pad_floats((size_t)block * g->rows);
            if (!p->inner && !g->ids && g->div == 1)
                p->inner = st;
            else if (g->ids || g->div == 1)
                p->prepared = true;
            else
                p->outer[p->nouter++] = st;
        } else {
            st->sum = u;
            u += pcv_pad_floats((size_t)block * st->width);
            p->prepared |= st->direct;
        }
        if (g->kind == PCV_GROUP_CONST) {
            for (int r = 0; r < p->rows; r++) {
                pcv_group_gather(g, sc->u_all + (size_t)r * channels, sc->own);
                p->base[r] += p->k->dot(sc->own, g->value, g->n);
            }
            continue;
        }
        memset(st->sum, 0, (size_t)block * st->width * sizeof(float));
        if (g->kind == PCV_GROUP_TABLE) {
            start_table(p, st, sc->u_all, channels);
            continue;
        }
        start_dense(p, st, sc->u_all, channels, sc->own);
        if (!p->content && !pcv_encode_wide(g))
            p->content = st;
        else
            p->prepared = true;
    }
}

/* ---- one tile
 * ------------------------------------------------------------------------------------ */

/* A table whose rows come in no order, or a second advancing one: looked up token by token. */
static bool is_gathered(const struct pass *p, const struct group_state *st)
{
    return st->g->kind == PCV_GROUP_TABLE && !st->direct && st != p->inner &&
           (st->g->ids || st->g->div == 1);
}

/* Content that goes through matrix products: wide, or a second one. */
static bool is_product(const struct pass *p, const struct group_state *st)
{
    return st->g->kind == PCV_GROUP_DENSE && st != p->content;
}

/* What the runs do not compute: direct products and gathered tables. */
static void prepare_tile(struct pass *p, int64_t m0, int n)
{
    memset(p->s_tile, 0, (size_t)p->rows * TILE * sizeof(float));
    for (int j = 0; j < p->ngroups; j++) {
        const struct group_state *st = &p->group[j];
        const struct pcv_group *g = st->g;

        if (st->direct) {
            pcv_rows_nt(p->k, p->rows, n, g->n, st->u, g->n, g->table + (size_t)m0 * g->n, g->n,
                        p->s_tile, TILE, 1);
        } else if (is_product(p, st)) {
            pcv_rows_nn(p->k, p->rows, n, g->raw, st->u, g->raw, g->planes + m0, (int)p->s->tokens,
                        p->s_tile, TILE, 1);
        } else if (is_gathered(p, st)) {
            for (int i = 0; i < p->rows; i++)
                for (int m = 0; m < n; m++)
                    p->s_tile[(size_t)i * TILE + m] +=
                        st->scores[(size_t)i * g->rows + pcv_group_row(g, m0 + m)];
        }
    }
}

/* The longest stretch from m on where the inner table advances and outer tables stand still. */
static int64_t run_end(const struct pass *p, int64_t m, int64_t end)
{
    int64_t step;

    if (p->inner) {
        step = p->inner->g->rows;
        if (m - m % step + step < end)
            end = m - m % step + step;
    }
    for (int j = 0; j < p->nouter; j++) {
        step = p->outer[j]->g->div;
        if (m - m % step + step < end)
            end = m - m % step + step;
    }
    return end;
}

/* Cuts the tile into runs: the same for every query. */
static void cut_tile(struct pass *p, int64_t m0, int64_t m1)
{
    p->nruns = 0;
    for (int64_t m = m0, end; m < m1; m = end) {
        struct tile_run *run = &p->run[p->nruns++];

        end = run_end(p, m, m1);
        run->from = (int)(m - m0);
        run->n = (int)(end - m);
        run->inner = p->inner ? (int)(m % p->inner->g->rows) : 0;
        for (int j = 0; j < p->nouter; j++)
            run->outer[j] = pcv_group_row(p->outer[j]->g, m);
    }
}

/* What query i sees of the tile from m0 on; each run moves it on. */
static struct pcv_run start_run(const struct pass *p, int64_t m0)
{
    struct pcv_run run = {.r = p->s->r + m0, .mu = p->s->mean + m0};

    if (p->content) {
        run.planes = p->content->g->planes + m0;
        run.stride = (size_t)p->s->tokens;
        run.channels = p->content->g->raw;
    }
    return run;
}

static void end_run(struct pcv_run *run)
{
    run->r += run->n;
    run->mu += run->n;
    if (run->planes)
        run->planes += run->n;
}

static float score(struct pass *p, int i, int64_t m0)
{
    const float *u = p->content ? p->content->u + (size_t)i * p->content->g->raw : NULL;
    const float *inner = p->inner ? p->inner->scores + (size_t)i * p->inner->g->rows : NULL;
    float *s = p->s_tile + (size_t)i * TILE, top = p->max[i];
    struct pcv_run run = start_run(p, m0);

    for (int j = 0; j < p->nruns; j++) {
        const struct tile_run *t = &p->run[j];

        run.n = t->n;
        run.tab = inner ? inner + t->inner : NULL;
        run.base = p->base[i];
        for (int o = 0; o < p->nouter; o++)
            run.base += p->outer[o]->scores[(size_t)i * p->outer[o]->g->rows + t->outer[o]];
        top = fmaxf(top, p->k->score_run(s + t->from, &run, u, p->usum[i], p->prepared));
        end_run(&run);
    }
    return top;
}

/* The running maximum grew: what was summed so far shrinks. */
static void rescale(struct pass *p, int i, float top)
{
    const float f = expf(p->max[i] - top);

    p->max[i] = top;
    p->e[i] *= f;
    p->b[i] *= f;
    p->bmu[i] *= f;
    for (int j = 0; j < p->ngroups; j++) {
        struct group_state *st = &p->group[j];

        if (st->sum)
            p->k->scale(st->sum + (size_t)i * st->width, f, st->width);
    }
    p->k->scale(p->agg + (size_t)i * p->channels, f, p->channels); /* earlier segments */
}

static void weigh(struct pass *p, int i, int64_t m0)
{
    float *inner = p->inner ? p->inner->sum + (size_t)i * p->inner->width : NULL;
    float *content = p->content ? p->content->sum + (size_t)i * p->content->width : NULL;
    float *s = p->s_tile + (size_t)i * TILE;
    struct pcv_run run = start_run(p, m0);

    for (int j = 0; j < p->nruns; j++) {
        const struct tile_run *t = &p->run[j];
        struct pcv_run_sums sums = {0};

        run.n = t->n;
        p->k->weigh_run(s + t->from, &run, p->max[i], inner ? inner + t->inner : NULL, content,
                        &sums);
        end_run(&run);
        p->e[i] += sums.e;
        p->b[i] += sums.b;
        p->bmu[i] += sums.bmu;
        for (int o = 0; o < p->nouter; o++)
            p->outer[o]->sum[(size_t)i * p->outer[o]->width + t->outer[o]] += sums.b;
    }
}

/* Tables that come in no order: their sums by row. */
static void weigh_gathered(struct pass *p, const struct group_state *st, int64_t m0, int n)
{
    for (int i = 0; i < p->rows; i++) {
        const float *s = p->s_tile + (size_t)i * TILE;
        float *sum = st->sum + (size_t)i * st->width;

        for (int m = 0; m < n; m++)
            sum[pcv_group_row(st->g, m0 + m)] += s[m];
    }
}

static void pass_tile(struct pass *p, int64_t m0, int64_t m1)
{
    const int n = (int)(m1 - m0);

    cut_tile(p, m0, m1);
    if (p->prepared)
        prepare_tile(p, m0, n);
    for (int i = 0; i < p->rows; i++) {
        const float top = score(p, i, m0);

        if (top > p->max[i])
            rescale(p, i, top);
        weigh(p, i, m0);
    }
    for (int j = 0; j < p->ngroups; j++) {
        const struct group_state *st = &p->group[j];
        const struct pcv_group *g = st->g;

        if (st->direct)
            pcv_rows_nn(p->k, p->rows, g->n, n, p->s_tile, TILE, g->table + (size_t)m0 * g->n, g->n,
                        st->sum, g->n, true);
        else if (is_product(p, st))
            pcv_rows_nt(p->k, p->rows, g->raw, n, p->s_tile, TILE, g->planes + m0,
                        (int)p->s->tokens, st->sum, g->raw, true);
        else if (is_gathered(p, st))
            weigh_gathered(p, st, m0, n);
    }
}

/* ---- the end: sum b x - sum b mu, over all channels --------------------------------------------
 */

static void finish_group(struct pass *p, const struct group_state *st, int channels, float *agg,
                         float *own)
{
    const struct pcv_group *g = st->g;

    if (g->kind == PCV_GROUP_TABLE && !st->direct)
        pcv_rows_nn(p->k, p->rows, g->n, g->rows, st->sum, g->rows, g->table, g->n, own, g->n, 0);
    for (int i = 0; i < p->rows; i++) {
        float *v = own + (size_t)i * g->n;
        const float *sum = st->sum + (size_t)i * st->width;

        if (st->direct || (g->kind == PCV_GROUP_DENSE && !g->lift)) {
            memcpy(v, sum, (size_t)g->n * sizeof(float));
        } else if (g->kind == PCV_GROUP_DENSE) {
            for (int c = 0; c < g->n; c++)
                v[c] = p->b[i] * g->lift_bias[c] +
                       p->k->dot(sum, g->lift + (size_t)c * g->raw, g->raw);
        } else if (g->kind == PCV_GROUP_CONST) {
            for (int c = 0; c < g->n; c++)
                v[c] = p->b[i] * g->value[c];
        }
        pcv_group_add(g, v, agg + (size_t)i * channels);
    }
}

/* Adds this segment's sum b x - sum b mu to agg [rows, C]. */
static void finish_segment(struct pass *p, int channels, float *own)
{
    for (int j = 0; j < p->ngroups; j++)
        finish_group(p, &p->group[j], channels, p->agg, own);
    for (int i = 0; i < p->rows; i++)
        for (int c = 0; c < channels; c++)
            p->agg[(size_t)i * channels + c] -= p->bmu[i];
}

/* Rows of all small tables of the segment that has most. */
static int small_table_rows(const struct pcv_tokens *t)
{
    int most = 0;

    for (int i = 0; i < t->nsegments; i++) {
        const struct pcv_segment *s = &t->segment[i];
        int n = 0;

        for (int j = 0; j < s->ngroups; j++)
            if (s->group[j].kind == PCV_GROUP_TABLE && !pcv_encode_direct(&s->group[j], s->tokens))
                n += s->group[j].rows;
        if (n > most)
            most = n;
    }
    return most;
}

void pcv_encode_factored(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                         const struct pcv_tokens *t, const float *u, int head, int row0, int rows,
                         float *ctx, float *scratch)
{
    const struct pcv_layer *l = enc->layer;
    const int channels = enc->channels, dv = l->d.v / l->d.heads;
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, channels, small_table_rows(t));
    struct pass p = {
        .k = k, .rows = rows, .s_tile = sc.s_tile, .agg = sc.agg, .channels = channels};

    p.max = sc.running;
    p.e = p.max + PCV_ENCODE_BLOCK;
    p.b = p.e + PCV_ENCODE_BLOCK;
    p.bmu = p.b + PCV_ENCODE_BLOCK;
    for (int i = 0; i < rows; i++) {
        p.max[i] = -FLT_MAX;
        p.e[i] = 0;
    }
    memset(p.agg, 0, (size_t)rows * channels * sizeof(float));
    memcpy(sc.u_all, u, (size_t)rows * channels * sizeof(float));
    for (int i = 0; i < t->nsegments; i++) {
        p.s = &t->segment[i];
        start_segment(&p, &sc, channels);
        for (int64_t m = 0; m < p.s->tokens; m += TILE)
            pass_tile(&p, m, m + TILE < p.s->tokens ? m + TILE : p.s->tokens);
        finish_segment(&p, channels, sc.own);
    }
    for (int i = 0; i < rows; i++) {
        float *x = p.agg + (size_t)i * channels;

        for (int c = 0; c < channels; c++)
            x[c] = x[c] / p.e[i] * l->norm_kv.gamma[c] + l->norm_kv.beta[c];
    }
    pcv_linear(k, rows, dv, channels, p.agg, channels, l->val.w + (size_t)head * dv * channels,
               l->val.b ? l->val.b + (size_t)head * dv : NULL,
               ctx + (size_t)row0 * l->d.v + (size_t)head * dv, l->d.v, false);
}
