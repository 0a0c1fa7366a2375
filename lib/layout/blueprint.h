/* blueprint.h - what an architecture is, in numbers: the one description every upstream's naming
 * compiles to.
 *
 * A blueprint is filled by a layout (hf.c, ...) from a configuration, its layers' views from the
 * weights; from then on it is immutable and shared by all threads. */
#ifndef PCV_LAYOUT_BLUEPRINT_H
#define PCV_LAYOUT_BLUEPRINT_H

#include "lib/attention/layer.h"
#include "lib/attention/tokens.h"
#include "lib/input/adapter.h"
#include "lib/perceiver.h"

/* Bounds of a blueprint. */
enum {
    PCV_MAX_INPUTS = 8,
    PCV_MAX_TASKS = 16,
    PCV_MAX_CROSS = 64,
    PCV_MAX_SELF = 256,
    PCV_MAX_STEPS = 512,
    PCV_MAX_QUERIES = 1 << 20, /* that a caller may give */
};

/* One step of the forward pass. */
struct pcv_step {
    enum { PCV_STEP_CROSS, PCV_STEP_SELF } kind;
    int layer; /* index into cross or self */
};

/* How a task reads the latents. */
enum pcv_decoder_kind {
    PCV_DECODER_ATTEND,  /* output queries through cross-attention */
    PCV_DECODER_POOL,    /* mean of the latents, LayerNorm, head */
    PCV_DECODER_LATENTS, /* the latents themselves */
};

/* Where the output queries come from. */
enum pcv_query_source {
    PCV_QUERY_LEARNED, /* rows of `query` */
    PCV_QUERY_GRID,    /* the model's token array `queries` */
    PCV_QUERY_INPUT,   /* the input's own tokens */
    PCV_QUERY_CALLER,  /* given with the input */
};

struct pcv_task {
    const char *name; /* static, or the blueprint's: "classify" */
    enum pcv_task_kind kind;
    struct pcv_tensor_spec output; /* as a tensor: "logits", "logits.image" */
    enum pcv_decoder_kind decoder;
    struct pcv_norm norm;   /* PCV_DECODER_POOL */
    struct pcv_layer layer; /* PCV_DECODER_ATTEND: cross-attention; q_dim = width of a query */
    enum pcv_query_source source;
    const float *query;        /* PCV_QUERY_LEARNED: [rows, q_dim] */
    struct pcv_tokens queries; /* PCV_QUERY_GRID: one segment, with statistics */
    const char *points;        /* tensor that names the rows asked for, or NULL */
    int rows;                  /* output queries; caller-given: the most */
    struct pcv_affine head;    /* [width, q_dim]; w NULL: none, width = q_dim */
    int width;
    int between;   /* channels between the upstream's two linear maps that head joins; 0: one map */
    char **labels; /* [width] own, or NULL */
    int grid[3];   /* PCV_TASK_IMAGE: frames, height, width of its rows */
    float mean[3], std[3]; /* PCV_TASK_IMAGE: colour 0..1 = number x std + mean; std 0: plain */
    int rate;              /* PCV_TASK_AUDIO: samples a second */
    unsigned inputs;       /* bit i: it has an answer for input i; 0: for all */
};
/* Tasks whose layers are the same views read through one decoder: their queries share keys, values
 * and products (plan.c). */

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
    bool separate;     /* an input is one of `input`, read in the first step through its own
                          adapter's encoder; else all of them, one token array */
    int padded_tokens; /* tokens the upstream pads an input to (dense cost): 0 = none */
    int padded_rows;   /* output queries it computes when fewer are asked (dense cost): 0 = none */
    float *owned[256]; /* computed while binding, freed with the blueprint */
    int nowned;
    uint64_t owned_bytes; /* of them and of spectra */
    char *strings[64];    /* names that come from the configuration, likewise */
    int nstrings;
    struct pcv_spectrum *spectra[PCV_MAX_INPUTS]; /* by input, likewise */
};

#endif
