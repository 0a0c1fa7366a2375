#include "lib/base/mem.h"

#include <stdlib.h>
#include <string.h>

void *pcv_alloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, (size_t)PCV_ALIGN, &bytes))
        return NULL;
    return aligned_alloc(PCV_ALIGN, bytes & ~(size_t)(PCV_ALIGN - 1));
}

void *pcv_alloc_zero(size_t count, size_t size)
{
    void *p = pcv_alloc(count, size);

    if (p)
        memset(p, 0, count * size);
    return p;
}

void pcv_free(void *p)
{
    free(p);
}
