#include "lib/base/err.h"

#include "tests/unit/check.h"

static void fail_records_and_forgets_the_place(void **state)
{
    struct pcv_err e;

    (void)state;
    memset(&e, 'x', sizeof(e));
    assert_int_equal(pcv_fail(&e, PCV_ESHAPE, "%d and %s", 3, "four"), PCV_ESHAPE);
    assert_int_equal(e.code, PCV_ESHAPE);
    assert_string_equal(e.msg, "3 and four");
    assert_string_equal(e.where, "");
    pcv_err_at(&e, "somewhere");
    pcv_fail(&e, PCV_EIO, "again");
    assert_string_equal(e.where, "");
    assert_int_equal(e.code, PCV_EIO);
}

static void places_accumulate_from_inside_out(void **state)
{
    struct pcv_err e;

    (void)state;
    pcv_fail(&e, PCV_EMISSING, "tensor is missing");
    assert_int_equal(pcv_err_at(&e, "layer.%d.weight", 7), PCV_EMISSING);
    assert_string_equal(e.where, "layer.7.weight");
    assert_int_equal(pcv_err_at(&e, "%s", "model.safetensors"), PCV_EMISSING);
    assert_string_equal(e.where, "model.safetensors: layer.7.weight");
    pcv_err_at(&e, "%s", "demo");
    assert_string_equal(e.where, "demo: model.safetensors: layer.7.weight");
    assert_string_equal(e.msg, "tensor is missing");
}

static void nobody_needs_to_listen(void **state)
{
    (void)state;
    assert_int_equal(pcv_fail(NULL, PCV_ERANGE, "%d", 1), PCV_ERANGE);
    assert_int_equal(pcv_err_at(NULL, "place"), PCV_EFORMAT);
}

/* n times c, then the end. */
static const char *repeat(char c, int n)
{
    static char text[2][1024];
    static int turn;
    char *t = text[turn ^= 1];

    memset(t, c, (size_t)n);
    t[n] = '\0';
    return t;
}

static void long_messages_and_places_keep_their_beginning(void **state)
{
    struct pcv_err e;

    (void)state;
    pcv_fail(&e, PCV_EFORMAT, "%s", repeat('m', 1000));
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    pcv_err_at(&e, "%s", repeat('p', 1000));
    assert_int_equal(strlen(e.where), sizeof(e.where) - 1);
    pcv_err_at(&e, "%s", repeat('q', 1000));
    assert_int_equal(strlen(e.where), sizeof(e.where) - 1);
    assert_int_equal(e.where[0], 'q');
}

/* What fits is kept whole, however it is divided. */
static void places_that_fit_are_whole(void **state)
{
    (void)state;
    for (int outer = 1; outer < 253; outer++) {
        const int inner = 253 - outer;
        struct pcv_err e;
        char want[256];

        pcv_fail(&e, PCV_EFORMAT, "m");
        pcv_err_at(&e, "%s", repeat('i', inner));
        pcv_err_at(&e, "%s", repeat('o', outer));
        snprintf(want, sizeof(want), "%s: %s", repeat('o', outer), repeat('i', inner));
        assert_string_equal(e.where, want);
    }
}

static void codes_have_names_of_their_own(void **state)
{
    (void)state;
    assert_string_equal(pcv_code_name(PCV_OK), "ok");
    assert_string_equal(pcv_code_name(PCV_ESHAPE), "shape");
    assert_string_equal(pcv_code_name(PCV_EUNKNOWN), "unknown");
    for (int a = PCV_ELIMIT; a <= PCV_OK; a++)
        for (int b = PCV_ELIMIT; b < a; b++)
            assert_string_not_equal(pcv_code_name(a), pcv_code_name(b));
    assert_string_equal(pcv_code_name(-1000), "error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_records_and_forgets_the_place),
        cmocka_unit_test(places_accumulate_from_inside_out),
        cmocka_unit_test(nobody_needs_to_listen),
        cmocka_unit_test(long_messages_and_places_keep_their_beginning),
        cmocka_unit_test(places_that_fit_are_whole),
        cmocka_unit_test(codes_have_names_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
