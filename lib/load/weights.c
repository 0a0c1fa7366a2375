#include "lib/load/weights.h"

#include "lib/base/mem.h"
#include "lib/load/safetensors.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bound {
    bool used;
    float *owned; /* widened or realigned copy; NULL: the mapping serves */
};

struct pcv_weights {
    char *path;
    struct pcv_safetensors *file;
    struct bound *bound; /* by index in the file */
    uint64_t parameters, mapped, owned;
};

int pcv_weights_open(struct pcv_weights **ret, const char *dir, struct pcv_err *e)
{
    struct pcv_weights *w = calloc(1, sizeof(*w));
    int r;

    if (!w || asprintf(&w->path, "%s/model.safetensors", dir) < 0) {
        free(w);
        return pcv_fail(e, PCV_ENOMEM, "no memory for the weights of %s", dir);
    }
    r = pcv_safetensors_open(&w->file, w->path, e);
    if (r < 0)
        goto out;
    w->bound = calloc((size_t)pcv_safetensors_count(w->file) + 1, sizeof(*w->bound));
    if (!w->bound) {
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a table of tensors");
        goto out;
    }
    *ret = w;
    return 0;
out:
    pcv_weights_close(w);
    return r;
}

void pcv_weights_close(struct pcv_weights *w)
{
    if (!w)
        return;
    for (int i = 0; w->bound && i < pcv_safetensors_count(w->file); i++)
        pcv_free(w->bound[i].owned);
    free(w->bound);
    pcv_safetensors_close(w->file);
    free(w->path);
    free(w);
}

static int index_of(const struct pcv_weights *w, const char *name)
{
    const struct pcv_tensor *t = pcv_safetensors_find(w->file, name);

    return t ? (int)(t - pcv_safetensors_at(w->file, 0)) : -1;
}

const struct pcv_tensor *pcv_weights_find(const struct pcv_weights *w, const char *name)
{
    return pcv_safetensors_find(w->file, name);
}

/* Infinities and NaN are the numbers whose exponent is all ones. */
static bool all_finite(const float *x, int64_t n)
{
    uint32_t bits, bad = 0;

    for (int64_t i = 0; i < n; i++) {
        memcpy(&bits, &x[i], sizeof(bits));
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static int materialise(struct pcv_weights *w, const struct pcv_tensor *t, struct bound *b,
                       int64_t count, struct pcv_err *e)
{
    const bool direct = t->dtype == PCV_F32 && (uintptr_t)t->data % sizeof(float) == 0;

    if (!direct) {
        b->owned = pcv_alloc((size_t)count, sizeof(float));
        if (!b->owned)
            return pcv_fail(e, PCV_ENOMEM, "no memory for %lld numbers", (long long)count);
        pcv_tensor_to_f32(t, 0, count, b->owned);
        w->owned += (uint64_t)count * sizeof(float);
    } else {
        w->mapped += t->nbytes;
    }
    if (!all_finite(b->owned ? b->owned : t->data, count))
        return pcv_fail(e, PCV_ERANGE, "has a number that is not finite");
    b->used = true;
    w->parameters += (uint64_t)count;
    return 0;
}

static int bind(struct pcv_weights *w, const float **ret, const int64_t *shape, int ndim,
                const char *name, struct pcv_err *e)
{
    const int i = index_of(w, name);
    char have[96], want[96];
    const struct pcv_tensor *t;

    if (i < 0)
        return pcv_fail(e, PCV_EMISSING, "tensor is missing");
    t = pcv_safetensors_at(w->file, i);
    if (t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof(*shape)) != 0)
        return pcv_fail(e, PCV_ESHAPE, "shape %s, the configuration wants %s",
                        pcv_shape_text(t->shape, t->ndim, have, sizeof(have)),
                        pcv_shape_text(shape, ndim, want, sizeof(want)));
    if (t->dtype != PCV_F32 && t->dtype != PCV_F16 && t->dtype != PCV_BF16)
        return pcv_fail(e, PCV_EUNSUPPORTED, "datatype %s; F32, F16 and BF16 are served",
                        pcv_dtype_name(t->dtype));
    if (!w->bound[i].used) {
        const int r = materialise(w, t, &w->bound[i], pcv_shape_count(shape, ndim), e);

        if (r < 0)
            return r;
    }
    *ret = w->bound[i].owned ? w->bound[i].owned : t->data;
    return 0;
}

int pcv_weights_bind(struct pcv_weights *w, const float **ret, const int64_t *shape, int ndim,
                     struct pcv_err *e, const char *name_format, ...)
{
    char name[512];
    va_list ap;
    int r;

    va_start(ap, name_format);
    vsnprintf(name, sizeof(name), name_format, ap);
    va_end(ap);
    r = bind(w, ret, shape, ndim, name, e);
    if (r < 0) {
        pcv_err_at(e, "%s", name);
        pcv_err_at(e, "%s", w->path);
    }
    return r;
}

void pcv_weights_ignore(struct pcv_weights *w, const char *name)
{
    const int i = index_of(w, name);

    if (i >= 0)
        w->bound[i].used = true;
}

int pcv_weights_done(const struct pcv_weights *w, struct pcv_err *e)
{
    for (int i = 0; i < pcv_safetensors_count(w->file); i++) {
        if (w->bound[i].used)
            continue;
        pcv_fail(e, PCV_EUNKNOWN, "tensor is not part of this architecture");
        pcv_err_at(e, "%s", pcv_safetensors_at(w->file, i)->name);
        pcv_err_at(e, "%s", w->path);
        return PCV_EUNKNOWN;
    }
    return 0;
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
