#include "lib/base/cpu.h"

#include "lib/perceiver.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct pcv_cpu pcv_cpu_detect(void)
{
    struct pcv_cpu c = {0};

#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx;

    __builtin_cpu_init();
    c.avx2_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                 __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
    c.avx512 = c.avx2_fma && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw");
#endif
    return c;
}

int pcv_cpu_quota_parse(const char *text, const char *period)
{
    long long quota, per;
    char *end;

    quota = strtoll(text, &end, 10);
    if (end == text || quota <= 0) /* "max", "-1", nonsense */
        return 0;
    per = strtoll(period ? period : end, NULL, 10);
    if (per <= 0 || per > (1LL << 40) || quota > (1LL << 40))
        return 0;
    quota = (quota + per - 1) / per;
    return quota > 4096 ? 4096 : (int)quota;
}

static int read_line(const char *path, char *buf, int size)
{
    FILE *f = fopen(path, "re");
    int ok;

    if (!f)
        return -1;
    ok = fgets(buf, size, f) != NULL;
    fclose(f);
    return ok ? 0 : -1;
}

/* The smallest quota on the way from this process's group up to the root; 0 = none. */
static int quota_v2(void)
{
    char group[3900], path[4096], text[64];
    int best = 0;
    char *slash;

    if (read_line("/proc/self/cgroup", group, sizeof(group)) < 0 || strncmp(group, "0::/", 4) != 0)
        return 0;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group + 3);
        if (read_line(path, text, sizeof(text)) == 0) {
            int q = pcv_cpu_quota_parse(text, NULL);

            if (q > 0 && (best == 0 || q < best))
                best = q;
        }
        slash = strrchr(group + 3, '/');
        if (!slash || group[3] == '\0')
            return best;
        *slash = '\0';
    }
}

static int quota_v1(void)
{
    char quota[64], period[64];

    if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof(quota)) < 0 ||
        read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof(period)) < 0)
        return 0;
    return pcv_cpu_quota_parse(quota, period);
}

int pcv_cpu_available(void)
{
    cpu_set_t set;
    int n = 1, quota;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = CPU_COUNT(&set);
    quota = quota_v2();
    if (quota == 0)
        quota = quota_v1();
    if (quota > 0 && quota < n)
        n = quota;
    return n < 1 ? 1 : n;
}
