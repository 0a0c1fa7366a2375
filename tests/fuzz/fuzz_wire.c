/* fuzz_wire.c - any bytes as a request: refused with an error that is itself fit to be sent, or
 * decoded into something that holds what wire.h promises, and that jansson takes for JSON too.
 *
 * The first byte chooses the decoder: native, OIP in JSON, OIP with a binary part (the next two
 * bytes are the header's length), form fields and arguments, or JSON as such. */
#include "proto/wire.h"
#include "proto/wire_reader.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int holds)
{
    if (!holds)
        abort();
}

/* Touches every byte, for the sanitizer's sake. */
static void readable(const void *p, size_t n)
{
    static volatile unsigned char sink;

    for (size_t i = 0; i < n; i++)
        sink ^= ((const unsigned char *)p)[i];
}

static void check_native(const struct wire_request *r)
{
    need(r->nmedia >= 0 && r->nmedia <= WIRE_MAX_MEDIA);
    need(r->nqueries >= 0 && r->nqueries <= WIRE_MAX_QUERIES);
    need(r->default_top_k >= 1 && r->default_top_k <= WIRE_MAX_TOP_K);
    need(r->priority >= 0 && r->priority <= WIRE_MAX_PRIORITY);
    need(r->timeout_us <= WIRE_MAX_TIMEOUT_MS * (uint64_t)1000);
    for (int i = 0; i < r->nmedia; i++) {
        need(r->media[i].data != NULL);
        readable(r->media[i].data, r->media[i].len);
        for (int k = 0; k < i; k++)
            need(r->media[i].input && r->media[k].input &&
                 strcmp(r->media[i].input, r->media[k].input) != 0);
    }
    for (int i = 0; i < r->nqueries; i++) {
        need(r->queries[i].task != NULL);
        need(r->queries[i].top_k >= 1 && r->queries[i].top_k <= WIRE_MAX_TOP_K);
    }
}

/* FP32 tensors, sent back as JSON, are the same numbers. */
static void check_echo(const struct wire_request *r)
{
    struct wire_out_tensor o[WIRE_MAX_TENSORS];
    struct wire_reply reply = {.model = "m", .version = "1", .id = r->id, .outputs = o};
    struct pcv_err e;
    int64_t header;
    json_error_t je;
    json_t *j, *outputs;
    char *body;
    size_t len;

    for (int i = 0; i < r->ntensors; i++)
        if (r->tensors[i].dtype == PCV_F32 && ((uintptr_t)r->tensors[i].data & 3) == 0)
            o[reply.noutputs++] = (struct wire_out_tensor){.t = r->tensors[i]};
    if (wire_oip_encode(&reply, &body, &len, &header, &e) != 0)
        return; /* not finite, or of an odd address */
    need(header == -1);
    need((j = json_loadb(body, len, JSON_REJECT_DUPLICATES, &je)) != NULL);
    outputs = json_object_get(j, "outputs");
    for (int i = 0; i < reply.noutputs; i++) {
        json_t *data = json_object_get(json_array_get(outputs, (size_t)i), "data");

        need(json_array_size(data) == o[i].t.nbytes / 4);
        for (size_t k = 0; k < o[i].t.nbytes / 4; k++) {
            float want = ((const float *)o[i].t.data)[k];
            float got = (float)json_real_value(json_array_get(data, k));

            need(memcmp(&want, &got, 4) == 0);
        }
    }
    json_decref(j);
    free(body);
}

static void check_oip(const struct wire_request *r)
{
    need(r->ntensors >= 0 && r->ntensors <= WIRE_MAX_TENSORS);
    need(r->noutputs >= 0 && r->noutputs <= WIRE_MAX_TENSORS);
    need(r->ntensors == 0 || r->nmedia == 0);
    need(r->ntensors + r->nmedia > 0);
    for (int i = 0; i < r->ntensors; i++) {
        const struct pcv_tensor *t = &r->tensors[i];

        need(r->raw ? t->name == NULL : t->name != NULL);
        need(t->ndim >= 0 && t->ndim <= PCV_MAX_DIMS && t->data != NULL);
        need((int64_t)t->nbytes == pcv_shape_bytes(t->dtype, t->shape, t->ndim));
        readable(t->data, t->nbytes);
        if (t->dtype == PCV_BOOL)
            for (size_t k = 0; k < t->nbytes; k++)
                need(((const uint8_t *)t->data)[k] <= 1);
    }
    for (int i = 0; i < r->noutputs; i++)
        need(r->outputs[i].name != NULL && r->outputs[i].classification >= 0);
    if (!r->raw)
        check_echo(r);
}

/* An error is whole, and fit to be sent. */
static void check_error(int code, const struct pcv_err *e, const struct wire_request *r)
{
    need(code < 0 && e->code == code && r == NULL);
    need(e->msg[0] && e->where[0]);
    for (int form = WIRE_NATIVE; form <= WIRE_OIP; form++) {
        char *s = wire_error_json((enum wire_form)form, pcv_code_name(code), e->msg, e->where, "x");
        json_t *j = json_loads(s, JSON_REJECT_DUPLICATES, NULL);

        need(j != NULL);
        json_decref(j);
        free(s);
    }
}

/* What was decoded is JSON to jansson as well; numbers too large for it aside. */
static void check_json(const char *text, size_t len, size_t flags)
{
    json_error_t je;
    json_t *j = json_loadb(text, len, flags, &je);

    need(j != NULL || json_error_code(&je) == json_error_numeric_overflow);
    json_decref(j);
}

/* Both parsers take it, or neither does: but for nesting, numbers and memory. */
static void same_judgement(const char *text, size_t len)
{
    struct wire_arena *arena = wire_arena_new();
    struct pcv_err e = {0};
    struct wire_reader rd;
    json_error_t je;
    json_t *j = json_loadb(text, len, JSON_DECODE_ANY, &je);
    int r;

    wire_reader_init(&rd, text, len, "$", arena, &e);
    if ((r = wire_read_skip(&rd)) == 0)
        r = wire_read_end(&rd);
    if (len && memchr(text, 0, len))
        need(r < 0); /* jansson overlooks one at the end */
    else if (r == 0)
        need(j != NULL || json_error_code(&je) == json_error_numeric_overflow);
    else
        need(r == PCV_ELIMIT || j == NULL);
    json_decref(j);
    wire_arena_free(arena);
}

/* Fields end in a NUL: how many are parts (the rest are arguments), then name and value in turn. */
static void fields(const char *text, size_t len)
{
    struct wire_part parts[24];
    struct wire_arg args[24];
    struct wire_request *r = NULL;
    struct pcv_err e = {0};
    int nparts = 0, nargs = 0, want = len ? text[0] & 15 : 0, code;
    char *copy = malloc(len + 1), *p = copy, *end = copy + len;

    memcpy(copy, text, len);
    copy[len] = '\0';
    for (p += len ? 1 : 0; p < end && nparts + nargs < 24;) {
        char *name = p, *value;

        p += strlen(p) + 1;
        value = p < end ? p : NULL;
        if (value)
            p += strlen(p) + 1;
        if (nparts < want)
            parts[nparts++] = (struct wire_part){.name = *name == '-' ? NULL : name,
                                                 .filename = *name == '@' ? "f" : NULL,
                                                 .type = *name == '@' ? name + 1 : NULL,
                                                 .data = value,
                                                 .len = value ? strlen(value) : 0};
        else
            args[nargs++] = (struct wire_arg){name, value};
    }
    code = wire_native_from_parts(&r, parts, nparts, args, nargs, &e);
    if (code)
        check_error(code, &e, r);
    else
        check_native(r);
    wire_request_free(r);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    struct wire_request *r = NULL;
    struct pcv_err e = {0};
    size_t len = size - 1, json = 0;
    int64_t header = -1;
    int code;

    if (size == 0)
        return 0;
    switch (data[0] % 5) {
    case 0:
        if ((code = wire_native_decode(&r, text, len, &e)) == 0) {
            check_native(r);
            check_json(text, len, JSON_REJECT_DUPLICATES);
        }
        break;
    case 1:
    case 2:
        if (data[0] % 5 == 2) {
            if (len < 2)
                return 0;
            header = data[1] | data[2] << 8;
            text += 2;
            len -= 2;
        }
        json = header < 0 ? len : (size_t)header;
        if ((code = wire_oip_decode(&r, text, len, header, &e)) == 0) {
            check_oip(r);
            if (json)
                check_json(text, json, 0);
        }
        break;
    case 3: fields(text, len); return 0;
    default: same_judgement(text, len); return 0;
    }
    if (code)
        check_error(code, &e, r);
    wire_request_free(r);
    return 0;
}
