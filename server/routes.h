/* routes.h - which path means what.
 *
 * One table of routes (routes.c); handlers of /v1 in routes_v1.c and routes_latents.c, of /v2 in
 * routes_v2.c. Loop thread. */
#ifndef SRV_ROUTES_H
#define SRV_ROUTES_H

#include "server/flow.h"
#include "server/http.h"

/* What handlers work with; all borrowed. */
struct srv_routes {
    const struct srv_config *config;
    struct srv_registry *registry;
    struct srv_flow *flow;
    struct srv_metrics *metrics;
    struct srv_http *http; /* NULL until it is made: it wants the ops first */
};

/* The HTTP layer's ops; ctx is s. */
struct srv_http_ops srv_routes_ops(struct srv_routes *s);

/* A path taken apart. */
struct srv_route;
struct srv_match {
    const struct srv_route *route;
    /* Within the path, not terminated; NULL when the route has none. */
    const char *model, *version, *id;
    size_t model_len, version_len, id_len;
};

/* The route of a path and method. Returns 0, -404, or -405 with *allow naming the methods; HEAD
 * goes where GET does. */
int srv_route_find(const char *method, const char *path, struct srv_match *ret, const char **allow);
const char *srv_route_name(const struct srv_route *r); /* "/v2/models/{m}/infer" */

#endif
