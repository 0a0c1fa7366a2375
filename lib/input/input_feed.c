/* input_feed.c - an input as bytes: what its answers depend on, and nothing that the model has
 * anyway.
 *
 * A table that is the model's is named by the number of rows that are read of it; one that was made
 * for this input (rows chosen by a mask, positions of a free size) is fed as it is. */
#include "lib/input/input.h"

struct feed {
    const struct pcv_input *in;
    void (*to)(void *ctx, const void *data, size_t len);
    void *ctx;
};

static void number(const struct feed *f, int64_t n)
{
    f->to(f->ctx, &n, sizeof(n));
}

static bool is_own(const struct pcv_input *in, const void *p)
{
    for (int i = 0; i < in->nowned; i++)
        if (in->owned[i] == p)
            return true;
    return false;
}

static void group(const struct feed *f, const struct pcv_group *g, int64_t tokens)
{
    number(f, g->kind);
    number(f, g->rows);
    number(f, g->div);
    number(f, g->ids != NULL);
    if (g->ids)
        f->to(f->ctx, g->ids, (size_t)tokens * sizeof(*g->ids));
    if (g->content.at)
        f->to(f->ctx, g->content.at, (size_t)g->raw * (size_t)tokens * sizeof(*g->content.at));
    if (g->table && is_own(f->in, g->table))
        f->to(f->ctx, g->table, (size_t)g->rows * (size_t)g->n * sizeof(*g->table));
}

static void array(const struct feed *f, const struct pcv_tokens *t)
{
    number(f, t->nsegments);
    for (int i = 0; i < t->nsegments; i++) {
        const struct pcv_segment *s = &t->segment[i];

        number(f, s->tokens);
        number(f, s->ngroups);
        for (int j = 0; j < s->ngroups; j++)
            group(f, &s->group[j], s->tokens);
    }
}

void pcv_input_feed(const struct pcv_input *in,
                    void (*feed)(void *ctx, const void *data, size_t len), void *ctx)
{
    const struct feed f = {in, feed, ctx};

    number(&f, in->which);
    number(&f, in->nsides);
    for (int i = 0; i < in->nsides; i++)
        number(&f, in->sides[i]);
    number(&f, in->positions);
    if (in->positions)
        feed(ctx, in->ids, (size_t)in->positions * sizeof(*in->ids));
    array(&f, &in->tokens);
    array(&f, &in->queries);
}
