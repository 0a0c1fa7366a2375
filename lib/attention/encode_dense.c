/* encode_dense.c - the specification: what the papers' formulas say, row by row, nothing skipped.
 */
#include "lib/attention/encode.h"

#include "lib/kernel/linear.h"

#include <math.h>

void pcv_encode_dense_kv(const struct pcv_layer *l, const struct pcv_kernels *k, int64_t rows,
                         float *x, float *keys, float *values)
{
    const int c = l->d.kv_dim;

    k->norm(x, c, x, c, l->norm_kv.gamma, l->norm_kv.beta, (int)rows, c, l->eps);
    pcv_linear(k, (int)rows, l->d.qk, c, x, c, l->k.w, l->k.b, keys, l->d.qk, false);
    pcv_linear(k, (int)rows, l->d.v, c, x, c, l->val.w, l->val.b, values, l->d.v, false);
}

void pcv_encode_dense_rows(const struct pcv_layer *l, const struct pcv_kernels *k, int64_t tokens,
                           const float *q, int row0, int rows, const float *keys,
                           const float *values, float *ctx, float *scores)
{
    const int dk = l->d.qk / l->d.heads, dv = l->d.v / l->d.heads;
    const struct pcv_attend a = {
        .heads = l->d.heads,
        .dk = dk,
        .dv = dv,
        .nkv = (int)tokens,
        .keys = keys,
        .values = values,
        .ldk = l->d.qk,
        .ldv = l->d.v,
        .key_step = dk,
        .value_step = dv,
        .scale = 1.0f / sqrtf((float)dk),
    };

    pcv_attend_rows(&a, k, rows, q + (size_t)row0 * l->d.qk, l->d.qk, ctx + (size_t)row0 * l->d.v,
                    l->d.v, scores);
}
