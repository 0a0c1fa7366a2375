/* perceiverd.c - serves Perceiver and Perceiver IO models over HTTP. */
#include "lib/perceiver.h"
#include "server/config.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void help(void)
{
    printf("perceiverd %s - Perceiver and Perceiver IO models over HTTP\n"
           "\n"
           "usage: perceiverd --model NAME=DIR [--listen ADDRESS] [--KEY VALUE ...]\n"
           "       perceiverd --config FILE\n"
           "\n"
           "  --config FILE     read options from FILE\n"
           "  --check-config    read all options, say what is wrong with them, and stop\n"
           "  --print-config    print the options as a file, and stop\n"
           "  --version, --help\n"
           "\n"
           "Every option may stand in the file ([SECTION] KEY = VALUE), in the environment\n"
           "(PERCEIVERD_SECTION_KEY; PERCEIVERD_KEY for [server]) and on the command line;\n"
           "each of these overrides the ones before it.\n",
           pcv_version());
    srv_options_help(stdout);
}

/* A write to a client that left must not end the daemon, and a terminal that closes neither: there
 * is nothing to reload on SIGHUP. */
static void ignore_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* libuv's pool decodes and encodes what is large: as many threads as there are processors. */
static void size_pool(void)
{
    char size[8];
    int n = pcv_cpu_available();
    snprintf(size, sizeof size, "%d", n < 2 ? 2 : n > 128 ? 128 : n);
    setenv("UV_THREADPOOL_SIZE", size, 0);
}

static int complain(const struct pcv_err *e)
{
    srv_log(SRV_ERROR, NULL, "%s%s%s", e->where, *e->where ? ": " : "", e->msg);
    return 1;
}

/* What loading would stumble over at once: addresses that are none, directories that are not there.
 */
static int check(const struct srv_config *c, struct pcv_err *e)
{
    struct srv_addr a;
    int r = 0;
    for (int i = 0; !r && i < c->server_listen.n; i++)
        r = srv_addr_parse(&a, c->server_listen.v[i], e);
    for (int i = 0; !r && i < c->nmodels; i++) {
        if (!srv_model_dir_ok(c->models[i].path)) {
            pcv_fail(e, PCV_EIO, "%s", strerror(errno)); /* of its config.json */
            r = pcv_err_at(e, "[model %s]: %s/config.json", c->models[i].name, c->models[i].path);
        }
    }
    if (!r)
        printf("configuration is good: %d models\n", c->nmodels);
    return r;
}

int main(int argc, char **argv)
{
    struct srv_config *config;
    enum srv_action action;
    struct pcv_err e = {0};
    int r = 0;
    if (srv_config_load(&config, &action, argc, argv, environ, &e))
        return complain(&e);
    switch (action) {
    case SRV_HELP: help(); break;
    case SRV_VERSION: printf("perceiverd %s\n", pcv_version()); break;
    case SRV_PRINT_CONFIG: srv_config_print(config, stdout); break;
    case SRV_CHECK_CONFIG:
        if (check(config, &e))
            r = complain(&e);
        break;
    case SRV_RUN:
        srv_log_init((enum srv_level)config->server_log_level,
                     (enum srv_log_format)config->server_log_format);
        ignore_signals();
        size_pool();
        if (srv_daemon_run(config, &e))
            r = complain(&e);
        break;
    }
    srv_config_free(config);
    return r;
}
