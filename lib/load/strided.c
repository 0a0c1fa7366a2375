#include "lib/load/strided.h"

#include "lib/base/tensor.h"

#include <string.h>

enum { TILE = 32 }; /* of elements: a tile and its mirror image stay in the first cache */

/* rows x cols elements; out is dense with `width` elements a row. A constant `element` makes each
 * memcpy one load and one store. */
static inline void copy_tile(char *out, const char *data, size_t element, int64_t rows,
                             int64_t cols, int64_t width, int64_t row_stride, int64_t col_stride)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            memcpy(out + (size_t)(i * width + j) * element,
                   data + (size_t)(i * row_stride + j * col_stride) * element, element);
}

static void copy_matrix(char *out, const char *data, size_t element, int64_t rows, int64_t cols,
                        int64_t row_stride, int64_t col_stride)
{
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < cols; j += TILE) {
            const int64_t m = rows - i < TILE ? rows - i : TILE;
            const int64_t n = cols - j < TILE ? cols - j : TILE;
            char *o = out + (size_t)(i * cols + j) * element;
            const char *d = data + (size_t)(i * row_stride + j * col_stride) * element;

            switch (element) {
            case 1: copy_tile(o, d, 1, m, n, cols, row_stride, col_stride); break;
            case 2: copy_tile(o, d, 2, m, n, cols, row_stride, col_stride); break;
            case 4: copy_tile(o, d, 4, m, n, cols, row_stride, col_stride); break;
            default: copy_tile(o, d, 8, m, n, cols, row_stride, col_stride); break;
            }
        }
}

void pcv_strided_copy(void *out, const void *data, size_t element, const int64_t *shape,
                      const int64_t *strides, int ndim)
{
    const int outer = ndim > 2 ? ndim - 2 : 0;
    const int64_t rows = ndim > 1 ? shape[ndim - 2] : 1, cols = ndim > 0 ? shape[ndim - 1] : 1;
    const int64_t row_stride = ndim > 1 ? strides[ndim - 2] : 0;
    const int64_t col_stride = ndim > 0 ? strides[ndim - 1] : 0;
    int64_t at[PCV_MAX_DIMS] = {0}, matrices = 1;
    char *o = out;

    for (int i = 0; i < outer; i++)
        matrices *= shape[i];
    if (rows == 0 || cols == 0)
        return;
    for (int64_t k = 0; k < matrices; k++) {
        int64_t from = 0;

        for (int i = 0; i < outer; i++)
            from += at[i] * strides[i];
        copy_matrix(o, (const char *)data + (size_t)from * element, element, rows, cols, row_stride,
                    col_stride);
        o += (size_t)(rows * cols) * element;
        for (int i = outer - 1; i >= 0 && ++at[i] == shape[i]; i--)
            at[i] = 0;
    }
}

void pcv_strided_rows(int64_t *strides, const int64_t *shape, int ndim)
{
    int64_t n = 1;

    for (int i = ndim - 1; i >= 0; i--) {
        strides[i] = n;
        n *= shape[i];
    }
}
