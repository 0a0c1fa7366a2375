/* weights_files.c - which file of a directory holds the weights. */
#include "lib/load/weights_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct place {
    const char *file;
    enum pcv_weights_kind kind;
    bool index;
} PLACES[] = {
    {"model.safetensors", PCV_WEIGHTS_SAFETENSORS, false},
    {"model.safetensors.index.json", PCV_WEIGHTS_SAFETENSORS, true},
};

enum { NPLACES = sizeof(PLACES) / sizeof(*PLACES) };

int pcv_weights_files_add(struct pcv_weights_files *f, const char *path, struct pcv_err *e)
{
    struct pcv_source *s = &f->sources[f->count];
    char *copy = strdup(path);
    int r;

    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    r = pcv_source_safetensors(s, path, e);
    if (r < 0) {
        free(copy);
        return r;
    }
    f->paths[f->count++] = copy;
    return 0;
}

static int open_one(struct pcv_weights_files *f, struct pcv_err *e)
{
    f->sources = calloc(1, sizeof(*f->sources));
    f->paths = calloc(1, sizeof(*f->paths));
    if (!f->sources || !f->paths)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
    return pcv_weights_files_add(f, f->path, e);
}

int pcv_weights_files_open(struct pcv_weights_files *ret, const char *dir, struct pcv_err *e)
{
    struct stat st;

    for (int i = 0; i < NPLACES; i++) {
        if (asprintf(&ret->path, "%s/%s", dir, PLACES[i].file) < 0) {
            ret->path = NULL;
            return pcv_fail(e, PCV_ENOMEM, "no memory for a path");
        }
        /* lstat: a link that leads nowhere is an error of its own, not another file's turn. */
        if (lstat(ret->path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR)) {
            ret->kind = PLACES[i].kind;
            return PLACES[i].index ? pcv_weights_shards_open(ret, dir, e) : open_one(ret, e);
        }
        free(ret->path);
        ret->path = NULL;
    }
    pcv_fail(e, PCV_EMISSING, "no weights: looked for %s and %s", PLACES[0].file, PLACES[1].file);
    return pcv_err_at(e, "%s", dir);
}

void pcv_weights_files_close(struct pcv_weights_files *f)
{
    for (int i = 0; i < f->count; i++) {
        pcv_source_close(&f->sources[i]);
        free(f->paths[i]);
    }
    free(f->sources);
    free(f->paths);
    free(f->path);
    *f = (struct pcv_weights_files){0};
}
