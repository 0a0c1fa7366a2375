/* torch_zip.h - the zip container that torch.save writes, and libzip's only place.
 *
 * The file is mapped. An entry that is stored as it is, as torch does, is a view into the mapping
 * once libzip has read it, checked its sum and delivered those very bytes; a deflated one is read
 * into memory. Refused on opening: entries encrypted, packed in another way, packed too well, twice
 * of one name, or together larger than the file can hold. One thread. */
#ifndef PCV_LOAD_TORCH_ZIP_H
#define PCV_LOAD_TORCH_ZIP_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* What is taken at most. */
enum {
    PCV_TORCH_ZIP_MAX_ENTRIES = 1 << 18,
    PCV_TORCH_ZIP_MAX_RATIO = 64,       /* a deflated entry's size by what it takes in the file */
    PCV_TORCH_ZIP_MAX_TOTAL_RATIO = 16, /* all entries' sizes by that of the file */
};

struct pcv_torch_zip;

/* own: pcv_torch_zip_close. Errors do not name the path. */
PCV_CHECK int pcv_torch_zip_open(struct pcv_torch_zip **ret, const char *path, struct pcv_err *e);
void pcv_torch_zip_close(struct pcv_torch_zip *z); /* NULL is fine */

/* Entries in order of their names; 0 <= i < count. borrow */
int pcv_torch_zip_count(const struct pcv_torch_zip *z);
const char *pcv_torch_zip_name(const struct pcv_torch_zip *z, int i);
size_t pcv_torch_zip_size(const struct pcv_torch_zip *z, int i);

/* The entry of this name; -1 when there is none. */
int pcv_torch_zip_find(const struct pcv_torch_zip *z, const char *name);

/* The bytes of entry i, the same ones at every call. borrow until close */
PCV_CHECK int pcv_torch_zip_read(struct pcv_torch_zip *z, int i, const char **ret,
                                 struct pcv_err *e);

/* Everything that is needed has been read: lets go of libzip, not of the bytes. */
void pcv_torch_zip_finish(struct pcv_torch_zip *z);

/* The mapping, and the bytes of memory that entries take beside it. */
const char *pcv_torch_zip_map(const struct pcv_torch_zip *z, size_t *size);
uint64_t pcv_torch_zip_owned(const struct pcv_torch_zip *z);

#endif
