/* Every keyword that the validator knows, what it says and where; and that the schema of
 * perceiver.json uses no other. */
#include "lib/load/schema.h"

#include "lib/load/pattern.h"
#include "lib/perceiver.h"
#include "tests/unit/check.h"

static struct pcv_err e;

/* What the check says of a document; both are JSON. */
static int check(const char *schema, const char *document)
{
    struct pcv_schema *s;
    json_t *doc = json_loads(document, JSON_DECODE_ANY, NULL);
    int r;

    assert_non_null(doc);
    CHECK_OK(pcv_schema_open(&s, schema, &e), e);
    r = pcv_schema_check(s, doc, &e);
    pcv_schema_close(s);
    json_decref(doc);
    return r;
}

struct document {
    const char *schema, *text;
    int code; /* 0: it is fine */
    const char *where, *msg;
};

static void check_all(const struct document *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct document *c = &cases[i];
        const int r = check(c->schema, c->text);

        if (r != c->code || (r && (strcmp(e.where, c->where) || !strstr(e.msg, c->msg))))
            fail_msg("%s against %s: %s at \"%s\": %s; want %s at \"%s\": %s", c->text, c->schema,
                     pcv_code_name(r), e.where, e.msg, pcv_code_name(c->code), c->where, c->msg);
    }
}

static void values_are_held(void **state)
{
#define PATTERN "{\"pattern\": \"^[a-z][0-9]*$\"}"
    static const struct document cases[] = {
        {"{\"type\": \"integer\"}", "7", 0, "", ""},
        {"{\"type\": \"integer\"}", "7.0", PCV_EFORMAT, "$", "is not an integer"},
        {"{\"type\": \"number\"}", "7", 0, "", ""},
        {"{\"type\": \"number\"}", "7.5", 0, "", ""},
        {"{\"type\": \"number\"}", "\"7\"", PCV_EFORMAT, "$", "is not a number"},
        {"{\"type\": \"boolean\"}", "true", 0, "", ""},
        {"{\"type\": \"boolean\"}", "0", PCV_EFORMAT, "$", "is not a boolean"},
        {"{\"type\": \"string\"}", "null", PCV_EFORMAT, "$", "is not a string"},
        {"{\"type\": \"null\"}", "null", 0, "", ""},
        {"{\"type\": \"array\"}", "{}", PCV_EFORMAT, "$", "is not an array"},
        {"{\"type\": \"object\"}", "[]", PCV_EFORMAT, "$", "is not an object"},
        {"{\"enum\": [\"a\", 2]}", "2", 0, "", ""},
        {"{\"enum\": [\"a\", 2]}", "3", PCV_EUNKNOWN, "$", "is none of a, 2"},
        {"{\"const\": \"a\"}", "\"a\"", 0, "", ""},
        {"{\"const\": \"a\"}", "\"b\"", PCV_EUNSUPPORTED, "$", "is not \"a\""},
        {"{\"const\": 2}", "3", PCV_EUNSUPPORTED, "$", "may be"},
        {"{\"minimum\": 2}", "2", 0, "", ""},
        {"{\"minimum\": 2}", "1.5", PCV_ERANGE, "$", "1.5 is less than 2"},
        {"{\"maximum\": 2}", "2", 0, "", ""},
        {"{\"maximum\": 2}", "3", PCV_ERANGE, "$", "3 is more than 2"},
        {"{\"minimum\": 2}", "\"no number\"", 0, "", ""},
        {"{\"minLength\": 2}", "\"a\"", PCV_ERANGE, "$", "1 characters"},
        {"{\"maxLength\": 2}", "\"\u00e4\u00f6\"", 0, "", ""},
        {"{\"maxLength\": 2}", "\"abc\"", PCV_ERANGE, "$", "at most 2"},
        {PATTERN, "\"a12\"", 0, "", ""},
        {PATTERN, "\"A12\"", PCV_EFORMAT, "$", "\"A12\" does not match ^[a-z]"},
        {PATTERN, "12", 0, "", ""},
    };
#undef PATTERN

    (void)state;
    check_all(cases, LEN(cases));
}

static void objects_and_arrays_are_held(void **state)
{
#define CLOSED "{\"properties\": {\"a\": {\"type\": \"integer\"}}, \"additionalProperties\": false}"
#define OTHERS "{\"additionalProperties\": {\"maximum\": 2}}"
    static const struct document cases[] = {
        {CLOSED, "{\"a\": 1}", 0, "", ""},
        {CLOSED, "{\"a\": true}", PCV_EFORMAT, "$.a", "is not an integer"},
        {CLOSED, "{\"b\": 1}", PCV_EUNKNOWN, "$.b", "nobody knows"},
        {OTHERS, "{\"x\": 2, \"y\": 3}", PCV_ERANGE, "$.y", "more than 2"},
        {"{\"required\": [\"a\", \"b\"]}", "{\"a\": 1}", PCV_EMISSING, "$.b", "missing"},
        {"{\"minProperties\": 1}", "{}", PCV_ERANGE, "$", "0 keys"},
        {"{\"maxProperties\": 1}", "{\"a\": 1, \"b\": 2}", PCV_ERANGE, "$", "at most 1"},
        {"{\"minItems\": 2}", "[1]", PCV_ERANGE, "$", "1 elements, at least 2"},
        {"{\"maxItems\": 1}", "[1, 2]", PCV_ERANGE, "$", "at most 1"},
        {"{\"items\": {\"items\": {\"minimum\": 0}}}", "[[1], [2, -1]]", PCV_ERANGE, "$[1][1]",
         "less"},
        {"{\"properties\": {\"a\": {\"items\": " CLOSED "}}}", "{\"a\": [{}, {}, {\"z\": 0}]}",
         PCV_EUNKNOWN, "$.a[2].z", "nobody"},
    };
#undef CLOSED
#undef OTHERS

    (void)state;
    check_all(cases, LEN(cases));
}

static void references_are_followed(void **state)
{
#define SCHEMA                                                                                     \
    "{\"properties\": {\"n\": {\"$ref\": \"#/$defs/n\", \"maximum\": 9}, "                         \
    "\"m\": {\"$ref\": \"#/$defs/n\"}}, "                                                          \
    "\"$defs\": {\"n\": {\"type\": \"integer\", \"minimum\": 1}}}"
    static const struct document cases[] = {
        {SCHEMA, "{\"n\": 9, \"m\": 10}", 0, "", ""},
        {SCHEMA, "{\"n\": 10}", PCV_ERANGE, "$.n", "more than 9"},
        {SCHEMA, "{\"n\": 0}", PCV_ERANGE, "$.n", "less than 1"},
        {"{\"$ref\": \"#/$defs/x\", \"$defs\": {\"x\": {\"$ref\": \"#/$defs/x\"}}}", "1",
         PCV_ELIMIT, "$", "deeply"},
    };
#undef SCHEMA

    (void)state;
    check_all(cases, LEN(cases));
}

/* The branch of the document's kind is the one that speaks. */
static void kinds_choose_a_branch(void **state)
{
#define BRANCH(kind, key)                                                                          \
    "{\"type\": \"object\", \"required\": [\"kind\"], \"additionalProperties\": false, "           \
    "\"properties\": {\"kind\": {\"const\": \"" kind "\"}, \"" key "\": {\"type\": \"string\"}}}"
#define SCHEMA                                                                                     \
    "{\"oneOf\": [{\"$ref\": \"#/$defs/a\"}, " BRANCH("b", "y") "], "                              \
                                                                "\"$defs\": {\"a\": " BRANCH(      \
                                                                    "a", "x") "}}"
#define PLAIN "{\"oneOf\": [{\"type\": \"integer\"}, {\"minimum\": 5}]}"
    static const struct document cases[] = {
        {SCHEMA, "{\"kind\": \"a\", \"x\": \"1\"}", 0, "", ""},
        {SCHEMA, "{\"kind\": \"b\", \"y\": \"1\"}", 0, "", ""},
        {SCHEMA, "{\"kind\": \"b\", \"x\": \"1\"}", PCV_EUNKNOWN, "$.x", "nobody"},
        {SCHEMA, "{\"kind\": \"a\", \"x\": 1}", PCV_EFORMAT, "$.x", "string"},
        {SCHEMA, "{\"kind\": \"c\"}", PCV_EUNKNOWN, "$.kind", "kind \"c\"; one of a, b"},
        {SCHEMA, "{\"kind\": 1}", PCV_EFORMAT, "$.kind", "is not a string; one of a, b"},
        {SCHEMA, "{}", PCV_EMISSING, "$.kind", "key is missing; one of a, b"},
        {SCHEMA, "\"a\"", PCV_EFORMAT, "$", "is not an object"},
        {PLAIN, "3", 0, "", ""},
        {PLAIN, "7", PCV_EFORMAT, "$", "fits 2 of 2 forms"},
        {PLAIN, "1.5", PCV_EFORMAT, "$", "fits 0 of 2 forms"},
    };
#undef BRANCH
#undef SCHEMA
#undef PLAIN

    (void)state;
    check_all(cases, LEN(cases));
}

static void unknown_keywords_are_refused(void **state)
{
    static const struct {
        const char *schema, *where, *msg;
    } cases[] = {
        {"{\"propertyNames\": {}}", "", "propertyNames"},
        {"{\"properties\": {\"a\": {\"format\": \"uri\"}}}", "a", "format"},
        {"{\"items\": {\"oneOf\": [{\"anyOf\": []}]}}", "", "anyOf"},
        {"{\"$defs\": {\"d\": {\"not\": {}}}}", "d", "not"},
        {"{\"additionalProperties\": {\"multipleOf\": 2}}", "", "multipleOf"},
        {"{\"$ref\": \"#/$defs/nothing\"}", "", "$ref"},
        {"{\"$ref\": \"other.json\"}", "", "$ref"},
        {"{\"pattern\": \"(a|b)\"}", "", "pattern (a|b)"},
        {"{\"items\": true}", "", "no object"},
    };
    struct pcv_schema *s = NULL;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        CHECK_FAILS(pcv_schema_open(&s, cases[i].schema, &e), e, PCV_EUNSUPPORTED, cases[i].where,
                    cases[i].msg);
    CHECK_FAILS(pcv_schema_open(&s, "{\"type\": 1, \"type\": 2}", &e), e, PCV_EFORMAT, "", "line");
    assert_null(s);
    pcv_schema_close(NULL);
}

static void patterns_match(void **state)
{
    static const struct {
        const char *pattern, *yes[4], *no[4];
    } cases[] = {
        {"^[a-z0-9][a-z0-9_-]*$", {"a", "9", "a-b_c", "z0"}, {"", "-a", "aB", "a b"}},
        {"b+", {"b", "abc", "bbb"}, {"", "ac"}},
        {"^ab?c", {"ac", "abc", "acd"}, {"abbc", "xac"}},
        {"a.c$", {"abc", "xa.c"}, {"abcd", "ac"}},
        {"^[^0-9]*7$", {"7", "ab7"}, {"17", "a7b"}},
        {"^[]x]$", {"]", "x"}, {"[", "]x"}},
        {"^a*ab$", {"ab", "aaab"}, {"b", "aba"}},
    };
    static const char *const unknown[] = {"a|b", "(a)", "a{2}", "\\d", "*a",
                                          "a**", "[a",  "a$b",  "b^",  "["};

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        assert_true(pcv_pattern_known(cases[i].pattern));
        for (int k = 0; k < 4; k++) {
            if (cases[i].yes[k] && !pcv_pattern_match(cases[i].pattern, cases[i].yes[k]))
                fail_msg("\"%s\" does not match %s", cases[i].yes[k], cases[i].pattern);
            if (cases[i].no[k] && pcv_pattern_match(cases[i].pattern, cases[i].no[k]))
                fail_msg("\"%s\" matches %s", cases[i].no[k], cases[i].pattern);
        }
    }
    for (size_t i = 0; i < LEN(unknown); i++)
        if (pcv_pattern_known(unknown[i]))
            fail_msg("%s is known", unknown[i]);
}

/* Opening refuses what it does not know: every keyword of ours is checked. */
static void the_models_schema_is_understood(void **state)
{
    struct pcv_schema *s;

    (void)state;
    CHECK_OK(pcv_schema_open(&s, pcv_model_schema(), &e), e);
    pcv_schema_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_held),
        cmocka_unit_test(objects_and_arrays_are_held),
        cmocka_unit_test(references_are_followed),
        cmocka_unit_test(kinds_choose_a_branch),
        cmocka_unit_test(unknown_keywords_are_refused),
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(the_models_schema_is_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
