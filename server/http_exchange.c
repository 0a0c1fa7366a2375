/* http_exchange.c - one request: its headers, its body, the question to the server, the reply.
 *
 * libmicrohttpd calls the handler once with the headers, then with pieces of body, then once with
 * nothing: the request is whole. Easy to get wrong:
 * - a reply queued in the first call closes the connection: refusals wait for the last call unless
 *   the rest of the request cannot be trusted or is not worth reading;
 * - nothing may be queued while body comes in, so a slow upload is cut without an answer;
 * - the last call must queue or suspend, or libmicrohttpd spins;
 * - a resumed connection calls the handler from the next MHD_run, hence the kick.
 * Decompression, and taking large multipart bodies apart, happen in libuv's thread pool while the
 * connection is suspended (UNPACKING): the pool then owns body, parts and unpacking. */
#include "server/clock.h"
#include "server/http_internal.h"
#include "server/log.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void move_to(struct srv_exchange *x, enum srv_exchange_state to)
{
    x->state = to;
}

static void on_sent(struct srv_exchange *x, size_t bytes)
{
    struct srv_http *h = x->h;

    if (h->ops.on_replied)
        h->ops.on_replied(h->ops.ctx, x, x->status, bytes, srv_now_ns() - x->start_ns);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct srv_exchange *srv_exchange_new(struct srv_conn *k, struct MHD_Connection *c,
                                      const char *target)
{
    struct srv_exchange *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->h = k->h;
    x->k = k;
    x->conn = c;
    x->refs = 1;
    x->start_ns = srv_now_ns();
    x->bad_target = !srv_frame_target_ok(target);
    x->body.budget = &k->h->budget;
    x->method = x->path = "";
    k->x = x;
    k->served = true;
    k->since_ms = uv_now(k->h->loop);
    k->h->open++;
    k->h->exchanges++;
    return x;
}

void srv_exchange_hold(struct srv_exchange *x)
{
    x->refs++;
}

void srv_exchange_release(struct srv_exchange *x)
{
    struct srv_http *h = x->h;

    if (--x->refs > 0)
        return;
    if (x->response)
        MHD_destroy_response(x->response);
    srv_multipart_free(&x->parts);
    srv_body_free(&x->body);
    if (x->unpacking)
        srv_body_free(&x->unpacking->body);
    free(x->unpacking);
    srv_stream_free(x->stream);
    free(x->strings);
    free(x);
    h->exchanges--;
    srv_http_may_be_freed(h);
}

/* A resumed connection is read from before its handler is called, and closed if that finds a FIN:
 * a client that only stopped sending would get no reply. Connections with a timeout of their own
 * are the exception, libmicrohttpd calls their handlers first; so they get one while they wait. */
static void handler_before_read(struct srv_exchange *x, bool on)
{
    if (x->h->c.half_close_ok)
        MHD_set_connection_option(x->conn, MHD_CONNECTION_OPTION_TIMEOUT,
                                  (unsigned)x->h->c.header_timeout_s + on);
}

/* The request is over, or its connection is. MHD's own memory is still there, but not for long. */
void srv_exchange_gone(struct srv_exchange *x)
{
    struct srv_http *h = x->h;
    bool replied = x->state == SRV_X_SENDING;

    if (x->state == SRV_X_HEADERS)
        srv_log(SRV_DEBUG, NULL, "a request ended before its headers were whole");
    if (x->state == SRV_X_STREAMING) {
        replied = x->head_only || x->stream->over;
        on_sent(x, x->stream->sent);
    }
    move_to(x, SRV_X_GONE);
    handler_before_read(x, false);
    srv_conn_idle(x->k);
    x->k = NULL;
    x->conn = NULL;
    x->suspended = false;
    h->open--;
    if (x->asked)
        h->ops.on_gone(h->ops.ctx, x, replied);
    srv_exchange_release(x);
}

static void suspend(struct srv_exchange *x)
{
    handler_before_read(x, true);
    x->suspended = true;
    MHD_suspend_connection(x->conn);
}

void srv_exchange_resume(struct srv_exchange *x)
{
    x->suspended = false;
    MHD_resume_connection(x->conn);
    srv_http_kick(x->h);
}

void srv_exchange_detach(struct srv_exchange *x)
{
    x->detached = true;
    srv_exchange_resume(x);
}

/* ---- replies --------------------------------------------------------------------------------- */

static void add_header(struct srv_exchange *x, const char *name, const char *value)
{
    if (MHD_add_response_header(x->response, name, value) != MHD_YES)
        srv_log(SRV_ERROR, x->id, "reply header %s: cannot be sent: %s", name, value);
}

void srv_exchange_set_reply(struct srv_exchange *x, int status, struct MHD_Response *response,
                            const char *content_type, const struct srv_header *headers,
                            int nheaders)
{
    move_to(x, SRV_X_REPLIED);
    x->status = status;
    x->response = response;
    if (!response) {
        srv_log(SRV_ERROR, x->id, "no memory for the reply");
        return;
    }
    if (content_type)
        add_header(x, "Content-Type", content_type);
    add_header(x, "X-Request-Id", x->id);
    for (int i = 0; i < nheaders; i++)
        add_header(x, headers[i].name, headers[i].value);
}

static void make_reply(struct srv_exchange *x, int status, const char *content_type, char *body,
                       size_t len, const struct srv_header *headers, int nheaders)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);

    if (!response)
        free(body);
    x->reply_bytes = x->head_only ? 0 : len;
    srv_exchange_set_reply(x, status, response, content_type, headers, nheaders);
}

static void make_error(struct srv_exchange *x, int status, const char *message)
{
    struct srv_http_ops *ops = &x->h->ops;
    char *body = ops->error_body(ops->ctx, status, x->path, message, x->id);
    struct srv_header header[2];
    int n = 0;

    if (status == 405 && x->allow)
        header[n++] = (struct srv_header){"Allow", x->allow};
    if (status == 503)
        header[n++] = (struct srv_header){"Retry-After", "1"};
    if (status == 415)
        header[n++] = (struct srv_header){"Accept-Encoding", "gzip, deflate"};
    make_reply(x, status, "application/json", body, body ? strlen(body) : 0, header, n);
}

/* In the handler only. */
static enum MHD_Result queue_reply(struct srv_exchange *x)
{
    struct srv_http *h = x->h;
    enum MHD_Result r;

    if (!x->response || (x->stream && x->stream->aborted))
        return MHD_NO;
    if (h->draining)
        add_header(x, "Connection", "close");
    r = MHD_queue_response(x->conn, (unsigned)x->status, x->response);
    MHD_destroy_response(x->response);
    x->response = NULL;
    if (r != MHD_YES)
        return MHD_NO;
    move_to(x, x->stream ? SRV_X_STREAMING : SRV_X_SENDING);
    x->sending_ms = uv_now(h->loop);
    if (!x->stream)
        on_sent(x, x->reply_bytes);
    return MHD_YES;
}

static enum MHD_Result queue_error(struct srv_exchange *x, int status, const char *message)
{
    make_error(x, status, message);
    return queue_reply(x);
}

void srv_http_reply(struct srv_exchange *x, int status, const char *content_type, char *body,
                    size_t len, const struct srv_header *headers, int nheaders)
{
    if (x->state != SRV_X_ASKED || x->detached) { /* the client is gone */
        free(body);
        return;
    }
    make_reply(x, status, content_type, body, len, headers, nheaders);
    if (x->suspended)
        srv_exchange_resume(x);
}

/* ---- the question ---------------------------------------------------------------------------- */

static void ask(struct srv_exchange *x)
{
    move_to(x, SRV_X_ASKED);
    x->asked = true;
    x->h->ops.on_request(x->h->ops.ctx, x);
}

static const char *header(const struct srv_exchange *x, const char *name)
{
    for (int i = 0; i < x->nheaders; i++) {
        if (strcasecmp(x->headers[i].name, name) == 0)
            return x->headers[i].value ? x->headers[i].value : "";
    }
    return NULL;
}

/* Thread pool, or the loop for small bodies without compression. */
static int unpack(struct srv_exchange *x)
{
    const char *type = header(x, "Content-Type");
    struct srv_unpacking *u = x->unpacking;
    struct srv_body *body = &x->body;
    int r;

    if (x->coding != SRV_IDENTITY) {
        int status = srv_body_inflate(&u->body, x->coding, x->body.data, x->body.len, x->limit);

        if (status != 0)
            return status;
        body = &u->body;
    }
    if (!srv_multipart_is(type))
        return 0;
    r = srv_multipart_parse(&x->parts, type, body->data, body->len, &u->err);
    return r == 0 ? 0 : r == PCV_ENOMEM ? 503 : 400;
}

static void unpack_error(struct srv_exchange *x, int status)
{
    const struct pcv_err *e = &x->unpacking->err;
    char text[600];

    if (e->code != PCV_OK)
        snprintf(text, sizeof(text), "%s%s%s", e->where, e->where[0] ? ": " : "", e->msg);
    else if (status == 413)
        snprintf(text, sizeof(text), "body is larger than %zu bytes when decompressed", x->limit);
    else if (status == 400)
        snprintf(text, sizeof(text), "compressed body is damaged or cut short");
    else
        snprintf(text, sizeof(text), "no memory for the decompressed body");
    make_error(x, status, text);
}

static void take_unpacked(struct srv_exchange *x)
{
    if (x->coding == SRV_IDENTITY)
        return;
    srv_body_free(&x->body);
    x->body = x->unpacking->body;
    x->unpacking->body = (struct srv_body){.budget = x->body.budget};
}

static void on_unpack(uv_work_t *w) /* thread pool */
{
    struct srv_exchange *x = w->data;

    x->unpacking->status = unpack(x);
}

static void on_unpacked(uv_work_t *w, int status) /* loop thread */
{
    struct srv_exchange *x = w->data;

    (void)status; /* never cancelled */
    if (x->state == SRV_X_UNPACKING && !x->detached) {
        if (x->unpacking->status != 0) {
            unpack_error(x, x->unpacking->status);
            srv_exchange_resume(x);
        } else {
            take_unpacked(x);
            ask(x);
        }
    }
    srv_exchange_release(x);
}

static enum MHD_Result unpack_elsewhere(struct srv_exchange *x)
{
    move_to(x, SRV_X_UNPACKING);
    x->unpacking->work.data = x;
    srv_exchange_hold(x);
    suspend(x);
    uv_queue_work(x->h->loop, &x->unpacking->work, on_unpack, on_unpacked);
    return MHD_YES;
}

/* The request is whole. */
static enum MHD_Result on_whole(struct srv_exchange *x)
{
    const char *type = header(x, "Content-Type");
    bool multipart = srv_multipart_is(type);

    if (x->k->lost)
        return MHD_NO;
    if (x->reject != 0)
        return queue_error(x, x->reject, x->reject_message);
    if (x->body.len != 0 && (multipart || x->coding != SRV_IDENTITY)) {
        x->unpacking = calloc(1, sizeof(*x->unpacking));
        if (!x->unpacking)
            return queue_error(x, 503, "no memory to take the body apart");
        x->unpacking->body.budget = &x->h->budget;
        if (x->coding != SRV_IDENTITY || x->body.len > SRV_UNPACK_HERE)
            return unpack_elsewhere(x);
        x->unpacking->status = unpack(x);
        if (x->unpacking->status != 0) {
            unpack_error(x, x->unpacking->status);
            return queue_reply(x);
        }
    }
    ask(x);
    if (x->state == SRV_X_REPLIED)
        return queue_reply(x);
    suspend(x);
    return MHD_YES;
}

/* ---- headers and body ------------------------------------------------------------------------ */

static void reject(struct srv_exchange *x, int status, const char *message)
{
    if (x->reject != 0)
        return;
    x->reject = status;
    x->reject_message = message;
    srv_body_free(&x->body);
}

static const char *refusal(int status)
{
    switch (status) {
    case 404: return "no such path";
    case 405: return "method is not allowed here";
    case 413: return "body is too large";
    case 501: return "method is not implemented";
    }
    return "refused";
}

static enum MHD_Result on_headers(struct srv_exchange *x, const char *url, const char *method,
                                  const char *version)
{
    struct srv_http_ops *ops = &x->h->ops;
    const char *message = NULL;
    bool expects;
    int status = srv_frame_read(x, url, method, version, &expects, &message);
    int64_t limit;

    if (status != 0) /* where the request ends is not certain: this closes the connection */
        return queue_error(x, status, message);
    move_to(x, SRV_X_BODY);
    x->body_ms = uv_now(x->h->loop);
    limit = ops->body_limit(ops->ctx, x->method, x->path, &x->allow);
    if (limit < 0)
        reject(x, (int)-limit, refusal((int)-limit));
    x->limit = limit < 0 ? 0 : (size_t)limit;
    if (x->coding == SRV_UNKNOWN_CODING)
        reject(x, 415, "Content-Encoding is none of gzip, deflate, identity");
    if (x->expected > x->limit)
        reject(x, 413, refusal(413));
    if (x->reject != 0 && x->announced &&
        (expects || x->expected > x->limit + SRV_DRAIN_EXTRA)) /* not worth reading: closes */
        return queue_error(x, x->reject, x->reject_message);
    return MHD_YES;
}

static enum MHD_Result on_body(struct srv_exchange *x, const char *data, size_t n)
{
    int status;

    x->received += n;
    if (x->reject == 0) {
        status = srv_body_append(&x->body, data, n, x->limit, x->expected);
        if (status != 0)
            reject(x, status, status == 413 ? refusal(413) : "no memory for the body now");
    }
    /* a reply cannot be queued now: a chunked body that does not end is cut */
    return x->reject != 0 && x->received > x->limit + SRV_DRAIN_EXTRA ? MHD_NO : MHD_YES;
}

int srv_exchange_step(struct srv_exchange *x, const char *url, const char *method,
                      const char *version, const char *upload, size_t *upload_size)
{
    size_t n = *upload_size;

    if (x->detached || x->h->stopping)
        return MHD_NO;
    switch (x->state) {
    case SRV_X_HEADERS: return on_headers(x, url, method, version);
    case SRV_X_BODY:
        if (n == 0)
            return on_whole(x);
        *upload_size = 0;
        return on_body(x, upload, n);
    case SRV_X_REPLIED: return queue_reply(x);
    default: return MHD_NO; /* not called in other states; closing is better than spinning */
    }
}

/* ---- what the server may ask ----------------------------------------------------------------- */

void srv_exchange_set_data(struct srv_exchange *x, void *data)
{
    x->data = data;
}

void *srv_exchange_data(const struct srv_exchange *x)
{
    return x->data;
}

const char *srv_exchange_method(const struct srv_exchange *x)
{
    return x->method;
}

const char *srv_exchange_path(const struct srv_exchange *x)
{
    return x->path;
}

const char *srv_exchange_header(const struct srv_exchange *x, const char *name)
{
    return header(x, name);
}

const char *srv_exchange_request_id(const struct srv_exchange *x)
{
    return x->id;
}

int srv_exchange_nargs(const struct srv_exchange *x)
{
    return x->nargs;
}

void srv_exchange_arg(const struct srv_exchange *x, int i, const char **name, const char **value)
{
    *name = x->args[i].name;
    *value = x->args[i].value;
}

const void *srv_exchange_body(const struct srv_exchange *x, size_t *len)
{
    *len = x->body.len;
    return x->body.data;
}

int srv_exchange_parts(const struct srv_exchange *x, const struct srv_part **parts)
{
    *parts = x->parts.part;
    return x->parts.n;
}
