#include "server/ctl.h"

#include "server/ctl_text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP = ~0, WRONG = ~2 };

int ctl_fail(const struct pcv_err *e)
{
    fputs("perceiverctl: ", stderr);
    ctl_put(stderr, e->where, strlen(e->where));
    fputs(e->where[0] ? ": " : "", stderr);
    ctl_put(stderr, e->msg, strlen(e->msg));
    fputc('\n', stderr);
    return 1;
}

static void print_usage(FILE *to, const struct ctl_usage *u, const char *command)
{
    fprintf(to, "usage: perceiverctl %s%s%s%s\n", command, u->operands[0] ? " " : "", u->operands,
            u->options && u->options->name ? " [options]" : "");
}

static int print_help(const struct ctl_usage *u, const char *command)
{
    print_usage(stdout, u, command);
    printf("\n%s\n", u->about);
    if (u->options && u->options->name)
        printf("\n");
    for (const struct ctl_option *o = u->options; o && o->name; o++) {
        int n = printf("  --%s", o->name);

        if (o->letter)
            n += printf(", -%c", o->letter);
        if (o->value)
            n += printf(" %s", o->value);

        printf("%*s  %s\n", n < 20 ? 20 - n : 0, "", o->doc);
    }
    return HELP;
}

int ctl_wrong(const struct ctl_usage *u, char **argv, const char *what, const char *subject)
{
    fprintf(stderr, "perceiverctl %s: ", argv[0]);
    if (subject) {
        ctl_put(stderr, subject, strlen(subject));
        fputs(": ", stderr);
    }
    fprintf(stderr, "%s\n", what);
    print_usage(stderr, u, argv[0]);
    return WRONG;
}

/* Sets a number; returns NULL, or what is wrong with it, maybe written to message. */
static const char *set_number(const struct ctl_option *o, const char *text, char message[96])
{
    char *end;
    double v;

    errno = 0;
    v = o->number ? (double)strtol(text, &end, 10) : strtod(text, &end);
    if (end == text || *end)
        return o->number ? "not a whole number" : "not a number";
    if (errno || !(v >= o->min && v <= o->max)) {
        snprintf(message, 96, "outside %.12g..%.12g", o->min, o->max);
        return message;
    }
    if (o->number)
        *o->number = (int)v;
    else
        *o->real = v;
    return NULL;
}

static const struct ctl_option *find(const struct ctl_usage *u, const char *name, size_t len)
{
    for (const struct ctl_option *o = u->options; o && o->name; o++)
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

static const struct ctl_option *find_letter(const struct ctl_usage *u, const char *name)
{
    for (const struct ctl_option *o = u->options; o && o->name; o++)
        if (o->letter && name[0] == o->letter && !name[1])
            return o;
    return NULL;
}

/* argv[*i], which begins with "-", and its value. 0 or WRONG. */
static int take_option(const struct ctl_usage *u, int argc, char **argv, int *i)
{
    const bool lettered = argv[*i][1] != '-';
    const char *name = argv[*i] + (lettered ? 1 : 2);
    const size_t len = strcspn(name, "=");
    const struct ctl_option *o = lettered ? find_letter(u, name) : find(u, name, len);
    const char *value = name[len] ? name + len + 1 : NULL, *problem = NULL;
    char message[96];

    if (!o)
        return ctl_wrong(u, argv, "no such option", argv[*i]);
    if (o->flag) {
        *o->flag = true;
        return value ? ctl_wrong(u, argv, "takes no value", argv[*i]) : 0;
    }
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value)
        return ctl_wrong(u, argv, "wants a value", argv[*i]);
    if (o->text)
        *o->text = value;
    else if (o->take)
        problem = o->take(o->ctx, value, message);
    else
        problem = set_number(o, value, message);
    return problem ? ctl_wrong(u, argv, problem, argv[*i]) : 0;
}

int ctl_parse(const struct ctl_usage *u, int argc, char **argv)
{
    bool options = true;
    int n = 0;

    for (int i = 1; i < argc; i++) {
        const bool dashes = options && strncmp(argv[i], "--", 2) == 0;

        if (dashes && !argv[i][2]) {
            options = false;
        } else if (dashes && strcmp(argv[i], "--help") == 0) {
            return print_help(u, argv[0]);
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            if (take_option(u, argc, argv, &i) < 0)
                return WRONG;
        } else {
            argv[++n] = argv[i];
        }
    }
    if (n < u->min)
        return ctl_wrong(u, argv, "too few arguments", NULL);
    if (n > u->max)
        return ctl_wrong(u, argv, "too many arguments", argv[u->max + 1]);
    return n;
}
