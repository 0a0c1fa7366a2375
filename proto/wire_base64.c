#include "proto/wire_base64.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

/* Value of a character plus 1, so that all others are 0. */
static const uint8_t value1[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

size_t wire_base64_room(size_t len)
{
    return len / 4 * 3 + 3;
}

/* Says what is wrong with the first bad character of in[0..len); there is one. */
static int bad_character(const char *in, size_t len, struct pcv_err *e)
{
    size_t i = 0;
    unsigned char c;

    while (i < len && value1[(unsigned char)in[i]])
        i++;
    c = i < len ? (unsigned char)in[i] : 0;
    if (len >= 5 && strncasecmp(in, "data:", 5) == 0)
        return pcv_fail(e, PCV_EFORMAT, "a data: URL; send only the base64 behind its comma");
    if (c == '-' || c == '_')
        return pcv_fail(e, PCV_EFORMAT,
                        "'%c' at character %zu: the URL-safe alphabet is not base64 here", c, i);
    if (c == '=')
        return pcv_fail(e, PCV_EFORMAT, "padding at character %zu, before the end", i);
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t')
        return pcv_fail(e, PCV_EFORMAT, "white space at character %zu: base64 has none here", i);
    return pcv_fail(e, PCV_EFORMAT, "byte 0x%02x at character %zu is not of base64's alphabet", c,
                    i);
}

/* The last four characters, which may be padded. Returns the bytes written, or an error. */
static int last_four(const char *in, size_t len, uint8_t *out, struct pcv_err *e)
{
    const char *q = in + len - 4;
    int pad = q[3] != '=' ? 0 : q[2] != '=' ? 1 : 2;
    uint32_t v = 0;

    for (int i = 0; i < 4; i++) {
        uint8_t one = value1[(unsigned char)q[i]];

        if (!one && i < 4 - pad)
            return bad_character(in, len, e);
        v = v << 6 | (one ? one - 1u : 0);
    }
    if (v & (pad == 2 ? 0xffffu : pad == 1 ? 0xffu : 0))
        return pcv_fail(e, PCV_EFORMAT, "bits behind the last byte are not zero");
    for (int i = 0; i < 3 - pad; i++)
        out[i] = (uint8_t)(v >> (16 - 8 * i));
    return 3 - pad;
}

int wire_base64_decode(const char *in, size_t len, void *out, size_t *n, struct pcv_err *e)
{
    uint8_t *o = out;
    size_t i;
    int tail;

    if (len == 0) {
        *n = 0;
        return 0;
    }
    if (len % 4) {
        for (i = 0; i < len; i++)
            if (!value1[(unsigned char)in[i]] && in[i] != '=')
                return bad_character(in, len, e);
        return pcv_fail(e, PCV_EFORMAT,
                        "%zu characters, base64 with its padding has a multiple of 4", len);
    }
    for (i = 0; i + 4 < len; i += 4, o += 3) {
        uint32_t a = value1[(unsigned char)in[i]], b = value1[(unsigned char)in[i + 1]];
        uint32_t c = value1[(unsigned char)in[i + 2]], d = value1[(unsigned char)in[i + 3]];
        uint32_t v;

        if (!a || !b || !c || !d)
            return bad_character(in, len, e);
        v = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
        o[0] = (uint8_t)(v >> 16);
        o[1] = (uint8_t)(v >> 8);
        o[2] = (uint8_t)v;
    }
    tail = last_four(in, len, o, e);
    if (tail < 0)
        return tail;
    *n = (size_t)(o - (uint8_t *)out) + (size_t)tail;
    return 0;
}

size_t wire_base64_length(size_t len)
{
    return (len + 2) / 3 * 4;
}

void wire_base64_encode(const void *in, size_t len, char *out)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = in;

    for (; len >= 3; len -= 3, p += 3) {
        *out++ = digit[p[0] >> 2];
        *out++ = digit[(p[0] & 3) << 4 | p[1] >> 4];
        *out++ = digit[(p[1] & 15) << 2 | p[2] >> 6];
        *out++ = digit[p[2] & 63];
    }
    if (len == 0)
        return;
    *out++ = digit[p[0] >> 2];
    *out++ = digit[(p[0] & 3) << 4 | (len == 2 ? p[1] >> 4 : 0)];
    *out++ = len == 2 ? digit[(p[1] & 15) << 2] : '=';
    *out++ = '=';
}
