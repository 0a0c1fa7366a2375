/* deepmind.c - names and orders of axes of DeepMind's published checkpoints
 * (deepmind-research/perceiver).
 *
 * Easy to get wrong:
 * - haiku's Linear is [in, out]; its convolutions are [height, width, in, out].
 * - layer_norm is the queries' norm, layer_norm_1 the keys' (or, in self-attention, the MLP's).
 * - jax.nn.gelu is the tanh form; the stem pads as SAME does; the learned-position classifier's
 * decoder has no query residual: hf.c looks at the kind of weights for these. */
#include "lib/layout/deepmind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How numbers stand in the file. */
enum order { AS_IS, LINEAR, KERNEL, CHANNELS };

struct name {
    char text[256];
    enum order order;
};

/* Whole names, or prefixes that end in '.': what follows is a layer's part or a linear map's. E and
 * D stand for the class's encoder and decoder. */
static const struct {
    const char *hf, *haiku;
    enum order order;
} modules[] = {
    {"perceiver.embeddings.latents", "E/trainable_position_encoding/pos_embs", AS_IS},
    {"perceiver.encoder.cross_attention.", "E/cross_attention/", AS_IS},
    {"perceiver.decoder.decoding_cross_attention.", "basic_decoder/cross_attention/", AS_IS},
    {"perceiver.decoder.decoder.decoding_cross_attention.", "D/basic_decoder/cross_attention/",
     AS_IS},
    {"perceiver.decoder.decoder.final_layer.", "D/basic_decoder/output/", LINEAR},
    {"perceiver.decoder.output_position_encodings.position_embeddings",
     "basic_decoder/~/trainable_position_encoding/pos_embs", AS_IS},
    {"perceiver.decoder.decoder.output_position_encodings.position_embeddings",
     "D/basic_decoder/~/trainable_position_encoding/pos_embs", AS_IS},
    {"perceiver.input_preprocessor.embeddings.weight", "embed/embeddings", AS_IS},
    {"perceiver.input_preprocessor.position_embeddings.weight",
     "trainable_position_encoding/pos_embs", AS_IS},
    {"embedding_decoder.bias", "embedding_decoder/bias", AS_IS},
    {"perceiver.input_preprocessor.convnet_1x1.weight", "image_preprocessor/~/conv2_d/w", KERNEL},
    {"perceiver.input_preprocessor.convnet_1x1.bias", "image_preprocessor/~/conv2_d/b", AS_IS},
    {"perceiver.input_preprocessor.position_embeddings.position_embeddings",
     "image_preprocessor/~_build_network_inputs/trainable_position_encoding/pos_embs", AS_IS},
    {"perceiver.input_preprocessor.positions_projection.",
     "image_preprocessor/~_build_network_inputs/position_encoding_projector/linear/", LINEAR},
    {"perceiver.input_preprocessor.convnet.conv.weight",
     "image_preprocessor/~/conv2_d_downsample/~/conv/w", KERNEL},
    {"perceiver.input_preprocessor.convnet.batchnorm.weight",
     "image_preprocessor/~/conv2_d_downsample/~/batchnorm/scale", CHANNELS},
    {"perceiver.input_preprocessor.convnet.batchnorm.bias",
     "image_preprocessor/~/conv2_d_downsample/~/batchnorm/offset", CHANNELS},
    {"perceiver.input_preprocessor.convnet.batchnorm.running_mean",
     "state:image_preprocessor/~/conv2_d_downsample/~/batchnorm/~/mean_ema/average", CHANNELS},
    {"perceiver.input_preprocessor.convnet.batchnorm.running_var",
     "state:image_preprocessor/~/conv2_d_downsample/~/batchnorm/~/var_ema/average", CHANNELS},
    {"perceiver.input_preprocessor.conv_after_patches.", "image_preprocessor/patches_linear/",
     LINEAR},
    {"perceiver.input_preprocessor.padding.audio", "multimodal_preprocessor/audio_padding/pos_embs",
     AS_IS},
    {"perceiver.input_preprocessor.padding.image", "multimodal_preprocessor/image_padding/pos_embs",
     AS_IS},
    {"perceiver.input_preprocessor.padding.label", "multimodal_preprocessor/label_padding/pos_embs",
     AS_IS},
    {"perceiver.input_preprocessor.mask.audio", "multimodal_preprocessor/audio_mask_token/pos_embs",
     AS_IS},
    {"perceiver.input_preprocessor.mask.image", "multimodal_preprocessor/image_mask_token/pos_embs",
     AS_IS},
    {"perceiver.input_preprocessor.mask.label", "multimodal_preprocessor/label_mask_token/pos_embs",
     AS_IS},
    {"perceiver.decoder.padding.audio", "multimodal_decoder/~decoder_query/audio_padding/pos_embs",
     AS_IS},
    {"perceiver.decoder.padding.image", "multimodal_decoder/~decoder_query/image_padding/pos_embs",
     AS_IS},
    {"perceiver.decoder.padding.label", "multimodal_decoder/~decoder_query/label_padding/pos_embs",
     AS_IS},
    {"perceiver.decoder.modalities.label.decoder.output_position_encodings.position_embeddings",
     "classification_decoder/~/basic_decoder/~/trainable_position_encoding/pos_embs", AS_IS},
    {"perceiver.output_postprocessor.modalities.audio.classifier.", "audio_postprocessor/linear/",
     LINEAR},
    {"perceiver.output_postprocessor.modalities.image.classifier.",
     "projection_postprocessor/linear/", LINEAR},
    {"perceiver.output_postprocessor.modalities.label.classifier.",
     "classification_postprocessor/linear/", LINEAR},
};

/* Parts of an attention layer; a norm's place depends on whether keys have one of their own. */
static const struct {
    const char *hf, *cross, *self;
    bool linear;
} parts[] = {
    {"attention.self.layernorm1.", "layer_norm/", "layer_norm/", false},
    {"attention.self.layernorm2.", "layer_norm_1/", NULL, false},
    {"layernorm.", "layer_norm_2/", "layer_norm_1/", false},
    {"attention.self.query.", "attention/linear/", "attention/linear/", true},
    {"attention.self.key.", "attention/linear_1/", "attention/linear_1/", true},
    {"attention.self.value.", "attention/linear_2/", "attention/linear_2/", true},
    {"attention.output.dense.", "attention/linear_3/", "attention/linear_3/", true},
    {"mlp.dense1.", "mlp/linear/", "mlp/linear/", true},
    {"mlp.dense2.", "mlp/linear_1/", "mlp/linear_1/", true},
};

/* The part's own name behind a prefix that `text` starts with; NULL when it does not. */
static const char *after(const char *text, const char *prefix)
{
    const size_t n = strlen(prefix);

    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* "weight" and "bias" of linear maps and norms. */
static void add_leaf(struct name *n, const char *leaf, bool linear)
{
    const bool weight = strcmp(leaf, "weight") == 0;

    strncat(n->text, linear ? (weight ? "w" : "b") : (weight ? "scale" : "offset"), 8);
    n->order = linear && weight ? LINEAR : AS_IS;
}

static void add_part(struct name *n, const char *rest, bool cross)
{
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const char *leaf = after(rest, parts[i].hf);
        const char *to = cross ? parts[i].cross : parts[i].self;

        if (!leaf || !to)
            continue;
        strncat(n->text, to, sizeof(n->text) - strlen(n->text) - 16);
        add_leaf(n, leaf, parts[i].linear);
        return;
    }
}

static const char *encoder_of(const char *architecture)
{
    return strstr(architecture, "Multimodal") ? "encoder/~" : "perceiver_encoder/~";
}

static const char *decoder_of(const char *architecture)
{
    return strstr(architecture, "Multimodal")    ? "multimodal_decoder/~"
           : strstr(architecture, "OpticalFlow") ? "flow_decoder/~"
                                                 : "classification_decoder/~";
}

/* Writes a module's name with E and D replaced. */
static void expand(struct name *n, const char *module, const char *architecture)
{
    const char *letter = module[0] == 'E' && module[1] == '/'   ? encoder_of(architecture)
                         : module[0] == 'D' && module[1] == '/' ? decoder_of(architecture)
                                                                : NULL;

    snprintf(n->text, sizeof(n->text), "%s%s", letter ? letter : "", module + (letter ? 1 : 0));
}

static bool is_layer(const char *prefix)
{
    return strstr(prefix, "cross_attention.") != NULL;
}

static int rename_self(struct name *n, const char *rest, const char *architecture)
{
    char *end;
    const long layer = strtol(rest, &end, 10);

    if (end == rest || *end != '.')
        return -1;
    if (layer == 0)
        snprintf(n->text, sizeof(n->text), "%s/self_attention/", encoder_of(architecture));
    else
        snprintf(n->text, sizeof(n->text), "%s/self_attention_%ld/", encoder_of(architecture),
                 layer);
    add_part(n, end + 1, false);
    return 0;
}

static int rename_tensor(struct name *n, const char *hf, const char *architecture)
{
    const char *rest = after(hf, "perceiver.encoder.self_attends.");

    if (rest)
        return rename_self(n, rest, architecture);
    for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
        const bool prefix = modules[i].hf[strlen(modules[i].hf) - 1] == '.';

        rest = after(hf, modules[i].hf);
        if (!rest || (!prefix && *rest))
            continue;
        n->order = modules[i].order;
        expand(n, modules[i].haiku, architecture);
        if (prefix && is_layer(modules[i].hf))
            add_part(n, rest, true);
        else if (prefix)
            add_leaf(n, rest, true);
        return 0;
    }
    return -1;
}

int pcv_deepmind_bind(struct pcv_weights *w, const float **ret, const int64_t *shape, int ndim,
                      const char *architecture, const char *name, struct pcv_err *e)
{
    static const int kernel_axes[] = {3, 2, 0, 1};
    struct name n;

    if (rename_tensor(&n, name, architecture) < 0) {
        pcv_fail(e, PCV_EUNSUPPORTED, "DeepMind's checkpoints have no such tensor");
        return pcv_err_at(e, "%s", name);
    }
    switch (n.order) {
    case LINEAR: return pcv_weights_bind_transposed(w, ret, shape, e, "%s", n.text);
    case KERNEL:
        return pcv_weights_bind_permuted(w, ret, shape, ndim, kernel_axes, e, "%s", n.text);
    case CHANNELS:
        return pcv_weights_bind(w, ret, (const int64_t[]){1, 1, 1, shape[0]}, 4, e, "%s", n.text);
    case AS_IS: break;
    }
    return pcv_weights_bind(w, ret, shape, ndim, e, "%s", n.text);
}

void pcv_deepmind_ignore(struct pcv_weights *w)
{
    static const char *const averages[] = {"mean_ema", "var_ema"};
    static const char *const fields[] = {"hidden", "counter"};
    char name[160];

    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name),
                 "state:image_preprocessor/~/conv2_d_downsample/~/batchnorm/~/%s/%s",
                 averages[i / 2], fields[i % 2]);
        pcv_weights_ignore(w, name);
    }
}

/* ---- published configurations
 * ------------------------------------------------------------------------- */

#define VISION                                                                                     \
    "\"num_latents\": 512, \"d_latents\": 1024, \"num_blocks\": 8, "                               \
    "\"num_self_attends_per_block\": 6, \"num_self_attention_heads\": 8, "                         \
    "\"num_cross_attention_heads\": 1, \"image_size\": 224, \"num_labels\": 1000, "

/* A checkpoint is known by a tensor that only its architecture has; the last is what remains. */
static const struct {
    const char *mark, *config;
} published[] = {
    {"embed/embeddings", "{\"architectures\": [\"PerceiverForMaskedLM\"], "
                         "\"num_latents\": 256, \"d_latents\": 1280, \"d_model\": 768, "
                         "\"num_blocks\": 1, \"num_self_attends_per_block\": 26, "
                         "\"num_self_attention_heads\": 8, \"num_cross_attention_heads\": 8, "
                         "\"qk_channels\": 256, \"v_channels\": 1280}"},
    {"flow_decoder/~/basic_decoder/output/w",
     "{\"architectures\": [\"PerceiverForOpticalFlow\"], \"num_latents\": 2048, "
     "\"d_latents\": 512, \"num_blocks\": 1, \"num_self_attends_per_block\": 24, "
     "\"num_self_attention_heads\": 16, \"num_cross_attention_heads\": 1, "
     "\"train_size\": [368, 496]}"},
    {"multimodal_decoder/~/basic_decoder/output/w",
     "{\"architectures\": [\"PerceiverForMultimodalAutoencoding\"], \"num_latents\": 784, "
     "\"d_latents\": 512, \"num_blocks\": 1, \"num_self_attends_per_block\": 8, "
     "\"num_self_attention_heads\": 8, \"num_cross_attention_heads\": 1, \"image_size\": 56, "
     "\"num_labels\": 700}"},
    {"image_preprocessor/~/conv2_d/w",
     "{" VISION "\"architectures\": [\"PerceiverForImageClassificationLearned\"]}"},
    {"image_preprocessor/~/conv2_d_downsample/~/conv/w",
     "{" VISION "\"architectures\": [\"PerceiverForImageClassificationConvProcessing\"]}"},
    {"classification_decoder/~/basic_decoder/output/w",
     "{" VISION "\"architectures\": [\"PerceiverForImageClassificationFourier\"]}"},
};

int pcv_deepmind_config(struct pcv_config **ret, const struct pcv_weights *w, const char *dir,
                        struct pcv_err *e)
{
    for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++)
        if (pcv_weights_find(w, published[i].mark))
            return pcv_config_parse(ret, published[i].config, dir, e);
    pcv_fail(e, PCV_EUNKNOWN,
             "is missing, and the weights look like none of DeepMind's published checkpoints");
    pcv_err_at(e, "%s/config.json", dir);
    return PCV_EUNKNOWN;
}
