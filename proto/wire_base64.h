/* wire_base64.h - base64 as RFC 4648 section 4 has it, and nothing else. */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include "lib/base/err.h"

#include <stddef.h>

/* Bytes that len characters decode to at most. */
size_t wire_base64_room(size_t len);

/* Decodes len characters into out (wire_base64_room bytes, apart from in) and sets *n. Padding is
 * required, its unused bits are zero, nothing may stand between the characters; the URL-safe
 * alphabet and data: URLs are refused by name. PCV_EFORMAT with the character's index. */
PCV_CHECK int wire_base64_decode(const char *in, size_t len, void *out, size_t *n,
                                 struct pcv_err *e);

/* Characters that len bytes encode to, and the encoding itself at out (no NUL). */
size_t wire_base64_length(size_t len);
void wire_base64_encode(const void *in, size_t len, char *out);

#endif
