#include "lib/load/pickle_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pcv_pickle_fail_at(struct pcv_err *e, int code, size_t at, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pcv_fail(e, code, "%s (byte %zu of the pickle)", text, at);
}

/* Opcodes that the machine does not run, for its message. */
const char *pcv_pickle_opcode(unsigned char op)
{
    static const struct {
        unsigned char op;
        const char *name;
    } names[] = {
        {'0', "POP"},          {'1', "POP_MARK"},
        {'2', "DUP"},          {'F', "FLOAT"},
        {'I', "INT"},          {'L', "LONG"},
        {'P', "PERSID"},       {'S', "STRING"},
        {'T', "BINSTRING"},    {'U', "SHORT_BINSTRING"},
        {'V', "UNICODE"},      {'d', "DICT"},
        {'g', "GET"},          {'i', "INST"},
        {'l', "LIST"},         {'o', "OBJ"},
        {'p', "PUT"},          {0x81, "NEWOBJ"},
        {0x82, "EXT1"},        {0x83, "EXT2"},
        {0x84, "EXT4"},        {0x8b, "LONG4"},
        {0x8f, "EMPTY_SET"},   {0x90, "ADDITEMS"},
        {0x91, "FROZENSET"},   {0x92, "NEWOBJ_EX"},
        {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (names[i].op == op)
            return names[i].name;
    return "of no known meaning";
}

bool pcv_pickle_is_utf8(const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n;) {
        const unsigned char c = b[i];
        const size_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        unsigned long code = c;

        if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || n - i <= more)
            return false;
        if (more)
            code = c & (0x3fu >> more);
        for (size_t k = 1; k <= more; k++) {
            if ((b[i + k] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (b[i + k] & 0x3f);
        }
        /* written longer than needed, a surrogate, or beyond what there is */
        if ((more == 2 && code < 0x800) || (code >= 0xd800 && code < 0xe000) ||
            (more == 3 && (code < 0x10000 || code > 0x10ffff)))
            return false;
        i += more + 1;
    }
    return true;
}

static size_t put_plain(char *out, size_t at, size_t size, const char *text, size_t n)
{
    for (size_t i = 0; i < n && at + 1 < size; i++)
        out[at++] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    return at;
}

void pcv_pickle_printable(char *out, size_t size, const char *module, size_t module_size,
                          const char *name, size_t name_size)
{
    size_t at = put_plain(out, 0, size, module, module_size);

    at = put_plain(out, at, size, ".", 1);
    at = put_plain(out, at, size, name, name_size);
    out[at] = 0;
}

/* ---- the finished value --------------------------------------------------------------------- */

static int visit(struct pcv_pickle_value *v, int level, struct pcv_err *e);

/* Visits a value inside `of`, which is deeper by one. */
static int visit_inside(struct pcv_pickle_value *of, const struct pcv_pickle_value *v, int *depth,
                        int level, struct pcv_err *e)
{
    int r;

    if (!v)
        return 0;
    if (v->depth < 0)
        return pcv_pickle_fail_at(e, PCV_EFORMAT, of->at, "%s holds itself",
                                  pcv_pickle_kind_name(v->kind));
    /* Values are made mutable and shown const; nobody else sees them yet. */
    r = visit((struct pcv_pickle_value *)v, level + 1, e);
    if (r == 0 && v->depth >= *depth)
        *depth = v->depth + 1;
    return r;
}

static int visit(struct pcv_pickle_value *v, int level, struct pcv_err *e)
{
    const bool container = v->kind == PCV_PICKLE_TUPLE || v->kind == PCV_PICKLE_LIST ||
                           v->kind == PCV_PICKLE_DICT || v->kind == PCV_PICKLE_CALL;
    int depth = 1, r;

    if (v->depth > 0 && level + v->depth <= PCV_PICKLE_MAX_DEPTH)
        return 0;
    if (v->depth > 0 || level > PCV_PICKLE_MAX_DEPTH)
        return pcv_pickle_fail_at(e, PCV_ELIMIT, v->at, "values nested deeper than %d",
                                  PCV_PICKLE_MAX_DEPTH);
    v->depth = -1;
    r = visit_inside(v, v->args, &depth, level, e);
    if (r == 0)
        r = visit_inside(v, v->state, &depth, level, e);
    for (size_t i = 0; container && r == 0 && i < v->count; i++)
        r = visit_inside(v, v->items[i], &depth, level, e);
    v->depth = depth;
    return r;
}

int pcv_pickle_check_depth(const struct pcv_pickle_value *root, struct pcv_err *e)
{
    return visit((struct pcv_pickle_value *)root, 1, e);
}

/* ---- reading it --------------------------------------------------------------------------- */

int pcv_pickle_is(const struct pcv_pickle_value *v, const char *text)
{
    return v->kind == PCV_PICKLE_TEXT && v->size == strlen(text) &&
           memcmp(v->bytes, text, v->size) == 0;
}

const struct pcv_pickle_value *pcv_pickle_get(const struct pcv_pickle_value *dict, const char *key)
{
    for (size_t i = dict->count; i >= 2; i -= 2)
        if (pcv_pickle_is(dict->items[i - 2], key))
            return dict->items[i - 1];
    return NULL;
}

const char *pcv_pickle_kind_name(enum pcv_pickle_kind k)
{
    static const char *const names[] = {
        "None",    "a truth value", "an integer",   "a number", "a text", "bytes",
        "a tuple", "a list",        "a dictionary", "a global", "a call", "a persistent id",
    };

    return names[k];
}
