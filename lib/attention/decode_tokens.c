/* decode_tokens.c - output queries that are a factored token array: the mirror image of
 * encode_factored.c.
 *
 * With x^ = r (x - mu) a query's LayerNorm before gamma and beta, and per latent and head
 * k' = gamma (Wq^T k) / sqrt(d):
 *
 *     score = r (x - mu) . k' + (Wq beta + bq) . k / sqrt(d)
 *
 * A channel's mean over k' takes nothing from that once k' has none, for mu is the same for all
 * channels: k' is centred, and mu is never asked for. x . k' splits over the groups of x: tables
 * meet k' once per item, content is one narrow matrix product per tile. Values meet the out
 * projection once per item (v' = Wo_h v_h), so that a tile goes from weights to the layer's width
 * at once. Queries are lanes of panels; keys come in parts whose scores stay in the cache, with a
 * running maximum. Scores are in base 2.
 *
 * The specification (job->plain) writes the queries out and does what the formula says. So does a
 * job of few rows (job->lean), for keys that absorb queries and values that meet the out projection
 * are work for all latents; and a decoder whose queries never gain (d->written): their tables are
 * longer than they are many, or they are wide content. */
#include "lib/attention/decode_tokens.h"
#include "lib/attention/running_softmax.h"
#include "lib/kernel/linear.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- memory
 * --------------------------------------------------------------------------------------- */

/* Of one head, for a tile; in panels, by panel where one number belongs to a query. */
struct heed {
    float *part;             /* [PCV_PANEL_DEPTH]: scores, then weights */
    float *from, *max, *sum; /* running maximum, what it may become, sum of weights */
    float *acc;              /* [q_dim]: sum of weights times v' */
    float *factor;           /* [lanes] */
    float *each;             /* [PCV_PANEL_DEPTH, lanes] */
    float *same;             /* [PCV_PANEL_DEPTH] */
};

struct scratch {
    float *x;      /* content of the tile in panels [raw]; plain: [tile, q_dim] */
    float *r;      /* by panel */
    float *panels; /* the layer's rows */
    float *logits; /* [width], in panels */
    float *out;    /* [tile, q_dim] */
    float *own;    /* [tile, q_dim] */
    struct heed head;
    float *tail;
    float *q, *ctx; /* plain: [tile, qk], [tile, v] */
    float *scores;  /* plain: [tile, latents] */
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t rows = PCV_DECODE_TILE; /* PCV_DECODE_BLOCK is less */
    const size_t lanes = pcv_panel_need(PCV_DECODE_TILE, PCV_DECODE_TILE);

    return (struct scratch){
        .x = pcv_take(b, lanes * l->q_dim),
        .r = pcv_take(b, lanes),
        .panels = pcv_take(b, lanes * (size_t)l->q_dim),
        .logits = pcv_take(b, lanes * (size_t)d->width),
        .out = pcv_take(b, rows * l->q_dim),
        .own = pcv_take(b, rows * l->q_dim),
        .head =
            {
                .part = pcv_take(b, lanes * PCV_PANEL_DEPTH),
                .from = pcv_take(b, lanes),
                .max = pcv_take(b, lanes),
                .sum = pcv_take(b, lanes),
                .acc = pcv_take(b, lanes * l->q_dim),
                .factor = pcv_take(b, PCV_PANEL_MOST_LANES),
                .each = pcv_take(b, (size_t)PCV_PANEL_DEPTH * PCV_PANEL_MOST_LANES),
                .same = pcv_take(b, PCV_PANEL_DEPTH),
            },
        .tail = pcv_take(b, pcv_layer_tail_need(l, PCV_DECODE_TILE)),
        .q = pcv_take(b, rows * l->qk),
        .ctx = pcv_take(b, rows * l->v),
        .scores = pcv_take(b, rows * (size_t)d->latents),
    };
}

size_t pcv_decode_tokens_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    carve(&count, d);
    return count.used;
}

/* ---- once per tile
 * ----------------------------------------------------------------------------------- */

/* A tile of queries: rows [row0, row0 + rows) of the job, at one head. */
struct tile {
    const struct pcv_decoder *d;
    const struct pcv_panel_kernels *k;
    const struct pcv_decode_job *job;
    const struct pcv_prepared_tokens *p;
    const struct pcv_segment *s;
    int h, row0, rows;
    int last;                                 /* pcv_last_table */
    size_t last_at;                           /* where that is among a head's tables */
    int row[PCV_MAX_GROUPS][PCV_DECODE_TILE]; /* of each table, by query */
};

static void find_rows(struct tile *t)
{
    t->last = pcv_last_table(t->s);
    t->last_at = 0;
    for (int j = 0; j <= t->last; j++) {
        const struct pcv_group *g = &t->s->group[j];

        if (g->kind != PCV_GROUP_TABLE)
            continue;
        for (int i = 0; i < t->rows; i++)
            t->row[j][i] = pcv_group_row(g, pcv_decode_row(t->job, t->row0 + i));
        if (j < t->last)
            t->last_at += (size_t)g->rows * t->d->latents;
    }
}

/* Tables of the tile's head. */
static const float *tables_of(const struct tile *t)
{
    return t->p->tables + (size_t)t->h * t->d->latents * t->d->table_rows;
}

/* Content in panels, LayerNorm's r by panel. */
static void gather_tile(const struct tile *t, const struct scratch *sc)
{
    const int lanes = t->k->lanes;

    for (int row = 0, i = 0, part; row < t->rows; row += part, i++) {
        part = pcv_panel_rows(t->rows - row, lanes);
        for (int j = 0; j < part; j++)
            sc->r[i * lanes + j] = t->s->r[pcv_decode_row(t->job, t->row0 + row + j)];
        for (int j = 0; j < t->s->ngroups; j++) {
            const struct pcv_group *g = &t->s->group[j];
            float *x = sc->x + (size_t)i * g->raw * lanes;

            for (int c = 0; g->kind == PCV_GROUP_DENSE && c < g->raw; c++)
                for (int l = 0; l < part; l++)
                    x[c * lanes + l] =
                        pcv_group_content(g, pcv_decode_row(t->job, t->row0 + row + l), c);
        }
    }
}

/* Scores of content against n keys from k0 on, all panels of the tile; whether there is any. */
static bool score_content(const struct tile *t, int k0, int n, const struct scratch *sc)
{
    const size_t lanes = (size_t)t->k->lanes;

    for (int j = 0; j < t->s->ngroups; j++) {
        const struct pcv_group *g = &t->s->group[j];
        const size_t at = (size_t)t->h * t->d->latents * t->d->layer->d.q_dim;
        const struct pcv_product p = {
            .rows = t->rows,
            .n = n,
            .k = g->raw,
            .a = sc->x,
            .a_step = (size_t)g->raw * lanes,
            .w = t->p->content + at + (size_t)k0 * g->raw,
            .ldw = (size_t)g->raw,
            .c = sc->head.part,
            .c_step = (size_t)n * lanes,
        };

        if (g->kind != PCV_GROUP_DENSE)
            continue;
        t->k->product(&p);
        return true;
    }
    return false;
}

/* Neighbouring queries of a panel that differ in the row of the last table alone, by one. */
struct query_run {
    int n;
    int last; /* row of the last table, of the first query */
};

/* What queries from `row` of the tile on have in common with n keys from k0 on: same [n]; at most
 * `most` of them. */
static struct query_run share_terms(const struct tile *t, int row, int most, int k0, int n,
                                    float *same)
{
    const float *table = tables_of(t);
    struct query_run run = {most, 0};

    memcpy(same, t->p->base + (size_t)t->h * t->d->latents + k0, (size_t)n * sizeof(float));
    for (int j = 0; j <= t->last; j++) {
        const struct pcv_group *g = &t->s->group[j];
        const int *of = t->row[j] + row;
        int i = 1;

        if (g->kind != PCV_GROUP_TABLE)
            continue;
        while (i < run.n && of[i] == of[0] + (j == t->last ? i : 0))
            i++;
        run.n = i;
        if (j == t->last) {
            run.last = of[0];
            continue;
        }
        for (int key = 0; key < n; key++)
            same[key] += table[(size_t)of[0] * t->d->latents + k0 + key];
        table += (size_t)g->rows * t->d->latents;
    }
    return run;
}

/* The last table's terms of n keys from k0 on, for the queries from its row `row` on; in `step`
 * floats the next key's. NULL without tables. */
static const float *last_terms(const struct tile *t, int k0, int row, size_t *step)
{
    *step = 0;
    if (t->last < 0)
        return NULL;
    *step = (size_t)t->s->group[t->last].rows;
    return tables_of(t) + t->last_at + (size_t)k0 * *step + row;
}

/* A panel whose queries are no single run: each query's sum of terms, beside one another, as they
 * would have been added. */
static void spread_terms(const struct tile *t, int row, int rows, int k0, int n,
                         const struct heed *to)
{
    const int lanes = t->k->lanes;
    struct query_run run;

    for (int i = 0; i < rows; i += run.n) {
        const float *last;
        size_t step;

        run = share_terms(t, row + i, rows - i, k0, n, to->same);
        last = last_terms(t, k0, run.last, &step);
        for (int key = 0; key < n; key++)
            for (int q = 0; q < run.n; q++)
                to->each[key * lanes + i + q] = to->same[key] + last[key * step + q];
    }
    memset(to->same, 0, (size_t)n * sizeof(float));
}

/* Scores become weights: one panel against n keys from k0 on. */
static void weigh_panel(const struct tile *t, int panel, int row, int rows, int k0, int n,
                        bool given, const struct scratch *sc)
{
    const struct heed *head = &sc->head;
    const size_t lanes = (size_t)t->k->lanes, at = (size_t)panel * lanes;
    const int c = t->d->layer->d.q_dim;
    const struct pcv_running running = {head->from + at, head->max + at,     head->sum + at,
                                        head->factor,    head->acc + at * c, c};
    const struct query_run run = share_terms(t, row, rows, k0, n, head->same);
    struct pcv_query_terms terms = {
        .n = n,
        .same = head->same,
        .r = sc->r + at,
        .add = t->p->add + (size_t)t->h * t->d->latents + k0,
    };

    terms.each = last_terms(t, k0, run.last, &terms.each_step);
    if (run.n < rows) {
        spread_terms(t, row, rows, k0, n, head);
        terms.each = head->each;
        terms.each_step = lanes;
    }
    pcv_running_weights(t->k, &running, head->part + at * n, &terms, rows, given);
}

/* acc += weights v' of n keys from k0 on, all panels of the tile against each part of v': it is
 * read once. */
static void add_values(const struct tile *t, int k0, int n, const struct heed *head)
{
    const size_t step = pcv_key_step(t->d), lanes = (size_t)t->k->lanes;
    const int c = t->d->layer->d.q_dim;
    const struct pcv_product product = {
        .rows = t->rows,
        .n = c,
        .k = n,
        .a = head->part,
        .a_step = (size_t)n * lanes,
        .w = t->p->vo + (size_t)t->h * c * step + k0,
        .ldw = step,
        .c = head->acc,
        .c_step = (size_t)c * lanes,
        .add = true,
    };

    t->k->product(&product);
}

/* x += what the head reads: acc over the sum of weights. */
static void add_head(const struct tile *t, const struct heed *head, float *x)
{
    const int lanes = t->k->lanes, c = t->d->layer->d.q_dim;

    for (int row = 0, i = 0, rows; row < t->rows; row += rows, i++) {
        const size_t at = (size_t)i * c * lanes;

        rows = pcv_panel_rows(t->rows - row, lanes);
        for (int q = 0; q < rows; q++)
            head->factor[q] = 1.0f / head->sum[i * lanes + q];
        for (int j = 0; j < c; j++)
            for (int q = 0; q < rows; q++)
                x[at + (size_t)(j * lanes + q)] +=
                    head->acc[at + (size_t)(j * lanes + q)] * head->factor[q];
    }
}

static void attend(const struct tile *t, const struct scratch *sc)
{
    const struct heed *head = &sc->head;
    const int lanes = t->k->lanes, n = t->d->latents;
    const size_t all = (size_t)pcv_panel_count(t->rows, lanes) * (size_t)lanes;

    for (size_t i = 0; i < all; i++) {
        head->from[i] = head->max[i] = -FLT_MAX;
        head->sum[i] = 0;
    }
    memset(head->acc, 0, all * (size_t)t->d->layer->d.q_dim * sizeof(float));
    for (int k0 = 0, part; k0 < n; k0 += part) {
        bool given;

        part = n - k0 < PCV_PANEL_DEPTH ? n - k0 : PCV_PANEL_DEPTH;
        given = score_content(t, k0, part, sc);
        for (int row = 0, i = 0, rows; row < t->rows; row += rows, i++) {
            rows = pcv_panel_rows(t->rows - row, lanes);
            weigh_panel(t, i, row, rows, k0, part, given, sc);
        }
        add_values(t, k0, part, head);
    }
    add_head(t, head, sc->panels);
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
                       const struct pcv_worker *w, const struct pcv_decode_job *job,
                       const struct pcv_prepared_tokens *p, int row0, int rows,
                       const struct scratch *sc)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.q_dim, qk = l->d.qk;
    const struct pcv_attend a = pcv_decode_attend(d, p->keys, p->values);

    write_queries(d, job, row0, rows, sc->out, sc->own);
    k->norm(sc->x, c, sc->out, c, l->norm_q.gamma, l->norm_q.beta, rows, c, l->eps);
    pcv_linear(k, rows, qk, c, sc->x, c, l->q.w, l->q.b, sc->q, qk, false);
    pcv_attend_rows(&a, k, rows, sc->q, qk, sc->ctx, l->d.v, sc->scores);
    pcv_layer_tail(l, k, w, rows, sc->ctx, sc->out, sc->out, sc->tail);
}

/* The residual, if any, and the out projection's bias: what heads are added to, in panels. */
static void start_rows(const struct tile *t, const struct scratch *sc)
{
    const struct pcv_layer *l = t->d->layer;
    const int c = l->d.q_dim;

    if (l->d.residual)
        write_queries(t->d, t->job, t->row0, t->rows, sc->out, sc->own);
    else
        memset(sc->out, 0, (size_t)t->rows * (size_t)c * sizeof(float));
    for (int i = 0; l->out.b && i < t->rows; i++)
        for (int j = 0; j < c; j++)
            sc->out[(size_t)i * c + j] += l->out.b[j];
    pcv_rows_to_panels(t->k, sc->panels, sc->out, (size_t)c, t->rows, c);
}

/* The task's head, or a copy without one: rows of logits. */
static void finish_rows(const struct tile *t, const struct scratch *sc)
{
    const struct pcv_decoder *d = t->d;
    const int c = d->layer->d.q_dim;
    const size_t lanes = (size_t)t->k->lanes;
    const struct pcv_product p = {
        .rows = t->rows,
        .n = d->width,
        .k = c,
        .a = sc->panels,
        .a_step = (size_t)c * lanes,
        .w = d->head.w,
        .ldw = (size_t)c,
        .bias = d->head.b,
        .c = sc->logits,
        .c_step = (size_t)d->width * lanes,
    };

    if (d->head.w)
        t->k->product(&p);
    pcv_panels_to_rows(t->k, t->job->logits + (size_t)t->row0 * (size_t)d->width,
                       d->head.w ? sc->logits : sc->panels, t->rows, d->width);
}

void pcv_decode_tokens_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                            const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                            int rows, float *scratch)
{
    struct pcv_bump item = {.base = job->item_scratch}, mine = {.base = scratch};
    const struct pcv_prepared_tokens p = pcv_prepared_tokens(&item, d);
    const struct scratch sc = carve(&mine, d);
    struct tile t = {.d = d,
                     .k = k->panel,
                     .job = job,
                     .p = &p,
                     .s = &job->queries->segment[0],
                     .row0 = row0,
                     .rows = rows};

    if (job->plain || job->lean) {
        plain_tile(d, k, w, job, &p, row0, rows, &sc);
        pcv_decode_head(d, k, rows, sc.out, job->logits + (size_t)row0 * d->width);
        return;
    }
    start_rows(&t, &sc);
    find_rows(&t);
    gather_tile(&t, &sc);
    for (t.h = 0; t.h < d->layer->d.heads; t.h++)
        attend(&t, &sc);
    pcv_layer_mlp_panels(d->layer, k->panel, w, rows, sc.panels, sc.tail);
    finish_rows(&t, &sc);
}
