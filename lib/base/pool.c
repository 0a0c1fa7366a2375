/* pool.c - one caller and n-1 helpers.
 *
 * A job starts when `generation` grows; helpers sleep on a condition variable for it. The end of
 * a job and every barrier are a counter that all threads raise; waiting threads first spin for
 * a few microseconds (a barrier inside a layer is that short), then sleep on a futex-backed
 * condition. Lock order: only `mu`, never held while work runs.
 *
 * Shared work is a counter of units left, one for each thread. Whoever lowers it may read what
 * stands beside it: its owner changes that only after all units are done. */
#include "lib/base/pool.h"

#include "lib/base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { MAX_THREADS = 256, SPIN = 2000 };

struct helper {
    struct pcv_pool *pool;
    int index;
    pthread_t thread;
};

struct shared {
    _Alignas(64) atomic_int left; /* units nobody has taken */
    atomic_int helped;            /* units done by others than the owner */
    int n;
    pcv_unit_fn unit;
    const void *arg;
};

struct pcv_pool {
    int threads;
    int started; /* helpers whose thread runs */
    int spin;    /* 0 when there are more threads than processors: then spinning only steals */
    pthread_mutex_t mu;
    pthread_cond_t wake; /* a job began, a barrier fell, the pool stops */
    unsigned long generation;
    bool stop;
    pcv_part_fn part;
    void *arg;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase; /* grows when everybody has arrived */
    _Alignas(64) atomic_int asleep; /* in pcv_pool_meet */
    struct helper *helpers;
    struct shared *shared; /* [threads] */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Whether this is the last thread that comes; then all others may go. */
static bool arrive(struct pcv_pool *p, unsigned phase)
{
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) < p->threads - 1)
        return false;
    atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
    pthread_mutex_lock(&p->mu); /* a sleeper must not miss the change between look and wait */
    atomic_store_explicit(&p->phase, phase + 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
    return true;
}

static bool passed(struct pcv_pool *p, unsigned phase)
{
    return atomic_load_explicit(&p->phase, memory_order_acquire) != phase;
}

/* ---- sharing ----------------------------------------------------------------------------------
 */

/* The next unit of s, or -1. */
static int take(struct shared *s)
{
    int left = atomic_load(&s->left);

    while (left > 0)
        if (atomic_compare_exchange_weak(&s->left, &left, left - 1))
            return s->n - left;
    return -1;
}

static bool help(struct pcv_pool *p, int thread)
{
    for (int i = 0; i < p->threads; i++) {
        struct shared *s = &p->shared[i];
        const int unit = take(s);

        if (unit < 0)
            continue;
        s->unit(unit, thread, s->arg);
        atomic_fetch_add_explicit(&s->helped, 1, memory_order_release);
        return true;
    }
    return false;
}

static bool anything_left(struct pcv_pool *p)
{
    for (int i = 0; i < p->threads; i++)
        if (atomic_load(&p->shared[i].left) > 0)
            return true;
    return false;
}

static void wake_helpers(struct pcv_pool *p)
{
    if (atomic_load(&p->asleep) == 0)
        return;
    pthread_mutex_lock(&p->mu);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
}

void pcv_share(const struct pcv_worker *w, int n, pcv_unit_fn unit, const void *arg)
{
    struct pcv_pool *p = w ? w->pool : NULL;
    struct shared *s;
    int mine = 0;

    if (!p || p->threads == 1 || p->spin == 0 || n == 1) {
        for (int i = 0; i < n; i++)
            unit(i, w ? w->thread : 0, arg);
        return;
    }
    s = &p->shared[w->thread];
    s->n = n;
    s->unit = unit;
    s->arg = arg;
    atomic_store_explicit(&s->helped, 0, memory_order_relaxed);
    atomic_store(&s->left, n);
    wake_helpers(p);
    for (int i; (i = take(s)) >= 0; mine++)
        unit(i, w->thread, arg);
    for (int i = 0; atomic_load_explicit(&s->helped, memory_order_acquire) < n - mine; i++) {
        if (i < p->spin)
            cpu_relax();
        else
            sched_yield();
    }
}

/* ---- meeting ----------------------------------------------------------------------------------
 */

/* Sleeps until something changes, or helps when there is something left. Called with mu, which is
 * let go meanwhile. */
static void sleep_or_help(struct pcv_pool *p, int thread)
{
    atomic_fetch_add(&p->asleep, 1); /* before the look: whoever shares looks the other way */
    if (!anything_left(p))
        pthread_cond_wait(&p->wake, &p->mu);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->mu);
    while (help(p, thread))
        ;
    pthread_mutex_lock(&p->mu);
}

/* helper: this thread, which takes units of the others meanwhile; or NULL. */
static void wait_for_all(struct pcv_pool *p, const struct pcv_worker *helper)
{
    unsigned phase;

    if (!p || p->threads == 1)
        return;
    phase = atomic_load_explicit(&p->phase, memory_order_acquire);
    if (arrive(p, phase))
        return;
    for (int i = 0; i < p->spin; i = helper && help(p, helper->thread) ? 0 : i + 1) {
        if (passed(p, phase))
            return;
        cpu_relax();
    }
    pthread_mutex_lock(&p->mu);
    while (!passed(p, phase)) {
        if (helper)
            sleep_or_help(p, helper->thread);
        else
            pthread_cond_wait(&p->wake, &p->mu);
    }
    pthread_mutex_unlock(&p->mu);
}

void pcv_pool_barrier(struct pcv_pool *p)
{
    wait_for_all(p, NULL);
}

void pcv_pool_meet(const struct pcv_worker *w)
{
    wait_for_all(w->pool, w->pool && w->pool->spin > 0 ? w : NULL);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pcv_pool *p = h->pool;
    unsigned long seen = 0;

    for (;;) {
        pthread_mutex_lock(&p->mu);
        while (p->generation == seen && !p->stop)
            pthread_cond_wait(&p->wake, &p->mu);
        if (p->stop) {
            pthread_mutex_unlock(&p->mu);
            return NULL;
        }
        seen = p->generation;
        pthread_mutex_unlock(&p->mu);
        p->part(h->index, p->threads, p->arg);
        pcv_pool_barrier(p);
    }
}

void pcv_pool_run(struct pcv_pool *p, pcv_part_fn part, void *arg)
{
    if (!p || p->threads == 1) {
        part(0, 1, arg);
        return;
    }
    pthread_mutex_lock(&p->mu);
    p->part = part;
    p->arg = arg;
    p->generation++;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
    part(0, p->threads, arg);
    pcv_pool_barrier(p);
}

int pcv_pool_threads(const struct pcv_pool *p)
{
    return p ? p->threads : 1;
}

int pcv_pool_new(struct pcv_pool **ret, int threads, struct pcv_err *e)
{
    struct pcv_pool *p;

    if (threads < 0 || threads > MAX_THREADS)
        return pcv_fail(e, PCV_ERANGE, "%d threads; 0 to %d are possible", threads, MAX_THREADS);
    if (threads == 0)
        threads = pcv_cpu_available();
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    p = pcv_alloc_zero(1, sizeof(*p));
    if (!p)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a thread pool");
    p->threads = threads;
    p->spin = threads <= pcv_cpu_available() ? SPIN : 0;
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->helpers = pcv_alloc_zero((size_t)threads, sizeof(*p->helpers));
    p->shared = pcv_alloc_zero((size_t)threads, sizeof(*p->shared));
    if (!p->helpers || !p->shared) {
        pcv_pool_free(p);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d threads", threads);
    }
    for (int i = 1; i < threads; i++) {
        struct helper *h = &p->helpers[i];

        *h = (struct helper){.pool = p, .index = i};
        if (pthread_create(&h->thread, NULL, helper_main, h) != 0) {
            pcv_pool_free(p);
            return pcv_fail(e, PCV_ENOMEM, "the system refused thread %d of %d", i, threads);
        }
        p->started = i;
    }
    *ret = p;
    return 0;
}

void pcv_pool_free(struct pcv_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mu);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mu);
    pcv_free(p->helpers);
    pcv_free(p->shared);
    pcv_free(p);
}
