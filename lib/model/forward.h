/* forward.h - one forward pass: the threads' common state and its three stages.
 *
 * All threads of the pool run the whole pass together, from barrier to barrier; inside a stage they
 * take units of work. What a unit computes never depends on who else is in the batch, and its
 * kernels are row-stable: that is why answers are equal bit for bit in any company. */
#ifndef PCV_MODEL_FORWARD_H
#define PCV_MODEL_FORWARD_H

#include "lib/model/ws.h"

/* Jobs whose rows share tiles (one tile), or one job with as many tiles as its rows need. */
struct pcv_decode_group {
    int first, njobs;
    int first_tile, ntiles;
};

struct pcv_dense_arrays; /* forward_dense.c */

struct pcv_pass {
    const struct pcv_model *m;
    struct pcv_ws *ws;
    struct pcv_pool *pool;
    struct pcv_item *items;
    int n, threads;
    int shared_block, whole_block; /* rows of an item that threads share; that one has for itself */
    const int *fresh; /* [nfresh] items to encode and process; the others have latents already */
    int nfresh;
    uint32_t *claims; /* [n] bit r: this pass makes the arrays of reader r of the item's latents */
    struct pcv_ws_arrays a;
    struct pcv_dense_arrays *dense; /* NULL: factored */

    int njobs[PCV_MAX_TASKS], ngroups[PCV_MAX_TASKS]; /* of each reader, one after another */
    int ntiles;                                       /* of all readers */

    /* Handed-out work: a counter per phase, none but blocks is used twice in a pass. Steps are
     * counted from 0; a cross-attention and the run of self-attention layers after it share a
     * number. */
    struct pcv_units queries[PCV_MAX_CROSS], encode[PCV_MAX_CROSS], tails[PCV_MAX_CROSS];
    struct pcv_units process[PCV_MAX_CROSS], blocks[PCV_MAX_CROSS][3]; /* the latter in turn */
    struct pcv_units prepare[PCV_MAX_TASKS], tiles[PCV_MAX_TASKS];
    struct pcv_units maps;
    double encode_s, process_s, decode_s, last; /* written by thread 0 */
};

static inline bool pcv_item_cancelled(const struct pcv_item *it)
{
    return it->cancelled && atomic_load_explicit(it->cancelled, memory_order_relaxed);
}

static inline float *pcv_pass_x(const struct pcv_pass *p, int item)
{
    return p->a.x + (size_t)item * (size_t)p->m->bp.num_latents * (size_t)p->m->bp.d_latents;
}

/* Blocks of so many rows that an item's latents are. */
static inline int pcv_pass_blocks(const struct pcv_pass *p, int block)
{
    return (p->m->bp.num_latents + block - 1) / block;
}

/* Rows of a block where all blocks of all items are handed out. */
static inline int pcv_pass_block(const struct pcv_pass *p)
{
    return p->nfresh % p->threads ? p->shared_block : p->whole_block;
}

static inline float *pcv_pass_scratch(const struct pcv_pass *p, int thread)
{
    return p->a.thread + (size_t)thread * p->a.thread_floats;
}

/* The cross-attention by which an item reads its tokens at `step`, the n-th of its kind: its own in
 * the first where inputs are separate. */
static inline int pcv_pass_cross(const struct pcv_pass *p, int item, int step, int n)
{
    const struct pcv_blueprint *bp = &p->m->bp;

    return bp->separate && n == 0 ? bp->input[p->items[item].input->which].encoder
                                  : bp->step[step].layer;
}

/* Each is entered by all threads, and ends with a barrier. step: index in the blueprint; n: how
 * many cross-attentions came before it. Self-attention layers from step on until the next
 * cross-attention. */
void pcv_pass_encode(struct pcv_pass *p, int thread, int step, int n);
void pcv_pass_encode_dense(struct pcv_pass *p, int thread, int step, int n);
void pcv_pass_process(struct pcv_pass *p, int thread, int step, int n);
void pcv_pass_decode(struct pcv_pass *p, int thread);

/* Maps of attention, for items that ask: after the first step, without a barrier. Scratch of a
 * thread. */
void pcv_pass_attention(struct pcv_pass *p, int thread, int step);
size_t pcv_pass_attention_need(const struct pcv_layer_dims *d);

/* Before the threads start: one job per query, grouped for tiles. */
PCV_CHECK int pcv_pass_plan_decode(struct pcv_pass *p, struct pcv_err *e);
/* Whether one tile of rows is all there is to do, and nothing of it worth sharing: other threads
 * would be woken to wait at barriers. */
bool pcv_pass_is_small(const struct pcv_pass *p);
/* After them: what was claimed is there, or, when the pass never ran, left. */
void pcv_pass_settle(struct pcv_pass *p, bool ran);
PCV_CHECK int pcv_ws_reserve_jobs(struct pcv_ws *ws, int n, struct pcv_err *e);

PCV_CHECK int pcv_pass_dense_new(struct pcv_pass *p, struct pcv_err *e);
void pcv_pass_dense_free(struct pcv_pass *p);

#endif
