/* The exposition's text, and what promtool thinks of it. */
#include "server/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void expect(const struct srv_metrics *m, const char *what, int times)
{
    size_t len;
    char *text = srv_metrics_text(m, &len);
    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    if (n != times)
        fail_msg("\"%s\" appears %d times, not %d, in:\n%s", what, n, times, text);
    free(text);
}

static void test_counters_and_gauges(void **state)
{
    (void)state;
    struct srv_metrics *m = srv_metrics_new();
    expect(m, "perceiverd", 0);
    for (int i = 0; i < 3; i++)
        srv_metrics_add(m, SRV_M_requests_total, 1, SRV_LABELS("infer", "a", "classify", "200"));
    srv_metrics_add(m, SRV_M_requests_total, 1, SRV_LABELS("infer", "a", "classify", "404"));
    srv_metrics_add(m, SRV_M_requests_total, 1, SRV_LABELS("infer", "ac", "lassify", "404"));
    srv_metrics_set(m, SRV_M_ready, 1, NULL);
    srv_metrics_set(m, SRV_M_ready, 0, NULL);
    expect(
        m,
        "perceiverd_requests_total{route=\"infer\",model=\"a\",task=\"classify\",code=\"200\"} 3\n",
        1);
    expect(m, "code=\"404\"} 1\n", 2);
    expect(m, "\nperceiverd_ready 0\n", 1);
    expect(m, "# TYPE perceiverd_requests_total counter\n", 1);
    expect(m, "# HELP perceiverd_ready ", 1);
    expect(m, "# TYPE perceiverd_ready gauge\n", 1);
    srv_metrics_free(m);
}

static void test_histograms_are_cumulative_and_include_their_bounds(void **state)
{
    (void)state;
    struct srv_metrics *m = srv_metrics_new();
    srv_metrics_observe(m, SRV_M_batch_items, 1, SRV_LABELS("a"));
    srv_metrics_observe(m, SRV_M_batch_items, 5, SRV_LABELS("a"));
    srv_metrics_observe(m, SRV_M_batch_items, 6, SRV_LABELS("a"));
    srv_metrics_observe(m, SRV_M_batch_items, 1e9, SRV_LABELS("a"));
    expect(m, "perceiverd_batch_items_bucket{model=\"a\",le=\"1\"} 1\n", 1);
    expect(m, "perceiverd_batch_items_bucket{model=\"a\",le=\"4\"} 1\n", 1);
    expect(m, "perceiverd_batch_items_bucket{model=\"a\",le=\"6\"} 3\n", 1);
    expect(m, "perceiverd_batch_items_bucket{model=\"a\",le=\"256\"} 3\n", 1);
    expect(m, "perceiverd_batch_items_bucket{model=\"a\",le=\"+Inf\"} 4\n", 1);
    expect(m, "perceiverd_batch_items_sum{model=\"a\"} 1000000012\n", 1);
    expect(m, "perceiverd_batch_items_count{model=\"a\"} 4\n", 1);
    srv_metrics_free(m);
}

static void test_label_values_are_escaped_and_bounded(void **state)
{
    (void)state;
    struct srv_metrics *m = srv_metrics_new();
    char longer[1000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    srv_metrics_set(m, SRV_M_queue_depth, 1, SRV_LABELS("a\"b\\c\nd"));
    srv_metrics_set(m, SRV_M_model_bytes, 1, SRV_LABELS(longer));
    expect(m, "{model=\"a\\\"b\\\\c\\nd\"} 1\n", 1);
    longer[200] = 0;
    expect(m, longer, 1);
    srv_metrics_free(m);
}

static void test_many_series_are_found_again(void **state)
{
    (void)state;
    struct srv_metrics *m = srv_metrics_new();
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            char name[16];
            snprintf(name, sizeof name, "m%d", i);
            srv_metrics_add(m, SRV_M_tokens_total, i, SRV_LABELS(name));
        }
    expect(m, "perceiverd_tokens_total{", 1000);
    expect(m, "perceiverd_tokens_total{model=\"m999\"} 1998\n", 1);
    expect(m, "perceiverd_tokens_total{model=\"m0\"} 0\n", 1);
    srv_metrics_free(m);
}

/* One series of everything in the table. */
static void test_promtool_accepts_all(void **state)
{
    (void)state;
    if (system("command -v promtool > /dev/null"))
        skip();
    struct srv_metrics *m = srv_metrics_new();
    static const char *const values[] = {"a", "b", "c\"\\", "d\n"};
#define METRIC(name, type, labels, buckets, help)                                                  \
    if (!strcmp(#type, "HISTOGRAM"))                                                               \
        srv_metrics_observe(m, SRV_M_##name, 0.3, values);                                         \
    else                                                                                           \
        srv_metrics_add(m, SRV_M_##name, 3, values);
#include "server/metrics.def"
#undef METRIC
    size_t len;
    char *text = srv_metrics_text(m, &len);
    FILE *p = popen("promtool check metrics", "w");
    assert_non_null(p);
    assert_int_equal(fwrite(text, 1, len, p), len);
    int status = pclose(p);
    if (status)
        print_error("%s", text);
    assert_int_equal(status, 0);
    free(text);
    srv_metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),
        cmocka_unit_test(test_histograms_are_cumulative_and_include_their_bounds),
        cmocka_unit_test(test_label_values_are_escaped_and_bounded),
        cmocka_unit_test(test_many_series_are_found_again),
        cmocka_unit_test(test_promtool_accepts_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
