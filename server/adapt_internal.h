/* adapt_internal.h - what adapt*.c share. */
#ifndef SRV_ADAPT_INTERNAL_H
#define SRV_ADAPT_INTERNAL_H

#include "server/adapt.h"

/* What the steps share. */
struct adapt {
    const struct pcv_model *model;
    const struct pcv_model_info *info;
    struct wire_request *request;
    int max_items;
    const atomic_bool *cancelled;
    bool *busy;
    struct srv_job *job;
    struct pcv_err *e;
};

/* nitems and the lists of that length. */
PCV_CHECK int srv_adapt_room(struct adapt *a, int nitems);
/* The request's media as the engine takes them: [WIRE_MAX_MEDIA]. */
void srv_adapt_media(const struct adapt *a, struct pcv_media *media);
/* Puts "$.inputs" before the place that the engine found; returns code. */
int srv_adapt_at_input(struct adapt *a, int code);
/* Takes bytes from the budget. */
PCV_CHECK int srv_adapt_budget(struct adapt *a, double bytes);
/* An item whose queries are complete: what it costs is added to the job's. */
void srv_adapt_count(struct adapt *a, const struct pcv_item *item);

/* adapt_query.c: what the native form asks. */
PCV_CHECK int srv_adapt_native_tasks(struct adapt *a);

/* adapt_flow.c: the whole of a flow request after its tasks. */
bool srv_adapt_is_flow(const struct adapt *a);
PCV_CHECK int srv_adapt_flow(struct adapt *a);
void srv_job_flow_free(struct srv_job_flow *f); /* NULL is fine */

#endif
