/* config.h - reading a model's config.json: every number typed, bounded and named.
 *
 * Errors carry "path: key". null counts as absent, as upstreams write it. One thread. */
#ifndef PCV_LOAD_CONFIG_H
#define PCV_LOAD_CONFIG_H

#include "lib/base/err.h"

#include <stdbool.h>

struct pcv_config;

/* own: pcv_config_close. The file must be a JSON object without duplicate keys, at most 16 MB. */
PCV_CHECK int pcv_config_open(struct pcv_config **ret, const char *dir, const char *file,
                              struct pcv_err *e);

/* The same from text of our own; dir stands in errors. */
PCV_CHECK int pcv_config_parse(struct pcv_config **ret, const char *text, const char *dir,
                               struct pcv_err *e);
void pcv_config_close(struct pcv_config *c); /* NULL is fine */

bool pcv_config_has(const struct pcv_config *c, const char *key);

/* Whole number in [lo, hi]; absent: PCV_EMISSING, or with _or the given value. */
PCV_CHECK int pcv_config_int(const struct pcv_config *c, const char *key, int lo, int hi, int *ret,
                             struct pcv_err *e);
PCV_CHECK int pcv_config_int_or(const struct pcv_config *c, const char *key, int lo, int hi,
                                int absent, int *ret, struct pcv_err *e);
/* Exactly n whole numbers in an array; absent: ret stays. */
PCV_CHECK int pcv_config_ints_or(const struct pcv_config *c, const char *key, int n, int lo, int hi,
                                 int *ret, struct pcv_err *e);
PCV_CHECK int pcv_config_bool_or(const struct pcv_config *c, const char *key, bool absent,
                                 bool *ret, struct pcv_err *e);

/* A number in [lo, hi], whole or not; absent: the given value. */
PCV_CHECK int pcv_config_number_or(const struct pcv_config *c, const char *key, double lo,
                                   double hi, double absent, double *ret, struct pcv_err *e);

/* The object under a key, as a configuration of its own; *ret is NULL when the key is absent.
 * Errors in it carry "path: key". own: pcv_config_close. */
PCV_CHECK int pcv_config_child(struct pcv_config **ret, const struct pcv_config *c, const char *key,
                               struct pcv_err *e);

/* PCV_EUNKNOWN, naming the first key that is not in `known` (NULL-terminated). */
PCV_CHECK int pcv_config_only(const struct pcv_config *c, const char *const *known,
                              struct pcv_err *e);

/* Puts "path: key" before an error that the caller found in a value; returns e->code. */
int pcv_config_at(const struct pcv_config *c, const char *key, struct pcv_err *e);

/* borrow until close */
PCV_CHECK int pcv_config_text(const struct pcv_config *c, const char *key, const char **ret,
                              struct pcv_err *e);
PCV_CHECK int pcv_config_text_or(const struct pcv_config *c, const char *key, const char *absent,
                                 const char **ret, struct pcv_err *e);

/* First string of an array of strings ("architectures"). */
PCV_CHECK int pcv_config_first(const struct pcv_config *c, const char *key, const char **ret,
                               struct pcv_err *e);

/* {"0": "cat", "1": "dog"} or {"0": 0, "1": 1}: n labels, each index exactly once. *ret and *n are
 * set to NULL and 0 when the key is absent. own: pcv_labels_free */
PCV_CHECK int pcv_config_labels(const struct pcv_config *c, const char *key, char ***ret, int *n,
                                struct pcv_err *e);
void pcv_labels_free(char **labels, int n);

#endif
