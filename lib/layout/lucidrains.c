/* lucidrains.c - lucidrains/perceiver-pytorch: Perceiver, PerceiverIO, PerceiverLM. The package
 * writes no configuration; config.json names the class, and its other keys are the constructor's
 * arguments. README.md lists the few keys of ours beside them.
 *
 * Easy to get wrong:
 * - Fourier features follow the data, axis by axis: sines, cosines, position. max_freq is one
 * number for all axes.
 * - PerceiverIO's decoder adds nothing to the queries; decoder_ff, if there is one, adds to its own
 * input.
 * - PerceiverLM's queries are the embedded tokens, masked-out ones too: every token has logits. */
#include "lib/layout/lucidrains_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BANDS = 4096, USUAL_TOKENS = 1024 };

/* ---- config.json
 * --------------------------------------------------------------------------------- */

static const char *const known_keys[] = {"class",
                                         "id2label",
                                         "coordinates",
                                         "patch",
                                         "input_size", /* ours */
                                         "depth",
                                         "dim",
                                         "queries_dim",
                                         "logits_dim",
                                         "num_latents",
                                         "latent_dim",
                                         "cross_heads",
                                         "latent_heads",
                                         "cross_dim_head",
                                         "latent_dim_head",
                                         "weight_tie_layers",
                                         "decoder_ff",
                                         "seq_dropout_prob",
                                         "num_freq_bands",
                                         "max_freq",
                                         "input_channels",
                                         "input_axis",
                                         "num_classes",
                                         "attn_dropout",
                                         "ff_dropout",
                                         "fourier_encode_data",
                                         "self_per_cross_attn",
                                         "final_classifier_head",
                                         "num_tokens",
                                         "max_seq_len",
                                         "attn_residual",
                                         "attn_residual_rank",
                                         "inverted_cross_attn",
                                         NULL};

/* Arguments of later versions that make another architecture. */
static int refuse(const struct pcv_config *c, const char *key, struct pcv_err *e)
{
    bool on;
    int r = pcv_config_bool_or(c, key, false, &on, e);

    if (r < 0 || !on)
        return r;
    pcv_fail(e, PCV_EUNSUPPORTED, "true is not served");
    return pcv_config_at(c, key, e);
}

static int read_numbers(struct luc_numbers *n, const struct pcv_config *c, struct pcv_err *e)
{
    const struct {
        const char *key;
        int lo, hi, absent, *to;
    } ints[] = {
        {"num_latents", 1, LUC_MAX_ROWS, 512, &n->num_latents},
        {"latent_dim", 1, LUC_MAX_CHANNELS, 512, &n->latent_dim},
        {"cross_heads", 1, 1024, 1, &n->cross_heads},
        {"latent_heads", 1, 1024, 8, &n->latent_heads},
        {"cross_dim_head", 1, LUC_MAX_CHANNELS, 64, &n->cross_dim_head},
        {"latent_dim_head", 1, LUC_MAX_CHANNELS, 64, &n->latent_dim_head},
        {"self_per_cross_attn", 0, PCV_MAX_SELF, 1, &n->self_per_cross},
    };
    int r = pcv_config_only(c, known_keys, e);

    if (r == 0)
        r = pcv_config_int(c, "depth", 0, PCV_MAX_STEPS, &n->depth, e);
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]) && r == 0; i++)
        r = pcv_config_int_or(c, ints[i].key, ints[i].lo, ints[i].hi, ints[i].absent, ints[i].to,
                              e);
    if (r == 0)
        r = pcv_config_bool_or(c, "weight_tie_layers", false, &n->tied, e);
    if (r == 0)
        r = refuse(c, "attn_residual", e);
    return r < 0 ? r : refuse(c, "inverted_cross_attn", e);
}

/* ---- inputs
 * ----------------------------------------------------------------------------------- */

static struct pcv_adapter *new_adapter(struct luc_binder *b, const char *name,
                                       enum pcv_input_kind kind)
{
    struct pcv_adapter *a = &b->bp->input[b->bp->ninputs++];

    *a = (struct pcv_adapter){.name = name, .kind = kind};
    for (int i = 0; i < PCV_MAX_AXES; i++)
        a->grid.patch[i] = 1;
    return a;
}

/* [b, axes.., channels] and its mask [b, axes..]. */
static void array_tensors(struct pcv_adapter *a)
{
    const int axes = a->grid.axes;

    a->tensor = (struct pcv_tensor_spec){.name = "data", .dtype = PCV_F32, .ndim = axes + 2};
    a->mask = (struct pcv_tensor_spec){
        .name = "mask", .dtype = PCV_BOOL, .ndim = axes + 1, .optional = true};
    for (int i = 0; i <= axes; i++)
        a->tensor.shape[i] = a->mask.shape[i] = -1;
    a->tensor.shape[axes + 1] = a->grid.before;
}

/* num_freq_bands and max_freq, of the constructor or of "coordinates". */
static int read_fourier(struct pcv_grid_adapter *g, const struct pcv_config *c, struct pcv_err *e)
{
    double max_freq;
    int r = pcv_config_int(c, "num_freq_bands", 0, MAX_BANDS, &g->bands, e);

    if (r == 0 && !pcv_config_has(c, "max_freq")) {
        pcv_fail(e, PCV_EMISSING, "key is missing");
        return pcv_config_at(c, "max_freq", e);
    }
    if (r == 0)
        r = pcv_config_number_or(c, "max_freq", 0, 1e9, 0, &max_freq, e);
    for (int i = 0; i < PCV_MAX_AXES && r == 0; i++)
        g->max_resolution[i] = (float)max_freq;
    g->order = PCV_FOURIER_BY_AXIS;
    return r;
}

static int contradicts(struct luc_binder *b, const char *key, const char *other)
{
    pcv_fail(b->e, PCV_ESHAPE, "contradicts %s", other);
    return pcv_config_at(b->c, key, b->e);
}

/* Positions of the grid, or Fourier features of the data itself, or neither. */
static int read_encoding(struct luc_binder *b, struct pcv_grid_adapter *g)
{
    struct pcv_config *coordinates;
    bool encode;
    int r = pcv_config_bool_or(b->c, "fourier_encode_data", true, &encode, b->e);

    if (r == 0)
        r = pcv_config_child(&coordinates, b->c, "coordinates", b->e);
    if (r != 0)
        return r;
    if (coordinates && encode) {
        r = contradicts(b, "coordinates", "fourier_encode_data, which must be false beside it");
    } else if (coordinates) {
        static const char *const known[] = {"num_freq_bands", "max_freq", NULL};

        g->coordinates = true;
        r = pcv_config_only(coordinates, known, b->e);
        if (r == 0)
            r = read_fourier(g, coordinates, b->e);
        g->raw = g->content = g->before * (1 + 2 * g->bands);
    } else if (encode) {
        g->position = PCV_POSITION_FOURIER;
        r = read_fourier(g, b->c, b->e);
        g->position_channels = g->axes * (1 + 2 * g->bands);
    }
    pcv_config_close(coordinates);
    return r;
}

/* How many elements of the tensor make a token, and how many the usual input has. */
static int read_sizes(struct luc_binder *b, struct pcv_grid_adapter *g, int channels)
{
    static const int usual[PCV_MAX_AXES][PCV_MAX_AXES] = {
        {USUAL_TOKENS}, {224, 224}, {16, 224, 224}, {8, 16, 16, 16}, {8, 8, 8, 8, 8}};
    int64_t per_token = 1;
    int r = pcv_config_ints_or(b->c, "patch", g->axes, 1, LUC_MAX_CHANNELS, g->patch, b->e);

    for (int i = 0; i < g->axes; i++) {
        g->size[i] = usual[g->axes - 1][i] * g->patch[i];
        per_token *= g->patch[i];
    }
    if (r == 0)
        r = pcv_config_ints_or(b->c, "input_size", g->axes, 1, PCV_MAX_PIXELS, g->size, b->e);
    for (int i = 0; i < g->axes && r == 0; i++) {
        if (g->size[i] % g->patch[i])
            return contradicts(b, "input_size", "patch: it must be a multiple of it");
        g->size[i] /= g->patch[i];
    }
    if (r == 0 && (per_token > channels || channels % per_token))
        return contradicts(b, "patch", "input_channels, which must be a multiple of its product");
    g->before = (int)(channels / per_token);
    return r;
}

/* Pictures become numbers as preprocessor_config.json says; without it only tensors are taken. */
static int read_prep(struct luc_binder *b, struct pcv_adapter *a)
{
    struct pcv_grid_adapter *g = &a->grid;
    char path[4096];

    snprintf(path, sizeof(path), "%s/preprocessor_config.json", b->dir);
    if (g->axes != 2 || g->before != 3 || g->coordinates ||
        (access(path, F_OK) < 0 && errno == ENOENT))
        return 0;
    a->name = "image";
    a->kind = PCV_INPUT_IMAGE;
    g->channels_last = true;
    pcv_image_prep_default(&g->prep);
    return pcv_image_prep_read(&g->prep, path, b->e);
}

static int grid_input(struct luc_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "data", PCV_INPUT_ARRAY);
    struct pcv_grid_adapter *g = &a->grid;
    int channels;
    int r = pcv_config_int_or(b->c, "input_axis", 1, PCV_MAX_AXES, 2, &g->axes, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->c, "input_channels", 1, LUC_MAX_CHANNELS, 3, &channels, b->e);
    if (r == 0)
        r = read_sizes(b, g, channels);
    if (r != 0)
        return r;
    g->raw = g->content = channels;
    r = read_encoding(b, g);
    if (r == 0 && g->coordinates && g->before != channels)
        return contradicts(b, "coordinates", "patch");
    a->channels = g->content + g->position_channels;
    array_tensors(a);
    return r < 0 ? r : read_prep(b, a);
}

/* PerceiverIO: tokens as they are. */
static int token_input(struct luc_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "data", PCV_INPUT_ARRAY);
    struct pcv_grid_adapter *g = &a->grid;
    int r = pcv_config_int(b->c, "dim", 1, LUC_MAX_CHANNELS, &a->channels, b->e);

    g->axes = 1;
    g->before = g->raw = g->content = a->channels;
    g->size[0] = USUAL_TOKENS;
    array_tensors(a);
    return r < 0 ? r : pcv_config_ints_or(b->c, "input_size", 1, 1, PCV_MAX_PIXELS, g->size, b->e);
}

/* PerceiverLM: token ids. */
static int text_input(struct luc_binder *b)
{
    struct pcv_adapter *a = new_adapter(b, "text", PCV_INPUT_TEXT);
    struct pcv_text_adapter *t = &a->text;
    int r = pcv_config_int(b->c, "dim", 1, LUC_MAX_CHANNELS, &a->channels, b->e);

    if (r == 0)
        r = pcv_config_int(b->c, "num_tokens", 1, LUC_MAX_ROWS, &t->vocab, b->e);
    if (r == 0)
        r = pcv_config_int(b->c, "max_seq_len", 1, LUC_MAX_ROWS, &t->max_positions, b->e);
    t->ids_only = t->queried = true;
    a->tensor =
        (struct pcv_tensor_spec){.name = "x", .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}};
    a->mask = (struct pcv_tensor_spec){
        .name = "mask", .dtype = PCV_BOOL, .ndim = 2, .shape = {-1, -1}, .optional = true};
    if (r == 0)
        r = pcv_weights_bind(b->w, &t->bytes, LUC_SHAPE(t->vocab, a->channels), b->e,
                             "token_emb.weight");
    return r < 0 ? r
                 : pcv_weights_bind(b->w, &t->positions, LUC_SHAPE(t->max_positions, a->channels),
                                    b->e, "pos_emb.weight");
}

/* ---- tasks
 * ------------------------------------------------------------------------------------- */

static struct pcv_task *new_task(struct luc_binder *b, const char *name, enum pcv_task_kind kind)
{
    struct pcv_task *t = &b->bp->task[b->bp->ntasks++];

    *t = (struct pcv_task){.name = name, .kind = kind};
    return t;
}

static void latents_task(struct luc_binder *b)
{
    struct pcv_task *t = new_task(b, "latents", PCV_TASK_LATENTS);

    t->decoder = PCV_DECODER_LATENTS;
    t->rows = b->n.num_latents;
    t->width = b->n.latent_dim;
    t->output = (struct pcv_tensor_spec){
        .name = "latents", .dtype = PCV_F32, .ndim = 3, .shape = {-1, t->rows, t->width}};
}

/* Mean of the latents, LayerNorm, Linear. */
static int classify_task(struct luc_binder *b)
{
    struct pcv_task *t = new_task(b, "classify", PCV_TASK_CLASSIFY);
    const int d = b->n.latent_dim;
    int classes, nlabels, r;

    r = pcv_config_int_or(b->c, "num_classes", 1, LUC_MAX_ROWS, 1000, &classes, b->e);
    if (r == 0)
        r = pcv_config_labels(b->c, "id2label", &t->labels, &nlabels, b->e);
    if (r < 0)
        return r;
    t->width = t->labels ? nlabels : classes;
    if (t->width != classes) {
        pcv_fail(b->e, PCV_ESHAPE, "%d labels, num_classes is %d", nlabels, classes);
        return pcv_config_at(b->c, "id2label", b->e);
    }
    t->rows = 1;
    t->decoder = PCV_DECODER_POOL;
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 2, .shape = {-1, t->width}};
    r = pcv_luc_norm(b, &t->norm, d, "to_logits.1");
    return r < 0 ? r : pcv_luc_affine(b, &t->head, t->width, d, "to_logits.2");
}

/* Output queries of `width` channels through the decoder, to `logits` numbers (0: no head). */
static int decode_task(struct luc_binder *b, enum pcv_query_source source, int rows, int width,
                       int logits)
{
    struct pcv_task *t = new_task(b, "decode", PCV_TASK_TENSOR);
    bool ff;
    int r = pcv_config_bool_or(b->c, "decoder_ff", false, &ff, b->e);

    if (r < 0)
        return r;
    t->source = source;
    t->rows = rows;
    t->width = logits ? logits : width;
    t->output = (struct pcv_tensor_spec){
        .name = "logits", .dtype = PCV_F32, .ndim = 3, .shape = {-1, -1, t->width}};
    t->layer.d = (struct pcv_layer_dims){
        .heads = b->n.cross_heads,
        .q_dim = width,
        .kv_dim = b->n.latent_dim,
        .qk = b->n.cross_heads * b->n.cross_dim_head,
        .v = b->n.cross_heads * b->n.cross_dim_head,
        .hidden = ff ? 4 * width : 0,
        .cross = true,
        .gated = true,
    };
    r = pcv_luc_layer(b, &t->layer, "decoder_cross_attn", "decoder_ff");
    return r < 0 || !logits ? r : pcv_luc_affine(b, &t->head, logits, width, "to_logits");
}

/* ---- classes
 * ----------------------------------------------------------------------------------- */

static int perceiver(struct luc_binder *b)
{
    bool head;
    int r = pcv_config_bool_or(b->c, "final_classifier_head", true, &head, b->e);

    if (r == 0)
        r = grid_input(b);
    if (r == 0 && b->n.depth == 0) {
        pcv_fail(b->e, PCV_EUNSUPPORTED, "a Perceiver without layers reads nothing");
        return pcv_config_at(b->c, "depth", b->e);
    }
    if (r == 0)
        r = pcv_luc_perceiver(b);
    if (r == 0 && head)
        r = classify_task(b);
    if (r == 0)
        latents_task(b);
    return r;
}

static int perceiver_io(struct luc_binder *b)
{
    int width, logits = 0;
    int r = pcv_config_int(b->c, "queries_dim", 1, LUC_MAX_CHANNELS, &width, b->e);

    if (r == 0)
        r = pcv_config_int_or(b->c, "logits_dim", 1, LUC_MAX_ROWS, 0, &logits, b->e);
    if (r == 0)
        r = token_input(b);
    if (r == 0)
        r = pcv_luc_perceiver_io(b);
    if (r == 0)
        r = decode_task(b, PCV_QUERY_CALLER, PCV_MAX_QUERIES, width, logits);
    if (r == 0)
        latents_task(b);
    return r;
}

static int perceiver_lm(struct luc_binder *b)
{
    const struct pcv_adapter *a = &b->bp->input[0];
    int r = text_input(b);

    b->prefix = "perceiver_io.";
    if (r == 0)
        r = pcv_luc_perceiver_io(b);
    return r < 0
               ? r
               : decode_task(b, PCV_QUERY_INPUT, a->text.max_positions, a->channels, a->text.vocab);
}

static const struct {
    const char *name;
    int (*bind)(struct luc_binder *b);
} classes[] = {
    {"Perceiver", perceiver},
    {"PerceiverIO", perceiver_io},
    {"PerceiverLM", perceiver_lm},
};

bool pcv_layout_is_lucidrains(const struct pcv_config *c)
{
    return pcv_config_has(c, "class");
}

int pcv_layout_lucidrains(struct pcv_blueprint *bp, const struct pcv_config *c, const char *dir,
                          struct pcv_weights *w, struct pcv_err *e)
{
    const size_t count = sizeof(classes) / sizeof(classes[0]);
    struct luc_binder b = {.bp = bp, .w = w, .c = c, .dir = dir, .prefix = "", .e = e};
    const char *name;
    size_t i = 0;
    int r = pcv_config_text(c, "class", &name, e);

    if (r < 0)
        return r;
    while (i < count && strcmp(name, classes[i].name) != 0)
        i++;
    if (i == count) {
        pcv_fail(e, PCV_EUNSUPPORTED,
                 "\"%.60s\" is not served; served are Perceiver, PerceiverIO and PerceiverLM",
                 name);
        return pcv_config_at(c, "class", e);
    }
    bp->upstream = "lucidrains/perceiver-pytorch";
    snprintf(bp->architecture, sizeof(bp->architecture), "%s", name);
    r = read_numbers(&b.n, c, e);
    return r < 0 ? r : classes[i].bind(&b);
}
