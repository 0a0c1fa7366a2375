#include "server/routes_internal.h"

#include "server/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the rest of the handlers ------------------------------------------------------------------
 */

static void home(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    static const char text[] = "perceiverd: Perceiver and Perceiver IO models over HTTP\n"
                               "\n"
                               "GET  /v1/models                    what is served\n"
                               "GET  /v1/models/{m}                inputs, tasks, labels, cost\n"
                               "POST /v1/models/{m}/perceive       ask: JSON, a file, or a form\n"
                               "POST /v1/latents/{id}/query        ask again what was kept\n"
                               "GET  /v2                           Open Inference Protocol\n"
                               "GET  /v2/health/live, .../ready    for probes\n"
                               "GET  /metrics                      for Prometheus\n"
                               "GET  /openapi.json                 all of this, exactly\n";
    (void)s;
    (void)m;
    char *body = strdup(text);
    srv_http_reply(x, 200, "text/plain; charset=utf-8", body, body ? strlen(body) : 0, NULL, 0);
}

static void openapi(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    (void)s;
    (void)m;
    srv_answer_json(x, 200, strdup(wire_openapi_json()));
}

static void metrics(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    size_t len = 0;
    (void)m;
    srv_flow_set_gauges(s->flow);
    srv_metrics_set(s->metrics, SRV_M_connections, srv_http_connections(s->http), NULL);
    srv_metrics_set(s->metrics, SRV_M_ready, srv_flow_ready(s->flow), NULL);
    char *text = srv_metrics_text(s->metrics, &len);
    if (text)
        srv_http_reply(x, 200, SRV_METRICS_TYPE, text, len, NULL, 0);
    else
        srv_answer_json(x, 500, NULL);
}

/* ---- the table --------------------------------------------------------------------------------
 */

enum kind { INFER, LATENTS, OPS, INFO }; /* inference; their files; health, metrics; all else */

struct srv_route {
    const char *method;
    const char *pattern; /* {m} is a model, {v} a version */
    enum kind kind;
    srv_handler *handle;
};

/* Fixed paths stand before patterns that would take them. */
static const struct srv_route routes[] = {
    {"GET", "/", INFO, home},
    {"GET", "/metrics", OPS, metrics},
    {"GET", "/openapi.json", INFO, openapi},
    {"GET", "/v1/models", INFO, srv_v1_models},
    {"GET", "/v1/models/{m}", INFO, srv_v1_model},
    {"POST", "/v1/models/{m}/perceive", INFER, srv_v1_perceive},
    {"POST", "/v1/models/{m}/latents", LATENTS, srv_latents_import},
    {"GET", "/v1/latents/{id}", INFO, srv_latents_get},
    {"DELETE", "/v1/latents/{id}", INFO, srv_latents_delete},
    {"GET", "/v1/latents/{id}/tensor", INFO, srv_latents_tensor},
    {"POST", "/v1/latents/{id}/query", INFER, srv_latents_query},
    {"GET", "/v2", INFO, srv_v2_server},
    {"GET", "/v2/health/live", OPS, srv_v2_live},
    {"GET", "/v2/health/ready", OPS, srv_v2_ready},
    {"GET", "/v2/models/stats", INFO, srv_v2_all_stats},
    {"GET", "/v2/models/{m}", INFO, srv_v2_model},
    {"GET", "/v2/models/{m}/versions/{v}", INFO, srv_v2_model},
    {"GET", "/v2/models/{m}/ready", OPS, srv_v2_model_ready},
    {"GET", "/v2/models/{m}/versions/{v}/ready", OPS, srv_v2_model_ready},
    {"GET", "/v2/models/{m}/config", INFO, srv_v2_config},
    {"GET", "/v2/models/{m}/versions/{v}/config", INFO, srv_v2_config},
    {"GET", "/v2/models/{m}/stats", INFO, srv_v2_stats},
    {"GET", "/v2/models/{m}/versions/{v}/stats", INFO, srv_v2_stats},
    {"POST", "/v2/models/{m}/infer", INFER, srv_v2_infer},
    {"POST", "/v2/models/{m}/versions/{v}/infer", INFER, srv_v2_infer},
    {"POST", "/v2/repository/index", INFO, srv_v2_index},
};

const char *srv_route_name(const struct srv_route *r)
{
    return r->pattern;
}

/* Fills m when the path fits the pattern. */
static bool fits(const char *pattern, const char *path, struct srv_match *m)
{
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        size_t len = strcspn(path, "/");
        if (!len)
            return false;
        if (pattern[1] == 'm') {
            m->model = path;
            m->model_len = len;
        } else if (pattern[1] == 'i') {
            m->id = path;
            m->id_len = len;
        } else {
            m->version = path;
            m->version_len = len;
        }
        pattern = strchr(pattern, '}') + 1;
        path += len;
    }
    return !*path;
}

/* Methods of all routes of a pattern. */
static const char *methods_of(const char *pattern)
{
    static const char *const names[] = {"GET, HEAD", "POST", "GET, HEAD, POST", "DELETE",
                                        "GET, HEAD, DELETE"};
    bool get = false, post = false, del = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].pattern, pattern) != 0)
            continue;
        get |= !strcmp(routes[i].method, "GET");
        post |= !strcmp(routes[i].method, "POST");
        del |= !strcmp(routes[i].method, "DELETE");
    }
    return names[del ? get ? 4 : 3 : get ? post ? 2 : 0 : 1];
}

int srv_route_find(const char *method, const char *path, struct srv_match *ret, const char **allow)
{
    const size_t n = sizeof routes / sizeof *routes;
    if (!strcmp(method, "HEAD"))
        method = "GET";
    for (size_t i = 0; i < n; i++) {
        struct srv_match m = {.route = &routes[i]};
        if (!strcmp(routes[i].method, method) && fits(routes[i].pattern, path, &m)) {
            *ret = m;
            return 0;
        }
    }
    for (size_t i = 0; i < n; i++) { /* the first pattern that fits is meant */
        struct srv_match m;
        if (!fits(routes[i].pattern, path, &m))
            continue;
        *allow = methods_of(routes[i].pattern);
        return -405;
    }
    return -404;
}

/* ---- what handlers share -----------------------------------------------------------------------
 */

struct srv_model *srv_route_model(struct srv_routes *s, struct srv_exchange *x,
                                  const struct srv_match *m)
{
    struct pcv_err e;
    struct srv_model *model = srv_registry_find(s->registry, m->model, m->model_len);
    if (!model)
        pcv_fail(&e, PCV_EUNKNOWN, "no model \"%.*s\"",
                 (int)(m->model_len < 64 ? m->model_len : 64), m->model);
    else if (m->version && (m->version_len != strlen(SRV_MODEL_VERSION) ||
                            memcmp(m->version, SRV_MODEL_VERSION, m->version_len)))
        pcv_fail(&e, PCV_EUNKNOWN, "model %s has no version \"%.*s\"; it has " SRV_MODEL_VERSION,
                 model->name, (int)(m->version_len < 32 ? m->version_len : 32), m->version);
    else
        return model;
    srv_answer_error(x, 404, "not_found", &e, 0);
    return NULL;
}

bool srv_route_ready(struct srv_routes *s, struct srv_exchange *x, const struct srv_model *m)
{
    struct pcv_err e;
    if (m->info)
        return true;
    pcv_fail(&e, PCV_EIO, "model %s is being loaded", m->name);
    srv_answer_error(x, 503, "not_ready", &e, (double)s->config->server_retry_after / 1e3);
    return false;
}

/* ---- ops of the HTTP layer ---------------------------------------------------------------------
 */

/* A file of one model's latents, with some room for what it says of them. */
static int64_t latents_limit(const struct srv_routes *s, const struct srv_match *m)
{
    const struct srv_model *model = srv_registry_find(s->registry, m->model, m->model_len);
    int64_t most = 64 << 10;
    if (model && model->info)
        most += (int64_t)model->info->num_latents * model->info->d_latents * (int64_t)sizeof(float);
    return most < s->config->http_max_body ? most : s->config->http_max_body;
}

static int64_t on_headers(void *ctx, const char *method, const char *path, const char **allow)
{
    struct srv_routes *s = ctx;
    struct srv_match m;
    int r = srv_route_find(method, path, &m, allow);
    if (r)
        return r;
    if (m.route->kind == INFER)
        return s->config->http_max_body;
    if (m.route->kind == LATENTS)
        return latents_limit(s, &m);
    return strcmp(m.route->method, "POST") ? 0 : 4096;
}

static void on_request(void *ctx, struct srv_exchange *x)
{
    struct srv_routes *s = ctx;
    struct srv_match m;
    const char *allow;
    srv_exchange_set_data(x, NULL);
    if (srv_route_find(srv_exchange_method(x), srv_exchange_path(x), &m, &allow)) {
        struct pcv_err e;
        pcv_fail(&e, PCV_EUNKNOWN, "no such path");
        srv_answer_error(x, 404, "not_found", &e, 0);
        return;
    }
    m.route->handle(s, x, &m);
}

static void on_gone(void *ctx, struct srv_exchange *x, bool replied)
{
    struct srv_routes *s = ctx;
    struct srv_request *r = srv_exchange_data(x);
    (void)replied; /* the request's state knows */
    if (r)
        srv_flow_gone(s->flow, r);
}

static char *error_body(void *ctx, int status, const char *path, const char *message,
                        const char *request_id)
{
    (void)ctx;
    return wire_error_json(srv_form_of(path), srv_status_code(status), message, NULL, request_id);
}

/* One line for the access log: what was asked, and for inference what it cost. */
static void log_request(const struct srv_exchange *x, enum srv_level level,
                        const struct srv_request *r, int status, size_t bytes, uint64_t ns)
{
    char cost[256] = "";
    if (r && r->success)
        snprintf(cost, sizeof cost,
                 " %s: %s, %d items, %lld tokens, %lld output queries, batch %d, queue %.2f ms, "
                 "compute %.2f ms",
                 r->model->name, srv_request_task(r), r->job->nitems, (long long)r->job->tokens,
                 (long long)r->job->output_queries, r->batch_items, r->queue_s * 1e3,
                 (r->encode_s + r->process_s + r->decode_s) * 1e3);
    else if (r && r->err.code)
        snprintf(cost, sizeof cost, " %s: %.100s%s%.120s", r->model->name, r->err.where,
                 *r->err.where ? ": " : "", r->err.msg);
    srv_log(level, srv_exchange_request_id(x), "%s %.200s %d, %zu bytes, %.2f ms%s",
            srv_exchange_method(x), srv_exchange_path(x), status, bytes, (double)ns / 1e6, cost);
}

static void on_replied(void *ctx, const struct srv_exchange *x, int status, size_t bytes,
                       uint64_t ns)
{
    struct srv_routes *s = ctx;
    struct srv_match m = {0};
    const char *allow;
    const struct srv_request *r = srv_exchange_data(x);
    if (r && r->state != SRV_DONE)
        r = NULL; /* timed out: another thread still has it */
    const char code[] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
                         (char)('0' + status % 10), 0};
    bool known = !srv_route_find(srv_exchange_method(x), srv_exchange_path(x), &m, &allow);
    const struct srv_model *model = r ? r->model
                                    : known && m.model
                                        ? srv_registry_find(s->registry, m.model, m.model_len)
                                        : NULL;
    srv_metrics_add(s->metrics, SRV_M_requests_total, 1,
                    SRV_LABELS(known ? m.route->pattern : "other", model ? model->name : "",
                               r ? srv_request_task(r) : "", code));
    enum srv_level level = known && m.route->kind == OPS    ? SRV_DEBUG
                           : status >= 500 && status != 503 ? SRV_WARN
                                                            : SRV_INFO;
    if (s->config->server_access_log && srv_log_wants(level))
        log_request(x, level, r, status, bytes, ns);
}

struct srv_http_ops srv_routes_ops(struct srv_routes *s)
{
    return (struct srv_http_ops){.body_limit = on_headers,
                                 .on_request = on_request,
                                 .on_gone = on_gone,
                                 .error_body = error_body,
                                 .on_replied = on_replied,
                                 .ctx = s};
}
