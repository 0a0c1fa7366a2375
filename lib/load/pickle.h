/* pickle.h - a pickle as data: what it would build, written down, and nothing of it done.
 *
 * Python's pickles are programs. This machine runs the opcodes that torch.save and pickle.dump
 * write for tensors (protocols 2 to 5) and no others; a global is taken only when the caller's
 * rules list it, and calling one is recorded as a value of its own kind. Everything else is refused
 * by name with its place in the file, PCV_EUNSUPPORTED; what breaks the format is PCV_EFORMAT, what
 * goes beyond a limit PCV_ELIMIT.
 *
 * A finished pickle holds no cycles and is immutable: any thread. */
#ifndef PCV_LOAD_PICKLE_H
#define PCV_LOAD_PICKLE_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* What is taken at most. */
enum {
    PCV_PICKLE_MAX_STEPS = 1 << 22, /* opcodes */
    PCV_PICKLE_MAX_VALUES = 1 << 20,
    PCV_PICKLE_MAX_MEMO = 1 << 20,
    PCV_PICKLE_MAX_STACK = 1 << 16,
    PCV_PICKLE_MAX_MARKS = 64,
    PCV_PICKLE_MAX_DEPTH = 64,     /* values inside values */
    PCV_PICKLE_MAX_TEXT = 1 << 16, /* bytes of one text */
    PCV_PICKLE_MAX_INTEGER = 8,    /* bytes of one integer */
};

enum pcv_pickle_kind {
    PCV_PICKLE_NONE,
    PCV_PICKLE_BOOL,    /* integer 0 or 1 */
    PCV_PICKLE_INTEGER, /* integer */
    PCV_PICKLE_FLOAT,   /* number */
    PCV_PICKLE_TEXT,    /* bytes, size: UTF-8 */
    PCV_PICKLE_BYTES,   /* bytes, size */
    PCV_PICKLE_TUPLE,   /* items */
    PCV_PICKLE_LIST,    /* items */
    PCV_PICKLE_DICT,    /* items: key, value, key, value, ... as written, a key may stand twice */
    PCV_PICKLE_GLOBAL,  /* global */
    PCV_PICKLE_CALL,    /* global, of (args); items as a dict's when set; state when built */
    PCV_PICKLE_PERSISTENT, /* args: what persistent_load would be given */
};

struct pcv_pickle_value {
    enum pcv_pickle_kind kind;
    int global; /* index in the rules */
    int depth;  /* 1, or one more than the deepest value inside */
    size_t at;  /* byte in the pickle where it was made */
    union {
        int64_t integer;
        double number;
        size_t size;
        size_t count; /* of items */
    };
    union {
        const char *bytes; /* in the pickle itself: no 0 at the end */
        const struct pcv_pickle_value **items;
    };
    const struct pcv_pickle_value *args, *state;
};

/* What may be done with a global that may be named. */
enum pcv_pickle_may {
    PCV_PICKLE_MAY_CALL = 1,  /* called with a tuple */
    PCV_PICKLE_MAY_BUILD = 2, /* what the call made is given a state, once */
    PCV_PICKLE_MAY_FILL = 4,  /* what the call made is filled as a dict */
};

struct pcv_pickle_rules {
    const struct pcv_pickle_global {
        const char *module, *name;
        unsigned may; /* of enum pcv_pickle_may */
    } * globals;
    int count;
    int persistent; /* whether persistent ids may stand in it */
};

struct pcv_pickle;

/* Reads the one pickle that data is, to its last byte. data and rules must outlive it. own:
 * pcv_pickle_close. Errors name the byte; the caller adds the file. */
PCV_CHECK int pcv_pickle_open(struct pcv_pickle **ret, const void *data, size_t size,
                              const struct pcv_pickle_rules *rules, struct pcv_err *e);
void pcv_pickle_close(struct pcv_pickle *p); /* NULL is fine */

/* borrow until close */
const struct pcv_pickle_value *pcv_pickle_root(const struct pcv_pickle *p);

/* Whether v is this text. */
int pcv_pickle_is(const struct pcv_pickle_value *v, const char *text);

/* A dict's value (or of a call filled as one), the last of that key; NULL when absent. borrow */
const struct pcv_pickle_value *pcv_pickle_get(const struct pcv_pickle_value *dict, const char *key);

/* "a dict", "text", ... for messages. */
const char *pcv_pickle_kind_name(enum pcv_pickle_kind k);

#endif
