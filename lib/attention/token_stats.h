/* token_stats.h - LayerNorm's statistics of tokens that are never written out.
 *
 * mean = sum x / C and r = 1 / sqrt(sum x^2 / C - mean^2 + eps) over a token's C channels. Groups
 * that share no channel add their sums: a table has those of its rows, lifted content a quadratic
 * form. Sums are double, for the difference cancels. Cannot fail; any thread. */
#ifndef PCV_ATTENTION_TOKEN_STATS_H
#define PCV_ATTENTION_TOKEN_STATS_H

#include "lib/attention/tokens.h"
#include "lib/kernel/kernels.h"

/* Of a table [rows, n], in room [2, rows]; borrow. */
struct pcv_row_sums pcv_table_sums(double *room, const float *table, int rows, int n);

/* Bytes of work that statistics of the segment take. */
size_t pcv_segment_stats_need(const struct pcv_segment *s, int channels);

/* mean, r [tokens]. */
void pcv_segment_stats(const struct pcv_kernels *k, const struct pcv_segment *s, int channels,
                       float eps, float *mean, float *r, void *work);

#endif
