/* ctl.h - perceiverctl's commands, and how they are called.
 *
 * Each command is a main() of its own, in ctl_<name>.c: argv[0] is its name. It returns the exit
 * code: 0, 1 for a failure that was told on stderr, 2 for wrong usage. One thread. */
#ifndef CTL_H
#define CTL_H

#include "lib/perceiver.h"

#include <stdbool.h>

int ctl_ask(int argc, char **argv);
int ctl_bench(int argc, char **argv);
int ctl_eval(int argc, char **argv);
int ctl_import(int argc, char **argv);
int ctl_inspect(int argc, char **argv);
int ctl_latents(int argc, char **argv);
int ctl_models(int argc, char **argv);
int ctl_perceive(int argc, char **argv);
int ctl_status(int argc, char **argv);

/* "perceiverctl: where: message" on stderr; returns 1. */
int ctl_fail(const struct pcv_err *e);

/* Sets what an option says, at each of its places, in order. Returns NULL, or what is wrong with
 * the value, maybe written to message. */
typedef const char *ctl_take(void *ctx, const char *value, char message[96]);

/* An option, --name or --name VALUE or --name=VALUE; which pointer is set says what it takes. */
struct ctl_option {
    const char *name;  /* NULL ends a table */
    const char *value; /* what --help calls it; NULL: a flag */
    const char *doc;
    bool *flag;
    int *number;  /* min..max */
    double *real; /* min..max */
    const char **text;
    double min, max;
    ctl_take *take;
    void *ctx;
    char letter; /* -o VALUE is --output VALUE; 0: none */
};

struct ctl_usage {
    const char *operands; /* "MODEL FILE" */
    int min, max;         /* how many */
    const char *about;    /* one paragraph for --help */
    const struct ctl_option *options;
};

/* Sets what the options point to, and moves the operands to argv[1..n]; returns n. Negative when
 * the command has nothing more to do, having printed its help or an error: ~r is then the exit
 * code. */
int ctl_parse(const struct ctl_usage *u, int argc, char **argv);

/* Says what is wrong with argv (of subject, unless NULL) and how to use it; returns as ctl_parse.
 */
int ctl_wrong(const struct ctl_usage *u, char **argv, const char *what, const char *subject);

#endif
