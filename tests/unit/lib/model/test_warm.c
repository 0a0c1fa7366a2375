/* A forward that has run before allocates nothing and takes no page fault, alone and in a batch,
 * with all query rows and with few, on one thread and on two. The program has its own malloc to
 * count with, which a sanitizer would not let it have. */
#include "lib/model/ws.h"
#include "tests/unit/lib/model/scene.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

/* The first runs may fault; of the later ones, one that does not is enough: the system may move
 * pages of its own accord. */
enum { COLD_RUNS = 2, WARM_RUNS = 6 };

static atomic_long calls; /* of the functions below */

#if OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

/* Seen by the libraries too. */
#pragma GCC visibility push(default)

void *malloc(size_t size)
{
    calls++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    calls++;
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    calls++;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    calls++;
    return __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size)
{
    calls++;
    return __libc_memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
    calls++;
    *ret = __libc_memalign(align, size);
    return *ret ? 0 : ENOMEM;
}

void free(void *p)
{
    calls++;
    __libc_free(p);
}

#pragma GCC visibility pop
#endif

static long faults(void)
{
    struct rusage u;

    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_minflt + u.ru_majflt;
}

static struct pcv_err e;

static void check_warm(const struct scene *s, struct pcv_item *items, int n, const char *what)
{
    long fewest = LONG_MAX;

    for (int run = 0; run < COLD_RUNS + WARM_RUNS && fewest > 0; run++) {
        const long before_calls = calls, before = faults();
        const int r = pcv_forward(s->m, s->ws, items, n, NULL, &e);
        const long took = faults() - before, called = calls - before_calls;

        CHECK_OK(r, e);
        if (run < COLD_RUNS)
            continue;
        if (called)
            fail_msg("%s, %s: %ld calls of malloc, free and their like", s->m->bp.architecture,
                     what, called);
        fewest = took < fewest ? took : fewest;
    }
    if (fewest)
        fail_msg("%s, %s: %ld page faults", s->m->bp.architecture, what, fewest);
}

/* The first row of every task that answers the item. */
static int few_queries(const struct scene *s, int item, struct pcv_query *q)
{
    static const int32_t first;
    int n = 0;

    for (int task = 0; task < s->m->bp.ntasks; task++) {
        q[n] = (struct pcv_query){.task = task, .nrows = 1, .rows = &first};
        if (pcv_query_check(s->m, s->in[item], &q[n], &e) == 0)
            n++;
    }
    return n;
}

static void give_room(const struct scene *s, struct pcv_query *q, int n)
{
    for (int i = 0; i < n; i++)
        q[i].logits = answer_room((size_t)q[i].nrows * (size_t)s->m->bp.task[q[i].task].width);
}

static void drop_room(struct pcv_query *q, int n)
{
    for (int i = 0; i < n; i++)
        free(q[i].logits);
}

static void check_scene(struct scene *s)
{
    struct pcv_item items[SCENE_ITEMS], few;
    struct pcv_query q[PCV_MAX_TASKS];

    for (int i = 0; i < SCENE_ITEMS; i++) {
        items[i] = (struct pcv_item){.input = s->in[i], .queries = s->q[i], .nqueries = s->nq[i]};
        give_room(s, s->q[i], s->nq[i]);
    }
    few = (struct pcv_item){.input = s->in[0], .queries = q};
    few.nqueries = few_queries(s, 0, q);
    give_room(s, q, few.nqueries);
    check_warm(s, items, 1, "one item");
    check_warm(s, items, SCENE_ITEMS, "a batch");
    check_warm(s, &few, 1, "a few queries");
    drop_room(q, few.nqueries);
    for (int i = 0; i < SCENE_ITEMS; i++)
        drop_room(s->q[i], s->nq[i]);
}

/* Latents as they are kept: answered again and again. */
static void check_kept(struct scene *s)
{
    struct pcv_query q[PCV_MAX_TASKS];
    struct pcv_item item = {.input = s->in[0], .queries = q};
    struct pcv_latents *kept;

    CHECK_OK(pcv_latents_new(&kept, s->m, 0, &e), e);
    item.kept = kept;
    item.nqueries = few_queries(s, 0, q);
    give_room(s, q, item.nqueries);
    check_warm(s, &item, 1, "kept latents");
    drop_room(q, item.nqueries);
    pcv_latents_free(kept);
}

static void check_models(int threads)
{
    static const char *const golden[] = {"hf-multimodal-autoencoding", "hf-optical-flow",
                                         "hf-image-conv", "lucidrains-perceiver-tied"};
    struct tiny wide = tiny_masked_lm; /* its products are OpenBLAS's */
    const struct tiny *const tinies[] = {&tiny_masked_lm, &tiny_text_classifier, &tiny_fourier,
                                         &tiny_learned, &wide};
    struct scene s;
    char dir[64];

    if (!OWN_MALLOC)
        skip();
    wide.d = wide.qk = wide.v = 272;
    wide.d_model = 280;
    for (size_t i = 0; i < LEN(tinies) + LEN(golden); i++) {
        snprintf(dir, sizeof(dir), "build/golden/%s", i < LEN(golden) ? golden[i] : "");
        scene_open(&s, i < LEN(golden) ? dir : tiny_model(tinies[i - LEN(golden)]), threads, 0);
        check_scene(&s);
        check_kept(&s);
        scene_close(&s);
    }
}

static void on_one_thread(void **state)
{
    (void)state;
    check_models(1);
}

static void on_two_threads(void **state)
{
    (void)state;
    check_models(2);
}

/* As if the workspace had just come from the system, in pages of the usual size: malloc may hand
 * out pages that were used, and one fault on a huge page would bring in all of it. */
static void give_back(const struct pcv_ws *ws)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)ws->arena + page - 1) & ~(page - 1);
    const uintptr_t to = ((uintptr_t)ws->arena + pcv_ws_bytes(ws)) & ~(page - 1);

    (void)madvise((void *)from, to - from, MADV_NOHUGEPAGE); /* refused where there are none */
    assert_int_equal(madvise((void *)from, to - from, MADV_DONTNEED), 0);
}

/* A workspace that has been touched is all there: the first batch of its size faults as little as
 * the second. */
static void touched_before_the_first_batch(void **state)
{
    struct tiny text = tiny_masked_lm;
    struct pcv_item items[SCENE_ITEMS];
    long first[2];
    struct scene s;

    (void)state;
    if (!OWN_MALLOC)
        skip();
    text.latents = 256;
    scene_open(&s, tiny_model(&text), 2, 0);
    for (int i = 0; i < SCENE_ITEMS; i++)
        items[i] = (struct pcv_item){.input = s.in[i]};
    CHECK_OK(pcv_forward(s.m, s.ws, items, SCENE_ITEMS, NULL, &e), e);
    for (int touched = 0; touched < 2; touched++) {
        give_back(s.ws);
        if (touched)
            pcv_ws_touch(s.ws);
        first[touched] = faults();
        CHECK_OK(pcv_forward(s.m, s.ws, items, SCENE_ITEMS, NULL, &e), e);
        first[touched] = faults() - first[touched];
    }
    scene_close(&s);
    if (first[0] <= 50 || first[1] > 2)
        fail_msg("%ld page faults untouched, %ld touched", first[0], first[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_one_thread),
        cmocka_unit_test(on_two_threads),
        cmocka_unit_test(touched_before_the_first_batch),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
