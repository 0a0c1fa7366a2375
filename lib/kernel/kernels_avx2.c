/* kernels_avx2.c - eight floats at a time; built with -mavx2 -mfma, called only where they exist.
 *
 * Tails are handled with masked loads, so that the lane an element falls into depends on its
 * index alone: that keeps every kernel row-stable.
 *
 * exp: x = k ln2 + f, |f| <= ln2 / 2; e^f by a polynomial of degree 6 (relative error 2e-9 before
 * rounding); below -87.3 the result is 0. erf: odd polynomial up to 1, then 1 - exp(-p(x)) with p
 * fitted to -log erfc; from 4 on it is 1. Coefficients: least-maximum fits made for this file. */
#include "lib/kernel/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

typedef __m256 v8;

/* First n (0..8) lanes set. */
static inline __m256i mask_of(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline v8 set1(float v)
{
    return _mm256_set1_ps(v);
}

static inline float sum8(v8 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

static inline float max8(v8 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
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

static inline v8 erf8(v8 x)
{
    const v8 sign = set1(-0.0f);
    v8 a = _mm256_andnot_ps(sign, x);
    v8 u = _mm256_mul_ps(a, a);
    v8 small, big, t;

    small = set1(0x1.4ae4c6p-14f);
    small = _mm256_fmadd_ps(small, u, set1(-0x1.a485e8p-11f));
    small = _mm256_fmadd_ps(small, u, set1(0x1.5419f4p-8f));
    small = _mm256_fmadd_ps(small, u, set1(-0x1.b7fbb4p-6f));
    small = _mm256_fmadd_ps(small, u, set1(0x1.ce2d20p-4f));
    small = _mm256_fmadd_ps(small, u, set1(-0x1.81273ep-2f));
    small = _mm256_fmadd_ps(small, u, set1(0x1.20dd74p+0f));
    small = _mm256_mul_ps(small, a);

    t = _mm256_min_ps(a, set1(4.0f));
    big = set1(-0x1.0ddc32p-22f);
    big = _mm256_fmadd_ps(big, t, set1(0x1.a8b64ap-16f));
    big = _mm256_fmadd_ps(big, t, set1(-0x1.e65128p-12f));
    big = _mm256_fmadd_ps(big, t, set1(0x1.18a676p-8f));
    big = _mm256_fmadd_ps(big, t, set1(-0x1.9fb868p-6f));
    big = _mm256_fmadd_ps(big, t, set1(0x1.bcfc3ep-4f));
    big = _mm256_fmadd_ps(big, t, set1(0x1.441dc4p-1f));
    big = _mm256_fmadd_ps(big, t, set1(0x1.21317ap+0f));
    big = _mm256_fmadd_ps(big, t, set1(-0x1.ac92e2p-13f));
    big = _mm256_sub_ps(set1(1.0f), exp8(_mm256_xor_ps(big, sign)));

    t = _mm256_blendv_ps(big, small, _mm256_cmp_ps(a, set1(1.0f), _CMP_LT_OQ));
    t = _mm256_blendv_ps(t, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)); /* NaN stays NaN */
    return _mm256_or_ps(t, _mm256_and_ps(x, sign));
}

/* Calls body with v = x[i..i+8) or its masked tail, and stores what body leaves in v. */
#define EACH8(x, n, body)                                                                          \
    do {                                                                                           \
        size_t i_ = 0;                                                                             \
        v8 v;                                                                                      \
        for (; i_ + 8 <= (size_t)(n); i_ += 8) {                                                   \
            v = _mm256_loadu_ps((x) + i_);                                                         \
            body;                                                                                  \
            _mm256_storeu_ps((x) + i_, v);                                                         \
        }                                                                                          \
        if (i_ < (size_t)(n)) {                                                                    \
            __m256i m_ = mask_of((int)((size_t)(n)-i_));                                           \
            v = _mm256_maskload_ps((x) + i_, m_);                                                  \
            body;                                                                                  \
            _mm256_maskstore_ps((x) + i_, m_, v);                                                  \
        }                                                                                          \
    } while (0)

static void norm(float *y, int ldy, const float *x, int ldx, const float *gamma, const float *beta,
                 int rows, int cols, float eps)
{
    const int whole = cols & ~7;
    const __m256i tail = mask_of(cols - whole);

    for (int i = 0; i < rows; i++, x += ldx, y += ldy) {
        v8 s = set1(0), q = set1(0), mean, r, d;

        for (int j = 0; j < whole; j += 8)
            s = _mm256_add_ps(s, _mm256_loadu_ps(x + j));
        s = _mm256_add_ps(s, _mm256_maskload_ps(x + whole, tail));
        mean = set1(sum8(s) / (float)cols);
        for (int j = 0; j < whole; j += 8) {
            d = _mm256_sub_ps(_mm256_loadu_ps(x + j), mean);
            q = _mm256_fmadd_ps(d, d, q);
        }
        d = _mm256_and_ps(_mm256_sub_ps(_mm256_maskload_ps(x + whole, tail), mean),
                          _mm256_castsi256_ps(tail));
        q = _mm256_fmadd_ps(d, d, q);
        r = set1(1.0f / sqrtf(sum8(q) / (float)cols + eps));
        for (int j = 0; j < cols; j += 8) {
            const __m256i m = j < whole ? _mm256_set1_epi32(-1) : tail;
            v8 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + j, m), mean), r);

            if (gamma)
                v = _mm256_fmadd_ps(v, _mm256_maskload_ps(gamma + j, m),
                                    _mm256_maskload_ps(beta + j, m));
            _mm256_maskstore_ps(y + j, m, v);
        }
    }
}

static float max(const float *x, int n)
{
    v8 m = set1(-INFINITY);
    int i = 0;

    for (; i + 8 <= n; i += 8)
        m = _mm256_max_ps(m, _mm256_loadu_ps(x + i));
    if (i < n) {
        __m256i k = mask_of(n - i);

        m = _mm256_max_ps(
            m, _mm256_blendv_ps(m, _mm256_maskload_ps(x + i, k), _mm256_castsi256_ps(k)));
    }
    return max8(m);
}

static float exp_sum(float *x, int n, float m)
{
    const v8 shift = set1(m);
    v8 s = set1(0);
    int i = 0;

    for (; i + 8 <= n; i += 8) {
        v8 v = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift));

        _mm256_storeu_ps(x + i, v);
        s = _mm256_add_ps(s, v);
    }
    if (i < n) {
        __m256i k = mask_of(n - i);
        v8 v = exp8(_mm256_sub_ps(_mm256_maskload_ps(x + i, k), shift));

        _mm256_maskstore_ps(x + i, k, v);
        s = _mm256_add_ps(s, _mm256_and_ps(v, _mm256_castsi256_ps(k)));
    }
    return sum8(s);
}

static void scale(float *x, float a, int n)
{
    EACH8(x, n, v = _mm256_mul_ps(v, set1(a)));
}

static void softmax(float *x, int ld, int rows, int cols, float s)
{
    for (int i = 0; i < rows; i++, x += ld) {
        scale(x, s, cols);
        scale(x, 1.0f / exp_sum(x, cols, max(x, cols)), cols);
    }
}

static void gelu_erf(float *x, size_t n)
{
    EACH8(x, n,
          v = _mm256_mul_ps(
              _mm256_mul_ps(set1(0.5f), v),
              _mm256_add_ps(set1(1.0f), erf8(_mm256_mul_ps(v, set1((float)M_SQRT1_2))))));
}

/* tanh(t) = 1 - 2 / (1 + exp(2 t)) */
static inline v8 tanh_gelu8(v8 v)
{
    v8 t = _mm256_mul_ps(v, _mm256_mul_ps(v, v));
    v8 e;

    t = _mm256_mul_ps(set1(2 * 0.7978845608f), _mm256_fmadd_ps(t, set1(0.044715f), v));
    e = exp8(t);
    t = _mm256_sub_ps(set1(1.0f), _mm256_div_ps(set1(2.0f), _mm256_add_ps(set1(1.0f), e)));
    return _mm256_mul_ps(_mm256_mul_ps(set1(0.5f), v), _mm256_add_ps(set1(1.0f), t));
}

static void gelu_tanh(float *x, size_t n)
{
    EACH8(x, n, v = tanh_gelu8(v));
}

static void axpy(float *y, float a, const float *x, int n)
{
    const v8 f = set1(a);
    int i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(f, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    if (i < n) {
        __m256i k = mask_of(n - i);

        _mm256_maskstore_ps(
            y + i, k,
            _mm256_fmadd_ps(f, _mm256_maskload_ps(x + i, k), _mm256_maskload_ps(y + i, k)));
    }
}

static float dot(const float *x, const float *y, int n)
{
    v8 s = set1(0);
    int i = 0;

    for (; i + 8 <= n; i += 8)
        s = _mm256_fmadd_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i), s);
    if (i < n) {
        __m256i k = mask_of(n - i);

        s = _mm256_fmadd_ps(_mm256_maskload_ps(x + i, k), _mm256_maskload_ps(y + i, k), s);
    }
    return sum8(s);
}

/* Rows i..i+R of A against rows j..j+2 of W. Each sum has one accumulator and the order of dot().
 */
#define GEMM_BLOCK(R)                                                                              \
    static inline void gemm_block_##R(int k, const float *a, int lda, const float *w, int ldw,     \
                                      int n2, float *c, int ldc, int accumulate)                   \
    {                                                                                              \
        const float *w1 = n2 ? w + ldw : w;                                                        \
        v8 s0[R], s1[R];                                                                           \
        int p = 0;                                                                                 \
        for (int i = 0; i < R; i++)                                                                \
            s0[i] = s1[i] = set1(0);                                                               \
        for (; p + 8 <= k; p += 8) {                                                               \
            v8 x0 = _mm256_loadu_ps(w + p), x1 = _mm256_loadu_ps(w1 + p);                          \
            for (int i = 0; i < R; i++) {                                                          \
                v8 y = _mm256_loadu_ps(a + (size_t)i * lda + p);                                   \
                s0[i] = _mm256_fmadd_ps(y, x0, s0[i]);                                             \
                s1[i] = _mm256_fmadd_ps(y, x1, s1[i]);                                             \
            }                                                                                      \
        }                                                                                          \
        if (p < k) {                                                                               \
            __m256i m = mask_of(k - p);                                                            \
            v8 x0 = _mm256_maskload_ps(w + p, m), x1 = _mm256_maskload_ps(w1 + p, m);              \
            for (int i = 0; i < R; i++) {                                                          \
                v8 y = _mm256_maskload_ps(a + (size_t)i * lda + p, m);                             \
                s0[i] = _mm256_fmadd_ps(y, x0, s0[i]);                                             \
                s1[i] = _mm256_fmadd_ps(y, x1, s1[i]);                                             \
            }                                                                                      \
        }                                                                                          \
        for (int i = 0; i < R; i++) {                                                              \
            float *out = c + (size_t)i * ldc;                                                      \
            out[0] = (accumulate ? out[0] : 0.0f) + sum8(s0[i]);                                   \
            if (n2)                                                                                \
                out[1] = (accumulate ? out[1] : 0.0f) + sum8(s1[i]);                               \
        }                                                                                          \
    }
GEMM_BLOCK(1)
GEMM_BLOCK(4)

static void gemm_nt(int m, int n, int k, const float *a, int lda, const float *w, int ldw, float *c,
                    int ldc, int accumulate)
{
    for (int j = 0; j < n; j += 2, w += 2 * (size_t)ldw) {
        const int n2 = j + 1 < n;
        int i = 0;

        for (; i + 4 <= m; i += 4)
            gemm_block_4(k, a + (size_t)i * lda, lda, w, ldw, n2, c + (size_t)i * ldc + j, ldc,
                         accumulate);
        for (; i < m; i++)
            gemm_block_1(k, a + (size_t)i * lda, lda, w, ldw, n2, c + (size_t)i * ldc + j, ldc,
                         accumulate);
    }
}

/* score_run for the lanes of one mask, or for all eight. */
static inline v8 score8(const float *s, const struct pcv_run *run, const float *u, v8 base, v8 usum,
                        int add, int i, __m256i m)
{
    v8 v = _mm256_fnmadd_ps(usum, _mm256_maskload_ps(run->mu + i, m), base);

    if (run->tab)
        v = _mm256_add_ps(v, _mm256_maskload_ps(run->tab + i, m));
    if (add)
        v = _mm256_add_ps(v, _mm256_maskload_ps(s + i, m));
    for (int j = 0; j < run->channels; j++)
        v = _mm256_fmadd_ps(set1(u[j]),
                            _mm256_maskload_ps(run->planes + (size_t)j * run->stride + i, m), v);
    return _mm256_mul_ps(v, _mm256_maskload_ps(run->r + i, m));
}

static float score_run(float *s, const struct pcv_run *run, const float *u, float usum, int add)
{
    const __m256i all = _mm256_set1_epi32(-1);
    const v8 base = set1(run->base), us = set1(usum);
    v8 most = set1(-INFINITY);
    int i = 0;

    for (; i + 8 <= run->n; i += 8) {
        v8 v = score8(s, run, u, base, us, add, i, all);

        _mm256_storeu_ps(s + i, v);
        most = _mm256_max_ps(most, v);
    }
    if (i < run->n) {
        const __m256i m = mask_of(run->n - i);
        v8 v = score8(s, run, u, base, us, add, i, m);

        _mm256_maskstore_ps(s + i, m, v);
        most = _mm256_max_ps(most, _mm256_blendv_ps(most, v, _mm256_castsi256_ps(m)));
    }
    return max8(most);
}

static void weigh_run(float *s, const struct pcv_run *run, float top, float *marg,
                      struct pcv_run_sums *sums)
{
    const v8 shift = set1(top);
    v8 se = set1(0), sb = set1(0), sbmu = set1(0);

    for (int i = 0; i < run->n; i += 8) {
        const __m256i m = mask_of(run->n - i);
        v8 e = exp8(_mm256_sub_ps(_mm256_maskload_ps(s + i, m), shift));
        v8 b;

        e = _mm256_and_ps(e, _mm256_castsi256_ps(m));
        b = _mm256_mul_ps(e, _mm256_maskload_ps(run->r + i, m));
        _mm256_maskstore_ps(s + i, m, b);
        se = _mm256_add_ps(se, e);
        sb = _mm256_add_ps(sb, b);
        sbmu = _mm256_fmadd_ps(b, _mm256_maskload_ps(run->mu + i, m), sbmu);
        if (marg)
            _mm256_maskstore_ps(marg + i, m, _mm256_add_ps(b, _mm256_maskload_ps(marg + i, m)));
    }
    sums->e += sum8(se);
    sums->b += sum8(sb);
    sums->bmu += sum8(sbmu);
}

const struct pcv_kernels pcv_kernels_avx2 = {
    .name = "avx2",
    .norm = norm,
    .softmax = softmax,
    .exp_sum = exp_sum,
    .max = max,
    .gelu_erf = gelu_erf,
    .gelu_tanh = gelu_tanh,
    .axpy = axpy,
    .scale = scale,
    .dot = dot,
    .gemm_nt = gemm_nt,
    .score_run = score_run,
    .weigh_run = weigh_run,
};

#endif
