/* config.json: every number typed, bounded and named. */
#include "lib/load/config.h"

#include "tests/unit/tiny.h"

static struct pcv_err e;

static struct pcv_config *reads(const char *text)
{
    struct pcv_config *c = NULL;

    tiny_write_text("config.json", text);
    CHECK_OK(pcv_config_open(&c, tiny_dir, "config.json", &e), e);
    return c;
}

static void refused(const char *text, int code, const char *words)
{
    struct pcv_config *c = (void *)0x1;

    tiny_write_text("config.json", text);
    CHECK_FAILS(pcv_config_open(&c, tiny_dir, "config.json", &e), e, code, "config.json", words);
    assert_ptr_equal(c, (void *)0x1);
}

static void what_is_no_json_object_is_refused(void **state)
{
    struct pcv_config *c;
    char deep[40002];

    (void)state;
    refused("", PCV_EFORMAT, "line 1");
    refused("{", PCV_EFORMAT, "line 1");
    refused("{\"a\": 1} x", PCV_EFORMAT, "line 1");
    refused("[]", PCV_EFORMAT, "not a JSON object");
    refused("3", PCV_EFORMAT, "");
    refused("{\"a\": NaN}", PCV_EFORMAT, "line 1");
    refused("{\"a\": Infinity}", PCV_EFORMAT, "line 1");
    refused("{\n\"a\": 1,\n\"a\": 2}", PCV_EFORMAT, "line 3");
    refused("{\"a\": 100000000000000000000}", PCV_EFORMAT, "");
    refused("{\"a\": 1e999}", PCV_EFORMAT, "");
    refused("{\"a\": \"\xff\"}", PCV_EFORMAT, "");
    memset(deep, '[', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    refused(deep, PCV_EFORMAT, "");
    CHECK_FAILS(pcv_config_open(&c, tiny_dir, "nothing.json", &e), e, PCV_EIO, "nothing.json",
                "No such file");
    CHECK_FAILS(pcv_config_open(&c, "/", "tmp", &e), e, PCV_EIO, "/tmp", "");
}

static void endless_files_are_refused(void **state)
{
    struct pcv_config *c;
    FILE *f = fopen(tiny_path("config.json"), "wb");

    (void)state;
    assert_non_null(f);
    assert_int_equal(fseek(f, 17L << 20, SEEK_SET), 0); /* a hole: takes no room */
    fputc(' ', f);
    fclose(f);
    CHECK_FAILS(pcv_config_open(&c, tiny_dir, "config.json", &e), e, PCV_ELIMIT, "config.json",
                "larger than");
}

static void integers_are_typed_and_bounded(void **state)
{
    struct pcv_config *c = reads("{\"n\": 7, \"max\": 2147483647, \"f\": 7.0, \"s\": \"7\", "
                                 "\"t\": true, \"huge\": 4294967303, \"low\": -1, \"null\": null}");
    int v = 99;

    (void)state;
    CHECK_OK(pcv_config_int(c, "n", 1, 10, &v, &e), e);
    assert_int_equal(v, 7);
    CHECK_OK(pcv_config_int(c, "n", 7, 7, &v, &e), e);
    CHECK_OK(pcv_config_int(c, "max", 0, 2147483647, &v, &e), e);
    assert_int_equal(v, 2147483647);
    v = 99;
    CHECK_FAILS(pcv_config_int(c, "n", 8, 10, &v, &e), e, PCV_ERANGE, "config.json: n",
                "7 is outside 8..10");
    CHECK_FAILS(pcv_config_int(c, "n", 0, 6, &v, &e), e, PCV_ERANGE, "config.json: n", "7");
    CHECK_FAILS(pcv_config_int(c, "huge", 0, 10, &v, &e), e, PCV_ERANGE, "huge", "4294967303");
    CHECK_FAILS(pcv_config_int(c, "low", 0, 10, &v, &e), e, PCV_ERANGE, "low", "-1");
    CHECK_FAILS(pcv_config_int(c, "f", 0, 10, &v, &e), e, PCV_EFORMAT, "f", "whole number");
    CHECK_FAILS(pcv_config_int(c, "s", 0, 10, &v, &e), e, PCV_EFORMAT, "s", "whole number");
    CHECK_FAILS(pcv_config_int_or(c, "t", 0, 10, 3, &v, &e), e, PCV_EFORMAT, "t", "whole number");
    CHECK_FAILS(pcv_config_int(c, "none", 0, 10, &v, &e), e, PCV_EMISSING, "none", "missing");
    CHECK_FAILS(pcv_config_int(c, "null", 0, 10, &v, &e), e, PCV_EMISSING, "null", "missing");
    assert_int_equal(v, 99);
    CHECK_OK(pcv_config_int_or(c, "none", 0, 10, 55, &v, &e), e); /* the absent value is ours */
    assert_int_equal(v, 55);
    CHECK_OK(pcv_config_int_or(c, "null", 0, 10, 56, &v, &e), e);
    assert_int_equal(v, 56);
    assert_true(pcv_config_has(c, "n") && !pcv_config_has(c, "null") && !pcv_config_has(c, "x"));
    pcv_config_close(c);
}

static void arrays_of_integers(void **state)
{
    struct pcv_config *c = reads("{\"a\": [1, 2, 3], \"short\": [1, 2], \"f\": [1, 2.5, 3], "
                                 "\"big\": [1, 2, 9], \"n\": 3}");
    int v[3] = {7, 8, 9};

    (void)state;
    CHECK_OK(pcv_config_ints_or(c, "none", 3, 0, 5, v, &e), e);
    assert_true(v[0] == 7 && v[1] == 8 && v[2] == 9);
    CHECK_FAILS(pcv_config_ints_or(c, "short", 3, 0, 5, v, &e), e, PCV_EFORMAT, "short", "3");
    CHECK_FAILS(pcv_config_ints_or(c, "n", 3, 0, 5, v, &e), e, PCV_EFORMAT, "n", "array");
    CHECK_FAILS(pcv_config_ints_or(c, "f", 3, 0, 5, v, &e), e, PCV_ERANGE, "f", "element 1");
    CHECK_FAILS(pcv_config_ints_or(c, "big", 3, 0, 5, v, &e), e, PCV_ERANGE, "big", "element 2");
    assert_true(v[0] == 7 && v[1] == 8 && v[2] == 9);
    CHECK_OK(pcv_config_ints_or(c, "a", 3, 0, 5, v, &e), e);
    assert_true(v[0] == 1 && v[1] == 2 && v[2] == 3);
    pcv_config_close(c);
}

static void numbers_booleans_and_texts(void **state)
{
    struct pcv_config *c =
        reads("{\"n\": 2, \"f\": 2.5, \"t\": true, \"no\": false, \"s\": \"x\"}");
    const char *text = "before";
    double d = 9;
    bool b = false;

    (void)state;
    CHECK_OK(pcv_config_number_or(c, "n", 0, 10, 1, &d, &e), e);
    assert_true(d == 2);
    CHECK_OK(pcv_config_number_or(c, "f", 2.5, 2.5, 1, &d, &e), e);
    assert_true(d == 2.5);
    CHECK_FAILS(pcv_config_number_or(c, "f", 3, 4, 1, &d, &e), e, PCV_ERANGE, "f", "2.5");
    CHECK_FAILS(pcv_config_number_or(c, "s", 3, 4, 1, &d, &e), e, PCV_EFORMAT, "s", "number");
    assert_true(d == 2.5);
    CHECK_OK(pcv_config_number_or(c, "none", 3, 4, 1, &d, &e), e);
    assert_true(d == 1);

    CHECK_OK(pcv_config_bool_or(c, "t", false, &b, &e), e);
    assert_true(b);
    CHECK_OK(pcv_config_bool_or(c, "no", true, &b, &e), e);
    assert_false(b);
    CHECK_OK(pcv_config_bool_or(c, "none", true, &b, &e), e);
    assert_true(b);
    CHECK_FAILS(pcv_config_bool_or(c, "n", false, &b, &e), e, PCV_EFORMAT, "n", "true or false");
    assert_true(b);

    CHECK_FAILS(pcv_config_text(c, "none", &text, &e), e, PCV_EMISSING, "none", "missing");
    CHECK_FAILS(pcv_config_text(c, "n", &text, &e), e, PCV_EFORMAT, "n", "string");
    CHECK_FAILS(pcv_config_text_or(c, "n", "y", &text, &e), e, PCV_EFORMAT, "n", "string");
    assert_string_equal(text, "before");
    CHECK_OK(pcv_config_text(c, "s", &text, &e), e);
    assert_string_equal(text, "x");
    CHECK_OK(pcv_config_text_or(c, "none", "y", &text, &e), e);
    assert_string_equal(text, "y");
    pcv_config_close(c);
}

static void the_first_of_an_array_of_strings(void **state)
{
    struct pcv_config *c =
        reads("{\"a\": [\"one\", \"two\"], \"none\": [], \"n\": [1], \"s\": \"x\"}");
    const char *text = "before";

    (void)state;
    CHECK_FAILS(pcv_config_first(c, "none", &text, &e), e, PCV_EFORMAT, "none", "strings");
    CHECK_FAILS(pcv_config_first(c, "n", &text, &e), e, PCV_EFORMAT, "n", "strings");
    CHECK_FAILS(pcv_config_first(c, "s", &text, &e), e, PCV_EFORMAT, "s", "strings");
    CHECK_FAILS(pcv_config_first(c, "x", &text, &e), e, PCV_EMISSING, "x", "missing");
    assert_string_equal(text, "before");
    CHECK_OK(pcv_config_first(c, "a", &text, &e), e);
    assert_string_equal(text, "one");
    pcv_config_close(c);
}

static void labels_stand_at_their_index(void **state)
{
    struct pcv_config *c = reads("{\"id2label\": {\"2\": \"c\", \"0\": \"a\", \"1\": \"b\"}}");
    char **labels = NULL;
    int n = 0;

    (void)state;
    CHECK_OK(pcv_config_labels(c, "id2label", &labels, &n, &e), e);
    assert_int_equal(n, 3);
    assert_string_equal(labels[0], "a");
    assert_string_equal(labels[1], "b");
    assert_string_equal(labels[2], "c");
    pcv_labels_free(labels, n);
    pcv_config_close(c);
    c = reads(
        "{\"id2label\": {\"1\": -7, \"0\": 4000000000}}"); /* digits, as upstreams write them */
    CHECK_OK(pcv_config_labels(c, "id2label", &labels, &n, &e), e);
    assert_int_equal(n, 2);
    assert_string_equal(labels[0], "4000000000");
    assert_string_equal(labels[1], "-7");
    pcv_labels_free(labels, n);
    CHECK_OK(pcv_config_labels(c, "absent", &labels, &n, &e), e);
    assert_null(labels);
    assert_int_equal(n, 0);
    pcv_labels_free(NULL, 0);
    pcv_config_close(c);
}

static void labels_with_gaps_are_refused(void **state)
{
    static const char *const bad[] = {
        "{}",
        "[\"a\"]",
        "3",
        "{\"1\": \"a\"}",
        "{\"0\": \"a\", \"2\": \"b\"}",
        "{\"0\": \"a\", \"-1\": \"b\"}",
        "{\"0\": \"a\", \"x\": \"b\"}",
        "{\"0\": \"a\", \"\": \"b\"}",
        "{\"0\": \"a\", \"1x\": \"b\"}",
        "{\"0\": \"a\", \" 1\": \"b\"}",
        "{\"0\": \"a\", \"+1\": \"b\"}",
        "{\"0\": \"a\", \"00\": \"b\"}",
        "{\"0\": \"a\", \"01\": \"b\"}",
        "{\"0\": \"a\", \"99999999999999999999\": \"b\"}",
        "{\"0\": \"a\", \"1\": 7.5}",
        "{\"0\": \"a\", \"1\": true}",
        "{\"0\": \"a\", \"1\": null}",
    };

    (void)state;
    for (size_t i = 0; i < LEN(bad); i++) {
        char text[200];
        struct pcv_config *c;
        char **labels = (void *)0x1;
        int n = 5;

        snprintf(text, sizeof(text), "{\"id2label\": %s}", bad[i]);
        c = reads(text);
        CHECK_FAILS(pcv_config_labels(c, "id2label", &labels, &n, &e), e, PCV_EFORMAT,
                    "config.json: id2label", "");
        assert_ptr_equal(labels, (void *)0x1);
        assert_int_equal(n, 5);
        pcv_config_close(c);
    }
}

static void children_carry_the_whole_place(void **state)
{
    static const char *const known[] = {"a", "b", NULL};
    struct pcv_config *c = reads("{\"x\": {\"a\": 5, \"b\": \"t\"}, \"n\": 3, \"null\": null}");
    struct pcv_config *child = NULL, *none;
    int v;

    (void)state;
    CHECK_FAILS(pcv_config_child(&child, c, "n", &e), e, PCV_EFORMAT, "config.json: n", "object");
    CHECK_OK(pcv_config_child(&none, c, "null", &e), e);
    assert_null(none);
    CHECK_OK(pcv_config_child(&child, c, "x", &e), e);
    CHECK_OK(pcv_config_only(child, known, &e), e);
    CHECK_FAILS(pcv_config_only(c, known, &e), e, PCV_EUNKNOWN, "config.json: x", "nobody knows");
    CHECK_FAILS(pcv_config_int(child, "a", 0, 4, &v, &e), e, PCV_ERANGE, "config.json: x: a", "5");
    pcv_config_close(c); /* the child lives on */
    CHECK_OK(pcv_config_int(child, "a", 0, 5, &v, &e), e);
    assert_int_equal(v, 5);
    pcv_config_close(child);
    pcv_config_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_json_object_is_refused),
        cmocka_unit_test(endless_files_are_refused),
        cmocka_unit_test(integers_are_typed_and_bounded),
        cmocka_unit_test(arrays_of_integers),
        cmocka_unit_test(numbers_booleans_and_texts),
        cmocka_unit_test(the_first_of_an_array_of_strings),
        cmocka_unit_test(labels_stand_at_their_index),
        cmocka_unit_test(labels_with_gaps_are_refused),
        cmocka_unit_test(children_carry_the_whole_place),
    };

    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
