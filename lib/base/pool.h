/* pool.h - the engine's own threads. OpenBLAS is kept to one thread; all parallelism is here.
 *
 * A pool runs one job at a time: every thread, the caller among them, executes part(i, n, arg) with
 * its own i in [0, n). Inside a job, parts may meet at pcv_pool_barrier and take numbered units of
 * work with pcv_units_next. Several pools may exist; each has one caller at a time. */
#ifndef PCV_BASE_POOL_H
#define PCV_BASE_POOL_H

#include "lib/perceiver.h"

typedef void (*pcv_part_fn)(int i, int n, void *arg);

/* Runs the job and returns when every part has. p NULL: one part, on the caller. */
void pcv_pool_run(struct pcv_pool *p, pcv_part_fn part, void *arg);

/* Waits until all parts of the running job are here; everything written before is visible after.
 * Every part must call it equally often. p NULL: nothing to wait for. */
void pcv_pool_barrier(struct pcv_pool *p);

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
