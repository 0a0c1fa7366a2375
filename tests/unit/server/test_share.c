/* Who computes an input, who waits for it, and what waiters hear. */
#include "server/share.h"

#include "tests/unit/check.h"

static struct srv_digest key(int i)
{
    return srv_digest_bytes(&i, sizeof i);
}

static void test_followers_get_the_latents_in_their_order(void **state)
{
    (void)state;
    struct srv_share *s = srv_share_new();
    struct srv_kept *k = srv_kept_new(NULL, 0);
    struct srv_lead lead = {0};
    struct srv_follower f[3] = {0};
    struct srv_digest d = key(1), other = key(2);
    srv_share_lead(s, &lead, 0, &d);
    assert_ptr_equal(srv_share_find(s, 0, &d), &lead);
    assert_null(srv_share_find(s, 1, &d)); /* another model */
    assert_null(srv_share_find(s, 0, &other));
    for (int i = 0; i < 3; i++)
        srv_share_follow(&lead, &f[i]);
    srv_share_leave(&f[1]);
    srv_share_leave(&f[1]); /* again is fine */
    assert_null(srv_share_woken(s));
    srv_share_end(s, &lead, k);
    srv_share_end(s, &lead, k);
    assert_null(srv_share_find(s, 0, &d));
    assert_int_equal(k->refs, 3);
    assert_ptr_equal(srv_share_woken(s), &f[0]);
    srv_share_leave(&f[2]); /* woken, but gives up before it is looked at */
    assert_null(srv_share_woken(s));
    assert_int_equal(k->refs, 2);
    assert_ptr_equal(f[0].kept, k);
    srv_kept_release(f[0].kept);
    srv_kept_release(k);
    srv_share_free(s);
}

static void test_a_lead_that_fails_is_followed_by_the_next(void **state)
{
    (void)state;
    struct srv_share *s = srv_share_new();
    struct srv_lead lead[2] = {0};
    struct srv_follower f[2] = {0};
    struct srv_digest d = key(1);
    srv_share_lead(s, &lead[0], 0, &d);
    srv_share_follow(&lead[0], &f[0]);
    srv_share_follow(&lead[0], &f[1]);
    srv_share_end(s, &lead[0], NULL);
    assert_ptr_equal(srv_share_woken(s), &f[0]);
    assert_null(f[0].kept);
    srv_share_lead(s, &lead[1], 0, &d); /* what the first does */
    assert_ptr_equal(srv_share_woken(s), &f[1]);
    assert_ptr_equal(srv_share_find(s, 0, &d), &lead[1]);
    srv_share_follow(&lead[1], &f[1]); /* and the second */
    srv_share_end(s, &lead[1], NULL);
    assert_ptr_equal(srv_share_woken(s), &f[1]);
    srv_share_free(s);
}

static void test_many_leads_do_not_mix(void **state)
{
    enum { N = 3000 };
    (void)state;
    struct srv_share *s = srv_share_new();
    struct srv_lead *lead = calloc(N, sizeof *lead);
    for (int i = 0; i < N; i++) {
        struct srv_digest d = key(i / 2);
        srv_share_lead(s, &lead[i], i % 2, &d);
    }
    for (int i = 0; i < N; i += 3)
        srv_share_end(s, &lead[i], NULL);
    for (int i = 0; i < N; i++) {
        struct srv_digest d = key(i / 2);
        assert_ptr_equal(srv_share_find(s, i % 2, &d), i % 3 ? &lead[i] : NULL);
    }
    free(lead);
    srv_share_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_followers_get_the_latents_in_their_order),
        cmocka_unit_test(test_a_lead_that_fails_is_followed_by_the_next),
        cmocka_unit_test(test_many_leads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
