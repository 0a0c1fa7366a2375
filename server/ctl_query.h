/* ctl_query.h - questions to a model as options of the command line say them.
 *
 * --task NAME begins a question; what stands behind it belongs to it, up to the next. --top-k
 * before any task belongs to all. One thread. */
#ifndef CTL_QUERY_H
#define CTL_QUERY_H

#include "proto/wire.h"
#include "proto/wire_arena.h"
#include "server/ctl.h"

#include <stdint.h>

struct ctl_questions {
    struct wire_arena *arena; /* own */
    struct wire_query *queries;
    int n, top_k; /* 0: not said */
};

PCV_CHECK int ctl_questions_open(struct ctl_questions *q, struct pcv_err *e);
void ctl_questions_close(struct ctl_questions *q);

/* Into r, which borrows. */
void ctl_questions_into(const struct ctl_questions *q, struct wire_request *r);

ctl_take ctl_take_task, ctl_take_top_k, ctl_take_classes, ctl_take_positions, ctl_take_latents,
    ctl_take_region;        /* ctx: struct ctl_questions */
ctl_take ctl_take_duration; /* "90", "10m", "1.5h", "2d" into milliseconds; ctx: uint64_t */
ctl_take ctl_take_format;   /* ctx: enum wire_format */

#define CTL_QUESTION_OPTIONS(q)                                                                    \
    {.name = "task",                                                                               \
     .value = "TASK",                                                                              \
     .doc = "only this task of the model; again for others",                                       \
     .take = ctl_take_task,                                                                        \
     .ctx = (q)},                                                                                  \
        {.name = "top-k",                                                                          \
         .value = "N",                                                                             \
         .doc = "so many candidates, best first: of the task before it, or of all",                \
         .take = ctl_take_top_k,                                                                   \
         .ctx = (q)},                                                                              \
        {.name = "classes",                                                                        \
         .value = "A,B,..",                                                                        \
         .doc = "only these classes; \\, is a comma",                                              \
         .take = ctl_take_classes,                                                                 \
         .ctx = (q)},                                                                              \
        {.name = "positions",                                                                      \
         .value = "LIST",                                                                          \
         .doc = "only these rows of the output: 1,2,8-11",                                         \
         .take = ctl_take_positions,                                                               \
         .ctx = (q)},                                                                              \
        {.name = "latents",                                                                        \
         .value = "LIST",                                                                          \
         .doc = "of the task attention: what these latents look at",                               \
         .take = ctl_take_latents,                                                                 \
         .ctx = (q)},                                                                              \
    {                                                                                              \
        .name = "region", .value = "X,Y,W,H", .doc = "only this part of a picture",                \
        .take = ctl_take_region, .ctx = (q)                                                        \
    }

#endif
