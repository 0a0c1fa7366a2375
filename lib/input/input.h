/* input.h - one input on its way to the encoder: a token array and what it was made from.
 *
 * Adapters (text.c, image_tokens.c) fill a zeroed pcv_input and own its memory through it; on
 * failure they leave it for pcv_input_free. Afterwards it is read-only. Any thread. */
#ifndef PCV_INPUT_INPUT_H
#define PCV_INPUT_INPUT_H

#include "lib/attention/tokens.h"
#include "lib/input/adapter.h"

enum { PCV_INPUT_ARRAYS = 12 };

struct pcv_input {
    const struct pcv_adapter *adapter; /* borrow from the model */
    struct pcv_tokens tokens;
    void *owned[PCV_INPUT_ARRAYS];
    int nowned;

    int positions;    /* text: [CLS] .. [SEP], masked-out ones too */
    int32_t *ids;     /* [positions] */
    int64_t *offsets; /* [positions] byte in the text, -1; NULL when made from tensors */
};

/* Memory that lives as long as the input. NULL when refused. */
void *pcv_input_take(struct pcv_input *in, size_t count, size_t size);

/* LayerNorm statistics of all segments; the last step of every adapter. */
PCV_CHECK int pcv_input_finish(struct pcv_input *in, struct pcv_err *e);

/* UTF-8 text to [CLS] bytes [SEP]. */
PCV_CHECK int pcv_text_from_utf8(struct pcv_input *in, const struct pcv_adapter *a,
                                 const char *text, size_t len, struct pcv_err *e);

/* Token ids [n]; keep [n], 0 = left out (NULL keeps all). */
PCV_CHECK int pcv_text_from_ids(struct pcv_input *in, const struct pcv_adapter *a,
                                const int64_t *ids, const uint8_t *keep, int n, struct pcv_err *e);

/* Pixels chw [3, height, width], copied. */
PCV_CHECK int pcv_image_tokens(struct pcv_input *in, const struct pcv_adapter *a, const float *chw,
                               int height, int width, struct pcv_err *e);

#endif
