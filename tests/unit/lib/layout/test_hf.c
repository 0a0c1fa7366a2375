/* Hugging Face's layout: models as they should be, and one with each mistake. */
#include "lib/layout/layout.h"

#include "lib/model/model.h"
#include "tests/unit/tiny.h"

static struct pcv_err e;
static struct tiny_config config;
static struct tiny_file file;

static const struct tiny *const classes[] = {&tiny_masked_lm, &tiny_text_classifier, &tiny_fourier,
                                             &tiny_learned};

static void begin(const struct tiny *t)
{
    tiny_config(&config, t);
    tiny_tensors(&file, t);
}

static struct pcv_model *opened(void)
{
    struct pcv_model *m = NULL;

    tiny_write_config(&config);
    tiny_write_tensors(&file);
    tiny_free(&file);
    CHECK_OK(pcv_model_open(&m, tiny_dir, NULL, &e), e);
    return m;
}

static void refused(int code, const char *where, const char *words)
{
    struct pcv_model *m = (void *)0x1;

    tiny_write_config(&config);
    tiny_write_tensors(&file);
    tiny_free(&file);
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, code, where, words);
    assert_ptr_equal(m, (void *)0x1);
}

/* ---- as they should be ----------------------------------------------------------------------- */

static void every_class_opens(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(classes); i++) {
        const struct pcv_model_info *info;
        struct pcv_model *m;
        uint64_t parameters = 0;

        begin(classes[i]);
        for (int j = 0; j < file.n; j++)
            parameters += file.t[j].nbytes / sizeof(float);
        m = opened();
        info = pcv_model_info(m);
        assert_string_equal(info->architecture, classes[i]->architecture);
        assert_string_equal(info->upstream, "huggingface/transformers");
        assert_int_equal(info->parameters, parameters);
        assert_int_equal(info->mapped_bytes, 4 * parameters);
        assert_int_equal(info->num_latents, classes[i]->latents);
        assert_int_equal(info->d_latents, classes[i]->d);
        assert_int_equal(info->ninputs, 1);
        assert_int_equal(info->ntasks, 1);
        assert_int_equal(m->bp.nsteps, 1 + classes[i]->blocks * classes[i]->layers);
        pcv_model_close(m);
    }
}

static void a_masked_lm_says_what_it_is(void **state)
{
    const struct pcv_model_info *info;
    struct pcv_model *m;

    (void)state;
    begin(&tiny_masked_lm);
    m = opened();
    info = pcv_model_info(m);
    assert_string_equal(info->inputs[0].name, "text");
    assert_int_equal(info->inputs[0].kind, PCV_INPUT_TEXT);
    assert_int_equal(info->inputs[0].max_tokens, 20);
    assert_string_equal(info->inputs[0].media[0], "text/plain");
    assert_string_equal(info->tasks[0].name, "fill-mask");
    assert_int_equal(info->tasks[0].width, 262);
    assert_int_equal(info->tasks[0].max_rows, 20);
    assert_null(info->tasks[0].labels);
    assert_int_equal(info->tasks[0].output.ndim, 3);
    assert_int_equal(info->ntensors, 2);
    assert_string_equal(info->tensors[0].name, "inputs");
    assert_false(info->tensors[0].optional);
    assert_string_equal(info->tensors[1].name, "attention_mask");
    assert_true(info->tensors[1].optional);
    assert_int_equal(pcv_task_find(m, "fill-mask", &e), 0);
    assert_int_equal(pcv_task_find(m, "classify", &e), PCV_EUNKNOWN);
    assert_non_null(strstr(e.msg, "fill-mask"));
    assert_string_equal(pcv_task_label(m, 0, 0), "");
    pcv_model_close(m);
}

static void a_classifier_says_what_it_is(void **state)
{
    const struct pcv_model_info *info;
    struct pcv_model *m;

    (void)state;
    begin(&tiny_learned);
    m = opened();
    info = pcv_model_info(m);
    assert_int_equal(info->inputs[0].kind, PCV_INPUT_IMAGE);
    assert_int_equal(info->inputs[0].max_tokens, 25);
    assert_int_equal(info->tensors[0].shape[2], 5);
    assert_int_equal(info->tasks[0].width, 2);
    assert_string_equal(info->tasks[0].labels[1], "label 1");
    assert_string_equal(pcv_task_label(m, 0, 1), "label 1");
    assert_string_equal(pcv_task_label(m, 0, 2), "");
    assert_string_equal(pcv_task_label(m, 0, -1), "");
    pcv_model_close(m);
}

static void absent_keys_take_the_upstreams_defaults(void **state)
{
    static const char *const keys[] = {"hidden_act", "num_blocks", "vocab_size",
                                       "self_attention_widening_factor"};
    struct pcv_model *m;

    (void)state;
    begin(&tiny_masked_lm);
    for (size_t i = 0; i < LEN(keys); i++)
        tiny_set(&config, keys[i], i % 2 ? NULL : "null");
    m = opened();
    assert_int_equal(m->bp.nsteps, 3);
    assert_int_equal(m->bp.self[0].activation, PCV_GELU_ERF);
    assert_true(m->bp.cross[0].d.residual);
    pcv_model_close(m);

    begin(&tiny_text_classifier);
    tiny_set(&config, "id2label", "null");
    tiny_set(&config, "num_labels", "3");
    m = opened();
    assert_string_equal(pcv_task_label(m, 0, 0), "");
    pcv_model_close(m);
}

static void switches_are_heeded(void **state)
{
    struct tiny t = tiny_fourier;
    struct pcv_model *m;

    (void)state;
    t.qk = t.v = t.d;
    begin(&t);
    tiny_set(&config, "qk_channels", "null");
    tiny_set(&config, "v_channels", "null");
    tiny_set(&config, "cross_attention_shape_for_attention", "\"q\"");
    tiny_set(&config, "hidden_act", "\"gelu_new\"");
    tiny_set(&config, "use_query_residual", "false");
    m = opened();
    assert_int_equal(m->bp.cross[0].d.qk, t.d);
    assert_int_equal(m->bp.self[0].activation, PCV_GELU_TANH);
    assert_false(m->bp.cross[0].d.residual);
    assert_true(m->bp.task[0].layer.d.residual); /* the classifier's own, whatever the file says */
    pcv_model_close(m);
}

/* Encoder and process stack alone, named without prefix: tokens in, latents out. */
static void the_bare_model_takes_tokens(void **state)
{
    enum { TOKENS = 9, KEPT = 6, C = 24, LATENTS = 6 * 16 };
    static const int64_t mask[TOKENS] = {1, 1, 1, 1, 1, 1, 0, 0, 0};
    float tokens[TOKENS * C] = {0}, last[3][LATENTS];
    const struct pcv_tensor t[] = {
        {"inputs", PCV_F32, 3, {1, TOKENS, C}, tokens, sizeof(tokens)},
        {"attention_mask", PCV_I64, 2, {1, TOKENS}, mask, sizeof(mask)},
        {"inputs", PCV_F32, 3, {1, KEPT, C}, tokens, KEPT * C * sizeof(float)},
    };
    uint64_t seed = 3;
    struct pcv_model *m;

    (void)state;
    random_fill(&seed, tokens, LEN(tokens), 0, 1);
    begin(&tiny_masked_lm);
    for (int i = 0; i < file.n;) {
        if (strncmp(file.name[i], "perceiver.e", 11) != 0) { /* embeddings, encoder */
            tiny_remove(&file, file.name[i]);
            continue;
        }
        memmove(file.name[i], file.name[i] + 10, sizeof(file.name[i]) - 10);
        i++;
    }
    tiny_set(&config, "architectures", "[\"PerceiverModel\"]");
    m = opened();
    assert_string_equal(pcv_model_info(m)->tasks[0].name, "latents");
    assert_string_equal(pcv_model_info(m)->tasks[0].output.name, "last_hidden_state");
    for (int way = 0; way < 3; way++) { /* padded, without padding, the plain way */
        struct pcv_query q = {.logits = last[way]};
        struct pcv_item item = {.queries = &q, .nqueries = 1};
        struct pcv_input *in = NULL;
        struct pcv_ws *ws = NULL;

        CHECK_OK(way ? pcv_input_from_tensors(&in, m, &t[2], 1, 0, &e)
                     : pcv_input_from_tensors(&in, m, t, 2, 0, &e),
                 e);
        assert_int_equal(pcv_input_tokens(in), KEPT);
        item.input = in;
        CHECK_OK(pcv_ws_new(&ws, NULL, &e), e);
        CHECK_OK(pcv_ws_reserve(ws, m, 1, way == 2 ? PCV_WS_DENSE : 0, &e), e);
        CHECK_OK(pcv_forward(m, ws, &item, 1, NULL, &e), e);
        pcv_ws_free(ws);
        pcv_input_free(in);
    }
    CHECK_BITS(last[0], last[1], LATENTS);
    CHECK_NEAR(last[0], last[2], LATENTS, 1e-5 * largest(last[2], LATENTS));
    pcv_model_close(m);
}

/* What pictures become must be what the positions are for. */
static void pictures_must_fit_the_positions(void **state)
{
    (void)state;
    tiny_write_text("preprocessor_config.json", "{\"size\": {\"height\": 6, \"width\": 5}}");
    begin(&tiny_learned);
    refused(PCV_ESHAPE, "preprocessor_config.json", "image_size in config.json is 5");
    tiny_write_text("preprocessor_config.json", "{\"size\": -6}");
    begin(&tiny_fourier);
    refused(PCV_ERANGE, "preprocessor_config.json", "");
    unlink(tiny_path("preprocessor_config.json"));
}

/* ---- config.json, one mistake at a time -------------------------------------------------------
 */

struct mistake {
    const char *key, *value; /* NULL: taken out */
    int code;
    const char *where, *words;
};

static void check_mistakes(const struct tiny *t, const struct mistake *mistakes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        begin(t);
        tiny_set(&config, mistakes[i].key, mistakes[i].value);
        refused(mistakes[i].code, mistakes[i].where, mistakes[i].words);
    }
}

static void bad_numbers_are_refused(void **state)
{
    static const struct mistake mistakes[] = {
        {"num_latents", "NaN", PCV_EFORMAT, "config.json", "line"},
        {"num_latents", "-Infinity", PCV_EFORMAT, "config.json", "line"},
        {"num_latents", "\"6\"", PCV_EFORMAT, "config.json: num_latents", "whole number"},
        {"num_latents", "6.0", PCV_EFORMAT, "config.json: num_latents", "whole number"},
        {"num_latents", "[6]", PCV_EFORMAT, "config.json: num_latents", "whole number"},
        {"num_latents", "0", PCV_ERANGE, "config.json: num_latents", "0 is outside"},
        {"num_latents", "-6", PCV_ERANGE, "config.json: num_latents", "-6 is outside"},
        {"num_latents", "4294967302", PCV_ERANGE, "config.json: num_latents", "4294967302"},
        {"num_latents", "7", PCV_ESHAPE, "perceiver.embeddings.latents", "[6,16]"},
        {"d_latents", "0", PCV_ERANGE, "config.json: d_latents", ""},
        {"d_latents", "1000000", PCV_ERANGE, "config.json: d_latents", ""},
        {"d_model", "true", PCV_EFORMAT, "config.json: d_model", ""},
        {"d_model", "32", PCV_ESHAPE, "embeddings.weight", "[262,24]"},
        {"vocab_size", "261", PCV_ESHAPE, "embeddings.weight", "[262,24]"},
        {"max_position_embeddings", "2000000", PCV_ERANGE, "max_position_embeddings", ""},
        {"max_position_embeddings", "21", PCV_ESHAPE, "position_embeddings.weight", "[20,24]"},
        {"num_blocks", "1000", PCV_ELIMIT, "config.json: num_blocks", "1000 blocks"},
        {"num_blocks", "100000", PCV_ERANGE, "config.json: num_blocks", ""},
        {"num_self_attends_per_block", "257", PCV_ERANGE, "num_self_attends_per_block", ""},
        {"num_self_attends_per_block", "3", PCV_EMISSING, "self_attends.2.", "missing"},
        {"num_self_attends_per_block", "1", PCV_EUNKNOWN, "self_attends.1.", "not part of"},
        {"num_self_attention_heads", "3", PCV_ESHAPE, "self_attends.0", "3 heads do not divide"},
        {"num_cross_attention_heads", "5", PCV_ESHAPE, "cross_attention", "5 heads do not divide"},
        {"qk_channels", "12", PCV_ESHAPE, "cross_attention.attention.self.query", ""},
        {"v_channels", "8", PCV_ESHAPE, "config.json: v_channels", "d_latents is 16"},
        {"self_attention_widening_factor", "2", PCV_ESHAPE, "self_attends.0.mlp.dense1", ""},
        {"cross_attention_widening_factor", "65", PCV_ERANGE, "cross_attention_widening", ""},
    };

    (void)state;
    check_mistakes(&tiny_masked_lm, mistakes, LEN(mistakes));
}

static void bad_words_are_refused(void **state)
{
    static const struct mistake mistakes[] = {
        {"architectures", "[\"BertModel\"]", PCV_EUNSUPPORTED, "config.json: architectures",
         "\"BertModel\" is not served"},
        {"architectures", "[]", PCV_EFORMAT, "config.json: architectures", ""},
        {"architectures", "\"PerceiverForMaskedLM\"", PCV_EFORMAT, "architectures", ""},
        {"architectures", NULL, PCV_EMISSING, "config.json: architectures", "missing"},
        {"model_type", "\"bert\"", PCV_EUNSUPPORTED, "config.json", ""},
        {"model_type", "7", PCV_EUNSUPPORTED, "config.json", ""},
        {"model_type", NULL, PCV_EUNSUPPORTED, "config.json", ""},
        {"hidden_act", "\"relu\"", PCV_EUNSUPPORTED, "config.json: hidden_act", "\"relu\""},
        {"hidden_act", "5", PCV_EFORMAT, "config.json: hidden_act", "string"},
        {"use_query_residual", "\"yes\"", PCV_EFORMAT, "use_query_residual", "true or false"},
        {"cross_attention_shape_for_attention", "\"x\"", PCV_EUNSUPPORTED,
         "cross_attention_shape_for_attention", "\"x\""},
        {"id2label", "{}", PCV_EFORMAT, "config.json: id2label", ""},
        {"id2label", "{\"0\": \"a\", \"1\": \"b\"}", PCV_ESHAPE, "final_layer.weight", "[3,12]"},
        {"id2label", "null", PCV_ESHAPE, "final_layer.weight", "wants [2,12]"},
    };

    (void)state;
    check_mistakes(&tiny_text_classifier, mistakes, LEN(mistakes));
}

/* Sizes of a multimodal model whose products do not fit, or that leave no token. */
static void absurd_sizes_are_refused(void **state)
{
    static const struct mistake mistakes[] = {
        {"audio_samples_per_frame", "1048576", PCV_ERANGE, "audio_samples_per_frame", "samples"},
        {"samples_per_patch", "1000000", PCV_ERANGE, "audio_samples_per_frame", "1000000"},
        {"num_frames", "9000", PCV_ERANGE, "config.json: num_frames", ""},
        {"output_shape", "[1, 4, 3, 16]", PCV_ERANGE, "config.json: output_shape", "side of 3"},
        {"output_shape", "[1, 4, 16]", PCV_EFORMAT, "config.json: output_shape", "4"},
        {"output_shape", "[1, 4, 16, 0]", PCV_ERANGE, "config.json: output_shape", "element 3"},
        {"train_size", "[368, \"x\"]", PCV_ERANGE, "config.json: train_size", "element 1"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(mistakes); i++) { /* refused before any tensor is looked for */
        begin(&tiny_masked_lm);
        tiny_set(&config, "architectures", "[\"PerceiverForMultimodalAutoencoding\"]");
        tiny_set(&config, mistakes[i].key, mistakes[i].value);
        if (i == 0)
            tiny_set(&config, "num_frames", "8192");
        refused(mistakes[i].code, mistakes[i].where, mistakes[i].words);
    }
}

/* Half a million million output queries. */
static void absurd_outputs_are_refused(void **state)
{
    static const char shape[] = "\"output_shape\": [\n    1,\n    4,\n    16,\n    16\n  ]";
    struct pcv_model *m = NULL;
    char text[4096] = "", changed[8192], weights[4096], *at;
    FILE *f = fopen("build/golden/hf-multimodal-autoencoding/config.json", "rb");

    (void)state;
    assert_non_null(f);
    assert_in_range(fread(text, 1, sizeof(text) - 1, f), 100, sizeof(text) - 1);
    fclose(f);
    at = strstr(text, shape);
    assert_non_null(at);
    snprintf(changed, sizeof(changed), "%.*s\"output_shape\": [1, 8192, 8192, 8192]%s",
             (int)(at - text), text, at + strlen(shape));
    tiny_write_text("config.json", changed);
    unlink(tiny_path("model.safetensors"));
    assert_non_null(realpath("build/golden/hf-multimodal-autoencoding/model.safetensors", weights));
    assert_int_equal(symlink(weights, tiny_path("model.safetensors")), 0);
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_ELIMIT, "config.json: output_shape",
                "549755813888 output queries");
    unlink(tiny_path("model.safetensors"));
}

/* ---- tensors, one mistake at a time ------------------------------------------------------------
 */

static void every_missing_tensor_is_named(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(classes); c++)
        for (int i = 0;; i++) {
            char name[128];

            begin(classes[c]);
            if (i == file.n) {
                tiny_free(&file);
                break;
            }
            strcpy(name, file.name[i]);
            tiny_remove(&file, name);
            refused(PCV_EMISSING, name, "missing");
            assert_non_null(strstr(e.where, tiny_dir));
        }
}

static void every_wrong_shape_is_named(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(classes); c++)
        for (int i = 0;; i++) {
            struct pcv_tensor *t;
            char name[128];

            begin(classes[c]);
            if (i == file.n) {
                tiny_free(&file);
                break;
            }
            strcpy(name, file.name[i]);
            t = &file.t[i];
            t->shape[t->ndim++] = 1; /* as many numbers, one dimension more */
            refused(PCV_ESHAPE, name, "the configuration wants");
            assert_non_null(strstr(e.where, "model.safetensors: "));
        }
}

static void unknown_tensors_are_named(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(classes); c++) {
        begin(classes[c]);
        tiny_add(&file, "perceiver.encoder.surprise.weight", 0, 1, TINY_SHAPE(2));
        refused(PCV_EUNKNOWN, "model.safetensors: perceiver.encoder.surprise.weight",
                "not part of this architecture");
    }
}

static void numbers_must_be_finite(void **state)
{
    (void)state;
    begin(&tiny_masked_lm);
    file.data[tiny_find(&file, "embedding_decoder.bias") - file.t][261] = NAN;
    refused(PCV_ERANGE, "model.safetensors: embedding_decoder.bias", "not finite");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_opens),
        cmocka_unit_test(a_masked_lm_says_what_it_is),
        cmocka_unit_test(a_classifier_says_what_it_is),
        cmocka_unit_test(absent_keys_take_the_upstreams_defaults),
        cmocka_unit_test(switches_are_heeded),
        cmocka_unit_test(the_bare_model_takes_tokens),
        cmocka_unit_test(pictures_must_fit_the_positions),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(bad_words_are_refused),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(absurd_outputs_are_refused),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(every_wrong_shape_is_named),
        cmocka_unit_test(unknown_tensors_are_named),
        cmocka_unit_test(numbers_must_be_finite),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
