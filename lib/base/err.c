#include "lib/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pcv_fail(struct pcv_err *e, int code, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return code;
    e->code = code;
    e->where[0] = '\0';
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

/* Appends at *at what of text fits below `end`. */
static void put(char *buf, size_t *at, size_t end, const char *text)
{
    while (*text && *at < end)
        buf[(*at)++] = *text++;
    buf[*at] = '\0';
}

int pcv_err_at(struct pcv_err *e, const char *fmt, ...)
{
    const size_t room = sizeof(e->where) - 1;
    char outer[sizeof(e->where)], inner[sizeof(e->where)];
    size_t at = 0, keep;
    va_list ap;

    if (!e)
        return PCV_EFORMAT;
    va_start(ap, fmt);
    vsnprintf(outer, sizeof(outer), fmt, ap);
    va_end(ap);
    memcpy(inner, e->where, sizeof(inner));
    keep = inner[0] ? strlen(inner) + 2 : 0; /* however long the outer place is */
    put(e->where, &at, room - (keep < room / 2 ? keep : room / 2), outer);
    if (inner[0]) {
        put(e->where, &at, room, ": ");
        put(e->where, &at, room, inner);
    }
    return e->code;
}

const char *pcv_code_name(int code)
{
    switch (code) {
    case PCV_OK: return "ok";
    case PCV_ENOMEM: return "out_of_memory";
    case PCV_EIO: return "io";
    case PCV_EFORMAT: return "format";
    case PCV_ESHAPE: return "shape";
    case PCV_ERANGE: return "range";
    case PCV_EMISSING: return "missing";
    case PCV_EUNKNOWN: return "unknown";
    case PCV_EUNSUPPORTED: return "unsupported";
    case PCV_ELIMIT: return "limit";
    }
    return "error";
}
