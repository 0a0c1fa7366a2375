#include "lib/base/mem.h"

#include "lib/base/bump.h"
#include "tests/unit/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* Pages of a block that are in memory. Pages begin where the block does. */
static size_t pages_present(const void *p, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = bytes / page;
    const int fd = open("/proc/self/pagemap", O_RDONLY);
    size_t present = 0;

    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i++) {
        uint64_t entry;

        assert_int_equal(
            pread(fd, &entry, sizeof(entry), (off_t)(((uintptr_t)p / page + i) * sizeof(entry))),
            sizeof(entry));
        present += entry >> 63;
    }
    close(fd);
    return present;
}

/* From 4 MB on, whatever is left over after whole huge pages. */
static void large_begins_with_a_huge_page(void **state)
{
    const size_t huge = 2 << 20, sizes[] = {2 * huge, 2 * huge + 64, 5 * huge - 64};

    (void)state;
    for (size_t i = 0; i < LEN(sizes); i++) {
        unsigned char *p = pcv_alloc(sizes[i] / 64, 64);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % huge, 0);
        memset(p, 0xa5, sizes[i]);
        pcv_free(p);
    }
}

static void touched_is_present(void **state)
{
    const size_t sizes[] = {100 << 10, 9 << 20};

    (void)state;
    pcv_touch(NULL, 0);
    for (size_t i = 0; i < LEN(sizes); i++) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        unsigned char *p =
            mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        assert_int_equal(madvise(p, sizes[i], MADV_NOHUGEPAGE), 0);
        p[3 * page] = 1;
        assert_int_equal(pages_present(p, sizes[i]), 1);
        pcv_touch(p + 5 * page - 1, 2); /* both sides of a border */
        assert_int_equal(pages_present(p, sizes[i]), 3);
        pcv_touch(p, sizes[i]);
        assert_int_equal(pages_present(p, sizes[i]), sizes[i] / page);
        munmap(p, sizes[i]);
    }
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
        cmocka_unit_test(large_begins_with_a_huge_page),
        cmocka_unit_test(touched_is_present),
        cmocka_unit_test(zero_is_zero),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(pads_to_cache_lines),
        cmocka_unit_test(bump_counts_what_it_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
