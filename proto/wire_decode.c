#include "proto/wire_decode.h"
#include "proto/wire_utf8.h"

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
    struct wire_media *all;

    if (r->nmedia == WIRE_MAX_MEDIA)
        return pcv_fail(e, PCV_ELIMIT, "more than %d inputs", WIRE_MAX_MEDIA);
    for (int i = 0; i < r->nmedia; i++) {
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

int wire_format_of(const char *s, size_t len, enum wire_format *ret, struct pcv_err *e)
{
    static const char *const names[] = {
        [WIRE_JSON] = "json", [WIRE_PNG] = "png", [WIRE_FLO] = "flo",
        [WIRE_WAV] = "wav",   [WIRE_RAW] = "raw",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0) {
            *ret = (enum wire_format)i;
            return 0;
        }
    return pcv_fail(e, PCV_EUNKNOWN, "unknown format; known are json, png, flo, wav, raw");
}
