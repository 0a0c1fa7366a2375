#include "lib/model/model.h"

#include "lib/kernel/gemm.h"
#include "lib/layout/layout.h"
#include "lib/model/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const no_media[] = {NULL};
static const char *const text_media[] = {"text/plain", NULL};
static const char *const image_media[] = {"image/png", "image/jpeg", NULL};

static const char *const audio_media[] = {"audio/wav", "audio/flac", "audio/ogg", NULL};

static const char *const *media_of(const struct pcv_adapter *a)
{
    switch (a->kind) {
    case PCV_INPUT_TEXT: return a->text.ids_only ? no_media : text_media;
    case PCV_INPUT_AUDIO: return a->grid.rate ? audio_media : no_media;
    case PCV_INPUT_IMAGE:
    case PCV_INPUT_VIDEO:
    case PCV_INPUT_IMAGE_PAIR: return image_media;
    default: return no_media;
    }
}

static int64_t most_tokens(const struct pcv_adapter *a)
{
    if (a->kind == PCV_INPUT_TEXT || a->kind == PCV_INPUT_LABEL || a->grid.fixed)
        return pcv_adapter_tokens(a);
    return PCV_MAX_PIXELS;
}

static void describe_inputs(struct pcv_model *m)
{
    for (int i = 0; i < m->bp.ninputs; i++) {
        const struct pcv_adapter *a = &m->bp.input[i];

        m->inputs[i] = (struct pcv_input_info){
            .name = a->name,
            .kind = a->kind,
            .media = media_of(a),
            .max_tokens = most_tokens(a),
            .encoder = a->encoder_name,
        };
        m->tensors[m->info.ntensors++] = a->tensor;
        if (m->bp.separate) /* one of them is given */
            m->tensors[m->info.ntensors - 1].optional = true;
        if (a->mask.name)
            m->tensors[m->info.ntensors++] = a->mask;
    }
}

/* Whether a task before this one reads the caller's queries too. */
static bool has_queries(const struct pcv_model *m, int task)
{
    for (int i = 0; i < task; i++)
        if (m->bp.task[i].source == PCV_QUERY_CALLER)
            return true;
    return false;
}

static void describe_tasks(struct pcv_model *m)
{
    for (int i = 0; i < m->bp.ntasks; i++) {
        const struct pcv_task *t = &m->bp.task[i];

        m->tasks[i] = (struct pcv_task_info){
            .name = t->name,
            .kind = t->kind,
            .width = t->width,
            .labels = (const char *const *)t->labels,
            .max_rows = t->rows,
            .output = t->output,
            .frames = t->grid[0],
            .height = t->grid[1],
            .width_px = t->grid[2],
            .mean = {t->mean[0], t->mean[1], t->mean[2]},
            .std = {t->std[0], t->std[1], t->std[2]},
            .points = t->points,
            .inputs = t->inputs ? t->inputs : (1u << m->bp.ninputs) - 1,
            .rate = t->rate,
            .pooled = t->kind == PCV_TASK_EMBED && t->decoder == PCV_DECODER_POOL,
        };
        if (t->points)
            m->tensors[m->info.ntensors++] = (struct pcv_tensor_spec){
                .name = t->points,
                .dtype = PCV_I64,
                .ndim = 1,
                .shape = {-1},
                .optional = true,
                .shared = true,
            };
        if (t->source == PCV_QUERY_CALLER && !has_queries(m, i))
            m->tensors[m->info.ntensors++] = (struct pcv_tensor_spec){
                .name = "queries",
                .dtype = PCV_F32,
                .ndim = 2,
                .shape = {-1, t->layer.d.q_dim},
                .optional = m->bp.ntasks > 1, /* the others do without */
                .shared = true,
            };
    }
}

static void describe(struct pcv_model *m)
{
    m->info = (struct pcv_model_info){
        .fingerprint = m->info.fingerprint,
        .architecture = m->bp.architecture,
        .upstream = m->bp.upstream,
        .parameters = pcv_weights_parameters(m->weights),
        .mapped_bytes = pcv_weights_mapped(m->weights),
        .owned_bytes =
            pcv_weights_owned(m->weights) + m->plan.bytes + m->bp.owned_bytes + sizeof(*m),
        .together = !m->bp.separate,
        .num_latents = m->bp.num_latents,
        .d_latents = m->bp.d_latents,
        .ninputs = m->bp.ninputs,
        .ntasks = m->bp.ntasks,
        .inputs = m->inputs,
        .tasks = m->tasks,
        .tensors = m->tensors,
    };
    describe_inputs(m);
    describe_tasks(m);
}

/* ---- opening ------------------------------------------------------------------------------ */

/* The description and the fingerprint are read at the same time; neither needs the other. */
struct reading {
    struct pcv_model *m;
    const char *dir;
    int layout, fingerprint; /* what each came to */
    struct pcv_err layout_err, fingerprint_err;
};

static void read_part(int i, int n, void *arg)
{
    struct reading *g = arg;
    struct pcv_model *m = g->m;

    if (i == 0)
        g->layout = pcv_layout_read(&m->bp, g->dir, m->weights, &g->layout_err);
    if (i == n - 1 && (n > 1 || g->layout == 0))
        g->fingerprint =
            pcv_fingerprint(&m->info.fingerprint, g->dir, m->weights, &g->fingerprint_err);
}

static int read_model(struct pcv_model *m, const char *dir, struct pcv_pool *pool,
                      struct pcv_err *e)
{
    struct reading g = {.m = m, .dir = dir};
    int r;

    pcv_weights_look(m->weights, pool);
    pcv_pool_run(pool, read_part, &g);
    r = g.layout < 0 ? g.layout : g.fingerprint;
    if (r < 0 && e)
        *e = g.layout < 0 ? g.layout_err : g.fingerprint_err;
    return r;
}

int pcv_model_open(struct pcv_model **ret, const char *dir, struct pcv_pool *pool,
                   struct pcv_err *e)
{
    struct pcv_model *m = calloc(1, sizeof(*m));
    int r;

    if (!m)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a model");
    pcv_gemm_init();
    r = pcv_weights_open(&m->weights, dir, e);
    if (r == 0)
        r = read_model(m, dir, pool, e);
    if (r == 0)
        r = pcv_plan_make(&m->plan, &m->bp, pcv_kernels_for(pcv_cpu_detect()), pool, e);
    if (r < 0) {
        pcv_model_close(m);
        return r;
    }
    describe(m);
    *ret = m;
    return 0;
}

void pcv_model_close(struct pcv_model *m)
{
    if (!m)
        return;
    pcv_plan_clear(&m->plan);
    pcv_blueprint_clear(&m->bp);
    pcv_weights_close(m->weights);
    free(m);
}

const struct pcv_model_info *pcv_model_info(const struct pcv_model *m)
{
    return &m->info;
}

int pcv_task_find(const struct pcv_model *m, const char *name, struct pcv_err *e)
{
    char known[160] = "";

    for (int i = 0; i < m->bp.ntasks; i++) {
        if (strcmp(name, m->bp.task[i].name) == 0)
            return i;
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "",
                 m->bp.task[i].name);
    }
    return pcv_fail(e, PCV_EUNKNOWN, "no task \"%.60s\"; the model has %s", name, known);
}

const char *pcv_task_label(const struct pcv_model *m, int task, int i)
{
    const struct pcv_task *t = &m->bp.task[task];

    return t->labels && i >= 0 && i < t->width ? t->labels[i] : "";
}
