/* wire_utf8.h - is it UTF-8? Strict: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef WIRE_UTF8_H
#define WIRE_UTF8_H

#include <stddef.h>

/* Length of the well-formed sequence at s (1..4), or 0 when there is none. len >= 1. */
int wire_utf8_sequence(const char *s, size_t len);

/* Bytes from the start that are well formed: len when all of them are. */
size_t wire_utf8_valid(const char *s, size_t len);

#endif
