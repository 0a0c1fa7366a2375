/* metrics.c - per metric a small hash table of series, keyed by the label values joined by NUL. */
#include "server/metrics.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { COUNTER, GAUGE, HISTOGRAM };
enum bucket_set { NONE, SECONDS, ITEMS };
enum { MAX_LABELS = 4, MAX_VALUE = 200, MAX_BUCKETS = 24 };

static const struct row {
    const char *name;
    enum type type;
    const char *labels; /* comma-separated */
    enum bucket_set buckets;
    const char *help;
} rows[] = {
#define METRIC(name_, type_, labels_, buckets_, help_)                                             \
    {.name = #name_, .type = type_, .labels = labels_, .buckets = buckets_, .help = help_},
#include "server/metrics.def"
#undef METRIC
};

static const struct {
    int n;
    double le[MAX_BUCKETS];
} bucket_sets[] = {
    [NONE] = {0, {0}},
    [SECONDS] = {19,
                 {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                  1, 2.5, 5, 10, 25, 50, 100}},
    [ITEMS] = {11, {1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256}},
};

struct series {
    size_t key_len;
    char *key;         /* label values, each ended by NUL */
    char *text;        /* name="value",... escaped */
    double value;      /* or a histogram's sum */
    uint64_t *buckets; /* histogram: [n + 1], not cumulative, the last is +Inf */
};

struct table {
    int n, room; /* room: a power of two, more than n */
    struct series **slots;
    struct series **order; /* [n], as they came */
};

struct srv_metrics {
    struct table tables[SRV_METRICS];
};

struct srv_metrics *srv_metrics_new(void)
{
    return calloc(1, sizeof(struct srv_metrics));
}

static void series_free(struct series *s)
{
    if (!s)
        return;
    free(s->key);
    free(s->text);
    free(s->buckets);
    free(s);
}

void srv_metrics_free(struct srv_metrics *m)
{
    if (!m)
        return;
    for (int i = 0; i < SRV_METRICS; i++) {
        for (int k = 0; k < m->tables[i].n; k++)
            series_free(m->tables[i].order[k]);
        free(m->tables[i].slots);
        free(m->tables[i].order);
    }
    free(m);
}

/* ---- finding a series ------------------------------------------------------------------------ */

static int count_labels(const char *labels)
{
    int n = *labels != 0;
    for (; *labels; labels++)
        n += *labels == ',';
    return n;
}

/* Joins the values; returns the length. */
static size_t make_key(const struct row *row, const char *const *values,
                       char key[MAX_LABELS * (MAX_VALUE + 1)])
{
    size_t len = 0;
    for (int i = 0, n = count_labels(row->labels); i < n; i++) {
        size_t one = strnlen(values[i], MAX_VALUE);
        memcpy(key + len, values[i], one);
        len += one;
        key[len++] = 0;
    }
    return len;
}

static uint64_t hash(const char *key, size_t len)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)key[i]) * 1099511628211u;
    return h ^ h >> 32;
}

/* Where the key is, or would go. room > n, so there is an end. */
static struct series **slot(const struct table *t, const char *key, size_t len)
{
    size_t i = hash(key, len) & (size_t)(t->room - 1);
    while (t->slots[i] && (t->slots[i]->key_len != len || memcmp(t->slots[i]->key, key, len)))
        i = (i + 1) & (size_t)(t->room - 1);
    return &t->slots[i];
}

static bool grow(struct table *t)
{
    struct table bigger = {.n = t->n, .room = t->room ? 2 * t->room : 8};
    bigger.slots = calloc((size_t)bigger.room, sizeof *bigger.slots);
    bigger.order = calloc((size_t)bigger.room, sizeof *bigger.order);
    if (!bigger.slots || !bigger.order) {
        free(bigger.slots);
        free(bigger.order);
        return false;
    }
    for (int i = 0; i < t->n; i++) {
        bigger.order[i] = t->order[i];
        *slot(&bigger, t->order[i]->key, t->order[i]->key_len) = t->order[i];
    }
    free(t->slots);
    free(t->order);
    *t = bigger;
    return true;
}

/* name="value",... with backslash, quote and newline escaped. */
static char *label_text(const char *labels, const char *key)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    for (bool first = true; *labels; first = false) {
        size_t name = strcspn(labels, ",");
        fprintf(f, "%s%.*s=\"", first ? "" : ",", (int)name, labels);
        for (; *key; key++) {
            if (*key == '\n')
                fputs("\\n", f);
            else if (*key == '"' || *key == '\\')
                fprintf(f, "\\%c", *key);
            else
                fputc(*key, f);
        }
        key++;
        fputc('"', f);
        labels += name + (labels[name] == ',');
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static struct series *series_new(const struct row *row, const char *key, size_t len)
{
    struct series *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->key_len = len;
    s->key = calloc(len + 1, 1);
    if (s->key) {
        memcpy(s->key, key, len);
        s->text = label_text(row->labels, s->key);
    }
    if (row->type == HISTOGRAM)
        s->buckets = calloc((size_t)bucket_sets[row->buckets].n + 1, sizeof *s->buckets);
    if (!s->key || !s->text || (row->type == HISTOGRAM && !s->buckets)) {
        series_free(s);
        return NULL;
    }
    return s;
}

/* NULL without memory. */
static struct series *find(struct srv_metrics *m, enum srv_metric id, const char *const *values)
{
    char key[MAX_LABELS * (MAX_VALUE + 1)];
    struct table *t = &m->tables[id];
    size_t len = make_key(&rows[id], values, key);
    if (t->room) {
        struct series **found = slot(t, key, len);
        if (*found)
            return *found;
    }
    if (2 * (t->n + 1) > t->room && !grow(t))
        return NULL;
    struct series *s = series_new(&rows[id], key, len);
    if (s) {
        *slot(t, key, len) = s;
        t->order[t->n++] = s;
    }
    return s;
}

/* ---- updates --------------------------------------------------------------------------------- */

void srv_metrics_add(struct srv_metrics *m, enum srv_metric id, double by,
                     const char *const *values)
{
    struct series *s = find(m, id, values);
    if (s)
        s->value += by;
}

void srv_metrics_set(struct srv_metrics *m, enum srv_metric id, double to,
                     const char *const *values)
{
    struct series *s = find(m, id, values);
    if (s)
        s->value = to;
}

void srv_metrics_observe(struct srv_metrics *m, enum srv_metric id, double value,
                         const char *const *values)
{
    struct series *s = find(m, id, values);
    if (!s || !s->buckets)
        return;
    int i = 0, n = bucket_sets[rows[id].buckets].n;
    while (i < n && value > bucket_sets[rows[id].buckets].le[i])
        i++;
    s->buckets[i]++;
    s->value += value;
}

/* ---- text -------------------------------------------------------------------------------------
 */

static void print_histogram(FILE *f, const struct row *row, const struct series *s)
{
    int n = bucket_sets[row->buckets].n;
    uint64_t count = 0;
    const char *comma = *s->text ? "," : "";
    for (int i = 0; i < n; i++) {
        count += s->buckets[i];
        fprintf(f, "perceiverd_%s_bucket{%s%sle=\"%g\"} %llu\n", row->name, s->text, comma,
                bucket_sets[row->buckets].le[i], (unsigned long long)count);
    }
    count += s->buckets[n];
    fprintf(f, "perceiverd_%s_bucket{%s%sle=\"+Inf\"} %llu\n", row->name, s->text, comma,
            (unsigned long long)count);
    fprintf(f, "perceiverd_%s_sum{%s} %.17g\n", row->name, s->text, s->value);
    fprintf(f, "perceiverd_%s_count{%s} %llu\n", row->name, s->text, (unsigned long long)count);
}

char *srv_metrics_text(const struct srv_metrics *m, size_t *len)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    char *text = NULL;
    FILE *f = open_memstream(&text, len);
    if (!f)
        return NULL;
    for (int i = 0; i < SRV_METRICS; i++) {
        const struct table *t = &m->tables[i];
        if (!t->n)
            continue;
        fprintf(f, "# HELP perceiverd_%s %s\n# TYPE perceiverd_%s %s\n", rows[i].name, rows[i].help,
                rows[i].name, types[rows[i].type]);
        for (int k = 0; k < t->n; k++) {
            const struct series *s = t->order[k];
            if (rows[i].type == HISTOGRAM)
                print_histogram(f, &rows[i], s);
            else if (*s->text)
                fprintf(f, "perceiverd_%s{%s} %.17g\n", rows[i].name, s->text, s->value);
            else
                fprintf(f, "perceiverd_%s %.17g\n", rows[i].name, s->value);
        }
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}
