/* results_labels.c - answers with names: classes, values, and what may stand at a mask. */
#include "server/results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int top_k_of(const struct srv_native *n, const struct srv_answer *a)
{
    const struct wire_query *q = srv_native_query(n, a);
    int k = q ? q->top_k : n->request->default_top_k;
    return k < (int)a->width ? k : (int)a->width;
}

static const char *label_of(const struct srv_native *n, const struct srv_answer *a, int i)
{
    const char *label = pcv_task_label(n->model, a->task, i);
    return *label ? label : NULL;
}

/* The scores of the classes that were named, in their order. */
static void named(const struct srv_native *n, const struct srv_answer *a, int nclasses,
                  struct wire_label *labels)
{
    const float *x = srv_native_numbers(n, a);
    float most = x[0];
    double sum = 0;
    for (int64_t i = 1; i < a->width; i++)
        most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < a->width; i++)
        sum += exp((double)x[i] - most);
    for (int i = 0; i < nclasses; i++) {
        const int k = a->classes[i];
        labels[i] = (struct wire_label){.index = k,
                                        .label = label_of(n, a, k),
                                        .score = (float)(exp((double)x[k] - most) / sum)};
    }
}

int srv_native_classes(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                       struct pcv_err *e)
{
    const int k = a->classes ? srv_native_query(n, a)->nclasses : top_k_of(n, a);
    struct wire_label *labels = srv_native_new(n, (size_t)k, sizeof *labels);
    struct pcv_score *scores = srv_native_new(n, (size_t)k, sizeof *scores);
    if (!labels || !scores)
        return srv_native_no_memory(e);
    r->kind = WIRE_CLASSES;
    r->labels = labels;
    r->nlabels = k;
    if (a->classes) {
        named(n, a, k, labels);
        return 0;
    }
    r->nlabels = pcv_top_k(srv_native_numbers(n, a), (int)a->width, k, scores);
    for (int i = 0; i < r->nlabels; i++)
        labels[i] = (struct wire_label){.index = scores[i].index,
                                        .label = label_of(n, a, scores[i].index),
                                        .score = scores[i].score};
    return 0;
}

int srv_native_values(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                      struct pcv_err *e)
{
    struct wire_label *labels = srv_native_new(n, (size_t)a->width, sizeof *labels);
    if (!labels)
        return srv_native_no_memory(e);
    for (int i = 0; i < (int)a->width; i++)
        labels[i] = (struct wire_label){
            .index = i, .label = label_of(n, a, i), .score = srv_native_numbers(n, a)[i]};
    r->kind = WIRE_VALUES;
    r->labels = labels;
    r->nlabels = (int)a->width;
    return 0;
}

/* Tokens of the byte vocabulary that stand around a text. */
enum { CLS = 4, SEP = 5 };

/* ---- masks --------------------------------------------------------------------------------------
 */

/* A text, and the byte of it where each position begins. */
struct text {
    const char *data; /* NULL: unknown */
    size_t len;
    int64_t *offset; /* [positions] -1: nowhere. NULL: as the input says */
};

/* The text that was sent for an item. */
static bool sent_text(const struct wire_request *r, int item, struct text *ret)
{
    int n = 0;
    for (int i = 0; i < r->nmedia; i++)
        if (r->media[i].item == item && n++ == 0)
            *ret = (struct text){.data = r->media[i].data, .len = r->media[i].len};
    return n == 1;
}

/* Latents are kept without the text, but its tokens are its bytes. */
static int token_text(struct srv_native *n, const struct pcv_input *in, struct text *ret,
                      struct pcv_err *e)
{
    const int count = pcv_input_positions(in);
    *ret = (struct text){0};
    if (count < 2 || pcv_input_token(in, 0) != CLS || pcv_input_token(in, count - 1) != SEP)
        return 0; /* tokens of another making */
    char *data = srv_native_new(n, (size_t)count, 8);
    int64_t *offset = srv_native_new(n, (size_t)count, sizeof *offset);
    if (!data || !offset)
        return srv_native_no_memory(e);
    *ret = (struct text){.data = data, .offset = offset};
    offset[0] = offset[count - 1] = -1;
    for (int i = 1; i < count - 1; i++) {
        char token[8];
        int len = pcv_token_text(pcv_input_token(in, i), token);
        offset[i] = (int64_t)ret->len;
        memcpy(data + ret->len, token, (size_t)len);
        ret->len += (size_t)len;
    }
    return 0;
}

/* The text with the best candidate in the place of each [MASK]; NULL when a place is unknown. */
static char *fill_text(const struct text *text, const struct wire_fill *fills, int nfills,
                       size_t *len)
{
    static const size_t mask = sizeof "[MASK]" - 1;
    const char *from = text->data;
    size_t at = 0, n = 0;
    char *out = from ? malloc(text->len + (size_t)nfills * 8 + 1) : NULL;
    if (!out)
        return NULL;
    for (int i = 0; i < nfills; i++) {
        int64_t offset = fills[i].byte_offset;
        const char *best = fills[i].nlabels ? fills[i].labels[0].label : NULL;
        if (offset < (int64_t)at || (uint64_t)offset + mask > text->len || !best ||
            memcmp(from + offset, "[MASK]", mask)) {
            free(out);
            return NULL;
        }
        memcpy(out + n, from + at, (size_t)offset - at);
        n += (size_t)offset - at;
        size_t one = strlen(best);
        memcpy(out + n, best, one);
        n += one;
        at = (size_t)offset + mask;
    }
    memcpy(out + n, from + at, text->len - at);
    *len = n + text->len - at;
    out[*len] = 0;
    return out;
}

/* Characters of the text before a byte of it: bytes that begin one. */
static int64_t char_offset(const struct text *text, int64_t byte)
{
    int64_t n = 0;
    if (!text->data || byte < 0 || (uint64_t)byte > text->len)
        return -1;
    for (int64_t i = 0; i < byte; i++)
        n += (((const unsigned char *)text->data)[i] & 0xc0) != 0x80;
    return n;
}

/* What may stand at one position: labels [k], with room for their texts. */
static struct wire_fill fill(const struct srv_native *n, const struct srv_answer *a, int64_t row,
                             int k, struct pcv_score *scores, struct wire_label *labels,
                             char (*texts)[8])
{
    int found = pcv_top_k(srv_native_numbers(n, a) + row * a->width, (int)a->width, k, scores);
    for (int i = 0; i < found; i++) {
        pcv_token_text(scores[i].index, texts[i]);
        labels[i] = (struct wire_label){
            .index = scores[i].index, .label = texts[i], .score = scores[i].score};
    }
    return (struct wire_fill){.position = a->which ? a->which[row] : (int)row,
                              .byte_offset = -1,
                              .char_offset = -1,
                              .nlabels = found,
                              .labels = labels};
}

/* Where the positions are in the text, and the text with the best candidates. */
static int place(struct srv_native *n, const struct srv_answer *a, struct wire_fill *fills,
                 struct wire_result *r, struct pcv_err *e)
{
    const struct pcv_input *in = srv_job_input(n->job, a->item);
    struct text text = {0};
    if (!in || (!sent_text(n->request, a->item, &text) && token_text(n, in, &text, e)))
        return in ? e->code : 0;
    for (int i = 0; i < (int)a->rows; i++) {
        const int at = fills[i].position;
        fills[i].byte_offset = text.offset ? text.offset[at] : pcv_input_byte_offset(in, at);
        fills[i].char_offset = char_offset(&text, fills[i].byte_offset);
    }
    r->text = srv_native_own(n, fill_text(&text, fills, (int)a->rows, &r->text_len));
    return 0;
}

int srv_native_fills(struct srv_native *n, const struct srv_answer *a, struct wire_result *r,
                     struct pcv_err *e)
{
    const int k = top_k_of(n, a);
    const size_t rows = (size_t)a->rows;
    struct wire_fill *fills = srv_native_new(n, rows, sizeof *fills);
    struct wire_label *labels = srv_native_new(n, rows * (size_t)k, sizeof *labels);
    char(*texts)[8] = srv_native_new(n, rows * (size_t)k, sizeof *texts);
    struct pcv_score *scores = srv_native_new(n, (size_t)k, sizeof *scores);
    if (!fills || !labels || !texts || !scores)
        return srv_native_no_memory(e);
    for (size_t row = 0; row < rows; row++)
        fills[row] =
            fill(n, a, (int64_t)row, k, scores, labels + row * (size_t)k, texts + row * (size_t)k);
    r->kind = WIRE_FILLS;
    r->nfills = (int)rows;
    r->fills = fills;
    return place(n, a, fills, r, e);
}
