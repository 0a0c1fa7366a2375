/* weights_shards.c - an index: {"metadata": {...}, "weight_map": {tensor: file, ...}}. */
#include "lib/load/weights_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Parsed JSON can take forty times its text. */
enum { MAX_INDEX = 4 << 20, MAX_SHARDS = 4096 };

static int read_index(json_t **ret, const char *path, struct pcv_err *e)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    json_error_t je = {0};
    struct stat st;
    json_t *j = NULL;
    int r = 0;

    if (fd < 0)
        return pcv_fail(e, PCV_EIO, "cannot open: %s", strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        r = pcv_fail(e, PCV_EIO, "not a regular file");
    else if (st.st_size > MAX_INDEX)
        r = pcv_fail(e, PCV_ELIMIT, "larger than %d bytes", MAX_INDEX);
    else if (!(j = json_loadfd(fd, JSON_REJECT_DUPLICATES, &je)))
        r = je.text[0]
                ? pcv_fail(e, PCV_EFORMAT, "line %d column %d: %s", je.line, je.column, je.text)
                : pcv_fail(e, PCV_ENOMEM, "no memory for the index");
    close(fd);
    if (r == 0)
        *ret = j;
    return r;
}

/* Checks the map; *shards, owned, gets an object whose keys are the files. */
static int list_shards(const json_t *map, json_t **shards, struct pcv_err *e)
{
    const char *name;
    const json_t *v;
    int r;

    if (!json_is_object(map) || json_object_size(map) == 0)
        return pcv_fail(e, PCV_EFORMAT, "\"weight_map\" is not an object of tensors and files");
    *shards = json_object();
    json_object_foreach((json_t *)map, name, v)
    {
        const char *file = json_string_value(v);

        if (!file)
            r = pcv_fail(e, PCV_EFORMAT, "its file is not a string");
        else if (pcv_source_check_name(file, strlen(file), e) < 0)
            r = PCV_EFORMAT;
        else if (strchr(file, '/') || strstr(file, "..") || strcmp(file, ".") == 0)
            r = pcv_fail(e, PCV_EFORMAT, "\"%.100s\" is not a file beside the index", file);
        else
            r = json_object_set_new(*shards, file, json_null()) < 0
                    ? pcv_fail(e, PCV_ENOMEM, "no memory for a list of shards")
                    : 0;
        if (r < 0) {
            pcv_err_at(e, "weight_map: %.200s", name);
            return r;
        }
    }
    if (json_object_size(*shards) > MAX_SHARDS)
        return pcv_fail(e, PCV_ELIMIT, "%zu shards, at most %d are taken",
                        json_object_size(*shards), MAX_SHARDS);
    return 0;
}

/* Every tensor of the shard is one the index says is there. */
static int check_shard(const struct pcv_source *s, const char *file, const json_t *map,
                       struct pcv_err *e)
{
    for (int i = 0; i < s->count; i++) {
        const char *in = json_string_value(json_object_get(map, s->tensors[i].name));

        if (in && strcmp(in, file) == 0)
            continue;
        if (in)
            pcv_fail(e, PCV_EFORMAT, "the index says it is in %.100s", in);
        else
            pcv_fail(e, PCV_EFORMAT, "tensor is not in the index");
        return pcv_err_at(e, "%s", s->tensors[i].name);
    }
    return 0;
}

/* Names one tensor of the index that no shard has. */
static int name_missing(const struct pcv_weights_files *f, const json_t *map, struct pcv_err *e)
{
    json_t *seen = json_object();
    const char *name;
    const json_t *v;

    for (int i = 0; i < f->count; i++)
        for (int k = 0; k < f->sources[i].count; k++)
            if (json_object_set_new(seen, f->sources[i].tensors[k].name, json_null()) < 0) {
                json_decref(seen);
                return pcv_fail(e, PCV_ENOMEM, "no memory for a list of tensors");
            }
    json_object_foreach((json_t *)map, name, v) if (!json_object_get(seen, name))
    {
        pcv_fail(e, PCV_EMISSING, "tensor is not in %.150s", json_string_value(v));
        pcv_err_at(e, "%.200s", name);
        break;
    }
    json_decref(seen);
    return PCV_EMISSING;
}

static int open_shard(struct pcv_weights_files *f, const char *dir, const char *file,
                      const json_t *map, struct pcv_err *e)
{
    char *path = NULL;
    struct stat st;
    int r;

    if (asprintf(&path, "%s/%s", dir, file) < 0)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    if (lstat(path, &st) < 0 && errno == ENOENT) {
        r = pcv_fail(e, PCV_EMISSING, "shard %.200s is missing", file);
        pcv_err_at(e, "%s", f->path);
    } else if ((r = pcv_weights_files_add(f, path, e)) == 0 &&
               (r = check_shard(&f->sources[f->count - 1], file, map, e)) < 0) {
        pcv_err_at(e, "%s", path);
    }
    free(path);
    return r;
}

static int open_all(struct pcv_weights_files *f, const char *dir, const json_t *map, json_t *shards,
                    struct pcv_err *e)
{
    size_t found = 0;
    const char *file;
    json_t *v;
    int r;

    f->sources = calloc(json_object_size(shards), sizeof(*f->sources));
    f->paths = calloc(json_object_size(shards), sizeof(*f->paths));
    if (!f->sources || !f->paths)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a list of shards");
    json_object_foreach(shards, file, v)
    {
        if ((r = open_shard(f, dir, file, map, e)) < 0)
            return r;
        found += (size_t)f->sources[f->count - 1].count;
    }
    if (found == json_object_size(map)) /* names differ within a shard, shards in their names */
        return 0;
    r = name_missing(f, map, e);
    pcv_err_at(e, "%s", f->path);
    return r;
}

int pcv_weights_shards_open(struct pcv_weights_files *f, const char *dir, struct pcv_err *e)
{
    json_t *index = NULL, *shards = NULL;
    const json_t *map;
    int r = read_index(&index, f->path, e);

    map = json_object_get(index, "weight_map");
    if (r == 0)
        r = list_shards(map, &shards, e);
    if (r < 0)
        pcv_err_at(e, "%s", f->path);
    else
        r = open_all(f, dir, map, shards, e);
    json_decref(shards);
    json_decref(index);
    return r;
}
