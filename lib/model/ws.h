/* ws.h - the scratch of one forward at a time, carved from one block. */
#ifndef PCV_MODEL_WS_H
#define PCV_MODEL_WS_H

#include "lib/base/bump.h"
#include "lib/model/model.h"

/* Every array of a slice of up to `items` items by `threads` threads. Items' arrays stand one after
 * another. */
struct pcv_ws_arrays {
    float *x;       /* [items, N, D] latents */
    float *ctx;     /* [items, N, v of the encoder] */
    float *cross_q; /* [items, N, qk]: queries of changed latents, where the input is read again */
    float *cross_u; /* [items, heads, N, C]: absorbed */
    float *panels;  /* [sets, N, D] latents in panels, and */
    float *q, *k, *v; /* [sets, N, qk | qk | v] of the process stack, too; see sets */
    float *decode;    /* [items, decode_floats] what decoders prepare of an item */
    float *thread;    /* [threads, thread_floats] */
    size_t ctx_floats, cross_q_floats, cross_u_floats;
    size_t panels_floats, q_floats, k_floats, v_floats, decode_floats, thread_floats;
};

/* An item of its own per thread, or two sets in turn where threads share an item. */
static inline int pcv_ws_sets(int threads)
{
    return threads > 1 ? threads : 1;
}

/* Rows of an item's latents that one of the threads that share it takes at a time: many share what
 * is read of weights, keys and values, until they leave the cache themselves. threads 1: of an item
 * that a thread has for itself. */
int pcv_ws_block(const struct pcv_model *m, int threads);

/* Items that go through the stages together. More would only take memory: a product of a few
 * hundred rows runs as fast as one of thousands. */
int pcv_ws_slice(int latents, int threads, int items);

struct pcv_ws_arrays pcv_ws_carve(struct pcv_bump *b, const struct pcv_model *m, int items,
                                  int threads);

struct pcv_ws {
    struct pcv_pool *pool;
    float *arena;
    size_t capacity; /* floats */
    int flags;
    int max_items;
    struct pcv_decode_job *jobs; /* grows with the largest number of queries seen */
    const struct pcv_decode_job **pack;
    struct pcv_decode_group *groups;
    int job_capacity;
    int *fresh, *first; /* [max_items] */
    uint32_t *claims;   /* [max_items] */
};

#endif
