/* ctl_media.h - what a person names on the command line, as something to send. */
#ifndef CTL_MEDIA_H
#define CTL_MEDIA_H

#include "lib/base/err.h"

#include <stddef.h>

struct ctl_media {
    const char *name; /* of the file, "-" for stdin; NULL for a text: borrowed from the argument */
    const char *type; /* static: see ctl_media_type */
    char *data;       /* own: free() */
    size_t len;
};

/* A file of that name, "-" for standard input, or else the argument itself as a text. */
PCV_CHECK int ctl_media_read(const char *argument, struct ctl_media *ret, struct pcv_err *e);

/* The media type that the first bytes say: of a PNG, JPEG, WAV, FLAC or OGG file; else
 * "text/plain" for UTF-8, and "application/octet-stream". */
const char *ctl_media_type(const void *data, size_t len);

/* Puts what it is before an error: the file, or the beginning of the text. */
void ctl_media_name(const struct ctl_media *m, struct pcv_err *e);

#endif
