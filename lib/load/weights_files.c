/* weights_files.c - which file of a directory holds the weights. */
#include "lib/load/weights_internal.h"

#include <dirent.h>
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
    {"pytorch_model.bin", PCV_WEIGHTS_TORCH, false},
    {"pytorch_model.bin.index.json", PCV_WEIGHTS_TORCH, true},
};

enum { NPLACES = sizeof(PLACES) / sizeof(*PLACES) };

int pcv_weights_files_add(struct pcv_weights_files *f, const char *path, struct pcv_err *e)
{
    struct pcv_source *s = &f->sources[f->count];
    char *copy = strdup(path);
    int r;

    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    switch (f->kind) {
    case PCV_WEIGHTS_SAFETENSORS: r = pcv_source_safetensors(s, path, e); break;
    case PCV_WEIGHTS_TORCH: r = pcv_source_torch(s, path, e); break;
    default: r = pcv_source_haiku(s, path, e); break;
    }
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

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);

    return n > m && strcmp(name + n - m, end) == 0;
}

/* The one checkpoint of DeepMind's in dir, into f->path; none leaves that NULL. */
static int find_haiku(struct pcv_weights_files *f, DIR *d, const char *dir, struct pcv_err *e)
{
    char *found = NULL;
    int r = 0;

    for (struct dirent *entry; r == 0 && (entry = readdir(d));) {
        if (!ends_in(entry->d_name, ".pickle") && !ends_in(entry->d_name, ".pystate"))
            continue;
        if (found)
            r = pcv_fail(e, PCV_EUNSUPPORTED, "two checkpoints, %.100s and %.100s; keep one", found,
                         entry->d_name);
        else if (!(found = strdup(entry->d_name)))
            r = pcv_fail(e, PCV_ENOMEM, "no memory for a file's name");
    }
    if (r < 0)
        pcv_err_at(e, "%s", dir);
    else if (found && asprintf(&f->path, "%s/%s", dir, found) < 0) {
        f->path = NULL;
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    }
    free(found);
    return r;
}

static int open_haiku(struct pcv_weights_files *f, const char *dir, struct pcv_err *e)
{
    DIR *d = opendir(dir);
    int r;

    if (!d) {
        r = pcv_fail(e, errno == ENOMEM ? PCV_ENOMEM : PCV_EIO, "cannot open the directory: %s",
                     strerror(errno));
        pcv_err_at(e, "%s", dir);
        return r;
    }
    r = find_haiku(f, d, dir, e);
    closedir(d);
    if (r < 0)
        return r;
    if (!f->path) {
        r = pcv_fail(e, PCV_EMISSING,
                     "no weights: looked for %s, %s, %s, %s, *.pickle and *.pystate",
                     PLACES[0].file, PLACES[1].file, PLACES[2].file, PLACES[3].file);
        pcv_err_at(e, "%s", dir);
        return r;
    }
    f->kind = PCV_WEIGHTS_HAIKU;
    return open_one(f, e);
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
    return open_haiku(ret, dir, e);
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
