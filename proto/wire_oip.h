/* wire_oip.h - what the files of the Open Inference Protocol share. */
#ifndef WIRE_OIP_H
#define WIRE_OIP_H

#include "lib/base/tensor.h"
#include "proto/wire.h"
#include "proto/wire_reader.h"

#include <stdbool.h>
#include <stddef.h>

/* "FP32", "INT64", "BOOL", "BF16" ... */
const char *wire_oip_datatype(enum pcv_dtype t);

/* The datatype of that name; false when there is none (BYTES has no pcv_dtype). */
bool wire_oip_datatype_find(struct wire_str name, enum pcv_dtype *t);

/* The binary part of a body, being handed out from its front. */
struct wire_binary {
    const char *p;
    size_t left;
    bool header; /* the request says where its JSON ends */
};

/* The next value, an array of inputs, into r. */
PCV_CHECK int wire_oip_read_inputs(struct wire_reader *rd, struct wire_request *r,
                                   struct wire_binary *bin);

/* Passes over a parameter this server does not know: a string, number or boolean. */
PCV_CHECK int wire_oip_skip_parameter(struct wire_reader *rd);

bool wire_str_is(struct wire_str s, const char *name);

#endif
