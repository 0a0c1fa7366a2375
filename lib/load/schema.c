#include "lib/load/schema.h"

#include "lib/load/pattern.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Deeper than any schema of ours nests, so that one that refers to itself ends. */
enum { MAX_DEPTH = 64 };

struct pcv_schema {
    json_t *root;
};

/* A place in the document, from the inside out. */
struct at {
    const struct at *up;
    const char *key; /* NULL: index */
    size_t index;
    int depth;
};

struct check {
    const struct pcv_schema *s;
    struct pcv_err *e;
};

static int hold(const struct check *c, const json_t *rule, const json_t *doc, const struct at *at);

/* ---- what is said ---------------------------------------------------------------------------- */

/* "$.tasks[2].labels"; returns what it wrote of it. */
static size_t place(const struct at *at, char *buf, size_t size)
{
    size_t n;

    if (!at->up)
        return (size_t)snprintf(buf, size, "$");
    n = place(at->up, buf, size);
    if (n < size) {
        if (at->key)
            n += (size_t)snprintf(buf + n, size - n, ".%.60s", at->key);
        else
            n += (size_t)snprintf(buf + n, size - n, "[%zu]", at->index);
    }
    return n;
}

/* After pcv_fail. */
static int fail_at(const struct check *c, int code, const struct at *at)
{
    char buf[200];

    place(at, buf, sizeof(buf));
    pcv_err_at(c->e, "%s", buf);
    return code;
}

#define FAIL(c, at, code, ...) (pcv_fail((c)->e, code, __VA_ARGS__), fail_at(c, code, at))

/* Names joined by ", ": of strings, or of objects what they hold under properties.kind.const. */
static void list(char *buf, size_t size, const json_t *array)
{
    size_t n = 0, i;
    json_t *v;

    buf[0] = '\0';
    json_array_foreach(array, i, v)
    {
        char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        const char *shown = json_is_string(v) ? json_string_value(v) : text ? text : "?";

        if (n < size)
            n += (size_t)snprintf(buf + n, size - n, "%s%.40s", i ? ", " : "", shown);
        free(text);
    }
}

/* ---- types and plain values ------------------------------------------------------------------ */

static bool is_type(const json_t *doc, const char *type)
{
    static const struct {
        const char *name;
        json_type type;
    } types[] = {
        {"object", JSON_OBJECT},   {"array", JSON_ARRAY}, {"string", JSON_STRING},
        {"integer", JSON_INTEGER}, {"number", JSON_REAL}, {"null", JSON_NULL},
    };

    if (strcmp(type, "boolean") == 0)
        return json_is_boolean(doc);
    if (strcmp(type, "number") == 0)
        return json_is_number(doc);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(type, types[i].name) == 0)
            return json_typeof(doc) == types[i].type;
    return false;
}

static int hold_choice(const struct check *c, const json_t *rule, const json_t *doc,
                       const struct at *at)
{
    const json_t *only = json_object_get(rule, "const"), *any = json_object_get(rule, "enum");
    char known[160];
    size_t i;
    json_t *v;

    if (only && !json_equal(only, doc))
        return json_is_string(only)
                   ? FAIL(c, at, PCV_EUNSUPPORTED, "is not \"%.60s\"", json_string_value(only))
                   : FAIL(c, at, PCV_EUNSUPPORTED, "is not the one value that it may be");
    if (!any)
        return 0;
    json_array_foreach(any, i, v)
    {
        if (json_equal(v, doc))
            return 0;
    }
    list(known, sizeof(known), any);
    return FAIL(c, at, PCV_EUNKNOWN, "is none of %s", known);
}

static int hold_number(const struct check *c, const json_t *rule, const json_t *doc,
                       const struct at *at)
{
    const json_t *least = json_object_get(rule, "minimum"),
                 *most = json_object_get(rule, "maximum");
    const double x = json_number_value(doc);

    if (!json_is_number(doc))
        return 0;
    if (least && !(x >= json_number_value(least)))
        return FAIL(c, at, PCV_ERANGE, "%.10g is less than %.10g", x, json_number_value(least));
    if (most && !(x <= json_number_value(most)))
        return FAIL(c, at, PCV_ERANGE, "%.10g is more than %.10g", x, json_number_value(most));
    return 0;
}

/* A count against minNAME and maxNAME. */
static int hold_count(const struct check *c, const json_t *rule, const char *least_key,
                      const char *most_key, size_t n, const char *what, const struct at *at)
{
    const json_t *least = json_object_get(rule, least_key);
    const json_t *most = json_object_get(rule, most_key);

    if (least && (json_int_t)n < json_integer_value(least))
        return FAIL(c, at, PCV_ERANGE, "%zu %s, at least %lld are wanted", n, what,
                    (long long)json_integer_value(least));
    if (most && (json_int_t)n > json_integer_value(most))
        return FAIL(c, at, PCV_ERANGE, "%zu %s, at most %lld are taken", n, what,
                    (long long)json_integer_value(most));
    return 0;
}

static int hold_text(const struct check *c, const json_t *rule, const json_t *doc,
                     const struct at *at)
{
    const char *text = json_string_value(doc);
    const char *pattern = json_string_value(json_object_get(rule, "pattern"));
    size_t n = 0;
    int r;

    if (!text)
        return 0;
    for (const char *p = text; *p; p++)
        n += (*p & 0xc0) != 0x80; /* characters, not bytes */
    r = hold_count(c, rule, "minLength", "maxLength", n, "characters", at);
    if (r == 0 && pattern && !pcv_pattern_match(pattern, text))
        r = FAIL(c, at, PCV_EFORMAT, "\"%.40s\" does not match %.60s", text, pattern);
    return r;
}

/* ---- objects and arrays ---------------------------------------------------------------------- */

static int hold_keys(const struct check *c, const json_t *rule, json_t *doc, const struct at *at)
{
    const json_t *known = json_object_get(rule, "properties");
    const json_t *others = json_object_get(rule, "additionalProperties");
    const char *key;
    json_t *v;
    int r = 0;

    json_object_foreach(doc, key, v)
    {
        const struct at inner = {.up = at, .key = key, .depth = at->depth + 1};
        const json_t *of = json_object_get(known, key);

        if (!of && json_is_false(others))
            return FAIL(c, &inner, PCV_EUNKNOWN, "nobody knows this key");
        if (!of && json_is_object(others))
            of = others;
        if (of)
            r = hold(c, of, v, &inner);
        if (r < 0)
            return r;
    }
    return 0;
}

static int hold_object(const struct check *c, const json_t *rule, json_t *doc, const struct at *at)
{
    const json_t *required = json_object_get(rule, "required");
    size_t i;
    json_t *key;
    int r;

    if (!json_is_object(doc))
        return 0;
    r = hold_count(c, rule, "minProperties", "maxProperties", json_object_size(doc), "keys", at);
    if (r < 0)
        return r;
    json_array_foreach(required, i, key)
    {
        const struct at inner = {.up = at, .key = json_string_value(key), .depth = at->depth + 1};

        if (!json_object_get(doc, inner.key))
            return FAIL(c, &inner, PCV_EMISSING, "key is missing");
    }
    return hold_keys(c, rule, doc, at);
}

static int hold_array(const struct check *c, const json_t *rule, const json_t *doc,
                      const struct at *at)
{
    const json_t *items = json_object_get(rule, "items");
    size_t i;
    json_t *v;
    int r;

    if (!json_is_array(doc))
        return 0;
    r = hold_count(c, rule, "minItems", "maxItems", json_array_size(doc), "elements", at);
    json_array_foreach(doc, i, v)
    {
        const struct at inner = {.up = at, .index = i, .depth = at->depth + 1};

        if (r == 0 && items)
            r = hold(c, items, v, &inner);
    }
    return r;
}

/* ---- $ref and oneOf -------------------------------------------------------------------------- */

/* What "#/$defs/NAME" names, or NULL. */
static const json_t *defined(const struct pcv_schema *s, const json_t *ref)
{
    static const char before[] = "#/$defs/";
    const char *text = json_string_value(ref);

    if (!text || strncmp(text, before, sizeof(before) - 1) != 0)
        return NULL;
    return json_object_get(json_object_get(s->root, "$defs"), text + sizeof(before) - 1);
}

static const json_t *kind_of(const struct pcv_schema *s, const json_t *branch)
{
    const json_t *ref = json_object_get(branch, "$ref");
    const json_t *rule = ref ? defined(s, ref) : branch;

    return json_object_get(json_object_get(json_object_get(rule, "properties"), "kind"), "const");
}

/* Every branch has a kind of its own: the document's says which one it means. */
static int hold_kind(const struct check *c, const json_t *branches, const json_t *doc,
                     const struct at *at)
{
    const struct at inner = {.up = at, .key = "kind", .depth = at->depth + 1};
    const json_t *kind = json_object_get(doc, "kind");
    char known[160] = "";
    size_t i, n = 0;
    json_t *v;

    json_array_foreach(branches, i, v)
    {
        const json_t *of = kind_of(c->s, v);

        if (kind && json_equal(of, kind))
            return hold(c, v, doc, at);
        if (n < sizeof(known))
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%.30s", i ? ", " : "",
                                  json_string_value(of));
    }
    if (!json_is_object(doc))
        return FAIL(c, at, PCV_EFORMAT, "is not an object");
    if (!json_is_string(kind))
        return FAIL(c, &inner, kind ? PCV_EFORMAT : PCV_EMISSING, "%s; one of %s",
                    kind ? "is not a string" : "key is missing", known);
    return FAIL(c, &inner, PCV_EUNKNOWN, "kind \"%.40s\"; one of %s", json_string_value(kind),
                known);
}

static int hold_one_of(const struct check *c, const json_t *branches, const json_t *doc,
                       const struct at *at)
{
    const struct check quiet = {c->s, NULL};
    size_t i, fitting = 0, kinds = 0;
    json_t *v;

    json_array_foreach(branches, i, v)
    {
        kinds += json_is_string(kind_of(c->s, v));
    }
    if (kinds && kinds == json_array_size(branches))
        return hold_kind(c, branches, doc, at);
    json_array_foreach(branches, i, v)
    {
        fitting += hold(&quiet, v, doc, at) == 0;
    }
    return fitting == 1 ? 0
                        : FAIL(c, at, PCV_EFORMAT, "fits %zu of %zu forms, exactly one is wanted",
                               fitting, json_array_size(branches));
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int hold(const struct check *c, const json_t *rule, const json_t *doc, const struct at *at)
{
    const json_t *ref = json_object_get(rule, "$ref"), *one = json_object_get(rule, "oneOf");
    const char *type = json_string_value(json_object_get(rule, "type"));
    const struct at deeper = {at->up, at->key, at->index, at->depth + 1};
    int r = 0;

    if (at->depth > MAX_DEPTH)
        return FAIL(c, at, PCV_ELIMIT, "nested too deeply");
    if (ref)
        r = hold(c, defined(c->s, ref), doc, &deeper);
    if (r == 0 && type && !is_type(doc, type))
        r = FAIL(c, at, PCV_EFORMAT, "is not %s %s", strchr("aeiou", type[0]) ? "an" : "a", type);
    if (r == 0)
        r = hold_choice(c, rule, doc, at);
    if (r == 0)
        r = hold_number(c, rule, doc, at);
    if (r == 0)
        r = hold_text(c, rule, doc, at);
    if (r == 0)
        r = hold_object(c, rule, (json_t *)doc, at);
    if (r == 0)
        r = hold_array(c, rule, doc, at);
    return r == 0 && one ? hold_one_of(c, one, doc, &deeper) : r;
}

int pcv_schema_check(const struct pcv_schema *s, const json_t *doc, struct pcv_err *e)
{
    const struct check c = {s, e};
    const struct at top = {0};

    return hold(&c, s->root, doc, &top);
}

/* ---- opening: every keyword is one that is checked ------------------------------------------- */

static const char *const keywords[] = {
    "$schema",       "$defs",
    "$ref",          "title",
    "description",   "type",
    "required",      "enum",
    "const",         "minimum",
    "maximum",       "items",
    "minItems",      "maxItems",
    "minProperties", "maxProperties",
    "minLength",     "maxLength",
    "pattern",       "oneOf",
    "properties",    "additionalProperties",
};

static int know(const struct pcv_schema *s, json_t *rule, int depth, struct pcv_err *e);

/* Every schema among the values of an object or the elements of an array. */
static int know_all(const struct pcv_schema *s, json_t *of, int depth, struct pcv_err *e)
{
    const char *key;
    json_t *v;
    size_t i;
    int r = 0;

    json_object_foreach(of, key, v)
    {
        if (r == 0 && (r = know(s, v, depth, e)) < 0)
            pcv_err_at(e, "%.60s", key);
    }
    json_array_foreach(of, i, v)
    {
        if (r == 0)
            r = know(s, v, depth, e);
    }
    return r;
}

static int know_key(const struct pcv_schema *s, const char *key, json_t *v, int depth,
                    struct pcv_err *e)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (strcmp(key, keywords[i]) != 0)
            continue;
        if (strcmp(key, "$ref") == 0 && !defined(s, v))
            return pcv_fail(e, PCV_EUNSUPPORTED, "$ref to what is not in $defs");
        if (strcmp(key, "pattern") == 0 &&
            !(json_is_string(v) && pcv_pattern_known(json_string_value(v))))
            return pcv_fail(e, PCV_EUNSUPPORTED, "pattern %.60s",
                            json_is_string(v) ? json_string_value(v) : "that is no string");
        if (strcmp(key, "properties") == 0 || strcmp(key, "$defs") == 0 ||
            strcmp(key, "oneOf") == 0)
            return know_all(s, v, depth + 1, e);
        if (strcmp(key, "items") == 0 ||
            (strcmp(key, "additionalProperties") == 0 && !json_is_boolean(v)))
            return know(s, v, depth + 1, e);
        return 0;
    }
    return pcv_fail(e, PCV_EUNSUPPORTED, "keyword \"%.60s\"", key);
}

static int know(const struct pcv_schema *s, json_t *rule, int depth, struct pcv_err *e)
{
    const char *key;
    json_t *v;

    if (!json_is_object(rule) || depth > MAX_DEPTH)
        return pcv_fail(e, PCV_EUNSUPPORTED, "a schema that is no object");
    json_object_foreach(rule, key, v)
    {
        const int r = know_key(s, key, v, depth, e);

        if (r < 0)
            return r;
    }
    return 0;
}

int pcv_schema_open(struct pcv_schema **ret, const char *text, struct pcv_err *e)
{
    struct pcv_schema *s = calloc(1, sizeof(*s));
    json_error_t je = {0};
    int r;

    if (!s)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a schema");
    s->root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
    if (s->root)
        r = know(s, s->root, 0, e);
    else if (je.text[0])
        r = pcv_fail(e, PCV_EFORMAT, "line %d column %d: %s", je.line, je.column, je.text);
    else
        r = pcv_fail(e, PCV_ENOMEM, "no memory for a schema");
    if (r < 0)
        pcv_schema_close(s);
    else
        *ret = s;
    return r;
}

void pcv_schema_close(struct pcv_schema *s)
{
    if (!s)
        return;
    json_decref(s->root);
    free(s);
}
