/* Numbers on grids: which element becomes which channel of which token. */
#include "lib/input/input.h"

#include "lib/input/fourier.h"
#include "tests/unit/check.h"

static struct pcv_err e;
static uint64_t seed;

static struct pcv_adapter grid(enum pcv_input_kind kind, int axes, int channels)
{
    struct pcv_adapter a = {.name = "grid", .kind = kind, .channels = channels};

    a.grid.axes = axes;
    a.grid.before = a.grid.raw = a.grid.content = channels;
    for (int i = 0; i < PCV_MAX_AXES; i++)
        a.grid.patch[i] = 1;
    return a;
}

/* The written-out tokens of numbers on a grid: [*tokens, channels]. own: free */
static float *written(const struct pcv_adapter *a, const float *numbers, const int *size,
                      const uint8_t *keep, int64_t *tokens)
{
    struct pcv_input *in = calloc(1, sizeof(*in));
    float *x;

    assert_non_null(in);
    CHECK_OK(pcv_grid_from_numbers(in, a, numbers, size, keep, &e), e);
    CHECK_OK(pcv_input_finish(in, &in->tokens, &pcv_kernels_scalar, 1e-5f, &e), e);
    assert_int_equal(pcv_input_channels(in), a->channels);
    *tokens = pcv_input_tokens(in);
    x = malloc((size_t)(*tokens * a->channels) * sizeof(*x));
    assert_non_null(x);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    pcv_input_free(in);
    return x;
}

/* Channels first, channels last, in patches: an element is at (row, column, channel). */
static void elements_find_their_token(void **state)
{
    enum { H = 6, W = 8, C = 3, PH = 2, PW = 4 };
    float first[C * H * W], last[H * W * C], *x;
    int64_t tokens;

    (void)state;
    for (int i = 0; i < H; i++)
        for (int j = 0; j < W; j++)
            for (int c = 0; c < C; c++)
                first[(c * H + i) * W + j] = last[(i * W + j) * C + c] =
                    (float)(100 * i + 10 * j + c);
    for (int way = 0; way < 8; way++) {
        struct pcv_adapter a = grid(way & 1 ? PCV_INPUT_ARRAY : PCV_INPUT_IMAGE, 2, C);
        const int ph = way & 2 ? PH : 1, pw = way & 4 ? PW : 1;

        a.grid.patch[0] = ph;
        a.grid.patch[1] = pw;
        a.channels = a.grid.raw = a.grid.content = C * ph * pw;
        x = written(&a, way & 1 ? last : first, (const int[]){H, W}, NULL, &tokens);
        assert_int_equal(tokens, H * W / ph / pw);
        for (int t = 0; t < tokens; t++)
            for (int k = 0; k < a.channels; k++) { /* (row, column) in the patch, channel */
                const int i = t / (W / pw) * ph + k / C / pw, j = t % (W / pw) * pw + k / C % pw;

                CHECK_ONE(x[t * a.channels + k], 100 * i + 10 * j + k % C, 0, "token %d, %d", t, k);
            }
        free(x);
    }
}

/* Video has its channels between frames and rows. */
static void frames_find_their_token(void **state)
{
    enum { F = 2, H = 4, W = 8, P = 4 };
    struct pcv_adapter a = grid(PCV_INPUT_VIDEO, 3, 3);
    float video[F][3][H][W], *x;
    int64_t tokens;

    (void)state;
    for (int f = 0; f < F; f++)
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < H; i++)
                for (int j = 0; j < W; j++)
                    video[f][c][i][j] = (float)(1000 * f + 100 * i + 10 * j + c);
    a.grid.patch[1] = a.grid.patch[2] = P;
    a.channels = a.grid.raw = a.grid.content = 3 * P * P;
    x = written(&a, &video[0][0][0][0], (const int[]){F, H, W}, NULL, &tokens);
    assert_int_equal(tokens, F * (H / P) * (W / P));
    for (int t = 0; t < tokens; t++)
        for (int k = 0; k < 48; k++) {
            const int f = t / 2, i = k / 3 / P, j = t % 2 * P + k / 3 % P;

            CHECK_ONE(x[t * 48 + k], 1000 * f + 100 * i + 10 * j + k % 3, 0, "token %d, %d", t, k);
        }
    free(x);
}

/* Three axes and more, Fourier features in both orders. */
static void positions_stand_where_upstreams_put_them(void **state)
{
    enum { D = 3, K = 2, EACH = 1 + 2 * K };
    const int size[D] = {3, 4, 5};

    (void)state;
    for (int order = 0; order < 2; order++) {
        struct pcv_adapter a = grid(PCV_INPUT_ARRAY, D, 2);
        float *numbers = random_new(&seed, 2 * 60, 0, 1), *x;
        int64_t tokens;

        a.grid.position = PCV_POSITION_FOURIER;
        a.grid.order = order ? PCV_FOURIER_BY_AXIS : PCV_FOURIER_BY_KIND;
        a.grid.bands = K;
        a.grid.position_channels = D * EACH;
        for (int i = 0; i < D; i++)
            a.grid.max_resolution[i] = (float)(10 + i);
        a.channels = 2 + D * EACH;
        x = written(&a, numbers, size, NULL, &tokens);
        assert_int_equal(tokens, 60);
        for (int t = 0; t < 60; t++) {
            const int at[D] = {t / 20, t / 5 % 4, t % 5};
            const float *token = x + t * a.channels + 2;

            CHECK_BITS(x + t * a.channels, numbers + 2 * t, 2);
            for (int i = 0; i < D; i++) {
                float f[EACH]; /* position, sines, cosines */

                pcv_fourier_features(f, pcv_linspace(-1, 1, size[i], at[i]), K, (float)(10 + i));
                CHECK_BITS(order ? token + i * EACH + 2 * K : token + i, f, 1);
                CHECK_BITS(order ? token + i * EACH : token + D + i * K, f + 1, K);
                CHECK_BITS(order ? token + i * EACH + K : token + D + D * K + i * K, f + 1 + K, K);
            }
        }
        free(numbers);
        free(x);
    }
}

/* What a mask leaves: the same tokens that are there without it. Long tables of learned positions,
 * one axis, several. */
static void masks_take_rows_along(void **state)
{
    static const struct {
        enum pcv_position position;
        int axes, size[2];
    } cases[] = {{PCV_POSITION_LEARNED, 2, {40, 50}},
                 {PCV_POSITION_LEARNED, 1, {30}},
                 {PCV_POSITION_FOURIER, 1, {1500}},
                 {PCV_POSITION_FOURIER, 2, {20, 70}},
                 {PCV_POSITION_NONE, 2, {9, 9}}};

    (void)state;
    for (size_t c = 0; c < LEN(cases); c++) {
        const int n = cases[c].size[0] * (cases[c].axes > 1 ? cases[c].size[1] : 1);
        struct pcv_adapter a = grid(PCV_INPUT_ARRAY, cases[c].axes, 3);
        float *numbers = random_new(&seed, (size_t)n * 3, 0, 1);
        float *table = random_new(&seed, (size_t)n * 4, 0, 1), *pad = random_new(&seed, 2, 0, 1);
        uint8_t *keep = calloc((size_t)n, 1);
        float *all, *some;
        int64_t tokens, kept, at = 0;

        assert_non_null(keep);
        a.grid.position = cases[c].position;
        a.grid.bands = 2;
        a.grid.max_resolution[0] = a.grid.max_resolution[1] = 20;
        a.grid.positions = table;
        a.grid.position_channels = cases[c].position == PCV_POSITION_LEARNED   ? 4
                                   : cases[c].position == PCV_POSITION_FOURIER ? 5 * cases[c].axes
                                                                               : 0;
        a.grid.pad = pad;
        a.grid.npad = 2;
        a.channels = 3 + a.grid.position_channels + 2;
        for (int i = 0; i < n; i++)
            keep[i] = (uint8_t)random_int(&seed, 2);
        keep[n / 2] = 1;
        all = written(&a, numbers, cases[c].size, NULL, &tokens);
        some = written(&a, numbers, cases[c].size, keep, &kept);
        assert_int_equal(tokens, n);
        for (int i = 0; i < n; i++)
            if (keep[i])
                CHECK_BITS(some + a.channels * at++, all + a.channels * i, (size_t)a.channels);
        assert_int_equal(at, kept);
        free(numbers);
        free(table);
        free(pad);
        free(keep);
        free(all);
        free(some);
    }
}

/* Rows of tables that an encoder's scratch must have room for: never more than was promised. */
static void masked_tables_keep_to_their_bound(void **state)
{
    struct pcv_adapter a = grid(PCV_INPUT_ARRAY, 1, 1);
    struct pcv_input *in = calloc(1, sizeof(*in));
    float *numbers = calloc(3000, sizeof(*numbers)), *table = calloc(3000, sizeof(*table));
    uint8_t keep[3000];
    const int size = 3000;

    (void)state;
    assert_true(in && numbers && table);
    memset(keep, 1, sizeof(keep));
    keep[7] = 0;
    a.grid.position = PCV_POSITION_LEARNED;
    a.grid.positions = table;
    a.grid.position_channels = 1;
    a.channels = 2;
    CHECK_OK(pcv_grid_from_numbers(in, &a, numbers, &size, keep, &e), e);
    assert_null(in->tokens.segment[0].group[1].ids); /* one row per token, still */
    assert_int_equal(in->tokens.segment[0].group[1].rows, 2999);
    assert_true(pcv_adapter_table_rows(&a) < 2999);
    pcv_input_free(in);
    free(numbers);
    free(table);
}

static void refused(const struct pcv_adapter *a, const float *numbers, const int *size,
                    const uint8_t *keep, int code, const char *words)
{
    struct pcv_input *in = calloc(1, sizeof(*in));

    assert_non_null(in);
    CHECK_FAILS(pcv_grid_from_numbers(in, a, numbers, size, keep, &e), e, code, "", words);
    pcv_input_free(in);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct pcv_adapter a = grid(PCV_INPUT_IMAGE, 2, 1), line = grid(PCV_INPUT_ARRAY, 1, 1);
    static const uint8_t none[16];
    float *many = calloc(PCV_MAX_PIXELS + 1, sizeof(*many));

    (void)state;
    assert_non_null(many);
    refused(&a, many, (const int[]){1, PCV_MAX_AXIS + 1}, NULL, PCV_ELIMIT, "axis 1");
    refused(&a, many, (const int[]){PCV_MAX_AXIS + 1, 1}, NULL, PCV_ELIMIT, "axis 0");
    refused(&line, many, (const int[]){PCV_MAX_PIXELS + 1}, NULL, PCV_ELIMIT, "axis 0");
    refused(&a, many, (const int[]){4, 4}, none, PCV_ERANGE, "no token");
    a.grid.patch[1] = 3;
    refused(&a, many, (const int[]){4, 4}, NULL, PCV_ESHAPE, "4 along axis 1 is no multiple of 3");
    a.grid.patch[1] = 1;
    a.grid.fixed = true;
    a.grid.size[0] = a.grid.size[1] = 4;
    refused(&a, many, (const int[]){4, 5}, NULL, PCV_ESHAPE, "axis 1, the model has 4");
    many[15] = -INFINITY;
    refused(&a, many, (const int[]){4, 4}, NULL, PCV_ERANGE, "element 15 is not finite");
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_find_their_token),
        cmocka_unit_test(frames_find_their_token),
        cmocka_unit_test(positions_stand_where_upstreams_put_them),
        cmocka_unit_test(masks_take_rows_along),
        cmocka_unit_test(masked_tables_keep_to_their_bound),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
