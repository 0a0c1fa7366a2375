/* perceiver.h - libperceiver: Perceiver (arXiv 2103.03206) and Perceiver IO (arXiv 2107.14795)
 * inference on CPUs, exact and without Python. The library's only public header.
 *
 *     struct pcv_err e;
 *     struct pcv_pool *pool;      pcv_pool_new(&pool, 0, &e);
 *     struct pcv_model *m;        pcv_model_open(&m, "models/senses", pool, &e);
 *     struct pcv_ws *ws;          pcv_ws_new(&ws, pool, &e);  pcv_ws_reserve(ws, m, 1, 0, &e);
 *     struct pcv_media shoe = {.input = "image", .data = png, .len = n};
 *     struct pcv_input *in;       pcv_input_from_media(&in, m, &shoe, 1, &e);
 *     float logits[10];
 *     int garment =               pcv_task_find(m, "garment", &e);
 *     struct pcv_query q = {.task = garment, .logits = logits};
 *     struct pcv_item item = {.input = in, .queries = &q, .nqueries = 1};
 *     pcv_forward(m, ws, &item, 1, NULL, &e);
 *     struct pcv_score top[3];    pcv_top_k(logits, 10, 3, top);
 *     puts(pcv_task_label(m, garment, top[0].index));
 *
 * Three kinds of object. A model is immutable after opening and shared by all threads. An input is
 * built once, by any thread, and then only read. A workspace is the scratch of one forward at a
 * time. Functions that can fail return 0 or a PCV_E* code and fill pcv_err; a failed call leaves
 * its outputs untouched. The library never logs, exits or reads the environment.
 *
 * Words: own = the caller frees it; borrow = valid until what it came from is freed. */
#ifndef PERCEIVER_H
#define PERCEIVER_H

#include "lib/base/err.h"
#include "lib/base/tensor.h"
#include "lib/load/safetensors.h" /* reading and writing tensor files is public too */

#include <stdatomic.h>
#include <stdbool.h>

#pragma GCC visibility push(default)

struct pcv_pool;
struct pcv_model;
struct pcv_input;
struct pcv_ws;

/* ---- threads ------------------------------------------------------------------------------ */

/* own: pcv_pool_free. threads counts the caller of pcv_forward; 0 takes what the process may use
 * (affinity and cgroup quota), at most 256. */
PCV_CHECK int pcv_pool_new(struct pcv_pool **ret, int threads, struct pcv_err *e);
void pcv_pool_free(struct pcv_pool *p); /* joins; NULL is fine */
int pcv_pool_threads(const struct pcv_pool *p);

/* Processors this process may use: min(affinity, cgroup quota rounded up), at least 1. */
int pcv_cpu_available(void);

/* ---- models ------------------------------------------------------------------------------- */

enum pcv_input_kind {
    PCV_INPUT_TEXT,
    PCV_INPUT_IMAGE,
    PCV_INPUT_IMAGE_PAIR, /* two frames: optical flow */
    PCV_INPUT_AUDIO,
    PCV_INPUT_VIDEO,
    PCV_INPUT_LABEL, /* of a multimodal model; may be left out */
    PCV_INPUT_ARRAY, /* numbers on a grid: points, samples, spectra, ready-made tokens */
};

enum pcv_task_kind {
    PCV_TASK_CLASSIFY,   /* one output query; logits over labels */
    PCV_TASK_FILL_MASK,  /* one output query per position; logits over the byte vocabulary */
    PCV_TASK_LATENTS,    /* the latents themselves; one row each */
    PCV_TASK_FLOW,       /* one output query per pixel; (u, v) */
    PCV_TASK_IMAGE,      /* one output query per pixel of every frame; RGB */
    PCV_TASK_AUDIO,      /* one output query per patch; its samples */
    PCV_TASK_TENSOR,     /* output queries given by the caller; raw numbers */
    PCV_TASK_REGRESSION, /* one output query; a number for each label */
    PCV_TASK_EMBED,      /* one row: the mean of the latents, or a learned query's numbers */
};

/* A tensor that a model takes or gives, under its upstream's name. shape leads with the batch;
 * -1 = any size. */
struct pcv_tensor_spec {
    const char *name; /* "inputs", "attention_mask", "logits" */
    enum pcv_dtype dtype;
    int ndim;
    int64_t shape[PCV_MAX_DIMS];
    bool optional;
    bool shared; /* no batch dimension: the same for all rows of the batch */
};

struct pcv_input_info {
    const char *name; /* "text", "image": what requests call it */
    enum pcv_input_kind kind;
    const char *const *media; /* media types accepted, NULL-terminated: "image/png", ... */
    int64_t max_tokens;       /* most tokens one input may have */
    const char *encoder;      /* what the model calls the cross-attention that reads it, or NULL */
};

struct pcv_task_info {
    const char *name; /* "classify", "fill-mask" */
    enum pcv_task_kind kind;
    int width;                     /* logits per output query row */
    const char *const *labels;     /* [width], or NULL */
    int64_t max_rows;              /* most output query rows */
    struct pcv_tensor_spec output; /* as tensors: "logits" */
    const char *points;            /* tensor that names the rows asked for, or NULL */
    unsigned inputs;               /* bit i: it has an answer for the model's input i */
    int frames, height, width_px;  /* PCV_TASK_IMAGE: its rows are pixels of frames; 0: unknown */
    float mean[3], std[3];         /* PCV_TASK_IMAGE: colour 0..1 = number x std + mean */
    int rate;                      /* PCV_TASK_AUDIO: samples a second; 0: unknown */
    bool pooled;                   /* PCV_TASK_EMBED: the mean of the latents */
};

struct pcv_model_info {
    const char *architecture; /* the upstream's class: "PerceiverForMaskedLM" */
    const char *upstream;     /* "huggingface/transformers" */
    uint64_t parameters;      /* trained numbers, buffers not counted */
    uint64_t mapped_bytes;    /* weights read in place from files */
    uint64_t owned_bytes;     /* memory allocated for this model */
    uint64_t fingerprint;     /* of configuration and weights: another model has another */
    int num_latents, d_latents;
    bool together; /* an input is all of `inputs` at once; else it is one of them */
    int ninputs, ntasks, ntensors;
    const struct pcv_input_info *inputs;
    const struct pcv_task_info *tasks;
    const struct pcv_tensor_spec *tensors; /* what pcv_input_from_tensors takes */
};

/* Opens a model directory: perceiver.json (lib/layout/perceiver.schema.json), or an upstream's
 * config.json with preprocessor_config.json if any; and the weights as model.safetensors,
 * pytorch_model.bin, shards of either with their index, or one *.pickle or
 * *.pystate of DeepMind's. Checks every tensor against the configuration and computes what is
 * constant. own: pcv_model_close.
 * pool (may be NULL) speeds up the work; it is not kept. Errors name file and tensor. */
PCV_CHECK int pcv_model_open(struct pcv_model **ret, const char *dir, struct pcv_pool *pool,
                             struct pcv_err *e);
void pcv_model_close(struct pcv_model *m); /* NULL is fine; inputs of m must be freed before */

const struct pcv_model_info *pcv_model_info(const struct pcv_model *m); /* borrow */

/* The JSON Schema that perceiver.json is held to, as text. static */
const char *pcv_model_schema(void);

/* Index of the task, or PCV_EUNKNOWN with the known names in the message. */
PCV_CHECK int pcv_task_find(const struct pcv_model *m, const char *name, struct pcv_err *e);

/* Label of class i of a task; "" when it has none. borrow */
const char *pcv_task_label(const struct pcv_model *m, int task, int i);

/* ---- inputs: media or tensors become a token array ------------------------------------------ */

struct pcv_media {
    const char *input; /* "image", "text"; NULL when the model has one input */
    const void *data;  /* borrow during the call: UTF-8 text, or a file's bytes (JPEG, PNG, WAV) */
    size_t len;
    const char *type; /* media type, or NULL: recognised by its first bytes */
};

/* One input from n media, one for each of the model's inputs, or, where the model is not
 * `together`, a single one: media[0].input may then be NULL when its type tells which; a video is
 * as many pictures of one name as it has frames, in order: each is cropped to its central square
 * and resized (bilinear, as Pillow does it). A sound is as long as the model's, to within a patch;
 * its channels are averaged and it is resampled to the model's rate. A label may be left out. own:
 * pcv_input_free. Slow for large media. Text gets [CLS] and [SEP] around it; "[MASK]" and the other
 * special tokens written in it become single tokens, as the upstream's tokenizer does. Any thread.
 */
PCV_CHECK int pcv_input_from_media(struct pcv_input **ret, const struct pcv_model *m,
                                   const struct pcv_media *media, int n, struct pcv_err *e);

/* Batch size that these tensors agree on (their first dimension), or an error naming the tensor. */
PCV_CHECK int64_t pcv_tensors_batch(const struct pcv_model *m, const struct pcv_tensor *t, int n,
                                    struct pcv_err *e);

/* Row `row` of the batch as one input. own: pcv_input_free. Values are copied. Tokens whose
 * attention_mask is 0 are left out: they are never computed. Any thread. */
PCV_CHECK int pcv_input_from_tensors(struct pcv_input **ret, const struct pcv_model *m,
                                     const struct pcv_tensor *t, int n, int64_t row,
                                     struct pcv_err *e);
void pcv_input_free(struct pcv_input *in); /* NULL is fine */

int pcv_input_which(const struct pcv_input *in); /* index among the model's inputs; together: 0 */
size_t pcv_input_bytes(const struct pcv_input *in); /* memory it holds */

/* Sides of the grid that its tokens stand on, slowest first: sides [PCV_MAX_SIDES]; returns how
 * many. Text and ready-made tokens have one; several modalities together, or tokens left out by a
 * mask, have one too: their number. */
enum { PCV_MAX_SIDES = 5 };
int pcv_input_sides(const struct pcv_input *in, int *sides);

/* Everything that the answer depends on, as bytes in a fixed order: which input it is, sizes, ids,
 * content. Two inputs of one model that feed the same have the same answers. Any thread. */
void pcv_input_feed(const struct pcv_input *in,
                    void (*feed)(void *ctx, const void *data, size_t len), void *ctx);

int64_t pcv_input_tokens(const struct pcv_input *in);   /* M: tokens the encoder reads */
int64_t pcv_input_channels(const struct pcv_input *in); /* C */

/* The token array written out, out [M,C]: what the encoder attends to, before its LayerNorm.
 * PCV_ENOMEM. */
PCV_CHECK int pcv_input_dense(const struct pcv_input *in, float *out, struct pcv_err *e);

/* Text only: how many positions it has ([CLS] .. [SEP]); the byte of the text where a position
 * starts, -1 for [CLS] and [SEP] and for inputs made from tensors; and its token id. */
int pcv_input_positions(const struct pcv_input *in);
int64_t pcv_input_byte_offset(const struct pcv_input *in, int position);
int pcv_input_token(const struct pcv_input *in, int position);

/* Text of a byte-vocabulary token: "a", "\xc3" (one byte, maybe half a character), "[MASK]".
 * Returns its length; buf holds at least 8 bytes and is NUL-terminated. */
int pcv_token_text(int token, char buf[8]);

/* ---- queries and the forward pass ----------------------------------------------------------- */

/* Output queries of one task. rows names them (positions for fill-mask, each in
 * [0, pcv_query_rows_all)); NULL means all of them in order. logits is [nrows, width], the
 * caller's. With rows NULL, nrows is ignored and logits must hold pcv_query_rows_all rows. */
struct pcv_query {
    int task;
    int nrows;
    const int32_t *rows;
    float *logits;
};

/* How many output query rows this task has for this input: 1 to classify, one per position to
 * fill masks. in NULL: for latents whose input is unknown, as many as the task can have. */
int pcv_query_rows_all(const struct pcv_model *m, int task, const struct pcv_input *in);

/* Rows a person would ask for: all of them, or for fill-mask the positions that hold [MASK].
 * Writes at most max of them and returns how many there are. */
int pcv_query_rows_default(const struct pcv_model *m, int task, const struct pcv_input *in,
                           int32_t *rows, int max);

/* Rows that a tensor of the request names ("subsampled_output_points.image"): *rows is own (free())
 * and holds *nrows, or NULL when there is no such tensor: all rows. */
PCV_CHECK int pcv_query_rows_from_tensors(const struct pcv_model *m, int task,
                                          const struct pcv_tensor *t, int n, int32_t **rows,
                                          int *nrows, struct pcv_err *e);

/* PCV_ERANGE when a row lies outside, or there are fewer than none; PCV_EUNSUPPORTED when the task
 * has no answer for this kind of input. in NULL: PCV_EMISSING for tasks whose output queries come
 * from the input. */
PCV_CHECK int pcv_query_check(const struct pcv_model *m, const struct pcv_input *in,
                              const struct pcv_query *q, struct pcv_err *e);

/* Which tokens chosen latents read: their softmax in the first cross-attention, the mean of its
 * heads (arXiv 2103.03206, figure 3). */
struct pcv_attention {
    int n;
    const int32_t *latents; /* [n], each in [0, num_latents) */
    float *weights;         /* [n, tokens of the input], each row adds up to 1; the caller's */
};

/* One input of a batch, and what is wanted of it. */
struct pcv_item {
    const struct pcv_input *input; /* borrow until pcv_forward returns; NULL is fine with filled
                                      `kept` and queries that need none */
    struct pcv_latents *kept;      /* NULL; empty: filled here; filled: nothing is encoded or
                                      processed, the queries read these latents. borrow */
    struct pcv_query *queries;
    int nqueries;
    const struct pcv_attention *attention; /* NULL: not asked. Needs the input */
    const atomic_bool *cancelled;          /* looked at between layers; NULL: never cancelled */
    float *encoded; /* NULL, or [num_latents, d_latents]: latents after encode */
    float *latents; /* NULL, or the same: latents after process */
    bool dropped;   /* out: it was cancelled; its results are unset */
};

struct pcv_timing {
    double encode_s, process_s, decode_s; /* wall time of each stage of the batch */
    int tiles; /* products that its output rows went through; few rows share one */
};

/* PCV_WS_DENSE computes the plain way, without factored token arrays: the specification that the
 * default is tested against. */
enum { PCV_WS_DENSE = 1 };

/* own: pcv_ws_free. The pool is borrowed until then; several workspaces may share one pool, one
 * forward at a time. */
PCV_CHECK int pcv_ws_new(struct pcv_ws **ret, struct pcv_pool *pool, struct pcv_err *e);
void pcv_ws_free(struct pcv_ws *ws);

/* Makes room for forwards of up to max_items items of m. Without PCV_WS_DENSE the size does not
 * depend on the inputs. Forwards then allocate nothing. */
PCV_CHECK int pcv_ws_reserve(struct pcv_ws *ws, const struct pcv_model *m, int max_items, int flags,
                             struct pcv_err *e);
size_t pcv_ws_bytes(const struct pcv_ws *ws);

/* Has the system provide all of that memory now, on all threads of the pool: otherwise forwards
 * wait for it page by page when they first write there. Between forwards. */
void pcv_ws_touch(struct pcv_ws *ws);

/* Bytes pcv_ws_reserve would take, to plan memory before. */
size_t pcv_ws_need(const struct pcv_model *m, int max_items, int threads, int flags);

/* Encode, process, decode. Every item's result is, bit for bit, what it is alone in a batch.
 * Fails only with PCV_ENOMEM (dense) or PCV_ELIMIT (n above what was reserved). One thread at a
 * time per ws and per pool. t may be NULL. */
PCV_CHECK int pcv_forward(const struct pcv_model *m, struct pcv_ws *ws, struct pcv_item *items,
                          int n, struct pcv_timing *t, struct pcv_err *e);

/* ---- latents kept: encode once, ask later -----------------------------------------------------
 *
 * What an input became after the process stack, with the keys and values that decoders make of it:
 * those are made at the first later question and stay, so that from then on a question costs its
 * own rows alone. Any number of forwards, on any threads, may read filled latents at once; filling
 * is for one forward. Answers from kept latents equal fresh ones to float rounding, and each other
 * bit for bit. */
struct pcv_latents;

/* Empty. which: index of the model's input that they are made of. own: pcv_latents_free, before the
 * model is closed. */
PCV_CHECK int pcv_latents_new(struct pcv_latents **ret, const struct pcv_model *m, int which,
                              struct pcv_err *e);
void pcv_latents_free(struct pcv_latents *l); /* NULL is fine */

/* Filled with numbers [num_latents, d_latents] from elsewhere. PCV_ERANGE for what is not finite.
 */
PCV_CHECK int pcv_latents_import(struct pcv_latents **ret, const struct pcv_model *m, int which,
                                 const float *numbers, struct pcv_err *e);

/* in is taken: freed with l, and lent to later questions that need it. Before l is shared. */
void pcv_latents_take_input(struct pcv_latents *l, struct pcv_input *in);

bool pcv_latents_filled(const struct pcv_latents *l);
int pcv_latents_which(const struct pcv_latents *l);
const struct pcv_input *pcv_latents_input(const struct pcv_latents *l); /* borrow; NULL: unknown */
const float *pcv_latents_numbers(const struct pcv_latents *l);          /* borrow */

/* Memory that one takes, keys and values of all decoders and its input included; and that one of
 * this model without its input takes. */
size_t pcv_latents_bytes(const struct pcv_latents *l);
size_t pcv_latents_need(const struct pcv_model *m);

/* Whether a later question to this task cannot do without the input itself. */
bool pcv_task_reads_input(const struct pcv_model *m, int task);

/* ---- cost -------------------------------------------------------------------------------------
 */

/* Multiply-adds, exactly known before a request starts. */
struct pcv_cost {
    double encode, process, decode;
};

/* done: what pcv_forward will do for this item, with what its kept latents already hold. dense:
 * what the plain algorithm does for it, with the padding and the unasked rows that it computes.
 * Either may be NULL. */
void pcv_cost_item(const struct pcv_model *m, const struct pcv_item *item, struct pcv_cost *done,
                   struct pcv_cost *dense);

/* The same for a full-size input `which` of this model (0 where all are together) and all rows of
 * every task that answers it; as many output queries of the caller as there are tokens. */
void pcv_cost_nominal(const struct pcv_model *m, int which, struct pcv_cost *done,
                      struct pcv_cost *dense);

/* ---- results ------------------------------------------------------------------------------------
 */

struct pcv_score {
    int index;   /* class or token */
    float score; /* softmax probability */
};

/* The k largest of softmax(logits[0..n)), best first, ties by index. Returns min(k, n), at least 0.
 */
int pcv_top_k(const float *logits, int n, int k, struct pcv_score *out);

/* ---- optical flow: two pictures of any size from the model's own upwards ------------------------
 *
 *     struct pcv_flow *f;         pcv_flow_open(&f, m, media, 2, &e);  ("first" and "second")
 *     const struct pcv_flow_grid *g = pcv_flow_grid(f);
 *     for (int t = 0; t < g->nx * g->ny; t++)  pcv_flow_input(&in[t], f, t, &e);
 *     ... a forward, one item for each tile, all its rows: tile[t] is [tile_height, tile_width, 2]
 *     pcv_flow_blend(g, tile, uv);
 *
 * The pictures are cut into tiles of the size that the model was trained with; neighbours overlap
 * by 20 pixels (half a tile where a tile has less than 40), the last of a row or column ends where
 * the picture does. A tile's pixels count less towards its edges: min(x + 1, W - x, y + 1, H - y),
 * divided by the sum of such weights. What the network says is 1/20 of the flow in pixels; blending
 * gives pixels. */
struct pcv_flow;
struct pcv_flow_grid {
    int width, height;           /* of the pictures */
    int tile_width, tile_height; /* of every tile */
    int nx, ny;                  /* tiles in a row and in a column; tile t = row t / nx */
};

/* Decodes both pictures. own: pcv_flow_free, before the model is closed. PCV_ESHAPE when their
 * sizes differ or are smaller than a tile, naming both sizes; PCV_EUNSUPPORTED for a model of
 * another kind. Errors name the medium. Slow; any thread. */
PCV_CHECK int pcv_flow_open(struct pcv_flow **ret, const struct pcv_model *m,
                            const struct pcv_media *media, int n, struct pcv_err *e);
void pcv_flow_free(struct pcv_flow *f);                              /* NULL is fine */
const struct pcv_flow_grid *pcv_flow_grid(const struct pcv_flow *f); /* borrow */

/* The grid alone: tiles over a picture of at least a tile. PCV_ELIMIT for thousands of tiles. And
 * the upper left pixel of a tile. */
PCV_CHECK int pcv_flow_tiling(struct pcv_flow_grid *g, int width, int height, int tile_width,
                              int tile_height, struct pcv_err *e);
void pcv_flow_corner(const struct pcv_flow_grid *g, int tile, int *x, int *y);

/* A tile as an input of its own. own: pcv_input_free; it does not need f any more. Any thread. */
PCV_CHECK int pcv_flow_input(struct pcv_input **ret, const struct pcv_flow *f, int tile,
                             struct pcv_err *e);

/* Bytes that such an input takes, about. */
size_t pcv_flow_input_bytes(const struct pcv_flow *f);

/* Which output queries of which tiles points [n] = (x, y) inside the picture need: count[t] of tile
 * t, and with rows not NULL their numbers in rows[t][count[t]]; room is the caller's. */
void pcv_flow_rows(const struct pcv_flow_grid *g, const int32_t (*points)[2], int n, int *count,
                   int32_t *const *rows);

/* Flow in pixels from what the network says of the tiles. tile[t]: all its rows; uv [height, width,
 * 2]. Of points: tile[t] has the rows of pcv_flow_rows, in that order (NULL when it has none);
 * uv [n, 2]. */
void pcv_flow_blend(const struct pcv_flow_grid *g, const float *const *tile, float *uv);
void pcv_flow_blend_points(const struct pcv_flow_grid *g, const int32_t (*points)[2], int n,
                           const float *const *tile, float *uv);

/* Flow as colours: direction is the hue (right is red, down yellow), length the saturation, full
 * for the longest. Pixels that are not finite are black. rgb [height, width, 3]. */
void pcv_flow_color(const float *uv, int width, int height, uint8_t *rgb);

/* ---- files: each is own, free(*file) ------------------------------------------------------------
 */

/* Middlebury's .flo: "PIEH", width, height, (u, v) by rows, little endian. PCV_ENOMEM. */
PCV_CHECK int pcv_flo_encode(const float *uv, int width, int height, void **file, size_t *len,
                             struct pcv_err *e);

/* rgb [height, width, 3] as PNG. PCV_ENOMEM, PCV_EIO. */
PCV_CHECK int pcv_png_encode(const uint8_t *rgb, int width, int height, void **file, size_t *len,
                             struct pcv_err *e);

/* samples [n] as a mono WAV of 32-bit floats: nothing is rounded. PCV_ENOMEM, PCV_ELIMIT. */
PCV_CHECK int pcv_wav_encode(const float *samples, size_t n, int rate, void **file, size_t *len,
                             struct pcv_err *e);

/* ---- this build
 * ----------------------------------------------------------------------------------- */

const char *pcv_version(void); /* "0.1.0 (1a2b3c4)" */
const char *pcv_isa(void);     /* instruction set the kernels chose: "scalar", "avx2", "avx512" */

#pragma GCC visibility pop

#endif
