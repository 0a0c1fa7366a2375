/* krasserm_internal.h - what the krasserm*.c files share. */
#ifndef PCV_LAYOUT_KRASSERM_INTERNAL_H
#define PCV_LAYOUT_KRASSERM_INTERNAL_H

#include "lib/layout/layout.h"

struct kr_binder {
    struct pcv_blueprint *bp;
    struct pcv_weights *w;
    const struct pcv_config *c;                   /* config.json */
    struct pcv_config *model, *encoder, *decoder; /* model_config and what is in it */
    const char *dir;
    struct pcv_err *e;
};

enum { KR_MAX_CHANNELS = 1 << 16, KR_MAX_ROWS = 1 << 20 };

#define KR_SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)

/* Memory that the blueprint frees. NULL after pcv_fail. */
float *pcv_kr_own(struct kr_binder *b, size_t count);

PCV_CHECK int pcv_kr_affine(struct kr_binder *b, struct pcv_affine *a, int out, int in,
                            const char *name);

/* Heads, channels and widening of a cross-attention layer, under "num_cross_attention_*" of a
 * configuration. Absent channels are `qk`, and as many values as keys. */
PCV_CHECK int pcv_kr_cross_dims(struct kr_binder *b, struct pcv_layer_dims *d,
                                const struct pcv_config *c, int q_dim, int kv_dim, int qk);

/* The cross-attention layer under `name`, with the dimensions already in l->d. */
PCV_CHECK int pcv_kr_cross_layer(struct kr_binder *b, struct pcv_layer *l, const char *name);

/* Latents, layers and steps, for the input already bound. qk: see pcv_kr_cross_dims. */
PCV_CHECK int pcv_kr_encoder(struct kr_binder *b, int qk);

/* Inputs (krasserm_inputs.c): each appends an adapter to the blueprint. *qk: channels of the
 * encoder's queries where the configuration does not say. */
PCV_CHECK int pcv_kr_text(struct kr_binder *b, int *qk);
PCV_CHECK int pcv_kr_image(struct kr_binder *b, int *qk);
PCV_CHECK int pcv_kr_flow(struct kr_binder *b, int *qk);

#endif
