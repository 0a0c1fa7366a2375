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

/* Tokens side by side, of whose channels' sums, and sums of their squares, all are known but what
 * content adds. */
struct pcv_stat_run {
    int n;                               /* tokens */
    int channels;                        /* of a token */
    double sum, squares;                 /* what all n have */
    const double *row_sum, *row_squares; /* [n] what each has from a table, or NULL */
    const float *x;                      /* content: number j of token i at x[j x_step + i] */
    size_t x_step;
    int planes; /* 0: without content */
    float eps;
};

struct pcv_kernels {
    const char *name;
    const struct pcv_panel_kernels *panel;

    /* y = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta, row by row; two passes. gamma, beta
     * NULL: without. y may alias x. */
    void (*norm)(float *y, int ldy, const float *x, int ldx, const float *gamma, const float *beta,
                 int rows, int cols, float eps);

    /* mean = sum / channels, r = 1 / sqrt(squares / channels - mean^2 + eps), the difference 0 at
     * least: a LayerNorm's statistics, [n] both. */
    void (*token_stats)(float *mean, float *r, const struct pcv_stat_run *run);

    /* x = softmax(scale x), row by row, in place. */
    void (*softmax)(float *x, int ld, int rows, int cols, float scale);

    /* x = exp(x - max) for n values; returns the sum. */
    float (*exp_sum)(float *x, int n, float max);

    float (*max)(const float *x, int n); /* n >= 1 */

    void (*axpy)(float *y, float a, const float *x, int n); /* y += a x */
    void (*scale)(float *x, float a, int n);                /* x *= a */
    float (*dot)(const float *x, const float *y, int n);
};

extern const struct pcv_kernels pcv_kernels_scalar;
extern const struct pcv_kernels pcv_kernels_avx2;   /* call only where the CPU has AVX2 and FMA */
extern const struct pcv_kernels pcv_kernels_avx512; /* AVX2's, with the panels of AVX-512 */

/* The best table for a CPU. Never NULL. */
const struct pcv_kernels *pcv_kernels_for(struct pcv_cpu cpu);

#endif
