#include "server/share.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

struct srv_share {
    struct srv_lead *by_key[BUCKETS];
    struct srv_follower woken; /* head of their ring */
};

static void ring(struct srv_follower *head)
{
    head->next = head->prev = head;
}

static void append(struct srv_follower *head, struct srv_follower *f)
{
    f->prev = head->prev;
    f->next = head;
    head->prev->next = f;
    head->prev = f;
}

static void unlink_one(struct srv_follower *f)
{
    f->prev->next = f->next;
    f->next->prev = f->prev;
    f->next = f->prev = NULL;
}

struct srv_share *srv_share_new(void)
{
    struct srv_share *s = calloc(1, sizeof *s);
    if (s)
        ring(&s->woken);
    return s;
}

void srv_share_free(struct srv_share *s)
{
    free(s);
}

static unsigned bucket(const struct srv_digest *key)
{
    return (key->bytes[0] | (unsigned)key->bytes[1] << 8) % BUCKETS;
}

void srv_share_lead(struct srv_share *s, struct srv_lead *l, int model,
                    const struct srv_digest *key)
{
    l->leads = true;
    l->model = model;
    l->key = *key;
    ring(&l->followers);
    l->chain = s->by_key[bucket(key)];
    s->by_key[bucket(key)] = l;
}

struct srv_lead *srv_share_find(const struct srv_share *s, int model, const struct srv_digest *key)
{
    struct srv_lead *l = s->by_key[bucket(key)];
    while (l && (l->model != model || !srv_digest_same(&l->key, key)))
        l = l->chain;
    return l;
}

void srv_share_follow(struct srv_lead *l, struct srv_follower *f)
{
    append(&l->followers, f);
}

void srv_share_end(struct srv_share *s, struct srv_lead *l, struct srv_kept *kept)
{
    if (!l->leads)
        return;
    struct srv_lead **at = &s->by_key[bucket(&l->key)];
    while (*at != l)
        at = &(*at)->chain;
    *at = l->chain;
    l->leads = false;
    while (l->followers.next != &l->followers) {
        struct srv_follower *f = l->followers.next;
        unlink_one(f);
        f->kept = kept ? srv_kept_hold(kept) : NULL;
        append(&s->woken, f);
    }
}

struct srv_follower *srv_share_woken(struct srv_share *s)
{
    struct srv_follower *f = s->woken.next;
    if (f == &s->woken)
        return NULL;
    unlink_one(f);
    return f;
}

void srv_share_leave(struct srv_follower *f)
{
    if (!f->next)
        return;
    unlink_one(f);
    srv_kept_release(f->kept);
    f->kept = NULL;
}
