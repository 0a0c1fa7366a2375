#include "server/flow_internal.h"

#include "server/answer.h"
#include "server/clock.h"
#include "server/results.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- deadlines --------------------------------------------------------------------------------
 */

void srv_flow_set_deadline(struct srv_request *r, uint64_t deadline_ns)
{
    srv_heap_remove(&r->flow->deadlines, &r->alarm);
    r->deadline_ns = deadline_ns;
    /* Without memory for the alarm the request has none: it is served, however late. */
    srv_heap_push(&r->flow->deadlines, &r->alarm);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

/* Out of flight: it has its answer, or needs none. */
static void landed(struct srv_request *r)
{
    struct srv_flow *f = r->flow;
    uint64_t now = srv_now_ns();
    struct srv_stats_request s = {.success = r->success, .total_ns = now - r->arrived_ns};
    f->in_flight--;
    srv_heap_remove(&f->deadlines, &r->alarm);
    if (r->success) {
        s.items = r->job->nitems;
        s.batch_items = r->batch_items;
        s.queue_ns = (uint64_t)(r->queue_s * 1e9);
        s.input_ns = (uint64_t)(r->adapt_s * 1e9);
        s.infer_ns = r->computed_ns - r->started_ns;
        s.output_ns = now - r->computed_ns;
    }
    srv_stats_request(&r->model->stats, &s);
}

void srv_flow_done(struct srv_request *r)
{
    landed(r);
    srv_flow_settle(r);
    if (!r->success)
        srv_flow_unkeep(r);
    srv_request_move(r, SRV_DONE);
    srv_request_settle(r);
}

void srv_flow_drop(struct srv_request *r)
{
    srv_flow_unkeep(r);
    srv_request_move(r, SRV_DONE);
    srv_request_settle(r);
}

void srv_flow_fail(struct srv_request *r, int status, const char *code, double retry_s)
{
    if (r->streaming) {
        srv_flow_stream_fail(r, code, &r->err);
        srv_flow_done(r);
        return;
    }
    srv_answer_error(r->x, status, code, &r->err, retry_s);
    srv_flow_done(r);
}

void srv_flow_fail_code(struct srv_request *r)
{
    if (r->busy) {
        srv_metrics_add(r->flow->c.metrics, SRV_M_rejected_total, 1,
                        SRV_LABELS(r->model->name, "result_memory"));
        srv_flow_fail(r, 429, "result_memory", 1);
    } else {
        srv_flow_fail(r, wire_status(r->code), pcv_code_name(r->code), 0);
    }
}

void srv_flow_reject(struct srv_request *r, enum srv_verdict v, double retry_s)
{
    const char *reason = v == SRV_LATE ? "deadline" : "queue_full";
    double left = (double)(r->deadline_ns - r->arrived_ns) / 1e9;
    if (v == SRV_NO_ROOM) {
        r->code = pcv_fail(&r->err, PCV_ENOMEM, "no memory for the queue");
        srv_flow_fail_code(r);
        return;
    }
    if (v == SRV_LATE)
        pcv_fail(&r->err, PCV_ERANGE,
                 "with what is queued before it, this would not be done within its %.3f s", left);
    else
        pcv_fail(&r->err, PCV_ELIMIT, "the queue of %s has no room for %d inputs", r->model->name,
                 r->job->nitems);
    srv_metrics_add(r->flow->c.metrics, SRV_M_rejected_total, 1,
                    SRV_LABELS(r->model->name, reason));
    srv_flow_fail(r, 429, reason, retry_s > 0 ? retry_s : 1);
}

/* ---- replies ----------------------------------------------------------------------------------
 */

struct wire_reply srv_flow_about(const struct srv_request *r, const char *request_id,
                                 const char **latents)
{
    const struct srv_job *j = r->job;
    const uint64_t now = srv_now_ns();
    struct wire_reply reply = {
        .model = r->model->name,
        .version = SRV_MODEL_VERSION,
        .request_id = request_id,
        .id = r->wire->id,
        .batch = r->wire->batch,
        .nitems = j->flow ? 1 : j->nitems,
        .tokens = j->tokens,
        .output_queries = j->output_queries,
        .batch_items = r->batch_items,
        .gmac = j->gmac,
        .ms = {.adapt = r->adapt_s * 1e3,
               .queue = r->queue_s * 1e3,
               .encode = r->encode_s * 1e3,
               .process = r->process_s * 1e3,
               .decode = r->decode_s * 1e3,
               .total = (double)(now - r->arrived_ns) / 1e6},
    };
    for (int i = 0; i < j->nitems; i++)
        reply.cached_items += j->of[i].cached;
    reply.cached = reply.cached_items == j->nitems;
    for (int i = 0; r->handles && i < j->nitems; i++)
        latents[i] = r->handles[i];
    if (r->handles) {
        reply.latents = latents;
        reply.expires_s = r->kept_until_ns > now ? (double)(r->kept_until_ns - now) / 1e9 : 0;
    }
    return reply;
}

/* Any thread: the exchange is held, or this is the loop. */
static void encode(struct srv_request *r, struct srv_exchange *x)
{
    const char **latents = calloc((size_t)r->job->nitems + 1, sizeof *latents);
    if (!latents) {
        r->code = pcv_fail(&r->err, PCV_ENOMEM, "no memory for the reply");
        return;
    }
    struct wire_reply reply = srv_flow_about(r, srv_exchange_request_id(x), latents);
    r->code = srv_results_encode(r->model->engine, r->wire, r->job, &reply, &r->made, &r->err);
    free(latents);
}

void srv_flow_count_reply(struct srv_request *r)
{
    struct srv_metrics *m = r->flow->c.metrics;
    const struct srv_job *j = r->job;
    const char *model = r->model->name;
    const char *const *labels = SRV_LABELS(model);
    srv_metrics_observe(m, SRV_M_adapt_seconds, r->adapt_s, labels);
    srv_metrics_observe(m, SRV_M_queue_seconds, r->queue_s, labels);
    srv_metrics_observe(m, SRV_M_request_seconds, (double)(srv_now_ns() - r->arrived_ns) / 1e9,
                        labels);
    srv_metrics_add(m, SRV_M_tokens_total, (double)j->tokens_read, labels);
    for (int i = 0; i < j->nanswers; i++) {
        const struct srv_answer *a = &j->answers[i];
        const int items = a->item < 0 && !j->flow ? j->nitems : 1;
        if (a->task >= 0 && a->from == i && !a->pieces) /* those were counted one by one */
            srv_metrics_add(m, SRV_M_output_queries_total, (double)(a->rows * items),
                            SRV_LABELS(model, a->name));
    }
}

/* The body is made, or making it failed. */
static void encoded(struct srv_request *r)
{
    if (r->code) {
        /* A result that JSON cannot say is the client's choice of form in v2, and our fault in v1.
         */
        bool form = r->code == PCV_ERANGE && r->wire->form == WIRE_OIP;
        srv_flow_fail(r, form ? 400 : 500, pcv_code_name(r->code), 0);
        return;
    }
    char length[24];
    struct srv_header header = {"Inference-Header-Content-Length", length};
    bool binary = r->made.header_len >= 0;
    if (binary)
        snprintf(length, sizeof length, "%lld", (long long)r->made.header_len);
    r->success = true;
    srv_flow_count_reply(r);
    srv_http_reply(r->x, 200, r->made.type, r->made.body, r->made.len, &header, binary);
    r->made.body = NULL;
    srv_flow_done(r);
}

static void on_encode(uv_work_t *w) /* pool thread */
{
    struct srv_request *r = w->data;
    if (!atomic_load(&r->cancelled))
        encode(r, r->held);
}

static void on_encoded(uv_work_t *w, int status)
{
    struct srv_request *r = w->data;
    (void)status; /* cancelled only for orphans */
    srv_flow_retrieve(r);
    if (r->state == SRV_ORPHAN)
        srv_flow_drop(r);
    else
        encoded(r);
}

/* Too long for the loop, or for a lane that others wait for. Any thread. */
static bool is_long(const struct srv_request *r)
{
    return 4 * srv_results_size(r->model->engine, r->job) > r->flow->c.config->server_inline_limit;
}

void srv_flow_note_batch(struct srv_request *r, const struct srv_batch *b)
{
    r->computed_ns = b->finished_ns;
    r->started_ns = b->started_ns;
    r->queue_s += (double)(b->started_ns - r->queued_ns) / 1e9;
    r->encode_s += b->timing.encode_s;
    r->process_s += b->timing.process_s;
    r->decode_s += b->timing.decode_s;
    if (!r->batch_items)
        r->batch_items = b->nitems < b->max_items ? b->nitems : b->max_items;
}

void srv_flow_reply_early(struct srv_request *r, const struct srv_batch *b)
{
    if (r->wire->keep_ms || r->wire->stream || atomic_load(&r->cancelled) || is_long(r))
        return;
    srv_flow_note_batch(r, b);
    encode(r, r->held);
    r->encoded = true;
}

void srv_flow_reply(struct srv_request *r)
{
    srv_request_move(r, SRV_REPLYING);
    if (!r->encoded && is_long(r)) {
        srv_flow_submit(r, on_encode, on_encoded);
        return;
    }
    if (!r->encoded)
        encode(r, r->x);
    encoded(r);
}

/* ---- timeouts and clients that vanish ----------------------------------------------------------
 */

/* Nobody waits for it any more. */
static void give_up(struct srv_request *r, const char *reason)
{
    struct srv_flow *f = r->flow;
    srv_metrics_add(f->c.metrics, SRV_M_cancelled_total, 1, SRV_LABELS(r->model->name, reason));
    atomic_store(&r->cancelled, true);
    switch (r->state) {
    case SRV_WAITING:
        srv_share_leave(&r->follower);
        srv_batcher_unreserve(f->batcher, r->model->index);
        srv_flow_done(r);
        return;
    case SRV_QUEUED: srv_batcher_remove(f->batcher, &r->ticket); /* fallthrough */
    case SRV_SENDING: srv_flow_done(r); return;
    default: break;
    }
    if (r->state == SRV_ADAPTING || r->state == SRV_REPLYING)
        uv_cancel((uv_req_t *)&r->work);
    landed(r);
    srv_request_move(r, SRV_ORPHAN);
}

static void expire(struct srv_request *r)
{
    struct pcv_err e; /* r->err may be another thread's */
    pcv_fail(&e, PCV_EIO, "not done within %.3f s; it was %s",
             (double)(r->deadline_ns - r->arrived_ns) / 1e9, srv_state_name(r->state));
    if (r->streaming)
        srv_flow_stream_fail(r, "timeout", &e);
    else
        srv_answer_error(r->x, 504, "timeout", &e, 0);
    give_up(r, "timeout");
}

void srv_flow_expire(struct srv_flow *f, uint64_t now_ns)
{
    for (struct srv_heap_node *n; (n = srv_heap_first(&f->deadlines));) {
        struct srv_request *r = SRV_HOLDER(n, struct srv_request, alarm);
        if (r->deadline_ns > now_ns)
            return;
        expire(r);
    }
}

void srv_flow_gone(struct srv_flow *f, struct srv_request *r)
{
    (void)f;
    r->x = NULL;
    if (r->state == SRV_DONE || r->state == SRV_ORPHAN)
        srv_request_settle(r);
    else
        give_up(r, "gone");
}
