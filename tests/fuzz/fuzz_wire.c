/* fuzz_wire.c - any bytes as a request: refused with an error that is itself fit to be sent, or
 * decoded into something that holds what wire.h promises, and that jansson takes for JSON too.
 *
 * The first byte chooses the decoder: native, OIP in JSON, OIP with a binary part (the next two
 * bytes are the header's length), form fields and arguments, JSON as such, questions to kept
 * latents, or a client's: a reply, a line of a stream, a description of latents. A native request
 * that was decoded is written as a client writes it, and read again. */
#include "proto/wire.h"
#include "proto/wire_client.h"
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

/* Media of one item stand together, and have different names but for frames. */
static void check_media(const struct wire_request *r)
{
    need(r->nmedia >= 0 && r->nmedia <= WIRE_MAX_MEDIA);
    need(r->nitems >= 0 && r->nitems <= WIRE_MAX_ITEMS);
    need(r->batch || r->nitems == (r->nmedia > 0));
    for (int i = 0; i < r->nmedia; i++) {
        const struct wire_media *m = &r->media[i];
        const int before = i ? m[-1].item : -1;

        need(m->data != NULL);
        readable(m->data, m->len);
        need(m->item == before || m->item == before + 1);
        need(m->item < r->nitems);
        need(m->item != before || (m->input && m[-1].input));
    }
    need(r->nmedia == 0 || r->media[r->nmedia - 1].item == r->nitems - 1);
}

static void check_query(const struct wire_request *r, const struct wire_query *q)
{
    need(q->task != NULL);
    need(q->top_k >= 1 && q->top_k <= WIRE_MAX_TOP_K);
    need(q->input >= -1 && q->input < (r->batch ? r->nitems : 0));
    need(q->nclasses >= 0 && q->nclasses <= WIRE_MAX_CLASSES);
    for (int i = 0; i < q->nclasses; i++)
        readable(q->classes[i], strlen(q->classes[i]));
    need(q->nrows >= 0 && q->nrows <= WIRE_MAX_ROWS);
    for (int i = 0; i < q->nrows; i++)
        need(q->rows[i] >= 0 && q->rows[i] <= WIRE_MAX_COORDINATE);
    need(q->npoints >= 0 && q->npoints <= WIRE_MAX_POINTS);
    need(q->nframes >= 0 && q->nframes <= WIRE_MAX_FRAMES);
    need((q->nrows > 0) + q->has_region + (q->npoints > 0) <= 1);
    for (int i = 0; q->has_region && i < 4; i++)
        need(q->region[i] >= (i >= 2) && q->region[i] <= WIRE_MAX_COORDINATE);
}

static void check_native(const struct wire_request *r)
{
    check_media(r);
    need(r->nqueries >= 0 && r->nqueries <= WIRE_MAX_QUERIES);
    need(r->default_top_k >= 1 && r->default_top_k <= WIRE_MAX_TOP_K);
    need(r->priority >= 0 && r->priority <= WIRE_MAX_PRIORITY);
    need(r->timeout_us <= WIRE_MAX_TIMEOUT_MS * (uint64_t)1000);
    need(r->keep_ms <= WIRE_MAX_KEEP_MS);
    need(!r->stream || r->format == WIRE_JSON);
    for (int i = 0; i < r->nqueries; i++)
        check_query(r, &r->queries[i]);
}

static int is_plain(const char *name)
{
    return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_- ")];
}

/* Names that JSON can say, and that are no file's. */
static int can_be_written(const struct wire_request *r)
{
    for (int i = 0; i < r->nmedia; i++) {
        const char *input = r->media[i].input;

        if (input && (!is_plain(input) || !strcmp(input, "b64") || !strcmp(input, "type")))
            return 0;
    }
    for (int i = 0; i < r->nqueries; i++)
        if (!is_plain(r->queries[i].task))
            return 0;
    return 1;
}

/* Written by a client, it is the same request. */
static void check_written(const struct wire_request *r)
{
    struct wire_request *again = NULL;
    struct pcv_err e = {0};
    size_t len = 0;
    char *text;

    if (!can_be_written(r))
        return;
    text = wire_client_native(r, &len);
    need(text != NULL);
    need((r->nmedia ? wire_native_decode(&again, text, len, &e)
                    : wire_native_decode_query(&again, text, len, &e)) == 0);
    check_native(again);
    need(again->nmedia == r->nmedia && again->nitems == r->nitems && again->batch == r->batch);
    need(again->keep_ms == r->keep_ms && again->no_cache == r->no_cache);
    need(again->no_share == r->no_share && again->stream == r->stream);
    need(again->nqueries == r->nqueries);
    for (int i = 0; i < r->nqueries; i++) {
        const struct wire_query *a = &again->queries[i], *b = &r->queries[i];

        need(strcmp(a->task, b->task) == 0 && a->input == b->input && a->nrows == b->nrows);
        need(a->nclasses == b->nclasses && a->npoints == b->npoints && a->nframes == b->nframes);
        need(a->nrows == 0 || memcmp(a->rows, b->rows, (size_t)a->nrows * 4) == 0);
        need(memcmp(a->region, b->region, sizeof(a->region)) == 0);
    }
    wire_request_free(again);
    free(text);
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
    if (code) {
        check_error(code, &e, r);
    } else {
        check_native(r);
        check_written(r);
    }
    wire_request_free(r);
    free(copy);
}

static void check_result(const struct wire_result *r)
{
    size_t n = r->ndim > 0;

    need(r->task != NULL);
    for (int i = 0; i < r->ndim; i++)
        n *= (size_t)r->shape[i];
    readable(r->numbers, n * sizeof(float));
    for (int i = 0; i < r->nlabels; i++)
        readable(r->labels[i].label, r->labels[i].label ? strlen(r->labels[i].label) : 0);
    for (int i = 0; i < r->nfiles; i++)
        readable(r->files[i].data, r->files[i].len);
}

static void check_reply(const struct wire_reply *r, int with_results)
{
    int n = 0;

    need(r->nitems >= 0 && (r->batch || r->nitems == 1));
    for (int i = 0; r->batch && with_results && i < r->nitems; i++)
        n += r->counts[i];
    need(!r->batch || !with_results || n == r->nresults);
    for (int i = 0; i < r->nresults; i++)
        check_result(&r->results[i]);
    for (int i = 0; r->latents && i < r->nitems; i++)
        readable(r->latents[i], r->latents[i] ? strlen(r->latents[i]) : 0);
}

/* What a client reads from a server it does not trust. */
static void client(const char *text, size_t len)
{
    struct wire_arena *arena = wire_arena_new();
    struct wire_client_line line;
    struct wire_latents_desc latents;
    struct wire_reply reply;
    struct pcv_err e = {0};

    if (wire_client_reply(arena, text, len, &reply, &e) == 0)
        check_reply(&reply, 1);
    if (wire_client_line(arena, text, len, &line, &e) == 0) {
        if (line.kind == WIRE_LINE_CHUNK)
            readable(line.chunk.numbers, (size_t)line.chunk.n * (size_t)line.chunk.width * 4);
        else if (line.kind == WIRE_LINE_RESULT)
            check_result(&line.result);
        else if (line.kind == WIRE_LINE_DONE)
            check_reply(&line.reply, 0);
        else
            need(line.error.message != NULL);
    }
    if (wire_client_latents(arena, text, len, &latents, &e) == 0)
        need(latents.handle && latents.num_latents >= 0 && latents.d_latents >= 0);
    wire_arena_free(arena);
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
    switch (data[0] % 7) {
    case 0:
        if ((code = wire_native_decode(&r, text, len, &e)) == 0) {
            check_native(r);
            check_written(r);
            check_json(text, len, JSON_REJECT_DUPLICATES);
        }
        break;
    case 1:
    case 2:
        if (data[0] % 7 == 2) {
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
    case 5:
        if ((code = wire_native_decode_query(&r, text, len, &e)) == 0) {
            check_native(r);
            check_written(r);
        }
        break;
    case 6: client(text, len); return 0;
    default: same_judgement(text, len); return 0;
    }
    if (code)
        check_error(code, &e, r);
    wire_request_free(r);
    return 0;
}
