/* Fourier features against double precision, and positions against the bits that torch gave. */
#include "lib/input/fourier.h"

#include "lib/load/safetensors.h"
#include "tests/unit/check.h"

/* Equal steps from end to end, to the last bits of f32. */
static void steps_are_equal(void **state)
{
    static const int sizes[] = {2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 56, 224, 496, 1920, 8192};

    (void)state;
    for (size_t s = 0; s < LEN(sizes); s++) {
        const int n = sizes[s];

        assert_true(pcv_linspace(-1, 1, n, 0) == -1);
        assert_true(pcv_linspace(-1, 1, n, n - 1) == 1);
        for (int i = 0; i < n; i++) {
            CHECK_ONE(pcv_linspace(-1, 1, n, i), -1 + 2.0 * i / (n - 1), 1.2e-7, "%d of %d", i, n);
            CHECK_ONE(pcv_linspace(1, 112, n, i), 1 + 111.0 * i / (n - 1), 1.6e-5, "%d of %d", i,
                      n);
        }
    }
    assert_true(pcv_linspace(-1, 1, 1, 0) == -1); /* one step is the start */
    assert_true(pcv_linspace(5, 5, 4, 2) == 5);
}

/* The position channels of the golden cases are torch's own numbers: the very same bits. */
static void positions_have_torchs_bits(void **state)
{
    static const struct {
        const char *file, *tensor;
        int content, height, width;
    } cases[] = {
        {"hf-image-fourier", "0.stage.adapted_inputs", 3, 20, 14},
        {"hf-image-fourier", "1.stage.adapted_inputs", 3, 16, 16},
        {"hf-image-conv", "0.stage.adapted_inputs", 64, 7, 7},
        {"hf-image-conv", "1.stage.adapted_inputs", 64, 11, 9},
        {"hf-optical-flow", "0.stage.adapted_inputs", 64, 16, 24},
    };

    (void)state;
    for (size_t c = 0; c < LEN(cases); c++) {
        const int h = cases[c].height, w = cases[c].width;
        const struct pcv_tensor *t;
        struct pcv_safetensors *f;
        struct pcv_err e = {0};
        char path[96];

        snprintf(path, sizeof(path), "tests/golden/%s/vectors.safetensors", cases[c].file);
        CHECK_OK(pcv_safetensors_open(&f, path, &e), e);
        t = pcv_safetensors_find(f, cases[c].tensor);
        assert_non_null(t);
        assert_int_equal(t->shape[1], h * w);
        for (int i = 0; i < h * w; i++) {
            const float want[2] = {pcv_linspace(-1, 1, h, i / w), pcv_linspace(-1, 1, w, i % w)};
            float got[2];

            pcv_tensor_to_f32(t, i * t->shape[2] + cases[c].content, 2, got);
            CHECK_BITS(got, want, 2);
        }
        pcv_safetensors_close(f);
    }
}

/* Rows are [position, sines, cosines]. The angle is rounded as f32 rounds it, twice; sine and
 * cosine of that angle are exact to rounding. */
static void features_are_sines_and_cosines(void **state)
{
    static const struct {
        int size, bands;
        float resolution;
    } cases[] = {{224, 64, 224}, {7, 1, 56}, {1, 3, 10}, {496, 64, 496}, {33, 192, 30720}};

    (void)state;
    for (size_t c = 0; c < LEN(cases); c++) {
        const int n = cases[c].size, k = cases[c].bands, row = 1 + 2 * k;
        float *table = malloc((size_t)(n * row) * sizeof(*table)), *one;

        assert_non_null(table);
        one = malloc((size_t)row * sizeof(*one));
        assert_non_null(one);
        pcv_fourier_axis(table, n, k, cases[c].resolution);
        for (int i = 0; i < n; i++) {
            const float pos = pcv_linspace(-1, 1, n, i), *x = table + i * row;

            assert_true(x[0] == pos);
            for (int b = 0; b < k; b++) {
                const float f = pcv_linspace(1, cases[c].resolution / 2, k, b);
                const float scaled = pos * f, angle = scaled * (float)M_PI;
                const double exact =
                    M_PI * (double)pos *
                    (k == 1 ? 1 : 1 + (cases[c].resolution / 2.0 - 1) * b / (k - 1));

                CHECK_ONE(x[1 + b], sin((double)angle), 1e-7, "sine %d of %d", b, i);
                CHECK_ONE(x[1 + k + b], cos((double)angle), 1e-7, "cosine %d of %d", b, i);
                CHECK_ONE(x[1 + b], sin(exact), 1e-7 + 4e-7 * fabs(exact), "sine %d of %d", b, i);
            }
            pcv_fourier_features(one, pos, k, cases[c].resolution);
            CHECK_BITS(one, x, (size_t)row);
        }
        free(table);
        free(one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_equal),
        cmocka_unit_test(positions_have_torchs_bits),
        cmocka_unit_test(features_are_sines_and_cosines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
