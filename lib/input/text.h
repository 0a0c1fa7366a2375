/* text.h - the byte vocabulary: UTF-8 bytes and six special tokens (arXiv 2107.14795, 4.1; Hugging
 * Face's PerceiverTokenizer). Any thread. */
#ifndef PCV_INPUT_TEXT_H
#define PCV_INPUT_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum {
    PCV_TOKEN_PAD,
    PCV_TOKEN_BOS,
    PCV_TOKEN_EOS,
    PCV_TOKEN_MASK,
    PCV_TOKEN_CLS,
    PCV_TOKEN_SEP,
    PCV_TOKEN_BYTES, /* token of byte b is b + PCV_TOKEN_BYTES */
    PCV_TOKEN_COUNT = PCV_TOKEN_BYTES + 256,
};

/* Positions of [CLS] text [SEP]; special tokens written out in the text ("[MASK]") count as one. */
size_t pcv_text_positions(const char *text, size_t len);

/* Fills ids and byte offsets (-1 for the added [CLS] and [SEP]), both [pcv_text_positions]. */
void pcv_text_tokenize(const char *text, size_t len, int64_t *ids, int64_t *offsets);

#endif
