#include "lib/load/source.h"

#include "lib/load/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_safetensors(void *owner)
{
    pcv_safetensors_close(owner);
}

int pcv_source_safetensors(struct pcv_source *ret, const char *path, struct pcv_err *e)
{
    struct pcv_safetensors *f = NULL;
    const int r = pcv_safetensors_open(&f, path, e);

    if (r < 0)
        return r;
    *ret = (struct pcv_source){
        .tensors = pcv_safetensors_at(f, 0),
        .count = pcv_safetensors_count(f),
        .map_size = pcv_safetensors_bytes(f),
        .owner = f,
        .close = close_safetensors,
    };
    if (ret->count > 0) /* in the order of the file: no data lies before the first */
        ret->map = ret->tensors[0].data;
    return 0;
}

void pcv_source_close(struct pcv_source *s)
{
    if (s->close)
        s->close(s->owner);
    *s = (struct pcv_source){0};
}

int pcv_source_check_name(const char *name, size_t len, struct pcv_err *e)
{
    if (len == 0 || len > PCV_SOURCE_MAX_NAME)
        return pcv_fail(e, PCV_EFORMAT, "a name of %zu bytes; 1 to %d are taken", len,
                        PCV_SOURCE_MAX_NAME);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return pcv_fail(e, PCV_EFORMAT, "a name has control character 0x%02x",
                            (unsigned)(unsigned char)name[i]);
    return 0;
}

int pcv_source_map(const char **ret, size_t *size, const char *path, struct pcv_err *e)
{
    /* O_NONBLOCK: a FIFO in place of the file is refused below instead of waited for. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    void *map = MAP_FAILED;
    int r = 0;

    if (fd < 0)
        return pcv_fail(e, PCV_EIO, "cannot open: %s", strerror(errno));
    if (fstat(fd, &st) < 0)
        r = pcv_fail(e, PCV_EIO, "cannot stat: %s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = pcv_fail(e, PCV_EIO, "not a regular file");
    else if (st.st_size == 0)
        r = pcv_fail(e, PCV_EFORMAT, "is empty");
    else if ((map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        r = pcv_fail(e, PCV_EIO, "cannot map: %s", strerror(errno));
    close(fd);
    if (r < 0)
        return r;
    *ret = map;
    *size = (size_t)st.st_size;
    return 0;
}
