/* panel_scalar.c - the specification of panel.h: each kernel as its formula reads. */
#include "lib/kernel/kernels.h"
#include "lib/kernel/panel.h"

#include <math.h>

enum { LANES = 24 };

static void pack(float *panel, const float *x, size_t ldx, int rows, int n)
{
    for (int c = 0; c < n; c++)
        for (int i = 0; i < LANES; i++)
            panel[c * LANES + i] = i < rows ? x[(size_t)i * ldx + c] : 0;
}

static void unpack(float *x, size_t ldx, const float *panel, int rows, int n, bool add)
{
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < n; c++)
            x[(size_t)i * ldx + c] = (add ? x[(size_t)i * ldx + c] : 0) + panel[c * LANES + i];
}

static void norm(float *y, const float *x, const float *gamma, const float *beta, int rows, int n,
                 float eps)
{
    for (int i = 0; i < rows; i++) {
        float sum = 0, squares = 0, mean, r;

        for (int c = 0; c < n; c++)
            sum += x[c * LANES + i];
        mean = sum / (float)n;
        for (int c = 0; c < n; c++)
            squares += (x[c * LANES + i] - mean) * (x[c * LANES + i] - mean);
        r = 1.0f / sqrtf(squares / (float)n + eps);
        for (int c = 0; c < n; c++) {
            const float v = (x[c * LANES + i] - mean) * r;

            y[c * LANES + i] = gamma ? v * gamma[c] + beta[c] : v;
        }
    }
}

/* One panel of a product. */
static void product_panel(const struct pcv_product *p, const float *a, float *c)
{
    for (int j = 0; j < p->n; j++, c += LANES) {
        const float *w = p->w + (size_t)j * p->ldw;

        for (int i = 0; i < LANES; i++)
            c[i] = (p->add ? c[i] : 0) + (p->bias ? p->bias[j] : 0);
        for (int k0 = 0; k0 < p->k; k0 += PCV_PANEL_DEPTH) {
            float sum[LANES] = {0};

            for (int k = k0; k < p->k && k < k0 + PCV_PANEL_DEPTH; k++)
                for (int i = 0; i < LANES; i++)
                    sum[i] += a[(size_t)k * LANES + i] * w[k];
            for (int i = 0; i < LANES; i++)
                c[i] += sum[i];
        }
    }
}

static void product(const struct pcv_product *p)
{
    for (int i = 0, row = 0; row < p->rows; i++, row += pcv_panel_rows(p->rows - row, LANES))
        product_panel(p, p->a + i * p->a_step, p->c + i * p->c_step);
}

/* Row i of panels m. */
static const float *row_of(const struct pcv_panels *m, int i)
{
    const float *panel = m->at;

    for (int row = 0, n;; row += n, panel += m->step) {
        const int block = m->block - row % m->block, left = m->rows - row;

        n = pcv_panel_rows(block < left ? block : left, LANES);
        if (i < row + n)
            return panel + (i - row);
    }
}

/* One query, at a panel's lane. */
static void attend_row(const struct pcv_attention_head *h, const float *q, float *c)
{
    float max = -INFINITY, sum = 0;

    for (int j = 0; j < h->dv; j++)
        c[(size_t)j * LANES] = 0;
    for (int pass = 0; pass < 2; pass++) /* the largest score first */
        for (int i = 0; i < h->keys.rows; i++) {
            const float *key = row_of(&h->keys, i), *value = row_of(&h->values, i);
            float score = 0, weight;

            for (int j = 0; j < h->dk; j++)
                score += q[(size_t)j * LANES] * key[(size_t)j * LANES];
            if (pass == 0) {
                max = score > max ? score : max;
                continue;
            }
            weight = expf(h->scale * (score - max));
            sum += weight;
            for (int j = 0; j < h->dv; j++)
                c[(size_t)j * LANES] += weight * value[(size_t)j * LANES];
        }
    for (int j = 0; j < h->dv; j++)
        c[(size_t)j * LANES] /= sum;
}

static void attend(const struct pcv_attention_head *h)
{
    const float *q = h->q;
    float *c = h->c;

    for (int left = h->rows, rows; left > 0; left -= rows) {
        rows = pcv_panel_rows(left, LANES);
        for (int i = 0; i < rows; i++)
            attend_row(h, q + i, c + i);
        q += h->q_step;
        c += h->c_step;
    }
}

static void rows_nn(int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb,
                    float *c, size_t ldc, bool add)
{
    for (int i = 0; i < m; i++, a += lda, c += ldc) {
        for (int j = 0; j < n && !add; j++)
            c[j] = 0;
        for (int k0 = 0; k0 < k; k0 += PCV_PANEL_DEPTH)
            for (int j = 0; j < n; j++) {
                float sum = 0;

                for (int l = k0; l < k && l < k0 + PCV_PANEL_DEPTH; l++)
                    sum += a[l] * b[(size_t)l * ldb + (size_t)j];
                c[j] += sum;
            }
    }
}

static void token_scores(float *s, float *max, const struct pcv_token_run *run, int rows,
                         bool given)
{
    for (int i = 0; i < run->n; i++, s += LANES)
        for (int q = 0; q < rows; q++) {
            float score = given ? s[q] : 0;

            for (int j = 0; j < run->nstill; j++)
                score += run->still[j][q];
            if (run->moving)
                score += run->moving[(size_t)i * LANES + q];
            for (int j = 0; j < run->channels; j++)
                score += run->u[j * LANES + q] * run->x[(size_t)j * run->x_step + (size_t)i];
            s[q] = score * run->r[i];
            if (s[q] > max[q])
                max[q] = s[q];
        }
}

static void token_weights(float *s, const float *from, const struct pcv_token_run *run,
                          const struct pcv_token_sums *sums, int rows)
{
    for (int i = 0; i < run->n; i++, s += LANES)
        for (int q = 0; q < rows; q++) {
            const float e = exp2f(s[q] - from[q]);

            s[q] = e * run->r[i];
            sums->e[q] += e;
            for (int j = 0; j < run->nstill; j++)
                sums->still[j][q] += s[q];
            if (sums->moving)
                sums->moving[(size_t)i * LANES + q] += s[q];
        }
}

static void query_scores(float *s, float *max, const struct pcv_query_terms *t, int rows,
                         bool given)
{
    for (int j = 0; j < t->n; j++, s += LANES)
        for (int q = 0; q < rows; q++) {
            float x = t->same[j];

            if (t->each)
                x += t->each[(size_t)j * t->each_step + (size_t)q];
            if (given)
                x += s[q];
            s[q] = x * t->r[q] + t->add[j];
            if (s[q] > max[q])
                max[q] = s[q];
        }
}

static void weights(float *s, const float *from, float *sum, int rows, int n)
{
    for (int j = 0; j < n; j++, s += LANES)
        for (int q = 0; q < rows; q++)
            sum[q] += s[q] = exp2f(s[q] - from[q]);
}

static void gather(float *c, const float *s, int n, struct pcv_values x, int channels, int rows)
{
    for (int i = 0; i < n; i++, s += LANES, x.at += x.row)
        for (int j = 0; j < channels; j++)
            for (int q = 0; q < rows; q++)
                c[j * LANES + q] += s[q] * x.at[(size_t)j * x.channel];
}

static void transpose(float *x, const float *planes, int64_t stride, int n, int channels)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < channels; j++)
            *x++ = planes[j * stride + i];
}

static void gelu_erf(float *x, int rows, int n)
{
    (void)rows;
    for (int i = 0; i < n * LANES; i++)
        x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * (float)M_SQRT1_2));
}

static void gelu_tanh(float *x, int rows, int n)
{
    (void)rows;
    for (int i = 0; i < n * LANES; i++)
        x[i] *= 0.5f * (1.0f + tanhf(0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void multiply(float *x, const float *y, int rows, int n)
{
    (void)rows;
    for (int i = 0; i < n * LANES; i++)
        x[i] *= y[i];
}

const struct pcv_panel_kernels pcv_panel_scalar = {
    .lanes = LANES,
    .pack = pack,
    .unpack = unpack,
    .norm = norm,
    .product = product,
    .attend = attend,
    .rows_nn = rows_nn,
    .token_scores = token_scores,
    .token_weights = token_weights,
    .query_scores = query_scores,
    .weights = weights,
    .gather = gather,
    .transpose = transpose,
    .gelu_erf = gelu_erf,
    .gelu_tanh = gelu_tanh,
    .multiply = multiply,
};
