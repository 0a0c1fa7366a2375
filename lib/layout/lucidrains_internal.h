/* lucidrains_internal.h - what the lucidrains*.c files share. */
#ifndef PCV_LAYOUT_LUCIDRAINS_INTERNAL_H
#define PCV_LAYOUT_LUCIDRAINS_INTERNAL_H

#include "lib/layout/layout.h"

/* Arguments that all constructors share. */
struct luc_numbers {
    int depth, num_latents, latent_dim;
    int cross_heads, latent_heads, cross_dim_head, latent_dim_head;
    int self_per_cross;
    bool tied;
};

struct luc_binder {
    struct pcv_blueprint *bp;
    struct pcv_weights *w;
    const struct pcv_config *c;
    struct luc_numbers n;
    const char *dir;
    const char *prefix; /* of all tensors: "perceiver_io.", or "" */
    struct pcv_err *e;
};

enum { LUC_MAX_CHANNELS = 1 << 16, LUC_MAX_ROWS = 1 << 20 };

#define LUC_SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)

/* A linear map, with its bias; a norm. `name` is completed by the prefix. */
PCV_CHECK int pcv_luc_affine(struct luc_binder *b, struct pcv_affine *a, int out, int in,
                             const char *name);
PCV_CHECK int pcv_luc_norm(struct luc_binder *b, struct pcv_norm *n, int dim, const char *name);

/* PreNorm(Attention) under `attention` and PreNorm(FeedForward) under `ff`, with the dimensions
 * already in l->d; hidden 0: there is no ff. */
PCV_CHECK int pcv_luc_layer(struct luc_binder *b, struct pcv_layer *l, const char *attention,
                            const char *ff);

/* Latents, layers and steps, in the names of either generation of the package. */
PCV_CHECK int
pcv_luc_perceiver(struct luc_binder *b); /* depth x (cross-attention, self-attentions) */
PCV_CHECK int
pcv_luc_perceiver_io(struct luc_binder *b); /* cross-attention, depth x self-attention */

#endif
