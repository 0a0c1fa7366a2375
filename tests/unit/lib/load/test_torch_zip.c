/* Zip files are written byte by byte, see files.h, the hostile ones too. */
#include "lib/load/torch_zip.h"

#include "tests/unit/lib/load/files.h"

static const char *const path_name = "a.bin";

static void refused(int code, const char *in_where, const char *words)
{
    struct pcv_torch_zip *z = (void *)0x1;
    struct pcv_err e = {0};

    CHECK_FAILS(pcv_torch_zip_open(&z, in_folder(path_name), &e), e, code, in_where, words);
    assert_ptr_equal(z, (void *)0x1);
}

static struct pcv_torch_zip *opened(void)
{
    struct pcv_torch_zip *z = NULL;
    struct pcv_err e = {0};

    CHECK_OK(pcv_torch_zip_open(&z, in_folder(path_name), &e), e);
    return z;
}

/* 200,000 bytes that zlib cannot make much smaller. own: free */
static char *noise(size_t n)
{
    uint64_t state = 1;
    char *p = malloc(n);

    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)random_u64(&state);
    return p;
}

static bool in_map(const struct pcv_torch_zip *z, const char *p)
{
    size_t size;
    const char *map = pcv_torch_zip_map(z, &size);

    return p >= map && p < map + size;
}

static void stored_entries_are_the_file_itself(void **state)
{
    enum { N = 200000 };
    char *big = noise(N);
    const struct zip_entry e[] = {{.name = "m/data.pkl", .data = "abc", .n = 3},
                                  {.name = "m/data/1", .data = big, .n = N},
                                  {.name = "m/data/0", .data = "12345678", .n = 8},
                                  {.name = "m/empty", .data = "", .n = 0}};
    struct pcv_torch_zip *z;
    struct pcv_err err = {0};
    const char *p, *again;

    (void)state;
    write_zip(path_name, e, LEN(e));
    z = opened();
    assert_int_equal(pcv_torch_zip_count(z), 4);
    assert_string_equal(pcv_torch_zip_name(z, 0), "m/data.pkl");
    assert_string_equal(pcv_torch_zip_name(z, 1), "m/data/0");
    assert_int_equal(pcv_torch_zip_find(z, "m/data/1"), 2);
    assert_int_equal(pcv_torch_zip_find(z, "m/data/2"), -1);
    assert_int_equal(pcv_torch_zip_size(z, 2), N);
    CHECK_OK(pcv_torch_zip_read(z, 2, &p, &err), err);
    assert_memory_equal(p, big, N);
    assert_true(in_map(z, p));
    assert_int_equal((uintptr_t)p % 64, 0);
    CHECK_OK(pcv_torch_zip_read(z, 1, &p, &err), err);
    assert_memory_equal(p, "12345678", 8);
    assert_true(in_map(z, p));
    CHECK_OK(pcv_torch_zip_read(z, 3, &p, &err), err);
    pcv_torch_zip_finish(z);
    CHECK_OK(pcv_torch_zip_read(z, 1, &again, &err), err); /* what was read stays */
    assert_memory_equal(again, "12345678", 8);
    assert_string_equal(pcv_torch_zip_name(z, 2), "m/data/1");
    CHECK_FAILS(pcv_torch_zip_read(z, 0, &p, &err), err, PCV_EIO, "m/data.pkl", "let go");
    assert_int_equal(pcv_torch_zip_owned(z), 0);
    pcv_torch_zip_close(z);
    free(big);
}

static void deflated_entries_are_read_into_memory(void **state)
{
    enum { N = 150000 };
    char *data = noise(N);
    const struct zip_entry e[] = {{.name = "a", .data = data, .n = N, .deflate = true},
                                  {.name = "b", .data = data, .n = 100}};
    struct pcv_torch_zip *z;
    struct pcv_err err = {0};
    const char *p;

    (void)state;
    for (int i = 0; i < N; i += 2)
        data[i] = 0;
    write_zip(path_name, e, LEN(e));
    z = opened();
    CHECK_OK(pcv_torch_zip_read(z, 0, &p, &err), err);
    assert_memory_equal(p, data, N);
    assert_false(in_map(z, p));
    assert_int_equal(pcv_torch_zip_owned(z), N);
    CHECK_OK(pcv_torch_zip_read(z, 1, &p, &err), err);
    assert_memory_equal(p, data, 100);
    assert_true(in_map(z, p)); /* found behind the deflated one */
    pcv_torch_zip_close(z);
    free(data);
}

/* The directory names the entries in another order than they lie: place is not guessed. */
static void entries_in_another_order_are_read_too(void **state)
{
    const struct zip_entry e[] = {{.name = "a", .data = "first", .n = 5, .unaligned = true},
                                  {.name = "b", .data = "other", .n = 5, .unaligned = true}};
    struct bytes b = zip_bytes(e, LEN(e));
    unsigned char swapped[2][47];
    struct pcv_torch_zip *z;
    struct pcv_err err = {0};
    const char *p;

    (void)state;
    memcpy(swapped[0], b.p + b.n - 22 - 47, 47);
    memcpy(swapped[1], b.p + b.n - 22 - 94, 47);
    memcpy(b.p + b.n - 22 - 94, swapped, sizeof(swapped));
    write_file(path_name, b.p, b.n);
    z = opened();
    CHECK_OK(pcv_torch_zip_read(z, 0, &p, &err), err);
    assert_memory_equal(p, "first", 5);
    CHECK_OK(pcv_torch_zip_read(z, 1, &p, &err), err);
    assert_memory_equal(p, "other", 5);
    pcv_torch_zip_close(z);
    drop(&b);
}

/* ---- lies --------------------------------------------------------------------------------- */

/* Refused on opening, or when the entry is read: never delivered. Where the directory is true and
 * the entry's own header is not, the truth may be. */
static void never_delivered(const struct zip_entry *e, int n)
{
    struct pcv_torch_zip *z = NULL;
    struct pcv_err err = {0};
    const char *p = NULL;
    int r;

    write_zip(path_name, e, n);
    r = pcv_torch_zip_open(&z, in_folder(path_name), &err);
    if (r == 0) {
        assert_int_equal(pcv_torch_zip_find(z, e->name), 0);
        r = pcv_torch_zip_read(z, 0, &p, &err);
        if (r == 0) {
            assert_true(e->lie_locally && pcv_torch_zip_size(z, 0) == e->n);
            assert_memory_equal(p, e->data, e->n);
        } else {
            assert_non_null(strstr(err.where, e->name));
        }
    }
    assert_true(r == 0 || (err.code == r && err.msg[0]));
    pcv_torch_zip_close(z);
}

static void refuses_entries_that_lie(void **state)
{
    static const struct zip_entry lies[] = {
        {.name = "a", .more = 1},
        {.name = "a", .more = -1},
        {.name = "a", .more_packed = 1},
        {.name = "a", .more = 1, .more_packed = 1},
        {.name = "a", .more = -1, .more_packed = -1},
        {.name = "a", .more = 100000, .more_packed = 100000},
        {.name = "a", .more = 0xfffffff0 - 8, .more_packed = 0xfffffff0 - 8},
        {.name = "a", .bad_sum = 1},
        {.name = "a", .more = 1, .lie_locally = true},
        {.name = "a", .more = 1, .more_packed = 1, .lie_locally = true},
        {.name = "a", .bad_sum = 1, .lie_locally = true},
        {.name = "a", .method = 8, .lie_locally = true},
        {.name = "a", .more = 1, .deflate = true},
        {.name = "a", .more = -1, .deflate = true},
        {.name = "a", .more = 40, .deflate = true},
        {.name = "a", .more_packed = -4, .deflate = true},
        {.name = "a", .bad_sum = 1, .deflate = true},
        {.name = "a", .method = 8},
    };

    (void)state;
    for (size_t i = 0; i < LEN(lies); i++) {
        struct zip_entry e[] = {lies[i], {.name = "b", .data = "behind", .n = 6}};

        e[0].data = "eight...";
        e[0].n = 8;
        never_delivered(e, LEN(e));
    }
}

static void refuses_what_torch_does_not_write(void **state)
{
    struct zip_entry e[] = {{.name = "m/a", .data = "12345678", .n = 8},
                            {.name = "m/b", .data = "12345678", .n = 8}};

    (void)state;
    e[1].flags = 1;
    write_zip(path_name, e, 2);
    refused(PCV_EUNSUPPORTED, "m/b", "encrypted");
    e[1].flags = 0;
    e[1].method = 12;
    write_zip(path_name, e, 2);
    refused(PCV_EUNSUPPORTED, "m/b", "method 12");
    e[1].method = 0;
    e[1].name = "m/a";
    write_zip(path_name, e, 2);
    refused(PCV_EFORMAT, "", "");
    e[1].name = "m/\033[0m";
    write_zip(path_name, e, 2);
    refused(PCV_EFORMAT, "", "control character 0x1b");
    e[1].name = "";
    write_zip(path_name, e, 2);
    refused(PCV_EFORMAT, "", "a name of 0 bytes");
}

static void refuses_bombs(void **state)
{
    enum { N = 4 << 20, EACH = 60000, ENTRIES = 40 };
    char *zeros = calloc(1, N);
    char *thin = noise(EACH);
    struct zip_entry e[ENTRIES] = {{.name = "bomb", .data = zeros, .n = N, .deflate = true}};
    char names[ENTRIES][16];

    (void)state;
    assert_non_null(zeros);
    write_zip(path_name, e, 1);
    refused(PCV_ELIMIT, "bomb", "entry of 4194304 bytes is packed in 4");
    /* each of them packed less than 64 to 1, together more than 16 to 1 */
    memset(thin + 1400, 0, EACH - 1400);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(names[i], sizeof(names[i]), "%d", i);
        e[i] = (struct zip_entry){.name = names[i], .data = thin, .n = EACH, .deflate = true};
    }
    write_zip(path_name, e, ENTRIES);
    refused(PCV_ELIMIT, "", "more than 16 times");
    free(zeros);
    free(thin);
}

/* Two entries of the directory are one and the same in the file. */
static void refuses_entries_that_overlap(void **state)
{
    char *data = noise(500);
    const struct zip_entry e[] = {{.name = "a", .data = data, .n = 500},
                                  {.name = "b", .data = data, .n = 500}};
    struct bytes b = zip_bytes(e, LEN(e));

    (void)state;
    memset(b.p + b.n - 22 - 47 + 42, 0, 4); /* the second one's place: the first's */
    write_file(path_name, b.p, b.n);
    refused(PCV_EFORMAT, "", "");
    drop(&b);
    free(data);
}

static void refuses_every_cut_and_survives_every_change(void **state)
{
    const struct zip_entry e[] = {{.name = "m/data.pkl", .data = "\x80\2}.", .n = 4},
                                  {.name = "m/data/0", .data = "12345678", .n = 8}};
    struct bytes b = zip_bytes(e, LEN(e));

    (void)state;
    for (size_t n = 0; n < b.n; n++) {
        write_file(path_name, b.p, n);
        refused(PCV_EFORMAT, "", "");
    }
    for (size_t i = 0; i < b.n; i++) {
        struct pcv_torch_zip *z = NULL;
        struct pcv_err err = {0};
        const char *p;

        b.p[i] ^= 0xff;
        write_file(path_name, b.p, b.n);
        if (pcv_torch_zip_open(&z, in_folder(path_name), &err) == 0)
            for (int k = 0; k < pcv_torch_zip_count(z); k++)
                if (pcv_torch_zip_read(z, k, &p, &err) == 0 && pcv_torch_zip_size(z, k) == 8)
                    assert_memory_equal(p, "12345678", 8);
        pcv_torch_zip_close(z);
        b.p[i] ^= 0xff;
    }
    drop(&b);
}

static void refuses_what_is_no_zip(void **state)
{
    static const char legacy[] = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M";

    (void)state;
    refused(PCV_EIO, "", "cannot open");
    write_file(path_name, "", 0);
    refused(PCV_EFORMAT, "", "is empty");
    write_file(path_name, "not a zip file, and long enough to hold the end of one", 54);
    refused(PCV_EFORMAT, "", "not a sound zip file");
    write_file(path_name, legacy, sizeof(legacy) - 1);
    refused(PCV_EUNSUPPORTED, "", "before version 1.6");
    unlink(in_folder(path_name));
    assert_int_equal(mkfifo(in_folder(path_name), 0600), 0);
    refused(PCV_EIO, "", "not a regular file");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stored_entries_are_the_file_itself),
        TEST(deflated_entries_are_read_into_memory),
        TEST(entries_in_another_order_are_read_too),
        TEST(refuses_entries_that_lie),
        TEST(refuses_what_torch_does_not_write),
        TEST(refuses_bombs),
        TEST(refuses_entries_that_overlap),
        TEST(refuses_every_cut_and_survives_every_change),
        TEST(refuses_what_is_no_zip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
