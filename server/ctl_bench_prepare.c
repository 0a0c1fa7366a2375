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

/* Puts r, in its form, into sample i. */
static int put_sample(struct ctl_bench *b, int i, const struct wire_request *r, const char *path,
                      struct pcv_err *e)
{
    struct ctl_sample *s = &b->samples[i];
    int64_t header = 0;
    size_t len = 0;

    s->body = r->form == WIRE_OIP ? wire_client_oip(r, &len, &header) : wire_client_native(r, &len);
    if (!s->body)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
    s->call = (struct ctl_call){.path = path,
                                .type = r->form == WIRE_OIP ? "application/octet-stream"
                                                            : "application/json",
                                .body = s->body,
                                .len = len,
                                .header_len = header};
    if (b->nsamples <= i)
        b->nsamples = i + 1;
    return 0;
}

static int named_sample(struct ctl_bench *b, struct pcv_err *e)
{
    struct ctl_media m;
    struct wire_media media;
    struct wire_request r = {.form = WIRE_NATIVE, .nmedia = 1, .media = &media};
    int code = ctl_media_read(b->options.input, &m, e);

    if (code < 0)
        return code;
    media = (struct wire_media){.data = m.data, .len = m.len, .type = m.type};
    code = put_sample(b, 0, &r, b->path, e);
    free(m.data);
    snprintf(b->what, sizeof(b->what), m.name ? "%.80s" : "one text", m.name);
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
    return SHORTEST + (int)((longest - SHORTEST) * i / (CTL_BENCH_SAMPLES - 1));
}

static int random_samples(struct ctl_bench *b, struct ctl_sample_size size, struct pcv_err *e)
{
    int code = 0;

    for (int i = 0; i < CTL_BENCH_SAMPLES && code == 0; i++) {
        struct wire_arena *a = wire_arena_new();
        struct wire_request r;

        size.tokens = tokens_of(b, i);
        if (!a)
            code = pcv_fail(e, PCV_ENOMEM, "no memory for a request");
        else if (b->options.binary)
            code = ctl_sample_tensors(&r, a, &b->model, &size, (uint64_t)i + 1, e);
        else
            code = ctl_sample_media(&r, a, &b->model, &size, (uint64_t)i + 1, e);
        if (code == 0)
            code = put_sample(b, i, &r, b->path, e);
        wire_arena_free(a);
    }
    snprintf(b->what, sizeof(b->what), "%d random inputs", CTL_BENCH_SAMPLES);
    return code;
}

/* ---- one request before all others ----------------------------------------------------------- */

/* Where a model takes pictures of any size, they had better be of the size it makes of them: asks
 * with a large one, and takes as many pixels as it had tokens. */
static int natural_size(struct ctl_bench *b, const char *path, struct ctl_sample_size *size,
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
        (code = put_sample(b, 0, &r, path, e)) == 0 &&
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
    free(b->samples[0].body);
    b->samples[0].body = NULL;
    free(reply.body);
    wire_arena_free(a);
    return code;
}

int ctl_bench_prepare(struct ctl_bench *b, const char *model, struct pcv_err *e)
{
    struct ctl_sample_size size = {.height = SIDE, .width = SIDE};
    char *native = NULL;
    struct ctl_reply reply;
    int r = 0;

    if (!model && (r = only_model(b, &model, e)) < 0)
        return r;
    if ((r = describe(b, "/v1/models/", model, "", wire_client_model, e)) < 0)
        return r;
    if (b->options.binary &&
        (r = describe(b, "/v2/models/", model, "/config", wire_client_optional, e)) < 0)
        return r;
    native = wire_client_path("/v1/models/", model, "/perceive");
    b->path = b->options.binary ? wire_client_path("/v2/models/", model, "/infer")
              : native          ? strdup(native)
                                : NULL;
    if (!native || !b->path)
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a path");
    if (r == 0 && !b->options.input && ctl_sample_open(&b->model))
        r = natural_size(b, native, &size, e);
    if (r == 0)
        r = b->options.input ? named_sample(b, e) : random_samples(b, size, e);
    free(native);
    if (r == 0 && (r = ctl_http_ask(b->http, &b->samples[0].call, &reply, e)) == 0)
        free(reply.body);
    return r;
}
