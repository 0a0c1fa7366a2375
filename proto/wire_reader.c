#include "proto/wire_reader.h"
#include "proto/wire_numbers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void wire_reader_init(struct wire_reader *rd, const char *text, size_t len, const char *root,
                      struct wire_arena *arena, struct pcv_err *e)
{
    rd->begin = rd->p = len ? text : "";
    rd->end = rd->begin + len;
    rd->root = root;
    rd->arena = arena;
    rd->e = e;
    rd->depth = 0;
}

/* ---- errors and paths ------------------------------------------------------------------------ */

/* Names that need no quotes in a path. */
static bool plain_name(struct wire_str key)
{
    if (key.len == 0 || key.len > 64)
        return false;
    for (size_t i = 0; i < key.len; i++) {
        char c = key.s[i];

        if (!(c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
              (c >= 'A' && c <= 'Z')))
            return false;
    }
    return true;
}

/* "$.queries[0].top_k"; a path too long for buf ends in "...". */
static void path_text(const struct wire_reader *rd, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, "%s", rd->root);

    for (int i = 0; i < rd->depth; i++) {
        const struct wire_step *s = &rd->at[i];
        char step[96];
        int n;

        if (s->n == 0)
            break;
        if (!s->object)
            n = snprintf(step, sizeof(step), "[%lld]", (long long)(s->n - 1));
        else if (plain_name(s->key))
            n = snprintf(step, sizeof(step), ".%.*s", (int)s->key.len, s->key.s);
        else
            n = snprintf(step, sizeof(step), "[\"%.*s\"%s]",
                         (int)(s->key.len < 64 ? s->key.len : 64), s->key.s,
                         s->key.len > 64 ? "..." : "");
        if (at + (size_t)n + 4 > size) {
            snprintf(buf + at, size - at, "...");
            return;
        }
        memcpy(buf + at, step, (size_t)n + 1);
        at += (size_t)n;
    }
}

int wire_read_fail_at(const struct wire_reader *rd, int code)
{
    if (rd->e)
        path_text(rd, rd->e->where, sizeof(rd->e->where));
    return code;
}

int wire_read_fail(const struct wire_reader *rd, int code, const char *fmt, ...)
{
    char msg[sizeof(rd->e->msg)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    pcv_fail(rd->e, code, "%s", msg);
    return wire_read_fail_at(rd, code);
}

int wire_read_fail_member(const struct wire_reader *rd, const char *key, int code, const char *fmt,
                          ...)
{
    struct wire_reader inside = *rd;
    char msg[sizeof(rd->e->msg)];
    va_list ap;

    if (inside.depth < WIRE_MAX_DEPTH)
        inside.at[inside.depth++] =
            (struct wire_step){.object = true, .n = 1, .key = {key, strlen(key)}};
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return wire_read_fail(&inside, code, "%s", msg);
}

int wire_read_missing(const struct wire_reader *rd, const char *key)
{
    return wire_read_fail_member(rd, key, PCV_EMISSING, "missing");
}

int wire_read_syntax(const struct wire_reader *rd, const char *what)
{
    if (rd->p >= rd->end)
        return wire_read_fail(rd, PCV_EFORMAT, "the JSON ends at byte %zu where %s was expected",
                              (size_t)(rd->end - rd->begin), what);
    return wire_read_fail(rd, PCV_EFORMAT, "expected %s at byte %zu", what,
                          (size_t)(rd->p - rd->begin));
}

/* ---- structure ------------------------------------------------------------------------------- */

char wire_read_peek(struct wire_reader *rd)
{
    wire_read_space(rd);
    if (rd->p == rd->end)
        return 0;
    switch (*rd->p) {
    case '{':
    case '[':
    case '"':
    case 'n': return *rd->p;
    case 't':
    case 'f': return 't';
    case '-': return '0';
    default: return *rd->p >= '0' && *rd->p <= '9' ? '0' : 0;
    }
}

int wire_read_open(struct wire_reader *rd, char bracket, const char *what)
{
    if (wire_read_peek(rd) != bracket)
        return wire_read_syntax(rd, what);
    if (rd->depth == WIRE_MAX_DEPTH)
        return wire_read_fail(rd, PCV_ELIMIT, "nested deeper than %d at byte %zu", WIRE_MAX_DEPTH,
                              (size_t)(rd->p - rd->begin));
    rd->at[rd->depth] = (struct wire_step){.object = bracket == '{'};
    rd->depth++;
    rd->p++;
    return 0;
}

/* Up to the next member: 1, or 0 after the closing bracket. */
static int next_member(struct wire_reader *rd, char close)
{
    struct wire_step *s = &rd->at[rd->depth - 1];

    wire_read_space(rd);
    if (rd->p < rd->end && *rd->p == close) {
        rd->p++;
        rd->depth--;
        return 0;
    }
    if (s->n > 0) {
        if (rd->p == rd->end || *rd->p != ',')
            return wire_read_syntax(rd, close == '}' ? "',' or '}'" : "',' or ']'");
        rd->p++;
        wire_read_space(rd);
    }
    return 1;
}

int wire_read_item(struct wire_reader *rd)
{
    int r = next_member(rd, ']');

    if (r > 0) {
        rd->at[rd->depth - 1].n++;
        if (!wire_read_peek(rd))
            return wire_read_syntax(rd, "a value");
    }
    return r;
}

int wire_read_name(struct wire_reader *rd, struct wire_str *name)
{
    struct wire_step *s = &rd->at[rd->depth - 1];
    int r = next_member(rd, '}');

    if (r <= 0)
        return r;
    if (wire_read_peek(rd) != '"')
        return wire_read_syntax(rd, "a key in quotes");
    r = wire_read_text(rd, name);
    if (r < 0)
        return r;
    s->key = *name;
    s->n++;
    wire_read_space(rd);
    if (rd->p == rd->end || *rd->p != ':')
        return wire_read_syntax(rd, "':'");
    rd->p++;
    if (!wire_read_peek(rd))
        return wire_read_syntax(rd, "a value");
    return 1;
}

/* "unknown key; known are a, b, c" */
static int unknown_key(const struct wire_reader *rd, const char *const *keys)
{
    char list[160] = "";

    for (int i = 0; keys[i]; i++) {
        size_t at = strlen(list);

        snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", keys[i]);
    }
    return wire_read_fail(rd, PCV_EUNKNOWN, "unknown key; known are %s", list);
}

int wire_read_key(struct wire_reader *rd, const char *const *keys, enum wire_strictness strict,
                  uint32_t *seen, int *k)
{
    struct wire_str name = {"", 0};
    int r;

    while ((r = wire_read_name(rd, &name)) > 0) {
        for (int i = 0; keys[i]; i++) {
            if (strlen(keys[i]) != name.len || memcmp(keys[i], name.s, name.len) != 0)
                continue;
            if (*seen & 1u << i)
                return wire_read_fail(rd, PCV_EFORMAT, "the key appears twice");
            *seen |= 1u << i;
            *k = i;
            return 1;
        }
        if (strict == WIRE_STRICT)
            return unknown_key(rd, keys);
        if ((r = wire_read_skip(rd)) < 0)
            return r;
    }
    return r;
}

/* ---- scalars --------------------------------------------------------------------------------- */

int wire_read_cstr(struct wire_reader *rd, const char **s)
{
    struct wire_str text;
    int r = wire_read_text(rd, &text);

    if (r < 0)
        return r;
    *s = wire_arena_text(rd->arena, text.s, text.len);
    return *s ? 0 : wire_read_fail(rd, PCV_ENOMEM, "out of memory");
}

int wire_read_int(struct wire_reader *rd, int64_t min, int64_t max, int64_t *v)
{
    struct wire_number n;
    int64_t i;

    if (wire_read_peek(rd) != '0')
        return wire_read_syntax(rd, "a whole number");
    if (!wire_number_lex(rd->p, rd->end, &n))
        return wire_read_syntax(rd, "a number");
    if (!n.whole)
        return wire_read_fail(rd, PCV_EFORMAT, "%.*s is not a whole number",
                              (int)(n.end - n.begin < 32 ? n.end - n.begin : 32), n.begin);
    if (!wire_number_i64(&n, &i) || i < min || i > max)
        return wire_read_fail(rd, PCV_ERANGE, "%.*s is outside %lld..%lld",
                              (int)(n.end - n.begin < 32 ? n.end - n.begin : 32), n.begin,
                              (long long)min, (long long)max);
    rd->p = n.end;
    *v = i;
    return 0;
}

/* Passes over the word when it stands here. */
static bool word(struct wire_reader *rd, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(rd->end - rd->p) < n || memcmp(rd->p, w, n) != 0)
        return false;
    rd->p += n;
    return true;
}

int wire_read_bool(struct wire_reader *rd, bool *v)
{
    wire_read_space(rd);
    if (word(rd, "true"))
        *v = true;
    else if (word(rd, "false"))
        *v = false;
    else
        return wire_read_syntax(rd, "true or false");
    return 0;
}

static int skip_scalar(struct wire_reader *rd)
{
    struct wire_number n;
    struct wire_str s;

    switch (wire_read_peek(rd)) {
    case '"': return wire_read_text(rd, &s);
    case '0':
        if (!wire_number_lex(rd->p, rd->end, &n))
            return wire_read_syntax(rd, "a number");
        rd->p = n.end;
        return 0;
    case 't': return word(rd, "true") || word(rd, "false") ? 0 : wire_read_syntax(rd, "a value");
    case 'n': return word(rd, "null") ? 0 : wire_read_syntax(rd, "a value");
    }
    return wire_read_syntax(rd, "a value");
}

int wire_read_skip(struct wire_reader *rd)
{
    const int base = rd->depth;
    struct wire_str name;
    int r;

    do {
        char c = wire_read_peek(rd);

        r = c == '{' || c == '[' ? wire_read_open(rd, c, "a value") : skip_scalar(rd);
        if (r < 0)
            return r;
        /* To the next value: the next member here, or of what encloses what just ended. */
        for (r = 0; r == 0 && rd->depth > base;)
            r = rd->at[rd->depth - 1].object ? wire_read_name(rd, &name) : wire_read_item(rd);
        if (r < 0)
            return r;
    } while (rd->depth > base);
    return 0;
}

int wire_read_end(struct wire_reader *rd)
{
    wire_read_space(rd);
    return rd->p == rd->end ? 0 : wire_read_syntax(rd, "the end");
}
