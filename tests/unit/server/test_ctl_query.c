#include "server/ctl_query.h"

#include "proto/wire_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pcv_err e;
static char message[96];

struct step {
    ctl_take *take;
    const char *value;
};

/* The questions that the options say, as they are sent; NULL: an option was refused. */
static char *sent(const struct step *steps, int n)
{
    struct wire_request r = {.form = WIRE_NATIVE};
    struct ctl_questions q;
    const char *problem = NULL;
    size_t len;
    char *text = NULL;

    assert_int_equal(ctl_questions_open(&q, &e), 0);
    for (int i = 0; i < n && !problem; i++)
        problem = steps[i].take(&q, steps[i].value, message);
    if (!problem) {
        ctl_questions_into(&q, &r);
        text = wire_client_native(&r, &len);
        assert_non_null(text);
    }
    ctl_questions_close(&q);
    return text;
}

#define SENT(want, ...)                                                                            \
    do {                                                                                           \
        const struct step steps_[] = {__VA_ARGS__};                                                \
        char *text_ = sent(steps_, (int)(sizeof(steps_) / sizeof(*steps_)));                       \
                                                                                                   \
        assert_non_null(text_);                                                                    \
        assert_string_equal(text_, want);                                                          \
        free(text_);                                                                               \
    } while (0)

#define REFUSED(...)                                                                               \
    do {                                                                                           \
        const struct step steps_[] = {__VA_ARGS__};                                                \
                                                                                                   \
        assert_null(sent(steps_, (int)(sizeof(steps_) / sizeof(*steps_))));                        \
    } while (0)

static void test_what_belongs_to_which_task(void **state)
{
    (void)state;
    SENT("{\"queries\":[{\"task\":\"a\"}]}", {ctl_take_task, "a"});
    SENT("{\"queries\":[{\"task\":\"a\",\"top_k\":3},{\"task\":\"b\",\"top_k\":1000}]}",
         {ctl_take_top_k, "1000"}, {ctl_take_task, "a"}, {ctl_take_top_k, "3"},
         {ctl_take_task, "b"});
    SENT(
        "{\"queries\":[{\"task\":\"a\",\"positions\":[0]},{\"task\":\"attention\",\"latents\":[5]},"
        "{\"task\":\"c\",\"region\":[1,0,20,1048576]}]}",
        {ctl_take_task, "a"}, {ctl_take_positions, "0"}, {ctl_take_task, "attention"},
        {ctl_take_latents, "5"}, {ctl_take_task, "c"}, {ctl_take_region, "1,0,20,1048576"});
    REFUSED({ctl_take_positions, "1"});
    REFUSED({ctl_take_region, "1,2,3,4"});
    REFUSED({ctl_take_classes, "a"});
    REFUSED({ctl_take_latents, "1"});
    REFUSED({ctl_take_task, "a"}, {ctl_take_latents, "1"});
    REFUSED({ctl_take_task, "attention"}, {ctl_take_positions, "1"});
}

static void test_lists(void **state)
{
    static const char *const wrong[] = {
        "",    ",",  "1,",   ",1",      "1,,2",      "a",
        "2-1", "1-", "-1",   "1-2-3",   "1 ,2",      " 1",
        "+1",  "1x", "0x10", "1048577", "0-1048576", "99999999999999999999"};

    (void)state;
    SENT("{\"queries\":[{\"task\":\"a\",\"positions\":[3,1,2,1048576,3]}]}", {ctl_take_task, "a"},
         {ctl_take_positions, "3,1-2,1048576-1048576"}, {ctl_take_positions, "3"});
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        REFUSED({ctl_take_task, "a"}, {ctl_take_positions, wrong[i]});
    REFUSED({ctl_take_task, "a"}, {ctl_take_positions, "0-1048574"}, {ctl_take_positions, "1,2"});
    REFUSED({ctl_take_task, "a"}, {ctl_take_region, "1,2,3"});
    REFUSED({ctl_take_task, "a"}, {ctl_take_region, "1,2,3,4,"});
    REFUSED({ctl_take_task, "a"}, {ctl_take_region, "1,2,3,1048577"});
    REFUSED({ctl_take_top_k, "0"});
    REFUSED({ctl_take_top_k, "1001"});
    REFUSED({ctl_take_top_k, "5 "});
}

static void test_classes(void **state)
{
    (void)state;
    SENT("{\"queries\":[{\"task\":\"a\",\"classes\":[\"Bag\",\"x,y\\\\z\",\"\",\"B\"]}]}",
         {ctl_take_task, "a"}, {ctl_take_classes, "Bag,x\\,y\\z,"}, {ctl_take_classes, "B"});
}

/* Before any task it is said of all, whatever they are. */
static void test_top_k_of_all(void **state)
{
    (void)state;
    SENT("{\"top_k\":7}", {ctl_take_top_k, "7"});
    SENT("{\"queries\":[{\"task\":\"a\",\"top_k\":7}]}", {ctl_take_top_k, "7"},
         {ctl_take_task, "a"});
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms; /* 0: refused */
    } cases[] = {
        {"90", 90000},       {"90s", 90000}, {"0.25", 250}, {"10m", 600000}, {"1.5h", 5400000},
        {"30d", 2592000000}, {"31d", 0},     {"0", 0},      {"", 0},         {"m", 0},
        {"-1", 0},           {"1ms", 0},     {"1w", 0},     {"nan", 0},      {"inf", 0},
        {"1e9d", 0},         {" 1", 0},      {"0.0001", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint64_t ms = 0;
        const char *problem = ctl_take_duration(&ms, cases[i].text, message);

        assert_int_equal(ms, cases[i].ms);
        assert_int_equal(problem == NULL, cases[i].ms != 0);
    }
}

static void test_formats(void **state)
{
    enum wire_format format = WIRE_JSON;

    (void)state;
    assert_null(ctl_take_format(&format, "wav", message));
    assert_int_equal(format, WIRE_WAV);
    assert_non_null(ctl_take_format(&format, "mp3", message));
    assert_int_equal(format, WIRE_WAV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_belongs_to_which_task),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_top_k_of_all),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_formats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
