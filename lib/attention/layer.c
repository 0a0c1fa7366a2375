#include "lib/attention/layer.h"

#include "lib/attention/shared.h"
#include "lib/base/bump.h"
#include "lib/kernel/linear.h"

#include <math.h>
#include <string.h>

static int mlp_width(const struct pcv_layer_dims *d)
{
    return d->gated ? 2 * d->hidden : d->hidden;
}

/* ---- in panels --------------------------------------------------------------------------------
 */

struct panels_scratch {
    float *xn, *h;
};

static struct panels_scratch carve_panels(struct pcv_bump *b, const struct pcv_layer_dims *d,
                                          int rows)
{
    const size_t lanes = pcv_panel_need(rows, rows);

    return (struct panels_scratch){
        .xn = pcv_take(b, lanes * (size_t)d->q_dim),
        .h = pcv_take(b, lanes * (size_t)mlp_width(d)),
    };
}

size_t pcv_layer_tail_panels_need(const struct pcv_layer_dims *d, int rows)
{
    struct pcv_bump count = {0};

    carve_panels(&count, d, rows);
    return count.used;
}

/* The MLP's activation; gated: the second half of the channels gates the first. */
static void activate_panels(const struct pcv_layer *l, const struct pcv_panel_kernels *k, int rows,
                            float *h)
{
    float *active = l->d.gated ? h + (size_t)l->d.hidden * (size_t)k->lanes : h;

    if (l->activation == PCV_GELU_ERF)
        k->gelu_erf(active, rows, l->d.hidden);
    else
        k->gelu_tanh(active, rows, l->d.hidden);
    if (l->d.gated)
        k->multiply(h, active, rows, l->d.hidden);
}

void pcv_layer_mlp_panels(const struct pcv_layer *l, const struct pcv_panel_kernels *k,
                          const struct pcv_worker *w, int rows, float *x, float *scratch)
{
    const size_t lanes = (size_t)k->lanes;
    const int n = l->d.q_dim, wide = mlp_width(&l->d);
    struct pcv_bump bump = {.base = scratch};
    const struct panels_scratch sc = carve_panels(&bump, &l->d, rows);
    struct pcv_product p = {
        .rows = rows,
        .n = wide,
        .k = n,
        .a = sc.xn,
        .a_step = (size_t)n * lanes,
        .w = l->mlp1.w,
        .ldw = (size_t)n,
        .bias = l->mlp1.b,
        .c = sc.h,
        .c_step = (size_t)wide * lanes,
    };

    if (l->d.hidden == 0)
        return;
    for (int i = 0, row = 0, part; row < rows; i++, row += part) {
        part = pcv_panel_rows(rows - row, k->lanes);
        k->norm(sc.xn + i * p.a_step, x + i * p.a_step, l->norm_mlp.gamma, l->norm_mlp.beta, part,
                n, l->eps);
    }
    pcv_shared_product(w, k, &p);
    for (int i = 0, row = 0, part; row < rows; i++, row += part) {
        part = pcv_panel_rows(rows - row, k->lanes);
        activate_panels(l, k, part, sc.h + i * p.c_step);
    }
    p = (struct pcv_product){
        .rows = rows,
        .n = n,
        .k = l->d.hidden,
        .a = sc.h,
        .a_step = (size_t)wide * lanes,
        .w = l->mlp2.w,
        .ldw = (size_t)l->d.hidden,
        .bias = l->mlp2.b,
        .c = x,
        .c_step = (size_t)n * lanes,
        .add = true,
    };
    pcv_shared_product(w, k, &p);
}

void pcv_layer_tail_panels(const struct pcv_layer *l, const struct pcv_panel_kernels *k,
                           const struct pcv_worker *w, int rows, const float *ctx, float *x,
                           float *scratch)
{
    const struct pcv_product p = {
        .rows = rows,
        .n = l->d.q_dim,
        .k = l->d.v,
        .a = ctx,
        .a_step = (size_t)l->d.v * (size_t)k->lanes,
        .w = l->out.w,
        .ldw = (size_t)l->d.v,
        .bias = l->out.b,
        .c = x,
        .c_step = (size_t)l->d.q_dim * (size_t)k->lanes,
        .add = l->d.residual,
    };

    pcv_shared_product(w, k, &p);
    pcv_layer_mlp_panels(l, k, w, rows, x, scratch);
}

/* ---- row-major --------------------------------------------------------------------------------
 */

void pcv_rows_to_panels(const struct pcv_panel_kernels *k, float *panels, const float *x,
                        size_t ldx, int rows, int n)
{
    for (int row = 0, part; row < rows; row += part) {
        part = pcv_panel_rows(rows - row, k->lanes);
        k->pack(panels, x + (size_t)row * ldx, ldx, part, n);
        panels += (size_t)n * (size_t)k->lanes;
    }
}

void pcv_panels_to_rows(const struct pcv_panel_kernels *k, float *x, const float *panels, int rows,
                        int n)
{
    for (int row = 0, part; row < rows; row += part) {
        part = pcv_panel_rows(rows - row, k->lanes);
        k->unpack(x + (size_t)row * n, (size_t)n, panels, part, n, false);
        panels += (size_t)n * (size_t)k->lanes;
    }
}

struct rows_scratch {
    float *ctx, *x, *tail;
};

static struct rows_scratch carve_rows(struct pcv_bump *b, const struct pcv_layer_dims *d, int rows)
{
    const size_t lanes = pcv_panel_need(rows, rows);

    return (struct rows_scratch){
        .ctx = pcv_take(b, lanes * (size_t)d->v),
        .x = pcv_take(b, lanes * (size_t)d->q_dim),
        .tail = pcv_take(b, pcv_layer_tail_panels_need(d, rows)),
    };
}

size_t pcv_layer_tail_need(const struct pcv_layer_dims *d, int rows)
{
    struct pcv_bump count = {0};

    carve_rows(&count, d, rows);
    return count.used;
}

void pcv_layer_tail(const struct pcv_layer *l, const struct pcv_kernels *k,
                    const struct pcv_worker *w, int rows, const float *ctx, const float *x,
                    float *out, float *scratch)
{
    struct pcv_bump bump = {.base = scratch};
    const struct rows_scratch sc = carve_rows(&bump, &l->d, rows);

    pcv_rows_to_panels(k->panel, sc.ctx, ctx, (size_t)l->d.v, rows, l->d.v);
    if (l->d.residual)
        pcv_rows_to_panels(k->panel, sc.x, x, (size_t)l->d.q_dim, rows, l->d.q_dim);
    pcv_layer_tail_panels(l, k->panel, w, rows, sc.ctx, sc.x, sc.tail);
    pcv_panels_to_rows(k->panel, out, sc.x, rows, l->d.q_dim);
}

/* ---- attention --------------------------------------------------------------------------------
 */

struct attend_job {
    const struct pcv_attend_panels *a;
    const struct pcv_panel_kernels *k;
    int rows;
    const float *q;
    float *ctx;
};

static void one_head(int head, int thread, const void *arg)
{
    const struct attend_job *j = arg;
    const struct pcv_attend_panels *a = j->a;
    const size_t lanes = (size_t)j->k->lanes;
    const size_t dk = (size_t)head * (size_t)a->dk * lanes,
                 dv = (size_t)head * (size_t)a->dv * lanes;
    struct pcv_attention_head h = {
        .rows = j->rows,
        .dk = a->dk,
        .dv = a->dv,
        .q = j->q + dk,
        .q_step = (size_t)(a->heads * a->dk) * lanes,
        .keys = a->keys,
        .values = a->values,
        .scale = 1.0f / sqrtf((float)a->dk),
        .c = j->ctx + dv,
        .c_step = (size_t)(a->heads * a->dv) * lanes,
        .scratch = a->scratch + (size_t)thread * a->scratch_step,
    };

    h.keys.at += dk;
    h.values.at += dv;
    j->k->attend(&h);
}

void pcv_attend_panels(const struct pcv_attend_panels *a, const struct pcv_panel_kernels *k,
                       const struct pcv_worker *w, int rows, const float *q, float *ctx)
{
    const struct attend_job j = {a, k, rows, q, ctx};
    const size_t unit = (size_t)rows * (size_t)a->keys.rows * (size_t)(a->dk + a->dv);

    if (w && pcv_worth_sharing(unit)) {
        pcv_share(w, a->heads, one_head, &j);
        return;
    }
    for (int i = 0; i < a->heads; i++)
        one_head(i, w ? w->thread : 0, &j);
}

void pcv_attend_rows(const struct pcv_attend *a, const struct pcv_kernels *k, int rows,
                     const float *q, int ldq, float *ctx, int ldctx, float *scores)
{
    for (int h = 0; h < a->heads; h++) {
        pcv_rows_nt(k, rows, a->nkv, a->dk, q + (size_t)h * a->dk, ldq,
                    a->keys + (size_t)h * a->key_step, a->ldk, scores, a->nkv, 0);
        k->softmax(scores, a->nkv, rows, a->nkv, a->scale);
        pcv_rows_nn(k, rows, a->dv, a->nkv, scores, a->nkv, a->values + (size_t)h * a->value_step,
                    a->ldv, ctx + (size_t)h * a->dv, ldctx, 0);
    }
}
