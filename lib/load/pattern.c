#include "lib/load/pattern.h"

#include <string.h>

/* Behind one element: a character, or a class up to its bracket. NULL when it does not end. */
static const char *element_end(const char *p)
{
    if (*p != '[')
        return p + 1;
    p += p[1] == '^' ? 2 : 1;
    p = *p ? strchr(p + 1, ']') : NULL; /* a bracket in front stands for itself */
    return p ? p + 1 : NULL;
}

static bool in_class(const char *from, const char *end, unsigned char c)
{
    const bool not = *from == '^';
    bool found = false;

    for (from += not ; from < end; from++) {
        if (from + 2 < end && from[1] == '-') {
            found |= c >= (unsigned char)from[0] && c <= (unsigned char)from[2];
            from += 2;
        } else {
            found |= c == (unsigned char)*from;
        }
    }
    return found != not ;
}

static bool matches_one(const char *p, const char *end, unsigned char c)
{
    if (c == '\0')
        return false;
    if (*p == '[')
        return in_class(p + 1, end - 1, c);
    return *p == '.' || (unsigned char)*p == c;
}

/* The rest of a pattern against the beginning of a text. */
static bool matches_here(const char *p, const char *text)
{
    while (*p) {
        const char *end = element_end(p), *t = text;
        const bool repeats = *end == '*' || *end == '+';

        if (*p == '$' && p[1] == '\0')
            return *text == '\0';
        if (!repeats && *end != '?') {
            if (!matches_one(p, end, (unsigned char)*text))
                return false;
            p = end;
            text++;
            continue;
        }
        while (matches_one(p, end, (unsigned char)*t) && (repeats || t == text))
            t++;
        for (; t >= text + (*end == '+'); t--) /* as much as can be first */
            if (matches_here(end + 1, t))
                return true;
        return false;
    }
    return true;
}

bool pcv_pattern_match(const char *pattern, const char *text)
{
    if (*pattern == '^')
        return matches_here(pattern + 1, text);
    do {
        if (matches_here(pattern, text))
            return true;
    } while (*text++);
    return false;
}

bool pcv_pattern_known(const char *pattern)
{
    for (const char *p = pattern + (*pattern == '^'); *p;) {
        if (strchr("*+?(){}|\\^", *p) || (*p == '$' && p[1]))
            return false;
        p = element_end(p);
        if (!p)
            return false;
        if (*p && strchr("*+?", *p))
            p++;
    }
    return true;
}
