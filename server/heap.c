#include "server/heap.h"

#include <stdlib.h>

static void put(struct srv_heap *h, int i, struct srv_heap_node *node)
{
    h->nodes[i] = node;
    node->place = i + 1;
}

static void up(struct srv_heap *h, int i)
{
    struct srv_heap_node *node = h->nodes[i];
    while (i > 0 && h->before(node, h->nodes[(i - 1) / 2])) {
        put(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(h, i, node);
}

static void down(struct srv_heap *h, int i)
{
    struct srv_heap_node *node = h->nodes[i];
    for (int child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->before(h->nodes[child + 1], h->nodes[child]))
            child++;
        if (!h->before(h->nodes[child], node))
            break;
        put(h, i, h->nodes[child]);
    }
    put(h, i, node);
}

bool srv_heap_push(struct srv_heap *h, struct srv_heap_node *node)
{
    if (h->n == h->room) {
        int room = h->room ? 2 * h->room : 64;
        struct srv_heap_node **nodes = realloc(h->nodes, (size_t)room * sizeof *nodes);
        if (!nodes)
            return false;
        h->nodes = nodes;
        h->room = room;
    }
    put(h, h->n++, node);
    up(h, h->n - 1);
    return true;
}

struct srv_heap_node *srv_heap_first(const struct srv_heap *h)
{
    return h->n ? h->nodes[0] : NULL;
}

void srv_heap_remove(struct srv_heap *h, struct srv_heap_node *node)
{
    int i = node->place - 1;
    if (i < 0)
        return;
    node->place = 0;
    struct srv_heap_node *last = h->nodes[--h->n];
    if (last == node)
        return;
    put(h, i, last);
    down(h, i);
    up(h, last->place - 1);
}

void srv_heap_clear(struct srv_heap *h)
{
    free(h->nodes);
    h->nodes = NULL;
    h->n = h->room = 0;
}
