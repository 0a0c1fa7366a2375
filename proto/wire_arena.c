#include "proto/wire_arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Most requests need no more than the room that comes with the arena. Allocators keep pieces of up
 * to 1 KB at hand. */
enum { OWN = 968, CHUNK = 4032, LARGE = 4096, FIRST_ROOM = 4 };

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};

/* A chunk of OWN bytes lies right behind it. */
struct wire_arena {
    _Alignas(max_align_t) struct chunk *chunks; /* the first one is being filled */
};

static struct chunk *own(struct wire_arena *a)
{
    return (struct chunk *)(void *)(a + 1);
}

struct wire_arena *wire_arena_new(void)
{
    struct wire_arena *a = malloc(sizeof(*a) + sizeof(struct chunk) + OWN);

    if (a) {
        a->chunks = own(a);
        *a->chunks = (struct chunk){.size = OWN};
    }
    return a;
}

void wire_arena_free(struct wire_arena *a)
{
    if (!a)
        return;
    for (struct chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        if (c != own(a))
            free(c);
    }
    free(a);
}

static struct chunk *chunk_new(size_t size)
{
    struct chunk *c;

    if (size > SIZE_MAX - sizeof(*c) - 64)
        return NULL;
    c = malloc(sizeof(*c) + size);
    if (c) {
        c->next = NULL;
        c->used = 0;
        c->size = size;
    }
    return c;
}

/* Large pieces get a chunk of their own, put behind the one being filled. */
static void *large(struct wire_arena *a, size_t size)
{
    struct chunk *c = size > SIZE_MAX - 64 ? NULL : chunk_new(size + 63);

    if (!c)
        return NULL;
    c->used = c->size;
    c->next = a->chunks->next;
    a->chunks->next = c;
    return c->bytes + (-(uintptr_t)c->bytes & 63);
}

void *wire_arena_get(struct wire_arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    struct chunk *c = a->chunks;
    void *p;

    if (size >= LARGE)
        return large(a, size);
    size = size ? (size + align - 1) / align * align : align;
    if (c->size - c->used < size) {
        c = chunk_new(CHUNK > size ? CHUNK : size);
        if (!c)
            return NULL;
        c->next = a->chunks;
        a->chunks = c;
    }
    p = c->bytes + c->used;
    c->used += size;
    return p;
}

void *wire_arena_zero(struct wire_arena *a, size_t size)
{
    void *p = wire_arena_get(a, size);

    return p ? memset(p, 0, size) : NULL;
}

char *wire_arena_text(struct wire_arena *a, const char *s, size_t len)
{
    char *p = len < SIZE_MAX ? wire_arena_get(a, len + 1) : NULL;

    if (!p)
        return NULL;
    if (len)
        memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

void *wire_arena_room(struct wire_arena *a, void *items, int n, size_t size)
{
    void *more;

    if (n >= FIRST_ROOM ? (n & (n - 1)) != 0 : n != 0)
        return items; /* room was doubled at 0 -> 4, 4 -> 8, 8 -> 16 ... */
    more = wire_arena_zero(a, (n ? 2 * (size_t)n : FIRST_ROOM) * size);
    if (more && n)
        memcpy(more, items, (size_t)n * size);
    return more;
}
