/* native_tasks.c - `tasks` of perceiver.json: output queries, decoders and heads.
 *
 * Output tensors have the task's name; rows are asked for by the tensor "TASK.positions". */
#include "lib/input/fourier.h"
#include "lib/input/text.h"
#include "lib/layout/native_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what kinds of task share
 * --------------------------------------------------------------------------- */

static int fail_at(struct native_binder *b, int i, const char *key)
{
    return pcv_native_at(b, "$.tasks[%d].%s", i, key);
}

static struct pcv_tensor_spec output(const struct pcv_task *t, bool rows)
{
    struct pcv_tensor_spec s = {
        .name = t->name, .dtype = PCV_F32, .ndim = rows ? 3 : 2, .shape = {-1, -1}};

    s.shape[s.ndim - 1] = t->width;
    return s;
}

/* The decoder that the task names; b->decoder's views are the task's. */
static int read_decoder(struct native_binder *b, int i, const json_t *task)
{
    const char *name = pcv_native_text(task, "decoder");
    const int n = pcv_native_place(json_object_get(b->root, "decoders"), name);

    if (n < 0) {
        pcv_fail(b->e, PCV_EUNKNOWN, "no decoder \"%s\"", name);
        return fail_at(b, i, "decoder");
    }
    b->decoder_used[n] = true;
    b->bp->task[i].layer = b->decoder[n];
    return 0;
}

static int read_head(struct native_binder *b, struct pcv_task *t)
{
    char name[80];

    snprintf(name, sizeof(name), "tasks.%s.head", t->name);
    return pcv_native_affine(b, &t->head, t->width, t->layer.d.q_dim, name);
}

static int learned_queries(struct native_binder *b, struct pcv_task *t, int rows)
{
    t->source = PCV_QUERY_LEARNED;
    t->rows = rows;
    return pcv_weights_bind(b->w, &t->query, NATIVE_SHAPE(rows, t->layer.d.q_dim), b->e,
                            "tasks.%s.query", t->name);
}

/* Several rows can be asked for one by one. */
static int name_points(struct native_binder *b, struct pcv_task *t)
{
    if (t->rows > 1 && !(t->points = pcv_native_name(b, t->name, "positions")))
        return PCV_ENOMEM;
    return 0;
}

/* Strings under a key as the task's labels; t->width is their number. */
static int read_labels(struct native_binder *b, struct pcv_task *t, const json_t *task,
                       const char *key)
{
    const json_t *array = json_object_get(task, key);
    const size_t n = json_array_size(array);

    t->labels = calloc(n, sizeof(*t->labels));
    if (!t->labels)
        return pcv_fail(b->e, PCV_ENOMEM, "no memory for %zu labels", n);
    t->width = (int)n;
    for (size_t i = 0; i < n; i++)
        if (!(t->labels[i] = strdup(json_string_value(json_array_get(array, i)))))
            return pcv_fail(b->e, PCV_ENOMEM, "no memory for %zu labels", n);
    return 0;
}

/* ---- Fourier queries
 * ------------------------------------------------------------------------------------ */

/* The task's own vector in the channels that the features leave. */
static int query_padding(struct native_binder *b, struct pcv_task *t, int own)
{
    struct pcv_segment *s = &t->queries.segment[0];
    const int missing = t->layer.d.q_dim - own;
    struct pcv_group *g;

    if (missing == 0)
        return 0;
    g = &s->group[s->ngroups++];
    *g = (struct pcv_group){.kind = PCV_GROUP_CONST,
                            .n = missing,
                            .nranges = 1,
                            .range = {{own, missing}},
                            .constant = -1};
    return pcv_weights_bind(b->w, &g->value, NATIVE_SHAPE(missing), b->e, "tasks.%s.padding",
                            t->name);
}

/* A table of features for each axis. */
static int query_axes(struct native_binder *b, struct pcv_task *t, const int *size, int axes,
                      int bands, const float *max_resolution)
{
    struct pcv_segment *s = &t->queries.segment[0];
    int64_t div = s->tokens;

    for (int i = 0; i < axes; i++) {
        float *table = pcv_blueprint_own(b->bp, (size_t)size[i] * (size_t)(1 + 2 * bands), b->e);

        if (!table)
            return PCV_ENOMEM;
        pcv_fourier_axis(table, size[i], bands, max_resolution[i]);
        div /= size[i];
        s->group[s->ngroups++] = (struct pcv_group){
            .kind = PCV_GROUP_TABLE,
            .n = 1 + 2 * bands,
            .nranges = 3,
            .range = {{i, 1}, {axes + i * bands, bands}, {axes + (axes + i) * bands, bands}},
            .table = table,
            .rows = size[i],
            .div = div,
            .constant = -1,
        };
    }
    return 0;
}

static int fourier_queries(struct native_binder *b, int i, const json_t *query)
{
    struct pcv_task *t = &b->bp->task[i];
    const int bands = pcv_native_int(query, "bands", 0), channels = t->layer.d.q_dim;
    int size[PCV_MAX_AXES], r;
    float max_resolution[PCV_MAX_AXES];
    const int axes = pcv_native_ints(query, "size", PCV_MAX_AXES, size);
    const int given = pcv_native_floats(query, "max_resolution", PCV_MAX_AXES, max_resolution);
    int64_t rows = 1;

    if (given != axes) {
        pcv_fail(b->e, PCV_ESHAPE, "%d numbers for %d axes", given, axes);
        return fail_at(b, i, "query.max_resolution");
    }
    if (axes * (1 + 2 * bands) > channels) {
        pcv_fail(b->e, PCV_ESHAPE, "%d axes have %d channels, the decoder has %d", axes,
                 axes * (1 + 2 * bands), channels);
        return fail_at(b, i, "query.bands");
    }
    for (int k = 0; k < axes; k++)
        if ((rows *= size[k]) > PCV_MAX_PIXELS) {
            pcv_fail(b->e, PCV_ELIMIT, "more than %d output queries", PCV_MAX_PIXELS);
            return fail_at(b, i, "query.size");
        }
    t->source = PCV_QUERY_GRID;
    t->rows = (int)rows;
    t->queries.channels = channels;
    t->queries.nsegments = 1;
    t->queries.segment[0].tokens = rows;
    r = query_axes(b, t, size, axes, bands, max_resolution);
    if (r == 0)
        r = query_padding(b, t, axes * (1 + 2 * bands));
    return r < 0 ? r : pcv_blueprint_stats(b->bp, &t->queries.segment[0], channels, b->eps, b->e);
}

/* ---- other queries
 * -------------------------------------------------------------------------------------- */

/* The only input that the task is for, or -1. */
static int only_input(const struct native_binder *b, unsigned inputs)
{
    const unsigned all = (1u << b->bp->ninputs) - 1, of = inputs ? inputs : all;

    return of & (of - 1) ? -1 : __builtin_ctz(of);
}

static int input_queries(struct native_binder *b, int i, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    const int which = only_input(b, inputs);
    struct pcv_adapter *a = &b->bp->input[which < 0 ? 0 : which];

    if (which < 0 || (b->together && b->bp->ninputs > 1)) {
        pcv_fail(b->e, PCV_EUNSUPPORTED,
                 "output queries are the tokens of one input: name it in for");
        return fail_at(b, i, "query.kind");
    }
    if (a->channels != t->layer.d.q_dim) {
        pcv_fail(b->e, PCV_ESHAPE, "tokens of %s have %d channels, the decoder has %d", a->name,
                 a->channels, t->layer.d.q_dim);
        return fail_at(b, i, "decoder");
    }
    t->source = PCV_QUERY_INPUT;
    t->rows = (int)pcv_adapter_tokens(a);
    a->text.queried = true;
    return 0;
}

static int caller_queries(struct native_binder *b, int i, const json_t *query)
{
    struct pcv_task *t = &b->bp->task[i];

    t->source = PCV_QUERY_CALLER;
    t->rows = pcv_native_int(query, "rows", 0);
    for (int k = 0; k < i; k++) {
        const struct pcv_task *other = &b->bp->task[k];

        if (other->source == PCV_QUERY_CALLER && other->layer.d.q_dim != t->layer.d.q_dim) {
            pcv_fail(b->e, PCV_ESHAPE,
                     "%d channels, but the queries of %s, which are the same, have %d",
                     t->layer.d.q_dim, other->name, other->layer.d.q_dim);
            return fail_at(b, i, "decoder");
        }
    }
    return 0;
}

static int read_queries(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    const json_t *query = json_object_get(task, "query");
    const char *kind = pcv_native_text(query, "kind");

    if (strcmp(kind, "fourier") == 0)
        return fourier_queries(b, i, query);
    if (strcmp(kind, "input") == 0)
        return input_queries(b, i, inputs);
    if (strcmp(kind, "caller") == 0)
        return caller_queries(b, i, query);
    return learned_queries(b, &b->bp->task[i], pcv_native_int(query, "rows", 1));
}

/* Both come with the input, in one place. */
static int check_sources(struct native_binder *b)
{
    int of[2] = {-1, -1};

    for (int i = 0; i < b->bp->ntasks; i++) {
        if (b->bp->task[i].source == PCV_QUERY_INPUT)
            of[0] = i;
        if (b->bp->task[i].source == PCV_QUERY_CALLER)
            of[1] = i;
    }
    if (of[0] < 0 || of[1] < 0)
        return 0;
    pcv_fail(b->e, PCV_EUNSUPPORTED, "queries of the input and of the caller in one model");
    return fail_at(b, of[0] > of[1] ? of[0] : of[1], "query.kind");
}

/* ---- kinds
 * ---------------------------------------------------------------------------------------------- */

static int classify(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    const bool numbers = json_object_get(task, "names");
    int r = read_decoder(b, i, task);

    (void)inputs;
    t->kind = numbers ? PCV_TASK_REGRESSION : PCV_TASK_CLASSIFY;
    if (r == 0)
        r = read_labels(b, t, task, numbers ? "names" : "labels");
    if (r == 0)
        r = learned_queries(b, t, 1);
    if (r == 0)
        r = read_head(b, t);
    t->output = output(t, false);
    return r;
}

static int fill_mask(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    const int which = only_input(b, inputs);
    int r = read_decoder(b, i, task);

    if (r < 0)
        return r;
    if (which < 0 || b->bp->input[which].kind != PCV_INPUT_TEXT) {
        pcv_fail(b->e, PCV_EUNSUPPORTED, "masks are filled in one text input");
        return fail_at(b, i, "for");
    }
    if (t->layer.d.q_dim != b->own[which]) {
        pcv_fail(b->e, PCV_ESHAPE, "%d channels, but %s, whose bytes are the head, has %d",
                 t->layer.d.q_dim, b->bp->input[which].name, b->own[which]);
        return fail_at(b, i, "decoder");
    }
    t->kind = PCV_TASK_FILL_MASK;
    t->width = PCV_TOKEN_COUNT;
    t->output = output(t, true);
    t->head.w = b->bytes[which];
    r = learned_queries(b, t, b->bp->input[which].text.max_positions);
    if (r == 0)
        r = pcv_weights_bind(b->w, &t->head.b, NATIVE_SHAPE(t->width), b->e, "tasks.%s.head.bias",
                             t->name);
    return r < 0 ? r : name_points(b, t);
}

static int pixels(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    const json_t *query = json_object_get(task, "query");
    int size[PCV_MAX_AXES] = {0}, r = read_decoder(b, i, task);
    const int axes = pcv_native_ints(query, "size", PCV_MAX_AXES, size);
    char place[32];

    if (r < 0)
        return r;
    if (strcmp(pcv_native_text(query, "kind"), "fourier") != 0) {
        pcv_fail(b->e, PCV_EUNSUPPORTED, "pixels are asked for by fourier queries");
        return fail_at(b, i, "query.kind");
    }
    if (axes != 2 && axes != 3) {
        pcv_fail(b->e, PCV_ESHAPE, "%d axes; pictures have 2, videos 3", axes);
        return fail_at(b, i, "query.size");
    }
    t->kind = PCV_TASK_IMAGE;
    t->width = pcv_native_int(task, "channels", 3);
    t->output = output(t, true);
    t->grid[0] = axes == 3 ? size[0] : 1;
    t->grid[1] = size[axes - 2];
    t->grid[2] = size[axes - 1];
    snprintf(place, sizeof(place), "$.tasks[%d]", i);
    r = pcv_native_colours(b, task, t->width, place, t->mean, t->std);
    if (r == 0)
        r = read_queries(b, i, task, inputs);
    if (r == 0)
        r = read_head(b, t);
    return r < 0 ? r : name_points(b, t);
}

static int embedding(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    const bool decoded = json_object_get(task, "decoder");
    int r = 0;

    (void)inputs;
    t->kind = PCV_TASK_EMBED;
    t->width = pcv_native_int(task, "channels", 0);
    if (decoded && !t->width) {
        pcv_fail(b->e, PCV_EMISSING, "key is missing beside decoder");
        return fail_at(b, i, "channels");
    }
    if (!decoded && t->width) {
        pcv_fail(b->e, PCV_EUNKNOWN, "the mean of the latents has theirs; others need a decoder");
        return fail_at(b, i, "channels");
    }
    if (decoded) {
        r = read_decoder(b, i, task);
        if (r == 0)
            r = learned_queries(b, t, 1);
        if (r == 0)
            r = read_head(b, t);
    } else {
        t->decoder = PCV_DECODER_POOL;
        t->rows = 1;
        t->width = b->bp->d_latents;
    }
    t->output = output(t, false);
    return r;
}

static int tensor(struct native_binder *b, int i, const json_t *task, unsigned inputs)
{
    struct pcv_task *t = &b->bp->task[i];
    int r = read_decoder(b, i, task);

    if (r < 0)
        return r;
    t->kind = PCV_TASK_TENSOR;
    t->width = pcv_native_int(task, "channels", t->layer.d.q_dim);
    t->output = output(t, true);
    r = read_queries(b, i, task, inputs);
    if (r == 0 && json_object_get(task, "channels"))
        r = read_head(b, t);
    if (r == 0 && t->source != PCV_QUERY_CALLER)
        r = name_points(b, t);
    return r;
}

/* ---- all of them
 * ---------------------------------------------------------------------------------------- */

/* Bits of the inputs that `for` names; 0: all. */
static int read_for(struct native_binder *b, int i, const json_t *task, unsigned *inputs)
{
    size_t k;
    json_t *v;

    *inputs = 0;
    json_array_foreach(json_object_get(task, "for"), k, v)
    {
        int which = 0;

        while (which < b->bp->ninputs &&
               strcmp(b->bp->input[which].name, json_string_value(v)) != 0)
            which++;
        if (which == b->bp->ninputs)
            pcv_fail(b->e, PCV_EUNKNOWN, "no input \"%s\"", json_string_value(v));
        else if (*inputs >> which & 1)
            pcv_fail(b->e, PCV_EFORMAT, "\"%s\" is named twice", json_string_value(v));
        else {
            *inputs |= 1u << which;
            continue;
        }
        return pcv_native_at(b, "$.tasks[%d].for[%zu]", i, k);
    }
    return 0;
}

static int name_task(struct native_binder *b, int i, const json_t *task)
{
    const char *name = pcv_native_text(task, "name");
    struct pcv_task *t = &b->bp->task[i];

    for (int k = 0; k < i; k++)
        if (strcmp(b->bp->task[k].name, name) == 0) {
            pcv_fail(b->e, PCV_EFORMAT, "\"%s\" is the name of task %d too", name, k);
            return fail_at(b, i, "name");
        }
    *t = (struct pcv_task){.name = pcv_native_name(b, name, NULL)};
    b->bp->ntasks++;
    return t->name ? 0 : PCV_ENOMEM;
}

static int read_task(struct native_binder *b, int i, const json_t *task)
{
    static const struct {
        const char *kind;
        int (*read)(struct native_binder *b, int i, const json_t *task, unsigned inputs);
    } kinds[] = {
        {"classify", classify}, {"regression", classify}, {"fill-mask", fill_mask},
        {"pixels", pixels},     {"embedding", embedding}, {"tensor", tensor},
    };
    const char *kind = pcv_native_text(task, "kind");
    unsigned inputs = 0;
    int r = name_task(b, i, task);

    if (r == 0)
        r = read_for(b, i, task, &inputs);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]) && r == 0; k++)
        if (strcmp(kind, kinds[k].kind) == 0)
            r = kinds[k].read(b, i, task, inputs);
    b->bp->task[i].inputs = b->together ? 0 : inputs; /* together there is one input: all of them */
    return r;
}

int pcv_native_tasks(struct native_binder *b)
{
    json_t *v;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(b->root, "tasks"), i, v)
    {
        if (r == 0)
            r = read_task(b, (int)i, v);
    }
    return r < 0 ? r : check_sources(b);
}
