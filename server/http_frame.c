/* http_frame.c - is a request's head what it may be?
 *
 * libmicrohttpd 0.9.75 takes heads that other servers and proxies read differently, which is how
 * requests are smuggled past them. Checked here, and refused with the connection closed:
 * - Content-Length beside Transfer-Encoding, either one twice, a coding other than chunked;
 * - header names that are no tokens: "Content-Length : 2" is an unknown header to libmicrohttpd;
 * - folded lines, which it glues to the *name*: "Transfer-Encoding:\r\n chunked" becomes the header
 *   "Transfer-Encodingchunked", so names that begin like the two framing headers are refused;
 * - control characters in values; no Host or two; %00 or blanks in the target.
 * Out of reach from here: NUL bytes cut values short, bare LF ends lines, a line that begins with a
 * colon ends the headers, and an unreadable Content-Length is answered by libmicrohttpd (with the
 * head of its 400 twice). A proxy in front should be one that normalises requests. */
#include "server/clock.h"
#include "server/http_internal.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct head {
    size_t bytes; /* of all strings with their NULs */
    int nheaders, nargs, hosts, lengths, transfers, encodings;
    const char *length, *transfer, *encoding, *expect, *id;
    const char *wrong; /* what is wrong with a header, or NULL */
};

static bool is_token(const char *s, size_t n)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              (c != 0 && strchr(marks, c))))
            return false;
    }
    return n != 0;
}

static bool value_ok(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool begins(const char *name, size_t n, const char *with)
{
    size_t w = strlen(with);

    return n > w && strncasecmp(name, with, w) == 0;
}

static void look_at(struct head *d, const char *name, size_t n, const char *value)
{
    if (strcasecmp(name, "Host") == 0) {
        d->hosts++;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        d->lengths++;
        d->length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        d->transfers++;
        d->transfer = value;
    } else if (begins(name, n, "Content-Length") || begins(name, n, "Transfer-Encoding")) {
        d->wrong = "folded or misspelt framing header";
    } else if (strcasecmp(name, "Content-Encoding") == 0) {
        d->encodings++;
        d->encoding = value;
    } else if (strcasecmp(name, "Expect") == 0) {
        d->expect = value;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        d->id = value;
    }
}

static enum MHD_Result measure(void *cls, enum MHD_ValueKind kind, const char *name, size_t n,
                               const char *value, size_t vn)
{
    struct head *d = cls;

    d->bytes += n + 1 + (value ? vn + 1 : 0);
    if (kind == MHD_GET_ARGUMENT_KIND) {
        d->nargs++;
        return MHD_YES;
    }
    d->nheaders++;
    if (!is_token(name, n))
        d->wrong = "header name is not a token";
    else if (value && !value_ok(value, vn))
        d->wrong = "control character in a header's value";
    else
        look_at(d, name, n, value ? value : "");
    return MHD_YES;
}

struct copy {
    struct srv_pair *pair;
    char *at;
};

static const char *copy_string(struct copy *c, const char *s, size_t n)
{
    char *kept = c->at;

    memcpy(kept, s, n);
    kept[n] = '\0';
    c->at += n + 1;
    return kept;
}

static enum MHD_Result copy_pair(void *cls, enum MHD_ValueKind kind, const char *name, size_t n,
                                 const char *value, size_t vn)
{
    struct copy *c = cls;

    (void)kind;
    c->pair->name = copy_string(c, name, n);
    c->pair->value = value ? copy_string(c, value, vn) : NULL;
    c->pair++;
    return MHD_YES;
}

/* Origin form of the target, which arrives unescaped: "/path", or "http://host/path" from clients
 * that take us for a proxy. NULL: neither. */
static const char *origin_form(const char *url)
{
    const char *authority = NULL;

    if (url[0] == '/' || strcmp(url, "*") == 0)
        return url;
    if (strncasecmp(url, "http://", 7) == 0)
        authority = url + 7;
    else if (strncasecmp(url, "https://", 8) == 0)
        authority = url + 8;
    if (!authority)
        return NULL;
    url = strchr(authority, '/');
    return url ? url : "/";
}

static int keep_strings(struct srv_exchange *x, const struct head *d, const char *path,
                        const char *method)
{
    size_t npairs = (size_t)d->nheaders + (size_t)d->nargs;
    size_t pairs = npairs * sizeof(struct srv_pair);
    struct copy c;

    x->strings = malloc(pairs + d->bytes + strlen(path) + 1 + strlen(method) + 1);
    if (!x->strings)
        return -1;
    c.pair = (struct srv_pair *)(void *)x->strings;
    c.at = x->strings + pairs;
    x->headers = c.pair;
    x->args = c.pair + d->nheaders;
    x->nheaders = d->nheaders;
    x->nargs = d->nargs;
    MHD_get_connection_values_n(x->conn, MHD_HEADER_KIND, copy_pair, &c);
    MHD_get_connection_values_n(x->conn, MHD_GET_ARGUMENT_KIND, copy_pair, &c);
    x->path = copy_string(&c, path, strlen(path));
    x->method = copy_string(&c, method, strlen(method));
    return 0;
}

/* Random bytes are fetched for 16 requests at a time. Should the kernel refuse them, the time does:
 * an id must be unlike others, not secret. */
static void make_id(struct srv_http *h, char id[129])
{
    static const char hex[] = "0123456789abcdef";

    if (h->random_left < 16) {
        uint64_t now = srv_now_ns();

        if (getentropy(h->random, sizeof(h->random)) != 0)
            memcpy(h->random, &now, sizeof(now));
        h->random_left = sizeof(h->random);
    }
    for (size_t i = 0; i < 16; i++) {
        uint8_t b = h->random[--h->random_left];

        id[2 * i] = hex[b >> 4];
        id[2 * i + 1] = hex[b & 15];
    }
    id[32] = '\0';
}

static void take_id(struct srv_exchange *x, const char *sent)
{
    size_t n = sent ? strlen(sent) : 0;

    for (size_t i = 0; i < n; i++) {
        if (sent[i] <= ' ' || sent[i] > '~')
            n = 0;
    }
    if (n == 0 || n >= sizeof(x->id))
        make_id(x->h, x->id);
    else
        memcpy(x->id, sent, n + 1);
}

static int check(const struct head *d, const char *version, bool bad_target, const char **message)
{
    bool http10 = strcmp(version, "HTTP/1.0") == 0;

    if (bad_target)
        *message = "request target holds a NUL, a blank or a control character";
    else if (d->wrong)
        *message = d->wrong;
    else if (d->hosts > 1 || (d->hosts == 0 && !http10))
        *message = "there must be exactly one Host header";
    else if (d->lengths > 1)
        *message = "more than one Content-Length";
    else if (d->transfers > 1)
        *message = "more than one Transfer-Encoding";
    else if (d->transfers && d->lengths)
        *message = "both Content-Length and Transfer-Encoding";
    else if (d->transfers && http10)
        *message = "Transfer-Encoding in HTTP/1.0";
    else if (d->transfers && strcasecmp(d->transfer, "chunked") != 0) {
        *message = "Transfer-Encoding other than chunked";
        return 501;
    } else
        return 0;
    return 400;
}

int srv_frame_read(struct srv_exchange *x, const char *url, const char *method, const char *version,
                   bool *expects, const char **message)
{
    struct head d = {0};
    const char *path = origin_form(url);
    int status;

    MHD_get_connection_values_n(x->conn, MHD_HEADER_KIND, measure, &d);
    MHD_get_connection_values_n(x->conn, MHD_GET_ARGUMENT_KIND, measure, &d);
    status = check(&d, version, x->bad_target, message);
    if (status == 0 && !path) {
        *message = "request target is neither a path nor an http URL";
        status = 400;
    }
    take_id(x, d.id);
    if (keep_strings(x, &d, path ? path : url, method) != 0) {
        *message = "out of memory";
        return 503;
    }
    x->head_only = strcmp(method, "HEAD") == 0;
    x->http10 = strcmp(version, "HTTP/1.0") == 0;
    x->expected = d.length ? strtoull(d.length, NULL, 10) : 0; /* MHD has checked the digits */
    x->announced = d.transfers || x->expected != 0;
    x->coding = d.encodings > 1 ? SRV_UNKNOWN_CODING : srv_coding_of(d.encoding);
    *expects = d.expect && strcasecmp(d.expect, "100-continue") == 0;
    return status;
}

/* Before libmicrohttpd undoes the escapes: %00 would cut the path short. */
bool srv_frame_target_ok(const char *raw)
{
    for (const char *s = raw; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c <= ' ' || c == 0x7f || (c == '%' && s[1] == '0' && s[2] == '0'))
            return false;
    }
    return true;
}
