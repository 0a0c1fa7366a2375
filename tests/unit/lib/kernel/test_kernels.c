/* Every table of kernels against the formulas in double precision: odd sizes, pointers that are
 * aligned to nothing, guards around what is written, and the same bits wherever a row stands. */
#include "lib/kernel/kernels.h"

#include "tests/unit/check.h"

#include <float.h>

enum { SIZES = 67, ROOM = 4096, GUARD = 8 };

static const struct pcv_kernels *tables[2];
static int ntables;

#define EACH_TABLE(k)                                                                              \
    for (const struct pcv_kernels *k, **t_ = tables; t_ < tables + ntables && (k = *t_); t_++)

static int setup(void **state)
{
    (void)state;
    tables[ntables++] = &pcv_kernels_scalar;
    if (pcv_kernels_for(pcv_cpu_detect()) != &pcv_kernels_scalar)
        tables[ntables++] = pcv_kernels_for(pcv_cpu_detect());
    return 0;
}

/* Room for n floats that begin `offset` floats after an aligned address, between guards. */
struct room {
    _Alignas(64) float all[ROOM];
    float *x;
    int n;
};

static float *open_room(struct room *r, int n, int offset)
{
    assert_true(GUARD + offset + n + GUARD <= ROOM);
    for (int i = 0; i < ROOM; i++)
        r->all[i] = 1234.5f;
    r->n = n;
    return r->x = r->all + GUARD + offset;
}

static void check_guards(const struct room *r, const char *what)
{
    for (int i = 0; i < ROOM; i++)
        if ((r->all + i < r->x || r->all + i >= r->x + r->n) && r->all[i] != 1234.5f)
            fail_msg("%s wrote %d floats beside its %d", what, (int)(r->all + i - r->x), r->n);
}

static struct room a, b, c, d;
static uint64_t seed;

/* ---- vectors ----------------------------------------------------------------------------------
 */

static void vectors_match(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++)
    {
        float *x = open_room(&a, n, n % 8), *y = open_room(&b, n, n / 3 % 8);
        double dot = 0, size = 0, most = -INFINITY;

        random_fill(&seed, x, (size_t)n, 0, 2);
        random_fill(&seed, y, (size_t)n, -1, 2);
        for (int i = 0; i < n; i++) {
            dot += (double)x[i] * y[i];
            size += fabs((double)x[i] * y[i]);
            most = fmax(most, x[i]);
        }
        CHECK_ONE(k->dot(x, y, n), dot, size * 1e-6, "%s dot of %d", k->name, n);
        CHECK_ONE(k->max(x, n), most, 0, "%s max of %d", k->name, n);
        for (int i = 0; i < n; i++)
            open_room(&c, n, 1)[i] = 0;
        memcpy(c.x, y, (size_t)n * sizeof(*y));
        k->axpy(y, -1.7f, x, n);
        for (int i = 0; i < n; i++)
            CHECK_ONE(y[i], c.x[i] - 1.7f * (double)x[i], 1e-6, "%s axpy of %d", k->name, n);
        memcpy(c.x, x, (size_t)n * sizeof(*x));
        k->scale(x, 0.37f, n);
        for (int i = 0; i < n; i++)
            CHECK_ONE(x[i], c.x[i] * 0.37f, 0, "%s scale of %d", k->name, n);
        check_guards(&a, "scale");
        check_guards(&b, "axpy");
    }
}

static void max_finds_it_anywhere(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++)
    {
        float *x = open_room(&a, n, n % 8);

        for (int at = 0; at < n; at++) {
            for (int i = 0; i < n; i++)
                x[i] = i % 2 ? -INFINITY : -3e38f;
            x[at] = -2e38f;
            CHECK_ONE(k->max(x, n), -2e38f, 0, "%s max of %d at %d", k->name, n, at);
        }
        for (int i = 0; i < n; i++)
            x[i] = -INFINITY;
        assert_true(k->max(x, n) == -INFINITY);
    }
}

/* ---- exp: relative 2e-7; 0 allowed where the result would be subnormal ------------------------
 */

static void exp_is_exact_to_rounding(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int i = 0; i <= 400000; i++)
    {
        const float x = -104.0f + (88.72f + 104.0f) * (float)i / 400000;
        float y = x;

        k->exp_sum(&y, 1, 0);
        CHECK_ONE(y, exp(x), exp(x) * 2e-7 + FLT_MIN, "%s exp(%a)", k->name, x);
    }
}

static void exp_has_sensible_ends(void **state)
{
    static const float tiny[] = {0.0f, -0.0f, 1e-40f, -1e-40f, FLT_MIN, -1e-10f};
    static const float low[] = {-INFINITY, -FLT_MAX, -1e30f, -1000, -150};

    (void)state;
    EACH_TABLE(k)
    {
        for (size_t i = 0; i < LEN(tiny); i++) {
            float y = tiny[i];

            assert_true(k->exp_sum(&y, 1, 0) == 1);
            assert_true(y == 1);
        }
        for (size_t i = 0; i < LEN(low); i++) {
            float y = low[i];

            assert_true(k->exp_sum(&y, 1, 0) == 0);
            assert_true(y == 0);
        }
        for (int n = 1; n <= 9; n++) { /* NaN is not hidden, in body and tail */
            float y[9] = {0};

            y[n - 1] = NAN;
            assert_true(isnan(k->exp_sum(y, n, 0)));
            assert_true(isnan(y[n - 1]));
        }
    }
}

static void exp_sum_and_softmax_match(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++)
    {
        float *x = open_room(&a, n, n % 8), *rows = open_room(&b, 3 * (n + 5) - 5, n % 7);
        double sum = 0;
        float got;

        random_fill(&seed, x, (size_t)n, 0, 20);
        memcpy(open_room(&c, n, 0), x, (size_t)n * sizeof(*x));
        for (int i = 0; i < n; i++)
            sum += exp((double)x[i] - 17.5);
        got = k->exp_sum(x, n, 17.5f);
        CHECK_ONE(got, sum, sum * 1e-6, "%s exp_sum of %d", k->name, n);
        for (int i = 0; i < n; i++) /* x - max rounds before exp sees it */
            CHECK_ONE(x[i], exp((double)c.x[i] - 17.5), 4e-6 * exp((double)c.x[i] - 17.5),
                      "%s exp_sum element %d", k->name, i);
        check_guards(&a, "exp_sum");

        for (int r = 0; r < 3; r++) {
            random_fill(&seed, rows + r * (n + 5), (size_t)n, 50, 100);
            if (r < 2)
                for (int i = 0; i < 5; i++)
                    rows[r * (n + 5) + n + i] = 7; /* between rows: not ours */
        }
        memcpy(open_room(&c, b.n, 0), rows, (size_t)b.n * sizeof(*rows));
        k->softmax(rows, n + 5, 3, n, 0.3f);
        for (int r = 0; r < 3; r++) {
            const float *was = c.x + r * (n + 5), *is = rows + r * (n + 5);
            double top = -INFINITY, whole = 0;

            for (int i = 0; i < n; i++)
                top = fmax(top, 0.3f * (double)was[i]);
            for (int i = 0; i < n; i++)
                whole += exp(0.3f * (double)was[i] - top);
            for (int i = 0; i < n; i++)
                CHECK_ONE(is[i], exp(0.3f * (double)was[i] - top) / whole, 5e-6, "%s softmax of %d",
                          k->name, n);
            assert_true(r == 2 || is[n] == 7);
        }
        check_guards(&b, "softmax");
    }
}

/* ---- gelu: relative 3e-7; below zero, where 1 + erf cancels, also 1.2e-7 min(|x|, 6) ----------
 */

static double gelu_erf(double x)
{
    return x * 0.5 * erfc(-x * M_SQRT1_2);
}

static double gelu_tanh(double x)
{
    const double t = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);

    return x / (1 + exp(-2 * t)); /* (1 + tanh t) / 2 without cancellation */
}

/* Of one number, which all lanes agree on. */
static float gelu_of(const struct pcv_panel_kernels *k, bool tanh_too, float x)
{
    float panel[PCV_PANEL_MOST_LANES];
    const int rows = 1 + random_int(&seed, k->lanes);

    for (int i = 0; i < k->lanes; i++)
        panel[i] = x;
    (tanh_too ? k->gelu_tanh : k->gelu_erf)(panel, rows, 1);
    for (int i = 1; i < rows; i++)
        CHECK_BITS(panel + i, panel, 1);
    return panel[0];
}

static void check_gelu(const char *name, float x, float got, double want)
{
    double tolerance = 3e-7 * fabs(want) + 2e-45;

    if (x < 0)
        tolerance += 1.2e-7 * fmin(-x, 6);
    CHECK_ONE(got, want, tolerance, "%s(%a)", name, x);
}

/* Every 4099th of all floats: subnormal, small, large, both signs. */
static void gelu_holds_over_the_whole_range(void **state)
{
    (void)state;
    EACH_TABLE(k) for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 4099)
    {
        const uint32_t b32 = (uint32_t)bits;
        float x;

        memcpy(&x, &b32, 4);
        if (!isfinite(x))
            continue;
        check_gelu("gelu_erf", x, gelu_of(k->panel, false, x), gelu_erf(x));
        check_gelu("gelu_tanh", x, gelu_of(k->panel, true, x), gelu_tanh(x));
    }
}

static void gelu_holds_where_it_bends(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int i = -200000; i <= 200000; i++)
    {
        const float x = (float)i * 6e-5f;

        check_gelu("gelu_erf", x, gelu_of(k->panel, false, x), gelu_erf(x));
        check_gelu("gelu_tanh", x, gelu_of(k->panel, true, x), gelu_tanh(x));
    }
}

static void gelu_passes_on_what_is_no_number(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int tanh_too = 0; tanh_too < 2; tanh_too++)
    {
        const float zero = gelu_of(k->panel, tanh_too, 0.0f),
                    below = gelu_of(k->panel, tanh_too, -0.0f);

        assert_true(gelu_of(k->panel, tanh_too, INFINITY) == INFINITY);
        assert_true(isnan(gelu_of(k->panel, tanh_too, NAN)));
        assert_true(zero == 0 && !signbit(zero));
        assert_true(below == 0 && signbit(below));
    }
}

/* An element gives the same bits wherever it stands in however long an array. */
static void elements_do_not_depend_on_their_place(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++)
    {
        float *x = open_room(&a, n, 0), *y;

        random_fill(&seed, x, (size_t)n, 0, 5);
        y = open_room(&b, n, n % 8);
        memcpy(y, x, (size_t)n * sizeof(*x));
        k->exp_sum(y, n, 1);
        check_guards(&b, "exp_sum");
        for (int i = 0; i < n; i++) {
            float one = x[i];

            k->exp_sum(&one, 1, 1);
            CHECK_BITS(&y[i], &one, 1);
        }
    }
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static void norm_matches_and_is_row_stable(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++) for (int plain = 0; plain < 2; plain++)
    {
        const int ldx = n + 3, ldy = n + 1, rows = 3;
        float *x = open_room(&a, rows * ldx, n % 8), *y = open_room(&b, (rows - 1) * ldy + n, 1);
        float *gamma = open_room(&c, n, 2), *beta = open_room(&d, n, 3), alone[SIZES];

        random_fill(&seed, x, (size_t)(rows * ldx), 3, 2);
        random_fill(&seed, gamma, (size_t)n, 1, 0.5f);
        random_fill(&seed, beta, (size_t)n, 0, 0.5f);
        for (int i = 0; i + 1 < rows; i++)
            y[i * ldy + n] = 7;
        if (plain)
            gamma = beta = NULL;
        k->norm(y, ldy, x, ldx, gamma, beta, rows, n, 1e-5f);
        check_guards(&b, "norm");
        for (int i = 0; i < rows; i++) {
            double mean = 0, var = 0;

            for (int j = 0; j < n; j++)
                mean += x[i * ldx + j];
            mean /= n;
            for (int j = 0; j < n; j++)
                var += (x[i * ldx + j] - mean) * (x[i * ldx + j] - mean);
            for (int j = 0; j < n; j++) {
                const double v = (x[i * ldx + j] - mean) / sqrt(var / n + 1e-5);

                /* for n = 2 and close numbers 1/std magnifies the rounding of the mean */
                CHECK_ONE(y[i * ldy + j], plain ? v : v * gamma[j] + beta[j],
                          3e-6 + 1e-6 / sqrt(var / n + 1e-5), "%s norm of %d", k->name, n);
            }
            k->norm(alone, n, x + i * ldx, n, gamma, beta, 1, n, 1e-5f);
            CHECK_BITS(y + i * ldy, alone, (size_t)n);
            assert_true(i + 1 == rows || y[i * ldy + n] == 7);
        }
        k->norm(x, ldx, x, ldx, gamma, beta, rows, n, 1e-5f); /* in place: the same */
        for (int i = 0; i < rows; i++)
            CHECK_BITS(x + i * ldx, y + i * ldy, (size_t)n);
    }
}

/* ---- statistics --------------------------------------------------------------------------------
 */

struct stat_case {
    double row_sum[SIZES], row_squares[SIZES];
    struct pcv_stat_run run;
};

/* n tokens of 100 + planes channels; what is not content has the sums of a vector around `far`. */
static void random_run(struct stat_case *c, float *x, int n, int planes, bool rows, double far)
{
    random_fill(&seed, x, (size_t)(planes * (n + 3)), (float)far, 1);
    for (int i = 0; i < n; i++) {
        const double at = far + random_int(&seed, 1000) * 1e-3;

        c->row_sum[i] = 60 * at;
        c->row_squares[i] = 60 * (at * at + 1);
    }
    c->run = (struct pcv_stat_run){.n = n,
                                   .channels = (rows ? 100 : 40) + planes,
                                   .sum = 40 * far,
                                   .squares = 40 * (far * far + 0.5),
                                   .row_sum = rows ? c->row_sum : NULL,
                                   .row_squares = rows ? c->row_squares : NULL,
                                   .x = x,
                                   .x_step = (size_t)n + 3,
                                   .planes = planes,
                                   .eps = 1e-5f};
}

static void statistics_match(void **state)
{
    static struct stat_case sc;

    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= SIZES; n++) for (int turn = 0; turn < 10; turn++)
    {
        const int planes = turn % 5;
        const bool rows = turn < 5;
        float *mean = open_room(&a, n, n % 8), *r = open_room(&b, n, n / 3 % 8);

        random_run(&sc, c.all, n, planes, rows, turn % 3 * 50);
        k->token_stats(mean, r, &sc.run);
        check_guards(&a, "mean");
        check_guards(&b, "r");
        for (int i = 0; i < n; i++) {
            double sum = sc.run.sum, squares = sc.run.squares, var;
            struct pcv_stat_run one = sc.run;
            float alone[2];

            if (rows) {
                sum += sc.row_sum[i];
                squares += sc.row_squares[i];
            }
            for (int j = 0; j < planes; j++) {
                const double v = c.all[(size_t)j * sc.run.x_step + (size_t)i];

                sum += v;
                squares += v * v;
            }
            sum /= sc.run.channels;
            var = squares / sc.run.channels - sum * sum;
            CHECK_ONE(mean[i], sum, fabs(sum) * 1e-7, "%s mean of %d", k->name, n);
            CHECK_ONE(r[i], 1 / sqrt(var + 1e-5), 3e-7 / sqrt(var + 1e-5), "%s r of %d", k->name,
                      n);
            one.n = 1;
            one.x += i;
            one.row_sum = rows ? one.row_sum + i : NULL;
            one.row_squares = rows ? one.row_squares + i : NULL;
            k->token_stats(alone, alone + 1, &one);
            CHECK_BITS(alone, mean + i, 1);
            CHECK_BITS(alone + 1, r + i, 1);
        }
    }
}

/* Tokens whose channels are all the same: rounding must not make their variance negative. */
static void statistics_of_equal_channels(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= 19; n++)
    {
        float mean[19], r[19];
        const double v = 1.0 / 3 + n;
        const struct pcv_stat_run run = {
            .n = n, .channels = 7, .sum = 7 * v, .squares = 7 * v * v * (1 - 1e-12), .eps = 1e-5f};

        k->token_stats(mean, r, &run);
        for (int i = 0; i < n; i++) {
            CHECK_ONE(mean[i], v, v * 1e-7, "%s mean of %d", k->name, n);
            CHECK_ONE(r[i], 1 / sqrt(1e-5), 1e-4, "%s r of %d", k->name, n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_match),
        cmocka_unit_test(max_finds_it_anywhere),
        cmocka_unit_test(exp_is_exact_to_rounding),
        cmocka_unit_test(exp_has_sensible_ends),
        cmocka_unit_test(exp_sum_and_softmax_match),
        cmocka_unit_test(gelu_holds_over_the_whole_range),
        cmocka_unit_test(gelu_holds_where_it_bends),
        cmocka_unit_test(gelu_passes_on_what_is_no_number),
        cmocka_unit_test(elements_do_not_depend_on_their_place),
        cmocka_unit_test(norm_matches_and_is_row_stable),
        cmocka_unit_test(statistics_match),
        cmocka_unit_test(statistics_of_equal_channels),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
