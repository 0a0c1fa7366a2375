#include "server/flow_internal.h"

#include "server/answer.h"
#include "server/clock.h"
#include "server/log.h"

#include <stdlib.h>
#include <string.h>

/* ---- life -------------------------------------------------------------------------------------
 */

static bool alarm_before(const struct srv_heap_node *a, const struct srv_heap_node *b)
{
    return SRV_HOLDER(a, struct srv_request, alarm)->deadline_ns <
           SRV_HOLDER(b, struct srv_request, alarm)->deadline_ns;
}

/* Sets the timer to the earliest deadline. */
static void set_timer(struct srv_flow *f, uint64_t now_ns);

static void on_timer(uv_timer_t *t)
{
    struct srv_flow *f = t->data;
    f->timer_ns = 0; /* the turn's prepare does the work */
}

/* Everything of this turn has been taken in: the last moment before the loop sleeps. */
static void on_prepare(uv_prepare_t *p)
{
    struct srv_flow *f = p->data;
    uint64_t now = srv_now_ns();
    srv_flow_expire(f, now);
    srv_store_expire(f->store, now);
    srv_flow_wake(f);
    srv_flow_dispatch(f, now);
    set_timer(f, now);
}

static void set_timer(struct srv_flow *f, uint64_t now_ns)
{
    struct srv_heap_node *first = srv_heap_first(&f->deadlines);
    uint64_t at = first ? SRV_HOLDER(first, struct srv_request, alarm)->deadline_ns : 0;
    if (at == f->timer_ns)
        return;
    f->timer_ns = at;
    if (!at) {
        uv_timer_stop(&f->timer);
        return;
    }
    uv_update_time(f->c.loop);
    uv_timer_start(&f->timer, on_timer, at > now_ns ? (at - now_ns) / 1000000 + 1 : 1, 0);
}

static int new_batcher(struct srv_flow *f, struct pcv_err *e)
{
    const struct srv_config *c = f->c.config;
    struct srv_batcher_limits *limits = calloc((size_t)c->nmodels, sizeof *limits);
    if (!limits)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    for (int i = 0; i < c->nmodels; i++) {
        limits[i].max_batch = (int)c->models[i].max_batch;
        limits[i].max_queue = (int)c->models[i].max_queue;
        limits[i].max_batch_s = (double)c->models[i].max_batch_time / 1e3;
        if (f->max_batch < limits[i].max_batch)
            f->max_batch = limits[i].max_batch;
    }
    int r = srv_batcher_new(&f->batcher, c->nmodels, limits, (int)c->server_lanes, e);
    free(limits);
    return r;
}

static void release(struct srv_flow *f)
{
    for (int i = 0; f->flights && i < f->c.config->server_lanes; i++) {
        free(f->flights[i].items);
        free(f->flights[i].requests);
        free(f->flights[i].spare);
    }
    free(f->flights);
    free(f->taken);
    srv_batcher_free(f->batcher);
    srv_store_free(f->store);
    srv_share_free(f->share);
    srv_heap_clear(&f->deadlines);
    free(f);
}

/* Room for what each lane computes. */
static int new_flights(struct srv_flow *f, struct pcv_err *e)
{
    size_t n = (size_t)f->c.config->server_lanes, most = (size_t)f->max_batch;
    f->flights = calloc(n, sizeof *f->flights);
    f->taken = calloc(most, sizeof *f->taken);
    bool ok = f->flights && f->taken;
    for (size_t i = 0; ok && i < n; i++) {
        f->flights[i].items = calloc(most, sizeof *f->flights[i].items);
        f->flights[i].requests = calloc(most, sizeof *f->flights[i].requests);
        f->flights[i].spare = calloc(most, sizeof *f->flights[i].spare);
        ok = f->flights[i].items && f->flights[i].requests && f->flights[i].spare;
    }
    return ok ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for %zu lanes", n);
}

static void on_evicted(void *ctx, int model, enum srv_evicted why)
{
    static const char *const reasons[SRV_EVICTED] = {"budget", "expired", "deleted"};
    struct srv_flow *f = ctx;
    srv_metrics_add(f->c.metrics, SRV_M_latents_evictions_total, 1,
                    SRV_LABELS(f->c.registry->models[model].name, reasons[why]));
}

static int new_store(struct srv_flow *f, struct pcv_err *e)
{
    f->share = srv_share_new();
    if (!f->share)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    return srv_store_new(&f->store, (size_t)f->c.config->latents_memory, on_evicted, f, e);
}

int srv_flow_new(struct srv_flow **ret, const struct srv_flow_parts *parts, struct pcv_err *e)
{
    struct srv_flow *f = calloc(1, sizeof *f);
    if (!f)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    f->c = *parts;
    f->deadlines.before = alarm_before;
    f->budget.limit = (size_t)parts->config->server_result_memory;
    int r = new_batcher(f, e);
    if (r || (r = new_flights(f, e)) || (r = new_store(f, e))) {
        release(f);
        return r;
    }
    uv_prepare_init(parts->loop, &f->prepare);
    uv_timer_init(parts->loop, &f->timer);
    f->prepare.data = f->timer.data = f;
    f->handles = 2;
    uv_prepare_start(&f->prepare, on_prepare);
    *ret = f;
    return 0;
}

int srv_flow_start(struct srv_flow *f, struct srv_lanes *lanes, struct pcv_err *e)
{
    int r = srv_lanes_start(lanes, f->c.loop, srv_flow_on_lanes, f, e);
    if (!r)
        f->lanes = lanes;
    return r;
}

void srv_flow_warmed(struct srv_flow *f, int model, double gmac, double seconds)
{
    srv_batcher_learn(f->batcher, model, gmac, seconds);
}

static void on_closed(uv_handle_t *h)
{
    struct srv_flow *f = h->data;
    if (--f->handles == 0)
        release(f);
}

void srv_flow_close(struct srv_flow *f)
{
    if (!f)
        return;
    uv_close((uv_handle_t *)&f->prepare, on_closed);
    uv_close((uv_handle_t *)&f->timer, on_closed);
}

void srv_flow_unready(struct srv_flow *f)
{
    f->unready = true;
}

void srv_flow_drain(struct srv_flow *f)
{
    f->unready = f->draining = true;
}

bool srv_flow_ready(const struct srv_flow *f)
{
    return f->lanes && !f->unready;
}

int srv_flow_in_flight(const struct srv_flow *f)
{
    return f->in_flight;
}

int srv_flow_elsewhere(const struct srv_flow *f)
{
    return f->elsewhere;
}

int srv_flow_hung_lane(const struct srv_flow *f, uint64_t now_ns)
{
    for (int i = 0; f->lanes && i < srv_lanes_count(f->lanes); i++) {
        double limit = (double)f->c.config->server_hang_limit / 1e3;
        double expected = srv_batcher_expected(f->batcher, i);
        if (f->flights[i].n && (double)(now_ns - f->flights[i].published_ns) / 1e9 >
                                   (10 * expected > limit ? 10 * expected : limit))
            return i;
    }
    return -1;
}

void srv_flow_set_gauges(struct srv_flow *f)
{
    int busy = 0;
    for (int i = 0; i < f->c.config->server_lanes; i++)
        busy += f->flights[i].n != 0;
    srv_metrics_set(f->c.metrics, SRV_M_lanes_busy, busy, NULL);
    srv_metrics_set(f->c.metrics, SRV_M_in_flight, f->in_flight, NULL);
    srv_store_expire(f->store, srv_now_ns());
    srv_metrics_set(f->c.metrics, SRV_M_latents_bytes, (double)srv_store_bytes(f->store), NULL);
    srv_metrics_set(f->c.metrics, SRV_M_latents_entries, srv_store_entries(f->store), NULL);
    srv_metrics_set(f->c.metrics, SRV_M_latents_handles, srv_store_handles(f->store), NULL);
    for (int i = 0; i < f->c.registry->n; i++) {
        const struct srv_model *m = &f->c.registry->models[i];
        const char *const *labels = SRV_LABELS(m->name);
        srv_metrics_set(f->c.metrics, SRV_M_queue_depth, srv_batcher_waiting(f->batcher, i),
                        labels);
        srv_metrics_set(f->c.metrics, SRV_M_model_gmac_per_second, srv_batcher_rate(f->batcher, i),
                        labels);
        srv_metrics_set(f->c.metrics, SRV_M_model_bytes, (double)srv_model_bytes(m), labels);
    }
}

/* ---- other threads
 * ---------------------------------------------------------------------------------
 */

void srv_flow_lend(struct srv_request *r)
{
    r->held = r->x;
    srv_exchange_hold(r->held);
    r->flow->elsewhere++;
}

void srv_flow_submit(struct srv_request *r, uv_work_cb work, uv_after_work_cb after)
{
    srv_flow_lend(r);
    r->work.data = r;
    uv_queue_work(r->flow->c.loop, &r->work, work, after);
}

void srv_flow_retrieve(struct srv_request *r)
{
    struct srv_exchange *x = r->held;
    r->held = NULL;
    r->flow->elsewhere--;
    srv_exchange_release(x);
}

/* ---- arrival ----------------------------------------------------------------------------------
 */

static void adapt(struct srv_request *r) /* any thread */
{
    const struct srv_config *c = r->flow->c.config;
    const bool cache = srv_flow_caches(r->flow) && !r->wire->no_cache;
    const bool share = c->latents_share && !r->wire->no_share;
    const struct srv_adapt_parts parts = {.model = r->model->engine,
                                          .max_items = (int)r->model->config->max_items,
                                          .stream_rows = (int)c->server_stream_rows,
                                          .keyed = cache || share,
                                          .store = (size_t)c->latents_memory,
                                          .kept = r->asked ? r->asked->latents : NULL,
                                          .cancelled = &r->cancelled,
                                          .budget = &r->flow->budget};
    r->code = srv_adapt(&r->job, &parts, r->wire, &r->busy, &r->err);
}

/* The client's own timeout takes the place of the default. */
static int apply_timeout(struct srv_request *r)
{
    const struct wire_request *w = r->wire;
    uint64_t most = (uint64_t)r->model->config->max_timeout;
    if (!w->timeout_us)
        return 0;
    if (w->timeout_us > most * 1000) {
        pcv_fail(&r->err, PCV_ERANGE, "%llu ms are more than the %llu ms that this model allows",
                 (unsigned long long)(w->timeout_us / 1000), (unsigned long long)most);
        return pcv_err_at(&r->err, w->form == WIRE_OIP ? "$.parameters.timeout"
                                   : r->source.json    ? "$.timeout_ms"
                                                       : "timeout_ms");
    }
    srv_flow_set_deadline(r, r->arrived_ns + w->timeout_us * 1000);
    return 0;
}

/* What this server allows. Looked at as soon as the request is decoded, again when it is adapted.
 */
static int apply_limits(struct srv_request *r)
{
    const uint64_t most = (uint64_t)r->flow->c.config->latents_max_keep;
    if (r->wire->keep_ms > most) {
        pcv_fail(&r->err, PCV_ERANGE, "%.3f s are more than the %.3f s that latents are kept",
                 (double)r->wire->keep_ms / 1e3, (double)most / 1e3);
        return pcv_err_at(&r->err, r->source.json ? "$.keep" : "keep");
    }
    return apply_timeout(r);
}

/* What was adapted goes to the queue, or its error to the client. */
static void adapted(struct srv_request *r)
{
    r->adapt_s = (double)(srv_now_ns() - r->arrived_ns) / 1e9;
    if (!r->code && !(r->code = apply_limits(r))) {
        srv_flow_admit(r);
        return;
    }
    srv_batcher_unreserve(r->flow->batcher, r->model->index);
    srv_flow_fail_code(r);
}

static void on_adapt(uv_work_t *w) /* pool thread */
{
    struct srv_request *r = w->data;
    if (!r->wire)
        r->code = srv_source_decode(&r->source, &r->wire, &r->err);
    if (!r->code && !atomic_load(&r->cancelled))
        adapt(r);
}

static void on_adapted(uv_work_t *w, int status)
{
    struct srv_request *r = w->data;
    (void)status; /* cancelled only for orphans */
    srv_flow_retrieve(r);
    if (r->state != SRV_ORPHAN) {
        adapted(r);
        return;
    }
    srv_batcher_unreserve(r->flow->batcher, r->model->index);
    srv_flow_drop(r);
}

/* Small bodies are decoded here, the thread pool does the rest. */
static void decode(struct srv_request *r)
{
    bool here = r->source.len <= (size_t)r->flow->c.config->server_inline_limit;
    if (here && !(r->code = srv_source_decode(&r->source, &r->wire, &r->err)))
        r->code = apply_limits(r);
    if (here && (r->code || !srv_adapt_is_slow(r->wire))) {
        if (!r->code)
            adapt(r);
        adapted(r);
        return;
    }
    srv_request_move(r, SRV_ADAPTING);
    srv_flow_submit(r, on_adapt, on_adapted);
}

/* Answers 503 or 429 before anything is spent on it; false when it may come in. */
static bool refuse(struct srv_flow *f, struct srv_exchange *x, const struct srv_model *m,
                   uint64_t now)
{
    struct pcv_err e;
    double retry = (double)f->c.config->server_retry_after / 1e3;
    const char *reason = NULL;
    int status = 503;
    if (f->draining) {
        reason = "draining";
        pcv_fail(&e, PCV_EIO, "the server is shutting down");
    } else if (!f->lanes || m->state != SRV_MODEL_READY) {
        reason = "not_ready";
        pcv_fail(&e, PCV_EIO, "models are being loaded");
    } else if (srv_batcher_reserve(f->batcher, m->index, now, &retry) == SRV_FULL) {
        reason = "queue_full";
        status = 429;
        pcv_fail(&e, PCV_ELIMIT, "the queue of %s is full", m->name);
        retry = retry > 0 ? retry : 1;
    }
    if (!reason)
        return false;
    srv_metrics_add(f->c.metrics, SRV_M_rejected_total, 1, SRV_LABELS(m->name, reason));
    srv_answer_error(x, status, reason, &e, retry);
    return true;
}

/* asked: latents of m; NULL: the request brings its inputs. */
static void start(struct srv_flow *f, struct srv_exchange *x, struct srv_model *m,
                  enum wire_form form, struct srv_kept *asked)
{
    uint64_t now = srv_now_ns();
    if (refuse(f, x, m, now))
        return;
    struct srv_request *r = srv_request_new(f, m, x, now);
    if (!r) {
        srv_batcher_unreserve(f->batcher, m->index);
        struct pcv_err e;
        pcv_fail(&e, PCV_ENOMEM, "no memory for the request");
        srv_answer_error(x, 500, pcv_code_name(PCV_ENOMEM), &e, 0);
        return;
    }
    r->asked = asked ? srv_kept_hold(asked) : NULL;
    srv_exchange_set_data(x, r);
    f->in_flight++;
    srv_flow_set_deadline(r, now + (uint64_t)m->config->timeout * 1000000);
    r->code = srv_source_take(&r->source, x, form, m->desc.inputs, m->desc.ninputs, &r->err);
    r->source.question = asked != NULL;
    if (!r->code && asked && !r->source.json) {
        r->code = pcv_fail(&r->err, PCV_EUNSUPPORTED, "questions to latents are JSON");
        pcv_err_at(&r->err, "Content-Type");
    }
    if (!r->code) {
        decode(r);
        return;
    }
    srv_batcher_unreserve(f->batcher, m->index);
    srv_flow_fail_code(r);
}

void srv_flow_infer(struct srv_flow *f, struct srv_exchange *x, struct srv_model *m,
                    enum wire_form form)
{
    start(f, x, m, form, NULL);
}

void srv_flow_ask(struct srv_flow *f, struct srv_exchange *x, struct srv_model *m,
                  struct srv_kept *kept)
{
    start(f, x, m, WIRE_NATIVE, kept);
}

struct srv_store *srv_flow_store(struct srv_flow *f)
{
    return f->store;
}

/* ---- the queue --------------------------------------------------------------------------------
 */

void srv_flow_queue(struct srv_request *r)
{
    struct srv_flow *f = r->flow;
    uint64_t now = srv_now_ns();
    double retry = 0;
    r->ticket = (struct srv_ticket){
        .model = r->model->index,
        .priority = r->wire->priority ? r->wire->priority : (int)r->model->config->priority,
        .deadline_ns = r->deadline_ns,
        .items = r->job->nrun,
        .gmac = r->job->run_gmac,
    };
    enum srv_verdict v = srv_batcher_push(f->batcher, &r->ticket, now, &retry);
    if (v != SRV_TAKEN) {
        srv_flow_reject(r, v, retry);
        return;
    }
    r->queued_ns = now;
    srv_request_move(r, SRV_QUEUED);
}
