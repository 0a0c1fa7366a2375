/* Files are written into a temporary folder, one for each hostile case. */
#include "lib/load/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_safetensors.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/t.safetensors", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir); /* fails when a temporary file was left behind */
}

static void put_bytes(const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A file of this header and ndata bytes 0, 1, 2, ...; claimed is the header's length as written. */
static void put_claimed(const char *json, size_t len, uint64_t claimed, size_t ndata)
{
    char *b = malloc(8 + len + ndata);

    assert_non_null(b);
    for (int i = 0; i < 8; i++)
        b[i] = (char)(claimed >> 8 * i);
    memcpy(b + 8, json, len);
    for (size_t i = 0; i < ndata; i++)
        b[8 + len + i] = (char)i;
    put_bytes(b, 8 + len + ndata);
    free(b);
}

static void put(const char *json, size_t ndata)
{
    put_claimed(json, strlen(json), strlen(json), ndata);
}

/* Opening must fail with this code, name the path, and say `part` in place or message. */
static void refused(int code, const char *part)
{
    struct pcv_safetensors *f = (void *)0x1;
    struct pcv_err e = {0};

    assert_int_equal(pcv_safetensors_open(&f, path, &e), code);
    assert_ptr_equal(f, (void *)0x1);
    assert_int_equal(e.code, code);
    assert_memory_equal(e.where, path, strlen(path));
    if (!strstr(e.where, part) && !strstr(e.msg, part))
        fail_msg("\"%s\" is neither in \"%s\" nor in \"%s\"", part, e.where, e.msg);
    assert_int_equal(pcv_safetensors_open(&f, path, NULL), code);
}

static struct pcv_safetensors *opened(void)
{
    struct pcv_safetensors *f = NULL;
    struct pcv_err e = {0};

    if (pcv_safetensors_open(&f, path, &e) < 0)
        fail_msg("%s: %s", e.where, e.msg);
    return f;
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* ---- good files --------------------------------------------------------------------------- */

static void reads_by_place_and_name(void **state)
{
    struct pcv_safetensors *f;
    const struct pcv_tensor *t;

    (void)state;
    put("{" T("z", "F32", "[2,1]", "[2,10]") ",\"__metadata__\":{\"format\":\"pt\"}," T(
            "b", "U8", "[2]", "[0,2]") "," T("s", "I16", "[]", "[10,12]") "}   ",
        12);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), 3);
    assert_string_equal(pcv_safetensors_at(f, 0)->name, "b");
    assert_string_equal(pcv_safetensors_at(f, 1)->name, "z");
    assert_string_equal(pcv_safetensors_at(f, 2)->name, "s");
    t = pcv_safetensors_find(f, "z");
    assert_ptr_equal(t, pcv_safetensors_at(f, 1));
    assert_int_equal(t->dtype, PCV_F32);
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 1);
    assert_int_equal(t->nbytes, 8);
    assert_memory_equal(t->data, "\2\3\4\5\6\7\10\11", 8);
    t = pcv_safetensors_find(f, "s");
    assert_int_equal(t->ndim, 0);
    assert_memory_equal(t->data, "\12\13", 2);
    assert_null(pcv_safetensors_find(f, "a"));
    assert_null(pcv_safetensors_find(f, "__metadata__"));
    assert_true(pcv_safetensors_bytes(f) > 12);
    pcv_safetensors_close(f);
}

static void reads_no_tensors(void **state)
{
    struct pcv_safetensors *f;

    (void)state;
    put("{}", 0);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), 0);
    assert_null(pcv_safetensors_find(f, ""));
    pcv_safetensors_close(f);
    pcv_safetensors_close(NULL);
}

static void reads_empty_tensors_between_others(void **state)
{
    struct pcv_safetensors *f;

    (void)state;
    put("{" T("a", "U8", "[2]", "[0,2]") "," T("y", "F32", "[0,5]", "[2,2]") "," T(
            "b", "U8", "[2]", "[2,4]") "," T("x", "F64", "[3,0]", "[4,4]") "}",
        4);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), 4);
    assert_string_equal(pcv_safetensors_at(f, 1)->name, "y");
    assert_string_equal(pcv_safetensors_at(f, 3)->name, "x");
    pcv_safetensors_close(f);
}

static void reads_every_datatype(void **state)
{
    (void)state;
    for (int d = 0; d < PCV_DTYPES; d++) {
        size_t size = pcv_dtype_size((enum pcv_dtype)d);
        struct pcv_safetensors *f;
        char json[128];

        snprintf(json, sizeof(json),
                 "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                 pcv_dtype_name((enum pcv_dtype)d), 3 * size);
        put(json, 3 * size);
        f = opened();
        assert_int_equal(pcv_safetensors_at(f, 0)->dtype, d);
        pcv_safetensors_close(f);
    }
}

/* ---- hostile files: outside the header ------------------------------------------------------ */

static void refuses_missing_file(void **state)
{
    (void)state;
    refused(PCV_EIO, "open");
}

static void refuses_directory_and_fifo(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(PCV_EIO, "regular");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(PCV_EIO, "regular");
    rmdir(path);
}

static void refuses_short_file(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        put_bytes("\0\0\0\0\0\0\0", n);
        refused(PCV_EFORMAT, "at least 8");
    }
}

static void refuses_header_longer_than_file(void **state)
{
    (void)state;
    put_claimed("{}", 2, 3, 0);
    refused(PCV_EFORMAT, "header of 3 bytes");
    put_claimed("{}", 2, 100000000, 0);
    refused(PCV_EFORMAT, "header of 100000000 bytes");
    put_claimed("{}", 2, 100000001, 0);
    refused(PCV_ELIMIT, "at most 100000000");
    put_claimed("{}", 2, UINT64_MAX, 0); /* 8 + this wraps around */
    refused(PCV_ELIMIT, "18446744073709551615");
}

static void refuses_truncated_file(void **state)
{
    const char *json = "{" T("a", "F32", "[2]", "[0,8]") "}";

    (void)state;
    put(json, 8);
    pcv_safetensors_close(opened());
    for (size_t n = 0; n < 8; n++) {
        put(json, n);
        refused(PCV_EFORMAT, "a");
    }
}

static void refuses_trailing_bytes(void **state)
{
    (void)state;
    put("{" T("a", "F32", "[2]", "[0,8]") "}", 9);
    refused(PCV_EFORMAT, "1 bytes after");
}

/* ---- hostile files: JSON -------------------------------------------------------------------- */

static void refuses_bad_json(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        " {}",
        "null",
        "{",
        "{}}",
        "{} {}",
        "{]",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\\",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\xff\":1}",
        "{\"a\":{\"shape\":[99999999999999999999]}}", /* an integer of more than 64 bits */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put(bad[i], 0);
        refused(PCV_EFORMAT, "header");
    }
}

static void refuses_duplicate_keys(void **state)
{
    (void)state;
    put("{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "duplicate");
    put("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    refused(PCV_EFORMAT, "duplicate");
}

static void refuses_nesting(void **state)
{
    enum { N = 1 << 20 };
    char *deep = malloc(N + 6);

    (void)state;
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', N);
    deep[N + 5] = '\0';
    put(deep, 0);
    refused(PCV_EFORMAT, "nested");
    free(deep);
    put("{\"__metadata__\":{\"a\":\"[[[[[[{{{{\"}}", 0); /* brackets in strings are text */
    pcv_safetensors_close(opened());
    put("{\"__metadata__\":{\"\\\"[[[[{{{\":\"\\\\\"}}", 0);
    pcv_safetensors_close(opened());
}

/* A parsed value takes far more memory than its characters: too many are refused unparsed. */
static void refuses_too_many_values(void **state)
{
    enum { N = 4 << 20 };
    char *many = malloc(N + 10);

    (void)state;
    memcpy(many, "{\"a\":[1", 7);
    for (int i = 0; i < N; i += 2)
        memcpy(many + 7 + i, ",1", 2);
    memcpy(many + 7 + N, "]}", 3);
    put(many, 0);
    refused(PCV_ELIMIT, "values");
    free(many);
}

static void refuses_bad_metadata(void **state)
{
    (void)state;
    put("{\"__metadata__\":[\"format\"]}", 0);
    refused(PCV_EFORMAT, "__metadata__");
    put("{\"__metadata__\":{\"version\":1}}", 0);
    refused(PCV_EFORMAT, "__metadata__");
    put("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0);
    refused(PCV_EFORMAT, "__metadata__");
}

static void refuses_bad_names(void **state)
{
    char json[700], name[514];
    struct pcv_safetensors *f;

    (void)state;
    put("{" T("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "header is not JSON");
    put("{" T("a\\nb", "U8", "[1]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "control character");
    memset(name, 'n', 513);
    name[513] = '\0';
    for (int n = 512; n <= 513; n++) {
        snprintf(json, sizeof(json),
                 "{\"%.*s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", n, name);
        put(json, 1);
        if (n == 513) {
            refused(PCV_EFORMAT, "513 bytes");
        } else {
            f = opened();
            name[512] = '\0';
            assert_non_null(pcv_safetensors_find(f, name));
            name[512] = 'n';
            pcv_safetensors_close(f);
        }
    }
}

static void refuses_too_many_tensors(void **state)
{
    enum { N = 65537, EACH = 64 };
    char *json = malloc(2 + (size_t)N * EACH), *p = json;
    struct pcv_safetensors *f;

    (void)state;
    assert_non_null(json);
    p += sprintf(p, "{");
    for (int i = 0; i < N - 1; i++)
        p += sprintf(p, "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                     i ? "," : "", i);
    strcpy(p, "}");
    put(json, 0);
    f = opened();
    assert_int_equal(pcv_safetensors_count(f), 65536);
    pcv_safetensors_close(f);
    sprintf(p, ",\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    put(json, 0);
    refused(PCV_ELIMIT, "65537 tensors");
    free(json);
}

/* ---- hostile files: tensors ------------------------------------------------------------------ */

static void refuses_bad_entries(void **state)
{
    static const char *const bad[] = {
        "{\"ten\":1}",
        "{\"ten\":[]}",
        "{\"ten\":{}}",
        "{\"ten\":{\"shape\":[1],\"data_offsets\":[0,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1]}}",
        "{\"ten\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":{}}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1.0]}}",
        "{\"ten\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[\"0\",\"1\"]}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put(bad[i], 1);
        refused(PCV_EFORMAT, ": ten");
    }
}

static void refuses_unknown_datatypes(void **state)
{
    (void)state;
    put("{" T("ten", "F8_E4M3", "[1]", "[0,1]") "}", 1);
    refused(PCV_EUNSUPPORTED, "F8_E4M3");
    refused(PCV_EUNSUPPORTED, ": ten");
    put("{" T("ten", "C64", "[1]", "[0,8]") "}", 8);
    refused(PCV_EUNSUPPORTED, "C64");
    put("{" T("ten", "f32", "[1]", "[0,4]") "}", 4);
    refused(PCV_EFORMAT, ": ten");
    put("{" T("ten", "", "[1]", "[0,4]") "}", 4);
    refused(PCV_EUNSUPPORTED, ": ten");
}

static void refuses_bad_shapes(void **state)
{
    (void)state;
    put("{" T("ten", "U8", "[-1]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "shape[0]");
    put("{" T("ten", "U8", "[1,1.0]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "shape[1]");
    put("{" T("ten", "U8", "[true]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "shape[0]");
    put("{" T("ten", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1);
    refused(PCV_EUNSUPPORTED, "9 dimensions");
    put("{" T("ten", "U8", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1);
    pcv_safetensors_close(opened());
    /* Products that wrap around to the right size in 64 bits. */
    put("{" T("ten", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0);
    refused(PCV_EFORMAT, "[4294967296,4294967296]");
    put("{" T("ten", "F32", "[4611686018427387905]", "[0,4]") "}", 4);
    refused(PCV_EFORMAT, "4611686018427387905");
    put("{" T("ten", "U8", "[9223372036854775807]", "[0,1]") "}", 1);
    refused(PCV_EFORMAT, "9223372036854775807");
}

static void refuses_bad_offsets(void **state)
{
    (void)state;
    put("{" T("ten", "U8", "[2]", "[2,0]") "}", 2);
    refused(PCV_EFORMAT, "no range");
    put("{" T("ten", "U8", "[2]", "[-2,0]") "}", 2);
    refused(PCV_EFORMAT, "no range");
    put("{" T("ten", "U8", "[4]", "[0,4]") "}", 3);
    refused(PCV_EFORMAT, "3 bytes of data");
    put("{" T("ten", "U8", "[1]", "[9223372036854775806,9223372036854775807]") "}", 1);
    refused(PCV_EFORMAT, "1 bytes of data");
    put("{" T("ten", "F32", "[2]", "[0,4]") "}", 4);
    refused(PCV_EFORMAT, "F32 [2]");
    put("{" T("ten", "F16", "[2]", "[0,5]") "}", 5);
    refused(PCV_EFORMAT, "F16 [2]");
}

static void refuses_overlaps(void **state)
{
    (void)state;
    put("{" T("a", "U8", "[4]", "[0,4]") "," T("ten", "U8", "[4]", "[3,7]") "}", 7);
    refused(PCV_EFORMAT, ": ten");
    refused(PCV_EFORMAT, "inside the tensor up to 4");
    put("{" T("a", "U8", "[4]", "[0,4]") "," T("ten", "U8", "[4]", "[0,4]") "}", 4);
    refused(PCV_EFORMAT, ": ten");
    put("{" T("a", "U8", "[4]", "[0,4]") "," T("ten", "U8", "[0]", "[2,2]") "}", 4);
    refused(PCV_EFORMAT, ": ten");
}

static void refuses_gaps(void **state)
{
    (void)state;
    put("{" T("ten", "U8", "[4]", "[1,5]") "}", 5);
    refused(PCV_EFORMAT, "nothing covers those from 0");
    put("{" T("a", "U8", "[4]", "[0,4]") "," T("ten", "U8", "[4]", "[6,10]") "}", 10);
    refused(PCV_EFORMAT, ": ten");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_by_place_and_name),
        TEST(reads_no_tensors),
        TEST(reads_empty_tensors_between_others),
        TEST(reads_every_datatype),
        TEST(refuses_missing_file),
        TEST(refuses_directory_and_fifo),
        TEST(refuses_short_file),
        TEST(refuses_header_longer_than_file),
        TEST(refuses_truncated_file),
        TEST(refuses_trailing_bytes),
        TEST(refuses_bad_json),
        TEST(refuses_duplicate_keys),
        TEST(refuses_nesting),
        TEST(refuses_too_many_values),
        TEST(refuses_bad_metadata),
        TEST(refuses_bad_names),
        TEST(refuses_too_many_tensors),
        TEST(refuses_bad_entries),
        TEST(refuses_unknown_datatypes),
        TEST(refuses_bad_shapes),
        TEST(refuses_bad_offsets),
        TEST(refuses_overlaps),
        TEST(refuses_gaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
