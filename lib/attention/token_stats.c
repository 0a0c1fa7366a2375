#include "lib/attention/token_stats.h"

#include <string.h>

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

static void content_sums(const struct pcv_group *g, int64_t m0, int n, struct sums *to)
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

/* A table whose row does not change within a run, as long as that may be. */
static bool stands_still(const struct pcv_group *g)
{
    return !g->ids && (g->div > 1 || g->rows == 1);
}

/* What a table without ids says of tokens from m on; shortens the run to where that changes. */
static void bind_table(const struct pcv_group *g, struct pcv_row_sums of, int64_t m,
                       struct pcv_stat_run *run)
{
    const uint32_t at = (uint32_t)m, div = (uint32_t)g->div, rows = (uint32_t)g->rows;
    const uint32_t step = at / div, row = step % rows; /* short divisions: runs are short, too */
    uint32_t left = (uint32_t)run->n;

    if (stands_still(g)) {
        run->sum += of.sum[row];
        run->squares += of.squares[row];
        if (rows > 1)
            left = div - (at - step * div);
    } else {
        run->row_sum = of.sum + row;
        run->row_squares = of.squares + row;
        left = rows - row;
    }
    if (left < (uint32_t)run->n)
        run->n = (int)left;
}

/* each: NULL, or what the n tokens have instead of the same. */
static void add(double *restrict to, double same, const double *restrict each, int n)
{
    for (int i = 0; i < n; i++)
        to[i] += each ? each[i] : same;
}

static void table_sums(const struct pcv_group *g, struct pcv_row_sums of, int64_t m0, int n,
                       struct sums *to)
{
    struct pcv_stat_run run;

    for (int i = 0; g->ids && i < n; i++) {
        to->sum[i] += of.sum[g->ids[m0 + i]];
        to->squares[i] += of.squares[g->ids[m0 + i]];
    }
    for (int i = 0; !g->ids && i < n; i += run.n) {
        run = (struct pcv_stat_run){.n = n - i};
        bind_table(g, of, m0 + i, &run);
        add(to->sum + i, run.sum, run.row_sum, run.n);
        add(to->squares + i, run.squares, run.row_squares, run.n);
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

/* Overlapping groups: the sum has no shortcut, so write each token out once. */
static void stats_by_token(const struct pcv_kernels *k, const struct pcv_segment *s, int channels,
                           float eps, float *mean, float *r, float *work)
{
    for (int64_t m0 = 0; m0 < s->tokens; m0 += TOGETHER) {
        const int n = s->tokens - m0 < TOGETHER ? (int)(s->tokens - m0) : TOGETHER;
        struct sums of;
        const struct pcv_stat_run run = {
            .n = n, .channels = channels, .row_sum = of.sum, .row_squares = of.squares, .eps = eps};

        for (int i = 0; i < n; i++) {
            pcv_segment_token(s, channels, m0 + i, work, work + channels);
            vector_sums(work, 1, channels, &of.sum[i], &of.squares[i]);
        }
        k->token_stats(mean + m0, r + m0, &run);
    }
}

/* Content that the kernel adds itself: plane after plane, of tokens from m on. */
static void bind_content(const struct pcv_group *g, int64_t m, struct pcv_stat_run *run)
{
    run->x = g->content.at + m;
    run->x_step = g->content.channel;
    run->planes = g->raw;
}

/* Any groups that share no channel: their sums are added up, group by group. */
static void stats_by_group(const struct pcv_kernels *k, const struct pcv_segment *s,
                           const struct known *of, const struct pcv_stat_run *fixed, int content,
                           float *mean, float *r)
{
    for (int64_t m0 = 0; m0 < s->tokens; m0 += TOGETHER) {
        const int n = s->tokens - m0 < TOGETHER ? (int)(s->tokens - m0) : TOGETHER;
        struct sums block = {{0}, {0}};
        struct pcv_stat_run run = *fixed;

        run.n = n;
        run.row_sum = block.sum;
        run.row_squares = block.squares;
        for (int i = 0; i < s->ngroups; i++) {
            const struct pcv_group *g = &s->group[i];

            if (i == content)
                bind_content(g, m0, &run);
            else if (g->kind == PCV_GROUP_TABLE)
                table_sums(g, of[i].rows, m0, n, &block);
            else if (g->kind == PCV_GROUP_DENSE && g->lift)
                lifted_sums(g, of[i].form, m0, n, &block);
            else if (g->kind == PCV_GROUP_DENSE)
                content_sums(g, m0, n, &block);
        }
        k->token_stats(mean + m0, r + m0, &run);
    }
}

/* The first group whose content stands plane by plane, as it is, or -1. */
static int plane_content(const struct pcv_segment *s)
{
    for (int i = 0; i < s->ngroups; i++)
        if (s->group[i].kind == PCV_GROUP_DENSE && !s->group[i].lift &&
            s->group[i].content.row == 1)
            return i;
    return -1;
}

/* Whether tokens go in runs: at most one table moves on with every token, and there is no content
 * but that of group `content`. */
static bool goes_in_runs(const struct pcv_segment *s, int content)
{
    int moving = 0;

    for (int i = 0; i < s->ngroups; i++) {
        const struct pcv_group *g = &s->group[i];

        if (g->ids || (g->kind == PCV_GROUP_DENSE && i != content))
            return false;
        moving += g->kind == PCV_GROUP_TABLE && !stands_still(g);
    }
    return moving <= 1;
}

static void stats_by_run(const struct pcv_kernels *k, const struct pcv_segment *s,
                         const struct known *of, const struct pcv_stat_run *fixed, int content,
                         float *mean, float *r)
{
    struct pcv_stat_run run;

    for (int64_t m = 0; m < s->tokens; m += run.n) {
        run = *fixed;
        run.n = (int)(s->tokens - m);
        for (int i = 0; i < s->ngroups; i++)
            if (s->group[i].kind == PCV_GROUP_TABLE)
                bind_table(&s->group[i], of[i].rows, m, &run);
        if (content >= 0)
            bind_content(&s->group[content], m, &run);
        k->token_stats(mean + m, r + m, &run);
    }
}

void pcv_segment_stats(const struct pcv_kernels *k, const struct pcv_segment *s, int channels,
                       float eps, float *mean, float *r, void *work)
{
    struct pcv_stat_run fixed = {.channels = channels, .eps = eps};
    const int content = plane_content(s);
    struct known of[PCV_MAX_GROUPS];

    if (s->overlap) {
        stats_by_token(k, s, channels, eps, mean, r, work);
        return;
    }
    prepare_sums(s, work, of);
    for (int i = 0; i < s->ngroups; i++) {
        double sum, squares;

        if (s->group[i].kind != PCV_GROUP_CONST)
            continue;
        vector_sums(s->group[i].value, 1, s->group[i].n, &sum, &squares);
        fixed.sum += sum;
        fixed.squares += squares;
    }
    if (goes_in_runs(s, content))
        stats_by_run(k, s, of, &fixed, content, mean, r);
    else
        stats_by_group(k, s, of, &fixed, content, mean, r);
}
