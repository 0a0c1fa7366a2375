#include "lib/model/cost.h"

#include "lib/model/model.h"

void pcv_adapter_nominal(const struct pcv_adapter *a, struct pcv_tokens *t)
{
    struct pcv_segment *s = &t->segment[0];

    *t = (struct pcv_tokens){.channels = a->channels, .nsegments = 1};
    if (a->kind == PCV_INPUT_TEXT) {
        s->tokens = a->text.max_positions;
        s->ngroups = 2;
        s->group[0] = (struct pcv_group){
            .kind = PCV_GROUP_TABLE, .n = a->channels, .rows = a->text.vocab, .constant = 0};
        s->group[1] = s->group[0];
        s->group[1].rows = a->text.max_positions;
        return;
    }
    s->tokens = (int64_t)a->image.height * a->image.width;
    s->group[s->ngroups++] = (struct pcv_group){
        .kind = PCV_GROUP_DENSE, .n = a->image.content, .raw = a->image.raw, .constant = -1};
    if (a->image.position == PCV_POSITION_LEARNED) {
        s->group[s->ngroups++] = (struct pcv_group){.kind = PCV_GROUP_TABLE,
                                                    .n = a->image.position_channels,
                                                    .rows = (int)s->tokens,
                                                    .div = 1};
        return;
    }
    for (int i = 0; i < 2; i++)
        s->group[s->ngroups++] = (struct pcv_group){.kind = PCV_GROUP_TABLE,
                                                    .n = 1 + 2 * a->image.bands,
                                                    .rows = i ? a->image.width : a->image.height,
                                                    .constant = -1};
}

double pcv_tail_cost(const struct pcv_layer_dims *d, double rows)
{
    return rows * d->q_dim * ((double)d->v + 2.0 * d->hidden);
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

            if (pcv_encode_direct(g))
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

enum pcv_encode_mode pcv_encode_choose(const struct pcv_encoder *enc, const struct pcv_adapter *a)
{
    struct pcv_tokens t;

    pcv_adapter_nominal(a, &t);
    if (all_constant_tables(&t) &&
        pcv_encode_cost(enc, PCV_ENCODE_TABLES, &t) < pcv_encode_cost(enc, PCV_ENCODE_FACTORED, &t))
        return PCV_ENCODE_TABLES;
    return PCV_ENCODE_FACTORED;
}

double pcv_decode_cost(const struct pcv_decoder *d, int nrows)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, c = l->kv_dim, wide = l->qk + l->v, rows = nrows;
    const double after = pcv_tail_cost(l, rows) + rows * l->q_dim * d->width;

    if (nrows == 0)
        return 0;
    if (pcv_decode_absorbs(d, nrows))
        return after + rows * (c * wide + 2 * l->heads * n * c);
    return after + n * c * wide + rows * n * wide;
}

/* ---- the public questions
 * --------------------------------------------------------------------------- */

/* What an upstream does to a pixel before attention: convolution, projection of its position. */
static double preprocess_cost(const struct pcv_adapter *a)
{
    const struct pcv_image_adapter *im = &a->image;

    if (a->kind != PCV_INPUT_IMAGE)
        return 0;
    return (im->lift ? (double)im->raw * im->content : 0) +
           (im->position == PCV_POSITION_LEARNED
                ? (double)im->position_channels * im->position_channels
                : 0);
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

static void cost_of(const struct pcv_model *m, const struct pcv_tokens *t,
                    const struct pcv_query *queries, int nqueries, const int *nrows,
                    struct pcv_cost *done, struct pcv_cost *dense)
{
    const struct pcv_blueprint *bp = &m->bp;
    const double tokens = bp->padded_tokens ? bp->padded_tokens : (double)pcv_tokens_count(t);

    if (done) {
        *done = (struct pcv_cost){
            .encode = pcv_encode_cost(&m->plan.encoder, m->plan.encoder.mode, t),
            .process = process_cost(bp),
        };
        for (int i = 0; i < nqueries; i++)
            done->decode += pcv_decode_cost(&m->plan.decoder[queries[i].task], nrows[i]);
    }
    if (dense) {
        *dense = (struct pcv_cost){
            .encode = pcv_layer_cost(&bp->cross[0].d, bp->num_latents, tokens) +
                      tokens * preprocess_cost(&bp->input[0]),
            .process = process_cost(bp),
        };
        for (int i = 0; i < nqueries; i++) {
            const struct pcv_task *task = &bp->task[queries[i].task];
            const double rows = bp->padded_rows ? bp->padded_rows : nrows[i];

            dense->decode += pcv_layer_cost(&task->layer.d, rows, bp->num_latents) +
                             rows * task->layer.d.q_dim * task->width;
        }
    }
}

void pcv_cost_item(const struct pcv_model *m, const struct pcv_item *item, struct pcv_cost *done,
                   struct pcv_cost *dense)
{
    struct pcv_cost sum_done = {0}, sum_dense = {0}, one_done, one_dense;
    int none = 0;

    cost_of(m, &item->input->tokens, NULL, 0, &none, &sum_done, &sum_dense);
    for (int i = 0; i < item->nqueries; i++) {
        const struct pcv_query *q = &item->queries[i];
        const int rows = q->rows ? q->nrows : pcv_query_rows_all(m, q->task, item->input);

        cost_of(m, &item->input->tokens, q, 1, &rows, &one_done, &one_dense);
        sum_done.decode += one_done.decode;
        sum_dense.decode += one_dense.decode;
    }
    if (done)
        *done = sum_done;
    if (dense)
        *dense = sum_dense;
}

void pcv_cost_nominal(const struct pcv_model *m, struct pcv_cost *done, struct pcv_cost *dense)
{
    struct pcv_query queries[PCV_MAX_TASKS] = {0};
    int rows[PCV_MAX_TASKS];
    struct pcv_tokens t;

    for (int i = 0; i < m->bp.ntasks; i++) {
        queries[i].task = i;
        rows[i] = m->bp.task[i].rows;
    }
    pcv_adapter_nominal(&m->bp.input[0], &t);
    cost_of(m, &t, queries, m->bp.ntasks, rows, done, dense);
}
