/* decode.h - output queries read latents: the decoder's cross-attention and the task's head.
 *
 * Only the rows that were asked for are computed. Two ways, chosen by how many rows an item asks
 * for (pcv_decode_absorbs counts the multiply-adds of both):
 *
 *   projected  keys and values of all latents, once per item; every row reads them
 *   absorbed   few rows: key weights go into the queries (Wk_h^T q_h), the normalised latents
 *              themselves are keys and values of every head, Wv follows after the sum
 *
 * Rows go in tiles through attention, out projection, MLP and head without leaving the cache. Jobs
 * with few rows, of many clients, share a tile and its matrix products. */
#ifndef PCV_ATTENTION_DECODE_H
#define PCV_ATTENTION_DECODE_H

#include "lib/attention/layer.h"
#include "lib/base/bump.h"

#include <stdint.h>

struct pcv_decoder {
    const struct pcv_layer *layer;
    int latents;
    int rows;               /* output queries it knows */
    const float *query;     /* [rows, q_dim] */
    const float *q;         /* [rows, qk] LN_q and projection applied */
    struct pcv_affine head; /* [width, q_dim]; bias may be NULL */
    int width;
};

enum {
    PCV_DECODE_TILE = 128, /* rows of a tile */
    PCV_DECODE_FEW = 16,   /* jobs of up to so many rows share tiles, through row-stable kernels */
};

/* One item's questions to one decoder. */
struct pcv_decode_job {
    const float *latents; /* [latents, kv_dim] */
    float *xn;            /* [latents, kv_dim] scratch of the item: normalised latents */
    float *keys, *values; /* [latents, qk], [latents, v]: filled unless absorbed */
    bool absorbed;
    const int32_t *rows; /* NULL: 0, 1, ... */
    int nrows;
    float *logits; /* [nrows, width] */
    int item;      /* the caller's: whose job it is */
};

bool pcv_decode_absorbs(const struct pcv_decoder *d, int nrows);

/* Floats of thread scratch. */
size_t pcv_decode_need(const struct pcv_decoder *d);

/* Normalised latents, and keys and values, of latent rows [row0, row0 + rows). */
void pcv_decode_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                        const struct pcv_decode_job *job, int row0, int rows);

/* Rows [row0, row0 + rows) of one job, rows <= PCV_DECODE_TILE. */
void pcv_decode_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                     const struct pcv_decode_job *job, int row0, int rows, float *scratch);

/* All rows of jobs that have few, together at most PCV_DECODE_TILE. */
void pcv_decode_pack(const struct pcv_decoder *d, const struct pcv_kernels *k,
                     const struct pcv_decode_job *const *jobs, int njobs, float *scratch);

#endif
