/* httpd_stream.c - the fixture's replies in pieces. */
#include "tests/http/httpd_stream.h"

#include <stdlib.h>
#include <string.h>

struct feed {
    struct fixture_streams *f;
    struct srv_exchange *x; /* NULL once gone */
    uv_timer_t timer;
    long n, size, every_ms, at;
    bool begun, greedy, idle, abort;
};

long fixture_arg(struct srv_exchange *x, const char *wanted)
{
    for (int i = 0; i < srv_exchange_nargs(x); i++) {
        const char *name, *value;

        srv_exchange_arg(x, i, &name, &value);
        if (strcmp(name, wanted) == 0 && value)
            return atol(value);
    }
    return 0;
}

/* Returns what is queued then. */
static size_t send_piece(struct feed *d)
{
    size_t n = (size_t)d->size, first = (size_t)d->at++ * n, queued;
    char *data = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        data[i] = (char)((first + i) % 251);
    queued = srv_http_stream_send(d->x, data, n);
    if (queued > d->f->queued_max)
        d->f->queued_max = queued;
    return queued;
}

static void finish(struct feed *d)
{
    if (d->abort)
        srv_http_stream_abort(d->x);
    else if (!d->idle)
        srv_http_stream_end(d->x);
    uv_timer_stop(&d->timer);
}

/* As much as there is room for. */
static void feed(struct feed *d)
{
    while (d->at < d->n) {
        if (send_piece(d) >= SRV_STREAM_LOW && !d->greedy)
            return;
    }
    finish(d);
}

static void on_room(struct srv_exchange *x)
{
    struct feed *d = srv_exchange_data(x);

    d->f->rooms++;
    if (d->every_ms == 0)
        feed(d);
}

static void begin(struct feed *d)
{
    struct srv_header h = {"X-Kind", "stream"};

    d->begun = true;
    srv_http_stream_begin(d->x, 200, "application/octet-stream", &h, 1, on_room);
    if (d->every_ms == 0)
        feed(d);
}

static void on_tick(uv_timer_t *t)
{
    struct feed *d = t->data;

    if (!d->begun)
        begin(d);
    else if (d->at < d->n)
        send_piece(d);
    else
        finish(d);
}

void fixture_stream_start(struct fixture_streams *f, struct srv_exchange *x)
{
    struct feed *d = calloc(1, sizeof(*d));
    long later_ms = fixture_arg(x, "later_ms");

    *d = (struct feed){
        .f = f,
        .x = x,
        .n = fixture_arg(x, "n"),
        .size = fixture_arg(x, "size"),
        .every_ms = fixture_arg(x, "every_ms"),
        .greedy = fixture_arg(x, "greedy") != 0,
        .idle = fixture_arg(x, "idle") != 0,
        .abort = fixture_arg(x, "abort") != 0,
    };
    f->open++;
    srv_exchange_set_data(x, d);
    uv_timer_init(f->loop, &d->timer);
    d->timer.data = d;
    if (later_ms > 0 || d->every_ms > 0)
        uv_timer_start(&d->timer, on_tick, (uint64_t)later_ms, (uint64_t)d->every_ms);
    if (later_ms == 0)
        begin(d);
}

static void on_timer_closed(uv_handle_t *t)
{
    free(t->data);
}

void fixture_stream_gone(struct srv_exchange *x)
{
    struct feed *d = srv_exchange_data(x);

    d->f->open--;
    d->x = NULL;
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}
