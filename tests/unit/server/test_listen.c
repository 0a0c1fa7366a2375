/* What addresses may look like, and that sockets are really opened there. */
#include "server/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int open_at(const char *text, struct pcv_err *e)
{
    struct srv_addr a;
    int fd = -1, r = srv_addr_parse(&a, text, e);

    if (r != 0)
        return r;
    r = srv_listen_open(&fd, &a, e);
    return r != 0 ? r : fd;
}

static void good_addresses(void **state)
{
    static const char *const good[] = {"127.0.0.1:0",
                                       "127.0.0.1:8080",
                                       "0.0.0.0:80",
                                       "[::1]:65535",
                                       "[::]:80",
                                       "unix:/tmp/x.sock",
                                       "unix:/tmp/x.sock,mode=0660",
                                       "unix:/tmp/x.sock,mode=0"};
    static const int modes[] = {-1, -1, -1, -1, -1, -1, 0660, 0};
    static const int families[] = {AF_INET,  AF_INET, AF_INET, AF_INET6,
                                   AF_INET6, AF_UNIX, AF_UNIX, AF_UNIX};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct srv_addr a;
        struct pcv_err e = {0};

        assert_int_equal(srv_addr_parse(&a, good[i], &e), 0);
        assert_string_equal(a.text, good[i]);
        assert_int_equal(a.mode, modes[i]);
        assert_int_equal(a.u.sa.sa_family, families[i]);
        if (families[i] == AF_UNIX)
            assert_string_equal(a.u.un.sun_path, "/tmp/x.sock");
    }
}

static void bad_addresses(void **state)
{
    static const char *const bad[] = {"",
                                      "8080",
                                      ":8080",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:+1",
                                      "127.0.0.1:80 ",
                                      "127.0.0.1:0x50",
                                      "127.0.0.1:000080",
                                      "localhost:8080",
                                      "127.0.0.256:80",
                                      "127.1:80",
                                      "::1:8080",
                                      "[::1]",
                                      "[::1:80",
                                      "[]:80",
                                      "[127.0.0.1]:80",
                                      "[::1%lo]:80",
                                      "unix:",
                                      "unix:relative",
                                      "unix:/tmp/x,mode=",
                                      "unix:/tmp/x,mode=8",
                                      "unix:/tmp/x,mode=1000",
                                      "unix:/tmp/x,mode=-1",
                                      "unix:/tmp/x,mode=660x",
                                      "unix:/tmp/x,owner=root",
                                      "unix:,mode=660"};
    char path[200] = "unix:/";

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct srv_addr a = {.mode = 77};
        struct pcv_err e = {0};

        assert_int_equal(srv_addr_parse(&a, bad[i], &e), PCV_EFORMAT);
        assert_non_null(strstr(e.msg, bad[i]));
        assert_int_equal(a.mode, 77); /* untouched */
    }
    memset(path + 6, 'x', 107);
    struct srv_addr a;
    struct pcv_err e = {0};
    assert_int_equal(srv_addr_parse(&a, path, &e), PCV_EFORMAT); /* 108 bytes */
    path[5 + 107] = '\0';
    assert_int_equal(srv_addr_parse(&a, path, &e), 0);
}

static void opens_and_says_in_use(void **state)
{
    static const char *const any[] = {"127.0.0.1:0", "[::1]:0"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char name[160], want[300];
        struct pcv_err e = {0};
        int fd = open_at(any[i], &e);

        assert_true(fd >= 0);
        assert_int_equal(srv_listen_adopt(fd, &e), 0);
        srv_listen_name(fd, name, sizeof(name));
        assert_int_equal(strncmp(name, any[i], strlen(any[i]) - 1), 0);
        assert_string_not_equal(name, any[i]); /* the port is a real one */
        assert_int_equal(open_at(name, &e), PCV_EIO);
        assert_string_equal(e.where, name);
        assert_string_equal(e.msg, "address already in use");
        snprintf(want, sizeof(want), "%s", name);
        close(fd);
        fd = open_at(want, &e); /* free again */
        assert_true(fd >= 0);
        close(fd);
    }
}

static void unix_sockets(void **state)
{
    char dir[] = "/tmp/test_listen.XXXXXX", path[64], text[100], name[160];
    struct pcv_err e = {0};
    struct srv_addr a;
    struct stat st;
    FILE *f;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    snprintf(text, sizeof(text), "unix:%s,mode=0620", path);
    umask(0077);
    fd = open_at(text, &e);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0620);
    snprintf(name, sizeof(name), "unix:%s", path);
    assert_string_equal(srv_listen_name(fd, path, sizeof(path)), name);
    snprintf(path, sizeof(path), "%s/s", dir);

    assert_int_equal(open_at(text, &e), PCV_EIO); /* somebody listens */
    assert_string_equal(e.msg, "address already in use");
    close(fd);
    assert_int_equal(stat(path, &st), 0); /* left behind */
    fd = open_at(text, &e);               /* and replaced */
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(srv_addr_parse(&a, text, &e), 0);
    srv_listen_remove(&a);
    assert_int_not_equal(stat(path, &st), 0);

    f = fopen(path, "w"); /* never replaces what is no socket */
    assert_non_null(f);
    fclose(f);
    assert_int_equal(open_at(text, &e), PCV_EIO);
    assert_int_equal(stat(path, &st), 0);
    unlink(path);
    assert_int_equal(open_at("unix:/nonexistent/dir/s", &e), PCV_EIO);
    assert_string_equal(e.where, "unix:/nonexistent/dir/s");
    rmdir(dir);
}

static void adopts_only_listening_streams(void **state)
{
    int stream = socket(AF_INET, SOCK_STREAM, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
    int pipes[2];
    struct pcv_err e = {0};

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(srv_listen_adopt(stream, &e), PCV_EFORMAT);
    assert_int_equal(srv_listen_adopt(datagram, &e), PCV_EFORMAT);
    assert_int_equal(srv_listen_adopt(pipes[0], &e), PCV_EFORMAT);
    assert_int_equal(srv_listen_adopt(-1, &e), PCV_EFORMAT);
    assert_int_equal(listen(stream, 1), 0);
    assert_int_equal(srv_listen_adopt(stream, &e), 0);
    close(stream);
    close(datagram);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_addresses),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(opens_and_says_in_use),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(adopts_only_listening_streams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
