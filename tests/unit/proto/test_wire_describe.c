#include "tests/unit/proto/wire_test.h"

#include <jansson.h>
#include <stdlib.h>

static const char *const labels[] = {"Sandal", "Bag \xc3\xa9"};
static const char *const media[] = {"image/png", "image/jpeg", NULL};
static const struct wire_input_desc inputs[] = {{"image", "image", media, 784}};
static const char *const task_inputs[] = {"image", NULL};
static const struct wire_task_desc tasks[] = {
    {.name = "classify", .kind = "classify", .width = 2, .max_rows = 1, .labels = labels},
    {.name = "fill-mask",
     .kind = "fill-mask",
     .width = 262,
     .max_rows = 2048,
     .inputs = task_inputs}};
static const struct wire_tensor_desc in[] = {
    {"inputs", PCV_F32, 4, {-1, 1, 28, 28}, false},
    {"attention_mask", PCV_I64, 2, {-1, -1}, true},
};
static const struct wire_tensor_desc out[] = {{"logits", PCV_F32, 2, {-1, 2}, false}};
static const struct wire_model_desc model = {.name = "fashion",
                                             .version = "1",
                                             .platform = "perceiverd",
                                             .architecture = "PerceiverForX",
                                             .upstream = "huggingface/transformers",
                                             .state = "READY",
                                             .reason = "",
                                             .parameters = 907212,
                                             .bytes = 3628848,
                                             .num_latents = 32,
                                             .d_latents = 128,
                                             .max_batch = 8,
                                             .ninputs = 1,
                                             .ntasks = 2,
                                             .ntensors_in = 2,
                                             .ntensors_out = 1,
                                             .inputs = inputs,
                                             .tasks = tasks,
                                             .tensors_in = in,
                                             .tensors_out = out,
                                             .gmac = {0.5, 0.25, 0.125},
                                             .gmac_dense = {4, 2, 1}};

static void assert_text(char *got, const char *want)
{
    json_t *j;

    assert_non_null(got);
    assert_string_equal(got, want);
    j = json_loads(got, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    json_decref(j);
    free(got);
}

#define COMMON                                                                                     \
    "{\"name\":\"fashion\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\","                 \
    "\"platform\":\"perceiverd\",\"architecture\":\"PerceiverForX\","                              \
    "\"upstream\":\"huggingface/transformers\",\"parameters\":907212,\"bytes\":3628848,"           \
    "\"max_batch\":8,\"latents\":{\"count\":32,\"width\":128},\"together\":false,\"inputs\":[{"    \
    "\"name\":\"image\",\"kind\":\"image\",\"media\":[\"image/png\",\"image/"                      \
    "jpeg\"],\"max_tokens\":784}],"

static void test_native(void **state)
{
    (void)state;
    assert_text(
        wire_model_json(&model), COMMON
        "\"tasks\":[{\"name\":\"classify\",\"kind\":\"classify\",\"width\":2,"
        "\"max_output_queries\":1,\"inputs\":[\"image\"],\"labels\":[\"Sandal\",\"Bag \xc3\xa9\"]},"
        "{\"name\":\"fill-mask\",\"kind\":\"fill-mask\",\"width\":262,"
        "\"max_output_queries\":2048,\"inputs\":[\"image\"],\"labels\":null}],"
        "\"tensors\":{\"inputs\":[{\"name\":\"inputs\",\"datatype\":\"FP32\","
        "\"shape\":[-1,1,28,28]},{\"name\":\"attention_mask\",\"datatype\":\"INT64\","
        "\"shape\":[-1,-1]}],\"outputs\":[{\"name\":\"logits\",\"datatype\":\"FP32\","
        "\"shape\":[-1,2]}]},\"cost\":{\"gmac\":{\"encode\":0.5,\"process\":0.25,"
        "\"decode\":0.125,\"total\":0.875},\"gmac_dense\":{\"encode\":4.0,"
        "\"process\":2.0,\"decode\":1.0,\"total\":7.0}}}");
    assert_text(wire_models_json(&model, 1),
                "{\"models\":[" COMMON
                "\"tasks\":[{\"name\":\"classify\",\"kind\":\"classify\",\"width\":2,"
                "\"max_output_queries\":1,\"inputs\":[\"image\"]},{\"name\":\"fill-mask\",\"kind\":"
                "\"fill-mask\","
                "\"width\":262,\"max_output_queries\":2048,\"inputs\":[\"image\"]}]}]}");
    assert_text(wire_models_json(NULL, 0), "{\"models\":[]}");
}

/* An input of the model is all of its inputs at once; tasks have answers for some of them. */
static void test_together(void **state)
{
    static const char *const none[] = {NULL};
    static const struct wire_input_desc two[] = {{"image", "image", media, 4},
                                                 {"audio", "audio", NULL, 4}};
    static const struct wire_task_desc some[] = {
        {.name = "all", .kind = "classify"},
        {.name = "one", .kind = "x", .inputs = task_inputs},
        {.name = "no", .kind = "x", .inputs = none}};
    const struct wire_model_desc m = {
        .name = "m", .together = true, .ninputs = 2, .inputs = two, .ntasks = 3, .tasks = some};
    char *got = wire_models_json(&m, 1);

    (void)state;
    assert_non_null(strstr(got, "\"together\":true,\"inputs\":[{\"name\":\"image\""));
    assert_non_null(strstr(got, "\"max_output_queries\":0,\"inputs\":[\"image\",\"audio\"]},"));
    assert_non_null(strstr(got, "\"max_output_queries\":0,\"inputs\":[\"image\"]},"));
    assert_non_null(strstr(got, "\"max_output_queries\":0,\"inputs\":[]}]"));
    free(got);
}

static void test_latents(void **state)
{
    static const char *const names[] = {"classify", "embed"};
    struct wire_latents_desc d = {.handle = "8Jx2",
                                  .model = "fashion",
                                  .version = "1",
                                  .input = "image",
                                  .num_latents = 32,
                                  .d_latents = 128,
                                  .age_s = 1.25,
                                  .expires_s = 598.75,
                                  .bytes = 16384,
                                  .has_input = true,
                                  .ntasks = 2,
                                  .tasks = names};

    (void)state;
    assert_text(wire_latents_json(&d),
                "{\"latents\":\"8Jx2\",\"model\":\"fashion\",\"version\":\"1\",\"input\":\"image\","
                "\"shape\":[32,128],\"bytes\":16384,\"age_s\":1.25,\"expires_s\":598.75,"
                "\"has_input\":true,\"tasks\":[\"classify\",\"embed\"]}");
    d.input = NULL;
    d.has_input = false;
    d.ntasks = 0;
    assert_text(wire_latents_json(&d),
                "{\"latents\":\"8Jx2\",\"model\":\"fashion\",\"version\":\"1\",\"input\":null,"
                "\"shape\":[32,128],\"bytes\":16384,\"age_s\":1.25,\"expires_s\":598.75,"
                "\"has_input\":false,\"tasks\":[]}");
}

static void test_oip(void **state)
{
    struct wire_model_desc two[] = {model, model};

    (void)state;
    assert_text(wire_oip_server_json("perceiverd", "0.1.0"),
                "{\"name\":\"perceiverd\",\"version\":\"0.1.0\",\"extensions\":[\"classification\","
                "\"schedule_policy\",\"model_configuration\",\"binary_tensor_data\",\"parameters\","
                "\"statistics\"]}");
    assert_text(wire_oip_model_json(&model),
                "{\"name\":\"fashion\",\"versions\":[\"1\"],\"platform\":\"perceiverd\","
                "\"inputs\":[{\"name\":\"inputs\",\"datatype\":\"FP32\",\"shape\":[-1,1,28,28]},"
                "{\"name\":\"attention_mask\",\"datatype\":\"INT64\",\"shape\":[-1,-1]}],"
                "\"outputs\":[{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]}");
    assert_text(wire_oip_ready_json("fashion", true), "{\"name\":\"fashion\",\"ready\":true}");
    assert_text(wire_oip_ready_json("fashion", false), "{\"name\":\"fashion\",\"ready\":false}");
    two[1].name = "other";
    two[1].state = "UNAVAILABLE";
    two[1].reason = "no \"config\"";
    assert_text(wire_oip_index_json(two, 2),
                "[{\"name\":\"fashion\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"},"
                "{\"name\":\"other\",\"version\":\"1\",\"state\":\"UNAVAILABLE\","
                "\"reason\":\"no \\\"config\\\"\"}]");
    assert_text(wire_oip_index_json(NULL, 0), "[]");
}

/* Triton's clients read these keys unchecked; dims are without the batch. */
static void test_config(void **state)
{
    (void)state;
    assert_text(wire_oip_config_json(&model),
                "{\"name\":\"fashion\",\"platform\":\"perceiverd\",\"backend\":\"perceiverd\","
                "\"max_batch_size\":8,\"input\":[{\"name\":\"inputs\",\"data_type\":\"TYPE_FP32\","
                "\"dims\":[1,28,28],\"is_shape_tensor\":false,\"optional\":false},"
                "{\"name\":\"attention_mask\",\"data_type\":\"TYPE_INT64\",\"dims\":[-1],"
                "\"is_shape_tensor\":false,\"optional\":true}],\"output\":[{\"name\":\"logits\","
                "\"data_type\":\"TYPE_FP32\",\"dims\":[2],\"is_shape_tensor\":false}],"
                "\"dynamic_batching\":{\"max_queue_delay_microseconds\":0},"
                "\"response_cache\":{\"enable\":false},"
                "\"model_transaction_policy\":{\"decoupled\":false}}");
}

static void test_stats(void **state)
{
    static const struct wire_batch_stat batches[] = {{1, {1, 2}, {3, 4}, {5, 6}},
                                                     {8, {7, 8}, {9, 10}, {11, 12}}};
    static const struct wire_model_stats s = {.name = "fashion",
                                              .version = "1",
                                              .last_inference_ms = 1700000000123,
                                              .inference_count = 20,
                                              .execution_count = 5,
                                              .success = {1, 2},
                                              .fail = {3, 4},
                                              .queue = {5, 6},
                                              .compute_input = {7, 8},
                                              .compute_infer = {9, 10},
                                              .compute_output = {11, 12},
                                              .cache_hit = {13, 14},
                                              .cache_miss = {15, 9007199254740993},
                                              .nbatches = 2,
                                              .batches = batches,
                                              .memory_bytes = 3628848};

    (void)state;
    assert_text(
        wire_oip_stats_json(&s, 1),
        "{\"model_stats\":[{\"name\":\"fashion\",\"version\":\"1\","
        "\"last_inference\":1700000000123,\"inference_count\":20,\"execution_count\":5,"
        "\"inference_stats\":{\"success\":{\"count\":1,\"ns\":2},"
        "\"fail\":{\"count\":3,\"ns\":4},\"queue\":{\"count\":5,\"ns\":6},"
        "\"compute_input\":{\"count\":7,\"ns\":8},\"compute_infer\":{\"count\":9,\"ns\":10},"
        "\"compute_output\":{\"count\":11,\"ns\":12},\"cache_hit\":{\"count\":13,\"ns\":14},"
        "\"cache_miss\":{\"count\":15,\"ns\":9007199254740993}},\"response_stats\":{},"
        "\"batch_stats\":[{\"batch_size\":1,\"compute_input\":{\"count\":1,\"ns\":2},"
        "\"compute_infer\":{\"count\":3,\"ns\":4},\"compute_output\":{\"count\":5,\"ns\":6}},"
        "{\"batch_size\":8,\"compute_input\":{\"count\":7,\"ns\":8},"
        "\"compute_infer\":{\"count\":9,\"ns\":10},"
        "\"compute_output\":{\"count\":11,\"ns\":12}}],"
        "\"memory_usage\":[{\"type\":\"CPU\",\"id\":0,\"byte_size\":3628848}]}]}");
    assert_text(wire_oip_stats_json(NULL, 0), "{\"model_stats\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_native),  cmocka_unit_test(test_together),
        cmocka_unit_test(test_latents), cmocka_unit_test(test_oip),
        cmocka_unit_test(test_config),  cmocka_unit_test(test_stats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
