/* wire_index.c - the body of a repository index request. */
#include "proto/wire.h"
#include "proto/wire_reader.h"

int wire_oip_index_decode(const char *body, size_t len, bool *ready, struct pcv_err *e)
{
    static const char *const keys[] = {"ready", NULL};
    struct wire_reader rd;
    uint32_t seen = 0;
    bool v = false;
    int r, k;

    if (len == 0) {
        *ready = false;
        return 0;
    }
    struct wire_arena *arena = wire_arena_new();
    if (!arena)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    wire_reader_init(&rd, body, len, "$", arena, e);
    r = wire_read_open(&rd, '{', "an object");
    while (r == 0 && (r = wire_read_key(&rd, keys, WIRE_STRICT, &seen, &k)) > 0)
        r = wire_read_bool(&rd, &v);
    if (r == 0)
        r = wire_read_end(&rd);
    wire_arena_free(arena);
    if (r == 0)
        *ready = v;
    return r;
}
