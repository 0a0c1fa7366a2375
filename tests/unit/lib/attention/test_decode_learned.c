/* Output queries of a table: both ways, in tiles and in shared tiles, against plain.h. */
#include "lib/attention/decode.h"
#include "lib/kernel/gemm.h"

#include "lib/base/mem.h"
#include "tests/unit/lib/attention/plain.h"

enum { THREADS = 2 };

static uint64_t seed;

/* A decoder of random weights, its projected queries, and one item's latents. */
struct world {
    struct pcv_layer layer;
    struct pcv_decoder d;
    float *scratch;
};

struct item {
    const float *latents;
    float *scratch;
    const double *want; /* [rows, width] of all output queries */
};

static struct world *make_world(struct pcv_layer_dims dims, int latents, int rows, int width)
{
    struct world *w = hold(calloc(1, sizeof(*w)));
    const float *query = random_floats(&seed, (size_t)(rows * dims.q_dim), 0, 1);
    const double *q;
    float *projected = floats((size_t)(rows * dims.qk));

    w->layer = random_layer(&seed, dims);
    q = plain_linear(&w->layer.q,
                     plain_norm(&w->layer.norm_q, widen(query, (size_t)(rows * dims.q_dim)), rows,
                                dims.q_dim, 1e-5),
                     rows, dims.q_dim, dims.qk);
    for (int i = 0; i < rows * dims.qk; i++)
        projected[i] = (float)q[i];
    w->d = (struct pcv_decoder){
        .kind = PCV_DECODE_LEARNED,
        .layer = &w->layer,
        .latents = latents,
        .d_latents = dims.kv_dim,
        .rows = rows,
        .query = query,
        .q = projected,
        .head = random_affine(&seed, width, dims.q_dim, 1),
        .width = width,
    };
    if (width % 2)
        w->d.head.b = NULL;
    w->scratch = floats(THREADS * pcv_decode_need(&w->d));
    return w;
}

static struct item make_item(const struct world *w)
{
    const struct pcv_layer_dims *d = &w->layer.d;
    const int n = w->d.latents;
    struct item it = {
        .latents = random_floats(&seed, (size_t)(n * d->kv_dim), 0.2f, 1),
        .scratch = hold(pcv_alloc(pcv_decode_item_need(&w->d), sizeof(float))),
    };
    const double *out =
        plain_tail(&w->layer, plain_attention(&w->layer, w->d.query, w->d.rows, it.latents, n),
                   w->d.query, w->d.rows);

    it.want = plain_linear(&w->d.head, out, w->d.rows, d->q_dim, w->d.width);
    return it;
}

/* The job of some rows of an item, prepared by blocks; logits are NaN until written. */
static struct pcv_decode_job make_job(const struct world *w, const struct pcv_kernels *k,
                                      const struct item *it, bool absorbed, const int32_t *rows,
                                      int nrows)
{
    const int n = w->d.latents;
    struct pcv_decode_job job = {
        .d = &w->d,
        .latents = it->latents,
        .item_scratch = it->scratch,
        .lean = absorbed,
        .rows = rows,
        .nrows = nrows,
        .logits = floats((size_t)(nrows * w->d.width)),
    };

    for (int i = 0; i < nrows * w->d.width; i++)
        job.logits[i] = NAN;
    for (int i = 0; i < n; i += PCV_DECODE_BLOCK)
        pcv_decode_prepare(&w->d, k, &job, i, w->scratch);
    return job;
}

static void check_job(const struct world *w, const struct item *it,
                      const struct pcv_decode_job *job)
{
    double most = 1e-3;

    for (int i = 0; i < w->d.rows * w->d.width; i++)
        most = fmax(most, fabs(it->want[i]));
    for (int i = 0; i < job->nrows; i++) {
        const int row = job->rows ? job->rows[i] : i;

        for (int c = 0; c < w->d.width; c++)
            CHECK_ONE(job->logits[i * w->d.width + c], it->want[row * w->d.width + c], 1e-5 * most,
                      "output query %d (%s), logit %d", row, job->lean ? "absorbed" : "projected",
                      c);
    }
}

static const struct {
    struct pcv_layer_dims d;
    int latents, rows, width;
} shapes[] = {
    {{.heads = 1, .q_dim = 24, .kv_dim = 24, .qk = 24, .v = 24, .hidden = 24, .residual = true},
     16,
     1,
     10},
    {{.heads = 8, .q_dim = 32, .kv_dim = 48, .qk = 64, .v = 32, .hidden = 32}, 200, 300, 63},
    {{.heads = 2,
      .q_dim = 13,
      .kv_dim = 7,
      .qk = 6,
      .v = 10,
      .hidden = 26,
      .gated = true,
      .residual = true},
     5,
     140,
     3},
    {{.heads = 4, .q_dim = 260, .kv_dim = 64, .qk = 32, .v = 264, .hidden = 260}, 33, 20, 262},
    {{.heads = PCV_DECODE_TILE + 6, .q_dim = 8, .kv_dim = 9, .qk = 150, .v = 300, .hidden = 4},
     11,
     20,
     5},
};

static struct world *shape_world(size_t i)
{
    struct pcv_layer_dims d = shapes[i].d;

    d.cross = true;
    return make_world(d, shapes[i].latents, shapes[i].rows, shapes[i].width);
}

/* All rows in tiles, both ways. */
static void tiles_match(void **state)
{
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};

    (void)state;
    for (size_t s = 0; s < LEN(shapes); s++) {
        const struct world *w = shape_world(s);
        const struct item it = make_item(w);

        for (int way = 0; way < 4; way++) {
            const struct pcv_kernels *k = tables[way >> 1];
            const struct pcv_decode_job job = make_job(w, k, &it, way & 1, NULL, w->d.rows);

            for (int i = 0; i < job.nrows; i += PCV_DECODE_TILE)
                pcv_decode_tile(&w->d, k, NULL, &job, i,
                                job.nrows - i < PCV_DECODE_TILE ? job.nrows - i : PCV_DECODE_TILE,
                                w->scratch);
            check_job(w, &it, &job);
        }
    }
}

/* Rows by number, in any order, also twice. */
static void chosen_rows_match(void **state)
{
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());

    (void)state;
    for (size_t s = 0; s < LEN(shapes); s++) {
        const struct world *w = shape_world(s);
        const struct item it = make_item(w);
        int32_t rows[40];

        for (size_t i = 0; i < LEN(rows); i++)
            rows[i] = random_int(&seed, w->d.rows);
        for (int absorbed = 0; absorbed < 2; absorbed++) {
            const struct pcv_decode_job job = make_job(w, k, &it, absorbed, rows, LEN(rows));

            pcv_decode_tile(&w->d, k, NULL, &job, 0, 25, w->scratch);
            pcv_decode_tile(&w->d, k, NULL, &job, 25, (int)LEN(rows) - 25, w->scratch);
            check_job(w, &it, &job);
        }
    }
}

/* One thread decodes the jobs of a tile, the others help. */
struct tile {
    struct pcv_pool *pool;
    const struct world *w;
    const struct pcv_kernels *k;
    const struct pcv_decode_job *const *jobs;
    int njobs;
};

static void decode_or_help(int i, int n, void *arg)
{
    const struct tile *t = arg;
    const struct pcv_worker worker = {t->pool, i};

    (void)n;
    if (i == 0)
        pcv_decode_pack(t->k, &worker, t->jobs, t->njobs,
                        (struct pcv_decode_scratch){t->w->scratch, pcv_decode_need(&t->w->d)});
    pcv_pool_meet(&worker);
}

/* Jobs of several items in one tile: each is right, and has the bits it has alone, whoever does it.
 */
static void shared_tiles_match_and_are_stable(void **state)
{
    static const int counts[] = {1, PCV_DECODE_FEW, 3, 1, 7, 9, 12};
    const struct pcv_kernels *k = pcv_kernels_for(pcv_cpu_detect());
    struct pcv_pool *pool = NULL;
    struct pcv_err e = {0};

    (void)state;
    CHECK_OK(pcv_pool_new(&pool, THREADS, &e), e);
    for (size_t s = 0; s < LEN(shapes); s++) {
        const struct world *w = shape_world(s);
        struct pcv_decode_job jobs[LEN(counts)];
        const struct pcv_decode_job *pack[LEN(counts)];
        struct item items[LEN(counts)];
        int32_t rows[LEN(counts)][PCV_DECODE_FEW];

        for (size_t i = 0; i < LEN(counts); i++) {
            for (int j = 0; j < counts[i]; j++)
                rows[i][j] = random_int(&seed, w->d.rows);
            items[i] = make_item(w);
            jobs[i] = make_job(w, k, &items[i], i % 2, rows[i], counts[i]);
            pack[i] = &jobs[i];
        }
        pcv_pool_run(pool, decode_or_help, &(struct tile){pool, w, k, pack, LEN(counts)});
        for (size_t i = 0; i < LEN(counts); i++) {
            struct pcv_decode_job alone = jobs[i];
            const struct pcv_decode_job *one = &alone;

            check_job(w, &items[i], &jobs[i]);
            alone.logits = floats((size_t)(counts[i] * w->d.width));
            pcv_decode_pack(k, NULL, &one, 1, (struct pcv_decode_scratch){w->scratch, 0});
            CHECK_BITS(alone.logits, jobs[i].logits, (size_t)(counts[i] * w->d.width));
        }
    }
    pcv_pool_free(pool);
}

/* The choice is the cheaper one: multiply-adds of queries, keys, values, scores and sums. */
static void the_choice_counts_products(void **state)
{
    (void)state;
    for (size_t s = 0; s < LEN(shapes); s++) {
        const struct world *w = shape_world(s);
        const double n = w->d.latents, c = w->layer.d.kv_dim, h = w->layer.d.heads;
        const double wide = w->layer.d.qk + w->layer.d.v;

        for (int rows = 1; rows < 400; rows++) {
            const double projected = n * c * wide + rows * n * wide;
            const double absorbed = rows * c * wide + 2 * rows * h * n * c;

            assert_int_equal(pcv_decode_lean(&w->d, NULL, rows), absorbed < projected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tiles_match, release),
        cmocka_unit_test_teardown(chosen_rows_match, release),
        cmocka_unit_test_teardown(shared_tiles_match_and_are_stable, release),
        cmocka_unit_test_teardown(the_choice_counts_products, release),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
