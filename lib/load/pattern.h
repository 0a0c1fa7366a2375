/* pattern.h - the small part of regular expressions that schemas of ours use: characters, '.',
 * classes "[a-z_]" and "[^...]", '*', '+' and '?' behind one of them, '^' in front and '$' at the
 * end. Bytes, whatever the locale; nothing is allocated (libc's regcomp loses memory when it is
 * refused some). Any thread. */
#ifndef PCV_LOAD_PATTERN_H
#define PCV_LOAD_PATTERN_H

#include <stdbool.h>

/* Whether it is such a pattern. */
bool pcv_pattern_known(const char *pattern);

/* Whether a part of text matches a known pattern. Recursion is as deep as the pattern is long. */
bool pcv_pattern_match(const char *pattern, const char *text);

#endif
