/* hf.c - Hugging Face transformers' Perceiver classes: keys of config.json, names of tensors.
 *
 * Easy to get wrong:
 * - layer_norm_eps of the configuration is never used; nn.LayerNorm's 1e-5 is.
 * - Blocks share weights: num_blocks passes over the same layers.
 * - Fourier bands, resolutions and many widths are in the classes, not in the file: see hf_inputs.c
 *   and hf_tasks.c. */
#include "lib/layout/deepmind.h"
#include "lib/layout/hf_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pcv_hf_bind(struct hf_binder *b, const float **ret, const int64_t *shape, int ndim,
                const char *name_format, ...)
{
    char name[256];
    va_list ap;

    va_start(ap, name_format);
    vsnprintf(name, sizeof(name), name_format, ap);
    va_end(ap);
    if (b->deepmind)
        return pcv_deepmind_bind(b->w, ret, shape, ndim, b->bp->architecture, name, b->e);
    return pcv_weights_bind(b->w, ret, shape, ndim, b->e, "%s", name);
}

float *pcv_hf_own(struct hf_binder *b, size_t count)
{
    return pcv_blueprint_own(b->bp, count, b->e);
}

int pcv_hf_affine(struct hf_binder *b, struct pcv_affine *a, int out, int in, const char *name)
{
    int r = pcv_hf_bind(b, &a->w, HF_SHAPE(out, in), "%s%s.weight", b->prefix, name);

    return r < 0 ? r : pcv_hf_bind(b, &a->b, HF_SHAPE(out), "%s%s.bias", b->prefix, name);
}

int pcv_hf_norm(struct hf_binder *b, struct pcv_norm *n, int dim, const char *name)
{
    int r = pcv_hf_bind(b, &n->gamma, HF_SHAPE(dim), "%s%s.weight", b->prefix, name);

    return r < 0 ? r : pcv_hf_bind(b, &n->beta, HF_SHAPE(dim), "%s%s.bias", b->prefix, name);
}

/* One linear map or norm of a layer: "layer.part". */
static int part(struct hf_binder *b, const char *layer, const char *name, struct pcv_affine *a,
                struct pcv_norm *n, int out, int in)
{
    char full[256];

    snprintf(full, sizeof(full), "%s.%s", layer, name);
    return a ? pcv_hf_affine(b, a, out, in, full) : pcv_hf_norm(b, n, out, full);
}

int pcv_hf_layer(struct hf_binder *b, struct pcv_layer *l, const char *name)
{
    const struct pcv_layer_dims *d = &l->d;
    const struct {
        const char *name;
        struct pcv_affine *affine;
        struct pcv_norm *norm;
        int out, in;
    } parts[] = {
        {"attention.self.layernorm1", NULL, &l->norm_q, d->q_dim, 0},
        {"attention.self.query", &l->q, NULL, d->qk, d->q_dim},
        {"attention.self.key", &l->k, NULL, d->qk, d->kv_dim},
        {"attention.self.value", &l->val, NULL, d->v, d->kv_dim},
        {"attention.output.dense", &l->out, NULL, d->q_dim, d->v},
        {"layernorm", NULL, &l->norm_mlp, d->q_dim, 0},
        {"mlp.dense1", &l->mlp1, NULL, d->hidden, d->q_dim},
        {"mlp.dense2", &l->mlp2, NULL, d->q_dim, d->hidden},
    };
    int r = 0;

    if (d->qk % d->heads || d->v % d->heads) {
        pcv_fail(b->e, PCV_ESHAPE, "%d heads do not divide %d query and %d value channels",
                 d->heads, d->qk, d->v);
        return pcv_err_at(b->e, "%s", name);
    }
    l->activation = b->n->activation;
    l->eps = 1e-5f;
    if (d->cross)
        r = part(b, name, "attention.self.layernorm2", NULL, &l->norm_kv, d->kv_dim, 0);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && r == 0; i++)
        r = part(b, name, parts[i].name, parts[i].affine, parts[i].norm, parts[i].out, parts[i].in);
    return r;
}

/* ---- config.json
 * --------------------------------------------------------------------------------- */

static int read_activation(const struct pcv_config *c, enum pcv_activation *ret, struct pcv_err *e)
{
    const char *name;
    int r = pcv_config_text_or(c, "hidden_act", "gelu", &name, e);

    if (r < 0)
        return r;
    if (strcmp(name, "gelu") == 0)
        *ret = PCV_GELU_ERF;
    else if (strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0 ||
             strcmp(name, "gelu_fast") == 0)
        *ret = PCV_GELU_TANH;
    else {
        pcv_fail(e, PCV_EUNSUPPORTED, "\"%.40s\"; gelu and gelu_new are served", name);
        pcv_err_at(e, "config.json: hidden_act");
        return PCV_EUNSUPPORTED;
    }
    return 0;
}

static int read_shape_for_attention(const struct pcv_config *c, bool *kv, struct pcv_err *e)
{
    const char *name;
    int r = pcv_config_text_or(c, "cross_attention_shape_for_attention", "kv", &name, e);

    if (r < 0)
        return r;
    if (strcmp(name, "kv") != 0 && strcmp(name, "q") != 0) {
        pcv_fail(e, PCV_EUNSUPPORTED, "\"%.40s\" is neither \"q\" nor \"kv\"", name);
        pcv_err_at(e, "config.json: cross_attention_shape_for_attention");
        return PCV_EUNSUPPORTED;
    }
    *kv = strcmp(name, "kv") == 0;
    return 0;
}

static int read_sizes(struct hf_numbers *n, const struct pcv_config *c, struct pcv_err *e)
{
    int shape[4] = {1, 16, 224, 224};
    int r;

    n->train_size[0] = 368;
    n->train_size[1] = 496;
    r = pcv_config_ints_or(c, "train_size", 2, 1, PCV_MAX_AXIS, n->train_size, e);
    if (r == 0)
        r = pcv_config_ints_or(c, "output_shape", 4, 1, PCV_MAX_AXIS, shape, e);
    memcpy(n->output_shape, shape + 1, sizeof(n->output_shape));
    return r;
}

/* Absent keys take PerceiverConfig's defaults, as the upstream does. */
static int read_numbers(struct hf_numbers *n, struct pcv_blueprint *bp, const struct pcv_config *c,
                        struct pcv_err *e)
{
    const struct {
        const char *key;
        int hi, absent, *to;
    } ints[] = {
        {"num_latents", HF_MAX_ROWS, 256, &bp->num_latents},
        {"d_latents", HF_MAX_CHANNELS, 1280, &bp->d_latents},
        {"d_model", HF_MAX_CHANNELS, 768, &n->d_model},
        {"num_blocks", 1024, 1, &n->blocks},
        {"num_self_attends_per_block", PCV_MAX_SELF, 26, &n->layers},
        {"num_self_attention_heads", 1024, 8, &n->self_heads},
        {"num_cross_attention_heads", 1024, 8, &n->cross_heads},
        {"qk_channels", HF_MAX_CHANNELS, 0, &n->qk},
        {"v_channels", HF_MAX_CHANNELS, 0, &n->v},
        {"self_attention_widening_factor", 64, 1, &n->self_widening},
        {"cross_attention_widening_factor", 64, 1, &n->cross_widening},
        {"vocab_size", HF_MAX_ROWS, 262, &n->vocab},
        {"max_position_embeddings", HF_MAX_ROWS, 2048, &n->positions},
        {"image_size", PCV_MAX_AXIS, 56, &n->image_size},
        {"num_frames", PCV_MAX_AXIS, 16, &n->frames},
        {"audio_samples_per_frame", HF_MAX_ROWS, 1920, &n->samples_per_frame},
        {"samples_per_patch", HF_MAX_ROWS, 16, &n->samples_per_patch},
    };
    int r = 0;

    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]) && r == 0; i++)
        r = pcv_config_int_or(c, ints[i].key, 1, ints[i].hi, ints[i].absent, ints[i].to, e);
    if (r == 0)
        r = read_sizes(n, c, e);
    if (r == 0)
        r = pcv_config_bool_or(c, "use_query_residual", true, &n->residual, e);
    if (r == 0)
        r = read_activation(c, &n->activation, e);
    if (r == 0)
        r = read_shape_for_attention(c, &n->shape_kv, e);
    if (r == 0 && n->blocks > (PCV_MAX_STEPS - 1) / n->layers) {
        pcv_fail(e, PCV_ELIMIT, "%d blocks of %d layers are more than %d", n->blocks, n->layers,
                 PCV_MAX_STEPS - 1);
        pcv_err_at(e, "config.json: num_blocks");
        r = PCV_ELIMIT;
    }
    return r;
}

/* ---- encoder and process stack ----------------------------------------------------------------
 */

static struct pcv_layer_dims cross_dims(const struct hf_numbers *n, int latents, int channels)
{
    const int qk = n->qk ? n->qk : n->shape_kv ? channels : latents;

    return (struct pcv_layer_dims){
        .heads = n->cross_heads,
        .q_dim = latents,
        .kv_dim = channels,
        .qk = qk,
        .v = n->v ? n->v : qk,
        .hidden = n->cross_widening * latents,
        .residual = n->residual,
        .cross = true,
    };
}

static int bind_encoder(struct hf_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const struct hf_numbers *n = b->n;
    const int d = bp->d_latents;
    const int qk = n->qk ? n->qk : d, v = n->v ? n->v : qk;
    char name[64];
    int r;

    if (v != d) {
        pcv_fail(b->e, PCV_ESHAPE,
                 "%d value channels, d_latents is %d: the residual wants them equal", v, d);
        pcv_err_at(b->e, "config.json: v_channels");
        return PCV_ESHAPE;
    }
    r = pcv_hf_bind(b, &bp->latents, HF_SHAPE(bp->num_latents, d), "%sembeddings.latents",
                    b->prefix);
    bp->ncross = 1;
    bp->cross[0].d = cross_dims(n, d, bp->input[0].channels);
    if (r == 0)
        r = pcv_hf_layer(b, &bp->cross[0], "encoder.cross_attention");
    bp->nself = n->layers;
    for (int i = 0; i < n->layers && r == 0; i++) {
        bp->self[i].d = (struct pcv_layer_dims){
            .heads = n->self_heads,
            .q_dim = d,
            .kv_dim = d,
            .qk = qk,
            .v = v,
            .hidden = n->self_widening * d,
            .residual = true,
        };
        snprintf(name, sizeof(name), "encoder.self_attends.%d", i);
        r = pcv_hf_layer(b, &bp->self[i], name);
    }
    bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_CROSS, 0};
    for (int i = 0; i < n->blocks; i++)
        for (int j = 0; j < n->layers; j++)
            bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_SELF, j};
    return r;
}

/* ---- classes
 * --------------------------------------------------------------------------------------- */

typedef int (*bind_fn)(struct hf_binder *b);

static const struct {
    const char *name;
    bind_fn input, task;
    const char *prefix;
} classes[] = {
    {"PerceiverForMaskedLM", pcv_hf_text, pcv_hf_task_fill_mask, "perceiver."},
    {"PerceiverForSequenceClassification", pcv_hf_text, pcv_hf_task_classify, "perceiver."},
    {"PerceiverForImageClassificationFourier", pcv_hf_image_fourier, pcv_hf_task_classify,
     "perceiver."},
    {"PerceiverForImageClassificationLearned", pcv_hf_image_learned, pcv_hf_task_classify,
     "perceiver."},
    {"PerceiverForImageClassificationConvProcessing", pcv_hf_image_conv, pcv_hf_task_classify,
     "perceiver."},
    {"PerceiverForOpticalFlow", pcv_hf_flow, pcv_hf_task_flow, "perceiver."},
    {"PerceiverForMultimodalAutoencoding", pcv_hf_multimodal, pcv_hf_task_autoencode, "perceiver."},
    {"PerceiverModel", pcv_hf_tokens, pcv_hf_task_latents, ""},
};

bool pcv_layout_is_hf(const struct pcv_config *c)
{
    const char *type;

    return pcv_config_text_or(c, "model_type", "", &type, NULL) == 0 &&
           strcmp(type, "perceiver") == 0;
}

static int unknown_class(const char *name, struct pcv_err *e)
{
    pcv_fail(e, PCV_EUNSUPPORTED,
             "\"%.60s\" is not served; served are PerceiverModel and PerceiverFor MaskedLM, "
             "SequenceClassification, ImageClassification{Fourier,Learned,ConvProcessing}, "
             "OpticalFlow, MultimodalAutoencoding",
             name);
    pcv_err_at(e, "config.json: architectures");
    return PCV_EUNSUPPORTED;
}

int pcv_layout_hf(struct pcv_blueprint *bp, const struct pcv_config *c, const char *dir,
                  struct pcv_weights *w, struct pcv_err *e)
{
    const size_t count = sizeof(classes) / sizeof(classes[0]);
    struct hf_numbers n;
    struct hf_binder b = {.bp = bp, .w = w, .c = c, .n = &n, .dir = dir, .e = e};
    const char *name;
    size_t i = 0;
    int r = pcv_config_first(c, "architectures", &name, e);

    if (r < 0)
        return r;
    while (i < count && strcmp(name, classes[i].name) != 0)
        i++;
    if (i == count)
        return unknown_class(name, e);
    b.deepmind = pcv_weights_kind(w) == PCV_WEIGHTS_HAIKU;
    bp->upstream = b.deepmind ? "deepmind-research/perceiver" : "huggingface/transformers";
    snprintf(bp->architecture, sizeof(bp->architecture), "%s", name);
    b.prefix = classes[i].prefix;
    r = read_numbers(&n, bp, c, e);
    if (b.deepmind) {
        n.activation = PCV_GELU_TANH; /* jax.nn.gelu's default, whatever the configuration says */
        pcv_deepmind_ignore(w);
    }
    if (r == 0)
        r = classes[i].input(&b);
    if (r == 0)
        r = bind_encoder(&b);
    return r < 0 ? r : classes[i].task(&b);
}
