/* Bodies stay within their limit and their budget, compressed ones too. */
#include "server/body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

/* bits as for deflateInit2: 15 zlib, 31 gzip, -15 raw. own */
static unsigned char *packed(const void *data, size_t n, int bits, size_t *len)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)n};
    unsigned char *out;

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    *len = deflateBound(&z, n);
    z.next_out = out = malloc(*len);
    z.avail_out = (unsigned)*len;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *len = z.total_out;
    deflateEnd(&z);
    return out;
}

static void grows_up_to_the_limit(void **state)
{
    struct srv_budget g = {0};
    struct srv_body b = {.budget = &g};
    char piece[1000];

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        memset(piece, (int)i, sizeof(piece));
        assert_int_equal(srv_body_append(&b, piece, sizeof(piece), 100000, 0), 0);
        assert_true(b.cap <= 100000);
        assert_int_equal(g.used, b.cap);
    }
    assert_int_equal(b.len, 100000);
    assert_int_equal(srv_body_append(&b, piece, 1, 100000, 0), 413);
    assert_int_equal(srv_body_append(&b, piece, SIZE_MAX, 100000, 0), 413);
    assert_int_equal(b.len, 100000);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(b.data[i * 1000 + 999], (char)i);
    srv_body_free(&b);
    assert_int_equal(g.used, 0);
}

static void announced_length_is_taken_in_time(void **state)
{
    struct srv_budget g = {0};
    struct srv_body b = {.budget = &g};
    char piece[100] = {0};

    (void)state;
    assert_int_equal(srv_body_append(&b, piece, 100, 1 << 20, 5000), 0);
    assert_int_equal(b.cap, 5000); /* small: at once */
    srv_body_free(&b);
    assert_int_equal(srv_body_append(&b, piece, 100, 1 << 20, 1 << 20), 0);
    assert_true(b.cap <= 8192); /* large: only as it comes */
    srv_body_free(&b);
    assert_int_equal(srv_body_append(&b, piece, 100, 1 << 20, 50), 0); /* a lie is no limit */
    assert_int_equal(b.len, 100);
    srv_body_free(&b);
}

static void budget_is_shared(void **state)
{
    struct srv_budget g = {.max = 10000};
    struct srv_body a = {.budget = &g}, b = {.budget = &g};
    char piece[6000] = {0};

    (void)state;
    assert_int_equal(srv_body_append(&a, piece, 6000, 1 << 20, 6000), 0);
    assert_int_equal(srv_body_append(&b, piece, 6000, 1 << 20, 6000), 503);
    assert_int_equal(b.len, 0);
    assert_int_equal(srv_body_append(&b, piece, 4000, 1 << 20, 4000), 0);
    assert_int_equal(g.used, 10000);
    srv_body_free(&a);
    assert_int_equal(g.used, 4000);
    assert_int_equal(srv_body_append(&b, piece, 6000, 1 << 20, 0), 0);
    srv_body_free(&b);
    assert_int_equal(g.used, 0);
}

static void codings(void **state)
{
    (void)state;
    assert_int_equal(srv_coding_of(NULL), SRV_IDENTITY);
    assert_int_equal(srv_coding_of("identity"), SRV_IDENTITY);
    assert_int_equal(srv_coding_of("GZip"), SRV_GZIP);
    assert_int_equal(srv_coding_of("x-gzip"), SRV_GZIP);
    assert_int_equal(srv_coding_of("deflate"), SRV_DEFLATE);
    assert_int_equal(srv_coding_of("br"), SRV_UNKNOWN_CODING);
    assert_int_equal(srv_coding_of("gzip, gzip"), SRV_UNKNOWN_CODING);
}

static int inflate_all(struct srv_body *b, enum srv_coding c, const void *in, size_t n,
                       size_t limit)
{
    int r;

    srv_body_free(b);
    r = srv_body_inflate(b, c, in, n, limit);
    assert_true(b->cap <= limit);
    return r;
}

static void inflates_exactly_up_to_the_limit(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    struct srv_budget g = {0};
    struct srv_body b = {.budget = &g};
    char *data = malloc(100001);

    (void)state;
    for (size_t i = 0; i < 100001; i++)
        data[i] = (char)(i * i >> 3);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int gz = 0; gz < 2; gz++) {
            enum srv_coding c = gz ? SRV_GZIP : SRV_DEFLATE;
            size_t n, len = sizes[i];
            unsigned char *in = packed(data, len, gz ? 31 : 15, &n);

            assert_int_equal(inflate_all(&b, c, in, n, len), 0);
            assert_int_equal(b.len, len);
            if (len != 0)
                assert_memory_equal(b.data, data, len);
            assert_int_equal(inflate_all(&b, c, in, n, len + 5000), 0);
            assert_int_equal(b.len, len);
            if (len != 0)
                assert_int_equal(inflate_all(&b, c, in, n, len - 1), 413);
            assert_int_equal(inflate_all(&b, c, in, n - 1, len), 400);
            assert_int_equal(inflate_all(&b, c, in, 0, len), 400);
            assert_int_equal(inflate_all(&b, gz ? SRV_DEFLATE : SRV_GZIP, in, n, len), 400);
            free(in);
        }
    }
    srv_body_free(&b);
    assert_int_equal(g.used, 0);
    free(data);
}

static void damaged_streams_are_refused(void **state)
{
    struct srv_budget g = {0};
    struct srv_body b = {.budget = &g};
    unsigned char *in, twice[100];
    size_t n;

    (void)state;
    in = packed("hello", 5, 31, &n);
    in[n - 6] ^= 1; /* the checksum */
    assert_int_equal(inflate_all(&b, SRV_GZIP, in, n, 100), 400);
    in[n - 6] ^= 1;
    memcpy(twice, in, n);
    memcpy(twice + n, in, n);
    assert_int_equal(inflate_all(&b, SRV_GZIP, twice, 2 * n, 100), 0);
    assert_int_equal(b.len, 10);
    assert_memory_equal(b.data, "hellohello", 10);
    assert_int_equal(inflate_all(&b, SRV_GZIP, twice, 2 * n, 9), 413);
    assert_int_equal(inflate_all(&b, SRV_GZIP, twice, 2 * n - 1, 100), 400);
    twice[n] = 'x';
    assert_int_equal(inflate_all(&b, SRV_GZIP, twice, n + 1, 100), 400);
    free(in);
    in = packed("hello", 5, -15, &n); /* raw: not what HTTP calls deflate */
    assert_int_equal(inflate_all(&b, SRV_DEFLATE, in, n, 100), 400);
    free(in);
    srv_body_free(&b);
}

static void bombs_do_not_go_off(void **state)
{
    struct srv_budget g = {.max = 1 << 20};
    struct srv_body b = {.budget = &g};
    char *zeros = calloc(1, 16 << 20);
    size_t n;
    unsigned char *in = packed(zeros, 16 << 20, 31, &n);

    (void)state;
    assert_int_equal(inflate_all(&b, SRV_GZIP, in, n, 100000), 413);
    assert_true(b.cap <= 100000);
    assert_int_equal(inflate_all(&b, SRV_GZIP, in, n, 64 << 20), 503); /* the budget */
    assert_true(b.cap <= 1 << 20);
    srv_body_free(&b);
    free(in);
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_up_to_the_limit),
        cmocka_unit_test(announced_length_is_taken_in_time),
        cmocka_unit_test(budget_is_shared),
        cmocka_unit_test(codings),
        cmocka_unit_test(inflates_exactly_up_to_the_limit),
        cmocka_unit_test(damaged_streams_are_refused),
        cmocka_unit_test(bombs_do_not_go_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
