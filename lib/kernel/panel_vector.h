/* panel_vector.h - panel.h in vectors; included once by the file of each instruction set, which
 * has defined
 *
 *     vf, VW                 a vector of VW floats
 *     J3, J2, J1             columns of a tile 3, 2, 1 vectors wide: J x V sums, V rows of the
 * panel and one weight fill the registers; all divide the lanes vset1 vload vstore vadd vsub vmul
 * vmax vfma vexp2 vgelu_erf vgelu_tanh, pack, unpack, TABLE
 *
 * A tile is the inner loop of every product here: V vectors of rows times J columns. Its columns
 * are weights in place (their channels stand together), keys (theirs stand a panel's width apart,
 * J of them side by side), or channels of values. */
#include "lib/kernel/panel.h"

#include <math.h>

enum { LANES = 3 * VW, DEPTH = PCV_PANEL_DEPTH, COLUMNS = 128, COPIED = 16 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 24")

/* s[j][v] += a[k][v] b[k, j] for k < n; a's vectors at a[k * ka], b's element at
 * b[k * kb + j * jb]. `next` [n] are columns that will be wanted soon, or NULL. */
INLINE void sums(vf s[][3], int n, const float *a, size_t ka, const float *b, size_t kb, size_t jb,
                 const float *next, const int V, const int J)
{
#define STEP(u)                                                                                    \
    do {                                                                                           \
        vf x[3];                                                                                   \
        UNROLL                                                                                     \
        for (int v = 0; v < V; v++)                                                                \
            x[v] = vload(a + (u)*ka + v * VW);                                                     \
        UNROLL                                                                                     \
        for (int j = 0; j < J; j++) {                                                              \
            const vf w = vset1(b[(u)*kb + j * jb]);                                                \
                                                                                                   \
            UNROLL                                                                                 \
            for (int v = 0; v < V; v++)                                                            \
                s[j][v] = vfma(x[v], w, s[j][v]);                                                  \
        }                                                                                          \
    } while (0)
    int k = 0;

    for (; k + 4 <= n; k += 4) {
        if (next && k % 16 == 0) {
            UNROLL
            for (int j = 0; j < J; j++)
                __builtin_prefetch(next + k + j * jb, 0, 2);
        }
        STEP(0);
        STEP(1);
        STEP(2);
        STEP(3);
        a += 4 * ka;
        b += 4 * kb;
    }
    for (; k < n; k++, a += ka, b += kb)
        STEP(0);
#undef STEP
}

INLINE void clear(vf s[][3], const int V, const int J)
{
    UNROLL
    for (int j = 0; j < J; j++)
        UNROLL
    for (int v = 0; v < V; v++)
        s[j][v] = vset1(0);
}

/* ---- products with weights --------------------------------------------------------------------
 */

/* What a tile's sums are added to. */
struct start {
    bool first;        /* the first part of k: C holds nothing yet, or what `add` is about */
    const float *bias; /* of the tile's first column, or NULL */
    bool add;
};

INLINE void weigh(const struct pcv_product *p, int kc, const float *a, const float *w,
                  const float *next, float *c, struct start from, const int V, const int J)
{
    vf s[J1][3];

    clear(s, V, J);
    sums(s, kc, a, LANES, w, 1, p->ldw, next, V, J);
    UNROLL
    for (int j = 0; j < J; j++) {
        const vf bias = vset1(from.first && from.bias ? from.bias[j] : 0);

        UNROLL
        for (int v = 0; v < V; v++) {
            float *at = c + j * LANES + v * VW;
            vf base = bias;

            if (!from.first)
                base = vload(at);
            else if (from.add)
                base = vadd(vload(at), bias);
            vstore(at, vadd(base, s[j][v]));
        }
    }
}

/* Columns [n0, n1) and channels [k0, k0 + kc) of one panel. */
INLINE void weigh_columns(const struct pcv_product *p, const float *a, float *c, int n0, int n1,
                          int k0, int kc, const int V, const int J)
{
    int n = n0;
#define TILES(JJ)                                                                                  \
    for (; n + (JJ) <= n1; n += (JJ)) {                                                            \
        const float *w = p->w + (size_t)n * p->ldw + k0;                                           \
        const struct start from = {k0 == 0, p->bias ? p->bias + n : NULL, p->add};                 \
                                                                                                   \
        weigh(p, kc, a + (size_t)k0 * LANES, w, n + 2 * (JJ) <= n1 ? w + (JJ)*p->ldw : w,          \
              c + (size_t)n * LANES, from, V, JJ);                                                 \
    }
    TILES(J)
    TILES(4)
    TILES(1)
#undef TILES
}

static __attribute__((noinline)) void weigh3(const struct pcv_product *p, const float *a, float *c,
                                             int n0, int n1, int k0, int kc)
{
    weigh_columns(p, a, c, n0, n1, k0, kc, 3, J3);
}

static __attribute__((noinline)) void weigh2(const struct pcv_product *p, const float *a, float *c,
                                             int n0, int n1, int k0, int kc)
{
    weigh_columns(p, a, c, n0, n1, k0, kc, 2, J2);
}

static __attribute__((noinline)) void weigh1(const struct pcv_product *p, const float *a, float *c,
                                             int n0, int n1, int k0, int kc)
{
    weigh_columns(p, a, c, n0, n1, k0, kc, 1, J1);
}

/* The function for so many rows. */
#define PICK(rows, f) ((rows) > 2 * VW ? f##3 : (rows) > VW ? f##2 : f##1)

/* A block of weights stays in the second cache while all panels pass over it. */
static void product(const struct pcv_product *p)
{
    for (int n0 = 0; n0 < p->n; n0 += COLUMNS) {
        const int n1 = n0 + COLUMNS < p->n ? n0 + COLUMNS : p->n;

        for (int k0 = 0; k0 < p->k; k0 += DEPTH) {
            const int kc = k0 + DEPTH < p->k ? DEPTH : p->k - k0;
            const float *a = p->a;
            float *c = p->c;

            for (int left = p->rows, rows; left > 0; left -= rows) {
                rows = pcv_panel_rows(left, LANES);
                PICK(rows, weigh)(p, a, c, n0, n1, k0, kc);
                a += p->a_step;
                c += p->c_step;
            }
        }
    }
}

/* ---- attention --------------------------------------------------------------------------------
 */

/* A panel and how many rows it has. */
struct part {
    const float *at;
    int rows;
};

/* The panel that begins at *row of the matrix; moves on to the next. */
static inline struct part next_part(const struct pcv_panels *m, int *row, const float **at)
{
    const int in_block = m->block - *row % m->block, left = m->rows - *row;
    const struct part p = {*at, pcv_panel_rows(in_block < left ? in_block : left, LANES)};

    *row += p.rows;
    *at += m->step;
    return p;
}

INLINE void score(float *s, const float *q, const float *keys, int dk, const int V, const int J)
{
    vf sum[J1][3];

    clear(sum, V, J);
    sums(sum, dk, q, LANES, keys, LANES, 1, NULL, V, J);
    UNROLL
    for (int j = 0; j < J; j++)
        UNROLL
    for (int v = 0; v < V; v++)
        vstore(s + j * LANES + v * VW, sum[j][v]);
}

INLINE void score_all(float *s, const float *q, const struct pcv_panels *keys, int dk, const int V,
                      const int J)
{
    const float *at = keys->at;

    for (int row = 0; row < keys->rows;) {
        const struct part p = next_part(keys, &row, &at);
        int i = 0;

        for (; i + J <= p.rows; i += J, s += J * LANES)
            score(s, q, p.at + i, dk, V, J);
        for (; i + 4 <= p.rows; i += 4, s += 4 * LANES)
            score(s, q, p.at + i, dk, V, 4);
        for (; i < p.rows; i++, s += LANES)
            score(s, q, p.at + i, dk, V, 1);
    }
}

INLINE void mix_columns(float *c, const float *s, const float *inverse,
                        const struct pcv_panels *values, const int V, const int J)
{
    const float *at = values->at;
    vf sum[J1][3];

    clear(sum, V, J);
    for (int row = 0; row < values->rows;) {
        const struct part p = next_part(values, &row, &at);

        sums(sum, p.rows, s, LANES, p.at, 1, LANES, NULL, V, J);
        s += (size_t)p.rows * LANES;
    }
    UNROLL
    for (int j = 0; j < J; j++)
        UNROLL
    for (int v = 0; v < V; v++)
        vstore(c + j * LANES + v * VW, vmul(sum[j][v], vload(inverse + v * VW)));
}

INLINE void mix_all(float *c, const float *s, const float *inverse, struct pcv_panels values,
                    int dv, const int V, const int J)
{
    int j = 0;

    for (; j + J <= dv; j += J, values.at += J * LANES)
        mix_columns(c + j * LANES, s, inverse, &values, V, J);
    for (; j + 4 <= dv; j += 4, values.at += 4 * LANES)
        mix_columns(c + j * LANES, s, inverse, &values, V, 4);
    for (; j < dv; j++, values.at += LANES)
        mix_columns(c + j * LANES, s, inverse, &values, V, 1);
}

INLINE void softmax_all(float *s, float *inverse, int keys, float scale, const int V)
{
    const vf scale2 = vset1(scale * 1.44269504f); /* e^x = 2^(x log2 e) */
    vf max[3], sum[3];

    UNROLL
    for (int v = 0; v < V; v++) {
        max[v] = vload(s + v * VW);
        sum[v] = vset1(0);
    }
    for (int j = 1; j < keys; j++)
        UNROLL
    for (int v = 0; v < V; v++)
        max[v] = vmax(max[v], vload(s + (size_t)j * LANES + v * VW));
    for (int j = 0; j < keys; j++)
        UNROLL
    for (int v = 0; v < V; v++) {
        float *at = s + (size_t)j * LANES + v * VW;
        const vf e = vexp2(vmul(vsub(vload(at), max[v]), scale2));

        vstore(at, e);
        sum[v] = vadd(sum[v], e);
    }
    UNROLL
    for (int v = 0; v < V; v++)
        vstore(inverse + v * VW, vdiv(vset1(1), sum[v]));
}

/* ---- row-major --------------------------------------------------------------------------------
 */

struct nn {
    int m;
    const float *a;
    size_t lda;
    float *c;
    size_t ldc;
    bool add;
};

INLINE void nn_tile(const struct nn *p, int i, int depth, const float *b, size_t ldb, const int V,
                    const int J)
{
    float *c = p->c + (size_t)i * p->ldc;
    vf s[J1][3];

    clear(s, V, J);
    sums(s, depth, b, ldb, p->a + (size_t)i * p->lda, 1, p->lda, NULL, V, J);
    UNROLL
    for (int j = 0; j < J; j++)
        UNROLL
    for (int v = 0; v < V; v++) {
        float *at = c + (size_t)j * p->ldc + v * VW;

        vstore(at, p->add ? vadd(vload(at), s[j][v]) : s[j][v]);
    }
}

INLINE void nn_rows(const struct nn *p, int depth, const float *b, size_t ldb, const int V,
                    const int J)
{
    int i = 0;

    for (; i + J <= p->m; i += J)
        nn_tile(p, i, depth, b, ldb, V, J);
    for (; i + 4 <= p->m; i += 4)
        nn_tile(p, i, depth, b, ldb, V, 4);
    for (; i < p->m; i++)
        nn_tile(p, i, depth, b, ldb, V, 1);
}

/* J rows of the last columns, of which `n` exist: computed beside C, then brought there. */
INLINE void nn_last_tile(const struct nn *p, int i, int depth, const float *columns, int n,
                         const int V, const int J)
{
    float sum[J1 * LANES];
    const struct nn beside = {J, p->a + (size_t)i * p->lda, p->lda, sum, LANES, false};

    nn_tile(&beside, 0, depth, columns, LANES, V, J);
    for (int j = 0; j < J; j++)
        for (int l = 0; l < n; l++) {
            float *at = p->c + (size_t)(i + j) * p->ldc + l;

            *at = p->add ? *at + sum[j * LANES + l] : sum[j * LANES + l];
        }
}

INLINE void nn_last(const struct nn *p, int depth, const float *columns, int n, const int V,
                    const int J)
{
    int i = 0;

    for (; i + J <= p->m; i += J)
        nn_last_tile(p, i, depth, columns, n, V, J);
    for (; i < p->m; i++)
        nn_last_tile(p, i, depth, columns, n, V, 1);
}

static __attribute__((noinline)) void nn_last1(const struct nn *p, int depth, const float *columns,
                                               int n)
{
    nn_last(p, depth, columns, n, 1, J1);
}

static __attribute__((noinline)) void nn_last2(const struct nn *p, int depth, const float *columns,
                                               int n)
{
    nn_last(p, depth, columns, n, 2, J2);
}

static __attribute__((noinline)) void nn_last3(const struct nn *p, int depth, const float *columns,
                                               int n)
{
    nn_last(p, depth, columns, n, 3, J3);
}

/* n columns of B side by side: where they lie they share cache lines with others. The lanes beyond
 * are 0. */
static const float *nn_copy(float *columns, const float *b, size_t ldb, int depth, int n)
{
    for (int k = 0; k < depth; k++, columns += LANES, b += ldb) {
        if (n == LANES) {
            for (int v = 0; v < 3; v++)
                vstore(columns + v * VW, vload(b + v * VW));
            continue;
        }
        for (int j = 0; j < LANES; j++)
            columns[j] = j < n ? b[j] : 0;
    }
    return columns - (size_t)depth * LANES;
}

static void rows_nn(int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb,
                    float *c, size_t ldc, bool add)
{
    float columns[DEPTH * LANES];

    for (int k0 = 0; k0 < k; k0 += DEPTH) {
        const int depth = k0 + DEPTH < k ? DEPTH : k - k0;
        const float *at = b + (size_t)k0 * ldb;
        struct nn p = {m, a + k0, lda, c, ldc, add || k0 > 0};
        int left = n;

        for (; left >= LANES; left -= LANES, at += LANES, p.c += LANES) {
            if (m < COPIED)
                nn_rows(&p, depth, at, ldb, 3, J3);
            else
                nn_rows(&p, depth, nn_copy(columns, at, ldb, depth, LANES), LANES, 3, J3);
        }
        if (left > 0)
            PICK(left, nn_last)(&p, depth, nn_copy(columns, at, ldb, depth, left), left);
    }
}

/* ---- element by element -----------------------------------------------------------------------
 */

INLINE void norm_all(float *y, const float *x, const float *gamma, const float *beta, int n,
                     float eps, const int V)
{
    const vf count = vset1((float)n);
    vf mean[3], r[3];

    UNROLL
    for (int v = 0; v < V; v++)
        mean[v] = r[v] = vset1(0);
    for (int c = 0; c < n; c++)
        UNROLL
    for (int v = 0; v < V; v++)
        mean[v] = vadd(mean[v], vload(x + (size_t)c * LANES + v * VW));
    UNROLL
    for (int v = 0; v < V; v++)
        mean[v] = vdiv(mean[v], count);
    for (int c = 0; c < n; c++)
        UNROLL
    for (int v = 0; v < V; v++) {
        const vf d = vsub(vload(x + (size_t)c * LANES + v * VW), mean[v]);

        r[v] = vfma(d, d, r[v]);
    }
    UNROLL
    for (int v = 0; v < V; v++)
        r[v] = vdiv(vset1(1), vsqrt(vadd(vdiv(r[v], count), vset1(eps))));
    for (int c = 0; c < n; c++) {
        const vf g = vset1(gamma ? gamma[c] : 1), b = vset1(gamma ? beta[c] : 0);

        UNROLL
        for (int v = 0; v < V; v++) {
            const size_t at = (size_t)c * LANES + v * VW;

            vstore(y + at, vfma(vmul(vsub(vload(x + at), mean[v]), r[v]), g, b));
        }
    }
}

/* x = f for every vector in use. */
#define EACH(rows, n, f)                                                                           \
    do {                                                                                           \
        const int used = ((rows) + VW - 1) / VW * VW;                                              \
                                                                                                   \
        for (size_t c = 0; c < (size_t)(n); c++)                                                   \
            for (int i = 0; i < used; i += VW) {                                                   \
                const size_t at = c * LANES + (size_t)i;                                           \
                                                                                                   \
                vstore(x + at, f);                                                                 \
            }                                                                                      \
    } while (0)

static void gelu_erf(float *x, int rows, int n)
{
    EACH(rows, n, vgelu_erf(vload(x + at)));
}

static void gelu_tanh(float *x, int rows, int n)
{
    EACH(rows, n, vgelu_tanh(vload(x + at)));
}

static void multiply(float *x, const float *y, int rows, int n)
{
    EACH(rows, n, vmul(vload(x + at), vload(y + at)));
}

/* ---- by width ---------------------------------------------------------------------------------
 */

/* One function per width in vectors: loops with a constant V and J. */
#define WIDTH(V, J)                                                                                \
    static void score##V(float *s, const float *q, const struct pcv_panels *keys, int dk)          \
    {                                                                                              \
        score_all(s, q, keys, dk, V, J);                                                           \
    }                                                                                              \
    static void mix##V(float *c, const float *s, const float *inverse,                             \
                       const struct pcv_panels *values, int dv)                                    \
    {                                                                                              \
        mix_all(c, s, inverse, *values, dv, V, J);                                                 \
    }                                                                                              \
    static void softmax##V(float *s, float *inverse, int keys, float scale)                        \
    {                                                                                              \
        softmax_all(s, inverse, keys, scale, V);                                                   \
    }                                                                                              \
    static void norm##V(float *y, const float *x, const float *gamma, const float *beta, int n,    \
                        float eps)                                                                 \
    {                                                                                              \
        norm_all(y, x, gamma, beta, n, eps, V);                                                    \
    }
WIDTH(1, J1)
WIDTH(2, J2)
WIDTH(3, J3)
#undef WIDTH

static void scores(float *s, const float *q, const struct pcv_panels *keys, int rows, int dk)
{
    PICK(rows, score)(s, q, keys, dk);
}

static void softmax(float *s, float *inverse, int rows, int keys, float scale)
{
    PICK(rows, softmax)(s, inverse, keys, scale);
}

static void mix(float *c, const float *s, const float *inverse, const struct pcv_panels *values,
                int rows, int dv)
{
    PICK(rows, mix)(c, s, inverse, values, dv);
}

static void norm(float *y, const float *x, const float *gamma, const float *beta, int rows, int n,
                 float eps)
{
    PICK(rows, norm)(y, x, gamma, beta, n, eps);
}

const struct pcv_panel_kernels TABLE = {
    .lanes = LANES,
    .pack = pack,
    .unpack = unpack,
    .norm = norm,
    .product = product,
    .scores = scores,
    .softmax = softmax,
    .mix = mix,
    .rows_nn = rows_nn,
    .gelu_erf = gelu_erf,
    .gelu_tanh = gelu_tanh,
    .multiply = multiply,
};
