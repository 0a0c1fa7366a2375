/* wire_arena.h - memory of one request: many small pieces, freed together.
 *
 * One writer at a time. Pieces stay where they are until the arena is freed. */
#ifndef WIRE_ARENA_H
#define WIRE_ARENA_H

#include <stddef.h>

struct wire_arena;

/* own: wire_arena_free. NULL without memory. */
struct wire_arena *wire_arena_new(void);
void wire_arena_free(struct wire_arena *a); /* NULL is fine */

/* size bytes, not cleared, aligned for any number (64 when size >= 4096); never NULL for size 0.
 * NULL without memory. borrow: until the arena is freed. */
void *wire_arena_get(struct wire_arena *a, size_t size);

/* The same, cleared. */
void *wire_arena_zero(struct wire_arena *a, size_t size);

/* A copy of s with a NUL behind it. */
char *wire_arena_text(struct wire_arena *a, const char *s, size_t len);

/* Room for item n (counted from 0) of a growing array of `size`-byte items: returns the array,
 * moved when it had to grow. items may be NULL when n is 0. New room is cleared. NULL without
 * memory. */
void *wire_arena_room(struct wire_arena *a, void *items, int n, size_t size);

#endif
