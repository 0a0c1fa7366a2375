#include "proto/wire_writer.h"
#include "proto/wire_base64.h"
#include "proto/wire_utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and a NUL, or NULL. */
static char *room(struct wire_writer *w, size_t n)
{
    size_t want;
    char *data;

    if (w->failed)
        return NULL;
    if (w->room - w->len > n)
        return w->data + w->len;
    if (n > SIZE_MAX / 4 || w->len > SIZE_MAX / 4) {
        w->failed = true;
        return NULL;
    }
    want = w->len + n + 1;
    want = want > 2 * w->room ? want : 2 * w->room;
    want = want > 256 ? want : 256;
    data = realloc(w->data, want);
    if (!data) {
        w->failed = true;
        return NULL;
    }
    w->data = data;
    w->room = want;
    return data + w->len;
}

void wire_raw(struct wire_writer *w, const void *data, size_t len)
{
    char *p = room(w, len);

    if (p && len) {
        memcpy(p, data, len);
        w->len += len;
    }
}

static void put(struct wire_writer *w, char c)
{
    wire_raw(w, &c, 1);
}

/* What stands before every member. */
static void member(struct wire_writer *w)
{
    if (w->comma)
        put(w, ',');
    w->comma = true;
}

void wire_open(struct wire_writer *w, char bracket)
{
    member(w);
    put(w, bracket);
    w->comma = false;
}

void wire_close(struct wire_writer *w, char bracket)
{
    put(w, bracket);
    w->comma = true;
}

void wire_key(struct wire_writer *w, const char *key)
{
    wire_text(w, key);
    put(w, ':');
    w->comma = false;
}

void wire_text(struct wire_writer *w, const char *s)
{
    if (s)
        wire_text_n(w, s, strlen(s));
    else
        wire_null(w);
}

/* One byte that JSON wants escaped. Returns the length written. */
static size_t escape(char *p, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    const char *short_form = c == '\n'   ? "\\n"
                             : c == '\t' ? "\\t"
                             : c == '\r' ? "\\r"
                             : c == '"'  ? "\\\""
                             : c == '\\' ? "\\\\"
                                         : NULL;

    if (short_form) {
        memcpy(p, short_form, 2);
        return 2;
    }
    memcpy(p, "\\u00", 4);
    p[4] = hex[c >> 4];
    p[5] = hex[c & 15];
    return 6;
}

void wire_text_n(struct wire_writer *w, const char *s, size_t len)
{
    size_t i = 0;

    member(w);
    put(w, '"');
    while (i < len) {
        size_t part = len - i < 1024 ? len - i : 1024; /* at most 6 bytes for each */
        size_t stop = i + part;
        char *begin = room(w, 6 * part + 6), *p = begin;

        if (!p)
            return;
        while (i < stop) {
            unsigned char c = (unsigned char)s[i];
            int n = wire_utf8_sequence(s + i, len - i);

            if (n == 0) {
                memcpy(p, "\xef\xbf\xbd", 3);
                p += 3;
                i++;
            } else if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
                p += escape(p, c);
                i++;
            } else {
                memcpy(p, s + i, (size_t)n);
                p += n;
                i += (size_t)n;
            }
        }
        w->len += (size_t)(p - begin);
    }
    put(w, '"');
}

/* Decimal digits of v at p; returns how many. */
static size_t digits(uint64_t v, char *p)
{
    char back[20];
    size_t n = 0;

    do {
        back[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (size_t i = 0; i < n; i++)
        p[i] = back[n - 1 - i];
    return n;
}

void wire_uint(struct wire_writer *w, uint64_t v)
{
    char buf[20];

    member(w);
    wire_raw(w, buf, digits(v, buf));
}

void wire_int(struct wire_writer *w, int64_t v)
{
    char buf[21];
    size_t n = 0;

    if (v < 0)
        buf[n++] = '-';
    member(w);
    wire_raw(w, buf, n + digits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, buf + n));
}

void wire_bool(struct wire_writer *w, bool v)
{
    member(w);
    wire_raw(w, v ? "true" : "false", v ? 4 : 5);
}

void wire_null(struct wire_writer *w)
{
    member(w);
    wire_raw(w, "null", 4);
}

void wire_fixed(struct wire_writer *w, double v, int decimals)
{
    static const double pow10[10] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    const uint64_t one = (uint64_t)pow10[decimals];
    char buf[32];
    size_t n = 0, point;
    uint64_t whole, part;

    if (!(fabs(v) < 9e9)) {
        wire_null(w);
        return;
    }
    whole = (uint64_t)fabs(v);
    part = (uint64_t)llrint((fabs(v) - (double)whole) * pow10[decimals]);
    whole += part / one;
    part %= one;
    if (v < 0 && (whole || part))
        buf[n++] = '-';
    n += digits(whole, buf + n);
    point = n;
    buf[n++] = '.';
    for (uint64_t unit = one / 10; unit; unit /= 10)
        buf[n++] = (char)('0' + part / unit % 10);
    while (n > point + 2 && buf[n - 1] == '0')
        n--;
    member(w);
    wire_raw(w, buf, n);
}

void wire_f32(struct wire_writer *w, float v)
{
    wire_f32s(w, &v, 1);
}

void wire_f32s(struct wire_writer *w, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *p = room(w, WIRE_F32_ROOM + 1), *begin = p;

        if (!p)
            return;
        if (w->comma)
            *p++ = ',';
        w->comma = true;
        p += wire_f32_text(v[i], p);
        w->len += (size_t)(p - begin);
    }
}

char *wire_finish(struct wire_writer *w, size_t *len)
{
    char *data = room(w, 0);

    if (data) {
        *data = '\0';
        data = w->data;
        if (len)
            *len = w->len;
    } else {
        free(w->data);
    }
    *w = (struct wire_writer){0};
    return data;
}

void wire_discard(struct wire_writer *w)
{
    free(w->data);
    *w = (struct wire_writer){0};
}

void wire_b64(struct wire_writer *w, const void *data, size_t len)
{
    const size_t n = wire_base64_length(len);
    char *to;

    member(w);
    to = room(w, n + 2);
    if (!to)
        return;
    to[0] = to[n + 1] = '"';
    wire_base64_encode(data, len, to + 1);
    w->len += n + 2;
    w->comma = true;
}
