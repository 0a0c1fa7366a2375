/* json_file.h - a file that holds one JSON object, read whole or refused.
 *
 * Inside lib/load and lib/layout. Errors begin with the path. One thread. */
#ifndef PCV_LOAD_JSON_FILE_H
#define PCV_LOAD_JSON_FILE_H

#include "lib/base/err.h"

#include <jansson.h>

/* At most 16 MB of an object without duplicate keys. own: json_decref. */
PCV_CHECK int pcv_json_open(json_t **ret, const char *path, struct pcv_err *e);

/* The file's bytes as they are, at most 16 MB; not terminated. own: free(). Errors without path. */
PCV_CHECK int pcv_file_text(char **ret, size_t *len, const char *path, struct pcv_err *e);

#endif
