/* decode_tokens.h - what is made once per item for factored output queries, and read by their tiles
 * (decode_tokens.c says what the names mean). */
#ifndef PCV_ATTENTION_DECODE_TOKENS_H
#define PCV_ATTENTION_DECODE_TOKENS_H

#include "lib/attention/decode_internal.h"

/* Of an item; [heads, latents, ...] where not said otherwise. */
struct pcv_prepared_tokens {
    float *xn;            /* [latents, kv_dim] */
    float *keys, *values; /* [latents, qk], [latents, v] */
    float *kq;            /* [heads, latents, q_dim]: k' */
    float *add;           /* (Wq beta + bq) . k / sqrt(d) */
    float *base;          /* constant groups and lift biases . k' */
    float *content;       /* [heads, latents, raw <= q_dim] */
    float *tables;        /* [heads, table_rows x latents], table after table: [rows, latents], but
                           * the last [latents, rows], for that one moves on from query to query */
    float *vo;            /* [heads, q_dim, key_step]: v', one channel's latents side by side */
};

struct pcv_prepared_tokens pcv_prepared_tokens(struct pcv_bump *b, const struct pcv_decoder *d);

/* Floats from row to row where latents are columns: rows of a power of two would compete for the
 * same places in the cache. */
static inline size_t pcv_key_step(const struct pcv_decoder *d)
{
    return (size_t)d->latents + 16;
}

/* The last table of a query array, or -1: neighbours differ in its row alone, as a rule. */
static inline int pcv_last_table(const struct pcv_segment *s)
{
    int last = s->ngroups - 1;

    while (last >= 0 && s->group[last].kind != PCV_GROUP_TABLE)
        last--;
    return last;
}

#endif
