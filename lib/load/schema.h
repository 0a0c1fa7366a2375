/* schema.h - holds a JSON document to a JSON Schema (2020-12), for the schemas of this library.
 *
 * Of the standard it knows what they use: type, properties, required, additionalProperties, enum,
 * const, minimum, maximum, items, minItems, maxItems, minProperties, maxProperties, minLength,
 * maxLength, pattern (as pattern.h), oneOf, and $ref to "#/$defs/NAME" with other keywords beside
 * it. A schema with another keyword is refused, so that nothing is left unchecked.
 *
 * Stricter than the standard: a whole number is written without fraction and exponent. One thread.
 */
#ifndef PCV_LOAD_SCHEMA_H
#define PCV_LOAD_SCHEMA_H

#include "lib/base/err.h"

#include <jansson.h>

struct pcv_schema;

/* own: pcv_schema_close. PCV_EUNSUPPORTED naming a keyword or $ref that is not known. */
PCV_CHECK int pcv_schema_open(struct pcv_schema **ret, const char *text, struct pcv_err *e);
void pcv_schema_close(struct pcv_schema *s); /* NULL is fine */

/* The first thing in doc that the schema does not allow; where is its place: "$.tasks[2].labels".
 * PCV_EFORMAT for a wrong type or text, PCV_ERANGE for a number or a count outside its bounds,
 * PCV_EMISSING and PCV_EUNKNOWN for keys and for choices that nobody knows. Where all branches of a
 * oneOf fix "kind", the document's kind says which one it is held to. */
PCV_CHECK int pcv_schema_check(const struct pcv_schema *s, const json_t *doc, struct pcv_err *e);

#endif
