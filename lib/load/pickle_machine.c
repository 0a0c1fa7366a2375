/* pickle_machine.c - the stack, the marks in it, and where values live: in blocks, until the pickle
 * is closed. */
#include "lib/load/pickle_internal.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 };

typedef struct pcv_pickle_value value;

/* ---- memory ------------------------------------------------------------------------------- */

static void *take(struct pcv_pickle_machine *m, size_t bytes)
{
    struct pcv_pickle_block *b = m->out->blocks;
    void *p;

    bytes = (bytes + 15) & ~(size_t)15;
    if (!b || b->size - b->used < bytes) {
        const size_t size = bytes > BLOCK ? bytes : BLOCK;

        b = malloc(sizeof(*b) + size);
        if (!b)
            return NULL;
        *b = (struct pcv_pickle_block){.next = m->out->blocks, .size = size};
        m->out->blocks = b;
    }
    p = b->bytes + b->used;
    b->used += bytes;
    return p;
}

int pcv_pickle_new_value(struct pcv_pickle_machine *m, value **ret, enum pcv_pickle_kind kind)
{
    value *v = NULL;

    if (++m->values > PCV_PICKLE_MAX_VALUES)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "more than %d values", PCV_PICKLE_MAX_VALUES);
    v = take(m, sizeof(*v));
    if (!v)
        return PCV_PICKLE_FAIL(m, PCV_ENOMEM, "no memory for a value");
    *v = (value){.kind = kind, .at = m->begin};
    *ret = v;
    return 0;
}

/* Doubles *room of *p until n fit; n is bounded by the caller. */
int pcv_pickle_grow(struct pcv_pickle_machine *m, value ***p, size_t *room, size_t n)
{
    size_t want = *room ? *room : 64;
    value **more;

    while (want < n)
        want *= 2;
    if (want == *room)
        return 0;
    more = realloc(*p, want * sizeof(value *));
    if (!more)
        return PCV_PICKLE_FAIL(m, PCV_ENOMEM, "no memory for %zu values", want);
    memset(more + *room, 0, (want - *room) * sizeof(value *));
    *p = more;
    *room = want;
    return 0;
}

/* ---- stack -------------------------------------------------------------------------------- */

int pcv_pickle_push(struct pcv_pickle_machine *m, value *v)
{
    if (m->depth == PCV_PICKLE_MAX_STACK)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "stack deeper than %d", PCV_PICKLE_MAX_STACK);
    if (pcv_pickle_grow(m, &m->stack, &m->stack_room, m->depth + 1) < 0)
        return PCV_ENOMEM;
    m->stack[m->depth++] = v;
    return 0;
}

/* The last n values above the last mark, without taking them off. */
int pcv_pickle_need(struct pcv_pickle_machine *m, size_t n)
{
    const size_t floor = m->nmarks ? m->marks[m->nmarks - 1] : 0;

    if (m->depth - floor < n)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "needs %zu values, the stack has %zu", n,
                               m->depth - floor);
    return 0;
}

/* Takes the last mark away; *from is where its values begin. */
int pcv_pickle_pop_mark(struct pcv_pickle_machine *m, size_t *from)
{
    if (m->nmarks == 0)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "needs a mark, the stack has none");
    *from = m->marks[--m->nmarks];
    return 0;
}

int pcv_pickle_push_new(struct pcv_pickle_machine *m, value **ret, enum pcv_pickle_kind kind)
{
    const int r = pcv_pickle_new_value(m, ret, kind);

    return r < 0 ? r : pcv_pickle_push(m, *ret);
}

/* Replaces the values from `from` by a tuple of them. */
int pcv_pickle_tuple_from(struct pcv_pickle_machine *m, size_t from)
{
    const size_t n = m->depth - from;
    value *v = NULL;
    int r = pcv_pickle_new_value(m, &v, PCV_PICKLE_TUPLE);

    if (r < 0)
        return r;
    v->count = n;
    v->items = take(m, n * sizeof(*v->items));
    if (!v->items)
        return PCV_PICKLE_FAIL(m, PCV_ENOMEM, "no memory for a tuple");
    for (size_t i = 0; i < n; i++)
        v->items[i] = m->stack[from + i];
    m->depth = from;
    return pcv_pickle_push(m, v);
}

/* Appends the values from `from` to v; its room is the power of two at or above its count. */
int pcv_pickle_append_from(struct pcv_pickle_machine *m, value *v, size_t from)
{
    const size_t n = m->depth - from;
    size_t room = 4, want = 4;

    while (room < v->count)
        room *= 2;
    while (want < v->count + n)
        want *= 2;
    if (!v->items || want > room) {
        const value **more = take(m, want * sizeof(*more));

        if (!more)
            return PCV_PICKLE_FAIL(m, PCV_ENOMEM, "no memory for %zu items", want);
        if (v->items)
            memcpy(more, v->items, v->count * sizeof(*more));
        v->items = more;
    }
    for (size_t i = 0; i < n; i++)
        v->items[v->count++] = m->stack[from + i];
    m->depth = from;
    return 0;
}

/* ---- operands ----------------------------------------------------------------------------- */

int pcv_pickle_operand(struct pcv_pickle_machine *m, size_t n, const unsigned char **ret)
{
    if (n > m->size - m->at)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "%zu bytes, the pickle ends after %zu", n,
                               m->size - m->at);
    *ret = m->data + m->at;
    m->at += n;
    return 0;
}

/* A little-endian number of n <= 8 bytes. */
int pcv_pickle_number(struct pcv_pickle_machine *m, size_t n, uint64_t *ret)
{
    const unsigned char *b = NULL;
    const int r = pcv_pickle_operand(m, n, &b);

    if (r < 0)
        return r;
    *ret = 0;
    for (size_t i = n; i > 0; i--)
        *ret = *ret << 8 | b[i - 1];
    return 0;
}

void pcv_pickle_close(struct pcv_pickle *p)
{
    if (!p)
        return;
    for (struct pcv_pickle_block *b = p->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(p);
}
