/* source.h - the tensors of one file of weights, whatever its form.
 *
 * Every reader of a format ends in this. After opening, everything is immutable: any thread. */
#ifndef PCV_LOAD_SOURCE_H
#define PCV_LOAD_SOURCE_H

#include "lib/base/tensor.h"

struct pcv_source {
    const struct pcv_tensor *tensors; /* borrow until close; any order; a name may stand twice */
    int count;
    const char *map; /* the mapping: a tensor whose data lies elsewhere is in memory of ours */
    size_t map_size;
    uint64_t owned; /* bytes of such memory */
    void *owner;
    void (*close)(void *owner);
};

/* What is taken at most, of any format but safetensors, which has its own. */
enum {
    PCV_SOURCE_MAX_TENSORS = 65536,
    PCV_SOURCE_MAX_NAME = 512, /* bytes */
};

/* own: pcv_source_close. Errors begin with the path. */
PCV_CHECK int pcv_source_safetensors(struct pcv_source *ret, const char *path, struct pcv_err *e);
PCV_CHECK int pcv_source_torch(struct pcv_source *ret, const char *path, struct pcv_err *e);
PCV_CHECK int pcv_source_haiku(struct pcv_source *ret, const char *path, struct pcv_err *e);
void pcv_source_close(struct pcv_source *s); /* of zeros is fine */

/* A tensor's name is text of 1 to PCV_SOURCE_MAX_NAME bytes without control characters. */
PCV_CHECK int pcv_source_check_name(const char *name, size_t len, struct pcv_err *e);

/* Maps a regular file read-only and shared. own: munmap. PCV_EIO; PCV_EFORMAT when it is empty. */
PCV_CHECK int pcv_source_map(const char **ret, size_t *size, const char *path, struct pcv_err *e);

#endif
