/* wire_metrics.h - reads the text exposition of metrics, format 0.0.4, one sample after the other.
 *
 *     struct wire_metrics m;
 *     wire_metrics_init(&m, text, len);
 *     while ((r = wire_metrics_next(&m, &s, e)) > 0) ...
 *
 * The byte behind the text must be readable, and not of a number. Any thread; nothing is allocated.
 */
#ifndef WIRE_METRICS_H
#define WIRE_METRICS_H

#include "proto/wire_reader.h"

struct wire_metrics {
    const char *p, *end; /* borrow: the text */
    int line;
};

struct wire_sample {
    struct wire_str name, labels; /* borrow; labels: what stands between { and } */
    double value;
};

void wire_metrics_init(struct wire_metrics *m, const char *text, size_t len);

/* 1 and the next sample, 0 at the end, or PCV_EFORMAT with where "line N". */
PCV_CHECK int wire_metrics_next(struct wire_metrics *m, struct wire_sample *s, struct pcv_err *e);

bool wire_sample_is(const struct wire_sample *s, const char *name);

/* The label's value, without escapes and NUL-terminated; false when the sample has no such label or
 * its value has size bytes or more. */
bool wire_sample_label(const struct wire_sample *s, const char *label, char *buf, size_t size);

/* The sum of all samples of that name; with label, of those where it has that value. PCV_EFORMAT as
 * above. */
PCV_CHECK int wire_metrics_sum(const char *text, size_t len, const char *name, const char *label,
                               const char *value, double *sum, struct pcv_err *e);

#endif
