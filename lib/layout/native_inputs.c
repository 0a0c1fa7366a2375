/* native_inputs.c - `inputs` of perceiver.json: adapters, and how they fit their encoders.
 *
 * Easy to get wrong:
 * - Tensors of pictures are [height, width, channels], after mean and std; of sounds they are
 *   samples, before the spectrum.
 * - A text that its encoder pads gets wider tables, zeros after its bytes and the padding vector
 *   after its positions: their sum is the padded token. The head of fill-mask reads the narrow one.
 */
#include "lib/input/spectrum.h"
#include "lib/input/text.h"
#include "lib/layout/native_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- content and positions
 * ------------------------------------------------------------------------------ */

/* Tokens of `raw` numbers, maybe lifted. */
static int content(struct native_binder *b, int i, const json_t *in, int64_t raw)
{
    struct pcv_grid_adapter *g = &b->bp->input[i].grid;
    struct pcv_affine lift;
    char name[80];
    int r;

    if (raw > NATIVE_MAX_CHANNELS) {
        pcv_fail(b->e, PCV_ELIMIT, "%lld numbers of a token, at most %d are served", (long long)raw,
                 NATIVE_MAX_CHANNELS);
        return pcv_native_at(b, "$.inputs[%d]", i);
    }
    g->raw = (int)raw;
    g->content = pcv_native_int(in, "lift", g->raw);
    if (g->content < g->raw) {
        pcv_fail(b->e, PCV_ESHAPE, "%d channels for %d numbers of a token", g->content, g->raw);
        return pcv_native_at(b, "$.inputs[%d].lift", i);
    }
    if (!json_object_get(in, "lift"))
        return 0;
    snprintf(name, sizeof(name), "inputs.%s.lift", b->bp->input[i].name);
    r = pcv_native_affine(b, &lift, g->content, g->raw, name);
    if (r == 0) {
        g->lift = lift.w;
        g->lift_bias = lift.b;
    }
    return r;
}

static int fourier_positions(struct native_binder *b, int i, const json_t *position)
{
    struct pcv_grid_adapter *g = &b->bp->input[i].grid;
    const int n = pcv_native_floats(position, "max_resolution", PCV_MAX_AXES, g->max_resolution);

    if (n != g->axes) {
        pcv_fail(b->e, PCV_ESHAPE, "%d numbers for %d axes", n, g->axes);
        return pcv_native_at(b, "$.inputs[%d].position.max_resolution", i);
    }
    g->position = PCV_POSITION_FOURIER;
    g->order = PCV_FOURIER_BY_KIND;
    g->bands = pcv_native_int(position, "bands", 0);
    g->position_channels = g->axes * (1 + 2 * g->bands);
    for (int axis = 0; axis < g->axes; axis++) {
        const int64_t width = 1 + 2 * (int64_t)g->bands;

        if (g->size[axis] * width > NATIVE_MAX_NUMBERS) {
            pcv_fail(b->e, PCV_ELIMIT, "%d positions of %lld channels are more than is served",
                     g->size[axis], (long long)width);
            return pcv_native_at(b, "$.inputs[%d].position.bands", i);
        }
    }
    return 0;
}

/* Position channels, for g->size already set; then how wide a token is. */
static int positions(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_adapter *a = &b->bp->input[i];
    struct pcv_grid_adapter *g = &a->grid;
    const json_t *position = json_object_get(in, "position");
    const char *kind = pcv_native_text(position, "kind");
    int64_t tokens = 1;
    int r = 0;

    g->fixed = true;
    for (int axis = 0; axis < g->axes; axis++)
        if ((tokens *= g->size[axis]) > PCV_MAX_PIXELS) {
            pcv_fail(b->e, PCV_ELIMIT, "more than %d tokens", PCV_MAX_PIXELS);
            return pcv_native_at(b, "$.inputs[%d]", i);
        }
    if (strcmp(kind, "fourier") == 0) {
        r = fourier_positions(b, i, position);
    } else if (strcmp(kind, "learned") == 0) {
        g->position = PCV_POSITION_LEARNED;
        g->position_channels = pcv_native_int(position, "channels", 0);
        r = pcv_weights_bind(b->w, &g->positions, NATIVE_SHAPE(tokens, g->position_channels), b->e,
                             "inputs.%s.positions", a->name);
    }
    a->channels = g->content + g->position_channels;
    if (r == 0 && a->channels > NATIVE_MAX_CHANNELS) {
        pcv_fail(b->e, PCV_ELIMIT, "%d channels of a token, at most %d are served", a->channels,
                 NATIVE_MAX_CHANNELS);
        return pcv_native_at(b, "$.inputs[%d]", i);
    }
    return r;
}

/* ---- kinds
 * ---------------------------------------------------------------------------------------------- */

static int text(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_adapter *a = &b->bp->input[i];
    struct pcv_text_adapter *t = &a->text;
    int r;

    a->kind = PCV_INPUT_TEXT;
    a->channels = pcv_native_int(in, "channels", 0);
    t->vocab = PCV_TOKEN_COUNT;
    t->max_positions = pcv_native_int(in, "positions", 0);
    a->tensor =
        (struct pcv_tensor_spec){.name = a->name, .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}};
    a->mask = a->tensor;
    a->mask.optional = true;
    a->mask.name = pcv_native_name(b, a->name, "mask");
    if (!a->mask.name)
        return PCV_ENOMEM;
    r = pcv_weights_bind(b->w, &t->bytes, NATIVE_SHAPE(t->vocab, a->channels), b->e,
                         "inputs.%s.bytes", a->name);
    b->bytes[i] = t->bytes;
    return r < 0
               ? r
               : pcv_weights_bind(b->w, &t->positions, NATIVE_SHAPE(t->max_positions, a->channels),
                                  b->e, "inputs.%s.positions", a->name);
}

static void picture_steps(struct pcv_image_prep *p, int height, int width, int channels)
{
    pcv_image_prep_default(p);
    p->crop_to_shape = true;
    p->height = height;
    p->width = width;
    p->single_channel = channels == 1;
}

static int image(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_adapter *a = &b->bp->input[i];
    struct pcv_grid_adapter *g = &a->grid;
    const int side[2] = {pcv_native_int(in, "height", 0), pcv_native_int(in, "width", 0)};
    const int channels = pcv_native_int(in, "channels", 3);
    char place[32];
    int r;

    a->kind = PCV_INPUT_IMAGE;
    g->axes = 2;
    g->before = channels;
    g->channels_last = true;
    pcv_native_ints(in, "patch", 2, g->patch);
    for (int axis = 0; axis < 2; axis++) {
        if (side[axis] % g->patch[axis]) {
            pcv_fail(b->e, PCV_ESHAPE, "%d does not divide a %s of %d", g->patch[axis],
                     axis ? "width" : "height", side[axis]);
            return pcv_native_at(b, "$.inputs[%d].patch[%d]", i, axis);
        }
        g->size[axis] = side[axis] / g->patch[axis];
    }
    a->tensor = (struct pcv_tensor_spec){
        .name = a->name, .dtype = PCV_F32, .ndim = 4, .shape = {-1, side[0], side[1], channels}};
    picture_steps(&g->prep, side[0], side[1], channels);
    snprintf(place, sizeof(place), "$.inputs[%d]", i);
    r = pcv_native_colours(b, in, channels, place, g->prep.mean, g->prep.std);
    if (r == 0)
        r = content(b, i, in, (int64_t)g->patch[0] * g->patch[1] * channels);
    return r < 0 ? r : positions(b, i, in);
}

static int spectrum(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_grid_adapter *g = &b->bp->input[i].grid;
    const json_t *s = json_object_get(in, "spectrum");
    const struct pcv_spectrum_numbers n = {
        .rate = g->rate,
        .window = pcv_native_int(s, "window", 0),
        .hop = pcv_native_int(s, "hop", 0),
        .bands = pcv_native_int(s, "bands", 0),
        .low = pcv_native_number(s, "low", 0),
        .high = pcv_native_number(s, "high", 0),
        .rms = pcv_native_number(s, "rms", 0),
        .floor = pcv_native_number(s, "floor", 1e-6),
        .mean = pcv_native_number(s, "mean", 0),
        .std = pcv_native_number(s, "std", 1),
    };
    const struct {
        bool wrong;
        const char *key, *why;
    } rules[] = {
        {n.window % 2, "window", "is not even"},
        {n.low >= n.high, "high", "is not above low"},
        {n.high > n.rate / 2.0, "high", "is more than half the rate"},
    };
    int r;

    for (size_t k = 0; k < sizeof(rules) / sizeof(rules[0]); k++)
        if (rules[k].wrong) {
            pcv_fail(b->e, PCV_ERANGE, "%s", rules[k].why);
            return pcv_native_at(b, "$.inputs[%d].spectrum.%s", i, rules[k].key);
        }
    g->size[0] = (int)(((int64_t)g->samples + n.hop - 1) / n.hop);
    if ((int64_t)g->size[0] * n.bands > NATIVE_MAX_NUMBERS / 4) {
        pcv_fail(b->e, PCV_ELIMIT, "%d frames of %d bands are more than is served", g->size[0],
                 n.bands);
        return pcv_native_at(b, "$.inputs[%d].spectrum.hop", i);
    }
    r = pcv_spectrum_new(&b->bp->spectra[i], &n, b->e);
    if (r < 0)
        return pcv_native_at(b, "$.inputs[%d].spectrum", i);
    g->spectrum = b->bp->spectra[i];
    b->bp->owned_bytes += pcv_spectrum_bytes(g->spectrum);
    return content(b, i, in, n.bands);
}

static int audio(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_adapter *a = &b->bp->input[i];
    struct pcv_grid_adapter *g = &a->grid;
    const bool frames = json_object_get(in, "spectrum");
    int r;

    a->kind = PCV_INPUT_AUDIO;
    a->tensor =
        (struct pcv_tensor_spec){.name = a->name, .dtype = PCV_F32, .ndim = 2, .shape = {-1, -1}};
    g->axes = 1;
    g->before = 1;
    g->shorter = true;
    g->rate = pcv_native_int(in, "rate", 0);
    g->samples = pcv_native_int(in, "samples", 0);
    if (frames && json_object_get(in, "patch")) {
        pcv_fail(b->e, PCV_EFORMAT, "tokens are frames of the spectrum");
        return pcv_native_at(b, "$.inputs[%d].patch", i);
    }
    if (frames) {
        r = spectrum(b, i, in);
    } else {
        g->patch[0] = pcv_native_int(in, "patch", 1);
        g->size[0] = (g->samples - 1) / g->patch[0] + 1;
        r = content(b, i, in, g->patch[0]);
    }
    return r < 0 ? r : positions(b, i, in);
}

static int array(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_adapter *a = &b->bp->input[i];
    struct pcv_grid_adapter *g = &a->grid;
    int r;

    a->kind = PCV_INPUT_ARRAY;
    g->axes = pcv_native_ints(in, "size", PCV_MAX_AXES, g->size);
    g->before = pcv_native_int(in, "channels", 0);
    g->shorter = true;
    a->tensor = (struct pcv_tensor_spec){
        .name = a->name, .dtype = PCV_F32, .ndim = g->axes + 2, .shape = {-1, -1, -1, -1, -1, -1}};
    a->tensor.shape[1 + g->axes] = g->before;
    r = content(b, i, in, g->before);
    return r < 0 ? r : positions(b, i, in);
}

/* ---- fitting an encoder
 * --------------------------------------------------------------------------------- */

/* Wider tables whose sum is the padded token. */
static int pad_text(struct native_binder *b, struct pcv_adapter *a, const float *pad, int own)
{
    struct pcv_text_adapter *t = &a->text;
    const struct {
        const float **table;
        int rows;
        const float *tail;
    } tables[] = {{&t->bytes, t->vocab, NULL}, {&t->positions, t->max_positions, pad}};
    const size_t wide = (size_t)a->channels, missing = wide - (size_t)own;

    for (int k = 0; k < 2; k++) {
        float *to = pcv_blueprint_own(b->bp, (size_t)tables[k].rows * wide, b->e);

        if (!to)
            return PCV_ENOMEM;
        for (size_t row = 0; row < (size_t)tables[k].rows; row++) {
            memcpy(to + row * wide, *tables[k].table + row * (size_t)own,
                   (size_t)own * sizeof(*to));
            memset(to + row * wide + own, 0, missing * sizeof(*to));
            if (tables[k].tail)
                memcpy(to + row * wide + own, pad, missing * sizeof(*to));
        }
        *tables[k].table = to;
    }
    return 0;
}

/* Fills input i up to `channels`. */
static int pad(struct native_binder *b, int i, int channels)
{
    struct pcv_adapter *a = &b->bp->input[i];
    const int own = a->channels;
    const float *vector;
    int r;

    b->own[i] = own;
    if (own == channels)
        return 0;
    r = pcv_weights_bind(b->w, &vector, NATIVE_SHAPE(channels - own), b->e, "inputs.%s.padding",
                         a->name);
    if (r < 0)
        return r;
    a->channels = channels;
    if (a->kind == PCV_INPUT_TEXT)
        return pad_text(b, a, vector, own);
    a->grid.pad = vector;
    a->grid.npad = channels - own;
    return 0;
}

/* All inputs of an encoder become as wide as it says, or as the widest of them is. */
static int fit_encoder(struct native_binder *b, const char *name, const json_t *encoder, int which)
{
    struct pcv_blueprint *bp = b->bp;
    int channels = 0, widest = 0, r = 0;

    for (int i = 0; i < bp->ninputs; i++)
        if (bp->input[i].encoder == which &&
            bp->input[i].channels > (widest ? bp->input[channels].channels : 0)) {
            channels = i;
            widest = bp->input[i].channels;
        }
    if (!widest) /* told when it is bound */
        return 0;
    if (pcv_native_int(encoder, "channels", widest) < widest) {
        pcv_fail(b->e, PCV_ESHAPE, "%d, but a token of %s has %d",
                 pcv_native_int(encoder, "channels", 0), bp->input[channels].name, widest);
        return pcv_native_at(b, "$.encoders.%s.channels", name);
    }
    for (int i = 0; i < bp->ninputs && r == 0; i++)
        if (bp->input[i].encoder == which)
            r = pad(b, i, pcv_native_int(encoder, "channels", widest));
    return r;
}

/* ---- all of them
 * ---------------------------------------------------------------------------------------- */

static int name_input(struct native_binder *b, int i, const json_t *in)
{
    struct pcv_blueprint *bp = b->bp;
    const char *name = pcv_native_text(in, "name"), *encoder = pcv_native_text(in, "encoder");
    const json_t *encoders = json_object_get(b->root, "encoders");
    struct pcv_adapter *a = &bp->input[i];

    *a = (struct pcv_adapter){.encoder = pcv_native_place(encoders, encoder)};
    for (int axis = 0; axis < PCV_MAX_AXES; axis++)
        a->grid.patch[axis] = 1;
    if (strcmp(name, "queries") == 0) {
        pcv_fail(b->e, PCV_EFORMAT, "is what output queries are called");
        return pcv_native_at(b, "$.inputs[%d].name", i);
    }
    for (int k = 0; k < i; k++)
        if (strcmp(bp->input[k].name, name) == 0) {
            pcv_fail(b->e, PCV_EFORMAT, "\"%s\" is the name of input %d too", name, k);
            return pcv_native_at(b, "$.inputs[%d].name", i);
        }
    if (a->encoder < 0) {
        pcv_fail(b->e, PCV_EUNKNOWN, "no encoder \"%s\"", encoder);
        return pcv_native_at(b, "$.inputs[%d].encoder", i);
    }
    a->name = pcv_native_name(b, name, NULL);
    a->encoder_name = a->name ? pcv_native_name(b, encoder, NULL) : NULL;
    return a->encoder_name ? 0 : PCV_ENOMEM;
}

static int read_input(struct native_binder *b, int i, const json_t *in)
{
    static const struct {
        const char *kind;
        int (*read)(struct native_binder *b, int i, const json_t *in);
    } kinds[] = {{"text", text}, {"image", image}, {"audio", audio}, {"array", array}};
    const char *kind = pcv_native_text(in, "kind");
    int r = name_input(b, i, in);

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]) && r == 0; k++)
        if (strcmp(kind, kinds[k].kind) == 0)
            r = kinds[k].read(b, i, in);
    return r;
}

/* Together: through one encoder, and with one text at most, whose positions tasks may ask for. */
static int check_together(struct native_binder *b)
{
    const struct pcv_blueprint *bp = b->bp;
    int texts = 0;

    for (int i = 0; i < bp->ninputs; i++) {
        if (bp->input[i].encoder != bp->input[0].encoder) {
            pcv_fail(b->e, PCV_EUNSUPPORTED, "inputs that are together share one encoder");
            return pcv_native_at(b, "$.inputs[%d].encoder", i);
        }
        texts += bp->input[i].kind == PCV_INPUT_TEXT;
        if (texts > 1) {
            pcv_fail(b->e, PCV_EUNSUPPORTED, "a second text; one may be together with others");
            return pcv_native_at(b, "$.inputs[%d].kind", i);
        }
    }
    return 0;
}

int pcv_native_inputs(struct native_binder *b)
{
    const char *name;
    json_t *v;
    size_t i;
    int r = 0, n = 0;

    json_array_foreach(json_object_get(b->root, "inputs"), i, v)
    {
        r = read_input(b, (int)i, v);
        if (r < 0)
            return r;
        b->bp->ninputs++;
    }
    if (b->together)
        r = check_together(b);
    json_object_foreach(json_object_get(b->root, "encoders"), name, v)
    {
        if (r == 0)
            r = fit_encoder(b, name, v, n++);
    }
    return r;
}
