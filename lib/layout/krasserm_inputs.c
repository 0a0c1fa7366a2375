/* krasserm_inputs.c - what krasserm/perceiver-io's input adapters make of inputs.
 *
 * Easy to get wrong:
 * - Images are channels-last, and of one size only; max_resolution is the size itself.
 * - Fourier features are stored in the file as a buffer. They follow from the configuration, so the
 * buffer is not read; only its shape must agree. */
#include "lib/layout/krasserm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char input_adapter[] = "backend_model.0.input_adapter";

static struct pcv_adapter *new_adapter(struct kr_binder *b, const char *name,
                                       enum pcv_input_kind kind)
{
    struct pcv_adapter *a = &b->bp->input[b->bp->ninputs++];

    *a = (struct pcv_adapter){.name = name, .kind = kind};
    for (int i = 0; i < PCV_MAX_AXES; i++)
        a->grid.patch[i] = 1;
    return a;
}

int pcv_kr_text(struct kr_binder *b, int *qk)
{
    enum { BYTES = 262 }; /* vocabulary of Hugging Face's PerceiverTokenizer */
    struct pcv_adapter *a = new_adapter(b, "text", PCV_INPUT_TEXT);
    struct pcv_text_adapter *t = &a->text;
    int r = pcv_config_int_or(b->encoder, "num_input_channels", 1, KR_MAX_CHANNELS, 64,
                              &a->channels, b->e);

    *qk = b->bp->d_latents;
    if (r == 0)
        r = pcv_config_int_or(b->encoder, "vocab_size", 1, KR_MAX_ROWS, 10003, &t->vocab, b->e);
    if (r == 0)
        r = pcv_config_int_or(b->encoder, "max_seq_len", 1, KR_MAX_ROWS, 256, &t->max_positions,
                              b->e);
    t->ids_only = t->vocab != BYTES;
    a->tensor = (struct pcv_tensor_spec){
        .name = "input_ids", .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}};
    a->mask = a->tensor;
    a->mask.name = "attention_mask";
    a->mask.optional = true;
    if (r == 0)
        r = pcv_weights_bind(b->w, &t->bytes, KR_SHAPE(t->vocab, a->channels), b->e,
                             "%s.txt_embedding.weight", input_adapter);
    return r < 0 ? r
                 : pcv_weights_bind(b->w, &t->positions, KR_SHAPE(t->max_positions, a->channels),
                                    b->e, "%s.pos_embedding.weight", input_adapter);
}

/* Fourier positions of a grid of one size; the stored buffer must have their shape. */
static int fourier(struct kr_binder *b, struct pcv_adapter *a, int bands)
{
    struct pcv_grid_adapter *g = &a->grid;
    const struct pcv_tensor *stored;
    int64_t want[2] = {1, 0};
    char name[96], have[96], text[96];

    g->position = PCV_POSITION_FOURIER;
    g->order = PCV_FOURIER_BY_KIND;
    g->fixed = true;
    g->bands = bands;
    g->position_channels = g->axes * (1 + 2 * bands);
    for (int i = 0; i < g->axes; i++) {
        g->max_resolution[i] = (float)g->size[i];
        want[0] *= g->size[i];
    }
    want[1] = g->position_channels;
    a->channels = g->content + g->position_channels;
    snprintf(name, sizeof(name), "%s.position_encoding.position_encoding", input_adapter);
    stored = pcv_weights_find(b->w, name);
    if (stored && (stored->ndim != 2 || memcmp(stored->shape, want, sizeof(want)) != 0)) {
        pcv_fail(b->e, PCV_ESHAPE, "shape %s, image_shape and num_frequency_bands want %s",
                 pcv_shape_text(stored->shape, stored->ndim, have, sizeof(have)),
                 pcv_shape_text(want, 2, text, sizeof(text)));
        return pcv_err_at(b->e, "%s", name);
    }
    pcv_weights_ignore(b->w, name);
    return 0;
}

/* preprocessor_config.json must make pictures of the model's size and channels; without it, or for
 * other channels, only tensors are taken. */
static int read_prep(struct kr_binder *b, struct pcv_adapter *a)
{
    struct pcv_grid_adapter *g = &a->grid;
    struct pcv_image_prep *p = &g->prep;
    char path[4096];
    int r;

    snprintf(path, sizeof(path), "%s/preprocessor_config.json", b->dir);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    pcv_image_prep_default(p);
    r = pcv_image_prep_read(p, path, b->e);
    if (r < 0)
        return r;
    if (g->before != (p->single_channel ? 1 : 3)) {
        pcv_fail(b->e, PCV_ESHAPE,
                 "single_channel is %s, image_shape in config.json has %d channels",
                 p->single_channel ? "true" : "false", g->before);
        return pcv_err_at(b->e, "%s", path);
    }
    if (p->do_resize && (p->height != g->size[0] || p->width != g->size[1])) {
        pcv_fail(b->e, PCV_ESHAPE, "size %d x %d, but image_shape in config.json is %d x %d",
                 p->height, p->width, g->size[0], g->size[1]);
        return pcv_err_at(b->e, "%s", path);
    }
    a->kind = PCV_INPUT_IMAGE;
    return 0;
}

int pcv_kr_image(struct kr_binder *b, int *qk)
{
    struct pcv_adapter *a = new_adapter(b, "image", PCV_INPUT_ARRAY);
    struct pcv_grid_adapter *g = &a->grid;
    int shape[3] = {224, 224, 3}, bands;
    int r = pcv_config_ints_or(b->encoder, "image_shape", 3, 1, PCV_MAX_AXIS, shape, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->encoder, "num_frequency_bands", 1, 4096, 32, &bands, b->e);
    if (r != 0)
        return r;
    g->axes = 2;
    g->channels_last = true;
    g->size[0] = shape[0];
    g->size[1] = shape[1];
    g->before = g->raw = g->content = shape[2];
    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs", .dtype = PCV_F32, .ndim = 4, .shape = {-1, shape[0], shape[1], shape[2]}};
    r = fourier(b, a, bands);
    *qk = a->channels;
    return r < 0 ? r : read_prep(b, a);
}

int pcv_kr_flow(struct kr_binder *b, int *qk)
{
    struct pcv_adapter *a = new_adapter(b, "frames", PCV_INPUT_IMAGE_PAIR);
    struct pcv_grid_adapter *g = &a->grid;
    int shape[2] = {368, 496}, patch, hidden, bands;
    char name[64];
    struct pcv_affine linear = {0};
    int r = pcv_config_ints_or(b->encoder, "image_shape", 2, 1, PCV_MAX_AXIS, shape, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->encoder, "num_patch_input_channels", 1, 4096, 27, &patch, b->e);
    if (r == 0)
        r = pcv_config_int_or(b->encoder, "num_patch_hidden_channels", 1, 4096, 64, &hidden, b->e);
    if (r == 0)
        r = pcv_config_int_or(b->encoder, "num_frequency_bands", 1, 4096, 64, &bands, b->e);
    if (r != 0)
        return r;
    snprintf(name, sizeof(name), "%s.linear", input_adapter);
    r = pcv_kr_affine(b, &linear, hidden, 2 * patch, name);
    g->axes = 2;
    memcpy(g->size, shape, sizeof(shape));
    g->before = 2 * patch;
    g->project = linear.w;
    g->project_bias = linear.b;
    g->raw = g->content = hidden;
    a->tensor = (struct pcv_tensor_spec){
        .name = "inputs", .dtype = PCV_F32, .ndim = 5, .shape = {-1, 2, patch, shape[0], shape[1]}};
    if (r == 0)
        r = fourier(b, a, bands);
    *qk = a->channels;
    return r;
}
