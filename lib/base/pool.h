/* pool.h - the engine's own threads. OpenBLAS is kept to one thread; all parallelism is here.
 *
 * A pool runs one job at a time: every thread, the caller among them, executes part(i, n, arg) with
 * its own i in [0, n). Inside a job, parts may meet at pcv_pool_barrier and take numbered units of
 * work with pcv_units_next. Who has a long piece of work that cannot be handed out beforehand
 * shares its units with those who are done: pcv_share and pcv_pool_meet. Several pools may exist;
 * each has one caller at a time. */
#ifndef PCV_BASE_POOL_H
#define PCV_BASE_POOL_H

#include "lib/perceiver.h"

typedef void (*pcv_part_fn)(int i, int n, void *arg);

/* Runs the job and returns when every part has. p NULL: one part, on the caller. */
void pcv_pool_run(struct pcv_pool *p, pcv_part_fn part, void *arg);

/* Waits until all parts of the running job are here; everything written before is visible after.
 * Every part must call it equally often. p NULL: nothing to wait for. */
void pcv_pool_barrier(struct pcv_pool *p);

/* A part of a running job. pool NULL, or no worker at all: alone. */
struct pcv_worker {
    struct pcv_pool *pool;
    int thread; /* i */
};

/* Executes unit [0, n), once each, in any order, on this thread or on one that waits in
 * pcv_pool_meet: then `thread` is that one's. Returns when all are done, and sees what they wrote.
 * A unit shares nothing itself. With more threads than processors nobody helps. */
typedef void (*pcv_unit_fn)(int unit, int thread, const void *arg);
void pcv_share(const struct pcv_worker *w, int n, pcv_unit_fn unit, const void *arg);

/* A barrier, before which this thread takes units of those who are late. */
void pcv_pool_meet(const struct pcv_worker *w);

/* Units of work handed out in order, whoever comes first. */
struct pcv_units {
    _Alignas(64) atomic_int next;
};

static inline void pcv_units_reset(struct pcv_units *u)
{
    atomic_store_explicit(&u->next, 0, memory_order_relaxed);
}

static inline int pcv_units_next(struct pcv_units *u)
{
    return atomic_fetch_add_explicit(&u->next, 1, memory_order_relaxed);
}

#endif
