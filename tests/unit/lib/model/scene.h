/* scene.h - a model with inputs and questions of many sizes, for tests of whole forward passes. */
#ifndef SCENE_H
#define SCENE_H

#include "lib/model/model.h"
#include "tests/unit/tiny.h"

enum { SCENE_ITEMS = 7, SCENE_QUERIES = 4 };

struct scene {
    struct pcv_pool *pool;
    struct pcv_model *m;
    struct pcv_ws *ws;
    struct pcv_input *in[SCENE_ITEMS];
    struct pcv_latents *kept[SCENE_ITEMS]; /* NULL, or what scene_run fills or reads */
    struct pcv_query q[SCENE_ITEMS][SCENE_QUERIES];
    int nq[SCENE_ITEMS];
    int32_t *rows[SCENE_ITEMS][SCENE_QUERIES];
    uint64_t seed;
};

/* What came of one item. own: answer_free */
struct answer {
    float *encoded, *latents, *logits[SCENE_QUERIES];
    bool dropped;
};

static struct pcv_err scene_err;

/* A tensor of the adapter's shape with sizes of our choice for what is free. own: free(data) */
static inline struct pcv_tensor scene_tensor(struct scene *s, const struct pcv_adapter *a)
{
    struct pcv_tensor t = {
        .name = a->tensor.name, .dtype = a->tensor.dtype, .ndim = a->tensor.ndim};
    int64_t n;
    void *data;

    t.shape[0] = 1;
    for (int i = 1; i < t.ndim; i++)
        t.shape[i] = a->tensor.shape[i] > 0 ? a->tensor.shape[i] : 1 + random_int(&s->seed, 12);
    if (a->kind == PCV_INPUT_TEXT)
        t.shape[1] = 1 + random_int(&s->seed, a->text.max_positions);
    if (a->grid.stem.weight) /* the convolution wants some pixels */
        t.shape[2] += 16, t.shape[3] += 16;
    if (a->kind == PCV_INPUT_AUDIO)
        t.shape[1] *= a->grid.patch[0];
    if (a->kind == PCV_INPUT_VIDEO)
        t.shape[3] *= a->grid.patch[1], t.shape[4] *= a->grid.patch[2];
    n = pcv_shape_count(t.shape, t.ndim);
    t.nbytes = (size_t)n * pcv_dtype_size(t.dtype);
    t.data = data = malloc(t.nbytes);
    assert_non_null(data);
    if (t.dtype == PCV_F32)
        random_fill(&s->seed, data, (size_t)n, 0, 1);
    for (int64_t i = 0; i < n && t.dtype == PCV_I64; i++)
        ((int64_t *)data)[i] = random_int(&s->seed, a->text.vocab);
    return t;
}

static inline struct pcv_input *scene_input(struct scene *s)
{
    struct pcv_tensor t[PCV_MAX_INPUTS] = {0};
    struct pcv_input *in = NULL;
    int n = 0;

    for (int i = 0; i < s->m->bp.ninputs; i++)
        if (!s->m->bp.input[i].tensor.optional)
            t[n++] = scene_tensor(s, &s->m->bp.input[i]);
    CHECK_OK(pcv_input_from_tensors(&in, s->m, t, n, 0, &scene_err), scene_err);
    while (n > 0)
        free((void *)(uintptr_t)t[--n].data);
    return in;
}

/* All rows of a task, or some of them, in any order. */
static inline void scene_query(struct scene *s, int item, int task)
{
    const int all = pcv_query_rows_all(s->m, task, s->in[item]), i = s->nq[item]++;
    struct pcv_query *q = &s->q[item][i];

    *q = (struct pcv_query){.task = task, .nrows = all};
    if (random_int(&s->seed, 2))
        return;
    q->nrows = 1 + random_int(&s->seed, random_int(&s->seed, 2) ? PCV_DECODE_FEW : 150);
    q->rows = s->rows[item][i] = malloc((size_t)q->nrows * sizeof(int32_t));
    assert_non_null(q->rows);
    for (int j = 0; j < q->nrows; j++)
        s->rows[item][i][j] = random_int(&s->seed, all);
    CHECK_OK(pcv_query_check(s->m, s->in[item], q, &scene_err), scene_err);
}

static inline void scene_open(struct scene *s, const char *dir, int threads, int flags)
{
    *s = (struct scene){.seed = 7};
    CHECK_OK(pcv_pool_new(&s->pool, threads, &scene_err), scene_err);
    CHECK_OK(pcv_model_open(&s->m, dir, s->pool, &scene_err), scene_err);
    CHECK_OK(pcv_ws_new(&s->ws, s->pool, &scene_err), scene_err);
    CHECK_OK(pcv_ws_reserve(s->ws, s->m, SCENE_ITEMS, flags, &scene_err), scene_err);
    for (int i = 0; i < SCENE_ITEMS; i++) {
        const int n = random_int(&s->seed, SCENE_QUERIES + 1);

        s->in[i] = scene_input(s);
        for (int j = 0; j < n; j++)
            scene_query(s, i, random_int(&s->seed, s->m->bp.ntasks));
    }
}

static inline void scene_close(struct scene *s)
{
    for (int i = 0; i < SCENE_ITEMS; i++) {
        pcv_input_free(s->in[i]);
        for (int j = 0; j < SCENE_QUERIES; j++)
            free(s->rows[i][j]);
    }
    pcv_ws_free(s->ws);
    pcv_model_close(s->m);
    pcv_pool_free(s->pool);
}

static inline size_t answer_latents(const struct scene *s)
{
    return (size_t)s->m->bp.num_latents * (size_t)s->m->bp.d_latents;
}

static inline size_t answer_logits(const struct scene *s, int item, int query)
{
    const struct pcv_query *q = &s->q[item][query];

    return (size_t)q->nrows * (size_t)s->m->bp.task[q->task].width;
}

/* Filled with NaN, so that what is not written is seen. */
static inline float *answer_room(size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
    return x;
}

static inline void answer_free(struct answer *a)
{
    free(a->encoded);
    free(a->latents);
    for (int i = 0; i < SCENE_QUERIES; i++)
        free(a->logits[i]);
    *a = (struct answer){0};
}

/* One forward of the items named in which, with the workspace given; cancelled[i] may be NULL. */
static inline void scene_run(const struct scene *s, struct pcv_ws *ws, const int *which, int n,
                             atomic_bool *const *cancelled, struct answer *out)
{
    struct pcv_item items[SCENE_ITEMS];
    struct pcv_query q[SCENE_ITEMS][SCENE_QUERIES];
    struct pcv_timing timing;
    struct pcv_err e = {0};

    for (int i = 0; i < n; i++) {
        const int w = which[i];

        out[i] = (struct answer){
            answer_room(answer_latents(s)), answer_room(answer_latents(s)), {0}, false};
        for (int j = 0; j < s->nq[w]; j++) {
            q[i][j] = s->q[w][j];
            q[i][j].logits = out[i].logits[j] = answer_room(answer_logits(s, w, j));
        }
        items[i] = (struct pcv_item){.input = s->in[w],
                                     .kept = s->kept[w],
                                     .queries = q[i],
                                     .nqueries = s->nq[w],
                                     .cancelled = cancelled ? cancelled[i] : NULL,
                                     .encoded = out[i].encoded,
                                     .latents = out[i].latents};
    }
    CHECK_OK(pcv_forward(s->m, ws, items, n, &timing, &e), e);
    for (int i = 0; i < n; i++)
        out[i].dropped = items[i].dropped;
}

/* The same bits in everything. */
static inline void check_same(const struct scene *s, int item, const struct answer *got,
                              const struct answer *want)
{
    CHECK_BITS(got->encoded, want->encoded, answer_latents(s));
    CHECK_BITS(got->latents, want->latents, answer_latents(s));
    for (int j = 0; j < s->nq[item]; j++)
        CHECK_BITS(got->logits[j], want->logits[j], answer_logits(s, item, j));
}

/* Within `tolerance` of the largest. */
static inline void check_close_to(const struct scene *s, int item, const struct answer *got,
                                  const struct answer *want, double tolerance)
{
    const size_t n = answer_latents(s);

    CHECK_NEAR(got->encoded, want->encoded, n, tolerance * largest(want->encoded, n));
    CHECK_NEAR(got->latents, want->latents, n, tolerance * largest(want->latents, n));
    for (int j = 0; j < s->nq[item]; j++) {
        const size_t logits = answer_logits(s, item, j);

        CHECK_NEAR(got->logits[j], want->logits[j], logits,
                   tolerance * largest(want->logits[j], logits));
    }
}

#endif
