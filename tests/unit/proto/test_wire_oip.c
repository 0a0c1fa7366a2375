#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;
static char *body; /* of the last request, which borrows from it; exactly as long */

static int decode_n(struct wire_request **ret, const char *text, size_t len, int64_t header_len)
{
    free(body);
    body = malloc(len ? len : 1);
    memcpy(body, text, len);
    return wire_oip_decode(ret, body, len, header_len, &e);
}

static int decode(struct wire_request **ret, const char *text)
{
    return decode_n(ret, text, strlen(text), -1);
}

/* JSON with a binary part behind it. */
static int decode_binary(struct wire_request **ret, const char *json, const void *bin, size_t n)
{
    size_t len = strlen(json);
    char *text = malloc(len + n);
    int r;

    memcpy(text, json, len);
    memcpy(text + len, bin, n);
    r = decode_n(ret, text, len + n, (int64_t)len);
    free(text);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    free(body);
    body = NULL;
    return 0;
}

static void test_json(void **state)
{
    static const float want[] = {1, -2.5f, 0.1f, 4};
    struct wire_request *r = NULL;
    const struct pcv_tensor *t;

    (void)state;
    assert_ok(decode(&r, "{\"id\": \"a\xc3\xa9 1\", \"inputs\": [{\"name\": \"inputs\", \"shape\": "
                         "[1, 2, 2], \"datatype\": \"FP32\", \"data\": [1, -2.5, 0.1, 4]}]}"),
              e);
    assert_int_equal(r->form, WIRE_OIP);
    assert_string_equal(r->id, "a\xc3\xa9 1");
    assert_int_equal(r->ntensors, 1);
    t = &r->tensors[0];
    assert_string_equal(t->name, "inputs");
    assert_int_equal(t->dtype, PCV_F32);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->shape[0], 1);
    assert_int_equal(t->shape[2], 2);
    assert_int_equal(t->nbytes, 16);
    assert_memory_equal(t->data, want, 16);
    assert_int_equal(r->noutputs, 0);
    assert_int_equal(r->nmedia, 0);
    assert_int_equal(r->nqueries, 0);
    assert_false(r->binary_default);
    assert_false(r->raw);
    wire_request_free(r);
}

/* Keys in any order, unknown ones beside them, and data before what it is checked against. */
static void test_orders(void **state)
{
    static const char *const bodies[] = {
        "{\"inputs\":[{\"data\":[[1,2],[3,4]],\"datatype\":\"INT64\",\"shape\":[2,2],\"name\":"
        "\"a\"}]}",
        "{\"inputs\":[{\"shape\":[2,2],\"data\":[1,2,3,4],\"name\":\"a\",\"datatype\":\"INT64\"}]}",
        "{\"outputs\":[],\"x\":{\"inputs\":[]},\"inputs\":[{\"extra\":[null],\"name\":\"a\","
        "\"shape\":[2,2],\"datatype\":\"INT64\",\"parameters\":{\"p\":1,\"q\":\"s\",\"r\":true},"
        "\"data\":[[[1],[2]],[[3],[4]]]}],\"y\":null}",
    };
    static const int64_t want[] = {1, 2, 3, 4};

    (void)state;
    for (size_t i = 0; i < LEN(bodies); i++) {
        struct wire_request *r = NULL;

        assert_ok(decode(&r, bodies[i]), e);
        assert_int_equal(r->tensors[0].dtype, PCV_I64);
        assert_int_equal(r->tensors[0].ndim, 2);
        assert_memory_equal(r->tensors[0].data, want, 32);
        wire_request_free(r);
    }
}

/* Every datatype's name, size and values, in JSON and binary. */
static void test_datatypes(void **state)
{
    static const struct {
        const char *name;
        enum pcv_dtype t;
        const char *one; /* the bytes of 1 */
    } cases[] = {
        {"BOOL", PCV_BOOL, "\1"},
        {"UINT8", PCV_U8, "\1"},
        {"INT8", PCV_I8, "\1"},
        {"UINT16", PCV_U16, "\1\0"},
        {"INT16", PCV_I16, "\1\0"},
        {"FP16", PCV_F16, "\0\x3c"},
        {"BF16", PCV_BF16, "\x80\x3f"},
        {"UINT32", PCV_U32, "\1\0\0\0"},
        {"INT32", PCV_I32, "\1\0\0\0"},
        {"FP32", PCV_F32, "\0\0\x80\x3f"},
        {"UINT64", PCV_U64, "\1\0\0\0\0\0\0\0"},
        {"INT64", PCV_I64, "\1\0\0\0\0\0\0\0"},
        {"FP64", PCV_F64, "\0\0\0\0\0\0\xf0\x3f"},
    };
    char json[256];

    (void)state;
    assert_int_equal(LEN(cases), PCV_DTYPES);
    for (size_t i = 0; i < LEN(cases); i++) {
        size_t size = pcv_dtype_size(cases[i].t);
        struct wire_request *r = NULL;

        snprintf(json, sizeof(json),
                 "{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"%s\",\"data\":[1]}]}",
                 cases[i].name);
        if (cases[i].t == PCV_F16 || cases[i].t == PCV_BF16) {
            assert_fails(decode(&r, json), e, PCV_EFORMAT, "$.inputs[0].data", cases[i].name);
        } else {
            assert_ok(decode(&r, json), e);
            assert_int_equal(r->tensors[0].dtype, cases[i].t);
            assert_int_equal(r->tensors[0].nbytes, size);
            assert_memory_equal(r->tensors[0].data, cases[i].one, size);
            wire_request_free(r);
        }
        snprintf(json, sizeof(json),
                 "{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"%s\",\"parameters\":"
                 "{\"binary_data_size\":%zu}}]}",
                 cases[i].name, size);
        assert_ok(decode_binary(&r, json, cases[i].one, size), e);
        assert_int_equal(r->tensors[0].dtype, cases[i].t);
        assert_int_equal(r->tensors[0].nbytes, size);
        assert_memory_equal(r->tensors[0].data, cases[i].one, size);
        wire_request_free(r);
    }
}

/* Binary tensors come in the order of the inputs that have them, JSON ones between. */
static void test_binary(void **state)
{
    static const char json[] =
        "{\"inputs\":["
        "{\"name\":\"a\",\"shape\":[2],\"datatype\":\"UINT8\",\"parameters\":{\"binary_data_size\":"
        "2}},"
        "{\"name\":\"b\",\"shape\":[2],\"datatype\":\"INT16\",\"data\":[7,8]},"
        "{\"parameters\":{\"binary_data_size\":0},\"name\":\"c\",\"shape\":[0,5],\"datatype\":"
        "\"FP32\"},"
        "{\"name\":\"d\",\"shape\":[1,1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_"
        "size\":4}}"
        "]}";
    static const char bin[] = {5, 6, 0, 0, (char)0x80, 0x3f};
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode_binary(&r, json, bin, 6), e);
    assert_int_equal(r->ntensors, 4);
    assert_ptr_equal(r->tensors[0].data, body + strlen(json)); /* borrowed from the body */
    assert_memory_equal(r->tensors[0].data, "\5\6", 2);
    assert_int_equal(((const int16_t *)r->tensors[1].data)[1], 8);
    assert_int_equal(r->tensors[2].nbytes, 0);
    assert_ptr_equal(r->tensors[3].data, body + strlen(json) + 2);
    wire_request_free(r);
}

static void test_raw(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode_n(&r, "\x01{\x02", 3, 0), e);
    assert_true(r->raw);
    assert_true(r->binary_default);
    assert_int_equal(r->ntensors, 1);
    assert_null(r->tensors[0].name);
    assert_int_equal(r->tensors[0].dtype, PCV_U8);
    assert_int_equal(r->tensors[0].ndim, 1);
    assert_int_equal(r->tensors[0].shape[0], 3);
    assert_ptr_equal(r->tensors[0].data, body);
    assert_int_equal(r->tensors[0].nbytes, 3);
    wire_request_free(r);
    r = NULL;
    assert_fails(decode_n(&r, "", 0, 0), e, PCV_EMISSING, "body", "empty");
    assert_fails(decode_n(&r, "{}", 2, 3), e, PCV_ERANGE, "Inference-Header-Content-Length",
                 "3, the body has 2 bytes");
    assert_fails(decode_n(&r, "{}", 2, -2), e, PCV_ERANGE, "Inference-Header-Content-Length", "-2");
    assert_fails(decode_n(&r, "{}", 2, INT64_MAX), e, PCV_ERANGE, "Inference-Header-Content-Length",
                 "2 bytes");
    assert_null(r);
}

#define INPUT "{\"name\":\"a\",\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1]}"

/* Defaults for outputs hold whichever comes first, and what an output says holds over them. */
static void test_outputs(void **state)
{
    static const char *const defaults[] = {"", "\"parameters\":{\"binary_data_output\":false},",
                                           "\"parameters\":{\"binary_data_output\":true},"};
    char json[512];

    (void)state;
    for (int d = 0; d < 3; d++) {
        for (int behind = 0; behind < 2; behind++) {
            struct wire_request *r = NULL;
            const char *extra = behind ? defaults[0] : defaults[d];
            const char *late = behind && d ? ",\"parameters\":{\"binary_data_output\":" : "";

            snprintf(json, sizeof(json),
                     "{%s\"outputs\":[{\"name\":\"x\"},{\"name\":\"y\",\"parameters\":"
                     "{\"binary_data\":true,\"classification\":3,\"other\":\"z\"}},"
                     "{\"parameters\":{\"binary_data\":false},\"name\":\"z\"}],\"inputs\":[" INPUT
                     "]%s%s}",
                     extra, late,
                     !*late   ? ""
                     : d == 2 ? "true}"
                              : "false}");
            assert_ok(decode(&r, json), e);
            assert_int_equal(r->noutputs, 3);
            assert_string_equal(r->outputs[0].name, "x");
            assert_int_equal(r->outputs[0].binary, d == 2);
            assert_int_equal(r->outputs[0].classification, 0);
            assert_true(r->outputs[1].binary);
            assert_int_equal(r->outputs[1].classification, 3);
            assert_string_equal(r->outputs[2].name, "z");
            assert_false(r->outputs[2].binary);
            assert_int_equal(r->binary_default, d == 2);
            wire_request_free(r);
        }
    }
}

static void test_parameters(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_ok(decode(&r, "{\"parameters\":{\"priority\":2,\"timeout\":1500000,\"sequence_id\":7,"
                         "\"sequence_start\":true,\"mine\":\"x\",\"rate\":-1.5e3},"
                         "\"inputs\":[" INPUT "]}"),
              e);
    assert_int_equal(r->priority, 2);
    assert_int_equal(r->timeout_us, 1500000);
    wire_request_free(r);
}

/* One text or file as BYTES becomes one of the media. */
static void test_bytes(void **state)
{
    static const char *const texts[] = {"[1],\"datatype\":\"BYTES\",\"data\":[\"caf\\u00e9\"]",
                                        "[1,1],\"datatype\":\"BYTES\",\"data\":[[\"caf\xc3\xa9\"]]",
                                        "[],\"datatype\":\"BYTES\",\"data\":[\"caf\xc3\xa9\"]"};
    struct wire_request *r = NULL;
    char json[256];

    (void)state;
    for (size_t i = 0; i < LEN(texts); i++) {
        snprintf(json, sizeof(json), "{\"inputs\":[{\"name\":\"text\",\"shape\":%s}]}", texts[i]);
        assert_ok(decode(&r, json), e);
        assert_int_equal(r->nitems, 1);
        assert_int_equal(r->nmedia, 1);
        assert_int_equal(r->ntensors, 0);
        assert_string_equal(r->media[0].input, "text");
        assert_string_equal(r->media[0].type, "text/plain");
        assert_int_equal(r->media[0].len, 5);
        assert_memory_equal(r->media[0].data, "caf\xc3\xa9", 5);
        wire_request_free(r);
    }
    assert_ok(decode_binary(&r,
                            "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,1],\"datatype\":"
                            "\"BYTES\",\"parameters\":{\"binary_data_size\":7}}]}",
                            "\3\0\0\0\xff\xd8\xff", 7),
              e);
    assert_int_equal(r->nmedia, 1);
    assert_null(r->media[0].type); /* whatever its bytes are */
    assert_int_equal(r->media[0].len, 3);
    assert_memory_equal(r->media[0].data, "\xff\xd8\xff", 3);
    wire_request_free(r);
}

/* A large shape in front of little data costs nothing, and is not believed. */
static void test_lying_shape(void **state)
{
    struct wire_request *r = NULL;

    (void)state;
    assert_fails(decode(&r, "{\"inputs\":[{\"name\":\"a\",\"shape\":[1099511627776],\"datatype\":"
                            "\"FP64\",\"data\":[1,2]}]}"),
                 e, PCV_ESHAPE, "$.inputs[0].data", "2 elements, shape [1099511627776] has");
}

static void test_limits(void **state)
{
    char *json = malloc(1 << 16), where[40];
    struct wire_request *r = NULL;

    (void)state;
    for (int n = WIRE_MAX_TENSORS; n <= WIRE_MAX_TENSORS + 1; n++) {
        char *p = json + sprintf(json, "{\"inputs\":[");

        for (int i = 0; i < n; i++)
            p +=
                sprintf(p, "%s{\"name\":\"t%d\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[%d]}",
                        i ? "," : "", i, i);
        strcpy(p, "]}");
        if (n == WIRE_MAX_TENSORS) {
            assert_ok(decode(&r, json), e);
            assert_int_equal(r->ntensors, n);
            assert_int_equal(*(const int8_t *)r->tensors[63].data, 63);
            assert_int_equal(*(const int8_t *)r->tensors[2].data, 2);
            wire_request_free(r);
        } else {
            sprintf(where, "$.inputs[%d]", n - 1);
            assert_fails(decode(&r, json), e, PCV_ELIMIT, where, "more than 64 inputs");
        }
        p = json + sprintf(json, "{\"inputs\":[" INPUT "],\"outputs\":[");
        for (int i = 0; i < n; i++)
            p += sprintf(p, "%s{\"name\":\"o%d\"}", i ? "," : "", i);
        strcpy(p, "]}");
        if (n == WIRE_MAX_TENSORS) {
            assert_ok(decode(&r, json), e);
            assert_int_equal(r->noutputs, n);
            wire_request_free(r);
        } else {
            sprintf(where, "$.outputs[%d]", n - 1);
            assert_fails(decode(&r, json), e, PCV_ELIMIT, where, "more than 64 outputs");
        }
    }
    free(json);
}

/* false alone says something; what is no truth value is refused. */
static void test_cache_and_share(void **state)
{
    static const char tail[] = "},\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":"
                               "\"INT8\",\"data\":[1]}]}";
    static const struct {
        const char *parameters;
        bool no_cache, no_share;
    } good[] = {
        {"", false, false},
        {"\"cache\":true,\"share\":true", false, false},
        {"\"cache\":false", true, false},
        {"\"share\":false", false, true},
    };
    static const char *const bad[] = {"0", "\"false\"", "null", "[]"};
    struct wire_request *r = NULL;
    char text[200];

    (void)state;
    for (size_t i = 0; i < LEN(good); i++) {
        snprintf(text, sizeof(text), "{\"parameters\":{%s%s", good[i].parameters, tail);
        assert_ok(decode(&r, text), e);
        assert_int_equal(r->no_cache, good[i].no_cache);
        assert_int_equal(r->no_share, good[i].no_share);
        wire_request_free(r);
    }
    r = NULL;
    for (size_t i = 0; i < LEN(bad); i++) {
        snprintf(text, sizeof(text), "{\"parameters\":{\"cache\":%s%s", bad[i], tail);
        assert_fails(decode(&r, text), e, PCV_EFORMAT, "$.parameters.cache", "true or false");
        snprintf(text, sizeof(text), "{\"parameters\":{\"share\":%s%s", bad[i], tail);
        assert_fails(decode(&r, text), e, PCV_EFORMAT, "$.parameters.share", "true or false");
        assert_null(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_and_share), cmocka_unit_test(test_json),
        cmocka_unit_test(test_orders),          cmocka_unit_test(test_datatypes),
        cmocka_unit_test(test_binary),          cmocka_unit_test(test_raw),
        cmocka_unit_test(test_outputs),         cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_bytes),           cmocka_unit_test(test_lying_shape),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
