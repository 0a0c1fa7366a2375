/* krasserm/perceiver-io: what its configuration may say. Numbers are held by the golden cases. */
#include "tests/unit/lib/layout/respelt.h"

#define IMAGE  "krasserm-image-classifier"
#define SHARED "krasserm-image-classifier-shared"
#define TEXT   "krasserm-text-classifier"
#define MLM    "krasserm-masked-lm"
#define FLOW   "krasserm-optical-flow"

#define MODEL(x)   "{\"model_config\": {" x "}}"
#define ENCODER(x) MODEL("\"encoder\": {" x "}")
#define DECODER(x) MODEL("\"decoder\": {" x "}")

static void contradictions_are_refused(void **state)
{
    static const struct respelt cases[] = {
        {IMAGE, MODEL("\"num_latents\": 9"), PCV_ESHAPE, "latent_provider._query", "[9,16]"},
        {IMAGE, ENCODER("\"first_cross_attention_layer_shared\": true"), PCV_EUNKNOWN,
         "cross_attn_n", "not part"},
        {IMAGE, ENCODER("\"first_self_attention_block_shared\": true"), PCV_EUNKNOWN, "self_attn_n",
         "not part"},
        {SHARED, ENCODER("\"first_cross_attention_layer_shared\": false"), PCV_EMISSING,
         "cross_attn_n", "missing"},
        {SHARED, ENCODER("\"first_self_attention_block_shared\": false"), PCV_EMISSING,
         "self_attn_n", "missing"},
        {IMAGE, ENCODER("\"image_shape\": [9, 11, 1]"), PCV_ESHAPE,
         "position_encoding.position_encoding", "[99,22]"},
        {IMAGE, ENCODER("\"num_frequency_bands\": 6"), PCV_ESHAPE, "position_encoding", "[108,26]"},
        {IMAGE, DECODER("\"num_classes\": 11"), PCV_ESHAPE, "id2label", "num_classes is 11"},
        {IMAGE, DECODER("\"cross_attention_residual\": false"), PCV_EMISSING,
         "1.cross_attn.0.q_norm", "missing"},
        {IMAGE, ENCODER("\"num_cross_attention_layers\": 4"), PCV_ERANGE,
         "num_cross_attention_layers", "num_self_attention_blocks is 3"},
        {TEXT, ENCODER("\"num_self_attention_heads\": 3"), PCV_ESHAPE, "num_self_attention_heads",
         "divide"},
        {TEXT, DECODER("\"num_output_queries\": 2"), PCV_ESHAPE, "output_query_provider", "[2,10]"},
        {MLM, DECODER("\"vocab_size\": 261"), PCV_ESHAPE, "vocab_size", "262"},
        {MLM, DECODER("\"max_seq_len\": 29"), PCV_ESHAPE, "max_seq_len", "30 positions"},
        {MLM, DECODER("\"num_output_query_channels\": 18"), PCV_EMISSING, "output_adapter.linear",
         "missing"},
        {FLOW, DECODER("\"image_shape\": [14, 10]"), PCV_ESHAPE, "image_shape", "10 x 14"},
        {FLOW, ENCODER("\"num_patch_input_channels\": 9"), PCV_ESHAPE, "input_adapter.linear",
         "[12,18]"},
    };

    (void)state;
    respelt_refused(cases, LEN(cases));
}

static void bad_values_are_refused(void **state)
{
    static const struct respelt cases[] = {
        {IMAGE, "{\"model_type\": \"perceiver-io-symbolic\"}", PCV_EUNSUPPORTED, "model_type",
         "optical-flow"},
        {IMAGE, "{\"model_type\": \"bert\"}", PCV_EUNSUPPORTED, "config.json", "perceiver-io-"},
        {IMAGE, "{\"model_config\": null}", PCV_EMISSING, "model_config", "missing"},
        {IMAGE, MODEL("\"encoder\": null"), PCV_EMISSING, "model_config: encoder", "missing"},
        {IMAGE, MODEL("\"decoder\": [1]"), PCV_EFORMAT, "model_config: decoder", "object"},
        {IMAGE, MODEL("\"latents\": 1"), PCV_EUNKNOWN, "model_config: latents", "nobody"},
        {IMAGE, ENCODER("\"max_seq_len\": 1"), PCV_EUNKNOWN, "encoder: max_seq_len", "nobody"},
        {IMAGE, ENCODER("\"image_shape\": [9, 12]"), PCV_EFORMAT, "image_shape", "3 whole"},
        {IMAGE, ENCODER("\"num_self_attention_blocks\": 0"), PCV_ERANGE,
         "num_self_attention_blocks", "0"},
        {IMAGE, ENCODER("\"num_self_attention_blocks\": 400"), PCV_ELIMIT,
         "num_self_attention_blocks", "400"},
        {FLOW, DECODER("\"rescale_factor\": 0"), PCV_ERANGE, "rescale_factor", "0"},
    };

    (void)state;
    respelt_refused(cases, LEN(cases));
}

/* Pictures of the model's size and channels, or none. */
static void pictures(void **state)
{
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, IMAGE, "{}"), e);
    assert_int_equal(pcv_model_info(m)->inputs[0].kind, PCV_INPUT_ARRAY);
    pcv_model_close(m);
    respelt_write("preprocessor_config.json", "{\"single_channel\": true, \"do_resize\": false}");
    CHECK_OK(respelt_open(&m, IMAGE, "{}"), e);
    assert_int_equal(pcv_model_info(m)->inputs[0].kind, PCV_INPUT_IMAGE);
    pcv_model_close(m);
    CHECK_FAILS(respelt_open(&m, SHARED, "{}"), e, PCV_ESHAPE, "preprocessor_config.json",
                "image_shape in config.json has 3");
    respelt_write("preprocessor_config.json", "{\"size\": 9, \"crop_size\": 12}");
    CHECK_FAILS(respelt_open(&m, SHARED, "{}"), e, PCV_ESHAPE, "preprocessor_config.json",
                "9 x 9, but image_shape in config.json is 9 x 12");
    unlink(respelt_path("preprocessor_config.json"));
}

/* A grey picture through the model, and the same numbers as a tensor: the same logits. */
static void a_picture_is_its_tensor(void **state)
{
    enum { W = 12, H = 9 };
    static float numbers[H * W];
    const struct pcv_tensor t = {"inputs", PCV_F32, 4, {1, H, W, 1}, numbers, sizeof(numbers)};
    char png[4096];
    struct pcv_input *in[2];
    struct pcv_media media = {.data = png};
    float dense[2][H * W * 23];
    struct pcv_model *m;
    FILE *f;

    (void)state;
    respelt_write("preprocessor_config.json",
                  "{\"single_channel\": true, \"do_resize\": false, \"do_center_crop\": false,"
                  " \"image_mean\": 0.5, \"image_std\": 0.5}");
    f = fopen("tests/unit/lib/layout/grey.png", "rb");
    assert_non_null(f);
    media.len = fread(png, 1, sizeof(png), f);
    fclose(f);
    for (int i = 0; i < H * W; i++) /* as the file was drawn */
        numbers[i] = ((float)((37 * i + i / W * 11) % 256 * (1 / 255.0)) - 0.5f) / 0.5f;
    CHECK_OK(respelt_open(&m, IMAGE, "{}"), e);
    CHECK_OK(pcv_input_from_media(&in[0], m, &media, 1, &e), e);
    CHECK_OK(pcv_input_from_tensors(&in[1], m, &t, 1, 0, &e), e);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pcv_input_tokens(in[i]) * pcv_input_channels(in[i]), H * W * 23);
        CHECK_OK(pcv_input_dense(in[i], dense[i], &e), e);
        pcv_input_free(in[i]);
    }
    CHECK_BITS(dense[0], dense[1], H * W * 23);
    pcv_model_close(m);
    unlink(respelt_path("preprocessor_config.json"));
}

/* 262 tokens are bytes; any other vocabulary is taken as ids. */
static void text_is_taken_when_it_is_bytes(void **state)
{
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, TEXT, "{}"), e);
    assert_string_equal(pcv_model_info(m)->inputs[0].media[0], "text/plain");
    pcv_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(pictures),
        cmocka_unit_test(a_picture_is_its_tensor),
        cmocka_unit_test(text_is_taken_when_it_is_bytes),
    };

    return cmocka_run_group_tests(tests, respelt_setup, respelt_teardown);
}
