/* encode_factored.c - attention over tokens that are never written out.
 *
 * With x^ = r (x - mu) a token's LayerNorm before gamma and beta, and u = gamma (Wk^T q) / sqrt(d):
 *
 *     score = u . x^ = r u' . x,  u' = u - mean(u)     (+ a term equal for all tokens: dropped)
 *     b = exp(score - max) r
 *     sum p LN(x) = gamma ( a - mean(a) ) / sum e + beta,  a = sum b x
 *
 * so that a token's own mean is never asked for. u' . x splits over the groups of a token. A
 * table's part is a row of terms, u' . table^T, made once per query; sum b x for a table is (b
 * summed by row) . table, made once at the end. Per query and token that leaves an addition per
 * table and the content's few products.
 *
 * Queries are lanes (panel.h), tokens go by a tile at a time. Max and sums are kept as running
 * values (online softmax), so nothing grows with the number of tokens. Within a tile, runs are
 * stretches where one table moves on row by row and the others stand still. Scores are in base 2.
 *
 * A table with as many rows as tokens (learned positions) saves nothing by lookup: it is `direct`,
 * and is multiplied as content is. */
#include "lib/attention/encode.h"

#include "lib/kernel/linear.h"
#include "lib/kernel/running_max.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    TILE = PCV_ENCODE_TILE,
    MOST_PANELS = 4, /* of PCV_ENCODE_BLOCK queries */
    MOST_STILL = PCV_MAX_GROUPS + 1,
};

/* A stretch of the tile where one table moves on row by row and the others stand still. */
struct tile_run {
    int from, n;
    int row[PCV_MAX_GROUPS]; /* of each small table, at the first token */
};

/* What a panel of queries holds of one group, [.., lanes]. */
struct group_panel {
    float *u;      /* content, direct: [width] */
    float *scores; /* small table: [rows] */
    float *sum;    /* small table: [rows], b by row; others: [width] */
};

struct panel {
    int rows; /* queries */
    float *u; /* [C, lanes]: u', in base 2 */
    float *from, *max, *e, *factor;
    float *base, *b; /* terms that all tokens of the segment share, and the sum of all b */
    float *agg;      /* [C, lanes] sums of the segments that are done */
    struct group_panel group[PCV_MAX_GROUPS];
};

struct pass {
    const struct pcv_panel_kernels *k;
    size_t lanes;
    const struct pcv_segment *s;
    int channels, npanels;
    struct panel panel[MOST_PANELS];
    int moving;                          /* the small table that moves on with every token, or -1 */
    int narrow;                          /* content of few channels, or -1 */
    struct pcv_values x[PCV_MAX_GROUPS]; /* content, direct: the tile's [tokens, width] */
    struct tile_run run[TILE];
    int nruns;
};

/* Scratch of one block; base NULL counts. */
struct scratch {
    float *u, *agg, *own, *tables, *running; /* of all panels */
    float *s, *x, *out;
};

enum { RUNNING = 6 };

static size_t own_floats(int channels, size_t lanes)
{
    return 2 * (size_t)channels * lanes;
}

static struct scratch carve(struct pcv_bump *b, const struct pcv_encoder *enc, int table_rows,
                            int npanels, size_t lanes)
{
    const size_t all = (size_t)npanels * lanes, c = (size_t)enc->channels;

    return (struct scratch){
        .u = pcv_take(b, all * c),
        .agg = pcv_take(b, all * c),
        .own = pcv_take(b, (size_t)npanels * own_floats(enc->channels, lanes)),
        .tables = pcv_take(b, 2 * all * (size_t)table_rows),
        .running = pcv_take(b, RUNNING * all),
        .s = pcv_take(b, TILE * lanes),
        .x = pcv_take(b, TILE * c),
        .out = pcv_take(b, (size_t)(enc->layer->d.v / enc->layer->d.heads) * lanes),
    };
}

size_t pcv_encode_factored_need(const struct pcv_encoder *enc, int table_rows)
{
    const int npanels = pcv_panel_count(PCV_ENCODE_BLOCK, PCV_PANEL_MOST_LANES);
    struct pcv_bump count = {0};

    /* narrower panels are more, but together not wider */
    carve(&count, enc, table_rows, npanels, PCV_PANEL_MOST_LANES);
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

/* ---- groups -----------------------------------------------------------------------------------
 */

static bool is_direct(const struct pass *p, const struct pcv_group *g)
{
    return pcv_encode_direct(g, p->s->tokens);
}

static bool is_small_table(const struct pass *p, const struct pcv_group *g)
{
    return g->kind == PCV_GROUP_TABLE && !is_direct(p, g);
}

/* Channels of content that is multiplied with every token; 0: none. */
static int content_width(const struct pass *p, const struct pcv_group *g)
{
    return g->kind == PCV_GROUP_DENSE ? g->raw : is_direct(p, g) ? g->n : 0;
}

/* c [n, lanes] = or += W [n, k] a [k, lanes]. */
static void multiply(const struct pass *p, int rows, int n, int k, const float *a, const float *w,
                     int ldw, float *c, bool add)
{
    const struct pcv_product product = {
        .rows = rows, .n = n, .k = k, .a = a, .w = w, .ldw = (size_t)ldw, .c = c, .add = add};

    p->k->product(&product);
}

/* Channel c of a matrix in a panel. */
static float *channel(const struct pass *p, float *panel, int c)
{
    return panel + (size_t)c * p->lanes;
}

/* ---- one segment: what the queries see of each group ------------------------------------------
 */

static void clear(const struct pass *p, float *x, int n)
{
    memset(x, 0, (size_t)n * p->lanes * sizeof(*x));
}

/* base += u' . value, for a vector that every token has. */
static void add_to_base(const struct pass *p, struct panel *q, const struct pcv_group *g,
                        const float *value)
{
    for (int i = 0; i < g->nranges; value += g->range[i].n, i++)
        p->k->gather(q->base, channel(p, q->u, g->range[i].from), g->range[i].n,
                     (struct pcv_values){value, 1, 1}, 1, q->rows);
}

/* u' for content: lifted content takes lift^T u', and its bias is the same for all tokens. */
static void start_content(const struct pass *p, struct panel *q, const struct pcv_group *g,
                          float *u)
{
    int c = 0;

    if (g->lift)
        clear(p, u, g->raw);
    for (int i = 0; i < g->nranges; c += g->range[i].n, i++) {
        const float *of = channel(p, q->u, g->range[i].from);

        if (g->lift)
            p->k->gather(u, of, g->range[i].n,
                         (struct pcv_values){g->lift + (size_t)c * g->raw, (size_t)g->raw, 1},
                         g->raw, q->rows);
        else
            memcpy(channel(p, u, c), of, (size_t)g->range[i].n * p->lanes * sizeof(*u));
    }
    if (g->lift)
        add_to_base(p, q, g, g->lift_bias);
}

static void start_table(const struct pass *p, struct panel *q, const struct pcv_group *g,
                        float *scores)
{
    int c = 0;

    for (int i = 0; i < g->nranges; c += g->range[i].n, i++)
        multiply(p, q->rows, g->rows, g->range[i].n, channel(p, q->u, g->range[i].from),
                 g->table + c, g->n, scores, i > 0);
}

/* Lays the groups' arrays into scratch and computes what the panel sees of each. */
static void start_panel(const struct pass *p, struct panel *q, float *own, float *tables)
{
    clear(p, q->base, 1);
    clear(p, q->b, 1);
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];
        struct group_panel *of = &q->group[j];
        const int width = content_width(p, g);

        if (g->kind == PCV_GROUP_CONST) {
            add_to_base(p, q, g, g->value);
        } else if (width > 0) {
            of->u = own;
            of->sum = channel(p, own, width);
            own = channel(p, of->sum, width);
            start_content(p, q, g, of->u);
            clear(p, of->sum, width);
        } else {
            of->scores = tables;
            of->sum = channel(p, tables, g->rows);
            tables = channel(p, of->sum, g->rows);
            start_table(p, q, g, of->scores);
            clear(p, of->sum, g->rows);
        }
    }
}

static void start_segment(struct pass *p, const struct scratch *sc, int table_rows)
{
    p->moving = p->narrow = -1;
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];

        if (p->moving < 0 && is_small_table(p, g) && !g->ids && g->div == 1 && g->rows > 1)
            p->moving = j;
        if (p->narrow < 0 && g->kind == PCV_GROUP_DENSE && g->raw <= PCV_ENCODE_NARROW &&
            g->content.row == 1)
            p->narrow = j;
    }
    for (int i = 0; i < p->npanels; i++)
        start_panel(p, &p->panel[i], sc->own + (size_t)i * own_floats(p->channels, p->lanes),
                    sc->tables + (size_t)i * 2 * p->lanes * (size_t)table_rows);
}

/* ---- one tile ---------------------------------------------------------------------------------
 */

/* The longest stretch from m on where one table moves on and the others stand still. */
static int64_t run_end(const struct pass *p, int64_t m, int64_t end)
{
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];
        int64_t step;

        if (!is_small_table(p, g) || g->rows == 1) /* one row always stands still */
            continue;
        if (g->ids) { /* these come in no order */
            for (step = m + 1; step < end && g->ids[step] == g->ids[m]; step++)
                ;
            end = step;
            continue;
        }
        step = j == p->moving ? g->rows : g->div;
        if (m - m % step + step < end)
            end = m - m % step + step;
    }
    return end;
}

/* Cuts the tile into runs, the same for every query. */
static void cut_tile(struct pass *p, int64_t m0, int64_t m1)
{
    p->nruns = 0;
    for (int64_t m = m0, end; m < m1; m = end) {
        struct tile_run *run = &p->run[p->nruns++];

        end = run_end(p, m, m1);
        run->from = (int)(m - m0);
        run->n = (int)(end - m);
        for (int j = 0; j < p->s->ngroups; j++)
            if (is_small_table(p, &p->s->group[j]))
                run->row[j] = pcv_group_row(&p->s->group[j], m);
    }
}

/* Where the tile's content stands: for products token after token. */
static void find_content(struct pass *p, int64_t m0, int n, float *x)
{
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];

        if (g->kind == PCV_GROUP_DENSE && (j == p->narrow || g->content.channel == 1)) {
            p->x[j] = g->content;
            p->x[j].at += (size_t)m0 * g->content.row;
        } else if (g->kind == PCV_GROUP_DENSE) {
            p->x[j] = (struct pcv_values){x, (size_t)g->raw, 1};
            p->k->transpose(x, g->content.at + m0, (int64_t)g->content.channel, n, g->raw);
            x += (size_t)TILE * (size_t)g->raw;
        } else if (is_direct(p, g)) {
            p->x[j] = (struct pcv_values){g->table + m0 * g->n, (size_t)g->n, 1};
        }
    }
}

/* Products with content that runs do not carry: s [n, lanes]. False: there are none. */
static bool score_content(const struct pass *p, const struct panel *q, int n, float *s)
{
    bool given = false;

    for (int j = 0; j < p->s->ngroups; j++) {
        const int width = content_width(p, &p->s->group[j]);

        if (width == 0 || j == p->narrow)
            continue;
        multiply(p, q->rows, n, width, q->group[j].u, p->x[j].at, (int)p->x[j].row, s, given);
        given = true;
    }
    return given;
}

/* A run with the rows it reads, and those where it is summed. */
struct bound_run {
    struct pcv_token_run run;
    struct pcv_token_sums sums;
    const float *still[MOST_STILL];
    float *still_sums[MOST_STILL];
};

static void bind(const struct pass *p, const struct panel *q, const struct tile_run *t, int64_t m0,
                 struct bound_run *to)
{
    int n = 1;

    *to = (struct bound_run){
        .run = {.n = t->n, .r = p->s->r + m0 + t->from, .still = to->still},
        .sums = {.e = q->e, .still = to->still_sums},
        .still = {q->base},
        .still_sums = {q->b},
    };
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct group_panel *g = &q->group[j];

        if (!is_small_table(p, &p->s->group[j]))
            continue;
        if (j == p->moving) {
            to->run.moving = channel(p, g->scores, t->row[j]);
            to->sums.moving = channel(p, g->sum, t->row[j]);
            continue;
        }
        to->still[n] = channel(p, g->scores, t->row[j]);
        to->still_sums[n++] = channel(p, g->sum, t->row[j]);
    }
    to->run.nstill = n;
    if (p->narrow >= 0) {
        to->run.channels = p->s->group[p->narrow].raw;
        to->run.u = q->group[p->narrow].u;
        to->run.x = p->x[p->narrow].at + t->from;
        to->run.x_step = p->x[p->narrow].channel;
    }
}

static void scale(const struct pass *p, const struct panel *q, float *x, int n)
{
    for (int i = 0; i < n; i++)
        p->k->multiply(channel(p, x, i), q->factor, q->rows, 1);
}

/* A query's maximum has grown beyond the slack: what was summed so far shrinks. */
static void settle(const struct pass *p, struct panel *q)
{
    if (!pcv_raise(q->from, q->max, q->factor, q->rows))
        return;
    scale(p, q, q->e, 1);
    scale(p, q, q->b, 1);
    scale(p, q, q->agg, p->channels); /* earlier segments */
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];

        if (g->kind != PCV_GROUP_CONST)
            scale(p, q, q->group[j].sum, is_small_table(p, g) ? g->rows : content_width(p, g));
    }
}

static void panel_tile(const struct pass *p, struct panel *q, int64_t m0, int n, float *s)
{
    const bool given = score_content(p, q, n, s);
    struct bound_run b;

    for (int i = 0; i < p->nruns; i++) {
        bind(p, q, &p->run[i], m0, &b);
        p->k->token_scores(channel(p, s, p->run[i].from), q->max, &b.run, q->rows, given);
    }
    settle(p, q);
    for (int i = 0; i < p->nruns; i++) {
        bind(p, q, &p->run[i], m0, &b);
        p->k->token_weights(channel(p, s, p->run[i].from), q->from, &b.run, &b.sums, q->rows);
    }
    for (int j = 0; j < p->s->ngroups; j++) {
        const int width = content_width(p, &p->s->group[j]);

        if (width > 0)
            p->k->gather(q->group[j].sum, s, n, p->x[j], width, q->rows);
    }
}

/* ---- the end ----------------------------------------------------------------------------------
 */

/* Adds this segment's sum b x, over all channels, to agg. */
static void finish_segment(const struct pass *p, struct panel *q)
{
    for (int j = 0; j < p->s->ngroups; j++) {
        const struct pcv_group *g = &p->s->group[j];
        const float *value = g->kind == PCV_GROUP_CONST ? g->value : g->lift_bias;
        float *sum = q->group[j].sum;

        for (int i = 0, c = 0; i < g->nranges; c += g->range[i].n, i++) {
            const int n = g->range[i].n;
            float *agg = channel(p, q->agg, g->range[i].from);

            if (is_small_table(p, g))
                p->k->gather(agg, sum, g->rows, (struct pcv_values){g->table + c, (size_t)g->n, 1},
                             n, q->rows);
            else if (g->lift)
                multiply(p, q->rows, n, g->raw, sum, g->lift + (size_t)c * g->raw, g->raw, agg,
                         true);
            else if (g->kind != PCV_GROUP_CONST)
                for (size_t l = 0; l < (size_t)n * p->lanes; l++)
                    agg[l] += channel(p, sum, c)[l];
            if (value)
                multiply(p, q->rows, n, 1, q->b, value + c, 1, agg, true);
        }
    }
}

/* Of each query, over all channels of x [C, lanes]. */
static void means(const struct pass *p, int rows, float *x, float *mean)
{
    clear(p, mean, 1);
    for (int c = 0; c < p->channels; c++)
        for (int i = 0; i < rows; i++)
            mean[i] += channel(p, x, c)[i];
    for (int i = 0; i < rows; i++)
        mean[i] /= (float)p->channels;
}

/* agg becomes gamma (agg - mean) / e + beta: the values' LayerNorm, averaged by the weights. */
static void finish_panel(const struct pass *p, struct panel *q, const struct pcv_norm *norm)
{
    float *mean = q->max, *scale = q->factor;

    means(p, q->rows, q->agg, mean);
    for (int i = 0; i < q->rows; i++)
        scale[i] = 1 / q->e[i];
    for (int c = 0; c < p->channels; c++) {
        float *x = channel(p, q->agg, c);

        for (int i = 0; i < q->rows; i++)
            x[i] = (x[i] - mean[i]) * scale[i] * norm->gamma[c] + norm->beta[c];
    }
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

/* The panel's queries u [rows, C], less their mean, in base 2. */
static void open_panel(const struct pass *p, struct panel *q, const float *u)
{
    float *mean = q->factor;

    p->k->pack(q->u, u, (size_t)p->channels, q->rows, p->channels);
    means(p, q->rows, q->u, mean);
    for (int c = 0; c < p->channels; c++)
        for (int i = 0; i < q->rows; i++)
            channel(p, q->u, c)[i] = (channel(p, q->u, c)[i] - mean[i]) * (float)M_LOG2E;
    clear(p, q->agg, p->channels);
    clear(p, q->e, 1);
    for (size_t i = 0; i < p->lanes; i++)
        q->from[i] = q->max[i] = -FLT_MAX;
}

static void open_pass(struct pass *p, const struct scratch *sc, const float *u, int rows)
{
    for (int row = 0; row < rows; p->npanels++) {
        const size_t at = (size_t)p->npanels * p->lanes;
        struct panel *q = &p->panel[p->npanels];
        float *running = sc->running + RUNNING * at;

        *q = (struct panel){
            .rows = pcv_panel_rows(rows - row, (int)p->lanes),
            .u = sc->u + at * (size_t)p->channels,
            .agg = sc->agg + at * (size_t)p->channels,
            .from = running,
            .max = channel(p, running, 1),
            .e = channel(p, running, 2),
            .factor = channel(p, running, 3),
            .base = channel(p, running, 4),
            .b = channel(p, running, 5),
        };
        open_panel(p, q, u + (size_t)row * (size_t)p->channels);
        row += q->rows;
    }
}

void pcv_encode_factored(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                         const struct pcv_tokens *t, const float *u, int head, int row0, int rows,
                         float *ctx, float *scratch)
{
    const struct pcv_layer *l = enc->layer;
    const int dv = l->d.v / l->d.heads, table_rows = small_table_rows(t);
    struct pass p = {.k = k->panel, .lanes = (size_t)k->panel->lanes, .channels = enc->channels};
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc =
        carve(&bump, enc, table_rows, pcv_panel_count(rows, k->panel->lanes), p.lanes);

    open_pass(&p, &sc, u, rows);
    for (int i = 0; i < t->nsegments; i++) {
        p.s = &t->segment[i];
        start_segment(&p, &sc, table_rows);
        for (int64_t m = 0; m < p.s->tokens; m += TILE) {
            const int n = p.s->tokens - m < TILE ? (int)(p.s->tokens - m) : TILE;

            cut_tile(&p, m, m + n);
            find_content(&p, m, n, sc.x);
            for (int j = 0; j < p.npanels; j++)
                panel_tile(&p, &p.panel[j], m, n, sc.s);
        }
        for (int j = 0; j < p.npanels; j++)
            finish_segment(&p, &p.panel[j]);
    }
    ctx += (size_t)row0 * l->d.v + (size_t)head * dv;
    for (int j = 0; j < p.npanels; j++) {
        const struct panel *q = &p.panel[j];
        const struct pcv_product values = {
            .rows = q->rows,
            .n = dv,
            .k = enc->channels,
            .a = q->agg,
            .w = l->val.w + (size_t)head * dv * enc->channels,
            .ldw = (size_t)enc->channels,
            .bias = l->val.b ? l->val.b + (size_t)head * dv : NULL,
            .c = sc.out,
        };

        finish_panel(&p, &p.panel[j], &l->norm_kv);
        p.k->product(&values);
        p.k->unpack(ctx, (size_t)l->d.v, sc.out, q->rows, dv, false);
        ctx += (size_t)q->rows * l->d.v;
    }
}
