/* random_tokens.h - token arrays of every kind of group, and what they are when written out. Held
 * until release(), see plain.h. */
#ifndef RANDOM_TOKENS_H
#define RANDOM_TOKENS_H

#include "lib/attention/encode.h"
#include "lib/attention/token_stats.h"
#include "tests/unit/lib/attention/plain.h"

/* How a table is read, or what else a group is. */
enum flavour { INNER, OUTER, GATHERED, DIRECT, CONTENT, LIFTED, CONSTANT, FLAVOURS };

static inline bool is_table(enum flavour f)
{
    return f <= DIRECT;
}

/* A group of this flavour, its ranges still to be given. constant: index of its table, or -1. */
static inline struct pcv_group random_group(uint64_t *seed, enum flavour f, int n, int64_t tokens,
                                            int constant)
{
    struct pcv_group g = {.n = n, .constant = -1};

    if (is_table(f)) {
        g.kind = PCV_GROUP_TABLE;
        g.rows = f == DIRECT ? (int)tokens : 1 + random_int(seed, 40);
        g.table = random_floats(seed, (size_t)(g.rows * n), 0.1f, 1);
        g.div = f == OUTER ? 2 + random_int(seed, 60) : 1;
        g.constant = constant;
    }
    if (f == GATHERED) {
        int32_t *ids = hold(malloc((size_t)tokens * sizeof(*ids)));

        for (int64_t i = 0; i < tokens; i++)
            ids[i] = random_int(seed, g.rows);
        g.ids = ids;
    }
    if (f == CONTENT || f == LIFTED) {
        g.kind = PCV_GROUP_DENSE;
        g.raw = f == LIFTED ? 1 + random_int(seed, n) : n;
        g.content = (struct pcv_values){random_floats(seed, (size_t)(g.raw * tokens), -0.2f, 1), 1,
                                        (size_t)tokens};
        if (random_int(seed, 2)) /* token after token */
            g.content.row = (size_t)g.raw, g.content.channel = 1;
    }
    if (f == LIFTED) {
        g.lift = random_floats(seed, (size_t)(n * g.raw), 0, 1);
        g.lift_bias = random_floats(seed, (size_t)n, 0.3f, 0.5f);
    }
    if (f == CONSTANT) {
        g.kind = PCV_GROUP_CONST;
        g.value = random_floats(seed, (size_t)n, 0, 1);
    }
    return g;
}

/* A segment of these flavours side by side: channels are cut into pieces which the groups take in
 * turn, two for each; some channels may stay empty. */
static inline struct pcv_segment random_segment(uint64_t *seed, int channels, int64_t tokens,
                                                const enum flavour *f, int n)
{
    struct pcv_segment s = {.tokens = tokens, .ngroups = n};
    const int pieces = 2 * n, each = channels / pieces;

    assert_true(each >= 1);
    for (int i = 0; i < n; i++) {
        const int spare = random_int(seed, 2) ? 0 : random_int(seed, each);

        s.group[i] = random_group(seed, f[i], 2 * each - spare, tokens, i);
        s.group[i].nranges = 2;
        s.group[i].range[0].from = i * each;
        s.group[i].range[0].n = each - spare;
        s.group[i].range[1].from = (pieces - 1 - i) * each;
        s.group[i].range[1].n = each;
    }
    return s;
}

/* The same one above the other: every group fills a third of the channels somewhere, or with
 * `whole` all of them. */
static inline struct pcv_segment overlapping_segment(uint64_t *seed, int channels, int64_t tokens,
                                                     const enum flavour *f, int n, bool whole)
{
    struct pcv_segment s = {.tokens = tokens, .ngroups = n, .overlap = true};

    for (int i = 0; i < n; i++) {
        const int width = whole ? channels : channels / 3;

        s.group[i] = random_group(seed, f[i], width, tokens, i);
        s.group[i].nranges = 1;
        s.group[i].range[0].from = whole ? 0 : random_int(seed, channels - width + 1);
        s.group[i].range[0].n = width;
    }
    return s;
}

/* Token m of a segment, as the header of tokens.h says: out [channels]. */
static inline void plain_token(const struct pcv_segment *s, int channels, int64_t m, double *out)
{
    for (int c = 0; c < channels; c++)
        out[c] = 0;
    for (int i = 0; i < s->ngroups; i++) {
        const struct pcv_group *g = &s->group[i];
        const int64_t row = g->kind != PCV_GROUP_TABLE ? 0
                            : g->ids                   ? g->ids[m]
                                                       : m / g->div % g->rows;
        int own = 0;

        for (int r = 0; r < g->nranges; r++)
            for (int c = 0; c < g->range[r].n; c++, own++) {
                double v = g->kind == PCV_GROUP_TABLE   ? g->table[row * g->n + own]
                           : g->kind == PCV_GROUP_CONST ? g->value[own]
                           : g->lift                    ? g->lift_bias[own]
                                                        : pcv_group_content(g, m, own);

                for (int j = 0; g->kind == PCV_GROUP_DENSE && g->lift && j < g->raw; j++)
                    v += (double)g->lift[own * g->raw + j] * pcv_group_content(g, m, j);
                out[g->range[r].from + c] += v;
            }
    }
}

/* The whole array written out, rounded to f32 at the end. */
static inline float *plain_tokens(const struct pcv_tokens *t)
{
    float *all = floats((size_t)pcv_tokens_count(t) * (size_t)t->channels), *row = all;
    double *out = doubles((size_t)t->channels);

    for (int i = 0; i < t->nsegments; i++)
        for (int64_t m = 0; m < t->segment[i].tokens; m++, row += t->channels) {
            plain_token(&t->segment[i], t->channels, m, out);
            for (int c = 0; c < t->channels; c++)
                row[c] = (float)out[c];
        }
    return all;
}

/* LayerNorm statistics of all segments, by the code that adapters use. */
static inline void finish_tokens_by(struct pcv_tokens *t, const struct pcv_kernels *k)
{
    for (int i = 0; i < t->nsegments; i++) {
        struct pcv_segment *s = &t->segment[i];
        float *mean = floats((size_t)s->tokens), *r = floats((size_t)s->tokens);
        void *work = malloc(pcv_segment_stats_need(s, t->channels));

        assert_non_null(work);
        pcv_segment_stats(k, s, t->channels, 1e-5f, mean, r, work);
        free(work);
        s->mean = mean;
        s->r = r;
    }
}

static inline void finish_tokens(struct pcv_tokens *t)
{
    finish_tokens_by(t, pcv_kernels_for(pcv_cpu_detect()));
}

#endif
