/* Every error of an infer request: its code, its place, and words a person can act on. */
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

static struct pcv_err e;

/* Decodes text of exactly its length; header_len as in wire_oip_decode. */
static int decode(struct wire_request **ret, const char *text, size_t len, int64_t header_len)
{
    char *exact = malloc(len ? len : 1);
    int r;

    memcpy(exact, text, len);
    r = wire_oip_decode(ret, exact, len, header_len, &e);
    free(exact);
    return r;
}

struct bad {
    const char *json;
    int code;
    const char *where, *words;
};

static void assert_all(const struct bad *cases, size_t n, const char *format)
{
    char text[1024];

    for (size_t i = 0; i < n; i++) {
        struct wire_request *r = NULL;

        snprintf(text, sizeof(text), format, cases[i].json);
        assert_fails(decode(&r, text, strlen(text), -1), e, cases[i].code, cases[i].where,
                     cases[i].words);
        assert_null(r);
    }
}

#define INPUT "{\"name\":\"a\",\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1]}"

#define TEXT "{\"name\":\"t\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"x\"]}"

static void test_request(void **state)
{
    static const struct bad cases[] = {
        {"", PCV_EFORMAT, "$", "ends at byte 0"},
        {"[]", PCV_EFORMAT, "$", "a JSON object"},
        {"{}", PCV_EMISSING, "$.inputs", "missing"},
        {"{\"inputs\":[" INPUT "]} x", PCV_EFORMAT, "$", "the end"},
        {"{\"inputs\":{}}", PCV_EFORMAT, "$.inputs", "an array of inputs"},
        {"{\"inputs\":[]}", PCV_EMISSING, "$.inputs", "no input"},
        {"{\"inputs\":[5]}", PCV_EFORMAT, "$.inputs[0]", "an input"},
        {"{\"inputs\":[" INPUT "," INPUT "]}", PCV_EFORMAT, "$.inputs[1]", "\"a\" appears twice"},
        {"{\"inputs\":[" INPUT "],\"inputs\":[]}", PCV_EFORMAT, "$.inputs", "twice"},
        {"{\"id\":5,\"inputs\":[" INPUT "]}", PCV_EFORMAT, "$.id", "a string"},
        {"{\"id\":\"a\\u0000\",\"inputs\":[" INPUT "]}", PCV_EFORMAT, "$.id", "NUL"},
        {"{\"parameters\":[],\"inputs\":[" INPUT "]}", PCV_EFORMAT, "$.parameters", "an object"},
        {"{\"parameters\":{\"a\":[1]},\"inputs\":[" INPUT "]}", PCV_EFORMAT, "$.parameters.a",
         "strings, numbers or booleans"},
        {"{\"parameters\":{\"a\":null},\"inputs\":[" INPUT "]}", PCV_EFORMAT, "$.parameters.a",
         "strings, numbers or booleans"},
        {"{\"parameters\":{\"triton_x\":1},\"inputs\":[" INPUT "]}", PCV_EFORMAT,
         "$.parameters.triton_x", "reserved"},
        {"{\"parameters\":{\"priority\":-1},\"inputs\":[" INPUT "]}", PCV_ERANGE,
         "$.parameters.priority", "outside"},
        {"{\"parameters\":{\"timeout\":86400000001},\"inputs\":[" INPUT "]}", PCV_ERANGE,
         "$.parameters.timeout", "outside"},
        {"{\"parameters\":{\"binary_data_output\":1},\"inputs\":[" INPUT "]}", PCV_EFORMAT,
         "$.parameters.binary_data_output", "true or false"},
        {"{\"inputs\":[{\"data\":[1", PCV_EFORMAT, "$.inputs[0].data", "']' was expected"},
        {"{\"unknown\":[[[}", PCV_EFORMAT, "$.unknown[0][0][0]", "a value"},
    };

    (void)state;
    assert_all(cases, LEN(cases), "%s");
}

static void test_input(void **state)
{
    static const struct bad cases[] = {
        {"{}", PCV_EMISSING, "$.inputs[0].name", "missing"},
        {"{\"name\":\"a\"}", PCV_EMISSING, "$.inputs[0].datatype", "missing"},
        {"{\"name\":\"a\",\"datatype\":\"FP32\"}", PCV_EMISSING, "$.inputs[0].shape", "missing"},
        {"{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[1]}", PCV_EMISSING, "$.inputs[0].data",
         "missing"},
        {"{\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}", PCV_EMISSING, "$.inputs[0].name",
         "missing"},
        {"{\"name\":5}", PCV_EFORMAT, "$.inputs[0].name", "a string"},
        {"{\"name\":\"a\",\"name\":\"b\"}", PCV_EFORMAT, "$.inputs[0].name", "twice"},
        {"{\"shape\":5}", PCV_EFORMAT, "$.inputs[0].shape", "an array of dimensions"},
        {"{\"shape\":[1,-1]}", PCV_ERANGE, "$.inputs[0].shape[1]", "-1 is outside"},
        {"{\"shape\":[1.0]}", PCV_EFORMAT, "$.inputs[0].shape[0]", "1.0 is not a whole number"},
        {"{\"shape\":[\"1\"]}", PCV_EFORMAT, "$.inputs[0].shape[0]", "a whole number"},
        {"{\"shape\":[9223372036854775808]}", PCV_ERANGE, "$.inputs[0].shape[0]", "outside"},
        {"{\"shape\":[1,1,1,1,1,1,1,1,1]}", PCV_ELIMIT, "$.inputs[0].shape[8]", "more than 8"},
        {"{\"datatype\":\"FP8\"}", PCV_EUNKNOWN, "$.inputs[0].datatype", "\"FP8\""},
        {"{\"datatype\":\"fp32\"}", PCV_EUNKNOWN, "$.inputs[0].datatype", "\"fp32\""},
        {"{\"datatype\":5}", PCV_EFORMAT, "$.inputs[0].datatype", "a string"},
        {"{\"parameters\":5}", PCV_EFORMAT, "$.inputs[0].parameters", "an object"},
        {"{\"parameters\":{\"a\":{}}}", PCV_EFORMAT, "$.inputs[0].parameters.a", "strings"},
        {"{\"parameters\":{\"binary_data_size\":-1}}", PCV_ERANGE,
         "$.inputs[0].parameters.binary_data_size", "outside"},
        {"{\"parameters\":{\"shared_memory_region\":\"r\"}}", PCV_EUNSUPPORTED,
         "$.inputs[0].parameters.shared_memory_region", "shared memory"},
        {"{\"parameters\":{\"binary_data_size\":4},\"data\":[1],\"name\":\"a\",\"shape\":[1],"
         "\"datatype\":\"FP32\"}",
         PCV_EFORMAT, "$.inputs[0]", "both data and binary_data_size"},
        {"{\"parameters\":{\"binary_data_size\":4},\"name\":\"a\",\"shape\":[1],"
         "\"datatype\":\"FP32\"}",
         PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size", "Inference-Header-Content-Length"},
        {"{\"name\":\"a\",\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[1,2,3]}", PCV_ESHAPE,
         "$.inputs[0].data", "3 elements, shape [2,2] has 4"},
        {"{\"name\":\"a\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[[1,2,3]]}", PCV_ESHAPE,
         "$.inputs[0].data", "3 elements, shape [2] has 2"},
        {"{\"name\":\"a\",\"shape\":[0],\"datatype\":\"FP32\",\"data\":[1]}", PCV_ESHAPE,
         "$.inputs[0].data", "1 elements, shape [0] has 0"},
        {"{\"name\":\"a\",\"data\":[1,2,3],\"shape\":[2,2],\"datatype\":\"FP32\"}", PCV_ESHAPE,
         "$.inputs[0].data", "3 elements"},
        {"{\"name\":\"a\",\"data\":[1,[2]],\"shape\":[2],\"datatype\":\"FP32\"}", PCV_ESHAPE,
         "$.inputs[0].data[1]", "an array where"},
        {"{\"name\":\"a\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[[1],[2,3]]}", PCV_ESHAPE,
         "$.inputs[0].data[1][1]", "a row of 2"},
        {"{\"name\":\"a\",\"shape\":[2],\"datatype\":\"UINT8\",\"data\":[1,256]}", PCV_ERANGE,
         "$.inputs[0].data[1]", "256"},
        {"{\"name\":\"a\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,NaN]}", PCV_EFORMAT,
         "$.inputs[0].data[1]", "a number"},
        {"{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[\"1\"]}", PCV_EFORMAT,
         "$.inputs[0].data[0]", "a number"},
        {"{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":5}", PCV_EFORMAT,
         "$.inputs[0].data", "an array of numbers"},
        {"{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1,]}", PCV_EFORMAT,
         "$.inputs[0].data[1]", "a number"},
        {"{\"name\":\"a\",\"shape\":[4294967296,4294967296],\"datatype\":\"INT8\",\"data\":[]}",
         PCV_ERANGE, "$.inputs[0].shape", "more bytes"},
        {"{\"name\":\"a\",\"shape\":[4611686018427387904],\"datatype\":\"FP64\",\"data\":[]}",
         PCV_ERANGE, "$.inputs[0].shape", "more bytes"},
        {"{\"data\":[],\"name\":\"a\",\"shape\":[4611686018427387904],\"datatype\":\"FP64\"}",
         PCV_ERANGE, "$.inputs[0].shape", "more bytes"},
        {"{\"data\":[1,],\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data[1]", "a number at byte 22"},
        {"{\"data\":[x],\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data[0]", "a number at byte 20"},
        {"{\"data\":[\"]\"],\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data[0]", "a number at byte 20"},
        {"{\"data\":[1},\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data", "',' or ']' at byte 21"},
        {"{\"data\":[\"\x01\"],\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data", "control character"},
        {"{\"data\":null,\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\"}", PCV_EFORMAT,
         "$.inputs[0].data", "an array of numbers"},
        {"{\"data\":[x],\"name\":\"a\",\"shape\":[1]}", PCV_EMISSING, "$.inputs[0].datatype",
         "missing"},
    };

    (void)state;
    assert_all(cases, LEN(cases), "{\"inputs\":[%s]}");
}

static void test_bytes(void **state)
{
    static const struct bad cases[] = {
        {"\"shape\":[2],\"data\":[\"a\",\"b\"]", PCV_EUNSUPPORTED, "$.inputs[0].shape",
         "BYTES with 2 elements"},
        {"\"shape\":[0],\"data\":[]", PCV_EUNSUPPORTED, "$.inputs[0].shape", "0 elements"},
        {"\"data\":[\"a\",\"b\"],\"shape\":[2]", PCV_EUNSUPPORTED, "$.inputs[0].shape",
         "2 elements"},
        {"\"shape\":[1],\"data\":[]", PCV_ESHAPE, "$.inputs[0].data", "no element"},
        {"\"shape\":[1],\"data\":[\"a\",\"b\"]", PCV_ESHAPE, "$.inputs[0].data[1]",
         "more elements"},
        {"\"shape\":[1],\"data\":[[\"a\"],[\"b\"]]", PCV_ESHAPE, "$.inputs[0].data[1]",
         "more elements"},
        {"\"shape\":[1],\"data\":\"a\"", PCV_EFORMAT, "$.inputs[0].data", "an array"},
        {"\"shape\":[1],\"data\":[5]", PCV_EFORMAT, "$.inputs[0].data[0]", "a string"},
        {"\"shape\":[1],\"data\":[\"\\ud800\"]", PCV_EFORMAT, "$.inputs[0].data[0]", "surrogate"},
    };

    static const struct bad mixed[] = {
        {INPUT "," TEXT, PCV_EUNSUPPORTED, "$.inputs[1]", "BYTES and tensors in one request"},
        {TEXT "," INPUT, PCV_EUNSUPPORTED, "$.inputs[1]", "BYTES and tensors in one request"},
        {TEXT "," TEXT, PCV_EFORMAT, "$.inputs[1]", "\"t\" appears twice"},
    };

    (void)state;
    assert_all(cases, LEN(cases), "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"BYTES\",%s}]}");
    assert_all(mixed, LEN(mixed), "{\"inputs\":[%s]}");
}

static void test_output(void **state)
{
    static const struct bad cases[] = {
        {"5", PCV_EFORMAT, "$.outputs", "an array of outputs"},
        {"[5]", PCV_EFORMAT, "$.outputs[0]", "an output"},
        {"[{}]", PCV_EMISSING, "$.outputs[0].name", "missing"},
        {"[{\"name\":5}]", PCV_EFORMAT, "$.outputs[0].name", "a string"},
        {"[{\"name\":\"x\"},{\"name\":\"x\"}]", PCV_EFORMAT, "$.outputs[1]", "\"x\" appears twice"},
        {"[{\"name\":\"x\",\"parameters\":[]}]", PCV_EFORMAT, "$.outputs[0].parameters", "object"},
        {"[{\"name\":\"x\",\"parameters\":{\"binary_data\":0}}]", PCV_EFORMAT,
         "$.outputs[0].parameters.binary_data", "true or false"},
        {"[{\"name\":\"x\",\"parameters\":{\"classification\":-1}}]", PCV_ERANGE,
         "$.outputs[0].parameters.classification", "outside"},
        {"[{\"name\":\"x\",\"parameters\":{\"classification\":2147483648}}]", PCV_ERANGE,
         "$.outputs[0].parameters.classification", "outside"},
        {"[{\"name\":\"x\",\"parameters\":{\"shared_memory_region\":\"r\"}}]", PCV_EUNSUPPORTED,
         "$.outputs[0].parameters.shared_memory_region", "shared memory"},
        {"[{\"name\":\"x\",\"parameters\":{\"p\":[]}}]", PCV_EFORMAT, "$.outputs[0].parameters.p",
         "strings"},
    };

    (void)state;
    assert_all(cases, LEN(cases), "{\"inputs\":[" INPUT "],\"outputs\":%s}");
}

/* Sizes, in the JSON and behind it, that do not fit each other. */
static void test_binary(void **state)
{
    static const struct {
        const char *shape, *datatype;
        long long size;
        const char *bytes;
        size_t n;
        int code;
        const char *where, *words;
    } cases[] = {
        {"[2]", "FP32", 8, "1234567", 7, PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size",
         "8 bytes, the body has only 7 left"},
        {"[2]", "FP32", 8, "123456789", 9, PCV_EFORMAT, "body", "1 bytes behind the last"},
        {"[2]", "FP32", 4, "1234", 4, PCV_ESHAPE, "$.inputs[0].parameters.binary_data_size",
         "4 bytes, shape [2] of FP32 has 8"},
        {"[2]", "FP32", 9, "123456789", 9, PCV_ESHAPE, "$.inputs[0].parameters.binary_data_size",
         "9 bytes, shape [2] of FP32 has 8"},
        {"[2]", "FP32", 9223372036854775807, "", 0, PCV_ESHAPE,
         "$.inputs[0].parameters.binary_data_size", "shape [2] of FP32 has 8"},
        {"[9223372036854775807]", "INT8", 9223372036854775807, "", 0, PCV_EFORMAT,
         "$.inputs[0].parameters.binary_data_size", "only 0 left"},
        {"[9223372036854775807]", "FP32", 4, "1234", 4, PCV_ERANGE, "$.inputs[0].shape",
         "more bytes"},
        {"[3]", "BOOL", 3, "\0\1\2", 3, PCV_ERANGE, "$.inputs[0].parameters.binary_data_size",
         "byte 2 of a BOOL tensor is 2"},
        {"[1]", "BYTES", 3, "\0\0\0", 3, PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size",
         "3 bytes do not hold one BYTES element"},
        {"[1]", "BYTES", 0, "", 0, PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size",
         "0 bytes do not hold"},
        {"[1]", "BYTES", 5, "\2\0\0\0x", 5, PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size",
         "5 bytes do not hold one BYTES element of 4 + 2"},
        {"[1]", "BYTES", 6, "\1\0\0\0xy", 6, PCV_EFORMAT, "$.inputs[0].parameters.binary_data_size",
         "4 + 1"},
        {"[1]", "BYTES", 5, "\xff\xff\xff\xffx", 5, PCV_EFORMAT,
         "$.inputs[0].parameters.binary_data_size", "4 + 4294967295"},
        {"[2]", "BYTES", 8, "\0\0\0\0\0\0\0\0", 8, PCV_EUNSUPPORTED, "$.inputs[0].shape",
         "BYTES with 2"},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r = NULL;
        char text[512];
        int n = snprintf(text, sizeof(text),
                         "{\"inputs\":[{\"name\":\"a\",\"shape\":%s,\"datatype\":\"%s\","
                         "\"parameters\":{\"binary_data_size\":%lld}}]}",
                         cases[i].shape, cases[i].datatype, cases[i].size);

        memcpy(text + n, cases[i].bytes, cases[i].n);
        assert_fails(decode(&r, text, (size_t)n + cases[i].n, n), e, cases[i].code, cases[i].where,
                     cases[i].words);
        assert_null(r);
    }
}

/* 10,000 levels, in data and where nobody looks. */
static void test_deep(void **state)
{
    static const struct {
        const char *before, *where;
    } cases[] = {
        {"{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":",
         "$.inputs[0].data[0]"},
        {"{\"inputs\":[{\"data\":", "$.inputs[0].data"},
        {"{\"unknown\":", "$.unknown[0]"},
        {"{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":",
         "$.inputs[0].data[0]"},
    };
    char text[10200];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct wire_request *r;
        int n = sprintf(text, "%s", cases[i].before);

        memset(text + n, '[', 10000);
        assert_int_equal(decode(&r, text, (size_t)n + 10000, -1), PCV_ELIMIT);
        assert_non_null(strstr(e.msg, "nested deeper than 64 at byte"));
        if (strncmp(e.where, cases[i].where, strlen(cases[i].where)) != 0)
            fail_msg("%s, want %s...", e.where, cases[i].where);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request), cmocka_unit_test(test_input),  cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_output),  cmocka_unit_test(test_binary), cmocka_unit_test(test_deep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
