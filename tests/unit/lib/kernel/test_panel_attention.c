/* Attention over panels, every table against the formulas in double precision: keys and values in
 * blocks, as heads of wider matrices, queries at every lane. */
#include "lib/kernel/panel.h"

#include "tests/unit/lib/kernel/panels.h"

static uint64_t seed;

/* A head: queries [rows, dk], keys [n, dk], values [n, dv]. */
struct head {
    int rows, n, dk, dv;
    float *q, *keys, *values;
};

static struct head head_new(int rows, int n, int dk, int dv)
{
    return (struct head){
        rows,
        n,
        dk,
        dv,
        random_new(&seed, (size_t)(rows * dk), 0, 1),
        random_new(&seed, (size_t)(n * dk), 0, 1),
        random_new(&seed, (size_t)(n * dv), 0, 1),
    };
}

static void head_free(struct head *h)
{
    free(h->q);
    free(h->keys);
    free(h->values);
}

/* x [rows, n] as channels [skip, skip + n) of panels with `more` beside them; what is not x is NaN.
 * own: guarded_free(whole) */
struct part {
    struct laid m;
    float *whole;
};

static struct part part_new(const struct pcv_panel_kernels *k, const float *x, int rows, int block,
                            int n, int skip, int more)
{
    struct part p = {laid_new(k, rows, block, n, skip + more, NAN), NULL};

    p.whole = p.m.at;
    p.m.at += skip * k->lanes;
    lay(&p.m, x);
    return p;
}

/* A table's attention of queries [from, from + rows), which stand at the last lanes of a panel of
 * `width` rows; the others hold NaN. s [n, lanes], inverse [lanes], c [dv, lanes], each guarded. */
struct attention {
    int first; /* lane */
    float *s, *inverse, *c;
};

static struct attention attend(const struct pcv_panel_kernels *k, const struct head *h, int from,
                               int rows, int width, int block, float scale)
{
    const size_t lanes = (size_t)k->lanes;
    struct part keys = part_new(k, h->keys, h->n, block, h->dk, from % 3, rows % 2);
    struct part values = part_new(k, h->values, h->n, block, h->dv, rows % 2, from % 3);
    const struct pcv_panels key_view = view(&keys.m), value_view = view(&values.m);
    struct attention a = {
        width - rows,
        guarded_new((size_t)h->n * lanes, NAN),
        guarded_new(lanes, NAN),
        guarded_new((size_t)h->dv * lanes, NAN),
    };
    float *q = guarded_new((size_t)h->dk * lanes, NAN);

    for (int i = 0; i < rows; i++)
        for (int c = 0; c < h->dk; c++)
            q[c * k->lanes + a.first + i] = h->q[(from + i) * h->dk + c];
    k->scores(a.s, q, &key_view, width, h->dk);
    CHECK_GUARDS(a.s, (size_t)h->n * lanes);
    if (scale != 0) {
        k->softmax(a.s, a.inverse, width, h->n, scale);
        k->mix(a.c, a.s, a.inverse, &value_view, width, h->dv);
        CHECK_GUARDS(a.s, (size_t)h->n * lanes);
        CHECK_GUARDS(a.inverse, lanes);
        CHECK_GUARDS(a.c, (size_t)h->dv * lanes);
    }
    guarded_free(q);
    guarded_free(keys.whole);
    guarded_free(values.whole);
    return a;
}

static void attention_free(struct attention *a)
{
    guarded_free(a->s);
    guarded_free(a->inverse);
    guarded_free(a->c);
}

/* Row i against the formulas: scores, then weights (of the scores as the table rounded them), then
 * what is read. */
static void check_row(const struct pcv_panel_kernels *k, const struct head *h,
                      const struct attention *plain, const struct attention *a, int i, float scale)
{
    const float *s = plain->s + plain->first + i, *weight = a->s + a->first + i;
    const int lanes = k->lanes;
    double top = -INFINITY, whole = 0;

    for (int j = 0; j < h->n; j++) {
        double sum = 0, size = 0;

        for (int c = 0; c < h->dk; c++) {
            sum += (double)h->q[i * h->dk + c] * h->keys[j * h->dk + c];
            size += fabs((double)h->q[i * h->dk + c] * h->keys[j * h->dk + c]);
        }
        CHECK_ONE(s[j * lanes], sum, 1e-6 * size, "%s score of key %d, %d channels", table_name(k),
                  j, h->dk);
        top = fmax(top, s[j * lanes]);
    }
    for (int j = 0; j < h->n; j++) {
        const double t = scale * (s[j * lanes] - top), want = exp(t);

        /* the exponent is rounded twice before it is one */
        CHECK_ONE(weight[j * lanes], want, want * (2e-7 + 2e-7 * fabs(t)), "%s weight of key %d",
                  table_name(k), j);
        whole += weight[j * lanes];
    }
    CHECK_ONE(a->inverse[a->first + i], 1 / whole, 1e-6 / whole, "%s sum of %d weights",
              table_name(k), h->n);
    for (int c = 0; c < h->dv; c++) {
        double sum = 0, size = 0;

        for (int j = 0; j < h->n; j++) {
            sum += weight[j * lanes] / whole * h->values[j * h->dv + c];
            size += fabs(weight[j * lanes] / whole * h->values[j * h->dv + c]);
        }
        CHECK_ONE(a->c[c * lanes + a->first + i], sum, 3e-6 * size, "%s channel %d of %d keys",
                  table_name(k), c, h->n);
    }
}

/* The bits of query `row` alone, at lane `width - 1`, keys in other blocks. */
static void check_alone(const struct pcv_panel_kernels *k, const struct head *h,
                        const struct attention *among, int row, float scale)
{
    const int width = 1 + random_int(&seed, k->lanes), block = 1 + random_int(&seed, h->n + 9);
    struct attention a = attend(k, h, row, 1, width, block, scale);

    for (int j = 0; j < h->n; j++)
        CHECK_BITS(&a.s[j * k->lanes + a.first], &among->s[j * k->lanes + among->first + row], 1);
    CHECK_BITS(&a.inverse[a.first], &among->inverse[among->first + row], 1);
    for (int c = 0; c < h->dv; c++)
        CHECK_BITS(&a.c[c * k->lanes + a.first], &among->c[c * k->lanes + among->first + row], 1);
    attention_free(&a);
}

/* All widths of query panels, keys from one to several panels in blocks of all sizes. */
static void attention_matches_and_is_row_stable(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= 130; n++) for (int way = 0; way < 3; way++)
    {
        const int rows = 1 + random_int(&seed, k->lanes);
        const int width = rows + random_int(&seed, k->lanes + 1 - rows);
        const int block = way == 0 ? n : 1 + random_int(&seed, n + 9);
        const float scale = 0.3f * (float)(1 + n % 4);
        struct head h = head_new(rows, n, 1 + random_int(&seed, 40), 1 + random_int(&seed, 40));
        struct attention plain = attend(k, &h, 0, rows, width, block, 0);
        struct attention a = attend(k, &h, 0, rows, width, block, scale);

        for (int i = 0; i < rows; i++)
            check_row(k, &h, &plain, &a, i, scale);
        check_alone(k, &h, &a, random_int(&seed, rows), scale);
        attention_free(&plain);
        attention_free(&a);
        head_free(&h);
    }
}

/* ---- softmax where it is difficult ------------------------------------------------------------
 */

enum { KEYS = 37 };

/* Lane `lane` gets x [KEYS], all others NaN; softmax; the lane back in x. Returns the inverse. */
static float softmax_lane(const struct pcv_panel_kernels *k, int rows, int lane, float *x, int keys,
                          float scale)
{
    float s[KEYS * PCV_PANEL_MOST_LANES], inverse[PCV_PANEL_MOST_LANES];

    for (int i = 0; i < keys * k->lanes; i++)
        s[i] = i % k->lanes == lane ? x[i / k->lanes] : NAN;
    k->softmax(s, inverse, rows, keys, scale);
    for (int j = 0; j < keys; j++)
        x[j] = s[j * k->lanes + lane];
    for (int i = 0; i < rows; i++)
        assert_true(i == lane || isnan(inverse[i])); /* and NaN is not hidden */
    return inverse[lane];
}

static void softmax_of_equal_scores_is_even(void **state)
{
    static const float values[] = {0, -0.0f, 1e4f, -1e4f, 3e38f, -3e38f, 1e-40f};

    (void)state;
    EACH_TABLE(k)
    for (int lane = 0; lane < k->lanes; lane++)
        for (size_t v = 0; v < LEN(values); v++)
            for (int keys = 1; keys <= KEYS; keys += 9) {
                float x[KEYS], inverse;

                for (int j = 0; j < keys; j++)
                    x[j] = values[v];
                inverse = softmax_lane(k, lane + 1, lane, x, keys, 0.7f);
                for (int j = 0; j < keys; j++)
                    assert_true(x[j] == 1);
                assert_true(inverse == 1.0f / (float)keys);
            }
}

static void softmax_of_far_scores_picks_the_largest(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int lane = 0; lane < k->lanes; lane++) for (int at = 0; at < KEYS; at++)
    {
        float x[KEYS];

        for (int j = 0; j < KEYS; j++)
            x[j] = j == at ? 1e4f : j % 2 ? -1e4f : 9800;
        assert_true(softmax_lane(k, k->lanes, lane, x, KEYS, 1) == 1);
        for (int j = 0; j < KEYS; j++)
            assert_true(x[j] == (j == at));
    }
}

/* NaN anywhere in a row makes that row NaN and no other. */
static void nan_stays_in_its_row(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int bad = 0; bad < k->lanes; bad++)
    {
        const int rows = k->lanes;
        struct head h = head_new(rows, KEYS, 5, 6);
        struct attention clean = attend(k, &h, 0, rows, rows, 20, 1), a;

        h.q[bad * 5] = bad % 3 ? NAN : INFINITY; /* inf - inf */
        a = attend(k, &h, 0, rows, rows, 20, 1);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < 6; c++) {
                if (i == bad)
                    assert_true(isnan(a.c[c * rows + i]));
                else
                    CHECK_BITS(&a.c[c * rows + i], &clean.c[c * rows + i], 1);
            }
        attention_free(&clean);
        attention_free(&a);
        head_free(&h);
    }
}

/* One score that is no number spoils the sum of its row, wherever it stands among the keys. */
static void softmax_does_not_hide_nan(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int at = 0; at < KEYS; at++)
    {
        float x[KEYS];

        random_fill(&seed, x, KEYS, 0, 500);
        x[at] = NAN;
        assert_true(isnan(softmax_lane(k, k->lanes, at % k->lanes, x, KEYS, 1)));
        assert_true(isnan(x[at]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_and_is_row_stable),
        cmocka_unit_test(softmax_of_equal_scores_is_even),
        cmocka_unit_test(softmax_of_far_scores_picks_the_largest),
        cmocka_unit_test(nan_stays_in_its_row),
        cmocka_unit_test(softmax_does_not_hide_nan),
    };

    return cmocka_run_group_tests(tests, find_tables, NULL);
}
