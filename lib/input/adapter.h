/* adapter.h - what a model takes in: one adapter per input, filled by a layout, immutable
 * afterwards.
 *
 * Arrays are views into the weights, or owned by the blueprint. */
#ifndef PCV_INPUT_ADAPTER_H
#define PCV_INPUT_ADAPTER_H

#include "lib/input/image.h"
#include "lib/perceiver.h"

/* Largest side of a grid of pixels, and most pixels. */
enum { PCV_MAX_AXIS = 8192, PCV_MAX_PIXELS = 16 << 20 };

enum pcv_position { PCV_POSITION_FOURIER, PCV_POSITION_LEARNED };

/* Text: byte embedding + learned position, both [rows, channels]. */
struct pcv_text_adapter {
    int vocab, max_positions;
    const float *bytes;     /* [vocab, channels] */
    const float *positions; /* [max_positions, channels] */
};

/* Image: content (raw, or lifted by a 1x1 convolution) and then position, concatenated. */
struct pcv_image_adapter {
    int raw;                       /* channels of a pixel */
    int content;                   /* channels after the lift; raw without one */
    const float *lift, *lift_bias; /* [content, raw], [content]; NULL: none */
    enum pcv_position position;
    int bands, max_resolution[2]; /* Fourier: of rows and columns */
    int height, width;            /* learned: the only grid it knows; Fourier: the usual one */
    int position_channels;
    const float *positions;     /* learned: [height x width, position_channels] (projected) */
    struct pcv_image_prep prep; /* for pictures */
};

struct pcv_adapter {
    const char *name; /* static: "text" */
    enum pcv_input_kind kind;
    int channels;
    struct pcv_text_adapter text;
    struct pcv_image_adapter image;
};

/* Rows of all tables of a token of this adapter that are looked up, at most. */
int pcv_adapter_table_rows(const struct pcv_adapter *a);

#endif
