#include "lib/input/fourier.h"

#include <math.h>
#include <stddef.h>

float pcv_linspace(float start, float end, int steps, int i)
{
    float step;

    if (steps == 1)
        return start;
    step = (end - start) / (float)(steps - 1);
    return i < steps / 2 ? start + step * (float)i : end - step * (float)(steps - i - 1);
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
