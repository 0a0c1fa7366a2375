/* self.h - latents read latents: one layer of the process stack.
 *
 * Everything is in panels (lib/kernel/panel.h), in blocks of `block` rows. Two halves, with every
 * row's keys and values ready in between. Threads share an item by blocks: project yours, meet,
 * update yours. The next layer may write another set of q, k, v meanwhile, so one meeting per layer
 * is enough. Threads that wait in pcv_pool_meet take parts of what others still do (shared.h). */
#ifndef PCV_ATTENTION_SELF_H
#define PCV_ATTENTION_SELF_H

#include "lib/attention/layer.h"
#include "lib/base/bump.h"

struct pcv_self {
    const struct pcv_layer *layer;
    int latents, block;
    float *x;         /* [latents, d] in and out */
    float *q, *k, *v; /* [latents, qk], [latents, qk], [latents, v] */
    float *scratch;   /* of thread t at scratch[t * scratch_step] */
    size_t scratch_step;
};

/* Floats of scratch of one thread. */
size_t pcv_self_need(const struct pcv_layer *l, int block);

/* Where block b of a matrix of n channels begins. */
static inline size_t pcv_self_block(const struct pcv_panel_kernels *k, int block, int b, int n)
{
    return (size_t)b * (size_t)pcv_panel_count(block, k->lanes) * (size_t)k->lanes * (size_t)n;
}

static inline int pcv_self_rows(int latents, int block, int b)
{
    return latents - b * block < block ? latents - b * block : block;
}

/* q, k, v of block b. */
void pcv_self_project(const struct pcv_self *s, const struct pcv_panel_kernels *k,
                      const struct pcv_worker *w, int b);

/* Attention, out projection and MLP of block b of x. */
void pcv_self_update(const struct pcv_self *s, const struct pcv_panel_kernels *k,
                     const struct pcv_worker *w, int b);

#endif
