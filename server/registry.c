#include "server/registry.h"

#include <stdlib.h>
#include <string.h>

int srv_registry_new(struct srv_registry **ret, const struct srv_config *c, struct pcv_err *e)
{
    struct srv_registry *r = calloc(1, sizeof *r);
    if (r)
        r->models = calloc((size_t)c->nmodels, sizeof *r->models);
    if (!r || !r->models) {
        free(r);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d models", c->nmodels);
    }
    r->n = c->nmodels;
    for (int i = 0; i < r->n; i++)
        r->models[i] = (struct srv_model){
            .index = i,
            .name = c->models[i].name,
            .config = &c->models[i],
            .state = SRV_MODEL_LOADING,
            .reason = "",
        };
    *ret = r;
    return 0;
}

static void free_desc(struct wire_model_desc *d)
{
    for (int i = 0; d->tasks && i < d->ntasks; i++)
        free((void *)d->tasks[i].inputs);
    free((void *)d->inputs);
    free((void *)d->tasks);
    free((void *)d->tensors_in);
    free((void *)d->tensors_out);
    *d = (struct wire_model_desc){0};
}

void srv_registry_free(struct srv_registry *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->n; i++) {
        free_desc(&r->models[i].desc);
        srv_stats_free(&r->models[i].stats);
        pcv_model_close(r->models[i].engine);
    }
    free(r->models);
    free(r);
}

static const char *input_kind(enum pcv_input_kind k)
{
    switch (k) {
    case PCV_INPUT_TEXT: return "text";
    case PCV_INPUT_IMAGE: return "image";
    case PCV_INPUT_IMAGE_PAIR: return "image-pair";
    case PCV_INPUT_AUDIO: return "audio";
    case PCV_INPUT_VIDEO: return "video";
    case PCV_INPUT_LABEL: return "label";
    case PCV_INPUT_ARRAY: return "array";
    }
    return "";
}

static const char *task_kind(enum pcv_task_kind k)
{
    switch (k) {
    case PCV_TASK_CLASSIFY: return "classify";
    case PCV_TASK_FILL_MASK: return "fill-mask";
    case PCV_TASK_LATENTS: return "latents";
    case PCV_TASK_REGRESSION: return "regression";
    case PCV_TASK_EMBED: return "embed";
    case PCV_TASK_FLOW: return "flow";
    case PCV_TASK_IMAGE: return "image";
    case PCV_TASK_AUDIO: return "audio";
    case PCV_TASK_TENSOR: return "tensor";
    }
    return "";
}

static struct wire_tensor_desc tensor_desc(const struct pcv_tensor_spec *s)
{
    struct wire_tensor_desc d = {
        .name = s->name, .dtype = s->dtype, .ndim = s->ndim, .optional = s->optional};
    memcpy(d.shape, s->shape, sizeof d.shape);
    return d;
}

static struct wire_stages stages(const struct pcv_cost *c)
{
    return (struct wire_stages){c->encode / 1e9, c->process / 1e9, c->decode / 1e9};
}

/* Names of the inputs that a task has an answer for. own: free(). NULL without memory. */
static const char **task_inputs(const struct pcv_model_info *info, const struct pcv_task_info *t)
{
    const char **names = calloc((size_t)info->ninputs + 1, sizeof *names);
    int n = 0;
    for (int i = 0; names && i < info->ninputs; i++)
        if (info->together || t->inputs >> i & 1)
            names[n++] = info->inputs[i].name;
    return names;
}

/* The lists of what the model takes and gives. */
static int describe_lists(struct wire_model_desc *d, const struct pcv_model_info *info,
                          struct pcv_err *e)
{
    struct wire_input_desc *inputs = calloc((size_t)info->ninputs + 1, sizeof *inputs);
    struct wire_task_desc *tasks = calloc((size_t)info->ntasks + 1, sizeof *tasks);
    struct wire_tensor_desc *in = calloc((size_t)info->ntensors + 1, sizeof *in);
    struct wire_tensor_desc *out = calloc((size_t)info->ntasks + 1, sizeof *out);
    d->inputs = inputs;
    d->tasks = tasks;
    d->tensors_in = in;
    d->tensors_out = out;
    if (!inputs || !tasks || !in || !out) {
        free_desc(d);
        return pcv_fail(e, PCV_ENOMEM, "no memory for the model's description");
    }
    for (int i = 0; i < info->ninputs; i++)
        inputs[i] = (struct wire_input_desc){.name = info->inputs[i].name,
                                             .kind = input_kind(info->inputs[i].kind),
                                             .media = info->inputs[i].media,
                                             .max_tokens = info->inputs[i].max_tokens};
    for (int i = 0; i < info->ntasks; i++) {
        tasks[i] = (struct wire_task_desc){.name = info->tasks[i].name,
                                           .kind = task_kind(info->tasks[i].kind),
                                           .width = info->tasks[i].width,
                                           .max_rows = info->tasks[i].max_rows,
                                           .labels = info->tasks[i].labels,
                                           .inputs = task_inputs(info, &info->tasks[i])};
        d->ntasks++;
        out[i] = tensor_desc(&info->tasks[i].output);
        if (!tasks[i].inputs) {
            free_desc(d);
            return pcv_fail(e, PCV_ENOMEM, "no memory for the model's description");
        }
    }
    for (int i = 0; i < info->ntensors; i++)
        in[i] = tensor_desc(&info->tensors[i]);
    d->ninputs = info->ninputs;
    d->ntensors_out = info->ntasks;
    d->ntensors_in = info->ntensors;
    return 0;
}

int srv_model_ready(struct srv_model *m, struct pcv_model *engine, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(engine);
    struct pcv_cost done, dense;
    m->engine = engine;
    m->info = info;
    if (describe_lists(&m->desc, info, e))
        return e ? e->code : PCV_ENOMEM;
    pcv_cost_nominal(engine, 0, &done, &dense);
    m->desc.architecture = info->architecture;
    m->desc.upstream = info->upstream;
    m->desc.parameters = (int64_t)info->parameters;
    m->desc.bytes = (int64_t)srv_model_bytes(m);
    m->desc.together = info->together;
    m->desc.num_latents = info->num_latents;
    m->desc.d_latents = info->d_latents;
    m->desc.gmac = stages(&done);
    m->desc.gmac_dense = stages(&dense);
    m->state = SRV_MODEL_READY;
    return 0;
}

void srv_registry_unavailable(struct srv_registry *r, const char *reason)
{
    for (int i = 0; i < r->n; i++) {
        r->models[i].state = SRV_MODEL_UNAVAILABLE;
        r->models[i].reason = reason;
    }
}

struct srv_model *srv_registry_find(const struct srv_registry *r, const char *name, size_t len)
{
    for (int i = 0; i < r->n; i++)
        if (strlen(r->models[i].name) == len && !memcmp(r->models[i].name, name, len))
            return &r->models[i];
    return NULL;
}

bool srv_registry_ready(const struct srv_registry *r)
{
    for (int i = 0; i < r->n; i++)
        if (r->models[i].state != SRV_MODEL_READY)
            return false;
    return true;
}

struct wire_model_desc srv_model_describe(const struct srv_model *m)
{
    static const char *const states[] = {"LOADING", "READY", "UNAVAILABLE"};
    struct wire_model_desc d = m->desc;
    d.name = m->name;
    d.version = SRV_MODEL_VERSION;
    d.platform = "perceiverd";
    d.architecture = d.architecture ? d.architecture : "";
    d.upstream = d.upstream ? d.upstream : "";
    d.state = states[m->state];
    d.reason = m->reason;
    d.max_batch = (int)m->config->max_items;
    return d;
}

struct wire_model_stats srv_model_stats(const struct srv_model *m)
{
    return srv_stats_wire(&m->stats, m->name, SRV_MODEL_VERSION, srv_model_bytes(m));
}

uint64_t srv_model_bytes(const struct srv_model *m)
{
    return m->info ? m->info->mapped_bytes + m->info->owned_bytes : 0;
}
