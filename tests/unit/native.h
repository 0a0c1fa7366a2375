/* native.h - small models in our own format for unit tests: a description that can be changed by
 * paths, and random tensors of the shapes it asks for, straight from the schema's words. */
#ifndef NATIVE_H
#define NATIVE_H

#include "tests/unit/tiny.h"

#include <jansson.h>

/* One of four inputs at a time, each of its own kind; every kind of task. */
static const char native_separate[] =
    "{'format': 'perceiver-1', 'name': 'apart', 'latents': {'count': 5, 'channels': 12},"
    " 'encoders': {'see': {'heads': 2, 'qk': 8, 'v': 12, 'widening': 2},"
    "  'hear': {'heads': 3, 'channels': 20, 'residual': false}, 'read': {'heads': 4}},"
    " 'process': {'layers': 2, 'repeats': 2, 'heads': 3},"
    " 'decoders': {'judge': {'channels': 10, 'heads': 2, 'qk': 8, 'v': 12},"
    "  'spell': {'channels': 8, 'heads': 2, 'residual': false},"
    "  'paint': {'channels': 12, 'heads': 2, 'qk': 6, 'v': 10, 'widening': 0}},"
    " 'inputs': ["
    "  {'name': 'image', 'kind': 'image', 'encoder': 'see', 'height': 6, 'width': 8, 'channels': 1,"
    "   'patch': [3, 2], 'mean': [0.5], 'std': [0.25],"
    "   'position': {'kind': 'fourier', 'bands': 3, 'max_resolution': [2, 4]}},"
    "  {'name': 'sound', 'kind': 'audio', 'encoder': 'hear', 'rate': 8000, 'samples': 400,"
    "   'spectrum': {'window': 32, 'hop': 40, 'bands': 5, 'low': 80, 'high': 3900, 'rms': 0.1},"
    "   'position': {'kind': 'fourier', 'bands': 4, 'max_resolution': [10]}},"
    "  {'name': 'text', 'kind': 'text', 'encoder': 'read', 'positions': 20, 'channels': 8},"
    "  {'name': 'wind', 'kind': 'array', 'encoder': 'hear', 'size': [3, 5], 'channels': 2,"
    "   'lift': 6, 'position': {'kind': 'learned', 'channels': 3}}],"
    " 'tasks': ["
    "  {'name': 'what', 'kind': 'classify', 'for': ['image', 'sound'], 'decoder': 'judge',"
    "   'labels': ['a', 'b', 'c']},"
    "  {'name': 'force', 'kind': 'regression', 'for': ['wind'], 'decoder': 'judge',"
    "   'names': ['x', 'y']},"
    "  {'name': 'fill', 'kind': 'fill-mask', 'for': ['text'], 'decoder': 'spell'},"
    "  {'name': 'again', 'kind': 'pixels', 'for': ['image'], 'decoder': 'paint',"
    "   'query': {'kind': 'fourier', 'size': [6, 8], 'bands': 2, 'max_resolution': [6, 8]},"
    "   'channels': 1, 'mean': [0.5], 'std': [0.25]},"
    "  {'name': 'mean', 'kind': 'embedding'},"
    "  {'name': 'point', 'kind': 'embedding', 'decoder': 'judge', 'channels': 4},"
    "  {'name': 'rows', 'kind': 'tensor', 'decoder': 'spell',"
    "   'query': {'kind': 'learned', 'rows': 3}},"
    "  {'name': 'ask', 'kind': 'tensor', 'decoder': 'judge', 'channels': 2,"
    "   'query': {'kind': 'caller', 'rows': 6}}]}";

/* Picture, samples, array and text as one token array. */
static const char native_together[] =
    "{'format': 'perceiver-1', 'together': true, 'epsilon': 0.001, 'activation': 'gelu_tanh',"
    " 'latents': {'count': 4, 'channels': 8}, 'encoders': {'all': {'channels': 18, 'heads': 2}},"
    " 'process': {'layers': 1, 'heads': 2, 'widening': 0},"
    " 'decoders': {'judge': {'channels': 8, 'heads': 1}},"
    " 'inputs': ["
    "  {'name': 'frame', 'kind': 'image', 'encoder': 'all', 'height': 4, 'width': 6,"
    "   'position': {'kind': 'fourier', 'bands': 2, 'max_resolution': [4, 6]}},"
    "  {'name': 'track', 'kind': 'audio', 'encoder': 'all', 'rate': 16000, 'samples': 90,"
    "   'patch': 8, 'position': {'kind': 'none'}},"
    "  {'name': 'note', 'kind': 'text', 'encoder': 'all', 'positions': 16, 'channels': 8},"
    "  {'name': 'pose', 'kind': 'array', 'encoder': 'all', 'size': [7], 'channels': 13,"
    "   'position': {'kind': 'learned', 'channels': 5}}],"
    " 'tasks': ["
    "  {'name': 'what', 'kind': 'classify', 'decoder': 'judge', 'labels': ['a', 'b']},"
    "  {'name': 'fill', 'kind': 'fill-mask', 'for': ['note'], 'decoder': 'judge'}]}";

/* ---- the description ---------------------------------------------------------------------------
 */

/* JSON in single quotes. own: json_decref */
static inline json_t *native_json(const char *text)
{
    char *copy = strdup(text);
    json_error_t error;
    json_t *v;

    assert_non_null(copy);
    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    v = json_loads(copy, JSON_DECODE_ANY, &error);
    if (!v)
        fail_msg("%s: %s", text, error.text);
    free(copy);
    return v;
}

/* Sets what stands at "inputs.0.patch", or with NULL takes it away; one past an array's end adds to
 * it. */
static inline void native_set(json_t *doc, const char *path, const char *value)
{
    char part[64];
    int n = 0;

    for (; sscanf(path, "%63[^.]%n", part, &n) == 1 && path[n] == '.'; path += n + 1) {
        doc = json_is_array(doc) ? json_array_get(doc, (size_t)strtol(part, NULL, 10))
                                 : json_object_get(doc, part);
        assert_non_null(doc);
    }
    if (json_is_array(doc)) {
        const size_t i = (size_t)strtol(part, NULL, 10);

        if (!value)
            assert_int_equal(json_array_remove(doc, i), 0);
        else if (i == json_array_size(doc))
            assert_int_equal(json_array_append_new(doc, native_json(value)), 0);
        else
            assert_int_equal(json_array_set_new(doc, i, native_json(value)), 0);
    } else if (!value) {
        assert_int_equal(json_object_del(doc, part), 0);
    } else {
        assert_int_equal(json_object_set_new(doc, part, native_json(value)), 0);
    }
}

static inline int native_int(const json_t *o, const char *key, int absent)
{
    const json_t *v = json_object_get(o, key);

    return v ? (int)json_integer_value(v) : absent;
}

/* Product of an array of whole numbers. */
static inline int native_product(const json_t *array)
{
    int n = 1;

    for (size_t i = 0; i < json_array_size(array); i++)
        n *= (int)json_integer_value(json_array_get(array, i));
    return n;
}

/* ---- its tensors -------------------------------------------------------------------------------
 */

static inline void native_layer(struct tiny_file *f, const char *name, const json_t *o, int q,
                                int qk, int kv, int cross)
{
    const int keys = native_int(o, "qk", qk), v = native_int(o, "v", keys);
    const int hidden = q * native_int(o, "widening", 1);

    tiny_norm(f, name, cross ? "norm_q" : "norm", q);
    if (cross)
        tiny_norm(f, name, "norm_kv", kv);
    tiny_affine(f, name, "query", keys, q);
    tiny_affine(f, name, "key", keys, kv);
    tiny_affine(f, name, "value", v, kv);
    tiny_affine(f, name, "out", q, v);
    if (hidden == 0)
        return;
    tiny_norm(f, name, "norm_mlp", q);
    tiny_affine(f, name, "mlp1", hidden, q);
    tiny_affine(f, name, "mlp2", q, hidden);
}

static inline void native_tensor(struct tiny_file *f, const char *folder, const char *name,
                                 const char *part, const int *shape)
{
    char full[128];

    snprintf(full, sizeof(full), "%s.%s.%s", folder, name, part);
    tiny_add(f, full, 0, 0.7f, shape);
}

/* Numbers of a token before it is lifted, and how many tokens there are along how many axes. */
static inline int native_raw(const json_t *in, int *tokens, int *axes)
{
    const char *kind = json_string_value(json_object_get(in, "kind"));
    const int patch = native_product(json_object_get(in, "patch"));
    const json_t *spectrum = json_object_get(in, "spectrum"), *size = json_object_get(in, "size");

    if (strcmp(kind, "image") == 0) {
        *axes = 2;
        *tokens = native_int(in, "height", 0) * native_int(in, "width", 0) / patch;
        return patch * native_int(in, "channels", 3);
    }
    if (strcmp(kind, "array") == 0) {
        *axes = (int)json_array_size(size);
        *tokens = native_product(size);
        return native_int(in, "channels", 0);
    }
    *axes = 1;
    *tokens = native_int(spectrum, "hop", native_int(in, "patch", 1));
    *tokens = (native_int(in, "samples", 0) + *tokens - 1) / *tokens;
    return native_int(spectrum, "bands", native_int(in, "patch", 1));
}

/* Adds an input's tensors; returns the channels of its tokens before padding. */
static inline int native_input(struct tiny_file *f, const json_t *in)
{
    const char *name = json_string_value(json_object_get(in, "name"));
    const json_t *position = json_object_get(in, "position");
    const int channels = native_int(in, "channels", 0), lift = native_int(in, "lift", 0);
    const int learned = native_int(position, "channels", 0);
    int tokens, axes, raw;
    char full[128];

    if (!position) {
        native_tensor(f, "inputs", name, "bytes", TINY_SHAPE(262, channels));
        native_tensor(f, "inputs", name, "positions",
                      TINY_SHAPE(native_int(in, "positions", 0), channels));
        return channels;
    }
    raw = native_raw(in, &tokens, &axes);
    snprintf(full, sizeof(full), "inputs.%s", name);
    if (lift)
        tiny_affine(f, full, "lift", lift, raw);
    if (learned)
        native_tensor(f, "inputs", name, "positions", TINY_SHAPE(tokens, learned));
    if (native_int(position, "bands", 0))
        return (lift ? lift : raw) + axes * (1 + 2 * native_int(position, "bands", 0));
    return (lift ? lift : raw) + learned;
}

static inline void native_encoder(struct tiny_file *f, const json_t *doc, const char *name,
                                  const json_t *o)
{
    const json_t *inputs = json_object_get(doc, "inputs");
    const int d = native_int(json_object_get(doc, "latents"), "channels", 0);
    int own[8] = {0}, channels = native_int(o, "channels", 0);
    char full[128];

    for (size_t i = 0; i < json_array_size(inputs); i++) {
        const json_t *in = json_array_get(inputs, i);

        if (strcmp(json_string_value(json_object_get(in, "encoder")), name) != 0)
            continue;
        own[i] = native_input(f, in);
        channels = own[i] > channels ? own[i] : channels;
    }
    for (size_t i = 0; i < json_array_size(inputs); i++)
        if (own[i] && own[i] < channels)
            native_tensor(f, "inputs",
                          json_string_value(json_object_get(json_array_get(inputs, i), "name")),
                          "padding", TINY_SHAPE(channels - own[i]));
    snprintf(full, sizeof(full), "encoders.%s", name);
    native_layer(f, full, o, d, d, channels, 1);
}

static inline void native_task(struct tiny_file *f, const json_t *doc, const json_t *task)
{
    const char *name = json_string_value(json_object_get(task, "name"));
    const char *kind = json_string_value(json_object_get(task, "kind"));
    const char *decoder = json_string_value(json_object_get(task, "decoder"));
    const json_t *query = json_object_get(task, "query"), *size = json_object_get(query, "size");
    const char *source = json_string_value(json_object_get(query, "kind"));
    const int c = decoder ? native_int(json_object_get(json_object_get(doc, "decoders"), decoder),
                                       "channels", 0)
                          : 0;
    const int left = c - (int)json_array_size(size) * (1 + 2 * native_int(query, "bands", 0));
    int width = (int)(json_array_size(json_object_get(task, "labels")) +
                      json_array_size(json_object_get(task, "names")));
    char full[128];

    if (!decoder)
        return;
    width += native_int(task, "channels", strcmp(kind, "pixels") == 0 ? 3 : 0);
    if (strcmp(kind, "fill-mask") == 0) {
        const char *text = json_string_value(json_array_get(json_object_get(task, "for"), 0));
        const json_t *in;
        size_t i;

        json_array_foreach(json_object_get(doc, "inputs"), i, in)
        {
            if (strcmp(json_string_value(json_object_get(in, "name")), text) == 0)
                native_tensor(f, "tasks", name, "query",
                              TINY_SHAPE(native_int(in, "positions", 0), c));
        }
        native_tensor(f, "tasks", name, "head.bias", TINY_SHAPE(262));
        return;
    }
    if (!source || strcmp(source, "learned") == 0)
        native_tensor(f, "tasks", name, "query", TINY_SHAPE(native_int(query, "rows", 1), c));
    else if (strcmp(source, "fourier") == 0 && left > 0)
        native_tensor(f, "tasks", name, "padding", TINY_SHAPE(left));
    snprintf(full, sizeof(full), "tasks.%s", name);
    if (width)
        tiny_affine(f, full, "head", width, c);
}

/* All tensors of a description that makes sense. */
static inline void native_tensors(struct tiny_file *f, json_t *doc)
{
    const json_t *latents = json_object_get(doc, "latents"), *v;
    const json_t *process = json_object_get(doc, "process");
    const int d = native_int(latents, "channels", 0);
    const char *name;
    char full[64];
    json_t *o;
    size_t i;

    *f = (struct tiny_file){.seed = 11};
    tiny_add(f, "latents", 0, 1, TINY_SHAPE(native_int(latents, "count", 0), d));
    json_object_foreach(json_object_get(doc, "encoders"), name, o)
    {
        native_encoder(f, doc, name, o);
    }
    for (int k = 0; k < native_int(process, "layers", 0); k++) {
        snprintf(full, sizeof(full), "process.%d", k);
        native_layer(f, full, process, d, d, d, 0);
    }
    json_object_foreach(json_object_get(doc, "decoders"), name, o)
    {
        const int c = native_int(o, "channels", 0);

        snprintf(full, sizeof(full), "decoders.%s", name);
        native_layer(f, full, o, c, c, d, 1);
    }
    json_array_foreach(json_object_get(doc, "tasks"), i, v)
    {
        native_task(f, doc, v);
    }
}

/* ---- the folder ---------------------------------------------------------------------------------
 */

static inline void native_write(const json_t *doc)
{
    char *text = json_dumps(doc, JSON_INDENT(2));

    assert_non_null(text);
    tiny_write_text("perceiver.json", text);
    free(text);
}

/* The whole model in tiny_dir, which it returns. text: a description in single quotes. */
static inline const char *native_model(const char *text)
{
    struct tiny_file *f = malloc(sizeof(*f));
    json_t *doc = native_json(text);

    assert_non_null(f);
    native_tensors(f, doc);
    tiny_write_tensors(f);
    native_write(doc);
    tiny_free(f);
    free(f);
    json_decref(doc);
    return tiny_dir;
}

static inline int native_teardown(void **state)
{
    unlink(tiny_path("perceiver.json"));
    return tiny_teardown(state);
}

#endif
