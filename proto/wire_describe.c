/* wire_describe.c - what the server says about itself and its models. */
#include "proto/wire.h"
#include "proto/wire_oip.h"
#include "proto/wire_writer.h"

#include <stdio.h>

static void text(struct wire_writer *w, const char *key, const char *v)
{
    wire_key(w, key);
    wire_text(w, v);
}

static void number(struct wire_writer *w, const char *key, int64_t v)
{
    wire_key(w, key);
    wire_int(w, v);
}

/* ---- native ---------------------------------------------------------------------------------- */

static void inputs(struct wire_writer *w, const struct wire_model_desc *m)
{
    wire_key(w, "inputs");
    wire_open(w, '[');
    for (int i = 0; i < m->ninputs; i++) {
        const struct wire_input_desc *in = &m->inputs[i];

        wire_open(w, '{');
        text(w, "name", in->name);
        text(w, "kind", in->kind);
        wire_key(w, "media");
        wire_open(w, '[');
        for (const char *const *t = in->media; t && *t; t++)
            wire_text(w, *t);
        wire_close(w, ']');
        number(w, "max_tokens", in->max_tokens);
        wire_close(w, '}');
    }
    wire_close(w, ']');
}

/* Names of the inputs that a task has an answer for: all, when it does not say. */
static void task_inputs(struct wire_writer *w, const struct wire_model_desc *m,
                        const struct wire_task_desc *t)
{
    wire_key(w, "inputs");
    wire_open(w, '[');
    for (const char *const *name = t->inputs; name && *name; name++)
        wire_text(w, *name);
    for (int i = 0; !t->inputs && i < m->ninputs; i++)
        wire_text(w, m->inputs[i].name);
    wire_close(w, ']');
}

static void tasks(struct wire_writer *w, const struct wire_model_desc *m, bool with_labels)
{
    wire_key(w, "tasks");
    wire_open(w, '[');
    for (int i = 0; i < m->ntasks; i++) {
        const struct wire_task_desc *t = &m->tasks[i];

        wire_open(w, '{');
        text(w, "name", t->name);
        text(w, "kind", t->kind);
        number(w, "width", t->width);
        number(w, "max_output_queries", t->max_rows);
        task_inputs(w, m, t);
        if (with_labels) {
            wire_key(w, "labels");
            if (t->labels) {
                wire_open(w, '[');
                for (int k = 0; k < t->width; k++)
                    wire_text(w, t->labels[k]);
                wire_close(w, ']');
            } else {
                wire_null(w);
            }
        }
        wire_close(w, '}');
    }
    wire_close(w, ']');
}

static void tensors(struct wire_writer *w, const char *key, const struct wire_tensor_desc *t, int n)
{
    wire_key(w, key);
    wire_open(w, '[');
    for (int i = 0; i < n; i++) {
        wire_open(w, '{');
        text(w, "name", t[i].name);
        text(w, "datatype", wire_oip_datatype(t[i].dtype));
        wire_key(w, "shape");
        wire_open(w, '[');
        for (int d = 0; d < t[i].ndim; d++)
            wire_int(w, t[i].shape[d]);
        wire_close(w, ']');
        wire_close(w, '}');
    }
    wire_close(w, ']');
}

static void stages(struct wire_writer *w, const char *key, const struct wire_stages *g)
{
    wire_key(w, key);
    wire_open(w, '{');
    wire_key(w, "encode");
    wire_fixed(w, g->encode, 9);
    wire_key(w, "process");
    wire_fixed(w, g->process, 9);
    wire_key(w, "decode");
    wire_fixed(w, g->decode, 9);
    wire_key(w, "total");
    wire_fixed(w, g->encode + g->process + g->decode, 9);
    wire_close(w, '}');
}

static void model(struct wire_writer *w, const struct wire_model_desc *m, bool all)
{
    wire_open(w, '{');
    text(w, "name", m->name);
    text(w, "version", m->version);
    text(w, "state", m->state);
    text(w, "reason", m->reason);
    text(w, "platform", m->platform);
    text(w, "architecture", m->architecture);
    text(w, "upstream", m->upstream);
    number(w, "parameters", m->parameters);
    number(w, "bytes", m->bytes);
    number(w, "max_batch", m->max_batch);
    wire_key(w, "latents");
    wire_open(w, '{');
    number(w, "count", m->num_latents);
    number(w, "width", m->d_latents);
    wire_close(w, '}');
    wire_key(w, "together");
    wire_bool(w, m->together);
    inputs(w, m);
    tasks(w, m, all);
    if (all) {
        wire_key(w, "tensors");
        wire_open(w, '{');
        tensors(w, "inputs", m->tensors_in, m->ntensors_in);
        tensors(w, "outputs", m->tensors_out, m->ntensors_out);
        wire_close(w, '}');
        wire_key(w, "cost");
        wire_open(w, '{');
        stages(w, "gmac", &m->gmac);
        stages(w, "gmac_dense", &m->gmac_dense);
        wire_close(w, '}');
    }
    wire_close(w, '}');
}

char *wire_models_json(const struct wire_model_desc *m, int n)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    wire_key(&w, "models");
    wire_open(&w, '[');
    for (int i = 0; i < n; i++)
        model(&w, &m[i], false);
    wire_close(&w, ']');
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

char *wire_model_json(const struct wire_model_desc *m)
{
    struct wire_writer w = {0};

    model(&w, m, true);
    return wire_finish(&w, NULL);
}

char *wire_latents_json(const struct wire_latents_desc *d)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    text(&w, "latents", d->handle);
    text(&w, "model", d->model);
    text(&w, "version", d->version);
    text(&w, "input", d->input);
    wire_key(&w, "shape");
    wire_open(&w, '[');
    wire_int(&w, d->num_latents);
    wire_int(&w, d->d_latents);
    wire_close(&w, ']');
    number(&w, "bytes", d->bytes);
    wire_key(&w, "age_s");
    wire_fixed(&w, d->age_s, 3);
    wire_key(&w, "expires_s");
    wire_fixed(&w, d->expires_s, 3);
    wire_key(&w, "has_input");
    wire_bool(&w, d->has_input);
    wire_key(&w, "tasks");
    wire_open(&w, '[');
    for (int i = 0; i < d->ntasks; i++)
        wire_text(&w, d->tasks[i]);
    wire_close(&w, ']');
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

/* ---- Open Inference Protocol ----------------------------------------------------------------- */

char *wire_oip_server_json(const char *name, const char *version)
{
    static const char *const extensions[] = {"classification",      "schedule_policy",
                                             "model_configuration", "binary_tensor_data",
                                             "parameters",          "statistics"};
    struct wire_writer w = {0};

    wire_open(&w, '{');
    text(&w, "name", name);
    text(&w, "version", version);
    wire_key(&w, "extensions");
    wire_open(&w, '[');
    for (size_t i = 0; i < sizeof(extensions) / sizeof(*extensions); i++)
        wire_text(&w, extensions[i]);
    wire_close(&w, ']');
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

char *wire_oip_model_json(const struct wire_model_desc *m)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    text(&w, "name", m->name);
    wire_key(&w, "versions");
    wire_open(&w, '[');
    wire_text(&w, m->version);
    wire_close(&w, ']');
    text(&w, "platform", m->platform);
    tensors(&w, "inputs", m->tensors_in, m->ntensors_in);
    tensors(&w, "outputs", m->tensors_out, m->ntensors_out);
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

/* Tensors as Triton's model configuration has them: dims without the batch. */
static void config_tensors(struct wire_writer *w, const char *key, const struct wire_tensor_desc *t,
                           int n, bool input)
{
    char type[24];

    wire_key(w, key);
    wire_open(w, '[');
    for (int i = 0; i < n; i++) {
        wire_open(w, '{');
        text(w, "name", t[i].name);
        snprintf(type, sizeof(type), "TYPE_%s", wire_oip_datatype(t[i].dtype));
        text(w, "data_type", type);
        wire_key(w, "dims");
        wire_open(w, '[');
        for (int d = 1; d < t[i].ndim; d++)
            wire_int(w, t[i].shape[d]);
        wire_close(w, ']');
        wire_key(w, "is_shape_tensor");
        wire_bool(w, false);
        if (input) {
            wire_key(w, "optional");
            wire_bool(w, t[i].optional);
        }
        wire_close(w, '}');
    }
    wire_close(w, ']');
}

/* {key: {inner: false}} */
static void switched_off(struct wire_writer *w, const char *key, const char *inner)
{
    wire_key(w, key);
    wire_open(w, '{');
    wire_key(w, inner);
    wire_bool(w, false);
    wire_close(w, '}');
}

char *wire_oip_config_json(const struct wire_model_desc *m)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    text(&w, "name", m->name);
    text(&w, "platform", m->platform);
    text(&w, "backend", "perceiverd");
    number(&w, "max_batch_size", m->max_batch);
    config_tensors(&w, "input", m->tensors_in, m->ntensors_in, true);
    config_tensors(&w, "output", m->tensors_out, m->ntensors_out, false);
    wire_key(&w, "dynamic_batching");
    wire_open(&w, '{');
    number(&w, "max_queue_delay_microseconds", 0);
    wire_close(&w, '}');
    switched_off(&w, "response_cache", "enable");
    switched_off(&w, "model_transaction_policy", "decoupled");
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

char *wire_oip_ready_json(const char *name, bool ready)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    text(&w, "name", name);
    wire_key(&w, "ready");
    wire_bool(&w, ready);
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

static void stat(struct wire_writer *w, const char *key, const struct wire_stat *s)
{
    wire_key(w, key);
    wire_open(w, '{');
    wire_key(w, "count");
    wire_uint(w, s->count);
    wire_key(w, "ns");
    wire_uint(w, s->ns);
    wire_close(w, '}');
}

static void batch_stats(struct wire_writer *w, const struct wire_model_stats *s)
{
    wire_key(w, "batch_stats");
    wire_open(w, '[');
    for (int i = 0; i < s->nbatches; i++) {
        const struct wire_batch_stat *b = &s->batches[i];

        wire_open(w, '{');
        number(w, "batch_size", b->batch_size);
        stat(w, "compute_input", &b->compute_input);
        stat(w, "compute_infer", &b->compute_infer);
        stat(w, "compute_output", &b->compute_output);
        wire_close(w, '}');
    }
    wire_close(w, ']');
}

static void model_stats(struct wire_writer *w, const struct wire_model_stats *s)
{
    wire_open(w, '{');
    text(w, "name", s->name);
    text(w, "version", s->version);
    wire_key(w, "last_inference");
    wire_uint(w, s->last_inference_ms);
    wire_key(w, "inference_count");
    wire_uint(w, s->inference_count);
    wire_key(w, "execution_count");
    wire_uint(w, s->execution_count);
    wire_key(w, "inference_stats");
    wire_open(w, '{');
    stat(w, "success", &s->success);
    stat(w, "fail", &s->fail);
    stat(w, "queue", &s->queue);
    stat(w, "compute_input", &s->compute_input);
    stat(w, "compute_infer", &s->compute_infer);
    stat(w, "compute_output", &s->compute_output);
    stat(w, "cache_hit", &s->cache_hit);
    stat(w, "cache_miss", &s->cache_miss);
    wire_close(w, '}');
    wire_key(w, "response_stats");
    wire_open(w, '{');
    wire_close(w, '}');
    batch_stats(w, s);
    wire_key(w, "memory_usage");
    wire_open(w, '[');
    wire_open(w, '{');
    text(w, "type", "CPU");
    number(w, "id", 0);
    wire_key(w, "byte_size");
    wire_uint(w, s->memory_bytes);
    wire_close(w, '}');
    wire_close(w, ']');
    wire_close(w, '}');
}

char *wire_oip_stats_json(const struct wire_model_stats *s, int n)
{
    struct wire_writer w = {0};

    wire_open(&w, '{');
    wire_key(&w, "model_stats");
    wire_open(&w, '[');
    for (int i = 0; i < n; i++)
        model_stats(&w, &s[i]);
    wire_close(&w, ']');
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}

char *wire_oip_index_json(const struct wire_model_desc *m, int n)
{
    struct wire_writer w = {0};

    wire_open(&w, '[');
    for (int i = 0; i < n; i++) {
        wire_open(&w, '{');
        text(&w, "name", m[i].name);
        text(&w, "version", m[i].version);
        text(&w, "state", m[i].state);
        text(&w, "reason", m[i].reason);
        wire_close(&w, '}');
    }
    wire_close(&w, ']');
    return wire_finish(&w, NULL);
}
