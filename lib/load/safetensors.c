#include "lib/load/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 8, /* little-endian length of the header, before it */
    MAX_DEPTH = 3,    /* {name: {shape: [ */
    /* A tensor needs 1 + 2 + 1 + (PCV_MAX_DIMS - 1) commas; as many again are left for metadata. */
    MAX_COMMAS = PCV_SAFETENSORS_MAX_TENSORS * 2 * (PCV_MAX_DIMS + 3),
};

struct pcv_safetensors {
    char *map;     /* MAP_FAILED until mapped */
    bool borrowed; /* it is the caller's memory */
    json_t *notes; /* own, or NULL: its metadata */
    size_t size;
    const char *data; /* in map, after the header */
    size_t data_size;
    int count;
    struct pcv_tensor *tensors;        /* by place in the file */
    const struct pcv_tensor **by_name; /* by name */
    char *names;                       /* all names, each NUL-terminated */
};

/* ---- the mapping -------------------------------------------------------------------------- */

static int map_file(struct pcv_safetensors *f, const char *path, struct pcv_err *e)
{
    struct stat st;
    int r = 0;
    /* O_NONBLOCK: a FIFO in place of the file is refused below instead of waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return pcv_fail(e, PCV_EIO, "cannot open: %s", strerror(errno));
    if (fstat(fd, &st) < 0)
        r = pcv_fail(e, PCV_EIO, "cannot stat: %s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = pcv_fail(e, PCV_EIO, "not a regular file");
    else if (st.st_size < LENGTH_BYTES)
        r = pcv_fail(e, PCV_EFORMAT, "%lld bytes, a safetensors file has at least 8",
                     (long long)st.st_size);
    if (r == 0) {
        f->size = (size_t)st.st_size;
        f->map = mmap(NULL, f->size, PROT_READ, MAP_SHARED, fd, 0);
        if (f->map == MAP_FAILED)
            r = pcv_fail(e, PCV_EIO, "cannot map: %s", strerror(errno));
    }
    close(fd);
    return r;
}

/* ---- the header's JSON -------------------------------------------------------------------- */

/* One pass over the header before it is parsed: a parsed value takes a hundred times the memory of
 * its two characters, so depth and number of values are bounded here. */
static int scan_header(const char *p, size_t n, struct pcv_err *e)
{
    int depth = 0, commas = 0;
    bool string = false;

    if (n == 0 || p[0] != '{')
        return pcv_fail(e, PCV_EFORMAT, "header is not a JSON object");
    for (size_t i = 0; i < n; i++) {
        if (string) {
            if (p[i] == '\\')
                i++;
            else if (p[i] == '"')
                string = false;
            continue;
        }
        switch (p[i]) {
        case '"': string = true; break;
        case '{':
        case '[':
            if (++depth > MAX_DEPTH)
                return pcv_fail(e, PCV_EFORMAT, "header nested deeper than %d at byte %zu",
                                MAX_DEPTH, i);
            break;
        case '}':
        case ']': depth--; break;
        case ',':
            if (++commas > MAX_COMMAS)
                return pcv_fail(e, PCV_ELIMIT, "header has more than %d values", MAX_COMMAS);
            break;
        }
    }
    return 0;
}

/* *ret is owned by the caller. Points f->data behind the header. */
static int parse_header(struct pcv_safetensors *f, json_t **ret, struct pcv_err *e)
{
    const unsigned char *b = (const unsigned char *)f->map;
    json_error_t je;
    uint64_t n = 0;
    json_t *j;
    int r;

    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | b[i];
    if (n > PCV_SAFETENSORS_MAX_HEADER)
        return pcv_fail(e, PCV_ELIMIT, "header of %llu bytes, at most %d are taken",
                        (unsigned long long)n, PCV_SAFETENSORS_MAX_HEADER);
    if (n > f->size - LENGTH_BYTES)
        return pcv_fail(e, PCV_EFORMAT, "header of %llu bytes in a file of %zu",
                        (unsigned long long)n, f->size);
    f->data = f->map + LENGTH_BYTES + n;
    f->data_size = f->size - LENGTH_BYTES - (size_t)n;
    if ((r = scan_header(f->map + LENGTH_BYTES, (size_t)n, e)) < 0)
        return r;
    j = json_loadb(f->map + LENGTH_BYTES, (size_t)n, JSON_REJECT_DUPLICATES, &je);
    if (!j && !je.text[0]) /* how jansson says that memory ran out */
        return pcv_fail(e, PCV_ENOMEM, "no memory for a header of %llu bytes",
                        (unsigned long long)n);
    if (!j)
        return pcv_fail(e, PCV_EFORMAT, "header is not JSON: %s (byte %d)", je.text, je.position);
    *ret = j; /* an object: it begins with '{' */
    return 0;
}

static int check_name(const char *name, size_t len, struct pcv_err *e)
{
    if (len > PCV_SAFETENSORS_MAX_NAME)
        return pcv_fail(e, PCV_EFORMAT, "a tensor's name has %zu bytes, at most %d are taken", len,
                        PCV_SAFETENSORS_MAX_NAME);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return pcv_fail(e, PCV_EFORMAT, "a tensor's name has control character 0x%02x",
                            (unsigned)name[i]);
    return 0;
}

static int check_metadata(const json_t *v, struct pcv_err *e)
{
    const char *key;
    const json_t *s;

    if (!json_is_object(v))
        return pcv_fail(e, PCV_EFORMAT, "not an object");
    json_object_foreach((json_t *)v, key, s) if (!json_is_string(s)) return pcv_fail(
        e, PCV_EFORMAT, "a value is not a string");
    return 0;
}

static int read_dtype(enum pcv_dtype *ret, const json_t *v, struct pcv_err *e)
{
    const char *s = json_string_value(v);

    if (!s)
        return pcv_fail(e, PCV_EFORMAT, "dtype is %s", v ? "not a string" : "missing");
    for (int t = 0; t < PCV_DTYPES; t++)
        if (strcmp(s, pcv_dtype_name((enum pcv_dtype)t)) == 0) {
            *ret = (enum pcv_dtype)t;
            return 0;
        }
    if (s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")] || strlen(s) > 32)
        return pcv_fail(e, PCV_EFORMAT, "dtype is not a datatype's name");
    return pcv_fail(e, PCV_EUNSUPPORTED, "dtype %s is not served", s);
}

static int read_shape(struct pcv_tensor *t, const json_t *v, struct pcv_err *e)
{
    size_t n = json_array_size(v);

    if (!json_is_array(v))
        return pcv_fail(e, PCV_EFORMAT, "shape is %s", v ? "not an array" : "missing");
    if (n > PCV_MAX_DIMS)
        return pcv_fail(e, PCV_EUNSUPPORTED, "shape has %zu dimensions, at most %d are served", n,
                        PCV_MAX_DIMS);
    t->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(v, i);

        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return pcv_fail(e, PCV_EFORMAT, "shape[%zu] is not a whole number of at least 0", i);
        t->shape[i] = json_integer_value(d);
    }
    return 0;
}

/* Sets data and nbytes, which must be what dtype and shape say. */
static int read_offsets(const struct pcv_safetensors *f, struct pcv_tensor *t, const json_t *v,
                        struct pcv_err *e)
{
    const json_t *from = json_array_get(v, 0), *to = json_array_get(v, 1);
    char shape[200];
    json_int_t a, b;

    if (json_array_size(v) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return pcv_fail(e, PCV_EFORMAT, "data_offsets %s",
                        v ? "are not two whole numbers" : "are missing");
    a = json_integer_value(from);
    b = json_integer_value(to);
    if (a < 0 || b < a)
        return pcv_fail(e, PCV_EFORMAT, "data_offsets [%lld,%lld] are no range", (long long)a,
                        (long long)b);
    if ((uint64_t)b > f->data_size)
        return pcv_fail(e, PCV_EFORMAT, "data_offsets [%lld,%lld] in a file with %zu bytes of data",
                        (long long)a, (long long)b, f->data_size);
    if (b - a != pcv_shape_bytes(t->dtype, t->shape, t->ndim))
        return pcv_fail(e, PCV_EFORMAT, "%lld bytes are not what %s %s takes", (long long)(b - a),
                        pcv_dtype_name(t->dtype),
                        pcv_shape_text(t->shape, t->ndim, shape, sizeof(shape)));
    t->data = f->data + a;
    t->nbytes = (size_t)(b - a);
    return 0;
}

static int read_tensor(const struct pcv_safetensors *f, struct pcv_tensor *t, const json_t *v,
                       struct pcv_err *e)
{
    int r;

    if (!json_is_object(v))
        return pcv_fail(e, PCV_EFORMAT, "not an object");
    if ((r = read_dtype(&t->dtype, json_object_get(v, "dtype"), e)) < 0 ||
        (r = read_shape(t, json_object_get(v, "shape"), e)) < 0 ||
        (r = read_offsets(f, t, json_object_get(v, "data_offsets"), e)) < 0)
        return r;
    if (json_object_size(v) != 3)
        return pcv_fail(e, PCV_EFORMAT, "has keys besides dtype, shape and data_offsets");
    return 0;
}

/* ---- the list of tensors ------------------------------------------------------------------ */

/* Counts tensors, checks names and metadata, and allocates room for all of it. */
static int reserve(struct pcv_safetensors *f, json_t *header, struct pcv_err *e)
{
    size_t count = 0, bytes = 0, len;
    const char *name;
    json_t *v;
    int r;

    json_object_keylen_foreach(header, name, len, v)
    {
        if (strcmp(name, "__metadata__") == 0) {
            if (check_metadata(v, e) < 0)
                return pcv_err_at(e, "__metadata__");
            continue;
        }
        if ((r = check_name(name, len, e)) < 0)
            return r;
        count++;
        bytes += len + 1;
    }
    if (count > PCV_SAFETENSORS_MAX_TENSORS)
        return pcv_fail(e, PCV_ELIMIT, "%zu tensors, at most %d are taken", count,
                        PCV_SAFETENSORS_MAX_TENSORS);
    f->tensors = calloc(count + 1, sizeof(*f->tensors));
    f->by_name = calloc(count + 1, sizeof(*f->by_name));
    f->names = malloc(bytes + 1);
    if (!f->tensors || !f->by_name || !f->names)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu tensors", count);
    return 0;
}

static int by_place(const void *pa, const void *pb)
{
    const struct pcv_tensor *a = pa, *b = pb;
    const char *da = a->data, *db = b->data;

    if (da != db)
        return da < db ? -1 : 1;
    if (a->nbytes != b->nbytes) /* empty tensors come before the one that starts where they are */
        return a->nbytes < b->nbytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb)
{
    return strcmp((*(const struct pcv_tensor *const *)pa)->name,
                  (*(const struct pcv_tensor *const *)pb)->name);
}

/* In the order of the file, each tensor must begin where the one before it ends. */
static int check_cover(const struct pcv_safetensors *f, struct pcv_err *e)
{
    size_t at = 0;

    for (int i = 0; i < f->count; i++) {
        const struct pcv_tensor *t = &f->tensors[i];
        size_t from = (size_t)((const char *)t->data - f->data);

        if (from != at) {
            pcv_fail(e, PCV_EFORMAT,
                     from < at ? "begins at byte %zu, inside the tensor up to %zu"
                               : "begins at byte %zu, nothing covers those from %zu",
                     from, at);
            return pcv_err_at(e, "%s", t->name);
        }
        at = from + t->nbytes;
    }
    if (at != f->data_size)
        return pcv_fail(e, PCV_EFORMAT, "%zu bytes after the last tensor", f->data_size - at);
    return 0;
}

static int read_tensors(struct pcv_safetensors *f, json_t *header, struct pcv_err *e)
{
    size_t len;
    const char *name;
    char *next;
    json_t *v;
    int r;

    if ((r = reserve(f, header, e)) < 0)
        return r;
    next = f->names;
    json_object_keylen_foreach(header, name, len, v)
    {
        struct pcv_tensor *t = &f->tensors[f->count];

        if (strcmp(name, "__metadata__") == 0) {
            f->notes = json_incref(v);
            continue;
        }
        memcpy(next, name, len + 1);
        t->name = next;
        next += len + 1;
        if (read_tensor(f, t, v, e) < 0)
            return pcv_err_at(e, "%s", t->name);
        f->count++;
    }
    qsort(f->tensors, (size_t)f->count, sizeof(*f->tensors), by_place);
    for (int i = 0; i < f->count; i++)
        f->by_name[i] = &f->tensors[i];
    qsort(f->by_name, (size_t)f->count, sizeof(*f->by_name), by_name);
    return check_cover(f, e);
}

/* ---- public ------------------------------------------------------------------------------- */

int pcv_safetensors_parse(struct pcv_safetensors **ret, const void *data, size_t len,
                          struct pcv_err *e)
{
    struct pcv_safetensors *f = calloc(1, sizeof(*f));
    json_t *header = NULL;
    int r = 0;

    if (!f)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
    f->map = (char *)data;
    f->size = len;
    f->borrowed = true;
    if (len < LENGTH_BYTES)
        r = pcv_fail(e, PCV_EFORMAT, "%zu bytes, a safetensors file has at least 8", len);
    else if ((r = parse_header(f, &header, e)) == 0)
        r = read_tensors(f, header, e);
    if (r == 0) {
        *ret = f;
        f = NULL;
    }
    json_decref(header);
    pcv_safetensors_close(f);
    return r;
}

int pcv_safetensors_open(struct pcv_safetensors **ret, const char *path, struct pcv_err *e)
{
    struct pcv_err own;
    struct pcv_safetensors *f = calloc(1, sizeof(*f));
    json_t *header = NULL;
    int r = 0;

    e = e ? e : &own; /* places are added to it, and carry the code */
    if (!f) {
        pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
        return pcv_err_at(e, "%s", path);
    }
    f->map = MAP_FAILED;
    if (map_file(f, path, e) < 0 || parse_header(f, &header, e) < 0 ||
        read_tensors(f, header, e) < 0) {
        r = pcv_err_at(e, "%s", path);
        goto out;
    }
    *ret = f;
    f = NULL;
out:
    json_decref(header);
    pcv_safetensors_close(f);
    return r;
}

void pcv_safetensors_close(struct pcv_safetensors *f)
{
    if (!f)
        return;
    if (f->map != MAP_FAILED && !f->borrowed)
        munmap(f->map, f->size);
    json_decref(f->notes);
    free(f->tensors);
    free(f->by_name);
    free(f->names);
    free(f);
}

int pcv_safetensors_count(const struct pcv_safetensors *f)
{
    return f->count;
}

const struct pcv_tensor *pcv_safetensors_at(const struct pcv_safetensors *f, int i)
{
    return &f->tensors[i];
}

const struct pcv_tensor *pcv_safetensors_find(const struct pcv_safetensors *f, const char *name)
{
    const struct pcv_tensor key = {.name = name}, *p = &key;
    const struct pcv_tensor **hit =
        bsearch(&p, f->by_name, (size_t)f->count, sizeof(*f->by_name), by_name);

    return hit ? *hit : NULL;
}

const char *pcv_safetensors_note(const struct pcv_safetensors *f, const char *key)
{
    return json_string_value(json_object_get(f->notes, key));
}

size_t pcv_safetensors_bytes(const struct pcv_safetensors *f)
{
    return f->size;
}
