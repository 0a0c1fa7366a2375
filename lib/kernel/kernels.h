/* kernels.h - the inner loops, one table of them per instruction set.
 *
 * kernels_scalar.c is the specification: plain C that reads like the formula. Every other table is
 * tested against it on odd sizes, and is chosen at run time. No kernel needs alignment; pointers
 * do not alias unless said. Matrices are row-major f32, ld = floats from row to row. Cannot
 * fail; any thread.
 *
 * Row-stable: what a kernel writes to a row depends on that row's inputs alone, bit for bit, never
 * on how many rows the call has. All of them are; that is what makes an answer in a batch equal
 * the answer alone. */
#ifndef PCV_KERNEL_KERNELS_H
#define PCV_KERNEL_KERNELS_H

#include "lib/base/cpu.h"
#include "lib/kernel/panel.h"

#include <stddef.h>

enum { PCV_RUN_CHANNELS = 8 };

/* A run of tokens that stand one after another, seen by one query of the factored encoder. */
struct pcv_run {
    int n;
    float base;          /* terms that are the same for the whole run */
    const float *tab;    /* [n] one term per token, or NULL */
    const float *planes; /* content channel j of token i at planes[j * stride + i] */
    size_t stride;
    int channels;    /* content channels, 0 = none, at most PCV_RUN_CHANNELS */
    const float *r;  /* [n] 1 / standard deviation of each token */
    const float *mu; /* [n] its mean */
};

struct pcv_run_sums {
    float e;   /* sum of exp(score - max) */
    float bmu; /* sum of b mu, b = exp(score - max) r */
    float b;
};

/* What a query that is a sum of parts adds to its content's scores; arrays of n keys. */
struct pcv_score_terms {
    const float *const *parts; /* [nparts]: the same term for every key is an array, too */
    int nparts;
    const float *sum, *add;
    float mu, r;
};

struct pcv_kernels {
    const char *name;
    const struct pcv_panel_kernels *panel;

    /* y = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta, row by row; two passes. gamma, beta
     * NULL: without. y may alias x. */
    void (*norm)(float *y, int ldy, const float *x, int ldx, const float *gamma, const float *beta,
                 int rows, int cols, float eps);

    /* x = softmax(scale x), row by row, in place. */
    void (*softmax)(float *x, int ld, int rows, int cols, float scale);

    /* x = exp(x - max) for n values; returns the sum. */
    float (*exp_sum)(float *x, int n, float max);

    float (*max)(const float *x, int n); /* n >= 1 */

    void (*gelu_erf)(float *x, size_t n);  /* x Phi(x) */
    void (*gelu_tanh)(float *x, size_t n); /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */

    void (*axpy)(float *y, float a, const float *x, int n); /* y += a x */
    void (*scale)(float *x, float a, int n);                /* x *= a */
    float (*dot)(const float *x, const float *y, int n);

    /* C[m,n] = A[m,k] W[n,k]^T, or += with accumulate: for products too small to be packed. */
    void (*gemm_nt)(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                    int ldc, int accumulate);

    /* s[i] = r (given s[i] + sum of parts[i] - mu sum[i]) + add[i]; returns the largest. */
    float (*score_row)(float *s, int n, const struct pcv_score_terms *t, bool given);

    /* s[i] = r_i (add s[i] + base + tab_i + sum_j u_j x_ij - usum mu_i); returns the largest. */
    float (*score_run)(float *s, const struct pcv_run *run, const float *u, float usum, int add);

    /* s[i] = b_i = exp(s[i] - max) r_i; marg[i] += b_i unless NULL; content[j] += sum b_i x_ij;
     * sums grow. These two may write the values that they find up to seven floats beyond s and
     * marg. */
    void (*weigh_run)(float *s, const struct pcv_run *run, float max, float *marg, float *content,
                      struct pcv_run_sums *sums);
};

extern const struct pcv_kernels pcv_kernels_scalar;
extern const struct pcv_kernels pcv_kernels_avx2;   /* call only where the CPU has AVX2 and FMA */
extern const struct pcv_kernels pcv_kernels_avx512; /* AVX2's, with the panels of AVX-512 */

/* The best table for a CPU. Never NULL. */
const struct pcv_kernels *pcv_kernels_for(struct pcv_cpu cpu);

#endif
