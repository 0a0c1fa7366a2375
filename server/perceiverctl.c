/* perceiverctl.c - the command line beside the daemon. */
#include "server/ctl.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} commands[] = {
    {"inspect", ctl_inspect, "MODEL_DIR                     what a model is, and what it costs"},
    {"eval", ctl_eval, "MODEL_DIR IN OUT [options]    one forward offline, tensors in files"},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

int ctl_fail(const struct pcv_err *e)
{
    fprintf(stderr, "perceiverctl: %s%s%s\n", e->where, e->where[0] ? ": " : "", e->msg);
    return 1;
}

int ctl_usage(const char *text)
{
    fprintf(stderr, "usage: perceiverctl %s\n", text);
    return 2;
}

static void help(FILE *to)
{
    fprintf(to, "usage: perceiverctl COMMAND ...\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].usage);
    fprintf(to, "\n  --version\n  --help\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("perceiverctl %s, %s kernels\n", pcv_version(), pcv_isa());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0) {
        help(stdout);
        return 0;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "perceiverctl: no command \"%s\"\n", argv[1]);
    help(stderr);
    return 2;
}
