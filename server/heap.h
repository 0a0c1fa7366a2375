/* heap.h - a binary heap of nodes that live inside other structs, first one first.
 *
 * A node knows its place, so that any can be removed. Nodes are borrowed while they are in. One
 * thread. */
#ifndef SRV_HEAP_H
#define SRV_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct srv_heap_node {
    int place; /* from 1; 0 = in no heap */
};

struct srv_heap {
    struct srv_heap_node **nodes; /* [n], in heap order */
    int n, room;
    bool (*before)(const struct srv_heap_node *a, const struct srv_heap_node *b);
};

/* The struct that holds the node. */
#define SRV_HOLDER(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

/* False without memory. */
bool srv_heap_push(struct srv_heap *h, struct srv_heap_node *node);
struct srv_heap_node *srv_heap_first(const struct srv_heap *h);       /* NULL when empty */
void srv_heap_remove(struct srv_heap *h, struct srv_heap_node *node); /* in none is fine */
void srv_heap_clear(struct srv_heap *h); /* frees the array; nodes are forgotten */

#endif
