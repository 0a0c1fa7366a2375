/* Counts of the statistics extension. */
#include "server/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_counts(void **state)
{
    (void)state;
    struct srv_stats s = {0};
    srv_stats_forward(&s, 4, 1000, 5);
    srv_stats_forward(&s, 1, 300, 6);
    srv_stats_forward(&s, 4, 2000, 7);
    srv_stats_request(&s, &(struct srv_stats_request){.success = true,
                                                      .items = 4,
                                                      .batch_items = 4,
                                                      .total_ns = 100,
                                                      .queue_ns = 10,
                                                      .input_ns = 20,
                                                      .infer_ns = 30,
                                                      .output_ns = 40});
    srv_stats_request(&s, &(struct srv_stats_request){.success = false, .total_ns = 7});
    struct wire_model_stats w = srv_stats_wire(&s, "m", "1", 99);
    assert_string_equal(w.name, "m");
    assert_int_equal(w.last_inference_ms, 7);
    assert_int_equal(w.inference_count, 9);
    assert_int_equal(w.execution_count, 3);
    assert_int_equal(w.success.count, 1);
    assert_int_equal(w.success.ns, 100);
    assert_int_equal(w.fail.count, 1);
    assert_int_equal(w.fail.ns, 7);
    assert_int_equal(w.queue.ns, 10);
    assert_int_equal(w.compute_input.ns, 20);
    assert_int_equal(w.compute_infer.ns, 30);
    assert_int_equal(w.compute_output.ns, 40);
    assert_int_equal(w.memory_bytes, 99);
    assert_int_equal(w.nbatches, 2);
    assert_int_equal(w.batches[0].batch_size, 1);
    assert_int_equal(w.batches[0].compute_infer.ns, 300);
    assert_int_equal(w.batches[1].batch_size, 4);
    assert_int_equal(w.batches[1].compute_infer.count, 2);
    assert_int_equal(w.batches[1].compute_infer.ns, 3000);
    assert_int_equal(w.batches[1].compute_input.ns, 20);
    srv_stats_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
