#include "server/results.h"

#include <stdlib.h>
#include <string.h>

/* Everything a native reply points to. */
struct native {
    const struct pcv_model *model;
    const struct pcv_model_info *info;
    const struct wire_request *request;
    const struct srv_job *job;
    struct wire_result *results; /* [nslots] */
    struct wire_fill *fills;     /* one after the other */
    struct wire_label *labels;
    char (*texts)[8]; /* of tokens, one for each label */
    struct pcv_score *scores;
    char **filled; /* [nslots] texts with candidates in place */
    size_t nfills, nlabels;
};

static int top_k_of(const struct wire_request *r, int slot)
{
    return r->nqueries ? r->queries[slot].top_k : r->default_top_k;
}

static const struct srv_job_task *task_of(const struct srv_job *j, int slot)
{
    return &j->tasks[j->slot[slot]];
}

static void native_free(struct native *n)
{
    for (int i = 0; n->filled && i < n->job->nslots; i++)
        free(n->filled[i]);
    free(n->filled);
    free(n->results);
    free(n->fills);
    free(n->labels);
    free(n->texts);
    free(n->scores);
}

static int native_room(struct native *n, struct pcv_err *e)
{
    size_t nslots = (size_t)n->job->nslots, fills = 0, labels = 0, width = 0;
    for (int i = 0; i < n->job->nslots; i++) {
        const struct srv_job_task *t = task_of(n->job, i);
        fills += (size_t)t->rows;
        labels += (size_t)t->rows * (size_t)top_k_of(n->request, i);
        if (width < (size_t)n->info->tasks[t->task].width)
            width = (size_t)n->info->tasks[t->task].width;
    }
    n->results = calloc(nslots + 1, sizeof *n->results);
    n->filled = calloc(nslots + 1, sizeof *n->filled);
    n->fills = calloc(fills + 1, sizeof *n->fills);
    n->labels = calloc(labels + 1, sizeof *n->labels);
    n->texts = calloc(labels + 1, sizeof *n->texts);
    n->scores = calloc(width + 1, sizeof *n->scores);
    if (n->results && n->filled && n->fills && n->labels && n->texts && n->scores)
        return 0;
    return pcv_fail(e, PCV_ENOMEM, "no memory for %zu results", labels);
}

static void classes(struct native *n, int slot, struct wire_result *result)
{
    const struct srv_job_task *t = task_of(n->job, slot);
    int width = n->info->tasks[t->task].width, k = top_k_of(n->request, slot);
    int found = pcv_top_k(t->logits, width, k < width ? k : width, n->scores);
    struct wire_label *labels = &n->labels[n->nlabels];
    for (int i = 0; i < found; i++) {
        const char *label = pcv_task_label(n->model, t->task, n->scores[i].index);
        labels[i] = (struct wire_label){.index = n->scores[i].index,
                                        .label = *label ? label : NULL,
                                        .score = n->scores[i].score};
    }
    n->nlabels += (size_t)found;
    result->kind = WIRE_CLASSES;
    result->nlabels = found;
    result->labels = labels;
}

/* The text that was sent, NULL when there is none or more than one. */
static const struct wire_media *sent_text(const struct wire_request *r)
{
    return r->nmedia == 1 ? &r->media[0] : NULL;
}

/* The text with the best candidate in the place of each [MASK]; NULL when a place is unknown. */
static char *fill_text(const struct wire_media *text, const struct wire_fill *fills, int nfills,
                       size_t *len)
{
    static const size_t mask = sizeof "[MASK]" - 1;
    const char *from = text->data;
    size_t at = 0, n = 0;
    char *out = from ? malloc(text->len + (size_t)nfills * 8 + 1) : NULL;
    if (!out)
        return NULL;
    for (int i = 0; i < nfills; i++) {
        int64_t offset = fills[i].byte_offset;
        const char *best = fills[i].nlabels ? fills[i].labels[0].label : NULL;
        if (offset < (int64_t)at || (uint64_t)offset + mask > text->len || !best ||
            memcmp(from + offset, "[MASK]", mask)) {
            free(out);
            return NULL;
        }
        memcpy(out + n, from + at, (size_t)offset - at);
        n += (size_t)offset - at;
        size_t one = strlen(best);
        memcpy(out + n, best, one);
        n += one;
        at = (size_t)offset + mask;
    }
    memcpy(out + n, from + at, text->len - at);
    *len = n + text->len - at;
    out[*len] = 0;
    return out;
}

static void masks(struct native *n, int slot, struct wire_result *result)
{
    const struct srv_job_task *t = task_of(n->job, slot);
    int width = n->info->tasks[t->task].width, k = top_k_of(n->request, slot);
    struct wire_fill *fills = &n->fills[n->nfills];
    for (int64_t row = 0; row < t->rows; row++) {
        struct wire_label *labels = &n->labels[n->nlabels];
        int position = t->which ? t->which[row] : (int)row;
        int found = pcv_top_k(t->logits + row * width, width, k < width ? k : width, n->scores);
        for (int i = 0; i < found; i++) {
            char *token = n->texts[n->nlabels + (size_t)i];
            pcv_token_text(n->scores[i].index, token);
            labels[i] = (struct wire_label){
                .index = n->scores[i].index, .label = token, .score = n->scores[i].score};
        }
        fills[row] =
            (struct wire_fill){.position = position,
                               .byte_offset = pcv_input_byte_offset(n->job->inputs[0], position),
                               .nlabels = found,
                               .labels = labels};
        n->nlabels += (size_t)found;
    }
    n->nfills += (size_t)t->rows;
    result->kind = WIRE_FILLS;
    result->nfills = (int)t->rows;
    result->fills = fills;
    const struct wire_media *text = sent_text(n->request);
    if (text)
        result->text = n->filled[slot] = fill_text(text, fills, result->nfills, &result->text_len);
}

static int encode_native(const struct pcv_model *m, const struct wire_request *r,
                         const struct srv_job *j, struct wire_reply *reply, char **body,
                         size_t *len, struct pcv_err *e)
{
    struct native n = {.model = m, .info = pcv_model_info(m), .request = r, .job = j};
    int code = native_room(&n, e);
    for (int i = 0; !code && i < j->nslots; i++) {
        const struct pcv_task_info *task = &n.info->tasks[task_of(j, i)->task];
        n.results[i].task = task->name;
        if (task->kind == PCV_TASK_FILL_MASK)
            masks(&n, i, &n.results[i]);
        else
            classes(&n, i, &n.results[i]);
    }
    reply->nresults = j->nslots;
    reply->results = n.results;
    if (!code)
        code = wire_native_encode(reply, body, len, e);
    native_free(&n);
    return code;
}

/* A task's logits in the shape that its upstream gives them: the batch, then the dimensions of the
 * specification, of which an open one is as long as there are numbers for. */
static struct pcv_tensor output_tensor(const struct pcv_task_info *task, const struct srv_job *j,
                                       const struct srv_job_task *t)
{
    const struct pcv_tensor_spec *spec = &task->output;
    int64_t each = t->rows * task->width, fixed = 1;
    int open = 0;
    struct pcv_tensor out = {
        .name = spec->name, .dtype = PCV_F32, .ndim = spec->ndim, .data = t->logits};
    out.nbytes = (size_t)(j->nitems * each) * sizeof(float);
    for (int d = 1; d < spec->ndim; d++) {
        out.shape[d] = spec->shape[d];
        if (spec->shape[d] < 0)
            open = open ? -1 : d;
        else
            fixed *= spec->shape[d];
    }
    out.shape[0] = j->nitems;
    if (open > 0)
        out.shape[open] = each / fixed;
    if (open < 0 || pcv_shape_count(out.shape, out.ndim) != j->nitems * each) {
        out.ndim = 3; /* some rows of a grid, say: rows as they are */
        out.shape[1] = t->rows;
        out.shape[2] = task->width;
    }
    return out;
}

static int encode_oip(const struct pcv_model *m, const struct wire_request *r,
                      const struct srv_job *j, struct wire_reply *reply, char **body, size_t *len,
                      int64_t *header_len, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(m);
    struct wire_out_tensor *outputs = calloc((size_t)j->nslots + 1, sizeof *outputs);
    if (!outputs)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    for (int i = 0; i < j->nslots; i++) {
        const struct pcv_task_info *task = &info->tasks[task_of(j, i)->task];
        outputs[i].t = output_tensor(task, j, task_of(j, i));
        outputs[i].binary = r->raw || (r->noutputs ? r->outputs[i].binary : r->binary_default);
        outputs[i].classification = r->noutputs ? r->outputs[i].classification : 0;
        outputs[i].labels = task->labels;
    }
    reply->noutputs = j->nslots;
    reply->outputs = outputs;
    int code = wire_oip_encode(reply, body, len, header_len, e);
    free(outputs);
    return code;
}

int srv_results_encode(const struct pcv_model *m, const struct wire_request *r,
                       const struct srv_job *j, const struct wire_reply *reply, char **body,
                       size_t *len, int64_t *header_len, struct pcv_err *e)
{
    struct wire_reply full = *reply;
    if (r->form == WIRE_OIP)
        return encode_oip(m, r, j, &full, body, len, header_len, e);
    int code = encode_native(m, r, j, &full, body, len, e);
    if (!code)
        *header_len = -1;
    return code;
}

int64_t srv_results_size(const struct pcv_model *m, const struct srv_job *j)
{
    const struct pcv_model_info *info = pcv_model_info(m);
    int64_t n = 0;
    for (int i = 0; i < j->nslots; i++) {
        const struct srv_job_task *t = task_of(j, i);
        n += t->rows * j->nitems * info->tasks[t->task].width;
    }
    return n;
}
