/* The golden file was written by PyTorch; everything else byte by byte here. */
#include "lib/load/source.h"

#include "lib/load/safetensors.h"
#include "tests/unit/lib/load/files.h"

static const char *const file = "pytorch_model.bin";

/* ---- PyTorch's own ------------------------------------------------------------------------ */

static const char *const golden = "tests/golden/hf-masked-lm/pytorch_model.bin";

/* The same weights as the rule of tests/golden/README.md makes, bit for bit, and all in place. */
static void reads_what_torch_saved(void **state)
{
    struct pcv_safetensors *want = NULL;
    struct pcv_source s = {0};
    struct pcv_err e = {0};

    (void)state;
    CHECK_OK(pcv_safetensors_open(&want, "build/golden/hf-masked-lm/model.safetensors", &e), e);
    CHECK_OK(pcv_source_torch(&s, golden, &e), e);
    assert_int_equal(s.count, pcv_safetensors_count(want));
    for (int i = 0; i < s.count; i++) {
        const struct pcv_tensor *t = &s.tensors[i], *w = pcv_safetensors_find(want, t->name);

        assert_non_null(w);
        assert_int_equal(t->dtype, w->dtype);
        assert_int_equal(t->ndim, w->ndim);
        assert_memory_equal(t->shape, w->shape, (size_t)t->ndim * sizeof(*t->shape));
        assert_int_equal(t->nbytes, w->nbytes);
        assert_memory_equal(t->data, w->data, t->nbytes);
        assert_int_equal((uintptr_t)t->data % 64, 0);
        assert_true((const char *)t->data > s.map && (const char *)t->data < s.map + s.map_size);
    }
    assert_int_equal(s.owned, 0);
    pcv_source_close(&s);
    pcv_source_close(&s); /* of zeros */
    pcv_safetensors_close(want);
}

static void refused_at(const char *path, int code, const char *in_where, const char *words)
{
    struct pcv_source s = {0};
    struct pcv_err e = {0};

    CHECK_FAILS(pcv_source_torch(&s, path, &e), e, code, in_where, words);
    assert_memory_equal(e.where, path, strlen(path));
    assert_null(s.close);
}

static void refuses_what_is_cut_off(void **state)
{
    struct bytes b = read_file(golden);

    (void)state;
    for (size_t n = 0; n < b.n; n += 7919) {
        write_file(file, b.p, n);
        refused_at(in_folder(file), PCV_EFORMAT, "", "");
    }
    write_file(file, b.p, b.n - 1);
    refused_at(in_folder(file), PCV_EFORMAT, "", "");
    drop(&b);
}

/* ---- written here ------------------------------------------------------------------------- */

/* A tensor as _rebuild_tensor_v2 is given it. */
struct view {
    const char *type, *key;
    int64_t numel, offset;
    int ndim;
    int64_t size[10], stride[10];
    int nstride; /* 0: as many as sizes */
};

static void put_view(struct bytes *b, const struct view *v)
{
    put_global(b, "torch._utils", "_rebuild_tensor_v2");
    PUT(b, "((X\7\0\0\0storage");
    put_global(b, "torch", v->type);
    put_text(b, v->key);
    put_text(b, "cpu");
    put_int(b, v->numel);
    PUT(b, "tQ");
    put_int(b, v->offset);
    put_ints(b, v->ndim, v->size);
    put_ints(b, v->nstride ? v->nstride : v->ndim, v->stride);
    PUT(b, "\x89");
    put_global(b, "collections", "OrderedDict");
    PUT(b, ")RtR");
}

/* {"t": view} */
static struct bytes pickle_of(const struct view *v)
{
    struct bytes b = {0};

    PUT(&b, "\x80\2}X\1\0\0\0t");
    put_view(&b, v);
    PUT(&b, "s.");
    return b;
}

static const float numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

/* A file of this pickle and the numbers above as storage 0. */
static void write_model(const struct bytes *pickle)
{
    const struct zip_entry e[] = {{.name = "m/data.pkl", .data = pickle->p, .n = pickle->n},
                                  {.name = "m/byteorder", .data = "little", .n = 6},
                                  {.name = "m/data/0", .data = numbers, .n = sizeof(numbers)},
                                  {.name = "m/data/1", .data = numbers, .n = sizeof(numbers)},
                                  {.name = "m/version", .data = "3\n", .n = 2}};

    write_zip(file, e, LEN(e));
}

static struct pcv_source opens(struct bytes *pickle)
{
    struct pcv_source s = {0};
    struct pcv_err e = {0};

    write_model(pickle);
    CHECK_OK(pcv_source_torch(&s, in_folder(file), &e), e);
    drop(pickle);
    return s;
}

static void refused(struct bytes *pickle, int code, const char *in_where, const char *words)
{
    write_model(pickle);
    refused_at(in_folder(file), code, in_where, words);
    drop(pickle);
}

static void view_refused(const struct view *v, int code, const char *words)
{
    struct bytes b = pickle_of(v);

    refused(&b, code, ": t", words);
}

static void reads_views_in_any_order(void **state)
{
    static const struct {
        struct view v;
        float want[12];
        int owned;
    } cases[] = {
        {{"FloatStorage", "0", 12, 0, 2, {3, 4}, {4, 1}, 0},
         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
         0},
        {{"FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 4}, 0},
         {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11},
         48},
        {{"FloatStorage", "0", 12, 5, 2, {2, 3}, {3, 1}, 0}, {5, 6, 7, 8, 9, 10}, 0},
        {{"FloatStorage", "0", 12, 1, 2, {3, 2}, {4, 2}, 0}, {1, 3, 5, 7, 9, 11}, 24},
        {{"FloatStorage", "0", 12, 0, 3, {2, 3, 2}, {1, 4, 2}, 0},
         {0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11},
         48},
        {{"FloatStorage", "0", 12, 3, 3, {1, 4, 1}, {77, 1, 99}, 0}, {3, 4, 5, 6}, 0},
        {{"FloatStorage", "0", 12, 11, 0, {0}, {0}, 0}, {11}, 0},
        {{"FloatStorage", "0", 12, 12, 2, {0, 5}, {5, 1}, 0}, {0}, 0},
        {{"FloatStorage", "0", 12, 2, 1, {3}, {0}, 0}, {2, 2, 2}, 12},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct bytes b = pickle_of(&cases[i].v);
        struct pcv_source s = opens(&b);

        assert_int_equal(s.count, 1);
        assert_string_equal(s.tensors[0].name, "t");
        assert_int_equal(s.tensors[0].dtype, PCV_F32);
        assert_int_equal(s.tensors[0].ndim, cases[i].v.ndim);
        assert_int_equal(s.tensors[0].nbytes,
                         4 * pcv_shape_count(cases[i].v.size, cases[i].v.ndim));
        assert_memory_equal(s.tensors[0].data, cases[i].want, s.tensors[0].nbytes);
        assert_int_equal(s.owned, cases[i].owned);
        pcv_source_close(&s);
    }
}

static void reads_every_type(void **state)
{
    static const struct {
        const char *name;
        enum pcv_dtype dtype;
    } types[] = {{"FloatStorage", PCV_F32},     {"HalfStorage", PCV_F16},
                 {"BFloat16Storage", PCV_BF16}, {"DoubleStorage", PCV_F64},
                 {"LongStorage", PCV_I64},      {"IntStorage", PCV_I32},
                 {"ShortStorage", PCV_I16},     {"CharStorage", PCV_I8},
                 {"ByteStorage", PCV_U8},       {"BoolStorage", PCV_BOOL}};

    (void)state;
    for (size_t i = 0; i < LEN(types); i++) {
        const int64_t n = (int64_t)(sizeof(numbers) / pcv_dtype_size(types[i].dtype));
        struct bytes b = pickle_of(&(struct view){types[i].name, "1", n, 0, 1, {n}, {1}, 0});
        struct pcv_source s = opens(&b);

        assert_int_equal(s.tensors[0].dtype, types[i].dtype);
        assert_int_equal(s.tensors[0].shape[0], n);
        assert_memory_equal(s.tensors[0].data, numbers, sizeof(numbers));
        pcv_source_close(&s);
    }
}

/* {"epoch": 3, "state_dict": OrderedDict(a = Parameter(view), b = the same one)} */
static void reads_tied_parameters_of_a_nested_dictionary(void **state)
{
    struct bytes b = {0};
    struct pcv_source s;

    (void)state;
    PUT(&b, "\x80\2}(X\5\0\0\0epochK\3X\x0a\0\0\0state_dict");
    put_global(&b, "collections", "OrderedDict");
    PUT(&b, ")R(X\1\0\0\0a");
    put_global(&b, "torch._utils", "_rebuild_parameter");
    PUT(&b, "(");
    put_view(&b, &(struct view){"FloatStorage", "0", 12, 0, 2, {4, 3}, {3, 1}, 0});
    PUT(&b, "\x88");
    put_global(&b, "collections", "OrderedDict");
    PUT(&b, ")RtRq\1X\1\0\0\0bh\1u}X\x09\0\0\0_metadataNsbu.");
    s = opens(&b);
    assert_int_equal(s.count, 2);
    assert_string_equal(s.tensors[0].name, "a");
    assert_string_equal(s.tensors[1].name, "b");
    assert_ptr_equal(s.tensors[0].data, s.tensors[1].data);
    assert_memory_equal(s.tensors[1].data, numbers, sizeof(numbers));
    pcv_source_close(&s);
}

/* ---- lies --------------------------------------------------------------------------------- */

static void refuses_views_beyond_their_storage(void **state)
{
    static const struct view views[] = {
        {"FloatStorage", "0", 12, 0, 1, {13}, {1}, 0},
        {"FloatStorage", "0", 12, 1, 1, {12}, {1}, 0},
        {"FloatStorage", "0", 12, 12, 0, {0}, {0}, 0},
        {"FloatStorage", "0", 12, 13, 1, {0}, {1}, 0},
        {"FloatStorage", "0", 12, 0, 2, {3, 4}, {5, 1}, 0},
        {"FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 5}, 0},
        {"FloatStorage", "0", 12, 0, 1, {2}, {12}, 0},
        {"FloatStorage", "0", 12, INT64_MAX, 1, {2}, {1}, 0},
        {"FloatStorage", "0", 12, 0, 1, {2}, {INT64_MAX}, 0},
        {"FloatStorage", "0", 12, 1, 2, {2, 2}, {INT64_MAX, 1}, 0},
        {"FloatStorage", "0", 12, 0, 1, {INT64_MAX}, {1}, 0},
        {"FloatStorage", "0", 12, 0, 2, {INT64_MAX, INT64_MAX}, {0, 0}, 0},
        {"FloatStorage", "0", 12, 0, 2, {1 << 20, 1 << 20}, {0, 0}, 0},
        {"FloatStorage", "0", 12, 0, 2, {2, 7}, {0, 1}, 0},
    };

    (void)state;
    for (size_t i = 0; i < LEN(views); i++)
        view_refused(&views[i], PCV_EFORMAT, "in a storage of 12 numbers");
}

static void refuses_odd_sizes_and_strides(void **state)
{
    (void)state;
    view_refused(&(struct view){"FloatStorage", "0", 12, 0, 2, {-3, -4}, {4, 1}, 0}, PCV_EFORMAT,
                 "its size holds -3");
    view_refused(&(struct view){"FloatStorage", "0", 12, 0, 2, {3, 4}, {4, -1}, 0}, PCV_EFORMAT,
                 "its stride holds -1");
    view_refused(&(struct view){"FloatStorage", "0", 12, -1, 1, {3}, {1}, 0}, PCV_EFORMAT,
                 "its offset");
    view_refused(&(struct view){"FloatStorage", "0", 12, 0, 2, {3, 4}, {4}, 1}, PCV_EFORMAT,
                 "a size of 2 dimensions, a stride of 1");
    view_refused(&(struct view){"FloatStorage", "0", 12, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}, 0},
                 PCV_EUNSUPPORTED, "9 dimensions");
}

static void refuses_storages_that_are_not_so(void **state)
{
    struct bytes b = {0};

    (void)state;
    view_refused(&(struct view){"FloatStorage", "0", 11, 0, 1, {1}, {1}, 0}, PCV_EFORMAT,
                 "m/data/0 of 11 x F32 has 48 bytes");
    view_refused(&(struct view){"FloatStorage", "0", 13, 0, 1, {1}, {1}, 0}, PCV_EFORMAT,
                 "of 13 x F32 has 48 bytes");
    view_refused(&(struct view){"HalfStorage", "0", 12, 0, 1, {1}, {1}, 0}, PCV_EFORMAT,
                 "of 12 x F16 has 48 bytes");
    view_refused(&(struct view){"FloatStorage", "0", -12, 0, 1, {1}, {1}, 0}, PCV_EFORMAT, "-12");
    view_refused(&(struct view){"FloatStorage", "0", INT64_MAX, 0, 1, {1}, {1}, 0}, PCV_EFORMAT,
                 "has 48 bytes");
    view_refused(&(struct view){"FloatStorage", "7", 12, 0, 1, {1}, {1}, 0}, PCV_EMISSING,
                 "m/data/7 is not in the file");
    view_refused(&(struct view){"FloatStorage", "../data/0", 12, 0, 1, {1}, {1}, 0}, PCV_EFORMAT,
                 "key");
    view_refused(&(struct view){"FloatStorage", "", 12, 0, 1, {1}, {1}, 0}, PCV_EFORMAT, "key");
    b = pickle_of(&(struct view){"QInt8Storage", "0", 48, 0, 1, {1}, {1}, 0});
    refused(&b, PCV_EUNSUPPORTED, "m/data.pkl", "global torch.QInt8Storage is not one");
    PUT(&b, "\x80\2}(X\1\0\0\0a");
    put_view(&b, &(struct view){"FloatStorage", "0", 12, 0, 1, {12}, {1}, 0});
    PUT(&b, "X\1\0\0\0b");
    put_view(&b, &(struct view){"IntStorage", "0", 12, 0, 1, {12}, {1}, 0});
    PUT(&b, "u.");
    refused(&b, PCV_EFORMAT, ": b", "is I32 here and F32 elsewhere");
}

/* Each is within bounds; copied into rows they would be more than the file ever held. */
static void refuses_many_copies_of_little(void **state)
{
    struct bytes b = {0};

    (void)state;
    PUT(&b, "\x80\2}(");
    for (int i = 0; i < 500; i++) {
        char name[16];

        snprintf(name, sizeof(name), "t%d", i);
        put_text(&b, name);
        if (i > 0) {
            PUT(&b, "h\0");
            continue;
        }
        put_view(&b, &(struct view){"FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 4}, 0});
        PUT(&b, "q\0");
    }
    PUT(&b, "u.");
    refused(&b, PCV_ELIMIT, ": t", "show more bytes than the file has");
}

static void refuses_what_is_no_dictionary_of_tensors(void **state)
{
    static const struct {
        const char *pickle;
        size_t n;
        int code;
        const char *where, *words;
    } no[] = {
#define NO(text, code, where, words) {text, sizeof(text) - 1, code, where, words}
        NO("\x80\2].", PCV_EUNSUPPORTED, "", "the pickle is a list"),
        NO("\x80\2N.", PCV_EUNSUPPORTED, "", "the pickle is None"),
        NO("\x80\2}X\1\0\0\0tNs.", PCV_EUNSUPPORTED, ": t", "None, not a tensor"),
        NO("\x80\2}X\1\0\0\0t}s.", PCV_EUNSUPPORTED, ": t", "a dictionary, not a tensor"),
        NO("\x80\2}K\1Ns.", PCV_EFORMAT, "", "a tensor's name is an integer"),
        NO("\x80\2}X\1\0\0\0\nNs.", PCV_EFORMAT, "", "control character 0x0a"),
        NO("\x80\2}X\2\0\0\0a\0Ns.", PCV_EFORMAT, "", "control character 0x00"),
        NO("\x80\2}X\0\0\0\0Ns.", PCV_EFORMAT, "", "a name of 0 bytes"),
        NO("\x80\2}X\x0a\0\0\0state_dict]s.", PCV_EUNSUPPORTED, "", "state_dict is a list"),
        NO("\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n)Rs.", PCV_EUNSUPPORTED, ": t", ""),
        NO("\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtRs.", PCV_EFORMAT, ": t",
           "its offset"),
        NO("\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n(NK\0)))NtRs.", PCV_EFORMAT, ": t",
           "its storage is None"),
        NO("\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n(NQK\0)))NtRs.", PCV_EFORMAT, ": t",
           "its storage is not ("),
        NO("\x80\2cos\nsystem\nX\2\0\0\0id\x85R.", PCV_EUNSUPPORTED, "m/data.pkl",
           "global os.system is not one that is read (byte 2"),
        NO("\x80\2c__builtin__\neval\nX\1\0\0\0"
           "1\x85R.",
           PCV_EUNSUPPORTED, "m/data.pkl", "__builtin__.eval"),
        NO("\x80\2cnumpy.core.multiarray\n_reconstruct\n.", PCV_EUNSUPPORTED, "m/data.pkl",
           "numpy.core.multiarray._reconstruct"),
#undef NO
    };

    (void)state;
    for (size_t i = 0; i < LEN(no); i++) {
        struct bytes b = {0};

        put(&b, no[i].pickle, no[i].n);
        refused(&b, no[i].code, no[i].where, no[i].words);
    }
}

static void refuses_other_containers(void **state)
{
    struct zip_entry e[] = {{.name = "m/data.pkl", .data = "\x80\2}.", .n = 4},
                            {.name = "m/byteorder", .data = "big", .n = 3},
                            {.name = "m/version", .data = "11\n", .n = 3},
                            {.name = "n/data.pkl", .data = "\x80\2}.", .n = 4}};
    struct pcv_source s = {0};
    struct pcv_err err = {0};

    (void)state;
    write_zip(file, e, 1);
    CHECK_OK(pcv_source_torch(&s, in_folder(file), &err), err);
    assert_int_equal(s.count, 0);
    pcv_source_close(&s);
    write_zip(file, e, 2);
    refused_at(in_folder(file), PCV_EUNSUPPORTED, "", "byteorder");
    e[1].data = "little";
    e[1].n = 6;
    write_zip(file, e, 3);
    refused_at(in_folder(file), PCV_EUNSUPPORTED, "", "version");
    e[2].data = "3\n";
    e[2].n = 2;
    write_zip(file, e, 4);
    refused_at(in_folder(file), PCV_EFORMAT, "", "two pickles");
    write_zip(file, e + 1, 2);
    refused_at(in_folder(file), PCV_EFORMAT, "", "not saved by torch");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_what_torch_saved),
        TEST(refuses_what_is_cut_off),
        TEST(reads_views_in_any_order),
        TEST(reads_every_type),
        TEST(reads_tied_parameters_of_a_nested_dictionary),
        TEST(refuses_views_beyond_their_storage),
        TEST(refuses_odd_sizes_and_strides),
        TEST(refuses_storages_that_are_not_so),
        TEST(refuses_many_copies_of_little),
        TEST(refuses_what_is_no_dictionary_of_tensors),
        TEST(refuses_other_containers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
