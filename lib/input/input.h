/* input.h - one input on its way to the encoder: a token array and what it was made from.
 *
 * Adapters append segments to a new pcv_input and own their memory through it; on failure they
 * leave it for pcv_input_free. Afterwards it is read-only. Any thread. */
#ifndef PCV_INPUT_INPUT_H
#define PCV_INPUT_INPUT_H

#include "lib/attention/tokens.h"
#include "lib/input/adapter.h"
#include "lib/kernel/kernels.h"

enum { PCV_INPUT_ARRAYS = 48 };

struct pcv_input {
    size_t owned_bytes; /* of all arrays */
    int nowned;
    int which; /* index of the model's input it is; 0 where all are together */
    int nsides, sides[PCV_MAX_AXES]; /* grid of the tokens, slowest first; 0: not on one */

    int positions;    /* text: [CLS] .. [SEP], masked-out ones too */
    int32_t *ids;     /* [positions] */
    int64_t *offsets; /* [positions] byte in the text, -1; NULL when made from tensors */

    /* What is beyond the counts in these is not cleared: together they are 16 KB. */
    struct pcv_tokens tokens;
    struct pcv_tokens queries; /* given by the caller, or all tokens where the mask left some out of
                                  `tokens` and the decoder asks for every one; nsegments 0: none */
    void *owned[PCV_INPUT_ARRAYS];
    size_t size[PCV_INPUT_ARRAYS]; /* of each, in bytes */
};

/* An input without segments. NULL without memory. own: pcv_input_free */
struct pcv_input *pcv_input_new(void);

/* Memory that lives as long as the input. NULL when refused. */
void *pcv_input_take(struct pcv_input *in, size_t count, size_t size);

/* Frees what pcv_input_take gave. */
void pcv_input_drop(struct pcv_input *in, void *p);

/* An empty segment at the end of t; the caller fills its groups. */
struct pcv_segment *pcv_input_segment(struct pcv_tokens *t, int channels, int64_t tokens);

/* LayerNorm statistics of the segments of t; the last step of every input. */
PCV_CHECK int pcv_input_finish(struct pcv_input *in, struct pcv_tokens *t,
                               const struct pcv_kernels *k, float eps, struct pcv_err *e);

/* UTF-8 text to [CLS] bytes [SEP]. */
PCV_CHECK int pcv_text_from_utf8(struct pcv_input *in, const struct pcv_adapter *a,
                                 const char *text, size_t len, struct pcv_err *e);

/* Token ids [n]; keep [n], 0 = left out (NULL keeps all). */
PCV_CHECK int pcv_text_from_ids(struct pcv_input *in, const struct pcv_adapter *a,
                                const int64_t *ids, const uint8_t *keep, int n, struct pcv_err *e);

enum pcv_content_order { PCV_BY_PLANE, PCV_BY_TOKEN };

/* Numbers on a grid. content, [raw, tokens] or by token, is the input's own (pcv_input_take); size
 * in tokens by axis; keep [tokens], 0 = left out (NULL keeps all). */
PCV_CHECK int pcv_grid_append(struct pcv_input *in, const struct pcv_adapter *a, float *content,
                              enum pcv_content_order order, const int *size, const uint8_t *keep,
                              struct pcv_err *e);

/* From an adapter's tensor layout: numbers [elements] of one row of the batch, size by axis as the
 * tensor has it (pixels, frames, samples), checked and rearranged. */
PCV_CHECK int pcv_grid_from_numbers(struct pcv_input *in, const struct pcv_adapter *a,
                                    const float *numbers, const int *size, const uint8_t *keep,
                                    struct pcv_err *e);

/* Whether a's tensor is [axes.., channels]. */
bool pcv_grid_channels_last(const struct pcv_adapter *a);

/* The same from a picture: planes [channels, axes..], whatever the tensor's layout is. */
PCV_CHECK int pcv_grid_from_planes(struct pcv_input *in, const struct pcv_adapter *a,
                                   const float *planes, const int *size, struct pcv_err *e);

/* A sound that may be shorter than the model's: samples [n] at its rate, 1 <= n <= grid.samples, as
 * patches or frames of its spectrum. */
PCV_CHECK int pcv_sound_append(struct pcv_input *in, const struct pcv_adapter *a,
                               const float *samples, int64_t n, struct pcv_err *e);

/* The label of a multimodal model: always its mask token. */
PCV_CHECK int pcv_label_append(struct pcv_input *in, const struct pcv_adapter *a,
                               struct pcv_err *e);

/* pixels chw [3, height, width] to [out, h, w] planes; *h and *w as the stem leaves them. own: the
 * input's. */
PCV_CHECK int pcv_conv_stem_run(struct pcv_input *in, const struct pcv_conv_stem *s,
                                const float *chw, int height, int width, float **planes, int *h,
                                int *w, struct pcv_err *e);

#endif
