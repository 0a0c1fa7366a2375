/* Multiply-adds of the published configurations, from blueprints made by hand, against what the
 * papers and files say (in billions). */
#include "lib/model/cost.h"

#include "lib/model/model.h"
#include "tests/unit/tiny.h"

static const float some; /* stands for weights that are there */
static struct pcv_model m;

/* The process stack: blocks of layers that share weights. */
static void process(int latents, int d, int heads, int qk, int blocks, int layers)
{
    m.bp.num_latents = latents;
    m.bp.d_latents = d;
    m.bp.nself = layers;
    m.bp.step[m.bp.nsteps++] = (struct pcv_step){PCV_STEP_CROSS, 0};
    for (int i = 0; i < layers; i++)
        m.bp.self[i].d = (struct pcv_layer_dims){.heads = heads,
                                                 .q_dim = d,
                                                 .kv_dim = d,
                                                 .qk = qk,
                                                 .v = d,
                                                 .hidden = d,
                                                 .residual = true};
    for (int i = 0; i < blocks * layers; i++)
        m.bp.step[m.bp.nsteps++] = (struct pcv_step){PCV_STEP_SELF, i % layers};
}

static void cross(int heads, int channels, int qk, int v)
{
    m.bp.ncross = 1;
    m.bp.cross[0].d = (struct pcv_layer_dims){.heads = heads,
                                              .q_dim = m.bp.d_latents,
                                              .kv_dim = channels,
                                              .qk = qk,
                                              .v = v,
                                              .hidden = m.bp.d_latents,
                                              .residual = true,
                                              .cross = true};
}

static void task(int rows, int q_dim, int heads, int qk, int v, int between, int width)
{
    struct pcv_task *t = &m.bp.task[m.bp.ntasks];

    t->rows = rows;
    t->width = width;
    t->between = between;
    t->head.w = &some;
    t->layer.k.w = &some; /* the same keys for all tasks of a model */
    t->layer.d = (struct pcv_layer_dims){.heads = heads,
                                         .q_dim = q_dim,
                                         .kv_dim = m.bp.d_latents,
                                         .qk = qk,
                                         .v = v,
                                         .hidden = q_dim,
                                         .cross = true};
    m.plan.decoder[m.bp.ntasks++] = (struct pcv_decoder){.kind = PCV_DECODE_LEARNED,
                                                         .layer = &t->layer,
                                                         .latents = m.bp.num_latents,
                                                         .d_latents = m.bp.d_latents,
                                                         .rows = rows,
                                                         .head = t->head,
                                                         .width = width};
}

/* A grid of pixels with Fourier features on both axes. */
static struct pcv_grid_adapter *grid(int height, int width, int raw, int bands)
{
    struct pcv_adapter *a = &m.bp.input[m.bp.ninputs++];
    struct pcv_grid_adapter *g = &a->grid;

    a->kind = PCV_INPUT_IMAGE;
    g->axes = 2;
    g->raw = g->content = g->before = raw;
    g->size[0] = height;
    g->size[1] = width;
    g->position = PCV_POSITION_FOURIER;
    g->bands = bands;
    g->position_channels = 2 * (1 + 2 * bands);
    a->channels = raw + g->position_channels;
    return g;
}

static void begin(void)
{
    memset(&m, 0, sizeof(m));
}

/* Within half of the last digit that is printed, of encode. */
static void costs(const char *name, double encode, double process, double decode, double digit)
{
    struct pcv_cost done, dense;

    m.plan.encoder[0] = (struct pcv_encoder){.layer = &m.bp.cross[0],
                                             .num_latents = m.bp.num_latents,
                                             .channels = m.bp.cross[0].d.kv_dim};
    m.plan.encoder[0].mode = pcv_encode_choose(&m.plan.encoder[0], &m.bp, 0);
    pcv_cost_nominal(&m, 0, &done, &dense);
    CHECK_ONE(dense.encode * 1e-9, encode, digit / 2, "%s", name);
    CHECK_ONE(dense.process * 1e-9, process, digit * (process > 100 ? 5 : 0.5), "%s", name);
    CHECK_ONE(dense.decode * 1e-9, decode, digit / 2, "%s", name);
    assert_true(done.process == dense.process);
    assert_true(done.encode > 0 && done.encode < dense.encode);
    assert_true(done.decode > 0 && done.decode <= dense.decode);
}

static void language(void **state)
{
    struct pcv_adapter *a;

    (void)state;
    begin();
    process(256, 1280, 8, 256, 1, 26);
    cross(8, 768, 256, 1280);
    a = &m.bp.input[m.bp.ninputs++];
    a->kind = PCV_INPUT_TEXT;
    a->channels = 768;
    a->text.vocab = 262;
    a->text.max_positions = 2048;
    m.bp.padded_tokens = m.bp.padded_rows = 2048;
    task(2048, 768, 8, 256, 768, 0, 262);
    costs("language", 4.56, 50.60, 5.31, 0.01);
    assert_int_equal(m.plan.encoder[0].mode, PCV_ENCODE_TABLES);
}

static void images(void **state)
{
    struct pcv_grid_adapter *g;

    (void)state;
    begin();
    process(512, 1024, 8, 1024, 8, 6);
    cross(1, 261, 261, 261);
    grid(224, 224, 3, 64);
    task(1, 1024, 1, 1024, 1024, 0, 1000);
    costs("ImageNet, Fourier", 21.6, 180.4, 1.08, 0.1);

    begin();
    process(512, 1024, 8, 1024, 8, 6);
    cross(1, 512, 512, 512);
    g = grid(224, 224, 3, 0);
    g->position = PCV_POSITION_LEARNED;
    g->content = g->position_channels = 256;
    g->lift = &some;
    m.bp.input[0].channels = 512;
    task(1, 1024, 1, 1024, 1024, 0, 1000);
    costs("ImageNet, learned", 57.6, 180.4, 1.08, 0.1);

    begin();
    process(512, 1024, 8, 1024, 8, 6);
    cross(1, 322, 322, 322);
    g = grid(55, 55, 64, 64);
    g->stem.weight = &some;
    g->stem.out = 64;
    task(1, 1024, 1, 1024, 1024, 0, 1000);
    /* where pixels fall out of the pooling is not known from tokens */
    costs("ImageNet, convolution", 3.15, 180.4, 1.08, 0.02);
}

static void flow(void **state)
{
    struct pcv_grid_adapter *g;

    (void)state;
    begin();
    process(2048, 512, 16, 512, 1, 24);
    cross(1, 322, 322, 322);
    g = grid(368, 496, 64, 64);
    g->before = 54;
    g->project = &some;
    task(368 * 496, 322, 1, 512, 512, 0, 2);
    m.bp.task[0].source = PCV_QUERY_INPUT;
    m.plan.decoder[0].kind = PCV_DECODE_TOKENS;
    costs("optical flow", 281, 180, 482, 1);
}

/* Audio of 1920 patches, 50,176 video patches, a label; 804,737 output queries. */
static void multimodal(void **state)
{
    static const int tokens[] = {1920, 50176, 1}, rows[] = {1920, 802816, 1},
                     width[] = {16, 3, 700};

    (void)state;
    begin();
    process(784, 512, 8, 512, 1, 8);
    cross(1, 704, 704, 704);
    for (int i = 0; i < 3; i++) {
        grid(1, tokens[i], 16, 0)->position = PCV_POSITION_NONE;
        m.bp.input[i].channels = 704;
        task(rows[i], 1026, 1, 512, 512, 512, width[i]);
    }
    costs("multimodal", 110, 14.9, 3610, 1);
}

/* Only the rows asked for cost anything in decode; the rest is the same. */
static void an_item_costs_what_it_asks(void **state)
{
    const struct pcv_media text = {.data = "what the longest text makes", .len = 18};
    static const int32_t three[] = {5, 5, 2};
    struct pcv_query q[] = {{.task = 0}, {.task = 0}, {.task = 0, .nrows = 3, .rows = three}};
    struct pcv_cost nominal[2], none[2], all[2], few[2], twice[2];
    struct pcv_model *tiny;
    struct pcv_input *in;
    struct pcv_item item = {.queries = q};
    struct pcv_err e = {0};

    (void)state;
    CHECK_OK(pcv_model_open(&tiny, tiny_model(&tiny_masked_lm), NULL, &e), e);
    CHECK_OK(pcv_input_from_media(&in, tiny, &text, 1, &e), e); /* as long as the model takes */
    item.input = in;
    pcv_cost_nominal(tiny, 0, &nominal[0], &nominal[1]);
    pcv_cost_item(tiny, &item, &none[0], &none[1]);
    item.nqueries = 1;
    pcv_cost_item(tiny, &item, &all[0], &all[1]);
    item.nqueries = 2;
    pcv_cost_item(tiny, &item, &twice[0], &twice[1]);
    item.nqueries = 1;
    item.queries = &q[2];
    pcv_cost_item(tiny, &item, &few[0], NULL);
    pcv_cost_item(tiny, &item, NULL, &few[1]);
    for (int i = 0; i < 2; i++) { /* done, dense */
        assert_true(all[i].encode == nominal[i].encode && all[i].process == nominal[i].process);
        assert_true(all[i].decode == nominal[i].decode);
        assert_true(none[i].encode == all[i].encode && none[i].decode == 0);
    }
    /* keys and values of 6 latents are projected once; the upstream computes all rows anyhow */
    assert_true(twice[0].decode == 2 * all[0].decode - 6 * 16 * (256 + 24));
    assert_true(twice[1].decode == all[1].decode);
    assert_true(few[0].decode < all[0].decode);
    assert_true(few[1].decode == all[1].decode);
    pcv_input_free(in);
    pcv_model_close(tiny);
}

/* More layers than cross-attentions can be counted. */
static void deep_models_are_counted(void **state)
{
    struct tiny t = tiny_masked_lm;
    struct pcv_cost one, many;
    struct pcv_model *tiny;
    struct pcv_err e = {0};

    (void)state;
    t.layers = 1;
    CHECK_OK(pcv_model_open(&tiny, tiny_model(&t), NULL, &e), e);
    pcv_cost_nominal(tiny, 0, &one, NULL);
    pcv_model_close(tiny);
    t.layers = 20;
    t.blocks = 10;
    CHECK_OK(pcv_model_open(&tiny, tiny_model(&t), NULL, &e), e);
    pcv_cost_nominal(tiny, 0, &many, NULL);
    assert_true(many.process == 200 * one.process);
    assert_true(many.encode == one.encode && many.decode == one.decode);
    pcv_model_close(tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language),
        cmocka_unit_test(images),
        cmocka_unit_test(flow),
        cmocka_unit_test(multimodal),
        cmocka_unit_test(an_item_costs_what_it_asks),
        cmocka_unit_test(deep_models_are_counted),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
