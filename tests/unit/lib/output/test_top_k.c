#include "lib/perceiver.h"

#include "tests/unit/check.h"

static uint64_t seed;

/* The k best by trying every index, k times. */
static void check_against_search(const float *x, int n, int k)
{
    struct pcv_score *got = malloc((size_t)(k + 1) * sizeof(*got));
    bool *taken = calloc((size_t)n, sizeof(*taken));
    double sum = 0, top = -INFINITY;
    const int want = k < n ? k : n;

    assert_true(got && taken);
    got[want] = (struct pcv_score){-7, -7}; /* no more is written */
    for (int i = 0; i < n; i++)
        top = fmax(top, x[i]);
    for (int i = 0; i < n; i++)
        sum += exp(x[i] - top);
    assert_int_equal(pcv_top_k(x, n, k, got), want);
    for (int i = 0; i < want; i++) {
        int best = -1;

        for (int j = 0; j < n; j++)
            if (!taken[j] && (best < 0 || x[j] > x[best]))
                best = j;
        taken[best] = true;
        assert_int_equal(got[i].index, best);
        CHECK_ONE(got[i].score, exp(x[best] - top) / sum, 1e-7, "the %dth of %d", i, n);
    }
    assert_true(got[want].index == -7 && got[want].score == -7);
    free(got);
    free(taken);
}

static void the_best_come_first(void **state)
{
    (void)state;
    for (int t = 0; t < 400; t++) {
        const int n = 1 + random_int(&seed, 40), k = random_int(&seed, 45);
        float x[40];

        random_fill(&seed, x, (size_t)n, 0, 8);
        for (int i = 0; i < n && t % 2; i++)
            x[i] = roundf(x[i] / 2); /* many equal ones: ties go to the smaller index */
        check_against_search(x, n, k);
    }
}

/* Huge logits neither overflow nor vanish. */
static void extreme_logits_are_probabilities(void **state)
{
    static const float huge[] = {3e38f, -3e38f, 3e38f}, low[] = {-1000, -1001};
    struct pcv_score s[3];

    (void)state;
    assert_int_equal(pcv_top_k(huge, 3, 3, s), 3);
    assert_true(s[0].index == 0 && s[1].index == 2 && s[2].index == 1);
    assert_true(s[0].score == 0.5f && s[1].score == 0.5f && s[2].score == 0);
    assert_int_equal(pcv_top_k(low, 2, 1, s), 1);
    CHECK_ONE(s[0].score, 1 / (1 + exp(-1)), 1e-7, "softmax");
}

static void nothing_asked_is_nothing_given(void **state)
{
    static const float x[] = {1, 2};
    struct pcv_score s = {-7, -7};

    (void)state;
    assert_int_equal(pcv_top_k(x, 2, 0, &s), 0);
    assert_int_equal(pcv_top_k(x, 0, 3, &s), 0);
    assert_int_equal(pcv_top_k(x, 2, -1, &s), 0);
    assert_true(s.index == -7 && s.score == -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_come_first),
        cmocka_unit_test(extreme_logits_are_probabilities),
        cmocka_unit_test(nothing_asked_is_nothing_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
