/* wire_test.h - what the tests of proto/ share. */
#ifndef WIRE_TEST_H
#define WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/err.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

/* The call failed with this code, at this place, and its message has these words. */
#define assert_fails(r, err, want_code, want_where, want_words)                                    \
    do {                                                                                           \
        int r_ = (r);                                                                              \
                                                                                                   \
        if (r_ != (want_code) || (err).code != (want_code) ||                                      \
            strcmp((err).where, (want_where)) != 0 || !strstr((err).msg, (want_words)))            \
            fail_msg("got %d (%s) at \"%s\": %s; want %s at \"%s\": %s", r_,                       \
                     pcv_code_name((err).code), (err).where, (err).msg, pcv_code_name(want_code),  \
                     (want_where), (want_words));                                                  \
    } while (0)

/* The call went well. */
#define assert_ok(r, err)                                                                          \
    do {                                                                                           \
        int r_ = (r);                                                                              \
                                                                                                   \
        if (r_ != 0)                                                                               \
            fail_msg("failed with %d at \"%s\": %s", r_, (err).where, (err).msg);                  \
    } while (0)

#define LEN(a) (sizeof(a) / sizeof(*(a)))

#endif
