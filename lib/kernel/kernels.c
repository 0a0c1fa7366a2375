#include "lib/kernel/kernels.h"

#include "lib/perceiver.h"

const struct pcv_kernels *pcv_kernels_for(struct pcv_cpu cpu)
{
#if defined(__x86_64__)
    if (cpu.avx512)
        return &pcv_kernels_avx512;
    if (cpu.avx2_fma)
        return &pcv_kernels_avx2;
#else
    (void)cpu;
#endif
    return &pcv_kernels_scalar;
}

const char *pcv_isa(void)
{
    return pcv_kernels_for(pcv_cpu_detect())->name;
}
