/* Kept latents: later questions are answered as fresh ones, nothing is encoded for them, what is
 * cancelled stays empty, and several forwards may ask at once. Maps of attention against the
 * formula. */
#include "lib/model/latents.h"

#include "lib/base/pool.h"
#include "tests/unit/lib/attention/plain.h"
#include "tests/unit/lib/model/scene.h"

#include <pthread.h>

static const int all[SCENE_ITEMS] = {0, 1, 2, 3, 4, 5, 6};

static void keep_all(struct scene *s)
{
    for (int i = 0; i < SCENE_ITEMS; i++)
        CHECK_OK(pcv_latents_new(&s->kept[i], s->m, 0, &scene_err), scene_err);
}

static void forget_all(struct scene *s)
{
    for (int i = 0; i < SCENE_ITEMS; i++) {
        pcv_latents_free(s->kept[i]);
        s->kept[i] = NULL;
    }
}

static void free_answers(struct answer *a, int n)
{
    for (int i = 0; i < n; i++)
        answer_free(&a[i]);
}

/* Models of every kind of decoder: learned queries, the input's own, grids, text written out. */
static void each_scene(void (*f)(struct scene *s))
{
    static const char *const golden[] = {"hf-multimodal-autoencoding", "hf-optical-flow",
                                         "hf-image-learned"};
    struct tiny text = tiny_masked_lm;
    struct scene s;
    char dir[64];

    text.latents = 83;
    text.positions = 200;
    for (int threads = 1; threads <= 2; threads++) {
        scene_open(&s, tiny_model(&text), threads, 0);
        f(&s);
        scene_close(&s);
        for (size_t i = 0; i < LEN(golden); i++) {
            snprintf(dir, sizeof(dir), "build/golden/%s", golden[i]);
            scene_open(&s, dir, threads, 0);
            f(&s);
            scene_close(&s);
        }
    }
}

/* ---- asking again ------------------------------------------------------------------------------
 */

static void check_logits(const struct scene *s, int item, const struct answer *got,
                         const struct answer *want)
{
    for (int j = 0; j < s->nq[item]; j++) {
        const size_t n = answer_logits(s, item, j);

        CHECK_NEAR(got->logits[j], want->logits[j], n, 1e-5 * largest(want->logits[j], n));
    }
}

static void check_again(struct scene *s)
{
    struct answer fresh[SCENE_ITEMS], filling[SCENE_ITEMS], second[SCENE_ITEMS], third[SCENE_ITEMS];

    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, fresh);
    keep_all(s);
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, filling);
    for (int i = 0; i < SCENE_ITEMS; i++) {
        check_same(s, i, &filling[i], &fresh[i]); /* keeping changes nothing */
        assert_true(pcv_latents_filled(s->kept[i]));
        CHECK_BITS(pcv_latents_numbers(s->kept[i]), fresh[i].latents, answer_latents(s));
    }
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, second);
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, third);
    for (int i = 0; i < SCENE_ITEMS; i++) {
        check_logits(s, i, &second[i], &fresh[i]);
        CHECK_BITS(second[i].latents, fresh[i].latents, answer_latents(s));
        assert_true(isnan(second[i].encoded[0])); /* nobody encoded */
        for (int j = 0; j < s->nq[i]; j++)
            CHECK_BITS(third[i].logits[j], second[i].logits[j], answer_logits(s, i, j));
    }
    free_answers(fresh, SCENE_ITEMS);
    free_answers(filling, SCENE_ITEMS);
    free_answers(second, SCENE_ITEMS);
    free_answers(third, SCENE_ITEMS);
    forget_all(s);
}

static void later_answers_are_the_first(void **state)
{
    (void)state;
    each_scene(check_again);
}

/* Latents that were there already change no bit for those that are computed beside them. */
static void check_mixed(struct scene *s)
{
    struct answer fresh[SCENE_ITEMS], got[SCENE_ITEMS];

    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, fresh);
    keep_all(s);
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, got);
    free_answers(got, SCENE_ITEMS);
    for (int i = 0; i < SCENE_ITEMS; i += 2) {
        pcv_latents_free(s->kept[i]);
        s->kept[i] = NULL;
    }
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, got);
    for (int i = 0; i < SCENE_ITEMS; i++) {
        if (i % 2)
            check_logits(s, i, &got[i], &fresh[i]);
        else
            check_same(s, i, &got[i], &fresh[i]);
    }
    free_answers(got, SCENE_ITEMS);
    free_answers(fresh, SCENE_ITEMS);
    forget_all(s);
}

static void kept_and_fresh_share_a_batch(void **state)
{
    (void)state;
    each_scene(check_mixed);
}

/* One item twice in a batch: one of them makes the keys, both are right. */
static void check_twice(struct scene *s)
{
    static const int twice[] = {1, 1, 2, 1};
    struct answer fresh[SCENE_ITEMS], got[SCENE_ITEMS];

    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, fresh);
    keep_all(s);
    scene_run(s, s->ws, all, SCENE_ITEMS, NULL, got);
    free_answers(got, SCENE_ITEMS);
    for (int round = 0; round < 2; round++) {
        scene_run(s, s->ws, twice, LEN(twice), NULL, got);
        for (size_t i = 0; i < LEN(twice); i++)
            check_logits(s, twice[i], &got[i], &fresh[twice[i]]);
        free_answers(got, LEN(twice));
    }
    free_answers(fresh, SCENE_ITEMS);
    forget_all(s);
}

struct caller {
    const struct scene *s;
    const struct answer *want;
    struct pcv_pool *pool;
    struct pcv_ws *ws;
};

static void *ask_often(void *arg)
{
    struct caller *c = arg;
    struct answer got[SCENE_ITEMS];

    for (int i = 0; i < 10; i++) {
        scene_run(c->s, c->ws, all, SCENE_ITEMS, NULL, got);
        for (int j = 0; j < SCENE_ITEMS; j++)
            check_logits(c->s, j, &got[j], &c->want[j]);
        free_answers(got, SCENE_ITEMS);
    }
    return NULL;
}

/* Forwards on two threads, both making keys and values at the same time. */
static void many_may_ask_at_once(void **state)
{
    struct tiny text = tiny_masked_lm;
    struct answer want[SCENE_ITEMS], got[SCENE_ITEMS];
    struct caller c[2] = {0};
    struct scene s;
    pthread_t thread[2];

    (void)state;
    scene_open(&s, tiny_model(&text), 1, 0);
    scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, want);
    for (int i = 0; i < 2; i++) {
        c[i] = (struct caller){.s = &s, .want = want};
        CHECK_OK(pcv_pool_new(&c[i].pool, 1, &scene_err), scene_err);
        CHECK_OK(pcv_ws_new(&c[i].ws, c[i].pool, &scene_err), scene_err);
        CHECK_OK(pcv_ws_reserve(c[i].ws, s.m, SCENE_ITEMS, 0, &scene_err), scene_err);
    }
    for (int round = 0; round < 20; round++) {
        keep_all(&s);
        scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, got);
        free_answers(got, SCENE_ITEMS);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, ask_often, &c[i]), 0);
        for (int i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        forget_all(&s);
    }
    for (int i = 0; i < 2; i++) {
        pcv_ws_free(c[i].ws);
        pcv_pool_free(c[i].pool);
    }
    free_answers(want, SCENE_ITEMS);
    scene_close(&s);
}

static void one_may_be_asked_twice_at_once(void **state)
{
    (void)state;
    each_scene(check_twice);
}

/* ---- filling ------------------------------------------------------------------------------------
 */

static void the_cancelled_stay_empty(void **state)
{
    atomic_bool gone = true;
    atomic_bool *flags[SCENE_ITEMS] = {NULL, &gone, NULL, &gone, NULL, NULL, &gone};
    struct answer fresh[SCENE_ITEMS], got[SCENE_ITEMS];
    struct tiny text = tiny_masked_lm;
    struct scene s;

    (void)state;
    scene_open(&s, tiny_model(&text), 2, 0);
    scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, fresh);
    keep_all(&s);
    scene_run(&s, s.ws, all, SCENE_ITEMS, flags, got);
    free_answers(got, SCENE_ITEMS);
    for (int i = 0; i < SCENE_ITEMS; i++)
        assert_int_equal(pcv_latents_filled(s.kept[i]), !flags[i]);
    scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, got); /* and can be filled later */
    for (int i = 0; i < SCENE_ITEMS; i++)
        check_logits(&s, i, &got[i], &fresh[i]);
    free_answers(got, SCENE_ITEMS);
    free_answers(fresh, SCENE_ITEMS);
    forget_all(&s);
    scene_close(&s);
}

static void imported_latents_answer_too(void **state)
{
    struct answer fresh[SCENE_ITEMS], got[SCENE_ITEMS];
    struct tiny text = tiny_text_classifier;
    struct scene s;

    (void)state;
    scene_open(&s, tiny_model(&text), 1, 0);
    scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, fresh);
    for (int i = 0; i < SCENE_ITEMS; i++)
        CHECK_OK(pcv_latents_import(&s.kept[i], s.m, 0, fresh[i].latents, &scene_err), scene_err);
    scene_run(&s, s.ws, all, SCENE_ITEMS, NULL, got);
    for (int i = 0; i < SCENE_ITEMS; i++)
        check_logits(&s, i, &got[i], &fresh[i]);
    forget_all(&s);
    fresh[0].latents[5] = INFINITY;
    CHECK_FAILS(pcv_latents_import(&s.kept[0], s.m, 0, fresh[0].latents, &scene_err), scene_err,
                PCV_ERANGE, "", "element 5 is not finite");
    CHECK_FAILS(pcv_latents_new(&s.kept[0], s.m, 1, &scene_err), scene_err, PCV_EUNKNOWN, "",
                "no input of index 1");
    assert_null(s.kept[0]);
    free_answers(got, SCENE_ITEMS);
    free_answers(fresh, SCENE_ITEMS);
    scene_close(&s);
}

/* ---- what it costs ------------------------------------------------------------------------------
 */

static void later_questions_cost_their_rows(void **state)
{
    const int32_t rows[] = {3, 1};
    struct tiny text = tiny_masked_lm;
    float logits[2 * 262];
    struct pcv_query q = {.task = 0, .nrows = 2, .rows = rows, .logits = logits};
    struct pcv_cost first, second, third;
    struct pcv_item item;
    struct scene s;
    double n, c, qk, v, head;

    (void)state;
    scene_open(&s, tiny_model(&text), 1, 0);
    keep_all(&s);
    item = (struct pcv_item){.input = s.in[0], .kept = s.kept[0], .queries = &q, .nqueries = 1};
    pcv_cost_item(s.m, &item, &first, NULL);
    CHECK_OK(pcv_forward(s.m, s.ws, &item, 1, NULL, &scene_err), scene_err);
    pcv_cost_item(s.m, &item, &second, NULL);
    CHECK_OK(pcv_forward(s.m, s.ws, &item, 1, NULL, &scene_err), scene_err);
    pcv_cost_item(s.m, &item, &third, NULL);
    assert_true(first.encode > 0 && first.process > 0);
    assert_true(second.encode == 0 && second.process == 0 && third.encode == 0);
    n = s.m->bp.num_latents;
    c = s.m->bp.d_latents;
    qk = s.m->bp.task[0].layer.d.qk;
    v = s.m->bp.task[0].layer.d.v;
    head = (double)s.m->bp.task[0].layer.d.q_dim * 262;
    assert_true(second.decode - third.decode == n * c * (qk + v)); /* keys and values, once */
    assert_true(third.decode ==
                2 * (n * (qk + v) + head +
                     s.m->bp.task[0].layer.d.q_dim * (v + 2.0 * s.m->bp.task[0].layer.d.hidden)));
    forget_all(&s);
    scene_close(&s);
}

/* ---- maps of attention --------------------------------------------------------------------------
 */

/* softmax(q k^T / sqrt(d)) of one latent, the mean of its heads, as the papers write it. */
static double *plain_map(const struct scene *s, const float *tokens, int m, int latent)
{
    const struct pcv_layer *l = &s->m->bp.cross[0];
    const int c = l->d.kv_dim, dk = l->d.qk / l->d.heads;
    const double *q =
        plain_linear(&l->q,
                     plain_norm(&l->norm_q,
                                widen(s->m->bp.latents + (size_t)latent * (size_t)l->d.q_dim,
                                      (size_t)l->d.q_dim),
                                1, l->d.q_dim, 1e-5),
                     1, l->d.q_dim, l->d.qk);
    const double *k = plain_linear(
        &l->k, plain_norm(&l->norm_kv, widen(tokens, (size_t)(m * c)), m, c, 1e-5), m, c, l->d.qk);
    double *map = doubles((size_t)m), *w = doubles((size_t)m);

    for (int h = 0; h < l->d.heads; h++) {
        double top = -1e300, sum = 0;

        for (int i = 0; i < m; i++) {
            w[i] = 0;
            for (int j = 0; j < dk; j++)
                w[i] += q[h * dk + j] * k[i * l->d.qk + h * dk + j] / sqrt(dk);
            top = fmax(top, w[i]);
        }
        for (int i = 0; i < m; i++)
            sum += exp(w[i] - top);
        for (int i = 0; i < m; i++)
            map[i] += exp(w[i] - top) / sum / l->d.heads;
    }
    return map;
}

static void check_maps(struct scene *s)
{
    const int n = s->m->bp.num_latents;
    const int32_t latents[] = {n - 1, 0, n / 2};
    struct pcv_item items[SCENE_ITEMS];
    struct pcv_attention maps[SCENE_ITEMS];

    for (int i = 0; i < SCENE_ITEMS; i++) {
        const size_t m = (size_t)pcv_input_tokens(s->in[i]);

        maps[i] = (struct pcv_attention){
            .n = 1 + i % 3, .latents = latents, .weights = answer_room(3 * m)};
        items[i] = (struct pcv_item){.input = s->in[i], .attention = i % 4 ? &maps[i] : NULL};
    }
    CHECK_OK(pcv_forward(s->m, s->ws, items, SCENE_ITEMS, NULL, &scene_err), scene_err);
    for (int i = 0; i < SCENE_ITEMS; i++) {
        const int m = (int)pcv_input_tokens(s->in[i]);
        float *tokens = floats((size_t)m * (size_t)pcv_input_channels(s->in[i]));

        CHECK_OK(pcv_input_dense(s->in[i], tokens, &scene_err), scene_err);
        for (int j = 0; items[i].attention && j < maps[i].n; j++)
            CHECK_CLOSE(maps[i].weights + (size_t)j * (size_t)m,
                        plain_map(s, tokens, m, latents[j]), (size_t)m, 1e-4);
        free(maps[i].weights);
        release(NULL);
    }
}

static void maps_are_the_softmax(void **state)
{
    (void)state;
    each_scene(check_maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_answers_are_the_first),
        cmocka_unit_test(kept_and_fresh_share_a_batch),
        cmocka_unit_test(one_may_be_asked_twice_at_once),
        cmocka_unit_test(many_may_ask_at_once),
        cmocka_unit_test(the_cancelled_stay_empty),
        cmocka_unit_test(imported_latents_answer_too),
        cmocka_unit_test(later_questions_cost_their_rows),
        cmocka_unit_test(maps_are_the_softmax),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
