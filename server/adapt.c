#include "server/adapt_internal.h"

#include "server/store.h"

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
    for (int i = 0; j->of && i < j->nitems; i++) {
        srv_kept_release(j->of[i].kept);
        pcv_input_free(j->of[i].input);
        free(j->of[i].latents);
    }
    for (int i = 0; i < j->nanswers; i++) {
        free(j->answers[i].numbers);
        free(j->answers[i].which);
        free(j->answers[i].classes);
    }
    if (j->bytes)
        atomic_fetch_sub(&j->budget->used, j->bytes);
    free(j->of);
    free(j->items);
    free(j->queries);
    free(j->merged);
    free(j->asked);
    free(j->merged_of);
    free(j->answers);
    free(j->piece.rows);
    srv_job_flow_free(j->flow);
    free(j);
}

/* ---- what a job has ----------------------------------------------------------------------------
 */

const struct pcv_input *srv_job_input(const struct srv_job *j, int item)
{
    const struct srv_job_item *of = &j->of[item];
    return of->input || !of->kept ? of->input : pcv_latents_input(of->kept->latents);
}

int srv_job_which(const struct srv_job *j, int item)
{
    const struct srv_job_item *of = &j->of[item];
    return of->kept ? pcv_latents_which(of->kept->latents) : pcv_input_which(of->input);
}

const float *srv_job_latents(const struct srv_job *j, int item)
{
    const struct srv_job_item *of = &j->of[item];
    return of->kept && pcv_latents_filled(of->kept->latents)
               ? pcv_latents_numbers(of->kept->latents)
               : of->latents;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

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

/* Rows of an answer that are there at a time. */
static double rows_at_once(const struct srv_job *j, const struct srv_answer *answer)
{
    return answer->pieces && answer->rows > j->stream_rows ? j->stream_rows : (double)answer->rows;
}

/* Bytes of the reply to an answer, about: a number in binary is 4 bytes and in JSON up to 16, a
 * candidate with its label 100. */
static double reply_bytes(const struct adapt *a, const struct srv_answer *answer)
{
    const struct wire_request *r = a->request;
    double numbers = rows_at_once(a->job, answer) * (double)answer->width;
    if (r->form == WIRE_OIP) {
        int i = answer->query;
        bool binary = r->raw || (i >= 0 ? r->outputs[i].binary : r->binary_default);
        return numbers * a->job->nitems * (binary ? 4 : 16);
    }
    const struct wire_query *q = answer->query < 0 ? NULL : &r->queries[answer->query];
    if (answer->task == SRV_EMBED) /* and the latents themselves */
        return (q && q->pool == WIRE_POOL_NONE ? 20.0 : 4.0) * a->info->num_latents *
                   a->info->d_latents +
               20.0 * a->info->d_latents;
    if (answer->task == SRV_ATTENTION)
        return numbers * 20; /* a map enlarged, in colours */
    enum pcv_task_kind kind = a->info->tasks[answer->task].kind;
    if (kind == PCV_TASK_REGRESSION)
        return numbers * 100;
    if (kind != PCV_TASK_CLASSIFY && kind != PCV_TASK_FILL_MASK)
        return numbers * 12; /* base64 of floats at most, with what is made on the way */
    int k = q ? q->nclasses ? q->nclasses : q->top_k : r->default_top_k;
    return (double)answer->rows * (k < answer->width || (q && q->nclasses) ? k : answer->width) *
           100;
}

/* Whether latents of the request's inputs may outlive, or be read beside, its own computation. */
static bool may_keep(const struct adapt *a)
{
    const struct wire_request *r = a->request;
    return !a->p->kept && (r->keep_ms || r->stream || a->p->keyed);
}

/* Memory for the numbers of an answer. */
static int take_numbers(struct adapt *a, struct srv_answer *answer)
{
    struct srv_job *j = a->job;
    const int items = answer->item < 0 ? j->nitems : 1;
    size_t n = (size_t)(rows_at_once(j, answer) * (double)answer->width) * (size_t)items;
    float **to = &answer->numbers;
    if (answer->task == SRV_EMBED) {
        to = &j->of[answer->item].latents;
        n = (size_t)a->info->num_latents * (size_t)a->info->d_latents;
    }
    if (*to || answer->from != (int)(answer - j->answers))
        return 0;
    *to = malloc((n ? n : 1) * sizeof **to);
    if (!*to)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %zu results", n);
    if (answer->task == SRV_ATTENTION) {
        j->of[answer->item].attention.latents = answer->which;
        j->of[answer->item].attention.weights = answer->numbers;
    }
    return 0;
}

/* What comes out is accounted for together with the reply made of it. */
static int take_memory(struct adapt *a)
{
    struct srv_job *j = a->job;
    double bytes = 0;
    for (int i = 0; i < j->nanswers; i++) {
        const struct srv_answer *answer = &j->answers[i];
        const int items = answer->item < 0 ? j->nitems : 1;
        bytes += rows_at_once(j, answer) * (double)answer->width * items * sizeof(float);
        bytes += answer->which ? (double)answer->rows * sizeof *answer->which : 0;
        bytes += reply_bytes(a, answer);
    }
    if (may_keep(a))
        bytes += (double)j->nitems * (double)pcv_latents_need(a->model);
    if (srv_adapt_budget(a, bytes))
        return a->e->code;
    for (int i = 0; i < j->nanswers; i++)
        if (take_numbers(a, &j->answers[i]))
            return a->e->code;
    return 0;
}

/* ---- items -------------------------------------------------------------------------------------
 */

void srv_adapt_count(struct srv_job *j, const struct pcv_item *item)
{
    struct pcv_cost cost;
    pcv_cost_item(j->model, item, &cost, NULL);
    j->run_gmac += (cost.encode + cost.process + cost.decode) / 1e9;
    j->gmac.encode += cost.encode / 1e9;
    j->gmac.process += cost.process / 1e9;
    j->gmac.decode += cost.decode / 1e9;
}

/* Whether an answer has output queries in an item of the first run. */
static bool is_run(const struct srv_job *j, int i, int item)
{
    const struct srv_answer *answer = &j->answers[i];
    return answer->task >= 0 && answer->from == i && !answer->pieces &&
           (answer->item < 0 || answer->item == item);
}

static struct pcv_query query_of(const struct srv_answer *answer, int item)
{
    int64_t at = answer->item < 0 ? item * answer->rows * answer->width : 0;
    return (struct pcv_query){.task = answer->task,
                              .nrows = (int)answer->rows,
                              .rows = answer->which,
                              .logits = answer->numbers + at};
}

/* All of an answer's rows, whenever they are computed. */
static int check_rows(struct adapt *a, const struct srv_answer *answer, int item)
{
    const struct pcv_input *in =
        a->p->kept ? pcv_latents_input(a->p->kept) : a->job->of[item].input;
    struct pcv_query q = query_of(answer, 0);
    if (!pcv_query_check(a->model, in, &q, a->e))
        return 0;
    return srv_adapt_at_query(a, a->request->form == WIRE_OIP ? -1 : answer->query, NULL);
}

/* Items with their queries, checked. */
static int make_items(struct adapt *a)
{
    struct srv_job *j = a->job;
    size_t n = 0;
    j->queries = calloc((size_t)j->nitems * (size_t)j->nanswers + 1, sizeof *j->queries);
    if (!j->queries)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for the output queries");
    for (int i = 0; i < j->nitems; i++) {
        struct pcv_item *item = &j->items[i];
        item->input = j->of[i].input;
        item->queries = &j->queries[n];
        item->latents = j->of[i].latents;
        item->attention = j->of[i].attention.n ? &j->of[i].attention : NULL;
        item->cancelled = a->p->cancelled;
        for (int k = 0; k < j->nanswers; k++) {
            const struct srv_answer *answer = &j->answers[k];
            if (answer->task < 0 || (answer->item >= 0 && answer->item != i))
                continue;
            if (check_rows(a, answer, i))
                return a->e->code;
            if (answer->from == k)
                j->output_queries += answer->rows;
            if (is_run(j, k, i))
                item->queries[item->nqueries++] = query_of(answer, i);
        }
        n += (size_t)item->nqueries;
    }
    j->run = j->items;
    j->nrun = j->nitems;
    if (j->nitems == 1)
        return 0;
    j->merged = calloc((size_t)j->nitems, sizeof *j->merged);
    j->merged_of = calloc((size_t)j->nitems, sizeof *j->merged_of);
    j->asked = calloc(n + 1, sizeof *j->asked);
    return j->merged && j->merged_of && j->asked
               ? 0
               : pcv_fail(a->e, PCV_ENOMEM, "no memory for the output queries");
}

/* Items of equal inputs are run as one, which has the queries of all. */
static void merge(struct srv_job *j)
{
    struct pcv_query *to = j->asked;
    bool equal = false;
    for (int i = 0; j->merged && i < j->nitems; i++)
        equal |= j->of[i].same != i;
    if (!equal)
        return;
    j->nrun = 0;
    for (int i = 0; i < j->nitems; i++) {
        if (j->of[i].same != i)
            continue;
        struct pcv_item *item = &j->merged[j->nrun];
        *item = j->items[i];
        item->queries = to;
        for (int k = i; k < j->nitems; k++)
            if (j->of[k].same == i) {
                memcpy(to, j->items[k].queries, (size_t)j->items[k].nqueries * sizeof *to);
                to += j->items[k].nqueries;
            }
        item->nqueries = (int)(to - item->queries);
        j->merged_of[j->nrun++] = i;
    }
    j->run = j->merged;
}

int srv_job_run_item(const struct srv_job *j, int place)
{
    return j->run == j->merged ? j->merged_of[place] : j->run == j->items ? place : -1;
}

void srv_job_prepare(struct srv_job *j)
{
    j->gmac = (struct wire_stages){0};
    j->run_gmac = 0;
    j->tokens_read = 0;
    for (int i = 0; i < j->nitems; i++) {
        struct srv_job_item *of = &j->of[i];
        struct pcv_item *item = &j->items[i];
        item->kept = of->kept ? of->kept->latents : NULL;
        item->input = srv_job_input(j, i);
        if (item->kept && pcv_latents_filled(item->kept))
            item->latents = NULL; /* they are there */
        else if (of->same == i)
            j->tokens_read += pcv_input_tokens(item->input);
    }
    merge(j);
    for (int i = 0; i < j->nrun; i++)
        srv_adapt_count(j, &j->run[i]);
}

/* ---- pieces of a stream ------------------------------------------------------------------------
 */

/* Answers that are long rows of numbers come row by row; the others are small, and whole. */
static void choose_pieces(struct adapt *a)
{
    for (int i = 0; a->job->stream_rows && i < a->job->nanswers; i++) {
        struct srv_answer *answer = &a->job->answers[i];
        enum pcv_task_kind kind =
            answer->task < 0 ? PCV_TASK_CLASSIFY : a->info->tasks[answer->task].kind;
        answer->pieces = kind != PCV_TASK_CLASSIFY && kind != PCV_TASK_FILL_MASK &&
                         kind != PCV_TASK_REGRESSION && kind != PCV_TASK_EMBED;
        if (answer->pieces)
            answer->from = i;
    }
}

bool srv_job_next_piece(struct srv_job *j)
{
    struct srv_job_piece *p = &j->piece;
    p->first += p->n;
    p->n = 0;
    while (p->answer < j->nanswers &&
           (!j->answers[p->answer].pieces || p->first >= j->answers[p->answer].rows)) {
        p->answer++;
        p->first = 0;
    }
    if (p->answer == j->nanswers)
        return false;
    const struct srv_answer *answer = &j->answers[p->answer];
    const int64_t left = answer->rows - p->first;
    p->n = left < j->stream_rows ? (int)left : j->stream_rows;
    for (int i = 0; i < p->n; i++)
        p->rows[i] = answer->which ? answer->which[p->first + i] : (int32_t)(p->first + i);
    p->query = (struct pcv_query){
        .task = answer->task, .nrows = p->n, .rows = p->rows, .logits = answer->numbers};
    p->item = (struct pcv_item){.input = srv_job_input(j, answer->item),
                                .kept = j->of[answer->item].kept->latents,
                                .queries = &p->query,
                                .nqueries = 1,
                                .cancelled = j->items[answer->item].cancelled};
    j->run = &p->item;
    j->nrun = 1;
    j->run_gmac = 0;
    srv_adapt_count(j, &p->item);
    return true;
}

/* ---- all of it ---------------------------------------------------------------------------------
 */

/* What this server, or this request, cannot keep is refused before it is computed. */
static int check_keep(struct adapt *a)
{
    const double need = (double)pcv_latents_need(a->model) * a->job->nitems;
    if (!a->request->keep_ms)
        return 0;
    if (!a->p->store)
        pcv_fail(a->e, PCV_ELIMIT, "this server keeps no latents");
    else if (need > (double)a->p->store)
        pcv_fail(a->e, PCV_ELIMIT, "%.1f MB of latents are more than the %.1f MB that are kept",
                 need / 1e6, (double)a->p->store / 1e6);
    else
        return 0;
    return pcv_err_at(a->e, "$.keep");
}

/* What has a file or a field for an answer is computed at once, and not kept. */
static int adapt_pair(struct adapt *a)
{
    const char *field = a->request->keep_ms ? "keep" : a->request->stream ? "stream" : NULL;
    if (!field)
        return srv_adapt_flow(a);
    pcv_fail(a->e, PCV_EFORMAT, "a pair of pictures has no such thing");
    return pcv_err_at(a->e, "$.%s", field);
}

static int adapt(struct adapt *a)
{
    const bool oip = a->request->form == WIRE_OIP;
    struct srv_job *j = a->job;
    if (!oip && srv_adapt_is_flow(a))
        return adapt_pair(a);
    if (srv_adapt_inputs(a) || check_keep(a) || (oip ? srv_adapt_oip(a) : srv_adapt_native(a)))
        return a->e->code;
    choose_pieces(a);
    for (int i = 0; i < j->nanswers; i++)
        if (srv_adapt_rows(a, &j->answers[i]))
            return a->e->code;
    if (take_memory(a))
        return a->e->code;
    if (j->stream_rows)
        j->piece.rows = malloc((size_t)j->stream_rows * sizeof *j->piece.rows);
    if (j->stream_rows && !j->piece.rows)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for a stream");
    return make_items(a);
}

int srv_adapt(struct srv_job **ret, const struct srv_adapt_parts *p, struct wire_request *r,
              bool *busy, struct pcv_err *e)
{
    struct adapt a = {.p = p,
                      .model = p->model,
                      .info = pcv_model_info(p->model),
                      .request = r,
                      .busy = busy,
                      .e = e};
    a.job = calloc(1, sizeof *a.job);
    if (!a.job)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    a.job->model = p->model;
    a.job->budget = p->budget;
    a.job->stream_rows = r->stream ? p->stream_rows : 0;
    int code = adapt(&a);
    if (code) {
        srv_job_free(a.job);
        return code;
    }
    *ret = a.job;
    return 0;
}
