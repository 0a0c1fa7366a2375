/* ctl_bench.h - what the files of perceiverctl bench share: one run, its inputs and its counts. */
#ifndef CTL_BENCH_H
#define CTL_BENCH_H

#include "proto/wire.h"
#include "proto/wire_arena.h"
#include "server/ctl_http.h"
#include "server/ctl_latency.h"

enum { CTL_BENCH_CODES = 1000, CTL_BENCH_RANDOM = 16, CTL_BENCH_NAMES = 64 };

/* What an option said that may be said again. */
struct ctl_names {
    const char *name[CTL_BENCH_NAMES];
    int n;
};

struct ctl_bench_options {
    struct ctl_server server;
    int clients;
    double seconds;
    int requests; /* 0: for so many seconds */
    int tokens;   /* 0: mixed */
    struct ctl_names inputs, tasks, handles;
    double tolerance; /* of check: 0 is bit for bit */
    bool binary, check, json, no_cache;
};

/* A request, ready to be sent, and what was first answered to it. */
struct ctl_sample {
    struct ctl_call call; /* type is borrowed, the path too unless own */
    char *path;           /* own; NULL: the path of all */
    char *body;           /* own */
    char *answer;         /* own; NULL: none yet. Native with a tolerance: the reply; else what
                             wire_client_answer finds in it */
    size_t json_len, answer_len;
};

struct ctl_bench {
    struct ctl_bench_options options;
    struct ctl_http *http;    /* own */
    struct wire_arena *arena; /* own: the model's description */
    struct wire_model_desc model;
    char *path;                 /* own: where requests go */
    char what[256];             /* the inputs, in words */
    struct ctl_sample *samples; /* own */
    int nsamples;
    int *sample_of; /* own: by client, what it has under way */
    bool progress;  /* shown on stderr */

    uint64_t start_ns, end_ns, sent;
    uint64_t count[CTL_BENCH_CODES];  /* replies by status */
    uint64_t silent, silent_in_a_row; /* requests without reply */
    char reason[128];                 /* of the first */
    uint64_t different;               /* replies that check refused */
    struct ctl_latency latency;       /* of replies 200 */
    double batches, items, cpu_s;
};

/* ctl_bench_check.c: compares what is answered with what was answered first, and counts. */
PCV_CHECK int ctl_bench_check(struct ctl_bench *b, struct ctl_sample *s,
                              const struct ctl_reply *reply, struct pcv_err *e);

/* Whether two native replies answer the same, numbers to within tolerance x max(1, |number|). The
 * order of labels counts only where their scores differ by more. */
bool ctl_bench_near(const struct wire_reply *a, const struct wire_reply *b, double tolerance);

/* ctl_bench_prepare.c: describes the model (NULL: the only one), makes the samples, and sends one
 * of them to see that it is answered. */
PCV_CHECK int ctl_bench_prepare(struct ctl_bench *b, const char *model, struct pcv_err *e);

#endif
