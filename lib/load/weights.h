/* weights.h - a model's tensors by name, handed out as f32.
 *
 * F32 tensors are views into the read-only mapping; F16 and BF16 are widened into memory of ours.
 * Every tensor must be bound or ignored by name: one that nobody knows is an error. Binding is
 * for one thread; afterwards everything is immutable. */
#ifndef PCV_LOAD_WEIGHTS_H
#define PCV_LOAD_WEIGHTS_H

#include "lib/base/tensor.h"

struct pcv_weights;

/* Opens DIR/model.safetensors. own: pcv_weights_close. */
PCV_CHECK int pcv_weights_open(struct pcv_weights **ret, const char *dir, struct pcv_err *e);
void pcv_weights_close(struct pcv_weights *w); /* NULL is fine */

/* *ret borrows [shape] numbers until w closes. PCV_EMISSING, PCV_ESHAPE (naming both shapes) or
 * PCV_EUNSUPPORTED (a datatype that is no float); non-finite numbers are PCV_ERANGE. */
PCV_CHECK int pcv_weights_bind(struct pcv_weights *w, const float **ret, const int64_t *shape,
                               int ndim, struct pcv_err *e, const char *name_format, ...)
    PCV_PRINTF(6, 7);

/* Shape of a tensor for configurations that must be read off it; NULL when absent. borrow */
const struct pcv_tensor *pcv_weights_find(const struct pcv_weights *w, const char *name);

/* A tensor that the architecture knows and inference does not read ("num_batches_tracked"). Absent
 * is fine. */
void pcv_weights_ignore(struct pcv_weights *w, const char *name);

/* PCV_EUNKNOWN when a tensor has not been bound, naming the first. */
PCV_CHECK int pcv_weights_done(const struct pcv_weights *w, struct pcv_err *e);

/* Numbers bound so far; bytes used in the mapping; bytes of memory of ours. */
uint64_t pcv_weights_parameters(const struct pcv_weights *w);
uint64_t pcv_weights_mapped(const struct pcv_weights *w);
uint64_t pcv_weights_owned(const struct pcv_weights *w);

#endif
