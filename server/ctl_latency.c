#include "server/ctl_latency.h"

#include <math.h>
#include <stdlib.h>

int ctl_latency_add(struct ctl_latency *l, uint64_t ns, struct pcv_err *e)
{
    if (l->n == l->room) {
        const size_t room = l->room ? 2 * l->room : 4096;
        uint64_t *more = realloc(l->ns, room * sizeof(*more));

        if (!more)
            return pcv_fail(e, PCV_ENOMEM, "no memory for the times of %zu requests", room);
        l->ns = more;
        l->room = room;
    }
    l->ns[l->n++] = ns;
    return 0;
}

void ctl_latency_free(struct ctl_latency *l)
{
    free(l->ns);
    *l = (struct ctl_latency){0};
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

void ctl_latency_sort(struct ctl_latency *l)
{
    if (l->n)
        qsort(l->ns, l->n, sizeof(*l->ns), by_value);
}

double ctl_latency_ms(const struct ctl_latency *l, double percent)
{
    const double rank = ceil((double)l->n * percent / 100);
    const size_t i = rank < 1 ? 0 : (size_t)rank - 1;

    return l->n ? (double)l->ns[i < l->n ? i : l->n - 1] / 1e6 : 0;
}

double ctl_latency_mean_ms(const struct ctl_latency *l)
{
    double sum = 0;

    for (size_t i = 0; i < l->n; i++)
        sum += (double)l->ns[i];
    return l->n ? sum / (double)l->n / 1e6 : 0;
}
