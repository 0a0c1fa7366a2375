/* wire_decode.h - what the decoders share: a request being built, and media as they come in. */
#ifndef WIRE_DECODE_H
#define WIRE_DECODE_H

#include "proto/wire.h"
#include "proto/wire_reader.h"

/* pcv_fail with a place. */
int wire_fail(struct pcv_err *e, int code, const char *where, const char *fmt, ...)
    PCV_PRINTF(4, 5);

/* An empty request in an arena of its own, or NULL without memory. own: wire_request_free */
struct wire_request *wire_request_new(enum wire_form form);

/* One more of r's media, of the last of its items, cleared but for that and its name. input: NULL
 * or text in r's arena. PCV_ELIMIT beyond WIRE_MAX_MEDIA, PCV_EFORMAT when the item has the name
 * already and this is not one more of its media (again), or when an input without name is not the
 * item's only one. */
PCV_CHECK int wire_add_media(struct wire_request *r, const char *input, bool again,
                             struct wire_media **ret, struct pcv_err *e);

/* One more query, cleared, to all inputs, with r's default_top_k. PCV_ELIMIT beyond
 * WIRE_MAX_QUERIES. */
PCV_CHECK int wire_add_query(struct wire_request *r, struct wire_query **ret, struct pcv_err *e);

/* A Content-Type as media are known by: lower case, without parameters; NULL for nothing and for
 * application/octet-stream, which say nothing. PCV_EUNSUPPORTED for a character set that is not
 * UTF-8. */
PCV_CHECK int wire_media_type(struct wire_arena *a, const char *s, size_t len, const char **ret,
                              struct pcv_err *e);

/* What says it is text is UTF-8 without NUL. */
PCV_CHECK int wire_media_check(const struct wire_media *m, struct pcv_err *e);

/* What a format is called: json, png, flo, wav, raw. PCV_EUNKNOWN. */
PCV_CHECK int wire_format_of(const char *s, size_t len, enum wire_format *ret, struct pcv_err *e);

const char *wire_format_name(enum wire_format f);

/* How long latents are kept: seconds, or a number with one of s, m, h, d. PCV_EFORMAT, PCV_ERANGE.
 */
PCV_CHECK int wire_keep_of(const char *s, size_t len, uint64_t *ms, struct pcv_err *e);

/* The next value, an array of queries, into r. */
PCV_CHECK int wire_read_queries(struct wire_reader *rd, struct wire_request *r);

/* Query i asks an input that is there; when all inputs are known. root: the path of the queries. */
PCV_CHECK int wire_query_check(const struct wire_request *r, int i, const char *root,
                               struct pcv_err *e);

#define WIRE_STREAM_IS_JSON "answers in pieces are lines of JSON, and no file"

/* Why a query has no positions (the task is attention), or no latents. */
const char *wire_rows_wrong(bool attention);

#endif
