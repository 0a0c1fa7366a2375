/* http_stream.c - replies that are sent as they are made.
 *
 * libmicrohttpd asks for the next bytes whenever the last ones are in the socket, by a reader
 * callback inside MHD_run. Easy to get wrong:
 * - a reader that has nothing would be asked again at once, for ever: it suspends its connection,
 *   which send() and end() resume;
 * - suspended, the connection is not in libmicrohttpd's epoll: http_watch.c sees its client leave;
 * - the reader may not call the server, which might reply to others or free what is being looked
 *   at: streams with room are put in a list, and http.c has it called after the pump;
 * - libmicrohttpd 0.9.75 ends a HEAD reply in chunks with a last chunk, which would be taken for
 * the beginning of the next reply: HEAD is answered as if by HTTP/1.0, and closes;
 * - HTTP/1.0 has nothing but the end of the connection to end a reply with: a reply that breaks off
 *   ends with a reset, so that nobody (a proxy) takes it for whole. */
#include "server/http_internal.h"
#include "server/log.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- the queue ------------------------------------------------------------------------------- */

static void drop_first(struct srv_stream *s)
{
    struct srv_piece *p = s->first;

    s->first = p->next;
    s->at = 0;
    if (!s->first)
        s->last = &s->first;
    free(p->data);
    free(p);
}

static void drop_all(struct srv_stream *s)
{
    while (s->first)
        drop_first(s);
    s->queued = 0;
}

void srv_stream_free(struct srv_stream *s)
{
    if (s)
        drop_all(s);
    free(s);
}

static int append(struct srv_stream *s, char *data, size_t len)
{
    struct srv_piece *p = malloc(sizeof(*p));

    if (!p)
        return -1;
    *p = (struct srv_piece){.data = data, .len = len};
    *s->last = p;
    s->last = &p->next;
    s->queued += len;
    return 0;
}

static size_t take(struct srv_stream *s, char *to, size_t max)
{
    size_t done = 0;

    while (s->first && done < max) {
        size_t left = s->first->len - s->at, n = left < max - done ? left : max - done;

        memcpy(to + done, s->first->data + s->at, n);
        done += n;
        s->at += n;
        if (n == left)
            drop_first(s);
    }
    s->queued -= done;
    s->sent += done;
    return done;
}

/* ---- room ------------------------------------------------------------------------------------ */

static void list_room(struct srv_exchange *x)
{
    struct srv_stream *s = x->stream;

    s->full = s->owes = false;
    if (s->listed || s->ended || s->aborted || !s->on_room)
        return;
    s->listed = true;
    s->next = NULL;
    *x->h->room_last = x;
    x->h->room_last = &s->next;
    srv_exchange_hold(x);
    srv_http_kick(x->h);
}

static struct srv_exchange *unlist(struct srv_http *h)
{
    struct srv_exchange *x = h->room;

    if (!x)
        return NULL;
    h->room = x->stream->next;
    if (!h->room)
        h->room_last = &h->room;
    x->stream->listed = false;
    return x;
}

static bool open_to_sends(const struct srv_exchange *x)
{
    const struct srv_stream *s = x->stream;

    return s && x->state != SRV_X_GONE && !x->detached && !s->ended && !s->aborted;
}

void srv_stream_rooms(struct srv_http *h)
{
    struct srv_exchange *x, *last = NULL;

    /* those that on_room adds have their turn in the next one */
    for (x = h->room; x; x = x->stream->next)
        last = x;
    while (last && (x = unlist(h)) != NULL) {
        bool end = x == last;

        if (open_to_sends(x))
            x->stream->on_room(x);
        srv_exchange_release(x);
        if (end)
            break;
    }
}

void srv_stream_rooms_drop(struct srv_http *h)
{
    struct srv_exchange *x;

    while ((x = unlist(h)) != NULL)
        srv_exchange_release(x);
}

/* ---- sending --------------------------------------------------------------------------------- */

uint64_t srv_stream_busy_ms(const struct srv_exchange *x)
{
    return x->stream->busy_ms + (x->suspended ? 0 : uv_now(x->h->loop) - x->sending_ms);
}

static void resume(struct srv_exchange *x)
{
    x->sending_ms = uv_now(x->h->loop);
    srv_exchange_resume(x);
}

static void reset(const struct srv_exchange *x)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    if (x->http10)
        (void)!connect(x->k->fd, &none, sizeof(none));
}

/* libmicrohttpd wants bytes: inside MHD_run. */
static ssize_t on_reader(void *cls, uint64_t pos, char *to, size_t max)
{
    struct srv_exchange *x = cls;
    struct srv_stream *s = x->stream;
    size_t n;

    (void)pos;
    if (s->aborted || x->detached) {
        reset(x);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    n = take(s, to, max);
    if ((s->owes && s->queued == 0) || (s->full && s->queued < SRV_STREAM_LOW))
        list_room(x);
    if (n > 0)
        return (ssize_t)n;
    if (s->ended) {
        s->over = true;
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    s->busy_ms = srv_stream_busy_ms(x);
    x->suspended = true;
    MHD_suspend_connection(x->conn);
    return 0;
}

void srv_http_stream_begin(struct srv_exchange *x, int status, const char *content_type,
                           const struct srv_header *headers, int nheaders,
                           void (*on_room)(struct srv_exchange *x))
{
    struct MHD_Response *response = NULL;
    bool whole = x->http10 || x->head_only; /* not in chunks */

    if (x->state != SRV_X_ASKED || x->detached) /* the client is gone */
        return;
    x->stream = calloc(1, sizeof(*x->stream));
    if (x->stream) {
        x->stream->last = &x->stream->first;
        x->stream->on_room = on_room;
        response = MHD_create_response_from_callback(
            MHD_SIZE_UNKNOWN, whole ? x->h->c.connection_memory : 1, on_reader, x, NULL);
    }
    if (response && x->head_only)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    srv_exchange_set_reply(x, status, response, content_type, headers, nheaders);
    if (x->suspended)
        srv_exchange_resume(x);
}

size_t srv_http_stream_send(struct srv_exchange *x, char *data, size_t len)
{
    struct srv_stream *s = x->stream;

    if (!open_to_sends(x)) {
        free(data);
        return 0;
    }
    if (x->head_only || len == 0) {
        free(data);
        if (s->queued == 0)
            list_room(x);
        return s->queued;
    }
    if (append(s, data, len) != 0) {
        free(data);
        srv_log(SRV_ERROR, x->id, "no memory for the rest of the reply");
        srv_http_stream_abort(x);
        return 0;
    }
    s->owes = true;
    s->full |= s->queued >= SRV_STREAM_LOW;
    if (x->state == SRV_X_STREAMING && x->suspended)
        resume(x);
    return s->queued;
}

void srv_http_stream_end(struct srv_exchange *x)
{
    if (!open_to_sends(x))
        return;
    x->stream->ended = true;
    if (x->state == SRV_X_STREAMING && x->suspended)
        resume(x);
}

void srv_http_stream_abort(struct srv_exchange *x)
{
    if (!x->stream || x->state == SRV_X_GONE || x->detached || x->stream->aborted)
        return;
    x->stream->aborted = true;
    drop_all(x->stream);
    if (x->state != SRV_X_STREAMING)
        return;
    if (x->suspended) {
        resume(x);
        return;
    }
    reset(x);
    shutdown(x->k->fd, SHUT_RDWR); /* its client may not be reading */
}
