/* floats.h - numbers as they come from others: where they lie, and whether they are numbers. Any
 * thread. */
#ifndef PCV_BASE_FLOATS_H
#define PCV_BASE_FLOATS_H

#include "lib/base/tensor.h"

#include <stdbool.h>

/* Whether a tensor's elements may be read as floats where they lie. */
static inline bool pcv_tensor_in_place(const struct pcv_tensor *t)
{
    return t->dtype == PCV_F32 && (uintptr_t)t->data % sizeof(float) == 0;
}

/* Index of the first of x [n] that is not finite, or n. */
int64_t pcv_first_not_finite(const float *x, int64_t n);

#endif
