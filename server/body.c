#include "server/body.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#define ZLIB_CONST /* what comes in is const */
#include <zlib.h>

enum { FIRST = 4096, AT_ONCE = 65536 };

static bool budget_take(struct srv_budget *g, size_t n)
{
    size_t used = atomic_load(&g->used);

    do {
        if (g->max != 0 && (used > g->max || n > g->max - used))
            return false;
    } while (!atomic_compare_exchange_weak(&g->used, &used, used + n));
    return true;
}

/* Makes room for need bytes in all; need <= limit. */
static int grow(struct srv_body *b, size_t need, size_t limit, size_t expected)
{
    size_t cap = b->cap < FIRST ? FIRST : b->cap <= SIZE_MAX / 2 ? b->cap * 2 : need;
    char *data;

    if (need <= b->cap)
        return 0;
    if (expected >= need && (cap > expected || expected <= AT_ONCE))
        cap = expected;
    if (cap < need)
        cap = need;
    if (cap > limit)
        cap = limit;
    if (!budget_take(b->budget, cap - b->cap))
        return 503;
    data = realloc(b->data, cap);
    if (!data) {
        atomic_fetch_sub(&b->budget->used, cap - b->cap);
        return 503;
    }
    b->data = data;
    b->cap = cap;
    return 0;
}

int srv_body_append(struct srv_body *b, const void *data, size_t n, size_t limit, size_t expected)
{
    int status;

    if (b->len > limit || n > limit - b->len)
        return 413;
    status = grow(b, b->len + n, limit, expected);
    if (status != 0)
        return status;
    if (n != 0)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

enum srv_coding srv_coding_of(const char *content_encoding)
{
    const char *s = content_encoding;

    if (!s || s[0] == '\0' || strcasecmp(s, "identity") == 0)
        return SRV_IDENTITY;
    if (strcasecmp(s, "gzip") == 0 || strcasecmp(s, "x-gzip") == 0)
        return SRV_GZIP;
    if (strcasecmp(s, "deflate") == 0)
        return SRV_DEFLATE;
    return SRV_UNKNOWN_CODING;
}

/* One call of inflate() into the room b has, or 413 when the stream goes on at the limit. */
static int inflate_some(struct srv_body *b, z_stream *z, size_t limit, int *end)
{
    unsigned char over; /* at the limit: room for one byte proves that there is more */
    size_t room = b->cap - b->len;
    int r;

    if (room > UINT_MAX)
        room = UINT_MAX;
    z->next_out = room ? (unsigned char *)b->data + b->len : &over;
    z->avail_out = room ? (unsigned)room : 1;
    r = inflate(z, Z_NO_FLUSH);
    if (room == 0 && z->avail_out == 0)
        return 413;
    if (room != 0)
        b->len += room - z->avail_out;
    *end = r == Z_STREAM_END;
    if (r == Z_MEM_ERROR)
        return 503;
    if (r != Z_OK && r != Z_STREAM_END)
        return 400; /* damaged, or more input is needed and there is none */
    return b->len == b->cap && b->cap < limit ? grow(b, b->len + 1, limit, 0) : 0;
}

int srv_body_inflate(struct srv_body *b, enum srv_coding coding, const void *in, size_t n,
                     size_t limit)
{
    z_stream z = {.next_in = in, .avail_in = (unsigned)n};
    int end = 0, status;

    if (n > UINT_MAX)
        return 413;
    if (inflateInit2(&z, coding == SRV_GZIP ? 16 + MAX_WBITS : MAX_WBITS) != Z_OK)
        return 503;
    status = limit == 0 ? 0 : grow(b, limit < FIRST ? limit : FIRST, limit, 0);
    while (status == 0 && !end) {
        status = inflate_some(b, &z, limit, &end);
        /* gzip files may be written one after the other, and are one file then */
        if (status == 0 && end && z.avail_in != 0) {
            if (coding != SRV_GZIP || inflateReset(&z) != Z_OK)
                status = 400;
            end = 0;
        }
    }
    inflateEnd(&z);
    return status;
}

void srv_body_free(struct srv_body *b)
{
    if (b->cap != 0)
        atomic_fetch_sub(&b->budget->used, b->cap);
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}
