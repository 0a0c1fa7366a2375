#include "server/results_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a reply owns --------------------------------------------------------------------------
 */

void *srv_native_own(struct srv_native *n, void *p)
{
    if (n->nowned == n->room) {
        int room = n->room ? 2 * n->room : 16;
        void **more = realloc(n->owned, (size_t)room * sizeof *more);
        if (!more) {
            free(p);
            return NULL;
        }
        n->owned = more;
        n->room = room;
    }
    if (p)
        n->owned[n->nowned++] = p;
    return p;
}

void *srv_native_new(struct srv_native *n, size_t count, size_t size)
{
    return srv_native_own(n, calloc(count ? count : 1, size));
}

static void native_free(struct srv_native *n)
{
    for (int i = 0; i < n->nowned; i++)
        free(n->owned[i]);
    free(n->owned);
}

int srv_native_no_memory(struct pcv_err *e)
{
    return pcv_fail(e, PCV_ENOMEM, "no memory for the answer");
}

const struct wire_query *srv_native_query(const struct srv_native *n, const struct srv_answer *a)
{
    return a->query < 0 ? NULL : &n->request->queries[a->query];
}

const float *srv_native_numbers(const struct srv_native *n, const struct srv_answer *a)
{
    return n->job->answers[a->from].numbers;
}

void srv_native_rows(struct wire_result *r, const float *numbers, int64_t rows, int64_t width)
{
    r->kind = WIRE_TENSOR;
    r->numbers = numbers;
    r->ndim = 2;
    r->shape[0] = rows;
    r->shape[1] = width;
}

int srv_native_file(struct srv_native *n, struct wire_result *r, int code, const char *type,
                    void *data, size_t len, struct pcv_err *e)
{
    if (code)
        return code;
    struct wire_file *file = srv_native_new(n, 1, sizeof *file);
    if (!srv_native_own(n, data) || !file)
        return srv_native_no_memory(e);
    *file = (struct wire_file){.index = -1, .type = type, .data = data, .len = len};
    r->kind = WIRE_FILES;
    r->nfiles = 1;
    r->files = file;
    return 0;
}

/* ---- native answers ----------------------------------------------------------------------------
 */

/* A learned query's numbers: an embedding like the others. */
static int vector(struct srv_native *n, const struct srv_answer *a, struct wire_result *r)
{
    srv_native_rows(r, srv_native_numbers(n, a), a->rows, a->width);
    r->kind = n->request->format == WIRE_RAW ? WIRE_TENSOR : WIRE_VECTORS;
    if (a->rows == 1) {
        r->ndim = 1;
        r->shape[0] = a->width;
    }
    return 0;
}

static int answer(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                  struct pcv_err *e)
{
    r->task = a->name;
    if (a->task == SRV_EMBED)
        return srv_native_embed(n, a, r, e);
    if (a->task == SRV_ATTENTION)
        return srv_native_attention(n, a, r, e);
    if (n->job->flow)
        return srv_native_flow(n, a, r, e);
    switch (n->info->tasks[a->task].kind) {
    case PCV_TASK_CLASSIFY: return srv_native_classes(n, a, r, e);
    case PCV_TASK_REGRESSION: return srv_native_values(n, a, r, e);
    case PCV_TASK_FILL_MASK: return srv_native_fills(n, a, r, e);
    case PCV_TASK_IMAGE: return srv_native_image(n, a, r, e);
    case PCV_TASK_AUDIO: return srv_native_audio(n, a, r, e);
    case PCV_TASK_EMBED: return vector(n, a, r);
    default: srv_native_rows(r, srv_native_numbers(n, a), a->rows, a->width); return 0;
    }
}

/* The only answer as a file: what the task made, or its numbers. */
static int encode_file(const struct wire_result *r, struct srv_body_made *made, struct pcv_err *e)
{
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

/* How many results each item has. A pair of pictures is one item, of many tiles. */
static int *counts_of(struct srv_native *n, int nitems)
{
    int *counts = srv_native_new(n, (size_t)nitems, sizeof *counts);
    for (int i = 0; counts && i < n->job->nanswers; i++)
        counts[n->job->flow ? 0 : n->job->answers[i].item]++;
    return counts;
}

static int encode_native(const struct pcv_model *m, const struct wire_request *r,
                         const struct srv_job *j, struct wire_reply *reply,
                         struct srv_body_made *made, struct pcv_err *e)
{
    struct srv_native n = {.model = m, .info = pcv_model_info(m), .request = r, .job = j};
    struct wire_result *results = srv_native_new(&n, (size_t)j->nanswers, sizeof *results);
    reply->batch = r->batch;
    reply->nitems = j->flow ? 1 : j->nitems;
    reply->counts = counts_of(&n, reply->nitems);
    int code = results && reply->counts ? 0 : srv_native_no_memory(e);
    for (int i = 0; !code && i < j->nanswers; i++)
        code = answer(&n, &j->answers[i], &results[i], e);
    reply->nresults = j->nanswers;
    reply->results = results;
    made->header_len = -1;
    made->type = "application/json";
    if (!code)
        code = r->format == WIRE_JSON ? wire_native_encode(reply, &made->body, &made->len, e)
                                      : encode_file(&results[0], made, e);
    native_free(&n);
    return code;
}

/* ---- lines of a stream -------------------------------------------------------------------------
 */

/* line is taken. */
static int append(struct srv_body_made *made, char *line, size_t len, struct pcv_err *e)
{
    char *more = made->body ? realloc(made->body, made->len + len) : line;
    if (!more) {
        free(line);
        return pcv_fail(e, PCV_ENOMEM, "no memory for a line of %zu bytes", len);
    }
    if (made->body) {
        memcpy(more + made->len, line, len);
        free(line);
    }
    made->body = more;
    made->len += len;
    return 0;
}

int srv_results_whole(const struct pcv_model *m, const struct wire_request *r,
                      const struct srv_job *j, struct srv_body_made *ret, struct pcv_err *e)
{
    struct srv_body_made made = {.header_len = -1};
    int code = 0;
    for (int i = 0; !code && i < j->nanswers; i++) {
        struct srv_native n = {.model = m, .info = pcv_model_info(m), .request = r, .job = j};
        struct wire_result result = {0};
        char *line;
        size_t len;
        if (j->answers[i].pieces)
            continue;
        code = answer(&n, &j->answers[i], &result, e);
        if (!code)
            code = wire_result_line_encode(&result, r->batch ? j->answers[i].item : -1, &line, &len,
                                           e);
        if (!code)
            code = append(&made, line, len, e);
        native_free(&n);
    }
    if (code)
        free(made.body);
    else
        *ret = made;
    return code;
}

int srv_results_piece(const struct pcv_model *m, const struct wire_request *r,
                      const struct srv_job *j, struct srv_body_made *ret, struct pcv_err *e)
{
    const struct srv_answer *a = &j->answers[j->piece.answer];
    const struct pcv_task_info *t = &pcv_model_info(m)->tasks[a->task];
    if (t->kind == PCV_TASK_IMAGE)
        srv_native_colors(t, a->numbers, j->piece.n, a->numbers);
    struct wire_chunk c = {.input = r->batch ? a->item : -1,
                           .task = a->name,
                           .first = j->piece.first,
                           .n = j->piece.n,
                           .width = (int)a->width,
                           .numbers = a->numbers};
    struct srv_body_made made = {.header_len = -1};
    int code = wire_chunk_encode(&c, &made.body, &made.len, e);
    if (!code)
        *ret = made;
    return code;
}

/* ---- the Open Inference Protocol ----------------------------------------------------------------
 */

/* A task's numbers in the shape that its upstream gives them: the batch, then the dimensions of the
 * specification, of which an open one is as long as there are numbers for. */
static struct pcv_tensor output_tensor(const struct pcv_task_info *task, const struct srv_job *j,
                                       const struct srv_answer *a)
{
    const struct pcv_tensor_spec *spec = &task->output;
    int64_t each = a->rows * a->width, fixed = 1;
    int open = 0;
    struct pcv_tensor out = {.name = spec->name,
                             .dtype = PCV_F32,
                             .ndim = spec->ndim,
                             .data = j->answers[a->from].numbers};
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
        out.shape[1] = a->rows;
        out.shape[2] = a->width;
    }
    return out;
}

static int encode_oip(const struct pcv_model *m, const struct wire_request *r,
                      const struct srv_job *j, struct wire_reply *reply, char **body, size_t *len,
                      int64_t *header_len, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(m);
    struct wire_out_tensor *outputs = calloc((size_t)j->nanswers + 1, sizeof *outputs);
    if (!outputs)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    for (int i = 0; i < j->nanswers; i++) {
        const struct pcv_task_info *task = &info->tasks[j->answers[i].task];
        outputs[i].t = output_tensor(task, j, &j->answers[i]);
        outputs[i].binary = r->raw || (r->noutputs ? r->outputs[i].binary : r->binary_default);
        outputs[i].classification = r->noutputs ? r->outputs[i].classification : 0;
        outputs[i].labels = task->labels;
    }
    reply->noutputs = j->nanswers;
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
    for (int i = 0; i < j->nanswers; i++) {
        const struct srv_answer *a = &j->answers[i];
        int64_t rows = a->pieces && a->rows > j->stream_rows ? j->stream_rows : a->rows;
        n += a->task == SRV_EMBED       ? (int64_t)info->num_latents * info->d_latents
             : a->item < 0 && !j->flow  ? rows * a->width * j->nitems
             : a->task == SRV_ATTENTION ? rows * a->width * 16 /* pictures are packed */
                                        : rows * a->width;
    }
    return n;
}
