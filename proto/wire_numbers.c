#include "proto/wire_numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXP_CLIP = 100000 };

/* ---- one number ------------------------------------------------------------------------------ */

static bool digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

/* The value of the eight digits at p, the first of which is the least significant byte: pairs,
 * then fours, then all are joined by one multiplication each. False when not all are digits. */
static bool eight_digits(const char *p, uint64_t *v)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t x;

    memcpy(&x, p, 8);
    x ^= '0' * ones;
    if ((x | (x + 6 * ones)) & 0xf0 * ones) /* what is no digit is above 9 now */
        return false;
    x = (x * (1 + (10 << 8))) >> 8 & 0x00ff00ff00ff00ff;
    x = (x * (1 + (100 << 16))) >> 16 & 0x0000ffff0000ffff;
    *v = (x * (1 + (10000ull << 32))) >> 32;
    return true;
}

/* Takes digits into n as long as they fit 64 bits, and counts those that do not. */
static int64_t take_digits(const char **at, const char *end, struct wire_number *n, bool *full)
{
    const uint64_t tenth = UINT64_MAX / 10, last = UINT64_MAX % 10, eight = 100000000;
    uint64_t mantissa = n->mantissa, more;
    const char *p = *at;
    int64_t beyond = 0;

    while (end - p >= 8 && mantissa < UINT64_MAX / eight && eight_digits(p, &more)) {
        mantissa = mantissa * eight + more;
        p += 8;
    }
    for (; digit(p, end); p++) {
        unsigned d = (unsigned)(*p - '0');

        *full |= mantissa > tenth || (mantissa == tenth && d > last);
        if (*full) {
            n->dropped |= d != 0;
            beyond++;
        } else {
            mantissa = mantissa * 10 + d;
        }
    }
    n->mantissa = mantissa;
    *at = p;
    return beyond;
}

/* The exponent behind e or E; false when there are no digits. */
static bool take_exponent(const char **p, const char *end, int64_t *exp10)
{
    bool negative = false;
    int64_t v = 0;

    if (*p < end && (**p == '+' || **p == '-'))
        negative = *(*p)++ == '-';
    if (!digit(*p, end))
        return false;
    for (; digit(*p, end); ++*p)
        if (v < 1000000000)
            v = v * 10 + (**p - '0');
    *exp10 += negative ? -v : v;
    return true;
}

bool wire_number_lex(const char *p, const char *end, struct wire_number *n)
{
    bool full = false;
    int64_t exp10 = 0;

    *n = (struct wire_number){.begin = p, .whole = true};
    if (p < end && *p == '-') {
        n->negative = true;
        p++;
    }
    if (!digit(p, end))
        return false;
    if (*p == '0')
        p++;
    else
        exp10 = take_digits(&p, end, n, &full);
    if (p < end && *p == '.') {
        const char *from = ++p;

        exp10 += take_digits(&p, end, n, &full);
        if (p == from)
            return false;
        exp10 -= p - from;
        n->whole = false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        n->whole = false;
        if (!take_exponent(&p, end, &exp10))
            return false;
    }
    n->exp10 = exp10 > EXP_CLIP ? EXP_CLIP : exp10 < -EXP_CLIP ? -EXP_CLIP : (int)exp10;
    n->end = p;
    return true;
}

/* 2^e, for exponents of normal doubles. */
static double power2(int e)
{
    uint64_t bits = (uint64_t)(e + 1023) << 52;
    double d;

    memcpy(&d, &bits, 8);
    return d;
}

static const uint64_t pow5[28] = {1,
                                  5,
                                  25,
                                  125,
                                  625,
                                  3125,
                                  15625,
                                  78125,
                                  390625,
                                  1953125,
                                  9765625,
                                  48828125,
                                  244140625,
                                  1220703125,
                                  6103515625,
                                  30517578125,
                                  152587890625,
                                  762939453125,
                                  3814697265625,
                                  19073486328125,
                                  95367431640625,
                                  476837158203125,
                                  2384185791015625,
                                  11920928955078125,
                                  59604644775390625,
                                  298023223876953125,
                                  1490116119384765625,
                                  7450580596923828125};

/* mantissa x 10^q in integers, correctly rounded: 10^q = 5^q 2^q, and 5^27 still has 63 bits. */
static double scaled(uint64_t mantissa, int q)
{
    int left = __builtin_clzll(mantissa), e;
    unsigned __int128 wide;
    uint64_t top;

    mantissa <<= left;
    if (q < 0) { /* divide; the quotient has 63 or 64 bits, its last one stands for the remainder */
        uint64_t five = pow5[-q];
        int by = __builtin_clzll(five);

        five <<= by;
        wide = (unsigned __int128)mantissa << 63;
        top = (uint64_t)(wide / five);
        top |= wide % five != 0;
        e = by - left - 63 + q;
    } else { /* multiply; keep the upper 64 of 128 bits, the last one stands for the lower half */
        wide = (unsigned __int128)mantissa * pow5[q];
        e = q - left;
        if (wide >> 64) {
            int by = __builtin_clzll((uint64_t)(wide >> 64));

            wide <<= by;
            top = (uint64_t)(wide >> 64) | ((uint64_t)wide != 0);
            e += 64 - by;
        } else {
            top = (uint64_t)wide;
        }
    }
    return (double)top * power2(e);
}

/* For what is too long or too far from 1 for the ways above: strtod of all digits as a whole
 * number, so that no decimal point is in it and the locale plays no part. 768 digits decide any
 * rounding; what comes behind them is as good as a 1. */
static double by_strtod(const struct wire_number *n)
{
    enum { DIGITS = 780 };
    char text[DIGITS + 16];
    int k = 0, exp10 = n->exp10;
    bool more = false;

    for (uint64_t m = n->mantissa; m; m /= 10)
        exp10++;
    for (const char *p = n->begin; p < n->end && *p != 'e' && *p != 'E'; p++) {
        if (*p < '0' || *p > '9' || (k == 0 && *p == '0'))
            continue;
        if (k < DIGITS)
            text[k++] = *p;
        else
            more |= *p != '0';
    }
    if (more)
        text[k++] = '1';
    snprintf(text + k, sizeof(text) - (size_t)k, "e%d", exp10 - k);
    return strtod(text, NULL);
}

double wire_number_f64(const struct wire_number *n)
{
    static const double pow10[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double v;

    if (n->mantissa == 0)
        v = 0;
    else if (n->dropped || n->exp10 < -27 || n->exp10 > 27)
        v = by_strtod(n);
    else if (n->mantissa >= 1ull << 53 || n->exp10 < -22 || n->exp10 > 22)
        v = scaled(n->mantissa, n->exp10);
    else
        v = n->exp10 < 0 ? (double)n->mantissa / pow10[-n->exp10]
                         : (double)n->mantissa * pow10[n->exp10];
    return n->negative ? -v : v;
}

bool wire_number_i64(const struct wire_number *n, int64_t *v)
{
    uint64_t limit = n->negative ? 1ull << 63 : INT64_MAX;

    if (!n->whole || n->dropped || n->exp10 != 0 || n->mantissa > limit)
        return false;
    *v = n->negative ? (int64_t)(0 - n->mantissa) : (int64_t)n->mantissa;
    return true;
}

bool wire_number_u64(const struct wire_number *n, uint64_t *v)
{
    if (!n->whole || n->dropped || n->exp10 != 0 || (n->negative && n->mantissa))
        return false;
    *v = n->mantissa;
    return true;
}

/* ---- arrays ---------------------------------------------------------------------------------- */

static const struct {
    int64_t min, max;
} ranges[PCV_DTYPES] = {
    [PCV_BOOL] = {0, 1},
    [PCV_U8] = {0, UINT8_MAX},
    [PCV_I8] = {INT8_MIN, INT8_MAX},
    [PCV_U16] = {0, UINT16_MAX},
    [PCV_I16] = {INT16_MIN, INT16_MAX},
    [PCV_U32] = {0, UINT32_MAX},
    [PCV_I32] = {INT32_MIN, INT32_MAX},
    [PCV_I64] = {INT64_MIN, INT64_MAX},
};

static int out_of_range(const struct wire_reader *rd, const struct wire_number *n, const char *what)
{
    return wire_read_fail(rd, PCV_ERANGE, "%.*s %s",
                          (int)(n->end - n->begin < 40 ? n->end - n->begin : 40), n->begin, what);
}

/* One whole number into out[i]. */
static int put_whole(const struct wire_reader *rd, const struct wire_number *n, enum pcv_dtype t,
                     void *out, int64_t i)
{
    int64_t v;

    if (!n->whole)
        return wire_read_fail(rd, PCV_EFORMAT, "%.*s where a whole number is expected",
                              (int)(n->end - n->begin < 40 ? n->end - n->begin : 40), n->begin);
    if (t == PCV_U64)
        return wire_number_u64(n, (uint64_t *)out + i) ? 0
                                                       : out_of_range(rd, n, "does not fit U64");
    if (!wire_number_i64(n, &v) || v < ranges[t].min || v > ranges[t].max)
        return out_of_range(rd, n,
                            t == PCV_BOOL ? "is neither 0 nor 1" : "does not fit its datatype");
    switch (pcv_dtype_size(t)) {
    case 1: ((uint8_t *)out)[i] = (uint8_t)v; break;
    case 2: ((uint16_t *)out)[i] = (uint16_t)v; break;
    case 4: ((uint32_t *)out)[i] = (uint32_t)v; break;
    default: ((int64_t *)out)[i] = v; break;
    }
    return 0;
}

/* One element into out[i], or nowhere when i is beyond room. */
static int put_element(struct wire_reader *rd, enum pcv_dtype t, void *out, int64_t i, int64_t room)
{
    uint64_t nowhere;
    struct wire_number n;
    double v;

    if (i >= room) {
        out = &nowhere;
        i = 0;
    }
    if (t == PCV_BOOL && (*rd->p == 't' || *rd->p == 'f')) {
        bool b;
        int r = wire_read_bool(rd, &b);

        ((uint8_t *)out)[i] = r == 0 && b;
        return r;
    }
    if (!wire_number_lex(rd->p, rd->end, &n))
        return wire_read_syntax(rd, t == PCV_BOOL ? "true, false, 0 or 1" : "a number");
    rd->p = n.end;
    if (n.end == rd->end)
        return wire_read_syntax(rd, "',' or ']'");
    if (t != PCV_F32 && t != PCV_F64)
        return put_whole(rd, &n, t, out, i);
    v = wire_number_f64(&n);
    if (t == PCV_F64)
        ((double *)out)[i] = v;
    else
        v = ((float *)out)[i] = (float)v;
    return isfinite(v) ? 0 : out_of_range(rd, &n, "does not fit its datatype");
}

/* Rows so far: how long those of each depth are, and at which depth the numbers stand. */
struct rows {
    int64_t length[WIRE_MAX_DEPTH + 2]; /* -1: none ended yet */
    int leaf;                           /* 0: no number seen */
};

/* The array at rd->depth ends after n members; is it as long as its like? */
static int row_ends(struct wire_reader *rd, struct rows *rows, int64_t n)
{
    int64_t *length = &rows->length[rd->depth];

    if (*length >= 0 && *length != n)
        return wire_read_fail(rd, PCV_ESHAPE, "a row of %lld where the one before has %lld",
                              (long long)n, (long long)*length);
    *length = n;
    return 0;
}

/* Between two members: passes over closing brackets and one comma. 1 when a member follows, 0 when
 * the outermost array has ended. */
static int after_member(struct wire_reader *rd, struct rows *rows, int base)
{
    for (;;) {
        int r;

        wire_read_space(rd);
        if (rd->p == rd->end || (*rd->p != ',' && *rd->p != ']'))
            return wire_read_syntax(rd, "',' or ']'");
        if (*rd->p++ == ',') {
            rd->at[rd->depth - 1].n++;
            wire_read_space(rd);
            return 1;
        }
        if ((r = row_ends(rd, rows, rd->at[rd->depth - 1].n)) < 0)
            return r;
        if (--rd->depth == base)
            return 0;
    }
}

/* Opens the arrays that begin here: 1 when a number follows, 0 when one of them was empty (and is
 * left). */
static int open_rows(struct wire_reader *rd, struct rows *rows)
{
    while (rd->p < rd->end && *rd->p == '[') {
        int r;

        if (rows->leaf && rd->depth >= rows->leaf)
            return wire_read_fail(rd, PCV_ESHAPE, "an array where the rows before hold numbers");
        if ((r = wire_read_open(rd, '[', "an array")) < 0)
            return r;
        wire_read_space(rd);
        if (rd->p < rd->end && *rd->p == ']') {
            r = row_ends(rd, rows, 0);
            rd->p++;
            rd->depth--;
            return r;
        }
        rd->at[rd->depth - 1].n = 1;
    }
    return 1;
}

int wire_read_numbers(struct wire_reader *rd, enum pcv_dtype t, void *out, int64_t room, int64_t *n)
{
    const int base = rd->depth;
    struct rows rows = {.leaf = 0};
    int64_t i = 0;
    int r;

    if (t == PCV_F16 || t == PCV_BF16)
        return wire_read_fail(rd, PCV_EFORMAT, "%s cannot travel in JSON", pcv_dtype_name(t));
    memset(rows.length, -1, sizeof(rows.length));
    if (wire_read_peek(rd) != '[')
        return wire_read_syntax(rd, "an array of numbers");
    do {
        if ((r = open_rows(rd, &rows)) < 0)
            return r;
        if (r) {
            bool ragged = (rows.leaf && rd->depth != rows.leaf) || rows.length[rd->depth + 1] >= 0;

            if (ragged && wire_read_peek(rd))
                return wire_read_fail(rd, PCV_ESHAPE, "a number where the rows before are arrays");
            rows.leaf = rd->depth;
            if ((r = put_element(rd, t, out, i, room)) < 0)
                return r;
            i++;
        }
        r = rd->depth > base ? after_member(rd, &rows, base) : 0;
    } while (r > 0);
    if (r == 0)
        *n = i;
    return r;
}
