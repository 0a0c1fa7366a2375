/* multipart.h - the parts of a multipart/form-data body (RFC 7578), found in place.
 *
 * No copies: a part's data points into the body, so that an upload exists once. Pure, any thread.
 */
#ifndef SRV_MULTIPART_H
#define SRV_MULTIPART_H

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { SRV_MAX_PARTS = 80 };

struct srv_part {
    const char *name, *filename, *type; /* filename and type NULL when not said */
    const void *data;
    size_t len;
};

struct srv_parts {
    int n;
    struct srv_part *part; /* [n], room for SRV_MAX_PARTS */
    char *strings;         /* names, filenames and types */
};

/* Whether this Content-Type (NULL is fine) says multipart/form-data. */
bool srv_multipart_is(const char *content_type);

/* own: srv_multipart_free. The parts' data are borrowed from body. PCV_EFORMAT (no boundary, no
 * name, no end, ...) with the place "part N", PCV_ELIMIT beyond SRV_MAX_PARTS, PCV_ENOMEM. */
PCV_CHECK int srv_multipart_parse(struct srv_parts *ret, const char *content_type, const void *body,
                                  size_t len, struct pcv_err *e);
void srv_multipart_free(struct srv_parts *p); /* zeroed is fine; is zeroed afterwards */

#endif
