#include "lib/attention/layer.h"

#include "lib/kernel/gemm.h"

#include <string.h>

static void activate(const struct pcv_layer *l, const struct pcv_kernels *k, float *h, size_t n)
{
    if (l->activation == PCV_GELU_ERF)
        k->gelu_erf(h, n);
    else
        k->gelu_tanh(h, n);
}

void pcv_layer_mlp(const struct pcv_layer *l, const struct pcv_kernels *k, int rows, float *x,
                   int stable, float *scratch)
{
    const int n = l->d.q_dim, hidden = l->d.hidden, wide = l->d.gated ? 2 * hidden : hidden;
    float *xn = scratch, *h = scratch + (size_t)rows * n;

    if (hidden == 0)
        return;
    k->norm(xn, n, x, n, l->norm_mlp.gamma, l->norm_mlp.beta, rows, n, l->eps);
    pcv_linear(k, rows, wide, n, xn, n, l->mlp1.w, l->mlp1.b, h, wide, 0, stable);
    if (!l->d.gated)
        activate(l, k, h, (size_t)rows * hidden);
    for (int i = 0; l->d.gated && i < rows; i++) {
        float *value = h + (size_t)i * wide, *gate = value + hidden;

        activate(l, k, gate, (size_t)hidden);
        for (int c = 0; c < hidden; c++)
            value[c] *= gate[c];
    }
    pcv_linear(k, rows, n, hidden, h, wide, l->mlp2.w, l->mlp2.b, x, n, 1, stable);
}

void pcv_layer_tail(const struct pcv_layer *l, const struct pcv_kernels *k, int rows,
                    const float *ctx, const float *x, float *out, int stable, float *scratch)
{
    const int n = l->d.q_dim;

    if (l->d.residual && x != out)
        memcpy(out, x, (size_t)rows * n * sizeof(float));
    pcv_linear(k, rows, n, l->d.v, ctx, l->d.v, l->out.w, l->out.b, out, n, l->d.residual, stable);
    pcv_layer_mlp(l, k, rows, out, stable, scratch);
}

void pcv_attend_rows(const struct pcv_attend *a, const struct pcv_kernels *k, int rows,
                     const float *q, int ldq, float *ctx, int ldctx, float *scores)
{
    for (int h = 0; h < a->heads; h++) {
        pcv_gemm_nt(rows, a->nkv, a->dk, q + (size_t)h * a->dk, ldq,
                    a->keys + (size_t)h * a->key_step, a->ldk, scores, a->nkv, 0);
        k->softmax(scores, a->nkv, rows, a->nkv, a->scale);
        pcv_gemm_nn(rows, a->dv, a->nkv, scores, a->nkv, a->values + (size_t)h * a->value_step,
                    a->ldv, ctx + (size_t)h * a->dv, ldctx, 0);
    }
}
