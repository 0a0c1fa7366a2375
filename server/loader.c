#include "server/loader.h"

#include "server/clock.h"
#include "server/log.h"
#include "server/memory.h"
#include "server/notify.h"

#include <stdlib.h>
#include <string.h>

/* Warming ends after so many runs, the first of which finds everything cold, or so much time. */
enum { WARM_RUNS = 2 };
#define WARM_SECONDS 0.3
/* Positions or pixels along a side where a model takes any number. */
enum { WARM_SIZE = 64 };

/* ---- opening ----------------------------------------------------------------------------------
 */

static int open_models(struct srv_loader *l, struct pcv_err *e)
{
    struct pcv_pool *pool = srv_lanes_pool(l->lanes, 0);
    for (int i = 0; i < l->config->nmodels; i++) {
        const struct srv_model_config *c = &l->config->models[i];
        uint64_t start = srv_now_ns();
        srv_notify_status("Loading %s (%d of %d)", c->name, i + 1, l->config->nmodels);
        srv_notify_extend(600000000);
        int r = pcv_model_open(&l->models[i].engine, c->path, pool, e);
        if (r) {
            pcv_err_at(e, "model %s", c->name);
            return r;
        }
        const struct pcv_model_info *info = pcv_model_info(l->models[i].engine);
        srv_log(SRV_INFO, NULL, "model %s: %s, %.1f M parameters, %.1f MB, opened in %.0f ms",
                c->name, info->architecture, (double)info->parameters / 1e6,
                (double)(info->mapped_bytes + info->owned_bytes) / 1e6,
                (double)(srv_now_ns() - start) / 1e6);
    }
    return 0;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static int check_memory(const struct srv_loader *l, const struct srv_lane_room *rooms,
                        struct pcv_err *e)
{
    const struct srv_config *c = l->config;
    double limit = (double)c->server_memory_limit;
    double models = 0, workspaces = srv_lanes_need(l->lanes, rooms, c->nmodels);
    double connections = (double)c->http_max_connections * (double)c->http_connection_memory;
    const double mb = 1e6;
    if (limit <= 0)
        limit = srv_memory_available();
    for (int i = 0; i < c->nmodels; i++) {
        const struct pcv_model_info *info = pcv_model_info(l->models[i].engine);
        models += (double)(info->mapped_bytes + info->owned_bytes);
    }
    double latents = (double)c->latents_memory;
    double sum = models + workspaces + connections + latents;
    if (sum > limit)
        return pcv_fail(e, PCV_ELIMIT,
                        "memory: models %.0f MB + workspaces of %d lanes %.0f MB + %lld "
                        "connections %.0f MB + kept latents %.0f MB = %.0f MB do not fit into "
                        "%.0f MB",
                        models / mb, srv_lanes_count(l->lanes), workspaces / mb,
                        (long long)c->http_max_connections, connections / mb, latents / mb,
                        sum / mb, limit / mb);
    double most = sum + (double)c->http_body_memory + (double)c->server_result_memory;
    srv_log(
        most > limit ? SRV_WARN : SRV_INFO, NULL,
        "memory: models %.0f MB, workspaces %.0f MB, connections %.0f MB, kept latents %.0f MB; "
        "with all bodies and results that are allowed %.0f MB of %.0f MB",
        models / mb, workspaces / mb, connections / mb, latents / mb, most / mb, limit / mb);
    return 0;
}

/* ---- warming ----------------------------------------------------------------------------------
 */

/* Zeros of the shape that the model takes, batch 1. own: data */
static int zeros(const struct pcv_tensor_spec *s, int64_t max_tokens, struct pcv_tensor *t,
                 struct pcv_err *e)
{
    *t = (struct pcv_tensor){.name = s->name, .dtype = s->dtype, .ndim = s->ndim};
    for (int d = 0; d < s->ndim; d++) {
        t->shape[d] = d == 0 && !s->shared ? 1 : s->shape[d];
        if (t->shape[d] < 0)
            t->shape[d] = max_tokens < WARM_SIZE ? max_tokens : WARM_SIZE;
    }
    int64_t bytes = pcv_shape_bytes(t->dtype, t->shape, t->ndim);
    t->nbytes = bytes > 0 ? (size_t)bytes : 0;
    t->data = bytes > 0 ? calloc(1, t->nbytes) : NULL;
    return t->data ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a warming input");
}

/* Whether input `which` is made from this tensor: all that must be there, or, where inputs come one
 * at a time, the one that has its name. */
static bool is_of(const struct pcv_model_info *info, const struct pcv_tensor_spec *s, int which)
{
    return !s->optional || (!info->together && !strcmp(s->name, info->inputs[which].name));
}

static int warm_input(const struct pcv_model *m, int which, struct pcv_input **ret,
                      struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(m);
    struct pcv_tensor *t = calloc((size_t)info->ntensors + 1, sizeof *t);
    int n = 0, r = t ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a warming input");
    for (int i = 0; !r && i < info->ntensors; i++)
        if (is_of(info, &info->tensors[i], which))
            r = zeros(&info->tensors[i], info->inputs[which].max_tokens, &t[n++], e);
    if (!r)
        r = pcv_input_from_tensors(ret, m, t, n, 0, e);
    for (int i = 0; i < n; i++)
        free((void *)t[i].data);
    free(t);
    return r;
}

/* Runs an item that asks one row of every task that answers it, until its time is steady. m: where
 * that time goes; NULL: one run, and it goes nowhere. */
static int run(const struct pcv_model *engine, struct srv_loaded_model *m,
               const struct pcv_input *in, struct pcv_ws *ws, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(engine);
    static const int32_t first_row = 0;
    struct pcv_query *queries = calloc((size_t)info->ntasks + 1, sizeof *queries);
    struct pcv_item item = {.input = in, .queries = queries};
    struct pcv_cost cost;
    double spent = 0, last = 0;
    int r = queries ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory to warm");
    for (int i = 0; !r && i < info->ntasks; i++) {
        struct pcv_query *q = &queries[item.nqueries];
        if (!(info->tasks[i].inputs >> pcv_input_which(in) & 1))
            continue;
        *q = (struct pcv_query){.task = i, .nrows = 1, .rows = &first_row};
        q->logits = calloc((size_t)info->tasks[i].width, sizeof(float));
        item.nqueries++;
        if (!q->logits)
            r = pcv_fail(e, PCV_ENOMEM, "no memory to warm");
    }
    for (int i = 0; !r && i < (m ? WARM_RUNS : 1) && spent < WARM_SECONDS; i++) {
        uint64_t start = srv_now_ns();
        r = pcv_forward(engine, ws, &item, 1, NULL, e);
        last = (double)(srv_now_ns() - start) / 1e9;
        spent += last;
    }
    if (!r && m) {
        pcv_cost_item(engine, &item, &cost, NULL);
        m->gmac += (cost.encode + cost.process + cost.decode) / 1e9;
        m->seconds += last;
    }
    for (int i = 0; queries && i < item.nqueries; i++)
        free(queries[i].logits);
    free(queries);
    return r;
}

/* All inputs of a model, one after another. */
static int warm_model(const struct srv_loader *l, int model, struct srv_loaded_model *m, int lane,
                      struct pcv_err *e)
{
    const struct pcv_model *engine = l->models[model].engine;
    const struct pcv_model_info *info = pcv_model_info(engine);
    const int inputs = info->together ? 1 : info->ninputs;
    for (int which = 0; which < inputs; which++) {
        struct pcv_input *in = NULL;
        int r = warm_input(engine, which, &in, e);
        if (!r)
            r = run(engine, m, in, srv_lanes_ws(l->lanes, lane), e);
        pcv_input_free(in);
        if (r)
            return pcv_err_at(e, "model %s: warming", l->config->models[model].name);
    }
    return 0;
}

/* On the first lane, alone: how fast a model is. */
static int warm_models(struct srv_loader *l, struct pcv_err *e)
{
    for (int i = 0; i < l->config->nmodels; i++) {
        const char *name = l->config->models[i].name;
        srv_notify_status("Warming %s", name);
        int r = warm_model(l, i, &l->models[i], 0, e);
        if (r)
            return r;
        srv_log(SRV_INFO, NULL, "model %s: warmed, %.3g GMAC in %.1f ms", name, l->models[i].gmac,
                l->models[i].seconds * 1e3);
    }
    return 0;
}

/* All lanes compute at once, as they will: what each of their threads needs is there then. */
static int warm_lane(int lane, void *ctx, struct pcv_err *e)
{
    const struct srv_loader *l = ctx;
    int r = 0;
    for (int i = 0; i < l->config->nmodels && !r; i++)
        r = warm_model(l, i, NULL, lane, e);
    return r;
}

/* ---- all of it --------------------------------------------------------------------------------
 */

static int load(struct srv_loader *l, struct pcv_err *e)
{
    const struct srv_config *c = l->config;
    struct srv_lane_room *rooms = calloc((size_t)c->nmodels, sizeof *rooms);
    int r = rooms ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory");
    if (!r)
        r = srv_lanes_new(&l->lanes, (int)c->server_lanes, (int)c->server_threads, e);
    if (!r)
        r = open_models(l, e);
    for (int i = 0; !r && i < c->nmodels; i++)
        rooms[i] = (struct srv_lane_room){.model = l->models[i].engine,
                                          .max_items = (int)c->models[i].max_batch};
    if (!r && !(r = check_memory(l, rooms, e)) &&
        !(r = srv_lanes_reserve(l->lanes, rooms, c->nmodels, e)) && !(r = warm_models(l, e)) &&
        srv_lanes_count(l->lanes) > 1)
        r = srv_lanes_each(l->lanes, warm_lane, l, e);
    free(rooms);
    return r;
}

static void on_load(uv_work_t *w) /* pool thread */
{
    struct srv_loader *l = w->data;
    l->code = load(l, &l->err);
}

static void on_loaded(uv_work_t *w, int status)
{
    struct srv_loader *l = w->data;
    (void)status;
    l->done(l);
}

int srv_loader_start(struct srv_loader *l, uv_loop_t *loop, struct pcv_err *e)
{
    l->models = calloc((size_t)l->config->nmodels, sizeof *l->models);
    if (!l->models)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d models", l->config->nmodels);
    l->work.data = l;
    int r = uv_queue_work(loop, &l->work, on_load, on_loaded);
    return r ? pcv_fail(e, PCV_EIO, "uv_queue_work: %s", uv_strerror(r)) : 0;
}

void srv_loader_clear(struct srv_loader *l)
{
    srv_lanes_free(l->lanes, NULL, NULL);
    l->lanes = NULL;
    for (int i = 0; l->models && i < l->config->nmodels; i++)
        pcv_model_close(l->models[i].engine);
    free(l->models);
    l->models = NULL;
}
