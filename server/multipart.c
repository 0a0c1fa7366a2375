#include "server/multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_BOUNDARY = 70, MAX_PART_HEADERS = 4096 };

struct scan {
    const char *at, *end;                 /* what is left of the body */
    char delimiter[4 + MAX_BOUNDARY + 1]; /* "\r\n--boundary" */
    size_t dlen;
    char *strings; /* next free byte of srv_parts.strings */
};

/* The parameter's value out of "; name=token" or "; name=\"quoted\"", written to out (of size), or
 * -1 when there is none, it is damaged or too long. s begins after the main value. Browsers escape
 * quotes in names as %22, older clients as \": the latter is undone. */
static int parameter(const char *s, const char *name, char *out, size_t size)
{
    size_t nlen = strlen(name);

    while (*s == ';' || *s == ' ' || *s == '\t') {
        bool wanted;
        size_t n = 0;

        s += strspn(s, "; \t");
        wanted = strncasecmp(s, name, nlen) == 0 && s[nlen] == '=';
        s += strcspn(s, "=;\"");
        if (*s != '=')
            continue;
        if (*++s == '"') {
            for (s++; *s != '"'; s++) {
                if (*s == '\\' && (s[1] == '"' || s[1] == '\\'))
                    s++;
                if (*s == '\0' || n + 1 >= size)
                    return -1;
                if (wanted)
                    out[n++] = *s;
            }
            s++;
        } else {
            size_t len = strcspn(s, "; \t\"");

            if (wanted && len + 1 > size)
                return -1;
            if (wanted)
                memcpy(out, s, n = len);
            s += len;
        }
        if (wanted) {
            out[n] = '\0';
            return (int)n;
        }
    }
    return -1;
}

static const char type[] = "multipart/form-data";

bool srv_multipart_is(const char *content_type)
{
    const char *s = content_type;

    return s && strncasecmp(s, type, sizeof(type) - 1) == 0 &&
           strchr("; \t", s[sizeof(type) - 1]) != NULL;
}

/* The line at *at without its CRLF, as a string in line; -1 when it is not there, too long or holds
 * what no header may. */
static int header_line(const char **at, const char *end, char line[MAX_PART_HEADERS])
{
    const char *eol = memmem(*at, (size_t)(end - *at), "\r\n", 2);
    size_t n;

    if (!eol || (n = (size_t)(eol - *at)) >= MAX_PART_HEADERS)
        return -1;
    memcpy(line, *at, n);
    line[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
            return -1;
    }
    *at = eol + 2;
    return (int)n;
}

static const char *keep(struct scan *s, const char *text)
{
    size_t n = strlen(text) + 1;
    char *kept = memcpy(s->strings, text, n);

    s->strings += n;
    return kept;
}

/* Reads one header of a part, after its name, into what it says. */
static int disposition(struct scan *s, struct srv_part *p, const char *value)
{
    char text[MAX_PART_HEADERS];

    value += strspn(value, " \t");
    if (strncasecmp(value, "form-data", 9) != 0 || !strchr("; \t", value[9]))
        return -1;
    value += 9;
    if (p->name || parameter(value, "name", text, sizeof(text)) < 0)
        return -1;
    p->name = keep(s, text);
    if (parameter(value, "filename", text, sizeof(text)) >= 0)
        p->filename = keep(s, text);
    return 0;
}

static int part_headers(struct scan *s, struct srv_part *p, struct pcv_err *e)
{
    const char *begin = s->at;
    char line[MAX_PART_HEADERS];

    for (;;) {
        int n = header_line(&s->at, s->end, line);

        if (n < 0 || s->at - begin > MAX_PART_HEADERS)
            return pcv_fail(e, PCV_EFORMAT, "headers do not end, or hold control characters");
        if (n == 0)
            break;
        if (strncasecmp(line, "Content-Disposition:", 20) == 0) {
            if (disposition(s, p, line + 20) < 0)
                return pcv_fail(e, PCV_EFORMAT, "Content-Disposition is not form-data with a name");
        } else if (strncasecmp(line, "Content-Type:", 13) == 0 && !p->type) {
            p->type = keep(s, line + 13 + strspn(line + 13, " \t"));
        } else if (strncasecmp(line, "Content-Transfer-Encoding:", 26) == 0) {
            const char *v = line + 26 + strspn(line + 26, " \t");

            if (strcasecmp(v, "binary") != 0 && strcasecmp(v, "8bit") != 0 &&
                strcasecmp(v, "7bit") != 0)
                return pcv_fail(e, PCV_EFORMAT, "Content-Transfer-Encoding \"%.40s\"", v);
        }
    }
    return p->name ? 0 : pcv_fail(e, PCV_EFORMAT, "no Content-Disposition with a name");
}

/* Moves behind a delimiter's line. 1: a part follows, 0: it was the last, -1: neither. */
static int after_delimiter(struct scan *s)
{
    bool last = s->end - s->at >= 2 && memcmp(s->at, "--", 2) == 0;

    if (last)
        s->at += 2;
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
    if (last && s->at == s->end)
        return 0;
    if (s->end - s->at < 2 || memcmp(s->at, "\r\n", 2) != 0)
        return -1;
    s->at += 2;
    return last ? 0 : 1;
}

static int begin(struct scan *s, const char *content_type, const void *body, size_t len,
                 struct pcv_err *e)
{
    char boundary[MAX_BOUNDARY + 1];
    int n = srv_multipart_is(content_type)
                ? parameter(content_type + sizeof(type) - 1, "boundary", boundary, sizeof(boundary))
                : -1;
    const char *first;

    if (n <= 0)
        return pcv_fail(e, PCV_EFORMAT, "multipart/form-data without a boundary of 1 to 70 bytes");
    memcpy(s->delimiter, "\r\n--", 4);
    memcpy(s->delimiter + 4, boundary, (size_t)n);
    s->dlen = 4 + (size_t)n;
    s->at = body;
    s->end = s->at + len;
    /* The first delimiter needs no line before it. */
    if (len >= s->dlen - 2 && memcmp(s->at, s->delimiter + 2, s->dlen - 2) == 0) {
        s->at += s->dlen - 2;
        return 0;
    }
    first = len ? memmem(body, len, s->delimiter, s->dlen) : NULL;
    if (!first)
        return pcv_fail(e, PCV_EFORMAT, "multipart/form-data, and its boundary is not in the body");
    s->at = first + s->dlen;
    return 0;
}

static int parse(struct srv_parts *p, struct scan *s, struct pcv_err *e)
{
    int more;

    while ((more = after_delimiter(s)) == 1) {
        struct srv_part *part = &p->part[p->n];
        const char *stop;

        if (p->n == SRV_MAX_PARTS)
            return pcv_fail(e, PCV_ELIMIT, "more than %d parts", SRV_MAX_PARTS);
        if (part_headers(s, part, e) != 0)
            return pcv_err_at(e, "part %d", p->n);
        /* The empty line that ended the headers may be the delimiter's own, for a part of no bytes.
         */
        stop = memmem(s->at - 2, (size_t)(s->end - s->at) + 2, s->delimiter, s->dlen);
        if (!stop) {
            pcv_fail(e, PCV_EFORMAT, "no boundary after it");
            return pcv_err_at(e, "part %d", p->n);
        }
        part->data = stop < s->at ? stop : s->at;
        part->len = (size_t)(stop - (const char *)part->data);
        s->at = stop + s->dlen;
        p->n++;
    }
    return more == 0 ? 0 : pcv_fail(e, PCV_EFORMAT, "something follows a boundary on its line");
}

int srv_multipart_parse(struct srv_parts *ret, const char *content_type, const void *body,
                        size_t len, struct pcv_err *e)
{
    struct srv_parts p = {0};
    struct scan s = {0};
    int r = begin(&s, content_type, body, len, e);

    if (r != 0)
        return r;
    /* Each string is shorter than the header that says it, and each header is said once. */
    p.strings = malloc(len);
    p.part = calloc(SRV_MAX_PARTS, sizeof(*p.part));
    s.strings = p.strings;
    r = p.strings && p.part ? parse(&p, &s, e)
                            : pcv_fail(e, PCV_ENOMEM, "no memory for the parts' names");
    if (r != 0) {
        srv_multipart_free(&p);
        return r;
    }
    *ret = p;
    return 0;
}

void srv_multipart_free(struct srv_parts *p)
{
    free(p->strings);
    free(p->part);
    *p = (struct srv_parts){0};
}
