/* Kept latents: references, keys, handles, budget, time. The store never looks into them. */
#include "server/store.h"

#include "tests/unit/check.h"

#define SEC 1000000000ull

static int evicted[2][SRV_EVICTED];

static void on_evicted(void *ctx, int model, enum srv_evicted why)
{
    (void)ctx;
    evicted[model][why]++;
}

static struct srv_store *new_store(size_t bytes)
{
    struct srv_store *s;
    struct pcv_err e;
    memset(evicted, 0, sizeof evicted);
    CHECK_OK(srv_store_new(&s, bytes, on_evicted, NULL, &e), e);
    return s;
}

static struct srv_kept *kept(size_t bytes)
{
    struct srv_kept *k = srv_kept_new(NULL, 0);
    assert_non_null(k);
    k->bytes = bytes;
    return k;
}

static struct srv_digest key(int i)
{
    return srv_digest_bytes(&i, sizeof i);
}

/* Puts new latents of so many bytes under a key, and keeps no reference. */
static bool put(struct srv_store *s, int i, size_t bytes, uint64_t now, uint64_t expires)
{
    struct srv_kept *k = kept(bytes);
    struct srv_digest d = key(i);
    bool ok = srv_store_put(s, k, &d, now, expires);
    srv_kept_release(k);
    return ok;
}

static bool has(struct srv_store *s, int i, uint64_t now)
{
    struct srv_digest d = key(i);
    return srv_store_find(s, 0, &d, now) != NULL;
}

/* The same with a handle. */
static bool keep(struct srv_store *s, size_t bytes, uint64_t now, uint64_t expires, char *handle)
{
    const struct srv_entry *entry;
    struct pcv_err e;
    struct srv_kept *k = kept(bytes);
    int r = srv_store_keep(s, k, 0x1234567890abcdef, now, expires, &entry, &e);
    if (!r)
        memcpy(handle, entry->handle, SRV_HANDLE + 1);
    srv_kept_release(k);
    return !r;
}

static bool holds(struct srv_store *s, const char *handle, uint64_t now)
{
    return srv_store_handle(s, handle, strlen(handle), now) != NULL;
}

static void test_found_by_key_until_they_expire(void **state)
{
    (void)state;
    struct srv_store *s = new_store(1000);
    assert_true(put(s, 1, 100, 0, 10 * SEC));
    assert_true(put(s, 2, 100, 0, 5 * SEC));
    struct srv_digest d = key(1);
    assert_null(srv_store_find(s, 1, &d, 0)); /* another model's */
    assert_false(has(s, 3, 0));
    assert_true(has(s, 2, 5 * SEC - 1));
    assert_false(has(s, 2, 5 * SEC));
    assert_true(has(s, 1, 5 * SEC));
    assert_int_equal(srv_store_bytes(s), 100);
    srv_store_expire(s, 10 * SEC);
    assert_int_equal(srv_store_bytes(s), 0);
    assert_int_equal(srv_store_entries(s), 0);
    assert_int_equal(evicted[0][SRV_EVICTED_EXPIRED], 2);
    srv_store_free(s);
}

static void test_the_least_recently_used_makes_room(void **state)
{
    (void)state;
    struct srv_store *s = new_store(800);
    for (int i = 0; i < 8; i++)
        assert_true(put(s, i, 100, 0, SEC));
    assert_true(has(s, 0, 1));
    assert_true(put(s, 8, 100, 1, SEC));
    assert_true(has(s, 0, 1));
    assert_false(has(s, 1, 1));
    assert_true(put(s, 9, 50, 1, SEC));
    assert_false(has(s, 2, 1));
    assert_int_equal(srv_store_bytes(s), 750);
    assert_int_equal(evicted[0][SRV_EVICTED_BUDGET], 2);
    srv_store_free(s);
}

static void test_large_latents_are_not_put_unasked(void **state)
{
    (void)state;
    char handle[SRV_HANDLE + 1];
    struct srv_store *s = new_store(800);
    assert_true(put(s, 1, 100, 0, SEC));
    assert_false(put(s, 2, 101, 0, SEC));
    assert_true(keep(s, 800, 0, SEC, handle)); /* but they may be kept, in the place of all */
    assert_false(has(s, 1, 0));
    assert_false(keep(s, 801, 0, SEC, handle));
    assert_false(put(s, 3, 10, 0, SEC)); /* no handle goes for the sake of those */
    assert_int_equal(srv_store_handles(s), 1);
    srv_store_free(s);
    s = new_store(0);
    assert_false(put(s, 1, 1, 0, SEC));
    assert_false(keep(s, 1, 0, SEC, handle));
    srv_store_free(s);
}

static void test_handles_are_found_deleted_and_pushed_out_last(void **state)
{
    (void)state;
    char handle[4][SRV_HANDLE + 1];
    struct srv_store *s = new_store(800);
    for (int i = 0; i < 3; i++)
        assert_true(keep(s, 200, 0, 100 * SEC, handle[i]));
    assert_true(put(s, 1, 100, 1, SEC));
    assert_true(holds(s, handle[0], 1)); /* used: now the second is the oldest */
    assert_true(keep(s, 400, 1, 100 * SEC, handle[3]));
    assert_false(has(s, 1, 1));
    assert_false(holds(s, handle[1], 1));
    assert_true(holds(s, handle[0], 1) && holds(s, handle[2], 1) && holds(s, handle[3], 1));
    assert_int_equal(evicted[0][SRV_EVICTED_BUDGET], 2);
    srv_store_delete(s, srv_store_handle(s, handle[2], SRV_HANDLE, 1));
    assert_false(holds(s, handle[2], 1));
    assert_int_equal(evicted[0][SRV_EVICTED_DELETED], 1);
    assert_int_equal(srv_store_bytes(s), 600);
    assert_false(holds(s, handle[0], 100 * SEC));
    srv_store_free(s);
}

/* Two handles and a key of the same latents count once, and go one by one. */
static void test_the_same_latents_count_once(void **state)
{
    (void)state;
    const struct srv_entry *a, *b;
    struct pcv_err e;
    struct srv_store *s = new_store(800);
    struct srv_kept *k = kept(100);
    struct srv_digest d = key(1);
    assert_true(srv_store_put(s, k, &d, 0, SEC));
    assert_true(srv_store_put(s, k, &d, 0, SEC)); /* again */
    CHECK_OK(srv_store_keep(s, k, 1, 0, SEC, &a, &e), e);
    CHECK_OK(srv_store_keep(s, k, 1, 0, SEC, &b, &e), e);
    assert_string_not_equal(a->handle, b->handle);
    assert_int_equal(srv_store_bytes(s), 100);
    assert_int_equal(srv_store_entries(s), 3);
    assert_int_equal(k->refs, 4);
    srv_store_delete(s, a);
    srv_store_expire(s, SEC);
    assert_int_equal(srv_store_bytes(s), 0);
    assert_int_equal(k->refs, 1); /* ours */
    srv_kept_release(k);
    srv_store_free(s);
}

/* What a request still reads outlives its entry, and the store. */
static void test_references_outlive_entries(void **state)
{
    (void)state;
    struct srv_store *s = new_store(800);
    struct srv_digest d = key(1);
    assert_true(put(s, 1, 100, 0, SEC));
    struct srv_kept *k = srv_kept_hold(srv_store_find(s, 0, &d, 0));
    assert_true(put(s, 1, 50, 0, SEC)); /* replaced */
    assert_int_equal(srv_store_bytes(s), 50);
    srv_store_free(s);
    assert_int_equal(k->bytes, 100);
    assert_int_equal(k->refs, 1);
    srv_kept_release(k);
}

static void test_handles_cannot_be_guessed(void **state)
{
    (void)state;
    char one[SRV_HANDLE + 1], two[SRV_HANDLE + 1];
    struct pcv_err e;
    uint32_t print;
    CHECK_OK(srv_handle_make(one, 0x12345678ffffffff, &e), e);
    CHECK_OK(srv_handle_make(two, 0x12345678ffffffff, &e), e);
    assert_int_equal(strlen(one), SRV_HANDLE);
    assert_memory_equal(one, "lat_12345678", 12);
    assert_memory_equal(one, two, 12);
    assert_memory_not_equal(one + 12, two + 12, 32);
    assert_true(srv_handle_read(one, strlen(one), &print));
    assert_int_equal(print, srv_handle_print(0x12345678ffffffff));
    assert_false(srv_handle_read(one, SRV_HANDLE - 1, &print));
    one[20] = 'G';
    assert_false(srv_handle_read(one, SRV_HANDLE, &print));
    one[20] = 'A'; /* they are lower case */
    assert_false(srv_handle_read(one, SRV_HANDLE, &print));
    assert_false(srv_handle_read("", 0, &print));
}

/* Against what happened to a plain array, over a long random walk. */
static void test_a_long_walk(void **state)
{
    enum { KEYS = 64, STEPS = 20000 };
    uint64_t seed = 1, expires[KEYS] = {0};
    (void)state;
    struct srv_store *s = new_store(1u << 30); /* nothing is pushed out */
    for (uint64_t now = 1; now < STEPS; now++) {
        int i = random_int(&seed, KEYS);
        if (random_int(&seed, 3) == 0) {
            expires[i] = now + 1 + (uint64_t)random_int(&seed, 200);
            assert_true(put(s, i, 1 + (size_t)random_int(&seed, 100), now, expires[i]));
        }
        assert_int_equal(has(s, i, now), expires[i] > now);
    }
    srv_store_expire(s, UINT64_MAX);
    assert_int_equal(srv_store_bytes(s), 0);
    assert_int_equal(srv_store_entries(s), 0);
    srv_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_key_until_they_expire),
        cmocka_unit_test(test_the_least_recently_used_makes_room),
        cmocka_unit_test(test_large_latents_are_not_put_unasked),
        cmocka_unit_test(test_handles_are_found_deleted_and_pushed_out_last),
        cmocka_unit_test(test_the_same_latents_count_once),
        cmocka_unit_test(test_references_outlive_entries),
        cmocka_unit_test(test_handles_cannot_be_guessed),
        cmocka_unit_test(test_a_long_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
