#include "server/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUCKETS = 8192, PRINT = 8, CHANCE = 16 };
static const char prefix[] = "lat_";

/* ---- latents by reference ----------------------------------------------------------------------
 */

struct srv_kept *srv_kept_new(struct pcv_latents *l, int model)
{
    struct srv_kept *k = calloc(1, sizeof *k);
    if (!k) {
        pcv_latents_free(l);
        return NULL;
    }
    *k = (struct srv_kept){.latents = l, .model = model, .refs = 1};
    return k;
}

struct srv_kept *srv_kept_hold(struct srv_kept *k)
{
    k->refs++;
    return k;
}

void srv_kept_release(struct srv_kept *k)
{
    if (!k || --k->refs)
        return;
    pcv_latents_free(k->latents);
    free(k);
}

/* ---- handles -----------------------------------------------------------------------------------
 */

uint32_t srv_handle_print(uint64_t fingerprint)
{
    return (uint32_t)(fingerprint >> 32);
}

int srv_handle_make(char handle[SRV_HANDLE + 1], uint64_t fingerprint, struct pcv_err *e)
{
    uint8_t chance[CHANCE];
    char *to = handle;
    if (getentropy(chance, sizeof chance))
        return pcv_fail(e, PCV_EIO, "the system gives no random numbers");
    to += sprintf(to, "%s%08x", prefix, (unsigned)srv_handle_print(fingerprint));
    for (int i = 0; i < CHANCE; i++)
        to += sprintf(to, "%02x", chance[i]);
    return 0;
}

bool srv_handle_read(const char *text, size_t len, uint32_t *print)
{
    uint32_t found = 0;
    if (len != SRV_HANDLE || memcmp(text, prefix, sizeof prefix - 1) != 0)
        return false;
    for (size_t i = sizeof prefix - 1; i < len; i++) {
        const char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        if (i < sizeof prefix - 1 + PRINT)
            found = found << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *print = found;
    return true;
}

/* ---- the store
 * -----------------------------------------------------------------------------------
 */

/* Entries in the order of their use. */
struct list {
    struct srv_entry *newest, *oldest;
    int n;
};

struct srv_store {
    size_t limit, bytes;
    struct list automatic, handles;
    struct srv_heap alarms; /* by expiry */
    struct srv_entry *by_key[BUCKETS], *by_handle[BUCKETS];
    void (*evicted)(void *ctx, int model, enum srv_evicted why);
    void *ctx;
};

static bool alarm_before(const struct srv_heap_node *a, const struct srv_heap_node *b)
{
    return SRV_HOLDER(a, struct srv_entry, alarm)->expires_ns <
           SRV_HOLDER(b, struct srv_entry, alarm)->expires_ns;
}

int srv_store_new(struct srv_store **ret, size_t bytes,
                  void (*evicted)(void *ctx, int model, enum srv_evicted why), void *ctx,
                  struct pcv_err *e)
{
    struct srv_store *s = calloc(1, sizeof *s);
    if (!s)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the store of latents");
    s->limit = bytes;
    s->evicted = evicted;
    s->ctx = ctx;
    s->alarms.before = alarm_before;
    *ret = s;
    return 0;
}

static struct list *list_of(struct srv_store *s, const struct srv_entry *e)
{
    return *e->handle ? &s->handles : &s->automatic;
}

static struct srv_entry **bucket_of(struct srv_store *s, const struct srv_entry *e)
{
    uint32_t h = 2166136261u; /* FNV-1a; keys and handles are chance already */
    const char *p = *e->handle ? e->handle + sizeof prefix - 1 + PRINT : (const char *)&e->key;
    for (int i = 0; i < 16; i++)
        h = (h ^ (uint8_t)p[i]) * 16777619u;
    return &(*e->handle ? s->by_handle : s->by_key)[h % BUCKETS];
}

static void link_newest(struct list *l, struct srv_entry *e)
{
    e->newer = NULL;
    e->older = l->newest;
    *(l->newest ? &l->newest->newer : &l->oldest) = e;
    l->newest = e;
    l->n++;
}

static void unlink_entry(struct list *l, struct srv_entry *e)
{
    *(e->newer ? &e->newer->older : &l->newest) = e->older;
    *(e->older ? &e->older->newer : &l->oldest) = e->newer;
    l->n--;
}

static void touch(struct srv_store *s, struct srv_entry *e)
{
    unlink_entry(list_of(s, e), e);
    link_newest(list_of(s, e), e);
}

/* Takes an entry out of everything and frees it. */
static void forget(struct srv_store *s, struct srv_entry *e)
{
    struct srv_entry **at = bucket_of(s, e);
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    unlink_entry(list_of(s, e), e);
    srv_heap_remove(&s->alarms, &e->alarm);
    if (--e->kept->entries == 0)
        s->bytes -= e->kept->bytes;
    srv_kept_release(e->kept);
    free(e);
}

static void evict(struct srv_store *s, struct srv_entry *e, enum srv_evicted why)
{
    const int model = e->kept->model;
    forget(s, e);
    if (s->evicted)
        s->evicted(s->ctx, model, why);
}

void srv_store_free(struct srv_store *s)
{
    if (!s)
        return;
    while (s->automatic.newest)
        forget(s, s->automatic.newest);
    while (s->handles.newest)
        forget(s, s->handles.newest);
    srv_heap_clear(&s->alarms);
    free(s);
}

void srv_store_expire(struct srv_store *s, uint64_t now_ns)
{
    for (struct srv_heap_node *n; (n = srv_heap_first(&s->alarms));) {
        struct srv_entry *e = SRV_HOLDER(n, struct srv_entry, alarm);
        if (e->expires_ns > now_ns)
            return;
        evict(s, e, SRV_EVICTED_EXPIRED);
    }
}

/* Makes room for latents that may be there already. */
static bool make_room(struct srv_store *s, const struct srv_kept *k, bool handles)
{
    while (!k->entries && s->bytes + k->bytes > s->limit) {
        struct srv_entry *oldest = s->automatic.oldest;
        if (!oldest && handles)
            oldest = s->handles.oldest;
        if (!oldest)
            return false;
        evict(s, oldest, SRV_EVICTED_BUDGET);
    }
    return true;
}

/* An entry with everything but its place among others. NULL without memory. */
static struct srv_entry *add(struct srv_store *s, struct srv_kept *k, const struct srv_entry *like)
{
    struct srv_entry *e = malloc(sizeof *e);
    if (!e)
        return NULL;
    *e = *like;
    if (!srv_heap_push(&s->alarms, &e->alarm)) {
        free(e);
        return NULL;
    }
    struct srv_entry **at = bucket_of(s, e);
    e->chain = *at;
    *at = e;
    link_newest(list_of(s, e), e);
    e->kept = srv_kept_hold(k);
    if (k->entries++ == 0)
        s->bytes += k->bytes;
    return e;
}

/* ---- by key ------------------------------------------------------------------------------------
 */

static struct srv_entry *find_key(struct srv_store *s, int model, const struct srv_digest *key)
{
    struct srv_entry like = {.key = *key};
    for (struct srv_entry *e = *bucket_of(s, &like); e; e = e->chain)
        if (e->kept->model == model && srv_digest_same(&e->key, key))
            return e;
    return NULL;
}

struct srv_kept *srv_store_find(struct srv_store *s, int model, const struct srv_digest *key,
                                uint64_t now_ns)
{
    srv_store_expire(s, now_ns);
    struct srv_entry *e = find_key(s, model, key);
    if (!e)
        return NULL;
    touch(s, e);
    return e->kept;
}

bool srv_store_fits(const struct srv_store *s, size_t bytes)
{
    return bytes <= s->limit / 8;
}

bool srv_store_put(struct srv_store *s, struct srv_kept *k, const struct srv_digest *key,
                   uint64_t now_ns, uint64_t expires_ns)
{
    srv_store_expire(s, now_ns);
    struct srv_entry *old = find_key(s, k->model, key);
    if (!srv_store_fits(s, k->bytes) || (old && old->kept == k))
        return old && old->kept == k;
    if (old)
        forget(s, old);
    return make_room(s, k, false) &&
           add(s, k, &(struct srv_entry){.key = *key, .made_ns = now_ns, .expires_ns = expires_ns});
}

/* ---- by handle ---------------------------------------------------------------------------------
 */

int srv_store_keep(struct srv_store *s, struct srv_kept *k, uint64_t fingerprint, uint64_t now_ns,
                   uint64_t expires_ns, const struct srv_entry **ret, struct pcv_err *e)
{
    struct srv_entry like = {.made_ns = now_ns, .expires_ns = expires_ns};
    srv_store_expire(s, now_ns);
    if (k->bytes > s->limit)
        return pcv_fail(e, PCV_ELIMIT, "%.1f MB of latents are more than the %.1f MB that are kept",
                        (double)k->bytes / 1e6, (double)s->limit / 1e6);
    if (srv_handle_make(like.handle, fingerprint, e))
        return e->code;
    if (!make_room(s, k, true))
        return pcv_fail(e, PCV_ELIMIT, "there is no room for the latents");
    struct srv_entry *entry = add(s, k, &like);
    if (!entry)
        return pcv_fail(e, PCV_ENOMEM, "no memory to keep latents");
    *ret = entry;
    return 0;
}

const struct srv_entry *srv_store_handle(struct srv_store *s, const char *handle, size_t len,
                                         uint64_t now_ns)
{
    struct srv_entry like = {0};
    uint32_t print;
    srv_store_expire(s, now_ns);
    if (!srv_handle_read(handle, len, &print))
        return NULL;
    memcpy(like.handle, handle, len);
    for (struct srv_entry *e = *bucket_of(s, &like); e; e = e->chain)
        if (!strcmp(e->handle, like.handle)) {
            touch(s, e);
            return e;
        }
    return NULL;
}

void srv_store_delete(struct srv_store *s, const struct srv_entry *entry)
{
    evict(s, (struct srv_entry *)entry, SRV_EVICTED_DELETED);
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

size_t srv_store_limit(const struct srv_store *s)
{
    return s->limit;
}

size_t srv_store_bytes(const struct srv_store *s)
{
    return s->bytes;
}

int srv_store_entries(const struct srv_store *s)
{
    return s->automatic.n + s->handles.n;
}

int srv_store_handles(const struct srv_store *s)
{
    return s->handles.n;
}
