#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;

/* Decodes a body that ends where its memory does. own */
static int decode_n(struct wire_request **ret, const char *body, size_t len)
{
    static char *exact; /* lives until the next call: the request borrows from it */

    free(exact);
    exact = malloc(len ? len : 1);
    memcpy(exact, body, len);
    return wire_native_decode(ret, exact, len, &e);
}

static int decode(struct wire_request **ret, const char *body)
{
    return decode_n(ret, body, strlen(body));
}

static void assert_media(const struct wire_media *m, const char *input, const char *data,
                         const char *type)
{
    if (input)
        assert_string_equal(m->input, input);
    else
        assert_null(m->input);
    assert_int_equal(m->len, strlen(data));
    assert_memory_equal(m->data, data, m->len);
    if (type)
        assert_string_equal(m->type, type);
    else
        assert_null(m->type);
}

static void test_image(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r,
                     "{\"inputs\": {\"image\": {\"b64\": \"Zm9vYg==\", \"type\": \"Image/PNG\"}},"
                     " \"queries\": [{\"task\": \"classify\", \"top_k\": 3}]}"),
              e);
    assert_int_equal(r->form, WIRE_NATIVE);
    assert_int_equal(r->nmedia, 1);
    assert_media(&r->media[0], "image", "foob", "image/png");
    assert_int_equal(r->nqueries, 1);
    assert_string_equal(r->queries[0].task, "classify");
    assert_int_equal(r->queries[0].top_k, 3);
    assert_int_equal(r->default_top_k, WIRE_DEFAULT_TOP_K);
    assert_int_equal(r->ntensors, 0);
    assert_int_equal(r->noutputs, 0);
    assert_int_equal(r->priority, 0);
    assert_int_equal(r->timeout_us, 0);
    assert_null(r->id);
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": \"x\", \"top_k\": 2}"), e);
    assert_int_equal(r->default_top_k, 2);
    wire_request_free(r);
}

/* All the ways to write one input. */
static void test_inputs(void **state)
{
    static const struct {
        const char *inputs, *name, *data, *type;
    } cases[] = {
        {"\"shoe\"", NULL, "shoe", "text/plain"},
        {"\"\"", NULL, "", "text/plain"},
        {"{\"b64\": \"Zm9v\"}", NULL, "foo", NULL},
        {"{\"type\": \"image/jpeg\", \"b64\": \"Zm9v\"}", NULL, "foo", "image/jpeg"},
        {"{\"b64\": \"Zm9v\", \"type\": \"application/octet-stream\"}", NULL, "foo", NULL},
        {"{\"b64\": \"Zm\\u0039v\"}", NULL, "foo", NULL}, /* escapes inside base64 */
        {"{\"b64\": \"\\/w==\"}", NULL, "\xff", NULL},
        {"{\"b64\": \"\"}", NULL, "", NULL},
        {"{\"text\": \"shoe\"}", "text", "shoe", "text/plain"},
        {"{\"text\": {\"text\": \"shoe\"}}", "text", "shoe", "text/plain"},
        {"{\"question\": \"caf\\u00e9 [MASK]\"}", "question", "caf\xc3\xa9 [MASK]", "text/plain"},
        {"{\"im\\u0061ge\": {\"b64\": \"Zm9v\"}}", "image", "foo", NULL},
        {"{\"t\": {\"b64\": \"w6k=\", \"type\": \"text/plain; charset=UTF-8\"}}", "t", "\xc3\xa9",
         "text/plain"},
    };
    char body[256];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        snprintf(body, sizeof(body), "{\"inputs\": %s}", cases[i].inputs);
        assert_ok(decode(&r, body), e);
        assert_int_equal(r->nmedia, 1);
        assert_media(&r->media[0], cases[i].name, cases[i].data, cases[i].type);
        assert_int_equal(r->nqueries, 0);
        wire_request_free(r);
    }
}

static void test_everything(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r,
                     " {\"timeout_ms\": 1500, \"priority\": 2, \"queries\": [{\"task\": \"a\"}, "
                     "{\"top_k\": 1000, \"task\": \"b\"}], \"inputs\": {\"image\": {\"b64\": "
                     "\"Zg==\"}, \"text\": \"hi\"}}\n"),
              e);
    assert_int_equal(r->timeout_us, 1500000);
    assert_int_equal(r->priority, 2);
    assert_int_equal(r->nqueries, 2);
    assert_string_equal(r->queries[0].task, "a");
    assert_int_equal(r->queries[0].top_k, WIRE_DEFAULT_TOP_K);
    assert_string_equal(r->queries[1].task, "b");
    assert_int_equal(r->queries[1].top_k, WIRE_MAX_TOP_K);
    assert_int_equal(r->nmedia, 2);
    assert_media(&r->media[0], "image", "f", NULL);
    assert_media(&r->media[1], "text", "hi", "text/plain");
    wire_request_free(r);
    assert_ok(decode(&r, "{\"inputs\": \"x\", \"timeout_ms\": 86400000, \"priority\": 1048576}"),
              e);
    assert_int_equal(r->timeout_us, 86400000000);
    assert_int_equal(r->priority, WIRE_MAX_PRIORITY);
    wire_request_free(r);
}

/* Every decoder error: code, path, and words a person can act on. */
static void test_errors(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *where, *words;
    } cases[] = {
        {"", PCV_EFORMAT, "$", "ends at byte 0"},
        {"null", PCV_EFORMAT, "$", "expected a JSON object at byte 0"},
        {"[]", PCV_EFORMAT, "$", "expected a JSON object at byte 0"},
        {"{\"inputs\": \"x\"} {}", PCV_EFORMAT, "$", "expected the end at byte 16"},
        {"{}", PCV_EMISSING, "$.inputs", "missing"},
        {"{\"queries\": []}", PCV_EMISSING, "$.queries", "no query"},
        {"{\"inputs\": \"x\", \"top_k\": 0}", PCV_ERANGE, "$.top_k", "0"},
        {"{\"top_k\": 2, \"inputs\": \"x\", \"queries\": [{\"task\": \"t\"}]}", PCV_EFORMAT,
         "$.top_k", "goes without queries"},
        {"{\"input\": \"x\"}", PCV_EUNKNOWN, "$.input", "known are inputs, queries"},
        {"{\"inputs\": \"x\", \"inputs\": \"y\"}", PCV_EFORMAT, "$.inputs", "twice"},
        {"{\"inputs\": null}", PCV_EFORMAT, "$.inputs", "expected a text, or an object of inputs"},
        {"{\"inputs\": [[\"x\"]]}", PCV_EFORMAT, "$.inputs[0]", "expected a text"},
        {"{\"inputs\": []}", PCV_EMISSING, "$.inputs", "no input"},
        {"{\"inputs\": 5}", PCV_EFORMAT, "$.inputs", "expected a text"},
        {"{\"inputs\": {}}", PCV_EMISSING, "$.inputs", "no input"},
        {"{\"inputs\": {\"a\": 5}}", PCV_EFORMAT, "$.inputs.a", "b64 or text at byte 17"},
        {"{\"inputs\": {\"a\": {}}}", PCV_EMISSING, "$.inputs.a", "neither b64 nor text"},
        {"{\"inputs\": {\"a\": {\"type\": \"image/png\"}}}", PCV_EMISSING, "$.inputs.a", "neither"},
        {"{\"inputs\": {\"type\": \"image/png\"}}", PCV_EMISSING, "$.inputs", "neither"},
        {"{\"inputs\": {\"a\": {\"url\": \"x\"}}}", PCV_EUNKNOWN, "$.inputs.a.url",
         "known are b64, text, type"},
        {"{\"inputs\": {\"b64\": \"Zg==\", \"image\": \"x\"}}", PCV_EUNKNOWN, "$.inputs.image",
         "known are b64, text, type"},
        {"{\"inputs\": {\"a\": {\"b64\": \"Zg==\", \"text\": \"x\"}}}", PCV_EFORMAT,
         "$.inputs.a.text", "stands alone"},
        {"{\"inputs\": {\"a\": {\"text\": \"x\", \"b64\": \"Zg==\"}}}", PCV_EFORMAT,
         "$.inputs.a.b64", "stands alone"},
        {"{\"inputs\": {\"a\": {\"type\": \"x/y\", \"text\": \"x\"}}}", PCV_EFORMAT,
         "$.inputs.a.text", "stands alone"},
        {"{\"inputs\": {\"a\": {\"b64\": \"Zg\"}}}", PCV_EFORMAT, "$.inputs.a.b64",
         "multiple of 4"},
        {"{\"inputs\": {\"a\": {\"b64\": \"data:image/png;base64,Zg==\"}}}", PCV_EFORMAT,
         "$.inputs.a.b64", "data: URL"},
        {"{\"inputs\": {\"a\": {\"b64\": 5}}}", PCV_EFORMAT, "$.inputs.a.b64", "a string"},
        {"{\"inputs\": {\"a\": {\"b64\": \"/w==\", \"type\": \"text/plain\"}}}", PCV_EFORMAT,
         "$.inputs.a", "invalid UTF-8 at byte 0"},
        {"{\"inputs\": {\"a\": {\"b64\": \"YQBi\", \"type\": \"text/plain\"}}}", PCV_EFORMAT,
         "$.inputs.a", "NUL at byte 1"},
        {"{\"inputs\": {\"a\": {\"type\": \"text/plain; charset=latin1\", \"b64\": \"\"}}}",
         PCV_EUNSUPPORTED, "$.inputs.a.type", "latin1"},
        {"{\"inputs\": {\"a\": \"x\", \"a\": \"y\"}}", PCV_EFORMAT, "$.inputs.a", "twice"},
        {"{\"inputs\": {\"a\": \"x\\u0000y\"}}", PCV_EFORMAT, "$.inputs.a", "NUL in a string"},
        {"{\"inputs\": {\"a\": \"x\xff\"}}", PCV_EFORMAT, "$.inputs.a", "invalid UTF-8 at byte 19"},
        {"{\"inputs\": \"x\", \"queries\": {}}", PCV_EFORMAT, "$.queries", "an array of queries"},
        {"{\"inputs\": \"x\", \"queries\": [5]}", PCV_EFORMAT, "$.queries[0]", "with a task"},
        {"{\"inputs\": \"x\", \"queries\": [{}]}", PCV_EMISSING, "$.queries[0].task", "missing"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\"}, {\"top_k\": 1}]}", PCV_EMISSING,
         "$.queries[1].task", "missing"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": 5}]}", PCV_EFORMAT, "$.queries[0].task",
         "a string"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"k\": 5}]}", PCV_EUNKNOWN,
         "$.queries[0].k", "known are task, input, top_k, classes"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": 0}]}", PCV_ERANGE,
         "$.queries[0].top_k", "0 is outside 1..1000"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": 1001}]}", PCV_ERANGE,
         "$.queries[0].top_k", "1001 is outside"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": -1}]}", PCV_ERANGE,
         "$.queries[0].top_k", "-1 is outside"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": 4294967297}]}", PCV_ERANGE,
         "$.queries[0].top_k", "outside"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": 18446744073709551617}]}",
         PCV_ERANGE, "$.queries[0].top_k", "outside"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": 3.0}]}", PCV_EFORMAT,
         "$.queries[0].top_k", "3.0 is not a whole number"},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"a\", \"top_k\": \"3\"}]}", PCV_EFORMAT,
         "$.queries[0].top_k", "a whole number"},
        {"{\"inputs\": \"x\", \"priority\": -1}", PCV_ERANGE, "$.priority", "outside"},
        {"{\"inputs\": \"x\", \"priority\": 1048577}", PCV_ERANGE, "$.priority", "outside"},
        {"{\"inputs\": \"x\", \"priority\": \"high\"}", PCV_EFORMAT, "$.priority", "whole"},
        {"{\"inputs\": \"x\", \"timeout_ms\": 86400001}", PCV_ERANGE, "$.timeout_ms", "outside"},
        {"{\"inputs\": \"x\", \"timeout_ms\": 0.5}", PCV_EFORMAT, "$.timeout_ms", "0.5"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;

        assert_fails(decode(&r, cases[i].body), e, cases[i].code, cases[i].where, cases[i].words);
        assert_null(r);
        assert_int_equal(wire_native_decode(&r, cases[i].body, strlen(cases[i].body), NULL),
                         cases[i].code); /* without anybody to tell */
    }
}

static void test_nothing(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_fails(wire_native_decode(&r, NULL, 0, &e), e, PCV_EFORMAT, "$", "ends at byte 0");
    assert_fails(wire_oip_decode(&r, NULL, 0, -1, &e), e, PCV_EFORMAT, "$", "ends at byte 0");
    assert_fails(wire_oip_decode(&r, NULL, 0, 0, &e), e, PCV_EMISSING, "body", "empty");
    assert_null(r);
}

static void test_limits(void **state)
{
    char *body = malloc(1 << 16), *p;
    struct wire_request *r;
    char where[32];

    (void)state;
    for (int n = WIRE_MAX_QUERIES; n <= WIRE_MAX_QUERIES + 1; n++) {
        p = body + sprintf(body, "{\"inputs\": \"x\", \"queries\": [");
        for (int i = 0; i < n; i++)
            p += sprintf(p, "%s{\"task\": \"t%d\", \"top_k\": %d}", i ? "," : "", i, i + 1);
        strcpy(p, "]}");
        if (n == WIRE_MAX_QUERIES) {
            assert_ok(decode(&r, body), e);
            assert_int_equal(r->nqueries, n);
            assert_string_equal(r->queries[255].task, "t255");
            assert_int_equal(r->queries[100].top_k, 101);
            wire_request_free(r);
        } else {
            sprintf(where, "$.queries[%d]", n - 1);
            assert_fails(decode(&r, body), e, PCV_ELIMIT, where, "more than 256 queries");
        }
    }
    for (int n = WIRE_MAX_MEDIA; n <= WIRE_MAX_MEDIA + 1; n++) {
        p = body + sprintf(body, "{\"inputs\": {");
        for (int i = 0; i < n; i++)
            p += sprintf(p, "%s\"m%d\": \"x\"", i ? "," : "", i);
        strcpy(p, "}}");
        if (n == WIRE_MAX_MEDIA) {
            assert_ok(decode(&r, body), e);
            assert_int_equal(r->nmedia, n);
            assert_string_equal(r->media[15].input, "m15");
            wire_request_free(r);
        } else {
            assert_fails(decode(&r, body), e, PCV_ELIMIT, "$.inputs.m256", "more than 256 files");
        }
    }
    free(body);
}

/* What tasks are asked beside labels, and frames as an array. */
static void test_media_questions(void **state)
{
    static const char body[] =
        "{\"inputs\": {\"image\": [{\"b64\": \"YQ==\"}, {\"b64\": \"YmI=\"}], \"audio\": \"c\"},"
        " \"queries\": [{\"task\": \"flow\", \"points\": [[1, 2], [3, 4]]},"
        " {\"frames\": [5, 0], \"task\": \"image\"}, {\"task\": \"embed\", \"pool\": \"none\"}],"
        " \"format\": \"raw\"}";
    static const struct {
        const char *body, *where, *words;
        int code;
    } bad[] = {
        {"{\"inputs\": {\"a\": []}}", "$.inputs.a", "no input", PCV_EMISSING},
        {"{\"inputs\": {\"a\": [\"x\"], \"a\": [\"y\"]}}", "$.inputs.a[0]", "twice", PCV_EFORMAT},
        {"{\"inputs\": \"x\", \"format\": \"PNG\"}", "$.format", "png", PCV_EUNKNOWN},
        {"{\"inputs\": \"x\", \"queries\": [{\"task\": \"e\", \"pool\": \"max\"}]}",
         "$.queries[0].pool", "mean", PCV_EUNKNOWN},
    };
    struct wire_request *r;

    (void)state;
    assert_ok(decode(&r, body), e);
    assert_int_equal(r->nmedia, 3);
    assert_string_equal(r->media[1].input, "image");
    assert_int_equal(r->media[1].len, 2);
    assert_int_equal(r->queries[0].npoints, 2);
    assert_int_equal(r->queries[0].points[1][0], 3);
    assert_int_equal(r->queries[0].points[1][1], 4);
    assert_int_equal(r->queries[1].nframes, 2);
    assert_int_equal(r->queries[1].frames[0], 5);
    assert_true(r->queries[2].pooled);
    assert_int_equal(r->queries[2].pool, WIRE_POOL_NONE);
    assert_false(r->queries[1].pooled);
    assert_int_equal(r->format, WIRE_RAW);
    wire_request_free(r);
    for (size_t i = 0; i < LEN(bad); i++)
        assert_fails(decode(&r, bad[i].body), e, bad[i].code, bad[i].where, bad[i].words);
}

/* 10,000 levels where something else is expected, and where nothing is. */
static void test_deep(void **state)
{
    static const char *const before[] = {
        "", "{\"inputs\": ", "{\"inputs\": \"x\", \"queries\": ", "{\"inputs\": {\"a\": "};
    char *body = malloc(1 << 16);
    struct wire_request *r;

    (void)state;
    for (size_t i = 0; i < LEN(before); i++) {
        int n = sprintf(body, "%s", before[i]);

        memset(body + n, '[', 10000);
        assert_int_equal(decode_n(&r, body, (size_t)n + 10000), PCV_EFORMAT);
        for (int k = 0; k < 10000; k++)
            memcpy(body + n + 5 * k, "{\"a\":", 5);
        assert_true(decode_n(&r, body, (size_t)n + 50000) < 0);
        assert_true(e.where[0] == '$');
    }
    free(body);
}

/* A large text is not copied: it is read from the body itself. */
static void test_borrows(void **state)
{
    char body[] = "{\"inputs\": {\"text\": \"a text without escapes\"}}";
    struct wire_request *r;

    (void)state;
    assert_ok(wire_native_decode(&r, body, sizeof(body) - 1, &e), e);
    assert_ptr_equal(r->media[0].data, strstr(body, "a text"));
    wire_request_free(r);
    wire_request_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),           cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_everything),      cmocka_unit_test(test_errors),
        cmocka_unit_test(test_nothing),         cmocka_unit_test(test_limits),
        cmocka_unit_test(test_media_questions), cmocka_unit_test(test_deep),
        cmocka_unit_test(test_borrows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
