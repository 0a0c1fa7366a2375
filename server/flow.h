/* flow.h - the way of requests for inference through the daemon.
 *
 * Takes exchanges from the routes and answers them: decodes and adapts (here when small, else in
 * the thread pool), queues, fills lanes, encodes. States and ownership: request.h. Lanes are filled
 * once per turn of the loop, with everything that came in it, and as soon as one comes back. Loop
 * thread. */
#ifndef SRV_FLOW_H
#define SRV_FLOW_H

#include "server/config.h"
#include "server/lanes.h"
#include "server/metrics.h"
#include "server/registry.h"
#include "server/request.h"

/* All borrowed until the flow is closed. */
struct srv_flow_parts {
    uv_loop_t *loop;
    const struct srv_config *config;
    struct srv_registry *registry;
    struct srv_metrics *metrics;
};

/* Refuses everything with 503 until it is started. own: srv_flow_close */
PCV_CHECK int srv_flow_new(struct srv_flow **ret, const struct srv_flow_parts *parts,
                           struct pcv_err *e);

/* Models are loaded and warmed: begins. lanes are borrowed, and started. A warming run of a model
 * did gmac in seconds. */
PCV_CHECK int srv_flow_start(struct srv_flow *f, struct srv_lanes *lanes, struct pcv_err *e);
void srv_flow_warmed(struct srv_flow *f, int model, double gmac, double seconds);

/* Answers the exchange, sooner or later. */
void srv_flow_infer(struct srv_flow *f, struct srv_exchange *x, struct srv_model *m,
                    enum wire_form form);
/* The same for questions to kept latents of m. */
void srv_flow_ask(struct srv_flow *f, struct srv_exchange *x, struct srv_model *m,
                  struct srv_kept *kept);
struct srv_store *srv_flow_store(struct srv_flow *f); /* borrow */
/* The exchange of this request is gone (on_gone of the HTTP layer). */
void srv_flow_gone(struct srv_flow *f, struct srv_request *r);

/* The end in two steps: what is new is still taken, but no more should come; then it is 503. */
void srv_flow_unready(struct srv_flow *f);
void srv_flow_drain(struct srv_flow *f);
bool srv_flow_ready(const struct srv_flow *f); /* started, and neither of them */

int srv_flow_in_flight(const struct srv_flow *f); /* accepted and not answered */
int srv_flow_elsewhere(const struct srv_flow *f); /* held by lanes or the pool, orphans too */
int srv_flow_hung_lane(const struct srv_flow *f, uint64_t now_ns); /* or -1 */
void srv_flow_set_gauges(struct srv_flow *f);                      /* before metrics are shown */

/* After the HTTP layer is gone, when nothing is elsewhere. Memory goes as the loop closes handles.
 */
void srv_flow_close(struct srv_flow *f); /* NULL is fine */

#endif
