#include "lib/kernel/linear.h"

enum { COLUMNS = 512, DEPTH = PCV_PANEL_DEPTH };

struct weights {
    const float *w;
    size_t ldw;
    const float *bias; /* or NULL */
};

/* One panel of rows of x [rows, in] against n columns: c is left in the panel. */
static void one_panel(const struct pcv_panel_kernels *k, int rows, int n, int in, const float *x,
                      size_t ldx, struct weights w, float *a, float *c)
{
    for (int k0 = 0; k0 < in; k0 += DEPTH) {
        const int depth = in - k0 < DEPTH ? in - k0 : DEPTH;
        const struct pcv_product p = {
            .rows = rows,
            .n = n,
            .k = depth,
            .a = a,
            .w = w.w + k0,
            .ldw = w.ldw,
            .bias = k0 == 0 ? w.bias : NULL,
            .c = c,
            .add = k0 > 0,
        };

        k->pack(a, x + k0, ldx, rows, depth);
        k->product(&p);
    }
}

static void rows_times(const struct pcv_panel_kernels *k, int m, int n, int depth, const float *x,
                       size_t ldx, struct weights w, float *y, size_t ldy, bool add)
{
    _Alignas(64) float a[DEPTH * PCV_PANEL_MOST_LANES], c[COLUMNS * PCV_PANEL_MOST_LANES];

    for (int n0 = 0; n0 < n; n0 += COLUMNS) {
        const int columns = n - n0 < COLUMNS ? n - n0 : COLUMNS;
        const struct weights of = {w.w + (size_t)n0 * w.ldw, w.ldw, w.bias ? w.bias + n0 : NULL};

        for (int i = 0, rows; i < m; i += rows) {
            rows = pcv_panel_rows(m - i, k->lanes);
            one_panel(k, rows, columns, depth, x + (size_t)i * ldx, ldx, of, a, c);
            k->unpack(y + (size_t)i * ldy + n0, ldy, c, rows, columns, add);
        }
    }
}

void pcv_rows_nt(const struct pcv_kernels *k, int m, int n, int depth, const float *a, int lda,
                 const float *w, int ldw, float *c, int ldc, bool add)
{
    rows_times(k->panel, m, n, depth, a, (size_t)lda, (struct weights){w, (size_t)ldw, NULL}, c,
               (size_t)ldc, add);
}

void pcv_rows_nn(const struct pcv_kernels *k, int m, int n, int depth, const float *a, int lda,
                 const float *b, int ldb, float *c, int ldc, bool add)
{
    k->panel->rows_nn(m, n, depth, a, (size_t)lda, b, (size_t)ldb, c, (size_t)ldc, add);
}

void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, bool add)
{
    rows_times(k->panel, m, out, in, x, (size_t)ldx, (struct weights){w, (size_t)in, bias}, y,
               (size_t)ldy, add);
}
