#include "lib/load/torch_zip.h"

#include "lib/base/mem.h"
#include "lib/load/source.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zip.h>

enum {
    LOCAL_HEADER = 30, /* bytes before an entry's name */
    GAP = 64,          /* most bytes between an entry's end and the next one's header */
    CHUNK = 1 << 16,
};

struct entry {
    const char *name; /* libzip's, later ours */
    zip_uint64_t index, size, packed;
    bool stored;
    const char *place; /* in the mapping, believed until read; or NULL */
    const char *bytes; /* once read */
    void *owned;
};

struct pcv_torch_zip {
    const char *map;
    size_t size;
    zip_t *zip;
    struct entry *entries; /* by name */
    int count;
    char *names;
    uint64_t owned;
};

/* ---- opening ------------------------------------------------------------------------------ */

/* Memory that libzip was refused is told from what it found wrong; it does not always say so. */
static int code_of(const zip_error_t *error)
{
    const int code = zip_error_code_zip(error);

    return code == ZIP_ER_MEMORY || code == ZIP_ER_OK ? PCV_ENOMEM : PCV_EFORMAT;
}

static int open_zip(struct pcv_torch_zip *z, struct pcv_err *e)
{
    zip_error_t error;
    zip_source_t *source;

    zip_error_init(&error);
    source = zip_source_buffer_create(z->map, z->size, 0, &error);
    if (source)
        z->zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    if (!z->zip) {
        const int r = pcv_fail(e, code_of(&error), "not a sound zip file: %.150s",
                               zip_error_strerror(&error));

        zip_source_free(source);
        zip_error_fini(&error);
        return r;
    }
    zip_error_fini(&error);
    return 0;
}

static int check_entry(struct entry *n, const zip_stat_t *st, struct pcv_err *e)
{
    const zip_uint64_t all =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;

    if ((st->valid & all) != all)
        return pcv_fail(e, PCV_EFORMAT, "entry does not say what it holds");
    if (st->encryption_method != ZIP_EM_NONE)
        return pcv_fail(e, PCV_EUNSUPPORTED, "entry is encrypted");
    if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
        return pcv_fail(e, PCV_EUNSUPPORTED, "entry is packed by method %d; torch packs none",
                        (int)st->comp_method);
    n->stored = st->comp_method == ZIP_CM_STORE;
    n->size = st->size;
    n->packed = st->comp_size;
    if (n->stored && n->size != n->packed)
        return pcv_fail(e, PCV_EFORMAT, "entry of %llu bytes is stored in %llu",
                        (unsigned long long)n->size, (unsigned long long)n->packed);
    if (n->size / PCV_TORCH_ZIP_MAX_RATIO > n->packed)
        return pcv_fail(e, PCV_ELIMIT, "entry of %llu bytes is packed in %llu",
                        (unsigned long long)n->size, (unsigned long long)n->packed);
    return 0;
}

/* Where the entry after `from` should be: behind a local header of its name. */
static const char *locate(const struct pcv_torch_zip *z, const struct entry *n, size_t from)
{
    const size_t len = strlen(n->name);

    for (size_t at = from; at <= from + GAP && at + LOCAL_HEADER <= z->size; at++) {
        const unsigned char *h = (const unsigned char *)z->map + at;
        const size_t room = z->size - at - LOCAL_HEADER;
        size_t name, extra;

        if (memcmp(h, "PK\3\4", 4) != 0)
            continue;
        name = (size_t)h[26] | (size_t)h[27] << 8;
        extra = (size_t)h[28] | (size_t)h[29] << 8;
        if (name != len || name + extra > room || n->packed > room - name - extra ||
            memcmp(h + LOCAL_HEADER, n->name, len) != 0)
            return NULL;
        return (const char *)h + LOCAL_HEADER + name + extra;
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Fills entry i and adds to the totals. */
static int list_entry(struct pcv_torch_zip *z, int i, zip_uint64_t *packed, zip_uint64_t *size,
                      size_t *at, struct pcv_err *e)
{
    struct entry *n = &z->entries[i];
    const char *place;
    zip_stat_t st;
    int r;

    n->index = (zip_uint64_t)i;
    n->name = zip_get_name(z->zip, n->index, ZIP_FL_ENC_RAW);
    if (!n->name || zip_stat_index(z->zip, n->index, 0, &st) < 0)
        return pcv_fail(e, PCV_EFORMAT, "entry %d has no name or no size", i);
    if ((r = pcv_source_check_name(n->name, strlen(n->name), e)) < 0)
        return r;
    if ((r = check_entry(n, &st, e)) < 0) {
        pcv_err_at(e, "%s", n->name);
        return r;
    }
    if (n->packed > z->size - *packed)
        return pcv_fail(e, PCV_EFORMAT, "entries take more bytes than the file has");
    *packed += n->packed;
    *size += n->size; /* at most 64 times what is packed */
    if (*size / PCV_TORCH_ZIP_MAX_TOTAL_RATIO > z->size)
        return pcv_fail(e, PCV_ELIMIT, "entries hold more than %d times the bytes of the file",
                        PCV_TORCH_ZIP_MAX_TOTAL_RATIO);
    place = locate(z, n, *at);
    if (place)
        *at = (size_t)(place - z->map) + n->packed;
    n->place = n->stored ? place : NULL;
    return 0;
}

static int list_entries(struct pcv_torch_zip *z, struct pcv_err *e)
{
    const zip_int64_t count = zip_get_num_entries(z->zip, 0);
    zip_uint64_t packed = 0, size = 0;
    size_t at = 0;
    int r;

    if (count < 0 || count > PCV_TORCH_ZIP_MAX_ENTRIES)
        return pcv_fail(e, PCV_ELIMIT, "%lld entries, at most %d are taken", (long long)count,
                        PCV_TORCH_ZIP_MAX_ENTRIES);
    z->entries = calloc((size_t)count + 1, sizeof(*z->entries));
    if (!z->entries)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %lld entries", (long long)count);
    for (z->count = 0; z->count < count; z->count++)
        if ((r = list_entry(z, z->count, &packed, &size, &at, e)) < 0)
            return r;
    qsort(z->entries, (size_t)z->count, sizeof(*z->entries), by_name);
    for (int i = 1; i < z->count; i++)
        if (strcmp(z->entries[i - 1].name, z->entries[i].name) == 0) {
            pcv_fail(e, PCV_EFORMAT, "two entries of one name");
            pcv_err_at(e, "%s", z->entries[i].name);
            return PCV_EFORMAT;
        }
    return 0;
}

/* libzip's names go with it; these stay. */
static int keep_names(struct pcv_torch_zip *z, struct pcv_err *e)
{
    size_t bytes = 0;
    char *p;

    for (int i = 0; i < z->count; i++)
        bytes += strlen(z->entries[i].name) + 1;
    z->names = p = malloc(bytes + 1);
    if (!p)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the entries' names");
    for (int i = 0; i < z->count; i++) {
        const size_t n = strlen(z->entries[i].name) + 1;

        memcpy(p, z->entries[i].name, n);
        z->entries[i].name = p;
        p += n;
    }
    return 0;
}

int pcv_torch_zip_open(struct pcv_torch_zip **ret, const char *path, struct pcv_err *e)
{
    /* How torch began its files before they were zips: protocol 2, a ten-byte magic number. */
    static const char legacy[] = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.";
    struct pcv_torch_zip *z = calloc(1, sizeof(*z));
    int r;

    if (!z)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a file's description");
    r = pcv_source_map(&z->map, &z->size, path, e);
    if (r == 0 && z->size >= sizeof(legacy) - 1 && memcmp(z->map, legacy, sizeof(legacy) - 1) == 0)
        r = pcv_fail(e, PCV_EUNSUPPORTED,
                     "torch's form of before version 1.6, which is no zip; "
                     "load it and save it again");
    if (r < 0 || (r = open_zip(z, e)) < 0 || (r = list_entries(z, e)) < 0 ||
        (r = keep_names(z, e)) < 0) {
        pcv_torch_zip_close(z);
        return r;
    }
    *ret = z;
    return 0;
}

void pcv_torch_zip_finish(struct pcv_torch_zip *z)
{
    if (z->zip)
        zip_discard(z->zip);
    z->zip = NULL;
}

void pcv_torch_zip_close(struct pcv_torch_zip *z)
{
    if (!z)
        return;
    pcv_torch_zip_finish(z);
    for (int i = 0; z->entries && i < z->count; i++)
        pcv_free(z->entries[i].owned);
    free(z->entries);
    free(z->names);
    if (z->map)
        munmap((void *)z->map, z->size);
    free(z);
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Reads the whole entry into out; or, when that is NULL, compares it with where it should be in
 * the mapping and sets *same. */
static int stream(struct pcv_torch_zip *z, const struct entry *n, char *out, bool *same,
                  struct pcv_err *e)
{
    zip_file_t *f = zip_fopen_index(z->zip, n->index, 0);
    char *chunk = out ? NULL : malloc(CHUNK);
    char more;
    int r = 0;

    if (!f)
        r = pcv_fail(e, code_of(zip_get_error(z->zip)), "cannot be read: %.150s",
                     zip_strerror(z->zip));
    else if (!out && !chunk)
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a piece of the file");
    for (zip_uint64_t done = 0; r == 0 && done < n->size;) {
        const zip_uint64_t left = n->size - done;
        const zip_int64_t got =
            zip_fread(f, out ? out + done : chunk, left < CHUNK ? left : (zip_uint64_t)CHUNK);

        if (got <= 0)
            r = pcv_fail(e, got < 0 ? code_of(zip_file_get_error(f)) : PCV_EFORMAT,
                         "cannot be read at byte %llu of %llu: %.150s", (unsigned long long)done,
                         (unsigned long long)n->size,
                         got < 0 ? zip_file_strerror(f) : "it ends there");
        else if (!out && *same)
            *same = memcmp(chunk, n->place + done, (size_t)got) == 0;
        done += got > 0 ? (zip_uint64_t)got : 0;
    }
    if (r == 0) { /* at the end libzip compares the sum */
        const zip_int64_t got = zip_fread(f, &more, 1);

        if (got != 0)
            r = pcv_fail(e, PCV_EFORMAT, "%.150s",
                         got < 0 ? zip_file_strerror(f) : "holds more bytes than it says");
    }
    if (f)
        zip_fclose(f);
    free(chunk);
    return r;
}

static int read_entry(struct pcv_torch_zip *z, struct entry *n, struct pcv_err *e)
{
    bool same = n->place != NULL;
    char *copy;
    int r;

    if (same && (r = stream(z, n, NULL, &same, e)) < 0)
        return r;
    if (same) {
        n->bytes = n->place;
        return 0;
    }
    copy = pcv_alloc(n->size, 1);
    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %llu bytes", (unsigned long long)n->size);
    r = stream(z, n, copy, NULL, e);
    if (r < 0) {
        pcv_free(copy);
        return r;
    }
    n->bytes = n->owned = copy;
    z->owned += n->size;
    return 0;
}

int pcv_torch_zip_read(struct pcv_torch_zip *z, int i, const char **ret, struct pcv_err *e)
{
    struct entry *n = &z->entries[i];

    if (!n->bytes) {
        const int r =
            z->zip ? read_entry(z, n, e) : pcv_fail(e, PCV_EIO, "the file has been let go of");

        if (r < 0) {
            pcv_err_at(e, "%s", n->name);
            return r;
        }
    }
    *ret = n->bytes;
    return 0;
}

int pcv_torch_zip_count(const struct pcv_torch_zip *z)
{
    return z->count;
}

const char *pcv_torch_zip_name(const struct pcv_torch_zip *z, int i)
{
    return z->entries[i].name;
}

size_t pcv_torch_zip_size(const struct pcv_torch_zip *z, int i)
{
    return z->entries[i].size;
}

int pcv_torch_zip_find(const struct pcv_torch_zip *z, const char *name)
{
    const struct entry key = {.name = name};
    const struct entry *hit =
        bsearch(&key, z->entries, (size_t)z->count, sizeof(*z->entries), by_name);

    return hit ? (int)(hit - z->entries) : -1;
}

const char *pcv_torch_zip_map(const struct pcv_torch_zip *z, size_t *size)
{
    *size = z->size;
    return z->map;
}

uint64_t pcv_torch_zip_owned(const struct pcv_torch_zip *z)
{
    return z->owned;
}
