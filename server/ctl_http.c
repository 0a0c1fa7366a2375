#include "server/ctl_http.h"

#include "proto/wire_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_REPLY = 1 << 30,
    CONNECT_MS = 10 * 1000,
    GET_MS = 30 * 1000,
    POST_MS = 3600 * 1000, /* no model has longer */
    TICK_NS = 100 * 1000 * 1000,
};

/* One easy handle, and what comes in on it. */
struct line {
    CURL *easy;
    struct curl_slist *headers; /* of the request under way */
    char *url;
    char *body; /* [room], NUL-terminated behind len */
    size_t len, room;
    int64_t header_len;
    uint64_t start_ns;
    char error[CURL_ERROR_SIZE];
    const struct ctl_call *call; /* under way */
    struct pcv_err *refused;     /* its on_line was not content: why */
};

struct ctl_http {
    char *url; /* without slash at its end */
    const char *unix_path;
    struct line line; /* of single calls */
};

uint64_t ctl_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int no_memory(struct pcv_err *e)
{
    return pcv_fail(e, PCV_ENOMEM, "no memory for a request");
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Gives whole lines away. */
static int give_lines(struct line *l)
{
    const struct ctl_call *c = l->call;
    size_t at = 0;
    char *end;
    long status = 0;

    curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return 0;
    while ((end = memchr(l->body + at, '\n', l->len - at))) {
        const size_t begin = at;

        at = (size_t)(end - l->body) + 1;
        if (c->on_line(c->ctx, l->body + begin, at - begin, l->refused) < 0)
            return -1;
    }
    l->len -= at;
    memmove(l->body, l->body + at, l->len + 1);
    return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct line *l = ctx;

    n *= size;
    if (n > MAX_REPLY - l->len) {
        snprintf(l->error, sizeof(l->error), "the reply is larger than %d bytes", MAX_REPLY);
        return 0;
    }
    if (l->len + n >= l->room) {
        const size_t room = 2 * (l->len + n) + 4096;
        char *more = realloc(l->body, room);

        if (!more) {
            snprintf(l->error, sizeof(l->error), "no memory for the reply");
            return 0;
        }
        l->body = more;
        l->room = room;
    }
    memcpy(l->body + l->len, data, n);
    l->len += n;
    l->body[l->len] = '\0';
    return l->call->on_line && give_lines(l) < 0 ? 0 : n;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    static const char name[] = "Inference-Header-Content-Length:";
    struct line *l = ctx;

    n *= size;
    if (n >= sizeof(name) && strncasecmp(data, name, sizeof(name) - 1) == 0)
        l->header_len = strtoll(data + sizeof(name) - 1, NULL, 10); /* ends with \r\n */
    return n;
}

static void line_close(struct line *l)
{
    curl_easy_cleanup(l->easy);
    curl_slist_free_all(l->headers);
    free(l->url);
    free(l->body);
}

static int line_open(struct line *l, const struct ctl_http *h, struct pcv_err *e)
{
    CURL *c = l->easy = curl_easy_init();
    bool ok = c != NULL;

    ok = ok && !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    ok = ok && !curl_easy_setopt(c, CURLOPT_DEFAULT_PROTOCOL, "http");
    ok = ok && !curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    ok = ok && !curl_easy_setopt(c, CURLOPT_PROXY, "");
    ok = ok && !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    ok = ok && !curl_easy_setopt(c, CURLOPT_USERAGENT, "perceiverctl");
    ok = ok && !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    ok = ok && !curl_easy_setopt(c, CURLOPT_ERRORBUFFER, l->error);
    ok = ok && !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    ok = ok && !curl_easy_setopt(c, CURLOPT_WRITEDATA, l);
    ok = ok && !curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    ok = ok && !curl_easy_setopt(c, CURLOPT_HEADERDATA, l);
    ok = ok && !curl_easy_setopt(c, CURLOPT_PRIVATE, l);
    if (h->unix_path)
        ok = ok && !curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, h->unix_path);
    return ok ? 0 : no_memory(e);
}

static bool add_header(struct line *l, const char *fmt, ...) PCV_PRINTF(2, 3);
static bool add_header(struct line *l, const char *fmt, ...)
{
    char text[512];
    struct curl_slist *more;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    more = curl_slist_append(l->headers, text);
    if (more)
        l->headers = more;
    return more;
}

/* Makes the line ready for a call. */
static int line_prepare(struct line *l, const struct ctl_http *h, const struct ctl_call *c,
                        struct pcv_err *e)
{
    bool ok;

    free(l->url);
    curl_slist_free_all(l->headers);
    l->headers = NULL;
    l->len = 0;
    l->header_len = -1;
    l->error[0] = '\0';
    l->call = c;
    l->refused = e;
    if (asprintf(&l->url, "%s%s", h->url, c->path) < 0) {
        l->url = NULL;
        return no_memory(e);
    }
    ok = !curl_easy_setopt(l->easy, CURLOPT_URL, l->url);
    if (c->body) {
        ok = ok && add_header(l, "Content-Type: %s", c->type);
        if (c->header_len > 0)
            ok = ok &&
                 add_header(l, "Inference-Header-Content-Length: %lld", (long long)c->header_len);
        ok = ok && !curl_easy_setopt(l->easy, CURLOPT_POST, 1L);
        ok = ok && !curl_easy_setopt(l->easy, CURLOPT_POSTFIELDS, c->body);
        ok = ok && !curl_easy_setopt(l->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->len);
    } else {
        ok = ok && !curl_easy_setopt(l->easy, CURLOPT_HTTPGET, 1L);
    }
    ok = ok && !curl_easy_setopt(l->easy, CURLOPT_CUSTOMREQUEST, c->method);
    ok = ok && !curl_easy_setopt(l->easy, CURLOPT_HTTPHEADER, l->headers);
    ok = ok && !curl_easy_setopt(l->easy, CURLOPT_TIMEOUT_MS, (long)(c->body ? POST_MS : GET_MS));
    return ok ? 0 : no_memory(e);
}

/* The reply on the line; its body stays the line's. */
static struct ctl_reply line_reply(struct line *l)
{
    static char empty[1];
    long status = 0;

    curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
    return (struct ctl_reply){.status = (int)status,
                              .body = l->len ? l->body : empty,
                              .len = l->len,
                              .header_len = l->header_len};
}

static const char *line_problem(struct line *l, CURLcode code)
{
    long number = 0;

    curl_easy_getinfo(l->easy, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT && number)
        snprintf(l->error, sizeof(l->error), "cannot connect: %s", strerror((int)number));
    return l->error[0] ? l->error : curl_easy_strerror(code);
}

/* ---- the daemon ------------------------------------------------------------------------------ */

int ctl_http_open(struct ctl_http **ret, const struct ctl_server *s, struct pcv_err *e)
{
    const char *variable = getenv("PERCEIVERCTL_URL");
    const char *url = s->url ? s->url : variable && *variable ? variable : CTL_DEFAULT_URL;
    struct ctl_http *h;
    size_t len;
    int r;

    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return pcv_fail(e, PCV_EIO, "libcurl does not start");
    h = calloc(1, sizeof(*h));
    if (!h || !(h->url = strdup(url))) {
        ctl_http_close(h);
        return no_memory(e);
    }
    for (len = strlen(h->url); len && h->url[len - 1] == '/';)
        h->url[--len] = '\0';
    h->unix_path = s->unix_path;
    if ((r = line_open(&h->line, h, e)) < 0) {
        ctl_http_close(h);
        return r;
    }
    *ret = h;
    return 0;
}

void ctl_http_close(struct ctl_http *h)
{
    if (!h)
        return;
    line_close(&h->line);
    free(h->url);
    free(h);
}

const char *ctl_http_url(const struct ctl_http *h)
{
    return h->unix_path ? h->unix_path : h->url;
}

int ctl_http_call(struct ctl_http *h, const struct ctl_call *c, struct ctl_reply *ret,
                  struct pcv_err *e)
{
    struct line *l = &h->line;
    CURLcode code;
    int r = line_prepare(l, h, c, e);

    if (r < 0)
        return r;
    e->code = PCV_OK;
    code = curl_easy_perform(l->easy);
    if (code && c->on_line && e->code != PCV_OK)
        return e->code;
    if (code) {
        r = pcv_fail(e, PCV_EIO, "%s", line_problem(l, code));
        pcv_err_at(e, "%s", ctl_http_url(h));
        return r;
    }
    *ret = line_reply(l);
    ret->body = ret->len ? l->body : calloc(1, 1);
    if (!ret->body)
        return no_memory(e);
    if (ret->len) { /* give it away */
        l->body = NULL;
        l->room = 0;
    }
    return 0;
}

int ctl_http_refusal(const struct ctl_reply *reply, struct pcv_err *e)
{
    struct wire_client_error error = {0};
    struct wire_arena *a = wire_arena_new();
    const size_t line = strcspn(reply->body, "\r\n");

    if (a && wire_client_error(a, reply->body, reply->len, &error, NULL) == 0)
        pcv_fail(e, PCV_EIO, "%d %s%s%s", reply->status, error.path ? error.path : "",
                 error.path ? ": " : "", error.message);
    else if (line)
        pcv_fail(e, PCV_EIO, "%d %.*s", reply->status, (int)(line < 100 ? line : 100), reply->body);
    else
        pcv_fail(e, PCV_EIO, "%d without a word", reply->status);
    wire_arena_free(a);
    return PCV_EIO;
}

int ctl_http_ask(struct ctl_http *h, const struct ctl_call *c, struct ctl_reply *ret,
                 struct pcv_err *e)
{
    struct ctl_reply reply = {0};
    int r = ctl_http_call(h, c, &reply, e);

    if (r < 0)
        return r;
    if (reply.status / 100 != 2) {
        r = ctl_http_refusal(&reply, e);
        free(reply.body);
        return r;
    }
    *ret = reply;
    return 0;
}

int ctl_http_get(struct ctl_http *h, const char *path, struct ctl_reply *ret, struct pcv_err *e)
{
    const struct ctl_call c = {.path = path};
    int r = ctl_http_ask(h, &c, ret, e);

    return r < 0 && e->where[0] == '\0' ? pcv_err_at(e, "%s", path) : r;
}

/* ---- many clients ---------------------------------------------------------------------------- */

struct multi {
    const struct ctl_http *http;
    const struct ctl_crowd *crowd;
    struct line *lines; /* [crowd->clients] */
    CURLM *multi;
    int epoll;
    uint64_t timer_ns; /* when libcurl wants to be called; UINT64_MAX: not */
    int busy;          /* clients with a request under way */
};

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
    struct multi *m = ctx;
    struct epoll_event ev = {.data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(m->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (epoll_ctl(m->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
        return -1;
    if (!known)
        curl_multi_assign(m->multi, fd, m);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
    struct multi *m = ctx;

    (void)multi;
    m->timer_ns = ms < 0 ? UINT64_MAX : ctl_now_ns() + (uint64_t)ms * 1000000u;
    return 0;
}

/* Lets a client begin its next request, if it has one. */
static int begin(struct multi *m, int client, struct pcv_err *e)
{
    const struct ctl_call *c = m->crowd->next(m->crowd->ctx, client);
    struct line *l = &m->lines[client];
    int r;

    if (!c)
        return 0;
    if ((r = line_prepare(l, m->http, c, e)) < 0)
        return r;
    l->start_ns = ctl_now_ns();
    if (curl_multi_add_handle(m->multi, l->easy))
        return no_memory(e);
    m->busy++;
    return 0;
}

/* Takes in what has finished. */
static int finish(struct multi *m, struct pcv_err *e)
{
    CURLMsg *msg;
    int left, r;

    while ((msg = curl_multi_info_read(m->multi, &left))) {
        const CURLcode code = msg->data.result;
        CURL *easy = msg->easy_handle;
        struct ctl_reply reply;
        struct line *l;
        uint64_t ns;
        int client;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &l);
        ns = ctl_now_ns() - l->start_ns;
        client = (int)(l - m->lines);
        curl_multi_remove_handle(m->multi, easy);
        m->busy--;
        reply = line_reply(l);
        r = m->crowd->done(m->crowd->ctx, client, code ? NULL : &reply,
                           code ? line_problem(l, code) : NULL, ns, e);
        if (r < 0 || (r = begin(m, client, e)) < 0)
            return r;
    }
    return 0;
}

static int loop(struct multi *m, struct pcv_err *e)
{
    struct epoll_event events[64];
    uint64_t tick_ns = ctl_now_ns() + TICK_NS;
    int running, r = 0;

    while (m->busy && r == 0) {
        const uint64_t now = ctl_now_ns(), next = m->timer_ns < tick_ns ? m->timer_ns : tick_ns;
        const int ms = next > now ? (int)((next - now + 999999u) / 1000000u) : 0;
        const int n = epoll_wait(m->epoll, events, 64, ms);

        if (n < 0 && errno != EINTR)
            return pcv_fail(e, PCV_EIO, "epoll: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            const unsigned got = events[i].events;

            curl_multi_socket_action(m->multi, events[i].data.fd,
                                     (got & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                         (got & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                         (got & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
                                     &running);
        }
        if (m->timer_ns <= ctl_now_ns()) {
            m->timer_ns = UINT64_MAX;
            curl_multi_socket_action(m->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        r = finish(m, e);
        if (ctl_now_ns() >= tick_ns) {
            tick_ns = ctl_now_ns() + TICK_NS;
            m->crowd->tick(m->crowd->ctx);
        }
    }
    return r;
}

/* A connection for each client, and some to spare. */
static int allow_files(int clients, struct pcv_err *e)
{
    const rlim_t want = (rlim_t)clients + 64;
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= want)
        return 0;
    if (l.rlim_max < want)
        return pcv_fail(e, PCV_ELIMIT, "%d clients want %llu open files, %llu are allowed", clients,
                        (unsigned long long)want, (unsigned long long)l.rlim_max);
    l.rlim_cur = want;
    setrlimit(RLIMIT_NOFILE, &l);
    return 0;
}

static int run_crowd(struct multi *m, struct pcv_err *e)
{
    const int n = m->crowd->clients;
    int r;

    m->multi = curl_multi_init();
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    m->lines = calloc((size_t)n, sizeof(*m->lines));
    if (!m->multi || m->epoll < 0 || !m->lines)
        return no_memory(e);
    if (curl_multi_setopt(m->multi, CURLMOPT_SOCKETFUNCTION, on_socket) ||
        curl_multi_setopt(m->multi, CURLMOPT_SOCKETDATA, m) ||
        curl_multi_setopt(m->multi, CURLMOPT_TIMERFUNCTION, on_timer) ||
        curl_multi_setopt(m->multi, CURLMOPT_TIMERDATA, m) ||
        curl_multi_setopt(m->multi, CURLMOPT_MAXCONNECTS, (long)n))
        return no_memory(e);
    for (int i = 0; i < n; i++)
        if ((r = line_open(&m->lines[i], m->http, e)) < 0)
            return r;
    for (int i = 0; i < n; i++)
        if ((r = begin(m, i, e)) < 0)
            return r;
    return loop(m, e);
}

int ctl_http_crowd(struct ctl_http *h, const struct ctl_crowd *crowd, struct pcv_err *e)
{
    struct multi m = {.http = h, .crowd = crowd, .epoll = -1, .timer_ns = UINT64_MAX};
    int r = allow_files(crowd->clients, e);

    if (r == 0)
        r = run_crowd(&m, e);
    for (int i = 0; m.lines && i < crowd->clients; i++) {
        if (m.lines[i].easy)
            curl_multi_remove_handle(m.multi, m.lines[i].easy);
        line_close(&m.lines[i]);
    }
    curl_multi_cleanup(m.multi);
    free(m.lines);
    if (m.epoll >= 0)
        close(m.epoll);
    return r;
}
