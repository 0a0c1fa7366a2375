/* results_latents.c - what every model answers: its latents, and what they look at. */
#include "server/results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A map's long side has at least so many pixels. */
enum { MAP_SIDE = 224 };

int srv_native_embed(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                     struct pcv_err *e)
{
    const struct wire_query *q = srv_native_query(n, a);
    const int rows = n->info->num_latents, width = n->info->d_latents;
    const float *latents = srv_job_latents(n->job, a->item);
    const enum wire_result_kind kind = n->request->format == WIRE_RAW ? WIRE_TENSOR : WIRE_VECTORS;
    if (q && q->pool == WIRE_POOL_NONE) {
        srv_native_rows(r, latents, rows, width);
        r->kind = kind;
        return 0;
    }
    float *mean = srv_native_new(n, (size_t)width, sizeof *mean);
    if (!mean)
        return srv_native_no_memory(e);
    for (int c = 0; c < width; c++) {
        double sum = 0;
        for (int i = 0; i < rows; i++)
            sum += latents[(size_t)i * (size_t)width + (size_t)c];
        mean[c] = (float)(sum / rows);
    }
    r->kind = kind;
    r->numbers = mean;
    r->ndim = 1;
    r->shape[0] = width;
    return 0;
}

/* ---- attention ----------------------------------------------------------------------------------
 */

/* 0..1 as a colour from black over purple and orange to a light yellow, each step as much brighter
 * to the eye as the one before. */
static void ramp(float x, uint8_t rgb[3])
{
    static const uint8_t stops[][3] = {{0, 0, 4},      {22, 11, 57},   {66, 10, 104},
                                       {106, 23, 110}, {147, 38, 103}, {188, 55, 84},
                                       {221, 81, 58},  {243, 120, 25}, {252, 165, 10},
                                       {246, 215, 70}, {252, 255, 164}};
    const int last = (int)(sizeof stops / sizeof *stops) - 1;
    const float at = x > 0 ? x < 1 ? x * (float)last : (float)last : 0;
    const int i = (int)at < last ? (int)at : last - 1;
    for (int c = 0; c < 3; c++)
        rgb[c] = (uint8_t)lrintf((float)stops[i][c] +
                                 (at - (float)i) * (float)(stops[i + 1][c] - stops[i][c]));
}

/* weights [height, width] of one latent as a picture. */
static int map(struct srv_native *n, const float *weights, int height, int width,
               struct wire_file *file, struct pcv_err *e)
{
    const int side = height > width ? height : width;
    const int zoom = side < MAP_SIDE ? (MAP_SIDE + side - 1) / side : 1;
    const size_t w = (size_t)width * (size_t)zoom, h = (size_t)height * (size_t)zoom;
    uint8_t *rgb = malloc(w * h * 3);
    float most = 0;
    void *png = NULL;
    if (!rgb)
        return srv_native_no_memory(e);
    for (int i = 0; i < height * width; i++)
        most = weights[i] > most ? weights[i] : most;
    for (size_t y = 0; y < h; y++) {
        const float *from = weights + y / (size_t)zoom * (size_t)width;
        for (size_t x = 0; x < w; x++)
            ramp(most > 0 ? from[x / (size_t)zoom] / most : 0, rgb + 3 * (y * w + x));
    }
    int code = pcv_png_encode(rgb, (int)w, (int)h, &png, &file->len, e);
    free(rgb);
    if (code)
        return code;
    file->type = "image/png";
    file->data = srv_native_own(n, png);
    return file->data ? 0 : srv_native_no_memory(e);
}

int srv_native_attention(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                         struct pcv_err *e)
{
    int sides[PCV_MAX_SIDES];
    const int nsides = pcv_input_sides(srv_job_input(n->job, a->item), sides);
    if (nsides != 2 || n->request->format == WIRE_RAW) {
        srv_native_rows(r, a->numbers, a->rows, a->width);
        r->ndim = 1 + nsides;
        for (int i = 0; i < nsides; i++)
            r->shape[1 + i] = sides[i];
        return 0;
    }
    struct wire_file *files = srv_native_new(n, (size_t)a->rows, sizeof *files);
    if (!files)
        return srv_native_no_memory(e);
    for (int64_t i = 0; i < a->rows; i++) {
        files[i].index = a->which[i];
        if (map(n, a->numbers + i * a->width, sides[0], sides[1], &files[i], e))
            return e->code;
    }
    r->kind = WIRE_FILES;
    r->nfiles = (int)a->rows;
    r->files = files;
    return 0;
}
