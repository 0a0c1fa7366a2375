/* krasserm.c - krasserm/perceiver-io's image classifier, text classifier, masked language model and
 * optical flow, as their Hugging Face-style directories store them.
 *
 * Numbers stand in config.json's "model_config", in "encoder" and "decoder" there; absent ones take
 * the dataclasses' defaults. All tensors begin with "backend_model.": 0 is the encoder, 1 the
 * decoder.
 *
 * Easy to get wrong:
 * - Later cross-attentions read the input before blocks 2, 3, ...; whether the first layer or block
 * shares its weights with the later ones is said separately for both.
 * - Without a residual the decoder's attention lacks ".module" in its names.
 * - Absent query channels are the input's width for images and flow, the latents' width for text.
 */
#include "lib/layout/krasserm_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- decoders
 * ------------------------------------------------------------------------------------- */

static struct pcv_task *new_task(struct kr_binder *b, const char *name, enum pcv_task_kind kind)
{
    struct pcv_task *t = &b->bp->task[b->bp->ntasks++];

    *t = (struct pcv_task){.name = name, .kind = kind};
    return t;
}

/* The decoder's cross-attention for queries of `width` channels. */
static int bind_decoder(struct kr_binder *b, struct pcv_task *t, int width)
{
    struct pcv_layer *l = &t->layer;
    int r = pcv_kr_cross_dims(b, &l->d, b->decoder, width, b->bp->d_latents, width);

    if (r == 0)
        r = pcv_config_bool_or(b->decoder, "cross_attention_residual", true, &l->d.residual, b->e);
    return r < 0 ? r : pcv_kr_cross_layer(b, l, "backend_model.1.cross_attn");
}

static int learned_queries(struct kr_binder *b, struct pcv_task *t, int rows, int width)
{
    int r = pcv_weights_bind(b->w, &t->query, KR_SHAPE(rows, width), b->e,
                             "backend_model.1.output_query_provider._query");

    t->rows = rows;
    return r < 0 ? r : bind_decoder(b, t, width);
}

static int read_labels(struct kr_binder *b, struct pcv_task *t)
{
    int n, r = pcv_config_labels(b->c, "id2label", &t->labels, &n, b->e);

    if (r < 0 || !t->labels || n == t->width)
        return r;
    pcv_labels_free(t->labels, n);
    t->labels = NULL;
    pcv_fail(b->e, PCV_ESHAPE, "%d labels, num_classes is %d", n, t->width);
    return pcv_config_at(b->c, "id2label", b->e);
}

static int classify_task(struct kr_binder *b)
{
    struct pcv_task *t = new_task(b, "classify", PCV_TASK_CLASSIFY);
    int rows, width, classes;
    int r = pcv_config_int_or(b->decoder, "num_output_queries", 1, KR_MAX_ROWS, 1, &rows, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->decoder, "num_output_query_channels", 1, KR_MAX_CHANNELS, 256,
                              &width, b->e);
    if (r == 0)
        r = pcv_config_int_or(b->decoder, "num_classes", 1, KR_MAX_ROWS, 100, &classes, b->e);
    if (r != 0)
        return r;
    t->width = classes;
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 2, .shape = {-1, classes}};
    if (rows > 1) { /* one result per query */
        t->kind = PCV_TASK_TENSOR;
        t->output.ndim = 3;
        t->output.shape[1] = rows;
        t->output.shape[2] = classes;
    }
    r = read_labels(b, t);
    if (r == 0)
        r = learned_queries(b, t, rows, width);
    return r < 0 ? r
                 : pcv_kr_affine(b, &t->head, classes, width,
                                 "backend_model.1.output_adapter.linear");
}

/* Logits from the encoder's embedding, transposed, plus a bias; or from a layer of their own. */
static int bind_vocabulary(struct kr_binder *b, struct pcv_task *t, int own_width)
{
    const struct pcv_adapter *a = &b->bp->input[0];

    if (own_width)
        return pcv_kr_affine(b, &t->head, t->width, own_width,
                             "backend_model.1.output_adapter.linear");
    if (t->width != a->text.vocab) {
        pcv_fail(b->e, PCV_ESHAPE, "%d, but the encoder's, whose embedding it shares, is %d",
                 t->width, a->text.vocab);
        return pcv_config_at(b->decoder, "vocab_size", b->e);
    }
    t->head.w = a->text.bytes;
    return pcv_weights_bind(b->w, &t->head.b, KR_SHAPE(t->width), b->e,
                            "backend_model.1.output_adapter.bias");
}

static int fill_mask_task(struct kr_binder *b)
{
    const struct pcv_adapter *a = &b->bp->input[0];
    struct pcv_task *t = new_task(b, "fill-mask", PCV_TASK_FILL_MASK);
    int rows, width;
    int r = pcv_config_int_or(b->decoder, "num_output_query_channels", 1, KR_MAX_CHANNELS, 0,
                              &width, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->decoder, "vocab_size", 1, KR_MAX_ROWS, 10003, &t->width, b->e);
    if (r == 0)
        r = pcv_config_int_or(b->decoder, "max_seq_len", 1, KR_MAX_ROWS, 512, &rows, b->e);
    if (r != 0)
        return r;
    if (rows < a->text.max_positions) {
        pcv_fail(b->e, PCV_ESHAPE, "%d, but the encoder takes %d positions", rows,
                 a->text.max_positions);
        return pcv_config_at(b->decoder, "max_seq_len", b->e);
    }
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 3, .shape = {-1, -1, t->width}};
    b->bp->padded_rows = rows; /* all queries are decoded, and cut to the text's length */
    r = learned_queries(b, t, rows, width ? width : a->channels);
    return r < 0 ? r : bind_vocabulary(b, t, width);
}

/* Queries are the encoder's own tokens; the result is divided by rescale_factor. */
static int flow_task(struct kr_binder *b)
{
    enum { UV = 2 };
    const struct pcv_adapter *a = &b->bp->input[0];
    struct pcv_task *t = new_task(b, "flow", PCV_TASK_FLOW);
    int shape[2] = {368, 496};
    struct pcv_affine linear;
    double rescale;
    float *w;
    int r = pcv_config_ints_or(b->decoder, "image_shape", 2, 1, PCV_MAX_AXIS, shape, b->e);

    if (r == 0)
        r = pcv_config_number_or(b->decoder, "rescale_factor", 1e-6, 1e6, 100, &rescale, b->e);
    if (r != 0)
        return r;
    if (memcmp(shape, a->grid.size, sizeof(shape)) != 0) {
        pcv_fail(b->e, PCV_ESHAPE, "%d x %d, but the encoder's is %d x %d", shape[0], shape[1],
                 a->grid.size[0], a->grid.size[1]);
        return pcv_config_at(b->decoder, "image_shape", b->e);
    }
    t->source = PCV_QUERY_INPUT;
    t->rows = shape[0] * shape[1];
    t->width = UV;
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 4, .shape = {-1, shape[0], shape[1], UV}};
    r = bind_decoder(b, t, a->channels);
    if (r == 0)
        r = pcv_kr_affine(b, &linear, UV, a->channels, "backend_model.1.output_adapter.linear");
    if (r != 0)
        return r;
    w = pcv_kr_own(b, (size_t)UV * (size_t)a->channels + UV);
    if (!w)
        return PCV_ENOMEM;
    for (int i = 0; i < UV * a->channels; i++)
        w[i] = linear.w[i] / (float)rescale;
    for (int i = 0; i < UV; i++)
        w[UV * a->channels + i] = linear.b[i] / (float)rescale;
    t->head = (struct pcv_affine){w, w + (size_t)UV * (size_t)a->channels};
    return 0;
}

/* ---- classes
 * --------------------------------------------------------------------------------------- */

#define ENCODER_KEYS                                                                               \
    "num_cross_attention_heads", "num_cross_attention_qk_channels",                                \
        "num_cross_attention_v_channels", "num_cross_attention_layers",                            \
        "first_cross_attention_layer_shared", "cross_attention_widening_factor",                   \
        "num_self_attention_heads", "num_self_attention_qk_channels",                              \
        "num_self_attention_v_channels", "num_self_attention_layers_per_block",                    \
        "num_self_attention_blocks", "first_self_attention_block_shared",                          \
        "self_attention_widening_factor", "dropout", "residual_dropout", "init_scale", "freeze"
#define DECODER_KEYS                                                                               \
    "num_cross_attention_heads", "num_cross_attention_qk_channels",                                \
        "num_cross_attention_v_channels", "cross_attention_widening_factor",                       \
        "cross_attention_residual", "dropout", "init_scale", "freeze"

static const char *const model_keys[] = {"encoder",
                                         "decoder",
                                         "num_latents",
                                         "num_latent_channels",
                                         "activation_checkpointing",
                                         "activation_offloading",
                                         NULL};
static const char *const text_keys[] = {ENCODER_KEYS,         "vocab_size", "max_seq_len",
                                        "num_input_channels", "params",     NULL};
static const char *const image_keys[] = {ENCODER_KEYS, "image_shape", "num_frequency_bands", NULL};
static const char *const flow_keys[] = {
    ENCODER_KEYS,          "image_shape", "num_patch_input_channels", "num_patch_hidden_channels",
    "num_frequency_bands", NULL};
static const char *const classify_keys[] = {DECODER_KEYS, "num_output_queries",
                                            "num_output_query_channels", "num_classes", NULL};
static const char *const fill_mask_keys[] = {DECODER_KEYS, "num_output_query_channels",
                                             "vocab_size", "max_seq_len", NULL};
static const char *const flow_decoder_keys[] = {DECODER_KEYS, "image_shape", "rescale_factor",
                                                NULL};

static const struct {
    const char *type, *name;
    int (*input)(struct kr_binder *b, int *qk);
    int (*task)(struct kr_binder *b);
    const char *const *encoder_keys, *const *decoder_keys;
} classes[] = {
    {"image-classifier", "PerceiverImageClassifier", pcv_kr_image, classify_task, image_keys,
     classify_keys},
    {"text-classifier", "PerceiverTextClassifier", pcv_kr_text, classify_task, text_keys,
     classify_keys},
    {"masked-language-model", "PerceiverMaskedLanguageModel", pcv_kr_text, fill_mask_task,
     text_keys, fill_mask_keys},
    {"optical-flow", "OpticalFlowPerceiver", pcv_kr_flow, flow_task, flow_keys, flow_decoder_keys},
};

static const char prefix[] = "perceiver-io-";

bool pcv_layout_is_krasserm(const struct pcv_config *c)
{
    const char *type;

    return pcv_config_text_or(c, "model_type", "", &type, NULL) == 0 &&
           strncmp(type, prefix, sizeof(prefix) - 1) == 0;
}

/* An object that must be there. */
static int child(struct pcv_config **ret, const struct pcv_config *c, const char *key,
                 const char *const *known, struct pcv_err *e)
{
    int r = pcv_config_child(ret, c, key, e);

    if (r == 0 && !*ret) {
        pcv_fail(e, PCV_EMISSING, "key is missing");
        return pcv_config_at(c, key, e);
    }
    return r < 0 ? r : pcv_config_only(*ret, known, e);
}

static int bind_class(struct kr_binder *b, size_t i)
{
    struct pcv_blueprint *bp = b->bp;
    int qk, r = child(&b->model, b->c, "model_config", model_keys, b->e);

    if (r == 0)
        r = child(&b->encoder, b->model, "encoder", classes[i].encoder_keys, b->e);
    if (r == 0)
        r = child(&b->decoder, b->model, "decoder", classes[i].decoder_keys, b->e);
    if (r == 0)
        r = pcv_config_int(b->model, "num_latents", 1, KR_MAX_ROWS, &bp->num_latents, b->e);
    if (r == 0)
        r = pcv_config_int(b->model, "num_latent_channels", 1, KR_MAX_CHANNELS, &bp->d_latents,
                           b->e);
    if (r == 0)
        r = classes[i].input(b, &qk);
    if (r == 0)
        r = pcv_kr_encoder(b, qk);
    return r < 0 ? r : classes[i].task(b);
}

int pcv_layout_krasserm(struct pcv_blueprint *bp, const struct pcv_config *c, const char *dir,
                        struct pcv_weights *w, struct pcv_err *e)
{
    const size_t count = sizeof(classes) / sizeof(classes[0]);
    struct kr_binder b = {.bp = bp, .w = w, .c = c, .dir = dir, .e = e};
    const char *type;
    size_t i = 0;
    int r = pcv_config_text(c, "model_type", &type, e);

    if (r < 0)
        return r;
    while (i < count && strcmp(type + sizeof(prefix) - 1, classes[i].type) != 0)
        i++;
    if (i == count) {
        pcv_fail(e, PCV_EUNSUPPORTED,
                 "\"%.60s\" is not served; served are perceiver-io- image-classifier, "
                 "text-classifier, masked-language-model and optical-flow",
                 type);
        return pcv_config_at(c, "model_type", e);
    }
    bp->upstream = "krasserm/perceiver-io";
    snprintf(bp->architecture, sizeof(bp->architecture), "%s", classes[i].name);
    r = bind_class(&b, i);
    pcv_config_close(b.model);
    pcv_config_close(b.encoder);
    pcv_config_close(b.decoder);
    return r;
}
