/* ctl_bench_prepare.c - from a model's description to requests that are ready to be sent. */
#include "proto/wire_client.h"
#include "server/ctl_bench.h"
#include "server/ctl_media.h"
#include "server/ctl_sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 224, SHORTEST = 16 };

/* ---- the model ------------------------------------------------------------------------------- */

/* The name of the only model. borrow: the arena's */
static int only_model(struct ctl_bench *b, const char **name, struct pcv_err *e)
{
    const struct wire_model_desc *m;
    struct ctl_reply reply;
    char names[160] = "";
    int n = 0, r = ctl_http_get(b->http, "/v1/models", &reply, e);

    if (r < 0)
        return r;
    r = wire_client_models(b->arena, reply.body, reply.len, &m, &n, e);
    free(reply.body);
    if (r < 0)
        return pcv_err_at(e, "reply to /v1/models");
    for (int i = 0; i < n; i++) {
        const size_t at = strlen(names);

        snprintf(names + at, sizeof(names) - at, "%s%s", i ? ", " : "", m[i].name);
    }
    if (n != 1)
        return pcv_fail(e, PCV_EMISSING, "which model? %d are served: %s", n, names);
    *name = m[0].name;
    return 0;
}

/* Reads `path`NAME`behind` and what `read` makes of it into b->model. */
static int describe(struct ctl_bench *b, const char *before, const char *name, const char *behind,
                    int (*read)(struct wire_arena *, const char *, size_t, struct wire_model_desc *,
                                struct pcv_err *),
                    struct pcv_err *e)
{
    char *path = wire_client_path(before, name, behind);
    struct ctl_reply reply = {0};
    int r = path ? ctl_http_get(b->http, path, &reply, e) : pcv_fail(e, PCV_ENOMEM, "no memory");

    if (r == 0 && (r = read(b->arena, reply.body, reply.len, &b->model, e)) < 0)
        pcv_err_at(e, "reply to %s", path);
    free(reply.body);
    free(path);
    return r;
}

/* ---- samples --------------------------------------------------------------------------------- */

static void drop_samples(struct ctl_bench *b)
{
    while (b->nsamples) {
        struct ctl_sample *s = &b->samples[--b->nsamples];

        free(s->path);
        free(s->body);
    }
}

/* Adds r, in its form, to the samples. path is borrowed, or taken when own. */
static int add_sample(struct ctl_bench *b, struct wire_request *r, char *path, bool own,
                      struct pcv_err *e)
{
    struct ctl_sample *more =
        path ? realloc(b->samples, (size_t)(b->nsamples + 1) * sizeof(*more)) : NULL;
    struct ctl_sample *s;
    int64_t header = 0;
    size_t len = 0;

    if (!more) {
        free(own ? path : NULL);
        return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
    }
    b->samples = more;
    s = &more[b->nsamples++];
    *s = (struct ctl_sample){.path = own ? path : NULL};
    r->no_cache = r->no_share = b->options.no_cache;
    s->body = r->form == WIRE_OIP ? wire_client_oip(r, &len, &header) : wire_client_native(r, &len);
    if (!s->body)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
    s->call = (struct ctl_call){.path = path,
                                .type = r->form == WIRE_OIP ? "application/octet-stream"
                                                            : "application/json",
                                .body = s->body,
                                .len = len,
                                .header_len = header};
    return 0;
}

/* Whether the model answers a task for media of this type: a task that it does not describe is its
 * own to refuse. */
static bool answers(const struct wire_model_desc *m, const char *task, const char *type)
{
    const char *const *in = NULL;

    for (int i = 0; i < m->ntasks; i++)
        if (strcmp(m->tasks[i].name, task) == 0)
            in = m->tasks[i].inputs;
    if (!in || m->together)
        return true;
    for (; *in; in++) {
        for (int i = 0; i < m->ninputs; i++) {
            if (strcmp(m->inputs[i].name, *in) != 0)
                continue;
            for (const char *const *t = m->inputs[i].media; t && *t; t++)
                if (strcmp(*t, type) == 0)
                    return true;
        }
    }
    return false;
}

/* r asks task t of the command line. */
static void ask_task(const struct ctl_bench *b, int t, struct wire_request *r,
                     struct wire_query *query)
{
    if (!b->options.tasks.n)
        return;
    *query = (struct wire_query){.task = b->options.tasks.name[t], .input = -1};
    r->queries = query;
    r->nqueries = 1;
}

/* Rounds through the inputs: one for each task, or one for all of them. */
static int rounds(const struct ctl_bench *b)
{
    return b->options.tasks.n ? b->options.tasks.n : 1;
}

/* Adds r, asking task t, if that is answered for its (first) medium. */
static int add_task(struct ctl_bench *b, struct wire_request *r, int t, struct pcv_err *e)
{
    struct wire_query query;
    int code;

    if (b->options.tasks.n && !answers(&b->model, b->options.tasks.name[t], r->media[0].type))
        return 0;
    ask_task(b, t, r, &query);
    code = add_sample(b, r, b->path, false, e);
    r->queries = NULL;
    r->nqueries = 0;
    return code;
}

static int named_samples(struct ctl_bench *b, struct pcv_err *e)
{
    const struct ctl_names *names = &b->options.inputs;
    int code = 0;

    for (int t = 0; t < rounds(b); t++) {
        for (int i = 0; i < names->n && code == 0; i++) {
            struct wire_media media;
            struct wire_request r = {.form = WIRE_NATIVE, .nmedia = 1, .media = &media};
            struct ctl_media m;

            if ((code = ctl_media_read(names->name[i], &m, e)) < 0)
                break;
            media = (struct wire_media){.data = m.data, .len = m.len, .type = m.type};
            code = add_task(b, &r, t, e);
            if (names->n == 1)
                snprintf(b->what, sizeof(b->what), m.name ? "%.80s" : "one text", m.name);
            free(m.data);
        }
    }
    if (names->n > 1)
        snprintf(b->what, sizeof(b->what), "%d inputs", names->n);
    return code;
}

static int handle_samples(struct ctl_bench *b, struct pcv_err *e)
{
    const struct ctl_names *names = &b->options.handles;
    int code = 0;

    for (int t = 0; t < rounds(b); t++) {
        for (int i = 0; i < names->n && code == 0; i++) {
            struct wire_request r = {.form = WIRE_NATIVE};
            struct wire_query query;

            ask_task(b, t, &r, &query);
            code = add_sample(b, &r, wire_client_path("/v1/latents/", names->name[i], "/query"),
                              true, e);
        }
    }
    snprintf(b->what, sizeof(b->what), "%d kept latents", names->n);
    return code;
}

/* Texts from the shortest to the longest that the model takes, or as asked. */
static int tokens_of(const struct ctl_bench *b, int i)
{
    int64_t longest = 0;

    for (int k = 0; k < b->model.ninputs; k++)
        if (strcmp(b->model.inputs[k].kind, "text") == 0)
            longest = b->model.inputs[k].max_tokens;
    if (b->options.tokens || longest <= SHORTEST)
        return b->options.tokens ? b->options.tokens : (int)(longest > 3 ? longest : 3);
    longest = longest < 1 << 24 ? longest : 1 << 24;
    return SHORTEST + (int)((longest - SHORTEST) * i / (CTL_BENCH_RANDOM - 1));
}

static int random_sample(struct ctl_bench *b, int i, int t, struct ctl_sample_size size,
                         struct pcv_err *e)
{
    struct wire_arena *a = wire_arena_new();
    struct wire_request r;
    int code;

    size.tokens = tokens_of(b, i);
    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
    if (b->options.binary)
        code = ctl_sample_tensors(&r, a, &b->model, &size, (uint64_t)i + 1, e);
    else
        code = ctl_sample_media(&r, a, &b->model, &size, (uint64_t)i + 1, e);
    if (code == 0)
        code = b->options.binary ? add_sample(b, &r, b->path, false, e) : add_task(b, &r, t, e);
    wire_arena_free(a);
    return code;
}

static int random_samples(struct ctl_bench *b, struct ctl_sample_size size, struct pcv_err *e)
{
    int code = 0;

    for (int t = 0; t < rounds(b); t++)
        for (int i = 0; i < CTL_BENCH_RANDOM && code == 0; i++)
            code = random_sample(b, i, t, size, e);
    snprintf(b->what, sizeof(b->what), "%d random inputs", CTL_BENCH_RANDOM);
    return code;
}

/* Adds the tasks to the words. */
static void tell_tasks(struct ctl_bench *b)
{
    for (int t = 0; t < b->options.tasks.n; t++) {
        const size_t at = strlen(b->what);

        snprintf(b->what + at, sizeof(b->what) - at, "%s%s", t ? ", " : " for ",
                 b->options.tasks.name[t]);
    }
}

/* ---- one request before all others ----------------------------------------------------------- */

/* Where a model takes pictures of any size, they had better be of the size it makes of them: asks
 * with a large one, and takes as many pixels as it had tokens. */
static int natural_size(struct ctl_bench *b, char *path, struct ctl_sample_size *size,
                        struct pcv_err *e)
{
    struct wire_arena *a = wire_arena_new();
    struct ctl_reply reply = {0};
    struct wire_request r;
    struct wire_reply read;
    int code;

    if (!a)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
    if ((code = ctl_sample_media(&r, a, &b->model, size, 1, e)) == 0 &&
        (code = add_sample(b, &r, path, false, e)) == 0 &&
        (code = ctl_http_ask(b->http, &b->samples[0].call, &reply, e)) == 0 &&
        (code = wire_client_reply(a, reply.body, reply.len, &read, e)) == 0 && read.tokens > 0) {
        int height = (int)fmin(sqrt((double)read.tokens), CTL_MAX_SIDE);

        while (read.tokens % height)
            height--;
        if (read.tokens / height <= CTL_MAX_SIDE) {
            size->height = height;
            size->width = (int)(read.tokens / height);
        }
    }
    drop_samples(b);
    free(reply.body);
    wire_arena_free(a);
    return code;
}

/* The model that all handles are of. borrow: the arena's */
static int model_of_handles(struct ctl_bench *b, const char **model, struct pcv_err *e)
{
    for (int i = 0; i < b->options.handles.n; i++) {
        char *path = wire_client_path("/v1/latents/", b->options.handles.name[i], "");
        struct wire_latents_desc kept = {0};
        struct ctl_reply reply = {0};
        int r = path ? ctl_http_get(b->http, path, &reply, e)
                     : pcv_fail(e, PCV_ENOMEM, "no memory for a path");

        if (r == 0 && (r = wire_client_latents(b->arena, reply.body, reply.len, &kept, e)) < 0)
            pcv_err_at(e, "reply to %s", path);
        free(reply.body);
        free(path);
        if (r != 0)
            return r;
        if (*model && strcmp(*model, kept.model) != 0)
            return pcv_fail(e, PCV_EUNKNOWN, "%.64s is of model %.64s, not %.64s",
                            b->options.handles.name[i], kept.model, *model);
        *model = kept.model;
    }
    return 0;
}

/* Where requests go, and where pictures are tried. own: *native */
static int choose_paths(struct ctl_bench *b, const char *model, char **native, struct pcv_err *e)
{
    *native = wire_client_path("/v1/models/", model, "/perceive");
    b->path = b->options.binary ? wire_client_path("/v2/models/", model, "/infer")
              : *native         ? strdup(*native)
                                : NULL;
    return *native && b->path ? 0 : pcv_fail(e, PCV_ENOMEM, "no memory for a path");
}

static int make_samples(struct ctl_bench *b, char *native, struct pcv_err *e)
{
    const struct ctl_bench_options *o = &b->options;
    struct ctl_sample_size size = {.height = SIDE, .width = SIDE};
    const bool tries = b->model.ninputs == 1 || b->model.together;
    int r = 0;

    if (o->handles.n)
        r = handle_samples(b, e);
    else if (o->inputs.n)
        r = named_samples(b, e);
    else if (!tries || !ctl_sample_open(&b->model) || (r = natural_size(b, native, &size, e)) == 0)
        r = random_samples(b, size, e);
    tell_tasks(b);
    return r == 0 && !b->nsamples
               ? pcv_fail(e, PCV_EUNKNOWN, "no task is answered for any of the inputs")
               : r;
}

int ctl_bench_prepare(struct ctl_bench *b, const char *model, struct pcv_err *e)
{
    char *native = NULL;
    struct ctl_reply reply;
    int r = 0;

    if (b->options.handles.n)
        r = model_of_handles(b, &model, e);
    else if (!model)
        r = only_model(b, &model, e);
    if (r < 0 || (r = describe(b, "/v1/models/", model, "", wire_client_model, e)) < 0)
        return r;
    if (b->options.binary &&
        (r = describe(b, "/v2/models/", model, "/config", wire_client_optional, e)) < 0)
        return r;
    r = choose_paths(b, model, &native, e);
    if (r == 0)
        r = make_samples(b, native, e);
    free(native);
    if (r == 0 && (r = ctl_http_ask(b->http, &b->samples[0].call, &reply, e)) == 0)
        free(reply.body);
    return r;
}
