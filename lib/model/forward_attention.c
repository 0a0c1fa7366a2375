/* forward_attention.c - which tokens chosen latents read (arXiv 2103.03206, figure 3).
 *
 * softmax over tokens of u . r (x - mu) with u = gamma (Wk^T q) / sqrt(d), the mean of all heads; x
 * is a token written out, one at a time. Scores are computed twice, for the softmax's sum and for
 * the weights, so that nothing is kept that grows with the tokens but the map itself. */
#include "lib/base/pool.h"
#include "lib/model/forward.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct scratch {
    float *u;                /* [heads, C] */
    float *token, *own;      /* [C] */
    float *usum, *max, *sum; /* [heads] */
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_layer_dims *d)
{
    const size_t heads = (size_t)d->heads, c = (size_t)d->kv_dim;

    return (struct scratch){
        .u = pcv_take(b, heads * c),
        .token = pcv_take(b, c),
        .own = pcv_take(b, c),
        .usum = pcv_take(b, heads),
        .max = pcv_take(b, heads),
        .sum = pcv_take(b, heads),
    };
}

size_t pcv_pass_attention_need(const struct pcv_layer_dims *d)
{
    struct pcv_bump count = {0};

    carve(&count, d);
    return count.used;
}

/* Everything about one latent that does not depend on tokens. */
static void start(const struct pcv_encoder *enc, const struct pcv_kernels *k, int latent,
                  const struct scratch *sc)
{
    const struct pcv_layer_dims *d = &enc->layer->d;
    const size_t c = (size_t)d->kv_dim;

    pcv_encode_absorb(enc->layer, k, enc->q + (size_t)latent * (size_t)d->qk, 1, sc->u, c);
    for (int h = 0; h < d->heads; h++) {
        sc->max[h] = -FLT_MAX;
        sc->sum[h] = sc->usum[h] = 0;
        for (size_t i = 0; i < c; i++)
            sc->usum[h] += sc->u[(size_t)h * c + i];
    }
}

/* One token: its scores enter the running softmax, or, once that is complete, become its weight. */
static void read_token(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                       const struct pcv_segment *s, int64_t m, const struct scratch *sc,
                       float *weight)
{
    const int c = enc->layer->d.kv_dim, heads = enc->layer->d.heads;
    float mean = 0;

    pcv_segment_token(s, c, m, sc->token, sc->own);
    for (int h = 0; h < heads; h++) {
        const float dot = k->dot(sc->u + (size_t)h * (size_t)c, sc->token, c);
        const float score = s->r[m] * (dot - s->mean[m] * sc->usum[h]);

        if (weight) {
            mean += expf(score - sc->max[h]) / sc->sum[h];
        } else if (score > sc->max[h]) {
            sc->sum[h] = sc->sum[h] * expf(sc->max[h] - score) + 1;
            sc->max[h] = score;
        } else {
            sc->sum[h] += expf(score - sc->max[h]);
        }
    }
    if (weight)
        *weight = mean / (float)heads;
}

static void map(const struct pcv_encoder *enc, const struct pcv_kernels *k,
                const struct pcv_tokens *t, int latent, float *weights, float *scratch)
{
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, &enc->layer->d);

    start(enc, k, latent, &sc);
    for (int i = 0; i < t->nsegments; i++)
        for (int64_t m = 0; m < t->segment[i].tokens; m++)
            read_token(enc, k, &t->segment[i], m, &sc, NULL);
    for (int i = 0; i < t->nsegments; i++)
        for (int64_t m = 0; m < t->segment[i].tokens; m++)
            read_token(enc, k, &t->segment[i], m, &sc, weights++);
}

void pcv_pass_attention(struct pcv_pass *p, int thread, int step)
{
    int first = 0; /* unit of the item's first latent */
    int u = -1;

    for (int i = 0; i < p->n; i++) {
        const struct pcv_item *it = &p->items[i];
        const struct pcv_attention *a = it->attention;

        if (!a)
            continue;
        if (u < 0)
            u = pcv_units_next(&p->maps);
        for (; u < first + a->n; u = pcv_units_next(&p->maps)) {
            const int at = u - first;

            if (!pcv_item_cancelled(it))
                map(&p->m->plan.encoder[pcv_pass_cross(p, i, step, 0)], p->m->plan.k,
                    &it->input->tokens, a->latents[at],
                    a->weights + (size_t)at * (size_t)pcv_tokens_count(&it->input->tokens),
                    pcv_pass_scratch(p, thread));
        }
        first += a->n;
    }
}
