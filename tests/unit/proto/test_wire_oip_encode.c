#include "tests/unit/proto/wire_test.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static const float logits[] = {0.1f, -2.5f, 3, 3, 1e-7f, 16777216};
static const char *const names[] = {"zero", "one", "caf\xc3\xa9"};

/* [2,3] of logits. */
static struct wire_out_tensor output(const char *name, bool binary, int classification)
{
    return (struct wire_out_tensor){.t = {.name = name,
                                          .dtype = PCV_F32,
                                          .ndim = 2,
                                          .shape = {2, 3},
                                          .data = logits,
                                          .nbytes = sizeof(logits)},
                                    .binary = binary,
                                    .classification = classification};
}

static struct wire_reply reply(const struct wire_out_tensor *outputs, int n)
{
    struct wire_reply r = {.model = "m",
                           .version = "3",
                           .id = "42",
                           .noutputs = n,
                           .outputs = outputs,
                           .tokens = 784,
                           .output_queries = 2,
                           .batch_items = 8,
                           .gmac = {1, 2, 0.5}};

    r.ms.queue = 0.125;
    r.ms.total = 9;
    return r;
}

#define HEAD                                                                                       \
    "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":\"42\",\"parameters\":{"                 \
    "\"tokens\":784,\"output_queries\":2,\"batch\":8,\"cached\":false,"                            \
    "\"gmac_encode\":1.0,\"gmac_process\":2.0,\"gmac_decode\":0.5,\"gmac_total\":3.5,"             \
    "\"ms_adapt\":0.0,\"ms_queue\":0.125,\"ms_encode\":0.0,\"ms_process\":0.0,\"ms_decode\":0.0,"  \
    "\"ms_total\":9.0},\"outputs\":["

static void test_json(void **state)
{
    struct wire_out_tensor o = output("logits", false, 0);
    struct wire_reply r = reply(&o, 1);
    struct pcv_err e;
    int64_t header = 5;
    char *body;
    size_t len;

    (void)state;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_string_equal(body, HEAD "{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[2,3],"
                                   "\"data\":[0.1,-2.5,3.0,3.0,1e-7,16777216.0]}]}");
    assert_int_equal(len, strlen(body));
    assert_int_equal(header, -1);
    free(body);
    r.id = NULL;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_null(strstr(body, "\"id\""));
    free(body);
}

/* JSON, then the tensors' bytes in order; an output has parameters only with binary_data_size. */
static void test_binary(void **state)
{
    const struct wire_out_tensor o[] = {output("a", true, 0), output("b", false, 0),
                                        output("c", true, 1)};
    static const char want[] =
        HEAD "{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2,3],\"parameters\":"
             "{\"binary_data_size\":24}},"
             "{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[2,3],"
             "\"data\":[0.1,-2.5,3.0,3.0,1e-7,16777216.0]},"
             "{\"name\":\"c\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"parameters\":"
             "{\"binary_data_size\":35}}]}";
    struct wire_reply r = reply(o, 3);
    struct pcv_err e;
    int64_t header;
    char *body;
    size_t len;

    (void)state;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_int_equal(header, strlen(want));
    assert_memory_equal(body, want, strlen(want));
    assert_int_equal(len, strlen(want) + 24 + 35);
    assert_memory_equal(body + header, logits, 24);
    assert_memory_equal(body + header + 24,
                        "\012\0\0\0"
                        "3.000000:2"
                        "\021\0\0\0"
                        "16777216.000000:2",
                        35);
    free(body);
}

static void test_classification(void **state)
{
    static const struct {
        int n;
        bool labels;
        const char *want;
    } cases[] = {
        {1, false, "[2,1],\"data\":[\"3.000000:2\",\"16777216.000000:2\"]"},
        {2, true,
         "[2,2],\"data\":[\"3.000000:2:caf\xc3\xa9\",\"0.100000:0:zero\","
         "\"16777216.000000:2:caf\xc3\xa9\",\"3.000000:0:zero\"]"},
        {3, false,
         "[2,3],\"data\":[\"3.000000:2\",\"0.100000:0\",\"-2.500000:1\",\"16777216.000000:2\","
         "\"3.000000:0\",\"0.000000:1\"]"},
        {9, false, "[2,3],\"data\":[\"3.000000:2\""}, /* min(n, classes) */
        {2147483647, false, "[2,3],\"data\":[\"3.000000:2\""},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_out_tensor o = output("logits", false, cases[i].n);
        struct wire_reply r = reply(&o, 1);
        struct pcv_err e;
        int64_t header;
        char *body;
        size_t len;

        o.labels = cases[i].labels ? names : NULL;
        assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
        assert_int_equal(header, -1);
        assert_non_null(strstr(body, "\"datatype\":\"BYTES\""));
        if (!strstr(body, cases[i].want))
            fail_msg("%s lacks %s", body, cases[i].want);
        free(body);
    }
}

/* Equal values rank by index, one dimension is one row, and three are rows of the last. */
static void test_ranking(void **state)
{
    static const float v[] = {1, 5, 5, 1, 7, 7, 7, 7};
    struct wire_out_tensor o = {
        .t = {.name = "x", .dtype = PCV_F32, .data = v, .nbytes = sizeof(v)}, .classification = 3};
    struct wire_reply r = reply(&o, 1);
    struct pcv_err e;
    int64_t header;
    char *body;
    size_t len;

    (void)state;
    o.t.ndim = 1;
    o.t.shape[0] = 8;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_non_null(
        strstr(body, "\"shape\":[3],\"data\":[\"7.000000:4\",\"7.000000:5\",\"7.000000:6\"]"));
    free(body);
    o.t.ndim = 3;
    memcpy(o.t.shape, (int64_t[]){1, 2, 4}, 24);
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_non_null(strstr(body, "\"shape\":[1,2,3],\"data\":[\"5.000000:1\",\"5.000000:2\","
                                 "\"1.000000:0\",\"7.000000:0\",\"7.000000:1\",\"7.000000:2\"]"));
    free(body);
}

/* The value as printf's %f has it, for all sizes of float. */
static void test_printed_value(void **state)
{
    static const float v[] = {FLT_MAX, -FLT_MAX, FLT_MIN, -0.0f, INFINITY, -INFINITY, 0.0000005f};
    char want[64];

    (void)state;
    for (size_t i = 0; i < LEN(v); i++) {
        struct wire_out_tensor o = {.t = {.name = "x",
                                          .dtype = PCV_F32,
                                          .ndim = 1,
                                          .shape = {1},
                                          .data = &v[i],
                                          .nbytes = 4},
                                    .classification = 1};
        struct wire_reply r = reply(&o, 1);
        struct pcv_err e;
        int64_t header;
        char *body;
        size_t len;

        snprintf(want, sizeof(want), "[\"%f:0\"]", (double)v[i]);
        assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
        assert_non_null(strstr(body, want));
        free(body);
    }
}

static void test_errors(void **state)
{
    static float bad[] = {1, 2, NAN, 4, 5, 6};
    struct wire_out_tensor o = output("logits", false, 0);
    struct wire_reply r = reply(&o, 1);
    struct pcv_err e;
    int64_t header = 7;
    char *body = NULL;
    size_t len = 7;

    (void)state;
    o.t.data = bad;
    for (int i = 0; i < 3; i++) {
        bad[2] = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
        assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_ERANGE, "logits",
                     "element 2 is not finite");
    }
    bad[2] = NAN;
    o.classification = 2;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_ERANGE, "logits",
                 "element 2 is NaN");
    o.t.dtype = PCV_I32;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_EUNSUPPORTED, "logits",
                 "no classification of INT32");
    o.classification = 0;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_EUNSUPPORTED, "logits",
                 "INT32 only travels in the binary form");
    o = output("logits", false, 1);
    o.t.shape[1] = 0;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_ESHAPE, "logits",
                 "no classes");
    o.t.ndim = 0;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_ESHAPE, "logits",
                 "no classes");
    o = output("logits", true, 1000);
    o.t.shape[0] = 1001; /* refused before the data is looked at */
    o.t.shape[1] = 1000;
    assert_fails(wire_oip_encode(&r, &body, &len, &header, &e), e, PCV_ERANGE, "logits",
                 "more than 1000000");
    assert_null(body);
    assert_int_equal(len, 7);
    assert_int_equal(header, 7);

    /* In the binary form they travel. */
    o = output("logits", true, 0);
    o.t.data = bad;
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    assert_memory_equal(body + header, bad, sizeof(bad));
    free(body);
}

/* What is written reads back bit for bit. */
static void test_round_trip(void **state)
{
    enum { N = 20000 };
    static float v[N];
    struct wire_out_tensor o = {.t = {.name = "x",
                                      .dtype = PCV_F32,
                                      .ndim = 1,
                                      .shape = {N},
                                      .data = v,
                                      .nbytes = sizeof(v)}};
    struct wire_reply r = reply(&o, 1);
    struct wire_request *back;
    uint32_t bits = 2463534242u;
    struct pcv_err e;
    int64_t header;
    char *body, *data, *json;
    size_t len;

    (void)state;
    for (int i = 0; i < N; i++) {
        do {
            bits ^= bits << 13;
            bits ^= bits >> 17;
            bits ^= bits << 5;
            memcpy(&v[i], &bits, 4);
        } while (!isfinite(v[i]));
    }
    assert_ok(wire_oip_encode(&r, &body, &len, &header, &e), e);
    data = strstr(body, "\"data\":");
    assert_true(asprintf(&json,
                         "{\"inputs\":[{\"name\":\"x\",\"shape\":[%d],\"datatype\":\"FP32\",%s", N,
                         data) > 0);
    assert_ok(wire_oip_decode(&back, json, strlen(json), -1, &e), e);
    assert_memory_equal(back->tensors[0].data, v, sizeof(v));
    wire_request_free(back);
    free(json);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),           cmocka_unit_test(test_binary),
        cmocka_unit_test(test_classification), cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_printed_value),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
