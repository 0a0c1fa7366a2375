/* wire_client_describe.c - what a server says about itself and its models, as a client reads it. */
#include "proto/wire_client.h"
#include "proto/wire_decode.h"
#include "proto/wire_fields.h"

#include <limits.h>
#include <string.h>

/* ---- models ---------------------------------------------------------------------------------- */

static const struct wire_field input_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_input_desc, name),
    WIRE_FIELD(TEXT, "kind", struct wire_input_desc, kind),
    WIRE_FIELD(TEXTS, "media", struct wire_input_desc, media),
    WIRE_FIELD(I64, "max_tokens", struct wire_input_desc, max_tokens),
};
static const struct wire_table input_table = WIRE_TABLE(struct wire_input_desc, input_fields);

static const struct wire_field task_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_task_desc, name),
    WIRE_FIELD(TEXT, "kind", struct wire_task_desc, kind),
    WIRE_FIELD(INT, "width", struct wire_task_desc, width),
    WIRE_FIELD(I64, "max_output_queries", struct wire_task_desc, max_rows),
    WIRE_FIELD(TEXTS, "inputs", struct wire_task_desc, inputs, .optional = true),
    WIRE_FIELD(TEXTS, "labels", struct wire_task_desc, labels, .optional = true),
};
static const struct wire_table task_table = WIRE_TABLE(struct wire_task_desc, task_fields);

static const struct wire_field tensor_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_tensor_desc, name),
    WIRE_FIELD(TYPE, "datatype", struct wire_tensor_desc, dtype),
    WIRE_FIELD(SHAPE, "shape", struct wire_tensor_desc, shape,
               .count = offsetof(struct wire_tensor_desc, ndim)),
};
static const struct wire_table tensor_table = WIRE_TABLE(struct wire_tensor_desc, tensor_fields);

/* The following read some members of a model each, from objects inside its own. */

static const struct wire_field latents_fields[] = {
    WIRE_FIELD(INT, "count", struct wire_model_desc, num_latents),
    WIRE_FIELD(INT, "width", struct wire_model_desc, d_latents),
};
static const struct wire_table latents_table = WIRE_TABLE(struct wire_model_desc, latents_fields);

static const struct wire_field tensors_fields[] = {
    WIRE_ARRAY("inputs", struct wire_model_desc, tensors_in, ntensors_in, tensor_table),
    WIRE_ARRAY("outputs", struct wire_model_desc, tensors_out, ntensors_out, tensor_table),
};
static const struct wire_table tensors_table = WIRE_TABLE(struct wire_model_desc, tensors_fields);

static const struct wire_field cost_fields[] = {
    WIRE_FIELD(OBJECT, "gmac", struct wire_model_desc, gmac, .of = &wire_stages_table),
    WIRE_FIELD(OBJECT, "gmac_dense", struct wire_model_desc, gmac_dense, .of = &wire_stages_table),
};
static const struct wire_table cost_table = WIRE_TABLE(struct wire_model_desc, cost_fields);

static const struct wire_field model_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_model_desc, name),
    WIRE_FIELD(TEXT, "version", struct wire_model_desc, version),
    WIRE_FIELD(TEXT, "state", struct wire_model_desc, state),
    WIRE_FIELD(TEXT, "reason", struct wire_model_desc, reason),
    WIRE_FIELD(TEXT, "platform", struct wire_model_desc, platform),
    WIRE_FIELD(TEXT, "architecture", struct wire_model_desc, architecture),
    WIRE_FIELD(TEXT, "upstream", struct wire_model_desc, upstream),
    WIRE_FIELD(I64, "parameters", struct wire_model_desc, parameters),
    WIRE_FIELD(I64, "bytes", struct wire_model_desc, bytes),
    WIRE_FIELD(INT, "max_batch", struct wire_model_desc, max_batch),
    WIRE_PART("latents", latents_table),
    WIRE_FIELD(BOOL, "together", struct wire_model_desc, together, .optional = true),
    WIRE_ARRAY("inputs", struct wire_model_desc, inputs, ninputs, input_table),
    WIRE_ARRAY("tasks", struct wire_model_desc, tasks, ntasks, task_table),
    WIRE_PART("tensors", tensors_table, .optional = true),
    WIRE_PART("cost", cost_table, .optional = true),
};
static const struct wire_table model_table = WIRE_TABLE(struct wire_model_desc, model_fields);

int wire_client_model(struct wire_arena *a, const char *body, size_t len,
                      struct wire_model_desc *ret, struct pcv_err *e)
{
    struct wire_model_desc m = {0};
    int r = wire_read_document(a, body, len, &model_table, &m, e);

    if (r == 0)
        *ret = m;
    return r;
}

struct models {
    const struct wire_model_desc *v;
    int n;
};

static const struct wire_field models_fields[] = {
    WIRE_ARRAY("models", struct models, v, n, model_table),
};
static const struct wire_table models_table = WIRE_TABLE(struct models, models_fields);

int wire_client_models(struct wire_arena *a, const char *body, size_t len,
                       const struct wire_model_desc **ret, int *n, struct pcv_err *e)
{
    struct models m = {0};
    int r = wire_read_document(a, body, len, &models_table, &m, e);

    if (r < 0)
        return r;
    *ret = m.v;
    *n = m.n;
    return 0;
}

/* ---- kept latents ---------------------------------------------------------------------------- */

/* While they are being read: the shape in one piece. */
struct kept {
    struct wire_latents_desc d;
    int64_t shape[PCV_MAX_DIMS];
    int ndim;
};

static const struct wire_field kept_fields[] = {
    WIRE_FIELD(TEXT, "latents", struct kept, d.handle),
    WIRE_FIELD(TEXT, "model", struct kept, d.model),
    WIRE_FIELD(TEXT, "version", struct kept, d.version),
    WIRE_FIELD(TEXT, "input", struct kept, d.input, .optional = true),
    WIRE_FIELD(SHAPE, "shape", struct kept, shape, .count = offsetof(struct kept, ndim)),
    WIRE_FIELD(I64, "bytes", struct kept, d.bytes),
    WIRE_FIELD(F64, "age_s", struct kept, d.age_s),
    WIRE_FIELD(F64, "expires_s", struct kept, d.expires_s),
    WIRE_FIELD(BOOL, "has_input", struct kept, d.has_input),
    WIRE_FIELD(TEXTS, "tasks", struct kept, d.tasks),
};
static const struct wire_table kept_table = WIRE_TABLE(struct kept, kept_fields);

int wire_client_latents(struct wire_arena *a, const char *body, size_t len,
                        struct wire_latents_desc *ret, struct pcv_err *e)
{
    struct kept kept = {.d = {.ntasks = 0}};
    int r = wire_read_document(a, body, len, &kept_table, &kept, e);

    if (r < 0)
        return r;
    if (kept.ndim != 2 || kept.shape[0] < 0 || kept.shape[0] > INT_MAX || kept.shape[1] < 0 ||
        kept.shape[1] > INT_MAX)
        return wire_fail(e, PCV_ESHAPE, "$.shape", "not a number of latents and their width");
    kept.d.num_latents = (int)kept.shape[0];
    kept.d.d_latents = (int)kept.shape[1];
    while (kept.d.tasks[kept.d.ntasks])
        kept.d.ntasks++;
    *ret = kept.d;
    return 0;
}

/* ---- optional tensors ------------------------------------------------------------------------ */

static const struct wire_field config_input_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_tensor_desc, name),
    WIRE_FIELD(BOOL, "optional", struct wire_tensor_desc, optional, .optional = true),
};
static const struct wire_table config_input_table =
    WIRE_TABLE(struct wire_tensor_desc, config_input_fields);

static const struct wire_field config_fields[] = {
    WIRE_ARRAY("input", struct wire_model_desc, tensors_in, ntensors_in, config_input_table),
};
static const struct wire_table config_table = WIRE_TABLE(struct wire_model_desc, config_fields);

int wire_client_optional(struct wire_arena *a, const char *body, size_t len,
                         struct wire_model_desc *m, struct pcv_err *e)
{
    struct wire_tensor_desc *t = (struct wire_tensor_desc *)m->tensors_in; /* of an arena */
    struct wire_model_desc config = {0};
    int r = wire_read_document(a, body, len, &config_table, &config, e);

    for (int i = 0; r == 0 && i < m->ntensors_in; i++)
        for (int k = 0; k < config.ntensors_in; k++)
            if (strcmp(t[i].name, config.tensors_in[k].name) == 0)
                t[i].optional = config.tensors_in[k].optional;
    return r;
}

/* ---- the server ------------------------------------------------------------------------------ */

struct server {
    const char *name, *version;
};

static const struct wire_field server_fields[] = {
    WIRE_FIELD(TEXT, "name", struct server, name),
    WIRE_FIELD(TEXT, "version", struct server, version),
};
static const struct wire_table server_table = WIRE_TABLE(struct server, server_fields);

int wire_client_server(struct wire_arena *a, const char *body, size_t len, const char **name,
                       const char **version, struct pcv_err *e)
{
    struct server s = {0};
    int r = wire_read_document(a, body, len, &server_table, &s, e);

    if (r < 0)
        return r;
    *name = s.name;
    *version = s.version;
    return 0;
}

/* ---- statistics ------------------------------------------------------------------------------ */

static const struct wire_field stat_fields[] = {
    WIRE_FIELD(U64, "count", struct wire_stat, count),
    WIRE_FIELD(U64, "ns", struct wire_stat, ns),
};
static const struct wire_table stat_table = WIRE_TABLE(struct wire_stat, stat_fields);

#define STAT(type, name) WIRE_FIELD(OBJECT, #name, struct type, name, .of = &stat_table)

static const struct wire_field batch_fields[] = {
    WIRE_FIELD(INT, "batch_size", struct wire_batch_stat, batch_size),
    STAT(wire_batch_stat, compute_input),
    STAT(wire_batch_stat, compute_infer),
    STAT(wire_batch_stat, compute_output),
};
static const struct wire_table batch_table = WIRE_TABLE(struct wire_batch_stat, batch_fields);

static const struct wire_field inference_fields[] = {
    STAT(wire_model_stats, success),       STAT(wire_model_stats, fail),
    STAT(wire_model_stats, queue),         STAT(wire_model_stats, compute_input),
    STAT(wire_model_stats, compute_infer), STAT(wire_model_stats, compute_output),
    STAT(wire_model_stats, cache_hit),     STAT(wire_model_stats, cache_miss),
};
static const struct wire_table inference_table =
    WIRE_TABLE(struct wire_model_stats, inference_fields);

static const struct wire_field stats_fields[] = {
    WIRE_FIELD(TEXT, "name", struct wire_model_stats, name),
    WIRE_FIELD(TEXT, "version", struct wire_model_stats, version),
    WIRE_FIELD(U64, "last_inference", struct wire_model_stats, last_inference_ms),
    WIRE_FIELD(U64, "inference_count", struct wire_model_stats, inference_count),
    WIRE_FIELD(U64, "execution_count", struct wire_model_stats, execution_count),
    WIRE_PART("inference_stats", inference_table),
    WIRE_ARRAY("batch_stats", struct wire_model_stats, batches, nbatches, batch_table),
};
static const struct wire_table stats_table = WIRE_TABLE(struct wire_model_stats, stats_fields);

struct all_stats {
    const struct wire_model_stats *v;
    int n;
};

static const struct wire_field all_stats_fields[] = {
    WIRE_ARRAY("model_stats", struct all_stats, v, n, stats_table),
};
static const struct wire_table all_stats_table = WIRE_TABLE(struct all_stats, all_stats_fields);

int wire_client_stats(struct wire_arena *a, const char *body, size_t len,
                      const struct wire_model_stats **ret, int *n, struct pcv_err *e)
{
    struct all_stats s = {0};
    int r = wire_read_document(a, body, len, &all_stats_table, &s, e);

    if (r < 0)
        return r;
    *ret = s.v;
    *n = s.n;
    return 0;
}
