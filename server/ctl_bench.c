/* ctl_bench.c - perceiverctl bench: many clients in a closed loop, and what they measured. */
#include "server/ctl_bench.h"
#include "proto/wire_client.h"
#include "proto/wire_metrics.h"
#include "proto/wire_writer.h"
#include "server/ctl_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BAR = 20, GIVE_UP = 3 /* rounds of all clients without any reply */ };

/* ---- one reply after the other --------------------------------------------------------------- */

static const struct ctl_call *on_next(void *ctx, int client)
{
    struct ctl_bench *b = ctx;
    const uint64_t now = ctl_now_ns();

    if (b->options.requests ? b->sent >= (uint64_t)b->options.requests
                            : now - b->start_ns >= (uint64_t)(b->options.seconds * 1e9))
        return NULL;
    b->sample_of[client] = (int)(b->sent++ % (uint64_t)b->nsamples);
    return &b->samples[b->sample_of[client]].call;
}

static int on_done(void *ctx, int client, const struct ctl_reply *reply, const char *reason,
                   uint64_t ns, struct pcv_err *e)
{
    struct ctl_bench *b = ctx;
    int r;

    b->end_ns = ctl_now_ns();
    if (!reply) {
        if (!b->silent++)
            snprintf(b->reason, sizeof(b->reason), "%s", reason);
        if (++b->silent_in_a_row >= (uint64_t)GIVE_UP * (uint64_t)b->options.clients)
            return pcv_fail(e, PCV_EIO, "no replies: %.200s", reason);
        return 0;
    }
    b->silent_in_a_row = 0;
    if (reply->status < 0 || reply->status >= CTL_BENCH_CODES)
        return pcv_fail(e, PCV_EFORMAT, "status %d", reply->status);
    b->count[reply->status]++;
    if (reply->status != 200)
        return 0;
    r = ctl_latency_add(&b->latency, ns, e);
    if (r == 0 && b->options.check)
        r = ctl_bench_check(b, &b->samples[b->sample_of[client]], reply, e);
    return r;
}

static void on_tick(void *ctx)
{
    const struct ctl_bench *b = ctx;
    const double s = (double)(ctl_now_ns() - b->start_ns) / 1e9;
    const double done =
        b->options.requests ? (double)b->sent / b->options.requests : s / b->options.seconds;
    char bar[3 * BAR + 1];

    if (!b->progress)
        return;
    ctl_bar(bar, done, BAR, ctl_utf8());
    fprintf(stderr, "\r\033[K[%s%*s] %.1f s, %.0f requests/s", bar,
            BAR - ctl_columns(bar, strlen(bar)), "", s, (double)b->latency.n / s);
}

/* ---- measuring ------------------------------------------------------------------------------- */

struct batches {
    double batches, items;
};

static int read_batches(struct ctl_bench *b, struct batches *v, struct pcv_err *e)
{
    struct ctl_reply reply;
    int r = ctl_http_get(b->http, "/metrics", &reply, e);

    if (r < 0)
        return r;
    r = wire_metrics_sum(reply.body, reply.len, "perceiverd_batch_items_count", "model",
                         b->model.name, &v->batches, e);
    if (r == 0)
        r = wire_metrics_sum(reply.body, reply.len, "perceiverd_batch_items_sum", "model",
                             b->model.name, &v->items, e);
    free(reply.body);
    return r < 0 ? pcv_err_at(e, "/metrics") : 0;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int measure(struct ctl_bench *b, struct pcv_err *e)
{
    const struct ctl_crowd crowd = {
        .clients = b->options.clients, .ctx = b, .next = on_next, .done = on_done, .tick = on_tick};
    struct batches before = {0}, after = {0};
    double cpu;
    int r;

    if (!(b->sample_of = calloc((size_t)b->options.clients, sizeof(int))))
        return pcv_fail(e, PCV_ENOMEM, "no memory for %d clients", b->options.clients);
    if ((r = read_batches(b, &before, e)) < 0)
        return r;
    cpu = cpu_seconds();
    b->start_ns = b->end_ns = ctl_now_ns();
    r = ctl_http_crowd(b->http, &crowd, e);
    b->cpu_s = cpu_seconds() - cpu;
    if (b->progress)
        fprintf(stderr, "\r\033[K");
    if (r < 0 || (r = read_batches(b, &after, e)) < 0)
        return r;
    b->batches = after.batches - before.batches;
    b->items = after.items - before.items;
    ctl_latency_sort(&b->latency);
    return 0;
}

/* ---- the report ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    double percent; /* -1: the mean */
} figures[] = {{"min", 0},  {"mean", -1}, {"p50", 50}, {"p90", 90},
               {"p95", 95}, {"p99", 99},  {"max", 100}};
enum { FIGURES = sizeof(figures) / sizeof(*figures) };

static double figure(const struct ctl_bench *b, int i)
{
    return figures[i].percent < 0 ? ctl_latency_mean_ms(&b->latency)
                                  : ctl_latency_ms(&b->latency, figures[i].percent);
}

static double seconds(const struct ctl_bench *b)
{
    return (double)(b->end_ns - b->start_ns) / 1e9;
}

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void print_report(const struct ctl_bench *b)
{
    const double cpu = per(b->cpu_s, seconds(b));
    const char *before = ", and ";

    ctl_put(stdout, b->model.name, strlen(b->model.name));
    printf(": %d clients for %.1f s, %s, %s\n", b->options.clients, seconds(b),
           b->options.binary ? "binary tensors" : "native JSON", b->what);
    printf("  requests     %zu answered", b->latency.n);
    for (int i = 0; i < CTL_BENCH_CODES; i++) {
        if (b->count[i] && i != 200) {
            printf("%s%llu x %d", before, (unsigned long long)b->count[i], i);
            before = ", ";
        }
    }
    if (b->silent)
        printf("%s%llu without reply (%s)", before, (unsigned long long)b->silent, b->reason);
    printf("\n  rate         %.1f requests/s\n  latency ms  ",
           per((double)b->latency.n, seconds(b)));
    for (int i = 0; i < FIGURES; i++)
        printf(" %s %.2f%s", figures[i].name, figure(b, i), i + 1 < FIGURES ? " " : "\n");
    printf("  batches      %.0f, %.2f inputs each\n", b->batches, per(b->items, b->batches));
    printf("  client       %.0f %% of one processor%s\n", 100 * cpu,
           cpu > 0.7 ? ": it may be what limits the rate" : "");
    if (b->options.check)
        printf("  check        %llu of %zu replies differ from the first for their input\n",
               (unsigned long long)b->different, b->latency.n);
}

static void put_number(struct wire_writer *w, const char *key, double v)
{
    wire_key(w, key);
    wire_fixed(w, v, 6);
}

static void put_count(struct wire_writer *w, const char *key, uint64_t v)
{
    wire_key(w, key);
    wire_uint(w, v);
}

static void put_errors(struct wire_writer *w, const struct ctl_bench *b)
{
    char code[8];

    wire_key(w, "errors");
    wire_open(w, '{');
    for (int i = 0; i < CTL_BENCH_CODES; i++) {
        if (b->count[i] && i != 200) {
            snprintf(code, sizeof(code), "%d", i);
            put_count(w, code, b->count[i]);
        }
    }
    if (b->silent)
        put_count(w, "no_reply", b->silent);
    wire_close(w, '}');
}

static int print_json(const struct ctl_bench *b, struct pcv_err *e)
{
    struct wire_writer w = {0};
    char *text;

    wire_open(&w, '{');
    wire_key(&w, "model");
    wire_text(&w, b->model.name);
    wire_key(&w, "form");
    wire_text(&w, b->options.binary ? "oip-binary" : "native-json");
    wire_key(&w, "inputs");
    wire_text(&w, b->what);
    wire_key(&w, "clients");
    wire_int(&w, b->options.clients);
    put_number(&w, "seconds", seconds(b));
    put_count(&w, "answered", b->latency.n);
    put_errors(&w, b);
    put_number(&w, "requests_per_second", per((double)b->latency.n, seconds(b)));
    wire_key(&w, "latency_ms");
    wire_open(&w, '{');
    for (int i = 0; i < FIGURES; i++)
        put_number(&w, figures[i].name, figure(b, i));
    wire_close(&w, '}');
    put_number(&w, "batches", b->batches);
    put_number(&w, "mean_batch_size", per(b->items, b->batches));
    put_number(&w, "client_cpu", per(b->cpu_s, seconds(b)));
    if (b->options.check)
        put_count(&w, "different_replies", b->different);
    wire_close(&w, '}');
    if (!(text = wire_finish(&w, NULL)))
        return pcv_fail(e, PCV_ENOMEM, "no memory for the report");
    printf("%s\n", text);
    free(text);
    return 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int run(struct ctl_bench *b, const char *model, struct pcv_err *e)
{
    int r;

    if (!(b->arena = wire_arena_new()))
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    if ((r = ctl_http_open(&b->http, &b->options.server, e)) < 0 ||
        (r = ctl_bench_prepare(b, model, e)) < 0 || (r = measure(b, e)) < 0)
        return r;
    if (b->options.json)
        return print_json(b, e);
    print_report(b);
    return 0;
}

static void release(struct ctl_bench *b)
{
    for (int i = 0; i < b->nsamples; i++) {
        free(b->samples[i].path);
        free(b->samples[i].body);
        free(b->samples[i].answer);
    }
    free(b->samples);
    free(b->sample_of);
    free(b->path);
    ctl_latency_free(&b->latency);
    wire_arena_free(b->arena);
    ctl_http_close(b->http);
}

static const char *take_name(void *ctx, const char *value, char message[96])
{
    struct ctl_names *names = ctx;

    if (names->n == CTL_BENCH_NAMES) {
        snprintf(message, 96, "more than %d", CTL_BENCH_NAMES);
        return message;
    }
    names->name[names->n++] = value;
    return NULL;
}

/* What is sent. */
#define SENDING_OPTIONS(o)                                                                         \
    {.name = "input",                                                                              \
     .value = "FILE|TEXT",                                                                         \
     .doc = "what to send, again for others, in turn; default: random inputs",                     \
     .take = take_name,                                                                            \
     .ctx = &o->inputs},                                                                           \
        {.name = "task",                                                                           \
         .value = "TASK",                                                                          \
         .doc = "ask only this task, again for others, in turn",                                   \
         .take = take_name,                                                                        \
         .ctx = &o->tasks},                                                                        \
        {.name = "handle",                                                                         \
         .value = "HANDLE",                                                                        \
         .doc = "ask about kept latents instead of inputs; again for others",                      \
         .take = take_name,                                                                        \
         .ctx = &o->handles},                                                                      \
    {                                                                                              \
        .name = "no-cache",                                                                        \
        .doc = "have every input computed: nothing kept before, nothing shared",                   \
        .flag = &o->no_cache                                                                       \
    }

int ctl_bench(int argc, char **argv)
{
    struct ctl_bench b = {.options = {.clients = 64, .seconds = 10},
                          .progress = isatty(STDERR_FILENO)};
    struct ctl_bench_options *o = &b.options;
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&o->server),
        {.name = "clients",
         .value = "N",
         .doc = "keep-alive clients, each with one request under "
                "way; default 64",
         .number = &o->clients,
         .min = 1,
         .max = 100000},
        {.name = "seconds",
         .value = "S",
         .doc = "how long; default 10",
         .real = &o->seconds,
         .min = 0.01,
         .max = 1e6},
        {.name = "requests",
         .value = "R",
         .doc = "stop after so many requests instead",
         .number = &o->requests,
         .min = 1,
         .max = 2000000000},
        SENDING_OPTIONS(o),
        {.name = "tokens",
         .value = "N",
         .doc = "length of random texts; default: from 16 to the "
                "longest",
         .number = &o->tokens,
         .min = 3,
         .max = 1 << 24},
        {.name = "binary",
         .doc = "Open Inference Protocol, binary tensors; default native JSON",
         .flag = &o->binary},
        {.name = "check",
         .doc = "every reply must be, bit for bit, the first for its input",
         .flag = &o->check},
        {.name = "tolerance",
         .value = "X",
         .doc = "with --check: numbers may differ by X x max(1, number)",
         .real = &o->tolerance,
         .min = 0,
         .max = 1e6},
        {.name = "json", .doc = "print the report as JSON", .flag = &o->json},
        {0},
    };
    const struct ctl_usage usage = {
        "[MODEL]", 0, 1,
        "Measures a daemon: rate, latency and batch size under many clients that each\n"
        "wait for a reply before they send the next request. Without MODEL it must serve\n"
        "only one, or there are handles. Exits 1 when a request failed or, with --check, a reply "
        "differed.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct pcv_err e;
    bool failed;

    if (n < 0)
        return ~n;
    if (o->binary && (o->inputs.n || o->tasks.n || o->handles.n))
        return ~ctl_wrong(&usage, argv, "goes with none of --input, --task, --handle", "--binary");
    if (o->handles.n && (o->inputs.n || o->no_cache))
        return ~ctl_wrong(&usage, argv, "goes with neither --input nor --no-cache", "--handle");
    failed = run(&b, n ? argv[1] : NULL, &e) < 0 && ctl_fail(&e);
    for (int i = 0; i < CTL_BENCH_CODES; i++)
        failed |= b.count[i] && i != 200;
    failed |= b.silent || b.different;
    release(&b);
    return failed;
}
