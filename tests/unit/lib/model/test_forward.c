/* Whole forward passes: who else is in the batch, how many threads there are, what is cancelled and
 * what is padded never changes an answer. */
#include "lib/model/forward.h"

#include "lib/base/pool.h"
#include "tests/unit/lib/model/scene.h"

#include <pthread.h>

/* As many latents as threads share by blocks; and so many that a batch goes in slices. */
static struct tiny shared_text(void)
{
    struct tiny t = tiny_masked_lm;

    t.latents = 83;
    t.positions = 200;
    return t;
}

static struct tiny sliced_images(void)
{
    struct tiny t = tiny_fourier;

    t.latents = 700;
    t.blocks = 1;
    return t;
}

/* Weights too large for the row-stable kernel: what OpenBLAS gives depends on the shape of the
 * call. */
static struct tiny wide_text(void)
{
    struct tiny t = tiny_masked_lm;

    t.latents = 83;
    t.d = t.qk = t.v = 272;
    t.d_model = 280;
    t.layers = 1;
    return t;
}

typedef void (*scene_fn)(struct scene *s);

/* Calls f for every kind of model with this many threads. */
static void each_scene(int threads, int flags, scene_fn f)
{
    static const char *const golden[] = {"hf-multimodal-autoencoding", "hf-optical-flow",
                                         "hf-image-conv", "hf-image-learned"};
    const struct tiny tinies[] = {shared_text(), sliced_images(), wide_text(), tiny_text_classifier,
                                  tiny_learned};
    struct scene s;
    char dir[64];

    for (size_t i = 0; i < LEN(tinies); i++) {
        scene_open(&s, tiny_model(&tinies[i]), threads, flags);
        f(&s);
        scene_close(&s);
    }
    for (size_t i = 0; i < LEN(golden); i++) {
        snprintf(dir, sizeof(dir), "build/golden/%s", golden[i]);
        scene_open(&s, dir, threads, flags);
        f(&s);
        scene_close(&s);
    }
}

/* ---- company
 * ------------------------------------------------------------------------------------- */

/* Everything was written, and is a number: close to itself. */
static void alone(const struct scene *s, struct answer *a)
{
    for (int i = 0; i < SCENE_ITEMS; i++) {
        scene_run(s, s->ws, &i, 1, NULL, &a[i]);
        check_close_to(s, i, &a[i], &a[i], 0);
    }
}

static void free_answers(struct answer *a, int n)
{
    for (int i = 0; i < n; i++)
        answer_free(&a[i]);
}

static void check_company(struct scene *s)
{
    static const int orders[][SCENE_ITEMS] = {
        {0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {3, 0, 5}, {2, 6}, {4, 4, 4, 1, 1}};
    static const int counts[] = {7, 7, 3, 2, 5};
    struct answer want[SCENE_ITEMS], got[SCENE_ITEMS];

    alone(s, want);
    for (size_t i = 0; i < LEN(orders); i++) {
        scene_run(s, s->ws, orders[i], counts[i], NULL, got);
        for (int j = 0; j < counts[i]; j++) {
            assert_false(got[j].dropped);
            check_same(s, orders[i][j], &got[j], &want[orders[i][j]]);
        }
        free_answers(got, counts[i]);
    }
    free_answers(want, SCENE_ITEMS);
}

static void company_changes_no_bit(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++)
        each_scene(threads, 0, check_company);
}

/* ---- threads and ways
 * ---------------------------------------------------------------------------- */

static struct answer one_thread[SCENE_ITEMS];

static void check_threads(struct scene *s)
{
    struct pcv_pool *pool;
    struct pcv_ws *ws;

    alone(s, one_thread);
    for (int way = 1; way < 6; way++) { /* 1 to 3 threads, dense or not */
        const int all[SCENE_ITEMS] = {0, 1, 2, 3, 4, 5, 6};
        struct answer got[SCENE_ITEMS];

        CHECK_OK(pcv_pool_new(&pool, 1 + way / 2, &scene_err), scene_err);
        CHECK_OK(pcv_ws_new(&ws, pool, &scene_err), scene_err);
        CHECK_OK(pcv_ws_reserve(ws, s->m, SCENE_ITEMS, way & 1 ? PCV_WS_DENSE : 0, &scene_err),
                 scene_err);
        scene_run(s, ws, all, SCENE_ITEMS, NULL, got);
        for (int i = 0; i < SCENE_ITEMS; i++)
            check_close_to(s, i, &got[i], &one_thread[i], 1e-4);
        free_answers(got, SCENE_ITEMS);
        pcv_ws_free(ws);
        pcv_pool_free(pool);
    }
    free_answers(one_thread, SCENE_ITEMS);
}

static void threads_and_ways_agree(void **state)
{
    (void)state;
    each_scene(1, 0, check_threads);
}

/* Rows asked for alone, among others, and twice. */
static void check_rows(struct scene *s)
{
    for (int task = 0; task < s->m->bp.ntasks; task++) {
        const int all = pcv_query_rows_all(s->m, task, s->in[0]);
        const size_t width = (size_t)s->m->bp.task[task].width;
        const int32_t rows[] = {all - 1, 0, all / 2, 0};
        float *whole = answer_room((size_t)all * width), *some = answer_room(4 * width);
        struct pcv_query q[2] = {{.task = task, .logits = whole},
                                 {.task = task, .nrows = 4, .rows = rows, .logits = some}};
        struct pcv_item item = {.input = s->in[0], .queries = q, .nqueries = 2};

        CHECK_OK(pcv_forward(s->m, s->ws, &item, 1, NULL, &scene_err), scene_err);
        for (int i = 0; i < 4; i++)
            CHECK_NEAR(some + (size_t)i * width, whole + (size_t)rows[i] * width, width,
                       1e-5 * largest(whole, (size_t)all * width));
        free(whole);
        free(some);
    }
}

static void rows_do_not_depend_on_others(void **state)
{
    (void)state;
    each_scene(2, 0, check_rows);
}

/* ---- cancelling
 * ---------------------------------------------------------------------------------- */

static void check_cancelled(struct scene *s)
{
    const int all[SCENE_ITEMS] = {0, 1, 2, 3, 4, 5, 6};
    atomic_bool gone = true, stays = false;
    struct answer want[SCENE_ITEMS], got[SCENE_ITEMS];

    alone(s, want);
    for (int mask = 1; mask < 1 << SCENE_ITEMS; mask += 13) {
        atomic_bool *flags[SCENE_ITEMS];

        for (int i = 0; i < SCENE_ITEMS; i++)
            flags[i] = mask >> i & 1 ? &gone : i % 2 ? &stays : NULL;
        scene_run(s, s->ws, all, SCENE_ITEMS, flags, got);
        for (int i = 0; i < SCENE_ITEMS; i++) {
            assert_int_equal(got[i].dropped, mask >> i & 1);
            if (!got[i].dropped)
                check_same(s, i, &got[i], &want[i]);
        }
        free_answers(got, SCENE_ITEMS);
    }
    free_answers(want, SCENE_ITEMS);
}

static void the_cancelled_leave_no_trace(void **state)
{
    struct tiny t = shared_text();
    struct scene s;

    (void)state;
    scene_open(&s, tiny_model(&t), 2, 0);
    check_cancelled(&s);
    scene_close(&s);
    scene_open(&s, "build/golden/hf-multimodal-autoencoding", 3, 0);
    check_cancelled(&s);
    scene_close(&s);
}

struct canceller {
    atomic_bool flag[SCENE_ITEMS], stop;
    uint64_t seed;
};

/* Sets one flag after another while forwards run. */
static void *cancel_at_random(void *arg)
{
    struct canceller *c = arg;

    while (!atomic_load(&c->stop)) {
        for (volatile int i = random_int(&c->seed, 20000); i > 0; i--)
            ;
        atomic_store(&c->flag[random_int(&c->seed, SCENE_ITEMS)], true);
    }
    return NULL;
}

static void cancelling_may_happen_at_any_time(void **state)
{
    const int all[SCENE_ITEMS] = {0, 1, 2, 3, 4, 5, 6};
    struct answer want[SCENE_ITEMS], got[SCENE_ITEMS];
    struct canceller c = {.seed = 3};
    atomic_bool *flags[SCENE_ITEMS];
    struct tiny t = shared_text();
    struct scene s;
    pthread_t other;

    (void)state;
    scene_open(&s, tiny_model(&t), 2, 0);
    alone(&s, want);
    assert_int_equal(pthread_create(&other, NULL, cancel_at_random, &c), 0);
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < SCENE_ITEMS; i++) {
            atomic_store(&c.flag[i], false);
            flags[i] = &c.flag[i];
        }
        scene_run(&s, s.ws, all, SCENE_ITEMS, flags, got);
        for (int i = 0; i < SCENE_ITEMS; i++)
            if (!got[i].dropped)
                check_same(&s, i, &got[i], &want[i]);
        free_answers(got, SCENE_ITEMS);
    }
    atomic_store(&c.stop, true);
    pthread_join(other, NULL);
    free_answers(want, SCENE_ITEMS);
    scene_close(&s);
}

/* ---- workspaces
 * ---------------------------------------------------------------------------------- */

struct caller {
    const struct scene *s;
    struct pcv_pool *pool;
    struct pcv_ws *ws;
    struct answer a[SCENE_ITEMS];
};

static void *run_caller(void *arg)
{
    const int all[SCENE_ITEMS] = {0, 1, 2, 3, 4, 5, 6};
    struct caller *c = arg;

    for (int i = 0; i < 5; i++) {
        free_answers(c->a, SCENE_ITEMS);
        scene_run(c->s, c->ws, all, SCENE_ITEMS, NULL, c->a);
    }
    return NULL;
}

/* Two callers with pools and workspaces of their own share a model. */
static void a_model_serves_many_callers(void **state)
{
    struct caller c[2] = {0};
    struct tiny t = shared_text();
    struct scene s;
    pthread_t other;

    (void)state;
    scene_open(&s, tiny_model(&t), 2, 0);
    for (int i = 0; i < 2; i++) {
        c[i].s = &s;
        CHECK_OK(pcv_pool_new(&c[i].pool, 2, &scene_err), scene_err);
        CHECK_OK(pcv_ws_new(&c[i].ws, c[i].pool, &scene_err), scene_err);
        CHECK_OK(pcv_ws_reserve(c[i].ws, s.m, SCENE_ITEMS, 0, &scene_err), scene_err);
    }
    assert_int_equal(pthread_create(&other, NULL, run_caller, &c[0]), 0);
    run_caller(&c[1]);
    pthread_join(other, NULL);
    for (int i = 0; i < SCENE_ITEMS; i++)
        check_same(&s, i, &c[0].a[i], &c[1].a[i]);
    for (int i = 0; i < 2; i++) {
        free_answers(c[i].a, SCENE_ITEMS);
        pcv_ws_free(c[i].ws);
        pcv_pool_free(c[i].pool);
    }
    scene_close(&s);
}

/* One workspace in turn for two models, dense and not: as with workspaces of their own. */
static void a_workspace_serves_many_models(void **state)
{
    struct scene text, flow;
    struct answer want[2], got;
    struct tiny t = shared_text();
    const int zero = 0;

    (void)state;
    scene_open(&text, tiny_model(&t), 1, 0);
    scene_open(&flow, "build/golden/hf-optical-flow", 1, 0);
    scene_run(&text, text.ws, &zero, 1, NULL, &want[0]);
    scene_run(&flow, flow.ws, &zero, 1, NULL, &want[1]);
    for (int i = 0; i < 6; i++) {
        const struct scene *s = i % 2 ? &flow : &text;
        const int flags = i / 2 == 1 ? PCV_WS_DENSE : 0;

        CHECK_OK(pcv_ws_reserve(text.ws, s->m, 1 + i % 3, flags, &scene_err), scene_err);
        assert_true(pcv_ws_bytes(text.ws) >= pcv_ws_need(s->m, 1 + i % 3, 1, flags));
        scene_run(s, text.ws, &zero, 1, NULL, &got);
        if (flags)
            check_close_to(s, 0, &got, &want[i % 2], 1e-4);
        else
            check_same(s, 0, &got, &want[i % 2]);
        answer_free(&got);
    }
    free_answers(want, 2);
    scene_close(&text);
    scene_close(&flow);
}

static void what_was_not_reserved_is_refused(void **state)
{
    struct pcv_item items[3] = {0};
    struct pcv_model *large;
    struct pcv_ws *ws;
    struct tiny t = shared_text();
    struct scene s;

    (void)state;
    scene_open(&s, tiny_model(&tiny_text_classifier), 1, 0);
    for (int i = 0; i < 3; i++)
        items[i].input = s.in[i];
    CHECK_OK(pcv_ws_new(&ws, s.pool, &scene_err), scene_err);
    CHECK_FAILS(pcv_ws_reserve(ws, s.m, 0, 0, &scene_err), scene_err, PCV_ERANGE, "", "0 items");
    CHECK_FAILS(pcv_ws_reserve(ws, s.m, -5, 0, &scene_err), scene_err, PCV_ERANGE, "", "-5 items");
    CHECK_FAILS(pcv_forward(s.m, ws, items, 1, NULL, &scene_err), scene_err, PCV_ELIMIT, "",
                "1 items");
    CHECK_OK(pcv_ws_reserve(ws, s.m, 2, 0, &scene_err), scene_err);
    CHECK_FAILS(pcv_forward(s.m, ws, items, 3, NULL, &scene_err), scene_err, PCV_ELIMIT, "",
                "3 items");
    CHECK_FAILS(pcv_forward(s.m, ws, items, 0, NULL, &scene_err), scene_err, PCV_ELIMIT, "",
                "0 items");
    CHECK_OK(pcv_forward(s.m, ws, items, 2, NULL, &scene_err), scene_err);
    CHECK_OK(pcv_model_open(&large, tiny_model(&t), NULL, &scene_err), scene_err);
    CHECK_FAILS(pcv_forward(large, ws, items, 1, NULL, &scene_err), scene_err, PCV_ELIMIT, "",
                "not reserved");
    pcv_model_close(large);
    pcv_ws_free(ws);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(threads_and_ways_agree),
        cmocka_unit_test(rows_do_not_depend_on_others),
        cmocka_unit_test(the_cancelled_leave_no_trace),
        cmocka_unit_test(cancelling_may_happen_at_any_time),
        cmocka_unit_test(a_model_serves_many_callers),
        cmocka_unit_test(a_workspace_serves_many_models),
        cmocka_unit_test(what_was_not_reserved_is_refused),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
