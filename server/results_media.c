/* results_media.c - answers that are pictures, sounds and fields of numbers. */
#include "server/results_internal.h"

#include <math.h>
#include <stdlib.h>

static int no_memory(struct pcv_err *e)
{
    return pcv_fail(e, PCV_ENOMEM, "no memory for the answer");
}

/* The answer is one file, made by somebody else. */
static int one_file(struct srv_native *n, struct wire_result *r, int code, const char *type,
                    void *data, size_t len, struct pcv_err *e)
{
    if (code)
        return code;
    srv_native_own(n, data);
    struct wire_file *file = srv_native_own(n, calloc(1, sizeof *file));
    if (!file)
        return no_memory(e);
    *file = (struct wire_file){.index = -1, .type = type, .data = data, .len = len};
    r->kind = WIRE_FILES;
    r->nfiles = 1;
    r->files = file;
    return 0;
}

static int flow_picture(struct srv_native *n, struct wire_result *r, const float *uv,
                        struct pcv_err *e)
{
    const struct pcv_flow_grid *g = &n->job->flow->grid;
    uint8_t *rgb = malloc((size_t)g->width * (size_t)g->height * 3);
    void *png = NULL;
    size_t len = 0;
    if (!rgb)
        return no_memory(e);
    pcv_flow_color(uv, g->width, g->height, rgb);
    int code = pcv_png_encode(rgb, g->width, g->height, &png, &len, e);
    free(rgb);
    return one_file(n, r, code, "image/png", png, len, e);
}

static int flow_points(struct srv_native *n, struct wire_result *r, const float *uv,
                       struct pcv_err *e)
{
    const struct srv_job_flow *f = n->job->flow;
    struct wire_motion *m = srv_native_own(n, calloc((size_t)f->npoints, sizeof *m));
    if (!m)
        return no_memory(e);
    for (int i = 0; i < f->npoints; i++)
        m[i] = (struct wire_motion){f->points[i][0], f->points[i][1], uv[2 * (size_t)i],
                                    uv[2 * (size_t)i + 1]};
    r->kind = WIRE_MOTIONS;
    r->nmotions = f->npoints;
    r->motions = m;
    return 0;
}

int srv_native_flow(struct srv_native *n, struct wire_result *r, struct pcv_err *e)
{
    const struct srv_job_flow *f = n->job->flow;
    const struct pcv_flow_grid *g = &f->grid;
    size_t count = f->npoints ? (size_t)f->npoints : (size_t)g->width * (size_t)g->height, len = 0;
    float *uv = srv_native_own(n, malloc(count * 2 * sizeof *uv));
    void *flo = NULL;
    if (!uv)
        return no_memory(e);
    if (f->npoints)
        pcv_flow_blend_points(g, f->points, f->npoints, f->tile, uv);
    else
        pcv_flow_blend(g, f->tile, uv);
    if (n->request->format == WIRE_PNG)
        return flow_picture(n, r, uv, e);
    if (n->request->format == WIRE_FLO) {
        int code = pcv_flo_encode(uv, g->width, g->height, &flo, &len, e);
        return one_file(n, r, code, "application/octet-stream", flo, len, e);
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

/* Colours 0..1 as bytes; a reconstruction may overshoot. */
static void to_bytes(const float *rgb, size_t n, uint8_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = rgb[i] >= 1 ? 255 : rgb[i] > 0 ? (uint8_t)lrintf(rgb[i] * 255) : 0;
}

int srv_native_image(struct srv_native *n, const struct srv_job_task *t, struct wire_result *r,
                     struct pcv_err *e)
{
    const struct pcv_task_info *task = &n->info->tasks[t->task];
    const size_t each = (size_t)task->height * (size_t)task->width_px * 3;
    const int frames = t->nframes ? t->nframes : task->frames;
    if (n->request->format == WIRE_RAW) {
        *r = (struct wire_result){.task = task->name,
                                  .kind = WIRE_TENSOR,
                                  .numbers = t->logits,
                                  .ndim = 4,
                                  .shape = {frames, task->height, task->width_px, 3}};
        return 0;
    }
    uint8_t *rgb = srv_native_own(n, malloc(each));
    struct wire_file *files = srv_native_own(n, calloc((size_t)frames, sizeof *files));
    if (!rgb || !files)
        return no_memory(e);
    for (int i = 0; i < frames; i++) {
        void *png;
        to_bytes(t->logits + (size_t)i * each, each, rgb);
        int code = pcv_png_encode(rgb, task->width_px, task->height, &png, &files[i].len, e);
        if (code)
            return code;
        files[i].data = srv_native_own(n, png);
        files[i].type = "image/png";
        files[i].index = t->nframes ? t->frames[i] : i;
    }
    r->kind = WIRE_FILES;
    r->nfiles = frames;
    r->files = files;
    return 0;
}

int srv_native_audio(struct srv_native *n, const struct srv_job_task *t, struct wire_result *r,
                     struct pcv_err *e)
{
    const struct pcv_task_info *task = &n->info->tasks[t->task];
    const size_t samples = (size_t)t->rows * (size_t)task->width;
    void *wav = NULL;
    size_t len = 0;
    if (n->request->format == WIRE_RAW) {
        r->kind = WIRE_TENSOR;
        r->numbers = t->logits;
        r->ndim = 1;
        r->shape[0] = (int64_t)samples;
        return 0;
    }
    int code = pcv_wav_encode(t->logits, samples, task->rate, &wav, &len, e);
    return one_file(n, r, code, "audio/wav", wav, len, e);
}
