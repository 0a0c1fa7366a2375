#include "server/ctl_latency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct pcv_err e;

/* n times: 1 ms, 2 ms, ... n ms, out of order. */
static struct ctl_latency times(uint64_t n)
{
    struct ctl_latency l = {0};

    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(ctl_latency_add(&l, (1 + (i * 7919 + 5) % n) * 1000000, &e), 0);
    ctl_latency_sort(&l);
    return l;
}

static void test_percentiles(void **state)
{
    static const struct {
        uint64_t n;
        double percent, ms;
    } cases[] = {{1, 0, 1},        {1, 50, 1},      {1, 100, 1},      {2, 50, 1},
                 {2, 51, 2},       {10, 90, 9},     {10, 91, 10},     {10, 0, 1},
                 {10, 10, 1},      {100, 50, 50},   {100, 90, 90},    {100, 99, 99},
                 {100, 99.5, 100}, {100, 100, 100}, {10000, 95, 9500}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct ctl_latency l = times(cases[i].n);
        const double ms = ctl_latency_ms(&l, cases[i].percent);

        if (ms != cases[i].ms)
            fail_msg("p%g of 1..%llu is %g", cases[i].percent, (unsigned long long)cases[i].n, ms);
        ctl_latency_free(&l);
    }
}

static void test_mean(void **state)
{
    struct ctl_latency l = times(10000);

    (void)state;
    assert_true(ctl_latency_mean_ms(&l) == 5000.5);
    ctl_latency_free(&l);
}

static void test_none(void **state)
{
    struct ctl_latency l = {0};

    (void)state;
    ctl_latency_sort(&l);
    assert_true(ctl_latency_ms(&l, 50) == 0);
    assert_true(ctl_latency_mean_ms(&l) == 0);
    ctl_latency_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_mean),
        cmocka_unit_test(test_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
