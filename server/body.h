/* body.h - the bytes of one request's body, and their decompression. Knows nothing of connections.
 *
 * Memory grows by doubling, never beyond the limit, and all bodies together never beyond their
 * budget. Functions answer 0 or the HTTP status that says why not: 400 damaged compression,
 * 413 over the limit, 503 over the budget or no memory. A body has one user at a time; the budget
 * may be shared by threads. */
#ifndef SRV_BODY_H
#define SRV_BODY_H

#include "lib/base/err.h"

#include <stdatomic.h>
#include <stddef.h>

struct srv_budget {
    atomic_size_t used;
    size_t max; /* 0: no limit */
};

struct srv_body {
    char *data;
    size_t len, cap;
    struct srv_budget *budget;
};

enum srv_coding { SRV_IDENTITY, SRV_GZIP, SRV_DEFLATE, SRV_UNKNOWN_CODING };

/* Of a Content-Encoding header; NULL is identity. deflate is the zlib form, as RFC 9110 has it. */
enum srv_coding srv_coding_of(const char *content_encoding);

/* expected: the body's whole length if announced, else 0. On failure b keeps what it has. */
PCV_CHECK int srv_body_append(struct srv_body *b, const void *data, size_t n, size_t limit,
                              size_t expected);

/* Appends what in decompresses to. On failure b may hold a beginning of it. */
PCV_CHECK int srv_body_inflate(struct srv_body *b, enum srv_coding coding, const void *in, size_t n,
                               size_t limit);

void srv_body_free(struct srv_body *b); /* zeroed data is fine; the budget gets its bytes back */

#endif
