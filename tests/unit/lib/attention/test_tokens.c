/* Factored token arrays against the same written out in double precision. */
#include "lib/attention/tokens.h"
#include "lib/kernel/gemm.h"

#include "tests/unit/lib/attention/random_tokens.h"

static uint64_t seed;

/* Written out as a whole, in pieces, and token by token. */
static void check_rows(const struct pcv_tokens *t)
{
    const int64_t count = pcv_tokens_count(t);
    const size_t c = (size_t)t->channels;
    const float *want = plain_tokens(t);
    float *got = floats((size_t)count * c), *scratch = floats(c);
    int64_t first = 0;

    pcv_tokens_rows(t, 0, count, got, scratch);
    CHECK_NEAR(got, want, (size_t)count * c, 2e-5);
    for (int64_t m0 = 0; m0 < count; m0 += 7) {
        const int64_t n = count - m0 < 7 ? count - m0 : 7;
        float few[7 * 64];

        pcv_tokens_rows(t, m0, n, few, scratch);
        CHECK_BITS(few, got + (size_t)m0 * c, (size_t)n * c);
    }
    for (int i = 0; i < t->nsegments; first += t->segment[i].tokens, i++) {
        float one[64];

        pcv_segment_token(&t->segment[i], t->channels, t->segment[i].tokens - 1, one, scratch);
        CHECK_BITS(one, got + (size_t)(first + t->segment[i].tokens - 1) * c, c);
    }
}

/* Statistics of the numbers as they are, not as f32 would hold their sum. */
static void check_stats_by(struct pcv_tokens *t, const struct pcv_kernels *k)
{
    double *x = doubles((size_t)t->channels);

    finish_tokens_by(t, k);
    for (int i = 0; i < t->nsegments; i++) {
        const struct pcv_segment *s = &t->segment[i];

        for (int64_t m = 0; m < s->tokens; m++) {
            double mean = 0, var = 0;

            plain_token(s, t->channels, m, x);
            for (int c = 0; c < t->channels; c++)
                mean += x[c] / t->channels;
            for (int c = 0; c < t->channels; c++)
                var += (x[c] - mean) * (x[c] - mean) / t->channels;
            CHECK_ONE(s->mean[m], mean, 1e-6, "segment %d token %d mean", i, (int)m);
            CHECK_ONE(s->r[m], 1 / sqrt(var + 1e-5), 3e-6 / sqrt(var + 1e-5),
                      "segment %d token %d 1/std", i, (int)m);
        }
    }
}

static void check_stats(struct pcv_tokens *t)
{
    check_stats_by(t, &pcv_kernels_scalar);
    check_stats_by(t, pcv_kernels_for(pcv_cpu_detect()));
}

static void one_group_alone(void **state)
{
    (void)state;
    for (int f = 0; f < FLAVOURS; f++)
        for (int64_t tokens = 1; tokens < 100; tokens += 33) {
            const enum flavour flavour = (enum flavour)f;
            struct pcv_tokens t = {.channels = 9, .nsegments = 1};

            t.segment[0] = random_segment(&seed, 9, tokens, &flavour, 1);
            check_rows(&t);
            check_stats(&t);
        }
}

static void groups_side_by_side(void **state)
{
    (void)state;
    for (int turn = 0; turn < 60; turn++) {
        struct pcv_tokens t = {.channels = 40, .nsegments = 1 + turn % PCV_MAX_SEGMENTS};

        for (int i = 0; i < t.nsegments; i++) {
            enum flavour f[PCV_MAX_GROUPS];
            const int n = 1 + random_int(&seed, PCV_MAX_GROUPS);

            for (int j = 0; j < n; j++)
                f[j] = (enum flavour)random_int(&seed, FLAVOURS);
            t.segment[i] = random_segment(&seed, t.channels, 1 + random_int(&seed, 150), f, n);
        }
        check_rows(&t);
        check_stats(&t);
    }
}

/* Sums are kept of a whole table; inputs may have fewer positions than that. */
static void sums_of_a_longer_table(void **state)
{
    (void)state;
    for (int turn = 0; turn < 60; turn++) {
        struct pcv_tokens t = {.channels = 40, .nsegments = 1};
        enum flavour f[PCV_MAX_GROUPS];
        const int n = 1 + random_int(&seed, PCV_MAX_GROUPS);

        for (int j = 0; j < n; j++)
            f[j] = (enum flavour)random_int(&seed, FLAVOURS);
        t.segment[0] = random_segment(&seed, t.channels, 1 + random_int(&seed, 600), f, n);
        for (int j = 0; j < n; j++) {
            struct pcv_group *g = &t.segment[0].group[j];

            if (g->kind != PCV_GROUP_TABLE)
                continue;
            g->sums = pcv_table_sums(doubles(2 * (size_t)g->rows), g->table, g->rows, g->n);
            if (!g->ids && g->rows > 1)
                g->rows--;
        }
        check_stats(&t);
    }
}

static void groups_above_each_other(void **state)
{
    (void)state;
    for (int turn = 0; turn < 60; turn++) {
        struct pcv_tokens t = {.channels = 30, .nsegments = 1 + turn % 2};

        for (int i = 0; i < t.nsegments; i++) {
            enum flavour f[4];
            const int n = 1 + random_int(&seed, 4);

            for (int j = 0; j < n; j++)
                f[j] = (enum flavour)random_int(&seed, FLAVOURS);
            t.segment[i] =
                overlapping_segment(&seed, 30, 1 + random_int(&seed, 90), f, n, turn & 4);
        }
        check_rows(&t);
        check_stats(&t);
    }
}

/* Content far from zero: the variance is a small difference of large sums. */
static void content_far_from_zero(void **state)
{
    const enum flavour f = CONTENT;
    struct pcv_tokens t = {.channels = 16, .nsegments = 1};
    float *planes;

    (void)state;
    t.segment[0] = random_segment(&seed, 16, 50, &f, 1);
    t.segment[0].group[0].n = t.segment[0].group[0].raw = 16;
    t.segment[0].group[0].nranges = 1;
    t.segment[0].group[0].range[0].from = 0;
    t.segment[0].group[0].range[0].n = 16;
    planes = random_floats(&seed, 16 * 50, 1000, 1);
    t.segment[0].group[0].content = (struct pcv_values){planes, 1, 50};
    finish_tokens(&t);
    for (int m = 0; m < 50; m++) {
        double mean = 0, var = 0;

        for (int c = 0; c < 16; c++)
            mean += planes[c * 50 + m] / 16.0;
        for (int c = 0; c < 16; c++)
            var += (planes[c * 50 + m] - mean) * (planes[c * 50 + m] - mean) / 16;
        CHECK_ONE(t.segment[0].mean[m], mean, 1e-4, "token %d mean", m);
        CHECK_ONE(t.segment[0].r[m], 1 / sqrt(var + 1e-5), 1e-5, "token %d 1/std", m);
    }
}

/* No variance at all: 1 / sqrt(eps), never the root of something below zero. */
static void tokens_of_one_value(void **state)
{
    const enum flavour f = CONSTANT;
    struct pcv_tokens t = {.channels = 7, .nsegments = 1};
    float value[7];

    (void)state;
    for (int i = 0; i < 7; i++)
        value[i] = 0.1f;
    t.segment[0] = random_segment(&seed, 7, 3, &f, 1);
    t.segment[0].group[0].n = 7;
    t.segment[0].group[0].nranges = 1;
    t.segment[0].group[0].range[0].from = 0;
    t.segment[0].group[0].range[0].n = 7;
    t.segment[0].group[0].value = value;
    finish_tokens(&t);
    for (int m = 0; m < 3; m++) {
        CHECK_ONE(t.segment[0].mean[m], 0.1f, 1e-7, "mean");
        CHECK_ONE(t.segment[0].r[m], 316.2277, 1e-2, "1/std");
    }
}

static void ranges_gather_and_add(void **state)
{
    const struct pcv_group g = {.n = 6, .nranges = 3, .range = {{7, 1}, {0, 3}, {4, 2}}};
    const float all[8] = {0, 1, 2, 3, 4, 5, 6, 7}, want[6] = {7, 0, 1, 2, 4, 5};
    const float sums[8] = {0, 2, 4, 3, 8, 10, 6, 14};
    float own[6], back[8];

    (void)state;
    pcv_group_gather(&g, all, own);
    CHECK_BITS(own, want, 6);
    memcpy(back, all, sizeof(back));
    pcv_group_add(&g, own, back);
    CHECK_BITS(back, sums, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_group_alone, release),
        cmocka_unit_test_teardown(groups_side_by_side, release),
        cmocka_unit_test_teardown(sums_of_a_longer_table, release),
        cmocka_unit_test_teardown(groups_above_each_other, release),
        cmocka_unit_test_teardown(content_far_from_zero, release),
        cmocka_unit_test_teardown(tokens_of_one_value, release),
        cmocka_unit_test_teardown(ranges_gather_and_add, release),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
