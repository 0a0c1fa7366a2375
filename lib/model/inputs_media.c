/* inputs_media.c - inputs from media: texts, pictures, pairs of pictures. */
#include "lib/input/flow_pair.h"
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

static int from_medium(struct pcv_input *in, const struct pcv_adapter *a,
                       const struct pcv_media *media, struct pcv_err *e)
{
    switch (a->kind) {
    case PCV_INPUT_IMAGE: return from_picture(in, a, media, e);
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

static int check_media(const struct pcv_model *m, const struct pcv_media *media, int n,
                       struct pcv_err *e)
{
    for (int i = 0; i < n; i++) {
        int known = !media[i].input && m->bp.ninputs == 1;

        for (int j = 0; media[i].input && j < m->bp.ninputs; j++)
            known |= strcmp(media[i].input, m->bp.input[j].name) == 0;
        if (!known) {
            pcv_fail(e, PCV_EUNKNOWN, "the model has no such input; it takes %s",
                     m->bp.input[0].name);
            return pcv_err_at(e, "%.60s", media[i].input ? media[i].input : "(unnamed)");
        }
    }
    if (n > m->bp.ninputs)
        return pcv_fail(e, PCV_ERANGE, "%d inputs sent, the model takes %d (%s)", n, m->bp.ninputs,
                        m->bp.input[0].name);
    return 0;
}

int pcv_input_from_media(struct pcv_input **ret, const struct pcv_model *m,
                         const struct pcv_media *media, int n, struct pcv_err *e)
{
    struct pcv_input *in;
    int r = check_media(m, media, n, e);

    if (r < 0)
        return r;
    in = pcv_inputs_new(e);
    if (!in)
        return PCV_ENOMEM;
    for (int i = 0; i < m->bp.ninputs && r == 0; i++) {
        const struct pcv_adapter *a = &m->bp.input[i];
        const struct pcv_media *medium = medium_of(m, a, media, n);

        if (medium)
            r = from_medium(in, a, medium, e);
        else if (a->kind == PCV_INPUT_LABEL)
            r = pcv_label_append(in, a, e);
        else
            r = pcv_fail(e, PCV_EMISSING, "input is missing");
        if (r < 0)
            pcv_err_at(e, "%s", a->name);
    }
    return pcv_inputs_finish(ret, in, r, e);
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

    return in ? pcv_inputs_finish(ret, in, pcv_flow_append(in, f, tile, e), e) : PCV_ENOMEM;
}

size_t pcv_flow_input_bytes(const struct pcv_flow *f)
{
    const size_t pixels = (size_t)f->grid.tile_width * (size_t)f->grid.tile_height;

    return (size_t)(f->adapter->grid.raw + 2) * pixels * sizeof(float); /* and two statistics */
}
