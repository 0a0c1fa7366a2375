#include "lib/model/cost.h"

#include "lib/model/model.h"

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

void pcv_tokens_nominal(const struct pcv_blueprint *bp, struct pcv_tokens *t)
{
    *t = (struct pcv_tokens){.channels = bp->input[0].channels, .nsegments = bp->ninputs};
    for (int i = 0; i < bp->ninputs; i++) {
        const struct pcv_adapter *a = &bp->input[i];
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
                                       const struct pcv_blueprint *bp)
{
    struct pcv_tokens t;

    pcv_tokens_nominal(bp, &t);
    if (bp->ninputs == 1 && all_constant_tables(&t) &&
        pcv_encode_cost(enc, PCV_ENCODE_TABLES, &t) < pcv_encode_cost(enc, PCV_ENCODE_FACTORED, &t))
        return PCV_ENCODE_TABLES;
    return PCV_ENCODE_FACTORED;
}

static double tokens_cost(const struct pcv_decoder *d, const struct pcv_tokens *queries,
                          double rows)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const struct pcv_segment *s = &queries->segment[0];
    const double n = d->latents, heads = l->heads;
    double once, each;

    if (d->written)
        return pcv_layer_cost(l, rows, n) + (d->head.w ? rows * l->q_dim * d->width : 0);
    once = n * l->kv_dim * ((double)l->qk + l->v) + n * l->q_dim * ((double)l->qk + l->v);
    each = heads * n * l->q_dim + 2.0 * (l->gated ? 1.5 : 1) * l->q_dim * l->hidden;

    for (int i = 0; i < s->ngroups; i++) {
        const struct pcv_group *g = &s->group[i];

        if (g->kind == PCV_GROUP_TABLE)
            once += heads * n * g->rows * g->n;
        else if (g->kind == PCV_GROUP_DENSE)
            each += heads * n * g->raw;
    }
    if (d->head.w)
        each += (double)l->q_dim * d->width;
    return once + rows * each;
}

double pcv_decode_cost(const struct pcv_decoder *d, const struct pcv_tokens *queries, double rows)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, c = l->kv_dim, wide = l->qk + l->v;
    double after;

    if (rows == 0 || d->kind == PCV_DECODE_LATENTS)
        return 0;
    if (d->kind == PCV_DECODE_POOL)
        return (double)d->d_latents * d->width;
    if (d->kind == PCV_DECODE_TOKENS)
        return tokens_cost(d, queries, rows);
    after = pcv_tail_cost(l, rows) + (d->head.w ? rows * l->q_dim * d->width : 0);
    if (pcv_decode_absorbs(d, (int)rows))
        return after + rows * (c * wide + 2 * l->heads * n * c);
    return after + n * c * wide + rows * n * wide;
}

/* What the plain algorithm does for those rows of a task. */
static double plain_decode_cost(const struct pcv_decoder *d, const struct pcv_task *t, double rows)
{
    double head = 0;

    if (d->kind == PCV_DECODE_LATENTS || d->kind == PCV_DECODE_POOL)
        return pcv_decode_cost(d, NULL, rows);
    if (t->between)
        head = (double)t->between * (d->layer->d.q_dim + d->width);
    else if (d->head.w)
        head = (double)d->layer->d.q_dim * d->width;
    return pcv_layer_cost(&d->layer->d, rows, d->latents) + rows * head;
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

static double encode_done(const struct pcv_model *m, const struct pcv_tokens *t)
{
    const struct pcv_blueprint *bp = &m->bp;
    double macs = 0;

    for (int i = 0; i < bp->ninputs; i++)
        if (bp->input[i].grid.project || bp->input[i].grid.stem.weight)
            macs += preprocess_cost(&bp->input[i], (double)t->segment[i].tokens);
    for (int i = 0; i < bp->nsteps; i++) {
        const struct pcv_encoder *enc;
        const struct pcv_layer_dims *d;

        if (bp->step[i].kind != PCV_STEP_CROSS)
            continue;
        enc = &m->plan.encoder[bp->step[i].layer];
        d = &enc->layer->d;
        macs += pcv_encode_cost(enc, enc->mode, t);
        if (i > 0) /* queries of changed latents, and absorbing them */
            macs += (double)bp->num_latents * d->qk *
                    (d->q_dim + (enc->mode == PCV_ENCODE_FACTORED ? d->kv_dim : 0));
    }
    return macs;
}

static double encode_dense(const struct pcv_model *m, const struct pcv_tokens *t)
{
    const struct pcv_blueprint *bp = &m->bp;
    const double tokens = bp->padded_tokens ? bp->padded_tokens : (double)pcv_tokens_count(t);
    double macs = 0;

    for (int i = 0; i < bp->ninputs; i++)
        macs += preprocess_cost(&bp->input[i], (double)t->segment[i].tokens);
    for (int i = 0; i < bp->nsteps; i++)
        if (bp->step[i].kind == PCV_STEP_CROSS)
            macs += pcv_layer_cost(&bp->cross[bp->step[i].layer].d, bp->num_latents, tokens);
    return macs;
}

static void add_task(const struct pcv_model *m, int task, const struct pcv_tokens *queries,
                     double rows, struct pcv_cost *done, struct pcv_cost *dense)
{
    const struct pcv_decoder *d = &m->plan.decoder[task];

    done->decode += pcv_decode_cost(d, queries, rows);
    dense->decode +=
        plain_decode_cost(d, &m->bp.task[task], m->bp.padded_rows ? m->bp.padded_rows : rows);
}

static void give(const struct pcv_model *m, const struct pcv_tokens *t, struct pcv_cost *sum_done,
                 struct pcv_cost *sum_dense, struct pcv_cost *done, struct pcv_cost *dense)
{
    sum_done->encode = encode_done(m, t);
    sum_dense->encode = encode_dense(m, t);
    sum_done->process = sum_dense->process = process_cost(&m->bp);
    if (done)
        *done = *sum_done;
    if (dense)
        *dense = *sum_dense;
}

void pcv_cost_item(const struct pcv_model *m, const struct pcv_item *item, struct pcv_cost *done,
                   struct pcv_cost *dense)
{
    struct pcv_cost sum_done = {0}, sum_dense = {0};

    for (int i = 0; i < item->nqueries; i++) {
        const struct pcv_query *q = &item->queries[i];
        const int rows = q->rows ? q->nrows : pcv_query_rows_all(m, q->task, item->input);

        add_task(m, q->task, pcv_queries_of(m, q->task, item->input), rows, &sum_done, &sum_dense);
    }
    give(m, &item->input->tokens, &sum_done, &sum_dense, done, dense);
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

void pcv_cost_nominal(const struct pcv_model *m, struct pcv_cost *done, struct pcv_cost *dense)
{
    struct pcv_cost sum_done = {0}, sum_dense = {0};
    struct pcv_tokens t;

    pcv_tokens_nominal(&m->bp, &t);
    for (int i = 0; i < m->bp.ntasks; i++) {
        const struct pcv_task *task = &m->bp.task[i];
        const struct pcv_tokens caller = nominal_queries(task);

        if (task->source == PCV_QUERY_CALLER) /* as many as there are tokens */
            add_task(m, i, &caller, (double)pcv_tokens_count(&t), &sum_done, &sum_dense);
        else
            add_task(m, i, task->source == PCV_QUERY_GRID ? &task->queries : &t, task->rows,
                     &sum_done, &sum_dense);
    }
    give(m, &t, &sum_done, &sum_dense, done, dense);
}
