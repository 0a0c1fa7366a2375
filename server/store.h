/* store.h - latents that are kept for later questions: within a budget of bytes, for a time.
 *
 * Kept latents are counted by reference: requests that read them hold one, and so does every entry
 * of the store. An entry is found by its key (automatic: what an input became) or by its handle
 * (explicit: somebody asked for it); both may have the same latents, which count once. What leaves
 * the store lives until the last request is through with it.
 *
 * Room is made by what was used longest ago: automatic entries first; handles only for other
 * handles. Pure: time is an argument, and so is the size of latents. Loop thread. */
#ifndef SRV_STORE_H
#define SRV_STORE_H

#include "server/digest.h"
#include "server/heap.h"

/* ---- latents by reference ----------------------------------------------------------------------
 */

struct srv_kept {
    struct pcv_latents *latents; /* own */
    int model;                   /* index of the model they are of */
    size_t bytes;                /* what they take; set before they come into a store */
    int refs, entries;           /* of which some are a store's */
};

/* One reference. l is taken, also on failure; NULL without memory. */
struct srv_kept *srv_kept_new(struct pcv_latents *l, int model);
struct srv_kept *srv_kept_hold(struct srv_kept *k); /* returns k */
void srv_kept_release(struct srv_kept *k);          /* NULL is fine */

/* ---- handles -----------------------------------------------------------------------------------
 *
 * "lat_", 8 hexadecimal digits of the model's fingerprint, 32 of chance. */

enum { SRV_HANDLE = 44 }; /* without NUL */

/* PCV_EIO when the system gives no chance. */
PCV_CHECK int srv_handle_make(char handle[SRV_HANDLE + 1], uint64_t fingerprint, struct pcv_err *e);
/* False for what is no handle. *print: the part of the fingerprint. */
bool srv_handle_read(const char *text, size_t len, uint32_t *print);
uint32_t srv_handle_print(uint64_t fingerprint);

/* ---- the store
 * -----------------------------------------------------------------------------------
 */

enum srv_evicted { SRV_EVICTED_BUDGET, SRV_EVICTED_EXPIRED, SRV_EVICTED_DELETED, SRV_EVICTED };

struct srv_entry {
    struct srv_kept *kept;       /* a reference */
    char handle[SRV_HANDLE + 1]; /* "": automatic, found by key */
    struct srv_digest key;
    uint64_t made_ns, expires_ns;
    /* The store's own. */
    struct srv_heap_node alarm;
    struct srv_entry *newer, *older, *chain;
};

/* bytes: 0 keeps nothing. evicted(ctx, model, why) hears of every entry that leaves. own:
 * srv_store_free, before the models are closed. */
struct srv_store;
PCV_CHECK int srv_store_new(struct srv_store **ret, size_t bytes,
                            void (*evicted)(void *ctx, int model, enum srv_evicted why), void *ctx,
                            struct pcv_err *e);
void srv_store_free(struct srv_store *s); /* NULL is fine; nothing is heard of it */

/* The latents of an input, or NULL. borrow: hold them to keep them. */
struct srv_kept *srv_store_find(struct srv_store *s, int model, const struct srv_digest *key,
                                uint64_t now_ns);
/* Whether latents of so many bytes can be put: not those that would take an eighth of it. */
bool srv_store_fits(const struct srv_store *s, size_t bytes);
/* An automatic entry; one of that key is replaced. False when there is no room, or no memory. */
bool srv_store_put(struct srv_store *s, struct srv_kept *k, const struct srv_digest *key,
                   uint64_t now_ns, uint64_t expires_ns);

/* An entry with a handle, borrowed until it leaves. PCV_ELIMIT: more than the whole store;
 * PCV_ENOMEM, PCV_EIO. */
PCV_CHECK int srv_store_keep(struct srv_store *s, struct srv_kept *k, uint64_t fingerprint,
                             uint64_t now_ns, uint64_t expires_ns, const struct srv_entry **ret,
                             struct pcv_err *e);
const struct srv_entry *srv_store_handle(struct srv_store *s, const char *handle, size_t len,
                                         uint64_t now_ns);
void srv_store_delete(struct srv_store *s, const struct srv_entry *entry);

/* Drops what has expired. */
void srv_store_expire(struct srv_store *s, uint64_t now_ns);

size_t srv_store_limit(const struct srv_store *s);
size_t srv_store_bytes(const struct srv_store *s);
int srv_store_entries(const struct srv_store *s); /* of both kinds */
int srv_store_handles(const struct srv_store *s);

#endif
