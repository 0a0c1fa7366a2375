/* bump.h - carving scratch out of one block, twice: once to measure, once to use.
 *
 * A phase of the forward takes its arrays through the same function when its need is counted (base
 * NULL) and when it runs, so the two cannot disagree. */
#ifndef PCV_BASE_BUMP_H
#define PCV_BASE_BUMP_H

#include "lib/base/mem.h"

#include <stdint.h>

struct pcv_bump {
    float *base; /* NULL: only count */
    size_t used; /* floats */
};

/* n floats, aligned to PCV_ALIGN; NULL while counting. */
static inline float *pcv_take(struct pcv_bump *b, size_t n)
{
    float *p = b->base ? b->base + b->used : NULL;

    b->used += pcv_pad_floats(n);
    return p;
}

#endif
