/* httpd_fixture.c - a small server on server/http.c alone, for the black-box tests of the HTTP
 * layer.
 *
 *   GET  /hello               at once
 *   GET  /bytes?n=N           N bytes at once
 *   GET  /args                names and values of the query string, one a line
 *   POST /echo                the body, from a worker thread, one publication for each loop turn
 *   POST /echo?delay_ms=N     the body, from a timer
 *   POST /held?delay_ms=N     no reply; under a hold, read again N ms after the client has gone
 *   POST /sink                "LENGTH CRC32" of the body, at once
 *   POST /parts               one line for each part: name|filename|type|length|crc32
 *   POST /never               no reply ever
 *   GET  /stream?n=N&size=S   N pieces of S bytes: see httpd_stream.h
 *   GET  /stats               counters as JSON
 *
 * Environment: HTTPD_LISTEN (addresses, blanks between; LISTEN_FDS come first), HTTPD_MAX_BODY,
 * HTTPD_BODY_MEMORY, HTTPD_MAX_CONNECTIONS, HTTPD_HEADER_TIMEOUT (s), HTTPD_MIN_RATE (bytes/s),
 * HTTPD_HALF_CLOSE, HTTPD_DRAIN_MS. Prints "listening ADDRESS" for each socket, then "ready".
 * SIGTERM drains, SIGINT ends at once; exit 0 when every handle of the loop was given back, else 3.
 */
#include "server/http.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/notify.h"
#include "tests/http/httpd_stream.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct job {
    struct job *next;
    struct fixture *f;
    struct srv_exchange *x; /* NULL once gone */
    struct srv_exchange *held;
    uv_timer_t timer;
    char *reply; /* made by the worker from a copy of its own */
    size_t len;
};

struct fixture {
    struct srv_http *http;
    uv_loop_t loop;
    uv_check_t check;
    uv_prepare_t prepare;
    uv_async_t async;
    uv_signal_t term, interrupt;
    size_t max_body;
    int drain_ms;
    struct fixture_streams streams;
    long requests, replied, gone_replied, gone_unreplied, held_good, never;

    struct job *turn; /* loop thread: not yet published */
    pthread_t worker;
    pthread_mutex_t mu; /* todo, done, stop */
    pthread_cond_t wake;
    struct job *todo, *done;
    bool stop;
};

static long env_number(const char *name, long otherwise)
{
    const char *s = getenv(name);

    return s ? atol(s) : otherwise;
}

static char *copy(const void *data, size_t n)
{
    char *p = malloc(n + 1);

    if (n != 0)
        memcpy(p, data, n);
    p[n] = '\0';
    return p;
}

static void reply_text(struct srv_exchange *x, int status, const char *text)
{
    srv_http_reply(x, status, "text/plain", copy(text, strlen(text)), strlen(text), NULL, 0);
}

/* ---- replies at once ------------------------------------------------------------------------- */

static void on_args(struct srv_exchange *x)
{
    char text[8192] = "";
    size_t at = 0;

    for (int i = 0; i < srv_exchange_nargs(x); i++) {
        const char *name, *value;

        srv_exchange_arg(x, i, &name, &value);
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s=%s\n", name,
                               value ? value : "(none)");
    }
    reply_text(x, 200, text);
}

static void on_bytes(struct srv_exchange *x)
{
    size_t n = (size_t)fixture_arg(x, "n");
    char *body = malloc(n + 1);

    memset(body, 'b', n);
    srv_http_reply(x, 200, "application/octet-stream", body, n, NULL, 0);
}

static void on_sink(struct srv_exchange *x)
{
    char text[64];
    size_t n;
    const void *body = srv_exchange_body(x, &n);

    snprintf(text, sizeof(text), "%zu %08lx", n, crc32_z(0, body, body ? n : 0));
    reply_text(x, 200, text);
}

static void on_parts(struct srv_exchange *x)
{
    const struct srv_part *p;
    char text[8192] = "";
    size_t at = 0;
    int n = srv_exchange_parts(x, &p);

    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s|%s|%s|%zu|%08lx\n", p[i].name,
                               p[i].filename ? p[i].filename : "-", p[i].type ? p[i].type : "-",
                               p[i].len, crc32_z(0, p[i].data, p[i].len));
    reply_text(x, 200, text);
}

static void on_stats(struct fixture *f, struct srv_exchange *x)
{
    const struct fixture_streams *s = &f->streams;
    char text[1024];

    snprintf(text, sizeof(text),
             "{\"requests\": %ld, \"replied\": %ld, \"gone_replied\": %ld, "
             "\"gone_unreplied\": %ld, \"held_good\": %ld, \"never\": %ld, \"connections\": %d, "
             "\"streams\": %ld, \"stream_rooms\": %ld, \"stream_queued\": %zu, "
             "\"stream_bytes\": %zu}",
             f->requests, f->replied, f->gone_replied, f->gone_unreplied, f->held_good, f->never,
             srv_http_connections(f->http), s->open, s->rooms, s->queued_max, s->bytes);
    reply_text(x, 200, text);
}

/* ---- replies later --------------------------------------------------------------------------- */

static struct job *job_new(struct fixture *f, struct srv_exchange *x)
{
    struct job *j = calloc(1, sizeof(*j));

    j->f = f;
    j->x = x;
    srv_exchange_set_data(x, j);
    return j;
}

static void on_timer_closed(uv_handle_t *t)
{
    free(t->data);
}

static void on_delay(uv_timer_t *t)
{
    struct job *j = t->data;
    size_t n;

    if (j->held) {
        const char *body = srv_exchange_body(j->held, &n);

        if (strcmp(srv_exchange_path(j->held), "/held") == 0 && n == 4 &&
            memcmp(body, "held", 4) == 0 && strcmp(srv_exchange_request_id(j->held), "h1") == 0 &&
            strcmp(srv_exchange_header(j->held, "x-held"), "yes") == 0 &&
            fixture_arg(j->held, "delay_ms") > 0)
            j->f->held_good++;
        srv_exchange_release(j->held);
    }
    if (j->x) {
        const void *body = srv_exchange_body(j->x, &n);

        srv_exchange_set_data(j->x, NULL);
        srv_http_reply(j->x, 200, "application/octet-stream", copy(body, n), n, NULL, 0);
    }
    uv_close((uv_handle_t *)t, on_timer_closed);
}

static void start_timer(struct job *j, long ms)
{
    uv_timer_init(&j->f->loop, &j->timer);
    j->timer.data = j;
    uv_timer_start(&j->timer, on_delay, (uint64_t)ms, 0);
}

static void hold(struct fixture *f, struct srv_exchange *x)
{
    job_new(f, x)->held = x;
    srv_exchange_hold(x);
}

static void job_gone(struct job *j, struct srv_exchange *x)
{
    j->x = NULL;
    if (j->held)
        start_timer(j, fixture_arg(x, "delay_ms"));
}

static void queue(struct fixture *f, struct srv_exchange *x)
{
    struct job *j = job_new(f, x);
    const void *body = srv_exchange_body(x, &j->len);

    j->reply = copy(body, j->len);
    j->next = f->turn;
    f->turn = j;
}

static void publish(struct fixture *f)
{
    struct job *last = f->turn;

    if (!last)
        return;
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&f->mu);
    last->next = f->todo;
    f->todo = f->turn;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->mu);
    f->turn = NULL;
}

static void on_check(uv_check_t *c)
{
    publish(c->data);
}

static void on_prepare(uv_prepare_t *p)
{
    publish(p->data);
}

static void *worker(void *arg)
{
    struct fixture *f = arg;

    pthread_mutex_lock(&f->mu);
    for (;;) {
        struct job *batch = f->todo, *last = batch;

        f->todo = NULL;
        if (!batch && f->stop)
            break;
        if (!batch) {
            pthread_cond_wait(&f->wake, &f->mu);
            continue;
        }
        while (last->next)
            last = last->next;
        last->next = f->done;
        f->done = batch;
        uv_async_send(&f->async);
    }
    pthread_mutex_unlock(&f->mu);
    return NULL;
}

static void on_done(uv_async_t *a) /* loop thread */
{
    struct fixture *f = a->data;
    struct job *j, *next;

    pthread_mutex_lock(&f->mu);
    j = f->done;
    f->done = NULL;
    pthread_mutex_unlock(&f->mu);
    for (; j; j = next) {
        next = j->next;
        if (j->x) {
            srv_exchange_set_data(j->x, NULL);
            srv_http_reply(j->x, 200, "application/octet-stream", j->reply, j->len, NULL, 0);
        } else {
            free(j->reply);
        }
        free(j);
    }
}

/* ---- what http.c asks ------------------------------------------------------------------------ */

static int64_t body_limit(void *ctx, const char *method, const char *path, const char **allow)
{
    static const char *const get[] = {"/hello", "/bytes", "/args", "/stats", "/stream"};
    static const char *const post[] = {"/echo", "/held", "/sink", "/parts", "/never"};
    struct fixture *f = ctx;

    for (size_t i = 0; i < sizeof(get) / sizeof(get[0]); i++) {
        if (strcmp(path, get[i]) == 0) {
            *allow = "GET, HEAD";
            return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ? 0 : -405;
        }
    }
    for (size_t i = 0; i < sizeof(post) / sizeof(post[0]); i++) {
        if (strcmp(path, post[i]) == 0) {
            *allow = "POST";
            return strcmp(method, "POST") == 0 ? (int64_t)f->max_body : -405;
        }
    }
    return -404;
}

static void on_request(void *ctx, struct srv_exchange *x)
{
    const char *path = srv_exchange_path(x);
    struct fixture *f = ctx;
    long ms = fixture_arg(x, "delay_ms");

    f->requests++;
    if (strcmp(path, "/hello") == 0)
        reply_text(x, 200, "hello\n");
    else if (strcmp(path, "/bytes") == 0)
        on_bytes(x);
    else if (strcmp(path, "/args") == 0)
        on_args(x);
    else if (strcmp(path, "/stats") == 0)
        on_stats(f, x);
    else if (strcmp(path, "/stream") == 0)
        fixture_stream_start(&f->streams, x);
    else if (strcmp(path, "/sink") == 0)
        on_sink(x);
    else if (strcmp(path, "/parts") == 0)
        on_parts(x);
    else if (strcmp(path, "/never") == 0)
        f->never++;
    else if (strcmp(path, "/held") == 0)
        hold(f, x);
    else if (strcmp(path, "/echo") == 0 && ms > 0)
        start_timer(job_new(f, x), ms);
    else if (strcmp(path, "/echo") == 0)
        queue(f, x);
}

static void on_gone(void *ctx, struct srv_exchange *x, bool replied)
{
    struct fixture *f = ctx;
    struct job *j = srv_exchange_data(x);

    if (replied)
        f->gone_replied++;
    else
        f->gone_unreplied++;
    if (strcmp(srv_exchange_path(x), "/stream") == 0)
        fixture_stream_gone(x);
    else if (j)
        job_gone(j, x);
}

static char *error_body(void *ctx, int status, const char *path, const char *message,
                        const char *request_id)
{
    char text[1024];

    (void)ctx;
    snprintf(text, sizeof(text),
             "{\"status\": %d, \"message\": \"%s\", \"id\": \"%s\", \"path\": %d}", status, message,
             request_id, (int)strlen(path));
    return strdup(text);
}

static void on_replied(void *ctx, const struct srv_exchange *x, int status, size_t bytes,
                       uint64_t duration_ns)
{
    struct fixture *f = ctx;

    f->replied++;
    if (strcmp(srv_exchange_path(x), "/stream") == 0)
        f->streams.bytes += bytes;
    srv_log(SRV_DEBUG, srv_exchange_request_id(x), "%s %s %d %zu %.3f ms", srv_exchange_method(x),
            srv_exchange_path(x), status, bytes, (double)duration_ns / 1e6);
}

/* ---- the process ----------------------------------------------------------------------------- */

static void on_drained(void *ctx)
{
    struct fixture *f = ctx;

    srv_http_free(f->http);
    uv_close((uv_handle_t *)&f->check, NULL);
    uv_close((uv_handle_t *)&f->prepare, NULL);
    uv_close((uv_handle_t *)&f->term, NULL);
    uv_close((uv_handle_t *)&f->interrupt, NULL);
    publish(f);
    pthread_mutex_lock(&f->mu);
    f->stop = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->mu);
    pthread_join(f->worker, NULL);
    on_done(&f->async);
    uv_close((uv_handle_t *)&f->async, NULL);
}

static void on_term(uv_signal_t *s, int number)
{
    struct fixture *f = s->data;

    (void)number;
    srv_notify_stopping();
    srv_http_drain(f->http, f->drain_ms, on_drained, f);
}

static void on_interrupt(uv_signal_t *s, int number)
{
    (void)number;
    on_drained(s->data);
}

static void die(const struct pcv_err *e)
{
    srv_log(SRV_ERROR, NULL, "%s%s%s", e->where, e->where[0] ? ": " : "", e->msg);
    exit(1);
}

static void listen_all(struct srv_http_config *c)
{
    const char *wanted = getenv("HTTPD_LISTEN");
    char *text = strdup(wanted ? wanted : "127.0.0.1:0");
    struct pcv_err e = {0};

    c->nfds = srv_notify_listen_fds(c->fds, 16, &e);
    if (c->nfds < 0)
        die(&e);
    for (char *at = strtok(text, " "); at && c->nfds < 16; at = strtok(NULL, " ")) {
        struct srv_addr a;

        if (srv_addr_parse(&a, at, &e) != 0 || srv_listen_open(&c->fds[c->nfds], &a, &e) != 0)
            die(&e);
        c->nfds++;
    }
    for (int i = 0; i < c->nfds; i++) {
        char name[160];

        printf("listening %s\n", srv_listen_name(c->fds[i], name, sizeof(name)));
    }
    free(text);
}

int main(void)
{
    static struct fixture f;
    struct srv_http_config c = {
        .max_connections = (int)env_number("HTTPD_MAX_CONNECTIONS", 2048),
        .header_timeout_s = (int)env_number("HTTPD_HEADER_TIMEOUT", 30),
        .body_min_bytes_per_s = (int)env_number("HTTPD_MIN_RATE", 1024),
        .connection_memory = 16384,
        .body_memory = (size_t)env_number("HTTPD_BODY_MEMORY", 0),
        .half_close_ok = env_number("HTTPD_HALF_CLOSE", 0) != 0,
    };
    struct srv_http_ops ops = {.body_limit = body_limit,
                               .on_request = on_request,
                               .on_gone = on_gone,
                               .error_body = error_body,
                               .on_replied = on_replied,
                               .ctx = &f};
    struct pcv_err e = {0};

    srv_log_init(env_number("HTTPD_DEBUG", 0) ? SRV_DEBUG : SRV_INFO, SRV_LOG_AUTO);
    signal(SIGPIPE, SIG_IGN);
    f.max_body = (size_t)env_number("HTTPD_MAX_BODY", 16 << 20);
    f.drain_ms = (int)env_number("HTTPD_DRAIN_MS", 0);
    f.streams.loop = &f.loop;
    listen_all(&c);
    uv_loop_init(&f.loop);
    uv_check_init(&f.loop, &f.check);
    uv_prepare_init(&f.loop, &f.prepare);
    uv_async_init(&f.loop, &f.async, on_done);
    uv_signal_init(&f.loop, &f.term);
    uv_signal_init(&f.loop, &f.interrupt);
    f.check.data = f.prepare.data = f.async.data = f.term.data = f.interrupt.data = &f;
    uv_check_start(&f.check, on_check);
    uv_prepare_start(&f.prepare, on_prepare);
    uv_signal_start(&f.term, on_term, SIGTERM);
    uv_signal_start(&f.interrupt, on_interrupt, SIGINT);
    pthread_mutex_init(&f.mu, NULL);
    pthread_cond_init(&f.wake, NULL);
    if (srv_http_new(&f.http, &f.loop, &c, &ops, &e) != 0)
        die(&e);
    pthread_create(&f.worker, NULL, worker, &f);
    printf("ready\n");
    fflush(stdout);
    srv_notify_ready();
    uv_run(&f.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&f.loop) == 0 ? 0 : 3;
}
