/* gemm.h - matrix products. The only file that knows OpenBLAS.
 *
 * Row-major f32. The result may differ in its last bits with the shape of the call, and on some
 * processors with a row's place in it: whoever promises equal bits calls with shapes and places
 * that do not depend on who else is in the batch. Any thread; OpenBLAS itself runs on the calling
 * thread alone, see pcv_gemm_init. */
#ifndef PCV_KERNEL_GEMM_H
#define PCV_KERNEL_GEMM_H

/* Keeps OpenBLAS to the calling thread, for the whole process, and ends the threads it started when
 * it was loaded: they wait for work on a processor each, for some 30 ms. Called when a model opens.
 */
void pcv_gemm_init(void);

/* C[m,n] = A[m,k] W[n,k]^T, or C += ... with accumulate. */
void pcv_gemm_nt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                 int ldc, int accumulate);

/* C[m,n] = A[m,k] B[k,n], or C += ... with accumulate. */
void pcv_gemm_nn(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c,
                 int ldc, int accumulate);

/* C[m,n] = A[k,m]^T W[n,k]^T, or C += ... with accumulate. */
void pcv_gemm_tt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                 int ldc, int accumulate);

#endif
