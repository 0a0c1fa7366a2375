/* adapt_rows.c - which output queries an answer has: positions, pixels, latents, or what a person
 * means. */
#include "server/adapt_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LATENTS = 8 };

static const struct pcv_input *input_of(const struct adapt *a, int item)
{
    return a->p->kept ? pcv_latents_input(a->p->kept) : a->job->of[item].input;
}

static int32_t *new_rows(struct adapt *a, struct srv_answer *answer, double n)
{
    if (n > INT_MAX) {
        pcv_fail(a->e, PCV_ELIMIT, "%.0f output queries at once are too many", n);
        srv_adapt_at_query(a, answer->query, NULL);
        return NULL;
    }
    answer->rows = (int64_t)n;
    answer->which = malloc((n > 0 ? (size_t)n : 1) * sizeof *answer->which);
    if (!answer->which)
        pcv_fail(a->e, PCV_ENOMEM, "no memory for %.0f output queries", n);
    return answer->which;
}

/* The rows that a query names, each below `most`. */
static int named_rows(struct adapt *a, struct srv_answer *answer, int64_t most, const char *field)
{
    const struct wire_query *q = &a->request->queries[answer->query];
    for (int i = 0; i < q->nrows; i++)
        if (q->rows[i] >= most) {
            pcv_fail(a->e, PCV_ERANGE, "%d is outside 0..%lld", q->rows[i], (long long)most - 1);
            return pcv_err_at(a->e, "$.queries[%d].%s[%d]", answer->query, field, i);
        }
    if (!new_rows(a, answer, q->nrows))
        return a->e->code;
    memcpy(answer->which, q->rows, (size_t)q->nrows * sizeof *q->rows);
    return 0;
}

/* ---- pixels ------------------------------------------------------------------------------------
 */

static int check_region(struct adapt *a, struct srv_answer *answer, const struct pcv_task_info *t)
{
    const struct wire_query *q = answer->query < 0 ? NULL : &a->request->queries[answer->query];
    answer->region[2] = t->width_px;
    answer->region[3] = t->height;
    if (!q || !q->has_region)
        return 0;
    const int32_t *r = q->region;
    if (r[0] < 0 || r[1] < 0 || r[2] < 1 || r[3] < 1 || r[2] > t->width_px || r[3] > t->height ||
        r[0] > t->width_px - r[2] || r[1] > t->height - r[3]) {
        pcv_fail(a->e, PCV_ERANGE, "[%d, %d, %d, %d] is not within %d x %d pixels", r[0], r[1],
                 r[2], r[3], t->width_px, t->height);
        return srv_adapt_at_query(a, answer->query, "region");
    }
    memcpy(answer->region, r, sizeof answer->region);
    return 0;
}

static int check_frames(struct adapt *a, struct srv_answer *answer, const struct pcv_task_info *t)
{
    const struct wire_query *q = answer->query < 0 ? NULL : &a->request->queries[answer->query];
    answer->nframes = q && q->has_region ? 1 : t->frames; /* of a region the first */
    for (int i = 0; q && i < q->nframes; i++)
        if (q->frames[i] >= t->frames) {
            pcv_fail(a->e, PCV_ERANGE, "frame %d is outside 0..%d", q->frames[i], t->frames - 1);
            return pcv_err_at(a->e, "$.queries[%d].frames[%d]", answer->query, i);
        }
    if (q && q->nframes) {
        answer->nframes = q->nframes;
        answer->frames = q->frames;
    }
    return 0;
}

/* The region's pixels of each frame. */
static int pixel_rows(struct adapt *a, struct srv_answer *answer)
{
    const struct pcv_task_info *t = &a->info->tasks[answer->task];
    if (check_region(a, answer, t) || check_frames(a, answer, t))
        return a->e->code;
    const int *r = answer->region;
    const double n = (double)answer->nframes * r[2] * r[3];
    if (!answer->frames && answer->nframes == t->frames && r[2] == t->width_px &&
        r[3] == t->height) {
        answer->rows = (int64_t)n; /* all in order */
        return 0;
    }
    if (!new_rows(a, answer, n))
        return a->e->code;
    int32_t *to = answer->which;
    for (int f = 0; f < answer->nframes; f++)
        for (int y = r[1]; y < r[1] + r[3]; y++)
            for (int x = r[0]; x < r[0] + r[2]; x++) {
                int frame = answer->frames ? answer->frames[f] : f;
                *to++ = (frame * t->height + y) * t->width_px + x;
            }
    return 0;
}

/* ---- the others --------------------------------------------------------------------------------
 */

/* Positions that hold a mask. */
static int mask_rows(struct adapt *a, struct srv_answer *answer, const struct pcv_input *in)
{
    if (!in) {
        pcv_fail(a->e, PCV_EMISSING, "the text is not kept with its latents: name the positions");
        return srv_adapt_at_query(a, answer->query, "positions");
    }
    const int n = pcv_query_rows_default(a->model, answer->task, in, NULL, 0);
    answer->rows = pcv_query_rows_all(a->model, answer->task, in);
    if (n == answer->rows)
        return 0;
    if (n == 0) {
        pcv_fail(a->e, PCV_EMISSING, "there is no [MASK] to fill in the text");
        return answer->item < 0 || !a->request->batch
                   ? pcv_err_at(a->e, "$.inputs")
                   : pcv_err_at(a->e, "$.inputs[%d]", answer->item);
    }
    if (!new_rows(a, answer, n))
        return a->e->code;
    pcv_query_rows_default(a->model, answer->task, in, answer->which, n);
    return 0;
}

/* The classes whose scores are wanted, by their labels. */
static int named_classes(struct adapt *a, struct srv_answer *answer)
{
    const struct wire_query *q = &a->request->queries[answer->query];
    const struct pcv_task_info *t = &a->info->tasks[answer->task];
    answer->classes = calloc((size_t)q->nclasses + 1, sizeof *answer->classes);
    if (!answer->classes)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d classes", q->nclasses);
    for (int i = 0; i < q->nclasses; i++) {
        int k = 0;
        while (t->labels && k < t->width && strcmp(t->labels[k], q->classes[i]) != 0)
            k++;
        if (!t->labels || k == t->width) {
            pcv_fail(a->e, PCV_EUNKNOWN, "task %s has no class \"%.64s\"", t->name, q->classes[i]);
            return pcv_err_at(a->e, "$.queries[%d].classes[%d]", answer->query, i);
        }
        answer->classes[i] = k;
    }
    return 0;
}

/* Latents whose attention is asked: those named, or the first few. */
static int attention_rows(struct adapt *a, struct srv_answer *answer)
{
    const struct wire_query *q = &a->request->queries[answer->query];
    const struct pcv_input *in = input_of(a, answer->item);
    struct pcv_attention *attention = &a->job->of[answer->item].attention;
    if (!in) {
        pcv_fail(a->e, PCV_EMISSING,
                 "attention reads the input, which is not kept with these "
                 "latents");
        return srv_adapt_at_query(a, answer->query, "task");
    }
    if (attention->n) {
        pcv_fail(a->e, PCV_EFORMAT, "attention is asked once; name all latents in one query");
        return srv_adapt_at_query(a, answer->query, NULL);
    }
    answer->width = pcv_input_tokens(in);
    if (q->nrows && named_rows(a, answer, a->info->num_latents, "latents"))
        return a->e->code;
    if (!q->nrows) {
        int n = a->info->num_latents < DEFAULT_LATENTS ? a->info->num_latents : DEFAULT_LATENTS;
        if (!new_rows(a, answer, n))
            return a->e->code;
        for (int i = 0; i < n; i++)
            answer->which[i] = i;
    }
    attention->n = (int)answer->rows;
    return 0;
}

/* Rows that the request's tensors name, else all; the same for every item. */
static int oip_rows(struct adapt *a, struct srv_answer *answer)
{
    const struct wire_request *r = a->request;
    int n = 0;
    if (pcv_query_rows_from_tensors(a->model, answer->task, r->tensors, r->ntensors, &answer->which,
                                    &n, a->e))
        return srv_adapt_at_tensor(a);
    answer->rows =
        answer->which ? n : pcv_query_rows_all(a->model, answer->task, a->job->of[0].input);
    for (int i = 1; i < a->job->nitems; i++) {
        const struct pcv_input *in = a->job->of[i].input;
        if (pcv_input_which(in) != pcv_input_which(a->job->of[0].input))
            return pcv_fail(a->e, PCV_ESHAPE, "item %d is another kind of input", i);
        if (!answer->which && pcv_query_rows_all(a->model, answer->task, in) != answer->rows)
            return pcv_fail(a->e, PCV_ESHAPE, "item %d has another number of output queries", i);
    }
    return 0;
}

static int native_rows(struct adapt *a, struct srv_answer *answer)
{
    const struct wire_query *q = answer->query < 0 ? NULL : &a->request->queries[answer->query];
    const struct pcv_task_info *t = &a->info->tasks[answer->task];
    const struct pcv_input *in = input_of(a, answer->item);
    if (q && q->nclasses && named_classes(a, answer))
        return a->e->code;
    if (q && q->nrows)
        return named_rows(a, answer, pcv_query_rows_all(a->model, answer->task, in), "positions");
    if (t->kind == PCV_TASK_FILL_MASK)
        return mask_rows(a, answer, in);
    if (srv_adapt_is_picture(t))
        return pixel_rows(a, answer);
    answer->rows = pcv_query_rows_all(a->model, answer->task, in);
    return 0;
}

int srv_adapt_rows(struct adapt *a, struct srv_answer *answer)
{
    if (answer->task == SRV_ATTENTION)
        return attention_rows(a, answer);
    if (answer->task == SRV_EMBED) {
        answer->width = a->info->d_latents;
        return 0;
    }
    answer->width = a->info->tasks[answer->task].width;
    return a->request->form == WIRE_OIP ? oip_rows(a, answer) : native_rows(a, answer);
}
