/* ctl.h - perceiverctl's commands: each is a main() of its own.
 *
 * argv[0] is the command's name. Returns the exit code: 0, 1 for a failure that was told on stderr,
 * 2 for wrong usage. Commands of a file of their own: ctl_<name>.c. */
#ifndef CTL_H
#define CTL_H

#include "lib/perceiver.h"

int ctl_eval(int argc, char **argv);
int ctl_inspect(int argc, char **argv);

/* "perceiverctl: where: message" on stderr; returns 1. */
int ctl_fail(const struct pcv_err *e);

/* "usage: perceiverctl ..." on stderr; returns 2. */
int ctl_usage(const char *text);

#endif
