/* options.h - the table of options, and values from text and back.
 *
 * Values live in structs generated from the same table (config.h); a row knows the offset of its
 * field. Loop thread, at start. */
#ifndef SRV_OPTIONS_H
#define SRV_OPTIONS_H

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum srv_option_type {
    SRV_OPT_STR,
    SRV_OPT_LIST,
    SRV_OPT_BOOL,
    SRV_OPT_INT,
    SRV_OPT_SIZE,
    SRV_OPT_TIME,
    SRV_OPT_LEVEL,
    SRV_OPT_FORMAT,
};

struct srv_list {
    int n;
    char **v;
};

struct srv_option {
    const char *section, *key;
    enum srv_option_type type;
    const char *def; /* the default, as text */
    int64_t min, max;
    const char *unit, *doc;
    size_t offset;  /* of the value in struct srv_config, or srv_model_config if per_model */
    bool per_model; /* section is "model" */
};

enum { SRV_OPTIONS_MAX = 64 };
extern const struct srv_option srv_options[];
extern const int srv_noptions;

/* Index of the row, or -1. */
int srv_option_find(const char *section, const char *key);

/* The name on the command line without "--" ("http-max-body"), or in the environment
 * ("PERCEIVERD_HTTP_MAX_BODY"). Writes at most size bytes; returns buf. */
const char *srv_option_flag(const struct srv_option *o, char *buf, size_t size);
const char *srv_option_variable(const struct srv_option *o, char *buf, size_t size);

/* Parses text into the field of base. LIST appends; split: at white space, else as one entry.
 * A failed call leaves the field untouched; the error says what was wrong, not where. */
PCV_CHECK int srv_option_set(const struct srv_option *o, void *base, const char *text, bool split,
                             struct pcv_err *e);

/* Empties a LIST, frees a STR; numbers stay. */
void srv_option_clear(const struct srv_option *o, void *base);

/* The value as text that srv_option_set understands; "a b" for lists. Returns buf. */
const char *srv_option_text(const struct srv_option *o, const void *base, char *buf, size_t size);

/* For --help: name, unit, doc, default, wrapped. */
void srv_options_help(FILE *out);

/* doc wrapped to 80 columns, each line after prefix. */
void srv_wrap(FILE *out, const char *prefix, const char *text);

#endif
