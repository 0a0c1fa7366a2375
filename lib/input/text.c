#include "lib/input/text.h"

#include "lib/input/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const special[PCV_TOKEN_BYTES] = {
    [PCV_TOKEN_PAD] = "[PAD]",   [PCV_TOKEN_BOS] = "[BOS]", [PCV_TOKEN_EOS] = "[EOS]",
    [PCV_TOKEN_MASK] = "[MASK]", [PCV_TOKEN_CLS] = "[CLS]", [PCV_TOKEN_SEP] = "[SEP]",
};

/* The token at text[0] and how many bytes it takes. */
static int next_token(const char *text, size_t len, size_t *taken)
{
    if (text[0] == '[') {
        for (int i = 0; i < PCV_TOKEN_BYTES; i++) {
            const size_t n = strlen(special[i]);

            if (n <= len && memcmp(text, special[i], n) == 0) {
                *taken = n;
                return i;
            }
        }
    }
    *taken = 1;
    return (unsigned char)text[0] + PCV_TOKEN_BYTES;
}

size_t pcv_text_positions(const char *text, size_t len)
{
    size_t n = 2, taken;

    for (size_t i = 0; i < len; i += taken, n++)
        next_token(text + i, len - i, &taken);
    return n;
}

void pcv_text_tokenize(const char *text, size_t len, int64_t *ids, int64_t *offsets)
{
    size_t n = 0, taken;

    ids[n] = PCV_TOKEN_CLS;
    offsets[n++] = -1;
    for (size_t i = 0; i < len; i += taken) {
        ids[n] = next_token(text + i, len - i, &taken);
        offsets[n++] = (int64_t)i;
    }
    ids[n] = PCV_TOKEN_SEP;
    offsets[n] = -1;
}

int pcv_token_text(int token, char buf[8])
{
    if (token >= 0 && token < PCV_TOKEN_BYTES)
        return snprintf(buf, 8, "%s", special[token]);
    buf[0] = token >= PCV_TOKEN_BYTES && token < PCV_TOKEN_COUNT
                 ? (char)(unsigned char)(token - PCV_TOKEN_BYTES)
                 : '\0';
    buf[1] = '\0';
    return token >= PCV_TOKEN_BYTES && token < PCV_TOKEN_COUNT;
}

int pcv_text_from_utf8(struct pcv_input *in, const struct pcv_adapter *a, const char *text,
                       size_t len, struct pcv_err *e)
{
    const size_t n = pcv_text_positions(text, len);
    int64_t *ids;
    int r;

    if (a->text.ids_only || a->text.vocab != PCV_TOKEN_COUNT)
        return pcv_fail(e, PCV_EUNSUPPORTED,
                        "the model's vocabulary has %d tokens: send token ids, not text",
                        a->text.vocab);
    if (n > (size_t)a->text.max_positions)
        return pcv_fail(e, PCV_ELIMIT,
                        "the text takes %zu positions with [CLS] and [SEP], the model has %d", n,
                        a->text.max_positions);
    ids = calloc(n, sizeof(*ids));
    in->offsets = pcv_input_take(in, n, sizeof(*in->offsets));
    if (!ids || !in->offsets) {
        free(ids);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu positions", n);
    }
    pcv_text_tokenize(text, len, ids, in->offsets);
    r = pcv_text_from_ids(in, a, ids, NULL, (int)n, e);
    free(ids);
    return r;
}

/* Ids and positions of the tokens that are kept, packed. Where only the end is left out, what stays
 * is as if it had never been there. */
static int pack_kept(struct pcv_input *in, const uint8_t *keep, int n, int32_t **ids,
                     int32_t **positions, struct pcv_err *e)
{
    int kept = 0, end = 0; /* after the last one kept */

    *ids = in->ids;
    *positions = NULL;
    for (int i = 0; i < n; i++)
        if (!keep || keep[i]) {
            kept++;
            end = i + 1;
        }
    if (kept == 0)
        return pcv_fail(e, PCV_ERANGE, "no token is kept");
    if (kept == end)
        return kept;
    *ids = pcv_input_take(in, (size_t)kept, sizeof(**ids));
    *positions = pcv_input_take(in, (size_t)kept, sizeof(**positions));
    if (!*ids || !*positions)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d positions", kept);
    for (int i = 0, at = 0; i < n; i++) {
        if (!keep[i])
            continue;
        (*ids)[at] = in->ids[i];
        (*positions)[at++] = i;
    }
    return kept;
}

/* n tokens: byte embedding plus position; positions NULL: 0, 1, ... */
static void append(struct pcv_tokens *t, const struct pcv_adapter *a, const int32_t *ids,
                   const int32_t *positions, int n)
{
    struct pcv_segment *s = pcv_input_segment(t, a->channels, n);

    s->ngroups = 2;
    s->overlap = true;
    s->group[0] = (struct pcv_group){
        .kind = PCV_GROUP_TABLE,
        .n = a->channels,
        .nranges = 1,
        .range = {{0, a->channels}},
        .table = a->text.bytes,
        .rows = a->text.vocab,
        .div = 1,
        .ids = ids,
        .constant = 0,
    };
    s->group[1] = s->group[0];
    s->group[1].table = a->text.positions;
    s->group[1].rows = a->text.max_positions;
    s->group[1].ids = positions;
    s->group[1].constant = 1;
}

int pcv_text_from_ids(struct pcv_input *in, const struct pcv_adapter *a, const int64_t *ids,
                      const uint8_t *keep, int n, struct pcv_err *e)
{
    int32_t *kept_ids, *kept_positions;
    int kept;

    if (n < 1 || n > a->text.max_positions)
        return pcv_fail(e, PCV_ELIMIT, "%d positions, the model has 1 to %d", n,
                        a->text.max_positions);
    in->ids = pcv_input_take(in, (size_t)n, sizeof(*in->ids));
    if (!in->ids)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d positions", n);
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= a->text.vocab)
            return pcv_fail(e, PCV_ERANGE, "token %lld at position %d is outside 0..%d",
                            (long long)ids[i], i, a->text.vocab - 1);
        in->ids[i] = (int32_t)ids[i];
    }
    kept = pack_kept(in, keep, n, &kept_ids, &kept_positions, e);
    if (kept < 0)
        return kept;
    in->positions = n;
    in->nsides = 0;
    append(&in->tokens, a, kept_ids, kept_positions, kept);
    if (a->text.queried && kept < n)
        append(&in->queries, a, in->ids, NULL, n);
    return 0;
}
