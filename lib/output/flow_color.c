/* flow_color.c - flow for the eye and for other programs: a colour wheel, and Middlebury's .flo. */
#include "lib/perceiver.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The wheel: six pure colours, and how many steps lie between each and the next. The eye tells
 * reds and blues apart better than greens, so those have more. */
enum { CORNERS = 6, STEPS = 55 };
static const struct {
    float rgb[3];
    int steps;
} wheel[CORNERS] = {
    {{1, 0, 0}, 15}, /* red: to the right */
    {{1, 1, 0}, 6},  /* yellow */
    {{0, 1, 0}, 4},  /* green */
    {{0, 1, 1}, 11}, /* cyan */
    {{0, 0, 1}, 13}, /* blue */
    {{1, 0, 1}, 6},  /* magenta */
};

/* The hue at `turn` of the wheel, in [0, 1). */
static void hue(float turn, float *rgb)
{
    float at = turn * STEPS;
    int i = 0;

    while (i < CORNERS - 1 && at >= (float)wheel[i].steps)
        at -= (float)wheel[i++].steps;
    at /= (float)wheel[i].steps;
    for (int c = 0; c < 3; c++)
        rgb[c] = wheel[i].rgb[c] + at * (wheel[(i + 1) % CORNERS].rgb[c] - wheel[i].rgb[c]);
}

static void pixel(float u, float v, float longest, uint8_t *rgb)
{
    const float turn = atan2f(v, u) / (2.0f * (float)M_PI), length = hypotf(u, v);
    const float share = longest > 0 ? length / longest : 0;
    float pure[3];

    hue(turn < 0 ? turn + 1.0f : turn, pure);
    for (int c = 0; c < 3; c++)
        rgb[c] = (uint8_t)lrintf(255.0f * (1.0f - share * (1.0f - pure[c])));
}

static bool is_finite(const float *uv)
{
    return isfinite(uv[0]) && isfinite(uv[1]) && isfinite(hypotf(uv[0], uv[1]));
}

void pcv_flow_color(const float *uv, int width, int height, uint8_t *rgb)
{
    const size_t n = (size_t)width * (size_t)height;
    float longest = 0;

    for (size_t i = 0; i < n; i++)
        if (is_finite(uv + 2 * i))
            longest = fmaxf(longest, hypotf(uv[2 * i], uv[2 * i + 1]));
    for (size_t i = 0; i < n; i++) {
        if (is_finite(uv + 2 * i))
            pixel(uv[2 * i], uv[2 * i + 1], longest, rgb + 3 * i);
        else
            memset(rgb + 3 * i, 0, 3);
    }
}

static uint8_t *put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        *to++ = (uint8_t)(v >> 8 * i);
    return to;
}

int pcv_flo_encode(const float *uv, int width, int height, void **file, size_t *len,
                   struct pcv_err *e)
{
    const size_t n = 2 * (size_t)width * (size_t)height, bytes = 12 + 4 * n;
    uint8_t *out = malloc(bytes), *to = out;

    if (!out)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a flow of %d x %d pixels", width, height);
    memcpy(to, "PIEH", 4);
    to = put32(to + 4, (uint32_t)width);
    to = put32(to, (uint32_t)height);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &uv[i], 4);
        to = put32(to, bits);
    }
    *file = out;
    *len = bytes;
    return 0;
}
