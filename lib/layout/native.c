/* native.c - our own format, perceiver.json beside model.safetensors: latents, encoders, process
 * stack and decoders. Its contract is perceiver.schema.json, which every document is held to first;
 * native_inputs.c and native_tasks.c read the rest of it.
 *
 * Easy to get wrong:
 * - Cross layer i is the i-th encoder of the file; the first step is written with layer 0, and the
 *   input's own encoder is what is read there.
 * - Tasks that share a decoder share the very views of its layer: the plan goes by that. */
#include "lib/layout/native_internal.h"

#include "lib/load/json_file.h"
#include "lib/load/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- reading what the schema has seen
 * ------------------------------------------------------------------------- */

int pcv_native_at(struct native_binder *b, const char *format, ...)
{
    char place[160];
    va_list ap;

    va_start(ap, format);
    vsnprintf(place, sizeof(place), format, ap);
    va_end(ap);
    pcv_err_at(b->e, "%s", place);
    return pcv_err_at(b->e, "%s", b->path);
}

int pcv_native_int(const json_t *object, const char *key, int absent)
{
    const json_t *v = json_object_get(object, key);

    return v ? (int)json_integer_value(v) : absent;
}

double pcv_native_number(const json_t *object, const char *key, double absent)
{
    const json_t *v = json_object_get(object, key);

    return v ? json_number_value(v) : absent;
}

bool pcv_native_bool(const json_t *object, const char *key, bool absent)
{
    const json_t *v = json_object_get(object, key);

    return v ? json_is_true(v) : absent;
}

const char *pcv_native_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

int pcv_native_ints(const json_t *object, const char *key, int most, int *to)
{
    const json_t *v = json_object_get(object, key);
    const int n = (int)json_array_size(v);

    for (int i = 0; i < n && i < most; i++)
        to[i] = (int)json_integer_value(json_array_get(v, (size_t)i));
    return n;
}

int pcv_native_floats(const json_t *object, const char *key, int most, float *to)
{
    const json_t *v = json_object_get(object, key);
    const int n = (int)json_array_size(v);

    for (int i = 0; i < n && i < most; i++)
        to[i] = (float)json_number_value(json_array_get(v, (size_t)i));
    return n;
}

int pcv_native_place(const json_t *object, const char *key)
{
    const char *k;
    json_t *v;
    int i = 0;

    json_object_foreach((json_t *)object, k, v)
    {
        if (strcmp(k, key) == 0)
            return i;
        i++;
    }
    return -1;
}

const char *pcv_native_name(struct native_binder *b, const char *text, const char *more)
{
    char full[96];

    snprintf(full, sizeof(full), "%s%s%s", text, more ? "." : "", more ? more : "");
    return pcv_blueprint_string(b->bp, full, b->e);
}

int pcv_native_colours(struct native_binder *b, const json_t *object, int channels,
                       const char *place, float *mean, float *std)
{
    const int means = pcv_native_floats(object, "mean", 3, mean);
    const int stds = pcv_native_floats(object, "std", 3, std);

    if (means && means != channels) {
        pcv_fail(b->e, PCV_ESHAPE, "%d numbers for %d channels", means, channels);
        return pcv_native_at(b, "%s.mean", place);
    }
    if (stds && stds != channels) {
        pcv_fail(b->e, PCV_ESHAPE, "%d numbers for %d channels", stds, channels);
        return pcv_native_at(b, "%s.std", place);
    }
    for (int c = 0; c < 3; c++) {
        mean[c] = !means ? 0 : mean[c < channels ? c : 0];
        std[c] = !stds ? 1 : std[c < channels ? c : 0];
        if (std[c] == 0) {
            pcv_fail(b->e, PCV_ERANGE, "numbers are divided by it");
            return pcv_native_at(b, "%s.std[%d]", place, c);
        }
    }
    return 0;
}

/* ---- layers
 * --------------------------------------------------------------------------------------------- */

int pcv_native_affine(struct native_binder *b, struct pcv_affine *a, int out, int in,
                      const char *name)
{
    int r = pcv_weights_bind(b->w, &a->w, NATIVE_SHAPE(out, in), b->e, "%s.weight", name);

    return r < 0 ? r : pcv_weights_bind(b->w, &a->b, NATIVE_SHAPE(out), b->e, "%s.bias", name);
}

static int bind_norm(struct native_binder *b, struct pcv_norm *n, int dim, const char *name)
{
    int r = pcv_weights_bind(b->w, &n->gamma, NATIVE_SHAPE(dim), b->e, "%s.weight", name);

    return r < 0 ? r : pcv_weights_bind(b->w, &n->beta, NATIVE_SHAPE(dim), b->e, "%s.bias", name);
}

/* The layer whose tensors begin with `name`, with the dimensions already in l->d. */
static int bind_layer(struct native_binder *b, struct pcv_layer *l, const char *name)
{
    const struct pcv_layer_dims *d = &l->d;
    const bool mlp = d->hidden > 0;
    const struct {
        const char *part;
        struct pcv_affine *affine;
        struct pcv_norm *norm;
        int out, in;
    } parts[] = {
        {d->cross ? "norm_q" : "norm", NULL, &l->norm_q, d->q_dim, 0},
        {"norm_kv", NULL, d->cross ? &l->norm_kv : NULL, d->kv_dim, 0},
        {"query", &l->q, NULL, d->qk, d->q_dim},
        {"key", &l->k, NULL, d->qk, d->kv_dim},
        {"value", &l->val, NULL, d->v, d->kv_dim},
        {"out", &l->out, NULL, d->q_dim, d->v},
        {"norm_mlp", NULL, mlp ? &l->norm_mlp : NULL, d->q_dim, 0},
        {"mlp1", mlp ? &l->mlp1 : NULL, NULL, d->hidden, d->q_dim},
        {"mlp2", mlp ? &l->mlp2 : NULL, NULL, d->q_dim, d->hidden},
    };
    int r = 0;

    l->activation = b->activation;
    l->eps = b->eps;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && r == 0; i++) {
        char full[128];

        snprintf(full, sizeof(full), "%s.%s", name, parts[i].part);
        if (parts[i].affine)
            r = pcv_native_affine(b, parts[i].affine, parts[i].out, parts[i].in, full);
        else if (parts[i].norm)
            r = bind_norm(b, parts[i].norm, parts[i].out, full);
    }
    return r;
}

/* heads, qk, v, widening and residual of an attention; qk is what keys have when it is absent. */
static int read_dims(struct native_binder *b, struct pcv_layer_dims *d, const json_t *object,
                     int qk, const char *place)
{
    d->heads = pcv_native_int(object, "heads", 1);
    d->qk = pcv_native_int(object, "qk", qk);
    d->v = pcv_native_int(object, "v", d->qk);
    d->hidden = pcv_native_int(object, "widening", 1) * d->q_dim;
    d->residual = pcv_native_bool(object, "residual", true);
    if (d->qk % d->heads == 0 && d->v % d->heads == 0)
        return 0;
    pcv_fail(b->e, PCV_ESHAPE, "%d heads do not divide %d query and %d value channels", d->heads,
             d->qk, d->v);
    return pcv_native_at(b, "%s.heads", place);
}

/* ---- the stack
 * ------------------------------------------------------------------------------------------ */

static int bind_encoders(struct native_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const char *name;
    json_t *v;

    json_object_foreach(json_object_get(b->root, "encoders"), name, v)
    {
        struct pcv_layer *l = &bp->cross[bp->ncross];
        char place[96];
        int r, channels = 0;

        for (int i = 0; i < bp->ninputs; i++)
            if (bp->input[i].encoder == bp->ncross)
                channels = bp->input[i].channels;
        if (!channels) {
            pcv_fail(b->e, PCV_EUNKNOWN, "no input is read through it");
            return pcv_native_at(b, "$.encoders.%.60s", name);
        }
        bp->ncross++;
        l->d = (struct pcv_layer_dims){.q_dim = bp->d_latents, .kv_dim = channels, .cross = true};
        snprintf(place, sizeof(place), "$.encoders.%s", name);
        r = read_dims(b, &l->d, v, bp->d_latents, place);
        if (r == 0)
            r = bind_layer(b, l, place + 2);
        if (r < 0)
            return r;
    }
    return 0;
}

static int bind_process(struct native_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const json_t *process = json_object_get(b->root, "process");
    const int layers = pcv_native_int(process, "layers", 0), d = bp->d_latents;
    const int repeats = pcv_native_int(process, "repeats", 1);
    char name[32];
    int r = 0;

    if (repeats * layers + 1 > PCV_MAX_STEPS) {
        pcv_fail(b->e, PCV_ELIMIT, "%d times %d layers are more than %d steps", repeats, layers,
                 PCV_MAX_STEPS - 1);
        return pcv_native_at(b, "$.process.repeats");
    }
    for (int i = 0; i < layers && r == 0; i++) {
        struct pcv_layer *l = &bp->self[bp->nself++];

        l->d = (struct pcv_layer_dims){.q_dim = d, .kv_dim = d};
        r = read_dims(b, &l->d, process, d, "$.process");
        snprintf(name, sizeof(name), "process.%d", i);
        if (r == 0)
            r = bind_layer(b, l, name);
    }
    bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_CROSS, 0};
    for (int i = 0; i < repeats * layers; i++)
        bp->step[bp->nsteps++] = (struct pcv_step){PCV_STEP_SELF, i % layers};
    return r;
}

static int bind_decoders(struct native_binder *b)
{
    const char *name;
    json_t *v;
    int n = 0;

    json_object_foreach(json_object_get(b->root, "decoders"), name, v)
    {
        struct pcv_layer *l = &b->decoder[n++];
        const int channels = pcv_native_int(v, "channels", 0);
        char place[96];
        int r;

        if (strlen(name) > 48) { /* no task can name it */
            pcv_fail(b->e, PCV_EUNKNOWN, "no task reads through it");
            return pcv_native_at(b, "$.decoders.%.60s", name);
        }
        l->d =
            (struct pcv_layer_dims){.q_dim = channels, .kv_dim = b->bp->d_latents, .cross = true};
        snprintf(place, sizeof(place), "$.decoders.%s", name);
        r = read_dims(b, &l->d, v, channels, place);
        if (r == 0)
            r = bind_layer(b, l, place + 2);
        if (r < 0)
            return r;
    }
    return 0;
}

static int decoders_used(struct native_binder *b)
{
    const char *name;
    json_t *v;
    int n = 0;

    json_object_foreach(json_object_get(b->root, "decoders"), name, v)
    {
        if (!b->decoder_used[n++]) {
            pcv_fail(b->e, PCV_EUNKNOWN, "no task reads through it");
            return pcv_native_at(b, "$.decoders.%.60s", name);
        }
    }
    return 0;
}

/* ---- the whole
 * ------------------------------------------------------------------------------------------ */

static int bind(struct native_binder *b)
{
    struct pcv_blueprint *bp = b->bp;
    const json_t *latents = json_object_get(b->root, "latents");
    const char *name = pcv_native_text(b->root, "name");
    const char *activation = pcv_native_text(b->root, "activation");
    int r;

    snprintf(bp->architecture, sizeof(bp->architecture), "%.90s", name ? name : "perceiver");
    bp->upstream = "perceiver-1";
    b->eps = (float)pcv_native_number(b->root, "epsilon", 1e-5);
    b->activation =
        activation && strcmp(activation, "gelu_tanh") == 0 ? PCV_GELU_TANH : PCV_GELU_ERF;
    b->together = pcv_native_bool(b->root, "together", false);
    bp->separate = !b->together;
    bp->num_latents = pcv_native_int(latents, "count", 0);
    bp->d_latents = pcv_native_int(latents, "channels", 0);
    r = pcv_weights_bind(b->w, &bp->latents, NATIVE_SHAPE(bp->num_latents, bp->d_latents), b->e,
                         "latents");
    if (r == 0)
        r = pcv_native_inputs(b);
    if (r == 0)
        r = bind_encoders(b);
    if (r == 0)
        r = bind_process(b);
    if (r == 0)
        r = bind_decoders(b);
    if (r == 0)
        r = pcv_native_tasks(b);
    return r < 0 ? r : decoders_used(b);
}

static int check(const json_t *root, const char *path, struct pcv_err *e)
{
    struct pcv_schema *schema;
    int r = pcv_schema_open(&schema, pcv_model_schema(), e);

    if (r == 0) {
        r = pcv_schema_check(schema, root, e);
        pcv_schema_close(schema);
    }
    if (r < 0)
        pcv_err_at(e, "%s", path);
    return r;
}

int pcv_layout_native(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                      struct pcv_err *e)
{
    char path[4096];
    struct native_binder b = {.bp = bp, .w = w, .path = path, .e = e};
    json_t *root;
    int r;

    snprintf(path, sizeof(path), "%s/perceiver.json", dir);
    r = pcv_json_open(&root, path, e);
    if (r < 0)
        return r;
    r = check(root, path, e);
    b.root = root;
    if (r == 0)
        r = bind(&b);
    json_decref(root);
    return r;
}
