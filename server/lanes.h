/* lanes.h - the threads that compute.
 *
 * A lane is one thread with a pool of helpers and a workspace that has room for every model. The
 * loop publishes a batch to a free lane; the lane brings it back through one uv_async, which may
 * stand for several batches. Between srv_lanes_run and srv_lanes_done a batch and everything it
 * points to belong to the lane. */
#ifndef SRV_LANES_H
#define SRV_LANES_H

#include "lib/perceiver.h"

#include <uv.h>

struct srv_lanes;

/* What a lane computes at once: items of one model. */
struct srv_batch {
    int lane;
    const struct pcv_model *model;
    int max_items;          /* of one forward; more items take several */
    struct pcv_item *items; /* [nitems] */
    int nitems;
    void *data; /* the caller's */
    void (*after)(
        struct srv_batch *b); /* called by the lane's thread once it is computed, or NULL */
    /* Out. */
    int code; /* 0 or PCV_E*, and err says why */
    struct pcv_err err;
    struct pcv_timing timing;         /* of all forwards */
    uint64_t started_ns, finished_ns; /* srv_now_ns() */
    struct srv_batch *next;           /* lanes' own */
};

/* Room that lanes keep for a model. */
struct srv_lane_room {
    const struct pcv_model *model;
    int max_items;
};

/* Pools and workspaces for n lanes of so many threads each (0: an equal share of the processors),
 * with room for models [nmodels]. Slow; any thread. own: srv_lanes_free */
PCV_CHECK int srv_lanes_new(struct srv_lanes **ret, int n, int threads, struct pcv_err *e);
/* Workspaces are touched: no batch waits for their memory. */
PCV_CHECK int srv_lanes_reserve(struct srv_lanes *l, const struct srv_lane_room *rooms, int nmodels,
                                struct pcv_err *e);
/* Bytes that srv_lanes_reserve would take for all lanes. */
double srv_lanes_need(const struct srv_lanes *l, const struct srv_lane_room *rooms, int nmodels);

/* Calls fn for every lane, each on a thread of its own, all at once, before start; waits for them.
 * The first failure, if any. */
PCV_CHECK int srv_lanes_each(struct srv_lanes *l, int (*fn)(int lane, void *ctx, struct pcv_err *e),
                             void *ctx, struct pcv_err *e);

struct pcv_pool *srv_lanes_pool(struct srv_lanes *l, int lane); /* borrow, before start */
struct pcv_ws *srv_lanes_ws(struct srv_lanes *l, int lane);     /* borrow, before start */
int srv_lanes_count(const struct srv_lanes *l);
int srv_lanes_threads(const struct srv_lanes *l); /* of each */

/* Starts the threads. on_done(ctx) is called on the loop when srv_lanes_done has something. */
PCV_CHECK int srv_lanes_start(struct srv_lanes *l, uv_loop_t *loop, void (*on_done)(void *ctx),
                              void *ctx, struct pcv_err *e);

/* Loop thread. The lane must be free. */
void srv_lanes_run(struct srv_lanes *l, struct srv_batch *b);
/* Loop thread. A finished batch, or NULL. */
struct srv_batch *srv_lanes_done(struct srv_lanes *l);

/* Loop thread, or the maker's when never started. Waits for what is being computed; batches that
 * never came back are the caller's again. The loop must run once more to close the handle:
 * closed(ctx) is called then, and l is gone. */
void srv_lanes_free(struct srv_lanes *l, void (*closed)(void *ctx), void *ctx);

#endif
