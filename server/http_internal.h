/* http_internal.h - what http.c, http_exchange.c and http_watch.c share; nobody else includes it.
 *
 * http.c          the daemon: listening, the pump, drain
 * http_exchange.c one request: headers, body, asking, reply
 * http_frame.c    is the request's head what it may be; its strings, copied
 * http_watch.c    one connection: clients that vanish or dawdle
 *
 * Everything runs on the loop thread, but for unpacking (http_exchange.c). */
#ifndef SRV_HTTP_INTERNAL_H
#define SRV_HTTP_INTERNAL_H

#include "server/body.h"
#include "server/http.h"

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

/* How much of a body over its limit is read, to be thrown away, so that the client gets to read its
 * 413: many write everything before they read, and see only a broken pipe otherwise. */
enum { SRV_DRAIN_EXTRA = 8 << 20 };
/* Bodies in multipart form above this are taken apart by the thread pool. */
enum { SRV_UNPACK_HERE = 256 << 10 };

/* HEADERS [request line came] -> BODY [headers came] -> ASKED, or by way of UNPACKING
 * BODY, UNPACKING, ASKED -> REPLIED [a reply is made] -> SENDING [libmicrohttpd has it]
 * any -> GONE [request completed or connection lost].
 * suspended: UNPACKING or ASKED, but for calls of on_request that reply at once.
 * detached: was suspended when its client vanished; the next call of the handler ends it.
 * GONE: only holders and the thread pool still have it; conn and MHD's memory are no more. */
enum srv_exchange_state {
    SRV_X_HEADERS,
    SRV_X_BODY,
    SRV_X_UNPACKING,
    SRV_X_ASKED,
    SRV_X_REPLIED,
    SRV_X_SENDING,
    SRV_X_GONE,
};

struct srv_pair {
    const char *name, *value; /* value NULL: an argument without '=' */
};

struct srv_exchange {
    struct srv_http *h;
    struct srv_conn *k;          /* NULL when GONE */
    struct MHD_Connection *conn; /* NULL when GONE */
    enum srv_exchange_state state;
    int refs; /* MHD's, holders', the thread pool's */
    bool bad_target;
    bool asked; /* on_request was called: on_gone is owed */
    bool suspended, detached, announced /* a body follows */;
    bool head_only; /* HEAD */
    uint64_t start_ns, body_ms, sending_ms;

    void *data; /* the server's */
    char id[129];
    const char *method, *path; /* these and the pairs lie in strings */
    int nheaders, nargs;
    const struct srv_pair *headers, *args;
    char *strings;

    size_t limit, expected; /* of the body; expected 0: not announced */
    uint64_t received;
    enum srv_coding coding;
    int reject; /* HTTP status that awaits the body's end, or 0 */
    const char *reject_message, *allow;
    struct srv_body body;
    struct srv_parts parts;

    uv_work_t work; /* UNPACKING: belongs to the thread pool, with unpacked and parts */
    struct srv_body unpacked;
    int unpack_status;
    struct pcv_err unpack_err;

    int status;
    size_t reply_bytes;
    struct MHD_Response *response;
};

/* One client's connection. */
struct srv_conn {
    struct srv_http *h;
    struct srv_conn *next, *prev;
    struct srv_exchange *x; /* the request under way, or NULL */
    int fd;
    bool gone;         /* the client has closed its side, or all */
    bool lost;         /* and is not to be answered any more */
    bool served;       /* had a request */
    uint64_t since_ms; /* connected, or last reply sent, or request line received */
};

struct srv_listener {
    struct srv_http *h;
    uv_poll_t poll;
    int fd;
};

struct srv_http {
    uv_loop_t *loop;
    struct srv_http_ops ops;
    struct srv_http_config c;
    struct MHD_Daemon *mhd;

    uv_poll_t poll;      /* MHD's epoll */
    uv_timer_t timer;    /* MHD_get_timeout, when it is a time */
    uv_idle_t idle;      /* MHD_get_timeout, when it is now; replies that wait for the pump */
    uv_poll_t gone_poll; /* the second epoll: clients that vanish */
    uv_timer_t sweep;
    uv_timer_t deadline; /* of the drain */
    struct srv_listener listener[16];
    int nlisteners;
    int gone_epoll;
    int handles; /* initialised and not yet closed */

    bool in_pump, again;
    bool accepting;       /* listeners are polled */
    bool out_of_files;    /* accept failed for want of something: the sweep tries again */
    uint64_t complain_ms; /* not again before */
    bool sweeping;
    bool draining, stopping, freed;
    void (*done)(void *ctx);
    void *done_ctx;

    int nconns;
    struct srv_conn *conns;
    int open;      /* exchanges not GONE */
    int exchanges; /* exchanges not yet freed */
    struct srv_budget budget;
    uint8_t random[256];
    size_t random_left;
};

/* ---- http.c */
void srv_http_kick(struct srv_http *h); /* the pump shall run soon; from anywhere */
void srv_http_may_be_freed(struct srv_http *h);

/* ---- http_exchange.c: called by MHD through http.c; enum MHD_Result is int here */
struct srv_exchange *srv_exchange_new(struct srv_conn *k, struct MHD_Connection *c,
                                      const char *target);
int srv_exchange_step(struct srv_exchange *x, const char *url, const char *method,
                      const char *version, const char *upload, size_t *upload_size);
void srv_exchange_gone(struct srv_exchange *x);
void srv_exchange_detach(struct srv_exchange *x); /* must be suspended */

/* ---- http_frame.c */
/* 0, or the HTTP status that refuses this head, with *message (static). Fills limits' inputs of x
 * (expected, announced, coding), id, method, path, headers and args. */
int srv_frame_read(struct srv_exchange *x, const char *url, const char *method, const char *version,
                   bool *expects, const char **message);
bool srv_frame_target_ok(const char *raw);

/* ---- http_watch.c */
int srv_watch_start(struct srv_http *h, struct pcv_err *e);
void srv_watch_sweep_on(struct srv_http *h);               /* until there is nothing to sweep */
struct srv_conn *srv_conn_new(struct srv_http *h, int fd); /* NULL: no memory */
void srv_conn_idle(struct srv_conn *k);                    /* its request is over */
void srv_conn_free(struct srv_conn *k);                    /* fd is still open */
void srv_watch_abort_all(struct srv_http *h);              /* the drain's deadline */

#endif
