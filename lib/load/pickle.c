/* pickle.c - what each opcode does; the stack it does it on is in pickle_machine.c. */
#include "lib/load/pickle.h"

#include "lib/load/pickle_internal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct pcv_pickle_value value;

/* ---- numbers and texts ----------------------------------------------------------------- */

static int push_integer(struct pcv_pickle_machine *m, enum pcv_pickle_kind kind, int64_t n)
{
    value *v = NULL;
    const int r = pcv_pickle_push_new(m, &v, kind);

    if (r == 0)
        v->integer = n;
    return r;
}

/* n bytes of operand, `sign` whether the last one's top bit is. */
static int integer(struct pcv_pickle_machine *m, size_t n, bool sign)
{
    uint64_t u = 0;
    int r;

    if (n > PCV_PICKLE_MAX_INTEGER)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "an integer of %zu bytes, at most %d are taken", n,
                               PCV_PICKLE_MAX_INTEGER);
    if ((r = pcv_pickle_number(m, n, &u)) < 0)
        return r;
    if (sign && n > 0 && n < 8 && u >> (8 * n - 1))
        u |= ~(uint64_t)0 << 8 * n;
    return push_integer(m, PCV_PICKLE_INTEGER, (int64_t)u);
}

static int long1(struct pcv_pickle_machine *m)
{
    uint64_t n = 0;
    const int r = pcv_pickle_number(m, 1, &n);

    return r < 0 ? r : integer(m, (size_t)n, true);
}

static int binfloat(struct pcv_pickle_machine *m)
{
    const unsigned char *b = NULL;
    uint64_t bits = 0;
    value *v = NULL;
    int r = pcv_pickle_operand(m, 8, &b);

    if (r < 0 || (r = pcv_pickle_push_new(m, &v, PCV_PICKLE_FLOAT)) < 0)
        return r;
    for (int i = 0; i < 8; i++) /* the one number that is written big end first */
        bits = bits << 8 | b[i];
    memcpy(&v->number, &bits, sizeof(v->number));
    return 0;
}

/* Text or bytes whose length is a number of `width` bytes. */
static int string(struct pcv_pickle_machine *m, enum pcv_pickle_kind kind, size_t width)
{
    const unsigned char *b = NULL;
    uint64_t n = 0;
    value *v = NULL;
    int r = pcv_pickle_number(m, width, &n);

    if (r < 0)
        return r;
    if (kind == PCV_PICKLE_TEXT && n > PCV_PICKLE_MAX_TEXT)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "a text of %llu bytes, at most %d are taken",
                               (unsigned long long)n, PCV_PICKLE_MAX_TEXT);
    if ((r = pcv_pickle_operand(m, n, &b)) < 0)
        return r;
    if (kind == PCV_PICKLE_TEXT && !pcv_pickle_is_utf8(b, n))
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a text that is not UTF-8");
    if ((r = pcv_pickle_push_new(m, &v, kind)) < 0)
        return r;
    v->bytes = (const char *)b;
    v->size = n;
    return 0;
}

/* ---- memo --------------------------------------------------------------------------------- */

static int put(struct pcv_pickle_machine *m, uint64_t i)
{
    int r = pcv_pickle_need(m, 1);

    if (r < 0)
        return r;
    if (i >= PCV_PICKLE_MAX_MEMO)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "memo index %llu, at most %d are taken",
                               (unsigned long long)i, PCV_PICKLE_MAX_MEMO);
    if ((r = pcv_pickle_grow(m, &m->memo, &m->memo_room, i + 1)) < 0)
        return r;
    m->memo_next += !m->memo[i];
    m->memo[i] = m->stack[m->depth - 1];
    return 0;
}

static int get(struct pcv_pickle_machine *m, uint64_t i)
{
    if (i >= m->memo_room || !m->memo[i])
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "memo index %llu holds nothing",
                               (unsigned long long)i);
    return pcv_pickle_push(m, m->memo[i]);
}

static int numbered(struct pcv_pickle_machine *m, size_t width,
                    int (*f)(struct pcv_pickle_machine *m, uint64_t i))
{
    uint64_t i = 0;
    const int r = pcv_pickle_number(m, width, &i);

    return r < 0 ? r : f(m, i);
}

/* ---- globals and what is done with them ----------------------------------------------------- */

static int push_global(struct pcv_pickle_machine *m, const char *module, size_t module_size,
                       const char *name, size_t name_size)
{
    char text[160];
    value *v = NULL;

    for (int i = 0; i < m->rules->count; i++) {
        const struct pcv_pickle_global *g = &m->rules->globals[i];
        int r;

        if (strlen(g->module) != module_size || memcmp(g->module, module, module_size) != 0 ||
            strlen(g->name) != name_size || memcmp(g->name, name, name_size) != 0)
            continue;
        if ((r = pcv_pickle_push_new(m, &v, PCV_PICKLE_GLOBAL)) == 0)
            v->global = i;
        return r;
    }
    pcv_pickle_printable(text, sizeof(text), module, module_size, name, name_size);
    return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "global %s is not one that is read", text);
}

/* Up to the end of the line. */
static int line(struct pcv_pickle_machine *m, const char **ret, size_t *size)
{
    const unsigned char *from = m->data + m->at;
    const unsigned char *end = memchr(from, '\n', m->size - m->at);

    if (!end)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a name without end");
    *ret = (const char *)from;
    *size = (size_t)(end - from);
    m->at += *size + 1;
    return 0;
}

static int global(struct pcv_pickle_machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_size = 0, name_size = 0;
    int r;

    if ((r = line(m, &module, &module_size)) < 0 || (r = line(m, &name, &name_size)) < 0)
        return r;
    return push_global(m, module, module_size, name, name_size);
}

static int stack_global(struct pcv_pickle_machine *m)
{
    const value *module, *name;
    const int r = pcv_pickle_need(m, 2);

    if (r < 0)
        return r;
    name = m->stack[--m->depth];
    module = m->stack[--m->depth];
    if (module->kind != PCV_PICKLE_TEXT || name->kind != PCV_PICKLE_TEXT)
        return PCV_PICKLE_FAIL(
            m, PCV_EFORMAT, "a global's name is %s",
            pcv_pickle_kind_name(module->kind != PCV_PICKLE_TEXT ? module->kind : name->kind));
    return push_global(m, module->bytes, module->size, name->bytes, name->size);
}

/* Whether v is what a call of a global that may do this made. */
static bool may(const struct pcv_pickle_machine *m, const value *v, unsigned what)
{
    return v->kind == PCV_PICKLE_CALL && m->rules->globals[v->global].may & what;
}

static int reduce(struct pcv_pickle_machine *m)
{
    const value *f, *args;
    value *v = NULL;
    int r = pcv_pickle_need(m, 2);

    if (r < 0)
        return r;
    args = m->stack[--m->depth];
    f = m->stack[--m->depth];
    if (f->kind != PCV_PICKLE_GLOBAL || !(m->rules->globals[f->global].may & PCV_PICKLE_MAY_CALL))
        return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "a call of %s%s", pcv_pickle_kind_name(f->kind),
                               f->kind == PCV_PICKLE_GLOBAL ? " that is no function" : "");
    if (args->kind != PCV_PICKLE_TUPLE)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a call with %s", pcv_pickle_kind_name(args->kind));
    if ((r = pcv_pickle_push_new(m, &v, PCV_PICKLE_CALL)) < 0)
        return r;
    v->global = f->global;
    v->args = args;
    return 0;
}

static int build(struct pcv_pickle_machine *m)
{
    const value *state;
    value *v = NULL;
    const int r = pcv_pickle_need(m, 2);

    if (r < 0)
        return r;
    state = m->stack[--m->depth];
    v = m->stack[m->depth - 1];
    if (!may(m, v, PCV_PICKLE_MAY_BUILD))
        return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "a state for %s",
                               pcv_pickle_kind_name(v->kind));
    if (v->state)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a second state");
    v->state = state;
    return 0;
}

static int persistent(struct pcv_pickle_machine *m)
{
    const value *args;
    value *v = NULL;
    int r = pcv_pickle_need(m, 1);

    if (r < 0)
        return r;
    if (!m->rules->persistent)
        return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "a persistent id");
    args = m->stack[--m->depth];
    if ((r = pcv_pickle_push_new(m, &v, PCV_PICKLE_PERSISTENT)) == 0)
        v->args = args;
    return r;
}

/* ---- containers --------------------------------------------------------------------------- */

static int set_items(struct pcv_pickle_machine *m, size_t from)
{
    value *v = NULL;

    if (from == 0 || (m->nmarks && m->marks[m->nmarks - 1] > from - 1))
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "nothing to put items into");
    v = m->stack[from - 1];
    if (v->kind != PCV_PICKLE_DICT && !may(m, v, PCV_PICKLE_MAY_FILL))
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "items for %s", pcv_pickle_kind_name(v->kind));
    if ((m->depth - from) % 2)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a key without a value");
    return pcv_pickle_append_from(m, v, from);
}

static int append(struct pcv_pickle_machine *m, size_t from)
{
    value *v = NULL;

    if (from == 0 || (m->nmarks && m->marks[m->nmarks - 1] > from - 1))
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "nothing to put items into");
    v = m->stack[from - 1];
    if (v->kind != PCV_PICKLE_LIST)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "items for %s", pcv_pickle_kind_name(v->kind));
    return pcv_pickle_append_from(m, v, from);
}

/* f of the values above the last mark, which is taken away. */
static int marked(struct pcv_pickle_machine *m, int (*f)(struct pcv_pickle_machine *m, size_t from))
{
    size_t from = 0;
    const int r = pcv_pickle_pop_mark(m, &from);

    return r < 0 ? r : f(m, from);
}

/* f of the last n values. */
static int last(struct pcv_pickle_machine *m, size_t n,
                int (*f)(struct pcv_pickle_machine *m, size_t from))
{
    const int r = pcv_pickle_need(m, n);

    return r < 0 ? r : f(m, m->depth - n);
}

static int mark(struct pcv_pickle_machine *m)
{
    if (m->nmarks == PCV_PICKLE_MAX_MARKS)
        return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "more than %d marks", PCV_PICKLE_MAX_MARKS);
    m->marks[m->nmarks++] = m->depth;
    return 0;
}

/* ---- the loop ----------------------------------------------------------------------------- */

static int protocol(struct pcv_pickle_machine *m)
{
    uint64_t n = 0;
    const int r = pcv_pickle_number(m, 1, &n);

    if (r == 0 && (n < 2 || n > 5))
        return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "protocol %d; 2 to 5 are read", (int)n);
    return r;
}

/* Frames say how the writer cut the pickle into pieces; all that can be wrong is their length. */
static int frame(struct pcv_pickle_machine *m)
{
    uint64_t n = 0;
    const int r = pcv_pickle_number(m, 8, &n);

    if (r == 0 && n > m->size - m->at)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "a frame of %llu bytes, the pickle ends after %zu",
                               (unsigned long long)n, m->size - m->at);
    return r;
}

static int step(struct pcv_pickle_machine *m, unsigned char op)
{
    value *v = NULL;

    switch (op) {
    case 0x80: return protocol(m);
    case 0x95: return frame(m);
    case 'N': return pcv_pickle_push_new(m, &v, PCV_PICKLE_NONE);
    case 0x88: return push_integer(m, PCV_PICKLE_BOOL, 1);
    case 0x89: return push_integer(m, PCV_PICKLE_BOOL, 0);
    case 'K': return integer(m, 1, false);
    case 'M': return integer(m, 2, false);
    case 'J': return integer(m, 4, true);
    case 0x8a: return long1(m);
    case 'G': return binfloat(m);
    case 0x8c: return string(m, PCV_PICKLE_TEXT, 1);
    case 'X': return string(m, PCV_PICKLE_TEXT, 4);
    case 0x8d: return string(m, PCV_PICKLE_TEXT, 8);
    case 'C': return string(m, PCV_PICKLE_BYTES, 1);
    case 'B': return string(m, PCV_PICKLE_BYTES, 4);
    case 0x8e:
    case 0x96: return string(m, PCV_PICKLE_BYTES, 8); /* a bytearray differs in being writable */
    case ')': return pcv_pickle_tuple_from(m, m->depth);
    case 0x85: return last(m, 1, pcv_pickle_tuple_from);
    case 0x86: return last(m, 2, pcv_pickle_tuple_from);
    case 0x87: return last(m, 3, pcv_pickle_tuple_from);
    case 't': return marked(m, pcv_pickle_tuple_from);
    case ']': return pcv_pickle_push_new(m, &v, PCV_PICKLE_LIST);
    case 'a': return last(m, 1, append);
    case 'e': return marked(m, append);
    case '}': return pcv_pickle_push_new(m, &v, PCV_PICKLE_DICT);
    case 's': return last(m, 2, set_items);
    case 'u': return marked(m, set_items);
    case '(': return mark(m);
    case 'q': return numbered(m, 1, put);
    case 'r': return numbered(m, 4, put);
    case 0x94: return put(m, m->memo_next);
    case 'h': return numbered(m, 1, get);
    case 'j': return numbered(m, 4, get);
    case 'c': return global(m);
    case 0x93: return stack_global(m);
    case 'R': return reduce(m);
    case 'b': return build(m);
    case 'Q': return persistent(m);
    default:
        return PCV_PICKLE_FAIL(m, PCV_EUNSUPPORTED, "opcode %s (0x%02x) is not read",
                               pcv_pickle_opcode(op), op);
    }
}

static int run(struct pcv_pickle_machine *m)
{
    int r = 0;

    while (r == 0) {
        m->begin = m->at;
        if (m->at == m->size)
            return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "the pickle ends without STOP");
        if (m->at == 0 && m->data[0] != 0x80)
            return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "not a pickle of protocol 2 to 5");
        if (++m->steps > PCV_PICKLE_MAX_STEPS)
            return PCV_PICKLE_FAIL(m, PCV_ELIMIT, "more than %d opcodes", PCV_PICKLE_MAX_STEPS);
        if (m->data[m->at] == '.')
            break;
        r = step(m, m->data[m->at++]);
    }
    if (r < 0)
        return r;
    if (m->depth != 1 || m->nmarks)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "%zu values and %d marks at the end, not one value",
                               m->depth, m->nmarks);
    if (++m->at != m->size)
        return PCV_PICKLE_FAIL(m, PCV_EFORMAT, "%zu bytes after the pickle's end", m->size - m->at);
    m->out->root = m->stack[0];
    return pcv_pickle_check_depth(m->out->root, m->e);
}

int pcv_pickle_open(struct pcv_pickle **ret, const void *data, size_t size,
                    const struct pcv_pickle_rules *rules, struct pcv_err *e)
{
    struct pcv_pickle *p = calloc(1, sizeof(*p));
    struct pcv_pickle_machine m = {.out = p, .rules = rules, .data = data, .size = size, .e = e};
    int r;

    if (!p)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a pickle's description");
    r = run(&m);
    free(m.stack);
    free(m.memo);
    if (r < 0) {
        pcv_pickle_close(p);
        return r;
    }
    *ret = p;
    return 0;
}

const struct pcv_pickle_value *pcv_pickle_root(const struct pcv_pickle *p)
{
    return p->root;
}
