/* metrics.h - counters, gauges and histograms, and their text for Prometheus.
 *
 * What there is stands in metrics.def. A series appears with its first update. Loop thread only: no
 * locks. Without memory for a new series the update is lost, nothing else. */
#ifndef SRV_METRICS_H
#define SRV_METRICS_H

#include "lib/base/err.h"

#include <stddef.h>

enum srv_metric {
#define METRIC(name, type, labels, buckets, help) SRV_M_##name,
#include "server/metrics.def"
#undef METRIC
    SRV_METRICS,
};

struct srv_metrics;

/* own: srv_metrics_free. NULL without memory. */
struct srv_metrics *srv_metrics_new(void);
void srv_metrics_free(struct srv_metrics *m); /* NULL is fine */

/* values: one string for each label of the table, in its order; NULL when it has none. A value's
 * bytes are any, and end at 200. */
#define SRV_LABELS(...) ((const char *const[]){__VA_ARGS__})
void srv_metrics_add(struct srv_metrics *m, enum srv_metric id, double by,
                     const char *const *values);
void srv_metrics_set(struct srv_metrics *m, enum srv_metric id, double to,
                     const char *const *values);
void srv_metrics_observe(struct srv_metrics *m, enum srv_metric id, double value,
                         const char *const *values);

/* Text exposition format 0.0.4. own: free(). NULL without memory. */
char *srv_metrics_text(const struct srv_metrics *m, size_t *len);
#define SRV_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
