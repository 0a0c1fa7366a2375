#include "server/ctl_text.h"

#include "proto/wire_utf8.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum { LINE = 80 };

/* ---- characters ------------------------------------------------------------------------------ */

/* The character of n bytes at s. */
static wchar_t code_point(const char *s, int n)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    wchar_t c = (unsigned char)s[0] & first[n];

    for (int i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

static bool is_control(wchar_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069); /* text direction */
}

/* What stands for the text at s: the character as it is, or an escape in buf. *taken bytes of s,
 * *shown bytes in the result, *columns of the terminal. */
static const char *shape(const char *s, size_t len, char buf[8], int *taken, int *shown,
                         int *columns)
{
    const int n = wire_utf8_sequence(s, len);
    const wchar_t c = n ? code_point(s, n) : 0;
    int width;

    *taken = n ? n : 1;
    if (n && !is_control(c)) {
        width = c < 0x80 ? 1 : wcwidth(c); /* -1 in a locale that does not know the character */
        *columns = width < 0 ? 1 : width;
        *shown = n;
        return s;
    }
    *taken = 1;
    if (s[0] == '\n' || s[0] == '\t' || s[0] == '\r')
        *shown = snprintf(buf, 8, "\\%c", s[0] == '\n' ? 'n' : s[0] == '\t' ? 't' : 'r');
    else
        *shown = snprintf(buf, 8, "\\x%02x", (unsigned char)s[0]);
    *columns = *shown;
    return buf;
}

void ctl_put(FILE *f, const char *s, size_t len)
{
    char buf[8];
    int taken, shown, columns;

    for (size_t i = 0; i < len; i += (size_t)taken) {
        const char *c = shape(s + i, len - i, buf, &taken, &shown, &columns);

        fprintf(f, "%.*s", shown, c);
    }
}

int ctl_columns(const char *s, size_t len)
{
    char buf[8];
    int taken, shown, columns, all = 0;

    for (size_t i = 0; i < len; i += (size_t)taken) {
        shape(s + i, len - i, buf, &taken, &shown, &columns);
        all += columns;
    }
    return all;
}

void ctl_text_init(void)
{
    setlocale(LC_CTYPE, "");
}

bool ctl_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

void ctl_bar(char *buf, double part, int columns, bool utf8)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int steps = utf8 ? 8 : 1;
    const double clipped = part > 0 ? part < 1 ? part : 1 : 0; /* NaN: 0 */
    const int n = (int)lround(clipped * columns * steps);

    buf[0] = '\0';
    for (int i = 0; i < n / steps; i++)
        buf = stpcpy(buf, utf8 ? "█" : "#");
    memcpy(buf, eighths[n % steps], strlen(eighths[n % steps]) + 1);
}

const char *ctl_count(double n, char buf[CTL_COUNT])
{
    static const char units[] = {'k', 'M', 'G', 'T'};
    int i = 0;

    if (n < 1000) {
        snprintf(buf, CTL_COUNT, "%.0f", n);
        return buf;
    }
    for (n /= 1000; n >= 999.95 && i < 3; i++)
        n /= 1000;
    snprintf(buf, CTL_COUNT, "%.1f %c", n, units[i]);
    return buf;
}

/* ---- tables and lines ------------------------------------------------------------------------ */

void ctl_cell(struct ctl_table *t, const char *fmt, ...)
{
    va_list ap;
    char *text;
    int n;

    if (t->n == t->room) {
        const int room = t->room ? 2 * t->room : 32;
        char **cells = realloc(t->cells, (size_t)room * sizeof(*cells));

        if (!cells) {
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->room = room;
    }
    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        t->failed = true;
    else
        t->cells[t->n++] = text;
}

static int cell_columns(const char *cell)
{
    return ctl_columns(cell, strlen(cell));
}

static void print_row(const struct ctl_table *t, const char *const *row, const int *width, int n,
                      int indent, FILE *f)
{
    int owed = indent; /* blanks, written before the next text so that none end a line */

    for (int c = 0; c < n; c++) {
        const int pad = width[c] - cell_columns(row[c]);

        if (row[c][0]) {
            fprintf(f, "%*s", owed + (t->align[c] == 'r' ? pad : 0), "");
            ctl_put(f, row[c], strlen(row[c]));
            owed = t->align[c] == 'r' ? 2 : 2 + pad;
        } else {
            owed += width[c] + 2;
        }
    }
    fputc('\n', f);
}

int ctl_table_print(struct ctl_table *t, int indent, FILE *f, struct pcv_err *e)
{
    const int n = (int)strlen(t->align);
    const bool failed = t->failed;
    int width[32] = {0};

    for (int i = 0; i < t->n; i++)
        if (width[i % n] < cell_columns(t->cells[i]))
            width[i % n] = cell_columns(t->cells[i]);
    for (int i = 0; i + n <= t->n && !failed; i += n)
        print_row(t, (const char *const *)t->cells + i, width, n, indent, f);
    for (int i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct ctl_table){.align = t->align};
    return failed ? pcv_fail(e, PCV_ENOMEM, "no memory for a table") : 0;
}

void ctl_word(FILE *f, int *column, int indent, const char *word)
{
    const int n = ctl_columns(word, strlen(word));

    if (*column && *column + 1 + n > LINE) {
        fputc('\n', f);
        *column = 0;
    }
    *column += n + (*column ? fprintf(f, " ") : fprintf(f, "%*s", indent, ""));
    ctl_put(f, word, strlen(word));
}
