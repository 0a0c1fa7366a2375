/* http.h - HTTP/1.1 for the daemon: libmicrohttpd inside the libuv loop.
 *
 * Only http*.c know libmicrohttpd. Everything runs on the loop thread; no function here may
 * be called from another. SIGPIPE must be ignored by the process. Exchanges are one request and its
 * reply:
 *
 *   HEADERS -> BODY -> ASKED [on_request] -> REPLIED [srv_http_reply] -> gone [on_gone]
 *                                            or STREAMED [srv_http_stream_begin .. _end]
 *
 * on_request is called once when the whole request has arrived. It replies at once with
 * srv_http_reply() or srv_http_stream_begin(), or returns without: the connection is then suspended
 * and the reply may come in any later loop turn. Bad framing, bodies over the limit or not what
 * their headers say, unknown paths and methods are answered here, through ops->error_body, and
 * never reach on_request. (libmicrohttpd itself answers overlong headers, 431 or 414, and an
 * unreadable Content-Length, 400, with texts of its own; slow clients are disconnected without a
 * reply.)
 *
 * A client that vanishes while ASKED or STREAMED is noticed: on_gone comes with replied = false,
 * and the exchange must not be replied to afterwards. on_gone comes exactly once for every exchange
 * that had on_request, also after a reply, also when the daemon stops; until it has come, the
 * exchange's strings and body may be read. Work on another thread that reads them takes a hold on
 * the exchange first, which keeps them readable beyond on_gone until the release. */
#ifndef SRV_HTTP_H
#define SRV_HTTP_H

#include "lib/base/err.h"
#include "server/multipart.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct srv_http;
struct srv_exchange;

struct srv_http_ops {
    /* Headers have come, before any body: the largest body this path takes with this method, or a
     * negative HTTP status (-404, -405) to refuse. With -405 *allow names the methods ("GET,
     * HEAD"). */
    int64_t (*body_limit)(void *ctx, const char *method, const char *path, const char **allow);
    void (*on_request)(void *ctx, struct srv_exchange *x);
    void (*on_gone)(void *ctx, struct srv_exchange *x, bool replied);
    /* Body of an error that http.c itself answers (400, 404, 405, 413, 415, 500, 501, 503): own by
     * http.c, free(). path decides the form (/v1, /v2). */
    char *(*error_body)(void *ctx, int status, const char *path, const char *message,
                        const char *request_id);
    /* Every reply that is on its way to the client: for access log and metrics. For a stream it
     * comes when that is over, whole or not, just before on_gone. */
    void (*on_replied)(void *ctx, const struct srv_exchange *x, int status, size_t bytes,
                       uint64_t duration_ns);
    void *ctx;
};

struct srv_http_config {
    int fds[16]; /* listening sockets, taken also on failure: closed by drain or free */
    int nfds;
    int max_connections;
    int header_timeout_s;     /* first byte to end of headers, and idle keep-alive */
    int body_min_bytes_per_s; /* slower uploads are cut */
    size_t connection_memory; /* holds one request's headers; 16384 is right: see http.c */
    size_t body_memory;       /* all request bodies together; beyond it 503; 0 = no limit */
    bool half_close_ok;       /* a client's FIN does not abort its request */
};

/* Starts serving on loop. own: srv_http_free (after drain is done, or at once: aborts what is open,
 * with on_gone for each). Not from inside ops; from done is fine. Memory is given back as the loop
 * closes its handles, so run the loop afterwards. NULL is fine. */
PCV_CHECK int srv_http_new(struct srv_http **ret, uv_loop_t *loop, const struct srv_http_config *c,
                           const struct srv_http_ops *ops, struct pcv_err *e);
void srv_http_free(struct srv_http *h);

/* Takes what waits in the backlog, then stops accepting; replies from now on close their
 * connection. done(ctx) comes once, from the loop and never inside this call, when no exchange is
 * open any more and no new connection still owes its first request (waited for half a second at
 * most). With deadline_ms > 0, exchanges still open then are aborted (on_gone), and done comes. */
void srv_http_drain(struct srv_http *h, int deadline_ms, void (*done)(void *ctx), void *ctx);

int srv_http_connections(const struct srv_http *h);

/* ---- one exchange -------------------------------------------------------------------------- */

void srv_exchange_set_data(struct srv_exchange *x, void *data); /* the handler's own pointer */
void *srv_exchange_data(const struct srv_exchange *x);

const char *srv_exchange_method(const struct srv_exchange *x); /* "GET" */
const char *srv_exchange_path(const struct srv_exchange *x);   /* decoded, without query string */
/* Request header, case-insensitive, NULL when absent. borrow */
const char *srv_exchange_header(const struct srv_exchange *x, const char *name);
/* X-Request-Id as sent (if 1..128 visible ASCII characters), else made: 32 hex digits. */
const char *srv_exchange_request_id(const struct srv_exchange *x);

int srv_exchange_nargs(const struct srv_exchange *x); /* query string, decoded */
void srv_exchange_arg(const struct srv_exchange *x, int i, const char **name, const char **value);

/* Keeps strings, body and parts readable, also after on_gone, until the release. Nests. Calls must
 * be on the loop thread; reading may be on any. A held exchange that is gone may not be replied to.
 */
void srv_exchange_hold(struct srv_exchange *x);
void srv_exchange_release(struct srv_exchange *x);

/* Body as received, content-encoding gzip/deflate already undone (bounded by the limit). borrow. */
const void *srv_exchange_body(const struct srv_exchange *x, size_t *len);

/* Parts of a multipart/form-data body: 0 when the body is of another type (a body that says it is
 * one and is not, or has more than SRV_MAX_PARTS, was answered 400). borrow: the parts' data point
 * into the body. */
int srv_exchange_parts(const struct srv_exchange *x, const struct srv_part **parts);

struct srv_header {
    const char *name, *value;
};

/* Replies. body is taken (free()), also on failure; may be NULL with len 0. X-Request-Id and Date
 * are added; HEAD requests get the headers alone. Exactly once for an exchange, not after on_gone.
 */
void srv_http_reply(struct srv_exchange *x, int status, const char *content_type, char *body,
                    size_t len, const struct srv_header *headers, int nheaders);

/* ---- a reply in pieces: http_stream.c --------------------------------------------------------
 *
 * begin, then send() as often as there is something, then end() or abort(), in any loop turns. The
 * headers go at once, and each piece as soon as the client takes it. HTTP/1.1 gets chunks, and
 * keeps its connection; HTTP/1.0 gets everything until the connection closes.
 *
 * Flow: send() never blocks and never refuses, so what is queued is the handler's to bound. It
 * stops when send() says SRV_STREAM_LOW or more, and goes on in on_room: the queue then holds less
 * than SRV_STREAM_LOW and one more piece, and the connection at most connection_memory besides. A
 * handler that sends one piece for each on_room is never ahead of its client.
 *
 * on_room comes from the loop, never inside another call here: once after the queue, having been at
 * SRV_STREAM_LOW or above, has fallen below, and once whenever it became empty after a send. Not
 * after end, abort or on_gone.
 *
 * Over: on_gone comes with replied = true when all of it, with the end, was handed to the socket;
 * else with false: the client left or was cut off (one that does not read for header_timeout_s, or
 * less than body_min_bytes_per_s over the time there was something for it to read), the daemon
 * stops, or the handler aborted. Time without anything to send counts for nothing. For HEAD the
 * headers are all there is: pieces are dropped, on_gone comes with true, maybe before end(), and
 * the connection closes. */
enum { SRV_STREAM_LOW = 256 << 10 };

/* The reply of the exchange, in the place of srv_http_reply(). */
void srv_http_stream_begin(struct srv_exchange *x, int status, const char *content_type,
                           const struct srv_header *headers, int nheaders,
                           void (*on_room)(struct srv_exchange *x));

/* data is taken (free()), also on failure, and copied once, into the connection's buffer. Returns
 * the bytes now queued, these included. Without memory the stream is aborted. */
size_t srv_http_stream_send(struct srv_exchange *x, char *data, size_t len);

/* After what is queued; or now, and the client sees that a part is missing. */
void srv_http_stream_end(struct srv_exchange *x);
void srv_http_stream_abort(struct srv_exchange *x);

#endif
