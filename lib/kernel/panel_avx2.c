/* panel_avx2.c - panels of 24 rows: three vectors of eight. */
#if defined(__x86_64__)

#include "lib/kernel/transpose_avx2.h"

typedef v8 vf;

enum { VW = 8, J3 = 4, J2 = 6, J1 = 8 };

#define vset1      set1
#define vload      _mm256_loadu_ps
#define vstore     _mm256_storeu_ps
#define vadd       _mm256_add_ps
#define vsub       _mm256_sub_ps
#define vmul       _mm256_mul_ps
#define vdiv       _mm256_div_ps
#define vmax       _mm256_max_ps
#define vfma       _mm256_fmadd_ps
#define vsqrt      _mm256_sqrt_ps
#define vexp2      exp2_avx2
#define vexp2_near exp2_near_avx2
#define vgelu_erf  erf_gelu_avx2
#define vgelu_tanh tanh_gelu_avx2

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

#define TABLE pcv_panel_avx2
#include "lib/kernel/panel_vector.inc"

#endif
