/* wire_oip.c - infer requests of the Open Inference Protocol, JSON and binary.
 *
 * Easy to get wrong:
 * - Keys come in any order: `data` may stand before `shape`, the request's binary_data_output
 * behind the outputs it applies to.
 * - Binary tensors follow the JSON in the order of the inputs that have binary_data_size; the sizes
 *   add up to what is there exactly.
 * - Keys and parameters this server does not know are passed over, as Triton does. */
#include "proto/wire_oip.h"
#include "proto/wire_decode.h"

#include <limits.h>
#include <string.h>

static const char *const datatypes[PCV_DTYPES] = {
    [PCV_BOOL] = "BOOL", [PCV_U8] = "UINT8", [PCV_I8] = "INT8",    [PCV_U16] = "UINT16",
    [PCV_I16] = "INT16", [PCV_F16] = "FP16", [PCV_BF16] = "BF16",  [PCV_U32] = "UINT32",
    [PCV_I32] = "INT32", [PCV_F32] = "FP32", [PCV_U64] = "UINT64", [PCV_I64] = "INT64",
    [PCV_F64] = "FP64",
};

const char *wire_oip_datatype(enum pcv_dtype t)
{
    return datatypes[t];
}

bool wire_oip_datatype_find(struct wire_str name, enum pcv_dtype *t)
{
    for (int i = 0; i < PCV_DTYPES; i++) {
        if (strlen(datatypes[i]) == name.len && memcmp(datatypes[i], name.s, name.len) == 0) {
            *t = (enum pcv_dtype)i;
            return true;
        }
    }
    return false;
}

/* What a request says about outputs, before the defaults are known. */
struct wishes {
    signed char binary[WIRE_MAX_TENSORS]; /* -1: not said */
    bool binary_default;
};

/* ---- parameters ------------------------------------------------------------------------------ */

/* A parameter nobody here knows: a string, number or boolean. */
int wire_oip_skip_parameter(struct wire_reader *rd)
{
    char c = wire_read_peek(rd);

    if (c != '"' && c != '0' && c != 't')
        return wire_read_fail(rd, PCV_EFORMAT, "parameters are strings, numbers or booleans");
    return wire_read_skip(rd);
}

bool wire_str_is(struct wire_str s, const char *name)
{
    return strlen(name) == s.len && memcmp(s.s, name, s.len) == 0;
}

static int request_parameters(struct wire_reader *rd, struct wire_request *r, struct wishes *w)
{
    struct wire_str name;
    int64_t v = 0;
    bool b = true;
    int ret;

    if ((ret = wire_read_open(rd, '{', "an object of parameters")) < 0)
        return ret;
    while ((ret = wire_read_name(rd, &name)) > 0) {
        if (wire_str_is(name, "binary_data_output")) {
            ret = wire_read_bool(rd, &w->binary_default);
        } else if (wire_str_is(name, "priority")) {
            ret = wire_read_int(rd, 0, WIRE_MAX_PRIORITY, &v);
            r->priority = (int)v;
        } else if (wire_str_is(name, "timeout")) {
            ret = wire_read_int(rd, 0, WIRE_MAX_TIMEOUT_MS * (int64_t)1000, &v);
            r->timeout_us = (uint64_t)v;
        } else if (wire_str_is(name, "cache")) {
            ret = wire_read_bool(rd, &b);
            r->no_cache = !b;
        } else if (wire_str_is(name, "share")) {
            ret = wire_read_bool(rd, &b);
            r->no_share = !b;
        } else if (name.len >= 7 && memcmp(name.s, "triton_", 7) == 0) {
            return wire_read_fail(rd, PCV_EFORMAT,
                                  "parameters that begin with triton_ are reserved");
        } else {
            ret = wire_oip_skip_parameter(rd);
        }
        if (ret < 0)
            return ret;
    }
    return ret;
}

static int output_parameters(struct wire_reader *rd, struct wire_output *out, signed char *binary)
{
    struct wire_str name;
    int64_t n = 0;
    bool b;
    int r;

    if ((r = wire_read_open(rd, '{', "an object of parameters")) < 0)
        return r;
    while ((r = wire_read_name(rd, &name)) > 0) {
        if (wire_str_is(name, "binary_data")) {
            if ((r = wire_read_bool(rd, &b)) == 0)
                *binary = b;
        } else if (wire_str_is(name, "classification")) {
            r = wire_read_int(rd, 0, INT_MAX, &n);
            out->classification = (int)n;
        } else if (name.len >= 13 && memcmp(name.s, "shared_memory", 13) == 0) {
            return wire_read_fail(rd, PCV_EUNSUPPORTED, "shared memory is not served");
        } else {
            r = wire_oip_skip_parameter(rd);
        }
        if (r < 0)
            return r;
    }
    return r;
}

/* ---- outputs --------------------------------------------------------------------------------- */

static int read_output(struct wire_reader *rd, struct wire_request *r, signed char *binary)
{
    static const char *const keys[] = {"name", "parameters", NULL};
    struct wire_output out = {0}, *all;
    uint32_t seen = 0;
    int ret, k;

    *binary = -1;
    if ((ret = wire_read_open(rd, '{', "an output")) < 0)
        return ret;
    while ((ret = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        ret = k == 0 ? wire_read_cstr(rd, &out.name) : output_parameters(rd, &out, binary);
        if (ret < 0)
            return ret;
    }
    if (ret < 0)
        return ret;
    if (!out.name)
        return wire_read_missing(rd, "name");
    for (int i = 0; i < r->noutputs; i++)
        if (strcmp(r->outputs[i].name, out.name) == 0)
            return wire_read_fail(rd, PCV_EFORMAT, "output \"%.64s\" appears twice", out.name);
    all = wire_arena_room(rd->arena, r->outputs, r->noutputs, sizeof(*all));
    if (!all)
        return wire_read_fail(rd, PCV_ENOMEM, "out of memory");
    r->outputs = all;
    all[r->noutputs++] = out;
    return 0;
}

static int read_outputs(struct wire_reader *rd, struct wire_request *r, struct wishes *w)
{
    int ret;

    if ((ret = wire_read_open(rd, '[', "an array of outputs")) < 0)
        return ret;
    while ((ret = wire_read_item(rd)) > 0) {
        if (r->noutputs == WIRE_MAX_TENSORS)
            return wire_read_fail(rd, PCV_ELIMIT, "more than %d outputs", WIRE_MAX_TENSORS);
        if ((ret = read_output(rd, r, &w->binary[r->noutputs])) < 0)
            return ret;
    }
    return ret;
}

/* ---- the request ----------------------------------------------------------------------------- */

static int read_request(struct wire_reader *rd, struct wire_request *r, struct wire_binary *bin)
{
    static const char *const keys[] = {"id", "parameters", "inputs", "outputs", NULL};
    struct wishes w = {.binary_default = false};
    uint32_t seen = 0;
    int ret, k;

    if ((ret = wire_read_open(rd, '{', "a JSON object")) < 0)
        return ret;
    while ((ret = wire_read_key(rd, keys, WIRE_LENIENT, &seen, &k)) > 0) {
        switch (k) {
        case 0: ret = wire_read_cstr(rd, &r->id); break;
        case 1: ret = request_parameters(rd, r, &w); break;
        case 2: ret = wire_oip_read_inputs(rd, r, bin); break;
        case 3: ret = read_outputs(rd, r, &w); break;
        }
        if (ret < 0)
            return ret;
    }
    if (ret < 0 || (ret = wire_read_end(rd)) < 0)
        return ret;
    if (!(seen & 4))
        return wire_read_missing(rd, "inputs");
    r->binary_default = w.binary_default;
    r->nitems = r->nmedia > 0;
    for (int i = 0; i < r->noutputs; i++)
        r->outputs[i].binary = w.binary[i] < 0 ? w.binary_default : w.binary[i];
    return 0;
}

/* Raw form: the body is the only input's bytes. */
static int raw_form(struct wire_request *r, const void *body, size_t len, struct pcv_err *e)
{
    if (len == 0)
        return wire_fail(e, PCV_EMISSING, "body", "the body is empty");
    r->tensors = wire_arena_zero(r->arena, sizeof(*r->tensors));
    if (!r->tensors)
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    r->tensors[0] = (struct pcv_tensor){
        .dtype = PCV_U8, .ndim = 1, .shape = {(int64_t)len}, .data = body, .nbytes = len};
    r->ntensors = 1;
    r->raw = r->binary_default = true;
    return 0;
}

/* JSON, and binary tensors behind it when header_len says so. */
static int json_form(struct wire_request *r, const char *body, size_t len, int64_t header_len,
                     struct pcv_err *e)
{
    size_t json = header_len < 0 ? len : (size_t)header_len;
    struct wire_binary bin = {json < len ? body + json : "", len - json, header_len >= 0};
    struct wire_reader rd;
    int ret;

    wire_reader_init(&rd, body, json, "$", r->arena, e);
    if ((ret = read_request(&rd, r, &bin)) < 0)
        return ret;
    if (bin.left)
        return wire_fail(e, PCV_EFORMAT, "body", "%zu bytes behind the last input's", bin.left);
    return 0;
}

int wire_oip_decode(struct wire_request **ret, const void *body, size_t len, int64_t header_len,
                    struct pcv_err *e)
{
    struct wire_request *r;
    int code;

    if (header_len < -1 || (header_len > 0 && (uint64_t)header_len > len))
        return wire_fail(e, PCV_ERANGE, "Inference-Header-Content-Length",
                         "%lld, the body has %zu bytes", (long long)header_len, len);
    if (!(r = wire_request_new(WIRE_OIP)))
        return pcv_fail(e, PCV_ENOMEM, "out of memory");
    code = header_len == 0 ? raw_form(r, body, len, e) : json_form(r, body, len, header_len, e);
    if (code < 0) {
        wire_request_free(r);
        return code;
    }
    *ret = r;
    return 0;
}
