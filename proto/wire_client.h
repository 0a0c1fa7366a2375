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

/* JSON of r's media, queries, format, keep_ms, no_cache, no_share, stream, priority and timeout_us
 * (in whole milliseconds, rounded up). Media of type "text/plain" travel as text, others as base64;
 * several of one name in an item are an array. With batch, media of different `item` are different
 * inputs, and a query's input is written (-1: all of them); nitems is not looked at. A query's
 * top_k is left out when it is 0 or there are classes. Without media it is a question to kept
 * latents: no inputs. own: free(). NULL without memory. */
char *wire_client_native(const struct wire_request *r, size_t *len);

/* The binary form of r's id, tensors, outputs, binary_default, no_cache, no_share, priority and
 * timeout_us: JSON, whose length is *header_len, and the tensors' bytes. own: free(). NULL without
 * memory. */
char *wire_client_oip(const struct wire_request *r, size_t *len, int64_t *header_len);

/* ---- replies --------------------------------------------------------------------------------- */

/* A native reply: all but noutputs and outputs. Labels that are not UTF-8 are the bytes they are.
 * nitems is 1 without batch, and counts NULL; the labels of values have their places for index. */
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

/* A line of a stream, with its newline or without. */
enum wire_line_kind { WIRE_LINE_CHUNK, WIRE_LINE_RESULT, WIRE_LINE_DONE, WIRE_LINE_ERROR };

struct wire_client_line {
    enum wire_line_kind kind;
    int input;                      /* CHUNK, RESULT; -1: no batch */
    struct wire_chunk chunk;        /* CHUNK */
    struct wire_result result;      /* RESULT */
    struct wire_reply reply;        /* DONE: without results; batch and nitems only with handles */
    struct wire_client_error error; /* ERROR */
};

PCV_CHECK int wire_client_line(struct wire_arena *a, const char *line, size_t len,
                               struct wire_client_line *ret, struct pcv_err *e);

/* ---- descriptions ---------------------------------------------------------------------------- */

/* GET /v1/models: without labels, tensors and cost. */
PCV_CHECK int wire_client_models(struct wire_arena *a, const char *body, size_t len,
                                 const struct wire_model_desc **ret, int *n, struct pcv_err *e);

/* GET /v1/models/{m}. Labels and inputs of a task end with NULL. */
PCV_CHECK int wire_client_model(struct wire_arena *a, const char *body, size_t len,
                                struct wire_model_desc *ret, struct pcv_err *e);

/* GET /v1/latents/{id}. */
PCV_CHECK int wire_client_latents(struct wire_arena *a, const char *body, size_t len,
                                  struct wire_latents_desc *ret, struct pcv_err *e);

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
