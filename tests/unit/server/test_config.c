/* Every source, their order, and every error with its place. */
#include "server/config.h"
#include "server/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_config.XXXXXX";

static const char *file(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

/* Loads with up to 8 arguments and variables, each ended by NULL. */
static int load(struct srv_config **c, const char *const *args, const char *const *env,
                struct pcv_err *e)
{
    char *argv[16] = {"perceiverd"};
    int argc = 1;
    enum srv_action action;
    for (; args && *args; args++)
        argv[argc++] = (char *)*args;
    *c = NULL;
    return srv_config_load(c, &action, argc, argv, (char *const *)env, e);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The message begins with where, and contains what. */
static void expect_error(const char *const *args, const char *const *env, const char *where,
                         const char *what)
{
    struct srv_config *c;
    struct pcv_err e = {0};
    assert_int_not_equal(load(&c, args, env, &e), 0);
    assert_null(c);
    assert_string_equal(e.where, where);
    if (!strstr(e.msg, what))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, what);
}

static void expect_file_error(const char *text, int line, const char *what)
{
    const char *path = file("bad.conf", text);
    char where[300];
    snprintf(where, sizeof where, "%s:%d", path, line);
    expect_error(ARGS("--config", path), NULL, where, what);
}

static void test_defaults(void **state)
{
    (void)state;
    struct srv_config *c;
    assert_int_equal(load(&c, ARGS("--model", "a=/m"), NULL, NULL), 0);
    assert_int_equal(c->server_listen.n, 1);
    assert_string_equal(c->server_listen.v[0], "127.0.0.1:8080");
    assert_int_equal(c->server_lanes, 1);
    assert_int_equal(c->server_log_level, SRV_INFO);
    assert_int_equal(c->http_max_body, 64 << 20);
    assert_int_equal(c->nmodels, 1);
    assert_string_equal(c->models[0].name, "a");
    assert_string_equal(c->models[0].path, "/m");
    assert_int_equal(c->models[0].max_batch, 32);
    assert_int_equal(c->models[0].timeout, 300000);
    srv_config_free(c);
}

static void test_every_kind_of_value(void **state)
{
    (void)state;
    struct srv_config *c;
    const char *path = file("all.conf", "# a comment\n"
                                        "[server]\n"
                                        "listen = 127.0.0.1:1 [::1]:2 ; two\n"
                                        "listen = unix:/run/x\n"
                                        "drain_delay = 2s\n"
                                        "hang_limit=3min\n"
                                        "log_level = debug\n"
                                        "log_format = json\n"
                                        "access_log = no\n"
                                        "[http]\n"
                                        "max_body = 2M\n"
                                        "[model a]\n"
                                        "path = /models/a b\n"
                                        "max_batch = 3\n"
                                        "[model]\n"
                                        "max_batch = 5\n"
                                        "timeout = 1500ms\n"
                                        "[model b]\n"
                                        "path = /b\n");
    assert_int_equal(load(&c, ARGS("--config", path), NULL, NULL), 0);
    assert_int_equal(c->server_listen.n, 3);
    assert_string_equal(c->server_listen.v[1], "[::1]:2");
    assert_string_equal(c->server_listen.v[2], "unix:/run/x");
    assert_int_equal(c->server_drain_delay, 2000);
    assert_int_equal(c->server_hang_limit, 180000);
    assert_int_equal(c->server_log_level, SRV_DEBUG);
    assert_int_equal(c->server_log_format, SRV_LOG_JSON);
    assert_int_equal(c->server_access_log, 0);
    assert_int_equal(c->http_max_body, 2 << 20);
    assert_int_equal(c->nmodels, 2);
    assert_string_equal(c->models[0].path, "/models/a b");
    assert_int_equal(c->models[0].max_batch, 3);
    assert_int_equal(c->models[0].timeout, 1500);
    assert_int_equal(c->models[1].max_batch, 5);
    srv_config_free(c);
}

static void test_file_gives_way_to_environment_and_that_to_arguments(void **state)
{
    (void)state;
    struct srv_config *c;
    const char *path = file("order.conf", "[server]\nlisten = 127.0.0.1:1\nlanes = 2\nthreads = 2\n"
                                          "retry_after = 2s\n[model m]\npath = /file\n"
                                          "max_batch = 2\n");
    assert_int_equal(
        load(&c,
             ARGS("--config", path, "--threads=4", "--listen", "127.0.0.1:3",
                  "--listen=127.0.0.1:4", "--model", "m=/args"),
             ARGS("PERCEIVERD_LANES=3", "PERCEIVERD_THREADS=3", "PERCEIVERD_LISTEN=127.0.0.1:2",
                  "PERCEIVERD_MODEL_MAX_BATCH=7", "PERCEIVERD_HTTP_MAX_BODY=1M", "OTHER=1"),
             NULL),
        0);
    assert_int_equal(c->server_retry_after, 2000);
    assert_int_equal(c->server_lanes, 3);
    assert_int_equal(c->server_threads, 4);
    assert_int_equal(c->http_max_body, 1 << 20);
    assert_int_equal(c->server_listen.n, 2);
    assert_string_equal(c->server_listen.v[0], "127.0.0.1:3");
    assert_int_equal(c->nmodels, 1);
    assert_string_equal(c->models[0].path, "/args");
    assert_int_equal(c->models[0].max_batch, 2); /* what is said of one model stays */
    srv_config_free(c);
}

static void test_models_directory(void **state)
{
    (void)state;
    struct srv_config *c;
    char models[256], path[300];
    snprintf(models, sizeof models, "%s/models", dir);
    mkdir(models, 0700);
    static const char *const names[] = {"one", "two", "empty", ".hidden"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", models, names[i]);
        mkdir(path, 0700);
        snprintf(path, sizeof path, "models/%s/config.json", names[i]);
        if (i != 2)
            file(path, "{}");
    }
    assert_int_equal(
        load(&c, ARGS("--models-dir", models, "--model", "two=/elsewhere"), NULL, NULL), 0);
    assert_int_equal(c->nmodels, 2);
    assert_string_equal(c->models[0].path, "/elsewhere");
    assert_string_equal(c->models[1].name, "one");
    srv_config_free(c);
    mkdir(strcat(models, "/bad name"), 0700);
    file("models/bad name/config.json", "{}");
    *strrchr(models, '/') = 0;
    snprintf(path, sizeof path, "models_dir: %s", models);
    expect_error(ARGS("--models-dir", models), NULL, path, "bad name");
    expect_error(ARGS("--models-dir", "/nonexistent"), NULL, "models_dir: /nonexistent", "No such");
}

static void test_errors_of_files_name_the_line(void **state)
{
    (void)state;
    expect_file_error("[server]\nlanes = 1\nlane = 2\n", 3, "no option \"lane\" in [server]");
    expect_file_error("[sever]\nlanes = 1\n", 2, "no option \"lanes\" in [sever]");
    expect_file_error("\n\nlanes = 1\n", 3, "before the first [section]");
    expect_file_error("[server]\nlanes\n", 2, "neither");
    expect_file_error("[server\nlanes = 1\n", 1, "neither");
    expect_file_error("[server]\nlanes = many\n", 2, "\"many\" is not a number");
    expect_file_error("[server]\nlanes = 1.5\n", 2, "is not a whole number");
    expect_file_error("[server]\nlanes = \n", 2, "is not a number");
    expect_file_error("[server]\nlanes = 65\n", 2, "not within 1..64");
    expect_file_error("[server]\nlanes = 0\n", 2, "not within 1..64");
    expect_file_error("[server]\nlanes = 99999999999999999999\n", 2, "not within 1..64");
    expect_file_error("[server]\nlanes = 1\n[http]\n[server]\nlanes = 1\n", 5, "set twice");
    expect_file_error("[server]\naccess_log = 1\n", 2, "not one of yes, no");
    expect_file_error("[server]\nlog_level = loud\n", 2, "error, warn, info, debug");
    expect_file_error("[server]\nlog_format = xml\n", 2, "auto, text, journal, json");
    expect_file_error("[server]\nhang_limit = 60\n", 2, "is not a time");
    expect_file_error("[server]\nhang_limit = 1ms\n", 2, "not within 1000ms..3600000ms");
    expect_file_error("[http]\nmax_body = 1T\n", 2, "is not a size");
    expect_file_error("[http]\nmax_body = 9999999999999999G\n", 2, "not within");
    expect_file_error("[http]\nmax_body = -1\n", 2, "not within");
    expect_file_error("[model a/b]\npath = /x\n", 2, "cannot name a model");
    expect_file_error("[model stats]\npath = /x\n", 2, "cannot name a model");
    expect_file_error("[model]\npath = /x\n", 2, "belongs in a section [model NAME]");
    expect_file_error("[model a]\npath = /x\npath = /y\n", 3, "set twice");
    expect_file_error("[model a]\nlanes = 1\n", 2, "no option \"lanes\"");
    char text[4096] = "[server]\nmodels_dir = ";
    memset(text + strlen(text), 'x', 3000);
    expect_file_error(text, 2, "line is longer");
    expect_error(ARGS("--config", "/nonexistent.conf"), NULL, "/nonexistent.conf", "No such file");
}

static void test_errors_of_environment_and_arguments_name_them(void **state)
{
    (void)state;
    expect_error(ARGS("--model", "a=/m"), ARGS("PERCEIVERD_LANE=1"), "PERCEIVERD_LANE",
                 "no option has this variable");
    expect_error(ARGS("--model", "a=/m"), ARGS("PERCEIVERD_HTTP_MAX_BODY=x"),
                 "PERCEIVERD_HTTP_MAX_BODY", "is not a number");
    expect_error(ARGS("--lanes", "0"), NULL, "--lanes", "not within");
    expect_error(ARGS("--lanes"), NULL, "--lanes", "needs a value");
    expect_error(ARGS("--lane", "1"), NULL, "--lane", "no such option");
    expect_error(ARGS("--model-max-batch=0"), NULL, "--model-max-batch", "not within");
    expect_error(ARGS("models/fashion"), NULL, "models/fashion", "not an option");
    expect_error(ARGS("--model", "fashion"), NULL, "model", "is not NAME=DIR");
    expect_error(ARGS("--model", "=x"), NULL, "model", "cannot name a model");
    expect_error(ARGS("--lanes", "1"), NULL, "", "no model to serve");
}

static void test_models_must_make_sense(void **state)
{
    (void)state;
    const char *path = file("m.conf", "[model a]\nmax_batch = 2\n");
    expect_error(ARGS("--config", path), NULL, "[model a]", "has no path");
    expect_error(ARGS("--model", "a=/m", "--model-max-queue", "8"), NULL, "[model a]",
                 "max_items 64 is more than max_queue 8");
    expect_error(ARGS("--model", "a=/m", "--model-timeout", "20min"), NULL, "[model a]",
                 "more than max_timeout");
}

/* In every pod beside a service named perceiverd. */
static void test_kubernetes_variables_are_no_errors(void **state)
{
    (void)state;
    struct srv_config *c;
    assert_int_equal(
        load(&c, ARGS("--model", "a=/m"),
             ARGS("PERCEIVERD_PORT=tcp://10.0.0.1:80", "PERCEIVERD_SERVICE_HOST=10.0.0.1",
                  "PERCEIVERD_PORT_80_TCP_ADDR=10.0.0.1"),
             NULL),
        0);
    srv_config_free(c);
}

static char *printed(const struct srv_config *c)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    srv_config_print(c, f);
    fclose(f);
    return text;
}

static void test_what_is_printed_reads_back_the_same(void **state)
{
    (void)state;
    struct srv_config *c, *again;
    assert_int_equal(load(&c,
                          ARGS("--listen", "127.0.0.1:1", "--listen", "[::1]:2", "--model", "a=/m",
                               "--http-max-body", "3k", "--hang-limit=90s", "--access-log=no"),
                          ARGS("PERCEIVERD_MODEL_MAX_BATCH=3"), NULL),
                     0);
    char *text = printed(c);
    assert_int_equal(load(&again, ARGS("--config", file("again.conf", text)), NULL, NULL), 0);
    char *text2 = printed(again);
    assert_string_equal(text, text2);
    assert_int_equal(again->http_max_body, 3 << 10);
    assert_int_equal(again->server_hang_limit, 90000);
    assert_int_equal(again->server_listen.n, 2);
    assert_int_equal(again->models[0].max_batch, 3);
    free(text);
    free(text2);
    srv_config_free(c);
    srv_config_free(again);
}

static void test_actions(void **state)
{
    (void)state;
    static const struct {
        const char *arg;
        enum srv_action action;
    } cases[] = {{"--help", SRV_HELP},
                 {"-h", SRV_HELP},
                 {"--version", SRV_VERSION},
                 {"--print-config", SRV_PRINT_CONFIG}};
    for (int i = 0; i < 4; i++) {
        struct srv_config *c = NULL;
        enum srv_action action;
        char *argv[] = {"perceiverd", (char *)cases[i].arg};
        assert_int_equal(srv_config_load(&c, &action, 2, argv, NULL, NULL), 0);
        assert_int_equal(action, cases[i].action);
        srv_config_free(c);
    }
}

/* The sample in the tree is what --print-config prints. */
static void test_sample_file_is_up_to_date(void **state)
{
    (void)state;
    struct srv_config *c = NULL;
    enum srv_action action;
    char *argv[] = {"perceiverd", "--print-config"}, sample[65536];
    FILE *f = fopen("etc/perceiverd.conf", "r");
    if (!f)
        skip(); /* not run from the top of the tree */
    size_t n = fread(sample, 1, sizeof sample - 1, f);
    sample[n] = 0;
    fclose(f);
    assert_int_equal(srv_config_load(&c, &action, 2, argv, NULL, NULL), 0);
    char *text = printed(c);
    assert_string_equal(text, sample);
    free(text);
    srv_config_free(c);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_kind_of_value),
        cmocka_unit_test(test_file_gives_way_to_environment_and_that_to_arguments),
        cmocka_unit_test(test_models_directory),
        cmocka_unit_test(test_errors_of_files_name_the_line),
        cmocka_unit_test(test_errors_of_environment_and_arguments_name_them),
        cmocka_unit_test(test_models_must_make_sense),
        cmocka_unit_test(test_kubernetes_variables_are_no_errors),
        cmocka_unit_test(test_what_is_printed_reads_back_the_same),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_sample_file_is_up_to_date),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
