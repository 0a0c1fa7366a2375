/* inputs_internal.h - what inputs*.c share. */
#ifndef PCV_MODEL_INPUTS_INTERNAL_H
#define PCV_MODEL_INPUTS_INTERNAL_H

#include "lib/model/model.h"

/* own: pcv_input_free. NULL after pcv_fail. */
struct pcv_input *pcv_inputs_new(struct pcv_err *e);

/* After all segments: their statistics. Takes in, which is freed when r or this fails. */
PCV_CHECK int pcv_inputs_finish(struct pcv_input **ret, struct pcv_input *in, int r,
                                struct pcv_err *e);

#endif
