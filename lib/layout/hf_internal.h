/* hf_internal.h - what the hf*.c files share. */
#ifndef PCV_LAYOUT_HF_INTERNAL_H
#define PCV_LAYOUT_HF_INTERNAL_H

#include "lib/layout/layout.h"

/* Numbers of config.json that all classes share. */
struct hf_numbers {
    int d_model, blocks, layers, self_heads, cross_heads, qk, v, self_widening, cross_widening;
    int vocab, positions, image_size, frames, samples_per_frame, samples_per_patch;
    int train_size[2], output_shape[3]; /* frames, height, width */
    bool residual, shape_kv;
    enum pcv_activation activation;
};

struct hf_binder {
    struct pcv_blueprint *bp;
    struct pcv_weights *w;
    const struct pcv_config *c;
    const struct hf_numbers *n;
    const char *dir;
    bool deepmind;      /* DeepMind's checkpoint, and its differences */
    const char *prefix; /* of all tensors: "perceiver.", or "" for the bare model */
    struct pcv_err *e;
};

enum { HF_MAX_CHANNELS = 1 << 16, HF_MAX_ROWS = 1 << 20, HF_AUDIO_RATE = 48000 };

#define HF_SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)

/* A tensor by Hugging Face's name, from its own files or renamed to DeepMind's. */
PCV_CHECK int pcv_hf_bind(struct hf_binder *b, const float **ret, const int64_t *shape, int ndim,
                          const char *name_format, ...) PCV_PRINTF(5, 6);

/* Memory that the blueprint frees. NULL after pcv_fail. */
float *pcv_hf_own(struct hf_binder *b, size_t count);

PCV_CHECK int pcv_hf_affine(struct hf_binder *b, struct pcv_affine *a, int out, int in,
                            const char *name);
PCV_CHECK int pcv_hf_norm(struct hf_binder *b, struct pcv_norm *n, int dim, const char *name);

/* A PerceiverLayer under `name`, with the dimensions already in l->d. */
PCV_CHECK int pcv_hf_layer(struct hf_binder *b, struct pcv_layer *l, const char *name);

/* Inputs (hf_inputs.c): each appends adapters to the blueprint. */
PCV_CHECK int pcv_hf_text(struct hf_binder *b);
PCV_CHECK int pcv_hf_image_fourier(struct hf_binder *b);
PCV_CHECK int pcv_hf_image_learned(struct hf_binder *b);
PCV_CHECK int pcv_hf_image_conv(struct hf_binder *b);
PCV_CHECK int pcv_hf_flow(struct hf_binder *b);
PCV_CHECK int pcv_hf_multimodal(struct hf_binder *b);
PCV_CHECK int pcv_hf_tokens(struct hf_binder *b);

/* Tasks (hf_tasks.c): each appends to the blueprint, after inputs and encoder. */
PCV_CHECK int pcv_hf_task_fill_mask(struct hf_binder *b);
PCV_CHECK int pcv_hf_task_classify(struct hf_binder *b);
PCV_CHECK int pcv_hf_task_flow(struct hf_binder *b);
PCV_CHECK int pcv_hf_task_autoencode(struct hf_binder *b);
PCV_CHECK int pcv_hf_task_latents(struct hf_binder *b);

#endif
