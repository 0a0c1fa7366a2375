/* Paths and methods, and what is found in them. */
#include "server/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *method, const char *path, const char *name, const char *model,
                   const char *version)
{
    struct srv_match m;
    const char *allow = NULL;
    assert_int_equal(srv_route_find(method, path, &m, &allow), 0);
    assert_string_equal(srv_route_name(m.route), name);
    assert_int_equal(m.model_len, strlen(model));
    assert_memory_equal(m.model ? m.model : "", model, m.model_len);
    assert_int_equal(m.version_len, strlen(version));
    assert_memory_equal(m.version ? m.version : "", version, m.version_len);
}

static void test_every_route(void **state)
{
    (void)state;
    static const char *const fixed[][2] = {
        {"GET", "/"},
        {"GET", "/metrics"},
        {"GET", "/openapi.json"},
        {"GET", "/v1/models"},
        {"GET", "/v2"},
        {"GET", "/v2/health/live"},
        {"GET", "/v2/models/stats"},
        {"GET", "/v2/health/ready"},
        {"POST", "/v2/repository/index"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        expect(fixed[i][0], fixed[i][1], fixed[i][1], "", "");
    expect("GET", "/v1/models/a", "/v1/models/{m}", "a", "");
    expect("POST", "/v1/models/a.b-c_d/perceive", "/v1/models/{m}/perceive", "a.b-c_d", "");
    expect("POST", "/v1/models/a/latents", "/v1/models/{m}/latents", "a", "");
    expect("GET", "/v2/models/a", "/v2/models/{m}", "a", "");
    expect("GET", "/v2/models/a/versions/1", "/v2/models/{m}/versions/{v}", "a", "1");
    expect("GET", "/v2/models/a/ready", "/v2/models/{m}/ready", "a", "");
    expect("GET", "/v2/models/a/versions/7/ready", "/v2/models/{m}/versions/{v}/ready", "a", "7");
    expect("GET", "/v2/models/a/config", "/v2/models/{m}/config", "a", "");
    expect("GET", "/v2/models/a/stats", "/v2/models/{m}/stats", "a", "");
    expect("GET", "/v2/models/a/versions/1/stats", "/v2/models/{m}/versions/{v}/stats", "a", "1");
    expect("POST", "/v2/models/a/infer", "/v2/models/{m}/infer", "a", "");
    expect("POST", "/v2/models/a/versions/1/infer", "/v2/models/{m}/versions/{v}/infer", "a", "1");
    expect("HEAD", "/v2/models/a", "/v2/models/{m}", "a", "");
}

static void test_handles_in_paths(void **state)
{
    (void)state;
    static const char *const routes[][3] = {
        {"GET", "/v1/latents/lat_1", "/v1/latents/{id}"},
        {"DELETE", "/v1/latents/lat_1", "/v1/latents/{id}"},
        {"GET", "/v1/latents/lat_1/tensor", "/v1/latents/{id}/tensor"},
        {"POST", "/v1/latents/lat_1/query", "/v1/latents/{id}/query"},
    };
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        struct srv_match m;
        const char *allow = NULL;
        assert_int_equal(srv_route_find(routes[i][0], routes[i][1], &m, &allow), 0);
        assert_string_equal(srv_route_name(m.route), routes[i][2]);
        assert_int_equal(m.id_len, 5);
        assert_memory_equal(m.id, "lat_1", 5);
        assert_null(m.model);
    }
}

static void test_unknown_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",
        "/v1",
        "/v1/",
        "/v1/models/",
        "/v1/models/a/",
        "/v1/latents/",
        "/v1/latents//query",
        "/v1/latents/a/b",
        "/v2/",
        "/v2/models",
        "/v2/models//",
        "/v2/models//infer",
        "/v2/models/a/infer/",
        "/v2/model",
        "/v22",
        "/metrics/",
        "//metrics",
        "/v2/models/a/versions/",
        "/v2/models/a/versions/1/2",
        "/V2",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct srv_match m;
        const char *allow = NULL;
        if (srv_route_find("GET", paths[i], &m, &allow) != -404)
            fail_msg("\"%s\" is something", paths[i]);
    }
}

static void test_wrong_methods_say_the_right_ones(void **state)
{
    (void)state;
    struct srv_match m;
    const char *allow = NULL;
    assert_int_equal(srv_route_find("POST", "/v2", &m, &allow), -405);
    assert_string_equal(allow, "GET, HEAD");
    assert_int_equal(srv_route_find("GET", "/v2/models/a/infer", &m, &allow), -405);
    assert_string_equal(allow, "POST");
    assert_int_equal(srv_route_find("POST", "/v1/latents/a", &m, &allow), -405);
    assert_string_equal(allow, "GET, HEAD, DELETE");
    assert_int_equal(srv_route_find("DELETE", "/v2/models/stats", &m, &allow), -405);
    assert_string_equal(allow, "GET, HEAD");
    assert_int_equal(srv_route_find("get", "/v2", &m, &allow), -405);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route),
        cmocka_unit_test(test_handles_in_paths),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_wrong_methods_say_the_right_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
