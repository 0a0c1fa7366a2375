/* check.h - what the engine's unit tests share: comparing arrays, reproducible numbers, errors.
 *
 * Include after the headers under test; it brings cmocka. */
#ifndef CHECK_H
#define CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEN(a) (sizeof(a) / sizeof(*(a)))

/* got[0..n) is within `tolerance` of want; prints the first element that is not. NaN never is. */
#define CHECK_NEAR(got, want, n, tolerance)                                                        \
    check_near(__FILE__, __LINE__, #got, got, want, n, tolerance)
static inline void check_near(const char *file, int line, const char *what, const float *got,
                              const float *want, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance))
            fail_msg("%s:%d: %s[%zu] of %zu is %.9g, want %.9g within %.3g", file, line, what, i, n,
                     got[i], want[i], tolerance);
}

/* The same numbers, bit for bit. */
#define CHECK_BITS(got, want, n) check_bits(__FILE__, __LINE__, #got, got, want, n)
static inline void check_bits(const char *file, int line, const char *what, const float *got,
                              const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof(*got)) != 0)
            fail_msg("%s:%d: %s[%zu] of %zu is %a, want the very same as %a", file, line, what, i,
                     n, got[i], want[i]);
}

/* One number, with words for the case it belongs to. */
#define CHECK_ONE(got, want, tolerance, ...)                                                       \
    do {                                                                                           \
        const double got_ = (got), want_ = (want), tol_ = (tolerance);                             \
                                                                                                   \
        if (!(fabs(got_ - want_) <= tol_)) {                                                       \
            char case_[160];                                                                       \
                                                                                                   \
            snprintf(case_, sizeof(case_), __VA_ARGS__);                                           \
            fail_msg("%s: %s is %.9g, want %.9g within %.3g", case_, #got, got_, want_, tol_);     \
        }                                                                                          \
    } while (0)

/* The call went well. */
#define CHECK_OK(call, err)                                                                        \
    do {                                                                                           \
        const int r_ = (call);                                                                     \
                                                                                                   \
        if (r_ != 0)                                                                               \
            fail_msg("%s:%d: %s failed with %s at \"%s\": %s", __FILE__, __LINE__, #call,          \
                     pcv_code_name(r_), (err).where, (err).msg);                                   \
    } while (0)

/* The call failed with this code; place and message hold these words. */
#define CHECK_FAILS(call, err, want_code, in_where, in_msg)                                        \
    do {                                                                                           \
        const int r_ = (call);                                                                     \
                                                                                                   \
        if (r_ != (want_code) || (err).code != (want_code) || !strstr((err).where, in_where) ||    \
            !strstr((err).msg, in_msg))                                                            \
            fail_msg("%s:%d: %s gave %s at \"%s\": %s; want %s at \"%s\": %s", __FILE__, __LINE__, \
                     #call, pcv_code_name(r_), (err).where, (err).msg, pcv_code_name(want_code),   \
                     in_where, in_msg);                                                            \
    } while (0)

/* Reproducible numbers: a state is a seed. */
static inline uint64_t random_u64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* In [0, n). */
static inline int random_int(uint64_t *state, int n)
{
    return (int)(random_u64(state) % (uint64_t)n);
}

/* n numbers around `middle`, at most `spread` away. */
static inline void random_fill(uint64_t *state, float *x, size_t n, float middle, float spread)
{
    for (size_t i = 0; i < n; i++)
        x[i] = middle + spread * ((float)(random_u64(state) >> 40) * 0x1p-23f - 1.0f);
}

/* n such numbers. own: free */
static inline float *random_new(uint64_t *state, size_t n, float middle, float spread)
{
    float *x = malloc((n ? n : 1) * sizeof(*x));

    assert_non_null(x);
    random_fill(state, x, n, middle, spread);
    return x;
}

/* The largest absolute value. */
static inline double largest(const float *x, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

#endif
