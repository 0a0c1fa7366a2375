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

/* What a table's attention reads for queries [from, from + rows), which stand after `before` rows
 * of NaN: c [before + rows, dv] in panels. own: guarded_free(c.at) */
struct attention {
    int before;
    struct laid c;
};

static struct attention attend(const struct pcv_panel_kernels *k, const struct head *h, int from,
                               int rows, int before, int block, float scale)
{
    const int all = before + rows;
    struct part keys = part_new(k, h->keys, h->n, block, h->dk, from % 3, rows % 2);
    struct part values = part_new(k, h->values, h->n, block, h->dv, rows % 2, from % 3);
    struct laid q = laid_new(k, all, all, h->dk, 0, NAN);
    struct attention a = {before, laid_new(k, all, all, h->dv, 1, NAN)};
    float *scratch = guarded_new(pcv_attend_need(all, h->dk), NAN);

    for (int i = 0; i < rows; i++)
        for (int c = 0; c < h->dk; c++)
            q.at[place(&q, before + i, c)] = h->q[(from + i) * h->dk + c];
    k->attend(&(struct pcv_attention_head){
        .rows = all,
        .dk = h->dk,
        .dv = h->dv,
        .q = q.at,
        .q_step = q.step,
        .keys = view(&keys.m),
        .values = view(&values.m),
        .scale = scale,
        .c = a.c.at,
        .c_step = a.c.step,
        .scratch = scratch,
    });
    CHECK_GUARDS(a.c.at, a.c.floats);
    CHECK_GUARDS(scratch, pcv_attend_need(all, h->dk));
    for (int i = 0; i < before * h->dv; i++) /* and NaN is not hidden */
        assert_true(isnan(a.c.at[place(&a.c, i / h->dv, i % h->dv)]));
    guarded_free(scratch);
    guarded_free(q.at);
    guarded_free(keys.whole);
    guarded_free(values.whole);
    return a;
}

static float read_at(const struct attention *a, int row, int channel)
{
    return a->c.at[place(&a->c, a->before + row, channel)];
}

/* A key's score and weight by the formulas, and how wrong a table's weight may be, relatively: sums
 * of products of this size are rounded, and so is the exponent. */
struct weight {
    double score, size, weight, wrong;
};

static void weights_of(const struct head *h, int i, float scale, struct weight *w)
{
    double top = -INFINITY, whole = 0;

    for (int j = 0; j < h->n; j++) {
        w[j] = (struct weight){0};
        for (int c = 0; c < h->dk; c++) {
            w[j].score += scale * (double)h->q[i * h->dk + c] * h->keys[j * h->dk + c];
            w[j].size += fabs(scale * (double)h->q[i * h->dk + c] * h->keys[j * h->dk + c]);
        }
        top = fmax(top, w[j].score);
    }
    for (int j = 0; j < h->n; j++) {
        w[j].weight = exp(w[j].score - top);
        w[j].wrong = 4e-7 + 1e-6 * w[j].size + 2e-7 * (fabs(w[j].score) + fabs(top));
        whole += w[j].weight;
    }
    for (int j = 0; j < h->n; j++)
        w[j].weight /= whole;
}

static void check_row(const struct pcv_panel_kernels *k, const struct head *h,
                      const struct attention *a, int i, float scale)
{
    struct weight *w = calloc((size_t)h->n, sizeof(*w));

    assert_non_null(w);
    weights_of(h, i, scale, w);
    for (int c = 0; c < h->dv; c++) {
        double sum = 0, wrong = 0;

        for (int j = 0; j < h->n; j++)
            sum += w[j].weight * h->values[j * h->dv + c];
        for (int j = 0; j < h->n; j++) {
            const double value = fabs((double)h->values[j * h->dv + c]);

            wrong += w[j].weight * (3e-6 * value + w[j].wrong * (value + fabs(sum)));
        }
        CHECK_ONE(read_at(a, i, c), sum, wrong, "%s channel %d of %d keys, scale %g", table_name(k),
                  c, h->n, (double)scale);
    }
    free(w);
}

/* The bits of query `row` alone or at another lane, keys in other blocks. */
static void check_alone(const struct pcv_panel_kernels *k, const struct head *h,
                        const struct attention *among, int row, float scale)
{
    const int before = row % 2 ? 0 : random_int(&seed, 2 * k->lanes);
    const int block = 1 + random_int(&seed, h->n + 9);
    struct attention a = attend(k, h, row, 1, before, block, scale);

    for (int c = 0; c < h->dv; c++) {
        const float alone = read_at(&a, 0, c), together = read_at(among, row, c);

        CHECK_BITS(&alone, &together, 1);
    }
    guarded_free(a.c.at);
}

/* One to three panels of queries; keys from one to more than two chunks, in blocks of all sizes;
 * scores from even ones to such that the largest outgrows what came before in some rows. */
static void attention_matches_and_is_row_stable(void **state)
{
    static const float scales[] = {0.3f, 0.6f, 1.2f, 6};

    (void)state;
    EACH_TABLE(k) for (int n = 1; n <= 300; n += n < 130 ? 1 : 13) for (int way = 0; way < 3; way++)
    {
        const int rows = 1 + random_int(&seed, 2 * k->lanes);
        const int block = way == 0 ? n : 1 + random_int(&seed, n + 9);
        const float scale = scales[(n + way) % 4];
        struct head h = head_new(rows, n, 1 + random_int(&seed, 40), 1 + random_int(&seed, 40));
        struct attention a = attend(k, &h, 0, rows, random_int(&seed, k->lanes), block, scale);

        for (int i = 0; i < rows; i++)
            check_row(k, &h, &a, i, scale);
        check_alone(k, &h, &a, random_int(&seed, rows), scale);
        guarded_free(a.c.at);
        head_free(&h);
    }
}

/* ---- where it is difficult --------------------------------------------------------------------
 */

enum { KEYS = 2 * PCV_PANEL_KEYS + 37 };

/* A head of one channel whose scores are x [keys], for one query; values are 1 where `at` is the
 * key and 0 elsewhere, or 1 everywhere for at < 0. What is read at the lane. */
static float read_lane(const struct pcv_panel_kernels *k, int lane, float *x, int keys, int at,
                       float scale)
{
    float one = 1, values[KEYS], got;
    struct head h = {1, keys, 1, 1, &one, x, values};
    struct attention a;

    for (int j = 0; j < keys; j++)
        values[j] = at < 0 || j == at;
    a = attend(k, &h, 0, 1, lane, 50, scale);
    got = read_at(&a, 0, 0);
    guarded_free(a.c.at);
    return got;
}

static void equal_scores_weigh_the_same(void **state)
{
    static const float scores[] = {0, -0.0f, 1e4f, -1e4f, 3e38f, -3e38f, 1e-40f};

    (void)state;
    EACH_TABLE(k)
    for (int lane = 0; lane < k->lanes; lane++)
        for (size_t v = 0; v < LEN(scores); v++)
            for (int keys = 1; keys <= KEYS; keys += 68) {
                float x[KEYS];

                for (int j = 0; j < keys; j++)
                    x[j] = scores[v];
                CHECK_ONE(read_lane(k, lane, x, keys, keys / 2, 0.5f), 1.0 / keys, 3e-7 / keys,
                          "%s of %d equal scores", table_name(k), keys);
            }
}

static void the_largest_of_far_scores_is_read_alone(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int at = 0; at < KEYS; at++)
    {
        float x[KEYS];

        for (int j = 0; j < KEYS; j++)
            x[j] = j == at ? 1e4f : j % 2 ? -1e4f : 9800;
        assert_true(fabsf(read_lane(k, at % k->lanes, x, KEYS, at, 1) - 1) < 3e-7f);
        assert_true(read_lane(k, at % k->lanes, x, KEYS, (at + 1) % KEYS, 1) == 0);
    }
}

/* Scores that climb: what was summed before must shrink, by how much the largest has grown. */
static void sums_shrink_when_the_largest_grows(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int way = 0; way < 6; way++) /* exponents to 50: rounded by 2e-6, twice */
    {
        const int leap = 5 + 6 * way, before = PCV_PANEL_KEYS / 2;
        float x[KEYS];
        double whole = 0;

        for (int j = 0; j < KEYS; j++) {
            const int leaps = j / PCV_PANEL_KEYS;

            x[j] = (float)(leaps * leap);
            whole += exp(x[j] - 2.0 * leap);
        }
        CHECK_ONE(read_lane(k, way, x, KEYS, before, 1), exp(-2.0 * leap) / whole,
                  5e-6 * exp(-2.0 * leap) / whole, "%s: leaps of %d", table_name(k), leap);
        CHECK_ONE(read_lane(k, way, x, KEYS, -1, 1), 1, 1e-6, "%s: leaps of %d", table_name(k),
                  leap);
    }
}

/* Scores whose size alone says nothing, before, between and after those that are far from zero:
 * what a table may leave out for the former must not be missed when the latter come. A weight of
 * e^-70 may be rough. */
static void far_scores_come_early_or_late(void **state)
{
    static const float chunks[][3] = {
        {3, -1e4f, 2},       {-1e4f, 3, 2}, {3, 2, -1e4f},
        {-300, -1e4f, -301}, {40, 41, 42},  {1, 80, 81.5f},
        {-70, -71, -72},     {3, 300, 299}, {-1e4f, 40, -20},
        {41, -41, 41},       {2e38f, 1, 2}, {1, -2e38f, 0.5f},
        {-50, 30, -50},      {30, 100, 99}, {-2e38f, -2e38f, -2e38f},
    };

    (void)state;
    EACH_TABLE(k) for (size_t v = 0; v < LEN(chunks); v++)
    {
        double top = -INFINITY, whole = 0;
        float x[KEYS];

        for (int j = 0; j < KEYS; j++) {
            x[j] = chunks[v][j / PCV_PANEL_KEYS];
            top = fmax(top, x[j]);
        }
        for (int j = 0; j < KEYS; j++)
            whole += exp(x[j] - top);
        for (int chunk = 0; chunk < 3; chunk++) {
            const int at = chunk * PCV_PANEL_KEYS + 5;
            const double want = exp(x[at] - top) / whole;

            for (int lane = 0; lane < k->lanes; lane += k->lanes - 1)
                CHECK_ONE(read_lane(k, lane, x, KEYS, at, 1), want, want * 3e-5 + 1e-20,
                          "%s: scores %g %g %g, a key of chunk %d", table_name(k),
                          (double)chunks[v][0], (double)chunks[v][1], (double)chunks[v][2], chunk);
        }
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
        struct attention clean = attend(k, &h, 0, rows, 0, 20, 1), a;

        h.q[bad * 5] = bad % 3 ? NAN : INFINITY; /* inf - inf */
        a = attend(k, &h, 0, rows, 0, 20, 1);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < 6; c++) {
                const float got = read_at(&a, i, c), was = read_at(&clean, i, c);

                if (i == bad)
                    assert_true(isnan(got));
                else
                    CHECK_BITS(&got, &was, 1);
            }
        guarded_free(clean.c.at);
        guarded_free(a.c.at);
        head_free(&h);
    }
}

/* One score that is no number spoils its row, wherever it stands among the keys. */
static void nan_among_scores_is_not_hidden(void **state)
{
    (void)state;
    EACH_TABLE(k) for (int at = 0; at < KEYS; at++)
    {
        float x[KEYS];

        random_fill(&seed, x, KEYS, 0, 500);
        x[at] = NAN;
        assert_true(isnan(read_lane(k, at % k->lanes, x, KEYS, 0, 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_and_is_row_stable),
        cmocka_unit_test(equal_scores_weigh_the_same),
        cmocka_unit_test(the_largest_of_far_scores_is_read_alone),
        cmocka_unit_test(far_scores_come_early_or_late),
        cmocka_unit_test(sums_shrink_when_the_largest_grows),
        cmocka_unit_test(nan_stays_in_its_row),
        cmocka_unit_test(nan_among_scores_is_not_hidden),
    };

    return cmocka_run_group_tests(tests, find_tables, NULL);
}
