/* config.c - four sources, later ones over earlier ones.
 *
 * Every value remembers its source, so that a list from a stronger source replaces one from a
 * weaker, and a file cannot set a value twice. */
#include "server/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool srv_model_name_ok(const char *name)
{
    size_t len = strlen(name);
    size_t good = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return len >= 1 && len <= 64 && good == len && strcmp(name, ".") && strcmp(name, "..") &&
           strcmp(name, "stats");
}

bool srv_model_dir_ok(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/perceiver.json", dir);
    if (access(path, R_OK) == 0)
        return true;
    snprintf(path, sizeof path, "%s/config.json", dir);
    return access(path, R_OK) == 0;
}

static int check_model_name(const char *name, struct pcv_err *e)
{
    if (srv_model_name_ok(name))
        return 0;
    return pcv_fail(e, PCV_EFORMAT,
                    "\"%s\" cannot name a model: 1 to 64 of A-Z a-z 0-9 . _ -, and not \"stats\"",
                    name);
}

/* The model's section, made if new. */
static int model_section(struct srv_config *c, const char *name, struct srv_model_config **ret,
                         struct pcv_err *e)
{
    for (int i = 0; i < c->nmodels; i++)
        if (!strcmp(c->models[i].name, name)) {
            *ret = &c->models[i];
            return 0;
        }
    int r = check_model_name(name, e);
    if (r)
        return r;
    struct srv_model_config *m = realloc(c->models, ((size_t)c->nmodels + 1) * sizeof *m);
    if (m)
        c->models = m;
    char *copy = m ? strdup(name) : NULL;
    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    m = &c->models[c->nmodels++];
    *m = (struct srv_model_config){.name = copy};
    *ret = m;
    return 0;
}

/* One value from one source. section is "server", "http", "model" or "model NAME". */
static int assign(struct srv_config *c, const char *section, const char *key, const char *value,
                  enum srv_origin from, bool split, struct pcv_err *e)
{
    bool named = !strncmp(section, "model ", 6);
    int i = srv_option_find(named ? "model" : section, key);
    if (i < 0)
        return pcv_fail(e, PCV_EUNKNOWN, "no option \"%s\" in [%s]", key, section);
    const struct srv_option *o = &srv_options[i];
    void *base = o->per_model ? (void *)&c->model_defaults : c;
    uint8_t *source = o->per_model ? c->model_defaults.source : c->source;
    if (named) {
        struct srv_model_config *m;
        const char *name = section + 6 + strspn(section + 6, " ");
        int r = model_section(c, name, &m, e);
        if (r)
            return r;
        base = m;
        source = m->source;
    } else if (o->per_model && !strcmp(key, "path")) {
        return pcv_fail(e, PCV_EFORMAT, "path belongs in a section [model NAME]");
    }
    if (from == SRV_FROM_FILE && source[i] == from && o->type != SRV_OPT_LIST)
        return pcv_fail(e, PCV_EFORMAT, "[%s] %s is set twice", section, key);
    if (source[i] != from && o->type == SRV_OPT_LIST)
        srv_option_clear(o, base);
    if (srv_option_set(o, base, value, split, e))
        return e->code;
    source[i] = (uint8_t)from;
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------- */

struct ini {
    FILE *file;
    int line; /* the line being read, from 1 */
    struct srv_config *config;
    struct pcv_err *err;
    int error_line; /* of the first error; 0 = none */
};

static void ini_error(struct ini *ini)
{
    if (!ini->error_line)
        ini->error_line = ini->line;
}

/* fgets that counts, and refuses lines the parser would cut. */
static char *ini_line(char *buf, int size, void *stream)
{
    struct ini *ini = stream;
    if (ini->error_line || !fgets(buf, size, ini->file))
        return NULL;
    ini->line++;
    size_t len = strlen(buf);
    if (len + 1 == (size_t)size && buf[len - 1] != '\n') {
        pcv_fail(ini->err, PCV_ELIMIT, "line is longer than %d characters", size - 2);
        ini_error(ini);
        return NULL;
    }
    return buf;
}

static int ini_value(void *user, const char *section, const char *name, const char *value)
{
    struct ini *ini = user;
    if (ini->error_line)
        return 0;
    if (!*section)
        pcv_fail(ini->err, PCV_EFORMAT, "%s stands before the first [section]", name);
    else if (!assign(ini->config, section, name, value, SRV_FROM_FILE, true, ini->err))
        return 1;
    ini_error(ini);
    return 0;
}

static int read_file(struct srv_config *c, const char *path, struct pcv_err *e)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        pcv_fail(e, PCV_EIO, "%s", strerror(errno));
        return pcv_err_at(e, "%s", path);
    }
    struct ini ini = {.file = f, .config = c, .err = e};
    int bad = ini_parse_stream(ini_line, &ini, ini_value, &ini);
    bool io = ferror(f);
    fclose(f);
    if (ini.error_line && (bad <= 0 || ini.error_line <= bad))
        return pcv_err_at(e, "%s:%d", path, ini.error_line);
    if (io) {
        pcv_fail(e, PCV_EIO, "cannot be read");
        return pcv_err_at(e, "%s", path);
    }
    if (bad) {
        pcv_fail(e, PCV_EFORMAT, "neither [section], key = value nor comment");
        return pcv_err_at(e, "%s:%d", path, bad);
    }
    return 0;
}

/* ---- environment and command line ------------------------------------------------------------ */

/* What Kubernetes sets in every pod for a service that is named perceiverd. */
static bool from_kubernetes(const char *name)
{
    return !strcmp(name, "PERCEIVERD_PORT") || !strncmp(name, "PERCEIVERD_PORT_", 16) ||
           !strncmp(name, "PERCEIVERD_SERVICE_", 19);
}

static int read_environment(struct srv_config *c, char *const *envp, struct pcv_err *e)
{
    for (; envp && *envp; envp++) {
        const char *eq = strchr(*envp, '=');
        char name[128], variable[64];
        if (!eq || strncmp(*envp, "PERCEIVERD_", 11))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(eq - *envp), *envp);
        if (from_kubernetes(name))
            continue;
        int i = 0;
        while (i < srv_noptions &&
               strcmp(srv_option_variable(&srv_options[i], variable, sizeof variable), name))
            i++;
        if (i == srv_noptions) {
            pcv_fail(e, PCV_EUNKNOWN, "no option has this variable; see --help");
            return pcv_err_at(e, "%s", name);
        }
        const struct srv_option *o = &srv_options[i];
        if (assign(c, o->section, o->key, eq + 1, SRV_FROM_ENV, true, e))
            return pcv_err_at(e, "%s", name);
    }
    return 0;
}

/* What is no value of the configuration. */
struct args {
    const char *config;
    enum srv_action action;
};

/* One argument that is not in the table; false when it is unknown. */
static bool special(struct args *a, const char *name)
{
    static const struct {
        const char *name;
        enum srv_action action;
    } actions[] = {{"help", SRV_HELP},
                   {"version", SRV_VERSION},
                   {"print-config", SRV_PRINT_CONFIG},
                   {"check-config", SRV_CHECK_CONFIG}};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (!strcmp(name, actions[i].name)) {
            if (a->action != SRV_HELP && a->action != SRV_VERSION)
                a->action = actions[i].action;
            return true;
        }
    return false;
}

/* Without c: only what is not in the table. With c: only what is. */
static int read_args(struct srv_config *c, struct args *a, int argc, char *const *argv,
                     struct pcv_err *e)
{
    for (int i = 1; i < argc; i++) {
        char name[64], flag[64];
        const char *arg = argv[i];
        if (!strcmp(arg, "-h"))
            arg = "--help";
        const char *eq = strchr(arg, '=');
        size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
        if (strncmp(arg, "--", 2) || len < 3 || len >= sizeof name) {
            pcv_fail(e, PCV_EUNKNOWN, "not an option; see --help");
            return pcv_err_at(e, "%s", arg);
        }
        snprintf(name, sizeof name, "%.*s", (int)len - 2, arg + 2);
        if (!eq && special(a, name))
            continue;
        int o = 0;
        while (o < srv_noptions &&
               strcmp(srv_option_flag(&srv_options[o], flag, sizeof flag), name))
            o++;
        bool config = !strcmp(name, "config");
        if (o == srv_noptions && !config) {
            pcv_fail(e, PCV_EUNKNOWN, "no such option; see --help");
            return pcv_err_at(e, "--%s", name);
        }
        if (!eq && i + 1 == argc) {
            pcv_fail(e, PCV_EMISSING, "needs a value");
            return pcv_err_at(e, "--%s", name);
        }
        const char *value = eq ? eq + 1 : argv[++i];
        if (config)
            a->config = value;
        else if (c && assign(c, srv_options[o].section, srv_options[o].key, value, SRV_FROM_ARGS,
                             false, e))
            return pcv_err_at(e, "--%s", name);
    }
    return 0;
}

/* ---- models --------------------------------------------------------------------------------- */

static int set_path(struct srv_config *c, const char *name, const char *dir, struct pcv_err *e)
{
    struct srv_model_config *m;
    int path = srv_option_find("model", "path");
    int r = model_section(c, name, &m, e);
    if (!r && m->source[path] == SRV_FROM_ARGS)
        r = pcv_fail(e, PCV_EFORMAT, "%s is named twice", name);
    if (r || (r = srv_option_set(&srv_options[path], m, dir, false, e)))
        return r;
    m->source[path] = SRV_FROM_ARGS;
    return 0;
}

/* NAME=DIR entries of the list of models. */
static int add_listed(struct srv_config *c, struct pcv_err *e)
{
    for (int i = 0; i < c->server_model.n; i++) {
        const char *text = c->server_model.v[i], *eq = strchr(text, '=');
        char name[128];
        if (!eq || !eq[1]) {
            pcv_fail(e, PCV_EFORMAT, "\"%s\" is not NAME=DIR", text);
            return pcv_err_at(e, "model");
        }
        snprintf(name, sizeof name, "%.*s", (int)(eq - text), text);
        if (set_path(c, name, eq + 1, e))
            return pcv_err_at(e, "model");
    }
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* Directories that hold a model; names that are configured already keep their path. */
static int add_directory(struct srv_config *c, const char *dir, struct pcv_err *e)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, not_hidden, by_name);
    if (n < 0) {
        pcv_fail(e, PCV_EIO, "%s", strerror(errno));
        return pcv_err_at(e, "models_dir: %s", dir);
    }
    int r = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
        if (!r && srv_model_dir_ok(path)) {
            bool known = false;
            for (int k = 0; k < c->nmodels; k++)
                known |= !strcmp(c->models[k].name, entries[i]->d_name) && c->models[k].path;
            if (!known && set_path(c, entries[i]->d_name, path, e))
                r = pcv_err_at(e, "models_dir: %s", dir);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

/* Fills what the models leave open, and checks what no single row can. */
static int complete_models(struct srv_config *c, struct pcv_err *e)
{
    if (c->server_stream_rows % 128) /* rows of the decoder's tiles */
        return pcv_fail(e, PCV_ERANGE, "[server] stream_rows: %lld is not a multiple of 128",
                        (long long)c->server_stream_rows);
    for (int k = 0; k < c->nmodels; k++) {
        struct srv_model_config *m = &c->models[k];
        for (int i = 0; i < srv_noptions; i++) {
            const struct srv_option *o = &srv_options[i];
            if (!o->per_model || m->source[i] || o->type == SRV_OPT_STR)
                continue;
            memcpy((char *)m + o->offset, (char *)&c->model_defaults + o->offset, sizeof(int64_t));
        }
        int r = 0;
        if (!m->path || !*m->path)
            r = pcv_fail(e, PCV_EMISSING, "has no path");
        else if (m->max_items > m->max_queue)
            r = pcv_fail(e, PCV_ERANGE, "max_items %lld is more than max_queue %lld",
                         (long long)m->max_items, (long long)m->max_queue);
        else if (m->timeout > m->max_timeout)
            r = pcv_fail(e, PCV_ERANGE, "timeout %lldms is more than max_timeout %lldms",
                         (long long)m->timeout, (long long)m->max_timeout);
        if (r)
            return pcv_err_at(e, "[model %s]", m->name);
    }
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int defaults(struct srv_config *c, struct pcv_err *e)
{
    for (int i = 0; i < srv_noptions; i++) {
        const struct srv_option *o = &srv_options[i];
        void *base = o->per_model ? (void *)&c->model_defaults : c;
        if (o->type == SRV_OPT_STR || (o->type == SRV_OPT_LIST && !*o->def))
            continue;
        if (srv_option_set(o, base, o->def, true, e))
            return pcv_err_at(e, "default of %s.%s", o->section, o->key);
    }
    return 0;
}

int srv_config_load(struct srv_config **ret, enum srv_action *action, int argc, char *const *argv,
                    char *const *envp, struct pcv_err *e)
{
    struct args args = {.action = SRV_RUN};
    struct pcv_err own;
    if (!e)
        e = &own;
    struct srv_config *c = calloc(1, sizeof *c);
    if (!c)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    int r;
    if ((r = defaults(c, e)) || (r = read_args(NULL, &args, argc, argv, e)))
        goto out;
    if (args.action != SRV_HELP && args.action != SRV_VERSION) {
        if ((args.config && (r = read_file(c, args.config, e))) ||
            (r = read_environment(c, envp, e)) || (r = read_args(c, &args, argc, argv, e)) ||
            (r = add_listed(c, e)))
            goto out;
        if (c->server_models_dir && *c->server_models_dir &&
            (r = add_directory(c, c->server_models_dir, e)))
            goto out;
        if ((r = complete_models(c, e)))
            goto out;
        if (!c->nmodels && args.action != SRV_PRINT_CONFIG) {
            r = pcv_fail(e, PCV_EMISSING,
                         "no model to serve: give --model NAME=DIR, a section "
                         "[model NAME] or models_dir");
            goto out;
        }
    }
    *ret = c;
    *action = args.action;
    c = NULL;
out:
    srv_config_free(c);
    return r;
}

static void clear(void *base, bool per_model)
{
    for (int i = 0; i < srv_noptions; i++)
        if (srv_options[i].per_model == per_model)
            srv_option_clear(&srv_options[i], base);
}

void srv_config_free(struct srv_config *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->nmodels; i++) {
        clear(&c->models[i], true);
        free(c->models[i].name);
    }
    free(c->models);
    clear(&c->model_defaults, true);
    clear(c, false);
    free(c);
}
