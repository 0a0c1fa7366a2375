/* fuzz_safetensors.c - any bytes as a .safetensors file: refused with an error, or wholly readable.
 */
#include "lib/load/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int holds)
{
    if (!holds)
        abort();
}

/* What the header promises of an opened file. */
static void check(const struct pcv_safetensors *f)
{
    const char *next = NULL;
    size_t total = 0;

    for (int i = 0; i < pcv_safetensors_count(f); i++) {
        const struct pcv_tensor *t = pcv_safetensors_at(f, i);
        uint64_t sum = 0;

        need(t->ndim >= 0 && t->ndim <= PCV_MAX_DIMS);
        need((int64_t)t->nbytes == pcv_shape_bytes(t->dtype, t->shape, t->ndim));
        need(!next || next == t->data);
        need(pcv_safetensors_find(f, t->name) == t);
        for (size_t k = 0; k < t->nbytes; k++)
            sum += ((const uint8_t *)t->data)[k];
        need(sum <= 255 * (uint64_t)t->nbytes);
        next = (const char *)t->data + t->nbytes;
        total += t->nbytes;
    }
    need(total <= pcv_safetensors_bytes(f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pcv_safetensors *f = NULL;
    struct pcv_err e = {0};
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    int r;

    need(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    r = pcv_safetensors_open(&f, path, &e);
    if (r == 0) {
        check(f);
    } else {
        need(f == NULL && e.code == r && e.msg[0]);
        need(strncmp(e.where, path, strlen(path)) == 0);
    }
    pcv_safetensors_close(f);
    close(fd);
    return 0;
}
