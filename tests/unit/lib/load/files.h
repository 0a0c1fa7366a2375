/* files.h - pickles and zip files as torch, haiku and people who mean no good write them, byte by
 * byte. Every file lies in one temporary folder. Include after the headers under test. */
#ifndef FILES_H
#define FILES_H

#include "tests/unit/check.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- bytes -------------------------------------------------------------------------------- */

struct bytes {
    unsigned char *p;
    size_t n, room;
};

static inline void put(struct bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n) + 64;
        b->p = realloc(b->p, b->room);
        assert_non_null(b->p);
    }
    if (n)
        memcpy(b->p + b->n, data, n);
    b->n += n;
}

/* A string's bytes, zeros in it too. */
#define PUT(b, text) put(b, text, sizeof(text) - 1)

static inline void put_number(struct bytes *b, uint64_t x, int width)
{
    for (int i = 0; i < width; i++) {
        const unsigned char c = (unsigned char)(x >> 8 * i);

        put(b, &c, 1);
    }
}

static inline void drop(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

/* ---- pickles ------------------------------------------------------------------------------ */

static inline void put_text(struct bytes *b, const char *text)
{
    PUT(b, "X");
    put_number(b, strlen(text), 4);
    put(b, text, strlen(text));
}

static inline void put_bytes(struct bytes *b, const void *data, size_t n)
{
    PUT(b, "B");
    put_number(b, n, 4);
    put(b, data, n);
}

static inline void put_int(struct bytes *b, int64_t x)
{
    PUT(b, "\x8a\x08");
    put_number(b, (uint64_t)x, 8);
}

static inline void put_global(struct bytes *b, const char *module, const char *name)
{
    PUT(b, "c");
    put(b, module, strlen(module));
    PUT(b, "\n");
    put(b, name, strlen(name));
    PUT(b, "\n");
}

static inline void put_ints(struct bytes *b, int n, const int64_t *x)
{
    PUT(b, "(");
    for (int i = 0; i < n; i++)
        put_int(b, x[i]);
    PUT(b, "t");
}

/* ---- the folder --------------------------------------------------------------------------- */

static char folder[64];

static inline const char *in_folder(const char *name)
{
    static char path[2][400];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_load.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* What a test left in it goes with it. */
static inline int remove_folder(void **state)
{
    DIR *d = opendir(folder);

    (void)state;
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(in_folder(entry->d_name));
    if (d)
        closedir(d);
    return rmdir(folder);
}

static inline void write_file(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");

    assert_non_null(f);
    if (n)
        assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline struct bytes read_file(const char *path)
{
    struct bytes b = {0};
    char piece[4096];
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    for (size_t n; (n = fread(piece, 1, sizeof(piece), f)) > 0;)
        put(&b, piece, n);
    fclose(f);
    return b;
}

/* ---- zip files ---------------------------------------------------------------------------- */

/* One entry; what it says of itself can be a lie. */
struct zip_entry {
    const char *name;
    const void *data;
    size_t n;
    bool deflate;
    bool unaligned;            /* torch puts numbers at multiples of 64 */
    int method, flags;         /* added to what is true */
    int64_t more, more_packed; /* added to the sizes it says */
    uint32_t bad_sum;          /* mixed into the sum */
    bool lie_locally;          /* the lies stand in the entry's own header, the directory is true */
};

enum { ZIP_TEST_ENTRIES = 64 };

static inline struct bytes zip_deflate(const void *data, size_t n)
{
    struct bytes out = {0};
    z_stream z = {0};
    unsigned char piece[4096];

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)n;
    do {
        z.next_out = piece;
        z.avail_out = sizeof(piece);
        deflate(&z, Z_FINISH);
        put(&out, piece, sizeof(piece) - z.avail_out);
    } while (z.avail_out == 0);
    deflateEnd(&z);
    return out;
}

/* The fields that both headers have. */
static inline void zip_fields(struct bytes *b, const struct zip_entry *e, size_t packed, bool lie)
{
    put_number(b, (uint64_t)(0 + (lie ? e->flags : 0)), 2);
    put_number(b, (uint64_t)((e->deflate ? 8 : 0) + (lie ? e->method : 0)), 2);
    put_number(b, 0x00210000, 4); /* 1980 */
    put_number(b, crc32(0, e->data, (uInt)e->n) ^ (lie ? e->bad_sum : 0), 4);
    put_number(b, packed + (uint64_t)(lie ? e->more_packed : 0), 4);
    put_number(b, e->n + (uint64_t)(lie ? e->more : 0), 4);
    put_number(b, strlen(e->name), 2);
}

static inline struct bytes zip_bytes(const struct zip_entry *e, int n)
{
    struct bytes b = {0}, directory = {0};
    size_t begins;

    assert_in_range(n, 0, ZIP_TEST_ENTRIES);
    for (int i = 0; i < n; i++) {
        struct bytes packed = {0};
        const size_t at = b.n, len = strlen(e[i].name);
        const size_t data = at + 30 + len + 4, pad = e[i].unaligned ? 0 : (64 - data % 64) % 64;

        if (e[i].deflate)
            packed = zip_deflate(e[i].data, e[i].n);
        else
            put(&packed, e[i].data, e[i].n);
        PUT(&b, "PK\3\4\x14\0");
        zip_fields(&b, &e[i], packed.n, true);
        put_number(&b, 4 + pad, 2);
        put(&b, e[i].name, len);
        PUT(&b, "FB");
        put_number(&b, pad, 2);
        for (size_t k = 0; k < pad; k++)
            PUT(&b, "Z");
        put(&b, packed.p, packed.n);
        PUT(&directory, "PK\1\2\0\0\x14\0");
        zip_fields(&directory, &e[i], packed.n, !e[i].lie_locally);
        put_number(&directory, 0, 8); /* no extra field, comment, disk or attributes */
        put_number(&directory, 0, 4);
        put_number(&directory, at, 4);
        put(&directory, e[i].name, len);
        drop(&packed);
    }
    begins = b.n;
    put(&b, directory.p, directory.n);
    PUT(&b, "PK\5\6\0\0\0\0");
    put_number(&b, (uint64_t)n, 2);
    put_number(&b, (uint64_t)n, 2);
    put_number(&b, directory.n, 4);
    put_number(&b, begins, 4);
    put_number(&b, 0, 2);
    drop(&directory);
    return b;
}

static inline void write_zip(const char *name, const struct zip_entry *e, int n)
{
    struct bytes b = zip_bytes(e, n);

    write_file(name, b.p, b.n);
    drop(&b);
}

#endif
