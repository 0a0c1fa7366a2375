/* fourier.h - Fourier position features of one axis, in the upstream's arithmetic.
 *
 * Row i of table [size, 1 + 2 bands] is [pos, sin(pi f_1 pos) .., cos(pi f_1 pos) ..] with pos =
 * linspace(-1, 1, size)[i] and f = linspace(1, max_resolution / 2, bands) (arXiv 2103.03206, 3.2;
 * Hugging Face's generate_fourier_features). Evaluated in f32 as pos x f, then x pi; linspace steps
 * from both ends as torch does. Features of long axes depend on these roundings. Any thread. */
#ifndef PCV_INPUT_FOURIER_H
#define PCV_INPUT_FOURIER_H

void pcv_fourier_axis(float *table, int size, int bands, float max_resolution);

/* One row, for any position: [1 + 2 bands]. */
void pcv_fourier_features(float *row, float pos, int bands, float max_resolution);

/* torch.linspace(start, end, steps)[i] in f32, bit for bit as torch's CPU kernel computes it: whole
 * pairs of vectors of eight step from their first element, the rest singly; both from the nearer
 * end, multiply and add rounded once. At 15360 Hz a last bit of the position is a thousandth of a
 * feature. */
float pcv_linspace(float start, float end, int steps, int i);

#endif
