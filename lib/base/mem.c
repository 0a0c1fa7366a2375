#include "lib/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HUGE_PAGE = 2 << 20,
    LARGE = 2 * HUGE_PAGE, /* from here on a block begins where a huge page does */
};

/* What is left over after whole huge pages takes no more than it needs. */
static void *large_alloc(size_t bytes)
{
    size_t whole = bytes & ~(size_t)(HUGE_PAGE - 1), room;
    void *p;

    if (__builtin_add_overflow(whole, (size_t)HUGE_PAGE, &room))
        return NULL;
    p = aligned_alloc(HUGE_PAGE, whole == bytes ? whole : room);
#ifdef MADV_HUGEPAGE
    if (p)
        (void)madvise(p, whole, MADV_HUGEPAGE);
#endif
    return p;
}

void *pcv_alloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, (size_t)PCV_ALIGN, &bytes))
        return NULL;
    bytes &= ~(size_t)(PCV_ALIGN - 1);
    return bytes < LARGE ? aligned_alloc(PCV_ALIGN, bytes) : large_alloc(bytes);
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

void pcv_touch(void *p, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t in_page = (uintptr_t)p % page;
    volatile char *at = p;

    if (bytes == 0)
        return;
#ifdef MADV_POPULATE_WRITE
    if (madvise((char *)p - in_page, in_page + bytes, MADV_POPULATE_WRITE) == 0)
        return;
#endif
    at[0] = 0; /* an older kernel */
    for (size_t i = page - in_page; i < bytes; i += page)
        at[i] = 0;
}
