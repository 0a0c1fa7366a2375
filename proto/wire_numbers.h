/* wire_numbers.h - numbers of JSON, and whole arrays of them, at the speed of the text.
 *
 * Tensors in JSON are long: nothing is allocated for a number, and it is converted once, straight
 * into the tensor. Conversions to double are correctly rounded, as strtod's are; FP32 is that
 * double rounded once more, which is what a client gets that parses the same text with Python.
 * The process's locale plays no part. */
#ifndef WIRE_NUMBERS_H
#define WIRE_NUMBERS_H

#include "proto/wire_reader.h"

/* A number taken apart: (-)mantissa x 10^exp10. */
struct wire_number {
    const char *begin, *end; /* where it stands */
    uint64_t mantissa;       /* as many of its digits as fit */
    int exp10;               /* clipped to +-100000 */
    bool negative;
    bool whole;   /* written without fraction and exponent */
    bool dropped; /* it has more digits, and not only zeros */
};

/* Reads one number at p; false when there is none as JSON writes them. */
bool wire_number_lex(const char *p, const char *end, struct wire_number *n);

/* Its value, correctly rounded; infinite when too large. */
double wire_number_f64(const struct wire_number *n);

/* Its value as an integer; false when it is not whole or does not fit. */
bool wire_number_i64(const struct wire_number *n, int64_t *v);
bool wire_number_u64(const struct wire_number *n, uint64_t *v);

/* Reads the array that comes next, flat or nested, into out: room for `room` elements of t
 * (aligned). *n is how many there are, also those beyond room, which are not stored. Nested rows
 * must be equally long. true and false are numbers of BOOL only. PCV_ERANGE when a value does not
 * fit t (never wraps; FP32 overflow too, underflow is 0), PCV_EFORMAT for anything but numbers and
 * for F16 and BF16, PCV_ESHAPE for ragged rows. */
PCV_CHECK int wire_read_numbers(struct wire_reader *rd, enum pcv_dtype t, void *out, int64_t room,
                                int64_t *n);

#endif
