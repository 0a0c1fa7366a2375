/* inputs_internal.h - what inputs*.c share. */
#ifndef PCV_MODEL_INPUTS_INTERNAL_H
#define PCV_MODEL_INPUTS_INTERNAL_H

#include "lib/model/model.h"

/* own: pcv_input_free. NULL after pcv_fail. */
struct pcv_input *pcv_inputs_new(struct pcv_err *e);

/* After all segments: their statistics, with the epsilon of the encoder's LayerNorm. Takes in,
 * which is freed when r or this fails. */
PCV_CHECK int pcv_inputs_finish(struct pcv_input **ret, struct pcv_input *in,
                                const struct pcv_kernels *k, float eps, int r, struct pcv_err *e);

/* Names of the model's inputs, joined by ", ", for messages. */
const char *pcv_inputs_names(const struct pcv_model *m, char buf[160]);

#endif
