/* hf_inputs.c - what Hugging Face's preprocessors make of inputs.
 *
 * Easy to get wrong:
 * - Bands, resolutions and widths stand in the classes: 64 bands for images, 192 for audio, 32 for
 * video; maximum resolution 224 for pixels, 56 for the convolution, train_size for flow, samples
 * (not patches) for audio, (frames, image_size, image_size) for video.
 * - Video patches: space_to_depth in the order (dt, dh, dw, channel), 4 x 4 pixels.
 * - Each modality's padding vector comes after its features; the label is replaced by its mask
 * token whole. */
#include "lib/input/input.h"
#include "lib/kernel/gemm.h"
#include "lib/layout/hf_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEARNED_CHANNELS = 256, CONV_CHANNELS = 64, FLOW_CHANNELS = 64, FLOW_PATCH = 27 };

static struct pcv_adapter *new_adapter(struct hf_binder *b, const char *name,
                                       enum pcv_input_kind kind)
{
    struct pcv_adapter *a = &b->bp->input[b->bp->ninputs++];

    *a = (struct pcv_adapter){.name = name, .kind = kind};
    for (int i = 0; i < PCV_MAX_AXES; i++)
        a->grid.patch[i] = 1;
    return a;
}

/* sin and cos for `bands` frequencies and the position itself, on every axis. */
static void fourier(struct pcv_grid_adapter *g, int bands)
{
    g->position = PCV_POSITION_FOURIER;
    g->order = PCV_FOURIER_BY_KIND;
    g->bands = bands;
    g->position_channels = g->axes * (1 + 2 * bands);
}

/* ---- text
 * --------------------------------------------------------------------------------------------- */

int pcv_hf_text(struct hf_binder *b)
{
    const struct hf_numbers *n = b->n;
    struct pcv_adapter *a = new_adapter(b, "text", PCV_INPUT_TEXT);
    int r;

    a->channels = n->d_model;
    a->tensor =
        (struct pcv_tensor_spec){.name = "inputs", .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}};
    a->mask = a->tensor;
    a->mask.name = "attention_mask";
    a->mask.optional = true;
    a->text.vocab = n->vocab;
    a->text.max_positions = n->positions;
    b->bp->padded_tokens = n->positions;
    r = pcv_hf_bind(b, &a->text.bytes, HF_SHAPE(n->vocab, n->d_model),
                    "perceiver.input_preprocessor.embeddings.weight");
    if (r == 0)
        r = pcv_hf_bind(b, &a->text.positions, HF_SHAPE(n->positions, n->d_model),
                        "perceiver.input_preprocessor.position_embeddings.weight");
    return r;
}

/* ---- images
 * ------------------------------------------------------------------------------------------- */

static struct pcv_adapter *new_image(struct hf_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "image", PCV_INPUT_IMAGE);

    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs", .dtype = PCV_F32, .ndim = 4, .shape = {-1, 3, -1, -1}};
    a->grid.axes = 2;
    a->grid.before = a->grid.raw = a->grid.content = 3;
    return a;
}

/* preprocessor_config.json if there is one; size is what pictures become otherwise. */
static int read_prep(struct hf_binder *b, struct pcv_grid_adapter *g, int size)
{
    char path[4096];

    pcv_image_prep_default(&g->prep);
    g->prep.height = g->prep.width = size;
    snprintf(path, sizeof(path), "%s/preprocessor_config.json", b->dir);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    return pcv_image_prep_read(&g->prep, path, b->e);
}

int pcv_hf_image_fourier(struct hf_binder *b)
{
    struct pcv_adapter *a = new_image(b);
    struct pcv_grid_adapter *g = &a->grid;
    int r = read_prep(b, g, 224);

    if (r < 0)
        return r;
    fourier(g, 64);
    g->max_resolution[0] = g->max_resolution[1] = 224;
    g->size[0] = g->prep.height;
    g->size[1] = g->prep.width;
    a->channels = g->content + g->position_channels;
    return 0;
}

/* positions_projection(position_embeddings), once and for all: [rows, 256]. */
static int project_positions(struct hf_binder *b, struct pcv_grid_adapter *g)
{
    enum { N = LEARNED_CHANNELS };
    const int rows = g->size[0] * g->size[1];
    struct pcv_affine p;
    const float *table;
    float *out;
    int r;

    r = pcv_hf_bind(b, &table, HF_SHAPE(rows, N),
                    "perceiver.input_preprocessor.position_embeddings.position_embeddings");
    if (r == 0)
        r = pcv_hf_affine(b, &p, N, N, "input_preprocessor.positions_projection");
    if (r != 0)
        return r;
    out = pcv_hf_own(b, (size_t)rows * N);
    if (!out)
        return PCV_ENOMEM;
    for (int i = 0; i < rows; i++)
        memcpy(out + (size_t)i * N, p.b, N * sizeof(float));
    pcv_gemm_nt(rows, N, N, table, N, p.w, N, out, N, 1);
    g->positions = out;
    return 0;
}

int pcv_hf_image_learned(struct hf_binder *b)
{
    struct pcv_adapter *a = new_image(b);
    struct pcv_grid_adapter *g = &a->grid;
    const int size = b->n->image_size;
    int r = read_prep(b, g, size);

    if (r < 0)
        return r;
    if (g->prep.height != size || g->prep.width != size) {
        pcv_fail(b->e, PCV_ESHAPE, "size %d x %d, but image_size in config.json is %d",
                 g->prep.height, g->prep.width, size);
        return pcv_err_at(b->e, "preprocessor_config.json");
    }
    g->position = PCV_POSITION_LEARNED;
    g->fixed = true;
    g->size[0] = g->size[1] = size;
    a->tensor.shape[2] = a->tensor.shape[3] = size;
    g->content = g->position_channels = LEARNED_CHANNELS;
    a->channels = g->content + g->position_channels;
    r = pcv_hf_bind(b, &g->lift, HF_SHAPE(LEARNED_CHANNELS, 3, 1, 1),
                    "perceiver.input_preprocessor.convnet_1x1.weight");
    if (r == 0)
        r = pcv_hf_bind(b, &g->lift_bias, HF_SHAPE(LEARNED_CHANNELS),
                        "perceiver.input_preprocessor.convnet_1x1.bias");
    return r < 0 ? r : project_positions(b, g);
}

/* Convolution without bias, then batch norm with its running statistics: one affine map. */
static int fold_conv(struct hf_binder *b, struct pcv_conv_stem *s)
{
    enum { OUT = CONV_CHANNELS, IN = 3 * 7 * 7 };
    static const char *const names[] = {"weight", "bias", "running_mean", "running_var"};
    const float *conv, *bn[4];
    float *weight, *bias;
    int r = pcv_hf_bind(b, &conv, HF_SHAPE(OUT, 3, 7, 7),
                        "perceiver.input_preprocessor.convnet.conv.weight");

    for (int i = 0; i < 4 && r == 0; i++)
        r = pcv_hf_bind(b, &bn[i], HF_SHAPE(OUT),
                        "perceiver.input_preprocessor.convnet.batchnorm.%s", names[i]);
    pcv_weights_ignore(b->w, "perceiver.input_preprocessor.convnet.batchnorm.num_batches_tracked");
    if (r != 0)
        return r;
    pcv_weights_not_trained(b->w, 2 * (uint64_t)OUT); /* running mean and variance */
    weight = pcv_hf_own(b, (size_t)OUT * IN);
    bias = pcv_hf_own(b, OUT);
    if (!weight || !bias)
        return PCV_ENOMEM;
    for (int c = 0; c < OUT; c++) {
        const float scale = bn[0][c] / sqrtf(bn[3][c] + 1e-5f);

        for (int i = 0; i < IN; i++)
            weight[c * IN + i] = conv[c * IN + i] * scale;
        bias[c] = bn[1][c] - bn[2][c] * scale;
    }
    *s = (struct pcv_conv_stem){.weight = weight, .bias = bias, .out = OUT, .same = b->deepmind};
    return 0;
}

int pcv_hf_image_conv(struct hf_binder *b)
{
    struct pcv_adapter *a = new_image(b);
    struct pcv_grid_adapter *g = &a->grid;
    int r = read_prep(b, g, 224);

    if (r == 0)
        r = fold_conv(b, &g->stem);
    if (r < 0)
        return r;
    g->raw = g->content = CONV_CHANNELS;
    fourier(g, 64);
    g->max_resolution[0] = g->max_resolution[1] = 56;
    g->size[0] = pcv_conv_stem_size(&g->stem, g->prep.height);
    g->size[1] = pcv_conv_stem_size(&g->stem, g->prep.width);
    a->channels = g->content + g->position_channels;
    return 0;
}

/* ---- optical flow
 * --------------------------------------------------------------------------------------- */

int pcv_hf_flow(struct hf_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "frames", PCV_INPUT_IMAGE_PAIR);
    struct pcv_grid_adapter *g = &a->grid;
    struct pcv_affine p;
    int r = pcv_hf_affine(b, &p, FLOW_CHANNELS, 2 * FLOW_PATCH,
                          "input_preprocessor.conv_after_patches");

    if (r < 0)
        return r;
    g->axes = 2;
    g->fixed = true;
    for (int i = 0; i < 2; i++) {
        g->size[i] = b->n->train_size[i];
        g->max_resolution[i] = (float)g->size[i];
    }
    a->tensor = (struct pcv_tensor_spec){.name = "inputs",
                                         .dtype = PCV_F32,
                                         .ndim = 5,
                                         .shape = {-1, 2, FLOW_PATCH, g->size[0], g->size[1]}};
    g->before = 2 * FLOW_PATCH;
    g->project = p.w;
    g->project_bias = p.b;
    g->raw = g->content = FLOW_CHANNELS;
    fourier(g, 64);
    a->channels = g->content + g->position_channels;
    return 0;
}

/* ---- multimodal: audio, image (video), label
 * ---------------------------------------------------------------- */

static int audio(struct hf_binder *b)
{
    const struct hf_numbers *n = b->n;
    struct pcv_adapter *a = new_adapter(b, "audio", PCV_INPUT_AUDIO);
    struct pcv_grid_adapter *g = &a->grid;
    const int64_t samples = (int64_t)n->frames * n->samples_per_frame;

    if (samples < n->samples_per_patch || samples > PCV_MAX_PIXELS) {
        pcv_fail(b->e, PCV_ERANGE, "%lld samples; from one patch of %d to %d are served",
                 (long long)samples, n->samples_per_patch, PCV_MAX_PIXELS);
        pcv_err_at(b->e, "config.json: audio_samples_per_frame");
        return PCV_ERANGE;
    }
    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs.audio", .dtype = PCV_F32, .ndim = 3, .shape = {-1, -1, 1}};
    g->axes = 1;
    g->before = 1;
    g->patch[0] = n->samples_per_patch;
    g->raw = g->content = n->samples_per_patch;
    g->size[0] = (int)samples / n->samples_per_patch;
    g->max_resolution[0] = (float)samples;
    g->rate = HF_AUDIO_RATE;
    fourier(g, 192);
    return 0;
}

static int video(struct hf_binder *b)
{
    enum { PATCH = 4 };
    const struct hf_numbers *n = b->n;
    struct pcv_adapter *a = new_adapter(b, "image", PCV_INPUT_VIDEO);
    struct pcv_grid_adapter *g = &a->grid;

    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs.image", .dtype = PCV_F32, .ndim = 5, .shape = {-1, -1, 3, -1, -1}};
    g->axes = 3;
    g->before = 3;
    g->patch[1] = g->patch[2] = PATCH;
    g->raw = g->content = 3 * PATCH * PATCH;
    for (int i = 0; i < 3; i++) {
        if (n->output_shape[i] < g->patch[i]) {
            pcv_fail(b->e, PCV_ERANGE, "a side of %d, patches have %d", n->output_shape[i],
                     g->patch[i]);
            pcv_err_at(b->e, "config.json: output_shape");
            return PCV_ERANGE;
        }
        g->size[i] = n->output_shape[i] / g->patch[i];
        g->max_resolution[i] = (float)(i == 0 ? n->frames : n->image_size);
    }
    fourier(g, 32);
    return 0;
}

/* Every modality is padded with a vector of its own to the widest plus 4 channels. */
static int pad(struct hf_binder *b, struct pcv_adapter *a, int own, int channels)
{
    const float *mask = NULL;
    int r = pcv_hf_bind(b, &a->grid.pad, HF_SHAPE(1, channels - own),
                        "perceiver.input_preprocessor.padding.%s", a->name);

    a->grid.npad = channels - own;
    a->channels = channels;
    if (r == 0)
        r = pcv_hf_bind(b, &mask, HF_SHAPE(1, channels), "perceiver.input_preprocessor.mask.%s",
                        a->name);
    if (a->kind == PCV_INPUT_LABEL)
        a->token = mask;
    return r;
}

int pcv_hf_multimodal(struct hf_binder *b)
{
    enum { MIN_PADDING = 4 };
    struct pcv_adapter *label;
    char **labels;
    int nlabels, own[3], widest = 0, r;

    r = pcv_config_labels(b->c, "id2label", &labels, &nlabels, b->e);
    if (r < 0)
        return r;
    pcv_labels_free(labels, nlabels);
    nlabels = nlabels ? nlabels : 2;
    r = audio(b); /* modalities stand in alphabetical order */
    if (r == 0)
        r = video(b);
    if (r < 0)
        return r;
    label = new_adapter(b, "label", PCV_INPUT_LABEL);
    label->tensor = (struct pcv_tensor_spec){.name = "inputs.label",
                                             .dtype = PCV_F32,
                                             .ndim = 2,
                                             .shape = {-1, nlabels},
                                             .optional = true};
    for (int i = 0; i < 3; i++) {
        const struct pcv_grid_adapter *g = &b->bp->input[i].grid;

        own[i] = i == 2 ? nlabels : g->content + g->position_channels;
        widest = own[i] > widest ? own[i] : widest;
    }
    for (int i = 0; i < 3 && r == 0; i++)
        r = pad(b, &b->bp->input[i], own[i], widest + MIN_PADDING);
    return r;
}

/* ---- the bare model: tokens as they are
 * ------------------------------------------------------------------------ */

int pcv_hf_tokens(struct hf_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "tokens", PCV_INPUT_ARRAY);
    struct pcv_grid_adapter *g = &a->grid;

    a->channels = b->n->d_model;
    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs", .dtype = PCV_F32, .ndim = 3, .shape = {-1, -1, a->channels}};
    a->mask = (struct pcv_tensor_spec){
        .name = "attention_mask", .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}, .optional = true};
    g->axes = 1;
    g->before = g->raw = g->content = a->channels;
    g->size[0] = 1024; /* any number is taken; this one is what costs are quoted for */
    return 0;
}
