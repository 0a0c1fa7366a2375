/* share.h - identical inputs in flight: one request computes an input, others wait for it.
 *
 * A lead is an input on its way to or in a lane; followers want the same latents. When it ends,
 * whether well or not, its followers are woken in the order in which they came: with the latents,
 * or without, and then the first of them takes the lead. Leads and followers live inside the
 * caller's structs. Pure; loop thread. */
#ifndef SRV_SHARE_H
#define SRV_SHARE_H

#include "server/store.h"

struct srv_share;

struct srv_follower { /* zero: follows nobody */
    struct srv_follower *next, *prev;
    int item;              /* which of its inputs; the caller's */
    struct srv_kept *kept; /* a reference, once woken; NULL: none came */
};

struct srv_lead { /* zero: leads nobody */
    bool leads;
    int model;
    struct srv_digest key;
    struct srv_follower followers; /* head of their ring */
    struct srv_lead *chain;
};

/* own: srv_share_free. NULL without memory. */
struct srv_share *srv_share_new(void);
void srv_share_free(struct srv_share *s); /* NULL is fine; leads and followers are forgotten */

/* Nobody leads this key yet. */
void srv_share_lead(struct srv_share *s, struct srv_lead *l, int model,
                    const struct srv_digest *key);
struct srv_lead *srv_share_find(const struct srv_share *s, int model, const struct srv_digest *key);
void srv_share_follow(struct srv_lead *l, struct srv_follower *f);

/* Followers are woken; kept is what came of it, or NULL. Fine for one that leads nobody. */
void srv_share_end(struct srv_share *s, struct srv_lead *l, struct srv_kept *kept);
/* The next that was woken, or NULL. Its kept is the caller's. */
struct srv_follower *srv_share_woken(struct srv_share *s);
/* A follower gives up, wherever it is. Fine for one that follows nobody. */
void srv_share_leave(struct srv_follower *f);

#endif
