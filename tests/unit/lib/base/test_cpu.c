#include "lib/base/cpu.h"

#include "lib/kernel/kernels.h"
#include "lib/perceiver.h"
#include "tests/unit/check.h"

#include <sched.h>

static void reads_quotas_of_version_2(void **state)
{
    static const struct {
        const char *text;
        int cpus;
    } cases[] = {
        {"max 100000\n", 0},
        {"100000 100000\n", 1},
        {"150000 100000", 2},
        {"200000 100000", 2},
        {"200001 100000", 3},
        {"1000 100000", 1},
        {"50000 50000", 1},
        {"max", 0},
        {"", 0},
        {"100000", 0}, /* no period */
        {"0 100000", 0},
        {"-1 100000", 0},
        {"100000 0", 0},
        {"100000 -5", 0},
        {"nonsense 100000", 0},
        {"100000 nonsense", 0},
        {"99999999999999999999 100000", 0},
        {"100000 99999999999999999999", 0},
        {"1000000000000 1", 4096},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        CHECK_ONE(pcv_cpu_quota_parse(cases[i].text, NULL), cases[i].cpus, 0, "\"%s\"",
                  cases[i].text);
}

static void reads_quotas_of_version_1(void **state)
{
    (void)state;
    assert_int_equal(pcv_cpu_quota_parse("-1\n", "100000\n"), 0);
    assert_int_equal(pcv_cpu_quota_parse("250000\n", "100000\n"), 3);
    assert_int_equal(pcv_cpu_quota_parse("250000\n", "0\n"), 0);
    assert_int_equal(pcv_cpu_quota_parse("250000\n", ""), 0);
}

static void counts_at_most_the_affinity(void **state)
{
    cpu_set_t all, one;
    int cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    assert_in_range(pcv_cpu_available(), 1, CPU_COUNT(&all));
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(pcv_cpu_available(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void kernels_follow_the_cpu(void **state)
{
    (void)state;
    assert_string_equal(pcv_kernels_for((struct pcv_cpu){0})->name, "scalar");
    assert_string_equal(pcv_isa(), pcv_kernels_for(pcv_cpu_detect())->name);
#if defined(__x86_64__)
    assert_string_equal(pcv_kernels_for((struct pcv_cpu){.avx2_fma = true})->name, "avx2");
    assert_string_equal(pcv_kernels_for((struct pcv_cpu){.avx2_fma = true, .avx512 = true})->name,
                        "avx512");
    assert_true(pcv_cpu_detect().avx2_fma || !pcv_cpu_detect().avx512);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_quotas_of_version_2),
        cmocka_unit_test(reads_quotas_of_version_1),
        cmocka_unit_test(counts_at_most_the_affinity),
        cmocka_unit_test(kernels_follow_the_cpu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
