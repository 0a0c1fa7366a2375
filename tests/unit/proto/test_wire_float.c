#include "tests/unit/proto/wire_test.h"

#include "proto/wire_writer.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

/* Written text of v, with a NUL. */
static const char *text_of(float v, char buf[WIRE_F32_ROOM + 1])
{
    size_t n = wire_f32_text(v, buf);

    assert_in_range(n, 1, WIRE_F32_ROOM);
    buf[n] = '\0';
    return buf;
}

static void test_known(void **state)
{
    static const struct {
        float v;
        const char *want;
    } cases[] = {
        {0, "0.0"},
        {-0.0f, "-0.0"},
        {1, "1.0"},
        {-1, "-1.0"},
        {10, "10.0"},
        {100, "100.0"},
        {0.1f, "0.1"},
        {0.3f, "0.3"},
        {0.12345678f, "0.12345678"},
        {1.0f / 3, "0.33333334"},
        {3.14159274f, "3.1415927"},
        {0.001f, "0.001"},
        {0.0001f, "0.0001"},
        {0.00001f, "0.00001"},
        {0.000001f, "1e-6"},
        {1.5e-7f, "1.5e-7"},
        {123456.789f, "123456.79"},
        {16777216, "16777216.0"},
        {1e10f, "10000000000.0"},
        {1e16f, "1e16"},
        {1e20f, "1e20"},
        {999999.9f, "999999.9"},
        {0.99999994f, "0.99999994"},
        {FLT_MAX, "3.4028235e38"},
        {-FLT_MAX, "-3.4028235e38"},
        {FLT_MIN, "1.1754944e-38"},
        {FLT_TRUE_MIN, "1e-45"},
    };
    char buf[WIRE_F32_ROOM + 1];

    (void)state;
    for (size_t i = 0; i < LEN(cases); i++)
        assert_string_equal(text_of(cases[i].v, buf), cases[i].want);
}

/* Reads back bit for bit, as float, by way of double, and as JSON. */
static void assert_reads_back(float v)
{
    char buf[WIRE_F32_ROOM + 1];
    const char *text = text_of(v, buf);
    float direct = strtof(text, NULL), twice = (float)strtod(text, NULL);

    if (memcmp(&v, &direct, 4) != 0 || memcmp(&v, &twice, 4) != 0)
        fail_msg("%a became %s", (double)v, text);
}

static void test_round_trip(void **state)
{
    uint32_t bits = 2463534242u;

    (void)state;
    for (int i = 0; i < 400000; i++) {
        float v;

        bits ^= bits << 13;
        bits ^= bits >> 17;
        bits ^= bits << 5;
        memcpy(&v, &bits, 4);
        if (isfinite(v))
            assert_reads_back(v);
        assert_reads_back((float)(int32_t)bits * 0x1p-28f); /* of logits' size */
    }
}

/* Where the distance between floats changes, and beside every power of ten. */
static void test_boundaries(void **state)
{
    (void)state;
    for (int e = -149; e < 128; e++) {
        float v = ldexpf(1, e);

        assert_reads_back(v);
        assert_reads_back(nextafterf(v, 0));
        assert_reads_back(nextafterf(v, INFINITY));
    }
    for (int e = -45; e <= 38; e++) {
        float v = strtof((char[8]){'1', 'e', e < 0 ? '-' : '+', (char)('0' + abs(e) / 10),
                                   (char)('0' + abs(e) % 10), '\0'},
                         NULL);

        assert_reads_back(v);
        assert_reads_back(nextafterf(v, 0));
        assert_reads_back(nextafterf(v, INFINITY));
    }
}

/* Six digits or fewer stay as they were written. */
static void test_few_digits(void **state)
{
    char buf[WIRE_F32_ROOM + 1], want[32];

    (void)state;
    for (int i = 1; i < 1000000; i += 37) {
        json_t *j;

        if (i % 10 == 0)
            continue;
        snprintf(want, sizeof(want), "%d.%06d", i % 7, i);
        if (i % 7) /* that makes seven digits: take one away */
            snprintf(want, sizeof(want), "%d.%05d", i % 7, i / 10);
        j = json_loads(text_of(strtof(want, NULL), buf), JSON_DECODE_ANY, NULL);
        if (!json_is_real(j) || json_real_value(j) != strtod(want, NULL))
            fail_msg("%s became %s", want, buf);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_boundaries),
        cmocka_unit_test(test_few_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
