/* panel.h - inner loops over panels: rows side by side, so that every lane of a vector is a row.
 *
 * A panel holds up to `lanes` rows of a matrix: channel c of row i at panel[c * lanes + i]. A sum
 * over channels then never crosses lanes, a weight is one broadcast for all rows, what a product
 * writes is what the next one reads, and weights are read where they lie, in the mapping: nothing
 * is packed between a layer's first product and its last.
 *
 * A matrix of many rows is cut into blocks (of a thread), blocks into panels (pcv_panel_rows).
 * Lanes beyond a panel's rows hold numbers nobody reads.
 *
 * Row-stable: a row's result depends on that row's inputs alone, bit for bit, wherever the row
 * stands. Products add up k in steps of PCV_PANEL_DEPTH, and those sums in order, whatever the
 * instruction set. Panels are 32-byte aligned, weights need not be; pointers do not alias unless
 * said. Cannot fail; any thread. panel_scalar.c is the specification. */
#ifndef PCV_KERNEL_PANEL_H
#define PCV_KERNEL_PANEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PCV_PANEL_DEPTH = 256,  /* channels of a panel that stay in the first cache, one product long */
    PCV_PANEL_COLUMNS = 64, /* of weights that stay in the second cache while all panels pass */
    PCV_PANEL_KEYS = 128,   /* whose weights for one panel of queries stay in the first, too */
    PCV_PANEL_MOST_LANES = 48
};

/* A matrix in panels, from the channel on that is wanted first. */
struct pcv_panels {
    const float *at;
    size_t step; /* floats from panel to panel: channels x lanes */
    int rows;    /* all of them */
    int block;   /* after so many rows a new panel begins */
};

/* C[rows, n] = A[rows, k] W[n, k]^T + bias, or C += that; k >= 1. All in panels but the weights. */
struct pcv_product {
    int rows; /* of one block */
    int n, k;
    int after; /* columns of w after these that will be wanted next, or 0 */
    const float *a;
    size_t a_step;
    const float *w;
    size_t ldw;
    const float *bias; /* [n] or NULL */
    float *c;
    size_t c_step;
    bool add;
};

/* Tokens that stand one after another, as a panel of queries sees them in the factored encoder.
 * What a table says of a token is a row of terms [lanes], one for each query. */
struct pcv_token_run {
    int n;
    const float *r;            /* [n] 1 / standard deviation of each token */
    const float *const *still; /* [nstill] rows of terms that all n tokens share */
    int nstill;
    const float *moving; /* [n, lanes]: a row of terms for each token, or NULL */
    const float *x;      /* content: channel j of token i at x[j x_step + i] */
    size_t x_step;
    int channels;   /* 0: without content */
    const float *u; /* [channels, lanes]: what the queries are to it */
};

/* A matrix in any order: channel j of row i at at[i row + j channel]. */
struct pcv_values {
    const float *at;
    size_t row, channel;
};

/* One head of attention: C = softmax(scale Q K^T) V of a block of queries. Q [rows, dk], K and V
 * [keys.rows, dk and dv] in the same blocks, C [rows, dv], all in panels. */
struct pcv_attention_head {
    int rows, dk, dv;
    const float *q;
    size_t q_step;
    struct pcv_panels keys, values;
    float scale; /* > 0 */
    float *c;
    size_t c_step;
    float *scratch; /* pcv_attend_need(rows, dk) */
};

/* What a panel of queries that are sums of parts adds to the scores of its content; the mirror
 * image of a run of tokens. Arrays of n keys. */
struct pcv_query_terms {
    int n;
    const float *same; /* [n] what the queries share */
    const float *each; /* [n, each_step] what they do not, or NULL */
    size_t each_step;  /* floats; `lanes` are read of each row */
    const float *r;    /* [lanes] 1 / standard deviation of each query */
    const float *add;  /* [n] */
};

/* Where weights are summed, [lanes] each. */
struct pcv_token_sums {
    float *e;
    float *const *still; /* [nstill] */
    float *moving;       /* [n, lanes] or NULL */
};

struct pcv_panel_kernels {
    int lanes;

    /* Between row-major x [rows, n] and one panel; unpack adds to x where `add`. */
    void (*pack)(float *panel, const float *x, size_t ldx, int rows, int n);
    void (*unpack)(float *x, size_t ldx, const float *panel, int rows, int n, bool add);

    /* y = LayerNorm(x) over n channels; gamma and beta may be NULL; y may alias x. */
    void (*norm)(float *y, const float *x, const float *gamma, const float *beta, int rows, int n,
                 float eps);

    void (*product)(const struct pcv_product *p);

    void (*attend)(const struct pcv_attention_head *h);

    /* Row-major C[m, n] = A[m, k] B[k, n], or C += that: here the lanes are columns, and B is read
     * where it lies. Row-stable as the others. */
    void (*rows_nn)(int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb,
                    float *c, size_t ldc, bool add);

    /* s [n, lanes] = r_i (given s_i + still + moving_i + sum_j u_j x_ij); max [lanes] grows. */
    void (*token_scores)(float *s, float *max, const struct pcv_token_run *run, int rows,
                         bool given);

    /* e_i = 2^(s_i - from), s_i = b_i = e_i r_i; e sums the former, the others the latter. */
    void (*token_weights)(float *s, const float *from, const struct pcv_token_run *run,
                          const struct pcv_token_sums *sums, int rows);

    /* s [n, lanes] = r (given s + (same + each)) + add; max [lanes] grows. */
    void (*query_scores)(float *s, float *max, const struct pcv_query_terms *t, int rows,
                         bool given);

    /* s [n, lanes] = 2^(s - from); sum [lanes] += those. */
    void (*weights)(float *s, const float *from, float *sum, int rows, int n);

    /* c [channels, lanes] += sum of s [n, lanes] times x [n, channels]. */
    void (*gather)(float *c, const float *s, int n, struct pcv_values x, int channels, int rows);

    /* x [n, channels] of planes [channels, ...], which are `stride` apart. */
    void (*transpose)(float *x, const float *planes, int64_t stride, int n, int channels);

    /* In place: x Phi(x), and 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
    void (*gelu_erf)(float *x, int rows, int n);
    void (*gelu_tanh)(float *x, int rows, int n);
    void (*multiply)(float *x, const float *y, int rows, int n); /* x *= y */
};

extern const struct pcv_panel_kernels pcv_panel_scalar;
extern const struct pcv_panel_kernels pcv_panel_avx2;   /* where the CPU has AVX2 and FMA */
extern const struct pcv_panel_kernels pcv_panel_avx512; /* where it has AVX-512 F and VL too */

/* Rows of a block's next panel when `left` are left. A vector or less too many for one panel make
 * two of two vectors each: one vector alone leaves the processor waiting. */
static inline int pcv_panel_rows(int left, int lanes)
{
    if (left > lanes && left <= lanes + lanes / 3)
        return lanes - lanes / 3;
    return left < lanes ? left : lanes;
}

/* Panels of one block. */
static inline int pcv_panel_count(int rows, int lanes)
{
    return (rows + lanes - 1) / lanes;
}

/* Floats per channel of a matrix in panels; enough for every instruction set. */
static inline size_t pcv_panel_need(int rows, int block)
{
    const int blocks = (rows + block - 1) / block;

    return (size_t)blocks * (size_t)pcv_panel_count(block, PCV_PANEL_MOST_LANES) *
           PCV_PANEL_MOST_LANES;
}

/* Floats of scratch of attention: weights of one panel; of each, four rows and its queries. */
static inline size_t pcv_attend_need(int rows, int dk)
{
    return (size_t)PCV_PANEL_KEYS * PCV_PANEL_MOST_LANES +
           (size_t)(4 + dk) * pcv_panel_need(rows, rows);
}

#endif
