/* What reaches the socket that systemd would listen on. */
#include "server/notify.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int manager = -1;

static int listen_as_systemd(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char name[64];
    int fd;

    (void)state;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    manager = fcntl(fd, F_DUPFD, 10); /* 3 and 4 are wanted for activation */
    close(fd);
    snprintf(name, sizeof(name), "@perceiverd-test-%ld", (long)getpid());
    memcpy(a.sun_path, name, strlen(name));
    a.sun_path[0] = '\0';
    setenv("NOTIFY_SOCKET", name, 1);
    return bind(manager, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)));
}

static int stop_listening(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    return close(manager);
}

static const char *received(void)
{
    static char text[1024];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void messages(void **state)
{
    (void)state;
    srv_notify_ready();
    assert_string_equal(received(), "READY=1");
    srv_notify_status("serving %d models", 3);
    assert_string_equal(received(), "STATUS=serving 3 models");
    srv_notify_status("model %s", "a\nWATCHDOG=1\x7f");
    assert_string_equal(received(), "STATUS=model a WATCHDOG=1 ");
    srv_notify_watchdog();
    assert_string_equal(received(), "WATCHDOG=1");
    srv_notify_stopping();
    assert_string_equal(received(), "STOPPING=1");
    srv_notify_extend(5000000);
    assert_string_equal(received(), "EXTEND_TIMEOUT_USEC=5000000");
    unsetenv("NOTIFY_SOCKET");
    srv_notify_ready();
    assert_string_equal(received(), "");
}

static void watchdog_interval(void **state)
{
    char pid[32];

    (void)state;
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(srv_notify_watchdog_interval(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(srv_notify_watchdog_interval(), 30000000);
    setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
    assert_int_equal(srv_notify_watchdog_interval(), 0);
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(srv_notify_watchdog_interval(), 30000000);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void pretend_activation(int n)
{
    char text[32];

    snprintf(text, sizeof(text), "%ld", (long)getpid());
    setenv("LISTEN_PID", text, 1);
    snprintf(text, sizeof(text), "%d", n);
    setenv("LISTEN_FDS", text, 1);
}

static void activation(void **state)
{
    int fds[2] = {-7, -7}, listener = fcntl(socket(AF_INET, SOCK_STREAM, 0), F_DUPFD, 10);
    struct pcv_err e = {0};

    (void)state;
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(srv_notify_listen_fds(fds, 2, &e), 0); /* not activated */
    dup2(listener, 3);
    dup2(listener, 4);
    pretend_activation(2);
    assert_int_equal(srv_notify_listen_fds(fds, 2, &e), 2);
    assert_int_equal(fds[0], 3);
    assert_int_equal(fds[1], 4);
    assert_null(getenv("LISTEN_FDS"));
    assert_int_equal(srv_notify_listen_fds(fds, 2, &e), 0); /* only once */

    fds[0] = -7;
    pretend_activation(2);
    assert_int_equal(srv_notify_listen_fds(fds, 1, &e), PCV_ELIMIT);
    assert_int_equal(fds[0], -7);
    dup2(manager, 4);
    pretend_activation(2);
    assert_int_equal(srv_notify_listen_fds(fds, 2, &e), PCV_EFORMAT);
    assert_string_equal(e.where, "LISTEN_FDS: 4");
    assert_int_equal(fds[0], -7);
    close(listener);
    close(3);
    close(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(watchdog_interval),
        cmocka_unit_test(activation),
    };

    return cmocka_run_group_tests(tests, listen_as_systemd, stop_listening);
}
