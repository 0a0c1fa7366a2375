/* safetensors.h - a .safetensors file, mapped read-only and shared between processes.
 *
 * The file is hostile until checked: header length, JSON, every dtype, shape and offset, overlaps
 * and gaps, duplicate names, trailing bytes. Refuses, never truncates. After opening, everything
 * is immutable: any thread. */
#ifndef PCV_LOAD_SAFETENSORS_H
#define PCV_LOAD_SAFETENSORS_H

#include "lib/base/tensor.h"

struct pcv_safetensors;

/* own: pcv_safetensors_close. Errors begin with the path, then the tensor. */
PCV_CHECK int pcv_safetensors_open(struct pcv_safetensors **ret, const char *path,
                                   struct pcv_err *e);
void pcv_safetensors_close(struct pcv_safetensors *f); /* NULL is fine */

int pcv_safetensors_count(const struct pcv_safetensors *f);
const struct pcv_tensor *pcv_safetensors_at(const struct pcv_safetensors *f, int i); /* borrow */
const struct pcv_tensor *pcv_safetensors_find(const struct pcv_safetensors *f,
                                              const char *name); /* borrow, or NULL */
size_t pcv_safetensors_bytes(const struct pcv_safetensors *f);   /* of the mapping */

/* Writes tensors in the order given, through a temporary file beside path and a rename: readers see
 * the old file or the whole new one. */
PCV_CHECK int pcv_safetensors_write(const char *path, const struct pcv_tensor *t, int n,
                                    struct pcv_err *e);

#endif
