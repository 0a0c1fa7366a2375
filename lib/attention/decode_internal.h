/* decode_internal.h - what the decode_*.c files share. */
#ifndef PCV_ATTENTION_DECODE_INTERNAL_H
#define PCV_ATTENTION_DECODE_INTERNAL_H

#include "lib/attention/decode.h"

/* Attention over an item's projected keys and values. */
struct pcv_attend pcv_decode_attend(const struct pcv_decoder *d, const float *keys,
                                    const float *values);

/* head, or a copy without one: out [rows, width]. */
void pcv_decode_head(const struct pcv_decoder *d, const struct pcv_kernels *k, int rows,
                     const float *x, float *out);

static inline int pcv_decode_row(const struct pcv_decode_job *job, int i)
{
    return job->rows ? job->rows[i] : i;
}

bool pcv_decode_learned_lean(const struct pcv_decoder *d, int nrows);
bool pcv_decode_tokens_lean(const struct pcv_decoder *d, const struct pcv_tokens *queries,
                            int nrows);

size_t pcv_decode_learned_need(const struct pcv_decoder *d);
size_t pcv_decode_learned_item_need(const struct pcv_decoder *d);
void pcv_decode_learned_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                                const struct pcv_decode_job *job, int row0, int rows,
                                float *scratch);
void pcv_decode_learned_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                             const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                             int rows, float *scratch);

size_t pcv_decode_tokens_need(const struct pcv_decoder *d);
size_t pcv_decode_tokens_item_need(const struct pcv_decoder *d);
void pcv_decode_tokens_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                               const struct pcv_decode_job *job, int row0, int rows,
                               float *scratch);
void pcv_decode_tokens_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                            const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                            int rows, float *scratch);

void pcv_decode_pool_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                          const struct pcv_decode_job *job, int row0, int rows, float *scratch);
void pcv_decode_latents_tile(const struct pcv_decoder *d, const struct pcv_decode_job *job,
                             int row0, int rows);

#endif
