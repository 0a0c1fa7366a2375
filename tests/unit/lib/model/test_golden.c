/* Every stage of every golden call, see tests/golden/README.md: each way of encoding, the scalar
 * kernels and the best, one thread and more. */
#include "lib/model/model.h"

#include "lib/base/mem.h"
#include "lib/model/plan.h"
#include "tests/unit/check.h"

enum { MOST_TENSORS = 8, MOST_BATCH = 4 };

static const char *const cases[] = {
    "hf-masked-lm",
    "hf-text-classification",
    "hf-image-fourier",
    "hf-image-learned",
    "hf-image-conv",
    "hf-multimodal-autoencoding",
    "hf-optical-flow",
    "dm-masked-lm",
    "dm-image-fourier",
    "dm-image-conv",
    "dm-image-learned",
    "dm-optical-flow",
    "lucidrains-perceiver-tied",
    "lucidrains-perceiver-untied",
    "lucidrains-perceiver-io",
    "lucidrains-perceiver-lm",
    "lucidrains-perceiver-video",
    "lucidrains-perceiver-axes",
    "lucidrains-perceiver-blocks",
    "lucidrains-perceiver-io-blocks",
    "points-coordinates",
    "audio-patches",
    "spectrogram",
    "spectrogram-patches",
    "krasserm-image-classifier",
    "krasserm-image-classifier-shared",
    "krasserm-text-classifier",
    "krasserm-masked-lm",
    "krasserm-masked-lm-untied",
    "krasserm-optical-flow",
};

struct golden {
    const char *name;
    struct pcv_safetensors *vectors;
    struct pcv_pool *pool;
    struct pcv_model *m;
    struct pcv_ws *ws;
    const char *way;
    float *u;     /* of a forced way */
    int compared; /* tensors of the call at hand */
};

static struct pcv_err e;

/* ---- comparing ----------------------------------------------------------------------------------
 */

/* Tensor "CALL.PART.NAME", or NULL. */
static const struct pcv_tensor *vector(const struct golden *g, int call, const char *part,
                                       const char *name)
{
    char full[80];

    snprintf(full, sizeof(full), "%d.%s.%s", call, part, name);
    return pcv_safetensors_find(g->vectors, full);
}

/* Row `row` of a batch, element by element, within 1e-4 of the largest of the whole tensor. Skips
 * units of `unit` elements where keep is 0, and what the case does not hold. */
static void check_stage(struct golden *g, int call, const char *part, const char *name, int64_t row,
                        const float *got, int64_t unit, const uint8_t *keep)
{
    const struct pcv_tensor *t = vector(g, call, part, name);
    float *all, *want;
    double most;
    int64_t n;

    if (!t)
        return;
    g->compared++;
    n = pcv_shape_count(t->shape + 1, t->ndim - 1);
    all = malloc(t->nbytes);
    want = all + row * n;
    assert_non_null(all);
    assert_int_equal(t->dtype, PCV_F32);
    pcv_tensor_to_f32(t, 0, n * t->shape[0], all);
    most = largest(all, (size_t)(n * t->shape[0]));
    for (int64_t i = 0, at = 0; i < n; i++) {
        if (keep && !keep[i / unit])
            continue;
        if (!(fabs((double)got[at] - want[i]) <= 1e-4 * most))
            fail_msg("%s, %s: call %d %s, row %d element %d is %.9g, want %.9g (largest %.3g)",
                     g->name, g->way, call, name, (int)row, (int)i, got[at], want[i], most);
        at++;
    }
    free(all);
}

/* ---- one call
 * ------------------------------------------------------------------------------------ */

static int call_tensors(const struct golden *g, int call, struct pcv_tensor *t)
{
    int n = 0;

    for (int i = 0; i < g->m->info.ntensors; i++) {
        const struct pcv_tensor *v = vector(g, call, "in", g->m->tensors[i].name);

        if (!v)
            continue;
        assert_true(n < MOST_TENSORS);
        t[n] = *v;
        t[n++].name = g->m->tensors[i].name;
    }
    return n;
}

/* The mask of a row as bytes, or NULL. own: free */
static uint8_t *mask_of(const struct golden *g, int call, int64_t row)
{
    const struct pcv_tensor *t = vector(g, call, "in", "attention_mask");
    uint8_t *keep;
    int64_t n;

    t = t ? t : vector(g, call, "in", "mask");
    if (!t)
        return NULL;
    n = pcv_shape_count(t->shape + 1, t->ndim - 1);
    keep = malloc((size_t)n);
    assert_non_null(keep);
    for (int64_t i = 0; i < n; i++) {
        float v;

        pcv_tensor_to_f32(t, row * n + i, 1, &v);
        keep[i] = v != 0;
    }
    return keep;
}

static void check_adapted(struct golden *g, int call, int64_t row, const struct pcv_input *in)
{
    const int64_t channels = pcv_input_channels(in);
    float *x = malloc((size_t)(pcv_input_tokens(in) * channels) * sizeof(*x));
    uint8_t *keep = mask_of(g, call, row);

    assert_non_null(x);
    CHECK_OK(pcv_input_dense(in, x, &e), e);
    check_stage(g, call, "stage", "adapted_inputs", row, x, channels, keep);
    free(keep);
    free(x);
}

/* An item that asks every task of the model for the rows the call names. own: close_item */
struct item {
    struct pcv_input *in;
    struct pcv_query queries[PCV_MAX_TASKS];
    int32_t *rows[PCV_MAX_TASKS];
};

static struct pcv_item open_item(const struct golden *g, const struct pcv_tensor *t, int n,
                                 int64_t row, struct item *it)
{
    const struct pcv_model_info *info = pcv_model_info(g->m);
    const size_t width = (size_t)info->num_latents * (size_t)info->d_latents;
    struct pcv_item ret = {.queries = it->queries,
                           .nqueries = info->ntasks,
                           .encoded = malloc(width * sizeof(float)),
                           .latents = malloc(width * sizeof(float))};

    CHECK_OK(pcv_input_from_tensors(&it->in, g->m, t, n, row, &e), e);
    for (int i = 0; i < info->ntasks; i++) {
        struct pcv_query *q = &it->queries[i];

        q->task = i;
        CHECK_OK(pcv_query_rows_from_tensors(g->m, i, t, n, &it->rows[i], &q->nrows, &e), e);
        q->rows = it->rows[i];
        if (!q->rows)
            q->nrows = pcv_query_rows_all(g->m, i, it->in);
        CHECK_OK(pcv_query_check(g->m, it->in, q, &e), e);
        q->logits = malloc((size_t)q->nrows * (size_t)info->tasks[i].width * sizeof(float));
        assert_non_null(q->logits);
    }
    ret.input = it->in;
    assert_true(ret.encoded && ret.latents);
    return ret;
}

static void close_item(const struct golden *g, struct item *it, struct pcv_item *item)
{
    for (int i = 0; i < pcv_model_info(g->m)->ntasks; i++) {
        free(it->queries[i].logits);
        free(it->rows[i]);
    }
    free(item->encoded);
    free(item->latents);
    pcv_input_free(it->in);
}

static void check_call(struct golden *g, int call)
{
    const struct pcv_model_info *info = pcv_model_info(g->m);
    struct pcv_tensor t[MOST_TENSORS];
    const int n = call_tensors(g, call, t);
    const int64_t batch = pcv_tensors_batch(g->m, t, n, &e);
    struct pcv_item items[MOST_BATCH] = {0};
    struct item its[MOST_BATCH] = {0};

    assert_in_range(batch, 1, MOST_BATCH);
    g->compared = 0;
    for (int64_t i = 0; i < batch; i++) {
        items[i] = open_item(g, t, n, i, &its[i]);
        check_adapted(g, call, i, its[i].in);
    }
    CHECK_OK(pcv_forward(g->m, g->ws, items, (int)batch, NULL, &e), e);
    for (int64_t i = 0; i < batch; i++) {
        check_stage(g, call, "stage", "latents_after_encode", i, items[i].encoded, 1, NULL);
        check_stage(g, call, "stage", "latents_after_process", i, items[i].latents, 1, NULL);
        for (int j = 0; j < info->ntasks; j++)
            check_stage(g, call, "out", info->tasks[j].output.name, i, its[i].queries[j].logits, 1,
                        NULL);
        close_item(g, &its[i], &items[i]);
    }
    assert_true(g->compared >= 2 * batch);
}

/* ---- ways
 * ---------------------------------------------------------------------------------------- */

static void open_case(struct golden *g, const char *name, int threads)
{
    char path[128];

    *g = (struct golden){.name = name};
    CHECK_OK(pcv_pool_new(&g->pool, threads, &e), e);
    snprintf(path, sizeof(path), "tests/golden/%s/vectors.safetensors", name);
    CHECK_OK(pcv_safetensors_open(&g->vectors, path, &e), e);
    snprintf(path, sizeof(path), "build/golden/%s", name);
    if (pcv_model_open(&g->m, path, g->pool, &e) < 0)
        fail_msg("%s: %s (`make golden` makes the models; tests run in the repository's root)",
                 e.where, e.msg);
    CHECK_OK(pcv_ws_new(&g->ws, g->pool, &e), e);
}

static void close_case(struct golden *g)
{
    pcv_ws_free(g->ws);
    pcv_model_close(g->m);
    pcv_safetensors_close(g->vectors);
    pcv_pool_free(g->pool);
    free(g->u);
}

static void check_case(struct golden *g, const char *way, int flags)
{
    int call = 0;

    g->way = way;
    CHECK_OK(pcv_ws_reserve(g->ws, g->m, MOST_BATCH, flags, &e), e);
    for (; vector(g, call, "stage", "latents_after_process"); call++)
        check_call(g, call);
    assert_true(
        call >=
        (strcmp(g->name, "dm-image-fourier") && strcmp(g->name, "dm-optical-flow") ? 2 : 1));
}

/* Text's tables, absorbed as other inputs are. */
static void force_factored(struct golden *g)
{
    struct pcv_encoder *enc = &g->m->plan.encoder[0];
    const struct pcv_layer_dims *d = &enc->layer->d;
    const size_t step = (size_t)(enc->num_latents * d->kv_dim);

    assert_int_equal(enc->mode, PCV_ENCODE_TABLES);
    g->u = malloc((size_t)d->heads * step * sizeof(*g->u));
    assert_non_null(g->u);
    pcv_encode_absorb(enc->layer, g->m->plan.k, enc->q, enc->num_latents, g->u, step);
    enc->u = g->u;
    enc->mode = PCV_ENCODE_FACTORED;
}

static void use_scalar(struct golden *g)
{
    pcv_plan_clear(&g->m->plan);
    CHECK_OK(pcv_plan_make(&g->m->plan, &g->m->bp, &pcv_kernels_scalar, g->pool, &e), e);
}

static void every_stage_matches(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(cases); c++)
        for (int threads = 1; threads <= 3; threads++) {
            struct golden g;

            open_case(&g, cases[c], threads);
            check_case(&g, "default", 0);
            check_case(&g, "dense", PCV_WS_DENSE);
            if (g.m->plan.encoder[0].mode == PCV_ENCODE_TABLES) {
                force_factored(&g);
                check_case(&g, "factored", 0);
            }
            use_scalar(&g);
            check_case(&g, "scalar", 0);
            check_case(&g, "scalar, dense", PCV_WS_DENSE);
            close_case(&g);
        }
}

/* What "default" means above. */
static void text_goes_through_tables(void **state)
{
    (void)state;
    for (size_t c = 0; c < LEN(cases); c++) {
        struct golden g;

        open_case(&g, cases[c], 1);
        assert_int_equal(g.m->plan.encoder[0].mode, g.m->bp.input[0].kind == PCV_INPUT_TEXT
                                                        ? PCV_ENCODE_TABLES
                                                        : PCV_ENCODE_FACTORED);
        close_case(&g);
    }
}

/* Padding the vectors' text, and leaving it away: the same bits in latents and in the rows that
 * both have. */
static void padding_changes_no_bit(void **state)
{
    struct golden g;

    (void)state;
    open_case(&g, "hf-masked-lm", 2);
    CHECK_OK(pcv_ws_reserve(g.ws, g.m, 2, 0, &e), e);
    for (int call = 1; call <= 2; call++) {
        const size_t width = (size_t)(g.m->bp.num_latents * g.m->bp.d_latents), vocab = 262;
        struct pcv_tensor t[MOST_TENSORS], few;
        const int n = call_tensors(&g, call, t);
        uint8_t *keep = mask_of(&g, call, 0);
        float *latents = malloc(2 * width * sizeof(*latents));
        float *logits = malloc(2 * 64 * vocab * sizeof(*logits));
        struct pcv_input *in[2];
        struct pcv_query q[2] = {0};
        struct pcv_item items[2];
        int32_t rows[64];
        int kept = 0;

        assert_true(latents && logits);
        for (; kept < 64 && keep[kept]; kept++)
            rows[kept] = kept;
        assert_in_range(kept, 1, 63);
        few = *vector(&g, call, "in", "inputs");
        few.name = "inputs";
        few.shape[1] = kept;
        few.nbytes = (size_t)kept * 8;
        CHECK_OK(pcv_input_from_tensors(&in[0], g.m, t, n, 0, &e), e);
        CHECK_OK(pcv_input_from_tensors(&in[1], g.m, &few, 1, 0, &e), e);
        assert_int_equal(pcv_input_tokens(in[0]), kept);
        for (int i = 0; i < 2; i++) {
            q[i] = (struct pcv_query){
                .rows = rows, .nrows = kept, .logits = logits + i * 64 * (int)vocab};
            items[i] = (struct pcv_item){
                .input = in[i], .queries = &q[i], .nqueries = 1, .latents = latents + i * width};
            CHECK_OK(pcv_forward(g.m, g.ws, &items[i], 1, NULL, &e), e);
        }
        CHECK_BITS(latents, latents + width, width);
        CHECK_BITS(logits, logits + 64 * vocab, (size_t)kept * vocab);
        pcv_input_free(in[0]);
        pcv_input_free(in[1]);
        free(keep);
        free(latents);
        free(logits);
    }
    close_case(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stage_matches),
        cmocka_unit_test(text_goes_through_tables),
        cmocka_unit_test(padding_changes_no_bit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
