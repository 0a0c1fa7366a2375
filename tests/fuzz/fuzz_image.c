/* fuzz_image.c - any bytes as a picture: refused with an error, or a whole picture that every step
 * of preparation takes or refuses. The last four bytes choose the steps. */
#include "lib/input/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int holds)
{
    if (!holds)
        abort();
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    static uint32_t table[256];
    uint32_t crc = 0xffffffff;

    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
        table[i] = c;
    }
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 255];
    return ~crc;
}

/* Changed chunks get right checksums: without this nothing behind them would ever be reached. */
static void repair_png(uint8_t *p, size_t n)
{
    size_t at = 8;

    while (n - at >= 12) {
        size_t len =
            (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        uint32_t crc;

        if (len > n - at - 12)
            return;
        crc = crc32_of(p + at + 4, len + 4);
        for (int i = 0; i < 4; i++)
            p[at + 8 + len + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += len + 12;
    }
}

static void prepare(const struct pcv_image *im, const uint8_t choice[4])
{
    struct pcv_image_prep p;
    float *chw = NULL;
    int w = 0, h = 0;

    pcv_image_prep_default(&p);
    p.do_center_crop = choice[0] & 1;
    p.do_resize = choice[0] & 2;
    p.do_rescale = choice[0] & 4;
    p.do_normalize = choice[0] & 8;
    p.resample = choice[0] >> 4 & 3;
    p.height = choice[1];
    p.width = choice[2];
    p.crop_height = p.crop_width = choice[3];
    if (pcv_image_to_chw(im, &p, &chw, &w, &h, NULL) < 0) {
        need(chw == NULL);
        return;
    }
    need(w > 0 && h > 0);
    for (size_t i = 0; i < 3 * (size_t)w * (size_t)h; i++)
        need(isfinite(chw[i]));
    free(chw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pcv_image im = {0};
    struct pcv_err e = {0};
    uint8_t *copy;
    size_t n;
    int r;

    if (size < 12)
        return 0;
    n = size - 4;
    copy = malloc(n); /* exactly: reads beyond it are found */
    need(copy != NULL);
    memcpy(copy, data, n);
    if (copy[0] == 0x89)
        repair_png(copy, n);
    r = pcv_image_decode(&im, copy, n, NULL, &e);
    if (r < 0) {
        need(im.rgb == NULL && e.code == r && e.msg[0]);
    } else {
        need(im.width > 0 && im.height > 0 && im.width <= PCV_IMAGE_MAX_SIDE &&
             im.height <= PCV_IMAGE_MAX_SIDE);
        if ((int64_t)im.width * im.height <= 1 << 20)
            prepare(&im, data + n);
    }
    pcv_image_free(&im);
    free(copy);
    return 0;
}
