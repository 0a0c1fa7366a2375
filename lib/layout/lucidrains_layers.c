/* lucidrains_layers.c - the layers of lucidrains/perceiver-pytorch: names of tensors, who shares
 * with whom.
 *
 * A layer is x = attention(LN x, LN context) + x; x = ff(LN x) + x, the MLP a GEGLU four times as
 * wide. Two generations of the package name the same layers differently: lists ("layers.0.2.0.1")
 * until 0.8, blocks ("layers.0.self_attns.0.1") later. What a file has is told by one of its names.
 *
 * Easy to get wrong:
 * - to_kv holds keys first, then values; net.0 holds values first, then gates.
 * - Tied layers are layers 1 and up of Perceiver, all of PerceiverIO. A state_dict repeats them
 * under every name; files that store shared tensors once keep one of the names. */
#include "lib/layout/lucidrains_internal.h"

#include <stdio.h>
#include <string.h>

enum { NAME = 160, MULT = 4 };

int pcv_luc_affine(struct luc_binder *b, struct pcv_affine *a, int out, int in, const char *name)
{
    int r = pcv_weights_bind(b->w, &a->w, LUC_SHAPE(out, in), b->e, "%s%s.weight", b->prefix, name);

    return r < 0
               ? r
               : pcv_weights_bind(b->w, &a->b, LUC_SHAPE(out), b->e, "%s%s.bias", b->prefix, name);
}

int pcv_luc_norm(struct luc_binder *b, struct pcv_norm *n, int dim, const char *name)
{
    int r = pcv_weights_bind(b->w, &n->gamma, LUC_SHAPE(dim), b->e, "%s%s.weight", b->prefix, name);

    return r < 0 ? r
                 : pcv_weights_bind(b->w, &n->beta, LUC_SHAPE(dim), b->e, "%s%s.bias", b->prefix,
                                    name);
}

static int attention(struct luc_binder *b, struct pcv_layer *l, const char *name)
{
    const struct pcv_layer_dims *d = &l->d;
    const float *kv = NULL;
    char full[NAME];
    int r;

    snprintf(full, sizeof(full), "%s.norm", name);
    r = pcv_luc_norm(b, &l->norm_q, d->q_dim, full);
    snprintf(full, sizeof(full), "%s.norm_context", name);
    if (r == 0 && d->cross)
        r = pcv_luc_norm(b, &l->norm_kv, d->kv_dim, full);
    if (r == 0)
        r = pcv_weights_bind(b->w, &l->q.w, LUC_SHAPE(d->qk, d->q_dim), b->e, "%s%s.fn.to_q.weight",
                             b->prefix, name);
    if (r == 0)
        r = pcv_weights_bind(b->w, &kv, LUC_SHAPE(d->qk + d->v, d->kv_dim), b->e,
                             "%s%s.fn.to_kv.weight", b->prefix, name);
    if (r < 0)
        return r;
    l->k.w = kv;
    l->val.w = kv + (size_t)d->qk * (size_t)d->kv_dim;
    snprintf(full, sizeof(full), "%s.fn.to_out", name);
    return pcv_luc_affine(b, &l->out, d->q_dim, d->v, full);
}

static int feed_forward(struct luc_binder *b, struct pcv_layer *l, const char *name)
{
    const struct pcv_layer_dims *d = &l->d;
    char full[NAME];
    int r;

    snprintf(full, sizeof(full), "%s.norm", name);
    r = pcv_luc_norm(b, &l->norm_mlp, d->q_dim, full);
    snprintf(full, sizeof(full), "%s.fn.net.0", name);
    if (r == 0)
        r = pcv_luc_affine(b, &l->mlp1, 2 * d->hidden, d->q_dim, full);
    snprintf(full, sizeof(full), "%s.fn.net.2", name);
    return r < 0 ? r : pcv_luc_affine(b, &l->mlp2, d->q_dim, d->hidden, full);
}

int pcv_luc_layer(struct luc_binder *b, struct pcv_layer *l, const char *attention_name,
                  const char *ff)
{
    int r;

    l->activation = PCV_GELU_ERF;
    l->eps = 1e-5f;
    r = attention(b, l, attention_name);
    return r < 0 || l->d.hidden == 0 ? r : feed_forward(b, l, ff);
}

/* ---- names --------------------------------------------------------------------------------------
 */

struct names {
    const char *cross, *cross_ff; /* of Perceiver: %d the layer; of PerceiverIO as they are */
    const char *self, *self_ff;   /* %d the layer, %d the self-attention in it (Perceiver) */
};

static const struct names perceiver_names[] = {
    {"layers.%d.0", "layers.%d.1", "layers.%d.2.%d.0", "layers.%d.2.%d.1"},
    {"layers.%d.cross_attn", "layers.%d.cross_ff", "layers.%d.self_attns.%d.0",
     "layers.%d.self_attns.%d.1"},
};
static const struct names io_names[] = {
    {"cross_attend_blocks.0", "cross_attend_blocks.1", "layers.%d.0", "layers.%d.1"},
    {"cross_attend_block.cross_attn", "cross_attend_block.cross_ff", "layers.%d.self_attns.0.0",
     "layers.%d.self_attns.0.1"},
};

/* A name with its numbers: of layer i, and of self-attention j. */
__attribute__((format(printf, 2, 0))) static const char *numbered(char to[NAME], const char *format,
                                                                  int i, int j)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(to, NAME, format, i, j);
#pragma GCC diagnostic pop
    return to;
}

/* Whether the file has the later generation's cross-attention. */
static const struct names *names_of(const struct luc_binder *b, const struct names *both)
{
    char name[NAME], full[NAME + 32];

    snprintf(full, sizeof(full), "%s%s.norm.weight", b->prefix,
             numbered(name, both[1].cross, 0, 0));
    return &both[pcv_weights_find(b->w, full) ? 1 : 0];
}

/* ---- tied layers --------------------------------------------------------------------------------
 */

static const char *const parts[] = {
    "norm.weight",     "norm.bias",       "norm_context.weight", "norm_context.bias",
    "fn.to_q.weight",  "fn.to_kv.weight", "fn.to_out.weight",    "fn.to_out.bias",
    "fn.net.0.weight", "fn.net.0.bias",   "fn.net.2.weight",     "fn.net.2.bias",
};

static bool equal(const struct pcv_tensor *a, const struct pcv_tensor *b)
{
    return a->dtype == b->dtype && a->nbytes == b->nbytes && a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof(*a->shape)) == 0 &&
           memcmp(a->data, b->data, a->nbytes) == 0;
}

/* Tensors of `copy` that the file has must be those of `name`, which are bound. */
static int repeated(struct luc_binder *b, const char *name, const char *copy)
{
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char one[2 * NAME], other[2 * NAME];
        const struct pcv_tensor *x, *y;

        snprintf(one, sizeof(one), "%s%s.%s", b->prefix, name, parts[i]);
        snprintf(other, sizeof(other), "%s%s.%s", b->prefix, copy, parts[i]);
        x = pcv_weights_find(b->w, one);
        y = pcv_weights_find(b->w, other);
        if (!y)
            continue;
        if (!x || !equal(x, y)) {
            pcv_fail(b->e, PCV_ESHAPE,
                     "differs from %s, though weight_tie_layers in config.json is "
                     "true",
                     one);
            pcv_err_at(b->e, "%s", other);
            return pcv_err_at(b->e, "%s", b->dir);
        }
        pcv_weights_ignore(b->w, other);
    }
    return 0;
}

/* The first of layers [first, depth) whose tensors the file has; `first` when it has none. */
static int stored(const struct luc_binder *b, const char *format, int first, int j)
{
    for (int i = first; i < b->n.depth; i++) {
        char name[NAME], full[2 * NAME];

        snprintf(full, sizeof(full), "%s%s.norm.weight", b->prefix, numbered(name, format, i, j));
        if (pcv_weights_find(b->w, full))
            return i;
    }
    return first;
}

/* Layer i, self-attention j of it: its own, or that of the tied layers from `first` on. */
static int numbered_layer(struct luc_binder *b, struct pcv_layer *l, const char *attention_format,
                          const char *ff_format, int i, int j, int first)
{
    const bool tied = b->n.tied && i >= first;
    char names[4][NAME];
    int from, r;

    numbered(names[0], attention_format, tied ? stored(b, attention_format, first, j) : i, j);
    numbered(names[1], ff_format, tied ? stored(b, ff_format, first, j) : i, j);
    r = pcv_luc_layer(b, l, names[0], names[1]);
    for (from = first; tied && r == 0 && from < b->n.depth; from++) {
        numbered(names[2], attention_format, from, j);
        numbered(names[3], ff_format, from, j);
        if (strcmp(names[2], names[0]) != 0)
            r = repeated(b, names[0], names[2]);
        if (r == 0 && strcmp(names[3], names[1]) != 0)
            r = repeated(b, names[1], names[3]);
    }
    return r;
}

/* ---- the stack ----------------------------------------------------------------------------------
 */

static struct pcv_layer_dims dims(int q_dim, int kv_dim, int heads, int dim_head, bool cross)
{
    return (struct pcv_layer_dims){
        .heads = heads,
        .q_dim = q_dim,
        .kv_dim = kv_dim,
        .qk = heads * dim_head,
        .v = heads * dim_head,
        .hidden = MULT * q_dim,
        .residual = true,
        .cross = cross,
        .gated = true,
    };
}

static int bind_latents(struct luc_binder *b)
{
    b->bp->num_latents = b->n.num_latents;
    b->bp->d_latents = b->n.latent_dim;
    return pcv_weights_bind(b->w, &b->bp->latents, LUC_SHAPE(b->n.num_latents, b->n.latent_dim),
                            b->e, "%slatents", b->prefix);
}

static struct pcv_layer *new_cross(struct luc_binder *b)
{
    struct pcv_layer *l = &b->bp->cross[b->bp->ncross++];

    l->d = dims(b->n.latent_dim, b->bp->input[0].channels, b->n.cross_heads, b->n.cross_dim_head,
                true);
    return l;
}

static struct pcv_layer *new_self(struct luc_binder *b)
{
    struct pcv_layer *l = &b->bp->self[b->bp->nself++];

    l->d = dims(b->n.latent_dim, b->n.latent_dim, b->n.latent_heads, b->n.latent_dim_head, false);
    return l;
}

static void add_step(struct pcv_blueprint *bp, int kind, int layer)
{
    bp->step[bp->nsteps++] = (struct pcv_step){kind, layer};
}

/* What the blueprint has room for. */
static int check_counts(struct luc_binder *b, int crosses, int64_t selfs, int64_t steps)
{
    if (crosses <= PCV_MAX_CROSS && selfs <= PCV_MAX_SELF && steps <= PCV_MAX_STEPS)
        return 0;
    pcv_fail(b->e, PCV_ELIMIT,
             "%d, with self_per_cross_attn %d, makes more than %d cross-attentions, %d "
             "self-attentions or %d steps",
             b->n.depth, b->n.self_per_cross, PCV_MAX_CROSS, PCV_MAX_SELF, PCV_MAX_STEPS);
    return pcv_config_at(b->c, "depth", b->e);
}

int pcv_luc_perceiver(struct luc_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const struct names *names = names_of(b, perceiver_names);
    const int depth = b->n.depth, each = b->n.self_per_cross;
    const int own = b->n.tied && depth > 2 ? 2 : depth; /* layers with weights of their own */
    int r = check_counts(b, depth, (int64_t)own * each, (int64_t)depth * (1 + each));

    if (r == 0)
        r = bind_latents(b);
    for (int i = 0; i < own && r == 0; i++) {
        r = numbered_layer(b, new_cross(b), names->cross, names->cross_ff, i, 0, 1);
        for (int j = 0; j < each && r == 0; j++)
            r = numbered_layer(b, new_self(b), names->self, names->self_ff, i, j, 1);
    }
    for (int i = 0; i < depth && r == 0; i++) {
        const int layer = i < own ? i : own - 1;

        add_step(bp, PCV_STEP_CROSS, layer);
        for (int j = 0; j < each; j++)
            add_step(bp, PCV_STEP_SELF, layer * each + j);
    }
    return r;
}

int pcv_luc_perceiver_io(struct luc_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const struct names *names = names_of(b, io_names);
    const int depth = b->n.depth, own = b->n.tied && depth > 0 ? 1 : depth;
    int r = check_counts(b, 1, own, (int64_t)depth + 1);

    if (r == 0)
        r = bind_latents(b);
    if (r == 0)
        r = pcv_luc_layer(b, new_cross(b), names->cross, names->cross_ff);
    for (int i = 0; i < own && r == 0; i++)
        r = numbered_layer(b, new_self(b), names->self, names->self_ff, i, 0, 0);
    add_step(bp, PCV_STEP_CROSS, 0);
    for (int i = 0; i < depth && r == 0; i++)
        add_step(bp, PCV_STEP_SELF, i < own ? i : own - 1);
    return r;
}
