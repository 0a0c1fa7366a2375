#include "tests/unit/proto/wire_test.h"

static void test_good(void **state)
{
    static const struct {
        const char *body;
        bool ready;
    } cases[] = {
        {"", false},
        {"{}", false},
        {" {\"ready\": true} ", true},
        {"{\"ready\":false}", false},
    };
    struct pcv_err e;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        bool ready = !cases[i].ready;

        assert_ok(wire_oip_index_decode(cases[i].body, strlen(cases[i].body), &ready, &e), e);
        assert_int_equal(ready, cases[i].ready);
    }
}

static void test_bad(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *where, *words;
    } cases[] = {
        {" ", PCV_EFORMAT, "$", "ends at byte 1"},
        {"[]", PCV_EFORMAT, "$", "expected an object at byte 0"},
        {"{\"ready\": 1}", PCV_EFORMAT, "$.ready", "true or false at byte 10"},
        {"{\"ready\": true, \"ready\": true}", PCV_EFORMAT, "$.ready", "twice"},
        {"{\"Ready\": true}", PCV_EUNKNOWN, "$.Ready", "known are ready"},
        {"{\"ready\": true} x", PCV_EFORMAT, "$", "the end at byte 16"},
    };
    struct pcv_err e;

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++) {
        bool ready = true;

        assert_fails(wire_oip_index_decode(cases[i].body, strlen(cases[i].body), &ready, &e), e,
                     cases[i].code, cases[i].where, cases[i].words);
        assert_true(ready);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
