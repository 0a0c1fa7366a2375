#include "tests/unit/proto/wire_test.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct wire_label classes[] = {{7, "Sneaker", 0.1f}, {2, NULL, 1.0f / 3}};
static const struct wire_label bytes[] = {{201, "\xc3", 0.5f}, {103, "a", 0.25f}, {3, "\"\n", 0}};
static const struct wire_fill masks[] = {{5, 4, 3, 2, bytes}, {6, -1, -1, 1, bytes + 2}};

static struct wire_reply reply(const struct wire_result *results, int n)
{
    struct wire_reply r = {.model = "fashion",
                           .version = "1",
                           .request_id = "req-1",
                           .nresults = n,
                           .results = results,
                           .tokens = 784,
                           .output_queries = 3,
                           .batch_items = 4,
                           .cached = true,
                           .gmac = {0.25, 1.000000001, 0.000000002}};

    r.ms.adapt = 0.5;
    r.ms.queue = 1.25;
    r.ms.encode = 2.0625;
    r.ms.process = 3;
    r.ms.decode = 4.125;
    r.ms.total = 10.9375;
    return r;
}

static void test_everything(void **state)
{
    static const struct wire_result results[] = {
        {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 2, .labels = classes},
        {.task = "fill-mask",
         .kind = WIRE_FILLS,
         .nfills = 2,
         .fills = masks,
         .text = "caf\xc3\xa9",
         .text_len = 5},
        {.task = "fill-mask",
         .kind = WIRE_FILLS,
         .text = "a\xff"
                 "b",
         .text_len = 3},
        {.task = "fill-mask", .kind = WIRE_FILLS},
        {.task = "classify", .kind = WIRE_CLASSES},
    };
    static const char want[] =
        "{\"model\":\"fashion\",\"version\":\"1\",\"id\":\"req-1\",\"results\":["
        "{\"task\":\"classify\",\"labels\":["
        "{\"index\":7,\"label\":\"Sneaker\",\"score\":0.1},"
        "{\"index\":2,\"label\":null,\"score\":0.33333334}]},"
        "{\"task\":\"fill-mask\",\"masks\":["
        "{\"position\":5,\"byte_offset\":4,\"char_offset\":3,\"candidates\":["
        "{\"index\":201,\"label\":\"\xef\xbf\xbd\",\"bytes\":[195],\"score\":0.5},"
        "{\"index\":103,\"label\":\"a\",\"score\":0.25}]},"
        "{\"position\":6,\"byte_offset\":null,\"char_offset\":null,\"candidates\":["
        "{\"index\":3,\"label\":\"\\\"\\n\",\"score\":0.0}]}],"
        "\"text\":\"caf\xc3\xa9\"},"
        "{\"task\":\"fill-mask\",\"masks\":[],\"text\":\"a\xef\xbf\xbd"
        "b\",\"bytes\":[97,255,98]},"
        "{\"task\":\"fill-mask\",\"masks\":[],\"text\":null},"
        "{\"task\":\"classify\",\"labels\":[]}],"
        "\"usage\":{\"tokens\":784,\"output_queries\":3,"
        "\"gmac\":{\"encode\":0.25,\"process\":1.000000001,\"decode\":0.000000002,"
        "\"total\":1.250000003},\"batch\":4,\"cached\":true},"
        "\"timing_ms\":{\"adapt\":0.5,\"queue\":1.25,\"encode\":2.062,\"process\":3.0,"
        "\"decode\":4.125,\"total\":10.938}}";
    struct wire_reply r = reply(results, 5);
    struct pcv_err e;
    char *body;
    size_t len;
    json_t *j;

    (void)state;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_string_equal(body, want);
    assert_int_equal(len, strlen(want));
    j = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    json_decref(j);
    free(body);
}

/* What JSON cannot say is an error that names the result, and nothing is returned. */
static void test_not_finite(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct pcv_err e;

    (void)state;
    for (size_t i = 0; i < LEN(bad); i++) {
        struct wire_label l[] = {{0, "a", 1}, {1, "b", bad[i]}};
        struct wire_fill f = {1, 2, 2, 2, l};
        struct wire_result results[] = {
            {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 1, .labels = l},
            {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 2, .labels = l}};
        struct wire_reply r = reply(results, 2);
        char *body = NULL;
        size_t len = 0;

        assert_fails(wire_native_encode(&r, &body, &len, &e), e, PCV_ERANGE, "$.results[1]",
                     "\"classify\" is not finite");
        results[0] =
            (struct wire_result){.task = "fill-mask", .kind = WIRE_FILLS, .nfills = 1, .fills = &f};
        assert_fails(wire_native_encode(&r, &body, &len, &e), e, PCV_ERANGE, "$.results[0]",
                     "\"fill-mask\" is not finite");
        assert_null(body);
    }
}

/* Answers that are no labels. */
static void test_media(void **state)
{
    static const struct wire_motion motions[] = {{3, 4, 0.5f, -1}};
    static const float numbers[] = {1, 2, 3, 4};
    static const struct wire_file files[] = {{2, "image/png", "abc", 3}, {-1, "audio/wav", "", 0}};
    const struct wire_result results[] = {
        {.task = "flow", .kind = WIRE_MOTIONS, .nmotions = 1, .motions = motions},
        {.task = "flow", .kind = WIRE_TENSOR, .ndim = 2, .shape = {1, 2}, .numbers = numbers},
        {.task = "image", .kind = WIRE_FILES, .nfiles = 2, .files = files},
        {.task = "embed", .kind = WIRE_VECTORS, .ndim = 1, .shape = {2}, .numbers = numbers},
        {.task = "embed", .kind = WIRE_VECTORS, .ndim = 2, .shape = {2, 2}, .numbers = numbers},
    };
    static const char want[] =
        "\"results\":[{\"task\":\"flow\",\"points\":[{\"x\":3,\"y\":4,\"u\":0.5,\"v\":-1.0}]},"
        "{\"task\":\"flow\",\"shape\":[1,2],\"b64\":\"AACAPwAAAEA=\"},"
        "{\"task\":\"image\",\"files\":[{\"index\":2,\"type\":\"image/png\",\"b64\":\"YWJj\"},"
        "{\"index\":null,\"type\":\"audio/wav\",\"b64\":\"\"}]},"
        "{\"task\":\"embed\",\"embedding\":[1.0,2.0]},"
        "{\"task\":\"embed\",\"embedding\":[[1.0,2.0],[3.0,4.0]]}],";
    const struct wire_reply r = reply(results, LEN(results));
    struct pcv_err e;
    char *body;
    size_t len;

    (void)state;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    if (!strstr(body, want))
        fail_msg("got %s", body);
    free(body);
}

/* Results of a batch are lists in order; an input without answers has an empty one. */
static void test_batch(void **state)
{
    static const struct wire_label numbers[] = {{0, "valence", 0.625f}, {1, NULL, -0.5f}};
    const struct wire_result results[] = {
        {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 1, .labels = classes},
        {.task = "affect", .kind = WIRE_VALUES, .nlabels = 2, .labels = numbers},
        {.task = "affect", .kind = WIRE_VALUES}};
    static const int counts[] = {1, 0, 2};
    static const char *const handles[] = {"aa", NULL, "cc"};
    static const char want[] =
        "\"id\":\"req-1\",\"latents\":[\"aa\",null,\"cc\"],\"expires_s\":600.0,\"results\":[["
        "{\"task\":\"classify\",\"labels\":[{\"index\":7,\"label\":\"Sneaker\",\"score\":0.1}]}"
        "],[],[{\"task\":\"affect\",\"values\":[{\"name\":\"valence\",\"value\":0.625},"
        "{\"name\":null,\"value\":-0.5}]},{\"task\":\"affect\",\"values\":[]}]],";
    struct wire_reply r = reply(results, 3);
    struct pcv_err e;
    char *body;
    size_t len;

    (void)state;
    r.batch = true;
    r.nitems = 3;
    r.counts = counts;
    r.latents = handles;
    r.expires_s = 600;
    r.cached_items = 2;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    if (!strstr(body, want))
        fail_msg("got %s", body);
    assert_non_null(strstr(body, "\"cached\":true,\"cached_items\":2}"));
    free(body);
    r.latents = NULL; /* none asked for */
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_null(strstr(body, "latents"));
    assert_null(strstr(body, "expires_s"));
    free(body);
}

static void test_handle(void **state)
{
    static const char *const handle = "aa", *const none = NULL;
    struct wire_reply r = reply(NULL, 0);
    struct pcv_err e;
    char *body;
    size_t len;

    (void)state;
    r.latents = &handle;
    r.expires_s = 0.25;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_non_null(strstr(body, "\"latents\":\"aa\",\"expires_s\":0.25,\"results\":[],"));
    assert_null(strstr(body, "cached_items"));
    free(body);
    r.latents = &none; /* asked for, but there was no room */
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_non_null(strstr(body, "\"latents\":null,\"expires_s\":null,"));
    free(body);
}

static void test_batch_not_finite(void **state)
{
    const struct wire_label l[] = {{0, "a", 1}, {1, "b", NAN}};
    const struct wire_result results[] = {
        {.task = "a", .kind = WIRE_VALUES, .nlabels = 1, .labels = l},
        {.task = "b", .kind = WIRE_VALUES, .nlabels = 1, .labels = l},
        {.task = "c", .kind = WIRE_VALUES, .nlabels = 2, .labels = l}};
    static const int counts[] = {1, 2};
    struct wire_reply r = reply(results, 3);
    struct pcv_err e;
    char *body = NULL;
    size_t len = 0;

    (void)state;
    r.batch = true;
    r.nitems = 2;
    r.counts = counts;
    assert_fails(wire_native_encode(&r, &body, &len, &e), e, PCV_ERANGE, "$.results[1][1]",
                 "\"c\" is not finite");
    assert_fails(wire_result_line_encode(&results[2], 0, &body, &len, &e), e, PCV_ERANGE,
                 "$.result", "\"c\" is not finite");
    assert_null(body);
}

static void assert_line(int code, char *line, size_t len, const char *want)
{
    assert_int_equal(code, 0);
    assert_string_equal(line, want);
    assert_int_equal(len, strlen(want));
    free(line);
}

static void test_lines(void **state)
{
    static const float numbers[] = {1, 2, 3, NAN};
    static const char *const handle = "aa";
    struct wire_chunk c = {
        .input = 3, .task = "fill-mask", .first = 10, .n = 2, .width = 2, .numbers = numbers};
    const struct wire_result result = {.task = "affect", .kind = WIRE_VALUES};
    struct wire_reply r = reply(NULL, 0);
    struct pcv_err e;
    char *line = NULL;
    size_t len = 0;
    int code;

    (void)state;
    code = wire_chunk_encode(&c, &line, &len, &e); /* what is not finite can be said in bytes */
    assert_line(code, line, len,
                "{\"input\":3,\"task\":\"fill-mask\",\"rows\":[10,2],\"shape\":[2,2],"
                "\"b64\":\"AACAPwAAAEAAAEBAAADAfw==\"}\n");
    c = (struct wire_chunk){.input = -1, .task = "t", .width = 5, .numbers = numbers};
    code = wire_chunk_encode(&c, &line, &len, &e);
    assert_line(code, line, len, "{\"task\":\"t\",\"rows\":[0,0],\"shape\":[0,5],\"b64\":\"\"}\n");
    code = wire_result_line_encode(&result, 0, &line, &len, &e);
    assert_line(code, line, len, "{\"input\":0,\"result\":{\"task\":\"affect\",\"values\":[]}}\n");
    code = wire_result_line_encode(&result, -1, &line, &len, &e);
    assert_line(code, line, len, "{\"result\":{\"task\":\"affect\",\"values\":[]}}\n");
    r.latents = &handle;
    r.expires_s = 5;
    code = wire_done_encode(&r, &line, &len, &e);
    assert_line(code, line, len,
                "{\"done\":true,\"model\":\"fashion\",\"version\":\"1\",\"id\":\"req-1\","
                "\"latents\":\"aa\",\"expires_s\":5.0,\"usage\":{\"tokens\":784,"
                "\"output_queries\":3,\"gmac\":{\"encode\":0.25,\"process\":1.000000001,"
                "\"decode\":0.000000002,\"total\":1.250000003},\"batch\":4,\"cached\":true},"
                "\"timing_ms\":{\"adapt\":0.5,\"queue\":1.25,\"encode\":2.062,\"process\":3.0,"
                "\"decode\":4.125,\"total\":10.938}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything), cmocka_unit_test(test_media),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_batch),
        cmocka_unit_test(test_handle),     cmocka_unit_test(test_batch_not_finite),
        cmocka_unit_test(test_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
