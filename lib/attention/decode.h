/* decode.h - output queries read latents: the decoder's cross-attention and the task's head.
 *
 * Only the rows that were asked for are computed, in tiles that go through attention, out
 * projection, MLP and head without leaving the cache.
 *
 *   learned  queries are rows of a table, projected when the model opens (decode_learned.c). Two
 *            ways, by how many rows an item asks for (pcv_decode_lean counts both): keys and
 *            values of all latents once per item; or, for few rows, key weights absorbed into the
 *            queries, the normalised latents themselves being keys and values of every head.
 *   tokens   queries are a factored token array, with one group of content at most: positions of
 *            pixels, the input's own tokens, vectors of the caller (decode_tokens.c). Query weights
 *            are absorbed into the keys, and position tables meet them once per item; few rows are
 *            written out and projected instead.
 *   pool     mean of the latents, LayerNorm, head (decode_pool.c)
 *   latents  the latents themselves (decode_pool.c) */
#ifndef PCV_ATTENTION_DECODE_H
#define PCV_ATTENTION_DECODE_H

#include "lib/attention/layer.h"
#include "lib/attention/tokens.h"
#include "lib/base/bump.h"

enum pcv_decode_kind {
    PCV_DECODE_LEARNED,
    PCV_DECODE_TOKENS,
    PCV_DECODE_POOL,
    PCV_DECODE_LATENTS,
};

struct pcv_decoder {
    enum pcv_decode_kind kind;
    const struct pcv_layer *layer; /* learned, tokens */
    struct pcv_norm norm;          /* pool */
    int latents, d_latents;
    int rows;           /* output queries it knows, or the most a caller may give */
    const float *query; /* learned: [rows, q_dim] */
    const float *q;     /* learned: [rows, qk] LN_q and projection applied */
    bool written;       /* tokens: queries are always written out, see decode_tokens.c */
    int table_rows;     /* tokens: rows of all tables of the query array, at most */
    struct pcv_affine
        head; /* [width, q_dim], pool: [width, d_latents]; w NULL: none; b may be NULL */
    int width;
};

enum {
    PCV_DECODE_TILE = 144, /* rows of a tile: whole panels of any width */
    PCV_DECODE_BLOCK = 96, /* latents that pcv_decode_prepare takes: whole panels of any width */
    PCV_DECODE_FEW = 16,   /* jobs of up to so many rows share tiles */
};

/* One item's questions to one task. Tasks that share a decoder share what is prepared of an item,
 * and tiles. */
struct pcv_decode_job {
    const struct pcv_decoder *d;
    const float *latents; /* [latents, d_latents] */
    float *item_scratch;  /* [pcv_decode_item_need]: what pcv_decode_prepare makes of them */
    bool lean;  /* few rows, and latents that are not kept: without what only many rows repay */
    bool plain; /* computed as the formula says: the specification */
    const struct pcv_tokens *queries; /* tokens: one segment */
    const int32_t *rows;              /* NULL: 0, 1, ... */
    int nrows;
    float *logits; /* [nrows, width] */
    int item;      /* the caller's: whose job it is, */
    bool prepares; /* whether it makes item_scratch for all of the item's that share it, */
    bool projects; /* keys and values too */
};

/* Multiply-adds of factored queries (tokens), beside keys, values, MLP and head: for all latents,
 * and for every row. */
struct pcv_decode_macs {
    double once, each;
};
struct pcv_decode_macs pcv_decode_tokens_macs(const struct pcv_decoder *d,
                                              const struct pcv_tokens *queries);

/* Whether so few rows of such queries (tokens) are cheaper lean. */
bool pcv_decode_lean(const struct pcv_decoder *d, const struct pcv_tokens *queries, int nrows);

/* Whether jobs of few rows may share a tile (learned queries). */
static inline bool pcv_decode_packs(const struct pcv_decoder *d, const struct pcv_decode_job *job)
{
    return d->kind == PCV_DECODE_LEARNED && job->nrows <= PCV_DECODE_FEW && !job->plain;
}

/* Floats of scratch of a thread, and of an item. */
size_t pcv_decode_need(const struct pcv_decoder *d);
size_t pcv_decode_item_need(const struct pcv_decoder *d);

/* Normalised latents, keys, values and what follows from them, of PCV_DECODE_BLOCK latents from
 * row0 on, or of the rest. */
void pcv_decode_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                        const struct pcv_decode_job *job, int row0, float *scratch);

/* Rows [row0, row0 + rows) of one job, rows <= PCV_DECODE_TILE. Who waits in pcv_pool_meet takes
 * columns of the layer's products (shared.h); w NULL: alone. */
void pcv_decode_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                     const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                     int rows, float *scratch);

/* All rows of jobs that have few, together at most PCV_DECODE_TILE. Their decoders differ in
 * queries and head alone; those of one task should stand together, for heads are products of their
 * own. `w` as above; who helps with attention does so in scratch of its own. */
struct pcv_decode_scratch {
    float *at;   /* of thread t at at[t * step] */
    size_t step; /* floats */
};
void pcv_decode_pack(const struct pcv_kernels *k, const struct pcv_worker *w,
                     const struct pcv_decode_job *const *jobs, int njobs,
                     struct pcv_decode_scratch scratch);

#endif
