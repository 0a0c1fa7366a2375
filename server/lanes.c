/* lanes.c - the loop pushes a batch into a lane's inbox, the lane computes it, the done list brings
 * it back. A batch has one owner; inbox and list transfer it.
 *
 * Locks: a lane's mu guards its inbox and stop; done_mu guards the done list; never both.
 * Lanes call uv_async_send() and no other libuv function. */
#include "server/lanes.h"

#include "server/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct lane {
    struct srv_lanes *all;
    pthread_t thread;
    bool running; /* thread is */
    struct pcv_pool *pool;
    struct pcv_ws *ws;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    struct srv_batch *inbox;
    bool stop;
};

struct srv_lanes {
    int n, threads;
    struct lane *lanes;
    pthread_mutex_t done_mu;
    struct srv_batch *done, **done_end;
    bool started;
    uv_async_t async;
    void (*on_done)(void *ctx);
    void *ctx;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void destroy(struct srv_lanes *l)
{
    for (int i = 0; i < l->n; i++) {
        pcv_ws_free(l->lanes[i].ws);
        pcv_pool_free(l->lanes[i].pool);
        pthread_mutex_destroy(&l->lanes[i].mu);
        pthread_cond_destroy(&l->lanes[i].wake);
    }
    pthread_mutex_destroy(&l->done_mu);
    free(l->lanes);
    free(l);
}

int srv_lanes_new(struct srv_lanes **ret, int n, int threads, struct pcv_err *e)
{
    struct srv_lanes *l = calloc(1, sizeof *l);
    if (l)
        l->lanes = calloc((size_t)n, sizeof *l->lanes);
    if (!l || !l->lanes) {
        free(l);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d lanes", n);
    }
    if (!threads)
        threads = pcv_cpu_available() / n;
    l->n = n;
    l->threads = threads > 0 ? threads : 1;
    l->done_end = &l->done;
    pthread_mutex_init(&l->done_mu, NULL);
    for (int i = 0; i < n; i++) {
        l->lanes[i].all = l;
        pthread_mutex_init(&l->lanes[i].mu, NULL);
        pthread_cond_init(&l->lanes[i].wake, NULL);
    }
    for (int i = 0; i < n; i++) {
        int r = pcv_pool_new(&l->lanes[i].pool, l->threads, e);
        if (r || (r = pcv_ws_new(&l->lanes[i].ws, l->lanes[i].pool, e))) {
            destroy(l);
            return r;
        }
    }
    *ret = l;
    return 0;
}

int srv_lanes_reserve(struct srv_lanes *l, const struct srv_lane_room *rooms, int nmodels,
                      struct pcv_err *e)
{
    for (int i = 0; i < l->n; i++)
        for (int k = 0; k < nmodels; k++) {
            int r = pcv_ws_reserve(l->lanes[i].ws, rooms[k].model, rooms[k].max_items, 0, e);
            if (r)
                return r;
        }
    for (int i = 0; i < l->n; i++)
        pcv_ws_touch(l->lanes[i].ws);
    return 0;
}

double srv_lanes_need(const struct srv_lanes *l, const struct srv_lane_room *rooms, int nmodels)
{
    size_t most = 0; /* a workspace is as large as its largest model needs */
    for (int k = 0; k < nmodels; k++) {
        size_t need = pcv_ws_need(rooms[k].model, rooms[k].max_items, l->threads, 0);
        most = need > most ? need : most;
    }
    return (double)most * l->n;
}

struct each {
    int lane, code;
    int (*fn)(int lane, void *ctx, struct pcv_err *e);
    void *ctx;
    pthread_t thread;
    struct pcv_err err;
};

static void *each_main(void *arg)
{
    struct each *a = arg;
    a->code = a->fn(a->lane, a->ctx, &a->err);
    return NULL;
}

int srv_lanes_each(struct srv_lanes *l, int (*fn)(int lane, void *ctx, struct pcv_err *e),
                   void *ctx, struct pcv_err *e)
{
    struct each *all = calloc((size_t)l->n, sizeof *all);
    int r = all ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for %d threads", l->n), started = 0;
    while (!r && started < l->n) {
        struct each *a = &all[started];
        *a = (struct each){.lane = started, .fn = fn, .ctx = ctx};
        int code = pthread_create(&a->thread, NULL, each_main, a);
        if (code)
            r = pcv_fail(e, PCV_EIO, "thread of lane %d: %s", started, strerror(code));
        else
            started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(all[i].thread, NULL);
        if (all[i].code && !r) {
            r = all[i].code;
            *e = all[i].err;
        }
    }
    free(all);
    return r;
}

struct pcv_pool *srv_lanes_pool(struct srv_lanes *l, int lane)
{
    return l->lanes[lane].pool;
}

struct pcv_ws *srv_lanes_ws(struct srv_lanes *l, int lane)
{
    return l->lanes[lane].ws;
}

int srv_lanes_count(const struct srv_lanes *l)
{
    return l->n;
}

int srv_lanes_threads(const struct srv_lanes *l)
{
    return l->threads;
}

/* ---- a lane's thread --------------------------------------------------------------------------
 */

static void compute(struct lane *lane, struct srv_batch *b)
{
    b->started_ns = srv_now_ns();
    b->timing = (struct pcv_timing){0};
    b->code = 0;
    for (int i = 0; i < b->nitems && !b->code; i += b->max_items) {
        struct pcv_timing t = {0};
        int left = b->nitems - i;
        b->code = pcv_forward(b->model, lane->ws, b->items + i,
                              left < b->max_items ? left : b->max_items, &t, &b->err);
        b->timing.encode_s += t.encode_s;
        b->timing.process_s += t.process_s;
        b->timing.decode_s += t.decode_s;
        b->timing.tiles += t.tiles;
    }
    b->finished_ns = srv_now_ns();
    if (b->after)
        b->after(b);
}

static void bring_back(struct srv_lanes *l, struct srv_batch *b)
{
    b->next = NULL;
    pthread_mutex_lock(&l->done_mu);
    *l->done_end = b;
    l->done_end = &b->next;
    pthread_mutex_unlock(&l->done_mu);
    uv_async_send(&l->async);
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    for (;;) {
        pthread_mutex_lock(&lane->mu);
        while (!lane->inbox && !lane->stop)
            pthread_cond_wait(&lane->wake, &lane->mu);
        struct srv_batch *b = lane->stop ? NULL : lane->inbox;
        lane->inbox = NULL;
        pthread_mutex_unlock(&lane->mu);
        if (!b)
            return NULL;
        compute(lane, b);
        bring_back(lane->all, b);
    }
}

/* ---- the loop's side ---------------------------------------------------------------------------
 */

static void on_async(uv_async_t *a)
{
    struct srv_lanes *l = a->data;
    l->on_done(l->ctx);
}

int srv_lanes_start(struct srv_lanes *l, uv_loop_t *loop, void (*on_done)(void *ctx), void *ctx,
                    struct pcv_err *e)
{
    l->on_done = on_done;
    l->ctx = ctx;
    int r = uv_async_init(loop, &l->async, on_async);
    if (r)
        return pcv_fail(e, PCV_EIO, "uv_async_init: %s", uv_strerror(r));
    l->async.data = l;
    l->started = true;
    for (int i = 0; i < l->n; i++) {
        r = pthread_create(&l->lanes[i].thread, NULL, lane_main, &l->lanes[i]);
        if (r)
            return pcv_fail(e, PCV_EIO, "thread of lane %d: %s", i, strerror(r));
        l->lanes[i].running = true;
        char name[16];
        snprintf(name, sizeof name, "lane %d", i);
        pthread_setname_np(l->lanes[i].thread, name);
    }
    return 0;
}

void srv_lanes_run(struct srv_lanes *l, struct srv_batch *b)
{
    struct lane *lane = &l->lanes[b->lane];
    pthread_mutex_lock(&lane->mu);
    lane->inbox = b;
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&lane->mu);
}

struct srv_batch *srv_lanes_done(struct srv_lanes *l)
{
    pthread_mutex_lock(&l->done_mu);
    struct srv_batch *b = l->done;
    if (b) {
        l->done = b->next;
        if (!l->done)
            l->done_end = &l->done;
    }
    pthread_mutex_unlock(&l->done_mu);
    return b;
}

static void on_closed(uv_handle_t *h)
{
    struct srv_lanes *l = h->data;
    void (*closed)(void *ctx) = l->closed;
    void *ctx = l->closed_ctx;
    destroy(l);
    if (closed)
        closed(ctx);
}

void srv_lanes_free(struct srv_lanes *l, void (*closed)(void *ctx), void *ctx)
{
    if (!l) {
        if (closed)
            closed(ctx);
        return;
    }
    l->closed = closed;
    l->closed_ctx = ctx;
    for (int i = 0; i < l->n; i++) {
        pthread_mutex_lock(&l->lanes[i].mu);
        l->lanes[i].stop = true;
        pthread_cond_signal(&l->lanes[i].wake);
        pthread_mutex_unlock(&l->lanes[i].mu);
    }
    for (int i = 0; i < l->n; i++)
        if (l->lanes[i].running)
            pthread_join(l->lanes[i].thread, NULL);
    if (l->started) {
        uv_close((uv_handle_t *)&l->async, on_closed);
        return;
    }
    destroy(l);
    if (closed)
        closed(ctx);
}
