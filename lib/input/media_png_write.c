/* media_png_write.c - pictures to PNG through libspng. */
#include "lib/perceiver.h"

#include <spng.h>

static int encode(spng_ctx *ctx, const uint8_t *rgb, int width, int height, void **file,
                  size_t *len, struct pcv_err *e)
{
    struct spng_ihdr ihdr = {.width = (uint32_t)width,
                             .height = (uint32_t)height,
                             .bit_depth = 8,
                             .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    const size_t bytes = (size_t)width * (size_t)height * 3;
    int s;

    if ((s = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1)) || (s = spng_set_ihdr(ctx, &ihdr)) ||
        (s = spng_encode_image(ctx, rgb, bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE)))
        return pcv_fail(e, s == SPNG_EMEM ? PCV_ENOMEM : PCV_EIO, "PNG: %s", spng_strerror(s));
    *file = spng_get_png_buffer(ctx, len, &s);
    return *file ? 0 : pcv_fail(e, PCV_ENOMEM, "PNG: %s", spng_strerror(s));
}

int pcv_png_encode(const uint8_t *rgb, int width, int height, void **file, size_t *len,
                   struct pcv_err *e)
{
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    int r;

    if (!ctx)
        return pcv_fail(e, PCV_ENOMEM, "PNG: no memory for an encoder");
    r = encode(ctx, rgb, width, height, file, len, e);
    spng_ctx_free(ctx);
    return r;
}
