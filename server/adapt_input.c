/* adapt_input.c - media and tensors become inputs of the model. */
#include "server/adapt_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int srv_adapt_room(struct adapt *a, int nitems)
{
    struct srv_job *j = a->job;
    j->of = calloc((size_t)nitems, sizeof *j->of);
    j->items = calloc((size_t)nitems, sizeof *j->items);
    if (!j->of || !j->items)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d inputs", nitems);
    j->nitems = nitems;
    for (int i = 0; i < nitems; i++)
        j->of[i].same = i;
    return 0;
}

/* ---- media ------------------------------------------------------------------------------------
 */

int srv_adapt_media(struct adapt *a, int item, struct pcv_media **ret, int *n)
{
    const struct wire_request *r = a->request;
    struct pcv_media *media = calloc((size_t)r->nmedia + 1, sizeof *media);
    if (!media)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d inputs", r->nmedia);
    *n = 0;
    for (int i = 0; i < r->nmedia; i++)
        if (r->media[i].item == item)
            media[(*n)++] = (struct pcv_media){.input = r->media[i].input,
                                               .data = r->media[i].data,
                                               .len = r->media[i].len,
                                               .type = r->media[i].type};
    *ret = media;
    return 0;
}

int srv_adapt_at_input(struct adapt *a, int item, int code)
{
    char where[sizeof a->e->where], index[16] = ""; /* the engine's place begins with the name */
    memcpy(where, a->e->where, sizeof where);
    a->e->where[0] = 0;
    if (a->request->batch)
        snprintf(index, sizeof index, "[%d]", item);
    pcv_err_at(a->e, "$.inputs%s%s%s", index, *where ? "." : "", where);
    return code;
}

static int native_inputs(struct adapt *a)
{
    const int n = a->request->nitems > 0 ? a->request->nitems : 1;
    if (n > a->p->max_items) {
        pcv_fail(a->e, PCV_ELIMIT, "%d inputs are more than the %d that are taken at once", n,
                 a->p->max_items);
        return pcv_err_at(a->e, "$.inputs");
    }
    if (srv_adapt_room(a, n))
        return a->e->code;
    for (int i = 0; i < n; i++) {
        struct pcv_media *media;
        int count;
        if (atomic_load(a->p->cancelled))
            return pcv_fail(a->e, PCV_EIO, "cancelled");
        if (srv_adapt_media(a, i, &media, &count))
            return a->e->code;
        int code = pcv_input_from_media(&a->job->of[i].input, a->model, media, count, a->e);
        free(media);
        if (code)
            return srv_adapt_at_input(a, i, code);
    }
    return 0;
}

/* ---- tensors ----------------------------------------------------------------------------------
 */

int srv_adapt_at_tensor(struct adapt *a)
{
    const struct wire_request *r = a->request;
    size_t len = strcspn(a->e->where, ":");
    for (int i = 0; i < r->ntensors; i++)
        if (r->tensors[i].name && strlen(r->tensors[i].name) == len &&
            !strncmp(r->tensors[i].name, a->e->where, len))
            return pcv_err_at(a->e, "$.inputs[%d]", i);
    return pcv_err_at(a->e, "$.inputs");
}

/* The raw form says neither name nor shape: it must be the only tensor that the model needs, with
 * batch 1 and at most one dimension to find from the bytes. */
static int name_raw_tensor(struct adapt *a)
{
    const struct pcv_tensor_spec *spec = NULL;
    struct pcv_tensor *t = &a->request->tensors[0];
    int needed = 0, open = -1;
    for (int i = 0; i < a->info->ntensors; i++)
        if (!a->info->tensors[i].optional) {
            spec = &a->info->tensors[i];
            needed++;
        }
    if (needed != 1)
        return pcv_fail(a->e, PCV_EUNSUPPORTED, "the raw form is for models of one input");
    struct pcv_tensor named = {
        .name = spec->name, .dtype = spec->dtype, .ndim = spec->ndim, .data = t->data};
    int64_t known = (int64_t)pcv_dtype_size(spec->dtype);
    for (int d = 0; d < spec->ndim; d++) {
        int64_t n = d == 0 && !spec->shared ? 1 : spec->shape[d];
        if (n < 0 && open >= 0)
            return pcv_fail(a->e, PCV_EUNSUPPORTED,
                            "the raw form is for inputs with one variable dimension");
        if (n < 0)
            open = d;
        else
            known *= n;
        named.shape[d] = n;
    }
    if (open >= 0)
        named.shape[open] = known > 0 ? (int64_t)t->nbytes / known : 0;
    named.nbytes = (size_t)(known * (open >= 0 ? named.shape[open] : 1));
    if (named.nbytes != t->nbytes) {
        char shape[96];
        pcv_fail(a->e, PCV_ESHAPE, "%zu bytes do not fill %s %s", t->nbytes,
                 pcv_dtype_name(spec->dtype),
                 pcv_shape_text(spec->shape, spec->ndim, shape, sizeof shape));
        return pcv_err_at(a->e, "%s", spec->name);
    }
    *t = named;
    return 0;
}

static int oip_inputs(struct adapt *a)
{
    struct wire_request *r = a->request;
    if (r->raw && name_raw_tensor(a))
        return a->e->code;
    int64_t n = pcv_tensors_batch(a->model, r->tensors, r->ntensors, a->e);
    if (n < 0)
        return srv_adapt_at_tensor(a);
    if (n == 0) {
        pcv_fail(a->e, PCV_ESHAPE, "the batch is empty");
        return pcv_err_at(a->e, "$.inputs");
    }
    if (n > a->p->max_items) {
        pcv_fail(a->e, PCV_ELIMIT, "a batch of %lld is more than the %d that are taken at once",
                 (long long)n, a->p->max_items);
        return pcv_err_at(a->e, "$.inputs");
    }
    if (srv_adapt_room(a, (int)n))
        return a->e->code;
    for (int i = 0; i < n; i++) {
        if (atomic_load(a->p->cancelled))
            return pcv_fail(a->e, PCV_EIO, "cancelled");
        if (pcv_input_from_tensors(&a->job->of[i].input, a->model, r->tensors, r->ntensors, i,
                                   a->e))
            return srv_adapt_at_tensor(a);
    }
    return 0;
}

int srv_adapt_inputs(struct adapt *a)
{
    struct srv_job *j = a->job;
    if (a->p->kept)
        return srv_adapt_room(a, 1);
    int code = a->request->ntensors ? oip_inputs(a) : native_inputs(a); /* BYTES are media */
    for (int i = 0; !code && i < j->nitems; i++) {
        j->tokens += pcv_input_tokens(j->of[i].input);
        if (a->p->keyed) {
            j->of[i].key = srv_digest_input(a->info->fingerprint, j->of[i].input);
            j->of[i].keyed = true;
        }
    }
    return code;
}
