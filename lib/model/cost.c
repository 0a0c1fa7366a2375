#include "lib/model/cost.h"

#include "lib/model/latents.h"

static void nominal_text(const struct pcv_adapter *a, struct pcv_segment *s)
{
    s->ngroups = 2;
    s->group[0] = (struct pcv_group){
        .kind = PCV_GROUP_TABLE, .n = a->channels, .rows = a->text.vocab, .constant = 0};
    s->group[1] = s->group[0];
    s->group[1].rows = a->text.max_positions;
}

static void nominal_grid(const struct pcv_grid_adapter *g, struct pcv_segment *s)
{
    s->group[s->ngroups++] = (struct pcv_group){
        .kind = PCV_GROUP_DENSE, .n = g->content, .raw = g->raw, .lift = g->lift, .constant = -1};
    if (g->position == PCV_POSITION_LEARNED)
        s->group[s->ngroups++] = (struct pcv_group){
            .kind = PCV_GROUP_TABLE, .n = g->position_channels, .rows = (int)s->tokens, .div = 1};
    for (int i = 0; g->position == PCV_POSITION_FOURIER && i < g->axes; i++)
        s->group[s->ngroups++] = (struct pcv_group){.kind = PCV_GROUP_TABLE,
                                                    .n = 1 + 2 * g->bands,
                                                    .rows = g->size[i],
                                                    .div = i + 1 == g->axes,
                                                    .constant = -1};
}

void pcv_tokens_nominal(const struct pcv_blueprint *bp, int which, struct pcv_tokens *t)
{
    const int from = bp->separate ? which : 0, n = bp->separate ? 1 : bp->ninputs;

    *t = (struct pcv_tokens){.channels = bp->input[from].channels, .nsegments = n};
    for (int i = 0; i < n; i++) {
        const struct pcv_adapter *a = &bp->input[from + i];
        struct pcv_segment *s = &t->segment[i];

        s->tokens = pcv_adapter_tokens(a);
        if (a->kind == PCV_INPUT_TEXT)
            nominal_text(a, s);
        else if (a->kind != PCV_INPUT_LABEL)
            nominal_grid(&a->grid, s);
    }
}

double pcv_tail_cost(const struct pcv_layer_dims *d, double rows)
{
    return rows * d->q_dim * ((double)d->v + (d->gated ? 3.0 : 2.0) * d->hidden);
}

double pcv_layer_cost(const struct pcv_layer_dims *d, double nq, double nkv)
{
    const double wide = d->qk + d->v;

    return nq * d->q_dim * d->qk + nkv * d->kv_dim * wide + nq * nkv * wide + pcv_tail_cost(d, nq);
}

double pcv_encode_cost(const struct pcv_encoder *enc, enum pcv_encode_mode mode,
                       const struct pcv_tokens *t)
{
    const struct pcv_layer_dims *d = &enc->layer->d;
    const double n = enc->num_latents;
    double macs = pcv_tail_cost(d, n);

    if (mode == PCV_ENCODE_TABLES)
        return macs + n * (double)pcv_tokens_count(t) * (d->qk + d->v);
    for (int i = 0; i < t->nsegments; i++) {
        const struct pcv_segment *s = &t->segment[i];

        for (int j = 0; j < s->ngroups; j++) {
            const struct pcv_group *g = &s->group[j];
            double each = 0; /* for one query of one head, scores and sums */

            if (pcv_encode_direct(g, s->tokens))
                each = 2.0 * (double)s->tokens * g->n;
            else if (g->kind == PCV_GROUP_TABLE)
                each = 2.0 * g->rows * g->n;
            else if (g->kind == PCV_GROUP_DENSE)
                each = 2.0 * (double)s->tokens * g->raw + (g->lift ? 2.0 * g->n * g->raw : 0);
            macs += d->heads * n * each;
        }
    }
    return macs + n * d->kv_dim * d->v;
}

static bool all_constant_tables(const struct pcv_tokens *t)
{
    for (int i = 0; i < t->nsegments; i++)
        for (int j = 0; j < t->segment[i].ngroups; j++)
            if (t->segment[i].group[j].kind != PCV_GROUP_TABLE ||
                t->segment[i].group[j].constant < 0)
                return false;
    return true;
}

enum pcv_encode_mode pcv_encode_choose(const struct pcv_encoder *enc,
                                       const struct pcv_blueprint *bp, int which)
{
    struct pcv_tokens t;

    pcv_tokens_nominal(bp, which, &t);
    if (t.nsegments == 1 && all_constant_tables(&t) &&
        pcv_encode_cost(enc, PCV_ENCODE_TABLES, &t) < pcv_encode_cost(enc, PCV_ENCODE_FACTORED, &t))
        return PCV_ENCODE_TABLES;
    return PCV_ENCODE_FACTORED;
}

/* What is done once for an item that asks this decoder: keys, values, and what follows from them.
 */
static double prepare_cost(const struct pcv_decoder *d, const struct pcv_tokens *queries, bool lean)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, wide = (double)l->qk + l->v;
    double macs;

    if (d->kind == PCV_DECODE_LATENTS || d->kind == PCV_DECODE_POOL ||
        (d->kind == PCV_DECODE_LEARNED && lean))
        return 0;
    macs = n * l->kv_dim * wide;
    if (d->kind == PCV_DECODE_LEARNED || d->written || lean)
        return macs;
    return macs + pcv_decode_tokens_macs(d, queries).once;
}

/* What rows cost beside that. */
static double rows_cost(const struct pcv_decoder *d, const struct pcv_tokens *queries, double rows,
                        bool lean)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, c = l->kv_dim, wide = (double)l->qk + l->v;
    const double head = d->head.w ? rows * l->q_dim * d->width : 0;

    if (d->kind == PCV_DECODE_LATENTS)
        return 0;
    if (d->kind == PCV_DECODE_POOL)
        return d->head.w ? (double)d->d_latents * d->width : 0;
    if (d->kind == PCV_DECODE_TOKENS && (d->written || lean))
        return head + pcv_layer_cost(l, rows, n) - n * c * wide;
    if (d->kind == PCV_DECODE_TOKENS) /* values have met the out projection */
        return head + rows * pcv_decode_tokens_macs(d, queries).each + pcv_tail_cost(l, rows) -
               rows * l->q_dim * l->v;
    if (lean)
        return head + pcv_tail_cost(l, rows) + rows * (c * wide + 2 * l->heads * n * c);
    return head + pcv_tail_cost(l, rows) + rows * n * wide;
}

/* ---- the public questions
 * --------------------------------------------------------------------------- */

/* What an upstream does to the tokens of an input before attention: convolution, projections. */
static double preprocess_cost(const struct pcv_adapter *a, double tokens)
{
    const struct pcv_grid_adapter *g = &a->grid;
    double each = 0;

    if (a->kind == PCV_INPUT_TEXT || a->kind == PCV_INPUT_LABEL)
        return 0;
    if (g->lift)
        each += (double)g->raw * g->content;
    if (g->project)
        each += (double)g->raw * g->before;
    if (g->position == PCV_POSITION_LEARNED)
        each += (double)g->position_channels * g->position_channels;
    if (g->stem.weight) /* a convolution pixel becomes a token after pooling 2 x 2 to 1 */
        each += 4.0 * g->stem.out * 3 * 49;
    return tokens * each;
}

static double process_cost(const struct pcv_blueprint *bp)
{
    double macs = 0;

    for (int i = 0; i < bp->nsteps; i++)
        if (bp->step[i].kind == PCV_STEP_SELF)
            macs +=
                pcv_layer_cost(&bp->self[bp->step[i].layer].d, bp->num_latents, bp->num_latents);
    return macs;
}

/* The token array that is counted: of the model's input `which`, or of all. */
struct counted {
    const struct pcv_tokens *t;
    int which;
};

static const struct pcv_adapter *adapter_of(const struct pcv_blueprint *bp, const struct counted *c,
                                            int segment)
{
    return &bp->input[bp->separate ? c->which : segment];
}

/* Cross-attention of a step: the first is the input's own where inputs are separate. */
static int cross_of(const struct pcv_blueprint *bp, const struct counted *c, int step)
{
    return bp->separate && step == 0 ? bp->input[c->which].encoder : bp->step[step].layer;
}

static double encode_done(const struct pcv_model *m, const struct counted *c)
{
    const struct pcv_blueprint *bp = &m->bp;
    double macs = 0;

    for (int i = 0; i < c->t->nsegments; i++) {
        const struct pcv_adapter *a = adapter_of(bp, c, i);

        if (a->grid.project || a->grid.stem.weight)
            macs += preprocess_cost(a, (double)c->t->segment[i].tokens);
    }
    for (int i = 0; i < bp->nsteps; i++) {
        const struct pcv_encoder *enc;
        const struct pcv_layer_dims *d;

        if (bp->step[i].kind != PCV_STEP_CROSS)
            continue;
        enc = &m->plan.encoder[cross_of(bp, c, i)];
        d = &enc->layer->d;
        macs += pcv_encode_cost(enc, enc->mode, c->t);
        if (i > 0) /* queries of changed latents, and absorbing them */
            macs += (double)bp->num_latents * d->qk *
                    (d->q_dim + (enc->mode == PCV_ENCODE_FACTORED ? d->kv_dim : 0));
    }
    return macs;
}

static double encode_dense(const struct pcv_model *m, const struct counted *c)
{
    const struct pcv_blueprint *bp = &m->bp;
    const double tokens = bp->padded_tokens ? bp->padded_tokens : (double)pcv_tokens_count(c->t);
    double macs = 0;

    for (int i = 0; i < c->t->nsegments; i++)
        macs += preprocess_cost(adapter_of(bp, c, i), (double)c->t->segment[i].tokens);
    for (int i = 0; i < bp->nsteps; i++)
        if (bp->step[i].kind == PCV_STEP_CROSS)
            macs += pcv_layer_cost(&bp->cross[cross_of(bp, c, i)].d, bp->num_latents, tokens);
    return macs;
}

/* Maps of which tokens chosen latents read: scores in two passes, of every head. */
static double attention_cost(const struct pcv_model *m, const struct counted *c, int latents)
{
    const struct pcv_layer_dims *d = &m->bp.cross[cross_of(&m->bp, c, 0)].d;

    return latents * (double)d->kv_dim * (d->qk + 2.0 * d->heads * (double)pcv_tokens_count(c->t));
}

/* What an item asks: its queries to one decoder share keys and values. */
struct asked {
    const struct pcv_model *m;
    const struct pcv_latents *from; /* filled: keys and values are made once and stay; or NULL */
    double rows[PCV_MAX_TASKS];
    double prepared[PCV_MAX_TASKS]; /* what that took, by reader */
    double done;
};

static void ask(struct asked *a, int task, const struct pcv_tokens *queries, double rows)
{
    const struct pcv_decoder *d = &a->m->plan.decoder[task];
    const int reader = a->m->plan.reader[task];
    double prepare;
    bool lean;

    if (rows == 0)
        return;
    lean = !a->from && pcv_decode_lean(d, queries, (int)rows);
    a->rows[task] += rows;
    a->done += rows_cost(d, queries, rows, lean);
    prepare = prepare_cost(d, queries, lean);
    if (prepare <= a->prepared[reader])
        return;
    if (!a->from || !pcv_latents_ready(a->from, reader))
        a->done += prepare - a->prepared[reader];
    a->prepared[reader] = prepare;
}

/* What the plain algorithm does for those rows of a task, with keys and values of its own or those
 * of an earlier task. */
static double plain_decode_cost(const struct pcv_model *m, int task, double rows, bool shared)
{
    const struct pcv_decoder *d = &m->plan.decoder[task];
    const struct pcv_layer_dims *l = &d->layer->d;
    const int between = m->bp.task[task].between;
    double head = 0;

    if (d->kind == PCV_DECODE_LATENTS || d->kind == PCV_DECODE_POOL)
        return rows_cost(d, NULL, rows, false);
    if (between)
        head = (double)between * (l->q_dim + d->width);
    else if (d->head.w)
        head = (double)l->q_dim * d->width;
    return pcv_layer_cost(l, rows, d->latents) + rows * head -
           (shared ? (double)d->latents * l->kv_dim * ((double)l->qk + l->v) : 0);
}

static double decode_dense(const struct asked *a)
{
    const struct pcv_blueprint *bp = &a->m->bp;
    double macs = 0;

    for (int i = 0; i < bp->ntasks; i++) {
        const float *keys = bp->task[i].layer.k.w;
        bool shared = false;

        if (a->rows[i] == 0)
            continue;
        for (int j = 0; j < i; j++)
            shared |= a->rows[j] > 0 && keys && bp->task[j].layer.k.w == keys;
        macs += plain_decode_cost(a->m, i, bp->padded_rows ? bp->padded_rows : a->rows[i], shared);
    }
    return macs;
}

static void give(const struct asked *a, const struct counted *c, int maps, struct pcv_cost *done,
                 struct pcv_cost *dense)
{
    const double process = process_cost(&a->m->bp);
    const double attention = maps ? attention_cost(a->m, c, maps) : 0;

    if (done && a->from)
        *done = (struct pcv_cost){attention, 0, a->done};
    else if (done)
        *done = (struct pcv_cost){encode_done(a->m, c) + attention, process, a->done};
    if (dense)
        *dense = (struct pcv_cost){encode_dense(a->m, c), process, decode_dense(a)};
}

void pcv_cost_item(const struct pcv_model *m, const struct pcv_item *item, struct pcv_cost *done,
                   struct pcv_cost *dense)
{
    const bool kept = item->kept && pcv_latents_filled(item->kept);
    struct asked a = {.m = m, .from = kept ? item->kept : NULL};
    struct pcv_tokens usual;
    struct counted c = {.t = &usual};

    for (int i = 0; i < item->nqueries; i++) {
        const struct pcv_query *q = &item->queries[i];

        ask(&a, q->task, pcv_queries_of(m, q->task, item->input),
            q->rows ? q->nrows : pcv_query_rows_all(m, q->task, item->input));
    }
    if (item->input) {
        c.t = &item->input->tokens;
        c.which = item->input->which;
    } else {
        c.which = item->kept ? item->kept->which : 0;
        pcv_tokens_nominal(&m->bp, c.which, &usual);
    }
    give(&a, &c, item->attention ? item->attention->n : 0, done, dense);
}

/* Queries of a caller: content only, as wide as the decoder takes them. */
static struct pcv_tokens nominal_queries(const struct pcv_task *t)
{
    const int n = t->layer.d.q_dim;

    return (struct pcv_tokens){
        .channels = n,
        .nsegments = 1,
        .segment = {{.ngroups = 1,
                     .group = {{.kind = PCV_GROUP_DENSE, .n = n, .raw = n, .constant = -1}}}}};
}

void pcv_cost_nominal(const struct pcv_model *m, int which, struct pcv_cost *done,
                      struct pcv_cost *dense)
{
    struct asked a = {.m = m};
    struct pcv_tokens t;
    const struct counted c = {&t, which};

    pcv_tokens_nominal(&m->bp, which, &t);
    for (int i = 0; i < m->bp.ntasks; i++) {
        const struct pcv_task *task = &m->bp.task[i];
        const struct pcv_tokens caller = nominal_queries(task);

        if (task->inputs && !(task->inputs >> which & 1))
            continue;
        if (task->source == PCV_QUERY_CALLER) /* as many as there are tokens */
            ask(&a, i, &caller, (double)pcv_tokens_count(&t));
        else
            ask(&a, i, task->source == PCV_QUERY_GRID ? &task->queries : &t, task->rows);
    }
    give(&a, &c, 0, done, dense);
}
