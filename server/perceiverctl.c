/* perceiverctl.c - the command line beside the daemon. */
#include "server/ctl.h"
#include "server/ctl_text.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"models", ctl_models, "what a daemon serves"},
    {"status", ctl_status, "what a daemon is and has done"},
    {"perceive", ctl_perceive, "ask a model about files and texts"},
    {"ask", ctl_ask, "ask about latents that were kept"},
    {"latents", ctl_latents, "what is kept under a handle; export or delete it"},
    {"import", ctl_import, "keep latents from a file"},
    {"bench", ctl_bench, "measure a daemon under many clients"},
    {"inspect", ctl_inspect, "what a model directory holds, and what it costs"},
    {"eval", ctl_eval, "one forward without a daemon, tensors in files"},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(FILE *to)
{
    fprintf(to, "usage: perceiverctl COMMAND ...\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].about);
    fprintf(to,
            "\nperceiverctl COMMAND --help says more; perceiverctl --version names the build.\n");
}

/* What could not be written was not done. */
static int finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    perror("perceiverctl: standard output");
    return 1;
}

int main(int argc, char **argv)
{
    ctl_text_init();
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
            return finish(commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "perceiverctl: no command \"%s\"\n", argv[1]);
    help(stderr);
    return 2;
}
