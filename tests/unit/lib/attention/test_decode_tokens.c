/* Output queries that are token arrays: factored, and as the formula says, against plain.h. */
#include "lib/attention/decode.h"
#include "lib/kernel/gemm.h"

#include "lib/base/mem.h"
#include "tests/unit/lib/attention/random_tokens.h"

/* One part of keys, or several. */
enum { C = 42, FEW = PCV_DECODE_BLOCK + 7, MANY = 2 * PCV_PANEL_DEPTH + 31 };

static uint64_t seed;

struct world {
    struct pcv_layer layer;
    struct pcv_decoder d;
    struct pcv_tokens queries;
    const float *latents;
    const double *want; /* [rows, width] */
};

/* Keys `by` times as long: scores are further apart. */
static void amplify(struct pcv_layer *l, float by)
{
    float *keys = floats((size_t)(l->d.qk * l->d.kv_dim));

    for (int i = 0; i < l->d.qk * l->d.kv_dim; i++)
        keys[i] = by * l->k.w[i];
    l->k.w = keys;
}

static struct world *make_world(int latents, int heads, bool residual, const enum flavour *f, int n,
                                int rows, float by)
{
    struct world *w = hold(calloc(1, sizeof(*w)));
    const float *x;
    const double *out;

    w->layer = random_layer(&seed, (struct pcv_layer_dims){.heads = heads,
                                                           .q_dim = C,
                                                           .kv_dim = 24,
                                                           .qk = 10 * heads,
                                                           .v = 6 * heads,
                                                           .hidden = 30,
                                                           .residual = residual,
                                                           .cross = true,
                                                           .gated = rows % 2});
    amplify(&w->layer, by);
    w->queries.channels = C;
    w->queries.nsegments = 1;
    w->queries.segment[0] = random_segment(&seed, C, rows, f, n);
    finish_tokens(&w->queries);
    w->latents = random_floats(&seed, (size_t)(latents * 24), 0.2f, 1);
    w->d = (struct pcv_decoder){
        .kind = PCV_DECODE_TOKENS,
        .layer = &w->layer,
        .latents = latents,
        .d_latents = 24,
        .rows = rows,
        .width = rows % 3 ? 5 : C,
    };
    if (rows % 3)
        w->d.head = random_affine(&seed, 5, C, 1);
    for (int i = 0; i < n; i++)
        if (w->queries.segment[0].group[i].kind == PCV_GROUP_TABLE)
            w->d.table_rows += w->queries.segment[0].group[i].rows;
    x = plain_tokens(&w->queries);
    out = plain_tail(&w->layer, plain_attention(&w->layer, x, rows, w->latents, latents), x, rows);
    w->want = rows % 3 ? plain_linear(&w->d.head, out, rows, C, 5) : out;
    return w;
}

enum way { FACTORED, PLAIN, LEAN, LEAN_BESIDE /* another job prepared everything */ };

/* Runs a job in tiles: logits [nrows, width]. */
static const float *run_job(const struct world *w, const struct pcv_kernels *k, enum way way,
                            const int32_t *rows, int nrows)
{
    /* from malloc, exactly as long as promised: a sanitizer sees what goes beyond */
    float *item = malloc(pcv_decode_item_need(&w->d) * sizeof(float));
    float *scratch = malloc(pcv_decode_need(&w->d) * sizeof(float));
    struct pcv_decode_job job = {
        .latents = w->latents,
        .item_scratch = item,
        .plain = way == PLAIN,
        .lean = way == LEAN,
        .queries = &w->queries,
        .rows = rows,
        .nrows = nrows,
        .logits = floats((size_t)(nrows * w->d.width)),
    };

    assert_true(item && scratch);
    for (int i = 0; i < w->d.latents; i += PCV_DECODE_BLOCK)
        pcv_decode_prepare(&w->d, k, &job, i, scratch);
    job.lean |= way == LEAN_BESIDE;
    for (int i = 0; i < nrows; i += PCV_DECODE_TILE)
        pcv_decode_tile(&w->d, k, NULL, &job, i,
                        nrows - i < PCV_DECODE_TILE ? nrows - i : PCV_DECODE_TILE, scratch);
    free(item);
    free(scratch);
    return job.logits;
}

static void check_job(const struct world *w, const struct pcv_kernels *k, enum way way,
                      const int32_t *rows, int nrows)
{
    static const char *const names[] = {"factored", "plain", "lean", "lean beside others"};
    const float *logits = run_job(w, k, way, rows, nrows);
    double most = 1e-3;

    for (int i = 0; i < w->d.rows * w->d.width; i++)
        most = fmax(most, fabs(w->want[i]));
    for (int i = 0; i < nrows; i++)
        for (int c = 0; c < w->d.width; c++)
            CHECK_ONE(logits[i * w->d.width + c], w->want[(rows ? rows[i] : i) * w->d.width + c],
                      3e-5 * most, "%s, output query %d, logit %d", names[way], rows ? rows[i] : i,
                      c);
}

/* Neighbours that share what tables say of them have the bits of the same rows asked in any order.
 */
static void check_any_order(const struct world *w, const struct pcv_kernels *k, const int32_t *rows,
                            int nrows)
{
    const float *together = run_job(w, k, FACTORED, NULL, w->d.rows);
    const float *scattered = run_job(w, k, FACTORED, rows, nrows);

    for (int i = 0; i < nrows; i++)
        CHECK_BITS(scattered + i * w->d.width, together + rows[i] * w->d.width, (size_t)w->d.width);
}

static void check_ways(const struct world *w)
{
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};
    int32_t rows[50];

    for (size_t i = 0; i < LEN(rows); i++)
        rows[i] = random_int(&seed, w->d.rows);
    for (int i = 0; i < 8; i++) {
        check_job(w, tables[i & 1], (enum way)(i / 2), NULL, w->d.rows);
        check_job(w, tables[i & 1], (enum way)(i / 2), rows, LEN(rows));
    }
    for (size_t i = 0; i < LEN(tables); i++)
        check_any_order(w, tables[i], rows, LEN(rows));
}

static void every_kind_of_group_alone(void **state)
{
    (void)state;
    for (int f = 0; f < FLAVOURS; f++)
        for (int rows = 1; rows < 400; rows += 199) {
            const enum flavour flavour = (enum flavour)f;

            check_ways(make_world(f % 2 ? FEW : MANY, 1 + f % 3, rows % 3, &flavour, 1, rows, 1));
        }
}

/* Positions on two axes and a padding vector; content with positions; and at random, with content
 * at most once. */
static void groups_together(void **state)
{
    static const enum flavour grid[] = {OUTER, INNER, CONSTANT}, flow[] = {LIFTED, OUTER, INNER};

    (void)state;
    check_ways(make_world(MANY, 1, false, grid, 3, 301, 1));
    check_ways(make_world(MANY, 1, false, flow, 3, 300, 1));
    for (int turn = 0; turn < 30; turn++) {
        enum flavour f[PCV_MAX_GROUPS];
        const int n = 1 + random_int(&seed, PCV_MAX_GROUPS);
        bool content = false;

        for (int i = 0; i < n; i++) {
            do
                f[i] = (enum flavour)random_int(&seed, FLAVOURS);
            while (content && (f[i] == CONTENT || f[i] == LIFTED));
            content |= f[i] == CONTENT || f[i] == LIFTED;
        }
        check_ways(make_world(turn % 3 ? FEW : MANY, 1 + turn % 2, turn & 2, f, n,
                              1 + random_int(&seed, 200), 1));
    }
}

/* From part to part of the keys, by far: what was summed before must shrink, each query's by its
 * own factor. */
static void the_maximum_may_leap(void **state)
{
    static const enum flavour f[] = {CONTENT, OUTER, INNER};

    (void)state;
    for (int turn = 0; turn < 6; turn++)
        check_ways(make_world(MANY, 1 + turn % 2, turn & 1, f, LEN(f), 40 + turn, 8));
}

/* The cheaper way, by multiply-adds: once for all latents, or for every row. */
static void the_choice_counts_products(void **state)
{
    static const enum flavour f[] = {CONTENT, OUTER, CONSTANT, INNER};

    (void)state;
    for (int heads = 1; heads < 4; heads++) {
        struct world *w = make_world(MANY, heads, false, f, LEN(f), 400, 1);
        const struct pcv_group *g = w->queries.segment[0].group;
        const double wide = 76.0 * heads;
        const double tables = heads * MANY * (double)(g[1].rows * g[1].n + g[3].rows * g[3].n);
        bool both[2] = {false, false};

        w->layer.d.qk = 70 * heads; /* only counted */
        for (int rows = 1; rows < 4000; rows += 1 + rows / 9) {
            const double written = rows * (C * wide + MANY * wide);
            const double factored =
                MANY * C * wide + tables + (double)rows * heads * MANY * (C + g[0].raw);
            const bool lean = pcv_decode_lean(&w->d, &w->queries, rows);

            assert_int_equal(lean, written < factored);
            both[lean] = true;
        }
        assert_true(both[false] && both[true]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_kind_of_group_alone, release),
        cmocka_unit_test_teardown(groups_together, release),
        cmocka_unit_test_teardown(the_maximum_may_leap, release),
        cmocka_unit_test_teardown(the_choice_counts_products, release),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
