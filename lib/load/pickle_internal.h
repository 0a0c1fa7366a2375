/* pickle_internal.h - the machine that runs a pickle's opcodes, and what it checks when it stops.
 */
#ifndef PCV_LOAD_PICKLE_INTERNAL_H
#define PCV_LOAD_PICKLE_INTERNAL_H

#include "lib/load/pickle.h"

#include <stdbool.h>

struct pcv_pickle_block {
    struct pcv_pickle_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

struct pcv_pickle {
    struct pcv_pickle_block *blocks;
    const struct pcv_pickle_value *root;
};

struct pcv_pickle_machine {
    struct pcv_pickle *out;
    const struct pcv_pickle_rules *rules;
    const unsigned char *data;
    size_t size, at, begin; /* begin: of the opcode being run */
    size_t steps, values;
    struct pcv_pickle_value **stack;
    size_t depth, stack_room;
    size_t marks[PCV_PICKLE_MAX_MARKS];
    int nmarks;
    struct pcv_pickle_value **memo;
    size_t memo_room, memo_next;
    struct pcv_err *e;
};

/* Fails at the opcode being run. */
#define PCV_PICKLE_FAIL(m, code, ...) pcv_pickle_fail_at((m)->e, code, (m)->begin, __VA_ARGS__)

/* ---- pickle_machine.c ----------------------------------------------------------------------- */

PCV_CHECK int pcv_pickle_new_value(struct pcv_pickle_machine *m, struct pcv_pickle_value **ret,
                                   enum pcv_pickle_kind kind);
PCV_CHECK int pcv_pickle_push(struct pcv_pickle_machine *m, struct pcv_pickle_value *v);
PCV_CHECK int pcv_pickle_push_new(struct pcv_pickle_machine *m, struct pcv_pickle_value **ret,
                                  enum pcv_pickle_kind kind);

/* Fails unless n values stand above the last mark; takes none off. */
PCV_CHECK int pcv_pickle_need(struct pcv_pickle_machine *m, size_t n);

/* Takes the last mark away; *from is where its values begin. */
PCV_CHECK int pcv_pickle_pop_mark(struct pcv_pickle_machine *m, size_t *from);

/* Replaces the values from `from` by a tuple of them; moves them to the end of v's items. */
PCV_CHECK int pcv_pickle_tuple_from(struct pcv_pickle_machine *m, size_t from);
PCV_CHECK int pcv_pickle_append_from(struct pcv_pickle_machine *m, struct pcv_pickle_value *v,
                                     size_t from);

/* Doubles *room of *p until n fit, with NULL in the new places; n is bounded by the caller. */
PCV_CHECK int pcv_pickle_grow(struct pcv_pickle_machine *m, struct pcv_pickle_value ***p,
                              size_t *room, size_t n);

/* The next n bytes of the pickle; or the little-endian number that they are, n <= 8. */
PCV_CHECK int pcv_pickle_operand(struct pcv_pickle_machine *m, size_t n, const unsigned char **ret);
PCV_CHECK int pcv_pickle_number(struct pcv_pickle_machine *m, size_t n, uint64_t *ret);

/* ---- pickle_check.c ------------------------------------------------------------------------- */

/* pcv_fail with " (byte N)" at the end. */
int pcv_pickle_fail_at(struct pcv_err *e, int code, size_t at, const char *fmt, ...)
    PCV_PRINTF(4, 5);

/* "INST", ... or "0x99". Storage is static. */
const char *pcv_pickle_opcode(unsigned char op);

bool pcv_pickle_is_utf8(const unsigned char *b, size_t n);

/* "module.name", cut to size, every byte that is not plain text as '?'. */
void pcv_pickle_printable(char *out, size_t size, const char *module, size_t module_size,
                          const char *name, size_t name_size);

/* No value holds itself, and none is deeper than PCV_PICKLE_MAX_DEPTH. */
PCV_CHECK int pcv_pickle_check_depth(const struct pcv_pickle_value *root, struct pcv_err *e);

#endif
