/* What requests of the native form become: answers item by item, their output queries, what is
 * refused and where; and that what is computed for them is what the reply says. */
#include "server/results.h"
#include "server/store.h"

#include "proto/wire_base64.h"
#include "tests/unit/native.h"

static struct pcv_err e;
static struct pcv_model *model;
static struct pcv_pool *pool;
static struct pcv_ws *ws;
static char picture[1024]; /* a PNG, as base64 */
static atomic_bool cancelled;
static struct srv_job_budget budget = {.limit = 64 << 20};

static int setup(void **state)
{
    uint8_t rgb[6 * 8 * 3];
    void *png;
    size_t len;
    assert_int_equal(tiny_setup(state), 0);
    CHECK_OK(pcv_model_open(&model, native_model(native_separate), NULL, &e), e);
    CHECK_OK(pcv_pool_new(&pool, 1, &e), e);
    CHECK_OK(pcv_ws_new(&ws, pool, &e), e);
    CHECK_OK(pcv_ws_reserve(ws, model, 8, 0, &e), e);
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i / 3 * 5);
    CHECK_OK(pcv_png_encode(rgb, 8, 6, &png, &len, &e), e);
    assert_true(wire_base64_length(len) < sizeof picture);
    wire_base64_encode(png, len, picture);
    picture[wire_base64_length(len)] = 0;
    free(png);
    return 0;
}

static int teardown(void **state)
{
    pcv_ws_free(ws);
    pcv_pool_free(pool);
    pcv_model_close(model);
    return native_teardown(state);
}

/* A request from JSON with ' for " and # for the picture. The text must outlive it. */
static struct wire_request *request(const char *text, char *json, bool question)
{
    struct wire_request *r;
    char *to = json;
    for (; *text; text++)
        if (*text == '#')
            to += sprintf(to, "{\"image\": {\"b64\": \"%s\"}}", picture);
        else
            *to++ = *text == '\'' ? '"' : *text;
    *to = 0;
    if (question)
        CHECK_OK(wire_native_decode_query(&r, json, strlen(json), &e), e);
    else
        CHECK_OK(wire_native_decode(&r, json, strlen(json), &e), e);
    return r;
}

struct asked {
    char json[8192];
    struct wire_request *r;
    struct srv_job *j;
    int code;
};

static void ask(struct asked *a, const char *text, struct pcv_latents *kept)
{
    const struct srv_adapt_parts parts = {.model = model,
                                          .max_items = 8,
                                          .stream_rows = 16,
                                          .keyed = true,
                                          .store = 1 << 20,
                                          .kept = kept,
                                          .cancelled = &cancelled,
                                          .budget = &budget};
    bool busy = false;
    a->r = request(text, a->json, kept != NULL);
    a->j = NULL;
    a->code = srv_adapt(&a->j, &parts, a->r, &busy, &e);
    assert_false(busy);
}

static void done(struct asked *a)
{
    srv_job_free(a->j);
    wire_request_free(a->r);
    assert_int_equal(atomic_load(&budget.used), 0);
}

/* The answers of a request as "item:name/rows", in order. */
static void expect(const char *text, const char *want)
{
    struct asked a;
    char got[512] = "";
    ask(&a, text, NULL);
    CHECK_OK(a.code, e);
    for (int i = 0; i < a.j->nanswers; i++) {
        const struct srv_answer *answer = &a.j->answers[i];
        size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%s%d:%s/%d", i ? " " : "", answer->item, answer->name,
                 (int)answer->rows);
    }
    assert_string_equal(got, want);
    done(&a);
}

static void refused(const char *text, int code, const char *where, const char *msg)
{
    struct asked a;
    ask(&a, text, NULL);
    CHECK_FAILS(a.code, e, code, where, msg);
    done(&a);
}

#define ALL "'queries': ["

static void test_without_queries_all_that_answers(void **state)
{
    (void)state;
    expect("{'inputs': #}", "0:what/1 0:again/48 0:rows/3");
    expect("{'inputs': {'text': 'a[MASK]b[MASK]'}}", "0:fill/2 0:rows/3");
    expect("{'inputs': {'text': 'ab'}}", "0:rows/3");
    expect("{'inputs': [{'text': '[MASK]'}, #]}", "0:fill/1 0:rows/3 1:what/1 1:again/48 1:rows/3");
}

static void test_queries_ask_whoever_has_an_answer(void **state)
{
    (void)state;
    expect("{'inputs': [{'text': 'ab'}, #, #], " ALL "{'task': 'what'}, {'task': 'mean'}]}",
           "0:mean/0 1:what/1 1:mean/0 2:what/1 2:mean/0");
    expect("{'inputs': [{'text': 'ab'}, #, #], " ALL "{'task': 'embed', 'input': 2},"
           " {'task': 'what', 'input': 1}, {'task': 'point'}]}",
           "0:point/1 1:what/1 1:point/1 2:embed/0 2:point/1");
    expect("{'inputs': [#, {'text': 'ab'}], " ALL "{'task': 'attention', 'latents': [4, 0]}]}",
           "0:attention/2 1:attention/2");
    expect("{'inputs': #, " ALL "{'task': 'attention'}]}", "0:attention/5"); /* it has five */
}

static void test_rows_are_those_that_are_named(void **state)
{
    (void)state;
    struct asked a;
    expect("{'inputs': #, " ALL "{'task': 'again', 'positions': [47, 0, 3]}]}", "0:again/3");
    expect("{'inputs': {'text': 'abc'}, " ALL "{'task': 'fill', 'positions': [1]}]}", "0:fill/1");
    expect("{'inputs': #, " ALL "{'task': 'rows', 'positions': [2]}]}", "0:rows/1");
    ask(&a, "{'inputs': #, " ALL "{'task': 'again', 'region': [6, 1, 2, 3]}]}", NULL);
    CHECK_OK(a.code, e);
    static const int32_t want[] = {14, 15, 22, 23, 30, 31};
    assert_int_equal(a.j->answers[0].rows, LEN(want));
    assert_memory_equal(a.j->answers[0].which, want, sizeof want);
    assert_int_equal(a.j->output_queries, LEN(want));
    done(&a);
}

/* Two queries that ask the same compute it once. */
static void test_one_computation_answers_both(void **state)
{
    (void)state;
    struct asked a;
    ask(&a,
        "{'inputs': [#, #], " ALL "{'task': 'what', 'top_k': 1}, {'task': 'again'},"
        " {'task': 'what', 'classes': ['c', 'a']}]}",
        NULL);
    CHECK_OK(a.code, e);
    assert_int_equal(a.j->nanswers, 6);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a.j->items[i].nqueries, 2);
        assert_int_equal(a.j->answers[3 * i + 2].from, 3 * i);
        assert_null(a.j->answers[3 * i + 2].numbers);
    }
    assert_int_equal(a.j->output_queries, 2 * (1 + 48));
    assert_int_equal(a.j->answers[2].classes[0], 2);
    assert_true(a.j->of[0].keyed && srv_digest_same(&a.j->of[0].key, &a.j->of[1].key));
    done(&a);
}

static void test_what_does_not_suit_is_refused_in_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *queries;
        int code;
        const char *where, *msg;
    } cases[] = {
        {"{'task': 'fill'}", PCV_EFORMAT, "$.queries[0].task", "fill answers text, not image"},
        {"{'task': 'what'}, {'task': 'ask'}", PCV_EUNKNOWN, "$.queries[1].task", "/v2/models"},
        {"{'task': 'nothing'}", PCV_EUNKNOWN, "$.queries[0].task", "nothing"},
        {"{'task': 'what', 'classes': ['a', 'z']}", PCV_EUNKNOWN, "$.queries[0].classes[1]", "z"},
        {"{'task': 'what', 'positions': [0]}", PCV_EFORMAT, "$.queries[0].positions", "what"},
        {"{'task': 'mean', 'positions': [0]}", PCV_EFORMAT, "$.queries[0].positions", "mean"},
        {"{'task': 'point', 'pool': 'none'}", PCV_EFORMAT, "$.queries[0].pool", "point"},
        {"{'task': 'again', 'classes': ['a']}", PCV_EFORMAT, "$.queries[0].classes", "again"},
        {"{'task': 'again', 'positions': [48]}", PCV_ERANGE, "$.queries[0].positions[0]", "0..47"},
        {"{'task': 'again', 'region': [7, 0, 2, 1]}", PCV_ERANGE, "$.queries[0].region", "8 x 6"},
        {"{'task': 'again', 'region': [0, 6, 1, 1]}", PCV_ERANGE, "$.queries[0].region", "8 x 6"},
        {"{'task': 'again', 'frames': [1]}", PCV_ERANGE, "$.queries[0].frames[0]", "0..0"},
        {"{'task': 'rows', 'region': [0, 0, 1, 1]}", PCV_EFORMAT, "$.queries[0].region", "rows"},
        {"{'task': 'what', 'points': [[0, 0]]}", PCV_EFORMAT, "$.queries[0].points", "what"},
        {"{'task': 'attention', 'latents': [5]}", PCV_ERANGE, "$.queries[0].latents[0]", "0..4"},
        {"{'task': 'attention'}, {'task': 'attention', 'latents': [1]}", PCV_EFORMAT,
         "$.queries[1]", "once"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char text[400];
        snprintf(text, sizeof text, "{'inputs': #, 'queries': [%s]}", cases[i].queries);
        refused(text, cases[i].code, cases[i].where, cases[i].msg);
    }
    refused("{'inputs': [#, {'text': 'a'}], " ALL "{'task': 'what', 'input': 1}]}", PCV_EFORMAT,
            "$.queries[0].task", "what answers image, sound, not text");
    refused("{'inputs': [#, {'text': 'a'}], " ALL "{'task': 'fill'}]}", PCV_EMISSING, "$.inputs[1]",
            "[MASK]");
    refused("{'inputs': [#, {'text': 'a'}, {'image': {'b64': 'AAAA'}}]}", PCV_EUNSUPPORTED,
            "$.inputs[2].image", "");
    refused("{'inputs': [#,#,#,#,#,#,#,#,#]}", PCV_ELIMIT, "$.inputs", "9 inputs");
}

static void test_files_hold_one_answer(void **state)
{
    (void)state;
    expect("{'inputs': #, 'format': 'png', " ALL "{'task': 'again'}]}", "0:again/48");
    expect("{'inputs': #, 'format': 'png', " ALL "{'task': 'attention', 'latents': [3]}]}",
           "0:attention/1");
    expect("{'inputs': #, 'format': 'raw', " ALL "{'task': 'rows'}]}", "0:rows/3");
    refused("{'inputs': #, 'format': 'png', " ALL "{'task': 'attention'}]}", PCV_EFORMAT, "format",
            "attention");
    refused("{'inputs': {'text': 'a'}, 'format': 'png', " ALL
            "{'task': 'attention', 'latents': [3]}]}",
            PCV_EFORMAT, "format", "attention");
    refused("{'inputs': #, 'format': 'png', " ALL "{'task': 'what'}]}", PCV_EFORMAT, "format",
            "what");
    refused("{'inputs': [#, #], 'format': 'raw', " ALL "{'task': 'rows'}]}", PCV_EFORMAT, "format",
            "2 are asked");
}

static void test_latents_that_cannot_be_kept_are_refused(void **state)
{
    (void)state;
    bool busy;
    char json[2048];
    struct srv_job *j;
    struct wire_request *r = request("{'inputs': {'text': 'a'}, 'keep': 60}", json, false);
    struct srv_adapt_parts parts = {.model = model,
                                    .max_items = 8,
                                    .store = pcv_latents_need(model) - 1,
                                    .cancelled = &cancelled,
                                    .budget = &budget};
    CHECK_FAILS(srv_adapt(&j, &parts, r, &busy, &e), e, PCV_ELIMIT, "$.keep", "more than");
    parts.store = 0;
    CHECK_FAILS(srv_adapt(&j, &parts, r, &busy, &e), e, PCV_ELIMIT, "$.keep", "keeps no latents");
    wire_request_free(r);
    assert_int_equal(atomic_load(&budget.used), 0);
}

/* ---- computed ---------------------------------------------------------------------------------
 */

static struct srv_kept *new_kept(int which)
{
    struct pcv_latents *l;
    CHECK_OK(pcv_latents_new(&l, model, which, &e), e);
    return srv_kept_new(l, 0);
}

static void run(struct srv_job *j)
{
    CHECK_OK(pcv_forward(model, ws, j->run, j->nrun, NULL, &e), e);
}

/* A stream's pieces are the rows of the whole answer, and each only costs its own. */
static void test_pieces_are_the_whole(void **state)
{
    (void)state;
    struct asked whole, a;
    ask(&whole, "{'inputs': #, " ALL "{'task': 'again'}]}", NULL);
    CHECK_OK(whole.code, e);
    srv_job_prepare(whole.j);
    run(whole.j);
    ask(&a, "{'inputs': #, 'stream': true, " ALL "{'task': 'what'}, {'task': 'again'}]}", NULL);
    CHECK_OK(a.code, e);
    a.j->of[0].kept = new_kept(0);
    srv_job_prepare(a.j);
    run(a.j);
    assert_int_equal(a.j->items[0].nqueries, 1); /* what comes whole */
    int64_t at = 0;
    double cost = a.j->run_gmac;
    while (srv_job_next_piece(a.j)) {
        assert_int_equal(a.j->piece.first, at);
        assert_true(a.j->run_gmac < cost);
        run(a.j);
        CHECK_NEAR(a.j->answers[1].numbers, whole.j->answers[0].numbers + at, (size_t)a.j->piece.n,
                   1e-5);
        at += a.j->piece.n;
    }
    assert_int_equal(at, 48);
    srv_job_free(whole.j);
    wire_request_free(whole.r);
    done(&a);
}

/* Questions to kept latents are answered as the input was; what needs the input is refused. */
static void test_questions_to_kept_latents(void **state)
{
    (void)state;
    struct asked a, q;
    ask(&a, "{'inputs': {'text': 'a[MASK]'}, " ALL "{'task': 'fill'}, {'task': 'mean'}]}", NULL);
    CHECK_OK(a.code, e);
    struct srv_kept *kept = new_kept(2);
    a.j->of[0].kept = srv_kept_hold(kept);
    srv_job_prepare(a.j);
    assert_true(a.j->gmac.encode > 0 && a.j->tokens_read > 0);
    run(a.j);
    ask(&q, "{'queries': [{'task': 'fill', 'positions': [2]}, {'task': 'embed'}]}", kept->latents);
    CHECK_OK(q.code, e);
    q.j->of[0].kept = srv_kept_hold(kept);
    srv_job_prepare(q.j);
    assert_true(q.j->gmac.encode == 0 && q.j->gmac.process == 0 && q.j->gmac.decode > 0);
    assert_int_equal(q.j->tokens_read, 0);
    run(q.j);
    CHECK_NEAR(q.j->answers[0].numbers, a.j->answers[0].numbers, 262, 1e-5);
    assert_ptr_equal(srv_job_latents(q.j, 0), pcv_latents_numbers(kept->latents));
    srv_job_free(q.j);
    wire_request_free(q.r);
    static const struct {
        const char *queries;
        int code;
        const char *where;
    } cases[] = {
        {"{'task': 'fill'}", PCV_EMISSING, "$.queries[0].positions"},
        {"{'task': 'attention'}", PCV_EMISSING, "$.queries[0].task"},
        {"{'task': 'what'}", PCV_EFORMAT, "$.queries[0].task"},
        {"{'task': 'ask'}", PCV_EMISSING, "$.queries[0]"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char text[200];
        snprintf(text, sizeof text, "{'queries': [%s]}", cases[i].queries);
        ask(&q, text, kept->latents);
        CHECK_FAILS(q.code, e, cases[i].code, cases[i].where, "");
        wire_request_free(q.r);
    }
    srv_kept_release(kept);
    done(&a);
}

/* Every kind of answer can be written. */
static void test_replies_of_every_kind(void **state)
{
    (void)state;
    struct asked a;
    struct srv_body_made made;
    ask(&a,
        "{'inputs': [#, {'text': 'x[MASK]y'}], " ALL "{'task': 'what', 'classes': ['b', 'a']},"
        " {'task': 'again', 'region': [0, 0, 2, 2]}, {'task': 'again', 'positions': [5]},"
        " {'task': 'embed', 'pool': 'none'}, {'task': 'point'}, {'task': 'rows'}, {'task': 'fill'},"
        " {'task': 'attention', 'latents': [0, 2]}]}",
        NULL);
    CHECK_OK(a.code, e);
    srv_job_prepare(a.j);
    run(a.j);
    struct wire_reply reply = {.model = "m", .version = "1", .request_id = "x"};
    CHECK_OK(srv_results_encode(model, a.r, a.j, &reply, &made, &e), e);
    json_t *doc = json_loadb(made.body, made.len, 0, NULL);
    assert_non_null(doc);
    json_t *first = json_array_get(json_object_get(doc, "results"), 0);
    json_t *second = json_array_get(json_object_get(doc, "results"), 1);
    assert_int_equal(json_array_size(first), 7);
    assert_int_equal(json_array_size(second), 5);
    static const char *const fields[] = {"labels",    "files", "shape", "embedding",
                                         "embedding", "shape", "files"};
    for (size_t i = 0; i < LEN(fields); i++)
        assert_non_null(json_object_get(json_array_get(first, i), fields[i]));
    json_t *label = json_array_get(json_object_get(json_array_get(first, 0), "labels"), 0);
    assert_string_equal(json_string_value(json_object_get(label, "label")), "b");
    assert_non_null(json_object_get(json_array_get(second, 3), "masks"));
    assert_non_null(json_object_get(json_array_get(second, 4), "shape")); /* text has one side */
    json_decref(doc);
    free(made.body);
    done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_queries_all_that_answers),
        cmocka_unit_test(test_queries_ask_whoever_has_an_answer),
        cmocka_unit_test(test_rows_are_those_that_are_named),
        cmocka_unit_test(test_one_computation_answers_both),
        cmocka_unit_test(test_what_does_not_suit_is_refused_in_its_place),
        cmocka_unit_test(test_files_hold_one_answer),
        cmocka_unit_test(test_latents_that_cannot_be_kept_are_refused),
        cmocka_unit_test(test_pieces_are_the_whole),
        cmocka_unit_test(test_questions_to_kept_latents),
        cmocka_unit_test(test_replies_of_every_kind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
