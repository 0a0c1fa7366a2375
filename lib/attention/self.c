#include "lib/attention/self.h"

#include "lib/attention/shared.h"

struct scratch {
    float *xn, *ctx, *attend, *tail;
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_layer *l, int block)
{
    const size_t lanes = pcv_panel_need(block, block);

    return (struct scratch){
        .xn = pcv_take(b, lanes * (size_t)l->d.q_dim),
        .ctx = pcv_take(b, lanes * (size_t)l->d.v),
        .attend = pcv_take(b, pcv_attend_need(block, l->d.qk / l->d.heads)),
        .tail = pcv_take(b, pcv_layer_tail_panels_need(&l->d, block)),
    };
}

size_t pcv_self_need(const struct pcv_layer *l, int block)
{
    struct pcv_bump count = {0};

    carve(&count, l, block);
    return count.used;
}

static struct scratch scratch_of(const struct pcv_self *s, int thread)
{
    struct pcv_bump bump = {.base = s->scratch + (size_t)thread * s->scratch_step};

    return carve(&bump, s->layer, s->block);
}

static void project(const struct pcv_self *s, const struct pcv_panel_kernels *k,
                    const struct pcv_worker *w, int b, const float *xn, struct pcv_affine to, int n,
                    float *out)
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

    pcv_shared_product(w, k, &p);
}

void pcv_self_project(const struct pcv_self *s, const struct pcv_panel_kernels *k,
                      const struct pcv_worker *w, int b)
{
    const struct pcv_layer *l = s->layer;
    const size_t step = (size_t)l->d.q_dim * (size_t)k->lanes;
    const float *x = s->x + pcv_self_block(k, s->block, b, l->d.q_dim);
    const struct scratch sc = scratch_of(s, w->thread);
    float *xn = sc.xn;

    for (int left = pcv_self_rows(s->latents, s->block, b), rows; left > 0; left -= rows) {
        rows = pcv_panel_rows(left, k->lanes);
        k->norm(xn, x, l->norm_q.gamma, l->norm_q.beta, rows, l->d.q_dim, l->eps);
        xn += step;
        x += step;
    }
    project(s, k, w, b, sc.xn, l->q, l->d.qk, s->q);
    project(s, k, w, b, sc.xn, l->k, l->d.qk, s->k);
    project(s, k, w, b, sc.xn, l->val, l->d.v, s->v);
}

void pcv_self_update(const struct pcv_self *s, const struct pcv_panel_kernels *k,
                     const struct pcv_worker *w, int b)
{
    const struct pcv_layer *l = s->layer;
    const struct pcv_layer_dims *d = &l->d;
    const size_t lanes = (size_t)k->lanes;
    const int rows = pcv_self_rows(s->latents, s->block, b);
    const struct pcv_attend_panels a = {
        .heads = d->heads,
        .dk = d->qk / d->heads,
        .dv = d->v / d->heads,
        .keys = {s->k, (size_t)d->qk * lanes, s->latents, s->block},
        .values = {s->v, (size_t)d->v * lanes, s->latents, s->block},
        .scratch = scratch_of(s, 0).attend,
        .scratch_step = s->scratch_step,
    };
    const struct scratch sc = scratch_of(s, w->thread);

    pcv_attend_panels(&a, k, w, rows, s->q + pcv_self_block(k, s->block, b, d->qk), sc.ctx);
    pcv_layer_tail_panels(l, k, w, rows, sc.ctx, s->x + pcv_self_block(k, s->block, b, d->q_dim),
                          sc.tail);
}
