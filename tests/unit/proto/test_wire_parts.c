#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;

static struct wire_part field(const char *name, const char *value)
{
    return (struct wire_part){.name = name, .data = value, .len = strlen(value)};
}

static struct wire_part file(const char *name, const char *type, const char *data)
{
    return (struct wire_part){
        .name = name, .filename = "f", .type = type, .data = data, .len = strlen(data)};
}

static struct wire_part raw(const char *type, const char *data)
{
    return (struct wire_part){.type = type, .data = data, .len = strlen(data)};
}

static void test_raw(void **state)
{
    struct wire_part p = raw(" Image/PNG ; q=1", "\x89PNG");
    struct wire_arg args[] = {
        {"task", "classify"}, {"top_k", "3"}, {"timeout_ms", "250"}, {"priority", "1"}};
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_from_parts(&r, &p, 1, args, 4, &e), e);
    assert_int_equal(r->form, WIRE_NATIVE);
    assert_int_equal(r->nmedia, 1);
    assert_null(r->media[0].input);
    assert_ptr_equal(r->media[0].data, p.data); /* borrowed */
    assert_int_equal(r->media[0].len, 4);
    assert_string_equal(r->media[0].type, "image/png");
    assert_int_equal(r->nqueries, 1);
    assert_string_equal(r->queries[0].task, "classify");
    assert_int_equal(r->queries[0].top_k, 3);
    assert_int_equal(r->timeout_us, 250000);
    assert_int_equal(r->priority, 1);
    wire_request_free(r);
    assert_ok(wire_native_from_parts(&r, &p, 1, NULL, 0, &e), e);
    assert_int_equal(r->nqueries, 0);
    assert_int_equal(r->default_top_k, WIRE_DEFAULT_TOP_K);
    wire_request_free(r);
}

/* top_k goes to the task before it, or to all when it comes first. */
static void test_top_k(void **state)
{
    static const struct {
        const char *query; /* name=value&... */
        int n, top_k[3], all;
    } cases[] = {
        {"task=a", 1, {5}, 5},
        {"task=a&top_k=2", 1, {2}, 5},
        {"task=a&top_k=2&task=b", 2, {2, 5}, 5},
        {"top_k=7&task=a&task=b", 2, {7, 7}, 7},
        {"top_k=7&task=a&top_k=1&task=b&task=c&top_k=1000", 3, {1, 7, 1000}, 7},
        {"top_k=9", 0, {0}, 9},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_part p = raw(NULL, "x");
        struct wire_arg args[8];
        struct wire_request *r;
        char text[128], *save, *pair;
        int n = 0;

        strcpy(text, cases[i].query);
        for (pair = strtok_r(text, "&", &save); pair; pair = strtok_r(NULL, "&", &save)) {
            char *value = strchr(pair, '=');

            *value = '\0';
            args[n++] = (struct wire_arg){pair, value + 1};
        }
        assert_ok(wire_native_from_parts(&r, &p, 1, args, n, &e), e);
        assert_int_equal(r->nqueries, cases[i].n);
        for (int k = 0; k < cases[i].n; k++)
            assert_int_equal(r->queries[k].top_k, cases[i].top_k[k]);
        assert_int_equal(r->default_top_k, cases[i].all);
        wire_request_free(r);
    }
}

static void test_form(void **state)
{
    struct wire_part p[] = {file("image", "image/jpeg", "\xff\xd8"), field("text", "caf\xc3\xa9"),
                            field("queries", "[{\"task\": \"classify\", \"top_k\": 2}]"),
                            field("priority", "3"), field("timeout_ms", "10")};
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_from_parts(&r, p, 5, NULL, 0, &e), e);
    assert_int_equal(r->nmedia, 2);
    assert_string_equal(r->media[0].input, "image");
    assert_string_equal(r->media[0].type, "image/jpeg");
    assert_string_equal(r->media[1].input, "text");
    assert_string_equal(r->media[1].type, "text/plain");
    assert_int_equal(r->media[1].len, 5);
    assert_int_equal(r->nqueries, 1);
    assert_string_equal(r->queries[0].task, "classify");
    assert_int_equal(r->queries[0].top_k, 2);
    assert_int_equal(r->priority, 3);
    assert_int_equal(r->timeout_us, 10000);
    wire_request_free(r);
}

/* Fields follow the query string: a task there, its top_k here. */
static void test_both(void **state)
{
    struct wire_part p[] = {file("image", NULL, "x"), field("top_k", "4"), field("task", "b")};
    struct wire_arg args[] = {{"task", "a"}};
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_from_parts(&r, p, 3, args, 1, &e), e);
    assert_null(r->media[0].type); /* a file that does not say what it is */
    assert_int_equal(r->nqueries, 2);
    assert_int_equal(r->queries[0].top_k, 4);
    assert_int_equal(r->queries[1].top_k, WIRE_DEFAULT_TOP_K);
    wire_request_free(r);
}

/* Which output queries, and what becomes of the latents. */
static void test_options(void **state)
{
    struct wire_part p = raw(NULL, "x");
    struct wire_part form[] = {file("image", NULL, "x"), field("task", "attention"),
                               field("latents", "3"),    field("keep", "2h"),
                               field("cache", "true"),   field("share", "true"),
                               field("stream", "false"), field("format", "png")};
    struct wire_arg args[] = {{"task", "a"},         {"positions", "1,20,1048576"},
                              {"top_k", "2"},        {"task", "attention"},
                              {"latents", "0,5"},    {"task", "b"},
                              {"region", "4,0,8,1"}, {"keep", "10m"},
                              {"cache", "false"},    {"share", "false"},
                              {"stream", "true"}};
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_from_parts(&r, &p, 1, args, LEN(args), &e), e);
    assert_int_equal(r->nitems, 1);
    assert_false(r->batch);
    assert_int_equal(r->nqueries, 3);
    assert_int_equal(r->queries[0].input, -1);
    assert_int_equal(r->queries[0].nrows, 3);
    assert_int_equal(r->queries[0].rows[1], 20);
    assert_int_equal(r->queries[0].rows[2], WIRE_MAX_COORDINATE);
    assert_int_equal(r->queries[0].top_k, 2);
    assert_int_equal(r->queries[1].nrows, 2);
    assert_int_equal(r->queries[1].rows[1], 5);
    assert_true(r->queries[2].has_region && !r->queries[1].has_region);
    for (int i = 0; i < 4; i++)
        assert_int_equal(r->queries[2].region[i], ((int[]){4, 0, 8, 1})[i]);
    assert_int_equal(r->keep_ms, 600000);
    assert_true(r->no_cache && r->no_share && r->stream);
    wire_request_free(r);
    assert_ok(wire_native_from_parts(&r, form, LEN(form), NULL, 0, &e), e);
    assert_int_equal(r->nqueries, 1);
    assert_int_equal(r->queries[0].nrows, 1);
    assert_int_equal(r->queries[0].rows[0], 3);
    assert_int_equal(r->keep_ms, 7200000);
    assert_false(r->no_cache || r->no_share || r->stream);
    wire_request_free(r);
}

static void test_argument_errors(void **state)
{
    static const struct {
        struct wire_arg args[4];
        int n, code;
        const char *where, *words;
    } cases[] = {
        {{{"positions", "1"}}, 1, PCV_EFORMAT, "?positions", "behind the task"},
        {{{"latents", "1"}}, 1, PCV_EFORMAT, "?latents", "behind the task"},
        {{{"region", "0,0,1,1"}}, 1, PCV_EFORMAT, "?region", "behind the task"},
        {{{"task", "a"}, {"positions", ""}}, 2, PCV_EFORMAT, "?positions", "expected"},
        {{{"task", "a"}, {"positions", "1,"}}, 2, PCV_EFORMAT, "?positions", "a comma at the end"},
        {{{"task", "a"}, {"positions", ",1"}}, 2, PCV_EFORMAT, "?positions", "expected"},
        {{{"task", "a"}, {"positions", "1,,2"}}, 2, PCV_EFORMAT, "?positions", "expected"},
        {{{"task", "a"}, {"positions", "1, 2"}}, 2, PCV_EFORMAT, "?positions", "\" 2\" is not"},
        {{{"task", "a"}, {"positions", "1048577"}}, 2, PCV_ERANGE, "?positions", "outside"},
        {{{"task", "a"}, {"positions", "1"}, {"positions", "2"}},
         3,
         PCV_EFORMAT,
         "?positions",
         "twice"},
        {{{"task", "a"}, {"latents", "1"}}, 2, PCV_EFORMAT, "?latents", "only the task attention"},
        {{{"task", "attention"}, {"positions", "1"}}, 2, PCV_EFORMAT, "?positions", "has latents"},
        {{{"task", "a"}, {"positions", "1"}, {"region", "0,0,1,1"}},
         3,
         PCV_EFORMAT,
         "?region",
         "does not go together"},
        {{{"task", "a"}, {"region", "0,0,1,1"}, {"positions", "1"}},
         3,
         PCV_EFORMAT,
         "?positions",
         "does not go together"},
        {{{"task", "a"}, {"region", "0,0,1"}}, 2, PCV_EFORMAT, "?region", "x,y,width,height"},
        {{{"task", "a"}, {"region", "0,0,1,1,1"}}, 2, PCV_EFORMAT, "?region", "x,y,width,height"},
        {{{"task", "a"}, {"region", "0,0,0,1"}}, 2, PCV_ERANGE, "?region", "outside 1.."},
        {{{"task", "a"}, {"region", "0,0,1,"}}, 2, PCV_EFORMAT, "?region", "comma at the end"},
        {{{"keep", "10x"}}, 1, PCV_EFORMAT, "?keep", "units are"},
        {{{"keep", NULL}}, 1, PCV_EFORMAT, "?keep", "is no time"},
        {{{"keep", "0"}}, 1, PCV_ERANGE, "?keep", "more than nothing"},
        {{{"keep", "1m"}, {"keep", "1m"}}, 2, PCV_EFORMAT, "?keep", "twice"},
        {{{"cache", "0"}}, 1, PCV_EFORMAT, "?cache", "true or false"},
        {{{"cache", NULL}}, 1, PCV_EFORMAT, "?cache", "true or false"},
        {{{"share", "no"}}, 1, PCV_EFORMAT, "?share", "true or false"},
        {{{"stream", "truef"}}, 1, PCV_EFORMAT, "?stream", "true or false"},
        {{{"stream", "true"}, {"format", "png"}}, 2, PCV_EFORMAT, "?stream", "lines of JSON"},
        {{{"input", "0"}}, 1, PCV_EUNKNOWN, "?input", "keep, cache, share, stream"},
        {{{"tasks", "a"}}, 1, PCV_EUNKNOWN, "?tasks", "known are task, top_k"},
        {{{"queries", "[]"}}, 1, PCV_EUNKNOWN, "?queries", "unknown argument"},
        {{{"", "a"}}, 1, PCV_EUNKNOWN, "?", "unknown argument"},
        {{{"task", NULL}}, 1, PCV_EMISSING, "?task", "empty"},
        {{{"task", ""}}, 1, PCV_EMISSING, "?task", "empty"},
        {{{"top_k", NULL}}, 1, PCV_EFORMAT, "?top_k", "expected"},
        {{{"top_k", "3x"}}, 1, PCV_EFORMAT, "?top_k", "\"3x\" is not a whole number"},
        {{{"top_k", "-3"}}, 1, PCV_EFORMAT, "?top_k", "not a whole number"},
        {{{"top_k", " 3"}}, 1, PCV_EFORMAT, "?top_k", "not a whole number"},
        {{{"top_k", "0"}}, 1, PCV_ERANGE, "?top_k", "outside 1..1000"},
        {{{"top_k", "1001"}}, 1, PCV_ERANGE, "?top_k", "outside 1..1000"},
        {{{"top_k", "18446744073709551617"}}, 1, PCV_ERANGE, "?top_k", "outside 1..1000"},
        {{{"top_k", "3"}, {"top_k", "4"}}, 2, PCV_EFORMAT, "?top_k", "twice"},
        {{{"task", "a"}, {"top_k", "3"}, {"top_k", "4"}}, 3, PCV_EFORMAT, "?top_k", "twice"},
        {{{"priority", "1"}, {"priority", "1"}}, 2, PCV_EFORMAT, "?priority", "twice"},
        {{{"priority", "1048577"}}, 1, PCV_ERANGE, "?priority", "outside"},
        {{{"timeout_ms", "1e3"}}, 1, PCV_EFORMAT, "?timeout_ms", "not a whole number"},
        {{{"timeout_ms", "86400001"}}, 1, PCV_ERANGE, "?timeout_ms", "outside"},
        {{{"timeout_ms", "1"}, {"timeout_ms", "2"}}, 2, PCV_EFORMAT, "?timeout_ms", "twice"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_part p = raw(NULL, "x");
        struct wire_request *r = NULL;

        assert_fails(wire_native_from_parts(&r, &p, 1, cases[i].args, cases[i].n, &e), e,
                     cases[i].code, cases[i].where, cases[i].words);
        assert_null(r);
    }
}

static void test_part_errors(void **state)
{
    const struct {
        struct wire_part parts[3];
        int n, code;
        const char *where, *words;
    } cases[] = {
        {{raw("image/png", "")}, 1, PCV_EMISSING, "body", "empty"},
        {{raw("application/x-www-form-urlencoded", "a=b")},
         1,
         PCV_EUNSUPPORTED,
         "body",
         "Content-Type: image/png"},
        {{raw("text/plain", "a\xff")}, 1, PCV_EFORMAT, "body", "invalid UTF-8 at byte 1"},
        {{raw("text/plain; charset=\"ISO-8859-1\"", "a")},
         1,
         PCV_EUNSUPPORTED,
         "body",
         "ISO-8859-1"},
        {{file("a", NULL, "x"), field("stream", "true"), field("format", "raw")},
         3,
         PCV_EFORMAT,
         "form.stream",
         "lines of JSON"},
        {{field("queries", "[{\"task\": \"a\", \"input\": 0}]")},
         1,
         PCV_EFORMAT,
         "form.queries[0].input",
         "only a list"},
        {{field("queries", "[{\"task\": \"a\"}]"), field("positions", "2")},
         2,
         PCV_EFORMAT,
         "form.positions",
         "queries already"},
        {{field("keep", "")}, 1, PCV_EFORMAT, "form.keep", "is no time"},
        {{field("top_k", "3")}, 1, PCV_EMISSING, "form", "no input"},
        {{{0}}, 0, PCV_EMISSING, "form", "no input"},
        {{field("format", "gif")}, 1, PCV_EUNKNOWN, "form.format", "png"},
        {{file("image", NULL, "x"), raw(NULL, "y")}, 2, PCV_EFORMAT, "body", "without a name"},
        {{field("text", "\xc3(")}, 1, PCV_EFORMAT, "form.text", "invalid UTF-8 at byte 0"},
        {{field("top_k", "three")}, 1, PCV_EFORMAT, "form.top_k", "\"three\""},
        {{field("task", "")}, 1, PCV_EMISSING, "form.task", "empty"},
        {{field("queries", "[{\"task\": \"a\", \"top_k\": 0}]")},
         1,
         PCV_ERANGE,
         "form.queries[0].top_k",
         "outside"},
        {{field("queries", "{}")}, 1, PCV_EFORMAT, "form.queries", "array of queries"},
        {{field("queries", "[{\"task\": \"a\"}] x")}, 1, PCV_EFORMAT, "form.queries", "the end"},
        {{field("queries", "")}, 1, PCV_EFORMAT, "form.queries", "ends at byte 0"},
        {{field("queries", "[{\"task\": \"a\"}]"), field("task", "b")},
         2,
         PCV_EFORMAT,
         "form.task",
         "queries already"},
        {{field("queries", "[{\"task\": \"a\"}]"), field("top_k", "2")},
         2,
         PCV_EFORMAT,
         "form.top_k",
         "queries already"},
        {{field("task", "b"), field("queries", "[{\"task\": \"a\"}]")},
         2,
         PCV_EFORMAT,
         "form.queries",
         "given already"},
        {{field("queries", "[{\"task\": \"a\"}]"), field("queries", "[{\"task\": \"a\"}]")},
         2,
         PCV_EFORMAT,
         "form.queries",
         "given already"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        assert_fails(wire_native_from_parts(&r, cases[i].parts, cases[i].n, NULL, 0, &e), e,
                     cases[i].code, cases[i].where, cases[i].words);
        assert_null(r);
    }
}

/* Frames of a video: one name, in order. */
static void test_several_of_one_name(void **state)
{
    const struct wire_part parts[] = {file("image", NULL, "x"), file("image", NULL, "yy"),
                                      file("audio", NULL, "z"), file("image", NULL, "w"),
                                      field("format", "wav")};
    static const char *const want[] = {"x", "yy", "z", "w"};
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_from_parts(&r, parts, LEN(parts), NULL, 0, &e), e);
    assert_int_equal(r->nmedia, 4);
    assert_int_equal(r->format, WIRE_WAV);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(r->media[i].input, i == 2 ? "audio" : "image");
        assert_int_equal(r->media[i].len, strlen(want[i]));
        assert_memory_equal(r->media[i].data, want[i], r->media[i].len);
    }
    wire_request_free(r);
}

static void test_limits(void **state)
{
    struct wire_part parts[WIRE_MAX_MEDIA + 1];
    struct wire_arg args[WIRE_MAX_QUERIES + 1];
    char names[WIRE_MAX_MEDIA + 1][8];
    struct wire_request *r;

    (void)state;
    for (int i = 0; i <= WIRE_MAX_MEDIA; i++) {
        sprintf(names[i], "m%d", i);
        parts[i] = file(names[i], NULL, "x");
    }
    for (int i = 0; i <= WIRE_MAX_QUERIES; i++)
        args[i] = (struct wire_arg){"task", "a"};
    assert_ok(wire_native_from_parts(&r, parts, WIRE_MAX_MEDIA, args, WIRE_MAX_QUERIES, &e), e);
    assert_int_equal(r->nmedia, WIRE_MAX_MEDIA);
    assert_int_equal(r->nqueries, WIRE_MAX_QUERIES);
    wire_request_free(r);
    assert_fails(wire_native_from_parts(&r, parts, WIRE_MAX_MEDIA + 1, NULL, 0, &e), e, PCV_ELIMIT,
                 "form.m256", "more than 256");
    assert_fails(wire_native_from_parts(&r, parts, 1, args, WIRE_MAX_QUERIES + 1, &e), e,
                 PCV_ELIMIT, "?task", "more than 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw),         cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_form),        cmocka_unit_test(test_both),
        cmocka_unit_test(test_options),     cmocka_unit_test(test_argument_errors),
        cmocka_unit_test(test_part_errors), cmocka_unit_test(test_several_of_one_name),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
