#include "proto/wire_fields.h"
#include "proto/wire_base64.h"
#include "proto/wire_numbers.h"
#include "proto/wire_oip.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static int no_memory(const struct wire_reader *rd)
{
    return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int read_number(struct wire_reader *rd, struct wire_number *n)
{
    if (wire_read_peek(rd) != '0')
        return wire_read_syntax(rd, "a number");
    if (!wire_number_lex(rd->p, rd->end, n))
        return wire_read_syntax(rd, "a number");
    rd->p = n->end;
    return 0;
}

static int read_u64(struct wire_reader *rd, uint64_t *v)
{
    struct wire_number n;
    int r = read_number(rd, &n);

    if (r == 0 && (!n.whole || !wire_number_u64(&n, v)))
        r = wire_read_fail(rd, PCV_ERANGE, "not a whole number from 0 to 2^64-1");
    return r;
}

static int read_f64(struct wire_reader *rd, double *v)
{
    struct wire_number n;
    int r = read_number(rd, &n);

    if (r == 0 && !isfinite(*v = wire_number_f64(&n)))
        r = wire_read_fail(rd, PCV_ERANGE, "too large a number");
    return r;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static int put_text(const struct wire_field *f, char *base, const char *text, size_t len)
{
    *(const char **)(base + f->offset) = text;
    if (f->count)
        *(size_t *)(base + f->count) = len;
    return 0;
}

/* A text whose bytes are known already is what could be said of them in UTF-8. */
static int read_text(struct wire_reader *rd, const struct wire_field *f, char *base)
{
    const char *s;
    int r = wire_read_cstr(rd, &s);

    if (r < 0 || *(const char **)(base + f->offset))
        return r;
    return put_text(f, base, s, strlen(s));
}

static int read_bytes(struct wire_reader *rd, const struct wire_field *f, char *base)
{
    char *bytes = NULL, *grown;
    int64_t v = 0;
    int n = 0, r = wire_read_open(rd, '[', "an array of bytes");

    if (r < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if ((r = wire_read_int(rd, 1, 255, &v)) < 0)
            return r;
        if (!(grown = wire_arena_room(rd->arena, bytes, n, 1)))
            return no_memory(rd);
        bytes = grown;
        bytes[n++] = (char)v;
    }
    if (r < 0)
        return r;
    if (!(grown = wire_arena_room(rd->arena, bytes, n, 1)))
        return no_memory(rd);
    grown[n] = '\0';
    return put_text(f, base, grown, (size_t)n);
}

static int read_texts(struct wire_reader *rd, const char ***ret)
{
    const char **texts = NULL, **grown;
    int n = 0, r = wire_read_open(rd, '[', "an array of texts");

    if (r < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (!(grown = wire_arena_room(rd->arena, texts, n, sizeof(*texts))))
            return no_memory(rd);
        texts = grown;
        if ((r = wire_read_cstr(rd, &texts[n++])) < 0)
            return r;
    }
    if (r < 0)
        return r;
    if (!(grown = wire_arena_room(rd->arena, texts, n, sizeof(*texts))))
        return no_memory(rd);
    grown[n] = NULL;
    *ret = grown;
    return 0;
}

static int read_type(struct wire_reader *rd, enum pcv_dtype *t)
{
    struct wire_str name;
    int r = wire_read_text(rd, &name);

    if (r == 0 && !wire_oip_datatype_find(name, t))
        r = wire_read_fail(rd, PCV_EUNKNOWN, "no data type \"%.*s\"",
                           (int)(name.len < 32 ? name.len : 32), name.s);
    return r;
}

/* ---- arrays and objects ---------------------------------------------------------------------- */

static int read_shape(struct wire_reader *rd, int64_t shape[PCV_MAX_DIMS], int *ndim)
{
    int n = 0, r = wire_read_open(rd, '[', "a shape");

    if (r < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (n == PCV_MAX_DIMS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d dimensions", PCV_MAX_DIMS);
        if ((r = wire_read_int(rd, -1, INT64_MAX, &shape[n++])) < 0)
            return r;
    }
    *ndim = n;
    return r;
}

/* Bytes of any length have a place, also none. */
static int read_base64(struct wire_reader *rd, const void **ret, size_t *len)
{
    struct wire_str s = {"", 0};
    void *out;
    int r = wire_read_text(rd, &s);

    if (r < 0)
        return r;
    if (!(out = wire_arena_get(rd->arena, wire_base64_room(s.len))))
        return no_memory(rd);
    if ((r = wire_base64_decode(s.s, s.len, out, len, rd->e)) < 0)
        return wire_read_fail_at(rd, r);
    *ret = out;
    return 0;
}

/* How many members the array that comes next has, and whether they are arrays. */
static int count_members(struct wire_reader *rd, int64_t *n, bool *nested)
{
    int r = wire_read_open(rd, '[', "an array of numbers");

    *n = 0;
    *nested = false;
    while (r == 0 && (r = wire_read_item(rd)) > 0) {
        *nested = wire_read_peek(rd) == '[';
        ++*n;
        r = wire_read_skip(rd);
    }
    return r;
}

static int read_floats(struct wire_reader *rd, struct wire_floats *f)
{
    struct wire_reader ahead = *rd;
    int64_t rows, n = 0;
    bool nested;
    float *v;
    int r;

    if ((r = count_members(&ahead, &rows, &nested)) < 0)
        return r;
    ahead = *rd;
    if ((r = wire_read_numbers(&ahead, PCV_F32, NULL, 0, &n)) < 0)
        return r;
    if (!(v = wire_arena_get(rd->arena, (size_t)n * sizeof(*v))))
        return no_memory(rd);
    if ((r = wire_read_numbers(rd, PCV_F32, v, n, &n)) < 0)
        return r;
    if (nested && rows * (n / rows) != n)
        return wire_read_fail(rd, PCV_ESHAPE, "an array of arrays of arrays");
    *f = (struct wire_floats){
        .v = v, .ndim = nested ? 2 : 1, .shape = {rows, nested ? n / rows : 0}};
    return 0;
}

static int read_array(struct wire_reader *rd, const struct wire_table *t, void **ret, int *count)
{
    char *items = wire_arena_zero(rd->arena, 0), *grown;
    int n = 0, r = wire_read_open(rd, '[', "an array");

    if (!items)
        return no_memory(rd);
    if (r < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (!(grown = wire_arena_room(rd->arena, items, n, t->size)))
            return no_memory(rd);
        items = grown;
        if ((r = wire_read_fields(rd, t, items + (size_t)n++ * t->size)) < 0)
            return r;
    }
    *ret = items;
    *count = n;
    return r;
}

int wire_read_field(struct wire_reader *rd, const struct wire_field *f, void *out)
{
    char *base = out;
    void *at = base + f->offset;
    int64_t i = 0;
    double d = 0;
    int r;

    switch (f->kind) {
    case WIRE_FIELD_TEXT: return read_text(rd, f, base);
    case WIRE_FIELD_BYTES: return read_bytes(rd, f, base);
    case WIRE_FIELD_BOOL: return wire_read_bool(rd, at);
    case WIRE_FIELD_INT:
        if ((r = wire_read_int(rd, INT_MIN, INT_MAX, &i)) == 0)
            *(int *)at = (int)i;
        return r;
    case WIRE_FIELD_I64: return wire_read_int(rd, INT64_MIN, INT64_MAX, at);
    case WIRE_FIELD_U64: return read_u64(rd, at);
    case WIRE_FIELD_F32:
        if ((r = read_f64(rd, &d)) == 0)
            *(float *)at = (float)d;
        return r;
    case WIRE_FIELD_F64: return read_f64(rd, at);
    case WIRE_FIELD_TYPE: return read_type(rd, at);
    case WIRE_FIELD_SHAPE: return read_shape(rd, at, (int *)(base + f->count));
    case WIRE_FIELD_TEXTS: return read_texts(rd, at);
    case WIRE_FIELD_BASE64: return read_base64(rd, at, (size_t *)(base + f->count));
    case WIRE_FIELD_FLOATS: return read_floats(rd, at);
    case WIRE_FIELD_OBJECT: return wire_read_fields(rd, f->of, at);
    case WIRE_FIELD_ARRAY: return read_array(rd, f->of, at, (int *)(base + f->count));
    }
    return wire_read_fail(rd, PCV_EUNSUPPORTED, "no such kind of field");
}

int wire_read_fields(struct wire_reader *rd, const struct wire_table *t, void *out)
{
    const char *keys[32] = {NULL};
    uint32_t seen = 0;
    int k = 0, r = wire_read_open(rd, '{', "an object");

    if (r < 0)
        return r;
    for (int i = 0; i < t->n; i++) {
        const struct wire_field *f = &t->fields[i];

        keys[i] = f->key;
        if (f->absent && f->kind == WIRE_FIELD_INT)
            *(int *)((char *)out + f->offset) = f->absent;
        else if (f->absent)
            *(int64_t *)((char *)out + f->offset) = f->absent;
    }
    while ((r = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        if (wire_read_peek(rd) == 'n' && t->fields[k].optional)
            r = wire_read_skip(rd);
        else
            r = wire_read_field(rd, &t->fields[k], out);
        if (r < 0)
            return r;
    }
    for (int i = 0; r == 0 && i < t->n; i++)
        if (!(seen & 1u << i) && !t->fields[i].optional)
            return wire_read_missing(rd, t->fields[i].key);
    return r;
}

static const struct wire_field stages_fields[] = {
    WIRE_FIELD(F64, "encode", struct wire_stages, encode),
    WIRE_FIELD(F64, "process", struct wire_stages, process),
    WIRE_FIELD(F64, "decode", struct wire_stages, decode),
};
const struct wire_table wire_stages_table = WIRE_TABLE(struct wire_stages, stages_fields);

int wire_read_document(struct wire_arena *a, const char *text, size_t len,
                       const struct wire_table *t, void *out, struct pcv_err *e)
{
    struct wire_reader rd;
    int r;

    wire_reader_init(&rd, text, len, "$", a, e);
    r = wire_read_fields(&rd, t, out);
    return r < 0 ? r : wire_read_end(&rd);
}
