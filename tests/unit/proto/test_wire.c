#include "tests/unit/proto/wire_test.h"

#include <jansson.h>
#include <stdlib.h>

static void test_status(void **state)
{
    static const struct {
        int code, status;
    } cases[] = {
        {PCV_OK, 200},       {PCV_EFORMAT, 400},  {PCV_ESHAPE, 400}, {PCV_ERANGE, 400},
        {PCV_EMISSING, 400}, {PCV_EUNKNOWN, 400}, {PCV_ELIMIT, 413}, {PCV_EUNSUPPORTED, 415},
        {PCV_ENOMEM, 500},   {PCV_EIO, 500},      {-1000, 500},
    };

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        assert_int_equal(wire_status(cases[i].code), cases[i].status);
}

static void test_native_error(void **state)
{
    char *s =
        wire_error_json(WIRE_NATIVE, "range", "0 is outside 1..1000", "$.queries[0].top_k", "abc");

    (void)state;
    assert_string_equal(s, "{\"error\":{\"code\":\"range\",\"message\":\"0 is outside 1..1000\","
                           "\"path\":\"$.queries[0].top_k\",\"request_id\":\"abc\"}}");
    free(s);
    s = wire_error_json(WIRE_NATIVE, "unknown", "no", NULL, NULL);
    assert_string_equal(s, "{\"error\":{\"code\":\"unknown\",\"message\":\"no\",\"path\":null,"
                           "\"request_id\":null}}");
    free(s);
    s = wire_error_json(WIRE_NATIVE, "unknown", "no", "", "x");
    assert_non_null(strstr(s, "\"path\":null"));
    free(s);
}

static void test_oip_error(void **state)
{
    char *s = wire_error_json(WIRE_OIP, "shape", "3 elements", "$.inputs[0].data", "abc");

    (void)state;
    assert_string_equal(s, "{\"error\":\"$.inputs[0].data: 3 elements\"}");
    free(s);
    s = wire_error_json(WIRE_OIP, "unknown", "no such model", NULL, "abc");
    assert_string_equal(s, "{\"error\":\"no such model\"}");
    free(s);
}

/* Whatever a client put into a place or message, the reply is JSON. */
static void test_hostile_text(void **state)
{
    static const char bad[] = "\"\\\x01\xff\n\xe2\x82";

    (void)state;
    for (int form = WIRE_NATIVE; form <= WIRE_OIP; form++) {
        char *s = wire_error_json((enum wire_form)form, "x", bad, bad, bad);
        json_t *j = json_loads(s, 0, NULL);

        assert_non_null(j);
        json_decref(j);
        free(s);
    }
}

/* The description of the API is JSON, and has a path for everything that is served. */
static void test_openapi(void **state)
{
    static const char *const paths[] = {
        "/",
        "/v1/models",
        "/v1/models/{m}",
        "/v1/models/{m}/perceive",
        "/v1/models/{m}/latents",
        "/v1/latents/{id}",
        "/v1/latents/{id}/query",
        "/v1/latents/{id}/tensor",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{m}",
        "/v2/models/{m}/versions/{v}",
        "/v2/models/{m}/ready",
        "/v2/models/{m}/versions/{v}/ready",
        "/v2/models/{m}/config",
        "/v2/models/{m}/versions/{v}/config",
        "/v2/models/{m}/infer",
        "/v2/models/{m}/versions/{v}/infer",
        "/v2/models/stats",
        "/v2/models/{m}/stats",
        "/v2/models/{m}/versions/{v}/stats",
        "/v2/repository/index",
        "/metrics",
        "/openapi.json",
    };
    json_t *j = json_loads(wire_openapi_json(), JSON_REJECT_DUPLICATES, NULL), *all;

    (void)state;
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "openapi")), "3.1.0");
    all = json_object_get(j, "paths");
    assert_int_equal(json_object_size(all), LEN(paths));
    for (size_t i = 0; i < LEN(paths); i++)
        if (!json_object_get(all, paths[i]))
            fail_msg("%s is not described", paths[i]);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),    cmocka_unit_test(test_native_error),
        cmocka_unit_test(test_oip_error), cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_openapi),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
