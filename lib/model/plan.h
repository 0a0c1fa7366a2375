/* plan.h - what is computed once, when a model opens: everything that does not depend on inputs.
 *
 * Immutable afterwards; shared by all threads. */
#ifndef PCV_MODEL_PLAN_H
#define PCV_MODEL_PLAN_H

#include "lib/attention/decode.h"
#include "lib/attention/encode.h"
#include "lib/base/pool.h"
#include "lib/layout/blueprint.h"

struct pcv_plan {
    const struct pcv_kernels *k;
    struct pcv_encoder encoder[PCV_MAX_CROSS]; /* by cross layer */
    struct pcv_decoder decoder[PCV_MAX_TASKS]; /* by task */
    int nreaders;                              /* decoders that tasks share, or have alone */
    int reader[PCV_MAX_TASKS];                 /* by task: which of them */
    size_t reader_floats[PCV_MAX_TASKS];       /* by reader: what it prepares of an item */
    int table_rows;                            /* looked-up rows of a segment, at most */
    bool repeats;                              /* latents read the input more than once */
    float **owned;
    int nowned, capacity;
    uint64_t bytes; /* of owned */
};

/* own: pcv_plan_clear, also after failure. bp must outlive it. */
PCV_CHECK int pcv_plan_make(struct pcv_plan *p, const struct pcv_blueprint *bp,
                            const struct pcv_kernels *k, struct pcv_pool *pool, struct pcv_err *e);
void pcv_plan_clear(struct pcv_plan *p);

#endif
