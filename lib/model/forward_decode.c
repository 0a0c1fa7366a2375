/* forward_decode.c - the decode stage of a pass, task by task: latents become keys and values, then
 * tiles of query rows go through the decoder. Few rows of many clients share a tile. */
#include "lib/base/pool.h"
#include "lib/model/forward.h"

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

static struct pcv_decode_job job_of(const struct pcv_pass *p, int item, const struct pcv_query *q)
{
    const struct pcv_decoder *d = &p->m->plan.decoder[q->task];
    const struct pcv_input *in = p->items[item].input;
    struct pcv_decode_job job = {
        .latents = pcv_pass_x(p, item),
        .item_scratch = p->a.decode + (size_t)item * p->a.decode_floats,
        .plain = (p->ws->flags & PCV_WS_DENSE) || d->written,
        .queries = pcv_queries_of(p->m, q->task, in),
        .rows = q->rows,
        .nrows = q->rows ? q->nrows : pcv_query_rows_all(p->m, q->task, in),
        .logits = q->logits,
        .item = item,
    };

    if (job.queries && job.queries->nsegments == 0)
        job.nrows = 0; /* none were given */
    job.absorbed = !job.plain && pcv_decode_absorbs(d, job.nrows);
    return job;
}

/* Small jobs join the open group while its tile has room; a large one is a group of its own. */
static void group_jobs(struct pcv_pass *p, int task, int first)
{
    struct pcv_decode_group *g = p->ws->groups + first;
    int n = 0, tiles = 0, room = 0;

    for (int i = 0; i < p->njobs[task]; i++) {
        const struct pcv_decode_job *job = &p->ws->jobs[first + i];
        const bool packs = pcv_decode_packs(&p->m->plan.decoder[task], job);
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
    p->ngroups[task] = n;
}

int pcv_pass_plan_decode(struct pcv_pass *p, struct pcv_err *e)
{
    int total = 0, at = 0, r;

    for (int i = 0; i < p->n; i++) {
        total += p->items[i].nqueries;
        for (int j = 0; j < p->items[i].nqueries; j++)
            p->njobs[p->items[i].queries[j].task]++;
    }
    r = pcv_ws_reserve_jobs(p->ws, total, e);
    if (r < 0)
        return r;
    for (int task = 0; task < p->m->bp.ntasks; task++) {
        const int first = at;

        for (int i = 0; i < p->n; i++)
            for (int j = 0; j < p->items[i].nqueries; j++) {
                const struct pcv_query *q = &p->items[i].queries[j];

                if (q->task == task)
                    p->ws->jobs[at++] = job_of(p, i, q);
            }
        group_jobs(p, task, first);
    }
    return 0;
}

/* Several queries of one item share its keys and values: the first job prepares for all of them. */
static bool prepares(const struct pcv_decode_job *jobs, int i, struct pcv_decode_job *ret)
{
    if (i > 0 && jobs[i - 1].item == jobs[i].item)
        return false;
    *ret = jobs[i];
    return true;
}

static void prepare(struct pcv_pass *p, int task, int first, int thread)
{
    const struct pcv_decoder *d = &p->m->plan.decoder[task];
    const int blocks = (d->latents + p->block - 1) / p->block, n = p->njobs[task];
    const struct pcv_decode_job *jobs = p->ws->jobs + first;

    for (int u; (u = pcv_units_next(&p->prepare[task])) < n * blocks;) {
        const int i = u / blocks, row0 = u % blocks * p->block;
        struct pcv_decode_job job;

        if (pcv_item_cancelled(&p->items[jobs[i].item]) || !prepares(jobs, i, &job))
            continue;
        for (int j = i; j < n && jobs[j].item == jobs[i].item; j++)
            job.absorbed = job.absorbed && jobs[j].absorbed;
        pcv_decode_prepare(d, p->m->plan.k, &job, row0,
                           d->latents - row0 < p->block ? d->latents - row0 : p->block,
                           pcv_pass_scratch(p, thread));
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

static void tile(struct pcv_pass *p, int task, const struct pcv_decode_group *g, int i,
                 float *scratch)
{
    const struct pcv_decoder *d = &p->m->plan.decoder[task];
    const struct pcv_decode_job *job = &p->ws->jobs[g->first];

    if (pcv_decode_packs(d, job)) {
        const struct pcv_decode_job **pack = p->ws->pack + g->first; /* room of its own */
        const int n = gather_pack(p, g, pack);

        if (n > 0)
            pcv_decode_pack(d, p->m->plan.k, pack, n, scratch);
    } else if (!pcv_item_cancelled(&p->items[job->item])) {
        const int row0 = i * PCV_DECODE_TILE;
        const int left = job->nrows - row0;

        pcv_decode_tile(d, p->m->plan.k, job, row0, left < PCV_DECODE_TILE ? left : PCV_DECODE_TILE,
                        scratch);
    }
}

void pcv_pass_decode(struct pcv_pass *p, int thread)
{
    int first = 0;

    for (int task = 0; task < p->m->bp.ntasks; first += p->njobs[task], task++) {
        const struct pcv_decode_group *g = p->ws->groups + first;
        const int n = p->ngroups[task];
        const int tiles = n ? g[n - 1].first_tile + g[n - 1].ntiles : 0;
        int at = 0;

        if (n == 0)
            continue;
        prepare(p, task, first, thread);
        for (int u; (u = pcv_units_next(&p->tiles[task])) < tiles;) {
            while (u >= g[at].first_tile + g[at].ntiles)
                at++;
            tile(p, task, &g[at], u - g[at].first_tile, pcv_pass_scratch(p, thread));
        }
        pcv_pool_barrier(p->pool);
    }
}
