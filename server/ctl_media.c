#include "server/ctl_media.h"

#include "proto/wire_utf8.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE = 1 << 30 };

const char *ctl_media_type(const void *data, size_t len)
{
    if (len >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return "image/png";
    if (len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return "image/jpeg";
    if (len >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp((const char *)data + 8, "WAVE", 4) == 0)
        return "audio/wav";
    if (len >= 4 && memcmp(data, "fLaC", 4) == 0)
        return "audio/flac";
    if (len >= 4 && memcmp(data, "OggS", 4) == 0)
        return "audio/ogg";
    return wire_utf8_valid(data, len) == len ? "text/plain" : "application/octet-stream";
}

/* All of f, and a NUL. */
static int read_all(FILE *f, char **data, size_t *len, struct pcv_err *e)
{
    char *all = NULL, *more;
    size_t n = 0, room = 0;

    do {
        if (room - n < 2) {
            room = room ? 2 * room : 65536;
            if (!(more = realloc(all, room))) {
                free(all);
                return pcv_fail(e, PCV_ENOMEM, "no memory for %zu bytes", room);
            }
            all = more;
        }
        n += fread(all + n, 1, room - n - 1, f);
        if (n > MAX_FILE) {
            free(all);
            return pcv_fail(e, PCV_ELIMIT, "larger than %d bytes", MAX_FILE);
        }
    } while (!feof(f) && !ferror(f));
    if (ferror(f)) {
        free(all);
        return pcv_fail(e, PCV_EIO, "%s", strerror(errno));
    }
    all[n] = '\0';
    *data = all;
    *len = n;
    return 0;
}

void ctl_media_name(const struct ctl_media *m, struct pcv_err *e)
{
    int n = m->len < 40 ? (int)m->len : 40;

    while (n && n < (int)m->len && (m->data[n] & 0xc0) == 0x80)
        n--; /* no half characters */
    if (m->name)
        pcv_err_at(e, "%s", m->name);
    else
        pcv_err_at(e, "\"%.*s%s\"", n, m->data, n < (int)m->len ? "..." : "");
}

int ctl_media_read(const char *argument, struct ctl_media *ret, struct pcv_err *e)
{
    struct ctl_media m = {.name = argument};
    const bool in = strcmp(argument, "-") == 0;
    struct stat st;
    int r = 0;

    if (!in && (!argument[0] || stat(argument, &st) < 0)) {
        m.name = NULL;
        m.len = strlen(argument);
        if (!(m.data = strdup(argument)))
            r = pcv_fail(e, PCV_ENOMEM, "no memory for a text");
    } else {
        FILE *f = in ? stdin : fopen(argument, "rb");

        r = f ? read_all(f, &m.data, &m.len, e) : pcv_fail(e, PCV_EIO, "%s", strerror(errno));
        if (f && !in)
            fclose(f);
        if (r < 0)
            return pcv_err_at(e, "%s", argument);
    }
    m.type = m.name ? ctl_media_type(m.data, m.len) : "text/plain";
    if (r == 0)
        *ret = m;
    return r;
}
