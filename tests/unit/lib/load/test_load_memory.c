/* Every allocation of every reader of weights fails once, those of libzip and jansson too: each
 * time the call says so and leaves its output alone, and what is ours is given back. The program
 * has its own malloc for that, which a sanitizer would not let it have. */
#include "lib/load/weights.h"

#include "lib/load/safetensors.h"
#include "tests/unit/lib/load/files.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

static volatile long countdown = -1; /* allocations until one fails; -1: none does */
static volatile long balance;        /* allocated and not yet freed */

#if OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

/* libc and libzip take these too. */
#pragma GCC visibility push(default)

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

static void *counted(void *p)
{
    balance += p != NULL;
    return p;
}

void *malloc(size_t size)
{
    if (!fails())
        return counted(__libc_malloc(size));
    errno = ENOMEM;
    return NULL;
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(n, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
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

static struct pcv_err e;

/* Opens the folder's weights and binds all that are matrices, turned. */
static int open_and_bind(void)
{
    struct pcv_weights *w = NULL;
    int r = pcv_weights_open(&w, folder, &e);

    assert_int_equal(r == 0, w != NULL);
    for (int i = 0; r == 0 && i < pcv_weights_count(w); i++) {
        const struct pcv_tensor *t = pcv_weights_at(w, i);
        const int64_t shape[] = {t->shape[1], t->shape[0]};
        const float *x;

        if (t->ndim == 2)
            r = pcv_weights_bind_transposed(w, &x, shape, &e, "%s", t->name);
    }
    pcv_weights_close(w);
    return r;
}

/* foreign: libzip and jansson call some of their failures a bad file, and libzip does not give
 * everything back then. libc keeps some of what its first use took. */
static void every_failure_is_named(bool foreign)
{
    long before;
    int r = -1, n = 0;

    if (!OWN_MALLOC)
        skip();
    CHECK_OK(open_and_bind(), e);
    before = balance;
    for (; r < 0; n++) {
        assert_in_range(n, 0, 20000);
        e = (struct pcv_err){0};
        countdown = n;
        r = open_and_bind();
        if (countdown >= 0)
            break; /* none was left to fail */
        if (r == PCV_EFORMAT && foreign)
            e.code = r = PCV_ENOMEM;
        if (r < 0 && (r != PCV_ENOMEM || e.code != r || !e.msg[0]))
            fail_msg("allocation %d failed: %s at \"%s\": %s", n, pcv_code_name(r), e.where, e.msg);
        if (!foreign)
            assert_int_equal(balance, before);
        r = -1;
    }
    countdown = -1;
    assert_int_equal(r, 0);
    assert_in_range(n, 10, 20000);
}

static void copy_file(const char *from, const char *name)
{
    struct bytes b = read_file(from);

    write_file(name, b.p, b.n);
    drop(&b);
}

static void in_torch(void **state)
{
    (void)state;
    copy_file("tests/golden/hf-masked-lm/pytorch_model.bin", "pytorch_model.bin");
    every_failure_is_named(true);
}

static void in_haiku(void **state)
{
    (void)state;
    copy_file("tests/golden/dm-masked-lm/language_perceiver_io_bytes.pickle", "a.pickle");
    every_failure_is_named(false);
}

/* Deflated, and in Fortran's order. */
static void in_copies(void **state)
{
    static const char pickle[] = "\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n"
                                 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                                 "0X\3\0\0\0cpuK\x0ctQK\0(K\4K\3t(K\1K\4t\x89)tRs.";
    static const float numbers[12];
    const struct zip_entry entries[] = {
        {.name = "m/data.pkl", .data = pickle, .n = sizeof(pickle) - 1, .deflate = true},
        {.name = "m/data/0", .data = numbers, .n = sizeof(numbers), .deflate = true}};

    (void)state;
    write_zip("pytorch_model.bin", entries, 2);
    every_failure_is_named(true);
}

static void in_shards(void **state)
{
    static const float numbers[4];
    struct pcv_tensor t = {.name = "a",
                           .dtype = PCV_F32,
                           .ndim = 2,
                           .shape = {2, 2},
                           .data = numbers,
                           .nbytes = sizeof(numbers)};
    static const char index[] = "{\"weight_map\": {\"a\": \"s1\", \"b\": \"s2\"}}";

    (void)state;
    CHECK_OK(pcv_safetensors_write(in_folder("s1"), &t, 1, &e), e);
    t.name = "b";
    CHECK_OK(pcv_safetensors_write(in_folder("s2"), &t, 1, &e), e);
    write_file("model.safetensors.index.json", index, sizeof(index) - 1);
    every_failure_is_named(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(in_torch), TEST(in_haiku), TEST(in_copies),
                                       TEST(in_shards)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
