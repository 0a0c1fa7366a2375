/* wav.c - sounds as files. */
#include "lib/perceiver.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 44, SAMPLE = 4, FORMAT_FLOAT = 3, MAX_SAMPLES = 1 << 28 };

static uint8_t *put(uint8_t *to, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *to++ = (uint8_t)(v >> 8 * i);
    return to;
}

static uint8_t *name(uint8_t *to, const char *four)
{
    memcpy(to, four, 4);
    return to + 4;
}

int pcv_wav_encode(const float *samples, size_t n, int rate, void **file, size_t *len,
                   struct pcv_err *e)
{
    const size_t bytes = HEADER + n * SAMPLE;
    uint8_t *out, *to;

    if (n > MAX_SAMPLES)
        return pcv_fail(e, PCV_ELIMIT, "%zu samples in one file; at most %d", n, MAX_SAMPLES);
    out = malloc(bytes);
    if (!out)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu samples", n);
    to = put(name(out, "RIFF"), (uint32_t)(bytes - 8), 4);
    to = put(name(name(to, "WAVE"), "fmt "), 16, 4);
    to = put(to, FORMAT_FLOAT, 2);
    to = put(to, 1, 2); /* channel */
    to = put(to, (uint32_t)rate, 4);
    to = put(to, (uint32_t)rate * SAMPLE, 4);
    to = put(to, SAMPLE, 2);
    to = put(to, 8 * SAMPLE, 2);
    to = put(name(to, "data"), (uint32_t)(n * SAMPLE), 4);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &samples[i], SAMPLE);
        to = put(to, bits, SAMPLE);
    }
    *file = out;
    *len = bytes;
    return 0;
}
