/* math_avx2.h - functions of eight floats, for the files built with -mavx2 -mfma.
 *
 * exp: x = k ln2 + f, |f| <= ln2 / 2; e^f by a polynomial of degree 6 (relative error 2e-9 before
 * rounding); below -87.3 the result is 0. Coefficients, here and below: least-maximum fits made for
 * this file.
 *
 * Largest errors over all floats, in units of the last place: exp 1.06, exp2 1.35, erf-GELU 1.54
 * and tanh-GELU 1.86 for x >= 0. For x < 0, where the results are small beside x, they are 1.15 and
 * 1.34 times 2^-24 min(-x, 6): absolute.
 */
#ifndef PCV_KERNEL_MATH_AVX2_H
#define PCV_KERNEL_MATH_AVX2_H

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

typedef __m256 v8;

static inline v8 set1(float v)
{
    return _mm256_set1_ps(v);
}

static inline v8 exp8(v8 x)
{
    const v8 under = _mm256_cmp_ps(x, set1(-87.33654f), _CMP_LT_OQ);
    v8 k, f, p;
    __m256i e;

    x = _mm256_min_ps(set1(88.72283f), x); /* in this order NaN stays NaN */
    k = _mm256_round_ps(_mm256_mul_ps(x, set1(1.44269504f)),
                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = _mm256_fnmadd_ps(k, set1(0x1.62e4p-1f),
                         x); /* ln2 in two parts: k times the first is exact */
    f = _mm256_fnmadd_ps(k, set1(0x1.7f7d1cp-20f), f);
    p = set1(0x1.6ab97ap-10f);
    p = _mm256_fmadd_ps(p, f, set1(0x1.126d0cp-7f));
    p = _mm256_fmadd_ps(p, f, set1(0x1.55589ap-5f));
    p = _mm256_fmadd_ps(p, f, set1(0x1.55540ap-3f));
    p = _mm256_fmadd_ps(p, f, set1(0x1.fffffap-2f));
    p = _mm256_fmadd_ps(p, f, set1(1.0f));
    p = _mm256_fmadd_ps(p, f, set1(1.0f));
    /* 2^k in two steps, for k up to 128 */
    e = _mm256_cvtps_epi32(k);
    p = _mm256_mul_ps(p,
                      _mm256_castsi256_ps(_mm256_slli_epi32(
                          _mm256_add_epi32(_mm256_srai_epi32(e, 1), _mm256_set1_epi32(127)), 23)));
    e = _mm256_sub_epi32(e, _mm256_srai_epi32(e, 1));
    p = _mm256_mul_ps(
        p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23)));
    return _mm256_andnot_ps(under, p);
}

/* What follows takes up to six vectors, in place, and goes step by step for all of them: one
 * vector's steps wait for each other. */
#define ALWAYS      static inline __attribute__((always_inline))
#define EACH_VECTOR _Pragma("GCC unroll 6") for (int v = 0; v < n; v++)

/* 2^(i/8), less what i adds to an exponent when it is shifted there with the integer part. */
static const uint32_t exp2_eighths[8] = {
    0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7,
};

/* x = 2^x, |x| <= 126: x = i/8 + f, |f| <= 1/16: 2^f = 1 + f q(f) with q of degree 2, relative
 * error 3e-8 before rounding. NaN stays NaN. */
ALWAYS void exp2_near_avx2(v8 *x, const int n)
{
    const v8 magic = set1(0x1.8p20f); /* added, it leaves 8 x in the low bits */
    const v8 eighths = _mm256_loadu_ps((const float *)exp2_eighths);
    v8 i[6], f[6], q[6];

    EACH_VECTOR i[v] = _mm256_add_ps(x[v], magic);
    EACH_VECTOR f[v] = _mm256_sub_ps(x[v], _mm256_sub_ps(i[v], magic));
    EACH_VECTOR x[v] = _mm256_permutevar8x32_ps(eighths, _mm256_castps_si256(i[v]));
    EACH_VECTOR x[v] = _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_castps_si256(x[v]), _mm256_slli_epi32(_mm256_castps_si256(i[v]), 20)));
    EACH_VECTOR q[v] = _mm256_fmadd_ps(set1(0x1.c6a004p-5f), f[v], set1(0x1.ec0c32p-3f));
    EACH_VECTOR q[v] = _mm256_fmadd_ps(q[v], f[v], set1(0x1.62e432p-1f));
    EACH_VECTOR x[v] = _mm256_fmadd_ps(_mm256_mul_ps(x[v], f[v]), q[v], x[v]);
}

/* The same, x <= 127. From -126 down the error is less than 2^-126, from -127 down the result is 0.
 */
ALWAYS void exp2_avx2(v8 *x, const int n)
{
    EACH_VECTOR x[v] = _mm256_max_ps(set1(-127.0f), x[v]); /* in this order NaN stays NaN */
    exp2_near_avx2(x, n);
}

/* x Phi(x) = x / 2 erfc(-x / sqrt 2): erfc of the absolute value is 2^(a q(a)), q of degree 9
 * fitted so that it is right to 6e-9 above 1/1000, and below to 6e-6 of itself. Where x is positive
 * the result is what that leaves of x: nothing cancels. */
ALWAYS void erf_gelu_avx2(v8 *x, const int n)
{
    static const float q[10] = {
        -0x1.f05bb2p-26f, 0x1.cf3b18p-21f, -0x1.71ca94p-17f, 0x1.41c0d8p-14f, -0x1.258364p-12f,
        -0x1.a46784p-20f, 0x1.c799fcp-8f,  -0x1.ada4f2p-5f,  -0x1.d63d5ap-2f, -0x1.26aec8p+0f};
    v8 a[6], e[6], half[6];

    EACH_VECTOR a[v] = _mm256_andnot_ps(set1(-0.0f), x[v]);
    EACH_VECTOR e[v] = set1(q[0]);
    _Pragma("GCC unroll 9") for (int i = 1; i < 10; i++) EACH_VECTOR e[v] =
        _mm256_fmadd_ps(e[v], a[v], set1(q[i]));
    EACH_VECTOR e[v] = _mm256_mul_ps(a[v], e[v]);
    exp2_avx2(e, n);
    EACH_VECTOR half[v] = _mm256_min_ps(set1(FLT_MAX), x[v]); /* in this order NaN stays NaN */
    EACH_VECTOR half[v] = _mm256_mul_ps(set1(0.5f), half[v]);
    EACH_VECTOR x[v] =
        _mm256_blendv_ps(_mm256_fnmadd_ps(half[v], e[v], x[v]), _mm256_mul_ps(half[v], e[v]), x[v]);
}

/* x / 2 (1 + tanh(t)) = x / (1 + e^(-2 t)) */
ALWAYS void tanh_gelu_avx2(v8 *x, const int n)
{
    v8 t[6];

    EACH_VECTOR t[v] = _mm256_mul_ps(x[v], _mm256_mul_ps(x[v], x[v]));
    EACH_VECTOR t[v] = _mm256_fmadd_ps(t[v], set1(0.044715f), x[v]);
    EACH_VECTOR t[v] = _mm256_mul_ps(set1(-2 * 0.7978845608f * (float)M_LOG2E), t[v]);
    EACH_VECTOR t[v] = _mm256_min_ps(set1(127.0f), t[v]);
    exp2_avx2(t, n);
    EACH_VECTOR x[v] = _mm256_max_ps(set1(-100.0f), x[v]); /* nothing is left of it there */
    EACH_VECTOR x[v] = _mm256_div_ps(x[v], _mm256_add_ps(set1(1.0f), t[v]));
}

#undef EACH_VECTOR
#undef ALWAYS

#endif
