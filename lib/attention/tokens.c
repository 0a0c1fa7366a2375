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
