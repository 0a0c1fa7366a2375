/* Every allocation of every decoder and encoder fails once: each time the call says PCV_ENOMEM,
 * leaves its outputs alone and keeps nothing. The program has its own malloc for that, which a
 * sanitizer would not let it have. */
#include "tests/unit/proto/wire_test.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

static long countdown = -1; /* allocations until one fails; -1: none does */
static long balance;        /* allocated and not yet freed */

#if OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *malloc(size_t size)
{
    void *p = fails() ? NULL : __libc_malloc(size);

    balance += p != NULL;
    return p;
}

void *calloc(size_t n, size_t size)
{
    void *p = fails() ? NULL : __libc_calloc(n, size);

    balance += p != NULL;
    return p;
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
#endif

static struct pcv_err e;
static char large[40000]; /* a JSON array of numbers, and more than one chunk of an arena */

/* A call under test: 0 or its error. Outputs it must not touch on failure are checked by it. */
typedef int (*call)(void);

static int native(void)
{
    static const char body[] =
        "{\"inputs\":{\"a\":{\"b64\":\"Zm9v\",\"type\":\"x/y\"},\"b\":\"\\u0041\",\"c\":\"c\","
        "\"d\":\"d\",\"e\":\"e\"},\"queries\":[{\"task\":\"t\"},{\"task\":\"t\"},{\"task\":\"t\"},"
        "{\"task\":\"t\"},{\"task\":\"t\"}]}";
    struct wire_request *r = NULL;
    int code = wire_native_decode(&r, body, sizeof(body) - 1, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int parts(void)
{
    static const struct wire_part p[] = {
        {.name = "a", .type = "Image/PNG", .filename = "f", .data = "x", .len = 1},
        {.name = "queries", .data = "[{\"task\":\"\\u0041\"}]", .len = 19}};
    static const struct wire_arg a[] = {{"priority", "1"}};
    struct wire_request *r = NULL;
    int code = wire_native_from_parts(&r, p, 2, a, 1, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int oip(void)
{
    struct wire_request *r = NULL;
    int code = wire_oip_decode(&r, large, strlen(large), -1, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int oip_bytes(void)
{
    static const char body[] =
        "{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\\n\"]},"
        "{\"data\":[[\"\\n\"]],\"name\":\"b\",\"shape\":[1],\"datatype\":\"BYTES\"}]}";
    struct wire_request *r = NULL;
    int code = wire_oip_decode(&r, body, sizeof(body) - 1, -1, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int oip_raw(void)
{
    struct wire_request *r = NULL;
    int code = wire_oip_decode(&r, "abc", 3, 0, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int native_encode(void)
{
    static const struct wire_label l[] = {{1, "label", 0.5f}};
    static const struct wire_result res[] = {
        {.task = "t", .kind = WIRE_CLASSES, .nlabels = 1, .labels = l}};
    const struct wire_reply reply = {.model = "m", .version = "1", .nresults = 1, .results = res};
    char *body = NULL;
    size_t len;
    int code = wire_native_encode(&reply, &body, &len, &e);

    assert_int_equal(code == 0, body != NULL);
    free(body);
    return code;
}

static int oip_encode(void)
{
    static float v[2000];
    static const struct wire_out_tensor o[] = {
        {.t = {.name = "a",
               .ndim = 1,
               .shape = {2000},
               .dtype = PCV_F32,
               .data = v,
               .nbytes = 8000}},
        {.t =
             {.name = "b", .ndim = 1, .shape = {2000}, .dtype = PCV_F32, .data = v, .nbytes = 8000},
         .binary = true},
        {.t =
             {.name = "c", .ndim = 1, .shape = {2000}, .dtype = PCV_F32, .data = v, .nbytes = 8000},
         .classification = 50},
        {.t =
             {.name = "d", .ndim = 1, .shape = {2000}, .dtype = PCV_F32, .data = v, .nbytes = 8000},
         .classification = 500,
         .binary = true}};
    const struct wire_reply reply = {.model = "m", .version = "1", .noutputs = 4, .outputs = o};
    char *body = NULL;
    size_t len;
    int64_t header;
    int code = wire_oip_encode(&reply, &body, &len, &header, &e);

    assert_int_equal(code == 0, body != NULL);
    free(body);
    return code;
}

static int described(char *text)
{
    int code = text ? 0 : PCV_ENOMEM;

    e.code = code;
    free(text);
    return code;
}

static int error_json(void)
{
    return described(wire_error_json(WIRE_NATIVE, "c", "m", "p", "r"));
}

static int config_json(void)
{
    const struct wire_model_desc m = {.name = "m", .version = "1", .platform = "p"};

    return described(wire_oip_config_json(&m));
}

static void fail_each(call f)
{
    long before = balance;
    int code = PCV_ENOMEM;

    for (long k = 0; code != 0; k++) {
        assert_true(k < 1000);
        e.code = 0;
        countdown = k;
        code = f();
        countdown = -1;
        if (code != 0) {
            assert_int_equal(code, PCV_ENOMEM);
            assert_int_equal(e.code, PCV_ENOMEM);
        }
        assert_int_equal(balance, before);
    }
}

static void test_failing_memory(void **state)
{
    static const call calls[] = {native,        parts,      oip,        oip_bytes,  oip_raw,
                                 native_encode, oip_encode, error_json, config_json};
    char *p = large;

    (void)state;
    if (!OWN_MALLOC)
        skip();
    p +=
        sprintf(p, "{\"id\":\"x\",\"outputs\":[{\"name\":\"\\u0041\"}],\"inputs\":[{\"name\":\"a\","
                   "\"shape\":[5000],\"datatype\":\"FP64\",\"data\":[");
    for (int i = 0; i < 5000; i++)
        p += sprintf(p, i ? ",%d" : "%d", i);
    p += sprintf(p, "]}");
    for (int i = 0; i < 5; i++)
        p += sprintf(p, ",{\"name\":\"%d\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[%d]}", i,
                     i);
    sprintf(p, "]}");
    for (size_t i = 0; i < LEN(calls); i++)
        fail_each(calls[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failing_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
