#include "server/digest.h"

#include <sodium.h>
#include <string.h>

static void feed(void *ctx, const void *data, size_t len)
{
    crypto_generichash_update(ctx, data, len);
}

struct srv_digest srv_digest_input(uint64_t fingerprint, const struct pcv_input *in)
{
    crypto_generichash_state state;
    struct srv_digest d;
    uint8_t head[8];
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)(fingerprint >> 8 * i);
    crypto_generichash_init(&state, NULL, 0, sizeof d.bytes);
    crypto_generichash_update(&state, head, sizeof head);
    pcv_input_feed(in, feed, &state);
    crypto_generichash_final(&state, d.bytes, sizeof d.bytes);
    return d;
}

struct srv_digest srv_digest_bytes(const void *data, size_t len)
{
    struct srv_digest d;
    crypto_generichash(d.bytes, sizeof d.bytes, data, len, NULL, 0);
    return d;
}

bool srv_digest_same(const struct srv_digest *a, const struct srv_digest *b)
{
    return !memcmp(a->bytes, b->bytes, sizeof a->bytes);
}
