/* running_max.h - a softmax whose scores come part by part.
 *
 * A weight is 2^(score - from), where `from` is the largest score so far, or a little less:
 * it is raised only when weights would pass 2^PCV_SLACK, for raising costs a pass over what has
 * been summed. */
#ifndef PCV_KERNEL_RUNNING_MAX_H
#define PCV_KERNEL_RUNNING_MAX_H

#include <math.h>
#include <stdbool.h>

enum { PCV_SLACK = 20 };

/* Raises `from` to max where that has outgrown it; whether it did anywhere. Sums shrink by factor,
 * which is 1 for the others. All [rows]; a lane is looked at alone. */
static inline bool pcv_raise(float *from, const float *max, float *factor, int rows)
{
    bool raised = false;

    for (int i = 0; i < rows; i++) {
        factor[i] = 1;
        if (!(max[i] - from[i] > PCV_SLACK))
            continue;
        factor[i] = exp2f(from[i] - max[i]);
        from[i] = max[i];
        raised = true;
    }
    return raised;
}

#endif
