#include "lib/input/fourier.h"

#include <math.h>
#include <stddef.h>

/* start + step i from the left half, end - step (steps - 1 - i) from the right; rounded once. */
static float from_nearer_end(float start, float end, float step, int steps, int i)
{
    return i < steps / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(steps - i - 1), end);
}

float pcv_linspace(float start, float end, int steps, int i)
{
    float step;

    if (steps == 1)
        return start;
    step = (end - start) / (float)(steps - 1);
    if (i < steps - steps % 16) { /* a lane of a vector of eight: from the vector's first element */
        const float offset = step * (float)(i % 8);

        return offset + from_nearer_end(start, end, step, steps, i - i % 8);
    }
    return from_nearer_end(start, end, step, steps, i);
}

void pcv_fourier_features(float *row, float pos, int bands, float max_resolution)
{
    row[0] = pos;
    for (int k = 0; k < bands; k++) {
        const float f = pcv_linspace(1.0f, max_resolution / 2.0f, bands, k);
        const float angle = pos * f * (float)M_PI;

        row[1 + k] = sinf(angle);
        row[1 + bands + k] = cosf(angle);
    }
}

void pcv_fourier_axis(float *table, int size, int bands, float max_resolution)
{
    for (int i = 0; i < size; i++)
        pcv_fourier_features(table + (size_t)i * (1 + 2 * bands),
                             pcv_linspace(-1.0f, 1.0f, size, i), bands, max_resolution);
}
