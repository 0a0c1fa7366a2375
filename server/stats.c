#include "server/stats.h"

#include <stdlib.h>
#include <string.h>

static void count(struct wire_stat *s, uint64_t ns)
{
    s->count++;
    s->ns += ns;
}

/* The entry for a batch size, made if new. NULL without memory. */
static struct wire_batch_stat *batch_of(struct srv_stats *s, int size)
{
    int at = 0;
    while (at < s->nbatches && s->batches[at].batch_size < size)
        at++;
    if (at < s->nbatches && s->batches[at].batch_size == size)
        return &s->batches[at];
    struct wire_batch_stat *b = realloc(s->batches, ((size_t)s->nbatches + 1) * sizeof *b);
    if (!b)
        return NULL;
    s->batches = b;
    memmove(b + at + 1, b + at, (size_t)(s->nbatches - at) * sizeof *b);
    b[at] = (struct wire_batch_stat){.batch_size = size};
    s->nbatches++;
    return &b[at];
}

void srv_stats_forward(struct srv_stats *s, int items, uint64_t infer_ns, uint64_t unix_ms)
{
    struct wire_batch_stat *b = batch_of(s, items);
    s->wire.last_inference_ms = unix_ms;
    s->wire.inference_count += (uint64_t)items;
    s->wire.execution_count++;
    if (b)
        count(&b->compute_infer, infer_ns);
}

void srv_stats_request(struct srv_stats *s, const struct srv_stats_request *r)
{
    if (!r->success) {
        count(&s->wire.fail, r->total_ns);
        return;
    }
    count(&s->wire.success, r->total_ns);
    count(&s->wire.queue, r->queue_ns);
    count(&s->wire.compute_input, r->input_ns);
    count(&s->wire.compute_infer, r->infer_ns);
    count(&s->wire.compute_output, r->output_ns);
    struct wire_batch_stat *b = r->batch_items ? batch_of(s, r->batch_items) : NULL;
    if (b) {
        count(&b->compute_input, r->input_ns);
        count(&b->compute_output, r->output_ns);
    }
}

void srv_stats_cache(struct srv_stats *s, bool hit, uint64_t ns)
{
    count(hit ? &s->wire.cache_hit : &s->wire.cache_miss, ns);
}

struct wire_model_stats srv_stats_wire(const struct srv_stats *s, const char *name,
                                       const char *version, uint64_t memory_bytes)
{
    struct wire_model_stats w = s->wire;
    w.name = name;
    w.version = version;
    w.nbatches = s->nbatches;
    w.batches = s->batches;
    w.memory_bytes = memory_bytes;
    return w;
}

void srv_stats_free(struct srv_stats *s)
{
    free(s->batches);
    s->batches = NULL;
    s->nbatches = 0;
}
