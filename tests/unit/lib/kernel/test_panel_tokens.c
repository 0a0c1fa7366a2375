/* Runs of tokens against a panel of queries, every table against the formulas in double precision:
 * any number of tokens, queries and channels; lanes without a query hold NaN. */
#include "lib/kernel/panel.h"

#include "tests/unit/lib/kernel/panels.h"

static uint64_t seed;

enum { TOKENS = 300, MOST_LANES = PCV_PANEL_MOST_LANES, STILL = 2 };

/* Random rows [n, lanes] between guards; lanes from `rows` on are NaN. own: guarded_free */
static float *rows_new(const struct pcv_panel_kernels *k, int n, int rows)
{
    float *x = guarded_new((size_t)(n * k->lanes), NAN);

    for (int i = 0; i < n; i++)
        random_fill(&seed, x + i * k->lanes, (size_t)rows, 0, 1);
    return x;
}

/* What a run is made of, and what the kernels must not change by being asked. */
struct tokens {
    int n, rows;
    struct pcv_token_run run;
    const float *still[STILL];
    float *s, *max;
    bool given;
};

static double score_of(const struct pcv_panel_kernels *k, const struct tokens *t, int i, int q)
{
    double v = t->given ? t->s[i * k->lanes + q] : 0;

    for (int j = 0; j < t->run.nstill; j++)
        v += t->still[j][q];
    if (t->run.moving)
        v += t->run.moving[i * k->lanes + q];
    for (int j = 0; j < t->run.channels; j++)
        v += (double)t->run.u[j * k->lanes + q] * t->run.x[j * (int)t->run.x_step + i];
    return v * t->run.r[i];
}

static void check_scores(const struct pcv_panel_kernels *k, struct tokens *t)
{
    double *want = calloc((size_t)(t->n * MOST_LANES), sizeof(*want));

    assert_non_null(want);
    for (int i = 0; i < t->n; i++)
        for (int q = 0; q < t->rows; q++)
            want[i * MOST_LANES + q] = score_of(k, t, i, q);
    k->token_scores(t->s, t->max, &t->run, t->rows, t->given);
    CHECK_GUARDS(t->s, (size_t)(t->n * k->lanes));
    for (int q = 0; q < t->rows; q++) {
        float most = 0.25f; /* what max held */

        for (int i = 0; i < t->n; i++) {
            const float s = t->s[i * k->lanes + q];

            CHECK_ONE(s, want[i * MOST_LANES + q], 1e-5, "%s score of %d", table_name(k), t->n);
            most = s > most ? s : most;
        }
        assert_true(t->max[q] == most);
    }
    free(want);
}

static void check_weights(const struct pcv_panel_kernels *k, struct tokens *t)
{
    const size_t all = (size_t)(t->n * k->lanes);
    float *e = rows_new(k, 1, t->rows), *moving = rows_new(k, t->n, t->rows), *still[STILL];
    float *was = guarded_new(all, 0), *moving_was = guarded_new(all, 0);
    struct pcv_token_sums sums = {e, still, t->run.moving ? moving : NULL};
    float e_was[MOST_LANES], still_was[STILL][MOST_LANES];

    memcpy(was, t->s, all * sizeof(*was));
    memcpy(moving_was, moving, all * sizeof(*was));
    memcpy(e_was, e, (size_t)t->rows * sizeof(*e));
    for (int j = 0; j < STILL; j++) {
        still[j] = rows_new(k, 1, t->rows);
        memcpy(still_was[j], still[j], (size_t)t->rows * sizeof(*e));
    }
    k->token_weights(t->s, t->max, &t->run, &sums, t->rows);
    CHECK_GUARDS(t->s, all);
    CHECK_GUARDS(moving, all);
    CHECK_GUARDS(e, (size_t)k->lanes);
    for (int q = 0; q < t->rows; q++) {
        double sum = 0, total = 0;

        for (int i = 0; i < t->n; i++) {
            const int at = i * k->lanes + q;
            const double p = exp2((double)was[at] - t->max[q]), b = p * t->run.r[i];

            sum += p;
            total += b;
            CHECK_ONE(t->s[at], b, 2e-6, "%s weight of %d", table_name(k), t->n);
            CHECK_ONE(moving[at], moving_was[at] + (t->run.moving ? b : 0), 3e-6, "moving sum");
        }
        CHECK_ONE(e[q], e_was[q] + sum, 1e-6 * (t->n + 1), "%s sum of %d", table_name(k), t->n);
        for (int j = 0; j < STILL; j++)
            CHECK_ONE(still[j][q], still_was[j][q] + (j < t->run.nstill ? total : 0),
                      1e-6 * (t->n + 1), "%s sum that stands still", table_name(k));
    }
    for (int j = 0; j < STILL; j++)
        guarded_free(still[j]);
    guarded_free(e);
    guarded_free(moving);
    guarded_free(was);
    guarded_free(moving_was);
}

/* way: which terms there are. */
static void check_run(const struct pcv_panel_kernels *k, int n, int rows, int channels, int way)
{
    float *first = rows_new(k, 1, rows), *second = rows_new(k, 1, rows);
    float *moving = rows_new(k, n, rows), *u = rows_new(k, channels + 1, rows);
    float *x = random_new(&seed, (size_t)((n + 2) * channels + 1), 0, 1);
    float *r = random_new(&seed, (size_t)n, 1, 0.5f);
    struct tokens t = {
        .n = n,
        .rows = rows,
        .run = {.n = n,
                .r = r,
                .nstill = way % (STILL + 1),
                .x = x,
                .x_step = (size_t)n + way % 3,
                .channels = channels,
                .u = u},
        .still = {first, second},
        .s = way & 4 ? rows_new(k, n, rows) : guarded_new((size_t)(n * k->lanes), NAN),
        .max = guarded_new((size_t)k->lanes, 0.25f),
        .given = way & 4,
    };

    t.run.still = t.still;
    t.run.moving = way & 8 ? moving : NULL;
    check_scores(k, &t);
    check_weights(k, &t);
    guarded_free(first);
    guarded_free(second);
    guarded_free(moving);
    guarded_free(u);
    guarded_free(t.s);
    guarded_free(t.max);
    free(x);
    free(r);
}

static void runs_match(void **state)
{
    (void)state;
    EACH_TABLE(k)
    for (int turn = 0; turn < 300; turn++)
        check_run(k, 1 + random_int(&seed, turn % 10 ? 20 : 150), 1 + random_int(&seed, k->lanes),
                  random_int(&seed, 9), turn % 16);
}

/* Queries that are sums of parts against n keys; way: which parts there are. */
static void check_query(const struct pcv_panel_kernels *k, int n, int rows, int way)
{
    const size_t step = (size_t)k->lanes + (size_t)(way & 1) * 5, all = (size_t)(n * k->lanes);
    float *same = random_new(&seed, (size_t)n, 0, 1), *add = random_new(&seed, (size_t)n, 0, 1);
    float *each = random_new(&seed, (size_t)n * step, 0, 1), *r = rows_new(k, 1, rows);
    float *s = rows_new(k, n, rows), *max = guarded_new((size_t)k->lanes, 0.25f);
    float *was = guarded_new(all, 0), *sum = guarded_new((size_t)k->lanes, 0.5f);
    const struct pcv_query_terms t = {n, same, way & 2 ? each : NULL, step, r, add};

    memcpy(was, s, all * sizeof(*s));
    k->query_scores(s, max, &t, rows, way & 4);
    CHECK_GUARDS(s, all);
    CHECK_GUARDS(max, (size_t)k->lanes);
    for (int q = 0; q < rows; q++) {
        float most = 0.25f;

        for (int j = 0; j < n; j++) {
            const double parts = (double)same[j] +
                                 (way & 2 ? each[(size_t)j * step + (size_t)q] : 0) +
                                 (way & 4 ? was[j * k->lanes + q] : 0);
            const float score = s[j * k->lanes + q];

            CHECK_ONE(score, parts * r[q] + add[j], 3e-6, "%s score of %d keys", table_name(k), n);
            most = score > most ? score : most;
        }
        assert_true(max[q] == most);
    }
    memcpy(was, s, all * sizeof(*s));
    k->weights(s, max, sum, rows, n);
    CHECK_GUARDS(s, all);
    CHECK_GUARDS(sum, (size_t)k->lanes);
    for (int q = 0; q < rows; q++) {
        double total = 0.5;

        for (int j = 0; j < n; j++) {
            const double want = exp2((double)was[j * k->lanes + q] - max[q]);

            CHECK_ONE(s[j * k->lanes + q], want, 1e-6 * want, "%s weight", table_name(k));
            total += want;
        }
        CHECK_ONE(sum[q], total, 2e-6 * total, "%s sum of %d weights", table_name(k), n);
    }
    free(same);
    free(add);
    free(each);
    guarded_free(r);
    guarded_free(s);
    guarded_free(max);
    guarded_free(was);
    guarded_free(sum);
}

static void queries_match(void **state)
{
    (void)state;
    EACH_TABLE(k)
    for (int turn = 0; turn < 200; turn++)
        check_query(k, 1 + random_int(&seed, 40), 1 + random_int(&seed, k->lanes), turn % 8);
}

/* c += s^T x, wide and narrow, short and longer than a part. */
static void sums_of_content_match(void **state)
{
    (void)state;
    EACH_TABLE(k)
    for (int turn = 0; turn < 60; turn++) {
        const int n = 1 + random_int(&seed, turn % 4 ? 40 : TOKENS), channels = 1 + turn;
        const int rows = 1 + random_int(&seed, k->lanes), ld = channels + turn % 3;
        const int row = turn % 2 ? ld : 1, channel = turn % 2 ? 1 : n + turn % 3;
        float *s = rows_new(k, n, rows), *c = rows_new(k, channels, rows);
        float *x = random_new(&seed, (size_t)((n + 2) * ld), 0, 1);
        float *was = guarded_new((size_t)(channels * k->lanes), 0);

        memcpy(was, c, (size_t)(channels * k->lanes) * sizeof(*c));
        k->gather(c, s, n, (struct pcv_values){x, (size_t)row, (size_t)channel}, channels, rows);
        CHECK_GUARDS(c, (size_t)(channels * k->lanes));
        for (int j = 0; j < channels; j++)
            for (int q = 0; q < rows; q++) {
                double sum = was[j * k->lanes + q];

                for (int i = 0; i < n; i++)
                    sum += (double)s[i * k->lanes + q] * x[i * row + j * channel];
                CHECK_ONE(c[j * k->lanes + q], sum, 3e-6 * (n + 1), "%s gather of %d x %d",
                          table_name(k), n, channels);
            }
        guarded_free(s);
        guarded_free(c);
        guarded_free(was);
        free(x);
    }
}

static void planes_become_tokens(void **state)
{
    (void)state;
    EACH_TABLE(k)
    for (int turn = 0; turn < 60; turn++) {
        const int n = 1 + random_int(&seed, 140), channels = 1 + turn, stride = n + turn % 5;
        float *planes = random_new(&seed, (size_t)(channels * stride), 0, 1);
        float *x = guarded_new((size_t)(n * channels), NAN);

        k->transpose(x, planes, stride, n, channels);
        CHECK_GUARDS(x, (size_t)(n * channels));
        for (int i = 0; i < n; i++)
            for (int j = 0; j < channels; j++)
                assert_true(x[i * channels + j] == planes[j * stride + i]);
        guarded_free(x);
        free(planes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_match),
        cmocka_unit_test(queries_match),
        cmocka_unit_test(sums_of_content_match),
        cmocka_unit_test(planes_become_tokens),
    };

    return cmocka_run_group_tests(tests, find_tables, NULL);
}
