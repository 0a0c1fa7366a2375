/* The functions of eight floats against libm in double precision, over all of their range, within
 * the bounds that math_avx2.h states. */
#if defined(__x86_64__)

#include "lib/kernel/math_avx2.h"

#include "lib/base/cpu.h"
#include "tests/unit/check.h"

#include <float.h>

enum {
    STRIDE = 251
}; /* every so many floats of a range; prime to eight lanes and to powers of 2 */

typedef v8 function(v8 x);

static double gelu_erf(double x)
{
    return x * 0.5 * erfc(-x * M_SQRT1_2);
}

static double gelu_tanh(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* The distance of floats at y. */
static double ulp(double x, double y)
{
    int e;

    (void)x;
    frexp(y, &e);
    return ldexp(1, (e > FLT_MIN_EXP ? e : FLT_MIN_EXP) - FLT_MANT_DIG);
}

/* Where 1 + erf or 1 + tanh cancels: half the distance at 1, times what it is multiplied by; beyond
 * -6 nothing is left to be wrong. */
static double cancelled(double x, double y)
{
    (void)y;
    return 0x1p-24 * fmin(-x, 6);
}

static uint32_t bits_of(float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    return b;
}

/* f in [from, to], of one sign and growing away from 0, is within `bound` units of want. */
static void sweep(const char *name, function *f, double (*want)(double), float from, float to,
                  double bound, double (*unit)(double x, double y))
{
    for (uint64_t bits = bits_of(from), end = bits_of(to); bits <= end; bits += 8 * STRIDE) {
        v8 x, y;

        for (uint64_t i = 0; i < 8; i++) {
            const uint32_t at = (uint32_t)(bits + i * STRIDE < end ? bits + i * STRIDE : end);

            memcpy((char *)&x + i * sizeof(at), &at, sizeof(at));
        }
        y = f(x);
        for (int i = 0; i < 8; i++) {
            const double exact = want(x[i]);

            CHECK_ONE(y[i], exact, bound * unit(x[i], exact), "%s of %a", name, x[i]);
        }
    }
}

static void need_avx2(void)
{
    if (!pcv_cpu_detect().avx2_fma)
        skip();
}

static void exp_is_within_its_bound(void **state)
{
    (void)state;
    need_avx2();
    sweep("exp", exp8, exp, 0, 88.72283f, 1.06, ulp);
    sweep("exp", exp8, exp, -0.0f, -87.33654f, 1.06, ulp);
}

/* The first of three vectors: the others are other numbers. */
static v8 exp2_first(v8 x)
{
    v8 v[] = {x, _mm256_sub_ps(x, set1(1)), set1(-3)};

    exp2_avx2(v, 3);
    return v[0];
}

static void exp2_is_within_its_bound(void **state)
{
    (void)state;
    need_avx2();
    sweep("exp2", exp2_first, exp2, -0.0f, -125.5f, 1.35, ulp);
    sweep("exp2", exp2_first, exp2, 0, 127, 1.35, ulp);
}

/* The second of three vectors. */
static v8 erf_gelu_second(v8 x)
{
    v8 v[] = {set1(-3), x, _mm256_sub_ps(x, set1(1))};

    erf_gelu_avx2(v, 3);
    return v[1];
}

static v8 tanh_gelu_second(v8 x)
{
    v8 v[] = {set1(-3), x, _mm256_sub_ps(x, set1(1))};

    tanh_gelu_avx2(v, 3);
    return v[1];
}

static void gelus_are_within_their_bounds(void **state)
{
    (void)state;
    need_avx2();
    sweep("gelu_erf", erf_gelu_second, gelu_erf, 4 * FLT_MIN, FLT_MAX, 1.54, ulp);
    sweep("gelu_erf", erf_gelu_second, gelu_erf, -4 * FLT_MIN, -FLT_MAX, 1.15, cancelled);
    sweep("gelu_tanh", tanh_gelu_second, gelu_tanh, 4 * FLT_MIN, FLT_MAX, 1.86, ulp);
    sweep("gelu_tanh", tanh_gelu_second, gelu_tanh, -4 * FLT_MIN, -FLT_MAX, 1.34, cancelled);
}

/* f of one number, the same in all lanes. */
static float of(function *f, float x)
{
    const v8 y = f(set1(x));

    for (int i = 1; i < 8; i++)
        assert_memory_equal((const char *)&y + i * sizeof(x), &y, sizeof(x));
    return y[0];
}

static void ends_are_what_they_should_be(void **state)
{
    (void)state;
    need_avx2();
    assert_true(of(exp2_first, 0) == 1 && of(exp2_first, -0.0f) == 1);
    for (int k = -126; k <= 127; k++)
        assert_true(of(exp2_first, (float)k) == ldexpf(1, k));
    for (int i = 0; i < 1500; i++) {
        const float x = -125.5f - 0.001f * (float)i;

        assert_true(fabs(of(exp2_first, x) - exp2(x)) < 0x1p-126);
    }
    assert_true(of(exp2_first, -127) == 0);
    assert_true(of(exp2_first, -FLT_MAX) == 0 && of(exp2_first, -INFINITY) == 0);
    assert_true(of(exp8, -87.4f) == 0 && of(exp8, -FLT_MAX) == 0 && of(exp8, -INFINITY) == 0);
    assert_true(of(exp8, INFINITY) > 3e38f);
    assert_true(of(erf_gelu_second, INFINITY) == INFINITY && of(erf_gelu_second, -FLT_MAX) == 0);
    assert_true(isnan(of(exp2_first, NAN)) && isnan(of(exp8, NAN)));
    assert_true(isnan(of(erf_gelu_second, NAN)) && isnan(of(tanh_gelu_second, NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_bound),
        cmocka_unit_test(exp2_is_within_its_bound),
        cmocka_unit_test(gelus_are_within_their_bounds),
        cmocka_unit_test(ends_are_what_they_should_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void)
{
    return 0;
}
#endif
