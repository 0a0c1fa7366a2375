/* Products against three loops in double precision. */
#include "lib/kernel/gemm.h"
#include "lib/kernel/linear.h"

#include "tests/unit/check.h"

#include <cblas.h>
#include <dirent.h>

static uint64_t seed;

/* want [m,n] = (y [m, ldy] +) A B + bias; element (p, j) of B is b[p * sp + j * sj]. */
static float *naive(int m, int n, int k, const float *a, int lda, const float *b, int sp, int sj,
                    const float *bias, const float *y, int ldy)
{
    float *want = malloc((size_t)(m * n) * sizeof(*want));

    assert_non_null(want);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = (y ? y[i * ldy + j] : 0.0) + (bias ? bias[j] : 0.0);

            for (int p = 0; p < k; p++)
                sum += (double)a[i * lda + p] * b[p * sp + j * sj];
            want[i * n + j] = (float)sum;
        }
    return want;
}

static void check_rows(const float *y, int ldy, const float *want, int m, int n, const char *what)
{
    for (int i = 0; i < m; i++) {
        check_near(__FILE__, __LINE__, what, y + i * ldy, want + i * n, (size_t)n, 2e-4);
        for (int j = n; j < ldy && i + 1 < m; j++)
            if (y[i * ldy + j] != 9)
                fail_msg("%s wrote beside row %d", what, i);
    }
}

/* y [m, ldy] with numbers in rows and 9 between them; not to be read: NaN. */
static float *result(int m, int n, int ldy, int readable)
{
    float *y = random_new(&seed, (size_t)(m * ldy), 0, 1);

    for (int i = 0; i < m; i++)
        for (int j = 0; j < ldy; j++)
            if (j >= n)
                y[i * ldy + j] = 9;
            else if (!readable)
                y[i * ldy + j] = NAN;
    return y;
}

static void products_match(void **state)
{
    static const int sizes[] = {1, 2, 7, 16, 33, 64, 129};

    (void)state;
    for (int t = 0; t < 200; t++) {
        const int m = sizes[random_int(&seed, 7)], n = sizes[random_int(&seed, 7)];
        const int k = sizes[random_int(&seed, 7)], accumulate = t & 1, transposed = t & 2;
        const int lda = k + t % 3, ldb = (transposed ? k : n) + t % 5, ldc = n + t % 4;
        float *a = random_new(&seed, (size_t)(m * lda), 0, 1);
        float *b = random_new(&seed, (size_t)((transposed ? n : k) * ldb), 0, 1);
        float *c = result(m, n, ldc, accumulate);
        float *want = naive(m, n, k, a, lda, b, transposed ? 1 : ldb, transposed ? ldb : 1, NULL,
                            accumulate ? c : NULL, ldc);

        if (transposed)
            pcv_gemm_nt(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
        else
            pcv_gemm_nn(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
        check_rows(c, ldc, want, m, n, transposed ? "gemm_nt" : "gemm_nn");
        free(a);
        free(b);
        free(c);
        free(want);
    }
}

/* Many rows or few, with bias or without, added or not. */
static void linear_matches_on_every_path(void **state)
{
    static const struct {
        int out, in;
    } sizes[] = {{1, 1}, {10, 64}, {65, 131}, {256, 256}, {256, 257}, {601, 299}, {513, 1030}};
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};

    (void)state;
    for (size_t s = 0; s < LEN(sizes); s++)
        for (int way = 0; way < 16; way++) {
            const int out = sizes[s].out, in = sizes[s].in, m = 1 + 13 * way % 60;
            const int accumulate = way & 1, ldx = in + 2, ldy = out + 1;
            float *x = random_new(&seed, (size_t)(m * ldx), 0, 1);
            float *w = random_new(&seed, (size_t)(out * in), 0, 1);
            float *bias = way & 2 ? random_new(&seed, (size_t)out, 0, 1) : NULL;
            float *y = result(m, out, ldy, accumulate);
            float *want = naive(m, out, in, x, ldx, w, 1, in, bias, accumulate ? y : NULL, ldy);

            pcv_linear(tables[way >> 2 & 1], m, out, in, x, ldx, w, bias, y, ldy, accumulate);
            check_rows(y, ldy, want, m, out, "linear");
            free(x);
            free(w);
            free(bias);
            free(y);
            free(want);
        }
}

/* A row alone gives the bits it gives among others. */
static void rows_are_stable(void **state)
{
    static const struct {
        int out, in;
    } sizes[] = {{256, 256}, {17, 33}, {262, 768}, {300, 301}, {530, 700}};
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());

    (void)state;
    for (size_t s = 0; s < LEN(sizes); s++) {
        const int out = sizes[s].out, in = sizes[s].in, m = 61;
        float *x = random_new(&seed, (size_t)(m * in), 0, 1);
        float *w = random_new(&seed, (size_t)(out * in), 0, 1);
        float *bias = random_new(&seed, (size_t)out, 0, 1);
        float *y = malloc((size_t)(m * out) * sizeof(*y)),
              *alone = malloc(sizeof(*y) * (size_t)out);

        assert_true(y && alone);
        pcv_linear(k, m, out, in, x, in, w, bias, y, out, false);
        for (int i = 0; i < m; i++) {
            pcv_linear(k, 1, out, in, x + i * in, in, w, bias, alone, out, false);
            CHECK_BITS(y + i * out, alone, (size_t)out);
        }
        free(x);
        free(w);
        free(bias);
        free(y);
        free(alone);
    }
}

/* The same call gives the same bits wherever its arrays are. */
static void products_do_not_depend_on_addresses(void **state)
{
    enum { M = 24, N = 70, K = 130 };
    float *a = random_new(&seed, M * K + 16, 0, 1), *b = random_new(&seed, N * K + 16, 0, 1);
    float *want = malloc(M * N * sizeof(*want)), *c = malloc((M * N + 16) * sizeof(*c));

    (void)state;
    assert_true(want && c);
    pcv_gemm_nt(M, N, K, a, K, b, K, want, N, 0);
    for (int i = 1; i < 16; i++) {
        memmove(a + i, a + i - 1, M * K * sizeof(*a));
        memmove(b + i, b + i - 1, N * K * sizeof(*b));
        pcv_gemm_nt(M, N, K, a + i, K, b + i, K, c + i, N, 0);
        CHECK_BITS(c + i, want, (size_t)(M * N));
    }
    free(a);
    free(b);
    free(c);
    free(want);
}

/* Of this process. */
static int threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = -2; /* . and .. */

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void the_calling_thread_is_enough(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        pcv_gemm_init();
        assert_int_equal(openblas_get_num_threads(), 1);
        assert_int_equal(threads(), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_calling_thread_is_enough),        cmocka_unit_test(products_match),
        cmocka_unit_test(linear_matches_on_every_path),        cmocka_unit_test(rows_are_stable),
        cmocka_unit_test(products_do_not_depend_on_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
