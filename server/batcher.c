#include "server/batcher.h"

#include <stdlib.h>
#include <string.h>

/* Weight of a new measurement in a model's rate. */
#define LEARN 0.2

struct queue {
    struct srv_batcher_limits limits;
    struct srv_heap heap; /* of tickets */
    int items;            /* in heap */
    int reserved;         /* requests that will be pushed */
    double gmac;          /* in heap */
    double rate;          /* GMAC/s of one lane; 0 = unknown */
};

struct lane {
    bool busy;
    int model;
    uint64_t since_ns;
    double expected_s; /* of the batch, from the rate when it started */
};

struct srv_batcher {
    int nmodels, nlanes;
    struct queue *queues;
    struct lane *lanes;
    double *free_at; /* [nlanes], scratch of wait */
    uint64_t arrivals;
};

static struct srv_ticket *ticket(const struct srv_heap_node *n)
{
    return n ? SRV_HOLDER(n, struct srv_ticket, node) : NULL;
}

static bool more_urgent(const struct srv_ticket *a, const struct srv_ticket *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    if (a->deadline_ns != b->deadline_ns)
        return a->deadline_ns < b->deadline_ns;
    return a->arrival < b->arrival;
}

static bool node_before(const struct srv_heap_node *a, const struct srv_heap_node *b)
{
    return more_urgent(ticket(a), ticket(b));
}

int srv_batcher_new(struct srv_batcher **ret, int nmodels, const struct srv_batcher_limits *limits,
                    int nlanes, struct pcv_err *e)
{
    struct srv_batcher *b = calloc(1, sizeof *b);
    if (b) {
        b->queues = calloc((size_t)nmodels, sizeof *b->queues);
        b->lanes = calloc((size_t)nlanes, sizeof *b->lanes);
        b->free_at = calloc((size_t)nlanes, sizeof *b->free_at);
    }
    if (!b || !b->queues || !b->lanes || !b->free_at) {
        srv_batcher_free(b);
        return pcv_fail(e, PCV_ENOMEM, "no memory for the queues of %d models", nmodels);
    }
    b->nmodels = nmodels;
    b->nlanes = nlanes;
    for (int i = 0; i < nmodels; i++) {
        b->queues[i].limits = limits[i];
        b->queues[i].heap.before = node_before;
    }
    *ret = b;
    return 0;
}

void srv_batcher_free(struct srv_batcher *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->nmodels; i++)
        srv_heap_clear(&b->queues[i].heap);
    free(b->queues);
    free(b->lanes);
    free(b->free_at);
    free(b);
}

/* ---- estimates ------------------------------------------------------------------------------ */

static double seconds(const struct queue *q, double gmac)
{
    return q->rate > 0 ? gmac / q->rate : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* When a lane comes free for somebody who lets `work` seconds of others go first: lanes fill up
 * like connected vessels, from the one that is free first. */
static double lane_free_in(const struct srv_batcher *b, double work, uint64_t now_ns)
{
    int n = b->nlanes;
    for (int i = 0; i < n; i++) {
        const struct lane *l = &b->lanes[i];
        double left = l->busy ? l->expected_s - (double)(now_ns - l->since_ns) / 1e9 : 0;
        b->free_at[i] = left > 0 ? left : 0;
    }
    qsort(b->free_at, (size_t)n, sizeof *b->free_at, by_value);
    double level = b->free_at[0];
    for (int i = 1; i <= n; i++) {
        double rise = i < n ? b->free_at[i] - level : 0;
        if (i == n || rise * i >= work)
            return level + work / i;
        work -= rise * i;
        level = b->free_at[i];
    }
    return level;
}

/* Seconds of all that waits. */
static double backlog(const struct srv_batcher *b)
{
    double s = 0;
    for (int i = 0; i < b->nmodels; i++)
        s += seconds(&b->queues[i], b->queues[i].gmac);
    return s;
}

double srv_batcher_wait(const struct srv_batcher *b, const struct srv_ticket *t, uint64_t now_ns)
{
    double ahead = 0;
    for (int i = 0; i < b->nmodels; i++) {
        const struct srv_heap *h = &b->queues[i].heap;
        for (int k = 0; k < h->n; k++)
            if (more_urgent(ticket(h->nodes[k]), t))
                ahead += seconds(&b->queues[i], ticket(h->nodes[k])->gmac);
    }
    return lane_free_in(b, ahead, now_ns);
}

/* Whether it cannot be done in time. Looks at single tickets only when the sum of all is too much.
 */
static bool too_late(const struct srv_batcher *b, const struct srv_ticket *t, uint64_t now_ns,
                     double *retry_s)
{
    double own = seconds(&b->queues[t->model], t->gmac);
    double left = t->deadline_ns > now_ns ? (double)(t->deadline_ns - now_ns) / 1e9 : 0;
    if (own <= 0 || lane_free_in(b, backlog(b), now_ns) + own <= left)
        return false;
    double wait = srv_batcher_wait(b, t, now_ns);
    if (wait <= 0 || wait + own <= left)
        return false;
    /* After this long so much less is ahead; once nothing is, it is taken in any case. */
    *retry_s = own <= left ? wait + own - left : wait;
    return true;
}

/* ---- queues --------------------------------------------------------------------------------- */

enum srv_verdict srv_batcher_reserve(struct srv_batcher *b, int model, uint64_t now_ns,
                                     double *retry_s)
{
    struct queue *q = &b->queues[model];
    if (q->items + q->reserved >= q->limits.max_queue) {
        *retry_s = lane_free_in(b, backlog(b), now_ns);
        return SRV_FULL;
    }
    q->reserved++;
    return SRV_TAKEN;
}

void srv_batcher_unreserve(struct srv_batcher *b, int model)
{
    b->queues[model].reserved--;
}

static enum srv_verdict queue_up(struct queue *q, struct srv_ticket *t)
{
    if (!srv_heap_push(&q->heap, &t->node))
        return SRV_NO_ROOM;
    q->items += t->items;
    q->gmac += t->gmac;
    return SRV_TAKEN;
}

enum srv_verdict srv_batcher_again(struct srv_batcher *b, struct srv_ticket *t)
{
    t->arrival = b->arrivals++;
    t->node.place = 0;
    return queue_up(&b->queues[t->model], t);
}

enum srv_verdict srv_batcher_push(struct srv_batcher *b, struct srv_ticket *t, uint64_t now_ns,
                                  double *retry_s)
{
    struct queue *q = &b->queues[t->model];
    q->reserved--;
    t->arrival = b->arrivals++;
    t->node.place = 0;
    if (t->items > q->limits.max_queue - q->items) {
        *retry_s = lane_free_in(b, backlog(b), now_ns);
        return SRV_FULL;
    }
    if (too_late(b, t, now_ns, retry_s))
        return SRV_LATE;
    return queue_up(q, t);
}

void srv_batcher_remove(struct srv_batcher *b, struct srv_ticket *t)
{
    struct queue *q = &b->queues[t->model];
    if (!t->node.place)
        return;
    srv_heap_remove(&q->heap, &t->node);
    q->items -= t->items;
    q->gmac = q->heap.n ? q->gmac - t->gmac : 0;
}

/* The queue whose head is most urgent, or NULL. */
static struct queue *most_urgent(struct srv_batcher *b)
{
    struct queue *best = NULL;
    for (int i = 0; i < b->nmodels; i++) {
        struct queue *q = &b->queues[i];
        if (q->heap.n && (!best || node_before(q->heap.nodes[0], best->heap.nodes[0])))
            best = q;
    }
    return best;
}

int srv_batcher_take(struct srv_batcher *b, int lane, uint64_t now_ns, struct srv_ticket **out)
{
    struct queue *q = most_urgent(b);
    if (!q)
        return 0;
    int n = 0, items = 0;
    double gmac = 0;
    uint64_t earliest = UINT64_MAX; /* of the deadlines that the batch so far meets */
    for (struct srv_ticket *t; (t = ticket(srv_heap_first(&q->heap)));) {
        double grown = seconds(q, gmac + t->gmac);
        uint64_t end = now_ns + (uint64_t)(grown * 1e9);
        bool too_long = q->limits.max_batch_s > 0 && grown > q->limits.max_batch_s;
        if (n && (items + t->items > q->limits.max_batch || end > earliest || too_long))
            break;
        srv_batcher_remove(b, t);
        out[n++] = t;
        items += t->items;
        gmac += t->gmac;
        if (t->deadline_ns >= end && t->deadline_ns < earliest)
            earliest = t->deadline_ns;
    }
    b->lanes[lane] = (struct lane){.busy = true,
                                   .model = (int)(q - b->queues),
                                   .since_ns = now_ns,
                                   .expected_s = seconds(q, gmac)};
    return n;
}

void srv_batcher_learn(struct srv_batcher *b, int model, double gmac, double s)
{
    struct queue *q = &b->queues[model];
    if (gmac > 0 && s > 0)
        q->rate = q->rate > 0 ? q->rate + LEARN * (gmac / s - q->rate) : gmac / s;
}

void srv_batcher_finish(struct srv_batcher *b, int lane, double gmac, double s)
{
    b->lanes[lane].busy = false;
    srv_batcher_learn(b, b->lanes[lane].model, gmac, s);
}

int srv_batcher_free_lane(const struct srv_batcher *b)
{
    for (int i = 0; i < b->nlanes; i++)
        if (!b->lanes[i].busy)
            return i;
    return -1;
}

int srv_batcher_waiting(const struct srv_batcher *b, int model)
{
    return b->queues[model].items;
}

int srv_batcher_reserved(const struct srv_batcher *b, int model)
{
    return b->queues[model].reserved;
}

double srv_batcher_rate(const struct srv_batcher *b, int model)
{
    return b->queues[model].rate;
}

double srv_batcher_expected(const struct srv_batcher *b, int lane)
{
    return b->lanes[lane].busy ? b->lanes[lane].expected_s : 0;
}
