/* The encoder's ways against plain.h over written-out tokens: every kind of group, alone and
 * together, over more than one tile, with one head and several. */
#include "lib/attention/encode.h"
#include "lib/kernel/gemm.h"

#include "lib/base/mem.h"
#include "tests/unit/lib/attention/random_tokens.h"

enum { C = 36 };

static uint64_t seed;

struct world {
    struct pcv_layer layer;
    struct pcv_encoder enc;
    const float *latents;
};

static struct world *make_world(int latents, int channels, int heads, int qk, int v)
{
    struct world *w = hold(calloc(1, sizeof(*w)));
    const struct pcv_layer_dims d = {.heads = heads,
                                     .q_dim = 20,
                                     .kv_dim = channels,
                                     .qk = qk,
                                     .v = v,
                                     .hidden = 20,
                                     .residual = true,
                                     .cross = true,
                                     .gated = latents % 3 == 0};
    const double *q;
    float *projected = floats((size_t)(latents * qk)), *u;

    w->layer = random_layer(&seed, d);
    w->latents = random_floats(&seed, (size_t)(latents * d.q_dim), 0, 1);
    q = plain_linear(&w->layer.q,
                     plain_norm(&w->layer.norm_q, widen(w->latents, (size_t)(latents * d.q_dim)),
                                latents, d.q_dim, 1e-5),
                     latents, d.q_dim, qk);
    for (int i = 0; i < latents * qk; i++)
        projected[i] = (float)q[i];
    u = floats((size_t)(heads * latents * channels));
    pcv_encode_absorb(&w->layer, &pcv_kernels_scalar, projected, latents, u,
                      (size_t)(latents * channels));
    w->enc = (struct pcv_encoder){
        .layer = &w->layer, .num_latents = latents, .channels = channels, .q = projected, .u = u};
    return w;
}

static const double *want_of(const struct world *w, const struct pcv_tokens *t)
{
    return plain_attention(&w->layer, w->latents, w->enc.num_latents, plain_tokens(t),
                           (int)pcv_tokens_count(t));
}

/* Rows of the small tables of the segment that has most: what the caller must promise. */
static int table_rows(const struct pcv_tokens *t)
{
    int most = 0;

    for (int i = 0; i < t->nsegments; i++) {
        int rows = 0;

        for (int j = 0; j < t->segment[i].ngroups; j++)
            if (t->segment[i].group[j].kind == PCV_GROUP_TABLE &&
                !pcv_encode_direct(&t->segment[i].group[j], t->segment[i].tokens))
                rows += t->segment[i].group[j].rows;
        most = rows > most ? rows : most;
    }
    return most;
}

static void check_factored(const struct world *w, const struct pcv_kernels *k,
                           const struct pcv_tokens *t, const double *want)
{
    const struct pcv_layer_dims *d = &w->layer.d;
    const size_t n = (size_t)(w->enc.num_latents * d->v);
    float *ctx = floats(n), *scratch;

    /* from malloc, exactly as long as promised: a sanitizer sees what goes beyond */
    scratch = malloc(pcv_encode_factored_need(&w->enc, table_rows(t)) * sizeof(*scratch));
    assert_non_null(scratch);
    for (size_t i = 0; i < n; i++)
        ctx[i] = NAN;
    for (int h = 0; h < d->heads; h++)
        for (int i = 0; i < w->enc.num_latents; i += PCV_ENCODE_BLOCK) {
            const int left = w->enc.num_latents - i;

            pcv_encode_factored(&w->enc, k, t,
                                w->enc.u + (h * w->enc.num_latents + i) * w->enc.channels, h, i,
                                left < PCV_ENCODE_BLOCK ? left : PCV_ENCODE_BLOCK, ctx, scratch);
        }
    CHECK_CLOSE(ctx, want, n, 1e-4);
    free(scratch);
}

static void check_dense(const struct world *w, const struct pcv_kernels *k,
                        const struct pcv_tokens *t, const double *want)
{
    const struct pcv_layer_dims *d = &w->layer.d;
    const int64_t m = pcv_tokens_count(t);
    const int n = w->enc.num_latents, half = n / 2;
    float *x = plain_tokens(t), *ctx = floats((size_t)(n * d->v));
    float *keys = floats((size_t)(m * d->qk)), *values = floats((size_t)(m * d->v));
    float *scores = floats((size_t)(n * m));

    pcv_encode_dense_kv(&w->layer, k, m, x, keys, values);
    pcv_encode_dense_rows(&w->layer, k, m, w->enc.q, 0, half, keys, values, ctx, scores);
    pcv_encode_dense_rows(&w->layer, k, m, w->enc.q, half, n - half, keys, values, ctx, scores);
    CHECK_CLOSE(ctx, want, (size_t)(n * d->v), 1e-4);
}

static void check_ways(const struct world *w, struct pcv_tokens *t)
{
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};
    const double *want = want_of(w, t);

    finish_tokens(t);
    for (size_t i = 0; i < LEN(tables); i++) {
        check_factored(w, tables[i], t, want);
        check_dense(w, tables[i], t, want);
    }
}

static int some_tokens(void)
{
    static const int64_t counts[] = {
        1, 2, 31, 300, PCV_ENCODE_TILE, PCV_ENCODE_TABLE, PCV_ENCODE_TABLE + 1, 2300};

    return (int)counts[random_int(&seed, (int)LEN(counts))];
}

/* ---- factored and dense ------------------------------------------------------------------------
 */

static void one_group_alone(void **state)
{
    static const int tokens[] = {1, 77, PCV_ENCODE_TABLE + 1, 2100};
    const struct world *w = make_world(37, C, 1, 12, 16);

    (void)state;
    for (int f = 0; f < FLAVOURS; f++)
        for (size_t i = 0; i < LEN(tokens); i++) {
            const enum flavour flavour = (enum flavour)f;
            struct pcv_tokens t = {.channels = C, .nsegments = 1};

            t.segment[0] = random_segment(&seed, C, tokens[i], &flavour, 1);
            check_ways(w, &t);
        }
}

/* Every pair: inner with outer, two inner, two of content, direct with gathered, ... */
static void two_groups_together(void **state)
{
    const struct world *w = make_world(5, C, 2, 8, 12);

    (void)state;
    for (int a = 0; a < FLAVOURS; a++)
        for (int b = 0; b < FLAVOURS; b++) {
            const enum flavour f[] = {(enum flavour)a, (enum flavour)b};
            struct pcv_tokens t = {.channels = C, .nsegments = 1};

            t.segment[0] = random_segment(&seed, C, 1500, f, 2);
            check_ways(w, &t);
        }
}

static void groups_side_by_side(void **state)
{
    (void)state;
    for (int turn = 0; turn < 40; turn++) {
        const int heads = 1 + turn % 3;
        const struct world *w =
            make_world(1 + random_int(&seed, 40), C, heads, 4 * heads, 6 * heads);
        struct pcv_tokens t = {.channels = C, .nsegments = 1 + turn % PCV_MAX_SEGMENTS};

        for (int i = 0; i < t.nsegments; i++) {
            enum flavour f[PCV_MAX_GROUPS];
            const int n = 1 + random_int(&seed, PCV_MAX_GROUPS);

            for (int j = 0; j < n; j++)
                f[j] = (enum flavour)random_int(&seed, FLAVOURS);
            t.segment[i] = random_segment(&seed, C, some_tokens(), f, n);
        }
        check_ways(w, &t);
    }
}

/* A few that share channels; and as text does it, two tables over all of them. */
static void groups_above_each_other(void **state)
{
    static const enum flavour text[][2] = {
        {GATHERED, INNER}, {GATHERED, DIRECT}, {GATHERED, GATHERED}, {DIRECT, GATHERED}};

    (void)state;
    for (int turn = 0; turn < 24; turn++) {
        const struct world *w = make_world(7, C, 2, 8, 8);
        struct pcv_tokens t = {.channels = C, .nsegments = 1};
        enum flavour f[3];

        for (int j = 0; j < 3; j++)
            f[j] = (enum flavour)random_int(&seed, FLAVOURS);
        t.segment[0] = turn < 20 ? overlapping_segment(&seed, C, some_tokens(), f, 3, false)
                                 : overlapping_segment(&seed, C, 1500, text[turn - 20], 2, true);
        check_ways(w, &t);
    }
}

/* A table longer than those looked up that begins again: it may not be read by token number. */
static void long_tables_wrap(void **state)
{
    static const enum flavour f[] = {CONTENT, DIRECT};
    const struct world *w = make_world(5, C, 1, 8, 8);
    struct pcv_tokens t = {.channels = C, .nsegments = 1};

    (void)state;
    t.segment[0] = random_segment(&seed, C, 1100, f, 2);
    t.segment[0].tokens = 2500; /* the table has 1100 rows */
    t.segment[0].group[0].content = (struct pcv_values){
        random_floats(&seed, (size_t)(t.segment[0].group[0].raw * 2500), 0, 1), 1, 2500};
    check_ways(w, &t);
}

/* Weights too large for the row-stable kernel. */
static void wide_layers_match(void **state)
{
    static const enum flavour f[] = {CONTENT, INNER, OUTER};
    const struct world *w = make_world(33, 261, 1, 261, 261);
    struct pcv_tokens t = {.channels = 261, .nsegments = 1};

    (void)state;
    t.segment[0] = random_segment(&seed, 261, 400, f, 3);
    check_ways(w, &t);
}

/* Scores grow from tile to tile and segment to segment: what was summed before must shrink. */
static void the_maximum_may_come_late(void **state)
{
    static const enum flavour f[] = {CONTENT, INNER, OUTER, DIRECT, GATHERED, CONSTANT};
    struct world *w = make_world(6, C, 1, 12, 12);
    struct pcv_tokens t = {.channels = C, .nsegments = 2};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pcv_segment *s = &t.segment[i];
        float *planes;

        *s = random_segment(&seed, C, 3000, f, LEN(f));
        planes = random_floats(&seed, (size_t)(s->group[0].raw * s->tokens), 0, 1);
        for (int64_t j = 0; j < s->group[0].raw * s->tokens; j++)
            planes[j] *= 0.01f + 0.003f * (float)(j % s->tokens) * (float)(1 + i);
        s->group[0].content = (struct pcv_values){planes, 1, (size_t)s->tokens};
    }
    check_ways(w, &t);
}

/* Keys `by` times as long: scores are further apart. */
static void amplify(struct world *w, float by)
{
    const struct pcv_layer_dims *d = &w->layer.d;
    const int n = w->enc.num_latents;
    float *keys = floats((size_t)(d->qk * d->kv_dim));
    float *u = floats((size_t)(d->heads * n * d->kv_dim));

    for (int i = 0; i < d->qk * d->kv_dim; i++)
        keys[i] = by * w->layer.k.w[i];
    w->layer.k.w = keys;
    pcv_encode_absorb(&w->layer, &pcv_kernels_scalar, w->enc.q, n, u, (size_t)(n * d->kv_dim));
    w->enc.u = u;
}

/* So far that the running maximum has to be raised, by tiles and by segments: sums of every kind of
 * group, and of segments that are done, must shrink, each by its own query's factor. */
static void the_maximum_may_leap(void **state)
{
    static const enum flavour f[] = {CONTENT, INNER, OUTER, DIRECT, GATHERED, CONSTANT};

    (void)state;
    for (int turn = 0; turn < 8; turn++) {
        struct world *w = make_world(30, C, 1, 12, 12);
        struct pcv_tokens t = {.channels = C, .nsegments = 3};

        amplify(w, 12);
        for (int i = 0; i < t.nsegments; i++)
            t.segment[i] = random_segment(&seed, C, i == 2 ? 1300 : 1 + 40 * i, f, LEN(f));
        check_ways(w, &t);
    }
}

/* ---- tables -------------------------------------------------------------------------------------
 */

/* Row sums of W gamma, and b + W beta. */
static void fold(const struct pcv_layer *l, const struct pcv_affine *a, int out, const float **sum,
                 const float **bias)
{
    float *s = floats((size_t)out), *b = floats((size_t)out);

    for (int o = 0; o < out; o++) {
        double x = 0, y = a->b ? a->b[o] : 0;

        for (int c = 0; c < l->d.kv_dim; c++) {
            x += (double)a->w[o * l->d.kv_dim + c] * l->norm_kv.gamma[c];
            y += (double)a->w[o * l->d.kv_dim + c] * l->norm_kv.beta[c];
        }
        s[o] = (float)x;
        b[o] = (float)y;
    }
    *sum = s;
    *bias = b;
}

/* The group's table times W gamma: [rows, out]; its columns are channels of the group's ranges. */
static const float *project_table(const struct pcv_layer *l, const struct pcv_affine *a, int out,
                                  const struct pcv_group *g)
{
    float *y = floats((size_t)(g->rows * out)), *whole = floats((size_t)l->d.kv_dim);

    for (int row = 0; row < g->rows; row++) {
        memset(whole, 0, (size_t)l->d.kv_dim * sizeof(*whole));
        pcv_group_add(g, g->table + row * g->n, whole);
        for (int o = 0; o < out; o++) {
            double sum = 0;

            for (int c = 0; c < l->d.kv_dim; c++)
                sum += (double)whole[c] * l->norm_kv.gamma[c] * a->w[o * l->d.kv_dim + c];
            y[row * out + o] = (float)sum;
        }
    }
    return y;
}

static void check_tables(struct world *w, struct pcv_tokens *t, int heads)
{
    const struct pcv_kernels *tables[] = {&pcv_kernels_scalar, pcv_kernels_for(pcv_cpu_detect())};
    const struct pcv_layer_dims *d = &w->layer.d;
    const size_t n = (size_t)(w->enc.num_latents * d->v);
    const double *want = want_of(w, t);
    float *ctx = floats(n), *scratch;

    finish_tokens(t);
    w->enc.mode = PCV_ENCODE_TABLES;
    w->enc.ntables = t->segment[0].ngroups;
    fold(&w->layer, &w->layer.k, d->qk, &w->enc.key_sum, &w->enc.key_bias);
    fold(&w->layer, &w->layer.val, d->v, &w->enc.value_sum, &w->enc.value_bias);
    for (int i = 0; i < w->enc.ntables; i++) {
        const struct pcv_group *g = &t->segment[0].group[i];

        w->enc.table[i].keys = project_table(&w->layer, &w->layer.k, d->qk, g);
        w->enc.table[i].values = project_table(&w->layer, &w->layer.val, d->v, g);
    }
    scratch = malloc(pcv_encode_tables_need(&w->enc) * sizeof(*scratch));
    assert_non_null(scratch);
    for (size_t k = 0; k < LEN(tables); k++) {
        for (size_t i = 0; i < n; i++)
            ctx[i] = NAN;
        for (int h = 0; h < heads; h++)
            pcv_encode_tables(&w->enc, tables[k], t, w->enc.q, h, ctx, scratch);
        CHECK_CLOSE(ctx, want, n, 1e-4);
    }
    free(scratch);
}

static void projected_tables_match(void **state)
{
    (void)state;
    for (int turn = 0; turn < 40; turn++) {
        const int heads = 1 + turn % 4;
        struct world *w =
            make_world(turn % 8 ? 1 + random_int(&seed, 40) : 300, C, heads, 3 * heads, 5 * heads);
        struct pcv_tokens t = {.channels = C, .nsegments = 1 + turn % 3};
        enum flavour f[3];
        const int n = 1 + random_int(&seed, 3);

        for (int j = 0; j < n; j++)
            f[j] = (enum flavour)random_int(&seed, DIRECT + 1);
        t.segment[0] = turn & 1 ? random_segment(&seed, C, some_tokens(), f, n)
                                : overlapping_segment(&seed, C, some_tokens(), f, n, turn & 2);
        for (int i = 1; i < t.nsegments; i++) { /* fewer tokens of the same tables */
            t.segment[i] = t.segment[0];
            t.segment[i].tokens = 1 + random_int(&seed, (int)t.segment[0].tokens);
        }
        check_tables(w, &t, heads);
    }
}

/* Over several tiles of tokens, with scores far apart: what was summed before a leap must shrink.
 */
static void a_table_s_maximum_may_leap(void **state)
{
    (void)state;
    for (int turn = 0; turn < 6; turn++) {
        struct world *w = make_world(5 + 300 * (turn % 2), C, 2, 6, 10);
        struct pcv_tokens t = {.channels = C, .nsegments = 1};
        enum flavour f[2] = {DIRECT, GATHERED};

        w->layer.k = random_affine(&seed, 6, C, 20);
        t.segment[0] = overlapping_segment(&seed, C, 700, f, 2, true);
        check_tables(w, &t, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_group_alone, release),
        cmocka_unit_test_teardown(two_groups_together, release),
        cmocka_unit_test_teardown(groups_side_by_side, release),
        cmocka_unit_test_teardown(groups_above_each_other, release),
        cmocka_unit_test_teardown(long_tables_wrap, release),
        cmocka_unit_test_teardown(wide_layers_match, release),
        cmocka_unit_test_teardown(the_maximum_may_come_late, release),
        cmocka_unit_test_teardown(the_maximum_may_leap, release),
        cmocka_unit_test_teardown(projected_tables_match, release),
        cmocka_unit_test_teardown(a_table_s_maximum_may_leap, release),
    };

    pcv_gemm_init(); /* as a model that opens does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
