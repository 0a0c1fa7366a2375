/* plain.h - what the tests of attention compare with: layers of random weights, and the papers'
 * formulas in double precision, three loops each.
 *
 * Everything is held until release(): tests do not free. */
#ifndef PLAIN_H
#define PLAIN_H

#include "lib/attention/layer.h"
#include "tests/unit/check.h"

static void *held[4096];
static int nheld;

static inline void *hold(void *p)
{
    assert_non_null(p);
    assert_true(nheld < (int)LEN(held));
    return held[nheld++] = p;
}

static inline int release(void **state)
{
    (void)state;
    while (nheld > 0)
        free(held[--nheld]);
    return 0;
}

static inline double *doubles(size_t n)
{
    return hold(calloc(n ? n : 1, sizeof(double)));
}

static inline float *floats(size_t n)
{
    return hold(calloc(n ? n : 1, sizeof(float)));
}

static inline float *random_floats(uint64_t *seed, size_t n, float middle, float spread)
{
    return hold(random_new(seed, n, middle, spread));
}

/* Within `tolerance` times the largest of want. */
#define CHECK_CLOSE(got, want, n, tolerance)                                                       \
    check_close(__FILE__, __LINE__, #got, got, want, n, tolerance)
static inline void check_close(const char *file, int line, const char *what, const float *got,
                               const double *want, size_t n, double tolerance)
{
    double most = 1e-3;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * most))
            fail_msg("%s:%d: %s[%zu] of %zu is %.9g, want %.9g within %.3g", file, line, what, i, n,
                     got[i], want[i], tolerance * most);
}

/* ---- layers of random weights -----------------------------------------------------------------
 */

static inline struct pcv_norm random_norm(uint64_t *seed, int n)
{
    return (struct pcv_norm){random_floats(seed, (size_t)n, 1, 0.4f),
                             random_floats(seed, (size_t)n, 0, 0.4f)};
}

static inline struct pcv_affine random_affine(uint64_t *seed, int out, int in, float gain)
{
    return (struct pcv_affine){
        random_floats(seed, (size_t)(out * in), 0, gain * sqrtf(3.0f / (float)in)),
        random_floats(seed, (size_t)out, 0, 0.4f)};
}

/* Gated layers have no biases in attention, as those who gate do it. */
static inline struct pcv_layer random_layer(uint64_t *seed, struct pcv_layer_dims d)
{
    struct pcv_layer l = {
        .d = d,
        .activation = random_int(seed, 2) ? PCV_GELU_TANH : PCV_GELU_ERF,
        .eps = 1e-5f,
        .norm_q = random_norm(seed, d.q_dim),
        .norm_kv = random_norm(seed, d.kv_dim),
        .norm_mlp = random_norm(seed, d.q_dim),
        .q = random_affine(seed, d.qk, d.q_dim, 2),
        .k = random_affine(seed, d.qk, d.kv_dim, 1),
        .val = random_affine(seed, d.v, d.kv_dim, 1),
        .out = random_affine(seed, d.q_dim, d.v, 1),
        .mlp1 = random_affine(seed, (d.gated ? 2 : 1) * d.hidden, d.q_dim, 1),
        .mlp2 = random_affine(seed, d.q_dim, d.hidden, 1),
    };

    if (d.gated)
        l.q.b = l.k.b = l.val.b = l.out.b = NULL;
    return l;
}

/* ---- formulas ----------------------------------------------------------------------------------
 */

static inline double *widen(const float *x, size_t n)
{
    double *y = doubles(n);

    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
    return y;
}

static inline double *plain_norm(const struct pcv_norm *g, const double *x, int rows, int n,
                                 double eps)
{
    double *y = doubles((size_t)(rows * n));

    for (int i = 0; i < rows; i++) {
        double mean = 0, var = 0;

        for (int j = 0; j < n; j++)
            mean += x[i * n + j] / n;
        for (int j = 0; j < n; j++)
            var += (x[i * n + j] - mean) * (x[i * n + j] - mean) / n;
        for (int j = 0; j < n; j++)
            y[i * n + j] = (x[i * n + j] - mean) / sqrt(var + eps) * g->gamma[j] + g->beta[j];
    }
    return y;
}

static inline double *plain_linear(const struct pcv_affine *a, const double *x, int rows, int in,
                                   int out)
{
    double *y = doubles((size_t)(rows * out));

    for (int i = 0; i < rows; i++)
        for (int o = 0; o < out; o++) {
            double sum = a->b ? a->b[o] : 0;

            for (int j = 0; j < in; j++)
                sum += (double)a->w[o * in + j] * x[i * in + j];
            y[i * out + o] = sum;
        }
    return y;
}

/* softmax(q k^T / sqrt(d)) v, head by head: [nq, v]. */
static inline double *plain_softmax_attention(const struct pcv_layer_dims *d, const double *q,
                                              int nq, const double *k, const double *v, int nkv)
{
    const int dk = d->qk / d->heads, dv = d->v / d->heads;
    double *ctx = doubles((size_t)(nq * d->v)), *s = doubles((size_t)nkv);

    for (int h = 0; h < d->heads; h++)
        for (int i = 0; i < nq; i++) {
            double top = -INFINITY, sum = 0;

            for (int m = 0; m < nkv; m++) {
                s[m] = 0;
                for (int c = h * dk; c < (h + 1) * dk; c++)
                    s[m] += q[i * d->qk + c] * k[m * d->qk + c] / sqrt(dk);
                top = fmax(top, s[m]);
            }
            for (int m = 0; m < nkv; m++)
                sum += s[m] = exp(s[m] - top);
            for (int m = 0; m < nkv; m++)
                for (int c = h * dv; c < (h + 1) * dv; c++)
                    ctx[i * d->v + c] += s[m] / sum * v[m * d->v + c];
        }
    return ctx;
}

/* What x reads of y, before the out projection: [nq, v]. Without LN_kv of its own, LN_q's. */
static inline double *plain_attention(const struct pcv_layer *l, const float *x, int nq,
                                      const float *y, int nkv)
{
    const struct pcv_layer_dims *d = &l->d;
    const double *xn =
        plain_norm(&l->norm_q, widen(x, (size_t)(nq * d->q_dim)), nq, d->q_dim, l->eps);
    const double *yn = plain_norm(d->cross ? &l->norm_kv : &l->norm_q,
                                  widen(y, (size_t)(nkv * d->kv_dim)), nkv, d->kv_dim, l->eps);

    return plain_softmax_attention(d, plain_linear(&l->q, xn, nq, d->q_dim, d->qk), nq,
                                   plain_linear(&l->k, yn, nkv, d->kv_dim, d->qk),
                                   plain_linear(&l->val, yn, nkv, d->kv_dim, d->v), nkv);
}

static inline double plain_gelu(const struct pcv_layer *l, double x)
{
    return x * (l->activation == PCV_GELU_ERF
                    ? 0.5 * erfc(-x * M_SQRT1_2)
                    : 0.5 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))));
}

/* [x +] O(ctx), then + W2 gelu(W1 LN), or W2 (values gelu(gates)): [rows, q_dim]. */
static inline double *plain_tail(const struct pcv_layer *l, const double *ctx, const float *x,
                                 int rows)
{
    const struct pcv_layer_dims *d = &l->d;
    const int wide = d->gated ? 2 * d->hidden : d->hidden;
    double *y = plain_linear(&l->out, ctx, rows, d->v, d->q_dim), *h;
    const double *more;

    for (int i = 0; d->residual && i < rows * d->q_dim; i++)
        y[i] += x[i];
    if (d->hidden == 0)
        return y;
    h = plain_linear(&l->mlp1, plain_norm(&l->norm_mlp, y, rows, d->q_dim, l->eps), rows, d->q_dim,
                     wide);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < d->hidden; j++)
            h[i * d->hidden + j] =
                d->gated ? h[i * wide + j] * plain_gelu(l, h[i * wide + d->hidden + j])
                         : plain_gelu(l, h[i * wide + j]);
    more = plain_linear(&l->mlp2, h, rows, d->hidden, d->q_dim);
    for (int i = 0; i < rows * d->q_dim; i++)
        y[i] += more[i];
    return y;
}

#endif
