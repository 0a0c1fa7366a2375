/* media_jpeg.c - JPEG through libjpeg-turbo, with its default (exact integer) transforms.
 *
 * libjpeg reports errors by a callback that must not return: it jumps back into decode(), whose
 * locals nothing changes after setjmp. All state is in struct job, owned by pcv_media_jpeg. */
#include "lib/input/media.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum {
    MAX_SCANS = 500, /* of a progressive file; common encoders write about ten */
    /* Every scan walks all coefficients: the pixels of all scans together. */
    MAX_SCAN_PIXELS = 16 * PCV_IMAGE_MAX_PIXELS,
};

struct job {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr err;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    struct pcv_image im;
    int code;
    struct pcv_err *e;
};

/* ---- libjpeg's callbacks ------------------------------------------------------------------- */

static int code_of(int msg_code)
{
    switch (msg_code) {
    case JERR_OUT_OF_MEMORY: return PCV_ENOMEM;
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW: return PCV_ELIMIT;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_SOF_UNSUPPORTED: return PCV_EUNSUPPORTED;
    }
    return PCV_EFORMAT;
}

static _Noreturn void fail_with_message(j_common_ptr cinfo)
{
    struct job *job = cinfo->client_data;
    char text[JMSG_LENGTH_MAX];

    cinfo->err->format_message(cinfo, text);
    job->code = pcv_fail(job->e, code_of(cinfo->err->msg_code), "JPEG: %s", text);
    longjmp(job->jump, 1);
}

static void on_error(j_common_ptr cinfo)
{
    fail_with_message(cinfo);
}

/* libjpeg goes on after a warning and paints what is missing grey. Only warnings that cost no
 * pixel are forgiven. */
static void on_message(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return; /* a trace */
    switch (cinfo->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
    case JWRN_EXTRANEOUS_DATA: /* padding before a marker */
    case JWRN_JFIF_MAJOR: return;
    }
    fail_with_message(cinfo);
}

static void on_output(j_common_ptr cinfo)
{
    (void)cinfo; /* would print */
}

/* Called while the scans of a progressive file are read. */
static void on_progress(j_common_ptr cinfo)
{
    struct job *job = cinfo->client_data;
    int64_t scans = job->cinfo.input_scan_number;
    int64_t pixels = (int64_t)job->im.width * job->im.height;

    if (scans <= MAX_SCANS && scans * pixels <= MAX_SCAN_PIXELS)
        return;
    job->code = pcv_fail(job->e, PCV_ELIMIT, "JPEG: %lld scans or more of %d x %d pixels",
                         (long long)scans, job->im.width, job->im.height);
    longjmp(job->jump, 1);
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* x / 255 rounded to nearest, for 0 <= x <= 255 * 255 */
static int over_255(int x)
{
    return (x + 128 + ((x + 128) >> 8)) >> 8;
}

/* Inverted CMYK to RGB. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int n)
{
    for (int i = 0; i < n; i++, rgb += 3, cmyk += 4) {
        int light = cmyk[3]; /* 255 - K */

        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(light - over_255((255 - cmyk[c]) * light));
    }
}

static void read_rows(struct job *job)
{
    struct jpeg_decompress_struct *cinfo = &job->cinfo;
    size_t stride = (size_t)job->im.width * 3;
    JSAMPARRAY cmyk = NULL;

    if (cinfo->out_color_space == JCS_CMYK) /* freed with cinfo */
        cmyk = cinfo->mem->alloc_sarray((j_common_ptr)cinfo, JPOOL_IMAGE,
                                        (JDIMENSION)job->im.width * 4, 1);
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW row = job->im.rgb + stride * cinfo->output_scanline;

        jpeg_read_scanlines(cinfo, cmyk ? cmyk : &row, 1);
        if (cmyk)
            cmyk_to_rgb(row, cmyk[0], job->im.width);
    }
}

/* Fills job->im, or returns an error with everything still to be freed. */
static int decode(struct job *job, const void *data, size_t len)
{
    struct jpeg_decompress_struct *cinfo = &job->cinfo;

    if (setjmp(job->jump))
        return job->code;
    jpeg_create_decompress(cinfo);
    cinfo->client_data = job;
    cinfo->progress = &job->progress;
    jpeg_mem_src(cinfo, data, len);
    jpeg_read_header(cinfo, TRUE);
    if (cinfo->num_components != 1 && cinfo->num_components != 3 && cinfo->num_components != 4)
        return pcv_fail(job->e, PCV_EUNSUPPORTED, "JPEG: %d colour components",
                        cinfo->num_components);
    /* Few programs read it, and it unpacks a tiny file to any size: no bit is needed per block. */
    if (cinfo->arith_code)
        return pcv_fail(job->e, PCV_EUNSUPPORTED, "JPEG: arithmetic coding");
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_RGB;
    job->code = pcv_image_alloc(&job->im, cinfo->image_width, cinfo->image_height, "JPEG", job->e);
    if (job->code < 0)
        return job->code;
    jpeg_start_decompress(cinfo);
    read_rows(job);
    jpeg_finish_decompress(cinfo); /* reads to the end marker, which must be there */
    return 0;
}

bool pcv_media_is_jpeg(const void *data, size_t len)
{
    return len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0;
}

int pcv_media_jpeg(struct pcv_image *ret, const void *data, size_t len, struct pcv_err *e)
{
    struct job job = {.e = e};
    int r;

    job.cinfo.err = jpeg_std_error(&job.err);
    job.cinfo.client_data = &job; /* also for errors while it is created */
    job.err.error_exit = on_error;
    job.err.emit_message = on_message;
    job.err.output_message = on_output;
    job.progress.progress_monitor = on_progress;
    r = decode(&job, data, len);
    jpeg_destroy_decompress(&job.cinfo);
    if (r < 0)
        pcv_image_free(&job.im);
    else
        *ret = job.im;
    return r;
}
