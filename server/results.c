#include "server/results_internal.h"

#include <stdlib.h>
#include <string.h>

static int top_k_of(const struct wire_request *r, int slot)
{
    return r->nqueries ? r->queries[slot].top_k : r->default_top_k;
}

void *srv_native_own(struct srv_native *n, void *p)
{
    if (p)
        n->owned[n->nowned++] = p;
    return p;
}

static const struct srv_job_task *task_of(const struct srv_job *j, int slot)
{
    return &j->tasks[j->slot[slot]];
}

static void native_free(struct srv_native *n)
{
    for (int i = 0; n->filled && i < n->job->nslots; i++)
        free(n->filled[i]);
    free(n->filled);
    for (int i = 0; i < n->nowned; i++)
        free(n->owned[i]);
    free(n->owned);
    free(n->results);
    free(n->fills);
    free(n->labels);
    free(n->texts);
    free(n->scores);
}

static bool has_labels(enum pcv_task_kind k)
{
    return k == PCV_TASK_CLASSIFY || k == PCV_TASK_FILL_MASK;
}

static int native_room(struct srv_native *n, struct pcv_err *e)
{
    size_t nslots = (size_t)n->job->nslots, fills = 0, labels = 0, width = 0;
    for (int i = 0; i < n->job->nslots; i++) {
        if (n->job->slot[i] == SRV_EMBED)
            continue;
        const struct srv_job_task *t = task_of(n->job, i);
        if (n->info->tasks[t->task].kind == PCV_TASK_FILL_MASK)
            fills += (size_t)t->rows;
        if (has_labels(n->info->tasks[t->task].kind))
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
    n->owned = calloc(nslots * SRV_NATIVE_OWNED + 1, sizeof *n->owned);
    if (n->owned && n->results && n->filled && n->fills && n->labels && n->texts && n->scores)
        return 0;
    return pcv_fail(e, PCV_ENOMEM, "no memory for %zu results", labels);
}

static void classes(struct srv_native *n, int slot, struct wire_result *result)
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

/* Characters of the text before a byte of it: bytes that begin one. */
static int64_t char_offset(const struct wire_media *text, int64_t byte)
{
    int64_t n = 0;
    if (!text || byte < 0 || (uint64_t)byte > text->len)
        return -1;
    for (int64_t i = 0; i < byte; i++)
        n += (((const unsigned char *)text->data)[i] & 0xc0) != 0x80;
    return n;
}

static void masks(struct srv_native *n, int slot, struct wire_result *result)
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
        fills[row].char_offset = char_offset(sent_text(n->request), fills[row].byte_offset);
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

static int answer(struct srv_native *n, int slot, struct pcv_err *e)
{
    struct wire_result *result = &n->results[slot];
    if (n->job->slot[slot] == SRV_EMBED)
        return srv_native_embed(n, &n->request->queries[slot], result, e);
    const struct pcv_task_info *task = &n->info->tasks[task_of(n->job, slot)->task];
    result->task = task->name;
    switch (task->kind) {
    case PCV_TASK_FLOW: return srv_native_flow(n, result, e);
    case PCV_TASK_IMAGE: return srv_native_image(n, task_of(n->job, slot), result, e);
    case PCV_TASK_AUDIO: return srv_native_audio(n, task_of(n->job, slot), result, e);
    case PCV_TASK_FILL_MASK: masks(n, slot, result); return 0;
    default: classes(n, slot, result); return 0;
    }
}

/* The only answer as a file: what the task made, or its numbers. */
static int encode_file(const struct srv_native *n, struct srv_body_made *made, struct pcv_err *e)
{
    const struct wire_result *r = &n->results[0];
    const void *from = r->kind == WIRE_FILES ? (const void *)r->files[0].data : r->numbers;
    size_t len = r->kind == WIRE_FILES ? r->files[0].len : sizeof(float);
    if (!from)
        return pcv_fail(e, PCV_EUNSUPPORTED, "%s makes no file", r->task);
    for (int i = 0; r->kind != WIRE_FILES && i < r->ndim; i++)
        len *= (size_t)r->shape[i];
    char *copy = malloc(len ? len : 1);
    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a reply of %zu bytes", len);
    memcpy(copy, from, len);
    *made = (struct srv_body_made){.body = copy,
                                   .len = len,
                                   .header_len = -1,
                                   .type = r->kind == WIRE_FILES ? r->files[0].type
                                                                 : "application/octet-stream"};
    return 0;
}

static int encode_native(const struct pcv_model *m, const struct wire_request *r,
                         const struct srv_job *j, struct wire_reply *reply,
                         struct srv_body_made *made, struct pcv_err *e)
{
    struct srv_native n = {.model = m, .info = pcv_model_info(m), .request = r, .job = j};
    int code = native_room(&n, e);
    for (int i = 0; !code && i < j->nslots; i++)
        code = answer(&n, i, e);
    reply->nresults = j->nslots;
    reply->results = n.results;
    made->header_len = -1;
    made->type = "application/json";
    if (!code)
        code = r->format == WIRE_JSON ? wire_native_encode(reply, &made->body, &made->len, e)
                                      : encode_file(&n, made, e);
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
                       const struct srv_job *j, const struct wire_reply *reply,
                       struct srv_body_made *ret, struct pcv_err *e)
{
    struct wire_reply full = *reply;
    struct srv_body_made made = {0};
    int code;
    if (r->form == WIRE_OIP) {
        code = encode_oip(m, r, j, &full, &made.body, &made.len, &made.header_len, e);
        made.type = made.header_len >= 0 ? "application/octet-stream" : "application/json";
    } else {
        code = encode_native(m, r, j, &full, &made, e);
    }
    if (!code)
        *ret = made;
    return code;
}

int64_t srv_results_size(const struct pcv_model *m, const struct srv_job *j)
{
    const struct pcv_model_info *info = pcv_model_info(m);
    int64_t n = 0;
    for (int i = 0; i < j->nslots; i++) {
        if (j->slot[i] == SRV_EMBED) {
            n += (int64_t)info->num_latents * info->d_latents;
            continue;
        }
        const struct srv_job_task *t = task_of(j, i);
        n += t->total * info->tasks[t->task].width;
    }
    return n;
}
