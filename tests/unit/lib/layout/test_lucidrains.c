/* lucidrains/perceiver-pytorch: what its configuration may say. Numbers are held by the golden
 * cases. */
#include "tests/unit/lib/layout/respelt.h"

#define TIED   "lucidrains-perceiver-tied"
#define UNTIED "lucidrains-perceiver-untied"
#define IO     "lucidrains-perceiver-io"
#define LM     "lucidrains-perceiver-lm"
#define POINTS "points-coordinates"
#define AUDIO  "audio-patches"

static void contradictions_are_refused(void **state)
{
    static const struct respelt cases[] = {
        {TIED, "{\"num_latents\": 25}", PCV_ESHAPE, "latents", "[24,48], the configuration wants"},
        {TIED, "{\"depth\": 2}", PCV_EUNKNOWN, "layers.2.0", "not part"},
        {UNTIED, "{\"depth\": 4}", PCV_EMISSING, "layers.3.0", "missing"},
        {TIED, "{\"self_per_cross_attn\": 1}", PCV_EUNKNOWN, "layers.0.2.1", "not part"},
        {UNTIED, "{\"weight_tie_layers\": true}", PCV_ESHAPE, "layers.2.0.norm.weight",
         "layers.1.0.norm.weight, though weight_tie_layers"},
        {TIED, "{\"num_freq_bands\": 7}", PCV_ESHAPE, "norm_context", "[29]"},
        {TIED, "{\"input_axis\": 1}", PCV_ESHAPE, "norm_context", "[29]"},
        {TIED, "{\"num_classes\": 11}", PCV_ESHAPE, "to_logits.2.weight", "[11,48]"},
        {TIED, "{\"id2label\": {\"0\": \"a\"}}", PCV_ESHAPE, "id2label", "num_classes is 10"},
        {TIED, "{\"final_classifier_head\": false}", PCV_EUNKNOWN, "to_logits", "not part"},
        {IO, "{\"decoder_ff\": false}", PCV_EUNKNOWN, "decoder_ff", "not part"},
        {IO, "{\"logits_dim\": null}", PCV_EUNKNOWN, "to_logits", "not part"},
        {IO, "{\"queries_dim\": 27}", PCV_ESHAPE, "decoder_cross_attn", "[28]"},
        {LM, "{\"num_tokens\": 38}", PCV_ESHAPE, "token_emb.weight", "[38,16]"},
        {LM, "{\"max_seq_len\": 23}", PCV_ESHAPE, "pos_emb.weight", "[23,16]"},
        {POINTS, "{\"input_channels\": 2}", PCV_ESHAPE, "norm_context", "[39]"},
        {POINTS, "{\"coordinates\": {\"num_freq_bands\": 5}}", PCV_ESHAPE, "norm_context", "[39]"},
        {POINTS, "{\"fourier_encode_data\": true}", PCV_ESHAPE, "coordinates",
         "fourier_encode_data"},
        {POINTS, "{\"patch\": [3]}", PCV_ESHAPE, "coordinates", "patch"},
        {AUDIO, "{\"patch\": [15]}", PCV_ESHAPE, "patch", "input_channels"},
        {AUDIO, "{\"patch\": [32]}", PCV_ESHAPE, "patch", "input_channels"},
        {AUDIO, "{\"input_size\": [100]}", PCV_ESHAPE, "input_size", "patch"},
    };

    (void)state;
    respelt_refused(cases, LEN(cases));
}

static void bad_values_are_refused(void **state)
{
    static const struct respelt cases[] = {
        {TIED, "{\"class\": \"PerceiverX\"}", PCV_EUNSUPPORTED, "class", "PerceiverIO"},
        {TIED, "{\"class\": 3}", PCV_EFORMAT, "class", "string"},
        {TIED, "{\"num_latent\": 3}", PCV_EUNKNOWN, "num_latent", "nobody"},
        {TIED, "{\"depth\": null}", PCV_EMISSING, "depth", "missing"},
        {TIED, "{\"depth\": 0}", PCV_EUNSUPPORTED, "depth", "without layers"},
        {TIED, "{\"depth\": 65}", PCV_ELIMIT, "depth", "65"},
        {TIED, "{\"self_per_cross_attn\": 200}", PCV_ELIMIT, "depth", "200"},
        {TIED, "{\"max_freq\": null}", PCV_EMISSING, "max_freq", "missing"},
        {TIED, "{\"max_freq\": -1}", PCV_ERANGE, "max_freq", "-1"},
        {TIED, "{\"max_freq\": \"10\"}", PCV_EFORMAT, "max_freq", "number"},
        {TIED, "{\"num_freq_bands\": -1}", PCV_ERANGE, "num_freq_bands", "-1"},
        {TIED, "{\"input_axis\": 6}", PCV_ERANGE, "input_axis", "6"},
        {TIED, "{\"patch\": [1]}", PCV_EFORMAT, "patch", "2 whole numbers"},
        {TIED, "{\"patch\": [0, 1]}", PCV_ERANGE, "patch", "0"},
        {TIED, "{\"latent_dim\": 70000}", PCV_ERANGE, "latent_dim", "70000"},
        {TIED, "{\"attn_residual\": true}", PCV_EUNSUPPORTED, "attn_residual", "not served"},
        {IO, "{\"inverted_cross_attn\": true}", PCV_EUNSUPPORTED, "inverted_cross_attn", ""},
        {IO, "{\"dim\": null}", PCV_EMISSING, "dim", "missing"},
        {IO, "{\"queries_dim\": null}", PCV_EMISSING, "queries_dim", "missing"},
        {POINTS, "{\"coordinates\": {\"max_frequency\": 3}}", PCV_EUNKNOWN,
         "coordinates: max_frequency", "nobody"},
        {POINTS, "{\"coordinates\": 3}", PCV_EFORMAT, "coordinates", "object"},
    };

    (void)state;
    respelt_refused(cases, LEN(cases));
}

/* Only the names that a constructor leaves to its defaults, or that change nothing. */
static void harmless_keys_are_taken(void **state)
{
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, TIED,
                          "{\"input_channels\": null, \"input_axis\": null, \"cross_heads\": null,"
                          " \"attn_dropout\": 0.1, \"ff_dropout\": 0, \"attn_residual\": false}"),
             e);
    pcv_model_close(m);
    CHECK_OK(respelt_open(&m, IO, "{\"seq_dropout_prob\": 0.5, \"weight_tie_layers\": null}"), e);
    pcv_model_close(m);
}

static const struct pcv_tensor_spec *tensor_of(const struct pcv_model *m, const char *name)
{
    const struct pcv_model_info *info = pcv_model_info(m);

    for (int i = 0; i < info->ntensors; i++)
        if (strcmp(info->tensors[i].name, name) == 0)
            return &info->tensors[i];
    return NULL;
}

/* Tied layers are counted once, however often they are stored. */
static void counts_what_was_trained(void **state)
{
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, TIED, "{}"), e);
    assert_int_equal(pcv_model_info(m)->parameters, 213566);
    assert_null(tensor_of(m, "queries"));
    pcv_model_close(m);
}

/* A model of pictures takes them when it is said how; labels get names. */
static void pictures_and_labels(void **state)
{
    static const char ten[] =
        "{\"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\", \"3\": \"d\", \"4\": \"e\","
        " \"5\": \"f\", \"6\": \"g\", \"7\": \"h\", \"8\": \"i\", \"9\": \"j\"}}";
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, TIED, ten), e);
    assert_int_equal(pcv_model_info(m)->inputs[0].kind, PCV_INPUT_ARRAY);
    assert_string_equal(pcv_task_label(m, 0, 9), "j");
    pcv_model_close(m);
    respelt_write("preprocessor_config.json", "{\"size\": 20, \"crop_size\": 30}");
    CHECK_OK(respelt_open(&m, TIED, "{}"), e);
    assert_int_equal(pcv_model_info(m)->inputs[0].kind, PCV_INPUT_IMAGE);
    assert_int_equal(tensor_of(m, "data")->shape[3], 3);
    pcv_model_close(m);
    respelt_write("preprocessor_config.json", "{\"size\": 0}");
    CHECK_FAILS(respelt_open(&m, TIED, "{}"), e, PCV_ERANGE, "preprocessor_config.json", "");
    CHECK_OK(respelt_open(&m, UNTIED, "{}"), e); /* not pictures: the file is not looked at */
    pcv_model_close(m);
    unlink(respelt_path("preprocessor_config.json"));
}

/* The latents can be had without queries; the queries' own task cannot. */
static void queries_are_asked_for(void **state)
{
    static float data[3 * 20], queries[2 * 28], bad[3 * 27];
    struct pcv_tensor t[] = {
        {"data", PCV_F32, 3, {1, 3, 20}, data, sizeof(data)},
        {"queries", PCV_F32, 2, {2, 28}, queries, sizeof(queries)},
    };
    struct pcv_query q = {.task = 0};
    struct pcv_input *in;
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, IO, "{}"), e);
    assert_true(tensor_of(m, "queries")->optional);
    CHECK_OK(pcv_input_from_tensors(&in, m, t, 1, 0, &e), e);
    CHECK_FAILS(pcv_query_check(m, in, &q, &e), e, PCV_EMISSING, "queries", "decode");
    assert_int_equal(pcv_query_rows_all(m, 0, in), 0);
    q.task = 1;
    CHECK_OK(pcv_query_check(m, in, &q, &e), e);
    pcv_input_free(in);
    CHECK_OK(pcv_input_from_tensors(&in, m, t, 2, 0, &e), e);
    q.task = 0;
    CHECK_OK(pcv_query_check(m, in, &q, &e), e);
    assert_int_equal(pcv_query_rows_all(m, 0, in), 2);
    pcv_input_free(in);
    t[1] = (struct pcv_tensor){"queries", PCV_F32, 2, {3, 27}, bad, sizeof(bad)};
    CHECK_FAILS(pcv_input_from_tensors(&in, m, t, 2, 0, &e), e, PCV_ESHAPE, "queries", "[-1,28]");
    queries[5] = NAN;
    t[1] = (struct pcv_tensor){"queries", PCV_F32, 2, {2, 28}, queries, sizeof(queries)};
    CHECK_FAILS(pcv_input_from_tensors(&in, m, t, 2, 0, &e), e, PCV_ERANGE, "queries", "5");
    pcv_model_close(m);
}

/* One element for each token: patches, not samples. */
static void masks_are_for_tokens(void **state)
{
    static float data[48];
    static const uint8_t samples[48], none[3];
    struct pcv_tensor t[] = {
        {"data", PCV_F32, 3, {1, 48, 1}, data, sizeof(data)},
        {"mask", PCV_U8, 2, {1, 48}, samples, sizeof(samples)},
    };
    struct pcv_input *in;
    struct pcv_model *m;

    (void)state;
    CHECK_OK(respelt_open(&m, AUDIO, "{}"), e);
    CHECK_FAILS(pcv_input_from_tensors(&in, m, t, 2, 0, &e), e, PCV_ESHAPE, "mask", "[3]");
    t[1] = (struct pcv_tensor){"mask", PCV_U8, 2, {1, 3}, none, sizeof(none)};
    CHECK_FAILS(pcv_input_from_tensors(&in, m, t, 2, 0, &e), e, PCV_ERANGE, "data", "no token");
    t[0].shape[1] = 47;
    t[0].nbytes = 47 * sizeof(float);
    CHECK_FAILS(pcv_input_from_tensors(&in, m, t, 1, 0, &e), e, PCV_ESHAPE, "data", "16");
    pcv_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused), cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(harmless_keys_are_taken),    cmocka_unit_test(counts_what_was_trained),
        cmocka_unit_test(pictures_and_labels),        cmocka_unit_test(queries_are_asked_for),
        cmocka_unit_test(masks_are_for_tokens),
    };

    return cmocka_run_group_tests(tests, respelt_setup, respelt_teardown);
}
