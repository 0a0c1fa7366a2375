/* torch.c - pytorch_model.bin: a pickle of names and tensors, beside it the storages they view.
 *
 *   NAME/data.pkl      OrderedDict of name -> _rebuild_tensor_v2(storage, offset, size, stride,
 * ...) NAME/data/KEY      a storage: numbers as they lie in memory NAME/version, NAME/byteorder */
#include "lib/base/mem.h"
#include "lib/load/pickle.h"
#include "lib/load/source.h"
#include "lib/load/strided.h"
#include "lib/load/torch_zip.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEY = 64, MAX_VERSION = 10 };

enum global { ORDERED_DICT, TENSOR, PARAMETER, FIRST_STORAGE };

static const struct pcv_pickle_global GLOBALS[] = {
    [ORDERED_DICT] = {"collections", "OrderedDict",
                      PCV_PICKLE_MAY_CALL | PCV_PICKLE_MAY_BUILD | PCV_PICKLE_MAY_FILL},
    [TENSOR] = {"torch._utils", "_rebuild_tensor_v2", PCV_PICKLE_MAY_CALL},
    [PARAMETER] = {"torch._utils", "_rebuild_parameter", PCV_PICKLE_MAY_CALL},
    {"torch", "FloatStorage", 0},
    {"torch", "HalfStorage", 0},
    {"torch", "BFloat16Storage", 0},
    {"torch", "DoubleStorage", 0},
    {"torch", "LongStorage", 0},
    {"torch", "IntStorage", 0},
    {"torch", "ShortStorage", 0},
    {"torch", "CharStorage", 0},
    {"torch", "ByteStorage", 0},
    {"torch", "BoolStorage", 0},
};

static const enum pcv_dtype STORED[] = {PCV_F32, PCV_F16, PCV_BF16, PCV_F64, PCV_I64,
                                        PCV_I32, PCV_I16, PCV_I8,   PCV_U8,  PCV_BOOL};

static const struct pcv_pickle_rules RULES = {
    .globals = GLOBALS, .count = sizeof(GLOBALS) / sizeof(*GLOBALS), .persistent = true};

struct torch {
    struct pcv_torch_zip *zip;
    struct pcv_pickle *pickle; /* until the tensors are listed */
    char prefix[PCV_SOURCE_MAX_NAME + 1];
    unsigned char *seen; /* of each entry: 0, or 1 + the datatype it was taken as */
    struct pcv_tensor *tensors;
    char *names;
    void **copies; /* of tensor i, whose numbers do not lie in order */
    int count;
    uint64_t copied, most; /* bytes; most: of all entries together */
};

typedef struct pcv_pickle_value value;

/* ---- the pickle's values -------------------------------------------------------------------- */

static bool is_call(const value *v, enum global g, size_t least, size_t most)
{
    return v->kind == PCV_PICKLE_CALL && v->global == (int)g && v->args->count >= least &&
           v->args->count <= most;
}

static bool is_dict(const value *v)
{
    return v->kind == PCV_PICKLE_DICT || is_call(v, ORDERED_DICT, 0, 0);
}

/* A tuple of whole numbers of at least 0, in n numbers. */
static int numbers(const value *v, int64_t *ret, size_t *n, const char *what, struct pcv_err *e)
{
    if (v->kind != PCV_PICKLE_TUPLE)
        return pcv_fail(e, PCV_EFORMAT, "its %s is %s, not a tuple", what,
                        pcv_pickle_kind_name(v->kind));
    if (v->count > PCV_MAX_DIMS)
        return pcv_fail(e, PCV_EUNSUPPORTED, "its %s has %zu dimensions, at most %d are served",
                        what, v->count, PCV_MAX_DIMS);
    *n = v->count;
    for (size_t i = 0; i < v->count; i++) {
        if (v->items[i]->kind != PCV_PICKLE_INTEGER)
            return pcv_fail(e, PCV_EFORMAT, "its %s holds %s", what,
                            pcv_pickle_kind_name(v->items[i]->kind));
        if (v->items[i]->integer < 0)
            return pcv_fail(e, PCV_EFORMAT, "its %s holds %lld", what,
                            (long long)v->items[i]->integer);
        ret[i] = v->items[i]->integer;
    }
    return 0;
}

/* ---- storages ----------------------------------------------------------------------------- */

struct storage {
    enum pcv_dtype dtype;
    int64_t numel;
    const char *bytes;
};

/* The entry ("storage", type, key, location, numel) speaks of. */
static int find_storage(struct torch *t, const value *id, int *entry, struct storage *ret,
                        struct pcv_err *e)
{
    char name[PCV_SOURCE_MAX_NAME + MAX_KEY + 16];
    const value *key;

    if (id->kind != PCV_PICKLE_TUPLE || id->count != 5 || !pcv_pickle_is(id->items[0], "storage") ||
        id->items[1]->kind != PCV_PICKLE_GLOBAL || id->items[1]->global < FIRST_STORAGE ||
        id->items[2]->kind != PCV_PICKLE_TEXT || id->items[3]->kind != PCV_PICKLE_TEXT ||
        id->items[4]->kind != PCV_PICKLE_INTEGER)
        return pcv_fail(e, PCV_EFORMAT,
                        "its storage is not (\"storage\", type, key, location, count)");
    key = id->items[2];
    if (key->size == 0 || key->size > MAX_KEY || memchr(key->bytes, '/', key->size) ||
        memchr(key->bytes, 0, key->size))
        return pcv_fail(e, PCV_EFORMAT, "its storage's key is no name of an entry");
    snprintf(name, sizeof(name), "%s/data/%.*s", t->prefix, (int)key->size, key->bytes);
    *entry = pcv_torch_zip_find(t->zip, name);
    if (*entry < 0)
        return pcv_fail(e, PCV_EMISSING, "its storage %.100s is not in the file", name);
    ret->dtype = STORED[id->items[1]->global - FIRST_STORAGE];
    ret->numel = id->items[4]->integer;
    return 0;
}

static int open_storage(struct torch *t, const value *v, struct storage *ret, struct pcv_err *e)
{
    struct storage s = {0};
    int64_t bytes;
    int entry = 0, r;

    if (v->kind != PCV_PICKLE_PERSISTENT)
        return pcv_fail(e, PCV_EFORMAT, "its storage is %s", pcv_pickle_kind_name(v->kind));
    if ((r = find_storage(t, v->args, &entry, &s, e)) < 0)
        return r;
    bytes = pcv_shape_bytes(s.dtype, &s.numel, 1);
    if (bytes < 0 || (uint64_t)bytes != pcv_torch_zip_size(t->zip, entry))
        return pcv_fail(e, PCV_EFORMAT, "its storage %.100s of %lld x %s has %zu bytes",
                        pcv_torch_zip_name(t->zip, entry), (long long)s.numel,
                        pcv_dtype_name(s.dtype), pcv_torch_zip_size(t->zip, entry));
    if (t->seen[entry] && t->seen[entry] != 1 + s.dtype)
        return pcv_fail(e, PCV_EFORMAT, "its storage %.100s is %s here and %s elsewhere",
                        pcv_torch_zip_name(t->zip, entry), pcv_dtype_name(s.dtype),
                        pcv_dtype_name((enum pcv_dtype)(t->seen[entry] - 1)));
    t->seen[entry] = (unsigned char)(1 + s.dtype);
    r = pcv_torch_zip_read(t->zip, entry, &s.bytes, e);
    if (r == 0)
        *ret = s;
    return r;
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Every element lies in the storage, and there are no more of them than the storage has: a view
 * that shows numbers twice could be of any size. */
static int check_view(const struct storage *s, int64_t offset, const int64_t *size,
                      const int64_t *stride, int ndim, struct pcv_err *e)
{
    const int64_t count = pcv_shape_count(size, ndim);
    int64_t last = offset, step;
    char a[96], b[96];
    bool inside = count >= 0 && count <= s->numel && offset <= s->numel;

    for (int i = 0; inside && count > 0 && i < ndim; i++)
        inside = !__builtin_mul_overflow(size[i] - 1, stride[i], &step) &&
                 !__builtin_add_overflow(last, step, &last);
    if (inside && (count == 0 || last < s->numel))
        return 0;
    return pcv_fail(e, PCV_EFORMAT, "size %s, stride %s, offset %lld in a storage of %lld numbers",
                    pcv_shape_text(size, ndim, a, sizeof(a)),
                    pcv_shape_text(stride, ndim, b, sizeof(b)), (long long)offset,
                    (long long)s->numel);
}

static bool lies_in_rows(const int64_t *size, const int64_t *stride, int ndim)
{
    int64_t n = 1;

    for (int i = ndim - 1; i >= 0; i--) {
        if (size[i] != 1 && stride[i] != n)
            return false;
        n *= size[i];
    }
    return true;
}

/* Copies what the view shows into rows. */
static int materialise(struct torch *t, const char *data, const int64_t *stride,
                       struct pcv_tensor *ret, struct pcv_err *e)
{
    const size_t element = pcv_dtype_size(ret->dtype);
    void *copy;

    if (ret->nbytes > t->most - t->copied)
        return pcv_fail(e, PCV_ELIMIT,
                        "tensors that do not lie in rows show more bytes than the "
                        "file has");
    copy = pcv_alloc(ret->nbytes, 1);
    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu bytes", ret->nbytes);
    pcv_strided_copy(copy, data, element, ret->shape, stride, ret->ndim);
    t->copied += ret->nbytes;
    t->copies[t->count] = copy;
    ret->data = copy;
    return 0;
}

static int read_tensor(struct torch *t, const value *v, struct pcv_tensor *ret, struct pcv_err *e)
{
    struct storage s = {0};
    int64_t stride[PCV_MAX_DIMS], offset;
    size_t ndim = 0, nstride = 0;
    const char *data;
    int r;

    if (is_call(v, PARAMETER, 3, 4))
        v = v->args->items[0];
    if (!is_call(v, TENSOR, 6, 7))
        return pcv_fail(e, PCV_EUNSUPPORTED, "%s, not a tensor", pcv_pickle_kind_name(v->kind));
    if (v->args->items[1]->kind != PCV_PICKLE_INTEGER || v->args->items[1]->integer < 0)
        return pcv_fail(e, PCV_EFORMAT, "its offset is not a whole number of at least 0");
    offset = v->args->items[1]->integer;
    if ((r = numbers(v->args->items[2], ret->shape, &ndim, "size", e)) < 0 ||
        (r = numbers(v->args->items[3], stride, &nstride, "stride", e)) < 0)
        return r;
    if (ndim != nstride)
        return pcv_fail(e, PCV_EFORMAT, "a size of %zu dimensions, a stride of %zu", ndim, nstride);
    if ((r = open_storage(t, v->args->items[0], &s, e)) < 0 ||
        (r = check_view(&s, offset, ret->shape, stride, (int)ndim, e)) < 0)
        return r;
    ret->dtype = s.dtype;
    ret->ndim = (int)ndim;
    ret->nbytes = (size_t)pcv_shape_bytes(s.dtype, ret->shape, ret->ndim);
    data = s.bytes + (size_t)offset * pcv_dtype_size(s.dtype);
    ret->data = data;
    if (ret->nbytes == 0 || lies_in_rows(ret->shape, stride, ret->ndim))
        return 0;
    return materialise(t, data, stride, ret, e);
}

static int read_tensors(struct torch *t, const value *dict, struct pcv_err *e)
{
    const size_t count = dict->count / 2;
    size_t bytes = 0;
    char *next;
    int r;

    if (count > PCV_SOURCE_MAX_TENSORS)
        return pcv_fail(e, PCV_ELIMIT, "%zu tensors, at most %d are taken", count,
                        PCV_SOURCE_MAX_TENSORS);
    for (size_t i = 0; i < count; i++) {
        const value *key = dict->items[2 * i];

        if (key->kind != PCV_PICKLE_TEXT)
            return pcv_fail(e, PCV_EFORMAT, "a tensor's name is %s",
                            pcv_pickle_kind_name(key->kind));
        if ((r = pcv_source_check_name(key->bytes, key->size, e)) < 0)
            return r;
        bytes += key->size + 1;
    }
    t->tensors = calloc(count + 1, sizeof(*t->tensors));
    t->copies = calloc(count + 1, sizeof(*t->copies));
    t->names = next = malloc(bytes + 1);
    if (!t->tensors || !t->copies || !t->names)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu tensors", count);
    for (t->count = 0; t->count < (int)count; t->count++) {
        const value *const *item = &dict->items[(size_t)t->count * 2], *key = item[0];
        struct pcv_tensor *tensor = &t->tensors[t->count];

        memcpy(next, key->bytes, key->size);
        next[key->size] = 0;
        tensor->name = next;
        next += key->size + 1;
        if ((r = read_tensor(t, item[1], tensor, e)) < 0) {
            pcv_err_at(e, "%s", tensor->name);
            return r;
        }
    }
    return 0;
}

/* ---- the container -------------------------------------------------------------------------- */

/* The one entry NAME/data.pkl; *ret is its index. */
static int find_pickle(struct torch *t, int *ret, struct pcv_err *e)
{
    int found = -1;

    for (int i = 0; i < pcv_torch_zip_count(t->zip); i++) {
        const char *name = pcv_torch_zip_name(t->zip, i), *slash = strchr(name, '/');

        if (!slash || strcmp(slash, "/data.pkl") != 0)
            continue;
        if (found >= 0)
            return pcv_fail(e, PCV_EFORMAT, "two pickles, %.100s and %.100s",
                            pcv_torch_zip_name(t->zip, found), name);
        found = i;
        memcpy(t->prefix, name, (size_t)(slash - name));
        t->prefix[slash - name] = 0;
    }
    if (found < 0)
        return pcv_fail(e, PCV_EFORMAT, "a zip without NAME/data.pkl: not saved by torch");
    *ret = found;
    return 0;
}

/* A short entry of text, without the end of its line; "" when it is absent. */
static int small_entry(struct torch *t, const char *what, char *ret, size_t size, struct pcv_err *e)
{
    char name[PCV_SOURCE_MAX_NAME + 16];
    const char *bytes;
    int entry, r;
    size_t n;

    snprintf(name, sizeof(name), "%s/%s", t->prefix, what);
    entry = pcv_torch_zip_find(t->zip, name);
    ret[0] = 0;
    if (entry < 0)
        return 0;
    n = pcv_torch_zip_size(t->zip, entry);
    if (n >= size)
        return pcv_fail(e, PCV_EFORMAT, "%s has %zu bytes", what, n);
    if ((r = pcv_torch_zip_read(t->zip, entry, &bytes, e)) < 0)
        return r;
    memcpy(ret, bytes, n);
    ret[n] = 0;
    ret[strcspn(ret, "\n")] = 0;
    return 0;
}

static int check_container(struct torch *t, struct pcv_err *e)
{
    char text[16];
    int r = small_entry(t, "version", text, sizeof(text), e);

    if (r < 0)
        return r;
    if (text[0] && (text[strspn(text, "0123456789")] || strtol(text, NULL, 10) > MAX_VERSION))
        return pcv_fail(e, PCV_EUNSUPPORTED, "version is not one of 1 to %d", MAX_VERSION);
    if ((r = small_entry(t, "byteorder", text, sizeof(text), e)) < 0)
        return r;
    if (text[0] && strcmp(text, "little") != 0)
        return pcv_fail(e, PCV_EUNSUPPORTED, "byteorder is not little");
    return 0;
}

/* The dictionary of tensors: the pickle itself, or what stands in it as "state_dict", beside which
 * a training program puts what it needs to go on. */
static int find_dict(const value *root, const value **ret, struct pcv_err *e)
{
    const value *nested = is_dict(root) ? pcv_pickle_get(root, "state_dict") : NULL;

    if (!is_dict(root))
        return pcv_fail(e, PCV_EUNSUPPORTED, "the pickle is %s, not a dictionary of tensors",
                        pcv_pickle_kind_name(root->kind));
    if (nested && !is_call(nested, TENSOR, 0, 7) && !is_dict(nested))
        return pcv_fail(e, PCV_EUNSUPPORTED, "state_dict is %s, not a dictionary of tensors",
                        pcv_pickle_kind_name(nested->kind));
    *ret = nested && is_dict(nested) ? nested : root;
    return 0;
}

static int read_file(struct torch *t, const char *path, struct pcv_err *e)
{
    const value *dict = NULL;
    const char *bytes = NULL;
    int entry = 0, r;

    if ((r = pcv_torch_zip_open(&t->zip, path, e)) < 0 || (r = find_pickle(t, &entry, e)) < 0 ||
        (r = check_container(t, e)) < 0 || (r = pcv_torch_zip_read(t->zip, entry, &bytes, e)) < 0)
        return r;
    t->seen = calloc((size_t)pcv_torch_zip_count(t->zip), 1);
    if (!t->seen)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a list of entries");
    for (int i = 0; i < pcv_torch_zip_count(t->zip); i++)
        t->most += pcv_torch_zip_size(t->zip, i);
    r = pcv_pickle_open(&t->pickle, bytes, pcv_torch_zip_size(t->zip, entry), &RULES, e);
    if (r < 0) {
        pcv_err_at(e, "%s", pcv_torch_zip_name(t->zip, entry));
        return r;
    }
    if ((r = find_dict(pcv_pickle_root(t->pickle), &dict, e)) < 0)
        return r;
    return read_tensors(t, dict, e);
}

static void close_torch(void *owner)
{
    struct torch *t = owner;

    if (!t)
        return;
    for (int i = 0; t->copies && i < t->count; i++)
        pcv_free(t->copies[i]);
    free(t->copies);
    free(t->tensors);
    free(t->names);
    free(t->seen);
    pcv_pickle_close(t->pickle);
    pcv_torch_zip_close(t->zip);
    free(t);
}

int pcv_source_torch(struct pcv_source *ret, const char *path, struct pcv_err *e)
{
    struct torch *t = calloc(1, sizeof(*t));
    int r;

    r = t ? read_file(t, path, e) : pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
    if (r < 0) {
        pcv_err_at(e, "%s", path);
        close_torch(t);
        return r;
    }
    pcv_pickle_close(t->pickle);
    t->pickle = NULL;
    pcv_torch_zip_finish(t->zip);
    *ret = (struct pcv_source){
        .tensors = t->tensors,
        .count = t->count,
        .owned = t->copied + pcv_torch_zip_owned(t->zip),
        .owner = t,
        .close = close_torch,
    };
    ret->map = pcv_torch_zip_map(t->zip, &ret->map_size);
    return 0;
}
