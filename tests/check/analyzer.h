/* analyzer.h - what clang-tidy must know of functions that it cannot see into.
 *
 * It looks at one file at a time, and would otherwise believe that a function which reports an
 * error may return 0. tidy.py includes this before each file, with LAYER_name of its top folder and
 * DEFINES_name of what the file itself defines; no build does. */
#ifndef CHECK_ANALYZER_H
#define CHECK_ANALYZER_H

#include "lib/base/err.h"

#ifndef DEFINES_pcv_fail
#define pcv_fail(e, code, ...) (pcv_fail(e, code, __VA_ARGS__), (code))
#endif
#ifndef DEFINES_pcv_err_at
#define pcv_err_at(e, ...) (pcv_err_at(e, __VA_ARGS__), PCV_EFORMAT)
#endif

#ifdef LAYER_lib
#include "lib/base/bump.h"
#include "lib/load/pickle_internal.h"

#ifndef DEFINES_pcv_pickle_fail_at
#define pcv_pickle_fail_at(e, code, ...) (pcv_pickle_fail_at(e, code, __VA_ARGS__), (code))
#endif
/* Scratch that was only counted is never used. */
#define pcv_take(b, n)                                                                             \
    __extension__({                                                                                \
        float *taken_ = pcv_take(b, n);                                                            \
        if (!taken_)                                                                               \
            __builtin_unreachable();                                                               \
        taken_;                                                                                    \
    })
#endif

#ifdef LAYER_proto
#include "proto/wire_decode.h"
#include "proto/wire_reader.h"

#ifndef DEFINES_wire_fail
#define wire_fail(e, code, ...) (wire_fail(e, code, __VA_ARGS__), (code))
#endif
#ifndef DEFINES_wire_read_fail
#define wire_read_fail(rd, code, ...) (wire_read_fail(rd, code, __VA_ARGS__), (code))
#endif
#ifndef DEFINES_wire_read_syntax
#define wire_read_syntax(rd, what) (wire_read_syntax(rd, what), PCV_EFORMAT)
#endif
#endif

#endif
