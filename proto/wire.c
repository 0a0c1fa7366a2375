#include "proto/wire.h"
#include "proto/wire_arena.h"
#include "proto/wire_writer.h"

#include <stdio.h>
#include <string.h>

void wire_request_free(struct wire_request *r)
{
    if (r)
        wire_arena_free(r->arena); /* r itself lives in it */
}

int wire_status(int pcv_code)
{
    switch (pcv_code) {
    case PCV_OK: return 200;
    case PCV_EFORMAT:
    case PCV_ESHAPE:
    case PCV_ERANGE:
    case PCV_EMISSING:
    case PCV_EUNKNOWN: return 400;
    case PCV_ELIMIT: return 413;
    case PCV_EUNSUPPORTED: return 415;
    default: return 500;
    }
}

char *wire_error_json(enum wire_form form, const char *code, const char *message, const char *path,
                      const char *request_id)
{
    struct wire_writer w = {0};
    char line[640];

    if (path && !path[0])
        path = NULL;
    wire_open(&w, '{');
    wire_key(&w, "error");
    if (form == WIRE_OIP) {
        if (path) {
            snprintf(line, sizeof(line), "%s: %s", path, message);
            message = line;
        }
        wire_text(&w, message);
    } else {
        wire_open(&w, '{');
        wire_key(&w, "code");
        wire_text(&w, code);
        wire_key(&w, "message");
        wire_text(&w, message);
        wire_key(&w, "path");
        wire_text(&w, path);
        wire_key(&w, "request_id");
        wire_text(&w, request_id);
        wire_close(&w, '}');
    }
    wire_close(&w, '}');
    return wire_finish(&w, NULL);
}
