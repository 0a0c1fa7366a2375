/* linear.h - products with row-major matrices on all sides, through panels.
 *
 * Row-stable, from a few rows on as fast as the processor multiplies, and nothing is packed but the
 * rows of A, a panel at a time. Any thread; takes up to 150 KB of its stack. */
#ifndef PCV_KERNEL_LINEAR_H
#define PCV_KERNEL_LINEAR_H

#include "lib/kernel/kernels.h"

/* C[m,n] = A[m,k] W[n,k]^T, or C += that. */
void pcv_rows_nt(const struct pcv_kernels *k, int m, int n, int depth, const float *a, int lda,
                 const float *w, int ldw, float *c, int ldc, bool add);

/* C[m,n] = A[m,k] B[k,n], or C += that. */
void pcv_rows_nn(const struct pcv_kernels *k, int m, int n, int depth, const float *a, int lda,
                 const float *b, int ldb, float *c, int ldc, bool add);

/* Y[m,out] = X[m,in] W[out,in]^T + bias, or Y += that. bias may be NULL. */
void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, bool add);

#endif
