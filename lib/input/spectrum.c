#include "lib/input/spectrum.h"

#include "lib/base/mem.h"
#include "lib/kernel/gemm.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64 }; /* frames that go through the products together */

struct pcv_spectrum {
    struct pcv_spectrum_numbers n;
    int bins;
    float *wave; /* [2 bins, window]: Hann window times cosines, then times sines */
    float *mel;  /* [bands, bins] */
};

/* ---- tables ---------------------------------------------------------------------------------- */

static void fill_waves(struct pcv_spectrum *s)
{
    const int window = s->n.window;

    for (int j = 0; j < s->bins; j++) {
        float *cosines = s->wave + (size_t)j * (size_t)window;
        float *sines = cosines + (size_t)s->bins * (size_t)window;

        for (int k = 0; k < window; k++) {
            const double hann = 0.5 - 0.5 * cos(2 * M_PI * k / window);
            const double turn = 2 * M_PI * (double)((int64_t)j * k % window) / window;

            cosines[k] = (float)(hann * cos(turn));
            sines[k] = (float)(hann * sin(turn));
        }
    }
}

/* Frequency of point i of bands + 2. */
static double point(const struct pcv_spectrum_numbers *n, int i)
{
    const double low = 2595 * log10(1 + n->low / 700), high = 2595 * log10(1 + n->high / 700);

    return 700 * (pow(10, (low + (high - low) * i / (n->bands + 1)) / 2595) - 1);
}

static void fill_triangles(struct pcv_spectrum *s)
{
    for (int b = 0; b < s->n.bands; b++) {
        const double from = point(&s->n, b), top = point(&s->n, b + 1), to = point(&s->n, b + 2);

        for (int j = 0; j < s->bins; j++) {
            const double f = (double)j * s->n.rate / s->n.window;
            const double up = (f - from) / (top - from), down = (to - f) / (to - top);

            s->mel[(size_t)b * (size_t)s->bins + (size_t)j] = (float)fmax(0, fmin(up, down));
        }
    }
}

int pcv_spectrum_new(struct pcv_spectrum **ret, const struct pcv_spectrum_numbers *n,
                     struct pcv_err *e)
{
    const size_t bins = (size_t)n->window / 2 + 1;
    struct pcv_spectrum *s = pcv_alloc_zero(1, sizeof(*s));

    if (s) {
        s->n = *n;
        s->bins = (int)bins;
        s->wave = pcv_alloc(2 * bins, (size_t)n->window * sizeof(float));
        s->mel = pcv_alloc((size_t)n->bands, bins * sizeof(float));
    }
    if (!s || !s->wave || !s->mel) {
        pcv_spectrum_free(s);
        return pcv_fail(e, PCV_ENOMEM, "no memory for a spectrum of %d samples", n->window);
    }
    fill_waves(s);
    fill_triangles(s);
    *ret = s;
    return 0;
}

void pcv_spectrum_free(struct pcv_spectrum *s)
{
    if (!s)
        return;
    pcv_free(s->wave);
    pcv_free(s->mel);
    pcv_free(s);
}

size_t pcv_spectrum_bytes(const struct pcv_spectrum *s)
{
    return sizeof(*s) + (size_t)s->bins * (size_t)(2 * s->n.window + s->n.bands) * sizeof(float);
}

/* ---- frames ---------------------------------------------------------------------------------- */

int64_t pcv_spectrum_frames(const struct pcv_spectrum *s, int64_t n)
{
    return (n + s->n.hop - 1) / s->n.hop;
}

/* What the samples are multiplied with to be as loud as the model's. */
static double gain(double rms, const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; rms > 0 && i < n; i++)
        sum += (double)x[i] * x[i];
    return sum > 0 ? rms / sqrt(sum / (double)n) : 1;
}

/* frame [window] from sample `at` of x [n] on, which may begin before and end after it. */
static void cut(float *frame, int window, const float *x, int64_t n, int64_t at, double scale)
{
    for (int k = 0; k < window; k++)
        frame[k] = at + k >= 0 && at + k < n ? (float)(scale * x[at + k]) : 0;
}

/* wave [rows, 2 bins] to power [rows, bins], in place: each row keeps its own beginning. */
static void powers(float *wave, int rows, int bins)
{
    for (int i = 0; i < rows; i++, wave += 2 * (size_t)bins)
        for (int j = 0; j < bins; j++)
            wave[j] = wave[j] * wave[j] + wave[bins + j] * wave[bins + j];
}

int pcv_spectrum_run(const struct pcv_spectrum *s, const float *x, int64_t n, float *planes,
                     struct pcv_err *e)
{
    const struct pcv_spectrum_numbers *num = &s->n;
    const int window = num->window, bins = s->bins, bands = num->bands;
    const int64_t frames = pcv_spectrum_frames(s, n);
    const double scale = gain(num->rms, x, n);
    float *block = pcv_alloc(BLOCK, (size_t)(window + 2 * bins + bands) * sizeof(float));
    float *wave = block + (size_t)BLOCK * (size_t)window, *mel = wave + (size_t)BLOCK * 2 * bins;

    if (!block)
        return pcv_fail(e, PCV_ENOMEM, "no memory for frames of %d samples", window);
    for (int64_t first = 0; first < frames; first += BLOCK) {
        const int rows = frames - first < BLOCK ? (int)(frames - first) : BLOCK;

        for (int i = 0; i < rows; i++)
            cut(block + (size_t)i * (size_t)window, window, x, n,
                (first + i) * num->hop + num->hop / 2 - window / 2, scale);
        pcv_gemm_nt(rows, 2 * bins, window, block, window, s->wave, window, wave, 2 * bins, 0);
        powers(wave, rows, bins);
        pcv_gemm_nt(rows, bands, bins, wave, 2 * bins, s->mel, bins, mel, bands, 0);
        for (int b = 0; b < bands; b++)
            for (int i = 0; i < rows; i++)
                planes[b * frames + first + i] =
                    (float)((log(num->floor + mel[(size_t)i * (size_t)bands + (size_t)b]) -
                             num->mean) /
                            num->std);
    }
    pcv_free(block);
    return 0;
}
