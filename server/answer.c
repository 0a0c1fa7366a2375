#include "server/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum wire_form srv_form_of(const char *path)
{
    return !strncmp(path, "/v2", 3) && (path[3] == '/' || !path[3]) ? WIRE_OIP : WIRE_NATIVE;
}

void srv_answer_json(struct srv_exchange *x, int status, char *json)
{
    struct pcv_err e;
    if (json) {
        srv_http_reply(x, status, "application/json", json, strlen(json), NULL, 0);
        return;
    }
    pcv_fail(&e, PCV_ENOMEM, "no memory for the reply");
    srv_answer_error(x, 500, pcv_code_name(PCV_ENOMEM), &e, 0);
}

int srv_retry_after(double seconds)
{
    double whole = ceil(seconds);
    return whole >= 86400 ? 86400 : whole >= 1 ? (int)whole : 1;
}

void srv_answer_error(struct srv_exchange *x, int status, const char *code, const struct pcv_err *e,
                      double retry_s)
{
    char seconds[16];
    struct srv_header header = {"Retry-After", seconds};
    snprintf(seconds, sizeof seconds, "%d", srv_retry_after(retry_s));
    char *json = wire_error_json(srv_form_of(srv_exchange_path(x)), code, e->msg,
                                 *e->where ? e->where : NULL, srv_exchange_request_id(x));
    srv_http_reply(x, status, "application/json", json, json ? strlen(json) : 0, &header,
                   retry_s > 0);
}

const char *srv_status_code(int status)
{
    switch (status) {
    case 400: return "bad_request";
    case 404: return "not_found";
    case 405: return "method_not_allowed";
    case 413: return "too_large";
    case 415: return "unsupported_media_type";
    case 429: return "too_many_requests";
    case 501: return "not_implemented";
    case 503: return "unavailable";
    case 504: return "timeout";
    default: return status < 500 ? "bad_request" : "internal";
    }
}
