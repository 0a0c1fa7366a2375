/* weights_internal.h - finding a model's files; see weights.h for the order. */
#ifndef PCV_LOAD_WEIGHTS_INTERNAL_H
#define PCV_LOAD_WEIGHTS_INTERNAL_H

#include "lib/load/source.h"
#include "lib/load/weights.h"

/* The files of one model: one, or the shards of one index. */
struct pcv_weights_files {
    enum pcv_weights_kind kind;
    char *path; /* the file, or the index */
    int count;
    struct pcv_source *sources;
    char **paths; /* of each */
};

/* own: pcv_weights_files_close. *ret is of zeros before; on failure it may hold what
 * pcv_weights_files_close frees. */
PCV_CHECK int pcv_weights_files_open(struct pcv_weights_files *ret, const char *dir,
                                     struct pcv_err *e);
void pcv_weights_files_close(struct pcv_weights_files *f);

/* Opens the shards that the index f->path names, which lie in dir. Each must hold the very tensors
 * the index gives it. */
PCV_CHECK int pcv_weights_shards_open(struct pcv_weights_files *f, const char *dir,
                                      struct pcv_err *e);

/* Opens path by f->kind as the next of f's sources, for which there must be room. */
PCV_CHECK int pcv_weights_files_add(struct pcv_weights_files *f, const char *path,
                                    struct pcv_err *e);

#endif
