/* running_softmax.h - one panel of queries whose scores come part by part: they become weights, and
 * what was summed before shrinks where the maximum leapt (running_max.h). Scores are in base 2. */
#ifndef PCV_ATTENTION_RUNNING_SOFTMAX_H
#define PCV_ATTENTION_RUNNING_SOFTMAX_H

#include "lib/kernel/panel.h"
#include "lib/kernel/running_max.h"

/* Of one panel, [lanes] each. Begins with from = max = -FLT_MAX, sum and acc 0. */
struct pcv_running {
    float *from, *max, *sum; /* running maximum, what it may become, sum of weights */
    float *factor;           /* scratch */
    float *acc;              /* [channels, lanes] sums of weights times values */
    int channels;
};

/* s [t->n, lanes] = 2^(scores - from); see query_scores. */
static inline void pcv_running_weights(const struct pcv_panel_kernels *k,
                                       const struct pcv_running *p, float *s,
                                       const struct pcv_query_terms *t, int rows, bool given)
{
    k->query_scores(s, p->max, t, rows, given);
    if (pcv_raise(p->from, p->max, p->factor, rows)) {
        k->multiply(p->sum, p->factor, rows, 1);
        for (int j = 0; j < p->channels; j++)
            k->multiply(p->acc + (size_t)j * (size_t)k->lanes, p->factor, rows, 1);
    }
    k->weights(s, p->from, p->sum, rows, t->n);
}

#endif
