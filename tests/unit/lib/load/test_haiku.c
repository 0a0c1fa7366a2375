/* The golden checkpoints are haiku's; everything else is written byte by byte here. */
#include "lib/load/source.h"

#include "tests/unit/lib/load/files.h"

static const char *const file = "a.pickle";

static const struct pcv_tensor *find(const struct pcv_source *s, const char *name)
{
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->tensors[i].name, name) == 0)
            return &s->tensors[i];
    return NULL;
}

/* Protocols 4 and 3; the second has {"params": ..., "state": ...}. */
static void reads_checkpoints_of_haiku(void **state)
{
    static const struct {
        const char *path, *name;
        int count, ndim;
        int64_t shape[2];
    } cases[] = {
        {"dm-masked-lm/language_perceiver_io_bytes.pickle", "embed/embeddings", 89, 2, {262, 32}},
        {"dm-masked-lm/language_perceiver_io_bytes.pickle", "embedding_decoder/bias", 89, 1, {262}},
        {"dm-image-fourier/imagenet_fourier_position_encoding.pystate",
         "perceiver_encoder/~/trainable_position_encoding/pos_embs",
         72,
         2,
         {24, 64}},
        {"dm-optical-flow/optical_flow_checkpoint.pystate",
         "flow_decoder/~/basic_decoder/output/w",
         89,
         2,
         {322, 2}},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct pcv_source s = {0};
        struct pcv_err e = {0};
        const struct pcv_tensor *t;
        char path[200];

        snprintf(path, sizeof(path), "tests/golden/%s", cases[i].path);
        CHECK_OK(pcv_source_haiku(&s, path, &e), e);
        assert_int_equal(s.count, cases[i].count);
        t = find(&s, cases[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, PCV_F32);
        assert_int_equal(t->ndim, cases[i].ndim);
        assert_memory_equal(t->shape, cases[i].shape, (size_t)t->ndim * sizeof(*t->shape));
        assert_true((const char *)t->data > s.map && (const char *)t->data < s.map + s.map_size);
        assert_int_equal(s.owned, 0);
        pcv_source_close(&s);
    }
}

/* ---- written here ------------------------------------------------------------------------- */

struct array {
    const char *name, *order; /* of the datatype: "f4", "<" */
    int ndim;
    int64_t shape[10];
    bool fortran;
    const void *data;
    size_t n;
    const char *core; /* the module's name; NULL: numpy.core */
};

static void put_dtype(struct bytes *b, const struct array *a)
{
    put_global(b, "numpy", "dtype");
    PUT(b, "(");
    put_text(b, a->name);
    PUT(b, "\x89\x88tR(K\3");
    put_text(b, a->order);
    PUT(b, "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
}

static void put_array(struct bytes *b, const struct array *a)
{
    char module[64];

    snprintf(module, sizeof(module), "%s.multiarray", a->core ? a->core : "numpy.core");
    put_global(b, module, "_reconstruct");
    put_global(b, "numpy", "ndarray");
    PUT(b, "K\0\x85"
           "C\1b\x87R(K\1");
    put_ints(b, a->ndim, a->shape);
    put_dtype(b, a);
    put(b, a->fortran ? "\x88" : "\x89", 1);
    put_bytes(b, a->data, a->n);
    PUT(b, "tb");
}

/* {"m": {"w": array}} behind a header. */
static struct bytes pickle_of(const struct array *a)
{
    struct bytes b = {0};

    PUT(&b, "\x80\4}X\1\0\0\0m}X\1\0\0\0w");
    put_array(&b, a);
    PUT(&b, "ss.");
    return b;
}

static struct pcv_source opens(struct bytes *b)
{
    struct pcv_source s = {0};
    struct pcv_err e = {0};

    write_file(file, b->p, b->n);
    CHECK_OK(pcv_source_haiku(&s, in_folder(file), &e), e);
    drop(b);
    return s;
}

static void refused(struct bytes *b, int code, const char *in_where, const char *words)
{
    struct pcv_source s = {0};
    struct pcv_err e = {0};
    const char *path = in_folder(file);

    write_file(file, b->p, b->n);
    CHECK_FAILS(pcv_source_haiku(&s, path, &e), e, code, in_where, words);
    assert_memory_equal(e.where, path, strlen(path));
    assert_null(s.close);
    drop(b);
}

static void array_refused(const struct array *a, int code, const char *words)
{
    struct bytes b = pickle_of(a);

    refused(&b, code, ": m/w", words);
}

static const float numbers[6] = {0, 1, 2, 3, 4, 5};

static void reads_arrays_in_both_orders(void **state)
{
    static const float want[6] = {0, 2, 4, 1, 3, 5};
    struct bytes b = pickle_of(&(struct array){"f4", "<", 2, {2, 3}, false, numbers, 24, NULL});
    struct pcv_source s = opens(&b);

    (void)state;
    assert_int_equal(s.count, 1);
    assert_string_equal(s.tensors[0].name, "m/w");
    assert_int_equal(s.tensors[0].ndim, 2);
    assert_int_equal(s.tensors[0].shape[1], 3);
    assert_int_equal(s.tensors[0].nbytes, 24);
    assert_memory_equal(s.tensors[0].data, numbers, 24);
    assert_int_equal(s.owned, 0);
    pcv_source_close(&s);
    b = pickle_of(&(struct array){"f4", "<", 2, {2, 3}, true, numbers, 24, "numpy._core"});
    s = opens(&b);
    assert_memory_equal(s.tensors[0].data, want, 24);
    assert_int_equal(s.owned, 24);
    pcv_source_close(&s);
}

static void reads_every_type(void **state)
{
    static const struct {
        const char *name, *order;
        enum pcv_dtype dtype;
    } types[] = {{"f4", "<", PCV_F32}, {"f2", "<", PCV_F16}, {"f8", "<", PCV_F64},
                 {"i4", "<", PCV_I32}, {"i8", "<", PCV_I64}, {"u4", "<", PCV_U32},
                 {"i1", "|", PCV_I8},  {"u1", "|", PCV_U8},  {"b1", "|", PCV_BOOL}};

    (void)state;
    for (size_t i = 0; i < LEN(types); i++) {
        const int64_t n = (int64_t)(24 / pcv_dtype_size(types[i].dtype));
        struct bytes b = pickle_of(
            &(struct array){types[i].name, types[i].order, 1, {n}, false, numbers, 24, NULL});
        struct pcv_source s = opens(&b);

        assert_int_equal(s.tensors[0].dtype, types[i].dtype);
        assert_memory_equal(s.tensors[0].data, numbers, 24);
        pcv_source_close(&s);
    }
}

/* numpy scalars, and arrays as protocol 5 writes them. */
static void reads_the_other_forms(void **state)
{
    static const float want[6] = {0, 2, 4, 1, 3, 5};
    const struct array f4 = {"f4", "<", 0, {0}, false, NULL, 0, NULL};
    struct bytes b = {0};
    struct pcv_source s;

    (void)state;
    PUT(&b, "\x80\5}X\1\0\0\0m}(X\1\0\0\0s");
    put_global(&b, "numpy.core.multiarray", "scalar");
    put_dtype(&b, &f4);
    put_bytes(&b, &numbers[3], 4);
    PUT(&b, "\x86RX\1\0\0\0f");
    put_global(&b, "numpy._core.numeric", "_frombuffer");
    PUT(&b, "(\x96\x18\0\0\0\0\0\0\0");
    put(&b, numbers, 24);
    put_dtype(&b, &f4);
    PUT(&b, "K\2K\3\x86X\1\0\0\0FtRus.");
    s = opens(&b);
    assert_int_equal(s.count, 2);
    assert_int_equal(find(&s, "m/s")->ndim, 0);
    assert_memory_equal(find(&s, "m/s")->data, &numbers[3], 4);
    assert_memory_equal(find(&s, "m/f")->data, want, 24);
    pcv_source_close(&s);
}

/* FlatMapping({"params": FlatMap({"a/~/b": ...}), "state": frozendict(...)}) */
static void names_parameters_and_state(void **state)
{
    static const char *const haiku = "haiku._src.data_structures";
    const struct array a = {"f4", "<", 1, {6}, false, numbers, 24, NULL};
    struct bytes b = {0};
    struct pcv_source s;

    (void)state;
    PUT(&b, "\x80\3");
    put_global(&b, haiku, "FlatMapping");
    PUT(&b, "}(X\6\0\0\0params");
    put_global(&b, haiku, "FlatMap");
    PUT(&b, "}X\5\0\0\0a/~/b");
    put_global(&b, "collections", "OrderedDict");
    PUT(&b, ")RX\1\0\0\0w");
    put_array(&b, &a);
    PUT(&b, "ss\x85RX\5\0\0\0state");
    put_global(&b, haiku, "frozendict");
    PUT(&b, "}X\4\0\0\0norm}X\7\0\0\0average");
    put_array(&b, &a);
    PUT(&b, "ss\x85Ru\x85R.");
    s = opens(&b);
    assert_int_equal(s.count, 2);
    assert_non_null(find(&s, "a/~/b/w"));
    assert_non_null(find(&s, "state:norm/average"));
    pcv_source_close(&s);
}

/* ---- lies --------------------------------------------------------------------------------- */

static void refuses_arrays_that_are_not_so(void **state)
{
    (void)state;
    array_refused(&(struct array){"f4", "<", 2, {2, 4}, false, numbers, 24, NULL}, PCV_EFORMAT,
                  "24 bytes are not what F32 [2,4] takes");
    array_refused(&(struct array){"f4", "<", 2, {2, 2}, true, numbers, 24, NULL}, PCV_EFORMAT,
                  "24 bytes are not");
    array_refused(&(struct array){"f4", "<", 2, {-2, -3}, false, numbers, 24, NULL}, PCV_EFORMAT,
                  "no length");
    array_refused(&(struct array){"f4", "<", 2, {INT64_MAX, 4}, false, numbers, 24, NULL},
                  PCV_EFORMAT, "24 bytes are not");
    array_refused(
        &(struct array){"f4", "<", 9, {1, 1, 1, 1, 1, 1, 1, 1, 6}, false, numbers, 24, NULL},
        PCV_EUNSUPPORTED, "9 dimensions");
    array_refused(&(struct array){"f4", ">", 1, {6}, false, numbers, 24, NULL}, PCV_EUNSUPPORTED,
                  "not little-endian");
    array_refused(&(struct array){"f4", "|", 1, {6}, false, numbers, 24, NULL}, PCV_EUNSUPPORTED,
                  "not little-endian");
    array_refused(&(struct array){"O8", "|", 1, {3}, false, numbers, 24, NULL}, PCV_EUNSUPPORTED,
                  "datatype O8 of numpy");
    array_refused(&(struct array){"V2", "<", 1, {12}, false, numbers, 24, NULL}, PCV_EUNSUPPORTED,
                  "datatype V2 of numpy");
    array_refused(&(struct array){"c8", "<", 1, {3}, false, numbers, 24, NULL}, PCV_EUNSUPPORTED,
                  "datatype c8 of numpy");
}

static void refuses_what_is_no_checkpoint(void **state)
{
    static const struct {
        const char *pickle;
        size_t n;
        int code;
        const char *where, *words;
    } no[] = {
#define NO(text, code, where, words) {text, sizeof(text) - 1, code, where, words}
        NO("\x80\2].", PCV_EUNSUPPORTED, "", "the pickle is a list"),
        NO("\x80\2}X\1\0\0\0mNs.", PCV_EUNSUPPORTED, ": m", "None, not a mapping of arrays"),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0wNss.", PCV_EUNSUPPORTED, ": m/w",
           "None, not a numpy array"),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0w}sss.", PCV_EFORMAT, "", ""),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0w}ss.", PCV_EUNSUPPORTED, ": m/w", "not a numpy array"),
        NO("\x80\2}K\1}s.", PCV_EFORMAT, "", "a key is an integer"),
        NO("\x80\2}X\1\0\0\0\x7f}X\1\0\0\0wNss.", PCV_EFORMAT, "", "control character 0x7f"),
        NO("\x80\2}X\6\0\0\0paramsNs.", PCV_EUNSUPPORTED, ": params", "not a mapping of modules"),
        NO("\x80\2}(X\6\0\0\0params}X\3\0\0\0opt}u.", PCV_EUNSUPPORTED, ": opt", "beside params"),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0wcnumpy\ndtype\n)Rss.", PCV_EUNSUPPORTED, ": m/w",
           "not a numpy array"),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0wcnumpy\nndarray\n)Rss.", PCV_EUNSUPPORTED, "",
           "a call of a global that is no function"),
        NO("\x80\2}X\1\0\0\0m}X\1\0\0\0wcnumpy.core.multiarray\nscalar\nNC\4abcd\x86Rss.",
           PCV_EFORMAT, ": m/w", "not a numpy.dtype"),
        NO("\x80\2cos\nsystem\nX\2\0\0\0id\x85R.", PCV_EUNSUPPORTED, "",
           "global os.system is not one that is read (byte 2"),
        NO("\x80\2ctorch._utils\n_rebuild_tensor_v2\n.", PCV_EUNSUPPORTED, "",
           "torch._utils._rebuild_tensor_v2"),
        NO("\x80\2X\1\0\0\0kQ.", PCV_EUNSUPPORTED, "", "a persistent id"),
        NO("\x80\2}.}.", PCV_EFORMAT, "", "2 bytes after the pickle's end"),
        NO("PK\3\4", PCV_EFORMAT, "", "not a pickle"),
#undef NO
    };

    (void)state;
    for (size_t i = 0; i < LEN(no); i++) {
        struct bytes b = {0};

        put(&b, no[i].pickle, no[i].n);
        refused(&b, no[i].code, no[i].where, no[i].words);
    }
}

/* One array under many names: in Fortran's order each would be copied. */
static void refuses_many_copies_of_little(void **state)
{
    static const char zeros[4000];
    struct bytes b = {0};

    (void)state;
    PUT(&b, "\x80\4}X\1\0\0\0m}(X\1\0\0\0w");
    put_array(&b, &(struct array){"f4", "<", 2, {500, 2}, true, zeros, sizeof(zeros), NULL});
    PUT(&b, "q\0X\1\0\0\0xh\0us.");
    refused(&b, PCV_ELIMIT, ": m/x", "show more bytes than the file");
}

static void refuses_every_cut(void **state)
{
    struct bytes b = pickle_of(&(struct array){"f4", "<", 2, {2, 3}, false, numbers, 24, NULL});

    (void)state;
    for (size_t n = 0; n < b.n; n++) {
        struct bytes cut = {0};

        put(&cut, b.p, n);
        refused(&cut, PCV_EFORMAT, "", "");
    }
    drop(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_checkpoints_of_haiku),
        TEST(reads_arrays_in_both_orders),
        TEST(reads_every_type),
        TEST(reads_the_other_forms),
        TEST(names_parameters_and_state),
        TEST(refuses_arrays_that_are_not_so),
        TEST(refuses_what_is_no_checkpoint),
        TEST(refuses_many_copies_of_little),
        TEST(refuses_every_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
