/* layout.h - one file per upstream: its configuration's keys and its tensors' names.
 *
 * A layout fills a zeroed blueprint. On failure the blueprint may be half filled;
 * pcv_blueprint_clear frees it either way. One thread. */
#ifndef PCV_LAYOUT_LAYOUT_H
#define PCV_LAYOUT_LAYOUT_H

#include "lib/layout/blueprint.h"
#include "lib/load/config.h"
#include "lib/load/weights.h"

/* Reads DIR's perceiver.json, or else its config.json (and preprocessor_config.json if there is
 * one), chooses the layout and binds every tensor. */
PCV_CHECK int pcv_layout_read(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                              struct pcv_err *e);
void pcv_blueprint_clear(struct pcv_blueprint *bp);

/* Memory that the blueprint frees. NULL after pcv_fail. */
float *pcv_blueprint_own(struct pcv_blueprint *bp, size_t count, struct pcv_err *e);

/* LayerNorm statistics of output queries, kept with the blueprint. */
PCV_CHECK int pcv_blueprint_stats(struct pcv_blueprint *bp, struct pcv_segment *s, int channels,
                                  float eps, struct pcv_err *e);

/* A copy that the blueprint frees. NULL after pcv_fail. */
const char *pcv_blueprint_string(struct pcv_blueprint *bp, const char *text, struct pcv_err *e);

/* Our own format: DIR/perceiver.json (native.c). */
PCV_CHECK int pcv_layout_native(struct pcv_blueprint *bp, const char *dir, struct pcv_weights *w,
                                struct pcv_err *e);

/* Hugging Face transformers: PerceiverFor* (hf.c). */
bool pcv_layout_is_hf(const struct pcv_config *c);
PCV_CHECK int pcv_layout_hf(struct pcv_blueprint *bp, const struct pcv_config *c, const char *dir,
                            struct pcv_weights *w, struct pcv_err *e);

/* lucidrains/perceiver-pytorch: Perceiver, PerceiverIO, PerceiverLM (lucidrains.c). */
bool pcv_layout_is_lucidrains(const struct pcv_config *c);
PCV_CHECK int pcv_layout_lucidrains(struct pcv_blueprint *bp, const struct pcv_config *c,
                                    const char *dir, struct pcv_weights *w, struct pcv_err *e);

/* krasserm/perceiver-io: image and text classifiers, masked LM, optical flow (krasserm.c). */
bool pcv_layout_is_krasserm(const struct pcv_config *c);
PCV_CHECK int pcv_layout_krasserm(struct pcv_blueprint *bp, const struct pcv_config *c,
                                  const char *dir, struct pcv_weights *w, struct pcv_err *e);

#endif
