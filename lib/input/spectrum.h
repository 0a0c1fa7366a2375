/* spectrum.h - sounds as frames of a logarithmic mel spectrum.
 *
 * Of n samples there are ceil(n / hop) frames. Frame i is `window` samples from
 * i hop + hop / 2 - window / 2 on (rounded down; zero outside the sound) times a Hann window
 * 0.5 - 0.5 cos(2 pi k / window); P[j] = |sum_k x[k] e^(-2 pi i j k / window)|^2 for
 * j = 0 .. window / 2. Band b is ln(floor + sum_j W[b,j] P[j]), minus mean, over std, where W[b] is
 * a triangle of height 1 over frequency from the b-th to the (b+2)-th of bands + 2 points that are
 * evenly spaced in mel = 2595 log10(1 + f / 700) from low to high. With rms > 0 the samples are
 * brought to that root mean square before; silence stays.
 *
 * Immutable once made: any thread. */
#ifndef PCV_INPUT_SPECTRUM_H
#define PCV_INPUT_SPECTRUM_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct pcv_spectrum_numbers {
    int rate, window, hop, bands; /* window is even */
    double low, high, rms, floor, mean, std;
};

struct pcv_spectrum;

/* Its tables, window^2 numbers. own: pcv_spectrum_free. PCV_ENOMEM. */
PCV_CHECK int pcv_spectrum_new(struct pcv_spectrum **ret, const struct pcv_spectrum_numbers *n,
                               struct pcv_err *e);
void pcv_spectrum_free(struct pcv_spectrum *s); /* NULL is fine */

size_t pcv_spectrum_bytes(const struct pcv_spectrum *s);

/* Frames of n >= 1 samples. */
int64_t pcv_spectrum_frames(const struct pcv_spectrum *s, int64_t n);

/* x [n] to planes [bands, frames]. PCV_ENOMEM, for one block of frames. */
PCV_CHECK int pcv_spectrum_run(const struct pcv_spectrum *s, const float *x, int64_t n,
                               float *planes, struct pcv_err *e);

#endif
