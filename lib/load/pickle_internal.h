/* pickle_internal.h - what the machine says of bytes, and checks when it has stopped. */
#ifndef PCV_LOAD_PICKLE_INTERNAL_H
#define PCV_LOAD_PICKLE_INTERNAL_H

#include "lib/load/pickle.h"

#include <stdbool.h>

/* pcv_fail with " (byte N)" at the end. */
int pcv_pickle_fail_at(struct pcv_err *e, int code, size_t at, const char *fmt, ...)
    PCV_PRINTF(4, 5);

/* "INST", ... or "0x99". Storage is static. */
const char *pcv_pickle_opcode(unsigned char op);

bool pcv_pickle_is_utf8(const unsigned char *b, size_t n);

/* "module.name", cut to size, every byte that is not plain text as '?'. */
void pcv_pickle_printable(char *out, size_t size, const char *module, size_t module_size,
                          const char *name, size_t name_size);

/* No value holds itself, and none is deeper than PCV_PICKLE_MAX_DEPTH. */
PCV_CHECK int pcv_pickle_check_depth(const struct pcv_pickle_value *root, struct pcv_err *e);

#endif
