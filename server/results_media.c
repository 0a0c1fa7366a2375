/* results_media.c - answers that are pictures, sounds and fields of numbers. */
#include "server/results_internal.h"

#include <math.h>
#include <stdlib.h>

static int flow_picture(struct srv_native *n, struct wire_result *r, const float *uv,
                        struct pcv_err *e)
{
    const struct pcv_flow_grid *g = &n->job->flow->grid;
    uint8_t *rgb = malloc((size_t)g->width * (size_t)g->height * 3);
    void *png = NULL;
    size_t len = 0;
    if (!rgb)
        return srv_native_no_memory(e);
    pcv_flow_color(uv, g->width, g->height, rgb);
    int code = pcv_png_encode(rgb, g->width, g->height, &png, &len, e);
    free(rgb);
    return srv_native_file(n, r, code, "image/png", png, len, e);
}

static int flow_points(struct srv_native *n, struct wire_result *r, const float *uv,
                       struct pcv_err *e)
{
    const struct srv_job_flow *f = n->job->flow;
    struct wire_motion *m = srv_native_new(n, (size_t)f->npoints, sizeof *m);
    if (!m)
        return srv_native_no_memory(e);
    for (int i = 0; i < f->npoints; i++)
        m[i] = (struct wire_motion){f->points[i][0], f->points[i][1], uv[2 * (size_t)i],
                                    uv[2 * (size_t)i + 1]};
    r->kind = WIRE_MOTIONS;
    r->nmotions = f->npoints;
    r->motions = m;
    return 0;
}

int srv_native_flow(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                    struct pcv_err *e)
{
    (void)a;
    const struct srv_job_flow *f = n->job->flow;
    const struct pcv_flow_grid *g = &f->grid;
    size_t count = f->npoints ? (size_t)f->npoints : (size_t)g->width * (size_t)g->height, len = 0;
    float *uv = srv_native_new(n, count * 2, sizeof *uv);
    void *flo = NULL;
    if (!uv)
        return srv_native_no_memory(e);
    if (f->npoints)
        pcv_flow_blend_points(g, f->points, f->npoints, f->tile, uv);
    else
        pcv_flow_blend(g, f->tile, uv);
    if (n->request->format == WIRE_PNG)
        return flow_picture(n, r, uv, e);
    if (n->request->format == WIRE_FLO) {
        int code = pcv_flo_encode(uv, g->width, g->height, &flo, &len, e);
        return srv_native_file(n, r, code, "application/octet-stream", flo, len, e);
    }
    if (n->request->format == WIRE_JSON && f->npoints)
        return flow_points(n, r, uv, e);
    r->kind = WIRE_TENSOR;
    r->numbers = uv;
    r->ndim = f->npoints ? 2 : 3;
    r->shape[0] = f->npoints ? f->npoints : g->height;
    r->shape[1] = f->npoints ? 2 : g->width;
    r->shape[2] = 2;
    return 0;
}

/* ---- pixels ------------------------------------------------------------------------------------
 */

void srv_native_colors(const struct pcv_task_info *t, const float *from, int64_t pixels, float *to)
{
    const int width = t->width;
    const float one[3] = {1, 1, 1};
    const float *std = t->std[0] > 0 ? t->std : one; /* numbers that are colours already */
    for (int64_t i = 0; i < pixels; i++)
        for (int c = 0; c < width; c++) {
            const int k = c < 3 ? c : 0;
            to[i * width + c] = from[i * width + c] * std[k] + t->mean[k];
        }
}

/* Colours 0..1 as bytes, grey as three of them; a reconstruction may overshoot. */
static void to_bytes(const struct pcv_task_info *t, const float *color, size_t pixels, uint8_t *to)
{
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < 3; c++) {
            const float x = color[i * (size_t)t->width + (t->width == 3 ? (size_t)c : 0)];
            *to++ = x >= 1 ? 255 : x > 0 ? (uint8_t)lrintf(x * 255) : 0;
        }
}

static int pictures(struct srv_native *n, const struct srv_answer *a, const float *color,
                    struct wire_result *r, struct pcv_err *e)
{
    const struct pcv_task_info *t = &n->info->tasks[a->task];
    const size_t each = (size_t)a->region[2] * (size_t)a->region[3];
    uint8_t *rgb = srv_native_new(n, each, 3);
    struct wire_file *files = srv_native_new(n, (size_t)a->nframes, sizeof *files);
    if (!rgb || !files)
        return srv_native_no_memory(e);
    for (int i = 0; i < a->nframes; i++) {
        void *png;
        to_bytes(t, color + (size_t)i * each * (size_t)t->width, each, rgb);
        int code = pcv_png_encode(rgb, a->region[2], a->region[3], &png, &files[i].len, e);
        if (code)
            return code;
        files[i].data = srv_native_own(n, png);
        if (!files[i].data)
            return srv_native_no_memory(e);
        files[i].type = "image/png";
        files[i].index = a->frames ? a->frames[i] : i;
    }
    r->kind = WIRE_FILES;
    r->nfiles = a->nframes;
    r->files = files;
    return 0;
}

int srv_native_image(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                     struct pcv_err *e)
{
    const struct pcv_task_info *t = &n->info->tasks[a->task];
    float *color = srv_native_new(n, (size_t)a->rows, (size_t)a->width * sizeof *color);
    if (!color)
        return srv_native_no_memory(e);
    srv_native_colors(t, srv_native_numbers(n, a), a->rows, color);
    if (a->nframes && n->request->format != WIRE_RAW)
        return pictures(n, a, color, r, e);
    srv_native_rows(r, color, a->rows, a->width);
    if (!a->nframes)
        return 0; /* positions */
    r->ndim = 4;
    r->shape[0] = a->nframes;
    r->shape[1] = a->region[3];
    r->shape[2] = a->region[2];
    r->shape[3] = a->width;
    return 0;
}

int srv_native_audio(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                     struct pcv_err *e)
{
    const struct pcv_task_info *t = &n->info->tasks[a->task];
    const size_t samples = (size_t)a->rows * (size_t)a->width;
    const float *numbers = srv_native_numbers(n, a);
    void *wav = NULL;
    size_t len = 0;
    if (a->which || !t->rate) { /* some patches of it */
        srv_native_rows(r, numbers, a->rows, a->width);
        return 0;
    }
    if (n->request->format == WIRE_RAW) {
        r->kind = WIRE_TENSOR;
        r->numbers = numbers;
        r->ndim = 1;
        r->shape[0] = (int64_t)samples;
        return 0;
    }
    int code = pcv_wav_encode(numbers, samples, t->rate, &wav, &len, e);
    return srv_native_file(n, r, code, "audio/wav", wav, len, e);
}
