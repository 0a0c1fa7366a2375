/* ctl_status.c - perceiverctl status: what a daemon is and what it has done. */
#include "proto/wire_client.h"
#include "proto/wire_metrics.h"
#include "server/ctl_http.h"
#include "server/ctl_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Replies, as they came; own: free(). */
struct status {
    struct ctl_reply server, ready, models, stats, metrics;
};

static int fetch(struct ctl_http *h, struct status *s, struct pcv_err *e)
{
    const struct ctl_call ready = {.path = "/v2/health/ready"};
    int r;

    if ((r = ctl_http_get(h, "/v2", &s->server, e)) < 0 ||
        (r = ctl_http_call(h, &ready, &s->ready, e)) < 0 || /* 200 and 503 are both answers */
        (r = ctl_http_get(h, "/v1/models", &s->models, e)) < 0 ||
        (r = ctl_http_get(h, "/v2/models/stats", &s->stats, e)) < 0)
        return r;
    return ctl_http_get(h, "/metrics", &s->metrics, e);
}

static void release(struct status *s)
{
    free(s->server.body);
    free(s->ready.body);
    free(s->models.body);
    free(s->stats.body);
    free(s->metrics.body);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static int sum(const struct status *s, const char *name, const char *model, double *v,
               struct pcv_err *e)
{
    int r = wire_metrics_sum(s->metrics.body, s->metrics.len, name, model ? "model" : NULL, model,
                             v, e);

    if (r < 0)
        pcv_err_at(e, "/metrics");
    return r;
}

enum { CODES = 600 };

/* perceiverd_requests_total by HTTP status. */
static int count_codes(const struct status *s, double count[CODES], struct pcv_err *e)
{
    struct wire_metrics m;
    struct wire_sample sample;
    char code[8];
    int r;

    wire_metrics_init(&m, s->metrics.body, s->metrics.len);
    while ((r = wire_metrics_next(&m, &sample, e)) > 0) {
        int n;

        if (!wire_sample_is(&sample, "perceiverd_requests_total") ||
            !wire_sample_label(&sample, "code", code, sizeof(code)))
            continue;
        n = (int)strtol(code, NULL, 10);
        if (n > 0 && n < CODES)
            count[n] += sample.value;
    }
    return r < 0 ? pcv_err_at(e, "/metrics") : r;
}

static int print_requests(const struct status *s, struct pcv_err *e)
{
    double count[CODES] = {0}, all = 0;
    const char *before = "  (";
    int r = count_codes(s, count, e);

    if (r < 0)
        return r;
    for (int i = 0; i < CODES; i++)
        all += count[i];
    printf("  %-12s %.0f", "requests", all);
    for (int i = 0; i < CODES; i++) {
        if (count[i] > 0) {
            printf("%s%.0f x %d", before, count[i], i);
            before = ", ";
        }
    }
    printf("%s\n", all > 0 ? ")" : "");
    return 0;
}

/* "  batches      5180, 7.8 inputs each" */
static int print_batches(const struct status *s, struct pcv_err *e)
{
    double batches, items;
    int r;

    if ((r = sum(s, "perceiverd_batch_items_count", NULL, &batches, e)) < 0 ||
        (r = sum(s, "perceiverd_batch_items_sum", NULL, &items, e)) < 0)
        return r;
    printf("  %-12s %.0f", "batches", batches);
    if (batches > 0)
        printf(", %.2f inputs each", items / batches);
    printf("\n");
    return 0;
}

static int print_gauges(const struct status *s, struct pcv_err *e)
{
    static const struct {
        const char *name, *metric;
    } gauges[] = {{"in flight", "perceiverd_in_flight"},
                  {"queued", "perceiverd_queue_depth"},
                  {"busy lanes", "perceiverd_lanes_busy"},
                  {"connections", "perceiverd_connections"}};
    double v;
    int r;

    for (size_t i = 0; i < sizeof(gauges) / sizeof(*gauges); i++) {
        if ((r = sum(s, gauges[i].metric, NULL, &v, e)) < 0)
            return r;
        printf("  %-12s %.0f\n", gauges[i].name, v);
    }
    return 0;
}

/* ---- models ---------------------------------------------------------------------------------- */

static void mean_cell(struct ctl_table *t, const struct wire_stat *s)
{
    if (s->count)
        ctl_cell(t, "%.2f", (double)s->ns / (double)s->count / 1e6);
    else
        ctl_cell(t, "-");
}

static const char *state_of(const struct wire_model_desc *models, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(models[i].name, name) == 0)
            return models[i].state;
    return "-";
}

static int print_models(const struct status *s, const struct wire_model_desc *models, int nmodels,
                        const struct wire_model_stats *stats, int n, struct pcv_err *e)
{
    static const char *const heads[] = {"model",   "state", "answered", "failed",   "queued",
                                        "batches", "mean",  "queue ms", "infer ms", "total ms"};
    struct ctl_table t = {.align = "llrrrrrrrr"};
    double queued;
    int r = 0;

    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++)
        ctl_cell(&t, "%s", heads[i]);
    for (int i = 0; i < n && r == 0; i++) {
        const struct wire_model_stats *m = &stats[i];

        r = sum(s, "perceiverd_queue_depth", m->name, &queued, e);
        ctl_cell(&t, "%s", m->name);
        ctl_cell(&t, "%s", state_of(models, nmodels, m->name));
        ctl_cell(&t, "%llu", (unsigned long long)m->success.count);
        ctl_cell(&t, "%llu", (unsigned long long)m->fail.count);
        ctl_cell(&t, "%.0f", r < 0 ? 0 : queued);
        ctl_cell(&t, "%llu", (unsigned long long)m->execution_count);
        if (m->execution_count)
            ctl_cell(&t, "%.2f", (double)m->inference_count / (double)m->execution_count);
        else
            ctl_cell(&t, "-");
        mean_cell(&t, &m->queue);
        mean_cell(&t, &m->compute_infer);
        mean_cell(&t, &m->success);
    }
    printf("\n");
    if (ctl_table_print(&t, 2, stdout, r < 0 ? NULL : e) < 0 && r == 0)
        r = e->code;
    return r;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int print_status(const struct ctl_http *h, const struct status *s, struct wire_arena *a,
                        struct pcv_err *e)
{
    const struct wire_model_stats *stats;
    const struct wire_model_desc *models;
    const char *name, *version;
    int r, nstats, nmodels;

    if (wire_client_server(a, s->server.body, s->server.len, &name, &version, e) < 0)
        return pcv_err_at(e, "reply to /v2");
    if (wire_client_models(a, s->models.body, s->models.len, &models, &nmodels, e) < 0)
        return pcv_err_at(e, "reply to /v1/models");
    if (wire_client_stats(a, s->stats.body, s->stats.len, &stats, &nstats, e) < 0)
        return pcv_err_at(e, "reply to /v2/models/stats");
    ctl_put(stdout, name, strlen(name));
    printf(" ");
    ctl_put(stdout, version, strlen(version));
    printf(" at %s\n", ctl_http_url(h));
    printf("  %-12s %s\n", "ready", s->ready.status == 200 ? "yes" : "no");
    if ((r = print_requests(s, e)) < 0 || (r = print_gauges(s, e)) < 0 ||
        (r = print_batches(s, e)) < 0)
        return r;
    return print_models(s, models, nmodels, stats, nstats, e);
}

int ctl_status(int argc, char **argv)
{
    struct ctl_server server = {0};
    const struct ctl_option options[] = {CTL_SERVER_OPTIONS(&server), {0}};
    const struct ctl_usage usage = {
        "", 0, 0,
        "Says what a daemon is, whether it is ready, and what it has done so far.\n"
        "Exits 1 when it is not ready.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct ctl_http *h = NULL;
    struct wire_arena *a;
    struct status s = {0};
    struct pcv_err e;
    int r;

    if (n < 0)
        return ~n;
    if (!(a = wire_arena_new()))
        r = pcv_fail(&e, PCV_ENOMEM, "no memory");
    else if ((r = ctl_http_open(&h, &server, &e)) == 0 && (r = fetch(h, &s, &e)) == 0)
        r = print_status(h, &s, a, &e);
    release(&s);
    wire_arena_free(a);
    ctl_http_close(h);
    return r < 0 ? ctl_fail(&e) : s.ready.status != 200;
}
