/* results_internal.h - what results*.c share. */
#ifndef SRV_RESULTS_INTERNAL_H
#define SRV_RESULTS_INTERNAL_H

#include "server/results.h"

/* What one answer may own, at most. */
enum { SRV_NATIVE_OWNED = 4 + WIRE_MAX_FRAMES };

/* Everything a native reply points to. */
struct srv_native {
    const struct pcv_model *model;
    const struct pcv_model_info *info;
    const struct wire_request *request;
    const struct srv_job *job;
    struct wire_result *results; /* [nslots] */
    struct wire_fill *fills;     /* one after the other */
    struct wire_label *labels;
    char (*texts)[8]; /* of tokens, one for each label */
    struct pcv_score *scores;
    char **filled; /* [nslots] texts with candidates in place */
    size_t nfills, nlabels;
    void **owned; /* [nslots * SRV_NATIVE_OWNED]: files, numbers, and the lists of them */
    int nowned;
};

/* Keeps p, which is freed with n, and returns it. NULL is fine. */
void *srv_native_own(struct srv_native *n, void *p);

/* results_embed.c */
PCV_CHECK int srv_native_embed(struct srv_native *n, const struct wire_query *q,
                               struct wire_result *r, struct pcv_err *e);

/* results_media.c */
PCV_CHECK int srv_native_image(struct srv_native *n, const struct srv_job_task *t,
                               struct wire_result *r, struct pcv_err *e);
PCV_CHECK int srv_native_audio(struct srv_native *n, const struct srv_job_task *t,
                               struct wire_result *r, struct pcv_err *e);
PCV_CHECK int srv_native_flow(struct srv_native *n, struct wire_result *r, struct pcv_err *e);

#endif
