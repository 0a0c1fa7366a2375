/* The batcher's promises, with time as an argument. */
#include "server/batcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEC 1000000000ull

static struct srv_batcher *make(int nmodels, int max_batch, int max_queue, int nlanes)
{
    struct srv_batcher_limits l[4];
    struct srv_batcher *b = NULL;
    for (int i = 0; i < nmodels; i++)
        l[i] = (struct srv_batcher_limits){.max_batch = max_batch, .max_queue = max_queue};
    assert_int_equal(srv_batcher_new(&b, nmodels, l, nlanes, NULL), 0);
    return b;
}

static struct srv_ticket ticket(int model, int priority, uint64_t deadline_ns, int items)
{
    return (struct srv_ticket){.model = model,
                               .priority = priority,
                               .deadline_ns = deadline_ns,
                               .items = items,
                               .gmac = 1.0 * items};
}

/* Reserves and pushes. */
static enum srv_verdict offer(struct srv_batcher *b, struct srv_ticket *t, uint64_t now,
                              double *retry)
{
    enum srv_verdict v = srv_batcher_reserve(b, t->model, now, retry);
    return v == SRV_TAKEN ? srv_batcher_push(b, t, now, retry) : v;
}

static void must_take(struct srv_batcher *b, struct srv_ticket *t)
{
    double retry;
    assert_int_equal(offer(b, t, 0, &retry), SRV_TAKEN);
}

static void test_order_is_priority_deadline_arrival(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 1, 100, 1);
    struct srv_ticket t[] = {
        ticket(0, 100, 9 * SEC, 1), ticket(0, 100, 5 * SEC, 1), ticket(0, 100, 5 * SEC, 1),
        ticket(0, 1, 20 * SEC, 1),  ticket(0, 200, 1 * SEC, 1), ticket(0, 1, 10 * SEC, 1),
    };
    const int want[] = {5, 3, 1, 2, 0, 4};
    struct srv_ticket *out[1];
    for (int i = 0; i < 6; i++)
        must_take(b, &t[i]);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
        assert_ptr_equal(out[0], &t[want[i]]);
        srv_batcher_finish(b, 0, 0, 0);
    }
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 0);
    srv_batcher_free(b);
}

static void test_many_keep_their_order_through_removals(void **state)
{
    (void)state;
    enum { N = 500 };
    struct srv_batcher *b = make(1, 1, N, 1);
    struct srv_ticket t[N], *out[1];
    uint32_t seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        t[i] = ticket(0, 1 + (int)(seed >> 28), (seed >> 8) % 50 * SEC, 1);
        must_take(b, &t[i]);
    }
    for (int i = 0; i < N; i += 3)
        srv_batcher_remove(b, &t[i]);
    srv_batcher_remove(b, &t[0]); /* again: nothing */
    const struct srv_ticket *before = NULL;
    int n = 0;
    while (srv_batcher_take(b, 0, 0, out)) {
        assert_int_not_equal((out[0] - t) % 3, 0);
        if (before) {
            assert_true(before->priority <= out[0]->priority);
            if (before->priority == out[0]->priority) {
                assert_true(before->deadline_ns <= out[0]->deadline_ns);
                if (before->deadline_ns == out[0]->deadline_ns)
                    assert_true(before < out[0]);
            }
        }
        before = out[0];
        srv_batcher_finish(b, 0, 0, 0);
        n++;
    }
    assert_int_equal(n, N - (N + 2) / 3);
    assert_int_equal(srv_batcher_waiting(b, 0), 0);
    srv_batcher_free(b);
}

static void test_batch_fills_up_to_its_limit(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 1);
    struct srv_ticket t[20], *out[8];
    for (int i = 0; i < 20; i++) {
        t[i] = ticket(0, 100, SEC, 1);
        must_take(b, &t[i]);
    }
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 8);
    srv_batcher_finish(b, 0, 0, 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 8);
    srv_batcher_finish(b, 0, 0, 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 4);
    srv_batcher_free(b);
}

static void test_one_alone_is_not_delayed(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 2);
    struct srv_ticket t = ticket(0, 100, SEC, 1), *out[8];
    must_take(b, &t);
    assert_int_equal(srv_batcher_free_lane(b), 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    assert_int_equal(srv_batcher_free_lane(b), 1);
    assert_int_equal(srv_batcher_take(b, 1, 0, out), 0);
    assert_int_equal(srv_batcher_free_lane(b), 1); /* taking nothing keeps it free */
    srv_batcher_free(b);
}

static void test_requests_of_many_items_stay_whole(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 1);
    struct srv_ticket big = ticket(0, 100, 1 * SEC, 20), five = ticket(0, 100, 2 * SEC, 5),
                      four = ticket(0, 100, 3 * SEC, 4), one = ticket(0, 100, 4 * SEC, 1), *out[8];
    must_take(b, &one);
    must_take(b, &four);
    must_take(b, &five);
    must_take(b, &big);
    assert_int_equal(srv_batcher_waiting(b, 0), 30);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    assert_ptr_equal(out[0], &big); /* above the limit: alone */
    srv_batcher_finish(b, 0, 0, 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    assert_ptr_equal(out[0], &five); /* four would not fit, one may not overtake it */
    srv_batcher_finish(b, 0, 0, 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 2);
    assert_ptr_equal(out[0], &four);
    assert_ptr_equal(out[1], &one);
    srv_batcher_free(b);
}

static void test_models_never_mix_and_the_most_urgent_head_wins(void **state)
{
    (void)state;
    struct srv_batcher *b = make(2, 8, 100, 1);
    struct srv_ticket a1 = ticket(0, 100, 5 * SEC, 1), a2 = ticket(0, 100, 6 * SEC, 1),
                      c1 = ticket(1, 100, 4 * SEC, 1), c2 = ticket(1, 100, 9 * SEC, 1), *out[8];
    must_take(b, &a1);
    must_take(b, &a2);
    must_take(b, &c2);
    must_take(b, &c1);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 2);
    assert_ptr_equal(out[0], &c1);
    assert_ptr_equal(out[1], &c2);
    srv_batcher_finish(b, 0, 0, 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 2);
    assert_ptr_equal(out[0], &a1);
    srv_batcher_free(b);
}

static void test_full_queue_refuses_and_counts_those_on_their_way(void **state)
{
    (void)state;
    struct srv_batcher *b = make(2, 2, 4, 1);
    struct srv_ticket t[4], other = ticket(1, 100, SEC, 1), *out[2];
    double retry = -1;
    for (int i = 0; i < 3; i++) {
        t[i] = ticket(0, 100, SEC, 1);
        must_take(b, &t[i]);
    }
    assert_int_equal(srv_batcher_reserve(b, 0, 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_reserve(b, 0, 0, &retry), SRV_FULL);
    assert_true(retry >= 0);
    must_take(b, &other); /* another model's queue is its own */
    srv_batcher_unreserve(b, 0);
    assert_int_equal(srv_batcher_reserve(b, 0, 0, &retry), SRV_TAKEN);
    t[3] = ticket(0, 100, SEC, 2); /* reserved one place, and needs two */
    assert_int_equal(srv_batcher_push(b, &t[3], 0, &retry), SRV_FULL);
    assert_int_equal(srv_batcher_reserved(b, 0), 0);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 2);
    assert_int_equal(offer(b, &t[3], 0, &retry), SRV_TAKEN);
    srv_batcher_free(b);
}

static void test_full_queue_says_when_it_will_be_worked_off(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 1, 3, 1);
    struct srv_ticket t[4], *out[1];
    double retry = -1;
    srv_batcher_learn(b, 0, 1, 2); /* 2 s each */
    for (int i = 0; i < 4; i++)
        t[i] = ticket(0, 100, 1000 * SEC, 1);
    must_take(b, &t[0]);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    for (int i = 1; i < 4; i++)
        must_take(b, &t[i]);
    assert_int_equal(srv_batcher_reserve(b, 0, 1 * SEC, &retry), SRV_FULL);
    assert_float_equal(retry, 1 + 3 * 2, 1e-6);
    srv_batcher_free(b);
}

static void test_deadline_out_of_reach_is_refused(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 1, 100, 1);
    struct srv_ticket first = ticket(0, 100, 100 * SEC, 1), second = ticket(0, 100, 50 * SEC, 1),
                      late = ticket(0, 100, 5 * SEC, 1), fits = ticket(0, 100, 5 * SEC, 1),
                      low = ticket(0, 200, 6 * SEC, 1), *out[1];
    double retry = -1;
    srv_batcher_learn(b, 0, 1, 3); /* 3 s each */
    assert_int_equal(offer(b, &first, 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    assert_float_equal(srv_batcher_expected(b, 0), 3, 1e-6);
    assert_int_equal(offer(b, &second, 0, &retry), SRV_TAKEN); /* less urgent than what follows */
    /* Three seconds of the first are left, and its own three: six. */
    assert_int_equal(offer(b, &late, 0, &retry), SRV_LATE);
    assert_float_equal(retry, 1, 1e-6);
    assert_int_equal(srv_batcher_reserved(b, 0), 0);
    assert_int_equal(srv_batcher_waiting(b, 0), 1);
    /* A second later it fits: that was the truth. */
    late.deadline_ns = fits.deadline_ns = 6 * SEC;
    assert_int_equal(offer(b, &fits, 1 * SEC, &retry), SRV_TAKEN);
    /* Lower priority waits for all others: 2 + 3 + 3 + 3 against 5 left. */
    assert_int_equal(offer(b, &low, 1 * SEC, &retry), SRV_LATE);
    assert_float_equal(retry, 6, 1e-6);
    srv_batcher_free(b);
}

static void test_nothing_ahead_is_never_refused(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 1);
    struct srv_ticket t = ticket(0, 100, SEC / 1000, 1), u = t, *out[8];
    double retry;
    srv_batcher_learn(b, 0, 1, 1000); /* one hiccup must not shut the door for ever */
    assert_int_equal(offer(b, &t, 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1);
    assert_int_equal(offer(b, &u, 0, &retry), SRV_LATE);
    srv_batcher_finish(b, 0, 1, 0.001);
    assert_true(srv_batcher_rate(b, 0) > 100);
    srv_batcher_free(b);
}

static void test_unknown_rates_refuse_nothing(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 1);
    struct srv_ticket t[30];
    double retry;
    for (int i = 0; i < 30; i++) {
        t[i] = ticket(0, 100, 1, 1);
        assert_int_equal(offer(b, &t[i], 0, &retry), SRV_TAKEN);
    }
    srv_batcher_free(b);
}

static void test_lanes_share_the_work_ahead(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 1, 100, 2);
    struct srv_ticket t[3], last = ticket(0, 200, 100 * SEC, 1), *out[1];
    srv_batcher_learn(b, 0, 1, 1);
    for (int i = 0; i < 3; i++)
        t[i] = ticket(0, 100, 100 * SEC, 1);
    t[0].gmac = 0.5;
    t[1].gmac = 4;
    must_take(b, &t[0]);
    srv_batcher_take(b, 0, 0, out);
    must_take(b, &t[1]);
    srv_batcher_take(b, 1, 0, out);
    assert_float_equal(srv_batcher_wait(b, &last, 0), 0.5, 1e-6);
    must_take(b, &t[2]); /* runs from 0.5 to 1.5 on the first lane */
    assert_float_equal(srv_batcher_wait(b, &last, 0), 1.5, 1e-6);
    t[2].gmac = 1; /* as it was queued */
    assert_float_equal(srv_batcher_wait(b, &last, SEC / 2), 1.0, 1e-6);
    srv_batcher_free(b);
}

static void test_batch_does_not_outgrow_a_deadline(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 8, 100, 1);
    struct srv_ticket t[6], hopeless = ticket(0, 1, 1, 1), *out[8];
    double retry;
    srv_batcher_learn(b, 0, 1, 1); /* a second each */
    for (int i = 0; i < 6; i++) {
        t[i] = ticket(0, 100, 100 * SEC, 1);
        must_take(b, &t[i]);
    }
    srv_batcher_remove(b, &t[0]);
    t[0].deadline_ns = 3 * SEC + SEC / 2;
    assert_int_equal(offer(b, &t[0], 0, &retry), SRV_TAKEN);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 3); /* the fourth would end at 4 s */
    assert_ptr_equal(out[0], &t[0]);
    srv_batcher_finish(b, 0, 0, 0);
    /* One that is late in any case holds nobody back. */
    srv_batcher_remove(b, &t[3]);
    srv_batcher_remove(b, &t[4]);
    srv_batcher_remove(b, &t[5]);
    assert_int_equal(offer(b, &hopeless, 0, &retry), SRV_TAKEN);
    must_take(b, &t[3]);
    must_take(b, &t[4]);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 3);
    srv_batcher_free(b);
}

static void test_batch_does_not_outgrow_its_time(void **state)
{
    (void)state;
    struct srv_batcher_limits l = {.max_batch = 8, .max_queue = 100, .max_batch_s = 2.5};
    struct srv_batcher *b = NULL;
    struct srv_ticket t[6], *out[8];
    assert_int_equal(srv_batcher_new(&b, 1, &l, 1, NULL), 0);
    for (int i = 0; i < 6; i++)
        t[i] = ticket(0, 100, 100 * SEC, 1);
    for (int i = 0; i < 4; i++)
        must_take(b, &t[i]);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 4); /* no rate is known */
    srv_batcher_finish(b, 0, 1, 1);
    for (int i = 0; i < 3; i++)
        must_take(b, &t[i]);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 2); /* a third would make it 3 s */
    srv_batcher_finish(b, 0, 1, 100);
    srv_batcher_finish(b, 0, 1, 100);
    assert_int_equal(srv_batcher_take(b, 0, 0, out), 1); /* alone it may take any time */
    srv_batcher_free(b);
}

/* Ten arrivals a second for one place a second, all with shorter timeouts than the first one: its
 * deadline comes nearer than theirs, and it is served before it runs out. */
static void test_no_starvation_within_a_priority(void **state)
{
    (void)state;
    struct srv_batcher *b = make(1, 1, 1000, 1);
    struct srv_ticket old = ticket(0, 100, 30 * SEC, 1), t[300], *out[1];
    int n = 0;
    bool served = false;
    must_take(b, &old); /* a long timeout, and everyone after it has a short one */
    for (uint64_t now = 0; now < 30 && !served; now++) {
        for (int i = 0; i < 10; i++, n++) {
            t[n] = ticket(0, 100, (now + 5) * SEC, 1);
            must_take(b, &t[n]);
        }
        for (int i = 0; i < n; i++) /* those out of time leave */
            if (t[i].node.place && t[i].deadline_ns <= now * SEC)
                srv_batcher_remove(b, &t[i]);
        assert_int_equal(srv_batcher_take(b, 0, now * SEC, out), 1);
        served = out[0] == &old;
        srv_batcher_finish(b, 0, 0, 0);
    }
    assert_true(served);
    srv_batcher_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_priority_deadline_arrival),
        cmocka_unit_test(test_many_keep_their_order_through_removals),
        cmocka_unit_test(test_batch_fills_up_to_its_limit),
        cmocka_unit_test(test_one_alone_is_not_delayed),
        cmocka_unit_test(test_requests_of_many_items_stay_whole),
        cmocka_unit_test(test_models_never_mix_and_the_most_urgent_head_wins),
        cmocka_unit_test(test_full_queue_refuses_and_counts_those_on_their_way),
        cmocka_unit_test(test_full_queue_says_when_it_will_be_worked_off),
        cmocka_unit_test(test_deadline_out_of_reach_is_refused),
        cmocka_unit_test(test_nothing_ahead_is_never_refused),
        cmocka_unit_test(test_unknown_rates_refuse_nothing),
        cmocka_unit_test(test_lanes_share_the_work_ahead),
        cmocka_unit_test(test_batch_does_not_outgrow_a_deadline),
        cmocka_unit_test(test_batch_does_not_outgrow_its_time),
        cmocka_unit_test(test_no_starvation_within_a_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
