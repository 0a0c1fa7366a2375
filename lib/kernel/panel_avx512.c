/* panel_avx512.c - panels of 48 rows: three vectors of sixteen. */
#if defined(__x86_64__)

#include "lib/kernel/transpose_avx2.h"

typedef __m512 vf;

enum { VW = 16, J3 = 8, J2 = 12, J1 = 12 };

#define vset1  _mm512_set1_ps
#define vload  _mm512_loadu_ps
#define vstore _mm512_storeu_ps
#define vadd   _mm512_add_ps
#define vsub   _mm512_sub_ps
#define vmul   _mm512_mul_ps
#define vdiv   _mm512_div_ps
#define vmax   _mm512_max_ps
#define vfma   _mm512_fmadd_ps
#define vsqrt  _mm512_sqrt_ps

/* A function of up to six vectors of eight, on both halves of up to three. */
#define HALVES(name, f)                                                                            \
    static inline __attribute__((always_inline)) void name(vf *x, const int n)                     \
    {                                                                                              \
        v8 half[6];                                                                                \
                                                                                                   \
        _Pragma("GCC unroll 3") for (size_t i = 0; i < (size_t)n; i++)                             \
        {                                                                                          \
            half[2 * i] = _mm512_castps512_ps256(x[i]);                                            \
            half[2 * i + 1] = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x[i]), 1)); \
        }                                                                                          \
        f(half, 2 * n);                                                                            \
        _Pragma("GCC unroll 3") for (size_t i = 0; i < (size_t)n; i++) x[i] =                      \
            _mm512_insertf32x8(_mm512_castps256_ps512(half[2 * i]), half[2 * i + 1], 1);           \
    }
HALVES(vexp2, exp2_avx2)
HALVES(vexp2_near, exp2_near_avx2)
HALVES(vgelu_erf, erf_gelu_avx2)
HALVES(vgelu_tanh, tanh_gelu_avx2)
#undef HALVES

static void pack(float *panel, const float *x, size_t ldx, int rows, int n)
{
    pack_lanes(panel, 3 * VW, x, ldx, rows, n);
}

static void unpack(float *x, size_t ldx, const float *panel, int rows, int n, bool add)
{
    unpack_lanes(x, ldx, panel, (int64_t)3 * VW, rows, n, add);
}

static void transpose(float *x, const float *planes, int64_t stride, int n, int channels)
{
    unpack_lanes(x, (size_t)channels, planes, stride, n, channels, false);
}

#define TABLE pcv_panel_avx512
#include "lib/kernel/panel_vector.inc"

#endif
