/* tensor.h - a named, typed, shaped view of numbers somebody else owns.
 *
 * The one currency between files, the wire and the engine. A view never owns its data: whoever
 * made it says until when it may be read. Row-major, little-endian, no padding. Any thread. */
#ifndef PCV_BASE_TENSOR_H
#define PCV_BASE_TENSOR_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

#define PCV_MAX_DIMS 8

enum pcv_dtype {
    PCV_BOOL, /* one byte, 0 or 1 */
    PCV_U8,
    PCV_I8,
    PCV_U16,
    PCV_I16,
    PCV_F16,
    PCV_BF16,
    PCV_U32,
    PCV_I32,
    PCV_F32,
    PCV_U64,
    PCV_I64,
    PCV_F64,
    PCV_DTYPES, /* how many there are */
};

struct pcv_tensor {
    const char *name; /* borrow */
    enum pcv_dtype dtype;
    int ndim;                    /* 0..PCV_MAX_DIMS */
    int64_t shape[PCV_MAX_DIMS]; /* each >= 0 */
    const void *data;            /* borrow; may be unaligned */
    size_t nbytes;               /* equals count x size of one */
};

/* Bytes of one element. */
size_t pcv_dtype_size(enum pcv_dtype t);

/* The name safetensors uses: "F32", "I64", "BOOL", ... */
const char *pcv_dtype_name(enum pcv_dtype t);

/* Elements of a shape; -1 when a dimension is negative or the product exceeds INT64_MAX. */
int64_t pcv_shape_count(const int64_t *shape, int ndim);

/* Bytes of a shape; -1 likewise. */
int64_t pcv_shape_bytes(enum pcv_dtype t, const int64_t *shape, int ndim);

/* Writes "[1,3,224,224]" for messages; returns buf. */
const char *pcv_shape_text(const int64_t *shape, int ndim, char *buf, size_t size);

/* n elements from index `from` as f32. Integers beyond 2^24 round as C converts them; F64 rounds to
 * nearest. The range must lie inside the tensor (caller checks). */
void pcv_tensor_to_f32(const struct pcv_tensor *t, int64_t from, int64_t n, float *out);

/* n integers from index `from`. PCV_ERANGE when an F32/F64 element is not a whole number inside
 * int64, PCV_EUNSUPPORTED for F16/BF16. */
PCV_CHECK int pcv_tensor_to_i64(const struct pcv_tensor *t, int64_t from, int64_t n, int64_t *out,
                                struct pcv_err *e);

/* Single conversions, exact upward, round-to-nearest-even downward. */
float pcv_f16_to_f32(uint16_t h);
float pcv_bf16_to_f32(uint16_t h);
uint16_t pcv_f32_to_f16(float f);

#pragma GCC visibility pop

#endif
