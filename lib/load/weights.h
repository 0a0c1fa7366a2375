/* weights.h - a model's tensors by name, handed out as f32, whatever file they come in.
 *
 * Looked for in the model's directory, in this order; the first that is there is read:
 *
 *   model.safetensors
 *   model.safetensors.index.json     and the shards it names
 *   pytorch_model.bin
 *   pytorch_model.bin.index.json     and the shards it names
 *   one *.pickle or *.pystate        a checkpoint of DeepMind's haiku
 *
 * Names are the file's own. A haiku checkpoint holds modules that hold arrays: its names are
 * "module/array" for parameters, as in "perceiver_encoder/~/cross_attention/layer_norm/scale", and
 * "state:module/array" for state, as in "state:image_preprocessor/~/conv2_d_downsample/~/
 * batchnorm/~/mean_ema/average". Its linear layers are [in,out]: pcv_weights_bind_transposed.
 *
 * F32 tensors are views into a read-only mapping where the file holds them aligned and in order;
 * F16 and BF16 are widened into memory of ours, and what lies otherwise is copied there. Every
 * tensor must be bound or ignored by name: one that nobody knows is an error. Binding is for one
 * thread; afterwards everything is immutable. */
#ifndef PCV_LOAD_WEIGHTS_H
#define PCV_LOAD_WEIGHTS_H

#include "lib/base/tensor.h"

struct pcv_pool;
struct pcv_weights;

enum pcv_weights_kind {
    PCV_WEIGHTS_SAFETENSORS,
    PCV_WEIGHTS_TORCH,
    PCV_WEIGHTS_HAIKU,
};

/* PCV_EMISSING when the directory has none of the files above. own: pcv_weights_close. */
PCV_CHECK int pcv_weights_open(struct pcv_weights **ret, const char *dir, struct pcv_err *e);
void pcv_weights_close(struct pcv_weights *w); /* NULL is fine */

/* Looks at every number that may serve where it lies, with all threads of the pool, and brings the
 * mapping's pages in: binding then finds out nothing more, and is quick. Not needed. */
void pcv_weights_look(struct pcv_weights *w, struct pcv_pool *pool);

enum pcv_weights_kind pcv_weights_kind(const struct pcv_weights *w);

/* *ret borrows [shape] numbers until w closes. PCV_EMISSING, PCV_ESHAPE (naming both shapes) or
 * PCV_EUNSUPPORTED (a datatype that is no float); non-finite numbers are PCV_ERANGE. */
PCV_CHECK int pcv_weights_bind(struct pcv_weights *w, const float **ret, const int64_t *shape,
                               int ndim, struct pcv_err *e, const char *name_format, ...)
    PCV_PRINTF(6, 7);

/* The file holds a matrix [in,out]; *ret is its transpose, shape = [out,in]. Memory of ours. */
PCV_CHECK int pcv_weights_bind_transposed(struct pcv_weights *w, const float **ret,
                                          const int64_t *shape, struct pcv_err *e,
                                          const char *name_format, ...) PCV_PRINTF(5, 6);

/* Likewise for any order of axes: axis i of *ret, shape[i], is axis axes[i] of the file's tensor.
 * A kernel [h,w,in,out] becomes [out,in,h,w] with axes 3, 2, 0, 1. */
PCV_CHECK int pcv_weights_bind_permuted(struct pcv_weights *w, const float **ret,
                                        const int64_t *shape, int ndim, const int *axes,
                                        struct pcv_err *e, const char *name_format, ...)
    PCV_PRINTF(7, 8);

/* Shape of a tensor for configurations that must be read off it; NULL when absent. borrow */
const struct pcv_tensor *pcv_weights_find(const struct pcv_weights *w, const char *name);

/* All of them by name, in order of bytes (strcmp); 0 <= i < count. borrow */
int pcv_weights_count(const struct pcv_weights *w);
const struct pcv_tensor *pcv_weights_at(const struct pcv_weights *w, int i);

/* A tensor that the architecture knows and inference does not read ("num_batches_tracked"). Absent
 * is fine. */
void pcv_weights_ignore(struct pcv_weights *w, const char *name);

/* PCV_EUNKNOWN when a tensor has not been bound, naming the first. */
PCV_CHECK int pcv_weights_done(const struct pcv_weights *w, struct pcv_err *e);

/* n of the numbers bound so far are statistics, not trained: they do not count as parameters. */
void pcv_weights_not_trained(struct pcv_weights *w, uint64_t n);

/* Trained numbers bound so far; bytes used in the mapping; bytes of memory of ours. */
uint64_t pcv_weights_parameters(const struct pcv_weights *w);
uint64_t pcv_weights_mapped(const struct pcv_weights *w);
uint64_t pcv_weights_owned(const struct pcv_weights *w);

#endif
