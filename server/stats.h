/* stats.h - a model's counts as the statistics extension of the Open Inference Protocol has them.
 * Loop thread. */
#ifndef SRV_STATS_H
#define SRV_STATS_H

#include "proto/wire.h"

struct srv_stats {
    struct wire_model_stats wire; /* name, version and batches are filled by srv_stats_wire */
    int nbatches;
    struct wire_batch_stat *batches; /* own; by ascending size */
};

/* One input whose latents were there, or were not, and how long it took to find out. */
void srv_stats_cache(struct srv_stats *s, bool hit, uint64_t ns);

/* One finished request. */
struct srv_stats_request {
    bool success;
    int items;
    int batch_items; /* of the batch it was in; 0 = it was in none */
    uint64_t total_ns, queue_ns, input_ns, infer_ns, output_ns;
};

/* One forward of a batch. */
void srv_stats_forward(struct srv_stats *s, int items, uint64_t infer_ns, uint64_t unix_ms);
void srv_stats_request(struct srv_stats *s, const struct srv_stats_request *r);

/* borrow: until the next call with this s */
struct wire_model_stats srv_stats_wire(const struct srv_stats *s, const char *name,
                                       const char *version, uint64_t memory_bytes);
void srv_stats_free(struct srv_stats *s);

#endif
