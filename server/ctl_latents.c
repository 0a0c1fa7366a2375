/* ctl_latents.c - perceiverctl latents and import: what is kept under a handle, and files of it. */
#include "proto/wire_client.h"
#include "server/ctl_answer.h"
#include "server/ctl_http.h"
#include "server/ctl_media.h"
#include "server/ctl_query.h"
#include "server/ctl_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct ctl_server server;
    bool json, drop;
    const char *export, *input;
    uint64_t keep_ms;
};

static void print_latents(const struct wire_latents_desc *d)
{
    char bytes[CTL_COUNT];
    int column = 0;

    ctl_answer_text(d->handle);
    printf("\n  model    ");
    ctl_answer_text(d->model);
    printf(", version ");
    ctl_answer_text(d->version);
    printf("\n  made of  ");
    ctl_answer_text(d->input);
    printf(", which is %s\n", d->has_input ? "kept too" : "not kept");
    printf("  latents  %d x %d, %sB\n", d->num_latents, d->d_latents,
           ctl_count((double)d->bytes, bytes));
    printf("  time     made %.1f s ago, expires in %.1f s\n", d->age_s, d->expires_s);
    printf("  tasks\n");
    for (int i = 0; i < d->ntasks; i++)
        ctl_word(stdout, &column, 4, d->tasks[i]);
    printf(d->ntasks ? "\n" : "");
}

/* Prints the description in a reply. */
static int show(const struct options *o, const struct ctl_reply *reply, struct pcv_err *e)
{
    struct wire_arena *a = wire_arena_new();
    struct wire_latents_desc d;
    int r;

    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the reply");
    r = wire_client_latents(a, reply->body, reply->len, &d, e);
    if (r < 0)
        pcv_err_at(e, "reply");
    else if (o->json)
        printf("%s\n", reply->body);
    else
        print_latents(&d);
    wire_arena_free(a);
    return r;
}

static int write_file(const char *name, const struct ctl_reply *reply, struct pcv_err *e)
{
    FILE *f = fopen(name, "wb");
    bool ok = f && fwrite(reply->body, 1, reply->len, f) == reply->len;

    if (f)
        ok = fclose(f) == 0 && ok;
    return ok ? 0 : pcv_fail(e, PCV_EIO, "%s: %s", name, strerror(errno));
}

/* One call about a handle: `behind` it, by this method. own: free(ret->body). */
static int call_handle(struct ctl_http *h, const char *handle, const char *behind,
                       const char *method, struct ctl_reply *ret, struct pcv_err *e)
{
    char *path = wire_client_path("/v1/latents/", handle, behind);
    const struct ctl_call call = {.path = path, .method = method};
    int r = path ? ctl_http_ask(h, &call, ret, e) : pcv_fail(e, PCV_ENOMEM, "no memory for a path");

    if (r < 0)
        pcv_err_at(e, "%s", handle);
    free(path);
    return r;
}

static int run(const struct options *o, const char *handle, struct pcv_err *e)
{
    struct ctl_http *h = NULL;
    struct ctl_reply reply = {0};
    int r = ctl_http_open(&h, &o->server, e);

    if (r == 0 && o->export) {
        r = call_handle(h, handle, "/tensor", NULL, &reply, e);
        if (r == 0)
            r = write_file(o->export, &reply, e);
        free(reply.body);
        reply.body = NULL;
    }
    if (r == 0 && o->drop)
        r = call_handle(h, handle, "", "DELETE", &reply, e);
    else if (r == 0 && !o->export && (r = call_handle(h, handle, "", NULL, &reply, e)) == 0)
        r = show(o, &reply, e);
    free(reply.body);
    ctl_http_close(h);
    return r;
}

int ctl_latents(int argc, char **argv)
{
    struct options o = {.json = false};
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&o.server),
        {.name = "export",
         .value = "FILE",
         .doc = "write them into a safetensors file",
         .text = &o.export},
        {.name = "delete", .doc = "forget them (after --export)", .flag = &o.drop},
        {.name = "json", .doc = "print the reply as it came", .flag = &o.json},
        {0},
    };
    const struct ctl_usage usage = {
        "HANDLE", 1, 1,
        "Says what is kept under a handle (perceive --keep), writes it into a file,\n"
        "or has it forgotten.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct pcv_err e;

    if (n < 0)
        return ~n;
    return run(&o, argv[1], &e) < 0 ? ctl_fail(&e) : 0;
}

/* ---- import ---------------------------------------------------------------------------------- */

/* "/v1/models/NAME/latents?keep=12.345&input=NAME". own: free(). */
static char *import_path(const struct options *o, const char *model)
{
    char *path = wire_client_path("/v1/models/", model, "/latents"), *more = NULL;
    char keep[48] = "";

    if (o->keep_ms)
        snprintf(keep, sizeof(keep), "?keep=%.3f", (double)o->keep_ms / 1e3);
    if (path && asprintf(&more, "%s%s%s", path, keep,
                         !o->input    ? ""
                         : o->keep_ms ? "&input="
                                      : "?input=") < 0)
        more = NULL;
    free(path);
    if (more && o->input) {
        path = wire_client_path(more, o->input, "");
        free(more);
        more = path;
    }
    return more;
}

static int import(const struct options *o, const char *model, const char *file, struct pcv_err *e)
{
    struct ctl_media m = {0};
    struct ctl_reply reply = {0};
    struct ctl_http *h = NULL;
    char *path = import_path(o, model);
    int r = path ? ctl_media_read(file, &m, e) : pcv_fail(e, PCV_ENOMEM, "no memory for a path");

    if (r == 0 && !m.name)
        r = pcv_fail(e, PCV_EIO, "%s: no such file", file);
    if (r == 0)
        r = ctl_http_open(&h, &o->server, e);
    if (r == 0) {
        const struct ctl_call call = {
            .path = path, .type = "application/octet-stream", .body = m.data, .len = m.len};

        r = ctl_http_ask(h, &call, &reply, e);
        if (r < 0)
            pcv_err_at(e, "%s", file);
        else
            r = show(o, &reply, e);
    }
    free(reply.body);
    free(m.data);
    free(path);
    ctl_http_close(h);
    return r;
}

int ctl_import(int argc, char **argv)
{
    struct options o = {.json = false};
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&o.server),
        {.name = "keep",
         .value = "TIME",
         .doc = "for so long: 90s, 10m, 1h; default: the daemon's",
         .take = ctl_take_duration,
         .ctx = &o.keep_ms},
        {.name = "input",
         .value = "NAME",
         .doc = "the model's input they were made of; default: what the file says",
         .text = &o.input},
        {.name = "json", .doc = "print the reply as it came", .flag = &o.json},
        {0},
    };
    const struct ctl_usage usage = {
        "MODEL FILE", 2, 2,
        "Has a daemon keep latents that latents --export wrote, here or elsewhere,\n"
        "and prints their handle.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct pcv_err e;

    if (n < 0)
        return ~n;
    return import(&o, argv[1], argv[2], &e) < 0 ? ctl_fail(&e) : 0;
}
