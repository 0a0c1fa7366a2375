/* What a query asks: its members, what contradicts, and each way to get them wrong. */
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;

static int decode(struct wire_request **ret, const char *body)
{
    return wire_native_decode(ret, body, strlen(body), &e);
}

static void test_members(void **state)
{
    static const char body[] =
        "{\"inputs\": [\"x\", \"y\"], \"queries\": ["
        "{\"positions\": [7, 0, 1048576], \"task\": \"fill-mask\", \"input\": 1},"
        "{\"latents\": [5, 0], \"task\": \"attention\"},"
        "{\"task\": \"image\", \"region\": [4, 0, 8, 1], \"frames\": [2]},"
        "{\"task\": \"classify\", \"classes\": [\"Bag\", \"caf\\u00e9\"], \"input\": 0}]}";
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r, body), e);
    assert_int_equal(r->nqueries, 4);
    assert_int_equal(r->queries[0].input, 1);
    assert_int_equal(r->queries[0].nrows, 3);
    assert_int_equal(r->queries[0].rows[0], 7);
    assert_int_equal(r->queries[0].rows[2], WIRE_MAX_COORDINATE);
    assert_int_equal(r->queries[0].top_k, WIRE_DEFAULT_TOP_K);
    assert_false(r->queries[0].has_region);
    assert_int_equal(r->queries[1].input, -1);
    assert_int_equal(r->queries[1].nrows, 2);
    assert_int_equal(r->queries[1].rows[0], 5);
    assert_true(r->queries[2].has_region);
    for (int i = 0; i < 4; i++)
        assert_int_equal(r->queries[2].region[i], ((int[]){4, 0, 8, 1})[i]);
    assert_int_equal(r->queries[2].nframes, 1);
    assert_int_equal(r->queries[2].nrows, 0);
    assert_int_equal(r->queries[3].input, 0);
    assert_int_equal(r->queries[3].nclasses, 2);
    assert_string_equal(r->queries[3].classes[0], "Bag");
    assert_string_equal(r->queries[3].classes[1], "caf\xc3\xa9");
    wire_request_free(r);
}

/* One query, of task t when it names none. */
static void test_errors(void **state)
{
    static const struct {
        const char *query;
        int code;
        const char *member, *words;
    } cases[] = {
        {"\"positions\": 5", PCV_EFORMAT, ".positions", "an array of positions"},
        {"\"positions\": []", PCV_EMISSING, ".positions", "leave it out"},
        {"\"positions\": [-1]", PCV_ERANGE, ".positions[0]", "-1 is outside 0..1048576"},
        {"\"positions\": [0, 1048577]", PCV_ERANGE, ".positions[1]", "outside"},
        {"\"positions\": [1.5]", PCV_EFORMAT, ".positions[0]", "1.5 is not a whole number"},
        {"\"positions\": [[1]]", PCV_EFORMAT, ".positions[0]", "a whole number"},
        {"\"latents\": [0]", PCV_EFORMAT, ".latents", "only the task attention"},
        {"\"task\": \"attention\", \"latents\": []", PCV_EMISSING, ".latents", "no latent"},
        {"\"latents\": [0, -3], \"task\": \"attention\"", PCV_ERANGE, ".latents[1]", "outside"},
        {"\"task\": \"attention\", \"latents\": 0", PCV_EFORMAT, ".latents", "array of latents"},
        {"\"task\": \"attention\", \"positions\": [0]", PCV_EFORMAT, ".positions",
         "the task attention has latents"},
        {"\"task\": \"attention\", \"positions\": [0], \"latents\": [0]", PCV_EFORMAT, ".latents",
         "does not go together with positions"},
        {"\"region\": [0, 0, 1, 1], \"positions\": [0]", PCV_EFORMAT, ".region",
         "does not go together with positions"},
        {"\"region\": [0, 0, 1, 1], \"points\": [[0, 0]]", PCV_EFORMAT, ".points",
         "does not go together with region"},
        {"\"positions\": [0], \"points\": [[0, 0]]", PCV_EFORMAT, ".points", "with positions"},
        {"\"frames\": [0], \"positions\": [0]", PCV_EFORMAT, ".frames", "with positions"},
        {"\"region\": [0, 0, 1]", PCV_EFORMAT, ".region", "[x, y, width, height]"},
        {"\"region\": [0, 0, 1, 1, 1]", PCV_EFORMAT, ".region[4]", "[x, y, width, height]"},
        {"\"region\": []", PCV_EFORMAT, ".region", "[x, y, width, height]"},
        {"\"region\": {}", PCV_EFORMAT, ".region", "[x, y, width, height]"},
        {"\"region\": [0, 0, 0, 1]", PCV_ERANGE, ".region[2]", "0 is outside 1.."},
        {"\"region\": [0, 0, 1, 0]", PCV_ERANGE, ".region[3]", "0 is outside 1.."},
        {"\"region\": [-1, 0, 1, 1]", PCV_ERANGE, ".region[0]", "outside 0.."},
        {"\"region\": [0, 0, 1048577, 1]", PCV_ERANGE, ".region[2]", "outside"},
        {"\"points\": [[1]]", PCV_EFORMAT, ".points[0]", "not a point [x, y]"},
        {"\"points\": [[1, 2, 3]]", PCV_EFORMAT, ".points[0][2]", "not a point [x, y]"},
        {"\"points\": [5]", PCV_EFORMAT, ".points[0]", "a point [x, y]"},
        {"\"points\": []", PCV_EMISSING, ".points", "no point"},
        {"\"frames\": []", PCV_EMISSING, ".frames", "no frame"},
        {"\"classes\": []", PCV_EMISSING, ".classes", "no class"},
        {"\"classes\": \"Bag\"", PCV_EFORMAT, ".classes", "an array of classes' names"},
        {"\"classes\": [5]", PCV_EFORMAT, ".classes[0]", "a string"},
        {"\"top_k\": 3, \"classes\": [\"a\"]", PCV_EFORMAT, ".classes", "together with top_k"},
        {"\"input\": -1", PCV_ERANGE, ".input", "-1 is outside 0..255"},
        {"\"input\": 256", PCV_ERANGE, ".input", "outside 0..255"},
        {"\"input\": 2", PCV_ERANGE, ".input", "2 is outside 0..1"},
        {"\"input\": \"a\"", PCV_EFORMAT, ".input", "a whole number"},
        {"\"pool\": \"max\"", PCV_EUNKNOWN, ".pool", "mean and none"},
    };
    char body[256], where[64];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        snprintf(body, sizeof(body),
                 "{\"queries\": [{\"task\": \"u\"}, {%s%s}], \"inputs\": [\"x\", \"y\"]}",
                 strstr(cases[i].query, "task") ? "" : "\"task\": \"t\", ", cases[i].query);
        snprintf(where, sizeof(where), "$.queries[1]%s", cases[i].member);
        assert_fails(decode(&r, body), e, cases[i].code, where, cases[i].words);
        assert_null(r);
        assert_int_equal(wire_native_decode(&r, body, strlen(body), NULL), cases[i].code);
    }
}

/* Without a list there is nothing to choose from. */
static void test_input_without_list(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_fails(decode(&r, "{\"inputs\": \"x\", \"queries\": [{\"task\": \"t\", \"input\": 0}]}"),
                 e, PCV_EFORMAT, "$.queries[0].input", "only a list has several");
}

/* n times "v," in an array. */
static char *many(const char *before, const char *v, int n)
{
    char *body = malloc(strlen(before) + (size_t)n * (strlen(v) + 1) + 8), *p;

    p = stpcpy(body, before);
    for (int i = 0; i < n; i++)
        p = stpcpy(stpcpy(p, i ? "," : "["), v);
    strcpy(p, "]}]}");
    return body;
}

static void test_limits(void **state)
{
    static const struct {
        const char *before, *v, *place, *words;
        int max;
    } cases[] = {
        {"\"t\", \"positions\": ", "0", "positions[1048576]", "1048576 positions", WIRE_MAX_ROWS},
        {"\"attention\", \"latents\": ", "1", "latents[1048576]", "1048576 latents", WIRE_MAX_ROWS},
        {"\"t\", \"classes\": ", "\"a\"", "classes[1000]", "1000 classes", WIRE_MAX_CLASSES},
        {"\"t\", \"frames\": ", "0", "frames[256]", "256 frames", WIRE_MAX_FRAMES},
        {"\"t\", \"points\": ", "[0,0]", "points[65536]", "65536 points", WIRE_MAX_POINTS},
    };
    char before[80], where[40], *body;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        snprintf(before, sizeof(before), "{\"inputs\": \"x\", \"queries\": [{\"task\": %s",
                 cases[i].before);
        snprintf(where, sizeof(where), "$.queries[0].%s", cases[i].place);
        body = many(before, cases[i].v, cases[i].max);
        assert_ok(decode(&r, body), e);
        wire_request_free(r);
        free(body);
        r = NULL;
        body = many(before, cases[i].v, cases[i].max + 1);
        assert_fails(decode(&r, body), e, PCV_ELIMIT, where, cases[i].words);
        free(body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_input_without_list),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
