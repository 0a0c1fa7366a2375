/* forward_decode.c - the decode stage of a pass, reader by reader: latents become keys and values,
 * then tiles of query rows go through the decoder. Few rows of many clients, and of all tasks that
 * share the decoder, share a tile. */
#include "lib/attention/shared.h"
#include "lib/base/pool.h"
#include "lib/model/forward.h"
#include "lib/model/latents.h"

#include <stdlib.h>

int pcv_ws_reserve_jobs(struct pcv_ws *ws, int n, struct pcv_err *e)
{
    struct pcv_decode_job *jobs;
    const struct pcv_decode_job **pack;
    struct pcv_decode_group *groups;

    if (n <= ws->job_capacity)
        return 0;
    jobs = calloc((size_t)n, sizeof(*jobs));
    pack = calloc((size_t)n, sizeof(*pack));
    groups = calloc((size_t)n, sizeof(*groups));
    if (!jobs || !pack || !groups) {
        free(jobs);
        free(pack);
        free(groups);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d queries", n);
    }
    free(ws->jobs);
    free(ws->pack);
    free(ws->groups);
    ws->jobs = jobs;
    ws->pack = pack;
    ws->groups = groups;
    ws->job_capacity = n;
    return 0;
}

/* ---- planning, before the threads start --------------------------------------------------------
 */

static struct pcv_decode_job job_of(const struct pcv_pass *p, int item, const struct pcv_query *q)
{
    const struct pcv_decoder *d = &p->m->plan.decoder[q->task];
    const struct pcv_item *it = &p->items[item];
    const bool filled = it->kept && pcv_latents_filled(it->kept);
    struct pcv_decode_job job = {
        .d = d,
        .latents = filled ? it->kept->x : pcv_pass_x(p, item),
        .plain = (p->ws->flags & PCV_WS_DENSE) || d->written,
        .queries = pcv_queries_of(p->m, q->task, it->input),
        .rows = q->rows,
        .nrows = q->rows ? q->nrows : pcv_query_rows_all(p->m, q->task, it->input),
        .logits = q->logits,
        .item = item,
    };

    if (job.queries && job.queries->nsegments == 0)
        job.nrows = 0; /* none were given */
    job.lean = !job.plain && !filled && job.nrows > 0 && pcv_decode_lean(d, job.queries, job.nrows);
    return job;
}

/* Where the item's keys and values are, or will be made: with its kept latents, unless another
 * forward is just making them there, or in the workspace. True when this pass has to make them. */
static bool find_prepared(struct pcv_pass *p, int reader, const struct pcv_decode_job *job,
                          float **floats)
{
    struct pcv_latents *kept = p->items[job->item].kept;
    const bool plain = p->ws->flags & PCV_WS_DENSE; /* the specification makes its own */

    if (kept && job->projects && !plain) {
        switch (pcv_latents_claim(kept, reader, floats)) {
        case PCV_LATENTS_READY: return false;
        case PCV_LATENTS_MINE: p->claims[job->item] |= 1u << reader; return true;
        case PCV_LATENTS_ELSEWHERE: break;
        }
    }
    *floats = p->a.decode + (size_t)job->item * p->a.decode_floats;
    return true;
}

/* The jobs of one item for one reader share what is prepared of its latents. The first makes it,
 * with keys and values when one of them wants those. */
static void share_prepared(struct pcv_pass *p, int reader, struct pcv_decode_job *jobs, int n)
{
    int *first = p->ws->first;

    for (int i = 0; i < p->n; i++)
        first[i] = -1;
    for (int i = 0; i < n; i++) {
        if (first[jobs[i].item] < 0)
            first[jobs[i].item] = i;
        jobs[first[jobs[i].item]].projects |= !jobs[i].lean;
    }
    for (int i = 0; i < n; i++) {
        struct pcv_decode_job *of = &jobs[first[jobs[i].item]];

        if (of == &jobs[i])
            of->prepares = find_prepared(p, reader, of, &of->item_scratch);
        jobs[i].item_scratch = of->item_scratch;
    }
}

/* Small jobs join the open group while its tile has room; a large one is a group of its own. */
static void group_jobs(struct pcv_pass *p, int reader, int first)
{
    struct pcv_decode_group *g = p->ws->groups + first;
    int n = 0, tiles = 0, room = 0;

    for (int i = 0; i < p->njobs[reader]; i++) {
        const struct pcv_decode_job *job = &p->ws->jobs[first + i];
        const bool packs = pcv_decode_packs(job->d, job);
        const int rows = job->nrows;

        if (packs && n > 0 && rows <= room) {
            g[n - 1].njobs++;
            room -= rows;
            continue;
        }
        g[n].first = first + i;
        g[n].njobs = 1;
        g[n].first_tile = tiles;
        g[n].ntiles = packs ? 1 : (rows + PCV_DECODE_TILE - 1) / PCV_DECODE_TILE;
        room = packs ? PCV_DECODE_TILE - rows : -1;
        tiles += g[n].ntiles;
        n++;
    }
    p->ngroups[reader] = n;
    p->ntiles += tiles;
}

/* The jobs of one task, item after item; returns how many there are now. */
static int add_jobs(struct pcv_pass *p, int task, int at)
{
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j < p->items[i].nqueries; j++)
            if (p->items[i].queries[j].task == task)
                p->ws->jobs[at++] = job_of(p, i, &p->items[i].queries[j]);
    return at;
}

int pcv_pass_plan_decode(struct pcv_pass *p, struct pcv_err *e)
{
    const struct pcv_plan *plan = &p->m->plan;
    int total = 0, at = 0, r;

    for (int i = 0; i < p->n; i++)
        total += p->items[i].nqueries;
    r = pcv_ws_reserve_jobs(p->ws, total, e);
    if (r < 0)
        return r;
    for (int reader = 0; reader < plan->nreaders; reader++) {
        const int first = at;

        for (int task = 0; task < p->m->bp.ntasks; task++)
            if (plan->reader[task] == reader)
                at = add_jobs(p, task, at);
        p->njobs[reader] = at - first;
        share_prepared(p, reader, p->ws->jobs + first, at - first);
        group_jobs(p, reader, first);
    }
    return 0;
}

/* Channels that the widest product of a layer's tail sums over. */
static int widest_sum(const struct pcv_layer_dims *d)
{
    const int wide = d->v > d->q_dim ? d->v : d->q_dim;

    return d->hidden > wide ? d->hidden : wide;
}

bool pcv_pass_is_small(const struct pcv_pass *p)
{
    size_t columns = 0, attention = 0; /* multiply-adds: of a unit of a product; of all rows */

    if (p->nfresh > 0 || p->ntiles > 1)
        return false;
    for (int i = 0; i < p->n; i++)
        if (p->items[i].attention)
            return false;
    for (int reader = 0, first = 0; reader < p->m->plan.nreaders; first += p->njobs[reader++])
        for (int i = first; i < first + p->njobs[reader]; i++) {
            const struct pcv_decode_job *job = &p->ws->jobs[i];
            const struct pcv_layer *l = job->d->layer;
            const size_t rows = (size_t)job->nrows;

            if (job->prepares)
                return false;
            if (!l) /* pool, latents: nothing to share */
                continue;
            columns += rows * (size_t)widest_sum(&l->d) * PCV_PANEL_COLUMNS;
            attention += rows * (size_t)job->d->latents * (size_t)(l->d.qk + l->d.v);
        }
    return !pcv_worth_sharing(columns) && !pcv_worth_sharing(attention / 2);
}

void pcv_pass_settle(struct pcv_pass *p, bool ran)
{
    for (int i = 0; i < p->n; i++)
        for (int reader = 0; p->claims[i] >> reader; reader++)
            if (p->claims[i] >> reader & 1)
                pcv_latents_settle(p->items[i].kept, reader,
                                   ran && !pcv_item_cancelled(&p->items[i]));
}

/* ---- on all threads ---------------------------------------------------------------------------
 */

static void prepare(struct pcv_pass *p, int reader, int first, int thread)
{
    const int latents = p->m->bp.num_latents;
    const int blocks = (latents + PCV_DECODE_BLOCK - 1) / PCV_DECODE_BLOCK, n = p->njobs[reader];

    for (int u; (u = pcv_units_next(&p->prepare[reader])) < n * blocks;) {
        const int row0 = u % blocks * PCV_DECODE_BLOCK;
        struct pcv_decode_job job = p->ws->jobs[first + u / blocks];

        if (!job.prepares || pcv_item_cancelled(&p->items[job.item]))
            continue;
        job.lean = !job.projects;
        pcv_decode_prepare(job.d, p->m->plan.k, &job, row0, pcv_pass_scratch(p, thread));
    }
    pcv_pool_barrier(p->pool);
}

/* The jobs of a shared tile that are still wanted. */
static int gather_pack(struct pcv_pass *p, const struct pcv_decode_group *g,
                       const struct pcv_decode_job **pack)
{
    int n = 0;

    for (int i = 0; i < g->njobs; i++) {
        const struct pcv_decode_job *job = &p->ws->jobs[g->first + i];

        if (job->nrows > 0 && !pcv_item_cancelled(&p->items[job->item]))
            pack[n++] = job;
    }
    return n;
}

static void tile(struct pcv_pass *p, const struct pcv_decode_group *g, int i,
                 const struct pcv_worker *w)
{
    const struct pcv_decode_job *job = &p->ws->jobs[g->first];

    if (pcv_decode_packs(job->d, job)) {
        const struct pcv_decode_job **pack = p->ws->pack + g->first; /* room of its own */
        const int n = gather_pack(p, g, pack);

        if (n > 0)
            pcv_decode_pack(p->m->plan.k, w, pack, n,
                            (struct pcv_decode_scratch){p->a.thread, p->a.thread_floats});
    } else if (!pcv_item_cancelled(&p->items[job->item])) {
        const int row0 = i * PCV_DECODE_TILE;
        const int left = job->nrows - row0;

        pcv_decode_tile(job->d, p->m->plan.k, w, job, row0,
                        left < PCV_DECODE_TILE ? left : PCV_DECODE_TILE,
                        pcv_pass_scratch(p, w->thread));
    }
}

void pcv_pass_decode(struct pcv_pass *p, int thread)
{
    const struct pcv_worker w = {p->pool, thread};
    int first = 0;

    for (int r = 0; r < p->m->plan.nreaders; first += p->njobs[r], r++) {
        const struct pcv_decode_group *g = p->ws->groups + first;
        const int n = p->ngroups[r];
        const int tiles = n ? g[n - 1].first_tile + g[n - 1].ntiles : 0;
        int at = 0;

        if (n == 0)
            continue;
        prepare(p, r, first, thread);
        for (int u; (u = pcv_units_next(&p->tiles[r])) < tiles;) {
            while (u >= g[at].first_tile + g[at].ntiles)
                at++;
            tile(p, &g[at], u - g[at].first_tile, &w);
        }
        pcv_pool_meet(&w);
    }
}
