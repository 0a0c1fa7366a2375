/* haiku.c - DeepMind's checkpoints: a pickle of modules, in each a mapping of numpy arrays.
 *
 *   {"module": {"name": array, ...}, ...}                       parameters
 *   {"params": such a mapping, "state": such a mapping}         parameters and running averages
 *
 * The mappings are dicts, or haiku's immutable ones made of a dict. Arrays are views into the
 * file; those in Fortran's order are copied into rows. */
#include "lib/base/mem.h"
#include "lib/load/pickle.h"
#include "lib/load/source.h"
#include "lib/load/strided.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum made { MAPPING, ARRAY, SCALAR, FROM_BUFFER, DTYPE, ARRAY_TYPE };

#define CALL  PCV_PICKLE_MAY_CALL
#define STATE PCV_PICKLE_MAY_BUILD

static const struct pcv_pickle_global GLOBALS[] = {
    {"haiku._src.data_structures", "FlatMapping", CALL},
    {"haiku._src.data_structures", "FlatMap", CALL},
    {"haiku._src.data_structures", "frozendict", CALL},
    {"collections", "OrderedDict", CALL | PCV_PICKLE_MAY_FILL},
    {"numpy.core.multiarray", "_reconstruct", CALL | STATE},
    {"numpy._core.multiarray", "_reconstruct", CALL | STATE},
    {"numpy.core.multiarray", "scalar", CALL},
    {"numpy._core.multiarray", "scalar", CALL},
    {"numpy.core.numeric", "_frombuffer", CALL},
    {"numpy._core.numeric", "_frombuffer", CALL},
    {"numpy", "dtype", CALL | STATE},
    {"numpy", "ndarray", 0},
};

/* What each of them makes. */
static const enum made MADE[] = {MAPPING, MAPPING, MAPPING,     MAPPING,     ARRAY, ARRAY,
                                 SCALAR,  SCALAR,  FROM_BUFFER, FROM_BUFFER, DTYPE, ARRAY_TYPE};

static const struct pcv_pickle_rules RULES = {.globals = GLOBALS,
                                              .count = sizeof(GLOBALS) / sizeof(*GLOBALS)};

static const struct {
    const char *name;
    enum pcv_dtype dtype;
} DTYPES[] = {
    {"f4", PCV_F32}, {"f2", PCV_F16}, {"f8", PCV_F64}, {"b1", PCV_BOOL},
    {"i1", PCV_I8},  {"i2", PCV_I16}, {"i4", PCV_I32}, {"i8", PCV_I64},
    {"u1", PCV_U8},  {"u2", PCV_U16}, {"u4", PCV_U32}, {"u8", PCV_U64},
};

struct haiku {
    const char *map;
    size_t size;
    struct pcv_pickle *pickle; /* until the tensors are listed */
    struct pcv_tensor *tensors;
    struct held {
        char *name;
        void *copy; /* of numbers that do not lie in rows, or NULL */
    } * held;       /* of each tensor */
    int count, room;
    uint64_t copied;
};

typedef struct pcv_pickle_value value;

static bool is_call(const value *v, enum made what, size_t nargs)
{
    return v->kind == PCV_PICKLE_CALL && MADE[v->global] == what && v->args->count == nargs;
}

/* ---- arrays ------------------------------------------------------------------------------- */

/* dtype(name, align, copy), built with (version, byte order, None, None, None, -1, -1, flags). */
static int read_dtype(enum pcv_dtype *ret, const value *v, struct pcv_err *e)
{
    const value *order, *name;

    if (!is_call(v, DTYPE, 3) || !v->state || v->state->kind != PCV_PICKLE_TUPLE ||
        v->state->count < 2 || v->args->items[0]->kind != PCV_PICKLE_TEXT)
        return pcv_fail(e, PCV_EFORMAT, "its datatype is not a numpy.dtype");
    name = v->args->items[0];
    order = v->state->items[1];
    for (size_t i = 0; i < sizeof(DTYPES) / sizeof(*DTYPES); i++) {
        if (!pcv_pickle_is(name, DTYPES[i].name))
            continue;
        if (!pcv_pickle_is(order, "<") &&
            !(pcv_pickle_is(order, "|") && pcv_dtype_size(DTYPES[i].dtype) == 1))
            return pcv_fail(e, PCV_EUNSUPPORTED, "its numbers are not little-endian");
        for (size_t k = 2; k < 5 && k < v->state->count; k++)
            if (v->state->items[k]->kind != PCV_PICKLE_NONE)
                return pcv_fail(e, PCV_EUNSUPPORTED, "its datatype has parts");
        *ret = DTYPES[i].dtype;
        return 0;
    }
    return pcv_fail(e, PCV_EUNSUPPORTED, "datatype %.*s of numpy is not read",
                    name->size < 20 ? (int)name->size : 20, name->bytes);
}

static int read_shape(struct pcv_tensor *ret, const value *v, struct pcv_err *e)
{
    if (v->kind != PCV_PICKLE_TUPLE)
        return pcv_fail(e, PCV_EFORMAT, "its shape is %s", pcv_pickle_kind_name(v->kind));
    if (v->count > PCV_MAX_DIMS)
        return pcv_fail(e, PCV_EUNSUPPORTED, "%zu dimensions, at most %d are served", v->count,
                        PCV_MAX_DIMS);
    ret->ndim = (int)v->count;
    for (size_t i = 0; i < v->count; i++) {
        if (v->items[i]->kind != PCV_PICKLE_INTEGER || v->items[i]->integer < 0)
            return pcv_fail(e, PCV_EFORMAT, "its shape holds what is no length");
        ret->shape[i] = v->items[i]->integer;
    }
    return 0;
}

/* The parts of an array, however it is written. order: true for Fortran's. */
static int take_apart(const value *v, const value **dtype, const value **shape, bool *fortran,
                      const value **bytes, struct pcv_err *e)
{
    const value *s = v->kind == PCV_PICKLE_CALL ? v->state : NULL;

    *fortran = false;
    if (is_call(v, ARRAY, 3) && s && s->kind == PCV_PICKLE_TUPLE && s->count == 5 &&
        s->items[0]->kind == PCV_PICKLE_INTEGER && s->items[3]->kind == PCV_PICKLE_BOOL) {
        *shape = s->items[1];
        *dtype = s->items[2];
        *fortran = s->items[3]->integer;
        *bytes = s->items[4];
    } else if (is_call(v, FROM_BUFFER, 4) &&
               (pcv_pickle_is(v->args->items[3], "C") || pcv_pickle_is(v->args->items[3], "F"))) {
        *bytes = v->args->items[0];
        *dtype = v->args->items[1];
        *shape = v->args->items[2];
        *fortran = pcv_pickle_is(v->args->items[3], "F");
    } else if (is_call(v, SCALAR, 2)) {
        *dtype = v->args->items[0];
        *shape = NULL;
        *bytes = v->args->items[1];
    } else {
        return pcv_fail(e, PCV_EUNSUPPORTED, "%s, not a numpy array",
                        pcv_pickle_kind_name(v->kind));
    }
    if ((*bytes)->kind != PCV_PICKLE_BYTES)
        return pcv_fail(e, PCV_EUNSUPPORTED, "its numbers are %s, not bytes",
                        pcv_pickle_kind_name((*bytes)->kind));
    return 0;
}

/* Copies numbers whose first axis is closest together into rows. */
static int copy_rows(struct haiku *h, struct pcv_tensor *t, struct held *held, struct pcv_err *e)
{
    int64_t strides[PCV_MAX_DIMS], n = 1;

    for (int i = 0; i < t->ndim; i++) {
        strides[i] = n;
        n *= t->shape[i];
    }
    if (t->nbytes > h->size - h->copied)
        return pcv_fail(e, PCV_ELIMIT,
                        "arrays in Fortran's order show more bytes than the file "
                        "has");
    held->copy = pcv_alloc(t->nbytes, 1);
    if (!held->copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu bytes", t->nbytes);
    pcv_strided_copy(held->copy, t->data, pcv_dtype_size(t->dtype), t->shape, strides, t->ndim);
    h->copied += t->nbytes;
    t->data = held->copy;
    return 0;
}

static int read_array(struct haiku *h, const value *v, struct pcv_tensor *t, struct held *held,
                      struct pcv_err *e)
{
    const value *dtype = NULL, *shape = NULL, *bytes = NULL;
    bool fortran = false;
    char text[96];
    int r;

    if ((r = take_apart(v, &dtype, &shape, &fortran, &bytes, e)) < 0 ||
        (r = read_dtype(&t->dtype, dtype, e)) < 0 || (shape && (r = read_shape(t, shape, e)) < 0))
        return r;
    if (pcv_shape_bytes(t->dtype, t->shape, t->ndim) != (int64_t)bytes->size)
        return pcv_fail(e, PCV_EFORMAT, "%zu bytes are not what %s %s takes", bytes->size,
                        pcv_dtype_name(t->dtype),
                        pcv_shape_text(t->shape, t->ndim, text, sizeof(text)));
    t->data = bytes->bytes;
    t->nbytes = bytes->size;
    return fortran && t->ndim > 1 && t->nbytes > 0 ? copy_rows(h, t, held, e) : 0;
}

/* ---- mappings ----------------------------------------------------------------------------- */

/* The dict behind a mapping; NULL when v is none. */
static const value *mapping(const value *v)
{
    if (is_call(v, MAPPING, 1))
        v = v->args->items[0];
    return v->kind == PCV_PICKLE_DICT || is_call(v, MAPPING, 0) ? v : NULL;
}

static int grow(struct haiku *h, struct pcv_err *e)
{
    const int room = h->room ? 2 * h->room : 64;
    struct pcv_tensor *tensors;
    struct held *held;

    if (h->count == PCV_SOURCE_MAX_TENSORS)
        return pcv_fail(e, PCV_ELIMIT, "more than %d arrays", PCV_SOURCE_MAX_TENSORS);
    if (h->count < h->room)
        return 0;
    tensors = realloc(h->tensors, (size_t)room * sizeof(*tensors));
    if (tensors)
        h->tensors = tensors;
    held = realloc(h->held, (size_t)room * sizeof(*held));
    if (held)
        h->held = held;
    if (!tensors || !held)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d arrays", room);
    h->room = room;
    return 0;
}

static int check_key(const value *key, struct pcv_err *e)
{
    if (key->kind != PCV_PICKLE_TEXT)
        return pcv_fail(e, PCV_EFORMAT, "a key is %s", pcv_pickle_kind_name(key->kind));
    return pcv_source_check_name(key->bytes, key->size, e);
}

/* One array as the tensor "PREFIXmodule/name". */
static int add_array(struct haiku *h, const char *prefix, const value *module, const value *key,
                     const value *v, struct pcv_err *e)
{
    struct pcv_tensor t = {0};
    struct held held = {0};
    int r = check_key(key, e);

    if (r < 0 || (r = grow(h, e)) < 0)
        return r;
    if (asprintf(&held.name, "%s%.*s/%.*s", prefix, (int)module->size, module->bytes,
                 (int)key->size, key->bytes) < 0)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a name");
    r = pcv_source_check_name(held.name, strlen(held.name), e);
    if (r == 0 && (r = read_array(h, v, &t, &held, e)) < 0)
        pcv_err_at(e, "%s", held.name);
    if (r < 0) {
        free(held.name);
        return r;
    }
    t.name = held.name;
    h->tensors[h->count] = t;
    h->held[h->count++] = held;
    return 0;
}

static int add_modules(struct haiku *h, const char *prefix, const value *modules, struct pcv_err *e)
{
    int r;

    for (size_t i = 0; i < modules->count; i += 2) {
        const value *name = modules->items[i], *arrays = mapping(modules->items[i + 1]);

        if ((r = check_key(name, e)) < 0)
            return r;
        if (!arrays) {
            r = pcv_fail(e, PCV_EUNSUPPORTED, "%s, not a mapping of arrays",
                         pcv_pickle_kind_name(modules->items[i + 1]->kind));
            pcv_err_at(e, "%s%.*s", prefix, (int)name->size, name->bytes);
            return r;
        }
        for (size_t k = 0; k < arrays->count; k += 2)
            if ((r = add_array(h, prefix, name, arrays->items[k], arrays->items[k + 1], e)) < 0)
                return r;
    }
    return 0;
}

/* {"params": ..., "state": ...}, and nothing else in it. */
static int add_both(struct haiku *h, const value *top, struct pcv_err *e)
{
    int r;

    for (size_t i = 0; i < top->count; i += 2) {
        const value *key = top->items[i], *modules = mapping(top->items[i + 1]);
        const bool params = pcv_pickle_is(key, "params");

        if ((r = check_key(key, e)) < 0)
            return r;
        if (!modules || (!params && !pcv_pickle_is(key, "state"))) {
            r = pcv_fail(e, PCV_EUNSUPPORTED,
                         modules ? "beside params and state" : "is not a mapping of modules");
            pcv_err_at(e, "%.*s", (int)key->size, key->bytes);
            return r;
        }
        if ((r = add_modules(h, params ? "" : "state:", modules, e)) < 0)
            return r;
    }
    return 0;
}

static int read_file(struct haiku *h, const char *path, struct pcv_err *e)
{
    const value *top;
    int r;

    if ((r = pcv_source_map(&h->map, &h->size, path, e)) < 0 ||
        (r = pcv_pickle_open(&h->pickle, h->map, h->size, &RULES, e)) < 0)
        return r;
    top = mapping(pcv_pickle_root(h->pickle));
    if (!top)
        return pcv_fail(e, PCV_EUNSUPPORTED, "the pickle is %s, not a mapping of modules",
                        pcv_pickle_kind_name(pcv_pickle_root(h->pickle)->kind));
    return pcv_pickle_get(top, "params") ? add_both(h, top, e) : add_modules(h, "", top, e);
}

static void close_haiku(void *owner)
{
    struct haiku *h = owner;

    if (!h)
        return;
    for (int i = 0; i < h->count; i++) {
        pcv_free(h->held[i].copy);
        free(h->held[i].name);
    }
    free(h->held);
    free(h->tensors);
    pcv_pickle_close(h->pickle);
    if (h->map)
        munmap((void *)h->map, h->size);
    free(h);
}

int pcv_source_haiku(struct pcv_source *ret, const char *path, struct pcv_err *e)
{
    struct haiku *h = calloc(1, sizeof(*h));
    int r;

    r = h ? read_file(h, path, e) : pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
    if (r < 0) {
        pcv_err_at(e, "%s", path);
        close_haiku(h);
        return r;
    }
    pcv_pickle_close(h->pickle);
    h->pickle = NULL;
    *ret = (struct pcv_source){
        .tensors = h->tensors,
        .count = h->count,
        .map = h->map,
        .map_size = h->size,
        .owned = h->copied,
        .owner = h,
        .close = close_haiku,
    };
    return 0;
}
