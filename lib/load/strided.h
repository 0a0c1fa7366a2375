/* strided.h - putting numbers that lie in another order into rows. */
#ifndef PCV_LOAD_STRIDED_H
#define PCV_LOAD_STRIDED_H

#include <stddef.h>
#include <stdint.h>

/* out[...] row-major of `shape` gets the elements, of 1, 2, 4 or 8 bytes each, that lie `strides`
 * elements apart in data. Neither need be aligned; they must not overlap. Cannot fail: the caller
 * has checked that every index lies inside data. 0 <= ndim <= PCV_MAX_DIMS. */
void pcv_strided_copy(void *out, const void *data, size_t element, const int64_t *shape,
                      const int64_t *strides, int ndim);

/* Strides of rows: the last axis closest together. */
void pcv_strided_rows(int64_t *strides, const int64_t *shape, int ndim);

#endif
