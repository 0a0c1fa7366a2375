/* When a lane counts as hung. The way of requests itself is tested from outside, over HTTP. */
#include "server/flow_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SEC 1000000000ull

/* A flow of one lane that computes a batch of so many seconds since the beginning of time. */
static void expect_hung_after(double batch_s, int64_t hang_limit_ms, double after_s)
{
    struct srv_config config = {.server_lanes = 1, .server_hang_limit = hang_limit_ms};
    struct srv_batcher_limits limits = {.max_batch = 1, .max_queue = 1};
    struct srv_flight flight = {.n = 1};
    struct srv_flow flow = {.c = {.config = &config}, .flights = &flight};
    struct srv_ticket t = {.priority = 1, .deadline_ns = UINT64_MAX, .items = 1, .gmac = batch_s};
    struct srv_ticket *out[1];
    double retry;
    assert_int_equal(srv_lanes_new(&flow.lanes, 1, 1, NULL), 0);
    assert_int_equal(srv_batcher_new(&flow.batcher, 1, &limits, 1, NULL), 0);
    srv_batcher_learn(flow.batcher, 0, 1, 1);
    assert_int_equal(srv_batcher_reserve(flow.batcher, 0, 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_push(flow.batcher, &t, 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_take(flow.batcher, 0, 0, out), 1);
    assert_int_equal(srv_flow_hung_lane(&flow, (uint64_t)((after_s - 0.1) * SEC)), -1);
    assert_int_equal(srv_flow_hung_lane(&flow, (uint64_t)((after_s + 0.1) * SEC)), 0);
    flight.n = 0; /* came back */
    assert_int_equal(srv_flow_hung_lane(&flow, 1000 * (uint64_t)(after_s * SEC)), -1);
    srv_batcher_free(flow.batcher);
    srv_lanes_free(flow.lanes, NULL, NULL);
}

static void test_a_short_batch_hangs_after_the_limit(void **state)
{
    (void)state;
    expect_hung_after(0.01, 2000, 2);
}

static void test_a_long_batch_may_take_ten_times_what_was_expected(void **state)
{
    (void)state;
    expect_hung_after(5, 2000, 50);
}

static void test_without_lanes_nothing_hangs(void **state)
{
    (void)state;
    struct srv_flow flow = {0};
    assert_int_equal(srv_flow_hung_lane(&flow, UINT64_MAX), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_short_batch_hangs_after_the_limit),
        cmocka_unit_test(test_a_long_batch_may_take_ten_times_what_was_expected),
        cmocka_unit_test(test_without_lanes_nothing_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
