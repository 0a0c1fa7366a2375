#include "proto/wire_metrics.h"
#include "tests/unit/proto/wire_test.h"

#include <math.h>
#include <stdlib.h>

static struct pcv_err e;

static const char text[] = "# HELP a_total Things, \"quoted\" {and} braced 3\n"
                           "# TYPE a_total counter\n"
                           "a_total{model=\"m\",code=\"200\"} 5\n"
                           "a_total{model=\"m\",code=\"404\",} 1.5e+01 1700000000000\n"
                           "a_total { code = \"200\" , model = \"x\\\"y\\\\z\\nw}\" } 7\n"
                           "\n"
                           "  b -0.25\r\n"
                           "a 99\n"
                           "h_bucket{le=\"+Inf\"} +Inf\n"
                           "n{} NaN\n"
                           "last +3";

static void test_samples(void **state)
{
    static const struct {
        const char *name;
        double value;
    } want[] = {{"a_total", 5}, {"a_total", 15},        {"a_total", 7}, {"b", -0.25},
                {"a", 99},      {"h_bucket", INFINITY}, {"n", NAN},     {"last", 3}};
    struct wire_metrics m;
    struct wire_sample s;
    char buf[16];

    (void)state;
    wire_metrics_init(&m, text, strlen(text));
    for (size_t i = 0; i < LEN(want); i++) {
        assert_int_equal(wire_metrics_next(&m, &s, &e), 1);
        assert_true(wire_sample_is(&s, want[i].name));
        assert_false(wire_sample_is(&s, "a_tota"));
        assert_true(isnan(want[i].value) ? isnan(s.value) : s.value == want[i].value);
        if (i == 2) {
            assert_true(wire_sample_label(&s, "code", buf, sizeof(buf)));
            assert_string_equal(buf, "200");
            assert_true(wire_sample_label(&s, "model", buf, sizeof(buf)));
            assert_string_equal(buf, "x\"y\\z\nw}");
            assert_true(wire_sample_label(&s, "model", buf, 9));
            assert_false(wire_sample_label(&s, "model", buf, 8)); /* no room: not cut */
            assert_false(wire_sample_label(&s, "mode", buf, sizeof(buf)));
        }
        if (i == 3)
            assert_false(wire_sample_label(&s, "code", buf, sizeof(buf)));
    }
    assert_int_equal(wire_metrics_next(&m, &s, &e), 0);
    assert_int_equal(wire_metrics_next(&m, &s, &e), 0);
}

static void test_sum(void **state)
{
    double sum = -1;

    (void)state;
    assert_ok(wire_metrics_sum(text, strlen(text), "a_total", NULL, NULL, &sum, &e), e);
    assert_true(sum == 27);
    assert_ok(wire_metrics_sum(text, strlen(text), "a_total", "code", "200", &sum, &e), e);
    assert_true(sum == 12);
    assert_ok(wire_metrics_sum(text, strlen(text), "a_total", "model", "m", &sum, &e), e);
    assert_true(sum == 20);
    assert_ok(wire_metrics_sum(text, strlen(text), "a_tota", NULL, NULL, &sum, &e), e);
    assert_true(sum == 0);
    assert_ok(wire_metrics_sum("", 0, "a", NULL, NULL, &sum, &e), e);
    assert_true(sum == 0);
}

static void test_malformed(void **state)
{
    static const char *const lines[] = {
        "a",       "a ",         "a{",          "a{x=\"1\"",     "a{x=1} 2", "a{x=\"1} 2",
        "a b",     "a{x=\"\\\"", "{x=\"1\"} 2", "a{=\"1\"} 2",   "a 1 x",    "a 1,5",
        "a{x} 1",  "a5",         "<html>",      "a{x=\"1\"}x 2", "a 0x10",   "a 1_000 2",
        "a 1 2 3", "a 1x",       "a 1 2x",      "a 1+Inf",       "a --1"};
    struct wire_metrics m;
    struct wire_sample s;
    double sum = -1;

    (void)state;
    for (size_t i = 0; i < LEN(lines); i++) {
        size_t len = strlen(lines[i]) + 12;
        char *all = malloc(len); /* no byte behind the end */

        memcpy(all, "# x\nok 1\n", 9);
        memcpy(all + 9, lines[i], strlen(lines[i]));
        len = 9 + strlen(lines[i]);
        all = realloc(all, len);
        wire_metrics_init(&m, all, len);
        assert_int_equal(wire_metrics_next(&m, &s, &e), 1);
        if (wire_metrics_next(&m, &s, &e) != PCV_EFORMAT)
            fail_msg("\"%s\" is taken", lines[i]);
        assert_string_equal(e.where, "line 3");
        assert_int_equal(wire_metrics_sum(all, len, "ok", NULL, NULL, &sum, &e), PCV_EFORMAT);
        free(all);
    }
    assert_true(sum == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
