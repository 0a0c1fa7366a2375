/* ctl_perceive.c - perceiverctl perceive: asks a model about files and texts. */
#include "proto/wire_client.h"
#include "server/ctl_http.h"
#include "server/ctl_media.h"
#include "server/ctl_text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAR = 20, MIN_TASK = 9 };

struct options {
    struct ctl_server server;
    const char *task;
    int top_k;
    bool json;
};

/* ---- answers for a person -------------------------------------------------------------------- */

static void put_text(const char *s)
{
    ctl_put(stdout, s, strlen(s));
}

/* Blanks up to a column, where the text before took `columns`. */
static void pad(int columns, int to)
{
    printf("%*s", columns < to ? to - columns : 0, "");
}

/* "  classify   ", or as many blanks. */
static void margin(const char *task, int width)
{
    printf("  ");
    put_text(task);
    pad(ctl_columns(task, strlen(task)), width + 2);
}

/* The name of a class: its label, or its number. */
static const char *class_name(const struct wire_label *l, char buf[32])
{
    snprintf(buf, 32, "class %d", l->index);
    return l->label ? l->label : buf;
}

static void print_classes(const struct wire_result *r, int width)
{
    const bool utf8 = ctl_utf8();
    char bar[3 * BAR + 1], name[32];
    int widest = 0;

    for (int i = 0; i < r->nlabels; i++) {
        const char *label = class_name(&r->labels[i], name);
        const int n = ctl_columns(label, strlen(label));

        widest = n > widest ? n : widest;
    }
    for (int i = 0; i < r->nlabels; i++) {
        const struct wire_label *l = &r->labels[i];
        const char *label = class_name(l, name);

        margin(i ? "" : r->task, width);
        put_text(label);
        pad(ctl_columns(label, strlen(label)), widest);
        ctl_bar(bar, (double)l->score, BAR, utf8);
        printf("  %5.1f %%%s%s\n", 100 * (double)l->score, bar[0] ? "  " : "", bar);
    }
}

static void print_fills(const struct wire_result *r, int width)
{
    margin(r->task, width);
    if (r->text)
        ctl_put(stdout, r->text, r->text_len);
    else
        printf("%d positions", r->nfills);
    printf("\n");
    for (int i = 0; i < r->nfills; i++) {
        const struct wire_fill *f = &r->fills[i];
        char place[40];

        if (f->byte_offset >= 0)
            snprintf(place, sizeof(place), "byte %lld", (long long)f->byte_offset);
        else
            snprintf(place, sizeof(place), "token %d", f->position);
        margin("", width);
        printf("%-10s", place);
        for (int k = 0; k < f->nlabels; k++) {
            printf("  \"");
            put_text(f->labels[k].label ? f->labels[k].label : "");
            printf("\" %.1f %%", 100 * (double)f->labels[k].score);
        }
        printf("\n");
    }
}

/* Milliseconds with about as many digits as matter. */
static const char *ms_text(double ms, char buf[32])
{
    snprintf(buf, 32, "%.*f", ms < 1 ? 2 : ms < 100 ? 1 : 0, ms);
    return buf;
}

static void print_reply(const struct wire_reply *r)
{
    const struct wire_stages *g = &r->gmac;
    char total[32], encode[32], process[32], decode[32];
    int width = MIN_TASK;

    for (int i = 0; i < r->nresults; i++) {
        const int n = ctl_columns(r->results[i].task, strlen(r->results[i].task));

        width = n > width ? n : width;
    }
    for (int i = 0; i < r->nresults; i++) {
        if (r->results[i].kind == WIRE_FILLS)
            print_fills(&r->results[i], width);
        else
            print_classes(&r->results[i], width);
    }
    printf("  %s ms (encode %s, process %s, decode %s), %lld tokens, %.3g GMAC\n",
           ms_text(r->ms.total, total), ms_text(r->ms.encode, encode),
           ms_text(r->ms.process, process), ms_text(r->ms.decode, decode), (long long)r->tokens,
           g->encode + g->process + g->decode);
}

/* ---- questions ------------------------------------------------------------------------------- */

static int show(const struct options *o, const struct ctl_media *m, const struct ctl_reply *reply,
                struct pcv_err *e)
{
    struct wire_arena *a;
    struct wire_reply read;
    int r;

    if (o->json) {
        printf("%s\n", reply->body);
        return 0;
    }
    if (!(a = wire_arena_new()))
        return pcv_fail(e, PCV_ENOMEM, "no memory for the reply");
    r = wire_client_reply(a, reply->body, reply->len, &read, e);
    if (r == 0) {
        if (m->name)
            put_text(strcmp(m->name, "-") == 0 ? "standard input" : m->name);
        else
            ctl_put(stdout, m->data, m->len);
        printf("\n");
        print_reply(&read);
    } else {
        pcv_err_at(e, "reply");
    }
    wire_arena_free(a);
    return r;
}

/* Puts what was asked about before an error: the file, or the beginning of the text. */
static void name_it(const struct ctl_media *m, struct pcv_err *e)
{
    int n = m->len < 40 ? (int)m->len : 40;

    while (n && n < (int)m->len && (m->data[n] & 0xc0) == 0x80)
        n--; /* no half characters */
    if (m->name)
        pcv_err_at(e, "%s", m->name);
    else
        pcv_err_at(e, "\"%.*s%s\"", n, m->data, n < (int)m->len ? "..." : "");
}

static int ask(struct ctl_http *h, const struct options *o, const char *path, const char *argument,
               struct pcv_err *e)
{
    struct ctl_reply reply = {0};
    struct ctl_media m = {0};
    struct ctl_call call;
    int r = ctl_media_read(argument, &m, e);

    if (r < 0)
        return r;
    call = (struct ctl_call){.path = path, .type = m.type, .body = m.data, .len = m.len};
    r = ctl_http_ask(h, &call, &reply, e);
    if (r == 0)
        r = show(o, &m, &reply, e);
    if (r < 0)
        name_it(&m, e);
    free(reply.body);
    free(m.data);
    return r;
}

/* "/v1/models/NAME/perceive?task=T&top_k=N". own: free(). */
static char *question_path(const struct options *o, const char *model)
{
    char top_k[32] = "", *path, *all;

    if (o->top_k)
        snprintf(top_k, sizeof(top_k), "%ctop_k=%d", o->task ? '&' : '?', o->top_k);
    path = wire_client_path("/v1/models/", model, o->task ? "/perceive?task=" : "/perceive");
    if (!path)
        return NULL;
    all = wire_client_path(path, o->task ? o->task : "", top_k);
    free(path);
    return all;
}

int ctl_perceive(int argc, char **argv)
{
    struct options o = {.json = false};
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&o.server),
        {.name = "task", .value = "TASK", .doc = "only this task of the model", .text = &o.task},
        {.name = "top-k",
         .value = "N",
         .doc = "so many candidates, best first",
         .number = &o.top_k,
         .min = 1,
         .max = WIRE_MAX_TOP_K},
        {.name = "json", .doc = "print the reply as it came", .flag = &o.json},
        {0},
    };
    const struct ctl_usage usage = {
        "MODEL FILE|TEXT...", 2, INT_MAX,
        "Asks a model about each file (PNG, JPEG or text), about standard input (-), or\n"
        "about a text: whatever is no file's name. Exits 1 when any was refused.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct ctl_http *h = NULL;
    char *path = NULL;
    struct pcv_err e;
    int failed = 0;

    if (n < 0)
        return ~n;
    if (ctl_http_open(&h, &o.server, &e) < 0)
        return ctl_fail(&e);
    if (!(path = question_path(&o, argv[1]))) {
        pcv_fail(&e, PCV_ENOMEM, "no memory for a path");
        failed = ctl_fail(&e);
    }
    for (int i = 2; i <= n && path; i++)
        if (ask(h, &o, path, argv[i], &e) < 0)
            failed = ctl_fail(&e);
    free(path);
    ctl_http_close(h);
    return failed;
}
