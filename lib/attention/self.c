#include "lib/attention/self.h"

#include "lib/kernel/gemm.h"

#include <math.h>

/* Query rows whose scores fit half a megabyte beside everything else in the cache. */
static int attend_rows(int latents, int rows)
{
    int n = 128 * 1024 / latents;

    if (n < 16)
        n = 16;
    return n < rows ? n : rows;
}

struct scratch {
    float *xn, *ctx, *scores, *tail;
};

static struct scratch carve(struct pcv_bump *b, const struct pcv_layer *l, int latents, int rows)
{
    return (struct scratch){
        .xn = pcv_take(b, (size_t)rows * l->d.q_dim),
        .ctx = pcv_take(b, (size_t)rows * l->d.v),
        .scores = pcv_take(b, (size_t)attend_rows(latents, rows) * latents),
        .tail = pcv_take(b, pcv_layer_tail_need(&l->d, rows)),
    };
}

size_t pcv_self_need(const struct pcv_layer *l, int latents, int rows)
{
    struct pcv_bump count = {0};

    carve(&count, l, latents, rows);
    return count.used;
}

void pcv_self_project(const struct pcv_self *s, const struct pcv_kernels *k, int row0, int rows,
                      float *scratch)
{
    const struct pcv_layer *l = s->layer;
    const int d = l->d.q_dim, qk = l->d.qk, v = l->d.v;
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, l, s->latents, rows);
    const float *x = s->x + (size_t)row0 * d;

    k->norm(sc.xn, d, x, d, l->norm_q.gamma, l->norm_q.beta, rows, d, l->eps);
    pcv_linear(k, rows, qk, d, sc.xn, d, l->q.w, l->q.b, s->q + (size_t)row0 * qk, qk, 0, 0);
    pcv_linear(k, rows, qk, d, sc.xn, d, l->k.w, l->k.b, s->k + (size_t)row0 * qk, qk, 0, 0);
    pcv_linear(k, rows, v, d, sc.xn, d, l->val.w, l->val.b, s->v + (size_t)row0 * v, v, 0, 0);
}

void pcv_self_update(const struct pcv_self *s, const struct pcv_kernels *k, int row0, int rows,
                     float *scratch)
{
    const struct pcv_layer *l = s->layer;
    const int d = l->d.q_dim, qk = l->d.qk, v = l->d.v;
    const int dk = qk / l->d.heads, dv = v / l->d.heads;
    const int step = attend_rows(s->latents, rows);
    struct pcv_bump bump = {.base = scratch};
    const struct scratch sc = carve(&bump, l, s->latents, rows);
    const struct pcv_attend a = {
        .heads = l->d.heads,
        .dk = dk,
        .dv = dv,
        .nkv = s->latents,
        .keys = s->k,
        .values = s->v,
        .ldk = qk,
        .ldv = v,
        .key_step = dk,
        .value_step = dv,
        .scale = 1.0f / sqrtf((float)dk),
    };
    float *x = s->x + (size_t)row0 * d;

    for (int i = 0; i < rows; i += step)
        pcv_attend_rows(&a, k, rows - i < step ? rows - i : step, s->q + (size_t)(row0 + i) * qk,
                        qk, sc.ctx + (size_t)i * v, v, sc.scores);
    pcv_layer_tail(l, k, rows, sc.ctx, x, x, 0, sc.tail);
}
