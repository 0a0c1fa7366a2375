/* routes_v2.c - the Open Inference Protocol. */
#include "server/routes_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer_flag(struct srv_exchange *x, int status, const char *name, bool value)
{
    char *json = NULL;
    if (asprintf(&json, "{\"%s\":%s}", name, value ? "true" : "false") < 0)
        json = NULL;
    srv_answer_json(x, status, json);
}

void srv_v2_server(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    (void)s;
    (void)m;
    srv_answer_json(x, 200, wire_oip_server_json("perceiverd", pcv_version()));
}

void srv_v2_live(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    (void)s;
    (void)m;
    answer_flag(x, 200, "live", true);
}

void srv_v2_ready(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    bool ready = srv_registry_ready(s->registry) && srv_flow_ready(s->flow);
    (void)m;
    answer_flag(x, ready ? 200 : 503, "ready", ready);
}

void srv_v2_model(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (!model || !srv_route_ready(s, x, model))
        return;
    struct wire_model_desc d = srv_model_describe(model);
    srv_answer_json(x, 200, wire_oip_model_json(&d));
}

void srv_v2_model_ready(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (!model)
        return;
    bool ready = model->state == SRV_MODEL_READY && srv_flow_ready(s->flow);
    srv_answer_json(x, ready ? 200 : 503, wire_oip_ready_json(model->name, ready));
}

void srv_v2_config(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (!model || !srv_route_ready(s, x, model))
        return;
    struct wire_model_desc d = srv_model_describe(model);
    srv_answer_json(x, 200, wire_oip_config_json(&d));
}

void srv_v2_all_stats(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct wire_model_stats *stats = calloc((size_t)s->registry->n + 1, sizeof *stats);
    (void)m;
    for (int i = 0; stats && i < s->registry->n; i++)
        stats[i] = srv_model_stats(&s->registry->models[i]);
    srv_answer_json(x, 200, stats ? wire_oip_stats_json(stats, s->registry->n) : NULL);
    free(stats);
}

void srv_v2_stats(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (!model)
        return;
    struct wire_model_stats stats = srv_model_stats(model);
    srv_answer_json(x, 200, wire_oip_stats_json(&stats, 1));
}

void srv_v2_infer(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (model)
        srv_flow_infer(s->flow, x, model, WIRE_OIP);
}

void srv_v2_index(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    bool ready;
    size_t len;
    struct pcv_err e;
    const char *body = srv_exchange_body(x, &len);
    (void)m;
    int r = wire_oip_index_decode(body, len, &ready, &e);
    if (r) {
        srv_answer_error(x, wire_status(r), pcv_code_name(r), &e, 0);
        return;
    }
    struct wire_model_desc *d = calloc((size_t)s->registry->n + 1, sizeof *d);
    int n = 0;
    for (int i = 0; d && i < s->registry->n; i++)
        if (!ready || s->registry->models[i].state == SRV_MODEL_READY)
            d[n++] = srv_model_describe(&s->registry->models[i]);
    srv_answer_json(x, 200, d ? wire_oip_index_json(d, n) : NULL);
    free(d);
}
