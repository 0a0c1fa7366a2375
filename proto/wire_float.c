/* wire_float.c - the shortest decimal that reads back as a given float.
 *
 * Digits are found in double arithmetic: v x 10^p rounded to a whole number d, with 6 digits, then
 * 7, 8, 9. For |p| <= 22 the power is exact, so d / 10^p (or d x 10^-p) is the correctly rounded
 * double of the decimal, and rounding it to float again shows whether the digits suffice. Only a
 * double that is exactly between two floats could hide a decimal beside it; such digits are not
 * taken. Any decimal of up to 6 digits survives in a float, so 6 without trailing zeros are the
 * fewest. */
#include "proto/wire_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double pow10[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Exactly between two floats: of the 29 bits a float lacks, only the first is set. */
static bool between_floats(double d)
{
    uint64_t bits;

    memcpy(&bits, &d, 8);
    return (bits & 0x1fffffff) == 0x10000000;
}

/* floor(log10(v)) for normal v of 1e-13..1e21. */
static int decade(double v)
{
    int exp2, guess;

    frexp(v, &exp2);
    guess = (int)floor((exp2 - 1) * 0.30102999566398120);
    if (guess >= 0)
        return guess < 22 && v >= pow10[guess + 1] ? guess + 1 : guess;
    return v * pow10[-guess - 1] >= 1 ? guess + 1 : guess;
}

/* v = *d x 10^*exp10 with few digits, for the same v, of which |p| <= 22 follows; false when none
 * of the candidates is v for certain. */
static bool by_doubles(float v, uint64_t *d, int *exp10)
{
    int ten = decade(v);

    for (int n = 6; n <= 9; n++) {
        int p = n - 1 - ten;
        double whole, back;

        whole = rint(p >= 0 ? v * pow10[p] : v / pow10[-p]);
        back = p >= 0 ? whole / pow10[p] : whole * pow10[-p];
        if ((float)back == v && !between_floats(back)) {
            *d = (uint64_t)whole;
            *exp10 = -p;
            return true;
        }
    }
    return false;
}

/* The same for any finite v, slower; 9 digits always suffice. */
static void by_printf(float v, uint64_t *d, int *exp10)
{
    for (int n = 1; n <= 9; n++) {
        char text[32];
        const char *e;

        snprintf(text, sizeof(text), "%.*e", n - 1, (double)v);
        *d = 0;
        for (e = text; *e != 'e'; e++)
            if (*e >= '0' && *e <= '9') /* the point is whatever the locale has */
                *d = *d * 10 + (uint64_t)(*e - '0');
        *exp10 = (int)strtol(e + 1, NULL, 10) - (n - 1);
        snprintf(text, sizeof(text), "%llue%d", (unsigned long long)*d, *exp10);
        if (strtof(text, NULL) == v) /* no point in it, so the locale plays no part */
            return;
    }
}

/* digits[0..n) x 10^exp10 as 123.0, 1.5, 0.015 or 1.5e-7. Returns the length. */
static size_t layout(const char *digits, int n, int exp10, char *out)
{
    char *p = out;
    int point = n + exp10; /* digits before the point */

    if (point < -4 || point > 16) {
        *p++ = digits[0];
        if (n > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)n - 1);
            p += n - 1;
        }
        p += sprintf(p, "e%d", point - 1);
    } else if (point <= 0) {
        p += sprintf(p, "0.%.*s", -point, "0000");
        memcpy(p, digits, (size_t)n);
        p += n;
    } else {
        for (int i = 0; i < point || i < n; i++) {
            if (i == point)
                *p++ = '.';
            *p++ = i < n ? digits[i] : '0';
        }
        if (n <= point) {
            memcpy(p, ".0", 2);
            p += 2;
        }
    }
    return (size_t)(p - out);
}

size_t wire_f32_text(float v, char *out)
{
    char digits[20], *first = digits + sizeof(digits);
    size_t sign = signbit(v) != 0;
    uint64_t d;
    int exp10;

    if (sign)
        *out++ = '-';
    v = fabsf(v);
    if (v == 0) {
        memcpy(out, "0.0", 3);
        return sign + 3;
    }
    if (!(v >= 1e-13f && v < 1e21f && by_doubles(v, &d, &exp10)))
        by_printf(v, &d, &exp10);
    for (; d % 10 == 0; d /= 10)
        exp10++;
    do
        *--first = (char)('0' + d % 10);
    while (d /= 10);
    return sign + layout(first, (int)(digits + sizeof(digits) - first), exp10, out);
}
