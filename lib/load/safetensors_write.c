/* safetensors_write.c - the other direction: tensors to a .safetensors file. */
#include "lib/load/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIES = 100 }; /* names tried for the temporary file */

/* ---- the header --------------------------------------------------------------------------- */

static int check_tensor(const struct pcv_tensor *t, struct pcv_err *e)
{
    if (!t->name || strlen(t->name) > PCV_SAFETENSORS_MAX_NAME ||
        strcmp(t->name, "__metadata__") == 0)
        return pcv_fail(e, PCV_EFORMAT, "a tensor has no name that can be written");
    for (const char *c = t->name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return pcv_fail(e, PCV_EFORMAT, "a tensor's name has control character 0x%02x",
                            (unsigned)*c);
    if ((unsigned)t->dtype >= PCV_DTYPES || t->ndim < 0 || t->ndim > PCV_MAX_DIMS ||
        pcv_shape_bytes(t->dtype, t->shape, t->ndim) < 0 ||
        (uint64_t)pcv_shape_bytes(t->dtype, t->shape, t->ndim) != t->nbytes ||
        (t->nbytes && !t->data)) {
        pcv_fail(e, PCV_ESHAPE, "%zu bytes do not fit datatype and shape", t->nbytes);
        return pcv_err_at(e, "%s", t->name);
    }
    return 0;
}

/* Adds one tensor whose bytes begin at `from`. */
static int add_tensor(json_t *header, const struct pcv_tensor *t, json_int_t from,
                      struct pcv_err *e)
{
    json_t *shape = json_array();
    json_t *entry;

    if (json_object_get(header, t->name)) {
        json_decref(shape);
        pcv_fail(e, PCV_EFORMAT, "given twice");
        return pcv_err_at(e, "%s", t->name);
    }
    for (int i = 0; i < t->ndim; i++)
        if (json_array_append_new(shape, json_integer(t->shape[i])) < 0)
            break;
    if (json_array_size(shape) != (size_t)t->ndim) {
        json_decref(shape);
        return pcv_fail(e, PCV_ENOMEM, "no memory for the header");
    }
    entry = json_pack("{s:s,s:o,s:[I,I]}", "dtype", pcv_dtype_name(t->dtype), "shape", shape,
                      "data_offsets", from, from + (json_int_t)t->nbytes);
    if (!entry)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the header");
    if (json_object_set_new(header, t->name, entry) < 0)
        return pcv_fail(e, PCV_EFORMAT, "a tensor's name is not UTF-8, or memory ran out");
    return 0;
}

static int add_notes(json_t *header, const struct pcv_note *notes, int nnotes, struct pcv_err *e)
{
    json_t *all = nnotes ? json_object() : NULL;

    if (nnotes && json_object_set_new(header, "__metadata__", all) < 0)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the header");
    for (int i = 0; i < nnotes; i++)
        if (json_object_set_new(all, notes[i].key, json_string(notes[i].value)) < 0)
            return pcv_fail(e, PCV_EFORMAT, "metadata is not UTF-8, or memory ran out");
    return 0;
}

/* The length and the JSON padded to a multiple of 8. own: free(*ret) */
static int make_header(char **ret, size_t *len, const struct pcv_tensor *t, int n,
                       const struct pcv_note *notes, int nnotes, struct pcv_err *e)
{
    json_t *header = json_object();
    char *text = NULL, *out = NULL;
    json_int_t at = 0;
    size_t used, padded;
    int r = header ? add_notes(header, notes, nnotes, e)
                   : pcv_fail(e, PCV_ENOMEM, "no memory for the header");

    for (int i = 0; i < n && r == 0; i++) {
        if ((r = check_tensor(&t[i], e)) == 0)
            r = add_tensor(header, &t[i], at, e);
        if (r == 0 && __builtin_add_overflow(at, (json_int_t)t[i].nbytes, &at))
            r = pcv_fail(e, PCV_ELIMIT, "more bytes than a file can have");
    }
    if (r < 0)
        goto out;
    text = json_dumps(header, JSON_COMPACT);
    used = text ? strlen(text) : 0;
    padded = (used + 7) / 8 * 8;
    out = text ? malloc(8 + padded) : NULL;
    if (!out) {
        r = pcv_fail(e, PCV_ENOMEM, "no memory for the header");
        goto out;
    }
    for (int i = 0; i < 8; i++)
        out[i] = (char)(unsigned char)(padded >> 8 * i);
    memcpy(out + 8, text, used);
    memset(out + 8 + used, ' ', padded - used);
    *ret = out;
    *len = 8 + padded;
out:
    free(text);
    json_decref(header);
    return r;
}

/* ---- the file ----------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t n, struct pcv_err *e)
{
    const char *p = data;

    while (n > 0) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return pcv_fail(e, PCV_EIO, "cannot write: %s", strerror(w < 0 ? errno : ENOSPC));
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* A new file beside path, with the permissions that the process's umask gives. temp has room. */
static int open_temp(char *temp, size_t size, const char *path, struct pcv_err *e)
{
    for (int i = 0; i < TRIES; i++) {
        int fd;

        snprintf(temp, size, "%s.tmp.%ld.%d", path, (long)getpid(), i);
        fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            break;
    }
    return pcv_fail(e, PCV_EIO, "cannot create a file beside it: %s", strerror(errno));
}

/* Makes the rename last: the directory is flushed too. */
static int sync_parent(char *path, struct pcv_err *e)
{
    char *slash = strrchr(path, '/');
    int r = 0, fd;

    if (slash)
        slash[slash == path] = '\0';
    fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system whose directories cannot be flushed, and need not be. */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        r = pcv_fail(e, PCV_EIO, "cannot flush its directory: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return r;
}

static int write_file(const char *path, char *temp, size_t temp_size, const char *header,
                      size_t header_len, const struct pcv_tensor *t, int n, struct pcv_err *e)
{
    int fd = open_temp(temp, temp_size, path, e);
    int r;

    if (fd < 0)
        return fd;
    r = write_all(fd, header, header_len, e);
    for (int i = 0; i < n && r == 0; i++)
        r = write_all(fd, t[i].data, t[i].nbytes, e);
    if (r == 0 && fsync(fd) < 0)
        r = pcv_fail(e, PCV_EIO, "cannot flush: %s", strerror(errno));
    if (close(fd) < 0 && r == 0)
        r = pcv_fail(e, PCV_EIO, "cannot close: %s", strerror(errno));
    if (r == 0 && rename(temp, path) < 0)
        r = pcv_fail(e, PCV_EIO, "cannot rename into place: %s", strerror(errno));
    if (r < 0) {
        unlink(temp);
        return r;
    }
    return sync_parent(temp, e);
}

int pcv_safetensors_write(const char *path, const struct pcv_tensor *t, int n, struct pcv_err *e)
{
    struct pcv_err own;
    size_t header_len = 0, temp_size = strlen(path) + 40;
    char *header = NULL, *temp = malloc(temp_size);
    int r;

    e = e ? e : &own;
    if (!temp)
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    else if (n < 0 || n > PCV_SAFETENSORS_MAX_TENSORS)
        r = pcv_fail(e, PCV_ELIMIT, "%d tensors, at most %d are written", n,
                     PCV_SAFETENSORS_MAX_TENSORS);
    else if ((r = make_header(&header, &header_len, t, n, NULL, 0, e)) == 0)
        r = write_file(path, temp, temp_size, header, header_len, t, n, e);
    free(header);
    free(temp);
    return r < 0 ? pcv_err_at(e, "%s", path) : 0;
}

int pcv_safetensors_encode(void **file, size_t *len, const struct pcv_tensor *t, int n,
                           const struct pcv_note *notes, int nnotes, struct pcv_err *e)
{
    size_t size, header_len;
    char *header, *out, *at;
    int r = make_header(&header, &header_len, t, n, notes, nnotes, e);

    if (r < 0)
        return r;
    size = header_len;
    for (int i = 0; i < n; i++)
        size += t[i].nbytes;
    out = realloc(header, size);
    if (!out) {
        free(header);
        return pcv_fail(e, PCV_ENOMEM, "no memory for a file of %zu bytes", size);
    }
    at = out + header_len;
    for (int i = 0; i < n; i++, at += t[i - 1].nbytes)
        if (t[i].nbytes)
            memcpy(at, t[i].data, t[i].nbytes);
    *file = out;
    *len = size;
    return 0;
}
