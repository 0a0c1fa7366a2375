/* adapt_query.c - what the native form asks: tasks, and whether the question suits the task. */
#include "server/adapt_internal.h"

#include <stdlib.h>
#include <string.h>

/* Whether the native form has an answer for a task; the others answer in tensors. */
static bool has_answer(const struct pcv_task_info *t)
{
    return t->kind == PCV_TASK_CLASSIFY || t->kind == PCV_TASK_FILL_MASK ||
           t->kind == PCV_TASK_FLOW ||
           (t->kind == PCV_TASK_IMAGE && t->frames > 0 && t->frames <= WIRE_MAX_FRAMES &&
            t->width == 3) ||
           (t->kind == PCV_TASK_AUDIO && t->rate);
}

static int no_answer(struct adapt *a, int task)
{
    return pcv_fail(a->e, PCV_EUNKNOWN,
                    "task %s answers in tensors: ask for output %s at /v2/models/.../infer",
                    a->info->tasks[task].name, a->info->tasks[task].output.name);
}

/* Queries that ask the same of a task share an entry. */
static int slot_of(struct srv_job *j, int task)
{
    for (int i = 0; i < j->ntasks; i++)
        if (j->tasks[i].task == task && !j->tasks[i].nframes)
            return i;
    j->tasks[j->ntasks].task = task;
    return j->ntasks++;
}

/* What a query says beside its task must mean something to the task. */
static int check_fields(struct adapt *a, int i, enum pcv_task_kind kind)
{
    const struct wire_query *q = &a->request->queries[i];
    const char *field = q->npoints && kind != PCV_TASK_FLOW     ? "points"
                        : q->nframes && kind != PCV_TASK_IMAGE  ? "frames"
                        : q->pooled && kind != PCV_TASK_LATENTS ? "pool"
                                                                : NULL;
    if (!field)
        return 0;
    pcv_fail(a->e, PCV_EFORMAT, "task %s has no %s", q->task, field);
    return pcv_err_at(a->e, "$.queries[%d].%s", i, field);
}

/* An entry of its own for a query that names frames. */
static int take_frames(struct adapt *a, int i, int task)
{
    struct srv_job *j = a->job;
    const struct wire_query *q = &a->request->queries[i];
    const int frames = a->info->tasks[task].frames;
    for (int k = 0; k < q->nframes; k++)
        if (q->frames[k] >= frames) {
            pcv_fail(a->e, PCV_ERANGE, "frame %d is outside 0..%d", q->frames[k], frames - 1);
            return pcv_err_at(a->e, "$.queries[%d].frames[%d]", i, k);
        }
    j->tasks[j->ntasks] =
        (struct srv_job_task){.task = task, .nframes = q->nframes, .frames = q->frames};
    j->slot[i] = j->ntasks++;
    return 0;
}

/* Every model of texts or pictures has it: its latents. */
static bool is_embed(const struct adapt *a, const char *task)
{
    enum pcv_input_kind kind = a->info->inputs[0].kind;
    return !strcmp(task, "embed") && a->info->ninputs == 1 &&
           (kind == PCV_INPUT_TEXT || kind == PCV_INPUT_IMAGE);
}

static int named_tasks(struct adapt *a)
{
    struct srv_job *j = a->job;
    for (int i = 0; i < j->nslots; i++) {
        if (is_embed(a, a->request->queries[i].task)) {
            if (check_fields(a, i, PCV_TASK_LATENTS))
                return a->e->code;
            j->slot[i] = SRV_EMBED;
            continue;
        }
        int task = pcv_task_find(a->model, a->request->queries[i].task, a->e);
        if (task >= 0 && !has_answer(&a->info->tasks[task]))
            task = no_answer(a, task);
        if (task < 0) {
            a->e->where[0] = 0;
            return pcv_err_at(a->e, "$.queries[%d].task", i);
        }
        if (check_fields(a, i, a->info->tasks[task].kind))
            return a->e->code;
        if (a->request->queries[i].nframes) {
            if (take_frames(a, i, task))
                return a->e->code;
            continue;
        }
        j->slot[i] = slot_of(j, task);
    }
    return 0;
}

/* Formats that a kind of task has beside JSON. */
static bool has_format(const struct pcv_task_info *task, const struct wire_query *q,
                       enum wire_format f)
{
    switch (task->kind) {
    case PCV_TASK_IMAGE:
        return f == WIRE_RAW ||
               (f == WIRE_PNG && (q && q->nframes ? q->nframes : task->frames) == 1);
    case PCV_TASK_AUDIO: return f == WIRE_RAW || f == WIRE_WAV;
    case PCV_TASK_FLOW:
        return f == WIRE_RAW || (!(q && q->npoints) && (f == WIRE_PNG || f == WIRE_FLO));
    default: return false;
    }
}

/* A file holds one answer, of a task that has such files. */
static int check_format(struct adapt *a)
{
    const struct wire_request *r = a->request;
    const struct srv_job *j = a->job;
    if (r->format == WIRE_JSON)
        return 0;
    if (j->nslots != 1) {
        pcv_fail(a->e, PCV_EFORMAT, "a file holds one answer, and %d tasks are asked", j->nslots);
        return pcv_err_at(a->e, "format");
    }
    if (j->slot[0] == SRV_EMBED && r->format == WIRE_RAW)
        return 0;
    const struct pcv_task_info *task =
        j->slot[0] == SRV_EMBED ? NULL : &a->info->tasks[j->tasks[j->slot[0]].task];
    if (task && has_format(task, r->nqueries ? &r->queries[0] : NULL, r->format))
        return 0;
    pcv_fail(a->e, PCV_EFORMAT, "task %s has no such answer in this format",
             task ? task->name : "embed");
    return pcv_err_at(a->e, "format");
}

/* Every query names a task; without any, all tasks that have an answer. */
int srv_adapt_native_tasks(struct adapt *a)
{
    const struct wire_request *r = a->request;
    struct srv_job *j = a->job;
    j->nslots = r->nqueries;
    j->slot = calloc((size_t)(r->nqueries + a->info->ntasks) + 1, sizeof *j->slot);
    if (!j->slot)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory");
    if (r->nqueries && named_tasks(a))
        return a->e->code;
    for (int i = 0; !r->nqueries && i < a->info->ntasks; i++)
        if (has_answer(&a->info->tasks[i]))
            j->slot[j->nslots++] = slot_of(j, i);
    return j->nslots ? check_format(a) : no_answer(a, 0);
}
