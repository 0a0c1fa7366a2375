#include "server/adapt_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool srv_adapt_is_slow(const struct wire_request *r)
{
    for (int i = 0; i < r->nmedia; i++)
        if (!r->media[i].type || strncmp(r->media[i].type, "text/", 5))
            return true;
    return false;
}

void srv_job_free(struct srv_job *j)
{
    if (!j)
        return;
    for (int i = 0; j->inputs && i < j->nitems; i++)
        pcv_input_free(j->inputs[i]);
    for (int i = 0; j->tasks && i < j->ntasks; i++) {
        free(j->tasks[i].logits);
        free(j->tasks[i].which);
    }
    if (j->bytes)
        atomic_fetch_sub(&j->budget->used, j->bytes);
    free(j->inputs);
    free(j->items);
    free(j->queries);
    free(j->tasks);
    free(j->slot);
    srv_job_flow_free(j->flow);
    free(j->latents);
    free(j);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* Entry of the job's tasks for a task of the model, made if new. */
static int task_slot(struct srv_job *j, int task)
{
    for (int i = 0; i < j->ntasks; i++)
        if (j->tasks[i].task == task)
            return i;
    j->tasks[j->ntasks].task = task;
    return j->ntasks++;
}

/* The task whose output has this name. */
static int output_task(const struct adapt *a, const char *name, int i)
{
    char known[160] = "";
    for (int t = 0; t < a->info->ntasks; t++) {
        const char *have = a->info->tasks[t].output.name;
        if (!strcmp(have, name))
            return t;
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", have);
    }
    pcv_fail(a->e, PCV_EUNKNOWN, "the model has no output \"%.64s\"; it has %s", name, known);
    return pcv_err_at(a->e, "$.outputs[%d].name", i);
}

static int oip_tasks(struct adapt *a)
{
    const struct wire_request *r = a->request;
    int n = r->noutputs ? r->noutputs : a->info->ntasks;
    a->job->nslots = n;
    a->job->slot = calloc((size_t)n + 1, sizeof *a->job->slot);
    if (!a->job->slot)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory");
    for (int i = 0; i < n; i++) {
        int task = r->noutputs ? output_task(a, r->outputs[i].name, i) : i;
        if (task < 0)
            return task;
        a->job->slot[i] = task_slot(a->job, task);
    }
    return 0;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

int srv_adapt_room(struct adapt *a, int nitems)
{
    struct srv_job *j = a->job;
    j->inputs = calloc((size_t)nitems, sizeof *j->inputs);
    j->items = calloc((size_t)nitems, sizeof *j->items);
    j->queries = calloc((size_t)nitems * (size_t)j->ntasks + 1, sizeof *j->queries);
    if (!j->inputs || !j->items || !j->queries)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d inputs", nitems);
    j->nitems = nitems;
    return 0;
}

void srv_adapt_media(const struct adapt *a, struct pcv_media *media)
{
    const struct wire_request *r = a->request;
    for (int i = 0; i < r->nmedia; i++)
        media[i] = (struct pcv_media){.input = r->media[i].input,
                                      .data = r->media[i].data,
                                      .len = r->media[i].len,
                                      .type = r->media[i].type};
}

int srv_adapt_at_input(struct adapt *a, int code)
{
    char where[sizeof a->e->where]; /* the engine's place begins with the input's name */
    memcpy(where, a->e->where, sizeof where);
    a->e->where[0] = 0;
    pcv_err_at(a->e, "$.inputs%s%s", *where ? "." : "", where);
    return code;
}

static int native_inputs(struct adapt *a)
{
    struct pcv_media media[WIRE_MAX_MEDIA];
    if (srv_adapt_room(a, 1))
        return a->e->code;
    srv_adapt_media(a, media);
    int code = pcv_input_from_media(&a->job->inputs[0], a->model, media, a->request->nmedia, a->e);
    return code ? srv_adapt_at_input(a, code) : 0;
}

/* Puts "$.inputs[i]" before the name of the tensor where the engine found a fault. */
static int at_tensor(struct adapt *a)
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
        return at_tensor(a);
    if (n == 0) {
        pcv_fail(a->e, PCV_ESHAPE, "the batch is empty");
        return pcv_err_at(a->e, "$.inputs");
    }
    if (n > a->max_items) {
        pcv_fail(a->e, PCV_ELIMIT, "a batch of %lld is more than the %d that are taken at once",
                 (long long)n, a->max_items);
        return pcv_err_at(a->e, "$.inputs");
    }
    if (srv_adapt_room(a, (int)n))
        return a->e->code;
    for (int i = 0; i < n; i++) {
        if (atomic_load(a->cancelled))
            return pcv_fail(a->e, PCV_EIO, "cancelled");
        if (pcv_input_from_tensors(&a->job->inputs[i], a->model, r->tensors, r->ntensors, i, a->e))
            return at_tensor(a);
    }
    return 0;
}

/* ---- output queries ---------------------------------------------------------------------------
 */

/* Rows that the request's tensors name, else all; the same for every item. */
static int oip_rows(struct adapt *a, struct srv_job_task *t)
{
    const struct wire_request *r = a->request;
    int n = 0;
    if (pcv_query_rows_from_tensors(a->model, t->task, r->tensors, r->ntensors, &t->which, &n,
                                    a->e))
        return at_tensor(a);
    t->rows = t->which ? n : pcv_query_rows_all(a->model, t->task, a->job->inputs[0]);
    for (int i = 1; !t->which && i < a->job->nitems; i++)
        if (pcv_query_rows_all(a->model, t->task, a->job->inputs[i]) != t->rows)
            return pcv_fail(a->e, PCV_ESHAPE, "item %d has another number of output queries", i);
    return 0;
}

/* All pixels of the frames asked for. */
static int frame_rows(struct adapt *a, struct srv_job_task *t)
{
    const struct pcv_task_info *task = &a->info->tasks[t->task];
    const size_t each = (size_t)task->height * (size_t)task->width_px;
    if ((size_t)t->nframes * each > INT_MAX)
        return pcv_fail(a->e, PCV_ELIMIT, "%d frames at once are too many", t->nframes);
    t->rows = (int64_t)t->nframes * (int64_t)each;
    t->which = malloc((size_t)t->rows * sizeof *t->which);
    if (!t->which)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d frames", t->nframes);
    for (int i = 0; i < t->nframes; i++)
        for (size_t k = 0; k < each; k++)
            t->which[(size_t)i * each + k] = (int32_t)((size_t)t->frames[i] * each + k);
    return 0;
}

/* Rows that a person means: for masks, those that hold one. */
static int native_rows(struct adapt *a, struct srv_job_task *t)
{
    const struct pcv_input *in = a->job->inputs[0];
    if (t->nframes)
        return frame_rows(a, t);
    int n = pcv_query_rows_default(a->model, t->task, in, NULL, 0);
    t->rows = pcv_query_rows_all(a->model, t->task, in);
    if (n == t->rows)
        return 0;
    if (n == 0) {
        pcv_fail(a->e, PCV_EMISSING, "there is no [MASK] to fill in the text");
        return pcv_err_at(a->e, "$.inputs");
    }
    t->which = calloc((size_t)n, sizeof *t->which);
    if (!t->which)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory");
    t->rows = pcv_query_rows_default(a->model, t->task, in, t->which, n);
    return 0;
}

int srv_adapt_budget(struct adapt *a, double bytes)
{
    struct srv_job_budget *b = a->job->budget;
    if (bytes > (double)b->limit) {
        pcv_fail(a->e, PCV_ELIMIT, "%.0f MB of results are more than the %.0f MB that are allowed",
                 bytes / 1e6, (double)b->limit / 1e6);
        return pcv_err_at(a->e, a->request->form == WIRE_OIP ? "$.outputs" : "$.queries");
    }
    size_t n = (size_t)bytes, used = atomic_fetch_add(&b->used, n);
    a->job->bytes = n;
    if (used <= b->limit - n)
        return 0;
    *a->busy = true;
    return pcv_fail(a->e, PCV_ENOMEM, "the memory for results is used up by other requests");
}

/* Bytes of the reply to slot i, about: a logit in binary is 4 bytes and in JSON up to 16, a
 * candidate with its label 100. */
static double reply_bytes(const struct adapt *a, int i)
{
    const struct wire_request *r = a->request;
    if (a->job->slot[i] == SRV_EMBED)
        return 16.0 * a->info->num_latents * a->info->d_latents;
    const struct srv_job_task *t = &a->job->tasks[a->job->slot[i]];
    int width = a->info->tasks[t->task].width;
    double rows = (double)t->rows * a->job->nitems;
    if (r->form == WIRE_NATIVE) {
        enum pcv_task_kind kind = a->info->tasks[t->task].kind;
        if (kind == PCV_TASK_IMAGE || kind == PCV_TASK_AUDIO)
            return rows * width * 6; /* base64 of floats at most, with what is made on the way */
        int k = r->nqueries ? r->queries[i].top_k : r->default_top_k;
        return rows * (k < width ? k : width) * 100;
    }
    bool binary = r->raw || (r->noutputs ? r->outputs[i].binary : r->binary_default);
    return rows * width * (binary ? 4 : 16);
}

/* Memory for the logits, accounted for together with the reply made of them. */
static int make_logits(struct adapt *a)
{
    struct srv_job *j = a->job;
    double bytes = 0;
    for (int i = 0; i < j->ntasks; i++) {
        struct srv_job_task *t = &j->tasks[i];
        if (a->request->form == WIRE_OIP ? oip_rows(a, t) : native_rows(a, t))
            return a->e->code;
        bytes += (double)j->nitems * (double)t->rows * a->info->tasks[t->task].width * 4;
    }
    for (int i = 0; i < j->nslots; i++)
        bytes += reply_bytes(a, i);
    if (srv_adapt_budget(a, bytes))
        return a->e->code;
    for (int i = 0; i < j->nslots && !j->latents; i++)
        if (j->slot[i] == SRV_EMBED &&
            !(j->latents = malloc((size_t)a->info->num_latents * (size_t)a->info->d_latents *
                                  sizeof(float))))
            return pcv_fail(a->e, PCV_ENOMEM, "no memory for an embedding");
    for (int i = 0; i < j->ntasks; i++) {
        struct srv_job_task *t = &j->tasks[i];
        size_t n = (size_t)j->nitems * (size_t)t->rows * (size_t)a->info->tasks[t->task].width;
        t->logits = malloc((n ? n : 1) * sizeof(float));
        if (!t->logits)
            return pcv_fail(a->e, PCV_ENOMEM, "no memory for %zu results", n);
    }
    return 0;
}

void srv_adapt_count(struct adapt *a, const struct pcv_item *item)
{
    struct srv_job *j = a->job;
    struct pcv_cost cost;
    pcv_cost_item(a->model, item, &cost, NULL);
    j->tokens += pcv_input_tokens(item->input);
    j->gmac.encode += cost.encode / 1e9;
    j->gmac.process += cost.process / 1e9;
    j->gmac.decode += cost.decode / 1e9;
}

/* Items with their queries, checked, and what they cost. */
static int make_items(struct adapt *a)
{
    struct srv_job *j = a->job;
    for (int i = 0; i < j->nitems; i++) {
        struct pcv_item *item = &j->items[i];
        item->input = j->inputs[i];
        item->queries = &j->queries[(size_t)i * (size_t)j->ntasks];
        item->nqueries = j->ntasks;
        item->latents = j->latents;
        item->cancelled = a->cancelled;
        for (int k = 0; k < j->ntasks; k++) {
            const struct srv_job_task *t = &j->tasks[k];
            int64_t width = a->info->tasks[t->task].width;
            item->queries[k] = (struct pcv_query){.task = t->task,
                                                  .nrows = (int)t->rows,
                                                  .rows = t->which,
                                                  .logits = t->logits + i * t->rows * width};
            if (pcv_query_check(a->model, item->input, &item->queries[k], a->e))
                return pcv_err_at(a->e, "$.queries");
            j->output_queries += t->rows;
            j->tasks[k].total += t->rows;
        }
        srv_adapt_count(a, item);
    }
    return 0;
}

static int adapt(struct adapt *a)
{
    const bool oip = a->request->form == WIRE_OIP; /* its BYTES tensors are media */
    int code = oip ? oip_tasks(a) : srv_adapt_native_tasks(a);
    if (!code && !oip && srv_adapt_is_flow(a))
        return srv_adapt_flow(a);
    if (!code)
        code = oip && !a->request->nmedia ? oip_inputs(a) : native_inputs(a);
    if (!code)
        code = make_logits(a);
    return code ? code : make_items(a);
}

int srv_adapt(struct srv_job **ret, const struct pcv_model *m, struct wire_request *r,
              int max_items, const atomic_bool *cancelled, struct srv_job_budget *budget,
              bool *busy, struct pcv_err *e)
{
    struct adapt a = {.model = m,
                      .info = pcv_model_info(m),
                      .request = r,
                      .max_items = max_items,
                      .cancelled = cancelled,
                      .busy = busy,
                      .e = e};
    a.job = calloc(1, sizeof *a.job);
    if (a.job) {
        a.job->budget = budget;
        a.job->tasks =
            calloc((size_t)a.info->ntasks + (size_t)r->nqueries + 1, sizeof *a.job->tasks);
    }
    if (!a.job || !a.job->tasks) {
        srv_job_free(a.job);
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    }
    int code = adapt(&a);
    if (code) {
        srv_job_free(a.job);
        return code;
    }
    *ret = a.job;
    return 0;
}
