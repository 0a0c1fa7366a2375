#include "server/ctl_sample.h"

#include <string.h>

/* Tokens of text: those of bytes come behind six special ones. */
enum { CLS = 4, SEP = 5, BYTES = 6 };

static int no_memory(struct pcv_err *e)
{
    return pcv_fail(e, PCV_ENOMEM, "no memory for an input");
}

uint64_t ctl_random_next(struct ctl_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1dULL;
}

static struct ctl_random random_from(uint64_t seed)
{
    struct ctl_random r = {seed * 0x9e3779b97f4a7c15ULL + 1};

    r.state += r.state == 0;
    ctl_random_next(&r);
    return r;
}

/* ---- pictures -------------------------------------------------------------------------------- */

struct out {
    uint8_t *p;
};

static void put32(struct out *o, uint32_t v)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *o->p++ = (uint8_t)(v >> shift);
}

static void put16_little(struct out *o, unsigned v)
{
    *o->p++ = (uint8_t)v;
    *o->p++ = (uint8_t)(v >> 8);
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static uint32_t adler32_of(const uint8_t *p, size_t n)
{
    uint32_t a = 1, b = 0;

    for (size_t i = 0; i < n; i++) {
        a = (a + p[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* Ends the chunk whose kind stands at begin. */
static void end_chunk(struct out *o, uint8_t *begin)
{
    struct out length = {begin - 4};

    put32(&length, (uint32_t)(o->p - begin - 4));
    put32(o, crc32_of(begin, (size_t)(o->p - begin)));
}

static uint8_t *begin_chunk(struct out *o, const char *kind)
{
    o->p += 4; /* its length, when it is known */
    memcpy(o->p, kind, 4);
    o->p += 4;
    return o->p - 4;
}

/* A zlib stream of stored blocks. */
static void put_stored(struct out *o, const uint8_t *data, size_t n)
{
    enum { BLOCK = 65535 };

    *o->p++ = 0x78;
    *o->p++ = 0x01;
    for (size_t i = 0; i < n; i += BLOCK) {
        const unsigned part = n - i < BLOCK ? (unsigned)(n - i) : BLOCK;

        *o->p++ = i + part == n;
        put16_little(o, part);
        put16_little(o, ~part);
        memcpy(o->p, data + i, part);
        o->p += part;
    }
    put32(o, adler32_of(data, n));
}

void *ctl_sample_png(struct wire_arena *a, struct ctl_random *r, int height, int width,
                     int channels, size_t *len)
{
    const size_t row = 1 + (size_t)width * (size_t)channels, n = row * (size_t)height;
    uint8_t *pixels = wire_arena_get(a, n), *png = wire_arena_get(a, n + n / 65535 * 5 + 128);
    uint8_t *chunk;
    struct out o = {png};

    if (!pixels || !png)
        return NULL;
    for (size_t i = 0; i < n; i++)
        pixels[i] = i % row ? (uint8_t)(ctl_random_next(r) >> 56) : 0; /* no filter */
    memcpy(o.p, "\x89PNG\r\n\x1a\n", 8);
    o.p += 8;
    chunk = begin_chunk(&o, "IHDR");
    put32(&o, (uint32_t)width);
    put32(&o, (uint32_t)height);
    memcpy(o.p, channels == 1 ? "\x08\x00\x00\x00\x00" : "\x08\x02\x00\x00\x00", 5);
    o.p += 5;
    end_chunk(&o, chunk);
    chunk = begin_chunk(&o, "IDAT");
    put_stored(&o, pixels, n);
    end_chunk(&o, chunk);
    end_chunk(&o, begin_chunk(&o, "IEND"));
    *len = (size_t)(o.p - png);
    return png;
}

/* The tensor that holds pictures: floats of [batch, channels, height, width]. */
static const struct wire_tensor_desc *picture_tensor(const struct wire_model_desc *m)
{
    for (int i = 0; i < m->ntensors_in; i++)
        if (m->tensors_in[i].dtype == PCV_F32 && m->tensors_in[i].ndim == 4)
            return &m->tensors_in[i];
    return NULL;
}

bool ctl_sample_open(const struct wire_model_desc *m)
{
    const struct wire_tensor_desc *t = picture_tensor(m);

    return t && t->shape[2] < 0 && t->shape[3] < 0;
}

/* ---- texts ----------------------------------------------------------------------------------- */

char *ctl_sample_text(struct wire_arena *a, struct ctl_random *r, int tokens, bool masks)
{
    char *text = wire_arena_get(a, 6 * (size_t)tokens + 1), *p = text;

    if (!text)
        return NULL;
    for (int i = 0; i < tokens; i++) {
        const unsigned v = (unsigned)(ctl_random_next(r) >> 40);

        if (masks && (i == 0 || v % 8 == 0))
            p = stpcpy(p, "[MASK]");
        else
            *p++ = v / 8 % 32 < 26 ? (char)('a' + v / 8 % 32) : ' ';
    }
    *p = '\0';
    return text;
}

static bool fills_masks(const struct wire_model_desc *m)
{
    for (int i = 0; i < m->ntasks; i++)
        if (strcmp(m->tasks[i].kind, "fill-mask") == 0)
            return true;
    return false;
}

/* ---- requests -------------------------------------------------------------------------------- */

static int make_picture(struct wire_media *media, struct wire_arena *a, struct ctl_random *rnd,
                        const struct wire_model_desc *m, const struct ctl_sample_size *size,
                        struct pcv_err *e)
{
    const struct wire_tensor_desc *t = picture_tensor(m);
    const int64_t height = t && t->shape[2] > 0 ? t->shape[2] : size->height;
    const int64_t width = t && t->shape[3] > 0 ? t->shape[3] : size->width;

    if (height > CTL_MAX_SIDE || width > CTL_MAX_SIDE)
        return pcv_fail(e, PCV_ELIMIT, "pictures of %lld x %lld are too large to make up",
                        (long long)height, (long long)width);
    media->type = "image/png";
    media->data =
        ctl_sample_png(a, rnd, (int)height, (int)width, t && t->shape[1] == 1 ? 1 : 3, &media->len);
    return media->data ? 0 : no_memory(e);
}

static int make_text(struct wire_media *media, struct wire_arena *a, struct ctl_random *rnd,
                     const struct wire_model_desc *m, const struct ctl_sample_size *size,
                     struct pcv_err *e)
{
    const char *text = ctl_sample_text(a, rnd, size->tokens - 2, fills_masks(m));

    if (!text)
        return no_memory(e);
    media->type = "text/plain";
    media->data = text;
    media->len = strlen(text);
    return 0;
}

static int make_media(struct wire_media *media, const struct wire_input_desc *in,
                      struct wire_arena *a, struct ctl_random *rnd, const struct wire_model_desc *m,
                      const struct ctl_sample_size *size, struct pcv_err *e)
{
    media->input = in->name;
    if (strcmp(in->kind, "image") == 0)
        return make_picture(media, a, rnd, m, size, e);
    if (strcmp(in->kind, "text") == 0)
        return make_text(media, a, rnd, m, size, e);
    return pcv_fail(e, PCV_EUNSUPPORTED, "input %.60s: cannot make up %.60s; name one with --input",
                    in->name, in->kind);
}

/* The n-th of the inputs that can be made up, counted round and round; the first when none can. */
static const struct wire_input_desc *one_input(const struct wire_model_desc *m, uint64_t n)
{
    const struct wire_input_desc *can[64] = {m->inputs};
    uint64_t count = 0;

    for (int i = 0; i < m->ninputs && count < 64; i++)
        if (strcmp(m->inputs[i].kind, "image") == 0 || strcmp(m->inputs[i].kind, "text") == 0)
            can[count++] = &m->inputs[i];
    return can[count ? n % count : 0];
}

int ctl_sample_media(struct wire_request *r, struct wire_arena *a, const struct wire_model_desc *m,
                     const struct ctl_sample_size *size, uint64_t seed, struct pcv_err *e)
{
    const int n = m->together || !m->ninputs ? m->ninputs : 1;
    struct wire_media *media = wire_arena_zero(a, (size_t)n * sizeof(*media));
    struct ctl_random rnd = random_from(seed);
    int code = media ? 0 : no_memory(e);

    for (int i = 0; i < n && code == 0; i++)
        code = make_media(&media[i], m->together ? &m->inputs[i] : one_input(m, seed - 1), a, &rnd,
                          m, size, e);
    if (code == 0)
        *r = (struct wire_request){.form = WIRE_NATIVE, .nmedia = n, .media = media};
    return code;
}

/* Values that a model can work with: floats around 0, tokens of bytes. */
static int fill(struct pcv_tensor *t, struct wire_arena *a, struct ctl_random *rnd,
                struct pcv_err *e)
{
    const int64_t n = pcv_shape_count(t->shape, t->ndim);
    void *data;

    t->nbytes = (size_t)pcv_shape_bytes(t->dtype, t->shape, t->ndim);
    t->data = data = wire_arena_get(a, t->nbytes);
    if (!data)
        return no_memory(e);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t v = ctl_random_next(rnd) >> 40; /* 24 bits */

        if (t->dtype == PCV_F32)
            ((float *)data)[i] = (float)v / (float)(1 << 23) - 1;
        else
            ((int64_t *)data)[i] = i == 0 ? CLS : i == n - 1 ? SEP : (int64_t)(BYTES + v % 256);
    }
    return 0;
}

int ctl_sample_tensors(struct wire_request *r, struct wire_arena *a,
                       const struct wire_model_desc *m, const struct ctl_sample_size *size,
                       uint64_t seed, struct pcv_err *e)
{
    struct pcv_tensor *tensors = wire_arena_zero(a, (size_t)m->ntensors_in * sizeof(*tensors));
    struct ctl_random rnd = random_from(seed);
    int n = 0, code;

    if (!tensors)
        return no_memory(e);
    for (int i = 0; i < m->ntensors_in; i++) {
        const struct wire_tensor_desc *d = &m->tensors_in[i];
        const int64_t open[] = {1, d->ndim == 4 ? 3 : size->tokens, size->height, size->width};
        struct pcv_tensor *t = &tensors[n];

        if (d->optional)
            continue;
        if (!(d->dtype == PCV_F32 && d->ndim == 4) && !(d->dtype == PCV_I64 && d->ndim == 2))
            return pcv_fail(e, PCV_EUNSUPPORTED, "tensor %.60s: cannot make up %s of %d dimensions",
                            d->name, pcv_dtype_name(d->dtype), d->ndim);
        t->name = d->name;
        t->dtype = d->dtype;
        t->ndim = d->ndim;
        for (int k = 0; k < d->ndim; k++)
            t->shape[k] = d->shape[k] < 0 ? open[k] : d->shape[k];
        if (pcv_shape_bytes(t->dtype, t->shape, t->ndim) < 0)
            return pcv_fail(e, PCV_ELIMIT, "tensor %.60s: too large", d->name);
        if ((code = fill(t, a, &rnd, e)) < 0)
            return code;
        n++;
    }
    *r = (struct wire_request){
        .form = WIRE_OIP, .ntensors = n, .tensors = tensors, .binary_default = true};
    return 0;
}
