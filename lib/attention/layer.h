/* layer.h - one attention layer with its MLP, as all three stages use it.
 *
 *     x = [x +] O(attention(LN_q x, LN_kv y)),   x = x + W2 gelu(W1 LN_mlp x)
 *
 * (arXiv 2107.14795, appendix E; Hugging Face's PerceiverLayer.) Encode: x latents, y tokens;
 * process: x = y latents; decode: x output queries, y latents. Linear weights are [out, in]. Views
 * only: the arrays belong to the weights. */
#ifndef PCV_ATTENTION_LAYER_H
#define PCV_ATTENTION_LAYER_H

#include "lib/base/pool.h"
#include "lib/kernel/kernels.h"

#include <stdbool.h>

enum pcv_activation { PCV_GELU_ERF, PCV_GELU_TANH };

struct pcv_layer_dims {
    int heads;
    int q_dim, kv_dim; /* channels of x and of y */
    int qk, v;         /* channels of queries and keys, of values: all heads together */
    int hidden;        /* of the MLP; 0 = there is none */
    bool residual;     /* x + attention, or attention alone */
    bool cross;        /* y is not x: LN_kv is a norm of its own */
    bool gated;        /* GEGLU: W1 gives values and gates, [2 hidden], values first */
};

struct pcv_affine {
    const float *w, *b; /* [out, in], [out]; b NULL: no bias */
};

struct pcv_norm {
    const float *gamma, *beta; /* [n] */
};

struct pcv_layer {
    struct pcv_layer_dims d;
    enum pcv_activation activation;
    float eps;
    struct pcv_norm norm_q, norm_kv, norm_mlp; /* norm_kv: cross only */
    struct pcv_affine q, k, val, out, mlp1, mlp2;
};

/* What follows attention: x = [x +] ctx W_out^T + b, then the MLP with its residual. Any thread;
 * scratch is the caller's. Two forms:
 *
 * ..._panels  one block of rows, ctx [rows, v] and x [rows, q_dim] in panels; x is read only when
 *             d.residual
 * (plain)     row-major; out may alias x; both are shared by `w` (shared.h), or alone: NULL */
size_t pcv_layer_tail_panels_need(const struct pcv_layer_dims *d, int rows);
void pcv_layer_tail_panels(const struct pcv_layer *l, const struct pcv_panel_kernels *k,
                           const struct pcv_worker *w, int rows, const float *ctx, float *x,
                           float *scratch);

/* The MLP alone, in place; scratch as for the whole. */
void pcv_layer_mlp_panels(const struct pcv_layer *l, const struct pcv_panel_kernels *k,
                          const struct pcv_worker *w, int rows, float *x, float *scratch);

size_t pcv_layer_tail_need(const struct pcv_layer_dims *d, int rows);
void pcv_layer_tail(const struct pcv_layer *l, const struct pcv_kernels *k,
                    const struct pcv_worker *w, int rows, const float *ctx, const float *x,
                    float *out, float *scratch);
/* x [rows, n], rows ldx apart, to the panels of one block; and back. */
void pcv_rows_to_panels(const struct pcv_panel_kernels *k, float *panels, const float *x,
                        size_t ldx, int rows, int n);
void pcv_panels_to_rows(const struct pcv_panel_kernels *k, float *x, const float *panels, int rows,
                        int n);

/* One block of query rows against all keys, in panels:
 *     ctx = softmax(q k^T / sqrt(qk/heads)) v   for each head
 * q [rows, heads x dk], ctx [rows, heads x dv]. keys and values from their first channel on.
 * scratch [pcv_attend_need(rows, dk)]; shared: of thread t at scratch[t * scratch_step]. */
struct pcv_attend_panels {
    int heads, dk, dv;
    struct pcv_panels keys, values;
    float *scratch;
    size_t scratch_step; /* floats */
};
void pcv_attend_panels(const struct pcv_attend_panels *a, const struct pcv_panel_kernels *k,
                       const struct pcv_worker *w, int rows, const float *q, float *ctx);

/* Row-major: one block of query rows against keys that all heads' rows are compared with:
 *     ctx = softmax(q k^T / sqrt(qk/heads)) v   for each head
 * q [rows, heads x dk] (ldq), keys [nkv, ...] with head h at column h x key_step, values likewise
 * (step 0: every head reads the same matrix, dk and dv wide). ctx [rows, heads x dv]. scores is
 * scratch [rows, nkv]. */
struct pcv_attend {
    int heads, dk, dv;
    int nkv;
    const float *keys, *values;
    int ldk, ldv, key_step, value_step;
    float scale;
};
void pcv_attend_rows(const struct pcv_attend *a, const struct pcv_kernels *k, int rows,
                     const float *q, int ldq, float *ctx, int ldctx, float *scores);

#endif
