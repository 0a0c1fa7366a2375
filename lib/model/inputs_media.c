/* inputs_media.c - inputs from media: texts, pictures, pairs of them, videos, sounds. */
#include "lib/input/flow_pair.h"
#include "lib/input/media.h"
#include "lib/model/inputs_internal.h"

#include <stdlib.h>
#include <string.h>

static int from_picture(struct pcv_input *in, const struct pcv_adapter *a,
                        const struct pcv_media *media, struct pcv_err *e)
{
    struct pcv_image picture = {0};
    float *chw = NULL;
    int size[PCV_MAX_AXES] = {0};
    int r = pcv_image_decode(&picture, media->data, media->len, media->type, e);

    if (r == 0)
        r = pcv_image_to_chw(&picture, &a->grid.prep, &chw, &size[1], &size[0], e);
    pcv_image_free(&picture);
    if (r == 0)
        r = pcv_grid_from_planes(in, a, chw, size, e);
    free(chw);
    return r;
}

static int is_text_type(const char *type)
{
    return !type || strncmp(type, "text/plain", 10) == 0;
}

static int from_sound(struct pcv_input *in, const struct pcv_adapter *a,
                      const struct pcv_media *media, struct pcv_err *e)
{
    const struct pcv_grid_adapter *g = &a->grid;
    const struct pcv_sound_length length = {
        .rate = g->rate,
        .samples = g->samples ? g->samples : (int64_t)g->size[0] * g->patch[0],
        .slack = g->samples ? 0 : g->patch[0],
        .shorter = g->samples > 0,
    };
    int64_t n = 0;
    float *samples;
    int size, r;

    if (!g->rate)
        return pcv_fail(e, PCV_EUNSUPPORTED, "is taken as a tensor only");
    r = pcv_media_audio(&samples, &n, media->data, media->len, media->type, &length, e);
    if (r < 0)
        return r;
    size = (int)n;
    r = g->samples ? pcv_sound_append(in, a, samples, n, e)
                   : pcv_grid_from_numbers(in, a, samples, &size, NULL, e);
    free(samples);
    return r;
}

/* One picture: its central square, as large as the model's frames, to chw [3, height, width]. */
static int read_frame(const struct pcv_media *media, const int *size, float *chw, struct pcv_err *e)
{
    struct pcv_image_prep prep;
    struct pcv_image picture = {0};
    float *own = NULL;
    int height, width, r;

    pcv_image_prep_default(&prep);
    prep.crop_height = prep.height = size[1];
    prep.crop_width = prep.width = size[2];
    prep.resample = 2;
    prep.do_normalize = false;
    r = pcv_image_decode(&picture, media->data, media->len, media->type, e);
    if (r == 0)
        r = pcv_image_to_chw(&picture, &prep, &own, &width, &height, e);
    if (r == 0)
        memcpy(chw, own, (size_t)3 * (size_t)height * (size_t)width * sizeof(*chw));
    pcv_image_free(&picture);
    free(own);
    return r;
}

/* All media of this name, in order, are the frames. */
static int from_frames(struct pcv_input *in, const struct pcv_adapter *a,
                       const struct pcv_media *media, int n, struct pcv_err *e)
{
    int size[PCV_MAX_AXES] = {0}, frames = 0, r = 0;
    size_t each = 3;
    float *all;

    for (int i = 0; i < a->grid.axes; i++)
        size[i] = a->grid.size[i] * a->grid.patch[i];
    for (int i = 0; i < n; i++)
        frames += strcmp(media[i].input, a->name) == 0;
    if (frames != size[0])
        return pcv_fail(e, PCV_ESHAPE, "%d pictures; the model takes %d frames", frames, size[0]);
    each *= (size_t)size[1] * (size_t)size[2];
    all = malloc((size_t)frames * each * sizeof(*all));
    if (!all)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d frames", frames);
    for (int i = 0, at = 0; i < n && r == 0; i++)
        if (strcmp(media[i].input, a->name) == 0)
            r = read_frame(&media[i], size, all + (size_t)at++ * each, e);
    if (r == 0)
        r = pcv_grid_from_numbers(in, a, all, size, NULL, e);
    free(all);
    return r;
}

static int from_medium(struct pcv_input *in, const struct pcv_adapter *a,
                       const struct pcv_media *media, struct pcv_err *e)
{
    switch (a->kind) {
    case PCV_INPUT_IMAGE: return from_picture(in, a, media, e);
    case PCV_INPUT_AUDIO: return from_sound(in, a, media, e);
    case PCV_INPUT_TEXT:
        if (is_text_type(media->type))
            return pcv_text_from_utf8(in, a, media->data, media->len, e);
        return pcv_fail(e, PCV_EUNSUPPORTED, "media type %.60s where text/plain is wanted",
                        media->type);
    case PCV_INPUT_IMAGE_PAIR:
        return pcv_fail(e, PCV_EUNSUPPORTED,
                        "a pair of pictures has tiles: pcv_flow_open takes it");
    default: return pcv_fail(e, PCV_EUNSUPPORTED, "is taken as a tensor only");
    }
}

/* The medium for an adapter: by name, or the only one for the only input. */
static const struct pcv_media *medium_of(const struct pcv_model *m, const struct pcv_adapter *a,
                                         const struct pcv_media *media, int n)
{
    for (int i = 0; i < n; i++)
        if (media[i].input ? strcmp(media[i].input, a->name) == 0 : n == 1 && m->bp.ninputs == 1)
            return &media[i];
    return NULL;
}

static bool same_input(const struct pcv_media *a, const struct pcv_media *b)
{
    return a->input && b->input ? strcmp(a->input, b->input) == 0 : a->input == b->input;
}

static bool is_video(const struct pcv_model *m, const char *name)
{
    for (int i = 0; name && i < m->bp.ninputs; i++)
        if (strcmp(m->bp.input[i].name, name) == 0)
            return m->bp.input[i].kind == PCV_INPUT_VIDEO;
    return false;
}

static int check_media(const struct pcv_model *m, const struct pcv_media *media, int n,
                       struct pcv_err *e)
{
    for (int i = 0; i < n; i++) {
        int known = !media[i].input && m->bp.ninputs == 1;

        for (int j = 0; media[i].input && j < m->bp.ninputs; j++)
            known |= strcmp(media[i].input, m->bp.input[j].name) == 0;
        if (!known) {
            char names[160];

            pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes %s",
                     pcv_inputs_names(m, names));
            return pcv_err_at(e, "%.60s", media[i].input ? media[i].input : "(unnamed)");
        }
    }
    for (int i = 1; i < n; i++)
        for (int j = 0; j < i; j++)
            if (same_input(&media[i], &media[j]) && !is_video(m, media[i].input)) {
                pcv_fail(e, PCV_EFORMAT, "is given twice");
                return pcv_err_at(e, "%.60s", media[i].input ? media[i].input : "(unnamed)");
            }
    return 0;
}

/* ---- models whose inputs are separate ---------------------------------------------------------
 */

/* Whether a nameless medium, by its type or first bytes, is of the kind that an input takes. */
static bool may_be(const struct pcv_media *media, enum pcv_input_kind kind)
{
    const char *type = media->type;

    switch (kind) {
    case PCV_INPUT_TEXT: return type && strncmp(type, "text/", 5) == 0;
    case PCV_INPUT_IMAGE:
        return type ? strncmp(type, "image/", 6) == 0
                    : pcv_media_is_jpeg(media->data, media->len) ||
                          pcv_media_is_png(media->data, media->len);
    case PCV_INPUT_AUDIO:
        return type ? strncmp(type, "audio/", 6) == 0 || strcmp(type, "application/ogg") == 0
                    : pcv_media_is_audio(media->data, media->len);
    default: return false;
    }
}

/* Index of the one input that the medium is for. */
static int input_of(const struct pcv_model *m, const struct pcv_media *media, struct pcv_err *e)
{
    const struct pcv_blueprint *bp = &m->bp;
    int found = -1, several = 0;
    char names[160];

    for (int i = 0; i < bp->ninputs; i++) {
        if (media->input ? strcmp(media->input, bp->input[i].name) != 0
                         : bp->ninputs > 1 && !may_be(media, bp->input[i].kind))
            continue;
        several += found >= 0;
        found = i;
    }
    if (found >= 0 && !several)
        return found;
    pcv_inputs_names(m, names);
    if (media->input) {
        pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes one of %s", names);
        return pcv_err_at(e, "%.60s", media->input);
    }
    if (several)
        return pcv_fail(e, PCV_EMISSING, "several inputs take %.60s: name one of %s",
                        media->type ? media->type : "such a medium", names);
    return media->type
               ? pcv_fail(e, PCV_EUNSUPPORTED, "no input takes media type %.60s; the model has %s",
                          media->type, names)
               : pcv_fail(e, PCV_EMISSING,
                          "name or media type is missing; the model takes one of %s", names);
}

static int from_one(struct pcv_input *in, const struct pcv_model *m, const struct pcv_media *media,
                    int n, struct pcv_err *e)
{
    char names[160];
    int which, r;

    if (n != 1)
        return pcv_fail(e, n < 1 ? PCV_EMISSING : PCV_EFORMAT,
                        "%d inputs are given; the model takes one of %s", n,
                        pcv_inputs_names(m, names));
    which = input_of(m, media, e);
    if (which < 0)
        return which;
    in->which = which;
    r = from_medium(in, &m->bp.input[which], media, e);
    return r < 0 ? pcv_err_at(e, "%s", m->bp.input[which].name) : 0;
}

int pcv_input_from_media(struct pcv_input **ret, const struct pcv_model *m,
                         const struct pcv_media *media, int n, struct pcv_err *e)
{
    struct pcv_input *in;
    int r = m->bp.separate ? 0 : check_media(m, media, n, e);

    if (r < 0)
        return r;
    in = pcv_inputs_new(e);
    if (!in)
        return PCV_ENOMEM;
    if (m->bp.separate)
        r = from_one(in, m, media, n, e);
    for (int i = 0; i < m->bp.ninputs && r == 0 && !m->bp.separate; i++) {
        const struct pcv_adapter *a = &m->bp.input[i];
        const struct pcv_media *medium = medium_of(m, a, media, n);

        if (medium && a->kind == PCV_INPUT_VIDEO && medium->input)
            r = from_frames(in, a, media, n, e);
        else if (medium)
            r = from_medium(in, a, medium, e);
        else if (a->kind == PCV_INPUT_LABEL)
            r = pcv_label_append(in, a, e);
        else
            r = pcv_fail(e, PCV_EMISSING, "input is missing");
        if (r < 0)
            pcv_err_at(e, "%s", a->name);
    }
    return pcv_inputs_finish(ret, in, m->plan.k, m->bp.cross[0].eps, r, e);
}

/* ---- pairs of pictures
 * ------------------------------------------------------------------------------- */

static int decode_frame(struct pcv_flow *f, int i, const struct pcv_media *media, int n,
                        struct pcv_err *e)
{
    static const char *const names[] = {"first", "second"};
    const struct pcv_media *found = NULL;
    int r;

    for (int k = 0; k < n; k++)
        if (media[k].input && strcmp(media[k].input, names[i]) == 0)
            found = &media[k];
    r = found ? pcv_image_decode(&f->frame[i], found->data, found->len, found->type, e)
              : pcv_fail(e, PCV_EMISSING, "picture is missing; send first and second");
    return r < 0 ? pcv_err_at(e, "%s", names[i]) : 0;
}

int pcv_flow_open(struct pcv_flow **ret, const struct pcv_model *m, const struct pcv_media *media,
                  int n, struct pcv_err *e)
{
    const struct pcv_adapter *a = &m->bp.input[0];
    struct pcv_flow *f;
    int r = 0;

    if (m->bp.ninputs != 1 || a->kind != PCV_INPUT_IMAGE_PAIR)
        return pcv_fail(e, PCV_EUNSUPPORTED, "the model takes no pair of pictures");
    for (int i = 0; i < n; i++)
        if (media[i].input && strcmp(media[i].input, "first") && strcmp(media[i].input, "second")) {
            pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes first and second");
            return pcv_err_at(e, "%.60s", media[i].input);
        }
    if (n > 2)
        return pcv_fail(e, PCV_ERANGE, "%d pictures sent, the model takes first and second", n);
    f = calloc(1, sizeof(*f));
    if (!f)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a pair of pictures");
    f->adapter = a;
    f->kernels = m->plan.k;
    for (int i = 0; i < 2 && r == 0; i++)
        r = decode_frame(f, i, media, n, e);
    if (r == 0)
        r = pcv_flow_lay(f, e);
    if (r < 0)
        pcv_flow_free(f);
    else
        *ret = f;
    return r;
}

void pcv_flow_free(struct pcv_flow *f)
{
    if (!f)
        return;
    for (int i = 0; i < 2; i++)
        pcv_image_free(&f->frame[i]);
    free(f);
}

const struct pcv_flow_grid *pcv_flow_grid(const struct pcv_flow *f)
{
    return &f->grid;
}

int pcv_flow_input(struct pcv_input **ret, const struct pcv_flow *f, int tile, struct pcv_err *e)
{
    struct pcv_input *in = pcv_inputs_new(e);

    if (!in)
        return PCV_ENOMEM;
    return pcv_inputs_finish(ret, in, f->kernels, 1e-5f, pcv_flow_append(in, f, tile, e), e);
}

size_t pcv_flow_input_bytes(const struct pcv_flow *f)
{
    const size_t pixels = (size_t)f->grid.tile_width * (size_t)f->grid.tile_height;

    return (size_t)(f->adapter->grid.raw + 2) * pixels * sizeof(float); /* and two statistics */
}
