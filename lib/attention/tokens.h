/* tokens.h - the token array: what the encoder attends to, kept factored.
 *
 * M tokens of C channels, in segments (one per modality). A segment's token is the sum of its
 * groups, each of which fills some channel ranges:
 *
 *   TABLE  row coordinate(m) of a table [rows, n]: Fourier features of one axis, learned
 *          positions, byte embeddings
 *   DENSE  `raw` content numbers per token, stored by plane [raw, M]; maybe lifted by a linear map
 *          [n, raw] + bias, raw <= n (a 1x1 convolution) that is never applied to the tokens
 *   CONST  one vector for all tokens
 *
 * The M x C array exists only in pcv_tokens_rows, for the specification. */
#ifndef PCV_ATTENTION_TOKENS_H
#define PCV_ATTENTION_TOKENS_H

#include "lib/kernel/panel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PCV_MAX_GROUPS = 7, PCV_MAX_SEGMENTS = 8, PCV_MAX_RANGES = 3 };

/* What statistics ask of a table [rows, n]: of each row its sum, and that of its squares. */
struct pcv_row_sums {
    const double *sum, *squares; /* [rows]; NULL: not known */
};

enum pcv_group_kind { PCV_GROUP_TABLE, PCV_GROUP_DENSE, PCV_GROUP_CONST };

struct pcv_group {
    enum pcv_group_kind kind;
    int n; /* channels it fills, in the order of its ranges */
    int nranges;
    struct {
        int from, n;
    } range[PCV_MAX_RANGES];

    /* TABLE: token m has row ids[m], or (m / div) % rows when ids is NULL */
    const float *table; /* [rows, n] */
    int rows;
    struct pcv_row_sums sums; /* of it, or of a longer one; not known: added up for this input */
    int64_t div;
    const int32_t *ids;
    int constant; /* index among the model's constant tables, or -1: made for this input */

    /* DENSE: without lift, n == raw */
    struct pcv_values content; /* [M, raw]: one token after the other, or plane after plane */
    int raw;
    const float *lift, *lift_bias; /* [n, raw], [n]; NULL */

    const float *value; /* CONST: [n] */
};

struct pcv_segment {
    int64_t tokens;
    int ngroups;
    struct pcv_group group[PCV_MAX_GROUPS];
    bool overlap;          /* groups share channels: they add up */
    const float *mean, *r; /* [tokens] LayerNorm statistics: mean, 1 / sqrt(variance + eps) */
};

struct pcv_tokens {
    int channels;
    int nsegments;
    struct pcv_segment segment[PCV_MAX_SEGMENTS];
};

int64_t pcv_tokens_count(const struct pcv_tokens *t);

/* Number c of token m's content. */
static inline float pcv_group_content(const struct pcv_group *g, int64_t m, int c)
{
    return g->content.at[(size_t)m * g->content.row + (size_t)c * g->content.channel];
}

/* Row of the table that token m reads. */
static inline int pcv_group_row(const struct pcv_group *g, int64_t m)
{
    return g->ids ? g->ids[m] : (int)((m / g->div) % g->rows);
}

/* Copies between a vector over all channels and one over a group's channels. */
void pcv_group_gather(const struct pcv_group *g, const float *all, float *own);
void pcv_group_add(const struct pcv_group *g, const float *own, float *all);

/* Token m of a segment written out: out [channels], zeroed where no group writes. scratch [n of the
 * widest group]. */
void pcv_segment_token(const struct pcv_segment *s, int channels, int64_t m, float *out,
                       float *scratch);

/* Rows [m0, m0 + rows) of the array written out, out [rows, C]. scratch [channels]. */
void pcv_tokens_rows(const struct pcv_tokens *t, int64_t m0, int64_t rows, float *out,
                     float *scratch);

#endif
