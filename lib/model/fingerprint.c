#include "lib/model/fingerprint.h"

#include "lib/load/json_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ELEMENTS = 4096 }; /* of a tensor */

/* Eight bytes at a time, each multiplied in and its high bits brought down. */
static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15;
    return h ^ h >> 29;
}

static uint64_t bytes(uint64_t h, const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t x;

    for (; len >= sizeof(x); p += sizeof(x), len -= sizeof(x)) {
        memcpy(&x, p, sizeof(x));
        h = mix(h, x);
    }
    x = len;
    memcpy((unsigned char *)&x + 1, p, len); /* the last few, and how many they are */
    return mix(h, x);
}

static uint64_t tensor(uint64_t h, const struct pcv_tensor *t)
{
    const size_t size = pcv_dtype_size(t->dtype), count = t->nbytes / size;
    const size_t taken = count < ELEMENTS ? count : ELEMENTS;

    h = bytes(h, t->name, strlen(t->name));
    h = mix(h, (uint64_t)t->dtype);
    h = bytes(h, t->shape, (size_t)t->ndim * sizeof(t->shape[0]));
    for (size_t i = 0; i < taken; i++) {
        uint64_t x = 0;

        memcpy(&x, (const char *)t->data + count / taken * i * size, size);
        h = mix(h, x);
    }
    return h;
}

/* A file's text, or that there is none. */
static int file(uint64_t *h, const char *dir, const char *name, bool *found, struct pcv_err *e)
{
    char path[4096], *text;
    size_t len;
    int r;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    *found = access(path, F_OK) == 0 || errno != ENOENT;
    if (!*found) {
        *h = mix(*h, 0);
        return 0;
    }
    r = pcv_file_text(&text, &len, path, e);
    if (r < 0) {
        pcv_err_at(e, "%s", path);
        return r;
    }
    *h = bytes(*h, text, len);
    free(text);
    return 0;
}

int pcv_fingerprint(uint64_t *ret, const char *dir, const struct pcv_weights *w, struct pcv_err *e)
{
    uint64_t h = 0x70657263656976; /* begins anywhere but at 0 */
    bool native = false, found;
    int r = file(&h, dir, "perceiver.json", &native, e);

    if (r == 0 && !native)
        r = file(&h, dir, "config.json", &found, e);
    if (r == 0 && !native)
        r = file(&h, dir, "preprocessor_config.json", &found, e);
    if (r < 0)
        return r;
    for (int i = 0; i < pcv_weights_count(w); i++)
        h = tensor(h, pcv_weights_at(w, i));
    h ^= h >> 32; /* every bit of it depends on all that went in */
    h *= 0xd6e8feb86659fd93;
    *ret = h ^ h >> 32;
    return 0;
}
