/* Our own format: what perceiver.json may say, and what is refused with its place. Numbers are held
 * by the golden cases. */
#include "lib/perceiver.h"

#include "tests/unit/native.h"

static struct pcv_err e;

static struct pcv_model *open_model(const char *text)
{
    struct pcv_model *m;

    CHECK_OK(pcv_model_open(&m, native_model(text), NULL, &e), e);
    return m;
}

/* ---- what a model says of itself
 * -------------------------------------------------------------------------------- */

static void inputs_are_separate(void **state)
{
    static const enum pcv_input_kind kinds[] = {PCV_INPUT_IMAGE, PCV_INPUT_AUDIO, PCV_INPUT_TEXT,
                                                PCV_INPUT_ARRAY};
    static const char *const encoders[] = {"see", "hear", "read", "hear"};
    static const int tokens[] = {8, 10, 20, 15};
    struct pcv_model *m = open_model(native_separate);
    const struct pcv_model_info *info = pcv_model_info(m);

    (void)state;
    assert_string_equal(info->architecture, "apart");
    assert_string_equal(info->upstream, "perceiver-1");
    assert_false(info->together);
    assert_int_equal(info->ninputs, LEN(kinds));
    for (int i = 0; i < info->ninputs; i++) {
        assert_int_equal(info->inputs[i].kind, kinds[i]);
        assert_int_equal(info->inputs[i].max_tokens, tokens[i]);
        assert_string_equal(info->inputs[i].encoder, encoders[i]);
    }
    assert_string_equal(info->inputs[1].media[0], "audio/wav");
    assert_null(info->inputs[3].media[0]);
    pcv_model_close(m);
}

static void tasks_have_their_inputs(void **state)
{
    static const struct {
        const char *name;
        enum pcv_task_kind kind;
        unsigned inputs;
        int width, rows;
        const char *points;
    } want[] = {
        {"what", PCV_TASK_CLASSIFY, 3, 3, 1, NULL},
        {"force", PCV_TASK_REGRESSION, 8, 2, 1, NULL},
        {"fill", PCV_TASK_FILL_MASK, 4, 262, 20, "fill.positions"},
        {"again", PCV_TASK_IMAGE, 1, 1, 48, "again.positions"},
        {"mean", PCV_TASK_EMBED, 15, 12, 1, NULL},
        {"point", PCV_TASK_EMBED, 15, 4, 1, NULL},
        {"rows", PCV_TASK_TENSOR, 15, 8, 3, "rows.positions"},
        {"ask", PCV_TASK_TENSOR, 15, 2, 6, NULL},
    };
    struct pcv_model *m = open_model(native_separate);
    const struct pcv_model_info *info = pcv_model_info(m);

    (void)state;
    assert_int_equal(info->ntasks, LEN(want));
    for (int i = 0; i < info->ntasks; i++) {
        const struct pcv_task_info *t = &info->tasks[i];

        assert_string_equal(t->name, want[i].name);
        assert_string_equal(t->output.name, want[i].name);
        assert_int_equal(t->kind, want[i].kind);
        assert_int_equal(t->inputs, want[i].inputs);
        assert_int_equal(t->width, want[i].width);
        assert_int_equal(t->max_rows, want[i].rows);
        assert_true(!t->points == !want[i].points);
        if (t->points)
            assert_string_equal(t->points, want[i].points);
    }
    assert_string_equal(pcv_task_label(m, 1, 1), "y");
    assert_true(info->tasks[4].pooled && !info->tasks[5].pooled);
    assert_int_equal(info->tasks[3].frames, 1);
    assert_int_equal(info->tasks[3].height, 6);
    assert_int_equal(info->tasks[3].width_px, 8);
    assert_true(info->tasks[3].mean[0] == 0.5f && info->tasks[3].std[0] == 0.25f);
    pcv_model_close(m);
}

static void tensors_have_the_inputs_names(void **state)
{
    static const char *const names[] = {"image",           "sound",          "text",
                                        "text.mask",       "wind",           "fill.positions",
                                        "again.positions", "rows.positions", "queries"};
    struct pcv_model *m = open_model(native_separate);
    const struct pcv_model_info *info = pcv_model_info(m);

    (void)state;
    assert_int_equal(info->ntensors, LEN(names));
    for (int i = 0; i < info->ntensors; i++) {
        assert_string_equal(info->tensors[i].name, names[i]);
        assert_true(info->tensors[i].optional);
    }
    pcv_model_close(m);
}

static void together_is_one_input(void **state)
{
    struct pcv_model *m = open_model(native_together);
    const struct pcv_model_info *info = pcv_model_info(m);

    (void)state;
    assert_true(info->together);
    assert_string_equal(info->architecture, "perceiver");
    assert_int_equal(info->ninputs, 4);
    assert_int_equal(info->tasks[1].inputs, 15);
    pcv_model_close(m);
}

/* ---- what is refused
 * -------------------------------------------------------------------------------------------- */

struct refusal {
    const char *path, *value; /* set, or with NULL taken away */
    int code;
    const char *where, *msg;
};

static void check_refused(const char *text, const struct refusal *cases, size_t n)
{
    native_model(text);
    for (size_t i = 0; i < n; i++) {
        const struct refusal *c = &cases[i];
        struct pcv_model *m = NULL;
        json_t *doc = native_json(text);
        char where[256];
        int r;

        native_set(doc, c->path, c->value);
        native_write(doc);
        json_decref(doc);
        snprintf(where, sizeof(where), "%s/perceiver.json: %s", tiny_dir, c->where);
        r = pcv_model_open(&m, tiny_dir, NULL, &e);
        if (r != c->code || strcmp(e.where, where) != 0 || !strstr(e.msg, c->msg))
            fail_msg("%s = %s: %s at \"%s\": %s; want %s at \"%s\": %s", c->path, c->value,
                     pcv_code_name(r), e.where, e.msg, pcv_code_name(c->code), where, c->msg);
        assert_null(m);
    }
}

static void what_the_schema_forbids(void **state)
{
    static const struct refusal cases[] = {
        {"format", "'perceiver-2'", PCV_EUNSUPPORTED, "$.format", "perceiver-1"},
        {"latents", NULL, PCV_EMISSING, "$.latents", "missing"},
        {"latents.count", "0", PCV_ERANGE, "$.latents.count", "less than 1"},
        {"latents.depth", "3", PCV_EUNKNOWN, "$.latents.depth", "nobody"},
        {"encoders", "{}", PCV_ERANGE, "$.encoders", "0 keys"},
        {"encoders.see.heads", "'two'", PCV_EFORMAT, "$.encoders.see.heads", "integer"},
        {"inputs.0.kind", "'video'", PCV_EUNKNOWN, "$.inputs[0].kind",
         "kind \"video\"; one of text, image, audio, array"},
        {"inputs.0.channels", "2", PCV_EUNKNOWN, "$.inputs[0].channels", "none of 1, 3"},
        {"inputs.2.position", "{'kind': 'none'}", PCV_EUNKNOWN, "$.inputs[2].position", "nobody"},
        {"inputs.3.name", "'Wind'", PCV_EFORMAT, "$.inputs[3].name", "does not match"},
        {"tasks.0.labels", "[]", PCV_ERANGE, "$.tasks[0].labels", "at least 1"},
        {"tasks.0.labels.1", "7", PCV_EFORMAT, "$.tasks[0].labels[1]", "string"},
        {"tasks.3.query.kind", "'grid'", PCV_EUNKNOWN, "$.tasks[3].query.kind", "one of learned"},
        {"activation", "'relu'", PCV_EUNKNOWN, "$.activation", "gelu, gelu_tanh"},
    };

    (void)state;
    check_refused(native_separate, cases, LEN(cases));
}

static void layers_that_contradict_themselves(void **state)
{
    static const struct refusal cases[] = {
        {"encoders.see.heads", "5", PCV_ESHAPE, "$.encoders.see.heads", "do not divide 8 query"},
        {"process.heads", "5", PCV_ESHAPE, "$.process.heads", "do not divide 12 query"},
        {"decoders.judge.v", "11", PCV_ESHAPE, "$.decoders.judge.heads", "11 value"},
        {"encoders.more", "{'heads': 1}", PCV_EUNKNOWN, "$.encoders.more", "no input"},
        {"encoders.read.channels", "7", PCV_ESHAPE, "$.encoders.read.channels", "text has 8"},
    };

    (void)state;
    check_refused(native_separate, cases, LEN(cases));
}

static void more_steps_than_there_are(void **state)
{
    static const struct refusal cases[] = {
        {"process", "{'layers': 16, 'repeats': 32, 'heads': 3}", PCV_ELIMIT, "$.process.repeats",
         "more than 511 steps"},
    };

    (void)state;
    check_refused(native_separate, cases, LEN(cases));
}

static void inputs_that_contradict_themselves(void **state)
{
#define SPECTRUM "$.inputs[1].spectrum."
#define POSITION "{'kind': 'fourier', 'bands': 3, 'max_resolution': [2]}"
    static const struct refusal cases[] = {
        {"inputs.0.name", "'queries'", PCV_EFORMAT, "$.inputs[0].name", "output queries"},
        {"inputs.1.name", "'image'", PCV_EFORMAT, "$.inputs[1].name", "input 0 too"},
        {"inputs.0.encoder", "'look'", PCV_EUNKNOWN, "$.inputs[0].encoder", "no encoder \"look\""},
        {"inputs.0.patch", "[3, 3]", PCV_ESHAPE, "$.inputs[0].patch[1]", "width of 8"},
        {"inputs.0.patch", "[4, 2]", PCV_ESHAPE, "$.inputs[0].patch[0]", "height of 6"},
        {"inputs.0.mean", "[0, 0, 0]", PCV_ESHAPE, "$.inputs[0].mean", "3 numbers for 1"},
        {"inputs.0.std", "[0]", PCV_ERANGE, "$.inputs[0].std[0]", "divided"},
        {"inputs.0.std", "[1, 1]", PCV_ESHAPE, "$.inputs[0].std", "2 numbers"},
        {"inputs.0.lift", "5", PCV_ESHAPE, "$.inputs[0].lift", "5 channels for 6"},
        {"inputs.0.position", POSITION, PCV_ESHAPE, "$.inputs[0].position.max_resolution",
         "1 numbers for 2 axes"},
        {"inputs.1.spectrum.window", "33", PCV_ERANGE, SPECTRUM "window", "even"},
        {"inputs.1.spectrum.low", "3900", PCV_ERANGE, SPECTRUM "high", "not above low"},
        {"inputs.1.spectrum.high", "4001", PCV_ERANGE, SPECTRUM "high", "half the rate"},
        {"inputs.1.patch", "2", PCV_EFORMAT, "$.inputs[1].patch", "spectrum"},
        {"inputs.3.size", "[8000, 8000]", PCV_ELIMIT, "$.inputs[3]", "tokens"},
        {"inputs.3.lift", "1", PCV_ESHAPE, "$.inputs[3].lift", "for 2 numbers"},
    };
#undef SPECTRUM
#undef POSITION

    (void)state;
    check_refused(native_separate, cases, LEN(cases));
}

static void tasks_that_contradict_themselves(void **state)
{
#define FOURIER(size, n, bands)                                                                    \
    "{'kind': 'fourier', 'size': " size ", 'bands': " bands ", 'max_resolution': " n "}"
    static const struct refusal cases[] = {
        {"tasks.1.name", "'what'", PCV_EFORMAT, "$.tasks[1].name", "task 0 too"},
        {"tasks.0.decoder", "'jury'", PCV_EUNKNOWN, "$.tasks[0].decoder", "no decoder \"jury\""},
        {"tasks.0.for", "['image', 'smell']", PCV_EUNKNOWN, "$.tasks[0].for[1]", "smell"},
        {"tasks.0.for", "['image', 'image']", PCV_EFORMAT, "$.tasks[0].for[1]", "twice"},
        {"tasks.2.for", "['image']", PCV_EUNSUPPORTED, "$.tasks[2].for", "one text"},
        {"tasks.2.for", "['text', 'image']", PCV_EUNSUPPORTED, "$.tasks[2].for", "one text"},
        {"tasks.2.decoder", "'judge'", PCV_ESHAPE, "$.tasks[2].decoder", "text"},
        {"tasks.3.query", "{'kind': 'learned'}", PCV_EUNSUPPORTED, "$.tasks[3].query.kind",
         "fourier"},
        {"tasks.3.query", FOURIER("[6]", "[6]", "2"), PCV_ESHAPE, "$.tasks[3].query.size",
         "1 axes"},
        {"tasks.3.query", FOURIER("[6, 8]", "[6]", "2"), PCV_ESHAPE,
         "$.tasks[3].query.max_resolution", "for 2 axes"},
        {"tasks.3.query", FOURIER("[6, 8]", "[6, 8]", "3"), PCV_ESHAPE, "$.tasks[3].query.bands",
         "14 channels, the decoder has 12"},
        {"tasks.3.query", FOURIER("[8000, 8000]", "[6, 8]", "2"), PCV_ELIMIT,
         "$.tasks[3].query.size", "output queries"},
        {"tasks.3.mean", "[0, 0]", PCV_ESHAPE, "$.tasks[3].mean", "2 numbers for 1"},
        {"tasks.3.std", "[0]", PCV_ERANGE, "$.tasks[3].std[0]", "divided"},
        {"tasks.4.channels", "7", PCV_EUNKNOWN, "$.tasks[4].channels", "mean of the latents"},
        {"tasks.5.channels", NULL, PCV_EMISSING, "$.tasks[5].channels", "beside decoder"},
        {"tasks.6.query", "{'kind': 'input'}", PCV_EUNSUPPORTED, "$.tasks[6].query.kind",
         "one input"},
        {"tasks.6",
         "{'name': 'rows', 'kind': 'tensor', 'decoder': 'spell', 'for': ['image'],"
         " 'query': {'kind': 'input'}}",
         PCV_ESHAPE, "$.tasks[6].decoder", "tokens of image have 20"},
        {"tasks.6",
         "{'name': 'rows', 'kind': 'tensor', 'decoder': 'spell', 'for': ['text'],"
         " 'query': {'kind': 'input'}}",
         PCV_EUNSUPPORTED, "$.tasks[7].query.kind", "of the caller"},
        {"tasks.8",
         "{'name': 'other', 'kind': 'tensor', 'decoder': 'spell',"
         " 'query': {'kind': 'caller', 'rows': 3}}",
         PCV_ESHAPE, "$.tasks[8].decoder", "queries of ask"},
    };
#undef FOURIER

    (void)state;
    check_refused(native_separate, cases, LEN(cases));
}

static void together_has_rules_of_its_own(void **state)
{
    static const struct refusal cases[] = {
        {"inputs.0.encoder", "'other'", PCV_EUNKNOWN, "$.inputs[0].encoder", "no encoder"},
        {"tasks.0",
         "{'name': 'what', 'kind': 'tensor', 'decoder': 'judge', 'for': ['note'],"
         " 'query': {'kind': 'input'}}",
         PCV_EUNSUPPORTED, "$.tasks[0].query.kind", "one input"},
    };
    static const struct refusal shared[] = {
        {"together", "true", PCV_EUNSUPPORTED, "$.inputs[1].encoder", "share one encoder"},
    };

    (void)state;
    check_refused(native_together, cases, LEN(cases));
    check_refused(native_separate, shared, LEN(shared));
}

static void a_second_text_is_refused_together(void **state)
{
    struct pcv_model *m = NULL;
    json_t *doc = native_json(native_together);
    struct tiny_file *f = malloc(sizeof(*f));

    (void)state;
    assert_non_null(f);
    native_set(doc, "inputs.3",
               "{'name': 'more', 'kind': 'text', 'encoder': 'all', 'positions': 3, 'channels': 8}");
    native_tensors(f, doc);
    tiny_write_tensors(f);
    native_write(doc);
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EUNSUPPORTED, "$.inputs[3].kind",
                "a second text");
    tiny_free(f);
    free(f);
    json_decref(doc);
}

/* ---- files
 * -------------------------------------------------------------------------------------------------
 */

static void unused_decoders_are_refused(void **state)
{
    struct pcv_model *m = NULL;
    json_t *doc = native_json(native_together);
    struct tiny_file *f = malloc(sizeof(*f));

    (void)state;
    assert_non_null(f);
    native_set(doc, "decoders.more", "{'heads': 1, 'channels': 4}");
    native_tensors(f, doc);
    tiny_write_tensors(f);
    native_write(doc);
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EUNKNOWN,
                "perceiver.json: $.decoders.more", "no task");
    tiny_free(f);
    free(f);
    json_decref(doc);
}

static void every_tensor_is_needed_and_known(void **state)
{
    static const char *const some[] = {
        "latents",
        "encoders.see.norm_kv.weight",
        "encoders.hear.mlp2.bias",
        "process.1.norm.bias",
        "decoders.paint.out.weight",
        "inputs.wind.lift.weight",
        "inputs.wind.padding",
        "inputs.text.bytes",
        "tasks.what.head.bias",
        "tasks.again.padding",
        "tasks.fill.head.bias",
        "tasks.rows.query",
    };
    struct tiny_file *f = malloc(sizeof(*f));
    json_t *doc = native_json(native_separate);
    struct pcv_model *m = NULL;

    (void)state;
    assert_non_null(f);
    native_write(doc);
    for (size_t i = 0; i < LEN(some); i++) {
        native_tensors(f, doc);
        tiny_remove(f, some[i]);
        tiny_write_tensors(f);
        CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EMISSING, some[i], "missing");
        tiny_free(f);
        native_tensors(f, doc);
        tiny_find(f, some[i])->shape[0]--;
        tiny_find(f, some[i])->nbytes -=
            tiny_find(f, some[i])->nbytes / (size_t)(tiny_find(f, some[i])->shape[0] + 1);
        tiny_write_tensors(f);
        CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_ESHAPE, some[i], "shape");
        tiny_free(f);
    }
    native_tensors(f, doc);
    tiny_add(f, "tasks.nobody.query", 0, 1, TINY_SHAPE(1, 8));
    tiny_write_tensors(f);
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EUNKNOWN, "tasks.nobody.query", "");
    tiny_free(f);
    free(f);
    json_decref(doc);
}

static void config_json_is_not_looked_at(void **state)
{
    struct pcv_model *m;

    (void)state;
    native_model(native_separate);
    tiny_write_text("config.json", "no JSON");
    CHECK_OK(pcv_model_open(&m, tiny_dir, NULL, &e), e);
    pcv_model_close(m);
}

static void broken_descriptions_are_refused(void **state)
{
    struct pcv_model *m = NULL;

    (void)state;
    native_model(native_separate);
    tiny_write_text("perceiver.json", "{\"format\": \"perceiver-1\", \"format\": 1}");
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EFORMAT, "perceiver.json",
                "duplicate");
    tiny_write_text("perceiver.json", "{\"format\": ");
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EFORMAT, "perceiver.json", "line 1");
    tiny_write_text("perceiver.json", "[]");
    CHECK_FAILS(pcv_model_open(&m, tiny_dir, NULL, &e), e, PCV_EFORMAT, "perceiver.json", "object");
    assert_null(m);
}

static uint64_t fingerprint(void)
{
    struct pcv_model *m;
    uint64_t f;

    CHECK_OK(pcv_model_open(&m, tiny_dir, NULL, &e), e);
    f = pcv_model_info(m)->fingerprint;
    pcv_model_close(m);
    return f;
}

static void fingerprints_tell_models_apart(void **state)
{
    json_t *doc = native_json(native_together);
    struct tiny_file *f = malloc(sizeof(*f));
    uint64_t first, other;

    (void)state;
    assert_non_null(f);
    native_model(native_together);
    first = fingerprint();
    assert_true(first == fingerprint());
    native_set(doc, "tasks.0.labels.0", "'z'");
    native_write(doc);
    other = fingerprint();
    assert_true(first != other);
    native_tensors(f, doc);
    f->data[3][0] += 1;
    tiny_write_tensors(f);
    assert_true(fingerprint() != first && fingerprint() != other);
    tiny_free(f);
    free(f);
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_separate),
        cmocka_unit_test(tasks_have_their_inputs),
        cmocka_unit_test(tensors_have_the_inputs_names),
        cmocka_unit_test(together_is_one_input),
        cmocka_unit_test(what_the_schema_forbids),
        cmocka_unit_test(layers_that_contradict_themselves),
        cmocka_unit_test(more_steps_than_there_are),
        cmocka_unit_test(inputs_that_contradict_themselves),
        cmocka_unit_test(tasks_that_contradict_themselves),
        cmocka_unit_test(together_has_rules_of_its_own),
        cmocka_unit_test(a_second_text_is_refused_together),
        cmocka_unit_test(unused_decoders_are_refused),
        cmocka_unit_test(every_tensor_is_needed_and_known),
        cmocka_unit_test(config_json_is_not_looked_at),
        cmocka_unit_test(broken_descriptions_are_refused),
        cmocka_unit_test(fingerprints_tell_models_apart),
    };

    return cmocka_run_group_tests(tests, tiny_setup, native_teardown);
}
