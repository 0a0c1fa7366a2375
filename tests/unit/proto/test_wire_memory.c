/* Every allocation of every decoder and encoder fails once: each time the call says PCV_ENOMEM,
 * leaves its outputs alone and keeps nothing. The program has its own malloc for that, which a
 * sanitizer would not let it have. */
#include "proto/wire_client.h"
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
static char numbers[40000]; /* an infer request whose tensor takes more than a chunk of an arena */
static char requests[4][60000]; /* native, form, OIP, kept, with long texts: pieces fill several
                                   chunks */
static char batch[60000];       /* inputs and their names */
static char rows[20000];        /* positions */

/* A call under test: 0 or its error. Outputs it must not touch on failure are checked by it. */
typedef int (*call)(void);

static int decode(int (*decoder)(struct wire_request **, const char *), const char *body)
{
    struct wire_request *r = NULL;
    int code = decoder(&r, body);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int as_native(struct wire_request **r, const char *body)
{
    return wire_native_decode(r, body, strlen(body), &e);
}

static int as_oip(struct wire_request **r, const char *body)
{
    return wire_oip_decode(r, body, strlen(body), -1, &e);
}

static int as_raw(struct wire_request **r, const char *body)
{
    return wire_oip_decode(r, body, strlen(body), 0, &e);
}

/* Three files and the queries, then tasks as arguments. */
static int as_form(struct wire_request **r, const char *body)
{
    static char names[3][3000], types[3][3000];
    struct wire_part p[3] = {0};
    struct wire_arg a[] = {{"task", names[0]}, {"task", names[1]}, {"priority", "1"}};

    for (int i = 0; i < 3; i++) {
        memset(names[i], 'a' + i, sizeof(names[i]) - 1);
        memset(types[i], 'A' + i, sizeof(types[i]) - 1);
        p[i] = (struct wire_part){names[i], "f", types[i], "x", 1};
    }
    if (!body)
        return wire_native_from_parts(r, p, 3, a, 3, &e);
    p[2] = (struct wire_part){.name = "queries", .data = body, .len = strlen(body)};
    return wire_native_from_parts(r, p, 3, a + 2, 1, &e);
}

static int native(void)
{
    return decode(as_native, requests[0]);
}

static int native_batch(void)
{
    return decode(as_native, batch);
}

static int as_query(struct wire_request **r, const char *body)
{
    return wire_native_decode_query(r, body, strlen(body), &e);
}

static int kept_query(void)
{
    return decode(as_query, requests[3]);
}

static int form_rows(void)
{
    struct wire_part p = {.data = "x", .len = 1};
    struct wire_arg a[] = {{"task", "t"}, {"positions", rows}, {"keep", "1m"}};
    struct wire_request *r = NULL;
    int code = wire_native_from_parts(&r, &p, 1, a, 3, &e);

    assert_int_equal(code == 0, r != NULL);
    wire_request_free(r);
    return code;
}

static int form_queries(void)
{
    return decode(as_form, requests[1]);
}

static int form_tasks(void)
{
    return decode(as_form, NULL);
}

static int oip(void)
{
    return decode(as_oip, requests[2]);
}

static int oip_numbers(void)
{
    return decode(as_oip, numbers);
}

static int oip_bytes(void)
{
    return decode(as_oip, "{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"BYTES\","
                          "\"data\":[\"\\n\"]},{\"data\":[[\"\\n\"]],\"name\":\"b\","
                          "\"shape\":[1],\"datatype\":\"BYTES\"}]}");
}

static int oip_raw(void)
{
    return decode(as_raw, "abc");
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

/* A row of zeros. Ranked rows are short: qsort_r would take memory for longer ones, and do without.
 */
static struct wire_out_tensor row(int n, bool binary, int classification)
{
    static float v[2000];

    return (struct wire_out_tensor){.t = {.name = "a",
                                          .ndim = 1,
                                          .shape = {n},
                                          .dtype = PCV_F32,
                                          .data = v,
                                          .nbytes = (size_t)n * 4},
                                    .binary = binary,
                                    .classification = classification};
}

static int oip_encode(void)
{
    const struct wire_out_tensor o[] = {row(2000, false, 0), row(2000, true, 0),
                                        row(200, false, 50), row(200, true, 190)};
    const struct wire_reply reply = {.model = "m", .version = "1", .noutputs = 4, .outputs = o};
    char *body = NULL;
    size_t len;
    int64_t header;
    int code = wire_oip_encode(&reply, &body, &len, &header, &e);

    assert_int_equal(code == 0, body != NULL);
    free(body);
    return code;
}

/* Lines of a stream, and a reply read back. */
static int lines(void)
{
    static const struct wire_label l[] = {{0, "label", 0.5f}};
    static const float v[200];
    static const struct wire_result res = {
        .task = "t", .kind = WIRE_VALUES, .nlabels = 1, .labels = l};
    const struct wire_chunk c = {.task = "t", .n = 10, .width = 20, .numbers = v};
    const struct wire_reply reply = {.model = "m", .version = "1"};
    char *line[3] = {NULL};
    size_t len;
    int code = wire_chunk_encode(&c, &line[0], &len, &e);

    assert_int_equal(code == 0, line[0] != NULL);
    if (code == 0 && (code = wire_result_line_encode(&res, 1, &line[1], &len, &e)) == 0)
        code = wire_done_encode(&reply, &line[2], &len, &e);
    assert_int_equal(code == 0, line[2] != NULL);
    for (int i = 0; i < 3; i++)
        free(line[i]);
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

static int latents_json(void)
{
    static const char *const tasks[] = {"a", "b"};
    const struct wire_latents_desc d = {.handle = "h", .model = "m", .ntasks = 2, .tasks = tasks};

    return described(wire_latents_json(&d));
}

/* A client reads replies of every kind. */
static int client_reply(void)
{
    static const float v[1500];
    static const struct wire_label l[] = {{0, "label", 0.5f}};
    static const struct wire_file f[] = {{1, "image/png", v, sizeof(v)}};
    static const struct wire_result res[] = {
        {.task = "a", .kind = WIRE_VALUES, .nlabels = 1, .labels = l},
        {.task = "b", .kind = WIRE_TENSOR, .ndim = 1, .shape = {1500}, .numbers = v},
        {.task = "c", .kind = WIRE_FILES, .nfiles = 1, .files = f},
        {.task = "d", .kind = WIRE_VECTORS, .ndim = 2, .shape = {3, 500}, .numbers = v}};
    static const int counts[] = {1, 3};
    static const char *const handles[] = {"a", "b"};
    const struct wire_reply reply = {.model = "m",
                                     .version = "1",
                                     .nresults = 4,
                                     .results = res,
                                     .batch = true,
                                     .nitems = 2,
                                     .counts = counts,
                                     .latents = handles};
    struct wire_reply got = {.model = NULL};
    struct wire_arena *a = wire_arena_new();
    char *body = NULL;
    size_t len;
    int code =
        a ? wire_native_encode(&reply, &body, &len, &e) : pcv_fail(&e, PCV_ENOMEM, "out of memory");

    if (code == 0)
        code = wire_client_reply(a, body, len, &got, &e);
    assert_int_equal(code == 0, got.model != NULL);
    free(body);
    wire_arena_free(a);
    return code;
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
        assert_int_equal(code, countdown < 0 ? PCV_ENOMEM : 0); /* below 0: one was refused */
        assert_int_equal(e.code, code);
        countdown = -1;
        assert_int_equal(balance, before);
    }
}

/* Appends n letters, all different texts for different n. */
static char *letters(char *p, int n)
{
    memset(p, 'a' + n % 26, (size_t)n);
    return p + n;
}

/* A batch of long names; queries with classes, positions and points; positions by themselves. */
static void write_batch(void)
{
    char *p = batch + sprintf(batch, "{\"keep\":\"\\u0031m\",\"inputs\":["), *q = requests[3];

    for (int i = 0; i < 30; i++) {
        p = letters(p + sprintf(p, "%s{\"", i ? "," : ""), 900 + i);
        p += sprintf(p, "\":\"x\"}");
    }
    sprintf(p, "]}");
    q += sprintf(q, "{\"queries\":[{\"task\":\"a\",\"classes\":[");
    for (int i = 0; i < 20; i++) {
        q = letters(q + sprintf(q, "%s\"", i ? "," : ""), 900 + i);
        q += sprintf(q, "\"");
    }
    q += sprintf(q, "]},{\"task\":\"b\",\"positions\":[0");
    p = rows + sprintf(rows, "0");
    for (int i = 1; i < 4000; i++) {
        q += sprintf(q, ",%d", i);
        p += sprintf(p, ",%d", i);
    }
    q += sprintf(q, "]},{\"task\":\"c\",\"points\":[[0,0]");
    for (int i = 1; i < 1000; i++)
        q += sprintf(q, ",[%d,1]", i);
    sprintf(q, "]}]}");
}

static void write_requests(void)
{
    char *p = requests[0], *q = requests[1];

    p += sprintf(p, "{\"inputs\":{");
    for (int i = 0; i < 12; i++) {
        p += sprintf(p, "%s\"", i ? "," : "");
        p = letters(p, 900 + i);
        if (i % 3 == 0)
            p = letters(p + sprintf(p, "\":{\"type\":\""), 1100 + i);
        p += sprintf(p, i % 3 == 0 ? "\",\"b64\":\"" : "\":\"\\n");
        p = letters(p, 1200);
        p += sprintf(p, i % 3 == 0 ? "\"}" : "\"");
    }
    p += sprintf(p, "},\"queries\":");
    q += sprintf(q, "[");
    for (int i = 0; i < 20; i++) {
        q = letters(q + sprintf(q, "%s{\"task\":\"\\n", i ? "," : ""), 1000 + i);
        q += sprintf(q, "\"}");
    }
    sprintf(q, "]");
    sprintf(p, "%s}", requests[1]);
    write_batch();
    p = requests[2] + sprintf(requests[2], "{\"outputs\":[");
    for (int i = 0; i < 20; i++)
        p = letters(p + sprintf(p, "%s{\"name\":\"", i ? "\"}," : ""), 900 + i);
    p += sprintf(p, "\"}],\"inputs\":[");
    for (int i = 0; i < 20; i++) {
        p = letters(p + sprintf(p, "%s{\"name\":\"", i ? "," : ""), 900 + i);
        p += sprintf(p, "\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[%d]}", i);
    }
    sprintf(p, "]}");
    p = numbers + sprintf(numbers, "{\"inputs\":[{\"name\":\"a\",\"shape\":[5000],"
                                   "\"datatype\":\"FP64\",\"data\":[");
    for (int i = 0; i < 5000; i++)
        p += sprintf(p, i ? ",%d" : "%d", i);
    sprintf(p, "]}]}");
}

static void test_failing_memory(void **state)
{
    static const call calls[] = {native,       form_queries, form_tasks,    oip,        oip_numbers,
                                 oip_bytes,    oip_raw,      native_encode, oip_encode, error_json,
                                 config_json,  native_batch, kept_query,    form_rows,  lines,
                                 latents_json, client_reply};

    (void)state;
    if (!OWN_MALLOC)
        skip();
    write_requests();
    for (size_t i = 0; i < LEN(calls); i++)
        fail_each(calls[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failing_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
