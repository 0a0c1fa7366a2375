/* loader.h - opens all models, plans the memory, makes the lanes and warms each with every model,
 * on a thread of the pool, while the loop already answers that it is not ready.
 *
 * Any failure is final: it names the file and the tensor, or the sums that do not fit. */
#ifndef SRV_LOADER_H
#define SRV_LOADER_H

#include "server/config.h"
#include "server/lanes.h"

struct srv_loaded_model {
    struct pcv_model *engine; /* own until taken: set it to NULL */
    double gmac, seconds;     /* of the last warming run */
};

struct srv_loader {
    const struct srv_config *config;    /* borrow */
    void (*done)(struct srv_loader *l); /* loop thread */
    void *data;                         /* the caller's */
    /* Results, from done on. */
    int code; /* 0 or PCV_E*, and err says why */
    struct pcv_err err;
    struct srv_loaded_model *models; /* [config->nmodels] */
    struct srv_lanes *lanes;         /* own until taken: set it to NULL */
    uv_work_t work;
};

/* l: config, done and data filled, the rest zero. Kept until done has been called. */
PCV_CHECK int srv_loader_start(struct srv_loader *l, uv_loop_t *loop, struct pcv_err *e);

/* Frees results that were not taken. */
void srv_loader_clear(struct srv_loader *l);

#endif
