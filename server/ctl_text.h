/* ctl_text.h - text as a person would like to read it in a terminal. */
#ifndef CTL_TEXT_H
#define CTL_TEXT_H

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Takes the characters of the environment's locale, and nothing else of it. Once, at first. */
void ctl_text_init(void);

/* Writes text that somebody else made: control characters and bytes that are no UTF-8 appear as \n,
 * \x1b, so that it cannot drive the terminal. Backslashes stay. */
void ctl_put(FILE *f, const char *s, size_t len);

/* Columns that ctl_put takes for it. */
int ctl_columns(const char *s, size_t len);

/* A bar of part (0..1) of `columns`, to an eighth of a column in UTF-8 and to a whole one in ASCII;
 * the NUL-terminated bar in buf, which has 3 * columns + 1 bytes. */
void ctl_bar(char *buf, double part, int columns, bool utf8);

/* Whether the locale's characters are UTF-8. */
bool ctl_utf8(void);

/* A count with three digits or more and k, M or G: "784", "257.6 k", "201.1 M". Returns buf. */
enum { CTL_COUNT = 32 };
const char *ctl_count(double n, char buf[CTL_COUNT]);

/* A table: cells row by row, as wide as the widest of their column, two columns apart. */
struct ctl_table {
    const char *align; /* a character for each column: 'l' or 'r' */
    char **cells;      /* own */
    int n, room;
    bool failed; /* no memory: remembered, said by ctl_table_print */
};

/* The next cell. */
void ctl_cell(struct ctl_table *t, const char *fmt, ...) PCV_PRINTF(2, 3);

/* Prints the table with `indent` blanks before each row, and empties it. PCV_ENOMEM. */
PCV_CHECK int ctl_table_print(struct ctl_table *t, int indent, FILE *f, struct pcv_err *e);

/* Words with single blanks between, in lines of at most 80 columns that begin with `indent` blanks:
 * call for each word with *column 0 at first, end with a newline of your own. */
void ctl_word(FILE *f, int *column, int indent, const char *word);

#endif
