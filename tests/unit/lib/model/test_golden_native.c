/* Every stage of every call of the native golden cases, see tests/golden/README.md: the default way
 * and the plain one, the scalar kernels and the best, one thread and more. */
#include "lib/model/model.h"

#include "lib/model/plan.h"
#include "tests/unit/check.h"

enum { MOST_TENSORS = 8, MOST_BATCH = 4 };

static const char *const cases[] = {"native-senses", "native-shared", "native-together",
                                    "native-tokens"};

struct golden {
    const char *name, *way;
    struct pcv_safetensors *vectors;
    struct pcv_pool *pool;
    struct pcv_model *m;
    struct pcv_ws *ws;
};

static struct pcv_err e;

/* Tensor "CALL.NAME", or "CALL.PART.NAME"; NULL: there is none. */
static const struct pcv_tensor *vector(const struct golden *g, int call, const char *part,
                                       const char *name)
{
    char full[96];

    snprintf(full, sizeof(full), "%d.%s%s%s", call, part, part[0] ? "." : "", name);
    return pcv_safetensors_find(g->vectors, full);
}

/* Row `row` of a batch, within 1e-4 of the largest of the whole tensor. */
static void check_stage(const struct golden *g, int call, const char *part, const char *name,
                        int64_t row, const float *got, int64_t n)
{
    const struct pcv_tensor *t = vector(g, call, part, name);
    float *all;
    double most;
    int64_t count;

    if (!t) {
        fail_msg("%s: call %d has no %s %s", g->name, call, part, name);
        return;
    }
    count = pcv_shape_count(t->shape, t->ndim);
    if (n * t->shape[0] != count)
        fail_msg("%s: call %d %s has %d numbers a row, not %d", g->name, call, name,
                 (int)(count / t->shape[0]), (int)n);
    all = malloc((size_t)count * sizeof(*all));
    assert_non_null(all);
    pcv_tensor_to_f32(t, 0, count, all);
    most = largest(all, (size_t)count);
    for (int64_t i = 0; i < n; i++) {
        const float want = all[row * n + i];

        if (!(fabs((double)got[i] - want) <= 1e-4 * most))
            fail_msg("%s, %s: call %d %s, row %d element %d is %.9g, want %.9g (largest %.3g)",
                     g->name, g->way, call, name, (int)row, (int)i, got[i], want, most);
    }
    free(all);
}

/* The call's inputs as the model's tensors; queries, which have a batch of their own here, are
 * those of one row. */
static int call_tensors(const struct golden *g, int call, int64_t row, struct pcv_tensor *t)
{
    int n = 0;

    for (int i = 0; i < g->m->info.ntensors; i++) {
        const struct pcv_tensor *v = vector(g, call, "in", g->m->tensors[i].name);

        if (!v)
            continue;
        assert_true(n < MOST_TENSORS);
        t[n] = *v;
        t[n].name = g->m->tensors[i].name;
        if (strcmp(t[n].name, "queries") == 0) {
            t[n].nbytes /= (size_t)v->shape[0];
            t[n].data = (const char *)v->data + (size_t)row * t[n].nbytes;
            t[n].ndim = 2;
            memcpy(t[n].shape, v->shape + 1, 2 * sizeof(v->shape[0]));
        }
        n++;
    }
    return n;
}

static void check_tokens(const struct golden *g, int call, int64_t row, const struct pcv_input *in)
{
    const int64_t n = pcv_input_tokens(in) * pcv_input_channels(in);
    float *x = malloc((size_t)n * sizeof(*x));

    assert_non_null(x);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    check_stage(g, call, "", "tokens", row, x, n);
    free(x);
}

static void check_row(const struct golden *g, int call, int64_t row)
{
    const struct pcv_model_info *info = &g->m->info;
    const int64_t width = (int64_t)info->num_latents * info->d_latents;
    float *stages = malloc((size_t)width * 2 * sizeof(*stages)), *logits[PCV_MAX_TASKS] = {0};
    struct pcv_tensor t[MOST_TENSORS];
    const int given = call_tensors(g, call, row, t);
    struct pcv_query q[PCV_MAX_TASKS] = {0};
    struct pcv_input *in;
    int asked = 0;
    struct pcv_item item = {.queries = q, .encoded = stages, .latents = stages + width};

    assert_non_null(stages);
    CHECK_OK(pcv_input_from_tensors(&in, g->m, t, given, row, &e), e);
    item.input = in;
    check_tokens(g, call, row, in);
    for (int i = 0; i < info->ntasks; i++) {
        struct pcv_query *of = &q[asked];

        if (!vector(g, call, "logits", info->tasks[i].name))
            continue;
        *of = (struct pcv_query){.task = i, .nrows = pcv_query_rows_all(g->m, i, in)};
        CHECK_OK(pcv_query_check(g->m, in, of, &e), e);
        of->logits = malloc((size_t)of->nrows * (size_t)info->tasks[i].width * sizeof(float));
        assert_non_null(of->logits);
        logits[asked++] = of->logits;
    }
    assert_true(asked > 0);
    item.nqueries = asked;
    CHECK_OK(pcv_forward(g->m, g->ws, &item, 1, NULL, &e), e);
    check_stage(g, call, "", "encoded", row, item.encoded, width);
    check_stage(g, call, "", "latents", row, item.latents, width);
    for (int i = 0; i < asked; i++) {
        const struct pcv_task_info *task = &info->tasks[q[i].task];

        check_stage(g, call, "logits", task->name, row, logits[i],
                    (int64_t)q[i].nrows * task->width);
        free(logits[i]);
    }
    pcv_input_free(in);
    free(stages);
}

static void check_case(struct golden *g, const char *way, int flags)
{
    const struct pcv_tensor *t;
    int calls = 0;

    g->way = way;
    CHECK_OK(pcv_ws_reserve(g->ws, g->m, MOST_BATCH, flags, &e), e);
    for (; (t = vector(g, calls, "", "latents")); calls++)
        for (int64_t row = 0; row < t->shape[0]; row++)
            check_row(g, calls, row);
    assert_true(calls >= 2);
}

static void every_stage_matches(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(cases); c++)
        for (int threads = 1; threads <= 3; threads++) {
            struct golden g = {.name = cases[c]};
            char path[128];

            CHECK_OK(pcv_pool_new(&g.pool, threads, &e), e);
            snprintf(path, sizeof(path), "tests/golden/%s/vectors.safetensors", cases[c]);
            CHECK_OK(pcv_safetensors_open(&g.vectors, path, &e), e);
            snprintf(path, sizeof(path), "tests/golden/%s", cases[c]);
            CHECK_OK(pcv_model_open(&g.m, path, g.pool, &e), e);
            CHECK_OK(pcv_ws_new(&g.ws, g.pool, &e), e);
            check_case(&g, "default", 0);
            check_case(&g, "dense", PCV_WS_DENSE);
            pcv_plan_clear(&g.m->plan);
            CHECK_OK(pcv_plan_make(&g.m->plan, &g.m->bp, &pcv_kernels_scalar, g.pool, &e), e);
            check_case(&g, "scalar", 0);
            pcv_ws_free(g.ws);
            pcv_model_close(g.m);
            pcv_safetensors_close(g.vectors);
            pcv_pool_free(g.pool);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_stage_matches)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
