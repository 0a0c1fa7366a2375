/* wire_client.h - the other end of the wire: requests as a client writes them, replies as it reads
 * them.
 *
 * The mirror of wire.h, with its types: what wire_native_decode reads, wire_client_native writes;
 * what wire_native_encode writes, wire_client_reply reads. Keys that a newer server may add are
 * passed over; what is missing is an error with its JSON path in `where`.
 *
 * What is read lives in the arena given (proto/wire_arena.h), apart from the body. Any thread; one
 * arena, one thread. */
#ifndef WIRE_CLIENT_H
#define WIRE_CLIENT_H

#include "proto/wire.h"
#include "proto/wire_arena.h"
#include "proto/wire_reader.h"

/* ---- requests -------------------------------------------------------------------------------- */

/* A path with a name in it, percent-encoded: "/v1/models/" NAME "/perceive". own: free(). NULL
 * without memory. */
char *wire_client_path(const char *before, const char *name, const char *behind);

/* JSON of r's media, queries, priority and timeout_us (in whole milliseconds, rounded up). Media of
 * type "text/plain" travel as text, others as base64. own: free(). NULL without memory. */
char *wire_client_native(const struct wire_request *r, size_t *len);

/* The binary form of r's id, tensors, outputs, binary_default, priority and timeout_us: JSON, whose
 * length is *header_len, and the tensors' bytes. own: free(). NULL without memory. */
char *wire_client_oip(const struct wire_request *r, size_t *len, int64_t *header_len);

/* ---- replies --------------------------------------------------------------------------------- */

/* A native reply: all but noutputs and outputs. Labels that are not UTF-8 are the bytes they are.
 */
PCV_CHECK int wire_client_reply(struct wire_arena *a, const char *body, size_t len,
                                struct wire_reply *ret, struct pcv_err *e);

/* The part of a reply that answers the question, as it stands in the body: the array of results or
 * outputs, and the binary tensors (empty when there are none). The rest (ids, timing) differs from
 * reply to reply. header_len: Inference-Header-Content-Length, -1 without. */
PCV_CHECK int wire_client_answer(struct wire_arena *a, enum wire_form form, const char *body,
                                 size_t len, int64_t header_len, struct wire_str *json,
                                 struct wire_str *binary, struct pcv_err *e);

/* What went wrong, from an error reply of either form; NULL for what it does not say. */
struct wire_client_error {
    const char *code, *message, *path;
};

/* PCV_EFORMAT when the body is no such reply. */
PCV_CHECK int wire_client_error(struct wire_arena *a, const char *body, size_t len,
                                struct wire_client_error *ret, struct pcv_err *e);

/* ---- descriptions ---------------------------------------------------------------------------- */

/* GET /v1/models: without labels, tensors and cost. */
PCV_CHECK int wire_client_models(struct wire_arena *a, const char *body, size_t len,
                                 const struct wire_model_desc **ret, int *n, struct pcv_err *e);

/* GET /v1/models/{m}. Labels of a task end with NULL. */
PCV_CHECK int wire_client_model(struct wire_arena *a, const char *body, size_t len,
                                struct wire_model_desc *ret, struct pcv_err *e);

/* GET /v2/models/{m}/config: sets `optional` of the input tensors of m, which wire_client_model has
 * read. */
PCV_CHECK int wire_client_optional(struct wire_arena *a, const char *body, size_t len,
                                   struct wire_model_desc *m, struct pcv_err *e);

/* GET /v2. */
PCV_CHECK int wire_client_server(struct wire_arena *a, const char *body, size_t len,
                                 const char **name, const char **version, struct pcv_err *e);

/* GET /v2/models/stats. */
PCV_CHECK int wire_client_stats(struct wire_arena *a, const char *body, size_t len,
                                const struct wire_model_stats **ret, int *n, struct pcv_err *e);

#endif
