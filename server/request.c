#include "server/request.h"

#include "server/log.h"

#include <stdlib.h>
#include <string.h>

#define TO(s) (1u << SRV_##s)
static const struct {
    const char *name;
    unsigned next; /* states that may follow */
} states[SRV_STATES] = {
    [SRV_PARSED] = {"parsed", TO(ADAPTING) | TO(WAITING) | TO(QUEUED) | TO(DONE)},
    [SRV_ADAPTING] = {"adapting", TO(WAITING) | TO(QUEUED) | TO(DONE) | TO(ORPHAN)},
    [SRV_WAITING] = {"waiting", TO(QUEUED) | TO(DONE)},
    [SRV_QUEUED] = {"queued", TO(RUNNING) | TO(DONE)},
    [SRV_RUNNING] = {"running", TO(REPLYING) | TO(DONE) | TO(ORPHAN)},
    [SRV_REPLYING] = {"replying", TO(QUEUED) | TO(SENDING) | TO(DONE) | TO(ORPHAN)},
    [SRV_SENDING] = {"sending", TO(QUEUED) | TO(DONE)},
    [SRV_ORPHAN] = {"orphan", TO(DONE)},
    [SRV_DONE] = {"done", 0},
};

bool srv_state_may_follow(enum srv_state from, enum srv_state to)
{
    return states[from].next & 1u << to;
}

const char *srv_state_name(enum srv_state s)
{
    return states[s].name;
}

struct srv_request *srv_request_new(struct srv_flow *f, struct srv_model *m, struct srv_exchange *x,
                                    uint64_t now_ns)
{
    struct srv_request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->state = SRV_PARSED;
    r->flow = f;
    r->model = m;
    r->x = x;
    r->arrived_ns = now_ns;
    r->made.header_len = -1;
    atomic_init(&r->cancelled, false);
    return r;
}

void srv_request_move(struct srv_request *r, enum srv_state to)
{
    if (!srv_state_may_follow(r->state, to)) {
        srv_log(SRV_ERROR, r->x ? srv_exchange_request_id(r->x) : NULL,
                "bug: a request goes from %s to %s", states[r->state].name, states[to].name);
        abort();
    }
    r->state = to;
}

void srv_request_settle(struct srv_request *r)
{
    if (r->state != SRV_DONE || r->x || r->held)
        return;
    srv_share_leave(&r->follower);
    srv_job_free(r->job);
    srv_kept_release(r->asked);
    free(r->leads);
    free(r->handles);
    wire_request_free(r->wire);
    srv_source_clear(&r->source);
    free(r->made.body);
    free(r);
}

const char *srv_request_task(const struct srv_request *r)
{
    const struct srv_job *j = r->job;
    for (int i = 1; j && i < j->nanswers; i++)
        if (strcmp(j->answers[i].name, j->answers[0].name) != 0)
            return "several";
    return j && j->nanswers ? j->answers[0].name : "";
}
