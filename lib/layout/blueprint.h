/* blueprint.h - what an architecture is, in numbers: the one description every upstream's naming
 * compiles to.
 *
 * A blueprint is filled by a layout (hf.c, ...) from a configuration, its layers' views from the
 * weights; from then on it is immutable and shared by all threads. */
#ifndef PCV_LAYOUT_BLUEPRINT_H
#define PCV_LAYOUT_BLUEPRINT_H

#include "lib/attention/layer.h"
#include "lib/input/adapter.h"
#include "lib/perceiver.h"

/* Bounds of a blueprint. */
enum {
    PCV_MAX_INPUTS = 8,
    PCV_MAX_TASKS = 8,
    PCV_MAX_CROSS = 64,
    PCV_MAX_SELF = 256,
    PCV_MAX_STEPS = 512
};

/* One step of the forward pass. */
struct pcv_step {
    enum { PCV_STEP_CROSS, PCV_STEP_SELF } kind;
    int layer; /* index into cross or self */
};

struct pcv_task {
    const char *name; /* static: "classify" */
    enum pcv_task_kind kind;
    int rows;               /* output queries */
    struct pcv_layer layer; /* decoder cross-attention; q_dim = width of a query */
    const float *query;     /* [rows, q_dim] learned */
    struct pcv_affine head; /* [width, q_dim] */
    int width;
    char **labels; /* [width] own, or NULL */
};

struct pcv_blueprint {
    char architecture[96];
    const char *upstream; /* static */
    int num_latents, d_latents;
    const float *latents; /* [num_latents, d_latents] */
    int ninputs, ncross, nself, nsteps, ntasks;
    struct pcv_adapter input[PCV_MAX_INPUTS];
    struct pcv_layer cross[PCV_MAX_CROSS];
    struct pcv_layer self[PCV_MAX_SELF];
    struct pcv_step step[PCV_MAX_STEPS];
    struct pcv_task task[PCV_MAX_TASKS];
    int padded_tokens; /* tokens the upstream pads an input to (dense cost): 0 = none */
    int padded_rows;   /* output queries it computes when fewer are asked (dense cost): 0 = none */
    float *owned[8];   /* computed while binding, freed with the blueprint */
    int nowned;
};

#endif
