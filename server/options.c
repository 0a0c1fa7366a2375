#include "server/options.h"

#include "server/config.h"
#include "server/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct srv_option srv_options[] = {
#define OPT(section_, key_, type_, def_, min_, max_, unit_, doc_)                                  \
    {.section = #section_,                                                                         \
     .key = #key_,                                                                                 \
     .type = SRV_OPT_##type_,                                                                      \
     .def = def_,                                                                                  \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .unit = unit_,                                                                                \
     .doc = doc_,                                                                                  \
     .offset = offsetof(struct srv_config, section_##_##key_),                                     \
     .per_model = false},
#define MOPT(key_, type_, def_, min_, max_, unit_, doc_)                                           \
    {.section = "model",                                                                           \
     .key = #key_,                                                                                 \
     .type = SRV_OPT_##type_,                                                                      \
     .def = def_,                                                                                  \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .unit = unit_,                                                                                \
     .doc = doc_,                                                                                  \
     .offset = offsetof(struct srv_model_config, key_),                                            \
     .per_model = true},
#include "server/options.def"
#undef OPT
#undef MOPT
};
const int srv_noptions = sizeof srv_options / sizeof *srv_options;
_Static_assert(sizeof srv_options / sizeof *srv_options <= SRV_OPTIONS_MAX,
               "source[] is too small");

static const char *const levels[] = {"error", "warn", "info", "debug"};
static const char *const formats[] = {"auto", "text", "journal", "json"};
_Static_assert(SRV_ERROR == 0 && SRV_DEBUG == 3 && SRV_LOG_AUTO == 0 && SRV_LOG_JSON == 3,
               "words are in the order of log.h");

/* A suffix and what it multiplies by. */
struct suffix {
    const char *text;
    int64_t factor;
};
static const struct suffix sizes[] = {{"", 1}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}};
static const struct suffix times[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};

int srv_option_find(const char *section, const char *key)
{
    for (int i = 0; i < srv_noptions; i++)
        if (!strcmp(srv_options[i].section, section) && !strcmp(srv_options[i].key, key))
            return i;
    return -1;
}

/* prefix, then the section unless it is "server", then the key; each character through map. */
static const char *joined(const struct srv_option *o, const char *prefix, char separator,
                          int (*map)(int), char *buf, size_t size)
{
    bool server = !strcmp(o->section, "server");
    snprintf(buf, size, "%s%s%s%s", prefix, server ? "" : o->section, server ? "" : "_", o->key);
    for (char *p = buf + strlen(prefix); *p; p++)
        *p = *p == '_' ? separator : (char)map((unsigned char)*p);
    return buf;
}

const char *srv_option_flag(const struct srv_option *o, char *buf, size_t size)
{
    return joined(o, "", '-', tolower, buf, size);
}

const char *srv_option_variable(const struct srv_option *o, char *buf, size_t size)
{
    return joined(o, "PERCEIVERD_", '_', toupper, buf, size);
}

/* A number with one of n suffixes; without any when one of them is "". */
static int parse_number(const struct srv_option *o, const char *text, const struct suffix *s, int n,
                        int64_t *ret, struct pcv_err *e)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || !(isdigit((unsigned char)*text) || *text == '-'))
        return pcv_fail(e, PCV_EFORMAT, "\"%s\" is not a number", text);
    int64_t product = 0;
    bool known = v == 0 && !*end;
    bool overflow = errno == ERANGE;
    for (int i = 0; i < n && !known; i++)
        if (!strcmp(end, s[i].text)) {
            known = true;
            overflow |= __builtin_mul_overflow((int64_t)v, s[i].factor, &product);
        }
    if (!known && s == times)
        return pcv_fail(e, PCV_EFORMAT, "\"%s\" is not a time: a number and ms, s, min or h", text);
    if (!known)
        return pcv_fail(e, PCV_EFORMAT, "\"%s\" is not a %s", text,
                        n > 1 ? "size: a number, or one with k, M or G" : "whole number");
    char low[32], high[32];
    if (overflow || product < o->min || product > o->max) {
        snprintf(low, sizeof low, "%lld%s", (long long)o->min, s == times && o->min ? "ms" : "");
        snprintf(high, sizeof high, "%lld%s", (long long)o->max, s == times ? "ms" : "");
        return pcv_fail(e, PCV_ERANGE, "%s is not within %s..%s", text, low, high);
    }
    *ret = product;
    return 0;
}

static int parse_word(const char *text, const char *const *words, int n, const char *list,
                      int64_t *ret, struct pcv_err *e)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text, words[i])) {
            *ret = i;
            return 0;
        }
    return pcv_fail(e, PCV_EFORMAT, "\"%s\" is not one of %s", text, list);
}

static int append(struct srv_list *l, const char *text, size_t len, struct pcv_err *e)
{
    char **v = realloc(l->v, ((size_t)l->n + 1) * sizeof *v);
    if (v)
        l->v = v;
    char *copy = v ? strndup(text, len) : NULL;
    if (!copy)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    l->v[l->n++] = copy;
    return 0;
}

static int parse_list(struct srv_list *l, const char *text, bool split, struct pcv_err *e)
{
    if (!split)
        return append(l, text, strlen(text), e);
    int before = l->n;
    for (const char *p = text; *(p += strspn(p, " \t\n")); p += strcspn(p, " \t\n"))
        if (append(l, p, strcspn(p, " \t\n"), e)) {
            while (l->n > before)
                free(l->v[--l->n]);
            return PCV_ENOMEM;
        }
    return 0;
}

int srv_option_set(const struct srv_option *o, void *base, const char *text, bool split,
                   struct pcv_err *e)
{
    void *field = (char *)base + o->offset;
    static const char *const booleans[] = {"no", "yes"};
    static const struct suffix none[] = {{"", 1}};
    switch (o->type) {
    case SRV_OPT_STR: {
        char *copy = strdup(text);
        if (!copy)
            return pcv_fail(e, PCV_ENOMEM, "no memory");
        free(*(char **)field);
        *(char **)field = copy;
        return 0;
    }
    case SRV_OPT_LIST: return parse_list(field, text, split, e);
    case SRV_OPT_BOOL: return parse_word(text, booleans, 2, "yes, no", field, e);
    case SRV_OPT_LEVEL: return parse_word(text, levels, 4, "error, warn, info, debug", field, e);
    case SRV_OPT_FORMAT: return parse_word(text, formats, 4, "auto, text, journal, json", field, e);
    case SRV_OPT_INT: return parse_number(o, text, none, 1, field, e);
    case SRV_OPT_SIZE: return parse_number(o, text, sizes, 4, field, e);
    case SRV_OPT_TIME: return parse_number(o, text, times, 4, field, e);
    }
    return pcv_fail(e, PCV_EUNSUPPORTED, "unknown type of option");
}

void srv_option_clear(const struct srv_option *o, void *base)
{
    void *field = (char *)base + o->offset;
    if (o->type == SRV_OPT_STR) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (o->type == SRV_OPT_LIST) {
        struct srv_list *l = field;
        while (l->n)
            free(l->v[--l->n]);
        free(l->v);
        l->v = NULL;
    }
}

/* The largest unit that divides v. */
static void print_number(int64_t v, const struct suffix *s, int n, char *buf, size_t size)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (v && v % s[i].factor == 0)
            best = i;
    snprintf(buf, size, "%lld%s", (long long)(v / s[best].factor), v ? s[best].text : "");
}

const char *srv_option_text(const struct srv_option *o, const void *base, char *buf, size_t size)
{
    const void *field = (const char *)base + o->offset;
    int64_t v = o->type == SRV_OPT_STR || o->type == SRV_OPT_LIST ? 0 : *(const int64_t *)field;
    switch (o->type) {
    case SRV_OPT_STR: {
        const char *s = *(char *const *)field;
        snprintf(buf, size, "%s", s ? s : "");
        break;
    }
    case SRV_OPT_LIST: {
        const struct srv_list *l = field;
        size_t at = 0;
        buf[0] = 0;
        for (int i = 0; i < l->n && at < size; i++)
            at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? " " : "", l->v[i]);
        break;
    }
    case SRV_OPT_BOOL: snprintf(buf, size, "%s", v ? "yes" : "no"); break;
    case SRV_OPT_LEVEL: snprintf(buf, size, "%s", levels[v]); break;
    case SRV_OPT_FORMAT: snprintf(buf, size, "%s", formats[v]); break;
    case SRV_OPT_INT: snprintf(buf, size, "%lld", (long long)v); break;
    case SRV_OPT_SIZE: print_number(v, sizes, 4, buf, size); break;
    case SRV_OPT_TIME: print_number(v, times, 4, buf, size); break;
    }
    return buf;
}

void srv_wrap(FILE *out, const char *prefix, const char *text)
{
    size_t width = 80 - strlen(prefix);
    while (*text) {
        size_t len = strlen(text);
        if (len > width) {
            len = width;
            while (len && text[len] != ' ')
                len--;
            if (!len)
                len = strcspn(text, " ");
        }
        fprintf(out, "%s%.*s\n", prefix, (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
}

void srv_options_help(FILE *out)
{
    const char *section = "";
    for (int i = 0; i < srv_noptions; i++) {
        const struct srv_option *o = &srv_options[i];
        if (strcmp(section, o->section)) {
            section = o->section;
            fprintf(out, "\n[%s]\n", section);
        }
        char flag[64];
        if (o->per_model && !strcmp(o->key, "path"))
            fprintf(out, "  (only in a file) path = %s\n", o->unit);
        else
            fprintf(out, "  --%s %s%s%s%s\n", srv_option_flag(o, flag, sizeof flag),
                    *o->unit ? o->unit : (o->type == SRV_OPT_BOOL ? "yes|no" : "value"),
                    *o->def ? "  (default " : "", o->def, *o->def ? ")" : "");
        srv_wrap(out, "      ", o->doc);
    }
}
