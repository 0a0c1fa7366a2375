/* http_internal.h - what the http*.c share; nobody else includes it.
 *
 * http.c          the daemon: listening, the pump, drain
 * http_exchange.c one request: headers, body, asking, reply
 * http_stream.c   a reply in pieces
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
 * BODY, UNPACKING, ASKED -> REPLIED [a reply is made] -> SENDING [libmicrohttpd has it], or
 * STREAMING [libmicrohttpd has the headers of a stream, and asks for what follows]
 * any -> GONE [request completed or connection lost].
 * suspended: UNPACKING or ASKED, but for calls of on_request that reply at once; STREAMING while
 * there is nothing to send.
 * detached: was suspended when its client vanished; the next call of the handler, or of the
 * stream's reader, ends it.
 * GONE: only holders and the thread pool still have it; conn and MHD's memory are no more. */
enum srv_exchange_state {
    SRV_X_HEADERS,
    SRV_X_BODY,
    SRV_X_UNPACKING,
    SRV_X_ASKED,
    SRV_X_REPLIED,
    SRV_X_SENDING,
    SRV_X_STREAMING,
    SRV_X_GONE,
};

struct srv_pair {
    const char *name, *value; /* value NULL: an argument without '=' */
};

/* Bytes on their way to the client, as they were sent to the stream. */
struct srv_piece {
    struct srv_piece *next;
    char *data;
    size_t len;
};

struct srv_stream {
    struct srv_piece *first, **last;
    size_t at;     /* bytes of first that libmicrohttpd has */
    size_t queued; /* bytes it has not */
    uint64_t sent; /* bytes it has */
    bool ended, aborted;
    bool over; /* the end, too, was handed to libmicrohttpd */
    bool full; /* queued was above the low water: room will be news */
    bool owes; /* something was sent since the last on_room */
    bool listed;
    uint64_t busy_ms; /* in earlier times when there was something to send */
    void (*on_room)(struct srv_exchange *x);
    struct srv_exchange *next; /* of those with room; each is held */
};

/* A body on its way to be decompressed or taken apart: the thread pool's while UNPACKING, with the
 * exchange's body and parts. */
struct srv_unpacking {
    uv_work_t work;
    struct srv_body body; /* decompressed */
    int status;
    struct pcv_err err;
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
    bool http10;
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

    struct srv_unpacking *unpacking; /* own; NULL: the body is as it came */

    int status;
    size_t reply_bytes;
    struct MHD_Response *response;
    struct srv_stream *stream; /* NULL: the reply is whole */
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
    int open;                               /* exchanges not GONE */
    int exchanges;                          /* exchanges not yet freed */
    struct srv_exchange *room, **room_last; /* streams whose on_room is due */
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
void srv_exchange_resume(struct srv_exchange *x); /* must be suspended */
/* ASKED -> REPLIED. response is taken; NULL: there was no memory, the connection will close */
void srv_exchange_set_reply(struct srv_exchange *x, int status, struct MHD_Response *response,
                            const char *content_type, const struct srv_header *headers,
                            int nheaders);

/* ---- http_stream.c */
void srv_stream_rooms(struct srv_http *h);                 /* calls on_room where it is due */
void srv_stream_rooms_drop(struct srv_http *h);            /* no more: the daemon stops */
void srv_stream_free(struct srv_stream *s);                /* NULL is fine */
uint64_t srv_stream_busy_ms(const struct srv_exchange *x); /* spent on sending, so far */

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
