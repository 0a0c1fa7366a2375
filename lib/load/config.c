#include "lib/load/config.h"

#include "lib/load/json_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pcv_config {
    char *path;
    json_t *root;
};

int pcv_config_open(struct pcv_config **ret, const char *dir, const char *file, struct pcv_err *e)
{
    struct pcv_config *c = calloc(1, sizeof(*c));
    int r;

    if (!c || asprintf(&c->path, "%s/%s", dir, file) < 0) {
        free(c);
        return pcv_fail(e, PCV_ENOMEM, "no memory for %s/%s", dir, file);
    }
    r = pcv_json_open(&c->root, c->path, e);
    if (r < 0)
        pcv_config_close(c);
    else
        *ret = c;
    return r;
}

int pcv_config_parse(struct pcv_config **ret, const char *text, const char *dir, struct pcv_err *e)
{
    struct pcv_config *c = calloc(1, sizeof(*c));
    json_error_t je;

    if (!c || !(c->path = strdup(dir)) || !(c->root = json_loads(text, 0, &je))) {
        pcv_config_close(c);
        return pcv_fail(e, PCV_ENOMEM, "no memory for a configuration");
    }
    *ret = c;
    return 0;
}

void pcv_config_close(struct pcv_config *c)
{
    if (!c)
        return;
    json_decref(c->root);
    free(c->path);
    free(c);
}

/* The value, or NULL when the key is absent or null. */
static const json_t *value(const struct pcv_config *c, const char *key)
{
    const json_t *v = json_object_get(c->root, key);

    return json_is_null(v) ? NULL : v;
}

static int at(const struct pcv_config *c, const char *key, int r, struct pcv_err *e)
{
    pcv_err_at(e, "%s", key);
    pcv_err_at(e, "%s", c->path);
    return r;
}

static int missing(const struct pcv_config *c, const char *key, struct pcv_err *e)
{
    return at(c, key, pcv_fail(e, PCV_EMISSING, "key is missing"), e);
}

bool pcv_config_has(const struct pcv_config *c, const char *key)
{
    return value(c, key) != NULL;
}

int pcv_config_int_or(const struct pcv_config *c, const char *key, int lo, int hi, int absent,
                      int *ret, struct pcv_err *e)
{
    const json_t *v = value(c, key);
    json_int_t n;

    if (!v) {
        *ret = absent;
        return 0;
    }
    if (!json_is_integer(v))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not a whole number"), e);
    n = json_integer_value(v);
    if (n < lo || n > hi)
        return at(c, key, pcv_fail(e, PCV_ERANGE, "%lld is outside %d..%d", (long long)n, lo, hi),
                  e);
    *ret = (int)n;
    return 0;
}

int pcv_config_int(const struct pcv_config *c, const char *key, int lo, int hi, int *ret,
                   struct pcv_err *e)
{
    if (!value(c, key))
        return missing(c, key, e);
    return pcv_config_int_or(c, key, lo, hi, 0, ret, e);
}

int pcv_config_ints_or(const struct pcv_config *c, const char *key, int n, int lo, int hi, int *ret,
                       struct pcv_err *e)
{
    const json_t *v = value(c, key);

    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) != (size_t)n)
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not an array of %d whole numbers", n), e);
    for (int i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, (size_t)i);
        const json_int_t number = json_integer_value(x);

        if (!json_is_integer(x) || number < lo || number > hi)
            return at(c, key,
                      pcv_fail(e, PCV_ERANGE, "element %d is no whole number in %d..%d", i, lo, hi),
                      e);
    }
    for (int i = 0; i < n; i++)
        ret[i] = (int)json_integer_value(json_array_get(v, (size_t)i));
    return 0;
}

int pcv_config_bool_or(const struct pcv_config *c, const char *key, bool absent, bool *ret,
                       struct pcv_err *e)
{
    const json_t *v = value(c, key);

    if (v && !json_is_boolean(v))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not true or false"), e);
    *ret = v ? json_is_true(v) : absent;
    return 0;
}

int pcv_config_number_or(const struct pcv_config *c, const char *key, double lo, double hi,
                         double absent, double *ret, struct pcv_err *e)
{
    const json_t *v = value(c, key);

    if (v && !json_is_number(v))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not a number"), e);
    if (v && !(json_number_value(v) >= lo && json_number_value(v) <= hi))
        return at(c, key,
                  pcv_fail(e, PCV_ERANGE, "%g is outside %g..%g", json_number_value(v), lo, hi), e);
    *ret = v ? json_number_value(v) : absent;
    return 0;
}

int pcv_config_child(struct pcv_config **ret, const struct pcv_config *c, const char *key,
                     struct pcv_err *e)
{
    json_t *v = json_object_get(c->root, key);
    struct pcv_config *child;

    *ret = NULL;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not an object"), e);
    child = calloc(1, sizeof(*child));
    if (!child || asprintf(&child->path, "%s: %s", c->path, key) < 0) {
        free(child);
        return at(c, key, pcv_fail(e, PCV_ENOMEM, "no memory for its keys"), e);
    }
    child->root = json_incref(v);
    *ret = child;
    return 0;
}

int pcv_config_only(const struct pcv_config *c, const char *const *known, struct pcv_err *e)
{
    const char *key;
    json_t *v;

    json_object_foreach(c->root, key, v)
    {
        int i = 0;

        while (known[i] && strcmp(key, known[i]) != 0)
            i++;
        if (!known[i]) {
            char shown[64];

            snprintf(shown, sizeof(shown), "%s", key);
            return at(c, shown, pcv_fail(e, PCV_EUNKNOWN, "nobody knows this key"), e);
        }
    }
    return 0;
}

int pcv_config_at(const struct pcv_config *c, const char *key, struct pcv_err *e)
{
    return at(c, key, e ? e->code : PCV_EFORMAT, e);
}

int pcv_config_text_or(const struct pcv_config *c, const char *key, const char *absent,
                       const char **ret, struct pcv_err *e)
{
    const json_t *v = value(c, key);

    if (v && !json_is_string(v))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not a string"), e);
    *ret = v ? json_string_value(v) : absent;
    return 0;
}

int pcv_config_text(const struct pcv_config *c, const char *key, const char **ret,
                    struct pcv_err *e)
{
    if (!value(c, key))
        return missing(c, key, e);
    return pcv_config_text_or(c, key, NULL, ret, e);
}

int pcv_config_first(const struct pcv_config *c, const char *key, const char **ret,
                     struct pcv_err *e)
{
    const json_t *v = value(c, key);

    if (!v)
        return missing(c, key, e);
    if (!json_is_array(v) || !json_is_string(json_array_get(v, 0)))
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not an array of strings"), e);
    *ret = json_string_value(json_array_get(v, 0));
    return 0;
}

void pcv_labels_free(char **labels, int n)
{
    for (int i = 0; labels && i < n; i++)
        free(labels[i]);
    free(labels);
}

/* "0", "1", ... below count as upstreams write them, or -1. */
static long label_index(const char *text, int count)
{
    char *end;
    const long i = strtol(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1]) || *end || i >= count)
        return -1;
    return i;
}

int pcv_config_labels(const struct pcv_config *c, const char *key, char ***ret, int *n,
                      struct pcv_err *e)
{
    json_t *v = json_object_get(c->root, key), *label;
    const int count = (int)json_object_size(v);
    const char *index;
    char **labels;

    if (!v || json_is_null(v)) {
        *ret = NULL;
        *n = 0;
        return 0;
    }
    if (!json_is_object(v) || count == 0)
        return at(c, key, pcv_fail(e, PCV_EFORMAT, "is not an object of labels"), e);
    labels = calloc((size_t)count, sizeof(*labels));
    if (!labels)
        return at(c, key, pcv_fail(e, PCV_ENOMEM, "no memory for %d labels", count), e);
    json_object_foreach(v, index, label)
    {
        const bool number = json_is_integer(label); /* {"0": 0}: digits that are their own names */
        const long i = label_index(index, count);

        if (i < 0 || labels[i] || !(number || json_is_string(label))) {
            pcv_labels_free(labels, count);
            return at(c, key,
                      pcv_fail(e, PCV_EFORMAT, "\"%.40s\": %d labels want indexes 0..%d, each once",
                               index, count, count - 1),
                      e);
        }
        if (!number)
            labels[i] = strdup(json_string_value(label));
        else if (asprintf(&labels[i], "%lld", (long long)json_integer_value(label)) < 0)
            labels[i] = NULL;
    }
    for (int i = 0; i < count; i++)
        if (!labels[i]) {
            pcv_labels_free(labels, count);
            return at(c, key, pcv_fail(e, PCV_ENOMEM, "no memory for %d labels", count), e);
        }
    *ret = labels;
    *n = count;
    return 0;
}
