/* cpu.h - what this machine, and this process on it, may use. Found at run time. Any thread. */
#ifndef PCV_BASE_CPU_H
#define PCV_BASE_CPU_H

#include <stdbool.h>

struct pcv_cpu {
    bool avx2_fma; /* AVX2, FMA and F16C, and the system saves their registers */
    bool avx512;   /* F, VL, DQ and BW likewise */
};

struct pcv_cpu pcv_cpu_detect(void);

/* CPUs in quota files as cgroup v2 ("max 100000", "150000 100000") and v1 (quota, period in two
 * files) write them: quota / period rounded up, or 0 for no limit or unreadable text. period NULL:
 * v2. */
int pcv_cpu_quota_parse(const char *text, const char *period);

#endif
