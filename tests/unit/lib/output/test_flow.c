/* Tiles, weights and colours of optical flow; what a whole model makes of them is tested over HTTP
 * against NumPy. */
#include "lib/perceiver.h"
#include "tests/unit/check.h"

/* Corners as the published evaluation lays them for tiles of 368 x 496: range(0, side, tile - 20)
 * with the last one flush, and no tile twice or beyond the edge. */
static void tiles_are_laid_as_published(void **state)
{
    static const struct {
        int width, height, nx, ny, x[4], y[4];
    } cases[] = {
        {496, 368, 1, 1, {0}, {0}},
        {497, 369, 2, 2, {0, 1}, {0, 1}},
        {1024, 436, 3, 2, {0, 476, 528}, {0, 68}},
        {1920, 1080, 4, 4, {0, 476, 952, 1424}, {0, 348, 696, 712}},
        {972, 368, 2, 1, {0, 476}, {0}},
        {973, 368, 3, 1, {0, 476, 477}, {0}},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct pcv_flow_grid g;
        struct pcv_err e;

        CHECK_OK(pcv_flow_tiling(&g, cases[i].width, cases[i].height, 496, 368, &e), e);
        assert_int_equal(g.nx, cases[i].nx);
        assert_int_equal(g.ny, cases[i].ny);
        for (int t = 0; t < g.nx * g.ny; t++) {
            int x, y;

            pcv_flow_corner(&g, t, &x, &y);
            assert_int_equal(x, cases[i].x[t % g.nx]);
            assert_int_equal(y, cases[i].y[t / g.nx]);
        }
    }
}

/* Tiles of 4 x 2 over 6 x 2 begin at 0 and 2. Weights of a tile: min(x + 1, 4 - x, y + 1, 2 - y),
 * 1 everywhere here. */
static void small_tiles_overlap_by_half(void **state)
{
    enum { TW = 4, TH = 2, W = 6, H = 2 };
    float a[TH * TW * 2], b[TH * TW * 2], uv[H * W * 2];
    const float *tile[] = {a, b};
    struct pcv_flow_grid g;
    struct pcv_err e;

    (void)state;
    CHECK_OK(pcv_flow_tiling(&g, W, H, TW, TH, &e), e);
    assert_int_equal(g.nx, 2);
    assert_int_equal(g.ny, 1);
    for (int i = 0; i < TH * TW * 2; i++) {
        a[i] = 1;
        b[i] = i % 2 ? 3 : 2;
    }
    pcv_flow_blend(&g, tile, uv);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const float u = x < 2 ? 20 : x < 4 ? 30 : 40, v = x < 2 ? 20 : x < 4 ? 40 : 60;

            CHECK_ONE(uv[(y * W + x) * 2], u, 1e-5, "(%d, %d)", x, y);
            CHECK_ONE(uv[(y * W + x) * 2 + 1], v, 1e-5, "(%d, %d)", x, y);
        }
}

/* In the overlap of two tiles of 8 columns at 0 and 4, pixel x = 4 is 5th of one (weight 4) and 1st
 * of the other (weight 1), in the rows where the height does not matter. */
static void weights_fall_towards_edges(void **state)
{
    enum { TW = 8, TH = 9, W = 12 };
    static float a[TH * TW * 2], b[TH * TW * 2], uv[TH * W * 2];
    static const int wa[] = {4, 3, 2, 1}, wb[] = {1, 2, 3, 4};
    const float *tile[] = {a, b};
    struct pcv_flow_grid g;
    struct pcv_err e;

    (void)state;
    CHECK_OK(pcv_flow_tiling(&g, W, TH, TW, TH, &e), e);
    assert_int_equal(g.nx, 2);
    for (int i = 0; i < TH * TW * 2; i++)
        b[i] = 1;
    pcv_flow_blend(&g, tile, uv);
    for (int i = 0; i < 4; i++)
        CHECK_ONE(uv[(4 * W + 4 + i) * 2], 20.0 * wb[i] / (wa[i] + wb[i]), 1e-5, "column %d", i);
    /* In the first row all weights are 1. */
    CHECK_ONE(uv[4 * 2], 10.0, 1e-5, "first row");
}

/* Whatever is asked, points get what the whole field has there, bit for bit. */
static void points_are_the_field_there(void **state)
{
    enum { TW = 7, TH = 5, W = 25, H = 14, TILES = 64, N = 5 };
    static float all[TILES][TH * TW * 2], some[TILES][4 * N * 2], uv[H * W * 2];
    static int32_t row[TILES][4 * N];
    static const int32_t points[N][2] = {{0, 0}, {W - 1, H - 1}, {9, 6}, {9, 6}, {20, 3}};
    const float *tile[TILES], *few[TILES];
    int32_t *rows[TILES];
    int count[TILES];
    float got[N * 2];
    struct pcv_flow_grid g;
    struct pcv_err e;

    (void)state;
    CHECK_OK(pcv_flow_tiling(&g, W, H, TW, TH, &e), e);
    assert_true(g.nx * g.ny <= TILES);
    for (int t = 0; t < TILES; t++) {
        for (int i = 0; i < TH * TW * 2; i++)
            all[t][i] = (float)((t * 31 + i * 17) % 101) - 50;
        tile[t] = all[t];
        rows[t] = row[t];
    }
    pcv_flow_blend(&g, tile, uv);
    pcv_flow_rows(&g, points, N, count, rows);
    for (int t = 0; t < g.nx * g.ny; t++) {
        few[t] = count[t] ? some[t] : NULL;
        for (int i = 0; i < count[t]; i++)
            memcpy(&some[t][2 * i], &all[t][2 * row[t][i]], 2 * sizeof(float));
    }
    pcv_flow_blend_points(&g, points, N, few, got);
    for (int i = 0; i < N; i++)
        CHECK_BITS(got + 2 * i, uv + (points[i][1] * W + points[i][0]) * 2, 2);
}

static void too_many_tiles(void **state)
{
    struct pcv_flow_grid g;
    struct pcv_err e;

    (void)state;
    assert_int_equal(pcv_flow_tiling(&g, 32768, 32768, 496, 368, &e), PCV_ELIMIT);
}

/* The four directions, half of the longest, rest, and what is no number. */
static void colours(void **state)
{
    static const float uv[] = {2, 0, 1, 0, 0, 0, 0, 2, -2, 0, NAN, 1, INFINITY, 0};
    static const uint8_t want[] = {255, 0, 0, 255, 128, 128, 255, 255, 255, 255, 234, 0};
    uint8_t rgb[21];

    (void)state;
    pcv_flow_color(uv, 7, 1, rgb);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rgb[i], want[i]);
    /* Down is 13.75 steps of the 15 between red and yellow; left is 2.5 of the 11 between cyan and
     * blue, which begin at step 25. */
    assert_int_equal(rgb[9], 255);
    assert_int_equal(rgb[10], 234);
    assert_int_equal(rgb[11], 0);
    assert_int_equal(rgb[12], 0);
    assert_in_range(rgb[13], 196, 198);
    assert_int_equal(rgb[14], 255);
    for (int i = 15; i < 21; i++)
        assert_int_equal(rgb[i], 0);
    memset(rgb, 0, sizeof(rgb));
    pcv_flow_color((const float[]){0, 0, 0, 0}, 2, 1, rgb);
    for (int i = 0; i < 6; i++)
        assert_int_equal(rgb[i], 255);
}

static void flo_file(void **state)
{
    static const float uv[] = {1, -2, 0.5f, 4};
    static const uint8_t want[] = {'P',  'I',  'E', 'H', 2, 0,    0, 0, 1, 0,    0, 0, 0,    0,
                                   0x80, 0x3f, 0,   0,   0, 0xc0, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x40};
    struct pcv_err e;
    void *file;
    size_t len;

    (void)state;
    CHECK_OK(pcv_flo_encode(uv, 2, 1, &file, &len, &e), e);
    assert_int_equal(len, sizeof(want));
    assert_memory_equal(file, want, sizeof(want));
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_laid_as_published),
        cmocka_unit_test(small_tiles_overlap_by_half),
        cmocka_unit_test(weights_fall_towards_edges),
        cmocka_unit_test(points_are_the_field_there),
        cmocka_unit_test(too_many_tiles),
        cmocka_unit_test(colours),
        cmocka_unit_test(flo_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
