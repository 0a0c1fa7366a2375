/* ctl_sample.h - inputs made up for a model from its description, to measure it with.
 *
 * Random, and the same every time. One thread. */
#ifndef CTL_SAMPLE_H
#define CTL_SAMPLE_H

#include "proto/wire.h"
#include "proto/wire_arena.h"

#include <stdint.h>

/* xorshift64*: a sequence for each seed. */
struct ctl_random {
    uint64_t state; /* not 0 */
};
uint64_t ctl_random_next(struct ctl_random *r);

/* A PNG file of random pixels, 8 bits, grey (1 channel) or RGB (3). Not compressed: random pixels
 * cannot be. borrow: until the arena is freed. NULL without memory. */
void *ctl_sample_png(struct wire_arena *a, struct ctl_random *r, int height, int width,
                     int channels, size_t *len);

/* `tokens` letters and blanks, NUL-terminated; with masks the first and about one in eight
 * are [MASK]. */
char *ctl_sample_text(struct wire_arena *a, struct ctl_random *r, int tokens, bool masks);

/* How large. Both sides of pictures are at most CTL_MAX_SIDE, tokens at least 2. */
enum { CTL_MAX_SIDE = 16384 };
struct ctl_sample_size {
    int height, width; /* of pictures, where the model's tensors leave it open */
    int tokens;        /* of texts, [CLS] and [SEP] counted */
};

/* Whether m takes pictures of any size: no tensor of its fixes it. */
bool ctl_sample_open(const struct wire_model_desc *m);

/* Media for each of m's inputs into r, or for one of them when they are not taken together: another
 * with each seed, from 1. PCV_EUNSUPPORTED for kinds of input that nobody here can
 * make up. */
PCV_CHECK int ctl_sample_media(struct wire_request *r, struct wire_arena *a,
                               const struct wire_model_desc *m, const struct ctl_sample_size *size,
                               uint64_t seed, struct pcv_err *e);

/* Tensors for each of m's input tensors that is not optional. */
PCV_CHECK int ctl_sample_tensors(struct wire_request *r, struct wire_arena *a,
                                 const struct wire_model_desc *m,
                                 const struct ctl_sample_size *size, uint64_t seed,
                                 struct pcv_err *e);

#endif
