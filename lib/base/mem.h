/* mem.h - memory that vectors like: aligned, overflow-checked. */
#ifndef PCV_BASE_MEM_H
#define PCV_BASE_MEM_H

#include <stddef.h>

#define PCV_ALIGN 64 /* one cache line, one AVX-512 register */

/* count x size bytes, aligned to PCV_ALIGN, not cleared. NULL when refused or when the product
 * overflows; never NULL for 0. own: pcv_free. Any thread. */
void *pcv_alloc(size_t count, size_t size);
void *pcv_alloc_zero(size_t count, size_t size);
void pcv_free(void *p); /* NULL is fine */

/* n rounded up to whole cache lines of floats. */
static inline size_t pcv_pad_floats(size_t n)
{
    return (n + PCV_ALIGN / sizeof(float) - 1) & ~(PCV_ALIGN / sizeof(float) - 1);
}

#endif
