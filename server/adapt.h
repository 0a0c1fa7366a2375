/* adapt.h - from a decoded request to what the engine computes.
 *
 * A job holds a request's inputs, its output queries and the memory for their logits. Everything is
 * checked here: after adapting, computing cannot fail for what a client sent. Errors carry the
 * place in the request ("$.queries[1].task"). Slow for media; any thread. */
#ifndef SRV_ADAPT_H
#define SRV_ADAPT_H

#include "lib/perceiver.h"
#include "proto/wire.h"

#include <stdatomic.h>

/* Memory that all jobs may hold together. */
struct srv_job_budget {
    atomic_size_t used;
    size_t limit;
};

/* What is asked of one task, the same for every item of the request. */
struct srv_job_task {
    int task;       /* index in the model */
    int64_t rows;   /* output queries of each item */
    float *logits;  /* [nitems, rows, width]; of flow at points: as many rows as tiles have */
    int32_t *which; /* [rows] positions, or NULL for all in order */
    int64_t total;  /* output queries of all items */
    int nframes;    /* of a video, which rows are asked; 0: all. frames are the request's */
    const int32_t *frames;
};

/* A pair of pictures: every item is a tile, and what the tiles say becomes one field. */
struct srv_job_flow {
    struct pcv_flow_grid grid;
    int npoints; /* 0: every pixel; points are the request's */
    const int32_t (*points)[2];
    int32_t **rows;     /* [tiles] with points: the output queries of each tile, in one block */
    const float **tile; /* [tiles] into the task's logits; NULL: not computed */
};

enum { SRV_EMBED = -1 };

struct srv_job {
    int nitems, ntasks;
    struct pcv_input **inputs;  /* [nitems] own */
    struct pcv_item *items;     /* [nitems], each with ntasks queries */
    struct pcv_query *queries;  /* [nitems, ntasks] */
    struct srv_job_task *tasks; /* [ntasks] */
    int *slot; /* SRV_EMBED or native: the entry of tasks for each query of the request, or in model
                  order */
    int nslots;
    float *latents; /* own: of the only item, [num_latents, d_latents] when embeddings are asked */
    struct srv_job_flow *flow;      /* own, or NULL */
    int64_t tokens, output_queries; /* of all items */
    struct wire_stages gmac;        /* of all items */
    size_t bytes;                   /* taken from the budget */
    struct srv_job_budget *budget;
};

/* r may be changed: the raw form's tensor gets the model's name, type and shape. max_items: more is
 * PCV_ELIMIT. cancelled: given to every item, and looked at between them (then PCV_EIO, which
 * nobody will see). PCV_ENOMEM with *busy set when the budget is used up by others just now. own:
 * srv_job_free, before the model is closed. */
PCV_CHECK int srv_adapt(struct srv_job **ret, const struct pcv_model *m, struct wire_request *r,
                        int max_items, const atomic_bool *cancelled, struct srv_job_budget *budget,
                        bool *busy, struct pcv_err *e);
void srv_job_free(struct srv_job *j); /* NULL is fine */

/* Whether adapting this is slow whatever its size: it holds pictures to decode. */
bool srv_adapt_is_slow(const struct wire_request *r);

#endif
