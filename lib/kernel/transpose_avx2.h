/* transpose_avx2.h - rows into panels and back, eight by eight. */
#ifndef PCV_KERNEL_TRANSPOSE_AVX2_H
#define PCV_KERNEL_TRANSPOSE_AVX2_H

#include "lib/kernel/math_avx2.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Without it the eight rows would live in memory. */
#define EIGHT _Pragma("GCC unroll 8")

static inline __attribute__((always_inline)) void transpose8(v8 r[8])
{
    v8 t[8], u[8];

    EIGHT
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    EIGHT
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    EIGHT
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

/* Row-major x [rows, n] into one panel; lanes beyond the rows become 0. */
static inline void pack_lanes(float *panel, int lanes, const float *x, size_t ldx, int rows, int n)
{
    for (int i = 0; i < lanes; i += 8) {
        const int have = rows - i;
        int c = 0;

        for (; c + 8 <= n; c += 8) {
            v8 r[8];

            EIGHT
            for (int j = 0; j < 8; j++)
                r[j] = j < have ? _mm256_loadu_ps(x + (size_t)(i + j) * ldx + c) : set1(0);
            if (have > 0)
                transpose8(r);
            EIGHT
            for (int j = 0; j < 8; j++)
                _mm256_storeu_ps(panel + (size_t)(c + j) * (size_t)lanes + i, r[j]);
        }
        for (; c < n; c++)
            for (int j = 0; j < 8; j++)
                panel[(size_t)c * (size_t)lanes + i + j] =
                    j < have ? x[(size_t)(i + j) * ldx + c] : 0;
    }
}

/* Back; `lanes` are the floats from channel to channel. */
static inline void unpack_lanes(float *x, size_t ldx, const float *panel, int64_t lanes, int rows,
                                int n, bool add)
{
    for (int i = 0; i < rows; i += 8) {
        int c = 0;

        for (; i + 8 <= rows && c + 8 <= n; c += 8) {
            v8 r[8];

            EIGHT
            for (int j = 0; j < 8; j++)
                r[j] = _mm256_loadu_ps(panel + (size_t)(c + j) * (size_t)lanes + i);
            transpose8(r);
            EIGHT
            for (int j = 0; j < 8; j++) {
                float *at = x + (size_t)(i + j) * ldx + c;

                _mm256_storeu_ps(at, add ? _mm256_add_ps(_mm256_loadu_ps(at), r[j]) : r[j]);
            }
        }
        for (; c < n; c++)
            for (int j = i; j < i + 8 && j < rows; j++) {
                float *at = x + (size_t)j * ldx + c;

                *at = (add ? *at : 0) + panel[(size_t)c * (size_t)lanes + j];
            }
    }
}

/* to[c] += sum of s[i] x[c step + i] over i < n, one after the other: 8 B channels, B <= 4. They
 * are lanes once x is turned round, and so no sum crosses lanes. */
static inline __attribute__((always_inline)) void
turned_sums(float *to, const float *s, const float *x, int step, int n, const int B)
{
    v8 sum[4];
    int i = 0;

    EIGHT
    for (int b = 0; b < B; b++)
        sum[b] = _mm256_loadu_ps(to + (size_t)8 * b);
    for (; i + 8 <= n; i += 8)
        EIGHT
    for (int b = 0; b < B; b++) {
        v8 r[8];

        EIGHT
        for (int j = 0; j < 8; j++)
            r[j] = _mm256_loadu_ps(x + (size_t)(8 * b + j) * (size_t)step + i);
        transpose8(r);
        EIGHT
        for (int j = 0; j < 8; j++)
            sum[b] = _mm256_fmadd_ps(r[j], set1(s[i + j]), sum[b]);
    }
    EIGHT
    for (int b = 0; b < B; b++)
        _mm256_storeu_ps(to + (size_t)8 * b, sum[b]);
    for (; i < n; i++)
        for (int c = 0; c < 8 * B; c++)
            to[c] = fmaf(x[(size_t)c * (size_t)step + (size_t)i], s[i], to[c]);
}

#endif
