/* flow_share.c - between adapting and the queue: which inputs need not be computed, because their
 * latents are kept, or because another request computes them just now. */
#include "server/flow_internal.h"

#include "server/clock.h"

#include <stdlib.h>
#include <string.h>

static bool caches(const struct srv_request *r)
{
    return srv_flow_caches(r->flow) && !r->wire->no_cache;
}

static bool shares(const struct srv_request *r)
{
    return r->flow->c.config->latents_share && !r->wire->no_share;
}

bool srv_flow_caches(const struct srv_flow *f)
{
    return f->c.config->latents_cache && srv_store_limit(f->store) > 0;
}

static void count(struct srv_request *r, enum srv_metric metric)
{
    srv_metrics_add(r->flow->c.metrics, metric, 1, SRV_LABELS(r->model->name));
}

/* ---- latents that are there
 * ----------------------------------------------------------------------
 */

static void put(struct srv_request *r, const struct srv_job_item *of, uint64_t now)
{
    uint64_t ttl = (uint64_t)r->flow->c.config->latents_ttl * 1000000;
    if (of->keyed && caches(r))
        srv_store_put(r->flow->store, of->kept, &of->key, now, now + ttl);
}

/* The latents of an item are another's: a reference is taken over. */
static void answer_from(struct srv_request *r, int i, struct srv_kept *kept)
{
    r->job->of[i].kept = kept;
    r->job->of[i].cached = true;
}

/* Looks for an item's latents; true when they are on their way, and it follows. */
static bool must_wait(struct srv_request *r, int i, uint64_t now)
{
    struct srv_flow *f = r->flow;
    const struct srv_job_item *of = &r->job->of[i];
    struct srv_kept *kept = NULL;
    if (of->kept || !of->keyed)
        return false;
    if (caches(r))
        kept = srv_store_find(f->store, r->model->index, &of->key, now);
    if (kept) {
        answer_from(r, i, srv_kept_hold(kept));
        count(r, SRV_M_latents_hits_total);
        srv_stats_cache(&r->model->stats, true, srv_now_ns() - now);
        return false;
    }
    struct srv_lead *lead = shares(r) ? srv_share_find(f->share, r->model->index, &of->key) : NULL;
    if (!lead)
        return false;
    r->follower.item = i;
    srv_share_follow(lead, &r->follower);
    return true;
}

/* ---- latents to be filled
 * ------------------------------------------------------------------------
 */

/* An input that an earlier item of the request has as well is computed with that. */
static bool join_earlier(struct srv_request *r, int i)
{
    struct srv_job_item *of = r->job->of;
    for (int k = 0; k < i && of[i].keyed && shares(r) && !of[i].attention.n; k++)
        if (of[k].same == k && of[k].kept && !of[k].cached && of[k].keyed &&
            srv_digest_same(&of[k].key, &of[i].key)) {
            answer_from(r, i, srv_kept_hold(of[k].kept));
            of[i].same = k;
            count(r, SRV_M_latents_shared_total);
            return true;
        }
    return false;
}

/* Empty latents for an item, where they shall outlive its computation or be read beside it. */
static int make_kept(struct srv_request *r, int i, uint64_t now)
{
    struct srv_flow *f = r->flow;
    struct srv_job_item *of = &r->job->of[i];
    const size_t need = pcv_latents_need(r->model->engine);
    const bool wanted = r->wire->keep_ms || r->wire->stream;
    const bool cached = of->keyed && caches(r);
    const bool lead =
        of->keyed && shares(r) && !srv_share_find(f->share, r->model->index, &of->key);
    struct pcv_latents *latents;
    if (cached) {
        count(r, SRV_M_latents_misses_total);
        srv_stats_cache(&r->model->stats, false, srv_now_ns() - now);
    }
    if (!wanted && !lead && !(cached && srv_store_fits(f->store, need)))
        return 0;
    if (pcv_latents_new(&latents, r->model->engine, pcv_input_which(of->input), &r->err) ||
        !(of->kept = srv_kept_new(latents, r->model->index)))
        return wanted ? pcv_fail(&r->err, PCV_ENOMEM, "no memory for latents") : 0;
    if (lead)
        srv_share_lead(f->share, &r->leads[i], r->model->index, &of->key);
    return 0;
}

static int make_all(struct srv_request *r, uint64_t now)
{
    struct srv_job *j = r->job;
    if (!r->leads)
        r->leads = calloc((size_t)j->nitems, sizeof *r->leads);
    if (!r->leads)
        return pcv_fail(&r->err, PCV_ENOMEM, "no memory for %d inputs", j->nitems);
    for (int i = 0; i < j->nitems; i++)
        if (!j->of[i].kept && !join_earlier(r, i) && make_kept(r, i, now))
            return r->err.code;
    return 0;
}

void srv_flow_admit(struct srv_request *r)
{
    const uint64_t now = srv_now_ns();
    struct srv_job *j = r->job;
    if (r->asked && !j->of[0].kept)
        answer_from(r, 0, srv_kept_hold(r->asked));
    for (int i = 0; i < j->nitems; i++)
        if (must_wait(r, i, now)) {
            if (r->state != SRV_WAITING)
                srv_request_move(r, SRV_WAITING);
            return;
        }
    if (!j->flow && (r->code = make_all(r, now))) {
        srv_batcher_unreserve(r->flow->batcher, r->model->index);
        srv_flow_fail_code(r);
        return;
    }
    srv_job_prepare(j);
    srv_flow_queue(r);
}

/* ---- when it comes home
 * --------------------------------------------------------------------------
 */

/* The input stays with its latents when it is small, or a later question could not do without. */
static void give_input(struct srv_request *r, struct srv_job_item *of)
{
    enum { SMALL = 1 << 20 };
    const struct srv_job *j = r->job;
    const size_t bytes = pcv_input_bytes(of->input);
    const size_t all = (pcv_latents_need(j->model) + bytes) * (size_t)j->nitems;
    bool read = false;
    for (int t = 0; t < r->model->info->ntasks; t++)
        read |= pcv_task_reads_input(j->model, t);
    if ((bytes > SMALL && !read) || all > srv_store_limit(r->flow->store))
        return;
    pcv_latents_take_input(of->kept->latents, of->input);
    of->input = NULL;
}

void srv_flow_settle(struct srv_request *r)
{
    const uint64_t now = srv_now_ns();
    struct srv_job *j = r->job;
    for (int i = 0; j && r->leads && i < j->nitems; i++) {
        struct srv_job_item *of = &j->of[i];
        const bool filled = of->kept && pcv_latents_filled(of->kept->latents);
        if (filled && !of->kept->bytes) {
            give_input(r, of);
            of->kept->bytes = pcv_latents_bytes(of->kept->latents);
            put(r, of, now);
        }
        srv_share_end(r->flow->share, &r->leads[i], filled ? of->kept : NULL);
    }
}

void srv_flow_wake(struct srv_flow *f)
{
    for (struct srv_follower *w; (w = srv_share_woken(f->share));) {
        struct srv_request *r = SRV_HOLDER(w, struct srv_request, follower);
        if (w->kept) {
            answer_from(r, w->item, w->kept);
            w->kept = NULL;
            put(r, &r->job->of[w->item], srv_now_ns());
            count(r, SRV_M_latents_shared_total);
        }
        srv_flow_admit(r);
    }
}

/* ---- handles
 * -------------------------------------------------------------------------------------
 */

int srv_flow_keep(struct srv_request *r)
{
    const uint64_t now = srv_now_ns();
    const struct srv_job *j = r->job;
    if (!r->wire->keep_ms || r->handles)
        return 0;
    r->handles = calloc((size_t)j->nitems, sizeof *r->handles);
    if (!r->handles)
        return pcv_fail(&r->err, PCV_ENOMEM, "no memory for the handles");
    r->kept_until_ns = now + r->wire->keep_ms * 1000000;
    for (int i = 0; i < j->nitems; i++) {
        const struct srv_entry *entry;
        if (srv_store_keep(r->flow->store, j->of[i].kept, r->model->info->fingerprint, now,
                           r->kept_until_ns, &entry, &r->err))
            return pcv_err_at(&r->err, "$.keep");
        memcpy(r->handles[i], entry->handle, sizeof r->handles[i]);
    }
    return 0;
}

void srv_flow_unkeep(struct srv_request *r)
{
    for (int i = 0; r->handles && i < r->job->nitems; i++) {
        const struct srv_entry *entry =
            srv_store_handle(r->flow->store, r->handles[i], strlen(r->handles[i]), srv_now_ns());
        if (entry)
            srv_store_delete(r->flow->store, entry);
    }
}
