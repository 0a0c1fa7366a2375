#include "server/ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct values {
    bool flag;
    int number;
    double real;
    const char *text;
    char taken[16]; /* one behind the other */
};

static const char *take(void *ctx, const char *value, char message[96])
{
    struct values *v = ctx;

    if (strlen(v->taken) + strlen(value) < sizeof(v->taken)) {
        strcat(v->taken, value);
        return NULL;
    }
    snprintf(message, 96, "no room");
    return message;
}

/* Parses a command line of words; operands are left in words[1..]. */
static int parse(struct values *v, const char **words, int n)
{
    const struct ctl_option options[] = {
        {.name = "flag", .doc = "d", .flag = &v->flag},
        {.name = "number", .value = "N", .doc = "d", .number = &v->number, .min = -3, .max = 7},
        {.name = "real", .value = "X", .doc = "d", .real = &v->real, .min = 0.5, .max = 2},
        {.name = "text", .value = "T", .doc = "d", .text = &v->text, .letter = 't'},
        {.name = "take", .value = "V", .doc = "d", .take = take, .ctx = v},
        {0},
    };
    const struct ctl_usage usage = {"A [B]", 1, 2, "About.", options};

    *v = (struct values){.number = 5, .real = 1};
    return ctl_parse(&usage, n, (char **)words);
}

#define PARSE(v, ...)                                                                              \
    parse(v, (const char *[]){"command", __VA_ARGS__},                                             \
          (int)(sizeof((const char *[]){"command", __VA_ARGS__}) / sizeof(char *)))

static void test_values(void **state)
{
    const char *words[] = {"command",  "a", "--number", "-3", "--flag",
                           "--real=2", "b", "--text",   "-x"};
    struct values v;

    (void)state;
    assert_int_equal(parse(&v, words, 9), 2);
    assert_string_equal(words[1], "a");
    assert_string_equal(words[2], "b");
    assert_true(v.flag);
    assert_int_equal(v.number, -3);
    assert_true(v.real == 2);
    assert_string_equal(v.text, "-x");
    assert_int_equal(PARSE(&v, "a"), 1);
    assert_true(!v.flag && v.number == 5 && v.real == 1 && !v.text);
    assert_int_equal(PARSE(&v, "a", "-t", "x", "--take", "1", "--take=2"), 1);
    assert_string_equal(v.text, "x");
    assert_string_equal(v.taken, "12");
    assert_int_equal(PARSE(&v, "a", "--take", "0123456789", "--take", "0123456789"), ~2);
    assert_int_equal(PARSE(&v, "a", "-t"), ~2);
    assert_int_equal(PARSE(&v, "a", "-tx"), ~2);
    assert_int_equal(PARSE(&v, "a", "--text="), 1);
    assert_string_equal(v.text, "");
    assert_int_equal(PARSE(&v, "-", "--number=7"), 1); /* stdin is an operand */
    assert_int_equal(PARSE(&v, "--", "--flag"), 1);
    assert_false(v.flag);
}

static void test_wrong(void **state)
{
    struct values v;

    (void)state;
    assert_int_equal(PARSE(&v, "a", "--number", "8"), ~2);
    assert_int_equal(PARSE(&v, "a", "--number", "-4"), ~2);
    assert_int_equal(PARSE(&v, "a", "--number", "1.5"), ~2);
    assert_int_equal(PARSE(&v, "a", "--number", "4294967296"), ~2);
    assert_int_equal(PARSE(&v, "a", "--number", ""), ~2);
    assert_int_equal(PARSE(&v, "a", "--number"), ~2);
    assert_int_equal(PARSE(&v, "a", "--real", "nan"), ~2);
    assert_int_equal(PARSE(&v, "a", "--real", "0.49"), ~2);
    assert_int_equal(PARSE(&v, "a", "--flag=1"), ~2);
    assert_int_equal(PARSE(&v, "a", "--fla"), ~2);
    assert_int_equal(PARSE(&v, "a", "-f"), ~2);
    assert_int_equal(PARSE(&v, "a", "b", "c"), ~2);
    assert_int_equal(PARSE(&v, "--flag"), ~2);
    assert_int_equal(v.number, 5);
    assert_true(v.real == 1);
}

static void test_help(void **state)
{
    struct values v;

    (void)state;
    assert_int_equal(PARSE(&v, "a", "--nonsense", "--help"), ~2); /* whatever is wrong first */
    assert_int_equal(PARSE(&v, "--help"), ~0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_help),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
