/* ctl_answer.h - a model's answers as a person would like to read them in a terminal.
 *
 * On standard output, through ctl_put: what models and clients say cannot drive the terminal. */
#ifndef CTL_ANSWER_H
#define CTL_ANSWER_H

#include "proto/wire.h"

/* Columns that the longest of n tasks' names takes, and some at least. */
int ctl_answer_width(const struct wire_result *r, int n);

void ctl_answer_result(const struct wire_result *r, int width);
void ctl_answer_chunk(const struct wire_chunk *c, int width);
void ctl_answer_handle(const char *handle, double expires_s); /* NULL: was not kept */
void ctl_answer_costs(const struct wire_reply *r);            /* times and multiply-adds, a line */

/* Text that somebody else made, on standard output. */
void ctl_answer_text(const char *s);

#endif
