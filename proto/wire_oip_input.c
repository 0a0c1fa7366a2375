/* wire_oip_input.c - the inputs of an infer request: tensors in JSON or behind it.
 *
 * A tensor's name, shape, datatype and data come in any order and are checked against each other
 * when its object ends. Data in JSON is read where it stands when shape and datatype came before
 * it, as every client writes them; otherwise it is passed over and read at the end. */
#include "proto/wire_decode.h"
#include "proto/wire_numbers.h"
#include "proto/wire_oip.h"

#include <string.h>

/* $, its inputs, one of them: open brackets where an input's keys stand. */
enum { INPUT_DEPTH = 3 };

/* One input while its object is read. */
struct input {
    struct pcv_tensor t;
    bool bytes;             /* datatype BYTES */
    bool shape, datatype;   /* seen */
    bool data, read;        /* data seen; data read */
    struct wire_reader at;  /* where data stands, when it came too early to be read */
    int64_t binary_size;    /* -1: none */
    struct wire_str string; /* the one element of BYTES */
};

static int input_parameters(struct wire_reader *rd, struct input *in)
{
    struct wire_str name;
    int r;

    if ((r = wire_read_open(rd, '{', "an object of parameters")) < 0)
        return r;
    while ((r = wire_read_name(rd, &name)) > 0) {
        if (wire_str_is(name, "binary_data_size"))
            r = wire_read_int(rd, 0, INT64_MAX, &in->binary_size);
        else if (name.len >= 13 && memcmp(name.s, "shared_memory", 13) == 0)
            return wire_read_fail(rd, PCV_EUNSUPPORTED, "shared memory is not served");
        else
            r = wire_oip_skip_parameter(rd);
        if (r < 0)
            return r;
    }
    return r;
}

static int read_shape(struct wire_reader *rd, struct pcv_tensor *t)
{
    int r;

    if ((r = wire_read_open(rd, '[', "an array of dimensions")) < 0)
        return r;
    while ((r = wire_read_item(rd)) > 0) {
        if (t->ndim == PCV_MAX_DIMS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d dimensions", PCV_MAX_DIMS);
        if ((r = wire_read_int(rd, 0, INT64_MAX, &t->shape[t->ndim])) < 0)
            return r;
        t->ndim++;
    }
    return r;
}

static int read_datatype(struct wire_reader *rd, struct input *in)
{
    struct wire_str s;
    int r;

    if ((r = wire_read_text(rd, &s)) < 0)
        return r;
    in->bytes = wire_str_is(s, "BYTES");
    if (!in->bytes && !wire_oip_datatype_find(s, &in->t.dtype))
        return wire_read_fail(rd, PCV_EUNKNOWN, "unknown datatype \"%.*s\"",
                              (int)(s.len < 32 ? s.len : 32), s.s);
    return 0;
}

/* ["..."], [["..."]]: the one string. */
static int read_one_string(struct wire_reader *rd, struct wire_str *s)
{
    const int base = rd->depth;
    int r = 1;

    while (wire_read_peek(rd) == '[') {
        if ((r = wire_read_open(rd, '[', "an array")) < 0)
            return r;
        if ((r = wire_read_item(rd)) <= 0)
            return r < 0 ? r : wire_read_fail(rd, PCV_ESHAPE, "no element where the shape has one");
    }
    if (rd->depth == base)
        return wire_read_syntax(rd, "an array of one string");
    if ((r = wire_read_text(rd, s)) < 0)
        return r;
    while (rd->depth > base)
        if ((r = wire_read_item(rd)) != 0)
            return r < 0 ? r : wire_read_fail(rd, PCV_ESHAPE, "more elements than the shape has");
    return 0;
}

/* Makes the reader's path $.inputs[i].key or $.inputs[i].key.inner, for an error about the input as
 * a whole: nothing is read afterwards. */
static struct wire_reader *point_at(struct wire_reader *rd, const char *key, const char *inner)
{
    rd->depth = INPUT_DEPTH;
    rd->at[INPUT_DEPTH - 1].key = (struct wire_str){key, strlen(key)};
    if (inner)
        rd->at[rd->depth++] =
            (struct wire_step){.object = true, .n = 1, .key = {inner, strlen(inner)}};
    return rd;
}

/* Elements of the shape. */
static int count_of(struct wire_reader *rd, const struct input *in, int64_t *count)
{
    int64_t bytes;

    *count = pcv_shape_count(in->t.shape, in->t.ndim);
    if (in->bytes && *count != 1)
        return wire_read_fail(point_at(rd, "shape", NULL), PCV_EUNSUPPORTED,
                              "BYTES with %lld elements; only one text or file is served",
                              (long long)*count);
    bytes = in->bytes ? 1 : pcv_shape_bytes(in->t.dtype, in->t.shape, in->t.ndim);
    if (*count < 0 || bytes < 0)
        return wire_read_fail(point_at(rd, "shape", NULL), PCV_ERANGE,
                              "more bytes than 63 bits can count");
    return 0;
}

/* `data` of an input whose shape and datatype are known; rd stands before it, in its path. */
static int read_data(struct wire_reader *rd, struct input *in)
{
    int64_t count, room, n = 0;
    char text[96];
    void *out;
    int r;

    in->read = true;
    if ((r = count_of(rd, in, &count)) < 0)
        return r;
    if (in->bytes)
        return read_one_string(rd, &in->string);
    if (in->t.dtype == PCV_F16 || in->t.dtype == PCV_BF16)
        return wire_read_fail(rd, PCV_EFORMAT,
                              "%s does not travel in JSON, only in the binary form",
                              wire_oip_datatype(in->t.dtype));
    room = (rd->end - rd->p) / 2 + 1;   /* a number and its comma have two bytes: shapes that lie */
    room = count < room ? count : room; /* are not believed */
    out = wire_arena_get(rd->arena, (size_t)room * pcv_dtype_size(in->t.dtype));
    if (!out)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    if ((r = wire_read_numbers(rd, in->t.dtype, out, room, &n)) < 0)
        return r;
    if (n != count)
        return wire_read_fail(rd, PCV_ESHAPE, "%lld elements, shape %s has %lld", (long long)n,
                              pcv_shape_text(in->t.shape, in->t.ndim, text, sizeof(text)),
                              (long long)count);
    in->t.data = out;
    in->t.nbytes = (size_t)count * pcv_dtype_size(in->t.dtype);
    return 0;
}

/* The next binary_size bytes of the binary part are the tensor. */
static int take_binary(struct wire_reader *rd, struct input *in, struct wire_binary *bin)
{
    const size_t size = (size_t)in->binary_size;
    int64_t count, bytes;
    char text[96];
    int r;

    if ((r = count_of(rd, in, &count)) < 0)
        return r;
    if (!bin->header)
        return wire_read_fail(point_at(rd, "parameters", "binary_data_size"), PCV_EFORMAT,
                              "the request has no Inference-Header-Content-Length");
    bytes = in->bytes ? -1 : pcv_shape_bytes(in->t.dtype, in->t.shape, in->t.ndim);
    if (!in->bytes && bytes != in->binary_size)
        return wire_read_fail(point_at(rd, "parameters", "binary_data_size"), PCV_ESHAPE,
                              "%zu bytes, shape %s of %s has %lld", size,
                              pcv_shape_text(in->t.shape, in->t.ndim, text, sizeof(text)),
                              wire_oip_datatype(in->t.dtype), (long long)bytes);
    if (size > bin->left)
        return wire_read_fail(point_at(rd, "parameters", "binary_data_size"), PCV_EFORMAT,
                              "%zu bytes, the body has only %zu left", size, bin->left);
    in->t.data = bin->p;
    in->t.nbytes = size;
    bin->p += size;
    bin->left -= size;
    return 0;
}

/* What no datatype's range catches: BYTES' length, BOOL that is neither. */
static int check_binary(struct wire_reader *rd, struct input *in)
{
    const unsigned char *p = in->t.data;
    size_t len;

    if (in->bytes) {
        len = in->t.nbytes < 4 ? 0 : (size_t)p[0] | p[1] << 8 | p[2] << 16 | (size_t)p[3] << 24;
        if (in->t.nbytes < 4 || len != in->t.nbytes - 4)
            return wire_read_fail(point_at(rd, "parameters", "binary_data_size"), PCV_EFORMAT,
                                  "%zu bytes do not hold one BYTES element of 4 + %zu",
                                  in->t.nbytes, len);
        in->string = (struct wire_str){(const char *)p + 4, len};
    }
    for (size_t i = 0; !in->bytes && in->t.dtype == PCV_BOOL && i < in->t.nbytes; i++)
        if (p[i] > 1)
            return wire_read_fail(point_at(rd, "parameters", "binary_data_size"), PCV_ERANGE,
                                  "byte %zu of a BOOL tensor is %u", i, p[i]);
    return 0;
}

/* The object of the input has ended: are all its parts there, and only once? */
static int finish_input(struct wire_reader *rd, struct input *in, struct wire_binary *bin)
{
    int r;

    if (!in->t.name)
        return wire_read_missing(rd, "name"), PCV_EMISSING;
    if (!in->datatype)
        return wire_read_missing(rd, "datatype");
    if (!in->shape)
        return wire_read_missing(rd, "shape");
    if (in->data && in->binary_size >= 0)
        return wire_read_fail(rd, PCV_EFORMAT, "both data and binary_data_size");
    if (in->data)
        return in->read ? 0 : read_data(&in->at, in);
    if (in->binary_size < 0)
        return wire_read_missing(rd, "data");
    if ((r = take_binary(rd, in, bin)) < 0)
        return r;
    return check_binary(rd, in);
}

/* Into the request: a tensor, or for BYTES one of the media. */
static int add_input(struct wire_reader *rd, struct wire_request *r, const struct input *in)
{
    struct wire_media *m;
    struct pcv_tensor *all;
    int ret;

    for (int i = 0; i < r->ntensors; i++)
        if (strcmp(r->tensors[i].name, in->t.name) == 0)
            return wire_read_fail(rd, PCV_EFORMAT, "input \"%.64s\" appears twice", in->t.name);
    for (int i = 0; i < r->nmedia; i++)
        if (strcmp(r->media[i].input, in->t.name) == 0)
            return wire_read_fail(rd, PCV_EFORMAT, "input \"%.64s\" appears twice", in->t.name);
    if (in->bytes ? r->ntensors : r->nmedia)
        return wire_read_fail(rd, PCV_EUNSUPPORTED, "BYTES and tensors in one request");
    if (in->bytes) {
        if ((ret = wire_add_media(r, in->t.name, false, &m, rd->e)) < 0)
            return wire_read_fail_at(rd, ret);
        m->data = in->string.s;
        m->len = in->string.len;
        m->type = in->data ? "text/plain" : NULL;
        return 0;
    }
    all = wire_arena_room(rd->arena, r->tensors, r->ntensors, sizeof(*all));
    if (!all)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    r->tensors = all;
    all[r->ntensors++] = in->t;
    return 0;
}

/* To the end of data that came too early, by its brackets alone: it is read, or the request
 * refused, when the input ends. */
static int pass_over(struct wire_reader *rd)
{
    struct wire_str s;
    int open = 0, r;

    if (wire_read_peek(rd) != '[')
        return wire_read_skip(rd);
    for (; rd->p < rd->end; rd->p++) {
        switch (*rd->p) {
        case '[':
            if (rd->depth + ++open > WIRE_MAX_DEPTH)
                return wire_read_fail(rd, PCV_ELIMIT, "nested deeper than %d at byte %zu",
                                      WIRE_MAX_DEPTH, (size_t)(rd->p - rd->begin));
            break;
        case ']':
            if (--open == 0) {
                rd->p++;
                return 0;
            }
            break;
        case '"':
            if ((r = wire_read_text(rd, &s)) < 0)
                return r;
            rd->p--;
            break;
        case '{':
        case '}': return wire_read_syntax(rd, "',' or ']'");
        }
    }
    return wire_read_syntax(rd, "']'");
}

static int read_input(struct wire_reader *rd, struct wire_request *r, struct wire_binary *bin)
{
    static const char *const keys[] = {"name", "shape", "datatype", "parameters", "data", NULL};
    struct input in = {.binary_size = -1};
    uint32_t seen = 0;
    int ret, k;

    if ((ret = wire_read_open(rd, '{', "an input")) < 0)
        return ret;
    while ((ret = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        switch (k) {
        case 0: ret = wire_read_cstr(rd, &in.t.name); break;
        case 1:
            ret = read_shape(rd, &in.t);
            in.shape = true;
            break;
        case 2:
            ret = read_datatype(rd, &in);
            in.datatype = true;
            break;
        case 3: ret = input_parameters(rd, &in); break;
        case 4:
            in.data = true;
            if (in.shape && in.datatype) {
                ret = read_data(rd, &in);
            } else {
                in.at = *rd;
                ret = pass_over(rd);
            }
            break;
        }
        if (ret < 0)
            return ret;
    }
    if (ret < 0 || (ret = finish_input(rd, &in, bin)) < 0)
        return ret;
    return add_input(rd, r, &in);
}

int wire_oip_read_inputs(struct wire_reader *rd, struct wire_request *r, struct wire_binary *bin)
{
    int ret;

    if ((ret = wire_read_open(rd, '[', "an array of inputs")) < 0)
        return ret;
    while ((ret = wire_read_item(rd)) > 0) {
        if (r->ntensors + r->nmedia == WIRE_MAX_TENSORS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d inputs", WIRE_MAX_TENSORS);
        if ((ret = read_input(rd, r, bin)) < 0)
            return ret;
    }
    if (ret == 0 && r->ntensors + r->nmedia == 0)
        return wire_read_fail(rd, PCV_EMISSING, "no input");
    return ret;
}
