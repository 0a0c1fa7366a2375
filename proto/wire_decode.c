#include "proto/wire_decode.h"
#include "proto/wire_numbers.h"
#include "proto/wire_utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int wire_fail(struct pcv_err *e, int code, const char *where, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return code;
    e->code = code;
    snprintf(e->where, sizeof(e->where), "%s", where);
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

struct wire_request *wire_request_new(enum wire_form form)
{
    struct wire_arena *a = wire_arena_new();
    struct wire_request *r = a ? wire_arena_zero(a, sizeof(*r)) : NULL;

    if (!r) {
        wire_arena_free(a);
        return NULL;
    }
    r->form = form;
    r->default_top_k = WIRE_DEFAULT_TOP_K;
    r->arena = a;
    return r;
}

int wire_add_media(struct wire_request *r, const char *input, bool again, struct wire_media **ret,
                   struct pcv_err *e)
{
    const int item = r->nitems ? r->nitems - 1 : 0;
    struct wire_media *all;

    if (r->nmedia == WIRE_MAX_MEDIA)
        return pcv_fail(e, PCV_ELIMIT, "more than %d files and texts", WIRE_MAX_MEDIA);
    for (int i = r->nmedia - 1; i >= 0 && r->media[i].item == item; i--) {
        const char *other = r->media[i].input;

        if (!input || !other)
            return pcv_fail(e, PCV_EFORMAT, "several inputs, one of them without a name");
        if (!again && strcmp(other, input) == 0)
            return pcv_fail(e, PCV_EFORMAT, "input \"%.64s\" appears twice", input);
    }
    all = wire_arena_room(r->arena, r->media, r->nmedia, sizeof(*all));
    if (!all)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    r->media = all;
    *ret = &all[r->nmedia++];
    (*ret)->input = input;
    (*ret)->item = item;
    return 0;
}

int wire_add_query(struct wire_request *r, struct wire_query **ret, struct pcv_err *e)
{
    struct wire_query *all;

    if (r->nqueries == WIRE_MAX_QUERIES)
        return pcv_fail(e, PCV_ELIMIT, "more than %d queries", WIRE_MAX_QUERIES);
    all = wire_arena_room(r->arena, r->queries, r->nqueries, sizeof(*all));
    if (!all)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    r->queries = all;
    *ret = &all[r->nqueries++];
    (*ret)->input = -1;
    (*ret)->top_k = r->default_top_k;
    return 0;
}

/* ---- media types ----------------------------------------------------------------------------- */

/* "; charset=utf-8" or another parameter list: PCV_EUNSUPPORTED when it names another character
 * set. */
static int check_charset(const char *s, size_t len, struct pcv_err *e)
{
    for (size_t i = 0; i + 8 <= len; i++) {
        const char *value = s + i + 8;
        size_t n = len - i - 8;

        if (strncasecmp(s + i, "charset=", 8) != 0)
            continue;
        if (n && *value == '"') {
            value++;
            n--;
        }
        if ((n >= 5 && strncasecmp(value, "utf-8", 5) == 0) ||
            (n >= 8 && strncasecmp(value, "us-ascii", 8) == 0))
            continue;
        return pcv_fail(e, PCV_EUNSUPPORTED, "character set \"%.*s\"; only UTF-8 is read",
                        (int)(n < 40 ? n : 40), value);
    }
    return 0;
}

int wire_media_type(struct wire_arena *a, const char *s, size_t len, const char **ret,
                    struct pcv_err *e)
{
    size_t n = 0;
    char *type;
    int r;

    while (len && (*s == ' ' || *s == '\t')) {
        s++;
        len--;
    }
    while (n < len && s[n] != ';' && s[n] != ' ' && s[n] != '\t')
        n++;
    if ((r = check_charset(s + n, len - n, e)) < 0)
        return r;
    if (n == 0 || (n == 24 && strncasecmp(s, "application/octet-stream", n) == 0)) {
        *ret = NULL;
        return 0;
    }
    if (!(type = wire_arena_text(a, s, n)))
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (type[i] >= 'A' && type[i] <= 'Z')
            type[i] = (char)(type[i] - 'A' + 'a');
    *ret = type;
    return 0;
}

int wire_media_check(const struct wire_media *m, struct pcv_err *e)
{
    const char *nul;
    size_t valid;

    if (!m->type || strncmp(m->type, "text/", 5) != 0)
        return 0;
    valid = wire_utf8_valid(m->data, m->len);
    if (valid < m->len)
        return pcv_fail(e, PCV_EFORMAT, "invalid UTF-8 at byte %zu of the text", valid);
    nul = m->len ? memchr(m->data, 0, m->len) : NULL;
    if (nul)
        return pcv_fail(e, PCV_EFORMAT, "NUL at byte %zu of the text",
                        (size_t)(nul - (const char *)m->data));
    return 0;
}

static const char *const formats[] = {
    [WIRE_JSON] = "json", [WIRE_PNG] = "png", [WIRE_FLO] = "flo",
    [WIRE_WAV] = "wav",   [WIRE_RAW] = "raw",
};

const char *wire_format_name(enum wire_format f)
{
    return formats[f];
}

int wire_format_of(const char *s, size_t len, enum wire_format *ret, struct pcv_err *e)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++)
        if (strlen(formats[i]) == len && memcmp(formats[i], s, len) == 0) {
            *ret = (enum wire_format)i;
            return 0;
        }
    return pcv_fail(e, PCV_EUNKNOWN, "unknown format; known are json, png, flo, wav, raw");
}

int wire_keep_of(const char *s, size_t len, uint64_t *ms, struct pcv_err *e)
{
    static const struct {
        char unit;
        double ms;
    } units[] = {{'s', 1e3}, {'m', 60e3}, {'h', 3600e3}, {'d', 86400e3}};
    const int shown = (int)(len < 40 ? len : 40);
    struct wire_number n;
    double factor = 1e3, v;

    if (!wire_number_lex(s, s + len, &n) || s + len - n.end > 1)
        return pcv_fail(e, PCV_EFORMAT, "\"%.*s\" is no time; as 90, 90s, 10m, 2h or 1d", shown, s);
    if (n.end < s + len) {
        size_t k = 0;

        while (k < sizeof(units) / sizeof(*units) && units[k].unit != *n.end)
            k++;
        if (k == sizeof(units) / sizeof(*units))
            return pcv_fail(e, PCV_EFORMAT, "\"%.*s\" is no time; units are s, m, h, d", shown, s);
        factor = units[k].ms;
    }
    v = round(wire_number_f64(&n) * factor);
    if (!(v >= 1 && v <= WIRE_MAX_KEEP_MS))
        return pcv_fail(e, PCV_ERANGE, "%.*s: latents are kept for more than nothing and up to %dd",
                        shown, s, (int)(WIRE_MAX_KEEP_MS / 86400000));
    *ms = (uint64_t)v;
    return 0;
}
