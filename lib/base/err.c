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

int pcv_err_at(struct pcv_err *e, const char *fmt, ...)
{
    char outer[sizeof(e->where)];
    char inner[sizeof(e->where)];
    va_list ap;

    if (!e)
        return PCV_EFORMAT;
    va_start(ap, fmt);
    vsnprintf(outer, sizeof(outer), fmt, ap);
    va_end(ap);
    memcpy(inner, e->where, sizeof(inner));
    if (inner[0] == '\0')
        snprintf(e->where, sizeof(e->where), "%s", outer);
    else
        snprintf(e->where, sizeof(e->where), "%.*s: %.*s", 126, outer, 126, inner);
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
