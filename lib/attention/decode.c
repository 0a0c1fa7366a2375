/* decode.c - one decoder, four kinds: sends each step to the file of its kind. */
#include "lib/attention/decode.h"

#include "lib/attention/decode_internal.h"
#include "lib/kernel/linear.h"

#include <math.h>
#include <string.h>

struct pcv_attend pcv_decode_attend(const struct pcv_decoder *d, const float *keys,
                                    const float *values)
{
    const struct pcv_layer_dims *l = &d->layer->d;
    const int dk = l->qk / l->heads, dv = l->v / l->heads;

    return (struct pcv_attend){
        .heads = l->heads,
        .dk = dk,
        .dv = dv,
        .nkv = d->latents,
        .keys = keys,
        .values = values,
        .ldk = l->qk,
        .ldv = l->v,
        .key_step = dk,
        .value_step = dv,
        .scale = 1.0f / sqrtf((float)dk),
    };
}

void pcv_decode_head(const struct pcv_decoder *d, const struct pcv_kernels *k, int rows,
                     const float *x, float *out)
{
    const int n = d->layer->d.q_dim;

    if (d->head.w)
        pcv_linear(k, rows, d->width, n, x, n, d->head.w, d->head.b, out, d->width, false);
    else
        memcpy(out, x, (size_t)rows * n * sizeof(float));
}

bool pcv_decode_lean(const struct pcv_decoder *d, const struct pcv_tokens *queries, int nrows)
{
    if (d->kind == PCV_DECODE_LEARNED)
        return pcv_decode_learned_lean(d, nrows);
    return d->kind == PCV_DECODE_TOKENS && !d->written && pcv_decode_tokens_lean(d, queries, nrows);
}

size_t pcv_decode_need(const struct pcv_decoder *d)
{
    switch (d->kind) {
    case PCV_DECODE_LEARNED: return pcv_decode_learned_need(d);
    case PCV_DECODE_TOKENS: return pcv_decode_tokens_need(d);
    case PCV_DECODE_POOL: return (size_t)d->d_latents;
    case PCV_DECODE_LATENTS: break;
    }
    return 0;
}

size_t pcv_decode_item_need(const struct pcv_decoder *d)
{
    switch (d->kind) {
    case PCV_DECODE_LEARNED: return pcv_decode_learned_item_need(d);
    case PCV_DECODE_TOKENS: return pcv_decode_tokens_item_need(d);
    case PCV_DECODE_POOL:
    case PCV_DECODE_LATENTS: break;
    }
    return 0;
}

void pcv_decode_prepare(const struct pcv_decoder *d, const struct pcv_kernels *k,
                        const struct pcv_decode_job *job, int row0, float *scratch)
{
    const int left = d->latents - row0, rows = left < PCV_DECODE_BLOCK ? left : PCV_DECODE_BLOCK;

    if (d->kind == PCV_DECODE_LEARNED)
        pcv_decode_learned_prepare(d, k, job, row0, rows, scratch);
    else if (d->kind == PCV_DECODE_TOKENS)
        pcv_decode_tokens_prepare(d, k, job, row0, rows, scratch);
}

void pcv_decode_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                     const struct pcv_worker *w, const struct pcv_decode_job *job, int row0,
                     int rows, float *scratch)
{
    switch (d->kind) {
    case PCV_DECODE_LEARNED: pcv_decode_learned_tile(d, k, w, job, row0, rows, scratch); break;
    case PCV_DECODE_TOKENS: pcv_decode_tokens_tile(d, k, w, job, row0, rows, scratch); break;
    case PCV_DECODE_POOL: pcv_decode_pool_tile(d, k, job, row0, rows, scratch); break;
    case PCV_DECODE_LATENTS: pcv_decode_latents_tile(d, job, row0, rows); break;
    }
}
