#include "lib/base/mem.h"

#include "lib/base/bump.h"
#include "tests/unit/check.h"

static void is_aligned_and_writable(void **state)
{
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        unsigned char *p = pcv_alloc(n, 3);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % PCV_ALIGN, 0);
        memset(p, 0xa5, 3 * n);
        pcv_free(p);
    }
    pcv_free(NULL);
}

static void zero_is_zero(void **state)
{
    unsigned char *p;

    (void)state;
    p = pcv_alloc(1000, 1); /* leaves something behind, so that zeros must be written */
    assert_non_null(p);
    memset(p, 0xff, 1000);
    pcv_free(p);
    p = pcv_alloc_zero(1000, 1);
    assert_non_null(p);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 0);
    pcv_free(p);
}

static void products_that_overflow_are_refused(void **state)
{
    volatile size_t huge = SIZE_MAX; /* the compiler shall not foresee it */

    (void)state;
    assert_null(pcv_alloc(huge, 1));
    assert_null(pcv_alloc(huge - 63, 1));
    assert_null(pcv_alloc(huge / 2 + 2, 2));
    assert_null(pcv_alloc(huge / 4 + 2, 4)); /* wraps to a small number */
    assert_null(pcv_alloc_zero((size_t)1 << 32, (size_t)1 << 32));
}

static void pads_to_cache_lines(void **state)
{
    (void)state;
    assert_int_equal(pcv_pad_floats(0), 0);
    assert_int_equal(pcv_pad_floats(1), 16);
    assert_int_equal(pcv_pad_floats(16), 16);
    assert_int_equal(pcv_pad_floats(17), 32);
}

/* Counting and taking agree, and what is taken never overlaps. */
static void bump_counts_what_it_takes(void **state)
{
    static const size_t sizes[] = {1, 16, 17, 0, 1000, 3};
    struct pcv_bump count = {0}, take = {0};
    float *base, *last = NULL;

    (void)state;
    for (size_t i = 0; i < LEN(sizes); i++)
        assert_null(pcv_take(&count, sizes[i]));
    base = take.base = pcv_alloc(count.used, sizeof(float));
    assert_non_null(base);
    for (size_t i = 0; i < LEN(sizes); i++) {
        float *p = pcv_take(&take, sizes[i]);

        assert_int_equal((uintptr_t)p % PCV_ALIGN, 0);
        assert_true(!last || p >= last);
        last = p + sizes[i];
    }
    assert_int_equal(take.used, count.used);
    assert_true(last <= base + count.used);
    pcv_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_aligned_and_writable),
        cmocka_unit_test(zero_is_zero),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(pads_to_cache_lines),
        cmocka_unit_test(bump_counts_what_it_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
