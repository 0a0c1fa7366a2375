/* flow_internal.h - what flow.c, flow_batch.c and flow_end.c share; nobody else includes it.
 *
 * flow.c        arrival, decoding, adapting, queueing
 * flow_batch.c  lanes: filling them, what comes back
 * flow_end.c    replies, refusals, timeouts, clients that vanish */
#ifndef SRV_FLOW_INTERNAL_H
#define SRV_FLOW_INTERNAL_H

#include "server/flow.h"

/* What a lane is computing. */
struct srv_flight {
    struct srv_batch batch;
    struct pcv_item *items;                 /* own: [max_batch], for batches of several requests */
    struct srv_request **requests, **spare; /* own: [max_batch] each; spare is being answered */
    int n;
    uint64_t published_ns;
};

struct srv_flow {
    struct srv_flow_parts c;
    struct srv_batcher *batcher;
    struct srv_lanes *lanes;    /* NULL until started */
    struct srv_flight *flights; /* [lanes] */
    struct srv_ticket **taken;  /* [max_batch], scratch */
    int max_batch;              /* the largest of all models */
    struct srv_job_budget budget;
    struct srv_heap deadlines;
    uv_prepare_t prepare;
    uv_timer_t timer;
    uint64_t timer_ns; /* what it is set to, 0 = not */
    int handles;
    int in_flight, elsewhere;
    bool unready, draining;
};

/* ---- flow.c */
void srv_flow_queue(struct srv_request *r);
/* Pool work that reads the exchange. */
void srv_flow_submit(struct srv_request *r, uv_work_cb work, uv_after_work_cb after);
void srv_flow_retrieve(struct srv_request *r); /* in after */

/* ---- flow_batch.c */
void srv_flow_dispatch(struct srv_flow *f, uint64_t now_ns);
void srv_flow_on_lanes(void *ctx); /* on_done of the lanes */

/* ---- flow_end.c */
/* Answers with an error; the request is DONE. */
void srv_flow_fail(struct srv_request *r, int status, const char *code, double retry_s);
void srv_flow_fail_code(struct srv_request *r); /* the same for r->code, r->err */
void srv_flow_reject(struct srv_request *r, enum srv_verdict v, double retry_s);
void srv_flow_reply(struct srv_request *r); /* its results are there */
void srv_flow_drop(struct srv_request *r);  /* an orphan that came home: DONE */
void srv_flow_expire(struct srv_flow *f, uint64_t now_ns);
void srv_flow_set_deadline(struct srv_request *r, uint64_t deadline_ns);

#endif
