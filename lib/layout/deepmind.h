/* deepmind.h - DeepMind's haiku names for the tensors of the same architectures.
 *
 * The classes are Hugging Face's (hf.c): its converter renamed DeepMind's modules one by one. This
 * is that renaming backwards, with haiku's orders of axes. */
#ifndef PCV_LAYOUT_DEEPMIND_H
#define PCV_LAYOUT_DEEPMIND_H

#include "lib/load/config.h"
#include "lib/load/weights.h"

/* Binds the tensor that Hugging Face calls `name`, with the shape it has there. architecture is the
 * class: it decides the names of encoder and decoder. Errors name haiku's tensor. */
PCV_CHECK int pcv_deepmind_bind(struct pcv_weights *w, const float **ret, const int64_t *shape,
                                int ndim, const char *architecture, const char *name,
                                struct pcv_err *e);

/* State that training kept and inference does not read. */
void pcv_deepmind_ignore(struct pcv_weights *w);

/* The configuration of the published checkpoint that these weights look like, for a directory
 * without config.json: shapes are checked against it while binding. PCV_EUNKNOWN when they look
 * like none. own: pcv_config_close */
PCV_CHECK int pcv_deepmind_config(struct pcv_config **ret, const struct pcv_weights *w,
                                  const char *dir, struct pcv_err *e);

#endif
