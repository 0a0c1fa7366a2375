#include "proto/wire_fields.h"
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

struct point {
    const char *name;
    size_t name_len;
    bool on;
    int i;
    int64_t big, offset;
    uint64_t u;
    float f;
    double d;
    enum pcv_dtype type;
    int64_t shape[PCV_MAX_DIMS];
    int ndim, npoints;
    const char *const *texts;
    struct wire_stages stages;
    const struct point *points;
};

static const struct wire_table point;
static const struct wire_field fields[] = {
    WIRE_FIELD(TEXT, "name", struct point, name, .count = offsetof(struct point, name_len),
               .optional = true),
    WIRE_FIELD(BYTES, "bytes", struct point, name, .count = offsetof(struct point, name_len),
               .optional = true),
    WIRE_FIELD(BOOL, "on", struct point, on, .optional = true),
    WIRE_FIELD(INT, "i", struct point, i),
    WIRE_FIELD(I64, "big", struct point, big, .optional = true),
    WIRE_FIELD(I64, "offset", struct point, offset, .optional = true, .absent = -1),
    WIRE_FIELD(U64, "u", struct point, u, .optional = true),
    WIRE_FIELD(F32, "f", struct point, f, .optional = true),
    WIRE_FIELD(F64, "d", struct point, d, .optional = true),
    WIRE_FIELD(TYPE, "type", struct point, type, .optional = true),
    WIRE_FIELD(SHAPE, "shape", struct point, shape, .count = offsetof(struct point, ndim),
               .optional = true),
    WIRE_FIELD(TEXTS, "texts", struct point, texts, .optional = true),
    WIRE_FIELD(OBJECT, "stages", struct point, stages, .of = &wire_stages_table, .optional = true),
    WIRE_ARRAY("points", struct point, points, npoints, point, .optional = true),
};
static const struct wire_table point = WIRE_TABLE(struct point, fields);

static struct wire_arena *arena;
static struct pcv_err e;

static int setup(void **state)
{
    (void)state;
    arena = wire_arena_new();
    return arena ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    wire_arena_free(arena);
    return 0;
}

static int read_point(const char *text, struct point *p)
{
    *p = (struct point){.i = -7};
    return wire_read_document(arena, text, strlen(text), &point, p, &e);
}

static void test_every_kind(void **state)
{
    struct point p;

    (void)state;
    assert_ok(read_point("{\"name\":\"a\\u00e9\",\"on\":true,\"i\":-2147483648,"
                         "\"big\":-9223372036854775808,\"offset\":5,\"u\":18446744073709551615,"
                         "\"f\":0.1,\"d\":1e-3,\"type\":\"BF16\",\"shape\":[-1,3],"
                         "\"texts\":[\"x\",\"y\",\"z\",\"1\",\"2\"],"
                         "\"stages\":{\"encode\":1,\"process\":2,\"decode\":3,\"total\":6},"
                         "\"points\":[{\"i\":1},{\"i\":2},{\"i\":3},{\"i\":4},{\"i\":5}]}",
                         &p),
              e);
    assert_string_equal(p.name, "a\xc3\xa9");
    assert_int_equal(p.name_len, 3);
    assert_true(p.on);
    assert_int_equal(p.i, INT32_MIN);
    assert_true(p.big == INT64_MIN);
    assert_int_equal(p.offset, 5);
    assert_true(p.u == UINT64_MAX);
    assert_true(p.f == 0.1f);
    assert_true(p.d == 1e-3);
    assert_int_equal(p.type, PCV_BF16);
    assert_int_equal(p.ndim, 2);
    assert_int_equal(p.shape[0], -1);
    assert_int_equal(p.shape[1], 3);
    assert_string_equal(p.texts[4], "2");
    assert_null(p.texts[5]);
    assert_true(p.stages.encode == 1 && p.stages.process == 2 && p.stages.decode == 3);
    assert_int_equal(p.npoints, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(p.points[i].i, i + 1);
        assert_int_equal(p.points[i].offset, -1);
    }
}

static void test_absent(void **state)
{
    struct point p;

    (void)state;
    assert_ok(read_point("{\"i\":1,\"name\":null,\"offset\":null,\"points\":null,\"new\":{}}", &p),
              e);
    assert_null(p.name);
    assert_int_equal(p.offset, -1);
    assert_null(p.points);
    assert_ok(read_point("{\"i\":1,\"points\":[],\"texts\":[],\"shape\":[]}", &p), e);
    assert_non_null(p.points);
    assert_null(p.texts[0]);
    assert_int_equal(p.ndim, 0);
    assert_fails(read_point("{}", &p), e, PCV_EMISSING, "$.i", "missing");
    assert_int_not_equal(read_point("{\"i\":null}", &p), 0);
}

/* Whichever comes first. */
static void test_bytes_are_stronger(void **state)
{
    struct point p;

    (void)state;
    assert_ok(read_point("{\"i\":1,\"name\":\"?\",\"bytes\":[255,97]}", &p), e);
    assert_string_equal(p.name, "\xff"
                                "a");
    assert_int_equal(p.name_len, 2);
    assert_ok(read_point("{\"i\":1,\"bytes\":[1,2,3,4],\"name\":\"?\"}", &p), e);
    assert_string_equal(p.name, "\1\2\3\4");
    assert_int_equal(p.name_len, 4);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *where;
        int code;
    } cases[] = {
        {"{\"i\":2147483648}", "$.i", PCV_ERANGE},
        {"{\"i\":1.5}", "$.i", PCV_EFORMAT},
        {"{\"i\":\"1\"}", "$.i", PCV_EFORMAT},
        {"{\"i\":1,\"u\":-1}", "$.u", PCV_ERANGE},
        {"{\"i\":1,\"u\":18446744073709551616}", "$.u", PCV_ERANGE},
        {"{\"i\":1,\"d\":1e999}", "$.d", PCV_ERANGE},
        {"{\"i\":1,\"d\":true}", "$.d", PCV_EFORMAT},
        {"{\"i\":1,\"name\":3}", "$.name", PCV_EFORMAT},
        {"{\"i\":1,\"bytes\":[0]}", "$.bytes[0]", PCV_ERANGE},
        {"{\"i\":1,\"type\":\"FP8\"}", "$.type", PCV_EUNKNOWN},
        {"{\"i\":1,\"shape\":[1,1,1,1,1,1,1,1,1]}", "$.shape[8]", PCV_ELIMIT},
        {"{\"i\":1,\"shape\":[-2]}", "$.shape[0]", PCV_ERANGE},
        {"{\"i\":1,\"stages\":{\"encode\":1}}", "$.stages.process", PCV_EMISSING},
        {"{\"i\":1,\"points\":[{\"i\":1},{}]}", "$.points[1].i", PCV_EMISSING},
        {"{\"i\":1,\"i\":1}", "$.i", PCV_EFORMAT},
    };
    struct point p;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        assert_fails(read_point(cases[i].text, &p), e, cases[i].code, cases[i].where, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_bytes_are_stronger),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
