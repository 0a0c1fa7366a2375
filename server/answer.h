/* answer.h - replies in the forms that clients of /v1 and /v2 expect. Loop thread. */
#ifndef SRV_ANSWER_H
#define SRV_ANSWER_H

#include "proto/wire.h"
#include "server/http.h"

/* The form of errors under a path: OIP below /v2, else native. */
enum wire_form srv_form_of(const char *path);

/* Replies with JSON. json is taken; NULL (no memory) becomes 500. */
void srv_answer_json(struct srv_exchange *x, int status, char *json);

/* Replies with an error. code: a stable word ("queue_full"). e holds message and place. retry_s > 0
 * adds Retry-After in whole seconds, rounded up. */
void srv_answer_error(struct srv_exchange *x, int status, const char *code, const struct pcv_err *e,
                      double retry_s);

/* Retry-After for so many seconds: whole, rounded up, 1 at least and a day at most. */
int srv_retry_after(double seconds);

/* The word for an HTTP status where no more is known: "not_found", "too_large". */
const char *srv_status_code(int status);

#endif
