/* self.h - latents read latents: one layer of the process stack.
 *
 * Two halves, with every row's keys and values ready in between. Threads share an item by blocks of
 * rows: project yours, meet, update yours. The next layer may write another set of q, k, v
 * meanwhile, so one meeting per layer is enough. */
#ifndef PCV_ATTENTION_SELF_H
#define PCV_ATTENTION_SELF_H

#include "lib/attention/layer.h"
#include "lib/base/bump.h"

struct pcv_self {
    const struct pcv_layer *layer;
    int latents;
    float *x;         /* [latents, d] in and out */
    float *q, *k, *v; /* [latents, qk], [latents, qk], [latents, v] */
};

/* Floats of scratch for blocks of up to `rows` rows. */
size_t pcv_self_need(const struct pcv_layer *l, int latents, int rows);

/* q, k, v of rows [row0, row0 + rows). */
void pcv_self_project(const struct pcv_self *s, const struct pcv_kernels *k, int row0, int rows,
                      float *scratch);

/* Attention, out projection and MLP of those rows of x. */
void pcv_self_update(const struct pcv_self *s, const struct pcv_kernels *k, int row0, int rows,
                     float *scratch);

#endif
