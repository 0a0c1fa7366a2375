/* krasserm_layers.c - the layers and the encoder of krasserm/perceiver-io: names of tensors, who
 * shares with whom. */
#include "lib/layout/krasserm_internal.h"

#include <stdio.h>

float *pcv_kr_own(struct kr_binder *b, size_t count)
{
    return pcv_blueprint_own(b->bp, count, b->e);
}

int pcv_kr_affine(struct kr_binder *b, struct pcv_affine *a, int out, int in, const char *name)
{
    int r = pcv_weights_bind(b->w, &a->w, KR_SHAPE(out, in), b->e, "%s.weight", name);

    return r < 0 ? r : pcv_weights_bind(b->w, &a->b, KR_SHAPE(out), b->e, "%s.bias", name);
}

static int norm(struct kr_binder *b, struct pcv_norm *n, int dim, const char *name)
{
    int r = pcv_weights_bind(b->w, &n->gamma, KR_SHAPE(dim), b->e, "%s.weight", name);

    return r < 0 ? r : pcv_weights_bind(b->w, &n->beta, KR_SHAPE(dim), b->e, "%s.bias", name);
}

/* ---- layers
 * ----------------------------------------------------------------------------------------- */

/* Attention under NAME.0, MLP under NAME.1. */
static int layer(struct kr_binder *b, struct pcv_layer *l, const char *name)
{
    const struct pcv_layer_dims *d = &l->d;
    const char *module = d->residual ? ".module" : "";
    const struct {
        const char *part, *module;
        struct pcv_affine *affine;
        struct pcv_norm *norm;
        int out, in;
    } parts[] = {
        {".0", d->cross ? ".q_norm" : ".norm", NULL, &l->norm_q, d->q_dim, 0},
        {".0", ".kv_norm", NULL, d->cross ? &l->norm_kv : NULL, d->kv_dim, 0},
        {".0", ".attention.q_proj", &l->q, NULL, d->qk, d->q_dim},
        {".0", ".attention.k_proj", &l->k, NULL, d->qk, d->kv_dim},
        {".0", ".attention.v_proj", &l->val, NULL, d->v, d->kv_dim},
        {".0", ".attention.o_proj", &l->out, NULL, d->q_dim, d->v},
        {".1.module", ".0", NULL, &l->norm_mlp, d->q_dim, 0},
        {".1.module", ".1", &l->mlp1, NULL, d->hidden, d->q_dim},
        {".1.module", ".3", &l->mlp2, NULL, d->q_dim, d->hidden},
    };
    int r = 0;

    l->activation = PCV_GELU_ERF;
    l->eps = 1e-5f;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && r == 0; i++) {
        char full[192];

        snprintf(full, sizeof(full), "%s%s%s%s", name, parts[i].part,
                 parts[i].part[1] == '0' ? module : "", parts[i].module);
        if (parts[i].affine)
            r = pcv_kr_affine(b, parts[i].affine, parts[i].out, parts[i].in, full);
        else if (parts[i].norm)
            r = norm(b, parts[i].norm, parts[i].out, full);
    }
    return r;
}

int pcv_kr_cross_layer(struct kr_binder *b, struct pcv_layer *l, const char *name)
{
    return layer(b, l, name);
}

/* "num_cross_attention_*" and "cross_attention_widening_factor", or "self". */
static int attention_dims(struct kr_binder *b, struct pcv_layer_dims *d, const struct pcv_config *c,
                          const char *kind, int qk)
{
    char key[64];
    int r;

    snprintf(key, sizeof(key), "num_%s_attention_heads", kind);
    r = pcv_config_int_or(c, key, 1, 1024, 8, &d->heads, b->e);
    snprintf(key, sizeof(key), "num_%s_attention_qk_channels", kind);
    if (r == 0)
        r = pcv_config_int_or(c, key, 1, KR_MAX_CHANNELS, qk, &d->qk, b->e);
    snprintf(key, sizeof(key), "num_%s_attention_v_channels", kind);
    if (r == 0)
        r = pcv_config_int_or(c, key, 1, KR_MAX_CHANNELS, d->qk, &d->v, b->e);
    snprintf(key, sizeof(key), "%s_attention_widening_factor", kind);
    if (r == 0)
        r = pcv_config_int_or(c, key, 1, 64, 1, &d->hidden, b->e);
    if (r < 0)
        return r;
    d->hidden *= d->q_dim;
    if (d->qk % d->heads || d->v % d->heads) {
        pcv_fail(b->e, PCV_ESHAPE, "%d heads do not divide %d query and %d value channels",
                 d->heads, d->qk, d->v);
        snprintf(key, sizeof(key), "num_%s_attention_heads", kind);
        return pcv_config_at(c, key, b->e);
    }
    return 0;
}

int pcv_kr_cross_dims(struct kr_binder *b, struct pcv_layer_dims *d, const struct pcv_config *c,
                      int q_dim, int kv_dim, int qk)
{
    *d = (struct pcv_layer_dims){.q_dim = q_dim, .kv_dim = kv_dim, .residual = true, .cross = true};
    return attention_dims(b, d, c, "cross", qk);
}

/* ---- encoder
 * ---------------------------------------------------------------------------------------- */

struct stack {
    int crosses, blocks, layers;
    bool cross_shared, block_shared; /* the first with the later ones */
};

static int read_stack(struct kr_binder *b, struct stack *s)
{
    const struct pcv_config *c = b->encoder;
    int r =
        pcv_config_int_or(c, "num_cross_attention_layers", 1, PCV_MAX_CROSS, 1, &s->crosses, b->e);

    if (r == 0)
        r = pcv_config_bool_or(c, "first_cross_attention_layer_shared", false, &s->cross_shared,
                               b->e);
    if (r == 0)
        r = pcv_config_int_or(c, "num_self_attention_layers_per_block", 1, PCV_MAX_SELF / 2, 8,
                              &s->layers, b->e);
    if (r == 0)
        r = pcv_config_int_or(c, "num_self_attention_blocks", 1, PCV_MAX_STEPS, 1, &s->blocks,
                              b->e);
    if (r == 0)
        r = pcv_config_bool_or(c, "first_self_attention_block_shared", true, &s->block_shared,
                               b->e);
    if (r < 0)
        return r;
    if (s->crosses > s->blocks) {
        pcv_fail(b->e, PCV_ERANGE, "%d, but num_self_attention_blocks is %d", s->crosses,
                 s->blocks);
        return pcv_config_at(c, "num_cross_attention_layers", b->e);
    }
    if (s->blocks * s->layers + s->crosses > PCV_MAX_STEPS) {
        pcv_fail(b->e, PCV_ELIMIT, "%d blocks of %d layers are more than %d steps", s->blocks,
                 s->layers, PCV_MAX_STEPS);
        return pcv_config_at(c, "num_self_attention_blocks", b->e);
    }
    return 0;
}

static int bind_cross(struct kr_binder *b, const char *which, int qk)
{
    struct pcv_blueprint *bp = b->bp;
    struct pcv_layer *l = &bp->cross[bp->ncross++];
    char name[64];
    int r = pcv_kr_cross_dims(b, &l->d, b->encoder, bp->d_latents, bp->input[0].channels, qk);

    snprintf(name, sizeof(name), "backend_model.0.cross_attn_%s", which);
    return r < 0 ? r : layer(b, l, name);
}

static int bind_block(struct kr_binder *b, const char *which, int layers)
{
    struct pcv_blueprint *bp = b->bp;
    const int d = bp->d_latents;
    char name[64];
    int r = 0;

    for (int i = 0; i < layers && r == 0; i++) {
        struct pcv_layer *l = &bp->self[bp->nself++];

        l->d = (struct pcv_layer_dims){.q_dim = d, .kv_dim = d, .residual = true};
        r = attention_dims(b, &l->d, b->encoder, "self", d);
        snprintf(name, sizeof(name), "backend_model.0.self_attn_%s.%d", which, i);
        if (r == 0)
            r = layer(b, l, name);
    }
    return r;
}

int pcv_kr_encoder(struct kr_binder *b, int qk)
{
    struct pcv_blueprint *bp = b->bp;
    struct stack s;
    bool extra_cross, extra_block;
    int r = read_stack(b, &s);

    if (r == 0)
        r = pcv_weights_bind(b->w, &bp->latents, KR_SHAPE(bp->num_latents, bp->d_latents), b->e,
                             "backend_model.0.latent_provider._query");
    if (r < 0)
        return r;
    extra_cross = s.crosses > 1 && !s.cross_shared;
    extra_block = s.blocks > 1 && !s.block_shared;
    r = bind_cross(b, "1", qk);
    if (r == 0 && extra_cross)
        r = bind_cross(b, "n", qk);
    if (r == 0)
        r = bind_block(b, "1", s.layers);
    if (r == 0 && extra_block)
        r = bind_block(b, "n", s.layers);
    for (int i = 0; i < s.blocks && r == 0; i++) {
        const int first = i > 0 && extra_block ? s.layers : 0;

        if (i < s.crosses)
            bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_CROSS, i > 0 && extra_cross};
        for (int j = 0; j < s.layers; j++)
            bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_SELF, first + j};
    }
    return r;
}
