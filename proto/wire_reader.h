/* wire_reader.h - reads JSON (RFC 8259) from front to back, without building a tree.
 *
 *     while ((r = wire_read_key(rd, keys, WIRE_STRICT, &seen, &k)) > 0) switch (k) { ... }
 *     while ((r = wire_read_item(rd)) > 0) { ... }
 *
 * The caller says what it expects; what it does not want it skips. The reader keeps the path to the
 * value being read, and every error has it in `where`; syntax errors name the byte too. Nothing
 * recurses, and nesting ends at WIRE_MAX_DEPTH. Strings are checked to be UTF-8 without NUL.
 *
 * After an error the reader must not be used. One reader, one thread. */
#ifndef WIRE_READER_H
#define WIRE_READER_H

#include "lib/base/err.h"
#include "lib/base/tensor.h"
#include "proto/wire.h"
#include "proto/wire_arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text with a length, not NUL-terminated. */
struct wire_str {
    const char *s;
    size_t len;
};

/* One open object or array: how many members were begun, and the name of the last. */
struct wire_step {
    bool object;
    int64_t n;
    struct wire_str key;
};

struct wire_reader {
    const char *begin, *p, *end; /* borrow: the text, where we are */
    const char *root;            /* what paths begin with: "$" */
    struct wire_arena *arena;    /* borrow: where strings with escapes are decoded */
    struct pcv_err *e;           /* borrow, may be NULL */
    int depth;
    struct wire_step at[WIRE_MAX_DEPTH];
};

/* text may be NULL when len is 0. */
void wire_reader_init(struct wire_reader *rd, const char *text, size_t len, const char *root,
                      struct wire_arena *arena, struct pcv_err *e);

/* Fills the error with the path of the value being read; returns code. */
int wire_read_fail(const struct wire_reader *rd, int code, const char *fmt, ...) PCV_PRINTF(3, 4);
/* The same for an error already filled by somebody who knows no path. */
int wire_read_fail_at(const struct wire_reader *rd, int code);
/* The same as wire_read_fail, of a member of the object being read, or just left. */
int wire_read_fail_member(const struct wire_reader *rd, const char *key, int code, const char *fmt,
                          ...) PCV_PRINTF(4, 5);
/* PCV_EMISSING: the object being read, or just left, lacks this key. */
int wire_read_missing(const struct wire_reader *rd, const char *key);
/* PCV_EFORMAT: "expected WHAT at byte N". */
int wire_read_syntax(const struct wire_reader *rd, const char *what);

/* What the next value is: '{' '[' '"' '0' (a number) 't' (true or false) 'n' (null), or 0 for
 * anything else. Skips white space before it. */
char wire_read_peek(struct wire_reader *rd);

/* Enters an object ('{') or array ('['). `what` is for the message when there is none. */
PCV_CHECK int wire_read_open(struct wire_reader *rd, char bracket, const char *what);

/* The next member of the object or array last opened: 1 when its value comes, 0 when it ended (and
 * is left), or an error. */
PCV_CHECK int wire_read_item(struct wire_reader *rd);                        /* of an array */
PCV_CHECK int wire_read_name(struct wire_reader *rd, struct wire_str *name); /* of an object */

/* The next member of an object whose keys are known (NULL-terminated, at most 32): *k is its place
 * in keys. *seen, zero at first, remembers; a key seen twice is an error. Unknown keys are errors
 * (WIRE_STRICT) or skipped (WIRE_LENIENT). 1, 0 or an error as above. */
enum wire_strictness { WIRE_STRICT, WIRE_LENIENT };
PCV_CHECK int wire_read_key(struct wire_reader *rd, const char *const *keys,
                            enum wire_strictness strict, uint32_t *seen, int *k);

/* A string: borrow from the text, or from the arena when it has escapes. */
PCV_CHECK int wire_read_text(struct wire_reader *rd, struct wire_str *s);
/* The same with a NUL behind it. borrow: from the arena. */
PCV_CHECK int wire_read_cstr(struct wire_reader *rd, const char **s);

/* A whole number without fraction or exponent; PCV_ERANGE outside min..max. */
PCV_CHECK int wire_read_int(struct wire_reader *rd, int64_t min, int64_t max, int64_t *v);
PCV_CHECK int wire_read_bool(struct wire_reader *rd, bool *v);

/* Checks the next value's syntax and passes over it. */
PCV_CHECK int wire_read_skip(struct wire_reader *rd);

/* Nothing but white space may follow. */
PCV_CHECK int wire_read_end(struct wire_reader *rd);

/* Passes over white space. */
static inline void wire_read_space(struct wire_reader *rd)
{
    const char *p = rd->p;

    while (p < rd->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    rd->p = p;
}

#endif
