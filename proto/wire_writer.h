/* wire_writer.h - writes JSON into one growing buffer.
 *
 *     struct wire_writer w = {0};
 *     wire_open(&w, '{');
 *     wire_key(&w, "name");  wire_text(&w, "fashion");
 *     wire_close(&w, '}');
 *     body = wire_finish(&w, &len);
 *
 * Commas come by themselves. Running out of memory is remembered and said once, by wire_finish:
 * calls after it do nothing. Text that is not UTF-8 is written with U+FFFD for every bad byte; the
 * process's locale plays no part. */
#ifndef WIRE_WRITER_H
#define WIRE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_writer {
    char *data;
    size_t len, room;
    bool comma; /* one is due before the next member */
    bool failed;
};

void wire_open(struct wire_writer *w, char bracket);
void wire_close(struct wire_writer *w, char bracket);
void wire_key(struct wire_writer *w, const char *key); /* plain ASCII, ours */

void wire_text(struct wire_writer *w, const char *s); /* NULL: null */
void wire_text_n(struct wire_writer *w, const char *s, size_t len);
void wire_int(struct wire_writer *w, int64_t v);
void wire_uint(struct wire_writer *w, uint64_t v);
void wire_bool(struct wire_writer *w, bool v);
void wire_null(struct wire_writer *w);

/* A short decimal that reads back as this float: the fewest digits, but for those that would have
 * to be read as a tie between two floats. v must be finite. */
void wire_f32(struct wire_writer *w, float v);

/* n of them, as members of the open array. */
void wire_f32s(struct wire_writer *w, const float *v, size_t n);

/* Fixed point with at most `decimals` (1..9) digits behind the point, without trailing zeros; for
 * |v| < 9e9. Others, and what is not finite, are null. */
void wire_fixed(struct wire_writer *w, double v, int decimals);

/* Bytes as a base64 string. */
void wire_b64(struct wire_writer *w, const void *data, size_t len);

/* Bytes as they are. */
void wire_raw(struct wire_writer *w, const void *data, size_t len);

/* The buffer, NUL-terminated behind len; own: free(). NULL when memory ran out. len may be NULL.
 * The writer is empty afterwards. */
char *wire_finish(struct wire_writer *w, size_t *len);

/* Frees what was written; the writer is empty afterwards. */
void wire_discard(struct wire_writer *w);

/* The same at out (WIRE_F32_ROOM bytes, no NUL); returns its length. */
enum { WIRE_F32_ROOM = 24 };
size_t wire_f32_text(float v, char *out);

#endif
