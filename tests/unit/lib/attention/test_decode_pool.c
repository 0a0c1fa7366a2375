/* Tasks without output queries: the mean of the latents, and the latents themselves. */
#include "lib/attention/decode.h"
#include "lib/kernel/gemm.h"

#include "tests/unit/lib/attention/plain.h"

enum { LATENTS = 9, D = 21, WIDTH = 4 };

static uint64_t seed;

static void the_mean_goes_through_norm_and_head(void **state)
{
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());
    const float *latents = random_floats(&seed, LATENTS * D, 0.5f, 1);
    struct pcv_decoder d = {
        .kind = PCV_DECODE_POOL,
        .latents = LATENTS,
        .d_latents = D,
        .rows = 1,
        .head = random_affine(&seed, WIDTH, D, 1),
        .width = WIDTH,
    };

    (void)state;
    for (int normed = 0; normed < 2; normed++) {
        double *mean = doubles(D);
        const double *want;
        float logits[3 * WIDTH];
        struct pcv_decode_job job = {
            .latents = latents, .rows = (const int32_t[]){0, 0, 0}, .nrows = 3, .logits = logits};
        float *scratch;

        if (normed)
            d.norm = random_norm(&seed, D);
        for (int i = 0; i < LATENTS * D; i++)
            mean[i % D] += latents[i] / (double)LATENTS;
        want = plain_linear(&d.head, normed ? plain_norm(&d.norm, mean, 1, D, 1e-5) : mean, 1, D,
                            WIDTH);
        scratch = floats(pcv_decode_need(&d));
        assert_int_equal(pcv_decode_item_need(&d), 0);
        pcv_decode_prepare(&d, k, &job, 0, scratch);
        pcv_decode_tile(&d, k, NULL, &job, 0, 3, scratch);
        for (int i = 0; i < 3; i++) /* asked for three times: answered three times */
            CHECK_CLOSE(logits + i * WIDTH, want, WIDTH, 1e-5);
    }
}

static void latents_are_given_as_they_are(void **state)
{
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());
    const float *latents = random_floats(&seed, LATENTS * D, 0, 1);
    const struct pcv_decoder d = {.kind = PCV_DECODE_LATENTS,
                                  .latents = LATENTS,
                                  .d_latents = D,
                                  .rows = LATENTS,
                                  .width = D};
    static const int32_t rows[] = {8, 0, 3, 3};
    float logits[LATENTS * D];
    struct pcv_decode_job job = {.latents = latents, .nrows = LATENTS, .logits = logits};

    (void)state;
    pcv_decode_tile(&d, k, NULL, &job, 0, 4, NULL);
    pcv_decode_tile(&d, k, NULL, &job, 4, LATENTS - 4, NULL);
    CHECK_BITS(logits, latents, LATENTS * D);
    job.rows = rows;
    job.nrows = LEN(rows);
    pcv_decode_tile(&d, k, NULL, &job, 0, LEN(rows), NULL);
    for (size_t i = 0; i < LEN(rows); i++)
        CHECK_BITS(logits + i * D, latents + rows[i] * D, D);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_mean_goes_through_norm_and_head, release),
        cmocka_unit_test_teardown(latents_are_given_as_they_are, release),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
