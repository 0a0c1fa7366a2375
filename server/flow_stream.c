/* flow_stream.c - replies in pieces: lines of JSON, each as soon as it is computed.
 *
 * The first run encodes, processes and gives the answers that come whole. Then each piece, some
 * rows of one answer, is a run of its own on the latents, queued like any request, so that others
 * get their turn. The next is queued when the client has taken most of what was sent. */
#include "server/flow_internal.h"

#include "server/answer.h"
#include "server/clock.h"

#include <stdlib.h>
#include <string.h>

static void on_room(struct srv_exchange *x);

static void send_line(struct srv_request *r, char *line, size_t len, size_t *queued)
{
    if (!r->streaming)
        srv_http_stream_begin(r->x, 200, "application/x-ndjson", NULL, 0, on_room);
    r->streaming = true;
    if (line)
        *queued = srv_http_stream_send(r->x, line, len);
}

/* In the place of the last line. The request is still to be ended. */
void srv_flow_stream_fail(struct srv_request *r, const char *code, const struct pcv_err *e)
{
    char *json = wire_error_json(WIRE_NATIVE, code, e->msg, *e->where ? e->where : NULL,
                                 srv_exchange_request_id(r->x));
    size_t len = json ? strlen(json) : 0, queued;
    char *line = json ? realloc(json, len + 2) : NULL;
    if (!line) {
        free(json);
        srv_http_stream_abort(r->x);
        return;
    }
    memcpy(line + len, "\n", 2);
    send_line(r, line, len + 1, &queued);
    srv_http_stream_end(r->x);
}

/* Everything was sent but the last line. */
static void end(struct srv_request *r)
{
    const char **latents = calloc((size_t)r->job->nitems + 1, sizeof *latents);
    char *line;
    size_t len, queued;
    if (!latents)
        r->code = pcv_fail(&r->err, PCV_ENOMEM, "no memory for the last line");
    else {
        struct wire_reply reply = srv_flow_about(r, srv_exchange_request_id(r->x), latents);
        r->code = wire_done_encode(&reply, &line, &len, &r->err);
    }
    free(latents);
    if (r->code) {
        srv_flow_fail_code(r);
        return;
    }
    send_line(r, line, len, &queued);
    r->success = true;
    srv_flow_count_reply(r);
    srv_http_stream_end(r->x);
    srv_flow_done(r);
}

static void queue_piece(struct srv_request *r)
{
    const uint64_t now = srv_now_ns();
    const uint64_t fresh = now + (uint64_t)r->model->config->timeout * 1000000;
    r->ticket.items = r->job->nrun;
    r->ticket.gmac = r->job->run_gmac;
    /* As urgent as what arrives now: it has had its turn. */
    r->ticket.deadline_ns = fresh > r->deadline_ns ? fresh : r->deadline_ns;
    if (srv_batcher_again(r->flow->batcher, &r->ticket) != SRV_TAKEN) {
        r->code = pcv_fail(&r->err, PCV_ENOMEM, "no memory for the queue");
        srv_flow_fail_code(r);
        return;
    }
    r->queued_ns = now;
    srv_request_move(r, SRV_QUEUED);
}

static void on_room(struct srv_exchange *x)
{
    struct srv_request *r = srv_exchange_data(x);
    if (r && r->state == SRV_SENDING)
        queue_piece(r);
}

/* Lines are made, or making them failed. */
static void encoded(struct srv_request *r)
{
    size_t queued = 0;
    if (r->code) {
        srv_flow_fail(r, r->code == PCV_ERANGE ? 500 : wire_status(r->code), pcv_code_name(r->code),
                      0);
        return;
    }
    send_line(r, r->made.body, r->made.len, &queued);
    r->made = (struct srv_body_made){.header_len = -1};
    if (!srv_job_next_piece(r->job))
        end(r);
    else if (queued < SRV_STREAM_LOW)
        queue_piece(r);
    else
        srv_request_move(r, SRV_SENDING);
}

/* What the last run gave, as lines. Any thread. */
static void encode(struct srv_request *r)
{
    const struct srv_job *j = r->job;
    r->code = (srv_job_run_item(j, 0) >= 0 ? srv_results_whole : srv_results_piece)(
        r->model->engine, r->wire, j, &r->made, &r->err);
}

static void on_encode(uv_work_t *w) /* pool thread */
{
    struct srv_request *r = w->data;
    if (!atomic_load(&r->cancelled))
        encode(r);
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

void srv_flow_stream(struct srv_request *r)
{
    const struct srv_job *j = r->job;
    if (srv_job_run_item(j, 0) < 0)
        srv_metrics_add(r->flow->c.metrics, SRV_M_output_queries_total, j->piece.n,
                        SRV_LABELS(r->model->name, j->answers[j->piece.answer].name));
    srv_request_move(r, SRV_REPLYING);
    if (4 * srv_results_size(r->model->engine, j) > r->flow->c.config->server_inline_limit) {
        srv_flow_submit(r, on_encode, on_encoded);
        return;
    }
    encode(r);
    encoded(r);
}
