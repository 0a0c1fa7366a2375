/* Lists of inputs, and what a request says of its latents: kept, cached, shared, streamed. */
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;

static int decode(struct wire_request **ret, const char *body)
{
    return wire_native_decode(ret, body, strlen(body), &e);
}

static void test_batch(void **state)
{
    static const char body[] =
        "{\"inputs\": [{\"image\": {\"b64\": \"YQ==\"}}, \"text\", {\"b64\": \"YmI=\", \"type\": "
        "\"image/png\"}, {\"image\": [{\"b64\": \"YQ==\"}, {\"b64\": \"YQ==\"}], \"audio\": \"c\"},"
        " {\"text\": \"t\"}, {\"image\": {\"b64\": \"\"}}]}";
    static const struct {
        int item;
        const char *input;
        size_t len;
    } want[] = {{0, "image", 1}, {1, NULL, 4},    {2, NULL, 2},   {3, "image", 1},
                {3, "image", 1}, {3, "audio", 1}, {4, "text", 1}, {5, "image", 0}};
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r, body), e);
    assert_true(r->batch);
    assert_int_equal(r->nitems, 6);
    assert_int_equal(r->nmedia, LEN(want));
    for (size_t i = 0; i < LEN(want); i++) {
        assert_int_equal(r->media[i].item, want[i].item);
        assert_int_equal(r->media[i].len, want[i].len);
        if (want[i].input)
            assert_string_equal(r->media[i].input, want[i].input);
        else
            assert_null(r->media[i].input);
    }
    assert_string_equal(r->media[2].type, "image/png");
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": [\"x\"]}"), e); /* a list of one is a list */
    assert_true(r->batch);
    assert_int_equal(r->nitems, 1);
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": \"x\"}"), e);
    assert_false(r->batch);
    assert_int_equal(r->nitems, 1);
    wire_request_free(r);
}

static void test_batch_errors(void **state)
{
    static const struct {
        const char *inputs;
        int code;
        const char *where, *words;
    } cases[] = {
        {"[]", PCV_EMISSING, "$.inputs", "no input"},
        {"[{}]", PCV_EMISSING, "$.inputs[0]", "no input"},
        {"[[\"x\"]]", PCV_EFORMAT, "$.inputs[0]", "a text, or an object of inputs"},
        {"[\"x\", null]", PCV_EFORMAT, "$.inputs[1]", "a text, or an object of inputs"},
        {"[\"x\", \"y\", \"z\", {\"image\": {\"b64\": \"Zg\"}}]", PCV_EFORMAT,
         "$.inputs[3].image.b64", "multiple of 4"},
        {"[\"x\", {\"b64\": \"Zg==\", \"image\": 1}]", PCV_EUNKNOWN, "$.inputs[1].image",
         "known are b64, text, type"},
        {"[{\"a\": \"x\"}, {\"a\": \"x\", \"a\": \"y\"}]", PCV_EFORMAT, "$.inputs[1].a", "twice"},
        {"[{\"a\": []}]", PCV_EMISSING, "$.inputs[0].a", "no input"},
        {"[\"x\" \"y\"]", PCV_EFORMAT, "$.inputs[0]", "','"},
    };
    char body[160];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        snprintf(body, sizeof(body), "{\"inputs\": %s}", cases[i].inputs);
        assert_fails(decode(&r, body), e, cases[i].code, cases[i].where, cases[i].words);
        assert_null(r);
    }
}

static void test_batch_limits(void **state)
{
    char *body = malloc(1 << 16), *p;
    struct wire_request *r = NULL;

    (void)state;
    for (int n = WIRE_MAX_ITEMS; n <= WIRE_MAX_ITEMS + 1; n++) {
        p = body + sprintf(body, "{\"inputs\": [");
        for (int i = 0; i < n; i++)
            p += sprintf(p, "%s\"x\"", i ? "," : "");
        strcpy(p, "]}");
        if (n == WIRE_MAX_ITEMS) {
            assert_ok(decode(&r, body), e);
            assert_int_equal(r->nitems, n);
            assert_int_equal(r->media[255].item, 255);
            wire_request_free(r);
        } else {
            assert_fails(decode(&r, body), e, PCV_ELIMIT, "$.inputs[256]", "more than 256 inputs");
        }
    }
    p = body + sprintf(body, "{\"inputs\": [{\"a\": \"x\", \"b\": \"x\"}");
    for (int i = 0; i < WIRE_MAX_MEDIA / 2; i++)
        p += sprintf(p, ",{\"a\": \"x\", \"b\": \"x\"}");
    strcpy(p, "]}");
    assert_fails(decode(&r, body), e, PCV_ELIMIT, "$.inputs[128].a", "more than 256 files");
    free(body);
}

static void test_keep(void **state)
{
    static const struct {
        const char *keep;
        uint64_t ms;
    } good[] = {
        {"\"10m\"", 600000},
        {"\"90s\"", 90000},
        {"\"2h\"", 7200000},
        {"\"1d\"", 86400000},
        {"90", 90000},
        {"0.5", 500},
        {"\"1.5h\"", 5400000},
        {"\"90\"", 90000},
        {"2592000", WIRE_MAX_KEEP_MS},
        {"0.001", 1},
        {"\"30d\"", WIRE_MAX_KEEP_MS},
        {"\"1\\u0030m\"", 600000},
    };
    static const struct {
        const char *keep;
        int code;
        const char *words;
    } bad[] = {
        {"0", PCV_ERANGE, "0: latents are kept for more than nothing"},
        {"\"0m\"", PCV_ERANGE, "up to 30d"},
        {"-5", PCV_ERANGE, "-5: "},
        {"\"-5m\"", PCV_ERANGE, "-5m: "},
        {"2592001", PCV_ERANGE, "up to 30d"},
        {"\"31d\"", PCV_ERANGE, "up to 30d"},
        {"1e999", PCV_ERANGE, "up to 30d"},
        {"0.0001", PCV_ERANGE, "more than nothing"},
        {"\"\"", PCV_EFORMAT, "\"\" is no time; as 90, 90s, 10m"},
        {"\"m\"", PCV_EFORMAT, "\"m\" is no time"},
        {"\"10 m\"", PCV_EFORMAT, "is no time"},
        {"\" 10m\"", PCV_EFORMAT, "is no time"},
        {"\"10min\"", PCV_EFORMAT, "is no time"},
        {"\"10w\"", PCV_EFORMAT, "units are s, m, h, d"},
        {"true", PCV_EFORMAT, "seconds, or a text"},
        {"null", PCV_EFORMAT, "seconds, or a text"},
        {"[1]", PCV_EFORMAT, "seconds, or a text"},
    };
    char body[80];
    struct wire_request *r = NULL;

    (void)state;
    for (size_t i = 0; i < LEN(good); i++) {
        snprintf(body, sizeof(body), "{\"inputs\": \"x\", \"keep\": %s}", good[i].keep);
        assert_ok(decode(&r, body), e);
        assert_int_equal(r->keep_ms, good[i].ms);
        wire_request_free(r);
    }
    r = NULL;
    for (size_t i = 0; i < LEN(bad); i++) {
        snprintf(body, sizeof(body), "{\"inputs\": \"x\", \"keep\": %s}", bad[i].keep);
        assert_fails(decode(&r, body), e, bad[i].code, "$.keep", bad[i].words);
        assert_null(r);
    }
}

static void test_switches(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *where, *words;
    } bad[] = {
        {"{\"inputs\": \"x\", \"cache\": 0}", PCV_EFORMAT, "$.cache", "true or false"},
        {"{\"inputs\": \"x\", \"share\": \"no\"}", PCV_EFORMAT, "$.share", "true or false"},
        {"{\"inputs\": \"x\", \"stream\": null}", PCV_EFORMAT, "$.stream", "true or false"},
        {"{\"inputs\": \"x\", \"cache\": true, \"cache\": true}", PCV_EFORMAT, "$.cache", "twice"},
        {"{\"stream\": true, \"inputs\": \"x\", \"format\": \"png\"}", PCV_EFORMAT, "$.stream",
         "lines of JSON"},
    };
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r, "{\"inputs\": \"x\"}"), e);
    assert_false(r->no_cache || r->no_share || r->stream || r->keep_ms);
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": \"x\", \"cache\": true, \"share\": true, \"stream\": false,"
                         " \"format\": \"png\"}"),
              e);
    assert_false(r->no_cache || r->no_share || r->stream);
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": \"x\", \"cache\": false, \"share\": false, \"stream\": true,"
                         " \"format\": \"json\"}"),
              e);
    assert_true(r->no_cache && r->no_share && r->stream);
    wire_request_free(r);
    r = NULL;
    for (size_t i = 0; i < LEN(bad); i++) {
        assert_fails(decode(&r, bad[i].body), e, bad[i].code, bad[i].where, bad[i].words);
        assert_null(r);
    }
}

/* Questions to kept latents say nothing of an input. */
static void test_kept(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *where, *words;
    } bad[] = {
        {"", PCV_EFORMAT, "$", "ends at byte 0"},
        {"{\"inputs\": \"x\"}", PCV_EFORMAT, "$.inputs", "not in questions to kept latents"},
        {"{\"keep\": \"1m\"}", PCV_EFORMAT, "$.keep", "not in questions to kept latents"},
        {"{\"cache\": true}", PCV_EFORMAT, "$.cache", "not in questions to kept latents"},
        {"{\"share\": true}", PCV_EFORMAT, "$.share", "not in questions to kept latents"},
        {"{\"latents\": \"a\"}", PCV_EUNKNOWN, "$.latents", "known are inputs, queries"},
        {"{\"queries\": []}", PCV_EMISSING, "$.queries", "no query"},
        {"{\"queries\": [{\"task\": \"a\", \"input\": 0}]}", PCV_EFORMAT, "$.queries[0].input",
         "only a list has several"},
        {"{\"stream\": true, \"format\": \"raw\"}", PCV_EFORMAT, "$.stream", "lines of JSON"},
        {"{} x", PCV_EFORMAT, "$", "the end"},
    };
    static const char body[] = "{\"queries\": [{\"task\": \"a\", \"positions\": [1]}], "
                               "\"priority\": 2, \"timeout_ms\": 5, \"stream\": true}";
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(wire_native_decode_query(&r, body, sizeof(body) - 1, &e), e);
    assert_int_equal(r->form, WIRE_NATIVE);
    assert_int_equal(r->nitems, 0);
    assert_int_equal(r->nmedia, 0);
    assert_int_equal(r->nqueries, 1);
    assert_int_equal(r->queries[0].rows[0], 1);
    assert_int_equal(r->priority, 2);
    assert_int_equal(r->timeout_us, 5000);
    assert_true(r->stream);
    wire_request_free(r);
    assert_ok(wire_native_decode_query(&r, "{}", 2, &e), e);
    assert_int_equal(r->nqueries, 0);
    wire_request_free(r);
    r = NULL;
    for (size_t i = 0; i < LEN(bad); i++) {
        assert_fails(wire_native_decode_query(&r, bad[i].body, strlen(bad[i].body), &e), e,
                     bad[i].code, bad[i].where, bad[i].words);
        assert_null(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch),        cmocka_unit_test(test_batch_errors),
        cmocka_unit_test(test_batch_limits), cmocka_unit_test(test_keep),
        cmocka_unit_test(test_switches),     cmocka_unit_test(test_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
