/* gemm.h - matrix products. The only file that knows OpenBLAS.
 *
 * Row-major f32. The result may differ in its last bits with the shape of the call, and on some
 * processors with a row's place in it: whoever promises equal bits calls with shapes and places
 * that do not depend on who else is in the batch. Any thread; OpenBLAS itself runs on the calling
 * thread alone, see pcv_gemm_init. */
#ifndef PCV_KERNEL_GEMM_H
#define PCV_KERNEL_GEMM_H

#include "lib/kernel/kernels.h"

/* Keeps OpenBLAS to the calling thread, for the whole process. Called when a model opens. */
void pcv_gemm_init(void);

/* C[m,n] = A[m,k] W[n,k]^T, or C += ... with accumulate. */
void pcv_gemm_nt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                 int ldc, int accumulate);

/* C[m,n] = A[m,k] B[k,n], or C += ... with accumulate. */
void pcv_gemm_nn(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c,
                 int ldc, int accumulate);

/* Weights so small that our own row-stable kernel is used whatever m: packing them costs more. */
#define PCV_GEMM_SMALL ((size_t)64 * 1024)

/* Y[m,out] = X[m,in] W[out,in]^T + bias, or Y += that with accumulate. bias may be NULL. Small
 * weights go through k->gemm_nt and are row-stable; others through OpenBLAS. stable forces the
 * former. */
void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, int accumulate, int stable);

#endif
