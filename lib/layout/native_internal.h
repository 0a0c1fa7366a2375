/* native_internal.h - what the native*.c files share.
 *
 * The document has been held to perceiver.schema.json before they read it: keys are there, types
 * and bounds are right. What they check is what a schema cannot say. */
#ifndef PCV_LAYOUT_NATIVE_INTERNAL_H
#define PCV_LAYOUT_NATIVE_INTERNAL_H

#include "lib/layout/layout.h"

#include <jansson.h>

enum { NATIVE_MAX_CHANNELS = 1 << 16, NATIVE_MAX_NUMBERS = 1 << 28, NATIVE_MAX_DECODERS = 16 };

struct native_binder {
    struct pcv_blueprint *bp;
    struct pcv_weights *w;
    const json_t *root;
    const char *path; /* of perceiver.json, for errors */
    float eps;
    enum pcv_activation activation;
    bool together;
    int own[PCV_MAX_INPUTS];            /* channels of a token before padding */
    const float *bytes[PCV_MAX_INPUTS]; /* {inputs.NAME.bytes} of texts */
    struct pcv_layer decoder[NATIVE_MAX_DECODERS];
    bool decoder_used[NATIVE_MAX_DECODERS];
    struct pcv_err *e;
};

#define NATIVE_SHAPE(...)                                                                          \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)

/* After pcv_fail: where in perceiver.json, "$.inputs[0].patch". Returns the error's code. */
int pcv_native_at(struct native_binder *b, const char *format, ...) PCV_PRINTF(2, 3);

/* A value of an object, or what stands for an absent one. */
int pcv_native_int(const json_t *object, const char *key, int absent);
double pcv_native_number(const json_t *object, const char *key, double absent);
bool pcv_native_bool(const json_t *object, const char *key, bool absent);
const char *pcv_native_text(const json_t *object, const char *key); /* NULL: absent */

/* Numbers of an array at most `most` long; returns how many there are, 0 when absent. */
int pcv_native_ints(const json_t *object, const char *key, int most, int *to);
int pcv_native_floats(const json_t *object, const char *key, int most, float *to);

/* Place of a key in an object, in the order of the file; -1: it is not there. */
int pcv_native_place(const json_t *object, const char *key);

/* A copy that the blueprint frees, of "TEXT" or "TEXT.more". NULL after pcv_fail. */
const char *pcv_native_name(struct native_binder *b, const char *text, const char *more);

/* Linear map NAME: {NAME.weight} [out, in] and {NAME.bias} [out]. */
PCV_CHECK int pcv_native_affine(struct native_binder *b, struct pcv_affine *a, int out, int in,
                                const char *name);

/* mean and std of colours, one for each channel, at "$PLACE.mean"; a grey picture's stand for all.
 */
PCV_CHECK int pcv_native_colours(struct native_binder *b, const json_t *object, int channels,
                                 const char *place, float *mean, float *std);

/* Reads `inputs`, pads them to their encoders' channels (native_inputs.c). */
PCV_CHECK int pcv_native_inputs(struct native_binder *b);

/* Reads `tasks`; decoders are bound before (native_tasks.c). */
PCV_CHECK int pcv_native_tasks(struct native_binder *b);

#endif
