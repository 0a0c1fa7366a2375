/* image.h - from a picture's bytes to the numbers a model was trained on.
 *
 * The steps and their order are the upstream's image processor's: grey if the model takes one
 * channel (krasserm/perceiver-io), centre crop, bicubic resize as
 * Pillow does it (a = -0.5, antialiased, 8-bit rounding after each pass), rescale, normalise.
 * Any thread.
 *
 * Easy to get wrong:
 * - The crop is a share of the shorter side: int(size / crop_size * side) for height and width
 * each, at offset (H - crop) / 2 rounded down. It comes before the resize.
 * - EXIF orientation and colour profiles are not applied: neither does the upstream.
 * - 16-bit grey PNG gives its high byte. (Pillow's convert("RGB") clips such values at 255 instead,
 *   which turns most pictures white.)
 * - CMYK and YCCK JPEG are taken as Adobe writes them, inverted, and become RGB without a profile,
 *   as Pillow does. */
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
    bool single_channel;         /* made grey first: three equal channels, the model takes one */
    bool crop_to_shape;          /* instead of crop_size: the largest central part that has the
                                    shape of height x width, sides rounded down */
    int crop_height, crop_width; /* "crop_size": crop side = int(size / crop_size * shorter side) */
    int height, width;           /* "size": after resize */
    int resample;                /* PIL: 0 nearest, 2 bilinear, 3 bicubic */
    double rescale_factor;       /* 1/255; the product is rounded to float, as upstream's is */
    float mean[3], std[3];
};

/* The upstream's defaults (crop 256, size 224, bicubic, 1/255, ImageNet mean and std). */
void pcv_image_prep_default(struct pcv_image_prep *p);

/* Overwrites *p with what the file says; keys it lacks keep their value. Of a key it knows, type,
 * range and finiteness are checked; other keys are ignored, for upstream writes many. A size is an
 * integer or {"height", "width"}. Refused as well: an image processor of another architecture
 * (its steps differ), and a crop larger than the picture (size > crop_size), which upstream pads.
 * Errors name file and key. Defined in lib/load/preprocessor.c, where JSON is read. */
PCV_CHECK int pcv_image_prep_read(struct pcv_image_prep *p, const char *path, struct pcv_err *e);

/* Largest picture taken: sides and pixels. Anything declared larger is refused before decoding. */
enum { PCV_IMAGE_MAX_SIDE = 32768, PCV_IMAGE_MAX_PIXELS = 64 << 20 };

/* JPEG or PNG, recognised by its bytes. Grey and palettes become RGB; alpha is dropped (as PIL's
 * convert("RGB") does); 16 bits become 8. type is a media type to hold it to (parameters after ';'
 * are ignored), or NULL; "application/octet-stream" says nothing either.
 *
 * PCV_EUNSUPPORTED when it is neither, not what type says, or JPEG of a kind nobody uses (lossless,
 * arithmetic, 12 bits). PCV_ELIMIT when too large, or a JPEG of so many scans that decoding would
 * take unreasonably long. PCV_EFORMAT when broken or cut off: what comes back is always the whole
 * picture. Takes 3 bytes a pixel, and for a progressive JPEG up to 8 more while it decodes.
 * *ret is filled on success; own: pcv_image_free. */
PCV_CHECK int pcv_image_decode(struct pcv_image *ret, const void *data, size_t len,
                               const char *type, struct pcv_err *e);
void pcv_image_free(struct pcv_image *im); /* frees rgb, zeroes; zeroed is fine */

/* Pillow's Image.resize (up to version 12), for resample 0, 2 and 3. ret is allocated; own:
 * pcv_image_free. PCV_ERANGE for a side outside 1..PCV_IMAGE_MAX_SIDE or another resample;
 * PCV_ELIMIT when the result, or the picture of the new width and the old height between the
 * passes, is too large. */
PCV_CHECK int pcv_image_resize(struct pcv_image *ret, const struct pcv_image *in, int width,
                               int height, int resample, struct pcv_err *e);

/* All steps of p. *chw is [3, *height, *width], allocated; own: free(). Without do_resize the
 * picture keeps its (cropped) size. A picture or crop without pixels, or a crop
 * larger than the picture, is PCV_ERANGE. */
PCV_CHECK int pcv_image_to_chw(const struct pcv_image *in, const struct pcv_image_prep *p,
                               float **chw, int *width, int *height, struct pcv_err *e);

#endif
