/* ctl_perceive.c - perceiverctl perceive and ask: questions about files and texts, or about latents
 * that were kept of them. */
#include "proto/wire_client.h"
#include "server/ctl_answer.h"
#include "server/ctl_http.h"
#include "server/ctl_media.h"
#include "server/ctl_query.h"
#include "server/ctl_text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct asking {
    struct ctl_server server;
    struct ctl_questions questions;
    struct wire_request request; /* keep_ms, no_cache, no_share, stream, format are options */
    const char *out;
    bool json;

    struct ctl_http *http;
    const char *handle;      /* ask: what is asked */
    struct ctl_media *media; /* perceive: [request.nmedia], in the order of its media */
    int n;                   /* inputs, of one medium or of several with names */

    int input; /* whose lines are printed, -1: nobody's yet */
    bool done; /* the last line came */
};

/* ---- answers --------------------------------------------------------------------------------- */

static void print_medium(const struct ctl_media *m)
{
    if (!m->name)
        ctl_put(stdout, m->data, m->len);
    else
        ctl_answer_text(strcmp(m->name, "-") == 0 ? "standard input" : m->name);
}

/* Names what is asked, a line. */
static void print_name(const struct asking *a, int item)
{
    const char *comma = "";

    if (a->handle)
        ctl_answer_text(a->handle);
    for (int i = 0; i < a->request.nmedia; i++) {
        if (a->request.media[i].item != item)
            continue;
        printf("%s", comma);
        print_medium(&a->media[i]);
        comma = ", ";
    }
    printf("\n");
}

static int print_reply(const struct asking *a, const struct ctl_reply *reply, struct pcv_err *e)
{
    struct wire_arena *arena = wire_arena_new();
    const struct wire_result *result;
    struct wire_reply read;
    int r, width;

    if (!arena)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the reply");
    r = wire_client_reply(arena, reply->body, reply->len, &read, e);
    if (r == 0 && read.batch && read.nitems != a->n)
        r = pcv_fail(e, PCV_EFORMAT, "%d answers for %d inputs", read.nitems, a->n);
    if (r < 0) {
        wire_arena_free(arena);
        return pcv_err_at(e, "reply");
    }
    result = read.results;
    width = ctl_answer_width(result, read.nresults);
    for (int i = 0; i < read.nitems; i++) {
        print_name(a, i);
        for (int k = read.batch ? read.counts[i] : read.nresults; k > 0; k--)
            ctl_answer_result(result++, width);
        if (read.latents)
            ctl_answer_handle(read.latents[i], read.expires_s);
    }
    ctl_answer_costs(&read);
    wire_arena_free(arena);
    return 0;
}

static int write_out(const struct asking *a, const struct ctl_reply *reply, struct pcv_err *e)
{
    FILE *f = a->out && strcmp(a->out, "-") != 0 ? fopen(a->out, "wb") : stdout;
    bool ok = f && fwrite(reply->body, 1, reply->len, f) == reply->len;

    if (f && f != stdout)
        ok = fclose(f) == 0 && ok;
    return ok ? 0 : pcv_fail(e, PCV_EIO, "%s: %s", a->out ? a->out : "output", strerror(errno));
}

/* ---- streams --------------------------------------------------------------------------------- */

/* Says whose the following lines are, when somebody else's came before. */
static void print_whose(struct asking *a, int input)
{
    if (input < 0)
        input = 0;
    if (input >= a->n && !a->handle)
        return;
    if (input != a->input)
        print_name(a, input);
    a->input = input;
}

static int stream_ended(struct asking *a, const struct wire_client_line *l)
{
    const struct wire_reply *r = &l->reply;

    a->done = true;
    for (int i = 0; r->latents && i < r->nitems && i < a->n; i++) {
        print_whose(a, i);
        ctl_answer_handle(r->latents[i], r->expires_s);
    }
    ctl_answer_costs(r);
    return 0;
}

static int broken(const struct wire_client_line *l, struct pcv_err *e)
{
    return pcv_fail(e, PCV_EIO, "breaks off: %s", l->error.message ? l->error.message : "no word");
}

static int print_line(struct asking *a, struct wire_client_line *l, struct pcv_err *e)
{
    switch (l->kind) {
    case WIRE_LINE_CHUNK:
        print_whose(a, l->input);
        ctl_answer_chunk(&l->chunk, ctl_answer_width(NULL, 0));
        return 0;
    case WIRE_LINE_RESULT:
        print_whose(a, l->input);
        ctl_answer_result(&l->result, ctl_answer_width(&l->result, 1));
        return 0;
    case WIRE_LINE_DONE: return stream_ended(a, l);
    case WIRE_LINE_ERROR: break;
    }
    return broken(l, e);
}

static int on_line(void *ctx, const char *line, size_t len, struct pcv_err *e)
{
    struct asking *a = ctx;
    struct wire_arena *arena = wire_arena_new();
    struct wire_client_line read;
    int r = arena ? wire_client_line(arena, line, len, &read, e)
                  : pcv_fail(e, PCV_ENOMEM, "no memory for a line");

    if (r < 0)
        pcv_err_at(e, "reply");
    if (r == 0 && a->json) {
        (void)fwrite(line, 1, len, stdout); /* perceiverctl.c looks for its errors at the end */
        a->done = read.kind == WIRE_LINE_DONE;
        if (read.kind == WIRE_LINE_ERROR)
            r = broken(&read, e);
    } else if (r == 0) {
        r = print_line(a, &read, e);
    }
    fflush(stdout); /* as it comes */
    wire_arena_free(arena);
    return r;
}

/* An error needs no newline behind it. */
static int stream_over(struct asking *a, const struct ctl_reply *reply, struct pcv_err *e)
{
    int r = reply->len ? on_line(a, reply->body, reply->len, e) : 0;

    return r == 0 && !a->done ? pcv_fail(e, PCV_EFORMAT, "the last line is missing") : r;
}

/* ---- questions ------------------------------------------------------------------------------- */

/* Puts what was asked about before an error: the only medium, or the only one of the input that the
 * server names. */
static void name_it(const struct asking *a, struct pcv_err *e)
{
    const char *place = strstr(e->msg, "$.inputs[");
    const long item = place ? strtol(place + strlen("$.inputs["), NULL, 10) : 0;
    const struct ctl_media *found = NULL;
    int n = 0;

    if (a->handle)
        pcv_err_at(e, "%s", a->handle);
    for (int i = 0; i < a->request.nmedia && (place || a->n == 1); i++) {
        if (a->request.media[i].item == item) {
            found = &a->media[i];
            n++;
        }
    }
    if (n == 1)
        ctl_media_name(found, e);
}

static int send(struct asking *a, const char *path, struct pcv_err *e)
{
    struct ctl_reply reply = {0};
    struct ctl_call call = {.path = path,
                            .type = "application/json",
                            .on_line = a->request.stream ? on_line : NULL,
                            .ctx = a};
    char *body = wire_client_native(&a->request, &call.len);
    int r;

    if (!body)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a question");
    call.body = body;
    r = ctl_http_ask(a->http, &call, &reply, e);
    free(body);
    if (r == 0 && a->request.stream)
        r = stream_over(a, &reply, e);
    else if (r == 0 && (a->out || a->request.format != WIRE_JSON))
        r = write_out(a, &reply, e);
    else if (r == 0 && a->json)
        printf("%s\n", reply.body);
    else if (r == 0)
        r = print_reply(a, &reply, e);
    free(reply.body);
    if (r < 0)
        name_it(a, e);
    return r;
}

/* "NAME=FILE", which is no file itself: *file is behind the '='. own: *name, the arena's; NULL: it
 * is something else. */
static int split_name(struct asking *a, const char *argument, const char **name, const char **file,
                      struct pcv_err *e)
{
    const size_t len = strspn(argument, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    *name = NULL;
    *file = argument;
    if (!len || argument[len] != '=' || access(argument, F_OK) == 0 ||
        (strcmp(argument + len + 1, "-") != 0 && access(argument + len + 1, F_OK) != 0))
        return 0;
    *file = argument + len + 1;
    *name = wire_arena_text(a->questions.arena, argument, len);
    return *name ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a name");
}

static int read_medium(struct asking *a, const char *argument, struct pcv_err *e)
{
    struct wire_request *r = &a->request;
    struct wire_media *w = &r->media[r->nmedia];
    struct ctl_media *m = &a->media[r->nmedia];
    const char *name, *file;
    int code = split_name(a, argument, &name, &file, e);

    if (code < 0 || (code = ctl_media_read(file, m, e)) < 0)
        return code;
    *w = (struct wire_media){.input = name, .data = m->data, .len = m->len, .type = m->type};
    if (strcmp(m->type, "application/octet-stream") == 0)
        w->type = NULL;
    a->n += !(name && r->nmedia && w[-1].input); /* named ones in a row are one input */
    w->item = a->n - 1;
    r->nmedia++;
    return 0;
}

static int read_media(struct asking *a, char **arguments, int n, struct pcv_err *e)
{
    int r = 0;

    a->request.media = wire_arena_zero(a->questions.arena, (size_t)n * sizeof(*a->request.media));
    a->media = wire_arena_zero(a->questions.arena, (size_t)n * sizeof(*a->media));
    if (!a->request.media || !a->media)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d inputs", n);
    for (int i = 0; i < n && r == 0; i++)
        r = read_medium(a, arguments[i], e);
    a->request.batch = a->n > 1;
    return r;
}

/* subject: the model or the handle. */
static int run(struct asking *a, const char *subject, char **arguments, int n, struct pcv_err *e)
{
    char *path = a->handle ? wire_client_path("/v1/latents/", subject, "/query")
                           : wire_client_path("/v1/models/", subject, "/perceive");
    int r = path ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a path");

    if (r == 0)
        r = ctl_http_open(&a->http, &a->server, e);
    if (r == 0 && !a->handle)
        r = read_media(a, arguments, n, e);
    if (r == 0) {
        ctl_questions_into(&a->questions, &a->request);
        a->request.form = WIRE_NATIVE;
        r = send(a, path, e);
    }
    for (int i = 0; i < a->request.nmedia; i++)
        free(a->media[i].data);
    ctl_http_close(a->http);
    free(path);
    return r;
}

/* ---- the commands ---------------------------------------------------------------------------- */

/* The format that the end of a file's name says. */
static enum wire_format format_of(const char *name)
{
    enum wire_format format = WIRE_JSON;
    const char *dot = strrchr(name, '.');
    char message[96];

    if (dot)
        ctl_take_format(&format, dot + 1, message);
    return format;
}

/* What does not go together; NULL when all does. */
static const char *contradiction(struct asking *a)
{
    bool file;

    if (a->out && a->request.format == WIRE_JSON)
        a->request.format = format_of(a->out);
    file = a->request.format != WIRE_JSON;
    if (file && a->json)
        return "--json does not go with another --format";
    if (a->request.stream && (a->out || file))
        return "--stream goes with neither --format nor --output";
    if (file && !a->out && isatty(STDOUT_FILENO))
        return "a terminal is no place for a file: name one with --output";
    return NULL;
}

#define ANSWER_OPTIONS(a)                                                                          \
    {.name = "stream", .doc = "print answers as they are computed", .flag = &(a)->request.stream}, \
        {.name = "format",                                                                         \
         .value = "FORMAT",                                                                        \
         .doc = "the one answer as a file: png, flo, wav or raw",                                  \
         .take = ctl_take_format,                                                                  \
         .ctx = &(a)->request.format},                                                             \
        {.name = "output",                                                                         \
         .letter = 'o',                                                                            \
         .value = "FILE",                                                                          \
         .doc = "write the reply there; its ending says the format",                               \
         .text = &(a)->out},                                                                       \
    {                                                                                              \
        .name = "json", .doc = "print the reply as it came", .flag = &(a)->json                    \
    }

static int command(struct asking *a, const struct ctl_usage *usage, int argc, char **argv,
                   bool handle)
{
    const char *problem;
    struct pcv_err e;
    int n, failed;

    a->input = -1;
    if (ctl_questions_open(&a->questions, &e) < 0)
        return ctl_fail(&e);
    n = ctl_parse(usage, argc, argv);
    problem = n < 0 ? NULL : contradiction(a);
    if (problem)
        n = ctl_wrong(usage, argv, problem, NULL);
    failed = n < 0 ? ~n : 0;
    if (n >= 0) {
        a->handle = handle ? argv[1] : NULL;
        if (run(a, argv[1], argv + 2, n - 1, &e) < 0)
            failed = ctl_fail(&e);
    }
    ctl_questions_close(&a->questions);
    return failed;
}

int ctl_perceive(int argc, char **argv)
{
    struct asking a = {.json = false};
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&a.server),
        CTL_QUESTION_OPTIONS(&a.questions),
        {.name = "keep",
         .value = "TIME",
         .doc = "keep the latents so long (90s, 10m, 1h), and print their handle",
         .take = ctl_take_duration,
         .ctx = &a.request.keep_ms},
        {.name = "no-cache",
         .doc = "compute it, whatever was kept before",
         .flag = &a.request.no_cache},
        {.name = "no-share",
         .doc = "compute it alone, whoever asks the same now",
         .flag = &a.request.no_share},
        ANSWER_OPTIONS(&a),
        {0},
    };
    const struct ctl_usage usage = {
        "MODEL FILE|TEXT...", 2, INT_MAX,
        "Asks a model about files (pictures, sounds or text), standard input (-), or texts:\n"
        "whatever is no file's name. Several are one batch, of whatever kinds. For models\n"
        "that take several at once, NAME=FILE NAME=FILE ... are one input.",
        options};

    return command(&a, &usage, argc, argv, false);
}

int ctl_ask(int argc, char **argv)
{
    struct asking a = {.json = false};
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&a.server),
        CTL_QUESTION_OPTIONS(&a.questions),
        ANSWER_OPTIONS(&a),
        {0},
    };
    const struct ctl_usage usage = {
        "HANDLE", 1, 1,
        "Asks about latents that were kept (perceive --keep): only the answers are computed.",
        options};

    return command(&a, &usage, argc, argv, true);
}
