/* fingerprint.h - a number that tells models apart: of the text of their configuration and of all
 * tensors' names, types, shapes and some of their elements, evenly spaced. */
#ifndef PCV_MODEL_FINGERPRINT_H
#define PCV_MODEL_FINGERPRINT_H

#include "lib/load/weights.h"

#include <stdint.h>

/* Reads little of the weights. Errors of files that cannot be read. */
PCV_CHECK int pcv_fingerprint(uint64_t *ret, const char *dir, const struct pcv_weights *w,
                              struct pcv_err *e);

#endif
