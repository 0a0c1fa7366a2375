/* routes_v1.c - the native API. */
#include "server/routes_internal.h"

#include <stdlib.h>

/* All models as the wire describes them. own: free(); NULL without memory. */
static struct wire_model_desc *describe_all(const struct srv_registry *r)
{
    struct wire_model_desc *d = calloc((size_t)r->n + 1, sizeof *d);
    for (int i = 0; d && i < r->n; i++)
        d[i] = srv_model_describe(&r->models[i]);
    return d;
}

void srv_v1_models(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct wire_model_desc *d = describe_all(s->registry);
    (void)m;
    srv_answer_json(x, 200, d ? wire_models_json(d, s->registry->n) : NULL);
    free(d);
}

void srv_v1_model(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (!model)
        return;
    struct wire_model_desc d = srv_model_describe(model);
    srv_answer_json(x, 200, wire_model_json(&d));
}

void srv_v1_perceive(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct srv_model *model = srv_route_model(s, x, m);
    if (model)
        srv_flow_infer(s->flow, x, model, WIRE_NATIVE);
}
