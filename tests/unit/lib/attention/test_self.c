/* The process stack's layer, and the tail that all layers share, against plain.h. */
#include "lib/attention/self.h"
#include "lib/kernel/gemm.h"

#include "lib/base/mem.h"
#include "tests/unit/lib/attention/plain.h"

static uint64_t seed;

/* A layer that the pool's first thread works through, block by block; the others come to help. */
struct job {
    struct pcv_pool *pool;
    const struct pcv_panel_kernels *k;
    struct pcv_self s;
    int blocks;
};

static void work(int thread, int threads, void *arg)
{
    struct job *j = arg;
    const struct pcv_worker w = {j->pool, thread};

    (void)threads;
    for (int b = 0; b < j->blocks && thread == 0; b++)
        pcv_self_project(&j->s, j->k, &w, b);
    for (int b = 0; b < j->blocks && thread == 0; b++)
        pcv_self_update(&j->s, j->k, &w, b);
    pcv_pool_meet(&w);
}

/* Runs the layer by blocks of `block` rows, as threads would, and returns x afterwards. */
static float *run_blocks(const struct pcv_layer *l, const struct pcv_kernels *kernels,
                         const float *x, int latents, int block, struct pcv_pool *pool)
{
    const struct pcv_panel_kernels *k = kernels->panel;
    const struct pcv_layer_dims *d = &l->d;
    const size_t lanes = pcv_panel_need(latents, block);
    const int blocks = (latents + block - 1) / block;
    const size_t scratch = pcv_pad_floats(pcv_self_need(l, block));
    const struct pcv_self s = {
        .layer = l,
        .latents = latents,
        .block = block,
        .x = floats(lanes * (size_t)d->q_dim),
        .q = floats(lanes * (size_t)d->qk),
        .k = floats(lanes * (size_t)d->qk),
        .v = floats(lanes * (size_t)d->v),
        .scratch = floats((size_t)pcv_pool_threads(pool) * scratch),
        .scratch_step = scratch,
    };
    struct job j = {pool, k, s, blocks};
    float *out = floats((size_t)(latents * d->q_dim));

    for (int b = 0; b < blocks; b++)
        pcv_rows_to_panels(k, s.x + pcv_self_block(k, block, b, d->q_dim), x + b * block * d->q_dim,
                           (size_t)d->q_dim, pcv_self_rows(latents, block, b), d->q_dim);
    pcv_pool_run(pool, work, &j);
    for (int b = 0; b < blocks; b++)
        pcv_panels_to_rows(k, out + b * block * d->q_dim,
                           s.x + pcv_self_block(k, block, b, d->q_dim),
                           pcv_self_rows(latents, block, b), d->q_dim);
    return out;
}

static void a_layer_matches(void **state)
{
    static const struct {
        int latents, heads, d, qk, widening;
    } cases[] = {{1, 1, 8, 8, 1},    {17, 3, 24, 12, 2}, {33, 8, 64, 64, 1},   {70, 2, 10, 6, 4},
                 {16, 4, 48, 32, 1}, {1500, 2, 8, 4, 1}, {40, 2, 300, 260, 1}, {128, 2, 44, 20, 1}};
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        const int n = cases[i].latents, d = cases[i].d;
        const struct pcv_layer l = random_layer(&seed, (struct pcv_layer_dims){
                                                           .heads = cases[i].heads,
                                                           .q_dim = d,
                                                           .kv_dim = d,
                                                           .qk = cases[i].qk,
                                                           .v = d,
                                                           .hidden = cases[i].widening * d,
                                                           .residual = true,
                                                       });
        const float *x = random_floats(&seed, (size_t)(n * d), 0, 1);
        const double *want = plain_tail(&l, plain_attention(&l, x, n, x, n), x, n);

        for (size_t t = 0; t < LEN(tables); t++) {
            const float *whole = run_blocks(&l, tables[t], x, n, n, NULL);

            CHECK_CLOSE(whole, want, (size_t)(n * d), 1e-5);
            /* However many threads share it: the same bits. */
            for (int parts = 2; parts < 5; parts++)
                CHECK_BITS(run_blocks(&l, tables[t], x, n, (n + parts - 1) / parts, NULL), whole,
                           (size_t)(n * d));
        }
    }
}

/* Columns and heads taken by another thread: the same bits. */
static void help_changes_no_bit(void **state)
{
    enum { N = 144, D = 200 };
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());
    struct pcv_pool *pool = NULL;
    struct pcv_err e = {0};

    (void)state;
    CHECK_OK(pcv_pool_new(&pool, 2, &e), e);
    for (int gated = 0; gated < 2; gated++) {
        const struct pcv_layer l = random_layer(&seed, (struct pcv_layer_dims){.heads = 4,
                                                                               .q_dim = D,
                                                                               .kv_dim = D,
                                                                               .qk = 160,
                                                                               .v = D,
                                                                               .hidden = 2 * D,
                                                                               .gated = gated,
                                                                               .residual = true});
        const float *x = random_floats(&seed, N * D, 0, 1);
        const float *alone = run_blocks(&l, k, x, N, N, NULL);

        for (int i = 0; i < 20; i++)
            CHECK_BITS(run_blocks(&l, k, x, N, N - 20, pool), alone, N * D);
    }
    pcv_pool_free(pool);
}

/* With and without residual, in place and beside: ctx is random, not attention's. */
static void a_tail_matches(void **state)
{
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());

    (void)state;
    for (int way = 0; way < 24; way++) {
        const struct pcv_layer l =
            random_layer(&seed, (struct pcv_layer_dims){.heads = 1,
                                                        .q_dim = way & 4 ? 290 : 37,
                                                        .kv_dim = 5,
                                                        .qk = 5,
                                                        .v = way & 4 ? 270 : 21,
                                                        .hidden = way < 16 ? 50 : 0,
                                                        .gated = way >= 8,
                                                        .residual = way & 1});
        const int rows = 7, n = l.d.q_dim;
        const float *ctx = random_floats(&seed, (size_t)(rows * l.d.v), 0, 1);
        float *x = random_floats(&seed, (size_t)(rows * n), 0, 1);
        float *out = way & 2 ? x : floats((size_t)(rows * n));
        const double *want = plain_tail(&l, widen(ctx, (size_t)(rows * l.d.v)), x, rows);

        pcv_layer_tail(&l, k, NULL, rows, ctx, way & 1 ? x : NULL, out,
                       floats(pcv_layer_tail_need(&l.d, rows)));
        CHECK_CLOSE(out, want, (size_t)(rows * n), 1e-5);
    }
}

/* Scores of hundreds: the softmax must not overflow, and goes to the best key. */
static void large_scores_are_no_problem(void **state)
{
    struct pcv_layer l = random_layer(&seed, (struct pcv_layer_dims){.heads = 2,
                                                                     .q_dim = 16,
                                                                     .kv_dim = 16,
                                                                     .qk = 16,
                                                                     .v = 16,
                                                                     .hidden = 16,
                                                                     .residual = true});
    const float *x = random_floats(&seed, 20 * 16, 0, 1);

    (void)state;
    l.q = random_affine(&seed, 16, 16, 60);
    l.k = random_affine(&seed, 16, 16, 30);
    CHECK_CLOSE(run_blocks(&l, pcv_kernels_for(pcv_cpu_detect()), x, 20, 20, NULL),
                plain_tail(&l, plain_attention(&l, x, 20, x, 20), x, 20), 20 * 16, 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_matches),
        cmocka_unit_test(help_changes_no_bit),
        cmocka_unit_test(a_tail_matches),
        cmocka_unit_test(large_scores_are_no_problem),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, release);
}
