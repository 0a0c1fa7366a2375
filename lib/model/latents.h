/* latents.h - kept latents, as the forward sees them: who makes a decoder's keys and values.
 *
 * Each decoder's arrays go EMPTY -> MAKING -> READY; whoever moves them to MAKING makes them, and
 * moves them on when its forward is through, back to EMPTY when it was cancelled. Others meanwhile
 * make their own in the workspace: nobody waits. */
#ifndef PCV_MODEL_LATENTS_H
#define PCV_MODEL_LATENTS_H

#include "lib/model/model.h"

struct pcv_latents {
    const struct pcv_model *m;
    int which;
    atomic_bool filled;
    float *x; /* [num_latents, d_latents] */
    struct {
        atomic_int state;
        float *floats; /* [plan.reader_floats]; NULL until first made */
    } reader[PCV_MAX_TASKS];
    struct pcv_input *input; /* own, or NULL */
};

enum pcv_latents_claim {
    PCV_LATENTS_READY,     /* *floats hold what pcv_decode_prepare makes */
    PCV_LATENTS_MINE,      /* *floats are to be filled, then settled */
    PCV_LATENTS_ELSEWHERE, /* another forward is making them, or there was no memory */
};
enum pcv_latents_claim pcv_latents_claim(struct pcv_latents *l, int reader, float **floats);

/* The claimed arrays are made, or were left half-way. */
void pcv_latents_settle(struct pcv_latents *l, int reader, bool made);

/* Whether they are there just now. */
bool pcv_latents_ready(const struct pcv_latents *l, int reader);

/* What was processed arrives: latents.x is complete. */
void pcv_latents_fill(struct pcv_latents *l);

#endif
