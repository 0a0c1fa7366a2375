/* config.h - what the daemon was told: defaults < file < environment < command line.
 *
 * All fields come from options.def. After loading, immutable: any thread. */
#ifndef SRV_CONFIG_H
#define SRV_CONFIG_H

#include "server/options.h"

#define SRV_CTYPE_STR    char *
#define SRV_CTYPE_LIST   struct srv_list
#define SRV_CTYPE_BOOL   int64_t
#define SRV_CTYPE_INT    int64_t
#define SRV_CTYPE_SIZE   int64_t
#define SRV_CTYPE_TIME   int64_t
#define SRV_CTYPE_LEVEL  int64_t
#define SRV_CTYPE_FORMAT int64_t

struct srv_model_config {
    char *name; /* [A-Za-z0-9._-]{1,64}; NULL in the defaults */
#define OPT(section, key, type, def, min, max, unit, doc)
#define MOPT(key, type, def, min, max, unit, doc) SRV_CTYPE_##type key;
#include "server/options.def"
#undef OPT
#undef MOPT
    uint8_t source[SRV_OPTIONS_MAX]; /* who set each row: enum srv_origin */
};

enum srv_origin { SRV_FROM_DEFAULT, SRV_FROM_FILE, SRV_FROM_ENV, SRV_FROM_ARGS };

struct srv_config {
#define OPT(section, key, type, def, min, max, unit, doc) SRV_CTYPE_##type section##_##key;
#define MOPT(key, type, def, min, max, unit, doc)
#include "server/options.def"
#undef OPT
#undef MOPT
    uint8_t source[SRV_OPTIONS_MAX];
    struct srv_model_config model_defaults; /* [model] */
    int nmodels;
    struct srv_model_config *models; /* complete: what they do not set is from the defaults */
};

enum srv_action {
    SRV_RUN,
    SRV_HELP,         /* --help */
    SRV_VERSION,      /* --version */
    SRV_PRINT_CONFIG, /* --print-config */
    SRV_CHECK_CONFIG, /* --check-config */
};

/* Reads argv (and the file that --config names) and envp. own: srv_config_free. Errors begin with
 * FILE:LINE, the variable or the option. HELP and VERSION read nothing else. RUN and CHECK_CONFIG
 * demand at least one model. */
PCV_CHECK int srv_config_load(struct srv_config **ret, enum srv_action *action, int argc,
                              char *const *argv, char *const *envp, struct pcv_err *e);
void srv_config_free(struct srv_config *c); /* NULL and half-built are fine */

/* A configuration file that says the same; what has its default value is commented out. */
void srv_config_print(const struct srv_config *c, FILE *out);

/* Whether a directory holds a model's description. */
bool srv_model_dir_ok(const char *dir);

/* Names of models: 1 to 64 of A-Z a-z 0-9 . _ -, not "." or "..", and not "stats", which is a path
 * of the Open Inference Protocol. */
bool srv_model_name_ok(const char *name);

#endif
