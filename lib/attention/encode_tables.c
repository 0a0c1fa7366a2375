/* encode_tables.c - tokens that are sums of table rows: text.
 *
 * The tables are projected when the model opens; a token's key is then
 *
 *     k_m = r_m ( sum_g keys_g[row_g(m)] - mu_m Wk gamma 1 ) + (bk + Wk beta)
 *
 * and its value likewise: additions instead of products. One head at a time builds keys and values
 * of a tile of tokens, which all latents read while it is in the cache. */
#include "lib/attention/encode.h"

#include "lib/kernel/linear.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TILE = 256, QUERIES = 256 };

struct scratch {
    float *keys, *values, *scores, *max, *sum;
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_encoder *enc)
{
    const struct pcv_layer_dims *d = &enc->layer->d;

    return (struct scratch){
        .keys = pcv_take(b, (size_t)TILE * (d->qk / d->heads)),
        .values = pcv_take(b, (size_t)TILE * (d->v / d->heads)),
        .scores = pcv_take(b, (size_t)QUERIES * TILE),
        .max = pcv_take(b, (size_t)enc->num_latents),
        .sum = pcv_take(b, (size_t)enc->num_latents),
    };
}

size_t pcv_encode_tables_need(const struct pcv_encoder *enc)
{
    struct pcv_bump count = {0};

    carve(&count, enc);
    return count.used;
}

/* out [n, width]: columns [from, from + width) of the projections of tokens m0.. */
static void project_tile(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                         const struct pcv_segment *s, int64_t m0, int n, bool values, int from,
                         int width, float *out)
{
    const int ld = values ? enc->layer->d.v : enc->layer->d.qk;
    const float *sum = (values ? enc->value_sum : enc->key_sum) + from;
    const float *bias = (values ? enc->value_bias : enc->key_bias) + from;

    for (int i = 0; i < n; i++, out += width) {
        const int64_t m = m0 + i;

        for (int c = 0; c < width; c++)
            out[c] = -s->mean[m] * sum[c];
        for (int j = 0; j < s->ngroups; j++) {
            const struct pcv_group *g = &s->group[j];
            const float *table =
                values ? enc->table[g->constant].values : enc->table[g->constant].keys;

            k->axpy(out, 1.0f, table + (size_t)pcv_group_row(g, m) * ld + from, width);
        }
        for (int c = 0; c < width; c++)
            out[c] = out[c] * s->r[m] + bias[c];
    }
}

/* Online softmax of one row of scores: turns them into weights and rescales the row's context. */
static void online(const struct pcv_kernels *k, float *s, int n, float scale, float *max,
                   float *sum, float *ctx, int dv)
{
    float top;

    k->scale(s, scale, n);
    top = k->max(s, n);
    if (top > *max) {
        const float f = expf(*max - top);

        *max = top;
        *sum *= f;
        k->scale(ctx, f, dv);
    }
    *sum += k->exp_sum(s, n, *max);
}

void pcv_encode_tables(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                       const struct pcv_tokens *t, const float *q, int head, float *ctx,
                       float *scratch)
{
    const struct pcv_layer_dims *d = &enc->layer->d;
    const int dk = d->qk / d->heads, dv = d->v / d->heads, latents = enc->num_latents;
    const float scale = 1.0f / sqrtf((float)dk);
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, enc);

    ctx += (size_t)head * dv;
    for (int i = 0; i < latents; i++) {
        sc.max[i] = -FLT_MAX;
        sc.sum[i] = 0;
        memset(ctx + (size_t)i * d->v, 0, (size_t)dv * sizeof(float));
    }
    for (int g = 0; g < t->nsegments; g++) {
        const struct pcv_segment *s = &t->segment[g];

        for (int64_t m0 = 0; m0 < s->tokens; m0 += TILE) {
            const int n = s->tokens - m0 < TILE ? (int)(s->tokens - m0) : TILE;

            project_tile(enc, k, s, m0, n, false, head * dk, dk, sc.keys);
            project_tile(enc, k, s, m0, n, true, head * dv, dv, sc.values);
            for (int i0 = 0; i0 < latents; i0 += QUERIES) {
                const int rows = latents - i0 < QUERIES ? latents - i0 : QUERIES;

                pcv_rows_nt(k, rows, n, dk, q + (size_t)i0 * d->qk + (size_t)head * dk, d->qk,
                            sc.keys, dk, sc.scores, n, 0);
                for (int i = 0; i < rows; i++)
                    online(k, sc.scores + (size_t)i * n, n, scale, &sc.max[i0 + i], &sc.sum[i0 + i],
                           ctx + (size_t)(i0 + i) * d->v, dv);
                pcv_rows_nn(k, rows, dv, n, sc.scores, n, sc.values, dv, ctx + (size_t)i0 * d->v,
                            d->v, 1);
            }
        }
    }
    for (int i = 0; i < latents; i++)
        k->scale(ctx + (size_t)i * d->v, 1.0f / sc.sum[i], dv);
}
