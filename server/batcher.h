/* batcher.h - who is computed next, with whom, and who is not taken at all.
 *
 * One bounded queue per model. When a lane is free, the most urgent request of all models decides
 * the model, and the next most urgent of that model join it, up to max_batch items; nothing is ever
 * delayed in the hope of company. Urgency: priority (1 first), then deadline, then arrival. As
 * every request has a deadline, later arrivals cannot overtake one of their priority for ever.
 *
 * A request of more items than max_batch is taken alone; requests are never split, and never
 * overtaken by a smaller one that would still fit. A batch does not grow to where the deadline of a
 * request that it could still meet would be missed, nor beyond an expected time: large models gain
 * nothing from company, and all of a batch wait for its last.
 *
 * Cost: requests come with their exact multiply-adds; measured rates turn these into seconds. Until
 * a model's rate is known nothing of it is refused for its deadline, and neither is what finds
 * nothing ahead of it: a rate that was once too low must be able to recover.
 *
 * Pure: time is an argument, requests are tickets inside the caller's structs. One thread. */
#ifndef SRV_BATCHER_H
#define SRV_BATCHER_H

#include "lib/base/err.h"
#include "server/heap.h"

#include <stdint.h>

struct srv_batcher;

struct srv_batcher_limits {
    int max_batch;      /* items of one batch */
    int max_queue;      /* items waiting, and requests on their way to it */
    double max_batch_s; /* expected time to which a batch grows; 0 = any */
};

/* A waiting request. The caller fills it; between push and take or remove it is borrowed. */
struct srv_ticket {
    int model;            /* index */
    int priority;         /* 1 = most urgent */
    uint64_t deadline_ns; /* absolute */
    int items;            /* >= 1 */
    double gmac;          /* multiply-adds of all its items / 1e9 */
    uint64_t arrival;     /* batcher's: a running number */
    struct srv_heap_node node;
};

enum srv_verdict {
    SRV_TAKEN,
    SRV_FULL,    /* the queue is */
    SRV_LATE,    /* the deadline cannot be met with what is ahead */
    SRV_NO_ROOM, /* memory */
};

/* own: srv_batcher_free. limits [nmodels], copied. */
PCV_CHECK int srv_batcher_new(struct srv_batcher **ret, int nmodels,
                              const struct srv_batcher_limits *limits, int nlanes,
                              struct pcv_err *e);
void srv_batcher_free(struct srv_batcher *b); /* NULL is fine; tickets are forgotten */

/* On arrival, before any work is spent on it: a place for one item, or SRV_FULL and the seconds
 * after which the queue as it stands will be worked off. */
enum srv_verdict srv_batcher_reserve(struct srv_batcher *b, int model, uint64_t now_ns,
                                     double *retry_s);
void srv_batcher_unreserve(struct srv_batcher *b, int model);

/* Gives the reserved place to a ticket. On refusal the place is given back, and *retry_s is when
 * trying again would succeed if nobody else came (unset for SRV_NO_ROOM). */
enum srv_verdict srv_batcher_push(struct srv_batcher *b, struct srv_ticket *t, uint64_t now_ns,
                                  double *retry_s);

/* The next piece of a request that was taken before: refused only without memory. */
enum srv_verdict srv_batcher_again(struct srv_batcher *b, struct srv_ticket *t);

/* Takes a ticket back; fine when it is not queued. */
void srv_batcher_remove(struct srv_batcher *b, struct srv_ticket *t);

/* Fills a free lane: out [max_batch of all models] gets the batch's tickets, all of one model.
 * Returns how many; 0 when nothing waits. */
int srv_batcher_take(struct srv_batcher *b, int lane, uint64_t now_ns, struct srv_ticket **out);

/* The lane is free again. gmac were done in seconds of computing (0: nothing was learnt). */
void srv_batcher_finish(struct srv_batcher *b, int lane, double gmac, double seconds);

/* A measurement of a model's rate from elsewhere: warming. */
void srv_batcher_learn(struct srv_batcher *b, int model, double gmac, double seconds);

/* Seconds until a request of this urgency would start; 0 when nothing is ahead. */
double srv_batcher_wait(const struct srv_batcher *b, const struct srv_ticket *t, uint64_t now_ns);

int srv_batcher_free_lane(const struct srv_batcher *b);           /* index, or -1 */
int srv_batcher_waiting(const struct srv_batcher *b, int model);  /* items queued */
int srv_batcher_reserved(const struct srv_batcher *b, int model); /* requests on their way */
double srv_batcher_rate(const struct srv_batcher *b, int model);  /* GMAC/s of a lane, 0 unknown */
double srv_batcher_expected(const struct srv_batcher *b, int lane); /* seconds of its batch */

#endif
