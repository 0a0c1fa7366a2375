#include "lib/base/pool.h"

#include "lib/base/cpu.h"
#include "tests/unit/check.h"

#include <pthread.h>

enum { MOST = 5 };

static struct pcv_pool *pool_of(int threads)
{
    struct pcv_pool *p = NULL;
    struct pcv_err e = {0};

    CHECK_OK(pcv_pool_new(&p, threads, &e), e);
    assert_int_equal(pcv_pool_threads(p), threads);
    return p;
}

/* Assertions end the test by a jump, so only the test's own thread may make them: parts count what
 * is wrong. */
struct job {
    struct pcv_pool *pool;
    int threads; /* expected */
    atomic_int ran[MOST], wrong;
    int plain[MOST]; /* not atomic: the barrier must publish it */
    struct pcv_units units;
    atomic_int taken[1000];
};

static void count(int i, int n, void *arg)
{
    struct job *j = arg;

    if (n != j->threads || i < 0 || i >= n)
        atomic_fetch_add(&j->wrong, 1);
    else
        atomic_fetch_add(&j->ran[i], 1);
}

static void every_part_runs_once_each_time(void **state)
{
    enum { TIMES = 3000 };

    (void)state;
    for (int threads = 1; threads <= MOST; threads++) {
        struct pcv_pool *p = pool_of(threads);
        struct job j = {.threads = threads};

        for (int i = 0; i < TIMES; i++)
            pcv_pool_run(p, count, &j);
        assert_int_equal(atomic_load(&j.wrong), 0);
        for (int i = 0; i < threads; i++)
            assert_int_equal(atomic_load(&j.ran[i]), TIMES);
        pcv_pool_free(p);
    }
}

/* What each part wrote before a barrier is what all parts read after it. */
static void meet(int i, int n, void *arg)
{
    struct job *j = arg;

    for (int round = 1; round <= 200; round++) {
        j->plain[i] = round * 100 + i;
        pcv_pool_barrier(j->pool);
        for (int k = 0; k < n; k++)
            if (j->plain[k] != round * 100 + k)
                atomic_fetch_add(&j->wrong, 1);
        pcv_pool_barrier(j->pool);
    }
}

static void barriers_hold_and_publish(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MOST; threads++) {
        struct job j = {.pool = pool_of(threads), .threads = threads};

        for (int i = 0; i < 5; i++)
            pcv_pool_run(j.pool, meet, &j);
        assert_int_equal(atomic_load(&j.wrong), 0);
        pcv_pool_free(j.pool);
    }
}

static void take_units(int i, int n, void *arg)
{
    struct job *j = arg;

    (void)i;
    (void)n;
    for (int u; (u = pcv_units_next(&j->units)) < (int)LEN(j->taken);)
        atomic_fetch_add(&j->taken[u], 1);
}

static void units_are_taken_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MOST; threads++) {
        struct job j = {.pool = pool_of(threads)};

        for (int round = 1; round <= 3; round++) {
            pcv_units_reset(&j.units);
            pcv_pool_run(j.pool, take_units, &j);
            for (size_t i = 0; i < LEN(j.taken); i++)
                assert_int_equal(atomic_load(&j.taken[i]), round);
        }
        pcv_pool_free(j.pool);
    }
}

/* Thread 0 shares units, twice in a row; the others are done. Plain arrays: what a unit wrote its
 * owner must see, and what the owner wrote each unit. */
struct sharing {
    struct pcv_pool *pool;
    int round, ran[300], wrong;
    atomic_int by_others;
    long patience; /* of the owner with the others */
};

static void shared_unit(int unit, int thread, const void *arg)
{
    struct sharing *s = *(struct sharing *const *)arg;

    s->ran[unit] += s->round;
    if (thread != 0)
        atomic_fetch_add(&s->by_others, 1);
    while (thread == 0 && s->patience > 0 && atomic_load(&s->by_others) == 0)
        s->patience--;
}

static void share_units(int i, int n, void *arg)
{
    struct sharing *s = arg;
    const struct pcv_worker w = {s->pool, i};

    (void)n;
    for (int round = 1; round <= 20; round++) {
        for (int part = 0; part < 2 && i == 0; part++) {
            s->round = round;
            memset(s->ran, 0, sizeof(s->ran));
            pcv_share(&w, (int)LEN(s->ran), shared_unit, &s);
            for (size_t u = 0; u < LEN(s->ran); u++)
                s->wrong += s->ran[u] != round;
        }
        pcv_pool_meet(&w);
    }
}

static void shared_units_run_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MOST; threads++) {
        struct sharing s = {.pool = pool_of(threads)};

        pcv_pool_run(s.pool, share_units, &s);
        assert_int_equal(s.wrong, 0);
        pcv_pool_free(s.pool);
    }
}

/* A thread that waits takes units, even after it fell asleep: the first unit ends when it has. */
static void who_waits_helps(void **state)
{
    struct sharing s = {0};

    (void)state;
    if (pcv_cpu_available() < 2)
        skip(); /* threads that would only steal from each other do not help */
    s.pool = pool_of(2);
    for (int i = 0; i < 3; i++) {
        atomic_store(&s.by_others, 0);
        s.patience = 10000000000;
        pcv_pool_run(s.pool, share_units, &s);
        assert_int_not_equal(atomic_load(&s.by_others), 0);
        assert_int_equal(s.wrong, 0);
    }
    pcv_pool_free(s.pool);
}

static void no_pool_is_the_caller_alone(void **state)
{
    struct job j = {.threads = 1};

    (void)state;
    pcv_pool_run(NULL, count, &j);
    pcv_pool_barrier(NULL);
    pcv_pool_meet(&(struct pcv_worker){0});
    assert_int_equal(atomic_load(&j.ran[0]), 1);
    assert_int_equal(pcv_pool_threads(NULL), 1);
    pcv_pool_free(NULL);
}

static void *run_many(void *arg)
{
    struct job *j = arg;

    for (int i = 0; i < 20; i++)
        pcv_pool_run(j->pool, meet, j);
    return NULL;
}

/* Two callers, each with a pool of its own, at the same time. */
static void pools_are_independent(void **state)
{
    struct job a = {.pool = pool_of(2)}, b = {.pool = pool_of(3)};
    pthread_t other;

    (void)state;
    assert_int_equal(pthread_create(&other, NULL, run_many, &a), 0);
    run_many(&b);
    pthread_join(other, NULL);
    assert_int_equal(atomic_load(&a.wrong), 0);
    assert_int_equal(atomic_load(&b.wrong), 0);
    pcv_pool_free(a.pool);
    pcv_pool_free(b.pool);
}

/* A pool belongs to no thread: another may call it next. */
static void callers_may_change(void **state)
{
    struct job j = {.pool = pool_of(3)};

    (void)state;
    for (int i = 0; i < 3; i++) {
        pthread_t other;

        assert_int_equal(pthread_create(&other, NULL, run_many, &j), 0);
        pthread_join(other, NULL);
        run_many(&j);
    }
    assert_int_equal(atomic_load(&j.wrong), 0);
    pcv_pool_free(j.pool);
}

static void numbers_of_threads_are_checked(void **state)
{
    struct pcv_pool *p = (void *)0x1;
    struct pcv_err e = {0};

    (void)state;
    CHECK_FAILS(pcv_pool_new(&p, -1, &e), e, PCV_ERANGE, "", "-1 threads");
    CHECK_FAILS(pcv_pool_new(&p, 257, &e), e, PCV_ERANGE, "", "257 threads");
    assert_ptr_equal(p, (void *)0x1);
    CHECK_OK(pcv_pool_new(&p, 0, &e), e);
    assert_int_equal(pcv_pool_threads(p), pcv_cpu_available() < 256 ? pcv_cpu_available() : 256);
    pcv_pool_free(p);
}

/* Also when nothing ever ran, and right after it did. */
static void freeing_joins(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct pcv_pool *p = pool_of(1 + i % MOST);
        struct job j = {.threads = 1 + i % MOST};

        if (i % 2)
            pcv_pool_run(p, count, &j);
        pcv_pool_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_runs_once_each_time),
        cmocka_unit_test(barriers_hold_and_publish),
        cmocka_unit_test(units_are_taken_once),
        cmocka_unit_test(shared_units_run_once),
        cmocka_unit_test(who_waits_helps),
        cmocka_unit_test(no_pool_is_the_caller_alone),
        cmocka_unit_test(pools_are_independent),
        cmocka_unit_test(callers_may_change),
        cmocka_unit_test(numbers_of_threads_are_checked),
        cmocka_unit_test(freeing_joins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
