/* Digests are BLAKE2b of 32 bytes, against vectors that another implementation made. */
#include "server/digest.h"

#include "tests/unit/check.h"

static void expect(const char *text, const char *hex)
{
    struct srv_digest d = srv_digest_bytes(text, strlen(text));
    char got[65];
    for (int i = 0; i < 32; i++)
        snprintf(got + 2 * i, 3, "%02x", d.bytes[i]);
    assert_string_equal(got, hex);
}

static void test_known_vectors(void **state)
{
    (void)state;
    expect("", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    expect("abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void test_same(void **state)
{
    (void)state;
    struct srv_digest a = srv_digest_bytes("a", 1), b = srv_digest_bytes("a", 1);
    assert_true(srv_digest_same(&a, &b));
    b.bytes[31] ^= 1;
    assert_false(srv_digest_same(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_vectors),
        cmocka_unit_test(test_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
