/* ctl_http.h - perceiverctl's side of HTTP: one request, or many clients in a closed loop.
 *
 * The only place that knows libcurl. HTTP/1.1 over TCP or a Unix socket; proxies of the environment
 * are not used. One thread. */
#ifndef CTL_HTTP_H
#define CTL_HTTP_H

#include "lib/base/err.h"
#include "server/ctl.h"

#include <stddef.h>
#include <stdint.h>

/* Where the daemon is; options of every command that talks to it. */
struct ctl_server {
    const char *url;       /* NULL: $PERCEIVERCTL_URL, or CTL_DEFAULT_URL */
    const char *unix_path; /* NULL: TCP */
};

#define CTL_DEFAULT_URL "http://127.0.0.1:8080"
#define CTL_SERVER_OPTIONS(s)                                                                      \
    {.name = "url",                                                                                \
     .value = "URL",                                                                               \
     .doc = "the daemon; default $PERCEIVERCTL_URL, or " CTL_DEFAULT_URL,                          \
     .text = &(s)->url},                                                                           \
    {                                                                                              \
        .name = "unix", .value = "PATH", .doc = "reach it through this Unix socket",               \
        .text = &(s)->unix_path                                                                    \
    }

struct ctl_call {
    const char *path; /* "/v1/models", with its query string */
    const char *type; /* media type of the body */
    const void *body; /* borrow while the call lasts; NULL: GET, else POST */
    size_t len;
    int64_t header_len; /* Inference-Header-Content-Length; 0: none */
    const char *method; /* another than those */

    /* Each line of a reply 200, with its newline, as soon as it has come; what is left of the body
     * then is what has no newline. Not 0: the call ends, and fails with what was set. */
    int (*on_line)(void *ctx, const char *line, size_t len, struct pcv_err *e);
    void *ctx;
};

struct ctl_reply {
    int status;
    char *body; /* NUL-terminated behind len */
    size_t len;
    int64_t header_len; /* Inference-Header-Content-Length, -1 when there is none */
};

struct ctl_http;

/* own: ctl_http_close. Nothing is sent yet. */
PCV_CHECK int ctl_http_open(struct ctl_http **ret, const struct ctl_server *s, struct pcv_err *e);
void ctl_http_close(struct ctl_http *h); /* NULL is fine */

const char *ctl_http_url(const struct ctl_http *h); /* for messages; borrow */

/* own: free(ret->body). PCV_EIO when there was no reply. */
PCV_CHECK int ctl_http_call(struct ctl_http *h, const struct ctl_call *c, struct ctl_reply *ret,
                            struct pcv_err *e);

/* The same, and a status that is not 2xx is an error too: "415 the server's words". */
PCV_CHECK int ctl_http_ask(struct ctl_http *h, const struct ctl_call *c, struct ctl_reply *ret,
                           struct pcv_err *e);

/* Asks for a path. */
PCV_CHECK int ctl_http_get(struct ctl_http *h, const char *path, struct ctl_reply *ret,
                           struct pcv_err *e);

/* What a reply that is not 200 says, as an error: "415 the server's words". */
int ctl_http_refusal(const struct ctl_reply *reply, struct pcv_err *e);

/* Clients that each have a connection and one request under way. */
struct ctl_crowd {
    int clients;
    void *ctx;
    /* What the client, which is idle, sends next; NULL: it is done. borrow until its reply. */
    const struct ctl_call *(*next)(void *ctx, int client);
    /* Its reply, borrowed, and the time from request to reply; or NULL and the reason. Not 0: the
     * crowd stops, and ctl_http_crowd returns it. */
    int (*done)(void *ctx, int client, const struct ctl_reply *reply, const char *reason,
                uint64_t ns, struct pcv_err *e);
    void (*tick)(void *ctx); /* ten times a second */
};

/* Returns when all clients are done. */
PCV_CHECK int ctl_http_crowd(struct ctl_http *h, const struct ctl_crowd *crowd, struct pcv_err *e);

/* CLOCK_MONOTONIC. */
uint64_t ctl_now_ns(void);

#endif
