#include "lib/model/latents.h"

#include "lib/base/floats.h"
#include "lib/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { EMPTY, MAKING, READY };

static size_t numbers(const struct pcv_model *m)
{
    return (size_t)m->bp.num_latents * (size_t)m->bp.d_latents;
}

int pcv_latents_new(struct pcv_latents **ret, const struct pcv_model *m, int which,
                    struct pcv_err *e)
{
    struct pcv_latents *l;

    if (which < 0 || which >= m->bp.ninputs)
        return pcv_fail(e, PCV_EUNKNOWN, "no input of index %d", which);
    l = calloc(1, sizeof(*l));
    if (l)
        l->x = pcv_alloc(numbers(m), sizeof(float));
    if (!l || !l->x) {
        free(l);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d latents", m->bp.num_latents);
    }
    l->m = m;
    l->which = which;
    *ret = l;
    return 0;
}

void pcv_latents_free(struct pcv_latents *l)
{
    if (!l)
        return;
    for (int i = 0; i < PCV_MAX_TASKS; i++)
        pcv_free(l->reader[i].floats);
    pcv_input_free(l->input);
    pcv_free(l->x);
    free(l);
}

int pcv_latents_import(struct pcv_latents **ret, const struct pcv_model *m, int which,
                       const float *from, struct pcv_err *e)
{
    struct pcv_latents *l;
    int64_t bad;
    int r;

    bad = pcv_first_not_finite(from, (int64_t)numbers(m));
    if (bad < (int64_t)numbers(m))
        return pcv_fail(e, PCV_ERANGE, "element %lld is not finite", (long long)bad);
    r = pcv_latents_new(&l, m, which, e);
    if (r < 0)
        return r;
    memcpy(l->x, from, numbers(m) * sizeof(float));
    pcv_latents_fill(l);
    *ret = l;
    return 0;
}

void pcv_latents_take_input(struct pcv_latents *l, struct pcv_input *in)
{
    pcv_input_free(l->input);
    l->input = in;
}

bool pcv_latents_filled(const struct pcv_latents *l)
{
    return atomic_load_explicit(&l->filled, memory_order_acquire);
}

void pcv_latents_fill(struct pcv_latents *l)
{
    atomic_store_explicit(&l->filled, true, memory_order_release);
}

int pcv_latents_which(const struct pcv_latents *l)
{
    return l->which;
}

const struct pcv_input *pcv_latents_input(const struct pcv_latents *l)
{
    return l->input;
}

const float *pcv_latents_numbers(const struct pcv_latents *l)
{
    return l->x;
}

size_t pcv_latents_need(const struct pcv_model *m)
{
    size_t n = pcv_pad_floats(numbers(m));

    for (int i = 0; i < m->plan.nreaders; i++)
        n += m->plan.reader_floats[i];
    return sizeof(struct pcv_latents) + n * sizeof(float);
}

size_t pcv_latents_bytes(const struct pcv_latents *l)
{
    return pcv_latents_need(l->m) + (l->input ? pcv_input_bytes(l->input) : 0);
}

/* ---- the decoders' arrays ---------------------------------------------------------------------
 */

enum pcv_latents_claim pcv_latents_claim(struct pcv_latents *l, int reader, float **floats)
{
    const size_t n = l->m->plan.reader_floats[reader];
    int was = EMPTY;

    if (!atomic_compare_exchange_strong(&l->reader[reader].state, &was, MAKING)) {
        *floats = l->reader[reader].floats; /* written before it became READY */
        return was == READY ? PCV_LATENTS_READY : PCV_LATENTS_ELSEWHERE;
    }
    if (!l->reader[reader].floats)
        l->reader[reader].floats = pcv_alloc(n, sizeof(float));
    if (!l->reader[reader].floats) {
        pcv_latents_settle(l, reader, false);
        return PCV_LATENTS_ELSEWHERE;
    }
    *floats = l->reader[reader].floats;
    return PCV_LATENTS_MINE;
}

bool pcv_latents_ready(const struct pcv_latents *l, int reader)
{
    return atomic_load(&l->reader[reader].state) == READY;
}

void pcv_latents_settle(struct pcv_latents *l, int reader, bool made)
{
    atomic_store(&l->reader[reader].state, made ? READY : EMPTY);
}
