/* conv_stem.c - the convolution that some image models put before the encoder: 7x7 stride 2 with
 * batch norm folded into weights and bias, ReLU, 3x3 max pooling stride 2.
 *
 * Easy to get wrong: DeepMind pads as TensorFlow's SAME does (2 before, 3 after for even sizes; the
 * pool 0 before, 1 after), Hugging Face pads 3 on both sides and does not pad the pool: 224 pixels
 * become 56 and 55. */
#include "lib/base/mem.h"
#include "lib/input/input.h"
#include "lib/kernel/gemm.h"

#include <float.h>
#include <string.h>

enum { K = 7, STRIDE = 2, POOL = 3 };

/* SAME: outputs ceil(n / stride); padding before is half of what is needed, rounded down. */
static int same_before(int n, int kernel)
{
    const int out = (n + STRIDE - 1) / STRIDE;
    const int need = (out - 1) * STRIDE + kernel - n;

    return need > 0 ? need / 2 : 0;
}

/* Pixels of the convolution's result. */
static int conv_size(const struct pcv_conv_stem *s, int n)
{
    return s->same ? (n + 1) / STRIDE : (n - 1) / STRIDE + 1;
}

int pcv_conv_stem_size(const struct pcv_conv_stem *s, int n)
{
    const int c = conv_size(s, n);

    return s->same ? (c + 1) / STRIDE : (c - POOL) / STRIDE + 1;
}

/* One output row of patches: columns [3 x 7 x 7, width]. */
static void columns(const float *chw, int height, int width, int y0, int left, int out_w,
                    float *cols)
{
    for (int c = 0; c < 3; c++)
        for (int ky = 0; ky < K; ky++)
            for (int kx = 0; kx < K; kx++, cols += out_w) {
                const int y = y0 + ky;
                const float *row = chw + ((size_t)c * height + y) * width;

                for (int x = 0; x < out_w; x++) {
                    const int at = x * STRIDE - left + kx;

                    cols[x] = y >= 0 && y < height && at >= 0 && at < width ? row[at] : 0;
                }
            }
}

static void convolve(const struct pcv_conv_stem *s, const float *chw, int height, int width,
                     int top, int left, int out_h, int out_w, float *cols, float *out)
{
    for (int y = 0; y < out_h; y++) {
        float *to = out + (size_t)y * out_w;

        columns(chw, height, width, y * STRIDE - top, left, out_w, cols);
        pcv_gemm_nn(s->out, out_w, 3 * K * K, s->weight, 3 * K * K, cols, out_w, to, out_h * out_w,
                    0);
        for (int c = 0; c < s->out; c++)
            for (int x = 0; x < out_w; x++) {
                float *v = to + (size_t)c * out_h * out_w + x;

                *v = *v + s->bias[c] > 0 ? *v + s->bias[c] : 0;
            }
    }
}

static void pool(const float *in, int h, int w, int channels, int top, int left, int out_h,
                 int out_w, float *out)
{
    for (int c = 0; c < channels; c++, in += (size_t)h * w)
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x++) {
                float m = -FLT_MAX;

                for (int ky = 0; ky < POOL; ky++)
                    for (int kx = 0; kx < POOL; kx++) {
                        const int iy = y * STRIDE - top + ky, ix = x * STRIDE - left + kx;

                        if (iy >= 0 && iy < h && ix >= 0 && ix < w && in[iy * w + ix] > m)
                            m = in[iy * w + ix];
                    }
                *out++ = m;
            }
}

int pcv_conv_stem_run(struct pcv_input *in, const struct pcv_conv_stem *s, const float *chw,
                      int height, int width, float **planes, int *h, int *w, struct pcv_err *e)
{
    const bool same = s->same;
    const int ch = conv_size(s, height), cw = conv_size(s, width);
    const int top = same ? same_before(height, K) : 3, left = same ? same_before(width, K) : 3;
    float *cols, *conv, *out;

    *h = pcv_conv_stem_size(s, height);
    *w = pcv_conv_stem_size(s, width);
    if (ch < POOL || cw < POOL)
        return pcv_fail(e, PCV_ESHAPE, "%d x %d pixels are too few for the convolution", height,
                        width);
    cols = pcv_alloc((size_t)3 * K * K * cw, sizeof(float));
    conv = pcv_alloc((size_t)s->out * ch * cw, sizeof(float));
    out = pcv_input_take(in, (size_t)s->out * *h * *w, sizeof(float));
    if (cols && conv && out) {
        convolve(s, chw, height, width, top, left, ch, cw, cols, conv);
        pool(conv, ch, cw, s->out, same ? same_before(ch, POOL) : 0,
             same ? same_before(cw, POOL) : 0, *h, *w, out);
        *planes = out;
    }
    pcv_free(cols);
    pcv_free(conv);
    return cols && conv && out ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for the convolution");
}
