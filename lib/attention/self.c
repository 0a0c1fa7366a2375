#include "lib/attention/self.h"

#include <math.h>

struct scratch {
    float *xn, *ctx, *scores, *inverse, *tail;
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_layer *l, int latents, int block)
{
    const size_t lanes = pcv_panel_need(block, block);

    return (struct scratch){
        .xn = pcv_take(b, lanes * (size_t)l->d.q_dim),
        .ctx = pcv_take(b, lanes * (size_t)l->d.v),
        .scores = pcv_take(b, (size_t)latents * PCV_PANEL_MOST_LANES),
        .inverse = pcv_take(b, PCV_PANEL_MOST_LANES),
        .tail = pcv_take(b, pcv_layer_tail_panels_need(&l->d, block)),
    };
}

size_t pcv_self_need(const struct pcv_layer *l, int latents, int block)
{
    struct pcv_bump count = {0};

    carve(&count, l, latents, block);
    return count.used;
}

static void project(const struct pcv_self *s, const struct pcv_panel_kernels *k, int b,
                    const float *xn, struct pcv_affine to, int n, float *out)
{
    const struct pcv_product p = {
        .rows = pcv_self_rows(s->latents, s->block, b),
        .n = n,
        .k = s->layer->d.q_dim,
        .a = xn,
        .a_step = (size_t)s->layer->d.q_dim * (size_t)k->lanes,
        .w = to.w,
        .ldw = (size_t)s->layer->d.q_dim,
        .bias = to.b,
        .c = out + pcv_self_block(k, s->block, b, n),
        .c_step = (size_t)n * (size_t)k->lanes,
    };

    k->product(&p);
}

void pcv_self_project(const struct pcv_self *s, const struct pcv_panel_kernels *k, int b,
                      float *scratch)
{
    const struct pcv_layer *l = s->layer;
    const size_t step = (size_t)l->d.q_dim * (size_t)k->lanes;
    const float *x = s->x + pcv_self_block(k, s->block, b, l->d.q_dim);
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, l, s->latents, s->block);
    float *xn = sc.xn;

    for (int left = pcv_self_rows(s->latents, s->block, b), rows; left > 0; left -= rows) {
        rows = pcv_panel_rows(left, k->lanes);
        k->norm(xn, x, l->norm_q.gamma, l->norm_q.beta, rows, l->d.q_dim, l->eps);
        xn += step;
        x += step;
    }
    project(s, k, b, sc.xn, l->q, l->d.qk, s->q);
    project(s, k, b, sc.xn, l->k, l->d.qk, s->k);
    project(s, k, b, sc.xn, l->val, l->d.v, s->v);
}

/* One head of a block: its keys and values stay in the second cache from panel to panel. */
static void attend(const struct pcv_self *s, const struct pcv_panel_kernels *k, int b, int head,
                   const struct scratch *sc)
{
    const struct pcv_layer_dims *d = &s->layer->d;
    const size_t lanes = (size_t)k->lanes;
    const int dk = d->qk / d->heads, dv = d->v / d->heads;
    const float scale = 1.0f / sqrtf((float)dk);
    const size_t qk_step = (size_t)d->qk * lanes, v_step = (size_t)d->v * lanes;
    const struct pcv_panels keys = {s->k + (size_t)(head * dk) * lanes, qk_step, s->latents,
                                    s->block};
    const struct pcv_panels values = {s->v + (size_t)(head * dv) * lanes, v_step, s->latents,
                                      s->block};
    const float *q = s->q + pcv_self_block(k, s->block, b, d->qk) + (size_t)(head * dk) * lanes;
    float *ctx = sc->ctx + (size_t)(head * dv) * lanes;

    for (int left = pcv_self_rows(s->latents, s->block, b), rows; left > 0; left -= rows) {
        rows = pcv_panel_rows(left, k->lanes);
        k->scores(sc->scores, q, &keys, rows, dk);
        k->softmax(sc->scores, sc->inverse, rows, s->latents, scale);
        k->mix(ctx, sc->scores, sc->inverse, &values, rows, dv);
        q += qk_step;
        ctx += v_step;
    }
}

void pcv_self_update(const struct pcv_self *s, const struct pcv_panel_kernels *k, int b,
                     float *scratch)
{
    const struct pcv_layer *l = s->layer;
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, l, s->latents, s->block);

    for (int head = 0; head < l->d.heads; head++)
        attend(s, k, b, head, &sc);
    pcv_layer_tail_panels(l, k, pcv_self_rows(s->latents, s->block, b), sc.ctx,
                          s->x + pcv_self_block(k, s->block, b, l->d.q_dim), sc.tail);
}
