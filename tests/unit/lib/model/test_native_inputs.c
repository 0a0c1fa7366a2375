/* Models of our own format with inputs one at a time: which one a medium or a tensor is, what it
 * becomes, who answers it. */
#include "lib/model/model.h"

#include "tests/unit/native.h"

enum { SAMPLES = 400, TASKS = 8 };
enum { IMAGE, SOUND, TEXT, WIND };

static struct pcv_err e;
static struct pcv_model *m;
static struct pcv_ws *ws, *plain;

static int setup(void **state)
{
    if (tiny_setup(state) < 0 || pcv_model_open(&m, native_model(native_separate), NULL, &e) < 0 ||
        pcv_ws_new(&ws, NULL, &e) < 0 || pcv_ws_reserve(ws, m, 1, 0, &e) < 0 ||
        pcv_ws_new(&plain, NULL, &e) < 0 || pcv_ws_reserve(plain, m, 1, PCV_WS_DENSE, &e) < 0)
        return -1;
    return 0;
}

static int teardown(void **state)
{
    pcv_ws_free(ws);
    pcv_ws_free(plain);
    pcv_model_close(m);
    return native_teardown(state);
}

static struct pcv_tensor tensor(const char *name, enum pcv_dtype dtype, const void *data, int ndim,
                                const int64_t *shape)
{
    struct pcv_tensor t = {.name = name, .dtype = dtype, .ndim = ndim, .data = data};

    memcpy(t.shape, shape, (size_t)ndim * sizeof(*shape));
    t.nbytes = (size_t)pcv_shape_bytes(dtype, shape, ndim);
    return t;
}

#define TENSOR(name, dtype, data, ...)                                                             \
    tensor(name, dtype, data, (int)LEN(((int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__})

static const int64_t ids[] = {4, 70, 3, 80, 81, 5}, keep[] = {1, 1, 0, 1, 1, 1};

static struct pcv_input *made(const struct pcv_tensor *t, int n)
{
    struct pcv_input *in = NULL;

    CHECK_OK(pcv_input_from_tensors(&in, m, t, n, 0, &e), e);
    return in;
}

/* One input of each kind, of full size. */
static struct pcv_input *usual(int which)
{
    static float numbers[SAMPLES];
    uint64_t seed = 3;
    struct pcv_tensor t[2];

    random_fill(&seed, numbers, SAMPLES, 0, 1);
    t[1] = TENSOR("queries", PCV_F32, numbers + 100, 4, 10);
    switch (which) {
    case IMAGE: t[0] = TENSOR("image", PCV_F32, numbers, 1, 6, 8, 1); break;
    case SOUND: t[0] = TENSOR("sound", PCV_F32, numbers, 1, SAMPLES); break;
    case TEXT: t[0] = TENSOR("text", PCV_I64, ids, 1, 6); break;
    default: t[0] = TENSOR("wind", PCV_F32, numbers, 1, 3, 5, 2); break;
    }
    return made(t, 2);
}

/* ---- media
 * -------------------------------------------------------------------------------------------------
 */

static const char words[] = "a [MASK]";

static struct pcv_media a_text(const char *name, const char *type)
{
    return (struct pcv_media){.input = name, .data = words, .len = strlen(words), .type = type};
}

static struct pcv_media a_picture(void **file)
{
    static uint8_t rgb[12 * 16 * 3];
    struct pcv_media p = {0};

    for (size_t i = 0; i < sizeof(rgb); i++)
        rgb[i] = (uint8_t)(i * 7);
    CHECK_OK(pcv_png_encode(rgb, 16, 12, file, &p.len, &e), e);
    p.data = *file;
    return p;
}

static struct pcv_media a_sound(void **file, size_t samples, int rate)
{
    static float x[4000];
    uint64_t seed = 5;
    struct pcv_media s = {0};

    random_fill(&seed, x, LEN(x), 0, 0.5f);
    CHECK_OK(pcv_wav_encode(x, samples, rate, file, &s.len, &e), e);
    s.data = *file;
    return s;
}

static void check_medium(const struct pcv_media *medium, int which, int tokens)
{
    struct pcv_input *in = NULL;

    CHECK_OK(pcv_input_from_media(&in, m, medium, 1, &e), e);
    assert_int_equal(pcv_input_which(in), which);
    assert_int_equal(pcv_input_tokens(in), tokens);
    pcv_input_free(in);
}

static void media_tell_what_they_are(void **state)
{
    void *png = NULL, *wav = NULL;
    struct pcv_media picture = a_picture(&png), sound = a_sound(&wav, SAMPLES, 8000);
    struct pcv_media text = a_text(NULL, "text/plain; charset=utf-8");

    (void)state;
    check_medium(&text, TEXT, 5);
    check_medium(&picture, IMAGE, 8); /* by its first bytes */
    check_medium(&sound, SOUND, 10);
    picture.type = "image/png";
    sound.type = "audio/wav";
    check_medium(&picture, IMAGE, 8);
    check_medium(&sound, SOUND, 10);
    picture.type = sound.type = text.type = NULL;
    picture.input = "image";
    sound.input = "sound";
    text.input = "text";
    check_medium(&picture, IMAGE, 8);
    check_medium(&sound, SOUND, 10);
    check_medium(&text, TEXT, 5);
    free(png);
    free(wav);
}

static void other_media_are_refused(void **state)
{
    static const char all[] = "image, sound, text, wind";
    struct pcv_media two[] = {a_text("text", NULL), a_text("text", NULL)};
    struct pcv_media unnamed = a_text(NULL, NULL), film = a_text(NULL, "video/mp4");
    struct pcv_media strange = a_text("smell", NULL), wind = a_text("wind", NULL);
    struct pcv_input *in = NULL;

    (void)state;
    CHECK_FAILS(pcv_input_from_media(&in, m, two, 2, &e), e, PCV_EFORMAT, "", all);
    CHECK_FAILS(pcv_input_from_media(&in, m, two, 0, &e), e, PCV_EMISSING, "", all);
    CHECK_FAILS(pcv_input_from_media(&in, m, &unnamed, 1, &e), e, PCV_EMISSING, "", all);
    CHECK_FAILS(pcv_input_from_media(&in, m, &film, 1, &e), e, PCV_EUNSUPPORTED, "", "video/mp4");
    CHECK_FAILS(pcv_input_from_media(&in, m, &strange, 1, &e), e, PCV_EUNKNOWN, "smell", all);
    CHECK_FAILS(pcv_input_from_media(&in, m, &wind, 1, &e), e, PCV_EUNSUPPORTED, "wind", "tensor");
    assert_null(in);
}

static void sounds_may_be_shorter(void **state)
{
    static const struct {
        int samples, rate, tokens;
    } cases[] = {{400, 8000, 10}, {399, 8000, 10},  {360, 8000, 9},  {41, 8000, 2},
                 {1, 8000, 1},    {800, 16000, 10}, {200, 4000, 10}, {1, 48000, 1}};
    struct pcv_input *in = NULL;
    struct pcv_media s;
    void *wav = NULL;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        s = a_sound(&wav, (size_t)cases[i].samples, cases[i].rate);
        check_medium(&s, SOUND, cases[i].tokens);
        free(wav);
    }
    s = a_sound(&wav, 401, 8000);
    CHECK_FAILS(pcv_input_from_media(&in, m, &s, 1, &e), e, PCV_ESHAPE, "sound",
                "0.050 s of sound; the model takes up to 0.050 s (400 samples at 8000 Hz)");
    free(wav);
    assert_null(in);
}

/* A picture of one colour is that colour's grey, whatever is cut off of it. */
static void pictures_are_grey_patches(void **state)
{
    enum { SIDE = 20, RAW = 6, CHANNELS = RAW + 2 * 7 };
    static uint8_t rgb[SIDE * SIDE * 3];
    float x[8 * CHANNELS], want;
    struct pcv_input *in = NULL;
    struct pcv_media p = {0};
    void *png;

    (void)state;
    for (size_t i = 0; i < LEN(rgb); i++)
        rgb[i] = (uint8_t[]){200, 100, 50}[i % 3];
    CHECK_OK(pcv_png_encode(rgb, SIDE, SIDE, &png, &p.len, &e), e);
    p.data = png;
    CHECK_OK(pcv_input_from_media(&in, m, &p, 1, &e), e);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    want = (124 / 255.0f - 0.5f) / 0.25f; /* (200 19595 + 100 38470 + 50 7471 + 32768) >> 16 */
    for (int t = 0; t < 8; t++)
        for (int c = 0; c < RAW; c++)
            CHECK_ONE(x[t * CHANNELS + c], want, 1e-6, "token %d number %d", t, c);
    pcv_input_free(in);
    free(png);
}

/* The largest central part that is shaped as the model's pictures: 4 to 3. */
static void pictures_are_cropped_to_shape(void **state)
{
    enum { W = 40, H = 12 };
    static uint8_t rgb[W * H * 3];
    float x[8 * 20], left, right;
    struct pcv_input *in = NULL;
    struct pcv_media p = {0};
    void *png;

    (void)state;
    for (int i = 0; i < W * H; i++) /* 12 x 16 pixels in the middle are white */
        memset(rgb + 3 * i, i % W >= 12 && i % W < 28 ? 255 : 0, 3);
    CHECK_OK(pcv_png_encode(rgb, W, H, &png, &p.len, &e), e);
    p.data = png;
    CHECK_OK(pcv_input_from_media(&in, m, &p, 1, &e), e);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    left = x[0];
    right = x[3 * 20 + 1];
    CHECK_ONE(left, 2, 1e-6, "left");
    CHECK_ONE(right, 2, 1e-6, "right");
    pcv_input_free(in);
    free(png);
}

/* ---- tensors
 * -----------------------------------------------------------------------------------------------
 */

static void tensors_are_of_one_input(void **state)
{
    static const float x[SAMPLES], bad[2] = {0, NAN};
    const struct pcv_tensor two[] = {TENSOR("sound", PCV_F32, x, 1, 10),
                                     TENSOR("text", PCV_I64, ids, 1, 6)};
    const struct pcv_tensor mask = TENSOR("text.mask", PCV_I64, keep, 1, 6);
    const struct pcv_tensor queries = TENSOR("queries", PCV_F32, x, 4, 10);
    const struct pcv_tensor wrong = TENSOR("inputs", PCV_F32, x, 1, 10);
    const struct pcv_tensor longer = TENSOR("sound", PCV_F32, x, 1, 401);
    const struct pcv_tensor nan = TENSOR("sound", PCV_F32, bad, 1, 2);
    const struct pcv_tensor wide = TENSOR("wind", PCV_F32, x, 1, 3, 6, 2);
    const struct pcv_tensor many[] = {two[0], TENSOR("queries", PCV_F32, x, 7, 10)};
    static const float most[401];
    struct pcv_tensor late = longer;
    struct pcv_input *in = NULL;

    (void)state;
    late.data = most;
    CHECK_FAILS((int)pcv_tensors_batch(m, two, 2, &e), e, PCV_EFORMAT, "", "sound and text");
    CHECK_FAILS((int)pcv_tensors_batch(m, &mask, 1, &e), e, PCV_EMISSING, "text", "mask");
    CHECK_FAILS((int)pcv_tensors_batch(m, &queries, 1, &e), e, PCV_EMISSING, "",
                "one of image, sound, text, wind");
    CHECK_FAILS((int)pcv_tensors_batch(m, &wrong, 1, &e), e, PCV_EUNKNOWN, "inputs",
                "image, sound, text, wind");
    CHECK_FAILS(pcv_input_from_tensors(&in, m, &late, 1, 0, &e), e, PCV_ESHAPE, "sound",
                "401 samples; the model takes 1 to 400");
    CHECK_FAILS(pcv_input_from_tensors(&in, m, &nan, 1, 0, &e), e, PCV_ERANGE, "sound",
                "element 1");
    CHECK_FAILS(pcv_input_from_tensors(&in, m, &wide, 1, 0, &e), e, PCV_ESHAPE, "wind", "up to 5");
    CHECK_FAILS(pcv_input_from_tensors(&in, m, many, 2, 0, &e), e, PCV_ELIMIT, "queries", "6");
    assert_null(in);
}

static void sides_are_those_of_the_grid(void **state)
{
    static const int want[][3] = {{2, 2, 4}, {1, 10, 0}, {1, 6, 0}, {2, 3, 5}};
    int sides[PCV_MAX_SIDES];

    (void)state;
    for (int i = IMAGE; i <= WIND; i++) {
        struct pcv_input *in = usual(i);

        assert_int_equal(pcv_input_which(in), i);
        assert_int_equal(pcv_input_sides(in, sides), want[i][0]);
        for (int k = 0; k < want[i][0]; k++)
            assert_int_equal(sides[k], want[i][1 + k]);
        assert_true(pcv_input_bytes(in) > sizeof(*in));
        pcv_input_free(in);
    }
}

/* ---- what an answer depends on
 * ----------------------------------------------------------------------------- */

struct bytes {
    unsigned char data[1 << 16];
    size_t n;
};

static void take(void *ctx, const void *data, size_t len)
{
    struct bytes *b = ctx;

    assert_true(b->n + len <= sizeof(b->data));
    memcpy(b->data + b->n, data, len);
    b->n += len;
}

/* Takes both. */
static bool same(struct pcv_input *a, struct pcv_input *b)
{
    static struct bytes of[2];
    bool r;

    of[0].n = of[1].n = 0;
    pcv_input_feed(a, take, &of[0]);
    pcv_input_feed(b, take, &of[1]);
    r = of[0].n == of[1].n && memcmp(of[0].data, of[1].data, of[0].n) == 0;
    pcv_input_free(a);
    pcv_input_free(b);
    return r;
}

static void inputs_feed_all_that_matters(void **state)
{
    static float x[30], y[30];
    const struct pcv_tensor text = TENSOR("text", PCV_I64, ids, 1, 6);
    const struct pcv_tensor shorter = TENSOR("text", PCV_I64, ids, 1, 5);
    const struct pcv_tensor masked[] = {text, TENSOR("text.mask", PCV_I64, keep, 1, 6)};
    const struct pcv_tensor wind = TENSOR("wind", PCV_F32, x, 1, 3, 5, 2);
    const struct pcv_tensor other = TENSOR("wind", PCV_F32, y, 1, 3, 5, 2);
    const struct pcv_tensor flat = TENSOR("wind", PCV_F32, x, 1, 1, 4, 2);
    const struct pcv_tensor tall = TENSOR("wind", PCV_F32, x, 1, 2, 2, 2);
    const struct pcv_tensor asked[] = {wind, TENSOR("queries", PCV_F32, x, 3, 10)};
    const struct pcv_tensor asked_else[] = {wind, TENSOR("queries", PCV_F32, y, 3, 10)};

    (void)state;
    y[7] = 1;
    for (int i = IMAGE; i <= WIND; i++)
        assert_true(same(usual(i), usual(i)));
    assert_true(same(made(&text, 1), made(&text, 1)));
    assert_false(same(made(&text, 1), made(&shorter, 1)));
    assert_false(same(made(&text, 1), made(masked, 2)));
    assert_false(same(made(&wind, 1), made(&other, 1)));
    assert_false(same(made(&flat, 1), made(&tall, 1))); /* the same numbers of other shapes */
    assert_false(same(made(&wind, 1), made(asked, 2)));
    assert_false(same(made(asked, 2), made(asked_else, 2)));
}

/* ---- questions
 * -----------------------------------------------------------------------------------------------
 */

static void tasks_answer_their_inputs(void **state)
{
    (void)state;
    for (int i = IMAGE; i <= WIND; i++) {
        struct pcv_input *in = usual(i);

        for (int t = 0; t < TASKS; t++) {
            const struct pcv_query q = {.task = t};
            const char *name = m->info.tasks[t].name;

            if (m->info.tasks[t].inputs >> i & 1)
                CHECK_OK(pcv_query_check(m, in, &q, &e), e);
            else
                CHECK_FAILS(pcv_query_check(m, in, &q, &e), e, PCV_EUNSUPPORTED, name,
                            m->bp.input[i].name);
        }
        pcv_input_free(in);
    }
}

static void some_questions_need_no_input(void **state)
{
    const struct pcv_query fill = {.task = 2}, ask = {.task = 7};
    const int32_t far = 20;
    const struct pcv_query beyond = {.task = 2, .nrows = 1, .rows = &far};
    int32_t rows[32];

    (void)state;
    for (int t = 0; t < TASKS; t++)
        assert_int_equal(pcv_task_reads_input(m, t), t == 7);
    CHECK_OK(pcv_query_check(m, NULL, &fill, &e), e);
    CHECK_FAILS(pcv_query_check(m, NULL, &beyond, &e), e, PCV_ERANGE, "", "0..19");
    CHECK_FAILS(pcv_query_check(m, NULL, &ask, &e), e, PCV_EMISSING, "ask", "input");
    assert_int_equal(pcv_query_rows_all(m, 2, NULL), 20);
    assert_int_equal(pcv_query_rows_all(m, 3, NULL), 48);
    assert_int_equal(pcv_query_rows_default(m, 2, NULL, rows, 32), 20);
}

/* ---- the pass
 * -----------------------------------------------------------------------------------------------
 */

static void ask_all(struct pcv_ws *of, const struct pcv_model *model, const struct pcv_input *in,
                    float *out, size_t room)
{
    struct pcv_query q[TASKS];
    struct pcv_item item = {.input = in, .queries = q};
    size_t n = 0;

    for (int t = 0; t < model->info.ntasks; t++) {
        const int rows = pcv_query_rows_all(model, t, in);

        if (!model->bp.separate || model->info.tasks[t].inputs >> in->which & 1) {
            q[item.nqueries++] = (struct pcv_query){.task = t, .logits = out + n};
            n += (size_t)rows * (size_t)model->info.tasks[t].width;
        }
        assert_true(n <= room);
    }
    CHECK_OK(pcv_forward(model, of, &item, 1, NULL, &e), e);
}

static void every_input_is_computed_as_the_formula_says(void **state)
{
    enum { ROOM = 8000 };
    static float got[ROOM], want[ROOM];

    (void)state;
    for (int i = IMAGE; i <= WIND; i++) {
        struct pcv_input *in = usual(i);

        memset(got, 0, sizeof(got));
        memset(want, 0, sizeof(want));
        ask_all(ws, m, in, got, ROOM);
        ask_all(plain, m, in, want, ROOM);
        CHECK_NEAR(got, want, ROOM, 1e-4 * largest(want, ROOM));
        assert_true(largest(want, ROOM) > 0.1);
        pcv_input_free(in);
    }
}

/* Text beside other modalities, with a mask and without. */
static void together_is_computed_as_the_formula_says(void **state)
{
    enum { ROOM = 8000 };
    static float got[ROOM], want[ROOM], x[91];
    uint64_t seed = 4;
    struct pcv_model *all;
    struct pcv_ws *w[2];
    struct pcv_tensor t[5];

    (void)state;
    random_fill(&seed, x, LEN(x), 0, 1);
    CHECK_OK(pcv_model_open(&all, native_model(native_together), NULL, &e), e);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pcv_ws_new(&w[i], NULL, &e), e);
        CHECK_OK(pcv_ws_reserve(w[i], all, 1, i ? PCV_WS_DENSE : 0, &e), e);
    }
    t[0] = TENSOR("frame", PCV_F32, x, 1, 4, 6, 3);
    t[1] = TENSOR("track", PCV_F32, x, 1, 37);
    t[2] = TENSOR("note", PCV_I64, ids, 1, 6);
    t[3] = TENSOR("pose", PCV_F32, x, 1, 5, 13);
    t[4] = TENSOR("note.mask", PCV_I64, keep, 1, 6);
    for (int n = 4; n <= 5; n++) {
        struct pcv_input *in;
        int sides[PCV_MAX_SIDES];

        CHECK_OK(pcv_input_from_tensors(&in, all, t, n, 0, &e), e);
        assert_int_equal(pcv_input_tokens(in), 24 + 5 + (n == 4 ? 6 : 5) + 5);
        assert_int_equal(pcv_input_sides(in, sides), 1);
        assert_int_equal(sides[0], pcv_input_tokens(in));
        ask_all(w[0], all, in, got, ROOM);
        ask_all(w[1], all, in, want, ROOM);
        CHECK_NEAR(got, want, ROOM, 1e-4 * largest(want, ROOM));
        pcv_input_free(in);
    }
    for (int i = 0; i < 2; i++)
        pcv_ws_free(w[i]);
    pcv_model_close(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(media_tell_what_they_are),
        cmocka_unit_test(other_media_are_refused),
        cmocka_unit_test(sounds_may_be_shorter),
        cmocka_unit_test(pictures_are_grey_patches),
        cmocka_unit_test(pictures_are_cropped_to_shape),
        cmocka_unit_test(tensors_are_of_one_input),
        cmocka_unit_test(sides_are_those_of_the_grid),
        cmocka_unit_test(inputs_feed_all_that_matters),
        cmocka_unit_test(tasks_answer_their_inputs),
        cmocka_unit_test(some_questions_need_no_input),
        cmocka_unit_test(every_input_is_computed_as_the_formula_says),
        cmocka_unit_test(together_is_computed_as_the_formula_says),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
