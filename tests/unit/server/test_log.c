/* Lines cannot be forged, and are what the three formats promise. */
#include "server/log.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const long long noon = 1714564800123; /* 2024-05-01 12:00:00.123 UTC */

static const char *line(enum srv_log_format format, enum srv_level level, const char *id,
                        const char *message)
{
    static char out[SRV_LOG_LINE + 1];

    out[srv_log_line(out, format, level, noon, id, message)] = '\0';
    return out;
}

static void formats(void **state)
{
    (void)state;
    assert_string_equal(line(SRV_LOG_TEXT, SRV_INFO, "id-1", "up"),
                        "2024-05-01T12:00:00.123Z info [id-1] up\n");
    assert_string_equal(line(SRV_LOG_TEXT, SRV_ERROR, NULL, "down"),
                        "2024-05-01T12:00:00.123Z error down\n");
    assert_string_equal(line(SRV_LOG_JOURNAL, SRV_ERROR, NULL, "e"), "<3>e\n");
    assert_string_equal(line(SRV_LOG_JOURNAL, SRV_WARN, NULL, "w"), "<4>w\n");
    assert_string_equal(line(SRV_LOG_JOURNAL, SRV_INFO, "i", "x"), "<6>[i] x\n");
    assert_string_equal(line(SRV_LOG_JOURNAL, SRV_DEBUG, NULL, "d"), "<7>d\n");
    assert_string_equal(line(SRV_LOG_JSON, SRV_WARN, "i", "say \"hi\""),
                        "{\"time\": \"2024-05-01T12:00:00.123Z\", \"level\": \"warn\", "
                        "\"request_id\": \"i\", \"message\": \"say \\\"hi\\\"\"}\n");
    assert_string_equal(line(SRV_LOG_JSON, SRV_INFO, NULL, "x"),
                        "{\"time\": \"2024-05-01T12:00:00.123Z\", \"level\": \"info\", "
                        "\"message\": \"x\"}\n");
}

static void escapes(void **state)
{
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"a\nb\r\tc", "a\\nb\\r\\tc"},
        {"\x1b[31m", "\\x1b[31m"},
        {"\x7f\x01", "\\x7f\\x01"},
        {"back\\slash \"q\"", "back\\\\slash \"q\""},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x91\x9f",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x91\x9f"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b"
         "31m"},                             /* a terminal's control character in two bytes */
        {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"}, /* line separator */
        {"\xe2\x82", "\\xe2\\x82"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char want[200];
        json_t *j;

        snprintf(want, sizeof(want), "<6>[%s] %s\n", cases[i].text, cases[i].text);
        assert_string_equal(line(SRV_LOG_JOURNAL, SRV_INFO, cases[i].raw, cases[i].raw), want);
        j = json_loads(line(SRV_LOG_JSON, SRV_INFO, cases[i].raw, cases[i].raw), 0, NULL);
        assert_non_null(j);
        assert_string_equal(json_string_value(json_object_get(j, "message")), cases[i].text);
        assert_string_equal(json_string_value(json_object_get(j, "request_id")), cases[i].text);
        json_decref(j);
    }
}

static void long_lines_are_cut(void **state)
{
    static char message[3 * SRV_LOG_LINE];

    (void)state;
    memset(message, 'x', sizeof(message) - 1);
    for (int newline = 0; newline < 2; newline++) {
        for (enum srv_log_format f = SRV_LOG_TEXT; f <= SRV_LOG_JSON; f++) {
            const char *l = line(f, SRV_INFO, "id", message);
            size_t n = strlen(l);

            assert_true(n <= SRV_LOG_LINE && n > SRV_LOG_LINE - 20);
            assert_string_equal(l + n - (f == SRV_LOG_JSON ? 6 : 4),
                                f == SRV_LOG_JSON ? "...\"}\n" : "...\n");
            if (f == SRV_LOG_JSON) {
                json_t *j = json_loads(l, 0, NULL);

                assert_non_null(j);
                json_decref(j);
            }
        }
        memset(message, '\n', sizeof(message) - 1); /* escapes are not cut in the middle */
        message[0] = 'x';
    }
}

static void names(void **state)
{
    (void)state;
    assert_int_equal(srv_level_parse("error"), SRV_ERROR);
    assert_int_equal(srv_level_parse("debug"), SRV_DEBUG);
    assert_int_equal(srv_level_parse("Info"), -1);
    assert_int_equal(srv_log_format_parse("json"), SRV_LOG_JSON);
    assert_int_equal(srv_log_format_parse(""), -1);
    assert_string_equal(srv_level_name(SRV_WARN), "warn");
}

/* stderr into a file while f runs; what was written, as a string. own */
static char *capture(void (*f)(void))
{
    FILE *to = tmpfile();
    int kept = dup(STDERR_FILENO);
    char *text;
    long n;

    assert_non_null(to);
    dup2(fileno(to), STDERR_FILENO);
    f();
    dup2(kept, STDERR_FILENO);
    close(kept);
    n = lseek(fileno(to), 0, SEEK_END);
    text = calloc((size_t)n + 1, 1);
    assert_int_equal(pread(fileno(to), text, (size_t)n, 0), n);
    fclose(to);
    return text;
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 500; i++)
        srv_log(SRV_INFO, "thread", "%s line %d of many\n", (const char *)arg, i);
    return NULL;
}

static void two_threads(void)
{
    pthread_t t[2];
    static char a[] = "first", b[] = "second";

    srv_log_init(SRV_INFO, SRV_LOG_JOURNAL);
    pthread_create(&t[0], NULL, write_lines, a);
    pthread_create(&t[1], NULL, write_lines, b);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    srv_log(SRV_DEBUG, NULL, "not wanted");
}

static void threads_do_not_mix_lines(void **state)
{
    char *text = capture(two_threads), *rest = text;
    int lines = 0;

    (void)state;
    for (char *l; (l = strsep(&rest, "\n")) && *l; lines++) {
        int i = -1;
        char who[16];

        assert_int_equal(sscanf(l, "<6>[thread] %15s line %d of many\\n", who, &i), 2);
        assert_int_equal(strcmp(l + strlen(l) - 6, "many\\n"), 0);
    }
    assert_int_equal(lines, 1000);
    free(text);
}

static void as_the_journal(void)
{
    struct stat st;
    char stream[64];

    fstat(STDERR_FILENO, &st);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    srv_log_init(SRV_WARN, SRV_LOG_AUTO);
    srv_log(SRV_INFO, NULL, "no");
    srv_log(SRV_WARN, NULL, "yes");
    setenv("JOURNAL_STREAM", "1:1", 1);
    srv_log_init(SRV_WARN, SRV_LOG_AUTO);
    srv_log(SRV_WARN, NULL, "text");
}

static void journal_is_recognised(void **state)
{
    char *text = capture(as_the_journal);

    (void)state;
    assert_int_equal(strncmp(text, "<4>yes\n2", 8), 0);
    assert_non_null(strstr(text, "Z warn text\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats),
        cmocka_unit_test(escapes),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(names),
        cmocka_unit_test(threads_do_not_mix_lines),
        cmocka_unit_test(journal_is_recognised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
