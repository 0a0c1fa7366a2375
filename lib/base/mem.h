/* mem.h - memory that vectors like: aligned, overflow-checked. */
#ifndef PCV_BASE_MEM_H
#define PCV_BASE_MEM_H

#include <stddef.h>

#define PCV_ALIGN 64 /* one cache line, one AVX-512 register */

/* count x size bytes, aligned to PCV_ALIGN, not cleared. NULL when refused or when the product
 * overflows; never NULL for 0. What is large lies on huge pages where the system gives them when
 * asked. own: pcv_free. Any thread. */
void *pcv_alloc(size_t count, size_t size);
void *pcv_alloc_zero(size_t count, size_t size);
void pcv_free(void *p); /* NULL is fine */

/* Has the system provide the pages of memory just allocated, whose numbers are lost: nobody who
 * uses it waits for them later. Any thread; parts of a block by several at once. */
void pcv_touch(void *p, size_t bytes);

/* n rounded up to whole cache lines of floats. */
static inline size_t pcv_pad_floats(size_t n)
{
    return (n + PCV_ALIGN / sizeof(float) - 1) & ~(PCV_ALIGN / sizeof(float) - 1);
}

#endif
