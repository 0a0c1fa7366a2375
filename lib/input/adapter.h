/* adapter.h - what a model takes in: one adapter per input, filled by a layout, immutable
 * afterwards.
 *
 * Arrays are views into the weights, or owned by the blueprint. Every adapter makes one segment of
 * the token array; a model with several inputs attends to their segments one after another. */
#ifndef PCV_INPUT_ADAPTER_H
#define PCV_INPUT_ADAPTER_H

#include "lib/attention/tokens.h"
#include "lib/input/image.h"
#include "lib/perceiver.h"

/* Largest side of a grid with several axes, and most tokens of any. */
enum { PCV_MAX_AXIS = 8192, PCV_MAX_PIXELS = 16 << 20, PCV_MAX_AXES = 5 };

enum pcv_position { PCV_POSITION_NONE, PCV_POSITION_FOURIER, PCV_POSITION_LEARNED };

/* Where a Fourier feature of an axis stands in the token. */
enum pcv_fourier_order {
    PCV_FOURIER_BY_KIND, /* all positions, all sines, all cosines, axis by axis (DeepMind, HF) */
    PCV_FOURIER_BY_AXIS, /* each axis: sines, cosines, position (lucidrains) */
};

/* Text: byte embedding + learned position, both [rows, channels]. */
struct pcv_text_adapter {
    int vocab, max_positions;
    bool ids_only;          /* the vocabulary is not bytes: taken as token ids only */
    bool queried;           /* output queries are its tokens, masked-out ones too */
    const float *bytes;     /* [vocab, channels] */
    const float *positions; /* [max_positions, channels] */
};

/* Convolutional stem: 7x7 stride 2, batch norm folded in, ReLU, 3x3 max pooling stride 2. */
struct pcv_conv_stem {
    const float *weight; /* [out, 3 x 7 x 7], rows (channel, y, x); NULL: no stem */
    const float *bias;   /* [out] */
    int out;
    bool same; /* padding: TensorFlow's SAME (2 before, 3 after; pool 0, 1), or 3/3 and none */
};

/* Tokens along an axis of n pixels. */
int pcv_conv_stem_size(const struct pcv_conv_stem *s, int n);

struct pcv_spectrum; /* spectrum.h */

/* Numbers on a grid of 1 to PCV_MAX_AXES axes: content, then position channels, then padding. */
struct pcv_grid_adapter {
    int axes;
    int raw;                             /* content numbers of a token, as they are stored */
    int content;                         /* channels they fill; raw without a lift */
    const float *lift, *lift_bias;       /* [content, raw], [content]; NULL: none */
    const float *project, *project_bias; /* [raw, before], applied when the input is made; NULL */
    int before;
    bool channels_last;      /* of a picture's tensor: [axes.., channels] */
    int patch[PCV_MAX_AXES]; /* tensor elements that make a token along each axis */
    struct pcv_conv_stem stem;
    enum pcv_position position;
    enum pcv_fourier_order order;
    int bands;
    float max_resolution[PCV_MAX_AXES]; /* Fourier: frequencies go from 1 to half of it */
    bool coordinates;       /* Fourier features of the content itself, which is coordinates */
    bool fixed;             /* size is the only one; otherwise the usual one */
    int size[PCV_MAX_AXES]; /* in tokens */
    const float *axis_table[PCV_MAX_AXES]; /* Fourier, of `size`: [size, 1 + 2 bands], or NULL */
    struct pcv_row_sums axis_sums[PCV_MAX_AXES]; /* of it */
    int position_channels;
    const float *positions;            /* learned: [tokens, position_channels] (projected) */
    struct pcv_row_sums position_sums; /* of them */
    const float *pad;                  /* [npad] the same for all tokens */
    int npad;
    struct pcv_image_prep prep; /* for pictures */
    int rate;                   /* samples a second of sounds; 0: taken as tensors only */
    int samples;                /* sounds that may be shorter: most samples of one */
    bool shorter;               /* fewer positions than `size` along an axis are fine: they read
                                   the first rows of its table */
    const struct pcv_spectrum *spectrum; /* sounds become frames of it; NULL: patches of samples */
};

struct pcv_adapter {
    const char *name; /* static, or the blueprint's: "text" */
    enum pcv_input_kind kind;
    int encoder;                         /* separate inputs: cross-attention that reads it */
    const char *encoder_name;            /* the blueprint's, or NULL: it has none */
    int channels;                        /* of a token, padding included */
    struct pcv_tensor_spec tensor, mask; /* mask.name NULL: none */
    struct pcv_text_adapter text;        /* PCV_INPUT_TEXT */
    struct pcv_grid_adapter grid;        /* every other kind but labels */
    const float *token;                  /* PCV_INPUT_LABEL: [channels], the mask token */
};

/* Rows of all tables of a token of this adapter that are looked up, at most. */
int pcv_adapter_table_rows(const struct pcv_adapter *a);

/* Tokens of a full-size, or usual, input. */
int64_t pcv_adapter_tokens(const struct pcv_adapter *a);

#endif
