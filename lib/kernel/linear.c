#include "lib/kernel/linear.h"

#include <string.h>

enum { COLUMNS = 512, DEPTH = PCV_PANEL_DEPTH };

/* One panel of rows against columns [n0, n0 + n): c is left in the panel. */
static void one_panel(const struct pcv_panel_kernels *k, int rows, int n, int in, const float *x,
                      int ldx, const float *w, const float *bias, float *a, float *c)
{
    for (int k0 = 0; k0 < in; k0 += DEPTH) {
        const int depth = in - k0 < DEPTH ? in - k0 : DEPTH;
        const struct pcv_product p = {
            .rows = rows,
            .n = n,
            .k = depth,
            .a = a,
            .w = w + k0,
            .ldw = (size_t)in,
            .bias = k0 == 0 ? bias : NULL,
            .c = c,
            .add = k0 > 0,
        };

        k->pack(a, x + k0, (size_t)ldx, rows, depth);
        k->product(&p);
    }
}

void pcv_linear(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                const float *w, const float *bias, float *y, int ldy, bool accumulate)
{
    const struct pcv_panel_kernels *panel = k->panel;
    _Alignas(64) float a[DEPTH * PCV_PANEL_MOST_LANES], c[COLUMNS * PCV_PANEL_MOST_LANES];

    for (int i = 0, rows; i < m; i += rows) {
        rows = pcv_panel_rows(m - i, panel->lanes);
        for (int n0 = 0; n0 < out; n0 += COLUMNS) {
            const int n = out - n0 < COLUMNS ? out - n0 : COLUMNS;

            one_panel(panel, rows, n, in, x + (size_t)i * ldx, ldx, w + (size_t)n0 * in,
                      bias ? bias + n0 : NULL, a, c);
            panel->unpack(y + (size_t)i * ldy + n0, (size_t)ldy, c, rows, n, accumulate);
        }
    }
}

void pcv_linear_few(const struct pcv_kernels *k, int m, int out, int in, const float *x, int ldx,
                    const float *w, const float *bias, float *y, int ldy, bool accumulate)
{
    for (int i = 0; bias && i < m; i++) {
        if (accumulate)
            k->axpy(y + (size_t)i * ldy, 1.0f, bias, out);
        else
            memcpy(y + (size_t)i * ldy, bias, (size_t)out * sizeof(float));
    }
    k->gemm_nt(m, out, in, x, ldx, w, in, y, ldy, accumulate || bias);
}
