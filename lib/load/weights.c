#include "lib/load/weights.h"

#include "lib/base/floats.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/load/strided.h"
#include "lib/load/weights_internal.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A tensor's numbers in memory of ours: widened, realigned, or its axes in another order. */
struct copy {
    struct copy *next;
    int axes[PCV_MAX_DIMS];
    float *numbers;
};

struct entry {
    const struct pcv_tensor *tensor;
    int file;
    bool bound, ignored, in_place; /* in_place: counted as used in the mapping */
    bool looked;                   /* its numbers in the file have been looked at: */
    atomic_bool bad;               /* one of them is not finite */
    struct copy *copies;
};

struct pcv_weights {
    struct pcv_weights_files files;
    struct entry *entries; /* by name */
    int count;
    uint64_t parameters, mapped, owned;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->tensor->name, ((const struct entry *)b)->tensor->name);
}

static int list(struct pcv_weights *w, struct pcv_err *e)
{
    size_t count = 0;

    for (int i = 0; i < w->files.count; i++) {
        count += (size_t)w->files.sources[i].count;
        w->owned += w->files.sources[i].owned;
    }
    w->entries = count > INT_MAX / 2 ? NULL : calloc(count + 1, sizeof(*w->entries));
    if (!w->entries)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a table of %zu tensors", count);
    for (int i = 0; i < w->files.count; i++)
        for (int k = 0; k < w->files.sources[i].count; k++)
            w->entries[w->count++] =
                (struct entry){.tensor = &w->files.sources[i].tensors[k], .file = i};
    qsort(w->entries, (size_t)w->count, sizeof(*w->entries), by_name);
    for (int i = 1; i < w->count; i++)
        if (by_name(&w->entries[i - 1], &w->entries[i]) == 0) {
            pcv_fail(e, PCV_EFORMAT, "two tensors of one name");
            pcv_err_at(e, "%s", w->entries[i].tensor->name);
            return pcv_err_at(e, "%s", w->files.path);
        }
    return 0;
}

int pcv_weights_open(struct pcv_weights **ret, const char *dir, struct pcv_err *e)
{
    struct pcv_weights *w = calloc(1, sizeof(*w));
    int r;

    if (!w)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the weights of %s", dir);
    r = pcv_weights_files_open(&w->files, dir, e);
    if (r == 0)
        r = list(w, e);
    if (r < 0) {
        pcv_weights_close(w);
        return r;
    }
    *ret = w;
    return 0;
}

void pcv_weights_close(struct pcv_weights *w)
{
    if (!w)
        return;
    for (int i = 0; w->entries && i < w->count; i++)
        for (struct copy *c = w->entries[i].copies, *next; c; c = next) {
            next = c->next;
            pcv_free(c->numbers);
            free(c);
        }
    free(w->entries);
    pcv_weights_files_close(&w->files);
    free(w);
}

enum pcv_weights_kind pcv_weights_kind(const struct pcv_weights *w)
{
    return w->files.kind;
}

static struct entry *find(const struct pcv_weights *w, const char *name)
{
    const struct pcv_tensor t = {.name = name};
    const struct entry key = {.tensor = &t};

    return bsearch(&key, w->entries, (size_t)w->count, sizeof(*w->entries), by_name);
}

const struct pcv_tensor *pcv_weights_find(const struct pcv_weights *w, const char *name)
{
    const struct entry *n = find(w, name);

    return n ? n->tensor : NULL;
}

int pcv_weights_count(const struct pcv_weights *w)
{
    return w->count;
}

const struct pcv_tensor *pcv_weights_at(const struct pcv_weights *w, int i)
{
    return w->entries[i].tensor;
}

/* ---- looking at all numbers --------------------------------------------------------------- */

/* Numbers that a thread looks at at a time. Reading them brings the mapping's pages in, many with
 * each fault: asking for them beforehand (MADV_POPULATE_READ) visits every page, and takes longer.
 */
enum { PIECE = 1 << 20 };

struct look {
    struct pcv_weights *w;
    struct pcv_units pieces;
};

static void look_part(int thread, int threads, void *arg)
{
    struct look *l = arg;
    int64_t first = 0; /* piece of the tensor */
    int at = pcv_units_next(&l->pieces);

    (void)thread, (void)threads;
    for (int i = 0; i < l->w->count; i++) {
        struct entry *n = &l->w->entries[i];
        const int64_t count = (int64_t)(n->tensor->nbytes / sizeof(float));
        const float *x = n->tensor->data;

        if (!n->looked)
            continue;
        for (; (at - first) * PIECE < count; at = pcv_units_next(&l->pieces)) {
            const int64_t from = (at - first) * PIECE;
            const int64_t len = count - from < PIECE ? count - from : PIECE;

            if (pcv_first_not_finite(x + from, len) < len)
                atomic_store_explicit(&n->bad, true, memory_order_relaxed);
        }
        first += (count + PIECE - 1) / PIECE;
    }
}

void pcv_weights_look(struct pcv_weights *w, struct pcv_pool *pool)
{
    struct look l = {.w = w};

    for (int i = 0; i < w->count; i++)
        w->entries[i].looked = pcv_tensor_in_place(w->entries[i].tensor);
    pcv_pool_run(pool, look_part, &l);
}

/* numbers: the file's own, or copied from there. */
static bool is_finite(const struct entry *n, const float *numbers, int64_t count)
{
    return n->looked ? !n->bad : pcv_first_not_finite(numbers, count) == count;
}

/* ---- binding ------------------------------------------------------------------------------ */

static bool in_order(const int *axes, int ndim)
{
    for (int i = 0; i < ndim; i++)
        if (axes[i] != i)
            return false;
    return true;
}

/* t's numbers as f32, axis i of the result being axes[i] of t. */
static int fill(float *out, const struct pcv_tensor *t, int64_t count, const int *axes,
                struct pcv_err *e)
{
    int64_t rows[PCV_MAX_DIMS], shape[PCV_MAX_DIMS], strides[PCV_MAX_DIMS];
    float *wide = NULL;

    if (in_order(axes, t->ndim) || count == 0) {
        pcv_tensor_to_f32(t, 0, count, out);
        return 0;
    }
    pcv_strided_rows(rows, t->shape, t->ndim);
    for (int i = 0; i < t->ndim; i++) {
        shape[i] = t->shape[axes[i]];
        strides[i] = rows[axes[i]];
    }
    if (t->dtype != PCV_F32) {
        wide = pcv_alloc((size_t)count, sizeof(float));
        if (!wide)
            return pcv_fail(e, PCV_ENOMEM, "no memory for %lld numbers", (long long)count);
        pcv_tensor_to_f32(t, 0, count, wide);
    }
    pcv_strided_copy(out, wide ? (const void *)wide : t->data, sizeof(float), shape, strides,
                     t->ndim);
    pcv_free(wide);
    return 0;
}

static bool in_mapping(const struct pcv_source *s, const struct pcv_tensor *t)
{
    const uintptr_t at = (uintptr_t)t->data, map = (uintptr_t)s->map;

    return at >= map && at - map < s->map_size;
}

/* What has been copied is not needed twice: the pages that are wholly t's leave this process, and
 * come back from the file should somebody read them after all. */
static void let_go(const struct pcv_tensor *t)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t skip = (page - (uintptr_t)t->data % page) % page;

    if (t->nbytes > skip && t->nbytes - skip >= page)
        (void)madvise((char *)t->data + skip, (t->nbytes - skip) / page * page, MADV_DONTNEED);
}

static int copy_of(struct pcv_weights *w, struct entry *n, const int *axes, const float **ret,
                   struct pcv_err *e)
{
    const struct pcv_tensor *t = n->tensor;
    const int64_t count = pcv_shape_count(t->shape, t->ndim);
    struct copy *c;
    int r;

    for (c = n->copies; c; c = c->next)
        if (memcmp(c->axes, axes, (size_t)t->ndim * sizeof(*axes)) == 0) {
            *ret = c->numbers;
            return 0;
        }
    c = calloc(1, sizeof(*c));
    if (c)
        c->numbers = pcv_alloc((size_t)count, sizeof(float));
    r = c && c->numbers ? fill(c->numbers, t, count, axes, e)
                        : pcv_fail(e, PCV_ENOMEM, "no memory for %lld numbers", (long long)count);
    if (r == 0 && !is_finite(n, c->numbers, count))
        r = pcv_fail(e, PCV_ERANGE, "has a number that is not finite");
    if (r < 0) {
        pcv_free(c ? c->numbers : NULL);
        free(c);
        return r;
    }
    memcpy(c->axes, axes, (size_t)t->ndim * sizeof(*axes));
    c->next = n->copies;
    n->copies = c;
    if (in_mapping(&w->files.sources[n->file], t))
        let_go(t);
    w->owned += (uint64_t)count * sizeof(float);
    *ret = c->numbers;
    return 0;
}

/* The file's own numbers serve. */
static int in_place(struct pcv_weights *w, struct entry *n, const float **ret, struct pcv_err *e)
{
    const struct pcv_tensor *t = n->tensor;

    if (!n->in_place) {
        if (!is_finite(n, t->data, pcv_shape_count(t->shape, t->ndim)))
            return pcv_fail(e, PCV_ERANGE, "has a number that is not finite");
        n->in_place = true;
        if (in_mapping(&w->files.sources[n->file], t))
            w->mapped += t->nbytes;
    }
    *ret = t->data;
    return 0;
}

static int bind_entry(struct pcv_weights *w, struct entry *n, const float **ret,
                      const int64_t *shape, int ndim, const int *axes, struct pcv_err *e)
{
    const struct pcv_tensor *t = n->tensor;
    char have[96], want[96];
    bool same = t->ndim == ndim;
    int r;

    for (int i = 0; same && i < ndim; i++)
        same = t->shape[axes[i]] == shape[i];
    if (!same) {
        const bool plain = in_order(axes, ndim);

        return pcv_fail(e, PCV_ESHAPE, "shape %s, the configuration wants %s%s",
                        pcv_shape_text(t->shape, t->ndim, have, sizeof(have)),
                        pcv_shape_text(shape, ndim, want, sizeof(want)),
                        plain ? "" : " with its axes in another order");
    }
    if (t->dtype != PCV_F32 && t->dtype != PCV_F16 && t->dtype != PCV_BF16)
        return pcv_fail(e, PCV_EUNSUPPORTED, "datatype %s; F32, F16 and BF16 are served",
                        pcv_dtype_name(t->dtype));
    if (pcv_tensor_in_place(t) && in_order(axes, ndim))
        r = in_place(w, n, ret, e);
    else
        r = copy_of(w, n, axes, ret, e);
    if (r == 0 && !n->bound) {
        n->bound = true;
        w->parameters += (uint64_t)pcv_shape_count(shape, ndim);
    }
    return r;
}

static int bind_named(struct pcv_weights *w, const float **ret, const int64_t *shape, int ndim,
                      const int *axes, struct pcv_err *e, const char *format, va_list ap)
{
    char name[PCV_SOURCE_MAX_NAME + 1];
    const int len = vsnprintf(name, sizeof(name), format, ap);
    struct entry *n = len >= 0 && len < (int)sizeof(name) ? find(w, name) : NULL;
    const int r = n ? bind_entry(w, n, ret, shape, ndim, axes, e)
                    : pcv_fail(e, PCV_EMISSING, "tensor is missing");

    if (r < 0) {
        pcv_err_at(e, "%s", name);
        pcv_err_at(e, "%s", n ? w->files.paths[n->file] : w->files.path);
    }
    return r;
}

static const int IN_ORDER[PCV_MAX_DIMS] = {0, 1, 2, 3, 4, 5, 6, 7};

int pcv_weights_bind(struct pcv_weights *w, const float **ret, const int64_t *shape, int ndim,
                     struct pcv_err *e, const char *name_format, ...)
{
    va_list ap;
    int r;

    va_start(ap, name_format);
    r = bind_named(w, ret, shape, ndim, IN_ORDER, e, name_format, ap);
    va_end(ap);
    return r;
}

int pcv_weights_bind_transposed(struct pcv_weights *w, const float **ret, const int64_t *shape,
                                struct pcv_err *e, const char *name_format, ...)
{
    va_list ap;
    int r;

    va_start(ap, name_format);
    r = bind_named(w, ret, shape, 2, (const int[]){1, 0}, e, name_format, ap);
    va_end(ap);
    return r;
}

int pcv_weights_bind_permuted(struct pcv_weights *w, const float **ret, const int64_t *shape,
                              int ndim, const int *axes, struct pcv_err *e, const char *name_format,
                              ...)
{
    va_list ap;
    int r;

    va_start(ap, name_format);
    r = bind_named(w, ret, shape, ndim, axes, e, name_format, ap);
    va_end(ap);
    return r;
}

/* ---- what is left, and how much it is ------------------------------------------------------- */

void pcv_weights_ignore(struct pcv_weights *w, const char *name)
{
    struct entry *n = find(w, name);

    if (n)
        n->ignored = true;
}

int pcv_weights_done(const struct pcv_weights *w, struct pcv_err *e)
{
    for (int i = 0; i < w->count; i++) {
        if (w->entries[i].bound || w->entries[i].ignored)
            continue;
        pcv_fail(e, PCV_EUNKNOWN, "tensor is not part of this architecture");
        pcv_err_at(e, "%s", w->entries[i].tensor->name);
        pcv_err_at(e, "%s", w->files.paths[w->entries[i].file]);
        return PCV_EUNKNOWN;
    }
    return 0;
}

void pcv_weights_not_trained(struct pcv_weights *w, uint64_t n)
{
    w->parameters -= n;
}

uint64_t pcv_weights_parameters(const struct pcv_weights *w)
{
    return w->parameters;
}

uint64_t pcv_weights_mapped(const struct pcv_weights *w)
{
    return w->mapped;
}

uint64_t pcv_weights_owned(const struct pcv_weights *w)
{
    return w->owned;
}
