/* wire_fields.h - JSON objects into structs, by tables that say which key is which member.
 *
 *     static const struct wire_field point_fields[] = {
 *         WIRE_FIELD(INT, "x", struct point, x),
 *         WIRE_FIELD(TEXT, "name", struct point, name, .optional = true),
 *     };
 *     static const struct wire_table point = WIRE_TABLE(struct point, point_fields);
 *
 * For what a client reads: keys that are in no table are passed over, so that a newer server may
 * say more. A key whose value is null is not there. */
#ifndef WIRE_FIELDS_H
#define WIRE_FIELDS_H

#include "proto/wire_reader.h"

enum wire_field_kind {
    WIRE_FIELD_TEXT,   /* const char * */
    WIRE_FIELD_BYTES,  /* const char *: array of numbers 1..255, stronger than a TEXT there */
    WIRE_FIELD_BOOL,   /* bool */
    WIRE_FIELD_INT,    /* int */
    WIRE_FIELD_I64,    /* int64_t */
    WIRE_FIELD_U64,    /* uint64_t */
    WIRE_FIELD_F32,    /* float */
    WIRE_FIELD_F64,    /* double */
    WIRE_FIELD_TYPE,   /* enum pcv_dtype, by its Open Inference Protocol name */
    WIRE_FIELD_SHAPE,  /* int64_t[PCV_MAX_DIMS]; count: int */
    WIRE_FIELD_TEXTS,  /* const char **, NULL behind the last */
    WIRE_FIELD_BASE64, /* const void *: the bytes, aligned for any number; count: size_t */
    WIRE_FIELD_FLOATS, /* struct wire_floats */
    WIRE_FIELD_OBJECT, /* the struct of table `of`, in place */
    WIRE_FIELD_ARRAY,  /* pointer to structs of table `of`; count: int */
};

/* An array of numbers, or of arrays of them that are equally long. */
struct wire_floats {
    const float *v; /* NULL: not there */
    int ndim;       /* 1, 2 */
    int64_t shape[2];
};

struct wire_table {
    size_t size; /* of the struct */
    int n;
    const struct wire_field *fields; /* at most 31 */
};

struct wire_field {
    const char *key;
    enum wire_field_kind kind;
    size_t offset;               /* of the member */
    size_t count;                /* of the member that counts; for TEXT and BYTES, if there is one:
                                    size_t, the length */
    const struct wire_table *of; /* OBJECT, ARRAY */
    bool optional;               /* stays as it was, when not there */
    int absent;                  /* optional INT, I64: what it is when not there */
};

#define WIRE_TABLE(type, fields)                                                                   \
    {                                                                                              \
        sizeof(type), sizeof(fields) / sizeof(*(fields)), fields                                   \
    }

/* Rows: a member; an array and the member that counts it; an object that holds further members of
 * this same struct. Behind them, what else struct wire_field has. */
#define WIRE_FIELD(kind_, key_, type_, member_, ...)                                               \
    {                                                                                              \
        .key = key_, .kind = WIRE_FIELD_##kind_, .offset = offsetof(type_, member_), ##__VA_ARGS__ \
    }
#define WIRE_ARRAY(key_, type_, member_, n_, table_, ...)                                          \
    WIRE_FIELD(ARRAY, key_, type_, member_, .count = offsetof(type_, n_), .of = &(table_),         \
               ##__VA_ARGS__)
#define WIRE_PART(key_, table_, ...)                                                               \
    {                                                                                              \
        .key = key_, .kind = WIRE_FIELD_OBJECT, .of = &(table_), ##__VA_ARGS__                     \
    }

/* The next value, an object, into the struct at out, which the caller has cleared. Texts and arrays
 * live in the reader's arena. PCV_EMISSING for a key that is not optional. */
PCV_CHECK int wire_read_fields(struct wire_reader *rd, const struct wire_table *t, void *out);

/* The next value, that of field f, into the struct at out. */
PCV_CHECK int wire_read_field(struct wire_reader *rd, const struct wire_field *f, void *out);

/* {"encode", "process", "decode"} into struct wire_stages. */
extern const struct wire_table wire_stages_table;

/* The whole of a text. */
PCV_CHECK int wire_read_document(struct wire_arena *a, const char *text, size_t len,
                                 const struct wire_table *t, void *out, struct pcv_err *e);

#endif
