/* source.h - what an exchange brings for inference, and how it is read.
 *
 * Taken from the exchange on the loop thread, then readable by any thread while the exchange is
 * held.
 */
#ifndef SRV_SOURCE_H
#define SRV_SOURCE_H

#include "proto/wire.h"
#include "server/http.h"

struct srv_source {
    enum wire_form form;
    const void *body; /* borrow from the exchange, as everything it points to */
    size_t len;
    int64_t header_len; /* OIP: Inference-Header-Content-Length, -1 when absent */
    bool json;          /* native: the body is JSON, else parts */
    bool question;      /* native: to kept latents, without inputs */
    int nparts, nargs;
    struct wire_part *parts; /* own */
    struct wire_arg *args;   /* own */
};

/* Looks at headers, arguments and parts, not into the body. media: types that raw bodies may have,
 * each list NULL-terminated; from the model. own: srv_source_clear. PCV_EUNSUPPORTED for a
 * Content-Type that is none of them, PCV_EFORMAT for a bad header. */
PCV_CHECK int srv_source_take(struct srv_source *ret, struct srv_exchange *x, enum wire_form form,
                              const struct wire_input_desc *inputs, int ninputs, struct pcv_err *e);
void srv_source_clear(struct srv_source *s); /* zeroed is fine */

/* Decodes it. own: wire_request_free; points into the exchange's body. Any thread. */
PCV_CHECK int srv_source_decode(const struct srv_source *s, struct wire_request **ret,
                                struct pcv_err *e);

#endif
