/* ctl_models.c - perceiverctl models: what is served. */
#include "proto/wire_client.h"
#include "server/ctl_http.h"
#include "server/ctl_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double total(const struct wire_stages *g)
{
    return g->encode + g->process + g->decode;
}

/* The JSON that describes a model, and the same read. own: free(*body) */
static int get_model(struct ctl_http *h, struct wire_arena *a, const char *name,
                     struct wire_model_desc *m, struct ctl_reply *reply, struct pcv_err *e)
{
    char *path = wire_client_path("/v1/models/", name, "");
    int r = path ? ctl_http_get(h, path, reply, e) : pcv_fail(e, PCV_ENOMEM, "no memory");

    if (r == 0 && (r = wire_client_model(a, reply->body, reply->len, m, e)) < 0)
        pcv_err_at(e, "reply to %s", path);
    free(path);
    return r;
}

/* ---- all models ------------------------------------------------------------------------------ */

static void names_cell(struct ctl_table *t, const char *(*name)(const void *, int), const void *v,
                       int n)
{
    char list[256] = "";

    for (int i = 0; i < n; i++) {
        const size_t at = strlen(list);

        snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", name(v, i));
    }
    ctl_cell(t, "%s", n ? list : "-");
}

static const char *input_name(const void *v, int i)
{
    return ((const struct wire_input_desc *)v)[i].name;
}

static const char *task_name(const void *v, int i)
{
    return ((const struct wire_task_desc *)v)[i].name;
}

/* What is not known before a model is loaded is "-". */
static void add_row(struct ctl_table *t, const struct wire_model_desc *m)
{
    char count[CTL_COUNT];

    ctl_cell(t, "%s", m->name);
    ctl_cell(t, "%s", m->state);
    ctl_cell(t, "%s", m->architecture[0] ? m->architecture : "-");
    names_cell(t, input_name, m->inputs, m->ninputs);
    names_cell(t, task_name, m->tasks, m->ntasks);
    ctl_cell(t, "%s", m->parameters ? ctl_count((double)m->parameters, count) : "-");
    if (m->num_latents)
        ctl_cell(t, "%d x %d", m->num_latents, m->d_latents);
    else
        ctl_cell(t, "-");
    if (total(&m->gmac) > 0)
        ctl_cell(t, "%.3g", total(&m->gmac));
    else
        ctl_cell(t, "-");
}

static int print_models(struct ctl_http *h, struct wire_arena *a,
                        const struct wire_model_desc *models, int n, struct pcv_err *e)
{
    static const char *const heads[] = {"model", "state",      "architecture", "inputs",
                                        "tasks", "parameters", "latents",      "GMAC"};
    struct ctl_table t = {.align = "lllllrrr"};
    int r = 0;

    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++)
        ctl_cell(&t, "%s", heads[i]);
    for (int i = 0; i < n && r == 0; i++) {
        struct ctl_reply reply = {0};
        struct wire_model_desc m;

        r = get_model(h, a, models[i].name, &m, &reply, e); /* the list has no costs */
        if (r == 0)
            add_row(&t, &m);
        free(reply.body);
    }
    return r < 0 ? r : ctl_table_print(&t, 0, stdout, e);
}

static int list(struct ctl_http *h, struct wire_arena *a, bool json, struct pcv_err *e)
{
    const struct wire_model_desc *models;
    struct ctl_reply reply;
    int n, r = ctl_http_get(h, "/v1/models", &reply, e);

    if (r < 0)
        return r;
    if (json) {
        printf("%s\n", reply.body);
    } else {
        r = wire_client_models(a, reply.body, reply.len, &models, &n, e);
        if (r == 0)
            r = print_models(h, a, models, n, e);
        else
            pcv_err_at(e, "reply to /v1/models");
    }
    free(reply.body);
    return r;
}

/* ---- one model ------------------------------------------------------------------------------- */

static void print_labels(const struct wire_task_desc *t)
{
    int column = 0;
    char word[320];

    for (int i = 0; t->labels && t->labels[i]; i++) {
        snprintf(word, sizeof(word), "%d %s%s", i, t->labels[i], t->labels[i + 1] ? "," : "");
        ctl_word(stdout, &column, 4, word);
    }
    if (column)
        printf("\n");
}

static void add_tensors(struct ctl_table *t, const char *role, const struct wire_tensor_desc *v,
                        int n)
{
    char shape[192];

    for (int i = 0; i < n; i++) {
        ctl_cell(t, "%s", role);
        ctl_cell(t, "%s", v[i].name);
        ctl_cell(t, "%s", pcv_dtype_name(v[i].dtype));
        ctl_cell(t, "%s", pcv_shape_text(v[i].shape, v[i].ndim, shape, sizeof(shape)));
    }
}

static void add_costs(struct ctl_table *t, const char *what, const struct wire_stages *g)
{
    ctl_cell(t, "%s", what);
    ctl_cell(t, "%.4g", g->encode);
    ctl_cell(t, "%.4g", g->process);
    ctl_cell(t, "%.4g", g->decode);
    ctl_cell(t, "%.4g", total(g));
}

static void print_facts(const struct wire_model_desc *m)
{
    char count[CTL_COUNT];

    ctl_put(stdout, m->name, strlen(m->name));
    printf("  %s%s%s\n", m->state, m->reason[0] ? ": " : "", m->reason);
    printf("  %-12s %s, %s\n", "architecture", m->architecture[0] ? m->architecture : "-",
           m->upstream[0] ? m->upstream : "-");
    printf("  %-12s %s\n", "parameters", ctl_count((double)m->parameters, count));
    printf("  %-12s %.1f MB\n", "memory", (double)m->bytes / 1e6);
    printf("  %-12s %d x %d\n", "latents", m->num_latents, m->d_latents);
    printf("  %-12s up to %d inputs in one request\n", "batch", m->max_batch);
    for (int i = 0; i < m->ninputs; i++) {
        printf("\ninput %s: up to %lld tokens; takes", m->inputs[i].name,
               (long long)m->inputs[i].max_tokens);
        for (const char *const *t = m->inputs[i].media; *t; t++)
            printf(" %s", *t);
        printf("\n");
    }
    for (int i = 0; i < m->ntasks; i++) {
        const struct wire_task_desc *t = &m->tasks[i];

        printf("\ntask %s: up to %lld output queries of %d logits\n", t->name,
               (long long)t->max_rows, t->width);
        print_labels(t);
    }
}

static int details(struct ctl_http *h, struct wire_arena *a, const char *name, bool json,
                   struct pcv_err *e)
{
    struct ctl_table tensors = {.align = "llll"}, costs = {.align = "lrrrr"};
    static const char *const stages[] = {"GMAC of a full-size input", "encode", "process", "decode",
                                         "total"};
    struct ctl_reply reply = {0};
    struct wire_model_desc m;
    int r = get_model(h, a, name, &m, &reply, e);

    if (r == 0 && json) {
        printf("%s\n", reply.body);
    } else if (r == 0) {
        print_facts(&m);
        printf("\n");
        add_tensors(&tensors, "tensor in", m.tensors_in, m.ntensors_in);
        add_tensors(&tensors, "tensor out", m.tensors_out, m.ntensors_out);
        r = ctl_table_print(&tensors, 0, stdout, e);
        printf("\n");
        for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++)
            ctl_cell(&costs, "%s", stages[i]);
        add_costs(&costs, "  plain algorithm", &m.gmac_dense);
        add_costs(&costs, "  this plan", &m.gmac);
        if (r == 0)
            r = ctl_table_print(&costs, 0, stdout, e);
    }
    free(reply.body);
    return r;
}

int ctl_models(int argc, char **argv)
{
    struct ctl_server server = {0};
    bool json = false;
    const struct ctl_option options[] = {
        CTL_SERVER_OPTIONS(&server),
        {.name = "json", .doc = "print the reply as it came", .flag = &json},
        {0},
    };
    const struct ctl_usage usage = {
        "[NAME]", 0, 1,
        "Lists the models that are served, or says all about one: labels, tensors, costs.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct ctl_http *h = NULL;
    struct wire_arena *a;
    struct pcv_err e;
    int r;

    if (n < 0)
        return ~n;
    if (!(a = wire_arena_new()))
        r = pcv_fail(&e, PCV_ENOMEM, "no memory");
    else if ((r = ctl_http_open(&h, &server, &e)) == 0)
        r = n ? details(h, a, argv[1], json, &e) : list(h, a, json, &e);
    wire_arena_free(a);
    ctl_http_close(h);
    return r < 0 ? ctl_fail(&e) : 0;
}
