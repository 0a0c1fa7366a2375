#include "lib/base/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[PCV_DTYPES] = {
    [PCV_BOOL] = {"BOOL", 1}, [PCV_U8] = {"U8", 1},   [PCV_I8] = {"I8", 1},
    [PCV_U16] = {"U16", 2},   [PCV_I16] = {"I16", 2}, [PCV_F16] = {"F16", 2},
    [PCV_BF16] = {"BF16", 2}, [PCV_U32] = {"U32", 4}, [PCV_I32] = {"I32", 4},
    [PCV_F32] = {"F32", 4},   [PCV_U64] = {"U64", 8}, [PCV_I64] = {"I64", 8},
    [PCV_F64] = {"F64", 8},
};

size_t pcv_dtype_size(enum pcv_dtype t)
{
    return dtypes[t].size;
}

const char *pcv_dtype_name(enum pcv_dtype t)
{
    return dtypes[t].name;
}

int64_t pcv_shape_count(const int64_t *shape, int ndim)
{
    int64_t n = 1;

    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n))
            return -1;
    return n;
}

int64_t pcv_shape_bytes(enum pcv_dtype t, const int64_t *shape, int ndim)
{
    int64_t n = pcv_shape_count(shape, ndim);

    if (n < 0 || __builtin_mul_overflow(n, (int64_t)pcv_dtype_size(t), &n))
        return -1;
    return n;
}

const char *pcv_shape_text(const int64_t *shape, int ndim, char *buf, size_t size)
{
    size_t at = 0;

    snprintf(buf, size, "[");
    for (int i = 0; i < ndim && at + 1 < size; i++) {
        at = strlen(buf);
        snprintf(buf + at, size - at, i ? ",%lld" : "%lld", (long long)shape[i]);
    }
    at = strlen(buf);
    snprintf(buf + at, size - at, "]");
    return buf;
}

float pcv_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exp = (h >> 10) & 31;
    uint32_t frac = h & 0x3ff;
    uint32_t bits;
    float f;

    if (exp == 0) { /* zero or subnormal: frac x 2^-24 is exact in f32 */
        f = (float)frac * 0x1p-24f;
        return sign ? -f : f;
    }
    bits = exp == 31 ? sign | 0x7f800000 | frac << 13 : sign | (exp + 112) << 23 | frac << 13;
    memcpy(&f, &bits, 4);
    return f;
}

float pcv_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, 4);
    return f;
}

uint16_t pcv_f32_to_f16(float f)
{
    uint32_t bits, sign, frac;
    int exp;

    memcpy(&bits, &f, 4);
    sign = bits >> 16 & 0x8000;
    exp = (int)(bits >> 23 & 255) - 127;
    frac = bits & 0x7fffff;
    if (exp == 128)
        return (uint16_t)(sign | 0x7c00 | (frac ? 0x200 : 0));
    if (exp > 15)
        return (uint16_t)(sign | 0x7c00);
    if (exp < -14) /* subnormal: nearbyint rounds to even, 2^-24 is one step */
        return (uint16_t)(sign | (uint32_t)nearbyintf(fabsf(f) * 0x1p24f));
    bits = (uint32_t)(exp + 15) << 10 | frac >> 13;
    if ((frac & 0x1fff) > 0x1000 || ((frac & 0x1fff) == 0x1000 && (bits & 1)))
        bits++; /* may carry into the exponent, up to infinity: as IEEE wants */
    return (uint16_t)(sign | bits);
}

/* One element, whatever its alignment. */
#define LOAD(type, p, i)                                                                           \
    ({                                                                                             \
        type v_;                                                                                   \
        memcpy(&v_, (const char *)(p) + (size_t)(i) * sizeof(type), sizeof(type));                 \
        v_;                                                                                        \
    })

void pcv_tensor_to_f32(const struct pcv_tensor *t, int64_t from, int64_t n, float *out)
{
    const char *p = (const char *)t->data + (size_t)from * pcv_dtype_size(t->dtype);

    if (t->dtype == PCV_F32) {
        if (n > 0)
            memcpy(out, p, (size_t)n * 4);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        switch (t->dtype) {
        case PCV_BOOL:
        case PCV_U8: out[i] = (float)LOAD(uint8_t, p, i); break;
        case PCV_I8: out[i] = (float)LOAD(int8_t, p, i); break;
        case PCV_U16: out[i] = (float)LOAD(uint16_t, p, i); break;
        case PCV_I16: out[i] = (float)LOAD(int16_t, p, i); break;
        case PCV_F16: out[i] = pcv_f16_to_f32(LOAD(uint16_t, p, i)); break;
        case PCV_BF16: out[i] = pcv_bf16_to_f32(LOAD(uint16_t, p, i)); break;
        case PCV_U32: out[i] = (float)LOAD(uint32_t, p, i); break;
        case PCV_I32: out[i] = (float)LOAD(int32_t, p, i); break;
        case PCV_U64: out[i] = (float)LOAD(uint64_t, p, i); break;
        case PCV_I64: out[i] = (float)LOAD(int64_t, p, i); break;
        case PCV_F64: out[i] = (float)LOAD(double, p, i); break;
        case PCV_F32:
        case PCV_DTYPES: break;
        }
    }
}

/* A float is accepted as an index only when it is one exactly. */
static int whole(double v, int64_t *out)
{
    if (!(v >= -0x1p63 && v < 0x1p63) || v != floor(v))
        return -1;
    *out = (int64_t)v;
    return 0;
}

/* Element i, or -1 when it is no integer of 64 bits. */
static int load_i64(enum pcv_dtype dtype, const char *p, int64_t i, int64_t *out)
{
    switch (dtype) {
    case PCV_BOOL:
    case PCV_U8: *out = LOAD(uint8_t, p, i); return 0;
    case PCV_I8: *out = LOAD(int8_t, p, i); return 0;
    case PCV_U16: *out = LOAD(uint16_t, p, i); return 0;
    case PCV_I16: *out = LOAD(int16_t, p, i); return 0;
    case PCV_U32: *out = LOAD(uint32_t, p, i); return 0;
    case PCV_I32: *out = LOAD(int32_t, p, i); return 0;
    case PCV_I64: *out = LOAD(int64_t, p, i); return 0;
    case PCV_U64: *out = LOAD(int64_t, p, i); return *out < 0 ? -1 : 0;
    case PCV_F32: return whole(LOAD(float, p, i), out);
    case PCV_F64: return whole(LOAD(double, p, i), out);
    case PCV_F16:
    case PCV_BF16:
    case PCV_DTYPES: break;
    }
    return -1;
}

int pcv_tensor_to_i64(const struct pcv_tensor *t, int64_t from, int64_t n, int64_t *out,
                      struct pcv_err *e)
{
    const char *p = (const char *)t->data + (size_t)from * pcv_dtype_size(t->dtype);
    int64_t v;

    if (t->dtype == PCV_F16 || t->dtype == PCV_BF16)
        return pcv_fail(e, PCV_EUNSUPPORTED, "datatype %s where integers are wanted",
                        pcv_dtype_name(t->dtype));
    for (int64_t i = 0; i < n; i++) /* all are checked before the first is written */
        if (load_i64(t->dtype, p, i, &v) < 0)
            return pcv_fail(e, PCV_ERANGE, "element %lld is not a whole number of 64 bits",
                            (long long)(from + i));
    for (int64_t i = 0; i < n; i++)
        load_i64(t->dtype, p, i, &out[i]);
    return 0;
}
