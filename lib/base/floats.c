#include "lib/base/floats.h"

#include <string.h>

/* Infinities and NaN are the numbers whose exponent is all ones: the only ones where one more
 * carries into the sign. */
static uint32_t carry(const float *x, int n)
{
    uint32_t bits, sum = 0;

    for (int i = 0; i < n; i++) {
        memcpy(&bits, &x[i], sizeof(bits));
        sum |= (bits & 0x7f800000) + 0x00800000;
    }
    return sum >> 31;
}

int64_t pcv_first_not_finite(const float *x, int64_t n)
{
    int64_t i = 0;

    while (i + 64 <= n && !carry(x + i, 64)) /* a length that compilers know: vectors */
        i += 64;
    while (i < n && !carry(x + i, 1))
        i++;
    return i;
}
