/* Parts are found in place; what is damaged is refused with the part's number. */
#include "server/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TYPE             "multipart/form-data; boundary=b"
#define PART(parameters) "--b\r\nContent-Disposition: form-data; " parameters "\r\n\r\n"

/* On the heap to the byte, so that reading beyond it is found by the sanitizers. */
static int parse(struct srv_parts *p, const char *type, const char *body, struct pcv_err *e)
{
    size_t n = strlen(body);
    static char *kept;

    free(kept);
    kept = malloc(n ? n : 1);
    memcpy(kept, body, n);
    *p = (struct srv_parts){0};
    *e = (struct pcv_err){0};
    return srv_multipart_parse(p, type, kept, n, e);
}

static void assert_part(const struct srv_part *p, const char *name, const char *filename,
                        const char *type, const char *data)
{
    assert_string_equal(p->name, name);
    assert_int_equal(p->filename != NULL, filename != NULL);
    if (filename)
        assert_string_equal(p->filename, filename);
    assert_int_equal(p->type != NULL, type != NULL);
    if (type)
        assert_string_equal(p->type, type);
    assert_int_equal(p->len, strlen(data));
    assert_memory_equal(p->data, data, p->len);
}

static void content_types(void **state)
{
    (void)state;
    assert_true(srv_multipart_is(TYPE));
    assert_true(srv_multipart_is("Multipart/Form-Data ;boundary=x"));
    assert_true(srv_multipart_is("multipart/form-data"));
    assert_false(srv_multipart_is("multipart/form-datax"));
    assert_false(srv_multipart_is("multipart/mixed; boundary=b"));
    assert_false(srv_multipart_is("text/plain"));
    assert_false(srv_multipart_is(NULL));
}

static void parts(void **state)
{
    static const char body[] = {
        "preamble\r\n"
        "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a b.png\"\r\n\r\n"
        "\r\n--x\r\n\r\n"
        "--b  \r\ncontent-type:\timage/png\r\nX-Other: 1\r\n"
        "content-disposition:form-data ; name = x; filename*=UTF-8''y; name=two\r\n"
        "Content-Transfer-Encoding: binary\r\n\r\n2\r\n"
        "--b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n"
        "--b\r\nContent-Disposition: form-data; filename=f;name=\"q\\\"\\\\%22\"\r\n\r\n"
        "--b--\r\nepilogue"};
    struct srv_parts p;
    struct pcv_err e;

    (void)state;
    assert_int_equal(parse(&p, TYPE, body, &e), 0);
    assert_int_equal(p.n, 4);
    assert_part(&p.part[0], "image", "a b.png", NULL, "\r\n--x\r\n");
    assert_part(&p.part[1], "two", NULL, "image/png", "2");
    assert_part(&p.part[2], "empty", NULL, NULL, "");
    assert_part(&p.part[3], "q\"\\%22", "f", NULL, "");
    srv_multipart_free(&p);
    assert_int_equal(p.n, 0);

    assert_int_equal(parse(&p, "multipart/form-data; charset=utf-8; boundary=\"b c\"",
                           "--b c\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b c--",
                           &e),
                     0);
    assert_int_equal(p.n, 1);
    assert_part(&p.part[0], "a", NULL, NULL, "1");
    srv_multipart_free(&p);
    assert_int_equal(parse(&p, TYPE, "--b--", &e), 0);
    assert_int_equal(p.n, 0);
    srv_multipart_free(&p);
}

static void refused(void **state)
{
    static const struct {
        const char *type, *body, *where;
    } cases[] = {
        {"multipart/form-data", PART("name=a") "1\r\n--b--", ""},
        {"multipart/form-data; boundary=", PART("name=a") "1\r\n--b--", ""},
        {"multipart/form-data; boundary=\"b", PART("name=a") "1\r\n--b--", ""},
        {"multipart/form-data; xboundary=b", PART("name=a") "1\r\n--b--", ""},
        {TYPE, "", ""},
        {TYPE, "-", ""},
        {TYPE, "--b", ""},
        {TYPE, "--bc\r\n", ""},
        {TYPE, "x--b\r\n", ""},
        {TYPE, "--b\r\n", "part 0"},
        {TYPE, "--b\r\n\r\n1\r\n--b--", "part 0"},
        {TYPE, "--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--", "part 0"},
        {TYPE, "--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--", "part 0"},
        {TYPE, "--b\r\nContent-Disposition: form-data; name=a", "part 0"},
        {TYPE, "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--b--", "part 0"},
        {TYPE, "--b\r\nContent-Disposition: form-data; name=a\x01\r\n\r\n1\r\n--b--", "part 0"},
        {TYPE, PART("name=a") "1", "part 0"},
        {TYPE, PART("name=a") "1\r\n--b", ""},
        {TYPE, PART("name=a") "1\r\n--b-", ""},
        {TYPE, PART("name=a") "1\r\n--bx", ""},
        {TYPE, PART("name=a") "1\r\n" PART("name=b") "2\r\n--", "part 1"},
        {TYPE,
         PART("name=a") "1\r\n" PART(
             "name=b\r\nContent-Disposition: form-data; name=c") "2\r\n--b--",
         "part 1"},
        {TYPE, PART("name=a\r\nContent-Transfer-Encoding: base64") "MQ==\r\n--b--", "part 0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct srv_parts p;
        struct pcv_err e;

        assert_int_equal(parse(&p, cases[i].type, cases[i].body, &e), PCV_EFORMAT);
        assert_string_equal(e.where, cases[i].where);
        assert_true(e.msg[0] != '\0');
        assert_null(p.strings); /* untouched */
    }
}

static void limits(void **state)
{
    char type[200] = "multipart/form-data; boundary=", body[20000] = "";
    struct srv_parts p;
    struct pcv_err e;
    size_t at = 0;

    (void)state;
    for (int i = 0; i < SRV_MAX_PARTS; i++)
        at += (size_t)sprintf(body + at, PART("name=n%d") "%d\r\n", i, i);
    strcpy(body + at, "--b--");
    assert_int_equal(parse(&p, TYPE, body, &e), 0);
    assert_int_equal(p.n, SRV_MAX_PARTS);
    assert_part(&p.part[15], "n15", NULL, NULL, "15");
    srv_multipart_free(&p);
    strcpy(body + at, PART("name=one more") "\r\n--b--");
    assert_int_equal(parse(&p, TYPE, body, &e), PCV_ELIMIT);

    memset(type + 30, 'b', 70);
    sprintf(body, "--%s--", type + 30);
    assert_int_equal(parse(&p, type, body, &e), 0);
    srv_multipart_free(&p);
    strcat(type, "b");
    assert_int_equal(parse(&p, type, body, &e), PCV_EFORMAT);

    at = (size_t)sprintf(body, "--b\r\nContent-Disposition: form-data; name=");
    memset(body + at, 'n', 5000);
    strcpy(body + at + 5000, "\r\n\r\n1\r\n--b--");
    assert_int_equal(parse(&p, TYPE, body, &e), PCV_EFORMAT);
}

/* Every beginning of a good body is refused or read, never read beyond. */
static void every_prefix(void **state)
{
    static const char whole[] = PART("name=\"a\"; filename=\"x\\\"\"") "12\r\n--" PART(
        "name=b\r\nContent-Type: t") "\r\n--b--";
    char prefix[sizeof(whole)];

    (void)state;
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct srv_parts p;
        struct pcv_err e;

        memcpy(prefix, whole, n);
        prefix[n] = '\0';
        if (parse(&p, TYPE, prefix, &e) == 0) {
            assert_int_equal(n, sizeof(whole) - 1);
            srv_multipart_free(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_types), cmocka_unit_test(parts),        cmocka_unit_test(refused),
        cmocka_unit_test(limits),        cmocka_unit_test(every_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
