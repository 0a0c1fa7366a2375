#include "lib/attention/tokens.h"

#include <math.h>
#include <string.h>

int64_t pcv_tokens_count(const struct pcv_tokens *t)
{
    int64_t n = 0;

    for (int i = 0; i < t->nsegments; i++)
        n += t->segment[i].tokens;
    return n;
}

void pcv_group_gather(const struct pcv_group *g, const float *all, float *own)
{
    for (int i = 0; i < g->nranges; own += g->range[i].n, i++)
        memcpy(own, all + g->range[i].from, (size_t)g->range[i].n * sizeof(float));
}

void pcv_group_add(const struct pcv_group *g, const float *own, float *all)
{
    for (int i = 0; i < g->nranges; i++) {
        float *to = all + g->range[i].from;

        for (int j = 0; j < g->range[i].n; j++)
            to[j] += *own++;
    }
}

/* The group's share of token m: [n]. */
static void group_value(const struct pcv_group *g, int64_t m, float *out)
{
    switch (g->kind) {
    case PCV_GROUP_TABLE:
        memcpy(out, g->table + (size_t)pcv_group_row(g, m) * g->n, (size_t)g->n * sizeof(float));
        break;
    case PCV_GROUP_CONST: memcpy(out, g->value, (size_t)g->n * sizeof(float)); break;
    case PCV_GROUP_DENSE:
        for (int c = 0; c < g->n; c++) {
            float v = g->lift ? g->lift_bias[c] : pcv_group_content(g, m, c);

            for (int j = 0; g->lift && j < g->raw; j++)
                v += g->lift[c * g->raw + j] * pcv_group_content(g, m, j);
            out[c] = v;
        }
        break;
    }
}

void pcv_segment_token(const struct pcv_segment *s, int channels, int64_t m, float *out,
                       float *scratch)
{
    memset(out, 0, (size_t)channels * sizeof(float));
    for (int i = 0; i < s->ngroups; i++) {
        group_value(&s->group[i], m, scratch);
        pcv_group_add(&s->group[i], scratch, out);
    }
}

void pcv_tokens_rows(const struct pcv_tokens *t, int64_t m0, int64_t rows, float *out,
                     float *scratch)
{
    int64_t first = 0;

    for (int i = 0; i < t->nsegments; i++) {
        const struct pcv_segment *s = &t->segment[i];

        for (; rows > 0 && m0 < first + s->tokens; m0++, rows--, out += t->channels)
            pcv_segment_token(s, t->channels, m0 - first, out, scratch);
        first += s->tokens;
    }
}

/* ---- statistics ------------------------------------------------------------------------------ */

size_t pcv_segment_stats_need(const struct pcv_segment *s, int channels)
{
    size_t doubles = 0;

    for (int i = 0; i < s->ngroups; i++) {
        const struct pcv_group *g = &s->group[i];

        if (g->kind == PCV_GROUP_TABLE && !g->sums.sum)
            doubles += 2 * (size_t)g->rows;
        if (g->kind == PCV_GROUP_DENSE)
            doubles += (size_t)g->raw * (g->raw + 2) + 2;
    }
    return doubles * sizeof(double) + 2 * (size_t)channels * sizeof(float);
}

/* Every fourth number apart: one sum would wait for itself. */
static void vector_sums(const float *x, size_t step, int n, double *sum, double *squares)
{
    double a[4] = {0}, b[4] = {0};

    for (int i = 0; i < n; i++, x += step) {
        a[i % 4] += *x;
        b[i % 4] += (double)*x * *x;
    }
    *sum = a[0] + a[1] + (a[2] + a[3]);
    *squares = b[0] + b[1] + (b[2] + b[3]);
}

struct pcv_row_sums pcv_table_sums(double *room, const float *table, int rows, int n)
{
    for (int row = 0; row < rows; row++, table += n)
        vector_sums(table, 1, n, &room[row], &room[rows + row]);
    return (struct pcv_row_sums){room, room + rows};
}

/* For lifted content x = A d + a: sum x = (A^T 1) d + 1 a, sum x^2 = d^T (A^T A) d + 2 (A^T a) d +
 * a a. out: [raw] A^T 1, [raw] 2 A^T a, [raw, raw] A^T A, 1 a, a a. */
static void lift_forms(const struct pcv_group *g, double *out)
{
    const int k = g->raw;
    double *ones = out, *cross = out + k, *gram = out + 2 * (size_t)k, *tail = gram + (size_t)k * k;

    memset(out, 0, ((size_t)k * (k + 2) + 2) * sizeof(double));
    for (int c = 0; c < g->n; c++) {
        const float *a = g->lift + (size_t)c * k;
        const double b = g->lift_bias[c];

        for (int i = 0; i < k; i++) {
            ones[i] += a[i];
            cross[i] += 2.0 * a[i] * b;
            for (int j = 0; j < k; j++)
                gram[i * k + j] += (double)a[i] * a[j];
        }
        tail[0] += b;
        tail[1] += b * b;
    }
}

/* Tokens whose sums are made together. */
enum { TOGETHER = 256 };

struct sums {
    double sum[TOGETHER], squares[TOGETHER];
};

/* Plane after plane, as content lies. */
static void plane_sums(const struct pcv_group *g, int64_t m0, int n, struct sums *to)
{
    for (int c = 0; c < g->raw; c++) {
        const float *x = g->content.at + m0 + (size_t)c * g->content.channel;

        for (int i = 0; i < n; i++) {
            to->sum[i] += x[i];
            to->squares[i] += (double)x[i] * x[i];
        }
    }
}

/* Token after token. */
static void row_sums(const struct pcv_group *g, int64_t m0, int n, struct sums *to)
{
    for (int i = 0; i < n; i++) {
        double sum, squares;

        vector_sums(g->content.at + (size_t)(m0 + i) * g->content.row, g->content.channel, g->raw,
                    &sum, &squares);
        to->sum[i] += sum;
        to->squares[i] += squares;
    }
}

static void lifted_sums(const struct pcv_group *g, const double *form, int64_t m0, int n,
                        struct sums *to)
{
    const size_t step = g->content.channel;
    const int k = g->raw;

    for (int m = 0; m < n; m++) {
        const float *d = g->content.at + (size_t)(m0 + m) * g->content.row;

        to->sum[m] += form[2 * k + k * k];
        to->squares[m] += form[2 * k + k * k + 1];
        for (int i = 0; i < k; i++) {
            const double x = d[(size_t)i * step];
            double row = form[k + i];

            for (int j = 0; j < k; j++)
                row += form[2 * k + i * k + j] * d[(size_t)j * step];
            to->sum[m] += form[i] * x;
            to->squares[m] += row * x;
        }
    }
}

/* The next n tokens have the rows from here on, one each. */
static void add_rows(double *restrict to, const double *restrict by_row, int n)
{
    for (int i = 0; i < n; i++)
        to[i] += by_row[i];
}

static void add_row(double *to, double of_row, int n)
{
    for (int i = 0; i < n; i++)
        to[i] += of_row;
}

/* Rows follow one another, each for div tokens; runs, for divisions would take longer than all the
 * rest. */
static void table_sums(const struct pcv_group *g, struct pcv_row_sums of, int64_t m0, int n,
                       struct sums *to)
{
    int run;

    for (int i = 0; i < n; i += run) {
        const int row = pcv_group_row(g, m0 + i);

        if (!g->ids && g->div == 1) {
            run = g->rows - row < n - i ? g->rows - row : n - i;
            add_rows(to->sum + i, of.sum + row, run);
            add_rows(to->squares + i, of.squares + row, run);
        } else {
            const int64_t left = g->ids ? 1 : g->div - (m0 + i) % g->div;

            run = left < n - i ? (int)left : n - i;
            add_row(to->sum + i, of.sum[row], run);
            add_row(to->squares + i, of.squares[row], run);
        }
    }
}

/* What is known of a group before its tokens are: sums of a table's rows, or forms of lifted
 * content. */
struct known {
    struct pcv_row_sums rows;
    const double *form;
};

/* What is not kept lies one after another in `work`. */
static void prepare_sums(const struct pcv_segment *s, double *work, struct known *of)
{
    for (int i = 0; i < s->ngroups; i++) {
        const struct pcv_group *g = &s->group[i];

        of[i] = (struct known){g->sums, work};
        if (g->kind == PCV_GROUP_TABLE && !g->sums.sum) {
            of[i].rows = pcv_table_sums(work, g->table, g->rows, g->n);
            work += 2 * (size_t)g->rows;
        } else if (g->kind == PCV_GROUP_DENSE) {
            if (g->lift)
                lift_forms(g, work);
            work += (size_t)g->raw * (g->raw + 2) + 2;
        }
    }
}

/* Sums to statistics. What cancels is double, the root need not be. */
static void finish(const struct sums *of, int channels, float eps, int n, float *restrict mean,
                   float *restrict r)
{
    const double share = 1.0 / channels;

    for (int i = 0; i < n; i++) {
        const double mu = of->sum[i] * share;
        const double var = of->squares[i] * share - mu * mu;

        mean[i] = (float)mu;
        r[i] = (float)(var > 0 ? var : 0) + eps;
    }
    for (int i = 0; i < n; i++)
        r[i] = 1 / sqrtf(r[i]);
}

/* Overlapping groups: the sum has no shortcut, so write each token out once. */
static void stats_by_token(const struct pcv_segment *s, int channels, float eps, float *mean,
                           float *r, float *work)
{
    for (int64_t m0 = 0; m0 < s->tokens; m0 += TOGETHER) {
        const int n = s->tokens - m0 < TOGETHER ? (int)(s->tokens - m0) : TOGETHER;
        struct sums of;

        for (int i = 0; i < n; i++) {
            pcv_segment_token(s, channels, m0 + i, work, work + channels);
            vector_sums(work, 1, channels, &of.sum[i], &of.squares[i]);
        }
        finish(&of, channels, eps, n, mean + m0, r + m0);
    }
}

void pcv_segment_stats(const struct pcv_segment *s, int channels, float eps, float *mean, float *r,
                       void *work)
{
    struct known of[PCV_MAX_GROUPS];
    double fixed_sum = 0, fixed_squares = 0;

    if (s->overlap) {
        stats_by_token(s, channels, eps, mean, r, work);
        return;
    }
    prepare_sums(s, work, of);
    for (int i = 0; i < s->ngroups; i++) {
        double a, b;

        if (s->group[i].kind != PCV_GROUP_CONST)
            continue;
        vector_sums(s->group[i].value, 1, s->group[i].n, &a, &b);
        fixed_sum += a;
        fixed_squares += b;
    }
    for (int64_t m0 = 0; m0 < s->tokens; m0 += TOGETHER) {
        const int n = s->tokens - m0 < TOGETHER ? (int)(s->tokens - m0) : TOGETHER;
        struct sums of_block;

        for (int i = 0; i < n; i++) {
            of_block.sum[i] = fixed_sum;
            of_block.squares[i] = fixed_squares;
        }
        for (int i = 0; i < s->ngroups; i++) {
            const struct pcv_group *g = &s->group[i];

            if (g->kind == PCV_GROUP_TABLE)
                table_sums(g, of[i].rows, m0, n, &of_block);
            else if (g->kind == PCV_GROUP_DENSE && g->lift)
                lifted_sums(g, of[i].form, m0, n, &of_block);
            else if (g->kind == PCV_GROUP_DENSE && g->content.row == 1)
                plane_sums(g, m0, n, &of_block);
            else if (g->kind == PCV_GROUP_DENSE)
                row_sums(g, m0, n, &of_block);
        }
        finish(&of_block, channels, eps, n, mean + m0, r + m0);
    }
}
