/* Batches, kept latents and streams: what one side writes, the other reads. */
#include "proto/wire_client.h"
#include "tests/unit/proto/wire_test.h"

#include <math.h>
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

static void test_request(void **state)
{
    static const int32_t rows[] = {3, 0}, frames[] = {1};
    static const int32_t points[][2] = {{1, 2}, {3, 4}};
    static const char *const classes[] = {"Bag", "\"\n"};
    struct wire_media media[] = {
        {.item = 0, .input = "image", .data = "a", .len = 1, .type = "image/png"},
        {.item = 0, .input = "audio", .data = "b", .len = 1},
        {.item = 0, .input = "image", .data = "c", .len = 1},
        {.item = 1, .data = "hi", .len = 2, .type = "text/plain"},
        {.item = 4, .input = "text", .data = "ho", .len = 2, .type = "text/plain"},
    };
    struct wire_query queries[] = {
        {.task = "fill-mask", .input = 2, .nrows = 2, .rows = rows},
        {.task = "attention", .input = -1, .nrows = 2, .rows = rows},
        {.task = "classify", .input = 0, .top_k = 9, .nclasses = 2, .classes = classes},
        {.task = "image",
         .input = -1,
         .has_region = true,
         .region = {4, 0, 8, 1},
         .nframes = 1,
         .frames = frames},
        {.task = "flow", .input = -1, .npoints = 2, .points = points},
        {.task = "embed", .input = -1, .pooled = true, .pool = WIRE_POOL_NONE},
    };
    struct wire_request r = {.form = WIRE_NATIVE,
                             .nmedia = LEN(media),
                             .media = media,
                             .nqueries = LEN(queries),
                             .queries = queries,
                             .batch = true,
                             .keep_ms = 1500,
                             .no_cache = true,
                             .no_share = true,
                             .stream = true};
    static const char want[] =
        "{\"inputs\":[{\"image\":[{\"type\":\"image/png\",\"b64\":\"YQ==\"},{\"b64\":\"Yw==\"}],"
        "\"audio\":{\"b64\":\"Yg==\"}},\"hi\",{\"text\":\"ho\"}],\"queries\":[{\"task\":\"fill-"
        "mask\","
        "\"input\":2,\"positions\":[3,0]},{\"task\":\"attention\",\"latents\":[3,0]},{\"task\":"
        "\"classify\",\"input\":0,\"classes\":[\"Bag\",\"\\\"\\n\"]},{\"task\":\"image\","
        "\"region\":"
        "[4,0,8,1],\"frames\":[1]},{\"task\":\"flow\",\"points\":[[1,2],[3,4]]},{\"task\":"
        "\"embed\","
        "\"pool\":\"none\"}],\"keep\":1.5,\"cache\":false,\"share\":false,\"stream\":true}";
    struct wire_request *back = NULL;
    size_t len = 0;
    char *body = wire_client_native(&r, &len);

    (void)state;
    assert_string_equal(body, want);
    assert_ok(wire_native_decode(&back, body, len, &e), e);
    assert_true(back->batch && back->no_cache && back->no_share && back->stream);
    assert_int_equal(back->nitems, 3);
    assert_int_equal(back->nmedia, LEN(media));
    assert_int_equal(back->media[4].item, 2);
    assert_int_equal(back->keep_ms, 1500);
    assert_int_equal(back->nqueries, LEN(queries));
    for (size_t i = 0; i < LEN(queries); i++) {
        assert_int_equal(back->queries[i].input, queries[i].input);
        assert_int_equal(back->queries[i].nrows, queries[i].nrows);
        assert_int_equal(back->queries[i].has_region, queries[i].has_region);
        assert_memory_equal(back->queries[i].region, queries[i].region, 16);
        assert_int_equal(back->queries[i].nclasses, queries[i].nclasses);
        assert_int_equal(back->queries[i].npoints, queries[i].npoints);
        assert_int_equal(back->queries[i].pool, queries[i].pool);
    }
    assert_string_equal(back->queries[2].classes[1], "\"\n");
    wire_request_free(back);
    free(body);
}

/* A batch of one is a list; without media it is a question to kept latents. */
static void test_small_requests(void **state)
{
    struct wire_media m = {.data = "hi", .len = 2, .type = "text/plain"};
    struct wire_query q = {.task = "classify", .top_k = 3};
    struct wire_request r = {.nmedia = 1, .media = &m, .batch = true, .format = WIRE_RAW};
    struct wire_request *back = NULL;
    size_t len = 0;
    char *body = wire_client_native(&r, &len);

    (void)state;
    assert_string_equal(body, "{\"inputs\":[\"hi\"],\"format\":\"raw\"}");
    free(body);
    r = (struct wire_request){.nqueries = 1, .queries = &q, .priority = 1};
    body = wire_client_native(&r, &len);
    assert_string_equal(body, "{\"queries\":[{\"task\":\"classify\",\"top_k\":3}],\"priority\":1}");
    assert_ok(wire_native_decode_query(&back, body, len, &e), e);
    assert_int_equal(back->queries[0].top_k, 3);
    wire_request_free(back);
    free(body);
}

static void test_oip_request(void **state)
{
    static const float v = 1;
    struct pcv_tensor t = {
        .name = "a", .dtype = PCV_F32, .ndim = 1, .shape = {1}, .data = &v, .nbytes = 4};
    struct wire_request r = {
        .form = WIRE_OIP, .ntensors = 1, .tensors = &t, .no_cache = true, .no_share = true};
    struct wire_request *back = NULL;
    int64_t header = 0;
    size_t len = 0;
    char *body = wire_client_oip(&r, &len, &header);

    (void)state;
    assert_ok(wire_oip_decode(&back, body, len, header, &e), e);
    assert_true(back->no_cache && back->no_share);
    assert_int_equal(back->nitems, 0);
    wire_request_free(back);
    free(body);
}

/* ---- replies --------------------------------------------------------------------------------- */

static const struct wire_label labels[] = {{7, "Sneaker", 0.1f}, {2, NULL, 1.0f / 3}};
static const struct wire_label values[] = {{0, "valence", 0.625f}, {1, NULL, -0.5f}};
static const struct wire_motion motions[] = {{3, 4, 0.5f, -1}};
static const float numbers[] = {1, 2, 3, 4};
static const struct wire_file files[] = {{2, "image/png", "abc", 3}, {-1, "audio/wav", "", 0}};
static const struct wire_result results[] = {
    {.task = "classify", .kind = WIRE_CLASSES, .nlabels = 2, .labels = labels},
    {.task = "affect", .kind = WIRE_VALUES, .nlabels = 2, .labels = values},
    {.task = "flow", .kind = WIRE_MOTIONS, .nmotions = 1, .motions = motions},
    {.task = "map", .kind = WIRE_TENSOR, .ndim = 2, .shape = {1, 4}, .numbers = numbers},
    {.task = "map", .kind = WIRE_TENSOR, .ndim = 2, .shape = {0, 4}, .numbers = numbers},
    {.task = "image", .kind = WIRE_FILES, .nfiles = 2, .files = files},
    {.task = "embed", .kind = WIRE_VECTORS, .ndim = 1, .shape = {4}, .numbers = numbers},
    {.task = "embed", .kind = WIRE_VECTORS, .ndim = 2, .shape = {2, 2}, .numbers = numbers},
    {.task = "none", .kind = WIRE_VALUES},
};
static const int counts[] = {2, 0, 7};
static const char *const handles[] = {"aa", NULL, "cc"};

static void check_result(const struct wire_result *got, const struct wire_result *want)
{
    size_t n = 1;

    assert_string_equal(got->task, want->task);
    assert_int_equal(got->kind, want->kind);
    assert_int_equal(got->nlabels, want->nlabels);
    for (int i = 0; i < want->nlabels; i++) {
        assert_int_equal(got->labels[i].index, want->labels[i].index);
        assert_true(got->labels[i].score == want->labels[i].score);
        if (want->labels[i].label)
            assert_string_equal(got->labels[i].label, want->labels[i].label);
        else
            assert_null(got->labels[i].label);
    }
    assert_int_equal(got->nmotions, want->nmotions);
    if (want->nmotions)
        assert_memory_equal(got->motions, want->motions, sizeof(motions));
    assert_int_equal(got->ndim, want->ndim);
    for (int i = 0; i < want->ndim; i++) {
        assert_int_equal(got->shape[i], want->shape[i]);
        n *= (size_t)want->shape[i];
    }
    if (want->ndim)
        assert_memory_equal(got->numbers, want->numbers, n * sizeof(float));
    assert_int_equal(got->nfiles, want->nfiles);
    for (int i = 0; i < want->nfiles; i++) {
        assert_int_equal(got->files[i].index, want->files[i].index);
        assert_string_equal(got->files[i].type, want->files[i].type);
        assert_int_equal(got->files[i].len, want->files[i].len);
        assert_memory_equal(got->files[i].data, want->files[i].data, want->files[i].len);
    }
}

static void test_reply(void **state)
{
    struct wire_reply r = {.model = "m",
                           .version = "1",
                           .nresults = LEN(results),
                           .results = results,
                           .batch = true,
                           .nitems = 3,
                           .counts = counts,
                           .latents = handles,
                           .expires_s = 600,
                           .cached_items = 2};
    struct wire_reply got = {0};
    char *body = NULL;
    size_t len;

    (void)state;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_ok(wire_client_reply(arena, body, len, &got, &e), e);
    free(body);
    assert_true(got.batch);
    assert_int_equal(got.nitems, 3);
    assert_memory_equal(got.counts, counts, sizeof(counts));
    assert_int_equal(got.nresults, LEN(results));
    for (size_t i = 0; i < LEN(results); i++)
        check_result(&got.results[i], &results[i]);
    assert_string_equal(got.latents[0], "aa");
    assert_null(got.latents[1]);
    assert_string_equal(got.latents[2], "cc");
    assert_true(got.expires_s == 600);
    assert_int_equal(got.cached_items, 2);
    r = (struct wire_reply){.model = "m", .version = "1", .latents = handles, .expires_s = 1.5};
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_ok(wire_client_reply(arena, body, len, &got, &e), e);
    free(body);
    assert_false(got.batch);
    assert_int_equal(got.nitems, 1);
    assert_null(got.counts);
    assert_string_equal(got.latents[0], "aa");
    assert_true(got.expires_s == 1.5);
    r.latents = NULL;
    assert_ok(wire_native_encode(&r, &body, &len, &e), e);
    assert_ok(wire_client_reply(arena, body, len, &got, &e), e);
    free(body);
    assert_null(got.latents);
}

#define REST                                                                                       \
    "\"model\":\"m\",\"version\":\"1\",\"usage\":{\"tokens\":1,\"output_queries\":1,\"gmac\":{"    \
    "\"encode\":0,\"process\":0,\"decode\":0},\"batch\":1,\"cached\":false},\"timing_ms\":{"       \
    "\"adapt\":0,\"queue\":0,\"encode\":0,\"process\":0,\"decode\":0,\"total\":0}"

static void test_bad_replies(void **state)
{
    static const struct {
        const char *members, *where, *words;
        int code;
    } cases[] = {
        {"\"results\":[[],{}]", "$.results[1]", "an array of results", PCV_EFORMAT},
        {"\"results\":[{\"task\":\"a\"},[]]", "$.results[1]", "an object", PCV_EFORMAT},
        {"\"results\":[[{\"labels\":[]}]]", "$.results[0][0].task", "missing", PCV_EMISSING},
        {"\"results\":[[],[]],\"latents\":[\"a\"]", "$.latents", "1 handles for 2", PCV_ESHAPE},
        {"\"latents\":\"a\",\"results\":[[],[]]", "$.latents", "1 handles for 2", PCV_ESHAPE},
        {"\"results\":[],\"latents\":5", "$.latents", "a string", PCV_EFORMAT},
        {"\"results\":[[]],\"latents\":[{}]", "$.latents[0]", "a string", PCV_EFORMAT},
        {"\"results\":[],\"expires_s\":\"x\"", "$.expires_s", "a number", PCV_EFORMAT},
        {"\"results\":[{\"task\":\"a\",\"shape\":[2],\"b64\":\"AAAAAA==\"}]", "$.results[0].b64",
         "4 bytes do not fill", PCV_ESHAPE},
        {"\"results\":[{\"task\":\"a\",\"shape\":[-1],\"b64\":\"\"}]", "$.results[0].b64",
         "0 bytes do not fill", PCV_ESHAPE},
        {"\"results\":[{\"task\":\"a\",\"files\":[{\"type\":\"x\",\"b64\":\"A\"}]}]",
         "$.results[0].files[0].b64", "multiple of 4", PCV_EFORMAT},
        {"\"results\":[{\"task\":\"a\",\"embedding\":[[1],[2,3]]}]", "$.results[0].embedding[1][1]",
         "a row of 2", PCV_ESHAPE},
        {"\"results\":[{\"task\":\"a\",\"embedding\":[1,\"x\"]}]", "$.results[0].embedding[1]",
         "a number", PCV_EFORMAT},
        {"\"results\":[{\"task\":\"a\",\"values\":[{\"name\":\"x\"}]}]",
         "$.results[0].values[0].value", "missing", PCV_EMISSING},
    };
    struct wire_reply r = {.model = "untouched"};
    char body[1024];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        snprintf(body, sizeof(body), "{%s," REST "}", cases[i].members);
        assert_fails(wire_client_reply(arena, body, strlen(body), &r, &e), e, cases[i].code,
                     cases[i].where, cases[i].words);
    }
    assert_string_equal(r.model, "untouched");
}

/* A newer server's kind of answer: its shape is not taken for numbers that are not there. */
static void test_unknown_kind(void **state)
{
    static const char body[] =
        "{\"results\":[{\"task\":\"a\",\"shape\":[9],\"f16\":\"AAA=\"}]," REST "}";
    struct wire_reply r;

    (void)state;
    assert_ok(wire_client_reply(arena, body, sizeof(body) - 1, &r, &e), e);
    assert_int_equal(r.results[0].ndim, 0);
    assert_null(r.results[0].numbers);
}

/* ---- streams --------------------------------------------------------------------------------- */

static struct wire_client_line read_line(char *line, size_t len)
{
    struct wire_client_line got;

    assert_ok(wire_client_line(arena, line, len, &got, &e), e);
    free(line);
    return got;
}

static void test_lines(void **state)
{
    static const float rows[] = {1, NAN, 3, 4, 5, 6};
    const struct wire_chunk c = {
        .input = -1, .task = "t", .first = 10, .n = 3, .width = 2, .numbers = rows};
    const struct wire_reply reply = {
        .model = "m", .version = "1", .batch = true, .nitems = 3, .latents = handles, .tokens = 9};
    struct wire_client_line got;
    char *line;
    size_t len;

    (void)state;
    assert_ok(wire_chunk_encode(&c, &line, &len, &e), e);
    got = read_line(line, len);
    assert_int_equal(got.kind, WIRE_LINE_CHUNK);
    assert_int_equal(got.input, -1);
    assert_int_equal(got.chunk.input, -1);
    assert_string_equal(got.chunk.task, "t");
    assert_int_equal(got.chunk.first, 10);
    assert_int_equal(got.chunk.n, 3);
    assert_int_equal(got.chunk.width, 2);
    assert_memory_equal(got.chunk.numbers, rows, sizeof(rows));
    assert_ok(wire_result_line_encode(&results[1], 5, &line, &len, &e), e);
    got = read_line(line, len);
    assert_int_equal(got.kind, WIRE_LINE_RESULT);
    assert_int_equal(got.input, 5);
    check_result(&got.result, &results[1]);
    assert_ok(wire_done_encode(&reply, &line, &len, &e), e);
    got = read_line(line, len);
    assert_int_equal(got.kind, WIRE_LINE_DONE);
    assert_int_equal(got.reply.tokens, 9);
    assert_int_equal(got.reply.nitems, 3);
    assert_string_equal(got.reply.latents[2], "cc");
    line = wire_error_json(WIRE_NATIVE, "timeout", "too late", NULL, "id");
    got = read_line(line, strlen(line));
    assert_int_equal(got.kind, WIRE_LINE_ERROR);
    assert_string_equal(got.error.code, "timeout");
    assert_string_equal(got.error.message, "too late");
}

static void test_bad_lines(void **state)
{
    static const struct {
        const char *line, *where, *words;
        int code;
    } cases[] = {
        {"", "$", "an object", PCV_EFORMAT},
        {"{}", "$", "no b64, result, done or error", PCV_EFORMAT},
        {"{\"done\":true} {}", "$", "the end", PCV_EFORMAT},
        {"{\"done\":true}", "$.model", "missing", PCV_EMISSING},
        {"{\"result\":{}}", "$.result.task", "missing", PCV_EMISSING},
        {"{\"result\":{\"task\":\"a\"},\"input\":-1}", "$.input", "outside", PCV_ERANGE},
        {"{\"b64\":\"\"}", "$.task", "missing", PCV_EMISSING},
        {"{\"task\":\"a\",\"rows\":[0,1],\"shape\":[1,1],\"b64\":\"\"}", "$.rows", "do not agree",
         PCV_ESHAPE},
        {"{\"task\":\"a\",\"rows\":[0,2],\"shape\":[1,1],\"b64\":\"AAAAAA==\"}", "$.rows",
         "do not agree", PCV_ESHAPE},
        {"{\"task\":\"a\",\"rows\":[-1,1],\"shape\":[1,1],\"b64\":\"AAAAAA==\"}", "$.rows",
         "do not agree", PCV_ESHAPE},
        {"{\"task\":\"a\",\"rows\":[0],\"shape\":[1,1],\"b64\":\"AAAAAA==\"}", "$.rows",
         "do not agree", PCV_ESHAPE},
        {"{\"error\":{}}", "$.error.message", "missing", PCV_EMISSING},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_client_line got = {.input = 77};

        assert_fails(wire_client_line(arena, cases[i].line, strlen(cases[i].line), &got, &e), e,
                     cases[i].code, cases[i].where, cases[i].words);
        assert_int_equal(got.input, 77);
    }
}

/* ---- kept latents ---------------------------------------------------------------------------- */

static void test_latents(void **state)
{
    static const char *const tasks[] = {"classify", "embed"};
    const struct wire_latents_desc d = {.handle = "8Jx2",
                                        .model = "m",
                                        .version = "1",
                                        .input = "image",
                                        .num_latents = 32,
                                        .d_latents = 128,
                                        .age_s = 1.25,
                                        .expires_s = 2.5,
                                        .bytes = 5000000000,
                                        .has_input = true,
                                        .ntasks = 2,
                                        .tasks = tasks};
    struct wire_latents_desc got = {0};
    char *body = wire_latents_json(&d);

    (void)state;
    assert_ok(wire_client_latents(arena, body, strlen(body), &got, &e), e);
    assert_string_equal(got.handle, "8Jx2");
    assert_string_equal(got.model, "m");
    assert_string_equal(got.input, "image");
    assert_int_equal(got.num_latents, 32);
    assert_int_equal(got.d_latents, 128);
    assert_true(got.age_s == 1.25 && got.expires_s == 2.5 && got.has_input);
    assert_int_equal(got.bytes, 5000000000);
    assert_int_equal(got.ntasks, 2);
    assert_string_equal(got.tasks[1], "embed");
    free(body);
    assert_fails(wire_client_latents(arena, "{}", 2, &got, &e), e, PCV_EMISSING, "$.latents",
                 "missing");
    body = wire_latents_json(&d);
    memcpy(strstr(body, "[32,128]"), "[32]    ", 8);
    assert_fails(wire_client_latents(arena, body, strlen(body), &got, &e), e, PCV_ESHAPE, "$.shape",
                 "latents and their width");
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),     cmocka_unit_test(test_small_requests),
        cmocka_unit_test(test_oip_request), cmocka_unit_test(test_reply),
        cmocka_unit_test(test_bad_replies), cmocka_unit_test(test_unknown_kind),
        cmocka_unit_test(test_lines),       cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_latents),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
