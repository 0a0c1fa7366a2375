/* http_watch.c - clients that vanish, and clients that dawdle.
 *
 * libmicrohttpd takes a suspended connection out of its epoll, and so cannot see its client leave;
 * and 0.9.75 loses a FIN that arrives together with data. So every connection is also in a second
 * epoll of our own, for EPOLLRDHUP alone, once:
 * - a request that waits for its reply, or for the rest of it, is detached: its work is dropped,
 * its connection ends;
 * - any other connection gets a nudge: shutdown() makes a new edge, and libmicrohttpd looks again.
 *   The sweep repeats the nudge, since shutdown(SHUT_RD) makes an edge that can get lost too.
 * A FIN may also mean that the client only stops sending. half_close_ok waits for more than that
 * (the connection is armed once more, for errors alone) and answers.
 *
 * ONESHOT, not edge-triggered: the nudge would trigger the edge again, for ever. Nothing here runs
 * libmicrohttpd: connections must not be freed while their events are looked at.
 *
 * The sweep also ends connections on which headers do not arrive in time (libmicrohttpd's own
 * timeout begins anew with every byte), and bodies and replies slower than the least rate. */
#include "server/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SWEEP_MS = 250, EVENTS = 128 };

static bool waits(const struct srv_conn *k)
{
    return k->x && k->x->suspended;
}

static void nudge(struct srv_conn *k)
{
    shutdown(k->fd, k->lost ? SHUT_RDWR : SHUT_RD);
}

static void on_vanished(struct srv_conn *k, uint32_t events)
{
    struct epoll_event again = {.events = EPOLLONESHOT, .data.ptr = k};

    k->gone = true;
    k->lost = !k->h->c.half_close_ok || (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (!k->lost)
        epoll_ctl(k->h->gone_epoll, EPOLL_CTL_MOD, k->fd, &again);
    if (!waits(k))
        nudge(k);
    else if (k->lost)
        srv_exchange_detach(k->x);
}

static void on_gone_epoll(uv_poll_t *p, int status, int events) /* loop thread */
{
    struct srv_http *h = p->data;
    struct epoll_event event[EVENTS];
    int n = epoll_wait(h->gone_epoll, event, EVENTS, 0);

    (void)status;
    (void)events;
    for (int i = 0; i < n; i++)
        on_vanished(event[i].data.ptr, event[i].events);
    if (n > 0)
        srv_http_kick(h);
}

/* Milliseconds in which n bytes must have gone over the wire. */
static uint64_t allowed(const struct srv_http *h, uint64_t n)
{
    return (uint64_t)h->c.header_timeout_s * 1000 + n * 1000 / (uint64_t)h->c.body_min_bytes_per_s;
}

static bool dawdles(const struct srv_conn *k, uint64_t now)
{
    const struct srv_exchange *x = k->x;
    const struct srv_http *h = k->h;

    if (!x || x->state == SRV_X_HEADERS)
        return now - k->since_ms > (uint64_t)h->c.header_timeout_s * 1000;
    if (h->c.body_min_bytes_per_s == 0)
        return false;
    if (x->state == SRV_X_BODY)
        return now - x->body_ms > allowed(h, x->received);
    if (x->state == SRV_X_SENDING)
        return now - x->sending_ms > allowed(h, x->reply_bytes);
    if (x->state == SRV_X_STREAMING)
        return srv_stream_busy_ms(x) > allowed(h, x->stream->sent);
    return false;
}

static void on_sweep(uv_timer_t *t) /* loop thread */
{
    struct srv_http *h = t->data;
    uint64_t now = uv_now(h->loop);

    for (struct srv_conn *k = h->conns; k; k = k->next) {
        if (k->gone && !waits(k))
            nudge(k);
        else if (dawdles(k, now))
            shutdown(k->fd, SHUT_RDWR);
    }
    h->out_of_files = false; /* try again */
    if (h->nconns == 0 && !h->draining) {
        uv_timer_stop(&h->sweep);
        h->sweeping = false;
    }
    srv_http_kick(h);
}

void srv_watch_sweep_on(struct srv_http *h)
{
    if (!h->sweeping && !h->stopping)
        uv_timer_start(&h->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    h->sweeping = true;
}

int srv_watch_start(struct srv_http *h, struct pcv_err *e)
{
    int r;

    h->gone_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (h->gone_epoll < 0)
        return pcv_fail(e, PCV_EIO, "epoll_create1: %s", strerror(errno));
    if ((r = uv_poll_init(h->loop, &h->gone_poll, h->gone_epoll)) != 0)
        return pcv_fail(e, PCV_EIO, "uv_poll_init: %s", uv_strerror(r));
    h->gone_poll.data = h;
    h->handles++;
    if ((r = uv_poll_start(&h->gone_poll, UV_READABLE, on_gone_epoll)) != 0)
        return pcv_fail(e, PCV_EIO, "uv_poll_start: %s", uv_strerror(r));
    return 0;
}

void srv_watch_abort_all(struct srv_http *h)
{
    for (struct srv_conn *k = h->conns; k; k = k->next) {
        k->gone = k->lost = true;
        nudge(k);
        if (waits(k))
            srv_exchange_detach(k->x);
    }
}

struct srv_conn *srv_conn_new(struct srv_http *h, int fd)
{
    struct srv_conn *k = calloc(1, sizeof(*k));
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = k};

    if (!k)
        return NULL;
    if (epoll_ctl(h->gone_epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        free(k);
        return NULL;
    }
    k->h = h;
    k->fd = fd;
    k->since_ms = uv_now(h->loop);
    k->next = h->conns;
    if (k->next)
        k->next->prev = k;
    h->conns = k;
    h->nconns++;
    srv_watch_sweep_on(h);
    return k;
}

void srv_conn_idle(struct srv_conn *k)
{
    k->x = NULL;
    k->since_ms = uv_now(k->h->loop);
    if (k->gone)
        nudge(k);
}

void srv_conn_free(struct srv_conn *k)
{
    struct srv_http *h = k->h;

    epoll_ctl(h->gone_epoll, EPOLL_CTL_DEL, k->fd, NULL);
    if (k->prev)
        k->prev->next = k->next;
    else
        h->conns = k->next;
    if (k->next)
        k->next->prev = k->prev;
    h->nconns--;
    free(k);
}
