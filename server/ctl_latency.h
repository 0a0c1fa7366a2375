/* ctl_latency.h - the times that many requests took. One thread. */
#ifndef CTL_LATENCY_H
#define CTL_LATENCY_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct ctl_latency {
    uint64_t *ns; /* own: ctl_latency_free */
    size_t n, room;
};

PCV_CHECK int ctl_latency_add(struct ctl_latency *l, uint64_t ns, struct pcv_err *e);
void ctl_latency_free(struct ctl_latency *l);

/* Puts them in order, which the following want. */
void ctl_latency_sort(struct ctl_latency *l);

/* The smallest that at least `percent` of all do not exceed; 0 when there are none. percent in
 * 0..100: 0 is the smallest, 100 the largest. In milliseconds. */
double ctl_latency_ms(const struct ctl_latency *l, double percent);
double ctl_latency_mean_ms(const struct ctl_latency *l);

#endif
