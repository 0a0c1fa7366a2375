#include "lib/layout/layout.h"

#include "lib/attention/token_stats.h"
#include "lib/base/mem.h"
#include "lib/input/fourier.h"
#include "lib/input/spectrum.h"
#include "lib/layout/deepmind.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Numbers of a table of positions that is kept; a larger one is made for each input, unless shorter
 * inputs read its first rows. */
enum { USUAL_NUMBERS = 4 << 20 };

/* config.json; a checkpoint of DeepMind's may go without. */
static int open_config(struct pcv_config **ret, const char *dir, const struct pcv_weights *w,
                       struct pcv_err *e)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/config.json", dir);
    if (pcv_weights_kind(w) == PCV_WEIGHTS_HAIKU && access(path, F_OK) < 0 && errno == ENOENT)
        return pcv_deepmind_config(ret, w, dir, e);
    return pcv_config_open(ret, dir, "config.json", e);
}

/* Where perceiver.json is, config.json is not looked at. */
static bool is_native(const char *dir)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/perceiver.json", dir);
    return access(path, F_OK) == 0 || errno != ENOENT;
}

/* Sums of the rows of a table, kept. */
static int sums_of(struct pcv_row_sums *ret, struct pcv_blueprint *bp, const float *table, int rows,
                   int n, struct pcv_err *e)
{
    float *room = pcv_blueprint_own(bp, 4 * (size_t)rows, e); /* aligned for any type */

    if (!room)
        return PCV_ENOMEM;
    *ret = pcv_table_sums((double *)room, table, rows, n);
    return 0;
}

/* Fourier positions of the usual size, once for all inputs that have it, and sums of all tables. */
static int usual_positions(struct pcv_blueprint *bp, struct pcv_err *e)
{
    for (int i = 0; i < bp->ninputs; i++) {
        struct pcv_grid_adapter *g = &bp->input[i].grid;
        const size_t width = 1 + 2 * (size_t)g->bands;

        for (int axis = 0; axis < g->axes && g->position == PCV_POSITION_FOURIER; axis++) {
            float *table;

            if (!g->shorter && (size_t)g->size[axis] * width > USUAL_NUMBERS)
                continue;
            table = pcv_blueprint_own(bp, (size_t)g->size[axis] * width, e);
            if (!table)
                return PCV_ENOMEM;
            pcv_fourier_axis(table, g->size[axis], g->bands, g->max_resolution[axis]);
            g->axis_table[axis] = table;
            if (sums_of(&g->axis_sums[axis], bp, table, g->size[axis], (int)width, e))
                return PCV_ENOMEM;
        }
        if (g->position == PCV_POSITION_LEARNED &&
            sums_of(&g->position_sums, bp, g->positions, (int)pcv_adapter_tokens(&bp->input[i]),
                    g->position_channels, e))
            return PCV_ENOMEM;
    }
    return 0;
}

static int read_directory(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                          struct pcv_err *e)
{
    struct pcv_config *c;
    int r;

    if (is_native(dir)) {
        r = pcv_layout_native(bp, dir, w, e);
        return r < 0 ? r : pcv_weights_done(w, e);
    }
    r = open_config(&c, dir, w, e);
    if (r < 0)
        return r;
    if (pcv_layout_is_hf(c) || pcv_weights_kind(w) == PCV_WEIGHTS_HAIKU) {
        r = pcv_layout_hf(bp, c, dir, w, e);
    } else if (pcv_layout_is_krasserm(c)) {
        r = pcv_layout_krasserm(bp, c, dir, w, e);
    } else if (pcv_layout_is_lucidrains(c)) {
        r = pcv_layout_lucidrains(bp, c, dir, w, e);
    } else {
        r = pcv_fail(e, PCV_EUNSUPPORTED,
                     "neither model_type \"perceiver\" or \"perceiver-io-...\" nor class "
                     "\"Perceiver\", \"PerceiverIO\" or "
                     "\"PerceiverLM\"");
        pcv_err_at(e, "%s/config.json", dir);
    }
    if (r == 0)
        r = pcv_weights_done(w, e);
    if (r < 0 && e && !strstr(e->where, dir)) /* layouts name the key; here is whose */
        pcv_err_at(e, "%s", dir);
    pcv_config_close(c);
    return r;
}

int pcv_layout_read(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                    struct pcv_err *e)
{
    const int r = read_directory(bp, dir, w, e);

    return r < 0 ? r : usual_positions(bp, e);
}

float *pcv_blueprint_own(struct pcv_blueprint *bp, size_t count, struct pcv_err *e)
{
    float *p = NULL;

    if (bp->nowned < (int)(sizeof(bp->owned) / sizeof(bp->owned[0])))
        p = pcv_alloc(count, sizeof(float));
    if (p) {
        bp->owned[bp->nowned++] = p;
        bp->owned_bytes += count * sizeof(float);
    } else {
        pcv_fail(e, PCV_ENOMEM, "no memory for %zu numbers", count);
    }
    return p;
}

int pcv_blueprint_stats(struct pcv_blueprint *bp, struct pcv_segment *s, int channels, float eps,
                        struct pcv_err *e)
{
    const size_t n = (size_t)s->tokens;
    float *own = pcv_blueprint_own(bp, 2 * n, e);
    void *work = own ? pcv_alloc(pcv_segment_stats_need(s, channels), 1) : NULL;

    if (!work)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu output queries", n);
    pcv_segment_stats(pcv_kernels_for(pcv_cpu_detect()), s, channels, eps, own, own + n, work);
    s->mean = own;
    s->r = own + n;
    pcv_free(work);
    return 0;
}

const char *pcv_blueprint_string(struct pcv_blueprint *bp, const char *text, struct pcv_err *e)
{
    char *p = NULL;

    if (bp->nstrings < (int)(sizeof(bp->strings) / sizeof(bp->strings[0])))
        p = strdup(text);
    if (p)
        bp->strings[bp->nstrings++] = p;
    else
        pcv_fail(e, PCV_ENOMEM, "no memory for a name");
    return p;
}

void pcv_blueprint_clear(struct pcv_blueprint *bp)
{
    for (int i = 0; i < bp->ntasks; i++)
        pcv_labels_free(bp->task[i].labels, bp->task[i].width);
    for (int i = 0; i < bp->nowned; i++)
        pcv_free(bp->owned[i]);
    for (int i = 0; i < bp->nstrings; i++)
        free(bp->strings[i]);
    for (int i = 0; i < PCV_MAX_INPUTS; i++)
        pcv_spectrum_free(bp->spectra[i]);
    *bp = (struct pcv_blueprint){0};
}
