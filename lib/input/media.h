/* media.h - inside lib/input: decoders of pictures and sounds, one file for each library.
 *
 * Every decoder checks the declared size with pcv_image_alloc before it decodes, refuses what is
 * broken or cut off, and leaves *ret untouched on failure. data is borrowed during the call. Any
 * thread; no globals. */
#ifndef PCV_INPUT_MEDIA_H
#define PCV_INPUT_MEDIA_H

#include "lib/input/image.h"

/* Room for width x height pixels, not cleared: PCV_ELIMIT above PCV_IMAGE_MAX_SIDE or
 * PCV_IMAGE_MAX_PIXELS (what names the picture in the message), PCV_ENOMEM. own: pcv_image_free. */
PCV_CHECK int pcv_image_alloc(struct pcv_image *ret, uint64_t width, uint64_t height,
                              const char *what, struct pcv_err *e);

/* Whether the first bytes are those of the format. */
bool pcv_media_is_jpeg(const void *data, size_t len);
bool pcv_media_is_png(const void *data, size_t len);

/* The whole picture as RGB. own: pcv_image_free. */
PCV_CHECK int pcv_media_jpeg(struct pcv_image *ret, const void *data, size_t len,
                             struct pcv_err *e);
PCV_CHECK int pcv_media_png(struct pcv_image *ret, const void *data, size_t len, struct pcv_err *e);

/* How long a sound may be, in samples at `rate`. */
struct pcv_sound_length {
    int rate;
    int64_t samples;
    int64_t slack; /* it must be `samples` long to within so many, and becomes exactly that: what is
                      missing is silence, what is too much is left out */
    bool shorter;  /* instead: anything from 1 to `samples`, as long as it is */
};

/* A WAV, FLAC or OGG file as mono samples (the mean of its channels): *ret [*n], own: free().
 * PCV_ESHAPE for another length, naming both, checked on what the header says, before anything is
 * decoded. PCV_EUNSUPPORTED for other files, or another `type` (may be NULL); PCV_EFORMAT when
 * broken, cut off or without samples; PCV_ELIMIT for absurd rates and numbers of channels. */
PCV_CHECK int pcv_media_audio(float **ret, int64_t *n, const void *data, size_t len,
                              const char *type, const struct pcv_sound_length *l,
                              struct pcv_err *e);

/* Whether the first bytes are those of a format of sounds. */
bool pcv_media_is_audio(const void *data, size_t len);

#endif
