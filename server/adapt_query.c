/* adapt_query.c - which answers a request wants: what its queries name, or all that its inputs
 * have; and whether a question suits the task. */
#include "server/adapt_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what tasks are -----------------------------------------------------------------------------
 */

bool srv_adapt_takes(const struct pcv_task_info *t, int which)
{
    return t->inputs >> which & 1;
}

bool srv_adapt_is_picture(const struct pcv_task_info *t)
{
    return t->kind == PCV_TASK_IMAGE && t->frames > 0 && t->frames <= WIRE_MAX_FRAMES &&
           t->height > 0 && t->width_px > 0 && (t->width == 3 || t->width == 1);
}

/* The mean of the latents as a task of the model: what every model has. */
static bool is_embed(const struct pcv_task_info *t)
{
    return t->kind == PCV_TASK_EMBED && t->pooled;
}

static const struct pcv_input *input_of(const struct adapt *a, int item)
{
    return a->p->kept ? pcv_latents_input(a->p->kept) : a->job->of[item].input;
}

static int which_of(const struct adapt *a, int item)
{
    return a->p->kept ? pcv_latents_which(a->p->kept) : pcv_input_which(a->job->of[item].input);
}

/* Output queries that only the tensors of /v2 can bring. */
static bool is_callers(const struct adapt *a, int task, int item)
{
    const struct pcv_input *in = input_of(a, item);
    return a->info->tasks[task].kind == PCV_TASK_TENSOR && in &&
           pcv_query_rows_all(a->model, task, in) == 0;
}

static int no_answer(struct adapt *a, int task)
{
    return pcv_fail(a->e, PCV_EUNKNOWN,
                    "task %s answers in tensors: ask for output %s at /v2/models/.../infer",
                    a->info->tasks[task].name, a->info->tasks[task].output.name);
}

/* ---- places -------------------------------------------------------------------------------------
 */

int srv_adapt_at_query(struct adapt *a, int query, const char *field)
{
    if (query < 0)
        return pcv_err_at(a->e, "$.queries");
    return pcv_err_at(a->e, "$.queries[%d]%s%s", query, field ? "." : "", field ? field : "");
}

struct srv_answer *srv_adapt_answer(struct adapt *a)
{
    struct srv_job *j = a->job;
    if (j->nanswers == a->room) {
        int room = a->room ? 2 * a->room : 8;
        struct srv_answer *more = realloc(j->answers, (size_t)room * sizeof *more);
        if (!more) {
            pcv_fail(a->e, PCV_ENOMEM, "no memory for the answers");
            return NULL;
        }
        j->answers = more;
        a->room = room;
    }
    struct srv_answer *answer = &j->answers[j->nanswers];
    *answer = (struct srv_answer){.query = -1, .from = j->nanswers++};
    return answer;
}

/* ---- queries ------------------------------------------------------------------------------------
 */

/* Index of the task that a query names, or one that every model has. */
static int named_task(struct adapt *a, int i, int *task)
{
    const char *name = a->request->queries[i].task;
    *task = pcv_task_find(a->model, name, a->e);
    if (*task >= 0) {
        if (is_embed(&a->info->tasks[*task]))
            *task = SRV_EMBED;
        return 0;
    }
    if (strcmp(name, "embed") && strcmp(name, "attention")) {
        a->e->where[0] = 0;
        return srv_adapt_at_query(a, i, "task");
    }
    *task = strcmp(name, "embed") ? SRV_ATTENTION : SRV_EMBED;
    return 0;
}

static const char *name_of(const struct adapt *a, int i, int task)
{
    if (task >= 0)
        return a->info->tasks[task].name;
    for (int t = 0; i >= 0 && task == SRV_EMBED && t < a->info->ntasks; t++)
        if (!strcmp(a->info->tasks[t].name, a->request->queries[i].task))
            return a->info->tasks[t].name;
    return task == SRV_EMBED ? "embed" : "attention";
}

/* Whether a task has one answer, without positions to choose from. */
static bool is_single(const struct adapt *a, int task)
{
    if (task == SRV_EMBED || srv_adapt_is_flow(a))
        return true;
    enum pcv_task_kind kind = task < 0 ? PCV_TASK_LATENTS : a->info->tasks[task].kind;
    return kind == PCV_TASK_CLASSIFY || kind == PCV_TASK_REGRESSION || kind == PCV_TASK_EMBED;
}

/* The first field of a query that means nothing to its task, or NULL. */
static const char *misfit(const struct adapt *a, const struct wire_query *q, int task)
{
    const struct pcv_task_info *t = task >= 0 ? &a->info->tasks[task] : NULL;
    const bool picture = t && srv_adapt_is_picture(t);
    if (q->npoints && !srv_adapt_is_flow(a))
        return "points";
    if (q->nframes && !picture)
        return "frames";
    if (q->has_region && !picture)
        return "region";
    if (q->pooled && task != SRV_EMBED)
        return "pool";
    if (q->nclasses && !(t && t->kind == PCV_TASK_CLASSIFY))
        return "classes";
    return q->nrows && is_single(a, task) ? "positions" : NULL;
}

/* What a query says beside its task must mean something to the task. */
static int check_fields(struct adapt *a, int i, int task)
{
    const struct wire_query *q = &a->request->queries[i];
    const char *field = misfit(a, q, task);
    if (field) {
        pcv_fail(a->e, PCV_EFORMAT, "task %s has no %s", q->task, field);
        return srv_adapt_at_query(a, i, field);
    }
    if (!q->nrows || (!q->nframes && !q->has_region))
        return 0;
    pcv_fail(a->e, PCV_EFORMAT, "positions name the pixels: frames and region cannot as well");
    return srv_adapt_at_query(a, i, "positions");
}

/* Two queries of which one computation answers both. */
static bool same_rows(const struct wire_query *p, const struct wire_query *q)
{
    return !p->nrows && !q->nrows && !p->nframes && !q->nframes && !p->has_region && !q->has_region;
}

/* An earlier answer that computes the same, or this one. */
static void share(struct adapt *a, struct srv_answer *answer)
{
    const struct wire_query *all = a->request->queries;
    for (int i = 0; i < a->job->nanswers - 1; i++) {
        const struct srv_answer *other = &a->job->answers[i];
        if (other->item == answer->item && other->task == answer->task && answer->task >= 0 &&
            same_rows(&all[other->query], &all[answer->query])) {
            answer->from = other->from;
            return;
        }
    }
}

static int add(struct adapt *a, int item, int query, int task)
{
    struct srv_answer *answer = srv_adapt_answer(a);
    if (!answer)
        return a->e->code;
    answer->item = item;
    answer->query = query;
    answer->task = task;
    answer->name = name_of(a, query, task);
    if (query >= 0)
        share(a, answer);
    return 0;
}

/* Names of the inputs that a task has an answer for. */
static const char *inputs_of(const struct adapt *a, int task, char *buf, size_t size)
{
    size_t len = 0;
    *buf = 0;
    for (int i = 0; i < a->info->ninputs && len < size; i++)
        if (srv_adapt_takes(&a->info->tasks[task], i))
            len += (size_t)snprintf(buf + len, size - len, "%s%.40s", len ? ", " : "",
                                    a->info->inputs[i].name);
    return buf;
}

/* Whether an item has an answer to a query; why not stands in e. */
static bool can_answer(struct adapt *a, int item, int query, int task)
{
    char names[160];
    const int which = which_of(a, item);
    if (task >= 0 && !srv_adapt_takes(&a->info->tasks[task], which)) {
        pcv_fail(a->e, PCV_EFORMAT, "%s answers %s, not %s", a->info->tasks[task].name,
                 inputs_of(a, task, names, sizeof names), a->info->inputs[which].name);
        srv_adapt_at_query(a, query, "task");
        return false;
    }
    if (task >= 0 && is_callers(a, task, item)) {
        no_answer(a, task);
        srv_adapt_at_query(a, query, "task");
        return false;
    }
    return true;
}

/* A query's answers, of the inputs that have one. */
static int ask(struct adapt *a, int query, int task)
{
    const struct wire_query *q = &a->request->queries[query];
    const int before = a->job->nanswers;
    if (a->request->batch && q->input >= a->job->nitems) {
        pcv_fail(a->e, PCV_ERANGE, "there is no input %d; %d were sent", q->input, a->job->nitems);
        return srv_adapt_at_query(a, query, "input");
    }
    for (int i = 0; i < a->job->nitems; i++) {
        bool named = a->request->batch && q->input == i;
        if (a->request->batch && q->input >= 0 && !named)
            continue;
        if (can_answer(a, i, query, task)) {
            if (add(a, i, query, task))
                return a->e->code;
        } else if (named) {
            return a->e->code;
        }
    }
    return a->job->nanswers > before ? 0 : a->e->code;
}

/* Item by item, each in the order of its queries: as the reply has them. */
static int by_item(const void *p, const void *q)
{
    const struct srv_answer *a = p, *b = q;
    return a->item != b->item ? (a->item > b->item) - (a->item < b->item)
                              : (a->query > b->query) - (a->query < b->query);
}

static int named_answers(struct adapt *a)
{
    for (int i = 0; i < a->request->nqueries; i++) {
        int task;
        if (named_task(a, i, &task) || check_fields(a, i, task) || ask(a, i, task))
            return a->e->code;
    }
    struct srv_job *j = a->job;
    int *at = calloc((size_t)j->nanswers + 1, sizeof *at); /* where each has gone */
    if (!at)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for the answers");
    for (int i = 0; i < j->nanswers; i++)
        j->answers[i].nframes = i; /* where it was */
    qsort(j->answers, (size_t)j->nanswers, sizeof *j->answers, by_item);
    for (int i = 0; i < j->nanswers; i++)
        at[j->answers[i].nframes] = i;
    for (int i = 0; i < j->nanswers; i++) {
        j->answers[i].from = at[j->answers[i].from];
        j->answers[i].nframes = 0;
    }
    free(at);
    return 0;
}

/* ---- without queries ----------------------------------------------------------------------------
 */

/* Whether a person who asks nothing in particular wants to know it. */
static bool is_wanted(const struct adapt *a, int item, int task)
{
    const struct pcv_task_info *t = &a->info->tasks[task];
    const struct pcv_input *in = input_of(a, item);
    if (!srv_adapt_takes(t, which_of(a, item)) || t->kind == PCV_TASK_EMBED)
        return false;
    if (t->kind == PCV_TASK_FILL_MASK)
        return in && pcv_query_rows_default(a->model, task, in, NULL, 0) > 0;
    return !is_callers(a, task, item);
}

/* Nothing of the usual: masks that are missing, an embedding, or tensors of the caller. */
static int last_resort(struct adapt *a, int item)
{
    int callers = -1;
    for (int pass = 0; pass < 2; pass++)
        for (int t = 0; t < a->info->ntasks; t++) {
            const struct pcv_task_info *task = &a->info->tasks[t];
            if (!srv_adapt_takes(task, which_of(a, item)))
                continue;
            if (is_callers(a, t, item))
                callers = t;
            else if (task->kind == (pass ? PCV_TASK_EMBED : PCV_TASK_FILL_MASK))
                return add(a, item, -1, is_embed(task) ? SRV_EMBED : t);
        }
    if (callers < 0)
        return add(a, item, -1, SRV_EMBED);
    return no_answer(a, callers);
}

static int all_answers(struct adapt *a)
{
    for (int i = 0; i < a->job->nitems; i++) {
        const int before = a->job->nanswers;
        for (int t = 0; t < a->info->ntasks; t++)
            if (is_wanted(a, i, t) && add(a, i, -1, t))
                return a->e->code;
        if (a->job->nanswers == before && last_resort(a, i))
            return a->e->code;
    }
    return 0;
}

/* ---- formats ------------------------------------------------------------------------------------
 */

/* Formats that an answer has beside JSON. */
static bool has_format(const struct adapt *a, const struct srv_answer *answer, enum wire_format f)
{
    const struct wire_query *q = answer->query < 0 ? NULL : &a->request->queries[answer->query];
    int sides[PCV_MAX_SIDES];
    if (answer->task == SRV_EMBED)
        return f == WIRE_RAW;
    if (answer->task == SRV_ATTENTION)
        return f == WIRE_RAW || (f == WIRE_PNG && q && q->nrows == 1 && input_of(a, answer->item) &&
                                 pcv_input_sides(input_of(a, answer->item), sides) == 2);
    const struct pcv_task_info *task = &a->info->tasks[answer->task];
    if (srv_adapt_is_flow(a))
        return f == WIRE_RAW || (!(q && q->npoints) && (f == WIRE_PNG || f == WIRE_FLO));
    if (srv_adapt_is_picture(task) && !(q && q->nrows))
        return f == WIRE_RAW ||
               (f == WIRE_PNG && (q && q->nframes ? q->nframes : task->frames) == 1);
    if (task->kind == PCV_TASK_AUDIO && task->rate && !(q && q->nrows))
        return f == WIRE_RAW || f == WIRE_WAV;
    return f == WIRE_RAW && task->kind != PCV_TASK_CLASSIFY && task->kind != PCV_TASK_FILL_MASK;
}

/* A file holds one answer, of a task that has such files. */
static int check_format(struct adapt *a)
{
    const struct wire_request *r = a->request;
    const struct srv_job *j = a->job;
    if (r->format == WIRE_JSON)
        return 0;
    if (r->stream) {
        pcv_fail(a->e, PCV_EFORMAT, "a stream is lines of JSON, not a file");
        return pcv_err_at(a->e, "format");
    }
    if (j->nanswers != 1) {
        pcv_fail(a->e, PCV_EFORMAT, "a file holds one answer, and %d are asked", j->nanswers);
        return pcv_err_at(a->e, "format");
    }
    if (has_format(a, &j->answers[0], r->format))
        return 0;
    pcv_fail(a->e, PCV_EFORMAT, "task %s has no such answer in this format", j->answers[0].name);
    return pcv_err_at(a->e, "format");
}

/* A pair of pictures has one answer. */
int srv_adapt_flow_query(struct adapt *a)
{
    int task = 0;
    for (int i = 0; i < a->request->nqueries; i++) {
        if (named_task(a, i, &task))
            return a->e->code;
        if (task < 0) {
            pcv_fail(a->e, PCV_EFORMAT, "pairs of pictures have no %s",
                     a->request->queries[i].task);
            return srv_adapt_at_query(a, i, "task");
        }
        if (check_fields(a, i, task))
            return a->e->code;
    }
    if (a->request->nqueries > 1 && a->request->format != WIRE_JSON) {
        pcv_fail(a->e, PCV_EFORMAT, "a file holds one answer, and %d are asked",
                 a->request->nqueries);
        return pcv_err_at(a->e, "format");
    }
    if (a->request->nqueries > 1) {
        pcv_fail(a->e, PCV_EFORMAT, "flow is asked once; name all points in one query");
        return srv_adapt_at_query(a, 1, NULL);
    }
    struct srv_answer *answer = srv_adapt_answer(a);
    if (!answer)
        return a->e->code;
    answer->task = task;
    answer->name = a->info->tasks[task].name;
    answer->query = a->request->nqueries - 1;
    return check_format(a);
}

int srv_adapt_native(struct adapt *a)
{
    int code = a->request->nqueries ? named_answers(a) : all_answers(a);
    return code ? code : check_format(a);
}

/* ---- the Open Inference Protocol ----------------------------------------------------------------
 */

/* The task whose output has this name. */
static int output_task(struct adapt *a, int i)
{
    const char *name = a->request->outputs[i].name;
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

static int add_output(struct adapt *a, int i, int task)
{
    struct srv_answer *answer = srv_adapt_answer(a);
    if (!answer)
        return a->e->code;
    answer->item = -1;
    answer->query = i;
    answer->task = task;
    answer->name = a->info->tasks[task].name;
    for (int k = a->job->nanswers - 2; k >= 0; k--)
        if (a->job->answers[k].task == task)
            answer->from = a->job->answers[k].from;
    return 0;
}

/* Outputs that are named, or those of all tasks that have an answer for the inputs. */
int srv_adapt_oip(struct adapt *a)
{
    const struct wire_request *r = a->request;
    const int which = pcv_input_which(a->job->of[0].input);
    for (int i = 0; i < r->noutputs; i++) {
        int task = output_task(a, i);
        if (task < 0)
            return task;
        if (!srv_adapt_takes(&a->info->tasks[task], which)) {
            char names[160];
            pcv_fail(a->e, PCV_EFORMAT, "output %s is of %s, not of %s", r->outputs[i].name,
                     inputs_of(a, task, names, sizeof names), a->info->inputs[which].name);
            return pcv_err_at(a->e, "$.outputs[%d].name", i);
        }
        if (add_output(a, i, task))
            return a->e->code;
    }
    for (int t = 0; !r->noutputs && t < a->info->ntasks; t++)
        if (srv_adapt_takes(&a->info->tasks[t], which) && add_output(a, -1, t))
            return a->e->code;
    return 0;
}
