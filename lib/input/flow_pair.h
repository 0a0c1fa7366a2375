/* flow_pair.h - two pictures on their way to an optical flow model. */
#ifndef PCV_INPUT_FLOW_PAIR_H
#define PCV_INPUT_FLOW_PAIR_H

#include "lib/input/input.h"

struct pcv_flow {
    const struct pcv_adapter *adapter; /* borrow: the model's */
    const struct pcv_kernels *kernels; /* for its inputs' statistics */
    struct pcv_image frame[2];
    struct pcv_flow_grid grid;
};

/* The grid of tiles over both frames. PCV_ESHAPE when they differ, or are smaller than a tile. */
PCV_CHECK int pcv_flow_lay(struct pcv_flow *f, struct pcv_err *e);

/* Appends a tile: 3 x 3 patches of both frames, zero beyond the tile's own edges. */
PCV_CHECK int pcv_flow_append(struct pcv_input *in, const struct pcv_flow *f, int tile,
                              struct pcv_err *e);

#endif
