#include "lib/input/input.h"

#include "lib/attention/encode.h"
#include "lib/attention/token_stats.h"
#include "lib/base/mem.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct pcv_input *pcv_input_new(void)
{
    struct pcv_input *in = malloc(sizeof(*in));

    if (!in)
        return NULL;
    memset(in, 0, offsetof(struct pcv_input, tokens));
    in->tokens.channels = in->queries.channels = 0;
    in->tokens.nsegments = in->queries.nsegments = 0;
    return in;
}

void *pcv_input_take(struct pcv_input *in, size_t count, size_t size)
{
    void *p;

    if (in->nowned == PCV_INPUT_ARRAYS)
        return NULL;
    p = pcv_alloc(count, size);
    if (p) {
        in->owned_bytes += count * size;
        in->size[in->nowned] = count * size;
        in->owned[in->nowned++] = p;
    }
    return p;
}

void pcv_input_drop(struct pcv_input *in, void *p)
{
    for (int i = 0; i < in->nowned; i++)
        if (in->owned[i] == p) {
            pcv_free(p);
            in->owned_bytes -= in->size[i];
            in->owned[i] = in->owned[--in->nowned];
            in->size[i] = in->size[in->nowned];
            return;
        }
}

struct pcv_segment *pcv_input_segment(struct pcv_tokens *t, int channels, int64_t tokens)
{
    struct pcv_segment *s = &t->segment[t->nsegments++];

    t->channels = channels;
    *s = (struct pcv_segment){.tokens = tokens};
    return s;
}

int pcv_input_finish(struct pcv_input *in, struct pcv_tokens *t, const struct pcv_kernels *k,
                     float eps, struct pcv_err *e)
{
    for (int i = 0; i < t->nsegments; i++) {
        struct pcv_segment *s = &t->segment[i];
        const size_t tokens = pcv_pad_floats((size_t)s->tokens);
        float *mean = pcv_input_take(in, 2 * tokens, sizeof(float));
        void *work = pcv_alloc(pcv_segment_stats_need(s, t->channels), 1);

        if (!mean || !work) {
            pcv_free(work);
            return pcv_fail(e, PCV_ENOMEM, "no memory for %lld tokens", (long long)s->tokens);
        }
        pcv_segment_stats(k, s, t->channels, eps, mean, mean + tokens, work);
        s->mean = mean;
        s->r = mean + tokens;
        pcv_free(work);
    }
    return 0;
}

void pcv_input_free(struct pcv_input *in)
{
    if (!in)
        return;
    for (int i = 0; i < in->nowned; i++)
        pcv_free(in->owned[i]);
    free(in);
}

int pcv_input_which(const struct pcv_input *in)
{
    return in->which;
}

size_t pcv_input_bytes(const struct pcv_input *in)
{
    return sizeof(*in) + in->owned_bytes;
}

int pcv_input_sides(const struct pcv_input *in, int *sides)
{
    for (int i = 0; i < in->nsides; i++)
        sides[i] = in->sides[i];
    if (in->nsides == 0)
        sides[0] = (int)pcv_tokens_count(&in->tokens);
    return in->nsides ? in->nsides : 1;
}

int64_t pcv_input_tokens(const struct pcv_input *in)
{
    return pcv_tokens_count(&in->tokens);
}

int64_t pcv_input_channels(const struct pcv_input *in)
{
    return in->tokens.channels;
}

int pcv_input_dense(const struct pcv_input *in, float *out, struct pcv_err *e)
{
    float *scratch = pcv_alloc((size_t)in->tokens.channels, sizeof(float));

    if (!scratch)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a token");
    pcv_tokens_rows(&in->tokens, 0, pcv_tokens_count(&in->tokens), out, scratch);
    pcv_free(scratch);
    return 0;
}

int pcv_adapter_table_rows(const struct pcv_adapter *a)
{
    const struct pcv_grid_adapter *g = &a->grid;
    int rows = 0;

    if (a->kind == PCV_INPUT_TEXT)
        return a->text.vocab + a->text.max_positions;
    if (a->kind == PCV_INPUT_LABEL || g->position == PCV_POSITION_NONE)
        return 0;
    if (g->position == PCV_POSITION_LEARNED || g->axes == 1)
        return PCV_ENCODE_TABLE; /* with more rows it goes through products instead */
    for (int i = 0; i < g->axes; i++)
        rows += g->fixed ? g->size[i] : PCV_MAX_AXIS;
    return rows;
}

int64_t pcv_adapter_tokens(const struct pcv_adapter *a)
{
    int64_t n = 1;

    if (a->kind == PCV_INPUT_TEXT)
        return a->text.max_positions;
    for (int i = 0; a->kind != PCV_INPUT_LABEL && i < a->grid.axes; i++)
        n *= a->grid.size[i];
    return n;
}

int pcv_input_positions(const struct pcv_input *in)
{
    return in->positions;
}

int64_t pcv_input_byte_offset(const struct pcv_input *in, int position)
{
    return in->offsets && position >= 0 && position < in->positions ? in->offsets[position] : -1;
}

int pcv_input_token(const struct pcv_input *in, int position)
{
    return position >= 0 && position < in->positions ? in->ids[position] : -1;
}
