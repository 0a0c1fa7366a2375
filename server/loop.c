#include "server/loop.h"

#include "server/clock.h"
#include "server/listen.h"
#include "server/loader.h"
#include "server/log.h"
#include "server/notify.h"
#include "server/routes.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum phase { LOADING, SERVING, LEAVING, DRAINING, CLOSING };
enum { MAX_SOCKETS = 16, POLL_MS = 10, LAST_WAIT_MS = 10000 };

struct daemon {
    const struct srv_config *c;
    enum phase phase;
    uv_loop_t loop;
    int fds[MAX_SOCKETS];
    int nfds;
    bool activated; /* the sockets are systemd's */
    struct srv_addr addrs[MAX_SOCKETS];
    struct srv_metrics *metrics;
    struct srv_registry *registry;
    struct srv_flow *flow;
    struct srv_lanes *lanes;
    struct srv_routes routes;
    struct srv_loader loader;
    uv_signal_t term, interrupt;
    uv_timer_t step; /* LEAVING, DRAINING, CLOSING: looks whether it is time to go on */
    uv_timer_t watchdog;
    uint64_t since_ms; /* of the phase */
    bool http_drained, hung;
    int told;           /* requests in flight in the last STATUS */
    struct pcv_err err; /* why it ends, if code */
    int code;
};

/* ---- sockets ----------------------------------------------------------------------------------
 */

static int open_sockets(struct daemon *d, struct pcv_err *e)
{
    const struct srv_list *l = &d->c->server_listen;
    int n = srv_notify_listen_fds(d->fds, MAX_SOCKETS, e);
    if (n < 0)
        return n;
    d->activated = n > 0;
    d->nfds = n;
    if (!n && l->n > MAX_SOCKETS)
        return pcv_fail(e, PCV_ELIMIT, "%d addresses to listen on; at most %d", l->n, MAX_SOCKETS);
    for (int i = 0; !d->activated && i < l->n; i++) {
        int r = srv_addr_parse(&d->addrs[i], l->v[i], e);
        if (r || (r = srv_listen_open(&d->fds[i], &d->addrs[i], e)))
            return r;
        d->nfds++;
    }
    return 0;
}

static void close_sockets(struct daemon *d)
{
    for (int i = 0; i < d->nfds; i++)
        close(d->fds[i]);
    d->nfds = 0;
}

static void remove_sockets(const struct daemon *d)
{
    for (int i = 0; !d->activated && i < d->c->server_listen.n && i < MAX_SOCKETS; i++)
        srv_listen_remove(&d->addrs[i]);
}

/* Every connection is a file, and some are needed besides. */
static int allow_files(const struct srv_config *c, struct pcv_err *e)
{
    struct rlimit l;
    rlim_t want = (rlim_t)c->http_max_connections + 128;
    if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= want)
        return 0;
    if (l.rlim_max != RLIM_INFINITY && l.rlim_max < want)
        return pcv_fail(e, PCV_ELIMIT,
                        "%lld connections need %llu files, and the limit is %llu (ulimit -Hn)",
                        (long long)c->http_max_connections, (unsigned long long)want,
                        (unsigned long long)l.rlim_max);
    l.rlim_cur = want;
    if (setrlimit(RLIMIT_NOFILE, &l))
        return pcv_fail(e, PCV_EIO, "setrlimit: %s", strerror(errno));
    return 0;
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void enter(struct daemon *d, enum phase phase)
{
    d->phase = phase;
    d->since_ms = uv_now(&d->loop);
}

static void close_handles(struct daemon *d)
{
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    uv_close((uv_handle_t *)&d->step, NULL);
    uv_close((uv_handle_t *)&d->watchdog, NULL);
    srv_lanes_free(d->lanes, NULL, NULL);
    d->lanes = NULL;
    srv_flow_close(d->flow);
    d->flow = NULL;
}

static void on_http_drained(void *ctx)
{
    struct daemon *d = ctx;
    srv_http_free(d->routes.http);
    d->routes.http = NULL;
    enter(d, CLOSING);
}

static void start_closing(struct daemon *d, int64_t left_ms)
{
    if (d->http_drained)
        return;
    d->http_drained = true;
    srv_http_drain(d->routes.http, left_ms > 1 ? (int)left_ms : 1, on_http_drained, d);
}

static void start_draining(struct daemon *d)
{
    enter(d, DRAINING);
    srv_flow_drain(d->flow);
    srv_registry_unavailable(d->registry, "the server is shutting down");
    srv_log(SRV_INFO, NULL, "draining: %d requests in flight", srv_flow_in_flight(d->flow));
    if (d->activated)
        start_closing(d, d->c->server_drain_timeout);
}

/* A lane that does not come back cannot be waited for: what has to be done is done. */
static void leave_behind(struct daemon *d)
{
    srv_log(SRV_WARN, NULL, "stopped; a computation was left behind");
    remove_sockets(d);
    _exit(d->code ? 1 : 0);
}

static void on_step(uv_timer_t *t)
{
    struct daemon *d = t->data;
    int64_t in_phase = (int64_t)(uv_now(&d->loop) - d->since_ms);
    int64_t left = d->c->server_drain_timeout - in_phase;
    switch (d->phase) {
    case LOADING:
    case SERVING: break;
    case LEAVING:
        if (in_phase >= d->c->server_drain_delay)
            start_draining(d);
        break;
    case DRAINING:
        if (srv_flow_in_flight(d->flow) == 0 || left <= 0)
            start_closing(d, left);
        break;
    case CLOSING:
        if (srv_flow_elsewhere(d->flow) == 0)
            close_handles(d);
        else if (in_phase > LAST_WAIT_MS)
            leave_behind(d);
        break;
    }
}

static void on_signal(uv_signal_t *s, int signum)
{
    struct daemon *d = s->data;
    if (d->phase == LOADING || d->phase > SERVING) {
        srv_log(SRV_INFO, NULL, "%s: stopping at once", strsignal(signum));
        remove_sockets(d);
        _exit(d->phase == LOADING ? 0 : 128 + signum);
    }
    srv_log(SRV_INFO, NULL, "%s: stopping", strsignal(signum));
    srv_notify_stopping();
    srv_notify_status("Draining %d requests", srv_flow_in_flight(d->flow));
    srv_flow_unready(d->flow);
    enter(d, LEAVING);
    uv_timer_start(&d->step, on_step, 0, POLL_MS);
}

/* Cannot go on: closes without grace. */
static void fail(struct daemon *d, int code)
{
    d->code = code;
    srv_http_free(d->routes.http);
    d->routes.http = NULL;
    enter(d, CLOSING);
    uv_timer_start(&d->step, on_step, 0, POLL_MS);
}

/* ---- systemd's watchdog -------------------------------------------------------------------------
 */

static void on_watchdog(uv_timer_t *t)
{
    struct daemon *d = t->data;
    int lane = srv_flow_hung_lane(d->flow, srv_now_ns());
    if (lane < 0) {
        int in_flight = srv_flow_in_flight(d->flow);
        d->hung = false;
        srv_notify_watchdog();
        if (d->phase == SERVING && in_flight != d->told)
            srv_notify_status("Serving %d models, %d requests in flight", d->registry->n,
                              in_flight);
        d->told = in_flight;
        return;
    }
    if (!d->hung)
        srv_log(SRV_ERROR, NULL, "lane %d hangs; the watchdog is not fed any more", lane);
    d->hung = true;
}

/* ---- loading ----------------------------------------------------------------------------------
 */

/* Takes what the loader made. */
static int serve(struct daemon *d, struct srv_loader *l)
{
    for (int i = 0; i < d->registry->n; i++) {
        struct pcv_model *engine = l->models[i].engine;
        l->models[i].engine = NULL;
        int r = srv_model_ready(&d->registry->models[i], engine, &d->err);
        if (r)
            return r;
        srv_flow_warmed(d->flow, i, l->models[i].gmac, l->models[i].seconds);
    }
    d->lanes = l->lanes;
    l->lanes = NULL;
    return srv_flow_start(d->flow, d->lanes, &d->err);
}

static void on_loaded(struct srv_loader *l)
{
    struct daemon *d = l->data;
    int r = l->code;
    if (r)
        d->err = l->err;
    else
        r = serve(d, l);
    if (r) {
        fail(d, r);
        return;
    }
    enter(d, SERVING);
    srv_log(SRV_INFO, NULL, "ready: %d models, %d lanes of %d threads, %s kernels", d->registry->n,
            srv_lanes_count(d->lanes), srv_lanes_threads(d->lanes), pcv_isa());
    srv_notify_ready();
    srv_notify_status("Serving %d models", d->registry->n);
}

/* ---- putting it together ------------------------------------------------------------------------
 */

/* Series that are worth seeing before they first count. */
static void first_metrics(struct daemon *d)
{
    static const char *const refused[] = {"queue_full", "deadline", "result_memory", "not_ready",
                                          "draining"};
    static const char *const evicted[] = {"budget", "expired", "deleted"};
    srv_metrics_set(d->metrics, SRV_M_build_info, 1, SRV_LABELS(pcv_version(), pcv_isa()));
    for (int i = 0; i < d->registry->n; i++) {
        const char *name = d->registry->models[i].name;
        for (size_t k = 0; k < sizeof refused / sizeof *refused; k++)
            srv_metrics_add(d->metrics, SRV_M_rejected_total, 0, SRV_LABELS(name, refused[k]));
        for (size_t k = 0; k < sizeof evicted / sizeof *evicted; k++)
            srv_metrics_add(d->metrics, SRV_M_latents_evictions_total, 0,
                            SRV_LABELS(name, evicted[k]));
        srv_metrics_add(d->metrics, SRV_M_latents_hits_total, 0, SRV_LABELS(name));
        srv_metrics_add(d->metrics, SRV_M_latents_misses_total, 0, SRV_LABELS(name));
        srv_metrics_add(d->metrics, SRV_M_latents_shared_total, 0, SRV_LABELS(name));
        srv_metrics_add(d->metrics, SRV_M_cancelled_total, 0, SRV_LABELS(name, "gone"));
        srv_metrics_add(d->metrics, SRV_M_cancelled_total, 0, SRV_LABELS(name, "timeout"));
    }
}

static int make_parts(struct daemon *d, struct pcv_err *e)
{
    int r = srv_registry_new(&d->registry, d->c, e);
    if (r)
        return r;
    if (!(d->metrics = srv_metrics_new()))
        return pcv_fail(e, PCV_ENOMEM, "no memory for metrics");
    first_metrics(d);
    struct srv_flow_parts parts = {
        .loop = &d->loop, .config = d->c, .registry = d->registry, .metrics = d->metrics};
    return srv_flow_new(&d->flow, &parts, e);
}

static int start_http(struct daemon *d, struct pcv_err *e)
{
    const struct srv_config *c = d->c;
    char name[160];
    struct srv_http_config h = {
        .nfds = d->nfds,
        .max_connections = (int)c->http_max_connections,
        .header_timeout_s = (int)((c->http_header_timeout + 999) / 1000),
        .body_min_bytes_per_s = (int)c->http_body_min_rate,
        .connection_memory = (size_t)c->http_connection_memory,
        .body_memory = (size_t)c->http_body_memory,
        .half_close_ok = c->http_half_close,
    };
    memcpy(h.fds, d->fds, sizeof d->fds);
    for (int i = 0; i < d->nfds; i++)
        srv_log(SRV_INFO, NULL, "listening on %s", srv_listen_name(d->fds[i], name, sizeof name));
    d->nfds = 0; /* taken, also on failure */
    d->routes = (struct srv_routes){
        .config = c, .registry = d->registry, .flow = d->flow, .metrics = d->metrics};
    struct srv_http_ops ops = srv_routes_ops(&d->routes);
    return srv_http_new(&d->routes.http, &d->loop, &h, &ops, e);
}

static void start_handles(struct daemon *d)
{
    uint64_t interval_ms = srv_notify_watchdog_interval() / 1000;
    uv_signal_init(&d->loop, &d->term);
    uv_signal_init(&d->loop, &d->interrupt);
    uv_timer_init(&d->loop, &d->step);
    uv_timer_init(&d->loop, &d->watchdog);
    d->term.data = d->interrupt.data = d->step.data = d->watchdog.data = d;
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->interrupt, on_signal, SIGINT);
    if (interval_ms)
        uv_timer_start(&d->watchdog, on_watchdog, 0, interval_ms / 2 + 1);
}

/* Everything is in place and listening: models are next. */
static int run(struct daemon *d, struct pcv_err *e)
{
    d->loader.config = d->c;
    d->loader.done = on_loaded;
    d->loader.data = d;
    int r = srv_loader_start(&d->loader, &d->loop, e);
    if (r) {
        d->err = *e;
        fail(d, r);
    }
    uv_run(&d->loop, UV_RUN_DEFAULT);
    if (d->code)
        *e = d->err;
    else
        srv_log(SRV_INFO, NULL, "stopped");
    return d->code;
}

int srv_daemon_run(const struct srv_config *c, struct pcv_err *e)
{
    struct daemon *d = calloc(1, sizeof *d);
    if (!d)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    d->c = c;
    uv_loop_init(&d->loop);
    int r = allow_files(c, e);
    if (!r)
        r = open_sockets(d, e);
    if (!r)
        r = make_parts(d, e);
    if (!r && !(r = start_http(d, e))) {
        start_handles(d);
        r = run(d, e);
    } else {
        close_sockets(d);
        srv_flow_close(d->flow);
        uv_run(&d->loop, UV_RUN_DEFAULT);
    }
    remove_sockets(d);
    srv_loader_clear(&d->loader);
    srv_registry_free(d->registry);
    srv_metrics_free(d->metrics);
    if (uv_loop_close(&d->loop))
        srv_log(SRV_WARN, NULL, "the loop was left with open handles");
    free(d);
    return r;
}
