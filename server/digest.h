/* digest.h - what an input is known by: BLAKE2b of the model's fingerprint and of everything that
 * its answers depend on. Two inputs of one digest have the same latents. Any thread. */
#ifndef SRV_DIGEST_H
#define SRV_DIGEST_H

#include "lib/perceiver.h"

struct srv_digest {
    uint8_t bytes[32];
};

struct srv_digest srv_digest_input(uint64_t fingerprint, const struct pcv_input *in);

/* The digest of some bytes alone. */
struct srv_digest srv_digest_bytes(const void *data, size_t len);
bool srv_digest_same(const struct srv_digest *a, const struct srv_digest *b);

#endif
