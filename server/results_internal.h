/* results_internal.h - what results*.c share; nobody else includes it.
 *
 * results.c           from answers to a reply, and to lines of a stream
 * results_labels.c    classes, masks, values
 * results_media.c     pictures, sounds, flow
 * results_latents.c   embeddings, attention */
#ifndef SRV_RESULTS_INTERNAL_H
#define SRV_RESULTS_INTERNAL_H

#include "server/results.h"

/* Everything a native reply points to. */
struct srv_native {
    const struct pcv_model *model;
    const struct pcv_model_info *info;
    const struct wire_request *request;
    const struct srv_job *job;
    void **owned; /* freed with it */
    int nowned, room;
};

/* Room for n things of a size, zeroed, freed with the reply. NULL without memory. */
void *srv_native_new(struct srv_native *n, size_t count, size_t size);
/* Keeps p, which is freed with the reply (at once, without memory: then NULL). */
void *srv_native_own(struct srv_native *n, void *p);

/* The query of an answer, NULL when nobody asked for it by name. */
const struct wire_query *srv_native_query(const struct srv_native *n, const struct srv_answer *a);
/* The numbers of an answer. */
const float *srv_native_numbers(const struct srv_native *n, const struct srv_answer *a);

int srv_native_no_memory(struct pcv_err *e);
/* Rows of numbers with a shape of two dimensions. */
void srv_native_rows(struct wire_result *r, const float *numbers, int64_t rows, int64_t width);
/* The answer is one file, made by somebody else (code) and taken. */
PCV_CHECK int srv_native_file(struct srv_native *n, struct wire_result *r, int code,
                              const char *type, void *data, size_t len, struct pcv_err *e);

typedef int srv_native_answer(struct srv_native *n, const struct srv_answer *a,
                              struct wire_result *r, struct pcv_err *e);

/* results_labels.c */
srv_native_answer srv_native_classes, srv_native_values, srv_native_fills;
/* results_media.c */
srv_native_answer srv_native_image, srv_native_audio, srv_native_flow;
/* Colours 0..1 of a pixel task's numbers, in place or not. */
void srv_native_colors(const struct pcv_task_info *t, const float *from, int64_t pixels, float *to);
/* results_latents.c */
srv_native_answer srv_native_embed, srv_native_attention;

#endif
