/* linear.h - rows times weights, row-major on both sides.
 *
 * Row-stable. Any thread; takes up to 150 KB of its stack. */
#ifndef PCV_KERNEL_LINEAR_H
#define PCV_KERNEL_LINEAR_H

#include "lib/kernel/kernels.h"

/* Y[m,out] = X[m,in] W[out,in]^T + bias, or Y += that with accumulate. bias may be NULL. Through
 * panels: from a few rows on as fast as the processor multiplies. */
void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, bool accumulate);

/* The same for a handful of rows, without filling panels for them. Bits differ from pcv_linear's:
 * one place in the engine uses one of the two, whoever else is in the batch. */
void pcv_linear_few(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                    const float *w, const float *bias, float *y, int ldy, bool accumulate);

#endif
