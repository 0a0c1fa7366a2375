/* tiny.h - models small enough for unit tests, in Hugging Face's layout, written into a temporary
 * folder. Configuration and tensors can be spoilt before they are written. */
#ifndef TINY_H
#define TINY_H

#include "lib/base/tensor.h"
#include "tests/unit/check.h"

#include <unistd.h>

enum { TINY_TENSORS = 400, TINY_KEYS = 40 };

/* Sizes; 0 where a class does not have it. */
struct tiny {
    const char *architecture;
    int latents, d, blocks, layers, self_heads, cross_heads, qk, v, widening;
    int d_model, vocab, positions; /* text */
    int image_size;                /* learned positions */
    int labels;
};

static const struct tiny tiny_masked_lm = {.architecture = "PerceiverForMaskedLM",
                                           .latents = 6,
                                           .d = 16,
                                           .blocks = 1,
                                           .layers = 2,
                                           .self_heads = 2,
                                           .cross_heads = 2,
                                           .qk = 8,
                                           .v = 16,
                                           .widening = 1,
                                           .d_model = 24,
                                           .vocab = 262,
                                           .positions = 20};
static const struct tiny tiny_text_classifier = {.architecture =
                                                     "PerceiverForSequenceClassification",
                                                 .latents = 5,
                                                 .d = 12,
                                                 .blocks = 2,
                                                 .layers = 1,
                                                 .self_heads = 3,
                                                 .cross_heads = 2,
                                                 .qk = 6,
                                                 .v = 12,
                                                 .widening = 2,
                                                 .d_model = 10,
                                                 .vocab = 262,
                                                 .positions = 16,
                                                 .labels = 3};
static const struct tiny tiny_fourier = {.architecture = "PerceiverForImageClassificationFourier",
                                         .latents = 7,
                                         .d = 8,
                                         .blocks = 2,
                                         .layers = 1,
                                         .self_heads = 2,
                                         .cross_heads = 1,
                                         .widening = 1,
                                         .labels = 4};
static const struct tiny tiny_learned = {.architecture = "PerceiverForImageClassificationLearned",
                                         .latents = 4,
                                         .d = 8,
                                         .blocks = 1,
                                         .layers = 1,
                                         .self_heads = 1,
                                         .cross_heads = 1,
                                         .widening = 1,
                                         .image_size = 5,
                                         .labels = 2};

/* ---- config.json: keys with their values as JSON text -----------------------------------------
 */

struct tiny_config {
    char key[TINY_KEYS][48], value[TINY_KEYS][200];
    int n;
};

/* Sets a key; value NULL takes it out. */
static inline void tiny_set(struct tiny_config *c, const char *key, const char *value)
{
    int i = 0;

    while (i < c->n && strcmp(c->key[i], key) != 0)
        i++;
    if (!value) {
        assert_true(i < c->n);
        c->n--;
        memmove(c->key[i], c->key[i + 1], (size_t)(c->n - i) * sizeof(c->key[0]));
        memmove(c->value[i], c->value[i + 1], (size_t)(c->n - i) * sizeof(c->value[0]));
        return;
    }
    assert_true(i < TINY_KEYS);
    snprintf(c->key[i], sizeof(c->key[i]), "%s", key);
    snprintf(c->value[i], sizeof(c->value[i]), "%s", value);
    c->n += i == c->n;
}

/* A number; 0 becomes null, as the upstream writes what a model does not have. */
static inline void tiny_set_int(struct tiny_config *c, const char *key, int value)
{
    char text[16];

    snprintf(text, sizeof(text), value ? "%d" : "null", value);
    tiny_set(c, key, text);
}

static inline void tiny_config(struct tiny_config *c, const struct tiny *t)
{
    char text[200];

    c->n = 0;
    tiny_set(c, "model_type", "\"perceiver\"");
    snprintf(text, sizeof(text), "[\"%s\"]", t->architecture);
    tiny_set(c, "architectures", text);
    tiny_set_int(c, "num_latents", t->latents);
    tiny_set_int(c, "d_latents", t->d);
    tiny_set_int(c, "num_blocks", t->blocks);
    tiny_set_int(c, "num_self_attends_per_block", t->layers);
    tiny_set_int(c, "num_self_attention_heads", t->self_heads);
    tiny_set_int(c, "num_cross_attention_heads", t->cross_heads);
    tiny_set_int(c, "qk_channels", t->qk);
    tiny_set_int(c, "v_channels", t->v);
    tiny_set_int(c, "self_attention_widening_factor", t->widening);
    tiny_set_int(c, "cross_attention_widening_factor", t->widening);
    tiny_set_int(c, "d_model", t->d_model);
    tiny_set_int(c, "vocab_size", t->vocab);
    tiny_set_int(c, "max_position_embeddings", t->positions);
    tiny_set_int(c, "image_size", t->image_size);
    tiny_set(c, "hidden_act", "\"gelu\"");
    if (t->labels) {
        int at = snprintf(text, sizeof(text), "{");

        for (int i = 0; i < t->labels; i++)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "%s\"%d\":\"label %d\"",
                           i ? "," : "", i, i);
        snprintf(text + at, sizeof(text) - (size_t)at, "}");
        tiny_set(c, "id2label", text);
    }
}

/* ---- model.safetensors -------------------------------------------------------------------------
 */

struct tiny_file {
    struct pcv_tensor t[TINY_TENSORS];
    char name[TINY_TENSORS][128];
    float *data[TINY_TENSORS];
    int n;
    uint64_t seed;
};

/* Adds a tensor of numbers around `middle`; the shape ends with 0. */
static inline void tiny_add(struct tiny_file *f, const char *name, float middle, float spread,
                            const int *shape)
{
    struct pcv_tensor *t = &f->t[f->n];
    size_t count = 1;

    assert_true(f->n < TINY_TENSORS);
    *t = (struct pcv_tensor){.dtype = PCV_F32};
    for (; shape[t->ndim]; t->ndim++) {
        t->shape[t->ndim] = shape[t->ndim];
        count *= (size_t)shape[t->ndim];
    }
    snprintf(f->name[f->n], sizeof(f->name[0]), "%s", name);
    f->data[f->n] = random_new(&f->seed, count, middle, spread);
    t->name = f->name[f->n];
    t->data = f->data[f->n];
    t->nbytes = count * sizeof(float);
    f->n++;
}

#define TINY_SHAPE(...)                                                                            \
    (const int[])                                                                                  \
    {                                                                                              \
        __VA_ARGS__, 0                                                                             \
    }

static inline struct pcv_tensor *tiny_find(struct tiny_file *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->name[i], name) == 0)
            return &f->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Puts the last tensor in its place. */
static inline void tiny_remove(struct tiny_file *f, const char *name)
{
    const int i = (int)(tiny_find(f, name) - f->t);

    free(f->data[i]);
    f->n--;
    if (i == f->n)
        return;
    f->t[i] = f->t[f->n];
    f->data[i] = f->data[f->n];
    memcpy(f->name[i], f->name[f->n], sizeof(f->name[0]));
    f->t[i].name = f->name[i];
}

static inline void tiny_free(struct tiny_file *f)
{
    while (f->n > 0)
        free(f->data[--f->n]);
}

static inline void tiny_affine(struct tiny_file *f, const char *prefix, const char *name, int out,
                               int in)
{
    char full[160];

    snprintf(full, sizeof(full), "%s.%s.weight", prefix, name);
    tiny_add(f, full, 0, 1.5f * sqrtf(3.0f / (float)in), TINY_SHAPE(out, in));
    snprintf(full, sizeof(full), "%s.%s.bias", prefix, name);
    tiny_add(f, full, 0, 0.4f, TINY_SHAPE(out));
}

static inline void tiny_norm(struct tiny_file *f, const char *prefix, const char *name, int n)
{
    char full[160];

    snprintf(full, sizeof(full), "%s.%s.weight", prefix, name);
    tiny_add(f, full, 1, 0.4f, TINY_SHAPE(n));
    snprintf(full, sizeof(full), "%s.%s.bias", prefix, name);
    tiny_add(f, full, 0, 0.4f, TINY_SHAPE(n));
}

static inline void tiny_layer(struct tiny_file *f, const char *prefix, int q_dim, int kv_dim,
                              int qk, int v, int hidden, int cross)
{
    tiny_norm(f, prefix, "attention.self.layernorm1", q_dim);
    if (cross)
        tiny_norm(f, prefix, "attention.self.layernorm2", kv_dim);
    tiny_affine(f, prefix, "attention.self.query", qk, q_dim);
    tiny_affine(f, prefix, "attention.self.key", qk, kv_dim);
    tiny_affine(f, prefix, "attention.self.value", v, kv_dim);
    tiny_affine(f, prefix, "attention.output.dense", q_dim, v);
    tiny_norm(f, prefix, "layernorm", q_dim);
    tiny_affine(f, prefix, "mlp.dense1", hidden, q_dim);
    tiny_affine(f, prefix, "mlp.dense2", q_dim, hidden);
}

/* The adapter's tensors; returns the channels of a token. */
static inline int tiny_input(struct tiny_file *f, const struct tiny *t)
{
    if (t->d_model) {
        tiny_add(f, "perceiver.input_preprocessor.embeddings.weight", 0, 1.5f,
                 TINY_SHAPE(t->vocab, t->d_model));
        tiny_add(f, "perceiver.input_preprocessor.position_embeddings.weight", 0, 1.5f,
                 TINY_SHAPE(t->positions, t->d_model));
        return t->d_model;
    }
    if (!t->image_size)
        return 3 + 2 * (1 + 2 * 64);
    tiny_add(f, "perceiver.input_preprocessor.convnet_1x1.weight", 0, 1, TINY_SHAPE(256, 3, 1, 1));
    tiny_add(f, "perceiver.input_preprocessor.convnet_1x1.bias", 0, 0.4f, TINY_SHAPE(256));
    tiny_add(f, "perceiver.input_preprocessor.position_embeddings.position_embeddings", 0, 1,
             TINY_SHAPE(t->image_size * t->image_size, 256));
    tiny_affine(f, "perceiver.input_preprocessor", "positions_projection", 256, 256);
    return 512;
}

static inline void tiny_tensors(struct tiny_file *f, const struct tiny *t)
{
    char prefix[80];
    int c;

    *f = (struct tiny_file){.seed = 1};
    c = tiny_input(f, t);
    tiny_add(f, "perceiver.embeddings.latents", 0, 1, TINY_SHAPE(t->latents, t->d));
    tiny_layer(f, "perceiver.encoder.cross_attention", t->d, c, t->qk ? t->qk : c, t->v ? t->v : c,
               t->widening * t->d, 1);
    for (int i = 0; i < t->layers; i++) {
        snprintf(prefix, sizeof(prefix), "perceiver.encoder.self_attends.%d", i);
        tiny_layer(f, prefix, t->d, t->d, t->qk ? t->qk : t->d, t->d, t->widening * t->d, 0);
    }
    if (!t->labels) {
        tiny_add(f, "perceiver.decoder.output_position_encodings.position_embeddings", 0, 1,
                 TINY_SHAPE(t->positions, t->d_model));
        tiny_layer(f, "perceiver.decoder.decoding_cross_attention", t->d_model, t->d, 256,
                   t->d_model, t->d_model, 1);
        tiny_add(f, "embedding_decoder.bias", 0, 1, TINY_SHAPE(t->vocab));
        return;
    }
    tiny_add(f, "perceiver.decoder.decoder.output_position_encodings.position_embeddings", 0, 1,
             TINY_SHAPE(1, t->d));
    tiny_layer(f, "perceiver.decoder.decoder.decoding_cross_attention", t->d, t->d, t->d, t->d,
               t->d, 1);
    tiny_affine(f, "perceiver.decoder.decoder", "final_layer", t->labels, t->d);
}

/* ---- the folder ---------------------------------------------------------------------------------
 */

static char tiny_dir[64];

static inline const char *tiny_path(const char *file)
{
    static char path[2][128];
    static int turn;

    snprintf(path[turn ^= 1], sizeof(path[0]), "%s/%s", tiny_dir, file);
    return path[turn];
}

static inline void tiny_write_text(const char *file, const char *text)
{
    FILE *f = fopen(tiny_path(file), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static inline void tiny_write_config(const struct tiny_config *c)
{
    char text[TINY_KEYS * 256];
    int at = snprintf(text, sizeof(text), "{");

    for (int i = 0; i < c->n; i++)
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%s\n  \"%s\": %s", i ? "," : "",
                       c->key[i], c->value[i]);
    snprintf(text + at, sizeof(text) - (size_t)at, "\n}\n");
    tiny_write_text("config.json", text);
}

/* By hand: the library's writer waits for the disk. A new file: the old one may still be mapped. */
static inline void tiny_write_tensors(const struct tiny_file *f)
{
    const int gone = unlink(tiny_path("model.safetensors"));
    FILE *out = fopen(tiny_path("model.safetensors"), "wb");
    char *head = malloc((size_t)f->n * 256 + 16);
    size_t at = 0, end = 0;

    (void)gone;
    assert_true(out && head);
    for (int i = 0; i < f->n; end += f->t[i++].nbytes) {
        char shape[96];

        at += (size_t)sprintf(head + at,
                              "%c\"%s\":{\"dtype\":\"%s\",\"shape\":%s,"
                              "\"data_offsets\":[%zu,%zu]}",
                              i ? ',' : '{', f->t[i].name, pcv_dtype_name(f->t[i].dtype),
                              pcv_shape_text(f->t[i].shape, f->t[i].ndim, shape, sizeof(shape)),
                              end, end + f->t[i].nbytes);
    }
    head[at++] = '}';
    while (at % 8)
        head[at++] = ' ';
    for (int i = 0; i < 8; i++)
        fputc((int)(at >> 8 * i & 255), out);
    fwrite(head, 1, at, out);
    for (int i = 0; i < f->n; i++)
        fwrite(f->t[i].data, 1, f->t[i].nbytes, out);
    assert_int_equal(fclose(out), 0);
    free(head);
}

/* The whole model as it should be. Returns its folder. */
static inline const char *tiny_model(const struct tiny *t)
{
    struct tiny_config *c = malloc(sizeof(*c));
    struct tiny_file *f = malloc(sizeof(*f));

    assert_true(c && f);
    tiny_config(c, t);
    tiny_tensors(f, t);
    tiny_write_config(c);
    tiny_write_tensors(f);
    tiny_free(f);
    free(f);
    free(c);
    return tiny_dir;
}

static inline int tiny_setup(void **state)
{
    (void)state;
    strcpy(tiny_dir, "/tmp/perceiver_tiny.XXXXXX");
    return mkdtemp(tiny_dir) ? 0 : -1;
}

static inline int tiny_teardown(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors",
                                        "preprocessor_config.json"};

    (void)state;
    for (size_t i = 0; i < LEN(files); i++)
        unlink(tiny_path(files[i]));
    return rmdir(tiny_dir);
}

#endif
