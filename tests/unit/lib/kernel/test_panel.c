/* Every table of panel kernels against the formulas in double precision: products, LayerNorm,
 * moving in and out, activations. Attention is in test_panel_attention.c. */
#include "lib/kernel/panel.h"

#include "tests/unit/lib/kernel/panels.h"

static uint64_t seed;

/* What lanes without a row hold. */
static float nonsense(void)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};

    return bad[random_int(&seed, 3)];
}

/* ---- in and out -------------------------------------------------------------------------------
 */

static void panels_take_rows_and_give_them_back(void **state)
{
    static const int sizes[] = {1, 2, 7, 8, 9, 16, 23, 40};

    (void)state;
    EACH_TABLE(k)
    for (int rows = 1; rows <= k->lanes; rows++)
        for (size_t s = 0; s < LEN(sizes); s++) {
            const int n = sizes[s], ldx = n + rows % 3, lanes = k->lanes;
            const size_t size = (size_t)((rows - 1) * ldx + n); /* a sanitizer sees reads beyond */
            float *x = random_new(&seed, size, 0, 1);
            float *panel = guarded_new((size_t)(n * lanes), NAN), *y = guarded_new(size, 7);

            k->pack(panel, x, (size_t)ldx, rows, n);
            CHECK_GUARDS(panel, (size_t)(n * lanes));
            for (int c = 0; c < n; c++)
                for (int i = 0; i < lanes; i++) {
                    const float zero = 0;

                    CHECK_BITS(&panel[c * lanes + i], i < rows ? &x[i * ldx + c] : &zero, 1);
                    if (i >= rows)
                        panel[c * lanes + i] = nonsense();
                }
            for (int add = 0; add < 2; add++) { /* y: 7 everywhere, x, x + x */
                k->unpack(y, (size_t)ldx, panel, rows, n, add);
                for (int i = 0; i < rows; i++)
                    for (int c = 0; c < ldx && i * ldx + c < (int)size; c++)
                        assert_true(y[i * ldx + c] ==
                                    (c < n ? (float)(add + 1) * x[i * ldx + c] : 7));
            }
            CHECK_GUARDS(y, size);
            free(x);
            guarded_free(panel);
            guarded_free(y);
        }
}

/* Blocks of every size fit what is reserved for them, panels are full where they can be. */
static void panels_have_room(void **state)
{
    (void)state;
    for (int lanes = 24; lanes <= PCV_PANEL_MOST_LANES; lanes *= 2)
        for (int block = 1; block <= 300; block++) {
            int panels = 0;

            for (int left = block, rows; left > 0; left -= rows, panels++) {
                rows = pcv_panel_rows(left, lanes);
                assert_in_range(rows, 1, lanes);
                assert_true(rows <= left);
                assert_true(left <= lanes + lanes / 3 || rows == lanes);
            }
            assert_int_equal(panels, pcv_panel_count(block, lanes));
            for (int rows = 1; rows <= 3 * block; rows += 7)
                assert_true((size_t)((rows + block - 1) / block * panels * lanes) <=
                            pcv_panel_need(rows, block));
        }
    assert_int_equal(pcv_panel_rows(32, 24), 16);
    assert_int_equal(pcv_panel_rows(33, 24), 24);
    assert_int_equal(pcv_panel_rows(64, 48), 32);
}

/* ---- LayerNorm --------------------------------------------------------------------------------
 */

static void check_norm(const struct pcv_panel_kernels *k, const float *x, const float *y,
                       const float *gamma, const float *beta, int n)
{
    double mean = 0, var = 0;

    for (int c = 0; c < n; c++)
        mean += x[c];
    mean /= n;
    for (int c = 0; c < n; c++)
        var += (x[c] - mean) * (x[c] - mean);
    for (int c = 0; c < n; c++) {
        const double r = 1 / sqrt(var / n + 1e-5), v = (x[c] - mean) * r;

        /* 1/std magnifies the rounding of the mean */
        CHECK_ONE(y[c], gamma ? v * gamma[c] + beta[c] : v,
                  2e-6 * (fabs(v) + 1) + 1e-6 * r * largest(x, (size_t)n), "%s norm of %d",
                  table_name(k), n);
    }
}

static void norm_matches_and_is_row_stable(void **state)
{
    static const int sizes[] = {1, 2, 3, 8, 31, 64, 257};

    (void)state;
    EACH_TABLE(k)
    for (int rows = 1; rows <= k->lanes; rows++)
        for (size_t s = 0; s < LEN(sizes); s++) {
            const int n = sizes[s], in_place = rows & 1;
            float *x = random_new(&seed, (size_t)(rows * n), 3, 2), got[257], alone[257];
            float *gamma = rows & 2 ? random_new(&seed, (size_t)n, 1, 0.5f) : NULL;
            float *beta = gamma ? random_new(&seed, (size_t)n, 0, 0.5f) : NULL;
            struct laid in = laid_new(k, rows, rows, n, 0, nonsense());
            struct laid out = in_place ? in : laid_new(k, rows, rows, n, 0, NAN);
            struct laid one = laid_new(k, 1, 1, n, 0, nonsense());
            const int row = random_int(&seed, rows);

            lay(&in, x);
            lay(&one, x + row * n);
            k->norm(out.at, in.at, gamma, beta, rows, n, 1e-5f);
            k->norm(one.at, one.at, gamma, beta, 1, n, 1e-5f);
            for (int i = 0; i < rows; i++) {
                lift_row(&out, i, got);
                check_norm(k, x + i * n, got, gamma, beta, n);
            }
            lift_row(&out, row, got);
            lift_row(&one, 0, alone);
            CHECK_BITS(got, alone, (size_t)n);
            CHECK_GUARDS(out.at, out.floats);
            guarded_free(one.at);
            guarded_free(in.at);
            if (!in_place)
                guarded_free(out.at);
            free(x);
            free(gamma);
            free(beta);
        }
}

/* Nothing varies: all is beta, however large the number. Nothing of it reaches other rows. */
static void norm_of_constant_rows_is_beta(void **state)
{
    enum { N = 100 };
    static const float values[] = {0, 2.5f, -1, 4096, 1e-20f};

    (void)state;
    EACH_TABLE(k) for (size_t s = 0; s < LEN(values); s++)
    {
        float gamma[N], beta[N], x[3 * N], y[N];
        struct laid m = laid_new(k, 3, 3, N, 0, nonsense());

        random_fill(&seed, gamma, N, 1, 0.5f);
        random_fill(&seed, beta, N, 0, 0.5f);
        random_fill(&seed, x, 3 * N, 0, 1);
        for (int c = 0; c < N; c++)
            x[N + c] = values[s];
        lay(&m, x);
        k->norm(m.at, m.at, gamma, beta, 3, N, 1e-5f);
        lift_row(&m, 1, y);
        CHECK_NEAR(y, beta, N, 1e-15);
        lift_row(&m, 2, y);
        check_norm(k, x + 2 * N, y, gamma, beta, N);
        guarded_free(m.at);
    }
}

/* ---- products ---------------------------------------------------------------------------------
 */

/* One case of a product, the same for every table. */
struct job {
    int rows, n, k, ldw;
    bool add;
    float *a, *w, *bias, *c; /* a [rows, k], w [n, ldw], c [rows, n] before; bias may be NULL */
    double *want, *size;     /* [rows, n] the result, and the sum of its terms' absolute values */
};

static struct job job_new(int rows, int n, int k, int ldw, bool bias, bool add)
{
    struct job j = {rows, n, k, ldw, add, NULL, NULL, NULL, NULL, NULL, NULL};

    j.a = random_new(&seed, (size_t)(rows * k), 0, 1);
    j.w = random_new(&seed, (size_t)((n - 1) * ldw + k), 0, 1); /* no float beyond the last */
    j.bias = bias ? random_new(&seed, (size_t)n, 0, 1) : NULL;
    j.c = random_new(&seed, (size_t)(rows * n), 0, 1);
    j.want = malloc((size_t)(rows * n) * sizeof(*j.want));
    j.size = malloc((size_t)(rows * n) * sizeof(*j.size));
    assert_true(j.want && j.size);
    for (int i = 0; i < rows; i++)
        for (int col = 0; col < n; col++) {
            const float *a = j.a + i * k, *w = j.w + (size_t)(col * ldw);
            double sum = add ? j.c[i * n + col] : 0, size = fabs(sum);

            if (bias)
                sum += j.bias[col], size += fabs((double)j.bias[col]);
            for (int p = 0; p < k; p++) {
                sum += (double)a[p] * w[p];
                size += fabs((double)a[p] * w[p]);
            }
            j.want[i * n + col] = sum;
            j.size[i * n + col] = size;
        }
    return j;
}

static void job_free(struct job *j)
{
    free(j->a);
    free(j->w);
    free(j->bias);
    free(j->c);
    free(j->want);
    free(j->size);
}

/* Rows [from, from + rows) of a job as one block; a's and c's panels have `more` channels than the
 * product's, and keep them. own: guarded_free(at) */
static struct laid run(const struct pcv_panel_kernels *k, const struct job *j, int from, int rows,
                       int more)
{
    struct laid a = laid_new(k, rows, rows, j->k, more, nonsense());
    struct laid c = laid_new(k, rows, rows, j->n, more, NAN); /* read only where `add` */
    const struct pcv_product p = {
        .rows = rows,
        .n = j->n,
        .k = j->k,
        .a = a.at,
        .a_step = a.step,
        .w = j->w,
        .ldw = (size_t)j->ldw,
        .bias = j->bias,
        .c = c.at,
        .c_step = c.step,
        .add = j->add,
    };

    lay(&a, j->a + from * j->k);
    if (j->add)
        lay(&c, j->c + from * j->n);
    k->product(&p);
    CHECK_GUARDS(a.at, a.floats);
    CHECK_GUARDS(c.at, c.floats);
    for (size_t panel = 0; panel < c.floats; panel += c.step)
        for (size_t i = (size_t)(j->n * k->lanes); i < c.step; i++)
            assert_true(isnan(c.at[panel + i]));
    guarded_free(a.at);
    return c;
}

static void check_product(const struct pcv_panel_kernels *k, const struct job *j)
{
    float *row = calloc((size_t)j->n, sizeof(*row)), *alone = calloc((size_t)j->n, sizeof(*row));
    const int from = random_int(&seed, j->rows), few = 1 + random_int(&seed, j->rows - from);
    struct laid c = run(k, j, 0, j->rows, random_int(&seed, 3));
    struct laid part = run(k, j, from, few, 0);

    assert_true(row && alone);
    for (int i = 0; i < j->rows; i++) {
        lift_row(&c, i, row);
        for (int col = 0; col < j->n; col++)
            CHECK_ONE(row[col], j->want[i * j->n + col], 2e-6 * j->size[i * j->n + col],
                      "%s %d x %d x %d, row %d, column %d", table_name(k), j->rows, j->n, j->k, i,
                      col);
        if (i < from || i >= from + few)
            continue;
        lift_row(&part, i - from, alone); /* another lane, another width, the same bits */
        CHECK_BITS(row, alone, (size_t)j->n);
    }
    guarded_free(c.at);
    guarded_free(part.at);
    free(row);
    free(alone);
}

/* Every number of rows, every size of tile and what is left beside it. */
static void products_match_and_are_row_stable(void **state)
{
    static const int ns[] = {1, 2, 3, 4, 5, 7, 11, 12, 23, 65, 127, 128, 129, 150, 261};
    static const int ks[] = {1, 2, 3, 4, 5, 17, 64, 255, 256, 257, 600};

    (void)state;
    for (int rows = 1; rows <= 100; rows++)
        for (int way = 0; way < 4; way++) {
            const int n = ns[random_int(&seed, LEN(ns))], k = ks[random_int(&seed, LEN(ks))];
            struct job j = job_new(rows, n, k, k + rows % 4, way & 1, way & 2);

            EACH_TABLE(t) check_product(t, &j);
            job_free(&j);
        }
}

/* Every n and every k of a small product, at the three widths. */
static void small_products_match(void **state)
{
    (void)state;
    for (int n = 1; n <= 40; n++)
        for (int k = 1; k <= 40; k += 1 + n % 3) {
            struct job j = job_new(1 + random_int(&seed, 48), n, k, k, n & 1, k & 1);

            EACH_TABLE(t) check_product(t, &j);
            job_free(&j);
        }
}

/* What the tables are: sums of PCV_PANEL_DEPTH terms, each from 0 on, added up in order; a vector's
 * terms are added by fused operations. Nothing else distinguishes them. */
static void products_differ_by_fused_rounding_alone(void **state)
{
    static const int ks[] = {1, 30, 256, 257, 600};

    (void)state;
    for (int t = 0; t < 40; t++) {
        const int rows = 1 + random_int(&seed, 60), n = 1 + random_int(&seed, 140);
        struct job j = job_new(rows, n, ks[t % 5], ks[t % 5] + 1, t & 1, t & 2);

        EACH_TABLE(k)
        {
            struct laid c = run(k, &j, 0, rows, 0);
            const int i = random_int(&seed, rows);

            for (int col = 0; col < n; col++) {
                const float *a = j.a + i * j.k, *w = j.w + col * j.ldw;
                float want = (j.add ? j.c[i * n + col] : 0) + (j.bias ? j.bias[col] : 0);

                for (int p = 0; p < j.k;) {
                    float sum = 0;

                    do
                        sum = k == &pcv_panel_scalar ? sum + a[p] * w[p] : fmaf(a[p], w[p], sum);
                    while (++p % PCV_PANEL_DEPTH != 0 && p < j.k);
                    want += sum;
                }
                CHECK_BITS(&c.at[place(&c, i, col)], &want, 1);
            }
            guarded_free(c.at);
        }
        job_free(&j);
    }
}

/* ---- row-major products -----------------------------------------------------------------------
 */

struct nn {
    int m, n, k, lda, ldb, ldc;
    bool add;
    float *a, *b, *c; /* c [m, ldc] before, 9 between its rows */
};

static float *nn_run(const struct pcv_panel_kernels *k, const struct nn *p, int from, int m)
{
    const size_t size = (size_t)((m - 1) * p->ldc + p->n);
    float *y = guarded_new(size, 9);

    for (int i = 0; i < m; i++)
        for (int j = 0; j < p->n; j++) /* read only where `add` */
            y[i * p->ldc + j] = p->add ? p->c[(from + i) * p->ldc + j] : NAN;
    k->rows_nn(m, p->n, p->k, p->a + from * p->lda, (size_t)p->lda, p->b, (size_t)p->ldb, y,
               (size_t)p->ldc, p->add);
    CHECK_GUARDS(y, size);
    for (int i = 0; i + 1 < m; i++)
        for (int j = p->n; j < p->ldc; j++)
            assert_true(y[i * p->ldc + j] == 9);
    return y;
}

static void check_nn(const struct pcv_panel_kernels *k, const struct nn *p)
{
    const int row = random_int(&seed, p->m);
    float *y = nn_run(k, p, 0, p->m), *alone = nn_run(k, p, row, 1);

    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double sum = p->add ? p->c[i * p->ldc + j] : 0, size = fabs(sum);

            for (int l = 0; l < p->k; l++) {
                sum += (double)p->a[i * p->lda + l] * p->b[l * p->ldb + j];
                size += fabs((double)p->a[i * p->lda + l] * p->b[l * p->ldb + j]);
            }
            CHECK_ONE(y[i * p->ldc + j], sum, 2e-6 * size, "%s %d x %d x %d", table_name(k), p->m,
                      p->n, p->k);
        }
    CHECK_BITS(y + row * p->ldc, alone, (size_t)p->n);
    guarded_free(y);
    guarded_free(alone);
}

static void row_major_products_match_and_are_row_stable(void **state)
{
    static const int ks[] = {1, 2, 3, 7, 40, 255, 256, 257, 600};

    (void)state;
    EACH_TABLE(t) for (int n = 1; n <= 60; n++) for (int way = 0; way < 6; way++)
    {
        const int m = 1 + random_int(&seed, 30), k = ks[random_int(&seed, LEN(ks))];
        const int more = n + random_int(&seed, 2) * 100; /* more than two tiles' columns */
        struct nn p = {m, more, k, k + way % 3, more + way % 2, more + way % 4, way & 1, 0, 0, 0};

        p.a = random_new(&seed, (size_t)((m - 1) * p.lda + k), 0, 1);
        p.b = random_new(&seed, (size_t)((k - 1) * p.ldb + p.n), 0, 1);
        p.c = random_new(&seed, (size_t)(m * p.ldc), 0, 1);
        check_nn(t, &p);
        free(p.a);
        free(p.b);
        free(p.c);
    }
}

/* ---- element by element -----------------------------------------------------------------------
 */

static double gelu_erf(double x)
{
    return x * 0.5 * erfc(-x * M_SQRT1_2);
}

static double gelu_tanh(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static void elements_are_touched_once(void **state)
{
    (void)state;
    EACH_TABLE(k)
    for (int rows = 1; rows <= k->lanes; rows++)
        for (int n = 1; n <= 12; n++)
            for (int f = 0; f < 3; f++) {
                float *x = random_new(&seed, (size_t)(rows * n), 0, 8);
                float *y = random_new(&seed, (size_t)(rows * n), 0, 8);
                struct laid lx = laid_new(k, rows, rows, n, 0, nonsense());
                struct laid ly = laid_new(k, rows, rows, n, 0, nonsense());

                lay(&lx, x);
                lay(&ly, y);
                if (f == 0)
                    k->gelu_erf(lx.at, rows, n);
                else if (f == 1)
                    k->gelu_tanh(lx.at, rows, n);
                else
                    k->multiply(lx.at, ly.at, rows, n);
                CHECK_GUARDS(lx.at, lx.floats);
                for (int i = 0; i < rows * n; i++) {
                    const double v = x[i];
                    const double want = f == 0   ? gelu_erf(v)
                                        : f == 1 ? gelu_tanh(v)
                                                 : (float)(v * y[i]);

                    CHECK_ONE(lx.at[place(&lx, i / n, i % n)], want,
                              f == 2 ? 0 : 3e-7 * fabs(want) + (v < 0 ? 1.2e-7 * fmin(-v, 6) : 0),
                              "%s function %d of %a", table_name(k), f, v);
                }
                guarded_free(lx.at);
                guarded_free(ly.at);
                free(x);
                free(y);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_take_rows_and_give_them_back),
        cmocka_unit_test(panels_have_room),
        cmocka_unit_test(norm_matches_and_is_row_stable),
        cmocka_unit_test(norm_of_constant_rows_is_beta),
        cmocka_unit_test(products_match_and_are_row_stable),
        cmocka_unit_test(small_products_match),
        cmocka_unit_test(products_differ_by_fused_rounding_alone),
        cmocka_unit_test(row_major_products_match_and_are_row_stable),
        cmocka_unit_test(elements_are_touched_once),
    };

    return cmocka_run_group_tests(tests, find_tables, NULL);
}
