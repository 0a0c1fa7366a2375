/* media_png.c - PNG through libspng. */
#include "lib/input/media.h"

#include <spng.h>
#include <string.h>

/* What chunks beside the picture (text, profiles, unknown ones) may take, each and together: they
 * are not used, but libspng unpacks some. */
enum { MAX_CHUNK_BYTES = 16 << 20 };

static int code_of(int spng_error)
{
    switch (spng_error) {
    case SPNG_EMEM: return PCV_ENOMEM;
    case SPNG_EUSER_WIDTH:
    case SPNG_EUSER_HEIGHT:
    case SPNG_EOVERFLOW:
    case SPNG_ECHUNK_LIMITS: return PCV_ELIMIT;
    }
    return PCV_EFORMAT;
}

static int decode(struct pcv_image *im, spng_ctx *ctx, const void *data, size_t len,
                  struct pcv_err *e)
{
    struct spng_ihdr ihdr;
    size_t need = 0;
    int r, s;

    /* A wrong checksum is an error in any chunk. Its default for chunks that are not critical is
     * to leave them out, and tells nobody. */
    if ((s = spng_set_crc_action(ctx, SPNG_CRC_ERROR, SPNG_CRC_ERROR)) ||
        (s = spng_set_chunk_limits(ctx, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES)) ||
        (s = spng_set_png_buffer(ctx, data, len)) || (s = spng_get_ihdr(ctx, &ihdr)))
        return pcv_fail(e, code_of(s), "PNG: %s", spng_strerror(s));
    if ((r = pcv_image_alloc(im, ihdr.width, ihdr.height, "PNG", e)) < 0)
        return r;
    /* RGB8 expands palettes and grey, takes the high byte of 16 bits, and drops alpha. */
    if ((s = spng_decoded_image_size(ctx, SPNG_FMT_RGB8, &need)))
        return pcv_fail(e, code_of(s), "PNG: %s", spng_strerror(s));
    if (need != (size_t)im->width * (size_t)im->height * 3)
        return pcv_fail(e, PCV_EFORMAT, "PNG: %zu bytes for %d x %d pixels", need, im->width,
                        im->height);
    if ((s = spng_decode_image(ctx, im->rgb, need, SPNG_FMT_RGB8, 0)) ||
        (s = spng_decode_chunks(ctx))) /* up to the end chunk, which must be there */
        return pcv_fail(e, code_of(s), "PNG: %s", spng_strerror(s));
    return 0;
}

bool pcv_media_is_png(const void *data, size_t len)
{
    return len >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

int pcv_media_png(struct pcv_image *ret, const void *data, size_t len, struct pcv_err *e)
{
    spng_ctx *ctx = spng_ctx_new(0);
    struct pcv_image im = {0};
    int r;

    if (!ctx)
        return pcv_fail(e, PCV_ENOMEM, "PNG: no memory for a decoder");
    r = decode(&im, ctx, data, len, e);
    spng_ctx_free(ctx);
    if (r < 0)
        pcv_image_free(&im);
    else
        *ret = im;
    return r;
}
