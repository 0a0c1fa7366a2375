/* encode.h - latents read tokens: the encoder's cross-attention, three ways to the same numbers.
 *
 *   factored  keys and values are never projected. Key weights are absorbed into the queries
 *             (u = gamma (Wk^T q) / sqrt(d)), scores are sums of table entries and of a few content
 *             products, values are aggregated before Wv: see encode_factored.c
 *   tables    every group of a token is a constant table; tables are projected to keys and values
 *             when the model opens, tokens add rows up: see encode_tables.c
 *   dense     the M x C array, its LayerNorm, keys, values and full rows of scores: the
 *             specification, see encode_dense.c
 *
 * All write ctx [num_latents, v], one head's columns for a block of queries at a time; out
 * projection and MLP follow in pcv_layer_tail. Nothing here allocates or fails. */
#ifndef PCV_ATTENTION_ENCODE_H
#define PCV_ATTENTION_ENCODE_H

#include "lib/attention/layer.h"
#include "lib/attention/tokens.h"
#include "lib/base/bump.h"

enum pcv_encode_mode { PCV_ENCODE_FACTORED, PCV_ENCODE_TABLES };

/* A cross-attention of the encoder, and what is constant about it. */
struct pcv_encoder {
    const struct pcv_layer *layer;
    enum pcv_encode_mode mode;
    int num_latents;
    int channels; /* C of the tokens */
    /* Of the learned latents, when this is the first step; later queries come from the pass. */
    const float *q; /* [num_latents, qk] projected queries */
    const float *u; /* factored: [heads, num_latents, C] */

    /* tables: by pcv_group.constant */
    int ntables;
    struct {
        const float *keys, *values; /* [rows, qk], [rows, v]: row times gamma W^T */
    } table[PCV_MAX_GROUPS];
    const float *key_sum, *key_bias;     /* [qk]: row sums of Wk gamma; bk + Wk beta */
    const float *value_sum, *value_bias; /* [v] likewise */
};

/* u_h = gamma (Wk_h^T q_h) / sqrt(qk / heads) for `rows` queries q [rows, qk]: [rows, C] for each
 * head, at u + h * head_step. */
void pcv_encode_absorb(const struct pcv_layer *l, const struct pcv_kernels *k, const float *q,
                       int rows, float *u, size_t head_step);

enum {
    PCV_ENCODE_BLOCK = 96,   /* queries that pass over the tokens together, at most */
    PCV_ENCODE_TILE = 128,   /* tokens they see at a time: weights stay in the first cache */
    PCV_ENCODE_TABLE = 1024, /* rows; a longer table may be pcv_encode_direct */
    PCV_ENCODE_NARROW = 8,   /* channels of content that is not worth a product of its own */
};

/* Content is read less often the more queries there are together; few latents are cut finer, so
 * that threads can share them. */
static inline int pcv_encode_block(int num_latents)
{
    return num_latents >= 8 * PCV_ENCODE_BLOCK ? PCV_ENCODE_BLOCK
           : num_latents >= 128                ? PCV_ENCODE_BLOCK / 2
                                               : 16;
}

/* A long table with a row for each token of the segment saves nothing by lookup: it is multiplied
 * tile by tile. */
static inline bool pcv_encode_direct(const struct pcv_group *g, int64_t tokens)
{
    return g->kind == PCV_GROUP_TABLE && !g->ids && g->div == 1 && g->rows > PCV_ENCODE_TABLE &&
           g->rows >= tokens;
}

/* Head h, queries [row0, row0 + rows), rows <= PCV_ENCODE_BLOCK, with their u [rows, C].
 * table_rows bounds the rows of all small tables of a segment together. Where groups overlap, their
 * channels add up to at most 2 C, those of content and direct tables to at most C: scratch is no
 * longer. */
size_t pcv_encode_factored_need(const struct pcv_encoder *enc, int table_rows);
void pcv_encode_factored(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                         const struct pcv_tokens *t, const float *u, int head, int row0, int rows,
                         float *ctx, float *scratch);

/* Head h, all queries q [num_latents, qk]. Every group of t must be a constant table (groups with
 * constant >= 0). */
size_t pcv_encode_tables_need(const struct pcv_encoder *enc);
void pcv_encode_tables(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                       const struct pcv_tokens *t, const float *q, int head, float *ctx,
                       float *scratch);

/* Dense. Rows [m0, m0 + rows) of the token array become keys [M, qk] and values [M, v]; x [rows, C]
 * is scratch. Then queries [row0, row0 + rows) of q [num_latents, qk] attend, scores [rows, M]
 * scratch. */
void pcv_encode_dense_kv(const struct pcv_layer *l, const struct pcv_kernels *k, int64_t rows,
                         float *x, float *keys, float *values);
void pcv_encode_dense_rows(const struct pcv_layer *l, const struct pcv_kernels *k, int64_t tokens,
                           const float *q, int row0, int rows, const float *keys,
                           const float *values, float *ctx, float *scores);

#endif
