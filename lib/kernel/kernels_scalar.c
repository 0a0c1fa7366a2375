/* kernels_scalar.c - the specification: each kernel as its formula reads. */
#include "lib/kernel/kernels.h"

#include <math.h>

static void norm(float *y, int ldy, const float *x, int ldx, const float *gamma, const float *beta,
                 int rows, int cols, float eps)
{
    for (int i = 0; i < rows; i++, x += ldx, y += ldy) {
        float sum = 0, var = 0, mean, r;

        for (int j = 0; j < cols; j++)
            sum += x[j];
        mean = sum / (float)cols;
        for (int j = 0; j < cols; j++)
            var += (x[j] - mean) * (x[j] - mean);
        r = 1.0f / sqrtf(var / (float)cols + eps);
        for (int j = 0; j < cols; j++) {
            float v = (x[j] - mean) * r;

            y[j] = gamma ? v * gamma[j] + beta[j] : v;
        }
    }
}

static void token_stats(float *mean, float *r, const struct pcv_stat_run *run)
{
    for (int i = 0; i < run->n; i++) {
        double sum = run->sum, squares = run->squares, mu, var;

        if (run->row_sum) {
            sum += run->row_sum[i];
            squares += run->row_squares[i];
        }
        for (int j = 0; j < run->planes; j++) {
            const double x = run->x[(size_t)j * run->x_step + i];

            sum += x;
            squares += x * x;
        }
        mu = sum / run->channels;
        var = squares / run->channels - mu * mu;
        mean[i] = (float)mu;
        r[i] = 1 / sqrtf((float)(var > 0 ? var : 0) + run->eps);
    }
}

static float max(const float *x, int n)
{
    float m = x[0];

    for (int i = 1; i < n; i++)
        if (x[i] > m)
            m = x[i];
    return m;
}

static float exp_sum(float *x, int n, float m)
{
    float sum = 0;

    for (int i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - m);
    return sum;
}

static void scale(float *x, float a, int n)
{
    for (int i = 0; i < n; i++)
        x[i] *= a;
}

static void softmax(float *x, int ld, int rows, int cols, float s)
{
    for (int i = 0; i < rows; i++, x += ld) {
        scale(x, s, cols);
        scale(x, 1.0f / exp_sum(x, cols, max(x, cols)), cols);
    }
}

static void axpy(float *y, float a, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        y[i] += a * x[i];
}

static float dot(const float *x, const float *y, int n)
{
    float sum = 0;

    for (int i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

const struct pcv_kernels pcv_kernels_scalar = {
    .name = "scalar",
    .panel = &pcv_panel_scalar,
    .norm = norm,
    .token_stats = token_stats,
    .softmax = softmax,
    .exp_sum = exp_sum,
    .max = max,
    .axpy = axpy,
    .scale = scale,
    .dot = dot,
};
