/* Small models in every form, written here; see files.h. */
#include "lib/load/weights.h"

#include "lib/load/safetensors.h"
#include "tests/unit/lib/load/files.h"

#define SHAPE(...) (const int64_t[]){__VA_ARGS__}, (int)LEN(((const int64_t[]){__VA_ARGS__}))

static const float numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static struct pcv_tensor tensor(const char *name, int rows, int cols)
{
    return (struct pcv_tensor){.name = name,
                               .dtype = PCV_F32,
                               .ndim = 2,
                               .shape = {rows, cols},
                               .data = numbers,
                               .nbytes = (size_t)rows * (size_t)cols * sizeof(float)};
}

static void write_tensors(const char *name, const struct pcv_tensor *t, int n)
{
    struct pcv_err e = {0};

    CHECK_OK(pcv_safetensors_write(in_folder(name), t, n, &e), e);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

/* A zip or a pickle with no tensors: enough to see whose turn it was. */
static void write_empty_torch(const char *name)
{
    const struct zip_entry e = {.name = "m/data.pkl", .data = "\x80\2}.", .n = 4};

    write_zip(name, &e, 1);
}

static struct pcv_weights *opened(void)
{
    struct pcv_weights *w = NULL;
    struct pcv_err e = {0};

    CHECK_OK(pcv_weights_open(&w, folder, &e), e);
    return w;
}

static void refused(int code, const char *in_where, const char *words)
{
    struct pcv_weights *w = (void *)0x1;
    struct pcv_err e = {0};

    CHECK_FAILS(pcv_weights_open(&w, folder, &e), e, code, in_where, words);
    assert_memory_equal(e.where, folder, strlen(folder));
    assert_ptr_equal(w, (void *)0x1);
}

/* ---- which file ----------------------------------------------------------------------------- */

static void looks_for_files_in_order(void **state)
{
    static const char index[] = "{\"weight_map\": {\"a\": \"s\"}}";
    struct pcv_weights *w;

    (void)state;
    refused(PCV_EMISSING, "",
            "looked for model.safetensors, model.safetensors.index.json, "
            "pytorch_model.bin, pytorch_model.bin.index.json, *.pickle");
    write_text("notes.txt", "x");
    write_text(".pickle", "x");
    refused(PCV_EMISSING, "", "no weights");
    write_file("a.pystate", "\x80\2}.", 4);
    w = opened();
    assert_int_equal(pcv_weights_kind(w), PCV_WEIGHTS_HAIKU);
    pcv_weights_close(w);
    write_file("b.pickle", "\x80\2}.", 4);
    refused(PCV_EUNSUPPORTED, "", "two checkpoints");
    write_text("pytorch_model.bin.index.json", index);
    refused(PCV_EMISSING, "pytorch_model.bin.index.json", "shard s is missing");
    write_empty_torch("pytorch_model.bin");
    w = opened();
    assert_int_equal(pcv_weights_kind(w), PCV_WEIGHTS_TORCH);
    pcv_weights_close(w);
    write_text("model.safetensors.index.json", index);
    refused(PCV_EMISSING, "model.safetensors.index.json", "shard s is missing");
    write_tensors("model.safetensors", &(struct pcv_tensor){0}, 0);
    w = opened();
    assert_int_equal(pcv_weights_kind(w), PCV_WEIGHTS_SAFETENSORS);
    assert_int_equal(pcv_weights_count(w), 0);
    pcv_weights_close(w);
    unlink(in_folder("model.safetensors"));
    assert_int_equal(symlink("nowhere", in_folder("model.safetensors")), 0);
    refused(PCV_EIO, "model.safetensors", "cannot open");
}

static void needs_a_directory(void **state)
{
    struct pcv_weights *w = NULL;
    struct pcv_err e = {0};

    (void)state;
    CHECK_FAILS(pcv_weights_open(&w, in_folder("none"), &e), e, PCV_EIO, "none",
                "cannot open the directory");
    pcv_weights_close(NULL);
}

/* ---- shards ------------------------------------------------------------------------------- */

static void reads_shards(void **state)
{
    const struct pcv_tensor one[] = {tensor("b", 2, 3), tensor("d", 1, 4)};
    const struct pcv_tensor two[] = {tensor("a", 3, 4), tensor("c", 4, 3)};
    struct pcv_weights *w;
    struct pcv_err e = {0};
    const float *x;

    (void)state;
    write_tensors("model-00001-of-00002.safetensors", one, 2);
    write_tensors("model-00002-of-00002.safetensors", two, 2);
    write_text("model.safetensors.index.json",
               "{\"metadata\": {\"total_size\": 136}, \"weight_map\": {"
               "\"a\": \"model-00002-of-00002.safetensors\","
               "\"b\": \"model-00001-of-00002.safetensors\","
               "\"c\": \"model-00002-of-00002.safetensors\","
               "\"d\": \"model-00001-of-00002.safetensors\"}}");
    w = opened();
    assert_int_equal(pcv_weights_kind(w), PCV_WEIGHTS_SAFETENSORS);
    assert_int_equal(pcv_weights_count(w), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pcv_weights_at(w, i)->name[0], 'a' + i);
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(3, 4), &e, "a"), e);
    CHECK_BITS(x, numbers, 12);
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(1, 4), &e, "%c", 'd'), e);
    CHECK_BITS(x, numbers, 4);
    assert_int_equal(pcv_weights_mapped(w), 64);
    assert_int_equal(pcv_weights_owned(w), 0);
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(3, 2), &e, "b"), e, PCV_ESHAPE,
                "model-00001-of-00002.safetensors: b",
                "shape [2,3], the configuration wants [3,2]");
    CHECK_FAILS(pcv_weights_done(w, &e), e, PCV_EUNKNOWN, "model-00001-of-00002.safetensors: b",
                "not part");
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(1), &e, "e"), e, PCV_EMISSING, "index.json: e",
                "missing");
    pcv_weights_close(w);
}

static void reads_shards_of_torch(void **state)
{
    (void)state;
    write_empty_torch("pytorch_model-00001-of-00001.bin");
    write_text("pytorch_model.bin.index.json",
               "{\"weight_map\": {\"a\": \"pytorch_model-00001-of-00001.bin\"}}");
    refused(PCV_EMISSING, "pytorch_model.bin.index.json: a",
            "tensor is not in pytorch_model-00001-of-00001.bin");
}

static void index_refused(const char *index, int code, const char *in_where, const char *words)
{
    write_text("model.safetensors.index.json", index);
    refused(code, in_where, words);
}

static void refuses_shards_that_contradict_the_index(void **state)
{
    const struct pcv_tensor t[] = {tensor("a", 2, 3), tensor("b", 1, 4)};

    (void)state;
    write_tensors("s1", t, 2);
    write_tensors("s2", t + 1, 1);
    index_refused("{\"weight_map\": {\"a\": \"s1\"}}", PCV_EFORMAT, "s1: b", "not in the index");
    index_refused("{\"weight_map\": {\"a\": \"s1\", \"b\": \"s2\"}}", PCV_EFORMAT, "s1: b",
                  "the index says it is in s2");
    index_refused("{\"weight_map\": {\"a\": \"s1\", \"b\": \"s1\", \"c\": \"s1\"}}", PCV_EMISSING,
                  "model.safetensors.index.json: c", "tensor is not in s1");
    index_refused("{\"weight_map\": {\"a\": \"s1\", \"b\": \"s1\", \"c\": \"s3\"}}", PCV_EMISSING,
                  "model.safetensors.index.json", "shard s3 is missing");
    write_text("s3", "junk");
    index_refused("{\"weight_map\": {\"c\": \"s3\"}}", PCV_EFORMAT, "s3", "");
}

static void refuses_other_indexes(void **state)
{
    (void)state;
    index_refused("", PCV_EFORMAT, "index.json", "line 1");
    index_refused("[]", PCV_EFORMAT, "index.json", "\"weight_map\"");
    index_refused("{}", PCV_EFORMAT, "index.json", "\"weight_map\"");
    index_refused("{\"weight_map\": []}", PCV_EFORMAT, "index.json", "\"weight_map\"");
    index_refused("{\"weight_map\": {}}", PCV_EFORMAT, "index.json", "\"weight_map\"");
    index_refused("{\"weight_map\": {\"a\": 1}}", PCV_EFORMAT, "weight_map: a", "not a string");
    index_refused("{\"weight_map\": {\"a\": \"s\", \"a\": \"s\"}}", PCV_EFORMAT, "", "duplicate");
    index_refused("{\"weight_map\": {\"a\": \"../s\"}}", PCV_EFORMAT, "weight_map: a",
                  "\"../s\" is not a file beside the index");
    index_refused("{\"weight_map\": {\"a\": \"/etc/passwd\"}}", PCV_EFORMAT, "a", "not a file");
    index_refused("{\"weight_map\": {\"a\": \"x/s\"}}", PCV_EFORMAT, "a", "not a file beside");
    index_refused("{\"weight_map\": {\"a\": \"..\"}}", PCV_EFORMAT, "a", "not a file beside");
    index_refused("{\"weight_map\": {\"a\": \".\"}}", PCV_EFORMAT, "a", "not a file beside");
    index_refused("{\"weight_map\": {\"a\": \"\"}}", PCV_EFORMAT, "a", "a name of 0 bytes");
    index_refused("{\"weight_map\": {\"a\": \"s\\u0001\"}}", PCV_EFORMAT, "a", "control");
    unlink(in_folder("model.safetensors.index.json"));
    assert_int_equal(mkfifo(in_folder("model.safetensors.index.json"), 0600), 0);
    refused(PCV_EIO, "index.json", "not a regular file");
    unlink(in_folder("model.safetensors.index.json"));
    write_text("model.safetensors.index.json", "");
    assert_int_equal(truncate(in_folder("model.safetensors.index.json"), 5 << 20), 0);
    refused(PCV_ELIMIT, "index.json", "larger than");
}

/* ---- binding ------------------------------------------------------------------------------ */

static void binds_in_any_order_of_axes(void **state)
{
    static const float transposed[12] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11};
    /* [2,2,3] as axes 2, 0, 1 */
    static const float turned[12] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11};
    struct pcv_tensor t[] = {tensor("m", 3, 4), tensor("k", 2, 2)};
    struct pcv_weights *w;
    struct pcv_err e = {0};
    const float *x, *again, *plain;

    (void)state;
    t[1].ndim = 3;
    t[1].shape[2] = 3;
    t[1].nbytes = sizeof(numbers);
    write_tensors("model.safetensors", t, 2);
    w = opened();
    CHECK_OK(pcv_weights_bind_transposed(w, &x, (const int64_t[]){4, 3}, &e, "m"), e);
    CHECK_BITS(x, transposed, 12);
    assert_int_equal(pcv_weights_owned(w), 48);
    assert_int_equal(pcv_weights_mapped(w), 0);
    CHECK_OK(pcv_weights_bind_transposed(w, &again, (const int64_t[]){4, 3}, &e, "m"), e);
    assert_ptr_equal(again, x);
    CHECK_OK(pcv_weights_bind(w, &plain, SHAPE(3, 4), &e, "m"), e);
    CHECK_BITS(plain, numbers, 12);
    CHECK_OK(pcv_weights_bind(w, &again, SHAPE(3, 4), &e, "m"), e);
    assert_int_equal(pcv_weights_owned(w), 48);
    assert_int_equal(pcv_weights_mapped(w), 48);
    assert_int_equal(pcv_weights_parameters(w), 12); /* one tensor, however often it is bound */
    CHECK_OK(pcv_weights_bind_permuted(w, &x, SHAPE(3, 2, 2), (const int[]){2, 0, 1}, &e, "k"), e);
    CHECK_BITS(x, turned, 12);
    CHECK_OK(pcv_weights_done(w, &e), e);
    CHECK_FAILS(pcv_weights_bind_transposed(w, &x, (const int64_t[]){3, 4}, &e, "m"), e, PCV_ESHAPE,
                "model.safetensors: m", "[3,4], the configuration wants [3,4] with its axes");
    CHECK_FAILS(pcv_weights_bind_transposed(w, &x, (const int64_t[]){2, 2}, &e, "k"), e, PCV_ESHAPE,
                "k", "[2,2,3]");
    pcv_weights_close(w);
}

static void widens_half_numbers(void **state)
{
    static const uint16_t f16[6] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555};
    static const float want[6] = {1, -2, 0x1p-24f, 65504, -0.0f, 0x1.554p-2f};
    static const float turned[6] = {1, 65504, -2, -0.0f, 0x1p-24f, 0x1.554p-2f};
    static const uint16_t bf16[2] = {0x3f80, 0xc0a0};
    static const float want_b[2] = {1, -5};
    struct pcv_tensor t[] = {tensor("b", 1, 2), tensor("f", 2, 3)};
    struct pcv_weights *w;
    struct pcv_err e = {0};
    const float *x;

    (void)state;
    t[0].dtype = PCV_BF16;
    t[0].data = bf16;
    t[0].nbytes = sizeof(bf16);
    t[1].dtype = PCV_F16;
    t[1].data = f16;
    t[1].nbytes = sizeof(f16);
    write_tensors("model.safetensors", t, 2);
    w = opened();
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(2, 3), &e, "f"), e);
    CHECK_BITS(x, want, 6);
    CHECK_OK(pcv_weights_bind_transposed(w, &x, (const int64_t[]){3, 2}, &e, "f"), e);
    CHECK_BITS(x, turned, 6);
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(1, 2), &e, "b"), e);
    CHECK_BITS(x, want_b, 2);
    assert_int_equal(pcv_weights_owned(w), 2 * 24 + 8);
    assert_int_equal(pcv_weights_mapped(w), 0);
    assert_int_equal(pcv_weights_parameters(w), 8);
    pcv_weights_close(w);
}

static void refuses_what_cannot_be_bound(void **state)
{
    static const float bad[2] = {1, INFINITY};
    struct pcv_tensor t[] = {tensor("inf", 1, 2), tensor("int", 1, 2), tensor("left", 1, 1)};
    struct pcv_weights *w;
    struct pcv_err e = {0};
    const float *x = NULL;

    (void)state;
    t[0].data = bad;
    t[1].dtype = PCV_I32;
    write_tensors("model.safetensors", t, 3);
    w = opened();
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(1, 2), &e, "inf"), e, PCV_ERANGE,
                "model.safetensors: inf", "not finite");
    CHECK_FAILS(pcv_weights_bind_transposed(w, &x, (const int64_t[]){2, 1}, &e, "inf"), e,
                PCV_ERANGE, "inf", "not finite");
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(1, 2), &e, "int"), e, PCV_EUNSUPPORTED, "int", "I32");
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(2), &e, "inf"), e, PCV_ESHAPE, "inf", "[1,2]");
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(2), &e, "%600d", 1), e, PCV_EMISSING, "", "missing");
    assert_null(x);
    assert_int_equal(pcv_weights_owned(w), 0);
    assert_int_equal(pcv_weights_parameters(w), 0);
    pcv_weights_ignore(w, "inf");
    pcv_weights_ignore(w, "absent");
    CHECK_FAILS(pcv_weights_done(w, &e), e, PCV_EUNKNOWN, "model.safetensors: int", "not part");
    pcv_weights_ignore(w, "int");
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(1, 1), &e, "left"), e);
    CHECK_OK(pcv_weights_done(w, &e), e);
    pcv_weights_ignore(w, "left");
    CHECK_FAILS(pcv_weights_bind(w, &x, SHAPE(1, 2), &e, "inf"), e, PCV_ERANGE, "inf", "finite");
    pcv_weights_close(w);
}

static void refuses_two_tensors_of_one_name(void **state)
{
    struct bytes b = {0};

    (void)state;
    PUT(&b, "\x80\2}(");
    for (int i = 0; i < 2; i++)
        PUT(&b, "X\1\0\0\0m}X\1\0\0\0scnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
                "(X\2\0\0\0i1\x89\x88tR(K\3X\1\0\0\0|tb"
                "C\1x\x86Rs");
    PUT(&b, "u.");
    write_file("a.pickle", b.p, b.n);
    refused(PCV_EFORMAT, "a.pickle: m/s", "two tensors of one name");
    drop(&b);
}

/* Memory of a reader and of binding, both counted: a view that had to be put into rows. */
static void counts_memory_of_the_reader(void **state)
{
    static const char pickle[] = "\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n"
                                 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                                 "0X\3\0\0\0cpuK\x0ctQK\0(K\4K\3t(K\1K\4t\x89)tRs.";
    static const float want[12] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11};
    const struct zip_entry e[] = {{.name = "m/data.pkl", .data = pickle, .n = sizeof(pickle) - 1},
                                  {.name = "m/data/0", .data = numbers, .n = sizeof(numbers)}};
    struct pcv_err err = {0};
    struct pcv_weights *w;
    const float *x;

    (void)state;
    write_zip("pytorch_model.bin", e, 2);
    w = opened();
    assert_int_equal(pcv_weights_owned(w), 48);
    CHECK_OK(pcv_weights_bind(w, &x, SHAPE(4, 3), &err, "t"), err);
    CHECK_BITS(x, want, 12);
    assert_int_equal(pcv_weights_owned(w), 48);
    assert_int_equal(pcv_weights_mapped(w), 0);
    CHECK_OK(pcv_weights_bind_transposed(w, &x, (const int64_t[]){3, 4}, &err, "t"), err);
    CHECK_BITS(x, numbers, 12);
    assert_int_equal(pcv_weights_owned(w), 96);
    pcv_weights_close(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(looks_for_files_in_order),
        TEST(needs_a_directory),
        TEST(reads_shards),
        TEST(reads_shards_of_torch),
        TEST(refuses_shards_that_contradict_the_index),
        TEST(refuses_other_indexes),
        TEST(binds_in_any_order_of_axes),
        TEST(widens_half_numbers),
        TEST(refuses_what_cannot_be_bound),
        TEST(refuses_two_tensors_of_one_name),
        TEST(counts_memory_of_the_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
