/* wire_string.c - strings of JSON: escapes, UTF-8, and what may not be in them. */
#include "proto/wire_reader.h"
#include "proto/wire_utf8.h"

#include <string.h>

/* Fails with the byte's position. */
static int bad(const struct wire_reader *rd, const char *p, const char *what)
{
    return wire_read_fail(rd, PCV_EFORMAT, "%s at byte %zu", what, (size_t)(p - rd->begin));
}

/* Eight bytes at once: none of them is a quote, a backslash, a control character or non-ASCII. */
static bool eight_plain(const char *p)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t x, quote, slash;

    memcpy(&x, p, 8);
    quote = x ^ ones * '"';
    slash = x ^ ones * '\\';
    return !(
        (x | ((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) &
        high);
}

/* Finds the closing quote of the string whose text begins at p; checks everything but escapes.
 * *escaped: it has backslashes. */
static int find_quote(const struct wire_reader *rd, const char *p, const char **quote,
                      bool *escaped)
{
    const char *const begin = p, *const end = rd->end;

    *escaped = false;
    while (p < end) {
        int n;

        if (end - p >= 8 && eight_plain(p)) {
            p += 8;
            continue;
        }
        if (*p == '"') {
            *quote = p;
            return 0;
        }
        if ((unsigned char)*p < 0x20)
            return bad(rd, p, *p ? "control character in a string" : "NUL in a string");
        if (*p == '\\') {
            *escaped = true;
            if (end - p > 1 && (p[1] == '"' || p[1] == '\\'))
                p++; /* neither ends the string nor escapes what follows */
        }
        n = wire_utf8_sequence(p, (size_t)(end - p));
        if (!n)
            return bad(rd, p, "invalid UTF-8");
        p += n;
    }
    return bad(rd, begin - 1, "string without an end, begun");
}

/* Four hexadecimal digits, or -1. */
static int hex4(const char *p, const char *end)
{
    int v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;

        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static size_t put_utf8(char *out, int c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* \uXXXX at *p (behind the u), maybe a surrogate pair: the character, or an error. */
static int unicode_escape(const struct wire_reader *rd, const char **p, const char *end)
{
    const char *at = *p - 2;
    int c = hex4(*p, end), low;

    if (c < 0)
        return bad(rd, at, "\\u without four hexadecimal digits");
    *p += 4;
    if (c == 0)
        return bad(rd, at, "NUL in a string");
    if (c >= 0xdc00 && c <= 0xdfff)
        return bad(rd, at, "second half of a surrogate pair alone");
    if (c < 0xd800 || c > 0xdbff)
        return c;
    low = end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2, end) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return bad(rd, at, "first half of a surrogate pair alone");
    *p += 6;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The text p..end with its escapes undone, in the arena. */
static int unescape(const struct wire_reader *rd, const char *p, const char *end,
                    struct wire_str *ret)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char *out = wire_arena_get(rd->arena, (size_t)(end - p)); /* never grows */
    size_t n = 0;

    if (!out)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    while (p < end) {
        const char *known;
        int c;

        if (*p != '\\') {
            out[n++] = *p++;
            continue;
        }
        p += 2; /* find_quote saw to it that a character follows the backslash */
        known = strchr(from, p[-1]);
        if (known) {
            out[n++] = to[known - from];
            continue;
        }
        if (p[-1] != 'u')
            return bad(rd, p - 2, "unknown escape");
        c = unicode_escape(rd, &p, end);
        if (c < 0)
            return c;
        n += put_utf8(out + n, c);
    }
    *ret = (struct wire_str){out, n};
    return 0;
}

int wire_read_text(struct wire_reader *rd, struct wire_str *s)
{
    const char *begin, *quote = NULL;
    bool escaped;
    int r;

    if (wire_read_peek(rd) != '"')
        return wire_read_syntax(rd, "a string");
    begin = rd->p + 1;
    if ((r = find_quote(rd, begin, &quote, &escaped)) < 0)
        return r;
    rd->p = quote + 1;
    if (escaped)
        return unescape(rd, begin, quote, s);
    *s = (struct wire_str){begin, (size_t)(quote - begin)};
    return 0;
}
