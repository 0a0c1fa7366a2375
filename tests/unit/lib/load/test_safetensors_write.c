/* Writing, read back; and what is left when writing fails. */
#include "lib/load/safetensors.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_safetensors_write.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/t.safetensors", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir); /* fails when a temporary file was left behind */
}

static void put_bytes(const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct pcv_safetensors *opened(void)
{
    struct pcv_safetensors *f = NULL;
    struct pcv_err e = {0};

    if (pcv_safetensors_open(&f, path, &e) < 0)
        fail_msg("%s: %s", e.where, e.msg);
    return f;
}

/* Thousands of names in no order: each is found, and nothing else is. */
static void finds_among_many(void **state)
{
    enum { N = 5000 };
    static uint8_t data[N];
    static char names[N][24];
    static struct pcv_tensor t[N];
    struct pcv_safetensors *f;

    (void)state;
    for (int i = 0; i < N; i++) {
        data[i] = (uint8_t)(i * 7);
        snprintf(names[i], sizeof(names[i]), "layer.%d.weight", i * 7919 % N);
        t[i] = (struct pcv_tensor){names[i], PCV_U8, 1, {1}, &data[i], 1};
    }
    assert_int_equal(pcv_safetensors_write(path, t, N, NULL), 0);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(pcv_safetensors_at(f, i)->name, names[i]);
        assert_ptr_equal(pcv_safetensors_find(f, names[i]), pcv_safetensors_at(f, i));
        assert_int_equal(*(const uint8_t *)pcv_safetensors_at(f, i)->data, data[i]);
    }
    assert_null(pcv_safetensors_find(f, "layer.5000.weight"));
    pcv_safetensors_close(f);
}

static void round_trip(void **state)
{
    static const float f32[6] = {0.0f, -1.5f, 3e38f, 1e-45f, 0.1f, -0.0f};
    static const int64_t i64[1] = {-9007199254740993};
    static const uint8_t u8[3] = {0, 127, 255};
    const struct pcv_tensor t[] = {
        {"logits", PCV_F32, 2, {2, 3}, f32, sizeof(f32)},
        {"unaligned after me", PCV_U8, 1, {3}, u8, sizeof(u8)},
        {"\"quoted\\\" \xc3\xa9", PCV_I64, 0, {0}, i64, sizeof(i64)},
        {"empty", PCV_BF16, 3, {4, 0, 2}, NULL, 0},
    };
    struct pcv_safetensors *f;
    struct pcv_err e = {0};
    struct stat st;
    uint64_t header;
    FILE *raw;
    mode_t old;

    (void)state;
    put_bytes("what was there before", 21);
    old = umask(027);
    assert_int_equal(pcv_safetensors_write(path, t, 4, &e), 0);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), 4);
    assert_int_equal(pcv_safetensors_bytes(f), st.st_size);
    for (int i = 0; i < 4; i++) {
        const struct pcv_tensor *g = pcv_safetensors_find(f, t[i].name);

        assert_non_null(g);
        assert_int_equal(g->dtype, t[i].dtype);
        assert_int_equal(g->ndim, t[i].ndim);
        assert_memory_equal(g->shape, t[i].shape, sizeof(int64_t) * (size_t)t[i].ndim);
        assert_int_equal(g->nbytes, t[i].nbytes);
        if (g->nbytes)
            assert_memory_equal(g->data, t[i].data, g->nbytes);
    }
    assert_string_equal(pcv_safetensors_at(f, 0)->name, "logits");
    assert_string_equal(pcv_safetensors_at(f, 1)->name, "unaligned after me");
    pcv_safetensors_close(f);
    raw = fopen(path, "rb");
    assert_int_equal(fread(&header, 8, 1, raw), 1);
    fclose(raw);
    assert_int_equal(header % 8, 0);
}

static void write_refuses(const struct pcv_tensor *t, int n, int code, const char *part)
{
    struct pcv_err e = {0};

    assert_int_equal(pcv_safetensors_write(path, t, n, &e), code);
    assert_int_equal(e.code, code);
    assert_memory_equal(e.where, path, strlen(path));
    if (!strstr(e.where, part) && !strstr(e.msg, part))
        fail_msg("\"%s\" is neither in \"%s\" nor in \"%s\"", part, e.where, e.msg);
    assert_int_equal(access(path, F_OK), -1);
}

static void writer_refuses_what_reader_would(void **state)
{
    static const uint8_t u8[4];
    struct pcv_tensor good = {"ten", PCV_U8, 1, {4}, u8, 4}, t[2] = {good, good};
    char name[514];

    (void)state;
    write_refuses(t, 2, PCV_EFORMAT, "twice");
    write_refuses(t, -1, PCV_ELIMIT, "-1 tensors");
    t[0] = good, t[0].nbytes = 3;
    write_refuses(t, 1, PCV_ESHAPE, ": ten");
    t[0] = good, t[0].shape[0] = -4;
    write_refuses(t, 1, PCV_ESHAPE, ": ten");
    t[0] = good, t[0].ndim = 9;
    write_refuses(t, 1, PCV_ESHAPE, ": ten");
    t[0] = good, t[0].data = NULL;
    write_refuses(t, 1, PCV_ESHAPE, ": ten");
    t[0] = good, t[0].dtype = PCV_DTYPES;
    write_refuses(t, 1, PCV_ESHAPE, ": ten");
    t[0] = good, t[0].name = NULL;
    write_refuses(t, 1, PCV_EFORMAT, "name");
    t[0].name = "__metadata__";
    write_refuses(t, 1, PCV_EFORMAT, "name");
    t[0].name = "a\nb";
    write_refuses(t, 1, PCV_EFORMAT, "control");
    t[0].name = "\xff";
    write_refuses(t, 1, PCV_EFORMAT, "UTF-8");
    memset(name, 'n', 513);
    name[513] = '\0';
    t[0].name = name;
    write_refuses(t, 1, PCV_EFORMAT, "name");
}

/* A failed write leaves the old file and nothing beside it (teardown's rmdir sees to that). */
static void failed_write_changes_nothing(void **state)
{
    static const uint8_t u8[4];
    const struct pcv_tensor t = {"ten", PCV_U8, 1, {4}, u8, 4};
    struct pcv_err e = {0};
    char full[160];

    (void)state;
    snprintf(full, sizeof(full), "%s/none/t.safetensors", dir);
    assert_int_equal(pcv_safetensors_write(full, &t, 1, &e), PCV_EIO);
    assert_int_equal(mkdir(path, 0700), 0); /* the rename onto a folder fails */
    assert_int_equal(pcv_safetensors_write(path, &t, 1, &e), PCV_EIO);
    assert_non_null(strstr(e.msg, "rename"));
    rmdir(path);
}

/* ---- memory
 * --------------------------------------------------------------------------------------- */

static int allocations_left;

static void *scarce(size_t n)
{
    return allocations_left-- > 0 ? malloc(n) : NULL;
}

/* Every allocation of the JSON library fails once, when reading and when writing. */
static void survives_lack_of_memory(void **state)
{
    static const uint8_t u8[4];
    const struct pcv_tensor t[] = {{"a", PCV_U8, 2, {2, 2}, u8, 4}, {"b", PCV_F32, 1, {1}, u8, 4}};
    struct pcv_safetensors *f = NULL;
    struct pcv_err e;
    int r = -1, no_memory = 0, k;

    (void)state;
    json_set_alloc_funcs(scarce, free);
    for (k = 0; r < 0; k++) {
        allocations_left = k;
        r = pcv_safetensors_write(path, t, 2, &e);
        assert_true(r == 0 || e.code == PCV_ENOMEM || e.code == PCV_EFORMAT);
        assert_true(r == 0 || access(path, F_OK) == -1);
    }
    assert_true(k > 10);
    r = -1;
    for (k = 0; r < 0; k++) {
        allocations_left = k;
        r = pcv_safetensors_open(&f, path, &e);
        assert_true(r == 0 || r == PCV_ENOMEM || r == PCV_EFORMAT);
        assert_true(r == 0 || f == NULL);
        no_memory += r == PCV_ENOMEM;
    }
    assert_true(k > 10 && no_memory > 10); /* jansson calls some of them syntax errors */
    json_set_alloc_funcs(malloc, free);
    pcv_safetensors_close(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(finds_among_many),
        TEST(round_trip),
        TEST(writer_refuses_what_reader_would),
        TEST(failed_write_changes_nothing),
        TEST(survives_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
