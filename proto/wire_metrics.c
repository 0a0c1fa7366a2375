#include "proto/wire_metrics.h"
#include "proto/wire_decode.h"
#include "proto/wire_numbers.h"
#include "proto/wire_oip.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void wire_metrics_init(struct wire_metrics *m, const char *text, size_t len)
{
    *m = (struct wire_metrics){.p = text, .end = text + len};
}

static const char *blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

static bool is_name(char c)
{
    return c == '_' || c == ':' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9');
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* One label at p: its name, and its value between the quotes. Returns what follows, the comma
 * behind it too, or NULL when there is no label. */
static const char *one_label(const char *p, const char *end, struct wire_str *name,
                             struct wire_str *value)
{
    p = blanks(p, end);
    name->s = p;
    while (p < end && is_name(*p))
        p++;
    name->len = (size_t)(p - name->s);
    p = blanks(p, end);
    if (!name->len || end - p < 2 || *p != '=')
        return NULL;
    p = blanks(p + 1, end);
    if (p == end || *p != '"')
        return NULL;
    value->s = ++p;
    while (p < end && *p != '"')
        p += *p == '\\' ? 2 : 1;
    if (p >= end)
        return NULL;
    value->len = (size_t)(p - value->s);
    p = blanks(p + 1, end);
    return p < end && *p == ',' ? p + 1 : p;
}

/* Past the labels that begin behind '{', at their '}'; NULL when they are malformed. */
static const char *skip_labels(const char *p, const char *end)
{
    struct wire_str name, value;

    for (p = blanks(p, end); p && p < end && *p != '}'; p = p ? blanks(p, end) : NULL)
        p = one_label(p, end, &name, &value);
    return p && p < end ? p : NULL;
}

bool wire_sample_is(const struct wire_sample *s, const char *name)
{
    return wire_str_is(s->name, name);
}

bool wire_sample_label(const struct wire_sample *s, const char *label, char *buf, size_t size)
{
    const char *p = s->labels.s, *end = p + s->labels.len;
    struct wire_str name, value;
    size_t n = 0;

    for (;;) {
        p = one_label(p, end, &name, &value);
        if (!p)
            return false;
        if (wire_str_is(name, label))
            break;
    }
    for (size_t i = 0; i < value.len; i++, n++) {
        char c = value.s[i];

        if (c == '\\' && i + 1 < value.len)
            c = value.s[++i] == 'n' ? '\n' : value.s[i];
        if (n + 1 >= size)
            return false;
        buf[n] = c;
    }
    if (n >= size)
        return false;
    buf[n] = '\0';
    return true;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* A number, NaN or an infinity at p; returns what follows, NULL when there is none. */
static const char *read_value(const char *p, const char *end, double *v)
{
    static const struct {
        const char *text;
        double v;
    } words[] = {{"NaN", NAN}, {"+Inf", INFINITY}, {"-Inf", -INFINITY}, {"Inf", INFINITY}};
    struct wire_number n;

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        const size_t len = strlen(words[i].text);

        if ((size_t)(end - p) >= len && memcmp(p, words[i].text, len) == 0) {
            *v = words[i].v;
            return p + len;
        }
    }
    if (p < end && *p == '+')
        p++;
    if (!wire_number_lex(p, end, &n))
        return NULL;
    *v = wire_number_f64(&n);
    return n.end;
}

/* name [{labels}] value [timestamp] */
static bool read_sample(const char *p, const char *end, struct wire_sample *s)
{
    const char *after;
    double timestamp;

    s->name.s = p;
    while (p < end && is_name(*p))
        p++;
    s->name.len = (size_t)(p - s->name.s);
    s->labels = (struct wire_str){p, 0};
    p = blanks(p, end);
    if (p < end && *p == '{') {
        s->labels.s = p + 1;
        if (!(p = skip_labels(p + 1, end)))
            return false;
        s->labels.len = (size_t)(p - s->labels.s);
        p = blanks(p + 1, end);
    }
    if (!s->name.len || p == s->name.s + s->name.len)
        return false;
    after = read_value(p, end, &s->value);
    p = after ? blanks(after, end) : NULL;
    if (!p || p == end)
        return p;
    after = p > after ? read_value(p, end, &timestamp) : NULL;
    return after && blanks(after, end) == end;
}

int wire_metrics_next(struct wire_metrics *m, struct wire_sample *s, struct pcv_err *e)
{
    char where[32];

    while (m->p < m->end) {
        const char *line = m->p, *stop = memchr(line, '\n', (size_t)(m->end - line));

        m->line++;
        m->p = stop ? stop + 1 : m->end;
        stop = stop ? stop : m->end;
        if (stop > line && stop[-1] == '\r')
            stop--;
        line = blanks(line, stop);
        if (line == stop || *line == '#')
            continue;
        if (read_sample(line, stop, s))
            return 1;
        snprintf(where, sizeof(where), "line %d", m->line);
        return wire_fail(e, PCV_EFORMAT, where, "not a sample: %.*s",
                         (int)(stop - line < 80 ? stop - line : 80), line);
    }
    return 0;
}

int wire_metrics_sum(const char *text, size_t len, const char *name, const char *label,
                     const char *value, double *sum, struct pcv_err *e)
{
    struct wire_metrics m;
    struct wire_sample s;
    char buf[256];
    double total = 0;
    int r;

    wire_metrics_init(&m, text, len);
    while ((r = wire_metrics_next(&m, &s, e)) > 0)
        if (wire_sample_is(&s, name) &&
            (!label || (wire_sample_label(&s, label, buf, sizeof(buf)) && strcmp(buf, value) == 0)))
            total += s.value;
    if (r == 0)
        *sum = total;
    return r;
}
