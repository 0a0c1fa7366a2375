/* results.h - from what was computed to the body of a reply, or to lines of a stream.
 *
 * Slow for many output queries; any thread. */
#ifndef SRV_RESULTS_H
#define SRV_RESULTS_H

#include "server/adapt.h"

/* The body of a reply, or lines of a stream. */
struct srv_body_made {
    char *body; /* own: free() */
    size_t len;
    int64_t header_len; /* as wire_oip_encode has it, -1 for the native form */
    const char *type;   /* media type, static */
};

/* r and j are what was asked and computed; *reply has everything but results and outputs.
 * PCV_ERANGE when a result is not finite and JSON cannot say it. */
PCV_CHECK int srv_results_encode(const struct pcv_model *m, const struct wire_request *r,
                                 const struct srv_job *j, const struct wire_reply *reply,
                                 struct srv_body_made *ret, struct pcv_err *e);

/* A stream: a line for each answer that comes whole, maybe none. */
PCV_CHECK int srv_results_whole(const struct pcv_model *m, const struct wire_request *r,
                                const struct srv_job *j, struct srv_body_made *ret,
                                struct pcv_err *e);
/* And the line of the piece that was computed. */
PCV_CHECK int srv_results_piece(const struct pcv_model *m, const struct wire_request *r,
                                const struct srv_job *j, struct srv_body_made *ret,
                                struct pcv_err *e);

/* Numbers to look at, to judge whether it is slow. */
int64_t srv_results_size(const struct pcv_model *m, const struct srv_job *j);

#endif
