/* request.h - one request for inference, from its arrival to its reply.
 *
 *   PARSED -> ADAPTING  body to decode or media to open: given to the thread pool
 *          -> WAITING   an input of it is being computed for another request
 *          -> QUEUED    adapted at once: small and quick
 *          -> DONE      refused
 * ADAPTING -> WAITING | QUEUED | DONE (refused) | ORPHAN
 *  WAITING -> QUEUED    [its latents are there, or it takes the lead] | DONE (timeout, vanished)
 *   QUEUED -> RUNNING   [a lane is free and it is most urgent] | DONE (timeout, vanished)
 *  RUNNING -> REPLYING  computed | DONE (failed) | ORPHAN
 * REPLYING -> DONE      replied | ORPHAN
 *          -> QUEUED    a stream: the next piece
 *          -> SENDING   a stream: its client has to read first
 *  SENDING -> QUEUED    [there is room again] | DONE (timeout, vanished)
 *   ORPHAN -> DONE      [the other thread is through with it]
 *
 * PARSED    the HTTP layer has the whole request. The loop owns everything.
 * ADAPTING  a pool thread owns wire, job and err; it reads the exchange, which is held, and the
 *           kept latents that are asked.
 * WAITING   it follows another's lead (share.h), or has been woken and not looked at yet. It leads
 *           nobody: who waits makes no one wait. The loop owns everything.
 * QUEUED    the batcher borrows the ticket. Inputs that nobody else computes are its lead. The loop
 *           owns everything.
 * RUNNING   a lane owns wire, job, err and body, with the exchange held, and fills kept latents
 * that it leads. They become others' when it comes home, also as an orphan. The lane makes the
 *           body, too, unless that is long, or has to name handles.
 * REPLYING  the body is made from the job, if the lane has not: here, or by a pool thread that then
 *           owns wire, job, err and body, with the exchange held.
 * SENDING   a stream's lines are on their way; nothing of it is computed. The loop owns everything.
 * ORPHAN    answered 504, or its client vanished, while another thread has it: `cancelled` is set,
 *           forwards look at it between layers, and what comes out is dropped, but for latents that
 *           were complete.
 * DONE      answered, or nobody to answer. Freed as soon as the exchange is gone as well.
 *
 * All but ORPHAN and DONE count as in flight. Everything but what is said above is the loop
 * thread's. */
#ifndef SRV_REQUEST_H
#define SRV_REQUEST_H

#include "server/adapt.h"
#include "server/batcher.h"
#include "server/http.h"
#include "server/registry.h"
#include "server/results.h"
#include "server/share.h"
#include "server/source.h"

enum srv_state {
    SRV_PARSED,
    SRV_ADAPTING,
    SRV_WAITING,
    SRV_QUEUED,
    SRV_RUNNING,
    SRV_REPLYING,
    SRV_SENDING,
    SRV_ORPHAN,
    SRV_DONE,
    SRV_STATES,
};

struct srv_flow;

struct srv_request {
    enum srv_state state; /* written by srv_request_move alone */
    atomic_bool cancelled;
    struct srv_flow *flow;
    struct srv_model *model;
    struct srv_exchange *x;    /* NULL when gone */
    struct srv_exchange *held; /* while another thread reads it, else NULL */

    struct srv_source source;
    struct wire_request *wire; /* own */
    struct srv_job *job;       /* own */
    struct srv_kept *asked;    /* a reference: the latents that are asked; NULL: it brings inputs */
    int code;                  /* of decoding, adapting, encoding: 0 or PCV_E*, see err */
    struct pcv_err err;
    bool busy;      /* code: no room for the results just now */
    bool success;   /* answered 200 */
    bool encoded;   /* by the lane: made is there, or code */
    bool streaming; /* the reply has begun: errors are lines of it */
    int batch_items;
    uv_work_t work;

    struct srv_ticket ticket;
    struct srv_heap_node alarm; /* in the flow's heap of deadlines */
    uint64_t deadline_ns;

    struct srv_lead *leads;          /* own: [job's nitems], or NULL */
    struct srv_follower follower;    /* WAITING */
    char (*handles)[SRV_HANDLE + 1]; /* own: [job's nitems] of what was kept, or NULL */
    uint64_t kept_until_ns;

    uint64_t arrived_ns, queued_ns, started_ns, computed_ns;
    double adapt_s, queue_s, encode_s, process_s, decode_s; /* the batches', for the last three */

    struct srv_body_made made; /* the reply, or lines of it, own */
};

/* own: the flow's, srv_request_settle frees it. NULL without memory. State PARSED. */
struct srv_request *srv_request_new(struct srv_flow *f, struct srv_model *m, struct srv_exchange *x,
                                    uint64_t now_ns);

/* Whether a state may follow another. */
bool srv_state_may_follow(enum srv_state from, enum srv_state to);
const char *srv_state_name(enum srv_state s);

/* The only writer of r->state. A move that is not in the diagram is a bug and ends the process. */
void srv_request_move(struct srv_request *r, enum srv_state to);

/* Frees r when it is DONE and its exchange gone and not held. */
void srv_request_settle(struct srv_request *r);

/* Name for metrics of the task asked: of a single one its name, else "several" or "". */
const char *srv_request_task(const struct srv_request *r);

#endif
