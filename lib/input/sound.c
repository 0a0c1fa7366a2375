/* sound.c - sounds as tokens: patches of samples, or frames of a spectrum. */
#include "lib/base/floats.h"
#include "lib/input/input.h"
#include "lib/input/spectrum.h"

#include <string.h>

/* [n] samples to tokens [tokens, patch]; the last patch is filled up with silence. */
static void cut_patches(const float *samples, int64_t n, int patch, int64_t tokens, float *to)
{
    memcpy(to, samples, (size_t)n * sizeof(*to));
    memset(to + n, 0, (size_t)(tokens * patch - n) * sizeof(*to));
}

int pcv_sound_append(struct pcv_input *in, const struct pcv_adapter *a, const float *samples,
                     int64_t n, struct pcv_err *e)
{
    const struct pcv_grid_adapter *g = &a->grid;
    int64_t tokens, bad;
    float *content;
    int size, r = 0;

    if (n < 1 || n > g->samples)
        return pcv_fail(e, PCV_ESHAPE, "%lld samples; the model takes 1 to %d", (long long)n,
                        g->samples);
    bad = pcv_first_not_finite(samples, n);
    if (bad < n)
        return pcv_fail(e, PCV_ERANGE, "element %lld is not finite", (long long)bad);
    tokens =
        g->spectrum ? pcv_spectrum_frames(g->spectrum, n) : (n + g->patch[0] - 1) / g->patch[0];
    size = (int)tokens;
    content = pcv_input_take(in, (size_t)g->raw * (size_t)tokens, sizeof(float));
    if (!content)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)tokens);
    if (g->spectrum)
        r = pcv_spectrum_run(g->spectrum, samples, n, content, e);
    else
        cut_patches(samples, n, g->patch[0], tokens, content);
    return r < 0 ? r
                 : pcv_grid_append(in, a, content, g->spectrum ? PCV_BY_PLANE : PCV_BY_TOKEN, &size,
                                   NULL, e);
}
