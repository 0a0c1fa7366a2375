#include "server/flow_internal.h"

#include "server/clock.h"
#include "server/log.h"

#include <string.h>
#include <time.h>

static struct srv_request *request_of(struct srv_ticket *t)
{
    return SRV_HOLDER(t, struct srv_request, ticket);
}

static void add_stages(struct wire_stages *to, const struct pcv_model *m,
                       const struct pcv_item *item)
{
    struct pcv_cost cost;
    pcv_cost_item(m, item, &cost, NULL);
    to->encode += cost.encode / 1e9;
    to->process += cost.process / 1e9;
    to->decode += cost.decode / 1e9;
}

/* A request joins a batch. */
static void join(struct srv_request *r, struct srv_flight *flight, bool alone)
{
    const struct srv_job *j = r->job;
    struct srv_batch *b = &flight->batch;
    if (alone)
        b->items = j->run; /* may be more than a batch */
    else
        memcpy(&b->items[b->nitems], j->run, (size_t)j->nrun * sizeof *j->run);
    for (int i = 0; i < j->nrun; i++)
        add_stages(&flight->gmac, b->model, &j->run[i]); /* now: latents will be filled */
    b->nitems += j->nrun;
}

/* The lane's thread. */
static void after(struct srv_batch *b)
{
    const struct srv_flight *flight = b->data;
    for (int i = 0; i < flight->n && !b->code; i++)
        srv_flow_reply_early(flight->requests[i], b);
}

/* Publishes n requests of one model as a batch. */
static void publish(struct srv_flow *f, int lane, int n, uint64_t now)
{
    struct srv_flight *flight = &f->flights[lane];
    const struct srv_model *m = request_of(f->taken[0])->model;
    flight->n = n;
    flight->published_ns = now;
    flight->gmac = (struct wire_stages){0};
    flight->batch = (struct srv_batch){.lane = lane,
                                       .model = m->engine,
                                       .max_items = (int)m->config->max_batch,
                                       .items = flight->items,
                                       .data = flight,
                                       .after = after};
    for (int i = 0; i < n; i++) {
        struct srv_request *r = request_of(f->taken[i]);
        srv_request_move(r, SRV_RUNNING);
        r->started_ns = now;
        flight->requests[i] = r;
        join(r, flight, n == 1);
        srv_flow_lend(r);
    }
    srv_lanes_run(f->lanes, &flight->batch);
}

void srv_flow_dispatch(struct srv_flow *f, uint64_t now)
{
    int lane, n;
    if (!f->lanes)
        return;
    while ((lane = srv_batcher_free_lane(f->batcher)) >= 0 &&
           (n = srv_batcher_take(f->batcher, lane, now, f->taken)) > 0)
        publish(f, lane, n, now);
}

/* ---- what comes back --------------------------------------------------------------------------
 */

static void count_stage(struct srv_flow *f, const char *model, const char *stage,
                        enum srv_metric seconds, double s, double gmac)
{
    srv_metrics_observe(f->c.metrics, seconds, s, SRV_LABELS(model));
    srv_metrics_add(f->c.metrics, SRV_M_gmac_total, gmac, SRV_LABELS(model, stage));
}

/* Counts inputs that were encoded; takes what was dropped out of gmac. Returns whether some was. */
static bool count_request(struct srv_flow *f, struct srv_request *r, const struct srv_batch *b,
                          int at, struct wire_stages *gmac)
{
    const struct srv_job *j = r->job;
    const struct srv_model *m = r->model;
    bool dropped = b->code != 0;
    for (int i = 0; i < j->nrun; i++) {
        struct wire_stages lost = {0};
        const int item = srv_job_run_item(j, i);
        dropped |= b->items[at + i].dropped;
        if (b->code || b->items[at + i].dropped) {
            add_stages(&lost, m->engine, &b->items[at + i]); /* its latents are empty still */
            gmac->encode -= lost.encode;
            gmac->process -= lost.process;
            gmac->decode -= lost.decode;
        } else if (item >= 0 && !j->of[item].cached) {
            srv_metrics_add(f->c.metrics, SRV_M_batch_inputs_total, 1,
                            SRV_LABELS(m->name, m->info->inputs[srv_job_which(j, item)].name));
        }
    }
    return dropped;
}

/* Counts a batch, and frees its lane with what was learnt. */
static void account(struct srv_flow *f, const struct srv_flight *flight, struct srv_model *m)
{
    const struct srv_batch *b = &flight->batch;
    struct wire_stages gmac = flight->gmac;
    bool dropped = b->code != 0;
    struct timespec unix_time;
    clock_gettime(CLOCK_REALTIME, &unix_time);
    for (int i = 0, at = 0; i < flight->n; at += flight->requests[i++]->job->nrun)
        dropped |= count_request(f, flight->requests[i], b, at, &gmac);
    double total = gmac.encode + gmac.process + gmac.decode;
    double seconds = (double)(b->finished_ns - b->started_ns) / 1e9;
    srv_batcher_finish(f->batcher, b->lane, dropped ? 0 : total, seconds);
    count_stage(f, m->name, "encode", SRV_M_encode_seconds, b->timing.encode_s, gmac.encode);
    count_stage(f, m->name, "process", SRV_M_process_seconds, b->timing.process_s, gmac.process);
    count_stage(f, m->name, "decode", SRV_M_decode_seconds, b->timing.decode_s, gmac.decode);
    srv_metrics_add(f->c.metrics, SRV_M_decode_tiles_total, b->timing.tiles, SRV_LABELS(m->name));
    for (int left = b->nitems; left > 0; left -= b->max_items) {
        int items = left < b->max_items ? left : b->max_items;
        double share = (double)items / b->nitems;
        srv_metrics_observe(f->c.metrics, SRV_M_batch_items, items, SRV_LABELS(m->name));
        srv_stats_forward(&m->stats, items, (uint64_t)(share * seconds * 1e9),
                          (uint64_t)unix_time.tv_sec * 1000 +
                              (uint64_t)unix_time.tv_nsec / 1000000);
    }
}

/* It was computed: what is to be kept gets its handles, and the rest is the reply's. */
static void finished(struct srv_request *r)
{
    if (!r->encoded && (r->code = srv_flow_keep(r)))
        srv_flow_fail_code(r);
    else if (r->wire->stream)
        srv_flow_stream(r);
    else
        srv_flow_reply(r);
}

/* One request of a finished batch. */
static void computed(struct srv_request *r, const struct srv_batch *b)
{
    srv_flow_retrieve(r);
    srv_flow_settle(r);
    if (r->state == SRV_ORPHAN) {
        srv_flow_drop(r);
        return;
    }
    if (!r->encoded)
        srv_flow_note_batch(r, b);
    if (!b->code) {
        finished(r);
        return;
    }
    r->code = b->code;
    r->err = b->err;
    srv_log(SRV_ERROR, r->x ? srv_exchange_request_id(r->x) : NULL, "%s: forward failed: %s",
            r->model->name, b->err.msg);
    srv_flow_fail(r, 500, pcv_code_name(r->code), 0);
}

void srv_flow_on_lanes(void *ctx)
{
    struct srv_flow *f = ctx;
    for (struct srv_batch *b; (b = srv_lanes_done(f->lanes));) {
        struct srv_flight *flight = b->data;
        struct srv_request **requests = flight->requests;
        int n = flight->n;
        account(f, flight, requests[0]->model);
        struct srv_batch finished = *b;
        flight->requests = flight->spare;
        flight->spare = requests;
        flight->n = 0;
        srv_flow_dispatch(f, srv_now_ns()); /* the lane has work while replies are written */
        for (int i = 0; i < n; i++)
            computed(requests[i], &finished);
    }
}
