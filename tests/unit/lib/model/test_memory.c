/* Every allocation fails once: each time the call says PCV_ENOMEM (or does without: libc sometimes
 * can), leaves its outputs alone and keeps nothing. The program has its own malloc for that, which
 * a sanitizer would not let it have.
 *
 * jansson's own allocations do not fail: 2.14 loses the end of a key then, and goes on or aborts.
 */
#include "lib/model/model.h"

#include "tests/unit/native.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

static long countdown = -1; /* allocations until one fails; -1: none does */
static long balance;        /* allocated and not yet freed */

#if OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static bool fails(void)
{
    if (countdown < 0 || countdown-- > 0)
        return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    balance += p != NULL;
    return p;
}

/* Seen by the libraries too. */
#pragma GCC visibility push(default)

void *malloc(size_t size)
{
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(n, size));
}

void *aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : counted(__libc_memalign(align, size));
}

void *realloc(void *old, size_t size)
{
    void *p = fails() ? NULL : __libc_realloc(old, size);

    balance += p != NULL && old == NULL;
    return p;
}

void free(void *p)
{
    balance -= p != NULL;
    __libc_free(p);
}

#pragma GCC visibility pop
#endif

/* Allocations that never fail and are not counted. */
static void *quiet_malloc(size_t size)
{
#if OWN_MALLOC
    return __libc_malloc(size);
#else
    return malloc(size);
#endif
}

static void quiet_free(void *p)
{
#if OWN_MALLOC
    __libc_free(p);
#else
    free(p);
#endif
}

static struct pcv_err e;
static struct pcv_model *model;

typedef int (*call)(void);

/* Runs a call again and again, failing its first allocation, its second, ... until none is left. */
static void check_call(const char *name, call f)
{
    int r = f(); /* libraries take what they keep for good; and it works at all */

    if (r != 0)
        fail_msg("%s: failed with %s at \"%s\": %s", name, pcv_code_name(r), e.where, e.msg);
    for (long k = 0; OWN_MALLOC; k++) {
        const long held = balance;
        bool failed;

        e = (struct pcv_err){0};
        countdown = k;
        r = f();
        failed = countdown < 0;
        countdown = -1;
        if (r != 0 && (r != PCV_ENOMEM || e.code != PCV_ENOMEM || e.msg[0] == '\0'))
            fail_msg("%s: allocation %ld failed, and it said %s at \"%s\": %s", name, k,
                     pcv_code_name(r), e.where, e.msg);
        if (balance != held)
            fail_msg("%s: allocation %ld failed, and %ld blocks were lost", name, k,
                     balance - held);
        if (!failed) {
            assert_int_equal(r, 0);
            assert_true(k > 0);
            return;
        }
    }
}

static const char *dir;

static int open_model(void)
{
    struct pcv_model *m = NULL;
    const int r = pcv_model_open(&m, dir, NULL, &e);

    assert_int_equal(r == 0, m != NULL);
    pcv_model_close(m);
    return r;
}

static void opening(void **state)
{
    static const struct tiny *const tinies[] = {&tiny_masked_lm, &tiny_text_classifier,
                                                &tiny_learned};
    static const char *const golden[] = {
        "build/golden/hf-image-conv", "build/golden/hf-multimodal-autoencoding",
        "build/golden/lucidrains-perceiver-tied", "build/golden/lucidrains-perceiver-io"};

    (void)state;
    json_set_alloc_funcs(quiet_malloc, quiet_free);
    for (size_t i = 0; i < LEN(tinies) + LEN(golden); i++) {
        dir = i < LEN(tinies) ? tiny_model(tinies[i]) : golden[i - LEN(tinies)];
        check_call(i < LEN(tinies) ? tinies[i]->architecture : dir, open_model);
    }
}

static void opening_our_own(void **state)
{
    static const char *const texts[] = {native_separate, native_together};

    (void)state;
    for (size_t i = 0; i < LEN(texts); i++) {
        dir = native_model(texts[i]);
        check_call(i ? "together" : "separate", open_model);
    }
    unlink(tiny_path("perceiver.json"));
}

static int text_from_media(void)
{
    const struct pcv_media text = {.data = "a [MASK]", .len = 8};
    struct pcv_input *in = NULL;
    const int r = pcv_input_from_media(&in, model, &text, 1, &e);

    assert_int_equal(r == 0, in != NULL);
    pcv_input_free(in);
    return r;
}

static int text_from_tensors(void)
{
    static const int64_t ids[] = {4, 70, 80, 5}, keep[] = {1, 0, 1, 1};
    const struct pcv_tensor t[] = {
        {"inputs", PCV_I64, 2, {1, 4}, ids, sizeof(ids)},
        {"attention_mask", PCV_I64, 2, {1, 4}, keep, sizeof(keep)},
    };
    struct pcv_input *in = NULL;
    const int r = pcv_input_from_tensors(&in, model, t, 2, 0, &e);

    assert_int_equal(r == 0, in != NULL);
    pcv_input_free(in);
    return r;
}

static int tensor_alone(const struct pcv_tensor *t)
{
    struct pcv_input *in = NULL;
    const int r = pcv_input_from_tensors(&in, model, t, 1, 0, &e);

    assert_int_equal(r == 0, in != NULL);
    pcv_input_free(in);
    return r;
}

static int sound_from_tensors(void)
{
    static const float samples[300] = {0.5f, -0.5f, 0.25f};
    const struct pcv_tensor t = {"sound", PCV_F32, 2, {1, 300}, samples, sizeof(samples)};

    return tensor_alone(&t);
}

/* Smaller than the model's along both axes. */
static int array_from_tensors(void)
{
    static const float numbers[2 * 4 * 2] = {1, 2, 3};
    const struct pcv_tensor t = {"wind", PCV_F32, 4, {1, 2, 4, 2}, numbers, sizeof(numbers)};

    return tensor_alone(&t);
}

/* Workspaces: made, given room, used, the plain way too. */
static int forward(int flags)
{
    const struct pcv_media text = {.data = "a [MASK]", .len = 8};
    float logits[20 * 262];
    struct pcv_query q[6];
    struct pcv_item item = {.queries = q, .nqueries = LEN(q)};
    struct pcv_input *in = NULL;
    struct pcv_ws *ws = NULL;
    int r = pcv_input_from_media(&in, model, &text, 1, &e);

    for (size_t i = 0; i < LEN(q); i++) /* more than there was room for: it grows */
        q[i] = (struct pcv_query){.logits = logits};
    item.input = in;
    if (r == 0)
        r = pcv_ws_new(&ws, NULL, &e);
    if (r == 0)
        r = pcv_ws_reserve(ws, model, 1, flags, &e);
    if (r == 0)
        r = pcv_forward(model, ws, &item, 1, NULL, &e);
    pcv_ws_free(ws);
    pcv_input_free(in);
    return r;
}

static int forward_factored(void)
{
    return forward(0);
}

static int forward_dense(void)
{
    return forward(PCV_WS_DENSE);
}

static int make_pool(void)
{
    struct pcv_pool *p = NULL;
    const int r = pcv_pool_new(&p, 1, &e);

    assert_int_equal(r == 0, p != NULL);
    pcv_pool_free(p);
    return r;
}

static void using(void **state)
{
    (void)state;
    CHECK_OK(pcv_model_open(&model, tiny_model(&tiny_masked_lm), NULL, &e), e);
    check_call("text", text_from_media);
    check_call("token ids", text_from_tensors);
    check_call("forward", forward_factored);
    check_call("dense forward", forward_dense);
    check_call("pool", make_pool);
    pcv_model_close(model);
}

static void using_our_own(void **state)
{
    (void)state;
    CHECK_OK(pcv_model_open(&model, native_model(native_separate), NULL, &e), e);
    check_call("sound", sound_from_tensors);
    check_call("array", array_from_tensors);
    pcv_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),
        cmocka_unit_test(using),
        cmocka_unit_test(opening_our_own),
        cmocka_unit_test(using_our_own),
    };

    return cmocka_run_group_tests(tests, tiny_setup, native_teardown);
}
