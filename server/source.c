#include "server/source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Length of a Content-Type without its parameters. */
static size_t type_len(const char *type)
{
    size_t len = strcspn(type, ";");
    while (len && (type[len - 1] == ' ' || type[len - 1] == '\t'))
        len--;
    return len;
}

static bool type_is(const char *type, size_t len, const char *what)
{
    return strlen(what) == len && !strncasecmp(type, what, len);
}

static bool is_json(const char *type)
{
    if (!type)
        return true;
    size_t len = type_len(type);
    return type_is(type, len, "application/json") ||
           (len > 5 && !strncasecmp(type + len - 5, "+json", 5));
}

/* A raw body must be a medium that one of the model's inputs takes, or say nothing about itself. */
static int check_raw_type(const char *type, const struct wire_input_desc *inputs, int ninputs,
                          struct pcv_err *e)
{
    size_t len = type_len(type);
    char known[160] = "";
    if (type_is(type, len, "application/octet-stream"))
        return 0;
    for (int i = 0; i < ninputs; i++)
        for (const char *const *t = inputs[i].media; t && *t; t++) {
            if (type_is(type, len, *t))
                return 0;
            size_t used = strlen(known);
            if (!strstr(known, *t))
                snprintf(known + used, sizeof known - used, "%s, ", *t);
        }
    pcv_fail(e, PCV_EUNSUPPORTED,
             "%.*s is not taken: this model takes %sapplication/json and multipart/form-data",
             (int)(len < 40 ? len : 40), type, known);
    return pcv_err_at(e, "Content-Type");
}

/* The header's value as a length within the body. */
static int header_length(struct srv_source *s, const char *text, struct pcv_err *e)
{
    int64_t n = 0;
    s->header_len = -1;
    if (!text)
        return 0;
    for (const char *p = text; *p || p == text; p++) {
        if (!isdigit((unsigned char)*p) || p - text > 17) {
            pcv_fail(e, PCV_EFORMAT, "\"%.40s\" is not a length", text);
            return pcv_err_at(e, "Inference-Header-Content-Length");
        }
        n = n * 10 + (*p - '0');
    }
    if ((uint64_t)n > s->len) {
        pcv_fail(e, PCV_EFORMAT, "%lld is more than the body's %zu bytes", (long long)n, s->len);
        return pcv_err_at(e, "Inference-Header-Content-Length");
    }
    s->header_len = n;
    return 0;
}

/* Arguments of the query string. */
static int take_args(struct srv_source *s, const struct srv_exchange *x, struct pcv_err *e)
{
    s->nargs = srv_exchange_nargs(x);
    if (!s->nargs)
        return 0;
    s->args = calloc((size_t)s->nargs, sizeof *s->args);
    if (!s->args)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    for (int i = 0; i < s->nargs; i++)
        srv_exchange_arg(x, i, &s->args[i].name, &s->args[i].value);
    if (s->json) {
        pcv_fail(e, PCV_EFORMAT,
                 "arguments go with raw media and forms; a JSON body says it itself");
        return pcv_err_at(e, "?%.64s", s->args[0].name);
    }
    return 0;
}

/* The parts of a form, or the whole body as the only one. */
static int take_parts(struct srv_source *s, const struct srv_exchange *x, const char *type,
                      struct pcv_err *e)
{
    const struct srv_part *parts;
    int n = srv_exchange_parts(x, &parts);
    bool raw = !srv_multipart_is(type);
    s->nparts = raw ? 1 : n;
    s->parts = calloc((size_t)s->nparts + 1, sizeof *s->parts);
    if (!s->parts)
        return pcv_fail(e, PCV_ENOMEM, "no memory");
    if (raw)
        s->parts[0] = (struct wire_part){.type = type, .data = s->body, .len = s->len};
    for (int i = 0; !raw && i < n; i++)
        s->parts[i] = (struct wire_part){.name = parts[i].name,
                                         .filename = parts[i].filename,
                                         .type = parts[i].type,
                                         .data = parts[i].data,
                                         .len = parts[i].len};
    return 0;
}

static int take_native(struct srv_source *s, const struct srv_exchange *x,
                       const struct wire_input_desc *inputs, int ninputs, struct pcv_err *e)
{
    const char *type = srv_exchange_header(x, "Content-Type");
    s->json = is_json(type);
    if (take_args(s, x, e))
        return e->code;
    if (s->json)
        return 0;
    if (!srv_multipart_is(type) && check_raw_type(type, inputs, ninputs, e))
        return e->code;
    return take_parts(s, x, type, e);
}

int srv_source_take(struct srv_source *ret, struct srv_exchange *x, enum wire_form form,
                    const struct wire_input_desc *inputs, int ninputs, struct pcv_err *e)
{
    struct srv_source s = {.form = form, .header_len = -1};
    s.body = srv_exchange_body(x, &s.len);
    if (!s.body)
        s.body = "";
    int r = form == WIRE_OIP
                ? header_length(&s, srv_exchange_header(x, "Inference-Header-Content-Length"), e)
                : take_native(&s, x, inputs, ninputs, e);
    if (r) {
        srv_source_clear(&s);
        return r;
    }
    *ret = s;
    return 0;
}

void srv_source_clear(struct srv_source *s)
{
    free(s->parts);
    free(s->args);
    s->parts = NULL;
    s->args = NULL;
    s->nparts = s->nargs = 0;
}

int srv_source_decode(const struct srv_source *s, struct wire_request **ret, struct pcv_err *e)
{
    if (s->form == WIRE_OIP)
        return wire_oip_decode(ret, s->body, s->len, s->header_len, e);
    if (s->question)
        return wire_native_decode_query(ret, s->body, s->len, e);
    if (s->json)
        return wire_native_decode(ret, s->body, s->len, e);
    return wire_native_from_parts(ret, s->parts, s->nparts, s->args, s->nargs, e);
}
