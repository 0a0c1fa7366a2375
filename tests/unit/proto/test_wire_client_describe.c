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

static const char *const media[] = {"image/png", "image/jpeg", NULL};
static const char *const labels[] = {"T-shirt/top", "Trouser", "\"\n"};
static const struct wire_input_desc inputs[] = {{"image", "image", media, 784}};
static const struct wire_task_desc tasks[] = {
    {.name = "classify", .kind = "classify", .width = 3, .max_rows = 1, .labels = labels},
    {.name = "fill-mask",
     .kind = "fill-mask",
     .width = 262,
     .max_rows = 64,
     .inputs = (const char *const[]){NULL}}};
static const struct wire_tensor_desc in[] = {
    {.name = "inputs", .dtype = PCV_F32, .ndim = 4, .shape = {-1, 3, -1, 28}},
    {.name = "mask", .dtype = PCV_I64, .ndim = 2, .shape = {-1, -1}, .optional = true}};
static const struct wire_tensor_desc out[] = {
    {.name = "logits", .dtype = PCV_I64, .ndim = 1, .shape = {-1}}};
static const struct wire_model_desc models[] = {
    {.name = "fashion",
     .version = "1",
     .platform = "perceiverd",
     .architecture = "PerceiverForImageClassificationFourier",
     .upstream = "huggingface/transformers",
     .state = "READY",
     .reason = "",
     .parameters = 5000000000,
     .bytes = 5000000001,
     .num_latents = 32,
     .d_latents = 128,
     .max_batch = 8,
     .together = true,
     .ninputs = 1,
     .ntasks = 2,
     .ntensors_in = 2,
     .ntensors_out = 1,
     .inputs = inputs,
     .tasks = tasks,
     .tensors_in = in,
     .tensors_out = out,
     .gmac = {0.001, 0.01, 0.5},
     .gmac_dense = {1, 2, 3}},
    {.name = "slow",
     .version = "1",
     .platform = "perceiverd",
     .architecture = "",
     .upstream = "",
     .state = "LOADING",
     .reason = "being loaded"},
};

static void check_model(const struct wire_model_desc *got)
{
    assert_string_equal(got->name, "fashion");
    assert_string_equal(got->version, "1");
    assert_string_equal(got->platform, "perceiverd");
    assert_string_equal(got->architecture, models[0].architecture);
    assert_string_equal(got->upstream, models[0].upstream);
    assert_string_equal(got->state, "READY");
    assert_string_equal(got->reason, "");
    assert_int_equal(got->parameters, 5000000000);
    assert_int_equal(got->bytes, 5000000001);
    assert_int_equal(got->num_latents, 32);
    assert_int_equal(got->d_latents, 128);
    assert_int_equal(got->max_batch, 8);
    assert_int_equal(got->ninputs, 1);
    assert_string_equal(got->inputs[0].name, "image");
    assert_string_equal(got->inputs[0].kind, "image");
    assert_string_equal(got->inputs[0].media[0], "image/png");
    assert_string_equal(got->inputs[0].media[1], "image/jpeg");
    assert_null(got->inputs[0].media[2]);
    assert_int_equal(got->inputs[0].max_tokens, 784);
    assert_int_equal(got->ntasks, 2);
    assert_string_equal(got->tasks[1].name, "fill-mask");
    assert_string_equal(got->tasks[1].kind, "fill-mask");
    assert_int_equal(got->tasks[1].width, 262);
    assert_int_equal(got->tasks[1].max_rows, 64);
    assert_null(got->tasks[1].labels);
    assert_true(got->together);
    assert_string_equal(got->tasks[0].inputs[0], "image"); /* all of the model's */
    assert_null(got->tasks[0].inputs[1]);
    assert_null(got->tasks[1].inputs[0]);
}

static void test_models(void **state)
{
    const struct wire_model_desc *got = NULL;
    char *body = wire_models_json(models, 2);
    int n = 0;

    (void)state;
    assert_ok(wire_client_models(arena, body, strlen(body), &got, &n, &e), e);
    free(body);
    assert_int_equal(n, 2);
    check_model(&got[0]);
    assert_string_equal(got[1].state, "LOADING");
    assert_string_equal(got[1].reason, "being loaded");
    assert_int_equal(got[1].ninputs, 0);
    assert_ok(wire_client_models(arena, "{\"models\":[]}", 13, &got, &n, &e), e);
    assert_int_equal(n, 0);
    assert_fails(wire_client_models(arena, "{\"models\":[{}]}", 15, &got, &n, &e), e, PCV_EMISSING,
                 "$.models[0].name", "missing");
}

static void test_model(void **state)
{
    struct wire_model_desc got = {0};
    char *body = wire_model_json(&models[0]), *at;

    (void)state;
    assert_ok(wire_client_model(arena, body, strlen(body), &got, &e), e);
    check_model(&got);
    for (int i = 0; i < 3; i++)
        assert_string_equal(got.tasks[0].labels[i], labels[i]);
    assert_null(got.tasks[0].labels[3]);
    assert_int_equal(got.ntensors_in, 2);
    assert_string_equal(got.tensors_in[0].name, "inputs");
    assert_int_equal(got.tensors_in[0].dtype, PCV_F32);
    assert_int_equal(got.tensors_in[0].ndim, 4);
    assert_memory_equal(got.tensors_in[0].shape, in[0].shape, 4 * sizeof(int64_t));
    assert_int_equal(got.ntensors_out, 1);
    assert_int_equal(got.tensors_out[0].dtype, PCV_I64);
    assert_int_equal(got.tensors_out[0].ndim, 1);
    assert_true(got.gmac.encode == 0.001 && got.gmac.process == 0.01 && got.gmac.decode == 0.5);
    assert_true(got.gmac_dense.encode == 1 && got.gmac_dense.decode == 3);
    at = strstr(body, "FP32");
    memcpy(at, "FP33", 4);
    assert_fails(wire_client_model(arena, body, strlen(body), &got, &e), e, PCV_EUNKNOWN,
                 "$.tensors.inputs[0].datatype", "FP33");
    free(body);
}

static void test_optional(void **state)
{
    struct wire_model_desc got = {0};
    char *body = wire_model_json(&models[0]);

    (void)state;
    assert_ok(wire_client_model(arena, body, strlen(body), &got, &e), e);
    free(body);
    assert_false(got.tensors_in[1].optional); /* not said there */
    body = wire_oip_config_json(&models[0]);
    assert_ok(wire_client_optional(arena, body, strlen(body), &got, &e), e);
    free(body);
    assert_false(got.tensors_in[0].optional);
    assert_true(got.tensors_in[1].optional);
    assert_int_equal(got.tensors_in[0].ndim, 4);
    assert_fails(wire_client_optional(arena, "{}", 2, &got, &e), e, PCV_EMISSING, "$.input",
                 "missing");
}

static void test_server(void **state)
{
    const char *name = NULL, *version = NULL;
    char *body = wire_oip_server_json("perceiverd", "0.1.0 (abc)");

    (void)state;
    assert_ok(wire_client_server(arena, body, strlen(body), &name, &version, &e), e);
    free(body);
    assert_string_equal(name, "perceiverd");
    assert_string_equal(version, "0.1.0 (abc)");
}

static void test_stats(void **state)
{
    static const struct wire_batch_stat batches[] = {{1, {1, 2}, {3, 4}, {5, 6}},
                                                     {8, {7, 8}, {9, 10}, {11, 12}}};
    static const struct wire_model_stats stats[] = {{.name = "a", .version = "1"},
                                                    {.name = "b",
                                                     .version = "2",
                                                     .last_inference_ms = 1700000000000,
                                                     .inference_count = UINT64_MAX,
                                                     .execution_count = 40,
                                                     .success = {100, 1},
                                                     .fail = {3, 2},
                                                     .queue = {100, 3},
                                                     .compute_input = {100, 4},
                                                     .compute_infer = {100, 5},
                                                     .compute_output = {100, 6},
                                                     .cache_hit = {7, 8},
                                                     .cache_miss = {9, 10},
                                                     .nbatches = 2,
                                                     .batches = batches}};
    const struct wire_model_stats *got = NULL;
    char *body = wire_oip_stats_json(stats, 2);
    int n = 0;

    (void)state;
    assert_ok(wire_client_stats(arena, body, strlen(body), &got, &n, &e), e);
    free(body);
    assert_int_equal(n, 2);
    assert_string_equal(got[0].name, "a");
    assert_int_equal(got[0].nbatches, 0);
    assert_string_equal(got[1].version, "2");
    assert_int_equal(got[1].last_inference_ms, 1700000000000);
    assert_true(got[1].inference_count == UINT64_MAX);
    assert_int_equal(got[1].execution_count, 40);
    assert_memory_equal(&got[1].success, &stats[1].success, 8 * sizeof(struct wire_stat));
    assert_int_equal(got[1].nbatches, 2);
    assert_memory_equal(&got[1].batches[1].compute_input, &batches[1].compute_input,
                        3 * sizeof(struct wire_stat));
    assert_int_equal(got[1].batches[1].batch_size, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),   cmocka_unit_test(test_model),
        cmocka_unit_test(test_optional), cmocka_unit_test(test_server),
        cmocka_unit_test(test_stats),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
