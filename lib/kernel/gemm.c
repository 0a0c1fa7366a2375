#include "lib/kernel/gemm.h"

#include <cblas.h>
#include <string.h>

void pcv_gemm_init(void)
{
    openblas_set_num_threads(1);
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

void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, int accumulate, int stable)
{
    if (bias) {
        for (int i = 0; i < m; i++) {
            if (accumulate)
                k->axpy(y + (size_t)i * ldy, 1.0f, bias, out);
            else
                memcpy(y + (size_t)i * ldy, bias, (size_t)out * sizeof(float));
        }
        accumulate = 1;
    }
    if (stable || (size_t)out * in <= PCV_GEMM_SMALL)
        k->gemm_nt(m, out, in, x, ldx, w, in, y, ldy, accumulate);
    else
        pcv_gemm_nt(m, out, in, x, ldx, w, in, y, ldy, accumulate);
}
