/* registry.h - the models that are served: what they are called, what they can, how they are doing.
 *
 * Names and configuration stand from the start; the engine's model arrives when the loader is done
 * (srv_model_ready), and everything about it is immutable from then on. Loop thread, but what
 * `engine` points to may be read by any. */
#ifndef SRV_REGISTRY_H
#define SRV_REGISTRY_H

#include "lib/perceiver.h"
#include "proto/wire.h"
#include "server/config.h"
#include "server/stats.h"

/* There is one version of each model. */
#define SRV_MODEL_VERSION "1"

enum srv_model_state { SRV_MODEL_LOADING, SRV_MODEL_READY, SRV_MODEL_UNAVAILABLE };

struct srv_model {
    int index;
    const char *name;
    const struct srv_model_config *config; /* borrow */
    enum srv_model_state state;
    const char *reason;       /* static text; "" when there is nothing to say */
    struct pcv_model *engine; /* own; NULL while loading */
    const struct pcv_model_info *info;
    struct wire_model_desc desc; /* arrays: own */
    struct srv_stats stats;
};

struct srv_registry {
    int n;
    struct srv_model *models;
};

/* All models of c, LOADING. c must outlive the registry. own: srv_registry_free */
PCV_CHECK int srv_registry_new(struct srv_registry **ret, const struct srv_config *c,
                               struct pcv_err *e);
void srv_registry_free(struct srv_registry *r); /* NULL is fine; closes the engine's models */

/* LOADING -> READY. engine is taken, also on failure (PCV_ENOMEM). */
PCV_CHECK int srv_model_ready(struct srv_model *m, struct pcv_model *engine, struct pcv_err *e);

/* READY or LOADING -> UNAVAILABLE, all of them: the daemon drains. */
void srv_registry_unavailable(struct srv_registry *r, const char *reason);

/* By name of a length; NULL when unknown. */
struct srv_model *srv_registry_find(const struct srv_registry *r, const char *name, size_t len);

bool srv_registry_ready(const struct srv_registry *r); /* every model is */

/* As the wire describes it, now. borrow: until the model's state changes */
struct wire_model_desc srv_model_describe(const struct srv_model *m);
struct wire_model_stats srv_model_stats(const struct srv_model *m);

/* Bytes of weights, mapped and allocated; 0 while loading. */
uint64_t srv_model_bytes(const struct srv_model *m);

#endif
