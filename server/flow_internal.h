/* flow_internal.h - what flow.c, flow_batch.c and flow_end.c share; nobody else includes it.
 *
 * flow.c        arrival, decoding, adapting, queueing
 * flow_share.c  latents that are there already, or on their way
 * flow_batch.c  lanes: filling them, what comes back
 * flow_stream.c replies in pieces
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
    struct wire_stages gmac; /* of the batch, were it computed whole */
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
    struct srv_store *store; /* own */
    struct srv_share *share; /* own */
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
/* To another thread, which reads the exchange; and back. */
void srv_flow_lend(struct srv_request *r);
void srv_flow_retrieve(struct srv_request *r);
/* Pool work; after retrieves. */
void srv_flow_submit(struct srv_request *r, uv_work_cb work, uv_after_work_cb after);

/* ---- flow_share.c */
bool srv_flow_caches(const struct srv_flow *f); /* inputs are known by their keys */
/* Adapted, or woken: to the queue, or to wait for another request. */
void srv_flow_admit(struct srv_request *r);
/* It led, and does not any more: what it filled is others'. */
void srv_flow_settle(struct srv_request *r);
void srv_flow_wake(struct srv_flow *f);             /* followers whose leads have ended */
PCV_CHECK int srv_flow_keep(struct srv_request *r); /* handles, if asked; see r->err */
void srv_flow_unkeep(struct srv_request *r);        /* nobody hears of them */

/* ---- flow_batch.c */
void srv_flow_dispatch(struct srv_flow *f, uint64_t now_ns);
void srv_flow_on_lanes(void *ctx); /* on_done of the lanes */

/* ---- flow_stream.c */
/* Something was computed, or the client has read: goes on. */
void srv_flow_stream(struct srv_request *r);
void srv_flow_stream_fail(struct srv_request *r, const char *code, const struct pcv_err *e);

/* ---- flow_end.c */
/* It has its answer, or needs none. */
void srv_flow_done(struct srv_request *r);
void srv_flow_count_reply(struct srv_request *r);
/* What a reply says beside its results. latents [nitems], scratch. */
struct wire_reply srv_flow_about(const struct srv_request *r, const char *request_id,
                                 const char **latents);
/* Answers with an error; the request is DONE. */
void srv_flow_fail(struct srv_request *r, int status, const char *code, double retry_s);
void srv_flow_fail_code(struct srv_request *r); /* the same for r->code, r->err */
void srv_flow_reject(struct srv_request *r, enum srv_verdict v, double retry_s);
void srv_flow_reply(struct srv_request *r); /* its results are there */
/* The lane's thread: what the batch took, and the body where the loop would make it. */
void srv_flow_reply_early(struct srv_request *r, const struct srv_batch *b);
void srv_flow_note_batch(struct srv_request *r, const struct srv_batch *b);
void srv_flow_drop(struct srv_request *r); /* an orphan that came home: DONE */
void srv_flow_expire(struct srv_flow *f, uint64_t now_ns);
void srv_flow_set_deadline(struct srv_request *r, uint64_t deadline_ns);

#endif
