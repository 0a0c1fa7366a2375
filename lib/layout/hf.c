/* hf.c - Hugging Face transformers' Perceiver classes: keys of config.json, names of tensors.
 *
 * Easy to get wrong:
 * - layer_norm_eps of the configuration is never used; nn.LayerNorm's 1e-5 is.
 * - The masked LM's decoder has 8 heads, qk = 8 x 32 and v = d_model whatever the configuration
 * says, no query residual and no final layer: its head is the byte embedding, transposed, plus a
 * bias.
 * - Fourier images: 64 bands and a maximum resolution of 224 x 224 are in the class, not the file.
 * - Blocks share weights: num_blocks passes over the same layers. */
#include "lib/base/mem.h"
#include "lib/kernel/gemm.h"
#include "lib/layout/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Numbers of config.json that all classes share. */
struct numbers {
    int d_model, blocks, layers, self_heads, cross_heads, qk, v, self_widening, cross_widening;
    int vocab, positions, image_size;
    bool residual, shape_kv;
    enum pcv_activation activation;
};

struct binder {
    struct pcv_blueprint *bp;
    struct pcv_weights *w;
    struct pcv_err *e;
    enum pcv_activation activation;
};

enum { MAX_CHANNELS = 1 << 16, MAX_ROWS = 1 << 20 };

#define SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)

static int bind_affine(struct binder *b, struct pcv_affine *a, int out, int in, const char *prefix,
                       const char *name)
{
    int r = pcv_weights_bind(b->w, &a->w, SHAPE(out, in), b->e, "%s.%s.weight", prefix, name);

    return r < 0 ? r : pcv_weights_bind(b->w, &a->b, SHAPE(out), b->e, "%s.%s.bias", prefix, name);
}

static int bind_norm(struct binder *b, struct pcv_norm *n, int dim, const char *prefix,
                     const char *name)
{
    int r = pcv_weights_bind(b->w, &n->gamma, SHAPE(dim), b->e, "%s.%s.weight", prefix, name);

    return r < 0 ? r
                 : pcv_weights_bind(b->w, &n->beta, SHAPE(dim), b->e, "%s.%s.bias", prefix, name);
}

/* A PerceiverLayer under `prefix`, with the dimensions already in l->d. */
static int bind_layer(struct binder *b, struct pcv_layer *l, const char *prefix)
{
    const struct pcv_layer_dims *d = &l->d;
    int r;

    if (d->qk % d->heads || d->v % d->heads) {
        pcv_fail(b->e, PCV_ESHAPE, "%d heads do not divide %d query and %d value channels",
                 d->heads, d->qk, d->v);
        return pcv_err_at(b->e, "%s", prefix);
    }
    l->activation = b->activation;
    l->eps = 1e-5f;
    r = bind_norm(b, &l->norm_q, d->q_dim, prefix, "attention.self.layernorm1");
    if (r == 0 && d->cross)
        r = bind_norm(b, &l->norm_kv, d->kv_dim, prefix, "attention.self.layernorm2");
    if (r == 0)
        r = bind_affine(b, &l->q, d->qk, d->q_dim, prefix, "attention.self.query");
    if (r == 0)
        r = bind_affine(b, &l->k, d->qk, d->kv_dim, prefix, "attention.self.key");
    if (r == 0)
        r = bind_affine(b, &l->val, d->v, d->kv_dim, prefix, "attention.self.value");
    if (r == 0)
        r = bind_affine(b, &l->out, d->q_dim, d->v, prefix, "attention.output.dense");
    if (r == 0)
        r = bind_norm(b, &l->norm_mlp, d->q_dim, prefix, "layernorm");
    if (r == 0)
        r = bind_affine(b, &l->mlp1, d->hidden, d->q_dim, prefix, "mlp.dense1");
    if (r == 0)
        r = bind_affine(b, &l->mlp2, d->q_dim, d->hidden, prefix, "mlp.dense2");
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

/* Absent keys take PerceiverConfig's defaults, as the upstream does. */
static int read_numbers(struct numbers *n, struct pcv_blueprint *bp, const struct pcv_config *c,
                        struct pcv_err *e)
{
    const struct {
        const char *key;
        int hi, absent, *to;
    } ints[] = {
        {"num_latents", MAX_ROWS, 256, &bp->num_latents},
        {"d_latents", MAX_CHANNELS, 1280, &bp->d_latents},
        {"d_model", MAX_CHANNELS, 768, &n->d_model},
        {"num_blocks", 1024, 1, &n->blocks},
        {"num_self_attends_per_block", PCV_MAX_SELF, 26, &n->layers},
        {"num_self_attention_heads", 1024, 8, &n->self_heads},
        {"num_cross_attention_heads", 1024, 8, &n->cross_heads},
        {"qk_channels", MAX_CHANNELS, 0, &n->qk},
        {"v_channels", MAX_CHANNELS, 0, &n->v},
        {"self_attention_widening_factor", 64, 1, &n->self_widening},
        {"cross_attention_widening_factor", 64, 1, &n->cross_widening},
        {"vocab_size", MAX_ROWS, 262, &n->vocab},
        {"max_position_embeddings", MAX_ROWS, 2048, &n->positions},
        {"image_size", PCV_MAX_AXIS, 56, &n->image_size},
    };
    int r = 0;

    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]) && r == 0; i++)
        r = pcv_config_int_or(c, ints[i].key, 1, ints[i].hi, ints[i].absent, ints[i].to, e);
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

static int bind_encoder(struct binder *b, const struct numbers *n, int channels)
{
    struct pcv_blueprint *bp = b->bp;
    const int d = bp->d_latents;
    const int qk = n->qk ? n->qk : n->shape_kv ? channels : d;
    const int self_qk = n->qk ? n->qk : d, self_v = n->v ? n->v : self_qk;
    char prefix[64];
    int r;

    if (self_v != d) {
        pcv_fail(b->e, PCV_ESHAPE,
                 "%d value channels, d_latents is %d: the residual wants them equal", self_v, d);
        pcv_err_at(b->e, "config.json: v_channels");
        return PCV_ESHAPE;
    }
    r = pcv_weights_bind(b->w, &bp->latents, SHAPE(bp->num_latents, d), b->e,
                         "perceiver.embeddings.latents");
    bp->ncross = 1;
    bp->cross[0].d = (struct pcv_layer_dims){
        .heads = n->cross_heads,
        .q_dim = d,
        .kv_dim = channels,
        .qk = qk,
        .v = n->v ? n->v : qk,
        .hidden = n->cross_widening * d,
        .residual = n->residual,
        .cross = true,
    };
    if (r == 0)
        r = bind_layer(b, &bp->cross[0], "perceiver.encoder.cross_attention");
    bp->nself = n->layers;
    for (int i = 0; i < n->layers && r == 0; i++) {
        bp->self[i].d = (struct pcv_layer_dims){
            .heads = n->self_heads,
            .q_dim = d,
            .kv_dim = d,
            .qk = self_qk,
            .v = self_v,
            .hidden = n->self_widening * d,
            .residual = true,
        };
        snprintf(prefix, sizeof(prefix), "perceiver.encoder.self_attends.%d", i);
        r = bind_layer(b, &bp->self[i], prefix);
    }
    bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_CROSS, 0};
    for (int i = 0; i < n->blocks; i++)
        for (int j = 0; j < n->layers; j++)
            bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_SELF, j};
    return r;
}

/* ---- inputs
 * -------------------------------------------------------------------------------------- */

static int bind_text(struct binder *b, const struct numbers *n)
{
    struct pcv_adapter *a = &b->bp->input[b->bp->ninputs++];
    int r;

    *a = (struct pcv_adapter){.name = "text", .kind = PCV_INPUT_TEXT, .channels = n->d_model};
    a->text.vocab = n->vocab;
    a->text.max_positions = n->positions;
    b->bp->padded_tokens = n->positions;
    r = pcv_weights_bind(b->w, &a->text.bytes, SHAPE(n->vocab, n->d_model), b->e,
                         "perceiver.input_preprocessor.embeddings.weight");
    if (r == 0)
        r = pcv_weights_bind(b->w, &a->text.positions, SHAPE(n->positions, n->d_model), b->e,
                             "perceiver.input_preprocessor.position_embeddings.weight");
    return r;
}

/* positions_projection(position_embeddings), once and for all: [rows, 256]. */
static int project_positions(struct binder *b, struct pcv_image_adapter *im)
{
    enum { N = 256 };
    const int rows = im->height * im->width;
    struct pcv_affine p;
    const float *table;
    float *out;
    int r;

    r = pcv_weights_bind(b->w, &table, SHAPE(rows, N), b->e,
                         "perceiver.input_preprocessor.position_embeddings.position_embeddings");
    if (r == 0)
        r = bind_affine(b, &p, N, N, "perceiver.input_preprocessor", "positions_projection");
    if (r < 0)
        return r;
    out = pcv_alloc((size_t)rows * N, sizeof(float));
    if (!out)
        return pcv_fail(b->e, PCV_ENOMEM, "no memory for %d positions", rows);
    for (int i = 0; i < rows; i++)
        memcpy(out + (size_t)i * N, p.b, N * sizeof(float));
    pcv_gemm_nt(rows, N, N, table, N, p.w, N, out, N, 1);
    b->bp->owned[b->bp->nowned++] = out;
    im->positions = out;
    return 0;
}

static int read_prep(struct pcv_image_adapter *im, const char *dir, struct pcv_err *e)
{
    char path[4096];

    pcv_image_prep_default(&im->prep);
    if (im->position == PCV_POSITION_LEARNED) {
        im->prep.height = im->height;
        im->prep.width = im->width;
    }
    snprintf(path, sizeof(path), "%s/preprocessor_config.json", dir);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    return pcv_image_prep_read(&im->prep, path, e);
}

static int bind_image(struct binder *b, const struct numbers *n, enum pcv_position position,
                      const char *dir)
{
    struct pcv_adapter *a = &b->bp->input[b->bp->ninputs++];
    struct pcv_image_adapter *im = &a->image;
    int r;

    *a = (struct pcv_adapter){.name = "image", .kind = PCV_INPUT_IMAGE};
    im->raw = im->content = 3;
    im->position = position;
    im->height = im->width = n->image_size;
    r = read_prep(im, dir, b->e);
    if (r < 0)
        return r;
    if (position == PCV_POSITION_FOURIER) {
        im->bands = 64;
        im->max_resolution[0] = im->max_resolution[1] = 224;
        im->position_channels = 2 * (1 + 2 * im->bands);
        im->height = im->prep.height;
        im->width = im->prep.width;
    } else {
        struct pcv_affine conv;

        im->content = im->position_channels = 256;
        if (im->prep.height != im->height || im->prep.width != im->width) {
            pcv_fail(b->e, PCV_ESHAPE, "size %d x %d, but image_size in config.json is %d",
                     im->prep.height, im->prep.width, n->image_size);
            return pcv_err_at(b->e, "preprocessor_config.json");
        }
        r = pcv_weights_bind(b->w, &conv.w, SHAPE(256, 3, 1, 1), b->e,
                             "perceiver.input_preprocessor.convnet_1x1.weight");
        if (r == 0)
            r = pcv_weights_bind(b->w, &conv.b, SHAPE(256), b->e,
                                 "perceiver.input_preprocessor.convnet_1x1.bias");
        if (r == 0)
            r = project_positions(b, im);
        if (r < 0)
            return r;
        im->lift = conv.w;
        im->lift_bias = conv.b;
    }
    a->channels = im->content + im->position_channels;
    return 0;
}

/* ---- tasks
 * --------------------------------------------------------------------------------------- */

static int bind_fill_mask(struct binder *b, const struct numbers *n)
{
    struct pcv_task *t = &b->bp->task[b->bp->ntasks++];
    int r;

    *t = (struct pcv_task){
        .name = "fill-mask", .kind = PCV_TASK_FILL_MASK, .rows = n->positions, .width = n->vocab};
    t->layer.d = (struct pcv_layer_dims){
        .heads = 8,
        .q_dim = n->d_model,
        .kv_dim = b->bp->d_latents,
        .qk = 8 * 32,
        .v = n->d_model,
        .hidden = n->d_model,
        .cross = true,
    };
    b->bp->padded_rows = n->positions;
    r = pcv_weights_bind(b->w, &t->query, SHAPE(n->positions, n->d_model), b->e,
                         "perceiver.decoder.output_position_encodings.position_embeddings");
    if (r == 0)
        r = bind_layer(b, &t->layer, "perceiver.decoder.decoding_cross_attention");
    t->head.w = b->bp->input[0].text.bytes;
    if (r == 0)
        r = pcv_weights_bind(b->w, &t->head.b, SHAPE(n->vocab), b->e, "embedding_decoder.bias");
    return r;
}

static int bind_classify(struct binder *b, const struct pcv_config *c)
{
    struct pcv_task *t = &b->bp->task[b->bp->ntasks++];
    const int d = b->bp->d_latents;
    int r;

    *t = (struct pcv_task){.name = "classify", .kind = PCV_TASK_CLASSIFY, .rows = 1};
    r = pcv_config_labels(c, "id2label", &t->labels, &t->width, b->e);
    if (r == 0 && !t->labels) /* PretrainedConfig's default */
        r = pcv_config_int_or(c, "num_labels", 1, MAX_ROWS, 2, &t->width, b->e);
    t->layer.d = (struct pcv_layer_dims){
        .heads = 1,
        .q_dim = d,
        .kv_dim = d,
        .qk = d,
        .v = d,
        .hidden = d,
        .residual = true,
        .cross = true,
    };
    if (r == 0)
        r = pcv_weights_bind(
            b->w, &t->query, SHAPE(1, d), b->e,
            "perceiver.decoder.decoder.output_position_encodings.position_embeddings");
    if (r == 0)
        r = bind_layer(b, &t->layer, "perceiver.decoder.decoder.decoding_cross_attention");
    if (r == 0)
        r = bind_affine(b, &t->head, t->width, d, "perceiver.decoder.decoder", "final_layer");
    return r;
}

/* ---- classes
 * --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum { TEXT, FOURIER, LEARNED } input;
    enum { FILL_MASK, CLASSIFY } task;
} classes[] = {
    {"PerceiverForMaskedLM", TEXT, FILL_MASK},
    {"PerceiverForSequenceClassification", TEXT, CLASSIFY},
    {"PerceiverForImageClassificationFourier", FOURIER, CLASSIFY},
    {"PerceiverForImageClassificationLearned", LEARNED, CLASSIFY},
};

bool pcv_layout_is_hf(const struct pcv_config *c)
{
    const char *type;

    return pcv_config_text_or(c, "model_type", "", &type, NULL) == 0 &&
           strcmp(type, "perceiver") == 0;
}

static int unknown_class(const char *name, struct pcv_err *e)
{
    char known[200] = "";

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "",
                 classes[i].name);
    pcv_fail(e, PCV_EUNSUPPORTED, "\"%.60s\" is not served; served are %.170s", name, known);
    pcv_err_at(e, "config.json: architectures");
    return PCV_EUNSUPPORTED;
}

int pcv_layout_hf(struct pcv_blueprint *bp, const struct pcv_config *c, const char *dir,
                  struct pcv_weights *w, struct pcv_err *e)
{
    struct numbers n;
    struct binder b = {.bp = bp, .w = w, .e = e};
    const char *name;
    size_t i;
    int r = pcv_config_first(c, "architectures", &name, e);

    if (r < 0)
        return r;
    for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (strcmp(name, classes[i].name) == 0)
            break;
    if (i == sizeof(classes) / sizeof(classes[0]))
        return unknown_class(name, e);
    bp->upstream = "huggingface/transformers";
    snprintf(bp->architecture, sizeof(bp->architecture), "%s", name);
    r = read_numbers(&n, bp, c, e);
    if (r < 0)
        return r;
    b.activation = n.activation;
    if (classes[i].input == TEXT)
        r = bind_text(&b, &n);
    else
        r = bind_image(
            &b, &n, classes[i].input == LEARNED ? PCV_POSITION_LEARNED : PCV_POSITION_FOURIER, dir);
    if (r == 0)
        r = bind_encoder(&b, &n, bp->input[0].channels);
    if (r == 0)
        r = classes[i].task == FILL_MASK ? bind_fill_mask(&b, &n) : bind_classify(&b, c);
    return r;
}
