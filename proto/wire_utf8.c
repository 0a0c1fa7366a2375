#include "proto/wire_utf8.h"

#include <stdint.h>
#include <string.h>

int wire_utf8_sequence(const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
    int n;

    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 0;
    n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if ((size_t)n > len)
        return 0;
    switch (u[0]) {
    case 0xe0: low = 0xa0; break;  /* overlong */
    case 0xed: high = 0x9f; break; /* surrogates */
    case 0xf0: low = 0x90; break;  /* overlong */
    case 0xf4: high = 0x8f; break; /* above U+10FFFF */
    }
    if (u[1] < low || u[1] > high)
        return 0;
    for (int i = 2; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

size_t wire_utf8_valid(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint64_t eight;
        int n;

        if (len - i >= 8) { /* mostly it is ASCII */
            memcpy(&eight, s + i, 8);
            if (!(eight & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        n = wire_utf8_sequence(s + i, len - i);
        if (!n)
            return i;
        i += (size_t)n;
    }
    return len;
}
