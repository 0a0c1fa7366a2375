/* Frames against a Fourier transform written out in double, straight from the header's words. */
#include "lib/input/spectrum.h"

#include "tests/unit/check.h"

static struct pcv_err e;

static const struct pcv_spectrum_numbers usual = {.rate = 8000,
                                                  .window = 64,
                                                  .hop = 20,
                                                  .bands = 9,
                                                  .low = 60,
                                                  .high = 3900,
                                                  .floor = 1e-4,
                                                  .std = 1};

static double mel(double f)
{
    return 2595 * log10(1 + f / 700);
}

static double hertz(double m)
{
    return 700 * (pow(10, m / 2595) - 1);
}

/* Height of band b's triangle over frequency f. */
static double height(const struct pcv_spectrum_numbers *n, int b, double f)
{
    double edge[3];

    for (int i = 0; i < 3; i++)
        edge[i] = hertz(mel(n->low) + (mel(n->high) - mel(n->low)) * (b + i) / (n->bands + 1));
    if (f <= edge[0] || f >= edge[2])
        return 0;
    return f < edge[1] ? (f - edge[0]) / (edge[1] - edge[0]) : (edge[2] - f) / (edge[2] - edge[1]);
}

/* |DFT|^2 of frame i at bin j. */
static double power(const struct pcv_spectrum_numbers *n, const double *x, int64_t count, int64_t i,
                    int j)
{
    const int64_t first = (int64_t)floor((double)i * n->hop + n->hop / 2.0 - n->window / 2.0);
    double re = 0, im = 0;

    for (int k = 0; k < n->window; k++) {
        const double hann = 0.5 - 0.5 * cos(2 * M_PI * k / n->window);
        const double v = first + k < 0 || first + k >= count ? 0 : hann * x[first + k];

        re += v * cos(2 * M_PI * j * k / n->window);
        im -= v * sin(2 * M_PI * j * k / n->window);
    }
    return re * re + im * im;
}

static double *as_loud(const struct pcv_spectrum_numbers *n, const float *x, int64_t count)
{
    double *y = malloc((size_t)count * sizeof(*y)), sum = 0;

    assert_non_null(y);
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i] * (n->rms > 0 && sum > 0 ? n->rms / sqrt(sum / (double)count) : 1);
    return y;
}

static void check(const struct pcv_spectrum_numbers *n, const float *x, int64_t count)
{
    struct pcv_spectrum *s;
    int64_t frames;
    double *y = as_loud(n, x, count);
    float *got;

    CHECK_OK(pcv_spectrum_new(&s, n, &e), e);
    frames = pcv_spectrum_frames(s, count);
    assert_int_equal(frames, (count + n->hop - 1) / n->hop);
    got = malloc((size_t)(frames * n->bands) * sizeof(*got));
    assert_non_null(got);
    CHECK_OK(pcv_spectrum_run(s, x, count, got, &e), e);
    for (int64_t i = 0; i < frames; i++)
        for (int b = 0; b < n->bands; b++) {
            double sum = n->floor;

            for (int j = 0; j <= n->window / 2; j++) {
                const double h = height(n, b, (double)j * n->rate / n->window);

                sum += h > 0 ? h * power(n, y, count, i, j) : 0;
            }
            CHECK_ONE(got[b * frames + i], (log(sum) - n->mean) / n->std, 2e-4,
                      "window %d, hop %d, %d samples: band %d of frame %d", n->window, n->hop,
                      (int)count, b, (int)i);
        }
    free(got);
    free(y);
    pcv_spectrum_free(s);
}

static void frames_are_what_the_words_say(void **state)
{
    uint64_t seed = 7;
    float *x = random_new(&seed, 1500, 0, 0.5f);
    struct pcv_spectrum_numbers n = usual;

    (void)state;
    check(&n, x, 1500); /* more frames than a block */
    n.hop = 33;         /* odd: half of it is rounded down */
    check(&n, x, 500);
    n.hop = 100; /* wider than the window */
    check(&n, x, 500);
    n = usual;
    n.window = 50;
    n.mean = -3;
    n.std = 2.5;
    n.low = 0;
    n.high = 4000;
    check(&n, x, 300);
    n.window = 2;
    n.hop = 1;
    check(&n, x, 40);
    free(x);
}

static void short_sounds_have_few_frames(void **state)
{
    uint64_t seed = 8;
    float *x = random_new(&seed, 64, 0, 1);

    (void)state;
    for (int count = 1; count <= 64; count += 9)
        check(&usual, x, count);
    free(x);
}

static void loudness_is_brought_to_one(void **state)
{
    uint64_t seed = 9;
    float *x = random_new(&seed, 400, 0, 0.01f), silence[100] = {0};
    struct pcv_spectrum_numbers n = usual;

    (void)state;
    n.rms = 0.1;
    check(&n, x, 400);
    check(&n, silence, 100);
    free(x);
}

static void tables_are_counted(void **state)
{
    struct pcv_spectrum *s;

    (void)state;
    CHECK_OK(pcv_spectrum_new(&s, &usual, &e), e);
    assert_true(pcv_spectrum_bytes(s) >= 33 * (2 * 64 + 9) * sizeof(float));
    pcv_spectrum_free(s);
    pcv_spectrum_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_what_the_words_say),
        cmocka_unit_test(short_sounds_have_few_frames),
        cmocka_unit_test(loudness_is_brought_to_one),
        cmocka_unit_test(tables_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
