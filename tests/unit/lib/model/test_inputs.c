/* Tensors become inputs: what is checked, what a mask does, what is refused. */
#include "lib/model/model.h"

#include "tests/unit/tiny.h"

static struct pcv_err e;
static struct pcv_model *text, *image; /* 20 positions; 5 x 5 pixels */

static int setup(void **state)
{
    struct tiny t = tiny_masked_lm;

    if (tiny_setup(state) < 0)
        return -1;
    t.latents = 20; /* enough that padding could change something */
    return pcv_model_open(&text, tiny_model(&t), NULL, &e) < 0 ||
                   pcv_model_open(&image, tiny_model(&tiny_learned), NULL, &e) < 0
               ? -1
               : 0;
}

static int teardown(void **state)
{
    pcv_model_close(text);
    pcv_model_close(image);
    return tiny_teardown(state);
}

static struct pcv_tensor tensor(const char *name, enum pcv_dtype dtype, const void *data,
                                const int64_t *shape, int ndim)
{
    struct pcv_tensor t = {.name = name, .dtype = dtype, .ndim = ndim, .data = data};

    memcpy(t.shape, shape, (size_t)ndim * sizeof(*shape));
    t.nbytes = (size_t)pcv_shape_bytes(dtype, shape, ndim);
    return t;
}

#define TENSOR(name, dtype, data, ...)                                                             \
    tensor(name, dtype, data, (const int64_t[]){__VA_ARGS__}, (int)LEN(((int64_t[]){__VA_ARGS__})))

static struct pcv_input *made(const struct pcv_model *m, const struct pcv_tensor *t, int n,
                              int64_t row)
{
    struct pcv_input *in = NULL;

    CHECK_OK(pcv_input_from_tensors(&in, m, t, n, row, &e), e);
    return in;
}

#define REFUSED(m, t, n, row, code, where, words)                                                  \
    do {                                                                                           \
        struct pcv_input *in_ = (void *)0x1;                                                       \
                                                                                                   \
        CHECK_FAILS(pcv_input_from_tensors(&in_, m, t, n, row, &e), e, code, where, words);        \
        assert_ptr_equal(in_, (void *)0x1);                                                        \
    } while (0)

static const int64_t ids[] = {4, 70, 3, 3, 90, 200, 261, 5, 0, 0, 12, 13};

/* ---- text -------------------------------------------------------------------------------------
 */

static void each_row_is_an_input(void **state)
{
    const struct pcv_tensor t[] = {TENSOR("inputs", PCV_I64, ids, 3, 4)};

    (void)state;
    assert_int_equal(pcv_tensors_batch(text, t, 1, &e), 3);
    for (int row = 0; row < 3; row++) {
        struct pcv_input *in = made(text, t, 1, row);

        assert_int_equal(pcv_input_positions(in), 4);
        assert_int_equal(pcv_input_tokens(in), 4);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pcv_input_token(in, i), ids[4 * row + i]);
            assert_int_equal(pcv_input_byte_offset(in, i), -1);
        }
        pcv_input_free(in);
    }
    REFUSED(text, t, 1, 3, PCV_ERANGE, "", "row 3 of a batch of 3");
    REFUSED(text, t, 1, -1, PCV_ERANGE, "", "row -1");
}

static void ids_may_be_any_whole_number(void **state)
{
    static const float f32[] = {4, 261, 0};
    static const uint8_t u8[] = {4, 255, 0};
    const struct pcv_tensor t[] = {TENSOR("inputs", PCV_F32, f32, 1, 3),
                                   TENSOR("inputs", PCV_U8, u8, 1, 3)};
    struct pcv_input *in;

    (void)state;
    in = made(text, &t[0], 1, 0);
    assert_int_equal(pcv_input_token(in, 1), 261);
    pcv_input_free(in);
    in = made(text, &t[1], 1, 0);
    assert_int_equal(pcv_input_token(in, 1), 255);
    pcv_input_free(in);
}

/* The written-out tokens of an input. own: free */
static float *written(const struct pcv_input *in)
{
    float *x = malloc((size_t)(pcv_input_tokens(in) * pcv_input_channels(in)) * sizeof(*x));

    assert_non_null(x);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    return x;
}

/* What a mask leaves out is not there; what stays keeps its position. In any datatype. */
static void masks_leave_tokens_out(void **state)
{
    static const int64_t keep[] = {0, 1, 1, 0, 1, 0, 0, 1};
    const enum pcv_dtype types[] = {PCV_I64, PCV_F32, PCV_BOOL, PCV_U8, PCV_F64, PCV_F16};
    const struct pcv_tensor whole = TENSOR("inputs", PCV_I64, ids, 1, 8);
    struct pcv_input *all = made(text, &whole, 1, 0);
    float *want = written(all);

    (void)state;
    for (size_t k = 0; k < LEN(types); k++) {
        struct pcv_tensor t[2] = {whole};
        struct pcv_input *in;
        char mask[64];
        float *x;

        for (int i = 0; i < 8; i++) {
            const float f = (float)keep[i];
            const double d = f;
            const uint16_t h = pcv_f32_to_f16(f);
            const uint8_t b = (uint8_t)keep[i];
            const void *from = types[k] == PCV_F32   ? (const void *)&f
                               : types[k] == PCV_F64 ? (const void *)&d
                               : types[k] == PCV_F16 ? (const void *)&h
                               : types[k] == PCV_I64 ? (const void *)&keep[i]
                                                     : (const void *)&b;

            memcpy(mask + (size_t)i * pcv_dtype_size(types[k]), from, pcv_dtype_size(types[k]));
        }
        t[1] = TENSOR("attention_mask", types[k], mask, 1, 8);
        in = made(text, t, 2, 0);
        assert_int_equal(pcv_input_positions(in), 8);
        assert_int_equal(pcv_input_tokens(in), 4);
        assert_int_equal(pcv_query_rows_all(text, 0, in), 8); /* padded rows may be asked for */
        x = written(in);
        for (int i = 0, at = 0; i < 8; i++)
            if (keep[i])
                CHECK_BITS(x + 24 * at++, want + 24 * i, 24);
        free(x);
        pcv_input_free(in);
    }
    free(want);
    pcv_input_free(all);
}

/* Latents and all logits of an input. own: free */
static float *answer(const struct pcv_input *in, int flags, int rows)
{
    const size_t latents = (size_t)(text->bp.num_latents * text->bp.d_latents);
    float *x = malloc((latents + (size_t)rows * 262) * sizeof(*x));
    int32_t which[20];
    struct pcv_query q = {.nrows = rows, .rows = which, .logits = x + latents};
    struct pcv_item item = {.input = in, .queries = &q, .nqueries = 1, .latents = x};
    struct pcv_ws *ws;

    assert_non_null(x);
    for (int i = 0; i < rows; i++)
        which[i] = i;
    CHECK_OK(pcv_ws_new(&ws, NULL, &e), e);
    CHECK_OK(pcv_ws_reserve(ws, text, 1, flags, &e), e);
    CHECK_OK(pcv_forward(text, ws, &item, 1, NULL, &e), e);
    pcv_ws_free(ws);
    return x;
}

/* With padding and without: the same bits, whatever stands in the padding. */
static void padding_changes_no_bit(void **state)
{
    static const uint8_t keep[12] = {1, 1, 1, 1, 1};
    const struct pcv_tensor few = TENSOR("inputs", PCV_I64, ids, 1, 5);
    struct pcv_tensor t[] = {TENSOR("inputs", PCV_I64, ids, 1, 12),
                             TENSOR("attention_mask", PCV_BOOL, keep, 1, 12)};
    const size_t n = (size_t)(text->bp.num_latents * text->bp.d_latents) + (size_t)5 * 262;
    struct pcv_input *in = made(text, &few, 1, 0);
    float *want = answer(in, 0, 5), *got;
    int64_t other[12];

    (void)state;
    pcv_input_free(in);
    for (int turn = 0; turn < 2; turn++) {
        in = made(text, t, 2, 0);
        assert_null(in->tokens.segment[0].group[1].ids); /* positions in order: nothing to gather */
        got = answer(in, 0, 5);
        CHECK_BITS(got, want, n);
        free(got);
        pcv_input_free(in);
        for (int i = 0; i < 12; i++)
            other[i] = i < 5 ? ids[i] : 100 + i;
        t[0].data = other;
    }
    free(want);
}

/* Holes too: as the plain algorithm has it. */
static void masks_with_holes_agree_with_the_plain_way(void **state)
{
    static const uint8_t keep[] = {0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0};
    const struct pcv_tensor t[] = {TENSOR("inputs", PCV_I64, ids, 1, 12),
                                   TENSOR("attention_mask", PCV_BOOL, keep, 1, 12)};
    const size_t n = (size_t)(text->bp.num_latents * text->bp.d_latents) + (size_t)12 * 262;
    struct pcv_input *in = made(text, t, 2, 0);
    float *want = answer(in, PCV_WS_DENSE, 12), *got = answer(in, 0, 12);

    (void)state;
    CHECK_NEAR(got, want, n, 1e-4 * largest(want, n));
    free(got);
    free(want);
    pcv_input_free(in);
}

static void bad_text_tensors_are_named(void **state)
{
    static const int64_t low[] = {4, -1}, high[] = {4, 262}, mask3[] = {1, 0, 1};
    static const int64_t none[] = {0, 0}, odd[] = {1, 2};
    static const float half[] = {4, 0.5f}, nan_mask[] = {1, NAN};
    static const uint16_t f16[] = {0, 0};
    int64_t many[21] = {0};
    struct pcv_tensor t[3] = {TENSOR("inputs", PCV_I64, low, 1, 2)};

    (void)state;
    REFUSED(text, t, 1, 0, PCV_ERANGE, "inputs", "token -1 at position 1");
    t[0].data = high;
    REFUSED(text, t, 1, 0, PCV_ERANGE, "inputs", "token 262 at position 1");
    t[0] = TENSOR("inputs", PCV_F32, half, 1, 2);
    REFUSED(text, t, 1, 0, PCV_ERANGE, "inputs", "element 1");
    t[0] = TENSOR("inputs", PCV_F16, f16, 1, 2);
    REFUSED(text, t, 1, 0, PCV_EUNSUPPORTED, "inputs", "F16");
    t[0] = TENSOR("inputs", PCV_I64, many, 1, 21);
    REFUSED(text, t, 1, 0, PCV_ELIMIT, "inputs", "21 positions");
    t[0] = TENSOR("inputs", PCV_I64, many, 21);
    REFUSED(text, t, 1, 0, PCV_ESHAPE, "inputs", "shape [21], the model wants [-1,-1]");
    t[0] = TENSOR("inputs", PCV_I64, many, 1, 0);
    REFUSED(text, t, 1, 0, PCV_ESHAPE, "inputs", "[1,0]");
    t[0] = TENSOR("ids", PCV_I64, many, 1, 2);
    REFUSED(text, t, 1, 0, PCV_EUNKNOWN, "ids", "takes inputs");
    t[0].name = NULL;
    REFUSED(text, t, 1, 0, PCV_EUNKNOWN, "unnamed", "");
    REFUSED(text, t, 0, 0, PCV_EMISSING, "inputs", "missing");

    t[0] = TENSOR("inputs", PCV_I64, many, 1, 2);
    t[1] = t[0];
    REFUSED(text, t, 2, 0, PCV_EFORMAT, "inputs", "twice");
    t[1] = TENSOR("attention_mask", PCV_I64, mask3, 1, 3);
    REFUSED(text, t, 2, 0, PCV_ESHAPE, "attention_mask", "[3]");
    REFUSED(text, &t[1], 1, 0, PCV_EMISSING, "inputs", "missing");
    t[1] = TENSOR("attention_mask", PCV_I64, many, 2, 2);
    REFUSED(text, t, 2, 0, PCV_ESHAPE, "attention_mask", "batch of 2, others have 1");
    t[1] = TENSOR("attention_mask", PCV_I64, none, 1, 2);
    REFUSED(text, t, 2, 0, PCV_ERANGE, "", "no token");
    t[1].data = odd;
    REFUSED(text, t, 2, 0, PCV_ERANGE, "attention_mask", "element 1");
    t[1] = TENSOR("attention_mask", PCV_F32, nan_mask, 1, 2);
    REFUSED(text, t, 2, 0, PCV_ERANGE, "attention_mask", "element 1");
}

/* ---- images ------------------------------------------------------------------------------------
 */

static void pixels_may_be_any_float(void **state)
{
    float f32[150] = {0};
    double f64[75];
    struct pcv_tensor t = TENSOR("inputs", PCV_F32, f32, 2, 3, 5, 5);
    struct pcv_input *in;
    float *x, *y;
    uint64_t seed = 5;

    (void)state;
    random_fill(&seed, f32, 150, 0, 1);
    for (int i = 0; i < 75; i++)
        f64[i] = f32[75 + i];
    in = made(image, &t, 1, 1); /* the second row */
    x = written(in);
    pcv_input_free(in);
    t = TENSOR("inputs", PCV_F64, f64, 1, 3, 5, 5);
    in = made(image, &t, 1, 0);
    assert_int_equal(pcv_input_tokens(in), 25);
    assert_int_equal(pcv_input_channels(in), 512);
    assert_int_equal(pcv_query_rows_all(image, 0, in), 1);
    y = written(in);
    CHECK_BITS(x, y, 25 * 512);
    pcv_input_free(in);
    free(x);
    free(y);
}

static void bad_pixels_are_named(void **state)
{
    float f32[75] = {0};
    struct pcv_tensor t = TENSOR("inputs", PCV_F32, f32, 1, 3, 5, 5);

    (void)state;
    f32[74] = INFINITY;
    REFUSED(image, &t, 1, 0, PCV_ERANGE, "inputs", "element 74 is not finite");
    f32[74] = NAN;
    REFUSED(image, &t, 1, 0, PCV_ERANGE, "inputs", "element 74 is not finite");
    t = TENSOR("inputs", PCV_F32, f32, 1, 3, 5, 4);
    REFUSED(image, &t, 1, 0, PCV_ESHAPE, "inputs", "shape [1,3,5,4], the model wants [-1,3,5,5]");
    t = TENSOR("inputs", PCV_F32, f32, 1, 1, 5, 5);
    REFUSED(image, &t, 1, 0, PCV_ESHAPE, "inputs", "[1,1,5,5]");
    t = TENSOR("inputs", PCV_U8, f32, 1, 3, 5, 5);
    REFUSED(image, &t, 1, 0, PCV_ESHAPE, "inputs", "datatype U8");
}

/* ---- questions ----------------------------------------------------------------------------------
 */

static void questions_are_checked(void **state)
{
    const struct pcv_tensor t = TENSOR("inputs", PCV_I64, ids, 1, 8);
    struct pcv_input *in = made(text, &t, 1, 0);
    int32_t rows[] = {0, 7, 3};
    struct pcv_query q = {.nrows = 3, .rows = rows};

    (void)state;
    CHECK_OK(pcv_query_check(text, in, &q, &e), e);
    rows[2] = 8;
    CHECK_FAILS(pcv_query_check(text, in, &q, &e), e, PCV_ERANGE, "", "8 is outside 0..7");
    rows[2] = -1;
    CHECK_FAILS(pcv_query_check(text, in, &q, &e), e, PCV_ERANGE, "", "-1 is outside");
    q.nrows = 2;
    CHECK_OK(pcv_query_check(text, in, &q, &e), e);
    q.nrows = -1;
    CHECK_FAILS(pcv_query_check(text, in, &q, &e), e, PCV_ERANGE, "", "-1");
    q.rows = NULL; /* all rows: the number is not looked at */
    CHECK_OK(pcv_query_check(text, in, &q, &e), e);
    q.task = 1;
    CHECK_FAILS(pcv_query_check(text, in, &q, &e), e, PCV_EUNKNOWN, "", "index 1");
    q.task = -1;
    CHECK_FAILS(pcv_query_check(text, in, &q, &e), e, PCV_EUNKNOWN, "", "index -1");
    pcv_input_free(in);
}

static void output_points_are_checked(void **state)
{
    static const int64_t good[] = {3, 0, 3}, low[] = {0, -1}, high[] = {0, 1024};
    static const float half[] = {0, 0.5f};
    const char *name = "subsampled_output_points.image";
    struct pcv_tensor t = TENSOR(name, PCV_I64, good, 3);
    struct pcv_model *m = NULL;
    int32_t *rows = NULL;
    int task, n = 0;

    (void)state;
    CHECK_OK(pcv_model_open(&m, "build/golden/hf-multimodal-autoencoding", NULL, &e), e);
    task = pcv_task_find(m, "image", &e);
    assert_in_range(task, 0, 7);
    CHECK_OK(pcv_query_rows_from_tensors(m, task, &t, 1, &rows, &n, &e), e);
    assert_int_equal(n, 3);
    assert_true(rows[0] == 3 && rows[1] == 0 && rows[2] == 3);
    free(rows);
    CHECK_OK(pcv_query_rows_from_tensors(m, task, &t, 0, &rows, &n, &e), e); /* not asked: all */
    assert_null(rows);
    t = TENSOR(name, PCV_I64, low, 2);
    CHECK_FAILS(pcv_query_rows_from_tensors(m, task, &t, 1, &rows, &n, &e), e, PCV_ERANGE, name,
                "-1 is outside");
    t = TENSOR(name, PCV_I64, high, 2); /* 4 x 16 x 16 pixels */
    CHECK_FAILS(pcv_query_rows_from_tensors(m, task, &t, 1, &rows, &n, &e), e, PCV_ERANGE, name,
                "1024 is outside 0..1023");
    t = TENSOR(name, PCV_F32, half, 2);
    CHECK_FAILS(pcv_query_rows_from_tensors(m, task, &t, 1, &rows, &n, &e), e, PCV_ERANGE, name,
                "element 1");
    t = TENSOR(name, PCV_I64, good, 1, 3);
    CHECK_FAILS(pcv_query_rows_from_tensors(m, task, &t, 1, &rows, &n, &e), e, PCV_ESHAPE, name,
                "one dimension");
    assert_null(rows);
    pcv_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_an_input),
        cmocka_unit_test(ids_may_be_any_whole_number),
        cmocka_unit_test(masks_leave_tokens_out),
        cmocka_unit_test(padding_changes_no_bit),
        cmocka_unit_test(masks_with_holes_agree_with_the_plain_way),
        cmocka_unit_test(bad_text_tensors_are_named),
        cmocka_unit_test(pixels_may_be_any_float),
        cmocka_unit_test(bad_pixels_are_named),
        cmocka_unit_test(questions_are_checked),
        cmocka_unit_test(output_points_are_checked),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
