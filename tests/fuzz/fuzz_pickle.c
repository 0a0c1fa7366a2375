/* fuzz_pickle.c - any bytes as a pickle: refused with an error, or tensors that can be read whole.
 *
 * The first byte says as what: a checkpoint of haiku's, the data.pkl of a file of torch's with two
 * storages beside it, or that whole zip file. */
#include "lib/load/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRIES = 3, STORAGE = 64 };

struct out {
    uint8_t *p;
    size_t n;
};

static void need(int holds)
{
    if (!holds)
        abort();
}

static void put(struct out *o, const void *data, size_t n)
{
    memcpy(o->p + o->n, data, n);
    o->n += n;
}

static void number(struct out *o, size_t x, int width)
{
    for (int i = 0; i < width; i++)
        o->p[o->n++] = (uint8_t)(x >> 8 * i);
}

/* What both of an entry's headers say. */
static void fields(struct out *o, const char *name, const void *data, size_t n)
{
    number(o, 20, 2);
    number(o, 0, 4);
    number(o, 0x00210000, 4);
    number(o, crc32(0, data, (uInt)n), 4);
    number(o, n, 4);
    number(o, n, 4);
    number(o, strlen(name), 2);
    number(o, 0, 2);
}

/* own: free */
static struct out zip_of(const uint8_t *pickle, size_t size)
{
    static const uint8_t storage[STORAGE];
    const char *const names[ENTRIES] = {"m/data.pkl", "m/data/0", "m/data/1"};
    const void *const data[ENTRIES] = {pickle, storage, storage};
    const size_t sizes[ENTRIES] = {size, STORAGE, STORAGE / 2};
    size_t at[ENTRIES], begin;
    struct out o = {.p = malloc(size + 1024)};

    need(o.p != NULL);
    for (int i = 0; i < ENTRIES; i++) {
        at[i] = o.n;
        put(&o, "PK\3\4", 4);
        fields(&o, names[i], data[i], sizes[i]);
        put(&o, names[i], strlen(names[i]));
        put(&o, data[i], sizes[i]);
    }
    begin = o.n;
    for (int i = 0; i < ENTRIES; i++) {
        put(&o, "PK\1\2\0\0", 6);
        fields(&o, names[i], data[i], sizes[i]);
        number(&o, 0, 8);
        number(&o, 0, 2);
        number(&o, at[i], 4);
        put(&o, names[i], strlen(names[i]));
    }
    at[0] = o.n - begin;
    put(&o, "PK\5\6\0\0\0\0", 8);
    number(&o, ENTRIES, 2);
    number(&o, ENTRIES, 2);
    number(&o, at[0], 4);
    number(&o, begin, 4);
    number(&o, 0, 2);
    return o;
}

/* What source.h promises of an opened one. */
static void check(const struct pcv_source *s)
{
    for (int i = 0; i < s->count; i++) {
        const struct pcv_tensor *t = &s->tensors[i];
        uint64_t sum = 0;
        struct pcv_err e;

        need(t->ndim >= 0 && t->ndim <= PCV_MAX_DIMS);
        need((int64_t)t->nbytes == pcv_shape_bytes(t->dtype, t->shape, t->ndim));
        need(pcv_source_check_name(t->name, strlen(t->name), &e) == 0);
        for (size_t k = 0; k < t->nbytes; k++)
            sum += ((const uint8_t *)t->data)[k];
        need(sum <= 255 * (uint64_t)t->nbytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pcv_source s = {0};
    struct pcv_err e = {0};
    struct out zip = {0};
    const int as = size ? data[0] % 3 : 0, fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];
    int r;

    if (size == 0) {
        close(fd);
        return 0;
    }
    data++;
    size--;
    if (as == 1) {
        zip = zip_of(data, size);
        data = zip.p;
        size = zip.n;
    }
    need(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    r = as ? pcv_source_torch(&s, path, &e) : pcv_source_haiku(&s, path, &e);
    if (r == 0) {
        check(&s);
    } else {
        need(!s.close && e.code == r && e.msg[0]);
        need(strncmp(e.where, path, strlen(path)) == 0);
    }
    pcv_source_close(&s);
    close(fd);
    free(zip.p);
    return 0;
}
