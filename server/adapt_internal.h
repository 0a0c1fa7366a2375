/* adapt_internal.h - what adapt*.c share; nobody else includes it.
 *
 * adapt.c        the steps, memory, items, cost
 * adapt_input.c  inputs from media and tensors
 * adapt_query.c  which answers a request wants
 * adapt_rows.c   and which output queries each of them has
 * adapt_flow.c   pairs of pictures of any size */
#ifndef SRV_ADAPT_INTERNAL_H
#define SRV_ADAPT_INTERNAL_H

#include "server/adapt.h"

/* What the steps share. */
struct adapt {
    const struct srv_adapt_parts *p;
    const struct pcv_model *model;
    const struct pcv_model_info *info;
    struct wire_request *request;
    bool *busy;
    struct srv_job *job;
    int room; /* of job->answers */
    struct pcv_err *e;
};

/* Takes bytes from the budget. */
PCV_CHECK int srv_adapt_budget(struct adapt *a, double bytes);
/* An item whose queries are complete: what it costs is added to the job's. */
void srv_adapt_count(struct srv_job *j, const struct pcv_item *item);

/* ---- adapt_input.c */
/* nitems and the lists of that length. */
PCV_CHECK int srv_adapt_room(struct adapt *a, int nitems);
/* One item's media as the engine takes them; *n of them. own: free() */
PCV_CHECK int srv_adapt_media(struct adapt *a, int item, struct pcv_media **ret, int *n);
PCV_CHECK int srv_adapt_inputs(struct adapt *a);
/* Puts the item's place before the one that the engine found; returns code. */
int srv_adapt_at_input(struct adapt *a, int item, int code);
/* Puts "$.inputs[i]" before the name of the tensor where the engine found a fault. */
int srv_adapt_at_tensor(struct adapt *a);

/* ---- adapt_query.c */
PCV_CHECK int srv_adapt_native(struct adapt *a);
PCV_CHECK int srv_adapt_oip(struct adapt *a);
PCV_CHECK int srv_adapt_flow_query(struct adapt *a); /* before there are items */
/* A new answer, borrowed until the next. NULL without memory. */
struct srv_answer *srv_adapt_answer(struct adapt *a);
/* Whether a task has an answer for the model's input `which`. */
bool srv_adapt_takes(const struct pcv_task_info *t, int which);
bool srv_adapt_is_picture(const struct pcv_task_info *t);
/* Puts the query's place, and a field of it, before what was found. */
int srv_adapt_at_query(struct adapt *a, int query, const char *field);

/* ---- adapt_rows.c */
/* Rows, width and classes of an answer. */
PCV_CHECK int srv_adapt_rows(struct adapt *a, struct srv_answer *answer);

/* ---- adapt_flow.c: the whole of a request for flow */
bool srv_adapt_is_flow(const struct adapt *a);
PCV_CHECK int srv_adapt_flow(struct adapt *a);
void srv_job_flow_free(struct srv_job_flow *f); /* NULL is fine */

#endif
