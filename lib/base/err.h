/* err.h - how libperceiver says what went wrong, and where.
 *
 * A function that can fail returns 0 or a negative PCV_E* code and fills *e when e is not NULL.
 * Nothing is allocated. The place accumulates from the inside out: the tensor reader writes
 * "encoder.cross.q.weight", its caller puts the file before it with pcv_err_at().
 * A failed call leaves its outputs untouched. Any thread; an err has one writer. */
#ifndef PCV_BASE_ERR_H
#define PCV_BASE_ERR_H

#pragma GCC visibility push(default)

#define PCV_CHECK             __attribute__((warn_unused_result))
#define PCV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

enum pcv_code {
    PCV_OK = 0,
    PCV_ENOMEM = -1,       /* memory refused */
    PCV_EIO = -2,          /* the system refused: open, read, map */
    PCV_EFORMAT = -3,      /* bytes are not what their format says */
    PCV_ESHAPE = -4,       /* a shape or type contradicts another */
    PCV_ERANGE = -5,       /* a number outside what is allowed */
    PCV_EMISSING = -6,     /* a tensor, key, input or task that must be there is not */
    PCV_EUNKNOWN = -7,     /* a tensor, key, input or task nobody knows */
    PCV_EUNSUPPORTED = -8, /* understood, and not served */
    PCV_ELIMIT = -9,       /* larger than the configured limit */
};

struct pcv_err {
    int code;        /* PCV_OK or PCV_E* */
    char where[256]; /* "model.safetensors: perceiver.embeddings.latents", "$.queries[0].task" */
    char msg[256];   /* one sentence without full stop */
};

/* Records code and message, forgets any earlier place, and returns code. e may be NULL. */
int pcv_fail(struct pcv_err *e, int code, const char *fmt, ...) PCV_PRINTF(3, 4);

/* Puts a place before what where already holds ("outer: inner"), and returns e->code
 * (PCV_EFORMAT when e is NULL), so that `return pcv_err_at(e, "%s", path);` reads well.
 * Where both are too long together, each keeps its beginning. */
int pcv_err_at(struct pcv_err *e, const char *fmt, ...) PCV_PRINTF(2, 3);

/* The code's stable lower-case name, as replies print it: "shape", "unknown", ... */
const char *pcv_code_name(int code);

#pragma GCC visibility pop

#endif
