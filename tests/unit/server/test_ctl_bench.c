#include "server/ctl_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pcv_err e;

static bool near(const struct wire_result *a, const struct wire_result *b, double tolerance)
{
    const struct wire_reply x = {.nresults = 1, .results = a}, y = {.nresults = 1, .results = b};

    return ctl_bench_near(&x, &y, tolerance);
}

static void test_labels(void **state)
{
    const struct wire_label labels[] = {{1, "a", 0.5f}, {2, "b", 0.499f}};
    const struct wire_label swapped[] = {{2, "b", 0.5f}, {1, "a", 0.499f}};
    struct wire_result a = {.task = "t", .kind = WIRE_CLASSES, .nlabels = 2, .labels = labels};
    struct wire_result b = a, c;

    (void)state;
    assert_true(near(&a, &b, 0));
    b.labels = swapped;
    assert_true(near(&a, &b, 0.01)); /* which is first is chance */
    a.kind = b.kind = WIRE_VALUES;
    assert_false(near(&a, &b, 0.01));
    c = a;
    c.nlabels = 1;
    assert_false(near(&a, &c, 0.01));
    c = a;
    c.task = "u";
    assert_false(near(&a, &c, 0.01));
    c = a;
    c.kind = WIRE_CLASSES;
    assert_false(near(&a, &c, 0.01));
}

static void test_numbers(void **state)
{
    float x[] = {0, -0.5f, 100, NAN}, y[] = {0.001f, -0.501f, 100.1f, NAN};
    struct wire_result a = {
        .task = "t", .kind = WIRE_TENSOR, .ndim = 2, .shape = {2, 2}, .numbers = x};
    struct wire_result b = a;

    (void)state;
    b.numbers = y;
    assert_true(near(&a, &b, 0.0011));
    assert_false(near(&a, &b, 0.0009));
    y[3] = 0;
    assert_false(near(&a, &b, 0.0011));
    b.numbers = x;
    b.shape[0] = 4;
    b.shape[1] = 1;
    assert_false(near(&a, &b, 1));
}

static void test_places(void **state)
{
    const struct wire_label label = {1, "a", 0.5f}, other = {1, "a", 0.6f};
    struct wire_fill f = {.position = 3, .byte_offset = 2, .nlabels = 1, .labels = &label}, g = f;
    struct wire_motion m = {1, 2, 0.5f, 0.5f}, n = m;
    struct wire_file p = {0, "image/png", "abc", 3}, q = p;
    struct wire_result a = {.task = "t", .kind = WIRE_FILLS, .nfills = 1, .fills = &f}, b = a;

    (void)state;
    b.fills = &g;
    assert_true(near(&a, &b, 0));
    g.labels = &other;
    assert_false(near(&a, &b, 0.01));
    assert_true(near(&a, &b, 0.2));
    g.position = 4;
    assert_false(near(&a, &b, 0.2));
    a = (struct wire_result){.task = "t", .kind = WIRE_MOTIONS, .nmotions = 1, .motions = &m};
    b = a;
    b.motions = &n;
    n.v = 0.6f;
    assert_true(near(&a, &b, 0.2) && !near(&a, &b, 0.01));
    n.y = 3;
    assert_false(near(&a, &b, 0.2));
    a = (struct wire_result){.task = "t", .kind = WIRE_FILES, .nfiles = 1, .files = &p};
    b = a;
    b.files = &q;
    assert_true(near(&a, &b, 1));
    q.data = "abd";
    assert_false(near(&a, &b, 1));
}

static void test_replies(void **state)
{
    static char body[] =
        "{\"model\":\"m\",\"version\":\"1\",\"id\":\"r\",\"results\":[{\"task\":\"t\","
        "\"labels\":[{\"index\":0,\"label\":\"a\",\"score\":0.50}]}],\"usage\":{"
        "\"tokens\":1,\"output_queries\":1,\"gmac\":{\"encode\":0,\"process\":0,"
        "\"decode\":0,\"total\":0},\"batch\":1,\"cached\":false},\"timing_ms\":{"
        "\"adapt\":0,\"queue\":0,\"encode\":0,\"process\":0,\"decode\":0,"
        "\"total\":0}}";
    const struct ctl_reply reply = {.body = body, .len = sizeof(body) - 1, .header_len = -1};
    char *score = strstr(body, "0.50") + 3;

    (void)state;
    for (int tolerant = 0; tolerant < 2; tolerant++) {
        struct ctl_bench b = {.options = {.tolerance = tolerant ? 0.02 : 0}};
        struct ctl_sample s = {0};

        *score = '0';
        assert_int_equal(ctl_bench_check(&b, &s, &reply, &e), 0);
        assert_int_equal(ctl_bench_check(&b, &s, &reply, &e), 0);
        assert_int_equal(b.different, 0);
        *score = '1'; /* 0.51 */
        assert_int_equal(ctl_bench_check(&b, &s, &reply, &e), 0);
        assert_int_equal(b.different, !tolerant);
        *score = '9';
        assert_int_equal(ctl_bench_check(&b, &s, &reply, &e), 0);
        assert_int_equal(b.different, 2 - tolerant);
        free(s.answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_replies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
