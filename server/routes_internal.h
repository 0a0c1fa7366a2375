/* routes_internal.h - what routes.c and its handlers share; nobody else includes it. */
#ifndef SRV_ROUTES_INTERNAL_H
#define SRV_ROUTES_INTERNAL_H

#include "server/answer.h"
#include "server/routes.h"

typedef void srv_handler(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m);

/* The model of the path, or NULL when it is unknown and was answered 404. */
struct srv_model *srv_route_model(struct srv_routes *s, struct srv_exchange *x,
                                  const struct srv_match *m);
/* Answers 503 with Retry-After when the model is not ready; returns whether it is. */
bool srv_route_ready(struct srv_routes *s, struct srv_exchange *x, const struct srv_model *m);

/* routes_v1.c */
srv_handler srv_v1_models, srv_v1_model, srv_v1_perceive;
/* routes_latents.c */
srv_handler srv_latents_query, srv_latents_get, srv_latents_delete, srv_latents_tensor,
    srv_latents_import;
/* routes_v2.c */
srv_handler srv_v2_server, srv_v2_live, srv_v2_ready, srv_v2_model, srv_v2_model_ready,
    srv_v2_config, srv_v2_all_stats, srv_v2_stats, srv_v2_infer, srv_v2_index;

#endif
