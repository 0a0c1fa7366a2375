#include "lib/kernel/gemm.h"

#include <cblas.h>

/* OpenBLAS's, where it has threads; no header declares it. */
extern int blas_thread_shutdown_(void) __attribute__((weak));

void pcv_gemm_init(void)
{
    if (openblas_get_num_threads() != 1) /* setting it would start the threads again */
        openblas_set_num_threads(1);
    if (blas_thread_shutdown_)
        blas_thread_shutdown_();
}

void pcv_gemm_nt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                 int ldc, int accumulate)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, a, lda, w, ldw,
                accumulate ? 1.0f : 0.0f, c, ldc);
}

void pcv_gemm_nn(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c,
                 int ldc, int accumulate)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, a, lda, b, ldb,
                accumulate ? 1.0f : 0.0f, c, ldc);
}

void pcv_gemm_tt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                 int ldc, int accumulate)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasTrans, m, n, k, 1.0f, a, lda, w, ldw,
                accumulate ? 1.0f : 0.0f, c, ldc);
}
