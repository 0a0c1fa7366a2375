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

/* Calls body for every row of panels m: `at` is its first channel. */
#define EACH_ROW(m, body)                                                                          \
    do {                                                                                           \
        const float *panel_ = (m)->at, *at;                                                        \
        for (int row_ = 0, n_; row_ < (m)->rows; row_ += n_, panel_ += (m)->step) {                \
            const int block_ = (m)->block - row_ % (m)->block, left_ = (m)->rows - row_;           \
                                                                                                   \
            n_ = pcv_panel_rows(block_ < left_ ? block_ : left_, LANES);                           \
            for (int i_ = 0; i_ < n_; i_++) {                                                      \
                at = panel_ + i_;                                                                  \
                body;                                                                              \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void scores(float *s, const float *q, const struct pcv_panels *keys, int rows, int dk)
{
    (void)rows;
    EACH_ROW(keys, {
        for (int i = 0; i < LANES; i++)
            s[i] = 0;
        for (int c = 0; c < dk; c++)
            for (int i = 0; i < LANES; i++)
                s[i] += q[c * LANES + i] * at[(size_t)c * LANES];
        s += LANES;
    });
}

static void softmax(float *s, float *inverse, int rows, int keys, float scale)
{
    for (int i = 0; i < rows; i++) {
        float max = s[i], sum = 0;

        for (int j = 1; j < keys; j++)
            if (s[(size_t)j * LANES + i] > max)
                max = s[(size_t)j * LANES + i];
        for (int j = 0; j < keys; j++)
            sum += s[(size_t)j * LANES + i] = expf(scale * (s[(size_t)j * LANES + i] - max));
        inverse[i] = 1.0f / sum;
    }
}

static void mix(float *c, const float *s, const float *inverse, const struct pcv_panels *values,
                int rows, int dv)
{
    for (int j = 0; j < dv; j++)
        for (int i = 0; i < rows; i++)
            c[j * LANES + i] = 0;
    EACH_ROW(values, {
        for (int j = 0; j < dv; j++)
            for (int i = 0; i < rows; i++)
                c[j * LANES + i] += s[i] * at[(size_t)j * LANES];
        s += LANES;
    });
    for (int j = 0; j < dv; j++)
        for (int i = 0; i < rows; i++)
            c[j * LANES + i] *= inverse[i];
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
    pcv_kernels_scalar.gelu_erf(x, (size_t)n * LANES);
}

static void gelu_tanh(float *x, int rows, int n)
{
    (void)rows;
    pcv_kernels_scalar.gelu_tanh(x, (size_t)n * LANES);
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
    .scores = scores,
    .softmax = softmax,
    .mix = mix,
    .rows_nn = rows_nn,
    .token_scores = token_scores,
    .token_weights = token_weights,
    .gather = gather,
    .transpose = transpose,
    .gelu_erf = gelu_erf,
    .gelu_tanh = gelu_tanh,
    .multiply = multiply,
};
