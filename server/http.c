/* http.c - libmicrohttpd 0.9.75 driven by libuv: listening, the pump, drain.
 *
 * The recipe, as it was measured and must stay:
 * - External epoll mode, no threads of its own. Nothing wakes libmicrohttpd here: whoever resumes a
 *   connection must kick the pump.
 * - One uv_poll on its epoll. Its sockets are edge-triggered and what it has not finished is in a
 *   list of its own, so MHD_get_timeout must be honoured: 0 means an idle handle (a timer of 0,
 *   re-armed in its callback, would starve everything in libuv 1.44), and rounds are bounded, so
 *   that signals, timers and replies get their turn.
 * - connection_memory is cleared after each request: 16 KB, more is slower even for large bodies.
 * - MHD_stop_daemon aborts the process when a connection is suspended: all are resumed first.
 * - Connections are accepted here and handed over: one limit for all listeners, which leaves the
 *   excess in the backlog; and drain can empty the backlog before it closes. */
#include "server/http_internal.h"
#include "server/log.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 4, ACCEPTS = 64, FRESH_MS = 500, COMPLAIN_MS = 10000 };

/* ---- the pump -------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *t);
static void on_idle(uv_idle_t *i);
static void listeners_poll(struct srv_http *h);

void srv_http_kick(struct srv_http *h)
{
    if (h->in_pump)
        h->again = true;
    else if (!h->stopping)
        uv_idle_start(&h->idle, on_idle);
}

static void pump(struct srv_http *h)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    bool later, now;
    int round = 0;

    h->in_pump = true;
    do {
        h->again = false;
        MHD_run(h->mhd);
        later = MHD_get_timeout(h->mhd, &ms) == MHD_YES;
        now = h->again || (later && ms == 0);
    } while (now && ++round < ROUNDS);
    h->in_pump = false;
    if (now)
        uv_idle_start(&h->idle, on_idle);
    else
        uv_idle_stop(&h->idle);
    if (!now && later)
        uv_timer_start(&h->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&h->timer);
    listeners_poll(h);
}

/* A connection that came and has not asked yet; its request may be on the way. */
static bool any_fresh(const struct srv_http *h)
{
    uint64_t now = uv_now(h->loop);

    for (const struct srv_conn *k = h->conns; k; k = k->next) {
        if (!k->served && !k->gone && now - k->since_ms < FRESH_MS)
            return true;
    }
    return false;
}

/* One turn of the loop. Last in its callbacks: done may free h. */
static void turn(struct srv_http *h)
{
    void (*done)(void *ctx);

    pump(h);
    srv_stream_rooms(h);
    done = h->done;
    if (!h->draining || !done || h->open != 0 || any_fresh(h))
        return;
    h->done = NULL;
    done(h->done_ctx);
}

static void on_poll(uv_poll_t *p, int status, int events) /* loop thread, as all here */
{
    (void)status;
    (void)events;
    turn(p->data);
}

static void on_idle(uv_idle_t *i)
{
    turn(i->data);
}

static void on_timer(uv_timer_t *t)
{
    turn(t->data);
}

/* ---- libmicrohttpd's callbacks --------------------------------------------------------------- */

static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[512];

    (void)cls;
    if (!srv_log_wants(SRV_DEBUG))
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    srv_log(SRV_DEBUG, NULL, "libmicrohttpd: %s", text);
}

static void on_mhd_connection(void *cls, struct MHD_Connection *c, void **context,
                              enum MHD_ConnectionNotificationCode code)
{
    struct srv_http *h = cls;

    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *context = srv_conn_new(
            h, MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    else if (*context)
        srv_conn_free(*context);
}

static void *on_mhd_target(void *cls, const char *target, struct MHD_Connection *c)
{
    struct srv_conn *k =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

    (void)cls;
    return k ? srv_exchange_new(k, c, target ? target : "") : NULL;
}

static enum MHD_Result on_mhd_request(void *cls, struct MHD_Connection *c, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_size, void **context)
{
    (void)cls;
    (void)c;
    if (!*context) /* there was no memory */
        return MHD_NO;
    return srv_exchange_step(*context, url, method, version, upload, upload_size);
}

static void on_mhd_completed(void *cls, struct MHD_Connection *c, void **context,
                             enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)c;
    (void)code;
    if (*context)
        srv_exchange_gone(*context);
    *context = NULL;
}

/* ---- listening ------------------------------------------------------------------------------- */

static void on_listener(uv_poll_t *p, int status, int events);

/* Polls the listeners exactly when there is room for another connection. */
static void listeners_poll(struct srv_http *h)
{
    bool accepting = !h->draining && !h->out_of_files && h->nconns < h->c.max_connections;

    if (accepting == h->accepting)
        return;
    h->accepting = accepting;
    for (int i = 0; i < h->nlisteners; i++) {
        if (accepting)
            uv_poll_start(&h->listener[i].poll, UV_READABLE, on_listener);
        else
            uv_poll_stop(&h->listener[i].poll);
    }
}

/* Takes at most n connections off the backlog. */
static void accept_some(struct srv_listener *l, int n)
{
    struct srv_http *h = l->h;

    while (n-- > 0 && h->nconns < h->c.max_connections) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            if (MHD_add_connection(h->mhd, fd, (struct sockaddr *)&from, len) != MHD_YES)
                srv_log(SRV_WARN, NULL, "a connection could not be taken: %s", strerror(errno));
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (uv_now(h->loop) >= h->complain_ms)
                srv_log(SRV_WARN, NULL, "accept: %s; new clients wait", strerror(errno));
            h->complain_ms = uv_now(h->loop) + COMPLAIN_MS;
            h->out_of_files = true;
            srv_watch_sweep_on(h);
            return;
        } /* else the client has left already */
    }
}

static void on_listener(uv_poll_t *p, int status, int events)
{
    struct srv_listener *l = p->data;

    (void)status;
    (void)events;
    accept_some(l, ACCEPTS);
    turn(l->h);
}

static void handle_closed(struct srv_http *h)
{
    h->handles--;
    srv_http_may_be_freed(h);
}

static void on_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_listener_closed(uv_handle_t *handle)
{
    handle_closed(((struct srv_listener *)handle->data)->h);
}

static void listeners_close(struct srv_http *h)
{
    for (int i = 0; i < h->nlisteners; i++) {
        uv_close((uv_handle_t *)&h->listener[i].poll, on_listener_closed);
        close(h->listener[i].fd);
    }
    h->nlisteners = 0;
}

static int listeners_open(struct srv_http *h, struct pcv_err *e)
{
    for (int i = 0; i < h->c.nfds; i++) {
        struct srv_listener *l = &h->listener[i];
        int r = uv_poll_init(h->loop, &l->poll, h->c.fds[i]); /* makes it non-blocking */

        if (r != 0)
            return pcv_fail(e, PCV_EIO, "listening socket %d: %s", h->c.fds[i], uv_strerror(r));
        l->h = h;
        l->fd = h->c.fds[i];
        l->poll.data = l;
        h->handles++;
        h->nlisteners++;
    }
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int start_mhd(struct srv_http *h, struct pcv_err *e)
{
    int r, fd;

    h->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_mhd_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, h->c.connection_memory, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)h->c.max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)h->c.header_timeout_s, MHD_OPTION_NOTIFY_COMPLETED, on_mhd_completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, on_mhd_connection, h, MHD_OPTION_URI_LOG_CALLBACK,
        on_mhd_target, h, MHD_OPTION_END);
    if (!h->mhd)
        return pcv_fail(e, PCV_EIO, "libmicrohttpd does not start");
    fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    if ((r = uv_poll_init(h->loop, &h->poll, fd)) != 0)
        return pcv_fail(e, PCV_EIO, "uv_poll_init: %s", uv_strerror(r));
    h->poll.data = h;
    h->handles++;
    return uv_poll_start(&h->poll, UV_READABLE, on_poll) == 0
               ? 0
               : pcv_fail(e, PCV_EIO, "uv_poll_start fails");
}

static int check_config(const struct srv_http_config *c, struct pcv_err *e)
{
    if (c->nfds < 0 || c->nfds > (int)(sizeof(c->fds) / sizeof(c->fds[0])))
        return pcv_fail(e, PCV_ERANGE, "%d listening sockets, at most 16 are served", c->nfds);
    if (c->max_connections < 1 || c->header_timeout_s < 1 || c->body_min_bytes_per_s < 0 ||
        c->connection_memory < 1024)
        return pcv_fail(e, PCV_ERANGE, "connections, timeout, rate or memory out of range");
    return 0;
}

int srv_http_new(struct srv_http **ret, uv_loop_t *loop, const struct srv_http_config *c,
                 const struct srv_http_ops *ops, struct pcv_err *e)
{
    struct srv_http *h;
    int r = check_config(c, e);

    if (r != 0)
        return r;
    h = calloc(1, sizeof(*h));
    if (!h)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the HTTP layer");
    h->loop = loop;
    h->ops = *ops;
    h->c = *c;
    h->budget.max = c->body_memory;
    h->gone_epoll = -1;
    h->room_last = &h->room;
    uv_timer_init(loop, &h->timer);
    uv_timer_init(loop, &h->sweep);
    uv_timer_init(loop, &h->deadline);
    uv_idle_init(loop, &h->idle);
    h->timer.data = h->sweep.data = h->deadline.data = h->idle.data = h;
    h->handles = 4;
    if ((r = start_mhd(h, e)) != 0 || (r = srv_watch_start(h, e)) != 0 ||
        (r = listeners_open(h, e)) != 0) {
        while (h->c.nfds > h->nlisteners)
            close(h->c.fds[--h->c.nfds]);
        srv_http_free(h);
        return r;
    }
    listeners_poll(h);
    *ret = h;
    return 0;
}

void srv_http_may_be_freed(struct srv_http *h)
{
    if (h->freed && h->handles == 0 && h->exchanges == 0)
        free(h);
}

void srv_http_free(struct srv_http *h)
{
    if (!h || h->stopping)
        return;
    h->stopping = true;
    listeners_close(h);
    uv_close((uv_handle_t *)&h->timer, on_closed);
    uv_close((uv_handle_t *)&h->sweep, on_closed);
    uv_close((uv_handle_t *)&h->deadline, on_closed);
    uv_close((uv_handle_t *)&h->idle, on_closed);
    if (h->poll.data)
        uv_close((uv_handle_t *)&h->poll, on_closed);
    if (h->gone_poll.data)
        uv_close((uv_handle_t *)&h->gone_poll, on_closed);
    for (struct srv_conn *k = h->conns; k; k = k->next) {
        if (k->x && k->x->suspended)
            srv_exchange_detach(k->x);
    }
    if (h->mhd)
        MHD_stop_daemon(h->mhd); /* ends every exchange: on_gone */
    h->mhd = NULL;
    srv_stream_rooms_drop(h);
    if (h->gone_epoll >= 0)
        close(h->gone_epoll);
    h->freed = true;
}

static void on_deadline(uv_timer_t *t)
{
    struct srv_http *h = t->data;

    srv_log(SRV_WARN, NULL, "drain: time is up, %d requests are dropped", h->open);
    srv_watch_abort_all(h);
    turn(h);
}

void srv_http_drain(struct srv_http *h, int deadline_ms, void (*done)(void *ctx), void *ctx)
{
    if (h->draining)
        return;
    for (int i = 0; i < h->nlisteners; i++)
        accept_some(&h->listener[i], h->c.max_connections);
    h->draining = true;
    h->done = done;
    h->done_ctx = ctx;
    listeners_close(h);
    if (deadline_ms > 0)
        uv_timer_start(&h->deadline, on_deadline, (uint64_t)deadline_ms, 0);
    srv_watch_sweep_on(h);
    srv_http_kick(h);
}

int srv_http_connections(const struct srv_http *h)
{
    return h->nconns;
}
