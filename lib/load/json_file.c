#include "lib/load/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_FILE = 16 << 20 };

/* What the system said, about memory or anything else. */
static int refused(const char *what, struct pcv_err *e)
{
    return pcv_fail(e, errno == ENOMEM ? PCV_ENOMEM : PCV_EIO, "%s: %m", what);
}

/* A directory, a device or something endless is refused by size. */
int pcv_file_text(char **ret, size_t *len, const char *path, struct pcv_err *e)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t n;

    if (!f)
        return refused("cannot open", e);
    text = malloc(MAX_FILE + 1);
    n = text ? fread(text, 1, MAX_FILE + 1, f) : 0;
    if (!text || ferror(f) || n > MAX_FILE) {
        const int r = !text       ? pcv_fail(e, PCV_ENOMEM, "no memory for the file")
                      : ferror(f) ? refused("cannot read", e)
                                  : pcv_fail(e, PCV_ELIMIT, "larger than %d bytes", MAX_FILE);

        free(text);
        fclose(f);
        return r;
    }
    fclose(f);
    *ret = text;
    *len = n;
    return 0;
}

int pcv_json_open(json_t **ret, const char *path, struct pcv_err *e)
{
    json_error_t je = {0};
    json_t *root = NULL;
    char *text = NULL;
    size_t len = 0;
    int r = pcv_file_text(&text, &len, path, e);

    if (r == 0 && !(root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je)))
        r = je.text[0]
                ? pcv_fail(e, PCV_EFORMAT, "line %d column %d: %s", je.line, je.column, je.text)
                : pcv_fail(e, PCV_ENOMEM, "no memory for the file");
    if (r == 0 && !json_is_object(root))
        r = pcv_fail(e, PCV_EFORMAT, "is not a JSON object");
    free(text);
    if (r < 0) {
        json_decref(root);
        pcv_err_at(e, "%s", path);
        return r;
    }
    *ret = root;
    return 0;
}
