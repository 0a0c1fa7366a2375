#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- parsing --------------------------------------------------------------------------------- */

static int bad(struct pcv_err *e, const char *text, const char *why)
{
    return pcv_fail(e, PCV_EFORMAT, "address \"%.100s\": %s", text, why);
}

/* Decimal, 0..65535, nothing else; -1 otherwise. */
static int parse_port(const char *s)
{
    int port = 0;

    if (*s == '\0' || strlen(s) > 5)
        return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        port = port * 10 + (*s - '0');
    }
    return port <= 65535 ? port : -1;
}

static int parse_unix(struct srv_addr *a, const char *path, struct pcv_err *e)
{
    const char *comma = strrchr(path, ',');
    size_t n = strlen(path);

    if (comma) {
        char *end;
        unsigned long mode;

        if (strncmp(comma, ",mode=", 6) != 0 || comma[6] < '0' || comma[6] > '7')
            return bad(e, a->text,
                       "after the path only \",mode=\" with an octal number may follow");
        mode = strtoul(comma + 6, &end, 8);
        if (*end != '\0' || mode > 0777)
            return bad(e, a->text, "mode is an octal number from 0 to 0777");
        a->mode = (int)mode;
        n = (size_t)(comma - path);
    }
    if (n == 0 || path[0] != '/')
        return bad(e, a->text, "the path of a Unix socket begins with \"/\"");
    if (n >= sizeof(a->u.un.sun_path))
        return bad(e, a->text, "the path of a Unix socket has at most 107 bytes");
    a->u.un.sun_family = AF_UNIX;
    memcpy(a->u.un.sun_path, path, n);
    a->len = sizeof(a->u.un);
    return 0;
}

static int parse_ip(struct srv_addr *a, const char *text, struct pcv_err *e)
{
    const char *colon = strrchr(text, ':');
    bool six = text[0] == '[';
    char host[INET6_ADDRSTRLEN + 2];
    size_t n;
    int port;

    if (!colon || (port = parse_port(colon + 1)) < 0)
        return bad(e, text, "ends with \":\" and a port from 0 to 65535");
    n = (size_t)(colon - text);
    if (six && (n < 2 || text[n - 1] != ']'))
        return bad(e, text, "an IPv6 address stands between \"[\" and \"]\"");
    if (six) {
        text++;
        n -= 2;
    }
    if (n >= sizeof(host))
        return bad(e, a->text, "the host is too long for a numeric address");
    memcpy(host, text, n);
    host[n] = '\0';
    if (six) {
        struct sockaddr_in6 *to = (struct sockaddr_in6 *)&a->u.any;

        to->sin6_family = AF_INET6;
        to->sin6_port = htons((uint16_t)port);
        a->len = sizeof(*to);
        if (inet_pton(AF_INET6, host, &to->sin6_addr) == 1)
            return 0;
        return bad(e, a->text, "between \"[\" and \"]\" stands a numeric IPv6 address");
    } else {
        struct sockaddr_in *to = (struct sockaddr_in *)&a->u.any;

        to->sin_family = AF_INET;
        to->sin_port = htons((uint16_t)port);
        a->len = sizeof(*to);
        if (inet_pton(AF_INET, host, &to->sin_addr) == 1)
            return 0;
        return bad(e, a->text,
                   "the host is a numeric address: 127.0.0.1, 0.0.0.0, [::1] (IPv6 in brackets)");
    }
}

int srv_addr_parse(struct srv_addr *ret, const char *text, struct pcv_err *e)
{
    struct srv_addr a = {.mode = -1};
    int r;

    if (strlen(text) >= sizeof(a.text))
        return bad(e, text, "is too long");
    memcpy(a.text, text, strlen(text) + 1);
    r = strncmp(text, "unix:", 5) == 0 ? parse_unix(&a, text + 5, e) : parse_ip(&a, a.text, e);
    if (r == 0)
        *ret = a;
    return r;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int failed(struct pcv_err *e, const struct srv_addr *a, const char *what)
{
    if (errno == EADDRINUSE)
        pcv_fail(e, PCV_EIO, "address already in use");
    else if (errno == EACCES)
        pcv_fail(e, PCV_EIO, "%s: permission denied", what);
    else
        pcv_fail(e, PCV_EIO, "%s: %s", what, strerror(errno));
    return pcv_err_at(e, "%s", a->text);
}

/* A socket's file that refuses connections was left behind by somebody who is no more. */
static bool is_stale(const struct srv_addr *a)
{
    struct stat st;
    bool refused;
    int fd;

    if (lstat(a->u.un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    refused = connect(fd, &a->u.sa, a->len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_unix(int fd, const struct srv_addr *a, struct pcv_err *e)
{
    /* The file gets the socket's own mode without what umask takes away: never more, not even for
     * a moment, than chmod then allows. */
    if (a->mode >= 0 && fchmod(fd, (mode_t)a->mode) != 0)
        return failed(e, a, "fchmod");
    if (bind(fd, &a->u.sa, a->len) != 0) {
        int why = errno;

        if (why != EADDRINUSE || !is_stale(a)) {
            errno = why;
            return failed(e, a, "bind");
        }
        unlink(a->u.un.sun_path);
        if (bind(fd, &a->u.sa, a->len) != 0)
            return failed(e, a, "bind");
    }
    if (a->mode >= 0 && chmod(a->u.un.sun_path, (mode_t)a->mode) != 0)
        return failed(e, a, "chmod");
    return 0;
}

static int bind_ip(int fd, const struct srv_addr *a, struct pcv_err *e)
{
    int on = 1, off = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
        return failed(e, a, "SO_REUSEADDR");
    if (a->u.sa.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0)
        return failed(e, a, "IPV6_V6ONLY");
    return bind(fd, &a->u.sa, a->len) == 0 ? 0 : failed(e, a, "bind");
}

int srv_listen_open(int *ret, const struct srv_addr *a, struct pcv_err *e)
{
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return failed(e, a, "socket");
    r = a->u.sa.sa_family == AF_UNIX ? bind_unix(fd, a, e) : bind_ip(fd, a, e);
    if (r == 0 && listen(fd, SOMAXCONN) != 0)
        r = failed(e, a, "listen");
    if (r != 0) {
        close(fd);
        return r;
    }
    *ret = fd;
    return 0;
}

void srv_listen_remove(const struct srv_addr *a)
{
    if (a->u.sa.sa_family == AF_UNIX)
        unlink(a->u.un.sun_path);
}

int srv_listen_adopt(int fd, struct pcv_err *e)
{
    int value = 0, flags;
    socklen_t len = sizeof(value);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) != 0)
        return pcv_fail(e, PCV_EFORMAT, "not a socket: %s", strerror(errno));
    if (value != SOCK_STREAM)
        return pcv_fail(e, PCV_EFORMAT, "not a stream socket");
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) != 0 || value == 0)
        return pcv_fail(e, PCV_EFORMAT, "not a listening socket");
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return pcv_fail(e, PCV_EIO, "fcntl: %s", strerror(errno));
    return 0;
}

const char *srv_listen_name(int fd, char *buf, size_t size)
{
    struct sockaddr_storage any = {0}; /* longer than a path, which need not end with NUL */
    socklen_t len = sizeof(any);
    char host[INET6_ADDRSTRLEN];

    snprintf(buf, size, "?");
    if (getsockname(fd, (struct sockaddr *)&any, &len) != 0)
        return buf;
    if (any.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&any;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(buf, size, "%s:%d", host, ntohs(in->sin_port));
    } else if (any.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&any;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(buf, size, "[%s]:%d", host, ntohs(in6->sin6_port));
    } else if (any.ss_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)&any)->sun_path;

        snprintf(buf, size, "unix:%s%s", path[0] ? "" : "@", path[0] ? path : path + 1);
    }
    return buf;
}
