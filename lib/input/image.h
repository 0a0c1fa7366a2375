/* image.h - from a picture's bytes to the numbers a model was trained on.
 *
 * The steps and their order are the upstream's image processor's: centre crop, bicubic resize as
 * Pillow does it (a = -0.5, antialiased, 8-bit rounding after each pass), rescale, normalise.
 * Any thread. */
#ifndef PCV_INPUT_IMAGE_H
#define PCV_INPUT_IMAGE_H

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pcv_image {
    int width, height;
    uint8_t *rgb; /* [height, width, 3]; own: pcv_image_free */
};

/* What preprocessor_config.json says. */
struct pcv_image_prep {
    bool do_center_crop, do_resize, do_rescale, do_normalize;
    int crop_height, crop_width; /* "crop_size": crop side = int(size / crop_size * shorter side) */
    int height, width;           /* "size": after resize */
    int resample;                /* PIL: 0 nearest, 2 bilinear, 3 bicubic */
    float rescale_factor;        /* 1/255 */
    float mean[3], std[3];
};

/* The upstream's defaults (crop 256, size 224, bicubic, 1/255, ImageNet mean and std). */
void pcv_image_prep_default(struct pcv_image_prep *p);

/* Overwrites *p with what the file says; keys it lacks keep their value. Every number is checked.
 * Errors name file and key. */
PCV_CHECK int pcv_image_prep_read(struct pcv_image_prep *p, const char *path, struct pcv_err *e);

/* Largest picture taken: sides and pixels. Anything declared larger is refused before decoding. */
enum { PCV_IMAGE_MAX_SIDE = 32768, PCV_IMAGE_MAX_PIXELS = 64 << 20 };

/* JPEG or PNG, recognised by its bytes. Grey becomes RGB; alpha is dropped (as PIL's
 * convert("RGB") does); 16 bits become 8. type is a media type to hold it to, or NULL.
 * PCV_EUNSUPPORTED when it is neither, PCV_ELIMIT when too large, PCV_EFORMAT when broken.
 * *ret is filled on success; own: pcv_image_free. */
PCV_CHECK int pcv_image_decode(struct pcv_image *ret, const void *data, size_t len,
                               const char *type, struct pcv_err *e);
void pcv_image_free(struct pcv_image *im); /* frees rgb, zeroes; zeroed is fine */

/* Pillow's Image.resize, for resample 0, 2 and 3. ret is allocated; own: pcv_image_free. */
PCV_CHECK int pcv_image_resize(struct pcv_image *ret, const struct pcv_image *in, int width,
                               int height, int resample, struct pcv_err *e);

/* All steps of p. *chw is [3, *height, *width], allocated; own: free(). Without do_resize the
 * picture keeps its (cropped) size. A 0 x 0 crop is PCV_ERANGE. */
PCV_CHECK int pcv_image_to_chw(const struct pcv_image *in, const struct pcv_image_prep *p,
                               float **chw, int *width, int *height, struct pcv_err *e);

#endif
