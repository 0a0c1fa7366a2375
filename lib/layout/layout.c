#include "lib/layout/layout.h"

#include "lib/base/mem.h"
#include "lib/layout/deepmind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

int pcv_layout_read(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                    struct pcv_err *e)
{
    struct pcv_config *c;
    int r = open_config(&c, dir, w, e);

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

float *pcv_blueprint_own(struct pcv_blueprint *bp, size_t count, struct pcv_err *e)
{
    float *p = NULL;

    if (bp->nowned < (int)(sizeof(bp->owned) / sizeof(bp->owned[0])))
        p = pcv_alloc(count, sizeof(float));
    if (p)
        bp->owned[bp->nowned++] = p;
    else
        pcv_fail(e, PCV_ENOMEM, "no memory for %zu numbers", count);
    return p;
}

void pcv_blueprint_clear(struct pcv_blueprint *bp)
{
    for (int i = 0; i < bp->ntasks; i++)
        pcv_labels_free(bp->task[i].labels, bp->task[i].width);
    for (int i = 0; i < bp->nowned; i++)
        pcv_free(bp->owned[i]);
    *bp = (struct pcv_blueprint){0};
}
