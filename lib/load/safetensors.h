/* safetensors.h - a .safetensors file, mapped read-only and shared between processes.
 *
 * The file is hostile until checked: header length, JSON, every dtype, shape and offset, overlaps
 * and gaps, duplicate names, trailing bytes. Refuses, never truncates. After opening, everything
 * is immutable: any thread.
 *
 * One limit of mapping: a file that somebody shortens in place while it is mapped raises SIGBUS at
 * the next read of what is gone. Replace model files by rename, never in place. */
#ifndef PCV_LOAD_SAFETENSORS_H
#define PCV_LOAD_SAFETENSORS_H

#include "lib/base/tensor.h"

#pragma GCC visibility push(default)

struct pcv_safetensors;

/* What is taken at most. Names hold no control characters. */
enum {
    PCV_SAFETENSORS_MAX_HEADER = 100000000, /* bytes: the format's own limit */
    PCV_SAFETENSORS_MAX_TENSORS = 65536,
    PCV_SAFETENSORS_MAX_NAME = 512, /* bytes */
};

/* own: pcv_safetensors_close. Errors begin with the path, then the tensor: PCV_EIO when the system
 * refuses, PCV_EFORMAT when the file breaks the format, PCV_EUNSUPPORTED for a datatype that is not
 * served, PCV_ELIMIT above the limits, PCV_ENOMEM. */
PCV_CHECK int pcv_safetensors_open(struct pcv_safetensors **ret, const char *path,
                                   struct pcv_err *e);
void pcv_safetensors_close(struct pcv_safetensors *f); /* NULL is fine */

/* The same for a file that is in memory: data [len] is borrowed until it is closed. */
PCV_CHECK int pcv_safetensors_parse(struct pcv_safetensors **ret, const void *data, size_t len,
                                    struct pcv_err *e);

/* What the file's metadata says under a key; NULL: nothing. borrow */
const char *pcv_safetensors_note(const struct pcv_safetensors *f, const char *key);

/* Tensors in the order of their bytes in the file; at: 0 <= i < count. Data may be unaligned. */
int pcv_safetensors_count(const struct pcv_safetensors *f);
const struct pcv_tensor *pcv_safetensors_at(const struct pcv_safetensors *f, int i); /* borrow */
const struct pcv_tensor *pcv_safetensors_find(const struct pcv_safetensors *f,
                                              const char *name); /* borrow, or NULL */
size_t pcv_safetensors_bytes(const struct pcv_safetensors *f);   /* of the mapping */

/* Writes tensors in the order given, through a temporary file beside path, fsync and a rename:
 * readers see the old file or the whole new one, and a failed call leaves the old one (the new one
 * when only its directory could not be flushed). The same limits hold as for reading; two tensors
 * of one name are PCV_EFORMAT. A tensor is aligned to its datatype only if the bytes before it are
 * a multiple of that. */
PCV_CHECK int pcv_safetensors_write(const char *path, const struct pcv_tensor *t, int n,
                                    struct pcv_err *e);

/* A file in memory, with metadata. own: free(*file) */
struct pcv_note {
    const char *key, *value; /* UTF-8; each key once */
};
PCV_CHECK int pcv_safetensors_encode(void **file, size_t *len, const struct pcv_tensor *t, int n,
                                     const struct pcv_note *notes, int nnotes, struct pcv_err *e);

#pragma GCC visibility pop

#endif
