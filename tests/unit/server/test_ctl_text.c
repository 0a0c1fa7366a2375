#include "server/ctl_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pcv_err e;

/* What is printed inside PRINTED({ ... f ... }, want). */
#define PRINTED(code, want)                                                                        \
    do {                                                                                           \
        char *text_ = NULL;                                                                        \
        size_t len_;                                                                               \
        FILE *f = open_memstream(&text_, &len_);                                                   \
                                                                                                   \
        code;                                                                                      \
        fclose(f);                                                                                 \
        assert_string_equal(text_, want);                                                          \
        free(text_);                                                                               \
    } while (0)

static void test_put(void **state)
{
    static const struct {
        const char *text, *want;
        int columns;
    } cases[] = {{"plain \\ text", "plain \\ text", 12},
                 {"caf\xc3\xa9", "caf\xc3\xa9", 4},
                 {"a\nb\tc\rd", "a\\nb\\tc\\rd", 10},
                 {"\x1b[2J\x7f", "\\x1b[2J\\x7f", 11},
                 {"\xc2\x9b", "\\xc2\\x9b", 8},           /* CSI in one character */
                 {"\xe2\x80\xae", "\\xe2\\x80\\xae", 12}, /* right to left from here */
                 {"\xff\xc3", "\\xff\\xc3", 8},           /* no UTF-8 */
                 {"\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x97\xa5\xe6\x9c\xac", 4}, /* two columns each */
                 {"", "", 0}};

    (void)state;
    ctl_text_init();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const size_t len = strlen(cases[i].text);

        PRINTED(ctl_put(f, cases[i].text, len), cases[i].want);
        if (ctl_utf8())
            assert_int_equal(ctl_columns(cases[i].text, len), cases[i].columns);
    }
    PRINTED(ctl_put(f, "a\0b", 3), "a\\x00b");
}

static void test_bar(void **state)
{
    static const struct {
        double part;
        const char *utf8, *ascii;
    } cases[] = {
        {0, "", ""},           {1, "████", "####"}, {0.5, "██", "##"},   {0.53125, "██▏", "##"},
        {0.2, "▊", "#"},       {0.03, "▏", ""},     {2, "████", "####"}, {-1, "", ""},
        {0.97, "███▉", "####"}};
    char bar[13];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ctl_bar(bar, cases[i].part, 4, true);
        assert_string_equal(bar, cases[i].utf8);
        ctl_bar(bar, cases[i].part, 4, false);
        assert_string_equal(bar, cases[i].ascii);
    }
    ctl_bar(bar, NAN, 4, true);
    assert_string_equal(bar, "");
}

static void test_count(void **state)
{
    static const struct {
        double n;
        const char *want;
    } cases[] = {{0, "0"},
                 {999, "999"},
                 {1000, "1.0 k"},
                 {257621, "257.6 k"},
                 {999949, "999.9 k"},
                 {999950, "1.0 M"},
                 {2.01e8, "201.0 M"},
                 {5e9, "5.0 G"},
                 {7e15, "7000.0 T"}};
    char buf[CTL_COUNT];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_string_equal(ctl_count(cases[i].n, buf), cases[i].want);
}

static void test_table(void **state)
{
    struct ctl_table t = {.align = "lrl"};

    (void)state;
    for (int row = 0; row < 20; row++) {
        ctl_cell(&t, row ? "%d" : "name", row);
        ctl_cell(&t, "%d", row * row);
        ctl_cell(&t, "%s", row % 2 ? "\x1b" : "");
    }
    for (int i = 3 * 3; i < t.n; i++)
        free(t.cells[i]);
    t.n = 3 * 3;
    PRINTED(assert_int_equal(ctl_table_print(&t, 2, f, &e), 0), "  name  0\n"
                                                                "  1     1  \\x1b\n"
                                                                "  2     4\n");
    assert_int_equal(t.n, 0);
    PRINTED(assert_int_equal(ctl_table_print(&t, 2, f, &e), 0), "");
}

static void test_words(void **state)
{
    int column = 0;
    char word[41];

    (void)state;
    memset(word, 'x', 40);
    word[40] = '\0';
    PRINTED(
        {
            ctl_word(f, &column, 4, "one");
            ctl_word(f, &column, 4, word + 9); /* 4 + 3 + 1 + 31 */
            ctl_word(f, &column, 4, word);     /* 80 exactly */
            ctl_word(f, &column, 4, "z");
        },
        "    one xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
        "    z");
    assert_int_equal(column, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),   cmocka_unit_test(test_bar),   cmocka_unit_test(test_count),
        cmocka_unit_test(test_table), cmocka_unit_test(test_words),
    };

    setenv("LC_ALL", "C.UTF-8", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
