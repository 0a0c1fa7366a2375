/* decode_tokens_prepare.c - latents meet factored output queries, once per item: keys absorb the
 * query weights and meet the tables, values meet the out projection. And what that costs. */
#include "lib/attention/decode_tokens.h"
#include "lib/kernel/linear.h"

#include <math.h>
#include <string.h>

struct pcv_prepared_tokens pcv_prepared_tokens(struct pcv_bump *b, const struct pcv_decoder *d)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const size_t n = (size_t)d->latents, heads = d->written ? 0 : (size_t)l->heads;

    return (struct pcv_prepared_tokens){
        .xn = pcv_take(b, n * l->kv_dim),
        .keys = pcv_take(b, n * l->qk),
        .values = pcv_take(b, n * l->v),
        .kq = pcv_take(b, heads * n * l->q_dim),
        .add = pcv_take(b, heads * n),
        .base = pcv_take(b, heads * n),
        .content = pcv_take(b, heads * n * l->q_dim),
        .tables = pcv_take(b, heads * n * (size_t)d->table_rows + PCV_PANEL_MOST_LANES),
        .vo = pcv_take(b, heads * l->q_dim * pcv_key_step(d)),
    };
}

size_t pcv_decode_tokens_item_need(const struct pcv_decoder *d)
{
    struct pcv_bump count = {0};

    pcv_prepared_tokens(&count, d);
    return count.used;
}

/* k' of one head. */
static void absorb_queries(const struct pcv_decoder *d, const struct pcv_kernels *k,
                           const struct pcv_prepared_tokens *p, int h, int row0, int rows)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.q_dim, dk = l->d.qk / l->d.heads;
    const float scale = (float)M_LOG2E / sqrtf((float)dk); /* e^x = 2^(x log2 e) */
    const float *wq = l->q.w + (size_t)h * dk * c;

    pcv_rows_nn(k, rows, c, dk, p->keys + (size_t)row0 * l->d.qk + (size_t)h * dk, l->d.qk, wq, c,
                p->kq + ((size_t)h * d->latents + row0) * c, c, 0);
    for (int i = row0; i < row0 + rows; i++) {
        const float *key = p->keys + (size_t)i * l->d.qk + (size_t)h * dk;
        const size_t at = (size_t)h * d->latents + i;
        float *kq = p->kq + at * c, mean = 0;

        p->add[at] = k->dot(kq, l->norm_q.beta, c);
        if (l->q.b)
            p->add[at] += k->dot(key, l->q.b + (size_t)h * dk, dk);
        p->add[at] *= scale;
        for (int j = 0; j < c; j++) {
            kq[j] *= l->norm_q.gamma[j] * scale;
            mean += kq[j];
        }
        mean /= (float)c;
        for (int j = 0; j < c; j++)
            kq[j] -= mean;
    }
}

/* The group's part of k' for these latents, packed: own [rows, n], all the scratch there is need of
 * here. */
static void gather_group(const struct pcv_decoder *d, const struct pcv_prepared_tokens *p,
                         const struct pcv_group *g, int h, int row0, int rows, float *own)
{
    const int c = d->layer->d.q_dim;

    for (int i = 0; i < rows; i++)
        pcv_group_gather(g, p->kq + ((size_t)h * d->latents + row0 + i) * c,
                         own + (size_t)i * g->n);
}

/* Content's part of k' for these latents: content and base of the first of them; own as
 * gather_group leaves it. */
static void meet_content(const struct pcv_kernels *k, const struct pcv_group *g, int rows,
                         const float *own, float *to, float *base)
{
    if (!g->lift)
        memcpy(to, own, (size_t)rows * (size_t)g->n * sizeof(float));
    else
        pcv_rows_nn(k, rows, g->raw, g->n, own, g->n, g->lift, g->raw, to, g->raw, false);
    for (int i = 0; g->lift && i < rows; i++)
        base[i] += k->dot(own + (size_t)i * g->n, g->lift_bias, g->n);
}

static void meet_groups(const struct pcv_decoder *d, const struct pcv_kernels *k,
                        const struct pcv_segment *s, const struct pcv_prepared_tokens *p, int h,
                        int row0, int rows, float *own)
{
    const size_t at = (size_t)h * d->latents + (size_t)row0;
    const int last = pcv_last_table(s), n = d->latents;
    float *table = p->tables + (size_t)h * n * d->table_rows;

    memset(p->base + at, 0, (size_t)rows * sizeof(float));
    for (int j = 0; j < s->ngroups; j++) {
        const struct pcv_group *g = &s->group[j];

        gather_group(d, p, g, h, row0, rows, own);
        if (g->kind == PCV_GROUP_DENSE)
            meet_content(k, g, rows, own,
                         p->content + (size_t)h * n * d->layer->d.q_dim + (size_t)row0 * g->raw,
                         p->base + at);
        for (int i = 0; g->kind == PCV_GROUP_CONST && i < rows; i++)
            p->base[at + i] += k->dot(own + (size_t)i * g->n, g->value, g->n);
        if (g->kind != PCV_GROUP_TABLE)
            continue;
        if (j == last)
            pcv_rows_nt(k, rows, g->rows, g->n, own, g->n, g->table, g->n,
                        table + (size_t)row0 * g->rows, g->rows, false);
        else
            pcv_rows_nt(k, g->rows, rows, g->n, g->table, g->n, own, g->n, table + row0, n, false);
        table += (size_t)g->rows * n;
    }
}

struct pcv_decode_macs pcv_decode_tokens_macs(const struct pcv_decoder *d,
                                              const struct pcv_tokens *queries)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const double n = d->latents, c = l->q_dim;
    struct pcv_decode_macs macs = {n * c * (l->qk + l->v), l->heads * n * c};

    for (int i = 0; i < queries->segment[0].ngroups; i++) {
        const struct pcv_group *g = &queries->segment[0].group[i];

        if (g->kind == PCV_GROUP_TABLE)
            macs.once += l->heads * n * g->rows * g->n;
        else if (g->kind == PCV_GROUP_DENSE)
            macs.each += l->heads * n * g->raw;
    }
    return macs;
}

bool pcv_decode_tokens_lean(const struct pcv_decoder *d, const struct pcv_tokens *queries,
                            int nrows)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const struct pcv_decode_macs factored = pcv_decode_tokens_macs(d, queries);
    const double written = ((double)l->q_dim + d->latents) * ((double)l->qk + l->v);

    return nrows * written < factored.once + nrows * factored.each;
}

void pcv_decode_tokens_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                               const struct pcv_decode_job *job, int row0, int rows, float *scratch)
{
    const struct pcv_layer *l = d->layer;
    const int c = l->d.kv_dim, qk = l->d.qk, v = l->d.v, n = l->d.q_dim;
    const int dv = v / l->d.heads;
    struct pcv_bump item = {.base = job->item_scratch};
    const struct pcv_prepared_tokens p = pcv_prepared_tokens(&item, d);
    float *xn = p.xn + (size_t)row0 * c;

    k->norm(xn, c, job->latents + (size_t)row0 * c, c, l->norm_kv.gamma, l->norm_kv.beta, rows, c,
            l->eps);
    pcv_linear(k, rows, qk, c, xn, c, l->k.w, l->k.b, p.keys + (size_t)row0 * qk, qk, false);
    pcv_linear(k, rows, v, c, xn, c, l->val.w, l->val.b, p.values + (size_t)row0 * v, v, false);
    for (int h = 0; h < l->d.heads && !job->plain && !job->lean; h++) {
        absorb_queries(d, k, &p, h, row0, rows);
        meet_groups(d, k, &job->queries->segment[0], &p, h, row0, rows, scratch);
        pcv_rows_nt(k, n, rows, dv, l->out.w + (size_t)h * dv, v,
                    p.values + (size_t)row0 * v + (size_t)h * dv, v,
                    p.vo + (size_t)h * n * pcv_key_step(d) + row0, (int)pcv_key_step(d), false);
    }
}
