/* wire.h - one request and one reply, whatever form they travel in.
 *
 * The native API and the Open Inference Protocol, JSON and binary, all decode into wire_request
 * and encode from wire_reply. No sockets, no compute, no knowledge of models: names are checked
 * later by who knows them. Any thread; no globals.
 *
 * Errors are pcv_err with the place in `where`: a JSON path ("$.queries[0].top_k"), "?top_k" for an
 * argument of the query string, "form.top_k" for a part of a form, "body", or a header's name.
 * Everything a request points to lives in its own arena, or in the body it was decoded from: the
 * body must outlive the request. */
#ifndef WIRE_H
#define WIRE_H

#include "lib/base/err.h"
#include "lib/base/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wire_form {
    WIRE_NATIVE, /* /v1: media in, results out */
    WIRE_OIP,    /* /v2: tensors in, tensors out */
};

/* Limits of every decoder: beyond them PCV_ELIMIT, naming the place. */
enum {
    WIRE_MAX_DEPTH = 64, /* JSON nesting; enough for data nested by dimension (PCV_MAX_DIMS) */
    WIRE_MAX_QUERIES = 256,
    WIRE_MAX_TENSORS = 64,
    WIRE_MAX_MEDIA = 256, /* files and texts of all items together */
    WIRE_MAX_POINTS = 1 << 16,
    WIRE_MAX_COORDINATE = 1 << 20,
    WIRE_MAX_FRAMES = 256,
    WIRE_MAX_TOP_K = 1000,
    WIRE_DEFAULT_TOP_K = 5,
    WIRE_MAX_PRIORITY = 1 << 20,
    WIRE_MAX_ITEMS = 256,    /* inputs of one native request */
    WIRE_MAX_ROWS = 1 << 20, /* positions or latents that one query names */
    WIRE_MAX_CLASSES = 1000,
    WIRE_MAX_KEEP_MS = 30 * 24 * 3600 * 1000u, /* a month */
    WIRE_MAX_TIMEOUT_MS = 24 * 3600 * 1000,    /* so that adding it to a clock cannot overflow */
};

/* A file or a text for one of the model's inputs. */
struct wire_media {
    int item; /* which input of the batch it belongs to; media of one item stand together */
    const char *input; /* "image", "text"; NULL: not said */
    const void *data;  /* borrow from arena or body */
    size_t len;
    const char *type; /* media type, or NULL when not said; "text/plain" for JSON strings */
};

enum wire_pool { WIRE_POOL_MEAN, WIRE_POOL_NONE };

/* One question to a task (native form). What a task cannot use is the server's to refuse. */
struct wire_query {
    const char *task; /* "classify"; "embed" and "attention" are every model's */
    int input;        /* the one of the batch that is asked; -1: all that have an answer */
    int top_k;        /* 1..WIRE_MAX_TOP_K */
    int nclasses;     /* classify: those whose scores are wanted; 0 = the top_k best */
    const char *const *classes; /* labels */
    int nrows;                  /* the only output queries to decode: "positions", or "latents" of
                                   the task attention; 0 = not said */
    const int32_t *rows;        /* each 0..WIRE_MAX_COORDINATE */
    bool has_region;            /* pixels: */
    int32_t region[4];          /* x, y, width, height */
    int npoints;                /* flow: the pixels asked for; 0 = all */
    const int32_t (*points)[2]; /* (x, y), each 0..WIRE_MAX_COORDINATE */
    int nframes;                /* image: the frames asked for; 0 = all */
    const int32_t *frames;
    bool pooled; /* pool was said */
    enum wire_pool pool;
};

/* What a native reply looks like: JSON, or the one answer alone as a file. */
enum wire_format { WIRE_JSON, WIRE_PNG, WIRE_FLO, WIRE_WAV, WIRE_RAW };

/* One tensor wanted back (OIP form). */
struct wire_output {
    const char *name;
    bool binary;        /* parameters.binary_data, else the request's binary_data_output */
    int classification; /* parameters.classification: top n as "value:index:label"; 0 = raw */
};

struct wire_request {
    enum wire_form form;
    const char *id; /* OIP "id", echoed; NULL when none */

    int nmedia; /* native; OIP: inputs of datatype BYTES, one text or file each (ntensors = 0) */
    struct wire_media *media;
    int nqueries; /* native; 0 = every task of the model, each with default_top_k */
    struct wire_query *queries;
    int default_top_k; /* WIRE_DEFAULT_TOP_K, or top_k of the whole when no task is named */
    enum wire_format format;
    bool batch;       /* inputs was a list: nitems of them, and the reply has a list for each */
    int nitems;       /* 1 without batch; 0 for questions to a handle, and for OIP's tensors */
    uint64_t keep_ms; /* latents are to be kept so long; 0 = not asked */
    bool no_cache;    /* "cache": false: neither answered from the store nor put there */
    bool no_share;    /* "share": false: computed by itself, whoever sends the same */
    bool stream;      /* answers in pieces, as they are computed */

    int ntensors; /* OIP inputs: name, dtype, shape and data checked against each other */
    struct pcv_tensor *tensors;
    int noutputs; /* OIP; 0 = all outputs */
    struct wire_output *outputs;
    bool binary_default; /* OIP: binary_data_output, for outputs that do not say */
    bool raw;            /* OIP raw form: one input, all outputs binary. The first tensor has name
                            NULL, dtype PCV_U8 and shape [bytes]: the server gives it the model's */

    int priority;        /* 0 = default, 1 = highest, larger = less urgent */
    uint64_t timeout_us; /* 0 = the server's default */
    void *arena;         /* wire's own */
};

void wire_request_free(struct wire_request *r); /* NULL is fine */

/* ---- native requests: wire_native.c ---------------------------------------------------------- */

/* {"inputs": ITEM or [ITEM..], "queries": [{"task": STR, "input": N, "top_k": N, "classes":
 * [STR..], "positions": [N..], "latents": [N..], "region": [X, Y, W, H], "points": [[X, Y]..],
 * "frames": [N..], "pool": "mean" | "none"}..], "format": "json" | "png" | "flo" | "wav" | "raw",
 * "top_k": N, "keep": "10m" or seconds, "cache": BOOL, "share": BOOL, "stream": BOOL, "priority":
 * N, "timeout_ms": N}. top_k of the whole goes without queries.
 *
 * ITEM is {NAME: VALUE or [VALUE..]}, several being the frames of a video, or a VALUE without NAME:
 * a string, or an object whose first key is b64 or type ({"text": STR} names the input "text").
 * VALUE is {"b64": STR [, "type": STR]} | {"text": STR} | STR. base64 is RFC 4648's, padded,
 * without white space; data: URLs are refused.
 *
 * Of a query's positions, latents, region and points only one is said; frames go with a region;
 * classes come without top_k; latents are the task attention's, which has no positions. keep is a
 * number with one of s, m, h, d, or without a unit seconds. stream needs format json. Unknown keys
 * and keys that appear twice are errors, and empty lists. own: wire_request_free. */
PCV_CHECK int wire_native_decode(struct wire_request **ret, const char *body, size_t len,
                                 struct pcv_err *e);

/* Questions to kept latents: the same body without inputs, keep, cache and share, and no query has
 * an input. nitems is 0. own: wire_request_free */
PCV_CHECK int wire_native_decode_query(struct wire_request **ret, const char *body, size_t len,
                                       struct pcv_err *e);

/* A part of a multipart/form-data body, or a raw media body as the only part. */
struct wire_part {
    const char *name; /* form field: the input's name, or "queries" (a JSON array), or an option:
                         "task", "top_k", "positions", "latents", "region", "format", "keep",
                         "cache", "share", "stream", "priority", "timeout_ms". NULL: raw body */
    const char *filename; /* NULL when none */
    const char *type;     /* Content-Type of the part, NULL when none */
    const void *data;
    size_t len;
};

/* A query-string argument, decoded. */
struct wire_arg {
    const char *name, *value; /* value NULL when no '=' */
};

/* Media from parts, of which several may have one name; options from arguments and then from form
 * fields (?task=classify&top_k=3&task=...). positions=1,2,3, latents=0,5 and region=x,y,w,h belong
 * to the task before them, and so does top_k, or to all when it comes first. cache, share and
 * stream are true or false. A part with neither file name nor type is text. Types become lower case
 * without parameters; application/octet-stream is NULL. Parts' data are borrowed, and must outlive
 * the request. Unknown arguments are errors. */
PCV_CHECK int wire_native_from_parts(struct wire_request **ret, const struct wire_part *parts,
                                     int nparts, const struct wire_arg *args, int nargs,
                                     struct pcv_err *e);

/* ---- Open Inference Protocol requests: wire_oip.c -------------------------------------------- */

/* header_len = Inference-Header-Content-Length, or -1 when the whole body is JSON; 0 is the raw
 * binary form. Tensors in the binary form point into body (maybe unaligned).
 * - Unknown keys and parameters are passed over, but for parameters that begin with triton_ and
 *   shared memory. Inputs and outputs have different names.
 * - data is flat or nested, rows of one depth equally long, as many numbers as the shape has.
 *   FP32 is the nearest double rounded once more. Errors are overflow, integers outside their
 *   datatype, NaN, and FP16 or BF16 in JSON. BOOL is true, false, 0 or 1.
 * - Binary sizes must be the shapes' and add up to the body.
 * - The parameters cache and share are booleans: false is no_cache, no_share. Which output queries
 *   are wanted is said by input tensors.
 * - An input of datatype BYTES has one element and becomes one of the media: "text/plain" from
 *   JSON, any file from the binary form. More elements, or tensors beside it, are
 *   PCV_EUNSUPPORTED.
 * own: wire_request_free. */
PCV_CHECK int wire_oip_decode(struct wire_request **ret, const void *body, size_t len,
                              int64_t header_len, struct pcv_err *e);

/* Body of a repository index request: nothing, or {"ready": BOOL}. *ready: only models that are. */
PCV_CHECK int wire_oip_index_decode(const char *body, size_t len, bool *ready, struct pcv_err *e);

/* ---- replies --------------------------------------------------------------------------------- */

struct wire_label {
    int index;
    const char *label; /* NULL when the class has no name */
    float score;
};

/* One masked position of a text, and what may stand there. */
struct wire_fill {
    int position;        /* token position, [CLS] is 0 */
    int64_t byte_offset; /* where [MASK] begins in the text sent, -1 when unknown */
    int64_t char_offset; /* the same in characters (code points) */
    int nlabels;
    const struct wire_label *labels; /* index = token id, label = its text (maybe not UTF-8) */
};

/* Where something moved, in pixels. */
struct wire_motion {
    int x, y;
    float u, v;
};

struct wire_file {
    int index; /* of the frame, -1: none */
    const char *type;
    const void *data;
    size_t len;
};

enum wire_result_kind {
    WIRE_CLASSES,
    WIRE_FILLS,
    WIRE_MOTIONS, /* flow at points */
    WIRE_TENSOR,  /* numbers with a shape, as base64 of little endian f32 */
    WIRE_FILES,
    WIRE_VECTORS, /* embeddings: numbers in JSON */
    WIRE_VALUES,  /* regression: a number for each name; labels, score is the number */
};

struct wire_result { /* native: the answer to one query */
    const char *task;
    enum wire_result_kind kind;
    int nlabels; /* WIRE_CLASSES */
    const struct wire_label *labels;
    int nfills; /* WIRE_FILLS */
    const struct wire_fill *fills;
    const char *text; /* WIRE_FILLS: the text with the best candidates in place, or NULL */
    size_t text_len;
    int nmotions; /* WIRE_MOTIONS */
    const struct wire_motion *motions;
    int ndim; /* WIRE_TENSOR; WIRE_VECTORS: 1 or 2 */
    int64_t shape[PCV_MAX_DIMS];
    const float *numbers;
    int nfiles; /* WIRE_FILES */
    const struct wire_file *files;
};

struct wire_stages {
    double encode, process, decode;
};

struct wire_out_tensor {
    struct pcv_tensor t; /* name, dtype F32, shape, data */
    bool binary;
    int classification;        /* n > 0: top n of the last dimension of each row */
    const char *const *labels; /* [last dimension] or NULL */
};

struct wire_reply {
    const char *model, *version;
    const char *request_id; /* X-Request-Id */
    const char *id;         /* OIP id to echo, or NULL */

    int nresults; /* native, of all items one after another */
    const struct wire_result *results;
    bool batch;                 /* "results" is a list of lists, */
    int nitems;                 /* one for each item, */
    const int *counts;          /* [nitems] of so many results */
    const char *const *latents; /* [nitems], [1] without batch: handles, NULL for what was not kept;
                                   or NULL: none was asked for */
    double expires_s;           /* seconds until they expire */

    int noutputs; /* OIP: finished tensors; F32 or, with classification, see labels */
    const struct wire_out_tensor *outputs;

    int64_t tokens, output_queries; /* usage */
    int batch_items;                /* items of the batch it was computed in */
    int cached_items;               /* items whose latents were there already */
    bool cached;                    /* all of them were */
    struct wire_stages gmac;        /* done for this request */
    struct {
        double adapt, queue, encode, process, decode, total;
    } ms; /* timing */
};

/* own: free(*body). Native JSON: {"model", "version", "id", "latents", "expires_s", "results":
 * [...], "usage": {"tokens", "output_queries", "gmac": {"encode","process","decode","total"},
 * "batch", "cached"}, "timing_ms": {...}}, latents and expires_s only when they were asked for; a
 * result is {"task", "labels": [{"index", "label", "score"}]} or {"task", "masks": [{"position",
 * "byte_offset", "char_offset", "candidates": [label...]}], "text"}, {"task", "points": [{"x", "y",
 * "u", "v"}]}, {"task", "shape", "b64"}, {"task", "files": [{"index", "type", "b64"}]}, {"task",
 * "embedding": [number...] or [[number...]...]} or {"task", "values": [{"name", "value"}]}, with
 * null for what is unknown. With batch, results is a list of such lists, latents a list of handles,
 * and usage has "cached_items". Scores read back as the same float. Bytes of labels and texts that
 * are no UTF-8 appear as U+FFFD beside "bytes" (array of numbers). NaN and infinities cannot travel
 * in JSON: PCV_ERANGE naming the result. */
PCV_CHECK int wire_native_encode(const struct wire_reply *r, char **body, size_t *len,
                                 struct pcv_err *e);

/* own: free(*body). *header_len is the JSON part's length when any output is binary, else -1.
 * Usage and timing are reply-level parameters (flat names: "gmac_total", "ms_queue"). Errors name
 * the output: PCV_ERANGE for what is not finite in JSON (binary takes all), for NaN in a ranking
 * and for more than 1,000,000 classification strings; PCV_EUNSUPPORTED for JSON of other types than
 * F32. */
PCV_CHECK int wire_oip_encode(const struct wire_reply *r, char **body, size_t *len,
                              int64_t *header_len, struct pcv_err *e);

/* ---- streams: NDJSON, one object a line ------------------------------------------------------ */

/* Rows of one answer, as they come: {"input", "task", "rows": [FIRST, N], "shape": [N, WIDTH],
 * "b64"}; numbers [n, width] as little endian f32. input is left out without batch. FIRST counts in
 * the rows that were asked. own: free(*line), which ends in a newline. */
struct wire_chunk {
    int input; /* -1: no batch */
    const char *task;
    int64_t first, n;
    int width;
    const float *numbers;
};
PCV_CHECK int wire_chunk_encode(const struct wire_chunk *c, char **line, size_t *len,
                                struct pcv_err *e);

/* An answer that comes in one piece: {"input", "result": {...}}, the result as in a reply and input
 * (-1: no batch) as above. PCV_ERANGE as wire_native_encode. */
PCV_CHECK int wire_result_line_encode(const struct wire_result *r, int input, char **line,
                                      size_t *len, struct pcv_err *e);

/* The last line: {"done": true, "model", "version", "id", "latents", "expires_s", "usage",
 * "timing_ms"}, as in a reply without results. */
PCV_CHECK int wire_done_encode(const struct wire_reply *r, char **line, size_t *len,
                               struct pcv_err *e);

/* In the place of the last line, when it breaks off: the error as wire_error_json has it, which
 * does not end in a newline. */

/* ---- kept latents ---------------------------------------------------------------------------- */

struct wire_latents_desc {
    const char *handle, *model, *version;
    const char *input; /* name of the model's input they were made of */
    int num_latents, d_latents;
    double age_s, expires_s; /* since they were made; until they are dropped */
    int64_t bytes;
    bool has_input; /* tasks that read the input itself can be asked */
    int ntasks;
    const char *const *tasks; /* that can be asked */
};

/* {"latents": HANDLE, "model", "version", "input", "shape": [COUNT, WIDTH], "bytes", "age_s",
 * "expires_s", "has_input", "tasks": [STR..]}. own: free(). NULL without memory. */
char *wire_latents_json(const struct wire_latents_desc *d);

/* ---- errors ---------------------------------------------------------------------------------- */

/* own: free(). Native: {"error": {"code", "message", "path", "request_id"}} with path null when the
 * place is unknown; OIP: {"error": "place: message"}. Never NULL except without memory. */
char *wire_error_json(enum wire_form form, const char *code, const char *message, const char *path,
                      const char *request_id);

/* HTTP status of a PCV_E* code that a request caused: 400, 404 unknown model or task is the
 * caller's business, 413 PCV_ELIMIT, 415 PCV_EUNSUPPORTED media, 500 for PCV_ENOMEM/PCV_EIO. */
int wire_status(int pcv_code);

/* ---- descriptions of models: wire_describe.c ------------------------------------------------- */

struct wire_tensor_desc {
    const char *name;
    enum pcv_dtype dtype;
    int ndim;
    int64_t shape[PCV_MAX_DIMS]; /* -1 = variable */
    bool optional;
};

struct wire_task_desc {
    const char *name, *kind;   /* "classify" */
    int width;                 /* logits per output query */
    int64_t max_rows;          /* most output queries */
    const char *const *labels; /* [width] or NULL */
    const char *const
        *inputs; /* NULL-terminated names of the inputs it has an answer for; NULL: all */
};

struct wire_input_desc {
    const char *name, *kind;  /* "image" */
    const char *const *media; /* NULL-terminated */
    int64_t max_tokens;
};

struct wire_model_desc {
    const char *name, *version, *platform, *architecture, *upstream;
    const char *state, *reason; /* "READY", "LOADING", "UNAVAILABLE"; reason may be "" */
    int64_t parameters, bytes;
    int num_latents, d_latents, max_batch;
    bool together; /* an input of a request is all of `inputs` at once, not one of them */
    int ninputs, ntasks, ntensors_in, ntensors_out;
    const struct wire_input_desc *inputs;
    const struct wire_task_desc *tasks;
    const struct wire_tensor_desc *tensors_in, *tensors_out;
    struct wire_stages gmac, gmac_dense; /* of a full-size input */
};

struct wire_stat {
    uint64_t count, ns;
};

struct wire_batch_stat {
    int batch_size;
    struct wire_stat compute_input, compute_infer, compute_output;
};

struct wire_model_stats { /* OIP statistics extension */
    const char *name, *version;
    uint64_t last_inference_ms, inference_count, execution_count;
    struct wire_stat success, fail, queue, compute_input, compute_infer, compute_output, cache_hit,
        cache_miss;
    int nbatches;
    const struct wire_batch_stat *batches;
    uint64_t memory_bytes;
};

/* Each: own, free(); NULL without memory. */
char *wire_models_json(const struct wire_model_desc *m, int n);     /* GET /v1/models */
char *wire_model_json(const struct wire_model_desc *m);             /* GET /v1/models/{m} */
char *wire_oip_server_json(const char *name, const char *version);  /* GET /v2 */
char *wire_oip_model_json(const struct wire_model_desc *m);         /* GET /v2/models/{m} */
char *wire_oip_config_json(const struct wire_model_desc *m);        /* GET /v2/models/{m}/config */
char *wire_oip_ready_json(const char *name, bool ready);            /* {"name","ready"} */
char *wire_oip_stats_json(const struct wire_model_stats *s, int n); /* .../stats */
char *wire_oip_index_json(const struct wire_model_desc *m, int n);  /* repository index */

/* openapi.yaml as shipped in the tree, as JSON: the document GET /openapi.json answers. Static. */
const char *wire_openapi_json(void);

#endif
