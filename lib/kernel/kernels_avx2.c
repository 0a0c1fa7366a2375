/* kernels_avx2.c - eight floats at a time; built with -mavx2 -mfma, called only where they exist.
 *
 * Tails are handled with masked loads, so that the lane an element falls into depends on its
 * index alone: that keeps every kernel row-stable. */
#include "lib/kernel/kernels.h"

#if defined(__x86_64__)

#include "lib/kernel/math_avx2.h"

/* First n (0..8) lanes set. */
static inline __m256i mask_of(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
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
        for (int j = 0; j < whole; j += 8) { /* masked stores are slow */
            v8 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + j), mean), r);

            if (gamma)
                v = _mm256_fmadd_ps(v, _mm256_loadu_ps(gamma + j), _mm256_loadu_ps(beta + j));
            _mm256_storeu_ps(y + j, v);
        }
        if (whole < cols) {
            v8 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + whole, tail), mean), r);

            if (gamma)
                v = _mm256_fmadd_ps(v, _mm256_maskload_ps(gamma + whole, tail),
                                    _mm256_maskload_ps(beta + whole, tail));
            _mm256_maskstore_ps(y + whole, tail, v);
        }
    }
}

/* Four tokens' sums, from token i on. */
static inline void stat_sums(const struct pcv_stat_run *run, int i, __m256d *sum, __m256d *squares)
{
    const float *x = run->x + i;

    *sum = _mm256_set1_pd(run->sum);
    *squares = _mm256_set1_pd(run->squares);
    if (run->row_sum) {
        *sum = _mm256_add_pd(*sum, _mm256_loadu_pd(run->row_sum + i));
        *squares = _mm256_add_pd(*squares, _mm256_loadu_pd(run->row_squares + i));
    }
    for (int j = 0; j < run->planes; j++, x += run->x_step) {
        const __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x));

        *sum = _mm256_add_pd(*sum, v);
        *squares = _mm256_fmadd_pd(v, v, *squares);
    }
}

/* Four tokens' variances, in single precision; sum becomes the mean. */
static inline __m128 stat_variance(__m256d *sum, __m256d squares, __m256d share)
{
    const __m256d mean = _mm256_mul_pd(*sum, share);

    *sum = mean;
    squares = _mm256_fnmadd_pd(mean, mean, _mm256_mul_pd(squares, share));
    return _mm256_cvtpd_ps(_mm256_max_pd(squares, _mm256_setzero_pd()));
}

/* One token, as a lane has it: the same operations. */
static void token_stat(float *mean, float *r, const struct pcv_stat_run *run, int i)
{
    const double share = 1.0 / run->channels;
    double sum = run->sum, squares = run->squares, mu;

    if (run->row_sum) {
        sum += run->row_sum[i];
        squares += run->row_squares[i];
    }
    for (int j = 0; j < run->planes; j++) {
        const double x = run->x[(size_t)j * run->x_step + (size_t)i];

        sum += x;
        squares = fma(x, x, squares);
    }
    mu = sum * share;
    mean[i] = (float)mu;
    squares = fma(-mu, mu, squares * share);
    r[i] = 1 / sqrtf((float)(squares > 0 ? squares : 0) + run->eps);
}

static void token_stats(float *mean, float *r, const struct pcv_stat_run *of)
{
    const struct pcv_stat_run run = *of; /* nothing that is written lies in it */
    const __m256d share = _mm256_set1_pd(1.0 / run.channels);

    if (run.n < 8)
        for (int i = 0; i < run.n; i++)
            token_stat(mean, r, &run, i);
    for (int i = 0; i < run.n && run.n >= 8; i += 8) {
        const int at = i + 8 <= run.n ? i : run.n - 8; /* the last eight overlap */
        __m256d sum[2], squares[2];
        v8 var;

        stat_sums(&run, at, &sum[0], &squares[0]);
        stat_sums(&run, at + 4, &sum[1], &squares[1]);
        var = _mm256_setr_m128(stat_variance(&sum[0], squares[0], share),
                               stat_variance(&sum[1], squares[1], share));
        _mm256_storeu_ps(mean + at,
                         _mm256_setr_m128(_mm256_cvtpd_ps(sum[0]), _mm256_cvtpd_ps(sum[1])));
        _mm256_storeu_ps(r + at,
                         _mm256_div_ps(set1(1), _mm256_sqrt_ps(_mm256_add_ps(var, set1(run.eps)))));
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

#define TABLE(isa, panels)                                                                         \
    {                                                                                              \
        .name = isa, .panel = panels, .norm = norm, .token_stats = token_stats,                    \
        .softmax = softmax, .exp_sum = exp_sum, .max = max, .axpy = axpy, .scale = scale,          \
        .dot = dot,                                                                                \
    }

const struct pcv_kernels pcv_kernels_avx2 = TABLE("avx2", &pcv_panel_avx2);
const struct pcv_kernels pcv_kernels_avx512 = TABLE("avx512", &pcv_panel_avx512);

#endif
