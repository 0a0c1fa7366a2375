/* What the server's side writes, the client's side reads, and the other way round. */
#include "proto/wire_client.h"
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct wire_arena *arena;
static struct pcv_err e;

static int setup(void **state)
{
    (void)state;
    arena = wire_arena_new();
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    wire_arena_free(arena);
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void test_path(void **state)
{
    char *path = wire_client_path("/v1/models/", "az-AZ_09.~/?%\xc3\xa9 +", "/perceive?a=b");

    (void)state;
    assert_string_equal(path, "/v1/models/az-AZ_09.~%2F%3F%25%C3%A9%20%2B/perceive?a=b");
    free(path);
}

static struct wire_request *native_round_trip(const struct wire_request *r, char **body)
{
    struct wire_request *back = NULL;
    size_t len = 0;

    *body = wire_client_native(r, &len);
    assert_non_null(*body);
    assert_ok(wire_native_decode(&back, *body, len, &e), e);
    return back;
}

static void test_native_request(void **state)
{
    static unsigned char blob[10001];
    struct wire_media media[] = {
        {.input = "image", .data = blob, .len = sizeof(blob), .type = "image/png"},
        {.input = "text", .data = "caf\xc3\xa9 \"[MASK]\"\n", .len = 15, .type = "text/plain"},
        {.input = "bad", .data = "\xff", .len = 1, .type = "application/x"},
    };
    struct wire_query queries[] = {{.task = "classify", .top_k = 3},
                                   {.task = "fill-mask", .top_k = 7}};
    struct wire_request r = {.form = WIRE_NATIVE,
                             .nmedia = 3,
                             .media = media,
                             .nqueries = 2,
                             .queries = queries,
                             .priority = 4,
                             .timeout_us = 1500001};
    struct wire_request *back;
    char *body;

    (void)state;
    for (size_t i = 0; i < sizeof(blob); i++)
        blob[i] = (unsigned char)(i * 7 + i / 256);
    back = native_round_trip(&r, &body);
    assert_int_equal(back->nmedia, 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(back->media[i].input, media[i].input);
        assert_string_equal(back->media[i].type, media[i].type);
        assert_int_equal(back->media[i].len, media[i].len);
        assert_memory_equal(back->media[i].data, media[i].data, media[i].len);
    }
    assert_int_equal(back->nqueries, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(back->queries[i].task, queries[i].task);
        assert_int_equal(back->queries[i].top_k, queries[i].top_k);
    }
    assert_int_equal(back->priority, 4);
    assert_int_equal(back->timeout_us, 1501000); /* never shorter than asked */
    wire_request_free(back);
    free(body);
}

/* Every length of base64's last group, and an only input without name. */
static void test_base64(void **state)
{
    (void)state;
    for (size_t len = 0; len < 8; len++) {
        struct wire_media m = {.data = "\xff\xef\x00\x10\x83zzz", .len = len, .type = "a/b"};
        struct wire_request r = {.form = WIRE_NATIVE, .nmedia = 1, .media = &m};
        struct wire_request *back;
        char *body;

        back = native_round_trip(&r, &body);
        assert_int_equal(back->nmedia, 1);
        assert_null(back->media[0].input);
        assert_int_equal(back->media[0].len, len);
        assert_memory_equal(back->media[0].data, m.data, len);
        assert_int_equal(back->nqueries, 0);
        wire_request_free(back);
        free(body);
    }
}

/* Text that is not UTF-8 must not be mended on its way: the server has to see what was sent. */
static void test_bad_text_travels_unchanged(void **state)
{
    struct wire_media m = {.data = "a\xff", .len = 2, .type = "text/plain"};
    struct wire_request r = {.form = WIRE_NATIVE, .nmedia = 1, .media = &m};
    struct wire_request *back = NULL;
    size_t len;
    char *body = wire_client_native(&r, &len);

    (void)state;
    assert_string_equal(body, "{\"inputs\":{\"type\":\"text/plain\",\"b64\":\"Yf8=\"}}");
    assert_int_not_equal(wire_native_decode(&back, body, len, &e), 0);
    free(body);
}

static void test_oip_request(void **state)
{
    static const int64_t ids[] = {4, 100, 5};
    static const float values[] = {1.5f, -2.25f};
    struct pcv_tensor tensors[] = {{.name = "inputs",
                                    .dtype = PCV_I64,
                                    .ndim = 2,
                                    .shape = {1, 3},
                                    .data = ids,
                                    .nbytes = sizeof(ids)},
                                   {.name = "more",
                                    .dtype = PCV_F32,
                                    .ndim = 1,
                                    .shape = {2},
                                    .data = values,
                                    .nbytes = sizeof(values)}};
    struct wire_output outputs[] = {{.name = "logits", .binary = true},
                                    {.name = "best", .binary = false, .classification = 3}};
    struct wire_request r = {.form = WIRE_OIP,
                             .id = "q-1",
                             .ntensors = 2,
                             .tensors = tensors,
                             .noutputs = 2,
                             .outputs = outputs,
                             .binary_default = true,
                             .priority = 2,
                             .timeout_us = 1234567};
    struct wire_request *back = NULL;
    int64_t header = 0;
    size_t len = 0;
    char *body = wire_client_oip(&r, &len, &header);

    (void)state;
    assert_non_null(body);
    assert_int_equal(len, (size_t)header + sizeof(ids) + sizeof(values));
    assert_ok(wire_oip_decode(&back, body, len, header, &e), e);
    assert_string_equal(back->id, "q-1");
    assert_int_equal(back->ntensors, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(back->tensors[i].name, tensors[i].name);
        assert_int_equal(back->tensors[i].dtype, tensors[i].dtype);
        assert_int_equal(back->tensors[i].ndim, tensors[i].ndim);
        assert_memory_equal(back->tensors[i].shape, tensors[i].shape,
                            (size_t)tensors[i].ndim * sizeof(int64_t));
        assert_int_equal(back->tensors[i].nbytes, tensors[i].nbytes);
        assert_memory_equal(back->tensors[i].data, tensors[i].data, tensors[i].nbytes);
    }
    assert_int_equal(back->noutputs, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(back->outputs[i].name, outputs[i].name);
        assert_int_equal(back->outputs[i].binary, outputs[i].binary);
        assert_int_equal(back->outputs[i].classification, outputs[i].classification);
    }
    assert_true(back->binary_default);
    assert_int_equal(back->priority, 2);
    assert_int_equal(back->timeout_us, 1234567);
    wire_request_free(back);
    free(body);
}

/* ---- native replies -------------------------------------------------------------------------- */

static const struct wire_label classes[] = {{7, "Sneaker", 0.1f}, {2, NULL, 1.0f / 3}};
static const struct wire_label bytes[] = {{201, "\xc3", 0.5f}, {103, "a", 0.25f}};
static const struct wire_fill masks[] = {{5, 0, 0, 2, bytes}, {6, -1, -1, 1, bytes + 1}};
static const struct wire_result results[] = {
    {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 2, .labels = classes},
    {.task = "fill-mask",
     .kind = WIRE_FILLS,
     .nfills = 2,
     .fills = masks,
     .text = "a\xff"
             "b",
     .text_len = 3},
    {.task = "fill-mask", .kind = WIRE_FILLS},
    {.task = "classify", .kind = WIRE_CLASSES},
};

static char *native_reply(size_t *len)
{
    struct wire_reply r = {.model = "fashion",
                           .version = "1",
                           .request_id = "req-1",
                           .nresults = 4,
                           .results = results,
                           .tokens = 784,
                           .output_queries = 3,
                           .batch_items = 4,
                           .cached = true,
                           .gmac = {0.25, 1.000000001, 0.000000002}};
    char *body = NULL;

    r.ms.adapt = 0.5;
    r.ms.queue = 1.25;
    r.ms.encode = 2.062;
    r.ms.process = 3;
    r.ms.decode = 4.125;
    r.ms.total = 10.938;
    assert_ok(wire_native_encode(&r, &body, len, &e), e);
    return body;
}

static void check_labels(const struct wire_label *got, int n, const struct wire_label *want,
                         int nwant)
{
    assert_int_equal(n, nwant);
    for (int i = 0; i < n; i++) {
        assert_int_equal(got[i].index, want[i].index);
        if (want[i].label)
            assert_string_equal(got[i].label, want[i].label);
        else
            assert_null(got[i].label);
        assert_true(got[i].score == want[i].score);
    }
}

static void test_native_reply(void **state)
{
    struct wire_reply r = {0};
    size_t len;
    char *body = native_reply(&len);

    (void)state;
    assert_ok(wire_client_reply(arena, body, len, &r, &e), e);
    memset(body, 0, len);
    free(body); /* what was read does not need it */
    assert_string_equal(r.model, "fashion");
    assert_string_equal(r.version, "1");
    assert_string_equal(r.request_id, "req-1");
    assert_int_equal(r.nresults, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(r.results[i].task, results[i].task);
        assert_int_equal(r.results[i].kind, results[i].kind);
        check_labels(r.results[i].labels, r.results[i].nlabels, results[i].labels,
                     results[i].nlabels);
        assert_int_equal(r.results[i].nfills, results[i].nfills);
        for (int k = 0; k < results[i].nfills; k++) {
            const struct wire_fill *got = &r.results[i].fills[k];

            assert_int_equal(got->position, masks[k].position);
            assert_int_equal(got->byte_offset, masks[k].byte_offset);
            assert_int_equal(got->char_offset, masks[k].char_offset);
            check_labels(got->labels, got->nlabels, masks[k].labels, masks[k].nlabels);
        }
    }
    assert_int_equal(r.results[1].text_len, 3);
    assert_memory_equal(r.results[1].text,
                        "a\xff"
                        "b",
                        4);
    assert_null(r.results[2].text);
    assert_int_equal(r.tokens, 784);
    assert_int_equal(r.output_queries, 3);
    assert_int_equal(r.batch_items, 4);
    assert_true(r.cached);
    assert_true(r.gmac.encode == 0.25 && r.gmac.process == 1.000000001 &&
                r.gmac.decode == 0.000000002);
    assert_true(r.ms.adapt == 0.5 && r.ms.queue == 1.25 && r.ms.encode == 2.062 &&
                r.ms.process == 3 && r.ms.decode == 4.125 && r.ms.total == 10.938);
}

static void test_bad_native_replies(void **state)
{
    static const char usage[] = "\"usage\":{\"tokens\":1,\"output_queries\":1,\"gmac\":{"
                                "\"encode\":0,\"process\":0,\"decode\":0},\"batch\":1,\"cached\":"
                                "false},\"timing_ms\":{\"adapt\":0,\"queue\":0,\"encode\":0,"
                                "\"process\":0,\"decode\":0,\"total\":0}";
    static const struct {
        const char *results, *where, *words;
        int code;
    } cases[] = {
        {"[{\"task\":\"a\",\"labels\":[{\"index\":0,\"label\":\"x\"}]}]",
         "$.results[0].labels[0].score", "missing", PCV_EMISSING},
        {"[{\"task\":\"a\",\"labels\":[{\"index\":4294967296}]}]", "$.results[0].labels[0].index",
         "outside", PCV_ERANGE},
        {"[{\"task\":null}]", "$.results[0].task", "", PCV_EFORMAT},
        {"[{\"task\":\"a\",\"masks\":[{\"position\":1,\"candidates\":[{\"index\":1,\"bytes\":[256],"
         "\"score\":1}]}]}]",
         "$.results[0].masks[0].candidates[0].bytes[0]", "outside", PCV_ERANGE},
        {"{}", "$.results", "an array", PCV_EFORMAT},
    };
    struct wire_reply r = {.model = "untouched"};
    char body[1024];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        snprintf(body, sizeof(body), "{\"model\":\"m\",\"version\":\"1\",\"results\":%s,%s}",
                 cases[i].results, usage);
        assert_fails(wire_client_reply(arena, body, strlen(body), &r, &e), e, cases[i].code,
                     cases[i].where, cases[i].words);
    }
    assert_string_equal(r.model, "untouched");
    assert_fails(wire_client_reply(arena, "{}", 2, &r, &e), e, PCV_EMISSING, "$.model", "missing");
    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"new\":[{}],\"version\":\"1\",\"results\":[],%s}", usage);
    assert_ok(wire_client_reply(arena, body, strlen(body), &r, &e), e); /* keys may be added */
    strcat(body, "x");
    assert_int_equal(wire_client_reply(arena, body, strlen(body), &r, &e), PCV_EFORMAT);
}

/* No beginning of a reply is a reply, and none is read beyond its end. */
static void test_truncated(void **state)
{
    size_t len;
    char *body = native_reply(&len);

    (void)state;
    for (size_t n = 0; n < len; n++) {
        struct wire_str json = {"untouched", 9}, binary;
        struct wire_reply r = {0};
        char *part = malloc(n + !n);

        memcpy(part, body, n);
        assert_int_not_equal(wire_client_reply(arena, part, n, &r, &e), 0);
        assert_int_not_equal(
            wire_client_answer(arena, WIRE_NATIVE, part, n, -1, &json, &binary, &e), 0);
        assert_string_equal(json.s, "untouched");
        free(part);
    }
    free(body);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void check_answer(enum wire_form form, const char *body, size_t len, int64_t header,
                         const char *want_json, const char *want_binary, size_t nbinary)
{
    struct wire_str json, binary;

    assert_ok(wire_client_answer(arena, form, body, len, header, &json, &binary, &e), e);
    assert_int_equal(json.len, strlen(want_json));
    assert_memory_equal(json.s, want_json, json.len);
    assert_int_equal(binary.len, nbinary);
    assert_memory_equal(binary.s, want_binary, nbinary);
}

static void test_answer(void **state)
{
    static const float logits[] = {1.5f, -1};
    struct wire_out_tensor o = {.t = {.name = "logits",
                                      .dtype = PCV_F32,
                                      .ndim = 2,
                                      .shape = {1, 2},
                                      .data = logits,
                                      .nbytes = sizeof(logits)},
                                .binary = true};
    struct wire_reply r = {.model = "m", .version = "1", .noutputs = 1, .outputs = &o};
    struct wire_str json, binary;
    int64_t header;
    size_t len;
    char *body;

    (void)state;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    check_answer(WIRE_OIP, body, len, header,
                 "[{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[1,2],"
                 "\"parameters\":{\"binary_data_size\":8}}]",
                 (const char *)logits, 8);
    assert_fails(
        wire_client_answer(arena, WIRE_OIP, body, len, (int64_t)len + 1, &json, &binary, &e), e,
        PCV_ERANGE, "Inference-Header-Content-Length", "the body has");
    assert_fails(
        wire_client_answer(arena, WIRE_NATIVE, body, (size_t)header, -1, &json, &binary, &e), e,
        PCV_EMISSING, "$.results", "missing");
    free(body);
    check_answer(WIRE_NATIVE, " { \"id\" : 1 , \"results\" : [ 1 ] , \"x\":{}} ", 41, -1, "[ 1 ]",
                 "", 0);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_errors(void **state)
{
    struct wire_client_error got = {0};
    char *body = wire_error_json(WIRE_NATIVE, "range", "2 is too large", "$.queries[0]", "id-1");

    (void)state;
    assert_ok(wire_client_error(arena, body, strlen(body), &got, &e), e);
    free(body);
    assert_string_equal(got.code, "range");
    assert_string_equal(got.message, "2 is too large");
    assert_string_equal(got.path, "$.queries[0]");
    body = wire_error_json(WIRE_NATIVE, "not_found", "no model", NULL, NULL);
    assert_ok(wire_client_error(arena, body, strlen(body), &got, &e), e);
    free(body);
    assert_string_equal(got.message, "no model");
    assert_null(got.path);
    body = wire_error_json(WIRE_OIP, "x", "too \"much\"", "inputs[0]", NULL);
    assert_ok(wire_client_error(arena, body, strlen(body), &got, &e), e);
    free(body);
    assert_string_equal(got.message, "inputs[0]: too \"much\"");
    assert_null(got.code);
    assert_fails(wire_client_error(arena, "<html>", 6, &got, &e), e, PCV_EFORMAT, "$", "JSON");
    assert_fails(wire_client_error(arena, "{}", 2, &got, &e), e, PCV_EMISSING, "$.error", "");
    assert_fails(wire_client_error(arena, "{\"error\":{}}", 12, &got, &e), e, PCV_EMISSING,
                 "$.error.message", "");
    assert_fails(wire_client_error(arena, "{\"error\":[1]}", 13, &got, &e), e, PCV_EFORMAT,
                 "$.error", "an object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_native_request),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_bad_text_travels_unchanged),
        cmocka_unit_test(test_oip_request),
        cmocka_unit_test(test_native_reply),
        cmocka_unit_test(test_bad_native_replies),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
