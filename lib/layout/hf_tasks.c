/* hf_tasks.c - what Hugging Face's decoders and postprocessors compute.
 *
 * Easy to get wrong:
 * - The masked LM's decoder has 8 heads, qk = 8 x 32 and v = d_model whatever the configuration
 * says, no query residual and no final layer: its head is the byte embedding, transposed, plus a
 * bias.
 * - Flow: queries are the encoder's input tokens; no residual; the result is divided by 100.
 * - Autoencoding: queries are positions -1 + 2 i / N (not linspace: 1 is never reached), padded by
 * a vector per modality; final layer and postprocessor are two linear maps and become one here. */
#include "lib/input/fourier.h"
#include "lib/kernel/gemm.h"
#include "lib/layout/hf_internal.h"

#include <stdio.h>
#include <string.h>

static struct pcv_task *new_task(struct hf_binder *b, const char *name, enum pcv_task_kind kind)
{
    struct pcv_task *t = &b->bp->task[b->bp->ntasks++];

    *t = (struct pcv_task){.name = name, .kind = kind};
    return t;
}

static struct pcv_tensor_spec logits(int width, int middle)
{
    struct pcv_tensor_spec s = {
        .name = "logits", .dtype = PCV_F32, .ndim = middle ? 3 : 2, .shape = {-1, -1}};

    s.shape[s.ndim - 1] = width;
    return s;
}

/* A decoder's cross-attention with the classes' defaults: one head, keys' width, no widening. */
static struct pcv_layer_dims decoder_dims(int q_dim, int d_latents)
{
    return (struct pcv_layer_dims){
        .heads = 1,
        .q_dim = q_dim,
        .kv_dim = d_latents,
        .qk = d_latents,
        .v = d_latents,
        .hidden = q_dim,
        .cross = true,
    };
}

int pcv_hf_task_fill_mask(struct hf_binder *b)
{
    const struct hf_numbers *n = b->n;
    struct pcv_task *t = new_task(b, "fill-mask", PCV_TASK_FILL_MASK);
    int r;

    t->rows = n->positions;
    t->width = n->vocab;
    t->output = logits(n->vocab, 1);
    t->layer.d = decoder_dims(n->d_model, b->bp->d_latents);
    t->layer.d.heads = 8;
    t->layer.d.qk = 8 * 32;
    t->layer.d.v = n->d_model;
    b->bp->padded_rows = n->positions;
    r = pcv_hf_bind(b, &t->query, HF_SHAPE(n->positions, n->d_model),
                    "perceiver.decoder.output_position_encodings.position_embeddings");
    if (r == 0)
        r = pcv_hf_layer(b, &t->layer, "decoder.decoding_cross_attention");
    t->head.w = b->bp->input[0].text.bytes;
    if (r == 0)
        r = pcv_hf_bind(b, &t->head.b, HF_SHAPE(n->vocab), "embedding_decoder.bias");
    return r;
}

/* id2label, or as many labels as PretrainedConfig's default has. */
static int read_labels(struct hf_binder *b, struct pcv_task *t)
{
    int r = pcv_config_labels(b->c, "id2label", &t->labels, &t->width, b->e);

    if (r == 0 && !t->labels)
        r = pcv_config_int_or(b->c, "num_labels", 1, HF_MAX_ROWS, 2, &t->width, b->e);
    return r;
}

int pcv_hf_task_classify(struct hf_binder *b)
{
    struct pcv_task *t = new_task(b, "classify", PCV_TASK_CLASSIFY);
    const int d = b->bp->d_latents;
    int r = read_labels(b, t);

    if (r < 0)
        return r;
    t->rows = 1;
    t->output = logits(t->width, 0);
    t->layer.d = decoder_dims(d, d);
    /* DeepMind's classifier on learned positions has no query residual; Hugging Face's port has. */
    t->layer.d.residual = !(b->deepmind && b->bp->input[0].grid.position == PCV_POSITION_LEARNED);
    r = pcv_hf_bind(b, &t->query, HF_SHAPE(1, d),
                    "perceiver.decoder.decoder.output_position_encodings.position_embeddings");
    if (r == 0)
        r = pcv_hf_layer(b, &t->layer, "decoder.decoder.decoding_cross_attention");
    return r < 0 ? r : pcv_hf_affine(b, &t->head, t->width, d, "decoder.decoder.final_layer");
}

int pcv_hf_task_flow(struct hf_binder *b)
{
    enum { RESCALE = 100, UV = 2 };
    struct pcv_task *t = new_task(b, "flow", PCV_TASK_FLOW);
    const int *size = b->n->train_size, width = b->bp->input[0].channels;
    struct pcv_affine final;
    float *w;
    int r;

    t->source = PCV_QUERY_INPUT;
    t->rows = size[0] * size[1];
    t->width = UV;
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 4, .shape = {-1, size[0], size[1], UV}};
    t->layer.d = decoder_dims(width, b->bp->d_latents);
    r = pcv_hf_layer(b, &t->layer, "decoder.decoder.decoding_cross_attention");
    if (r == 0)
        r = pcv_hf_affine(b, &final, UV, width, "decoder.decoder.final_layer");
    if (r != 0)
        return r;
    w = pcv_hf_own(b, (size_t)UV * width + UV);
    if (!w)
        return PCV_ENOMEM;
    for (int i = 0; i < UV * width; i++)
        w[i] = final.w[i] / RESCALE;
    for (int i = 0; i < UV; i++)
        w[UV * width + i] = final.b[i] / RESCALE;
    t->head = (struct pcv_affine){w, w + (size_t)UV * width};
    return 0;
}

/* ---- multimodal autoencoding
 * ----------------------------------------------------------------------------- */

enum { OUTPUT_CHANNELS = 512, LABEL_QUERY = 1024, QUERY_PADDING = 2 };

/* Features of positions -1 + 2 i / size: [size, 1 + 2 bands]. */
static float *query_axis(struct hf_binder *b, int size, int bands, float max_resolution)
{
    float *table = pcv_hf_own(b, (size_t)size * (1 + 2 * bands));

    for (int i = 0; table && i < size; i++)
        pcv_fourier_features(table + (size_t)i * (1 + 2 * bands),
                             -1.0f + (float)(2 * i) / (float)size, bands, max_resolution);
    return table;
}

/* Where the query array's padding vector stands, after `own` channels. */
static int query_pad(struct hf_binder *b, struct pcv_segment *s, const char *name, int own,
                     int channels)
{
    struct pcv_group *g = &s->group[s->ngroups++];

    *g = (struct pcv_group){.kind = PCV_GROUP_CONST,
                            .n = channels - own,
                            .nranges = 1,
                            .range = {{own, channels - own}},
                            .constant = -1};
    return pcv_hf_bind(b, &g->value, HF_SHAPE(1, channels - own), "perceiver.decoder.padding.%s",
                       name);
}

/* The grid of output positions of a modality, as a factored query array. */
static int grid_queries(struct hf_binder *b, struct pcv_task *t, const struct pcv_grid_adapter *g,
                        const int *size, const char *name, int channels)
{
    struct pcv_segment *s = &t->queries.segment[0];
    const int k = g->bands, d = g->axes;
    int64_t div = 1;
    int r;

    t->queries.channels = channels;
    t->queries.nsegments = 1;
    for (int i = 0; i < d; i++)
        div *= size[i];
    if (div > PCV_MAX_PIXELS) {
        pcv_fail(b->e, PCV_ELIMIT, "%lld output queries, %d are the limit", (long long)div,
                 PCV_MAX_PIXELS);
        pcv_err_at(b->e, "config.json: output_shape");
        return PCV_ELIMIT;
    }
    s->tokens = div;
    t->rows = (int)div;
    for (int i = 0; i < d; i++) {
        float *table = query_axis(b, size[i], k, g->max_resolution[i]);

        if (!table)
            return PCV_ENOMEM;
        div /= size[i];
        s->group[s->ngroups++] = (struct pcv_group){
            .kind = PCV_GROUP_TABLE,
            .n = 1 + 2 * k,
            .nranges = 3,
            .range = {{i, 1}, {d + i * k, k}, {d + d * k + i * k, k}},
            .table = table,
            .rows = size[i],
            .div = div,
            .constant = -1,
        };
    }
    r = query_pad(b, s, name, g->position_channels, channels);
    return r < 0 ? r : pcv_blueprint_stats(b->bp, s, channels, 1e-5f, b->e);
}

/* The label's one learned query, as a query array of one token. */
static int label_query(struct hf_binder *b, struct pcv_task *t, int channels)
{
    struct pcv_segment *s = &t->queries.segment[0];
    const float *query;
    int r = pcv_hf_bind(b, &query, HF_SHAPE(1, LABEL_QUERY),
                        "perceiver.decoder.modalities.label.decoder."
                        "output_position_encodings.position_embeddings");

    if (r < 0)
        return r;
    t->queries.channels = channels;
    t->queries.nsegments = 1;
    t->rows = 1;
    s->tokens = 1;
    s->group[s->ngroups++] = (struct pcv_group){.kind = PCV_GROUP_CONST,
                                                .n = LABEL_QUERY,
                                                .nranges = 1,
                                                .range = {{0, LABEL_QUERY}},
                                                .value = query,
                                                .constant = -1};
    r = query_pad(b, s, "label", LABEL_QUERY, channels);
    return r < 0 ? r : pcv_blueprint_stats(b->bp, s, channels, 1e-5f, b->e);
}

/* head = classifier(final_layer(x)): one map instead of two. */
static int join_heads(struct hf_binder *b, struct pcv_task *t, const struct pcv_affine *final,
                      const char *name, int channels)
{
    struct pcv_affine post;
    char full[96];
    float *w;
    int r;

    snprintf(full, sizeof(full), "output_postprocessor.modalities.%s.classifier", name);
    r = pcv_hf_affine(b, &post, t->width, OUTPUT_CHANNELS, full);
    if (r < 0)
        return r;
    w = pcv_hf_own(b, (size_t)t->width * (size_t)(channels + 1));
    if (!w)
        return PCV_ENOMEM;
    t->head = (struct pcv_affine){w, w + (size_t)t->width * channels};
    pcv_gemm_nn(t->width, channels, OUTPUT_CHANNELS, post.w, OUTPUT_CHANNELS, final->w, channels, w,
                channels, 0);
    for (int i = 0; i < t->width; i++) {
        double sum = post.b[i];

        for (int c = 0; c < OUTPUT_CHANNELS; c++)
            sum += (double)post.w[(size_t)i * OUTPUT_CHANNELS + c] * final->b[c];
        w[(size_t)t->width * channels + i] = (float)sum;
    }
    return 0;
}

static void describe_autoencode(struct pcv_task *audio, struct pcv_task *image,
                                struct pcv_task *label)
{
    audio->output = (struct pcv_tensor_spec){
        .name = "logits.audio", .dtype = PCV_F32, .ndim = 2, .shape = {-1, -1}};
    audio->points = "subsampled_output_points.audio";
    image->output = (struct pcv_tensor_spec){
        .name = "logits.image", .dtype = PCV_F32, .ndim = 3, .shape = {-1, -1, image->width}};
    image->points = "subsampled_output_points.image";
    label->output = (struct pcv_tensor_spec){
        .name = "logits.label", .dtype = PCV_F32, .ndim = 2, .shape = {-1, label->width}};
}

int pcv_hf_task_autoencode(struct hf_binder *b)
{
    static const char *const names[] = {"audio", "image", "label"};
    const struct pcv_grid_adapter *audio_grid = &b->bp->input[0].grid;
    const struct pcv_grid_adapter *image_grid = &b->bp->input[1].grid;
    struct pcv_task *task[3] = {
        new_task(b, "audio", PCV_TASK_AUDIO),
        new_task(b, "image", PCV_TASK_IMAGE),
        new_task(b, "classify", PCV_TASK_CLASSIFY),
    };
    const int widest =
        audio_grid->position_channels > LABEL_QUERY ? audio_grid->position_channels : LABEL_QUERY;
    const int channels = widest + QUERY_PADDING;
    struct pcv_layer layer = {.d = decoder_dims(channels, b->bp->d_latents)};
    struct pcv_affine final;
    int r = pcv_hf_layer(b, &layer, "decoder.decoder.decoding_cross_attention");

    if (r == 0)
        r = pcv_hf_affine(b, &final, OUTPUT_CHANNELS, channels, "decoder.decoder.final_layer");
    memcpy(task[1]->grid, b->n->output_shape, sizeof(task[1]->grid));
    task[0]->rate = HF_AUDIO_RATE;
    task[0]->width = b->n->samples_per_patch;
    task[1]->width = 3;
    if (r == 0)
        r = read_labels(b, task[2]);
    if (r == 0)
        r = grid_queries(b, task[0], audio_grid, audio_grid->size, "audio", channels);
    if (r == 0)
        r = grid_queries(b, task[1], image_grid, b->n->output_shape, "image", channels);
    if (r == 0)
        r = label_query(b, task[2], channels);
    for (int i = 0; i < 3 && r == 0; i++) {
        task[i]->layer = layer;
        task[i]->source = PCV_QUERY_GRID;
        task[i]->between = OUTPUT_CHANNELS;
        r = join_heads(b, task[i], &final, names[i], channels);
    }
    describe_autoencode(task[0], task[1], task[2]);
    return r;
}

/* ---- the bare model
 * ------------------------------------------------------------------------------------------ */

int pcv_hf_task_latents(struct hf_binder *b)
{
    struct pcv_task *t = new_task(b, "latents", PCV_TASK_LATENTS);

    t->decoder = PCV_DECODER_LATENTS;
    t->rows = b->bp->num_latents;
    t->width = b->bp->d_latents;
    t->output = (struct pcv_tensor_spec){
        .name = "last_hidden_state", .dtype = PCV_F32, .ndim = 3, .shape = {-1, t->rows, t->width}};
    return 0;
}
