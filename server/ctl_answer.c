#include "server/ctl_answer.h"

#include "server/ctl_text.h"

#include <stdio.h>
#include <string.h>

enum { BAR = 20, MIN_TASK = 9, SOME = 6 /* numbers of many */ };

void ctl_answer_text(const char *s)
{
    ctl_put(stdout, s, strlen(s));
}

/* Blanks up to a column, where the text before took `columns`. */
static void pad(int columns, int to)
{
    printf("%*s", columns < to ? to - columns : 0, "");
}

/* "  classify   ", or as many blanks. */
static void margin(const char *task, int width)
{
    printf("  ");
    ctl_answer_text(task);
    pad(ctl_columns(task, strlen(task)), width + 2);
}

int ctl_answer_width(const struct wire_result *r, int n)
{
    int width = MIN_TASK;

    for (int i = 0; i < n; i++) {
        const int columns = ctl_columns(r[i].task, strlen(r[i].task));

        width = columns > width ? columns : width;
    }
    return width;
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* The name of a class: its label, or its number. */
static const char *class_name(const struct wire_label *l, char buf[32])
{
    snprintf(buf, 32, "class %d", l->index);
    return l->label ? l->label : buf;
}

static int widest_label(const struct wire_result *r)
{
    char name[32];
    int widest = 0;

    for (int i = 0; i < r->nlabels; i++) {
        const char *label = class_name(&r->labels[i], name);
        const int n = ctl_columns(label, strlen(label));

        widest = n > widest ? n : widest;
    }
    return widest;
}

static void print_labels(const struct wire_result *r, int width)
{
    const bool utf8 = ctl_utf8();
    const int widest = widest_label(r);
    char bar[3 * BAR + 1], name[32];

    for (int i = 0; i < r->nlabels; i++) {
        const struct wire_label *l = &r->labels[i];
        const char *label = class_name(l, name);

        margin(i ? "" : r->task, width);
        ctl_answer_text(label);
        pad(ctl_columns(label, strlen(label)), widest);
        if (r->kind == WIRE_VALUES) {
            printf("  %.6g\n", (double)l->score);
            continue;
        }
        ctl_bar(bar, (double)l->score, BAR, utf8);
        printf("  %5.1f %%%s%s\n", 100 * (double)l->score, bar[0] ? "  " : "", bar);
    }
}

static void print_fills(const struct wire_result *r, int width)
{
    margin(r->task, width);
    if (r->text)
        ctl_put(stdout, r->text, r->text_len);
    else
        printf("%d positions", r->nfills);
    printf("\n");
    for (int i = 0; i < r->nfills; i++) {
        const struct wire_fill *f = &r->fills[i];
        char place[40];

        if (f->byte_offset >= 0)
            snprintf(place, sizeof(place), "byte %lld", (long long)f->byte_offset);
        else
            snprintf(place, sizeof(place), "token %d", f->position);
        margin("", width);
        printf("%-10s", place);
        for (int k = 0; k < f->nlabels; k++) {
            printf("  \"");
            ctl_answer_text(f->labels[k].label ? f->labels[k].label : "");
            printf("\" %.1f %%", 100 * (double)f->labels[k].score);
        }
        printf("\n");
    }
}

/* ---- numbers and files -------------------------------------------------------------------------
 */

static void print_motions(const struct wire_result *r, int width)
{
    for (int i = 0; i < r->nmotions; i++) {
        const struct wire_motion *m = &r->motions[i];

        margin(i ? "" : r->task, width);
        printf("%d,%d moves by %.2f,%.2f\n", m->x, m->y, (double)m->u, (double)m->v);
    }
}

/* "[64, 784]  0.1 0.25 -1 ..." */
static void print_numbers(const int64_t *shape, int ndim, const float *numbers)
{
    int64_t n = 1;

    printf("[");
    for (int i = 0; i < ndim; i++) {
        printf("%s%lld", i ? ", " : "", (long long)shape[i]);
        n *= shape[i];
    }
    printf("] ");
    for (int64_t i = 0; i < n && i < SOME; i++)
        printf(" %.4g", (double)numbers[i]);
    printf(n > SOME ? " ...\n" : "\n");
}

static void print_files(const struct wire_result *r, int width)
{
    for (int i = 0; i < r->nfiles; i++) {
        const struct wire_file *f = &r->files[i];

        margin(i ? "" : r->task, width);
        if (f->index >= 0)
            printf("%d: ", f->index);
        ctl_answer_text(f->type);
        printf(", %zu bytes\n", f->len);
    }
}

void ctl_answer_result(const struct wire_result *r, int width)
{
    switch (r->kind) {
    case WIRE_CLASSES:
    case WIRE_VALUES: print_labels(r, width); break;
    case WIRE_FILLS: print_fills(r, width); break;
    case WIRE_MOTIONS: print_motions(r, width); break;
    case WIRE_FILES: print_files(r, width); break;
    case WIRE_TENSOR:
    case WIRE_VECTORS:
        margin(r->task, width);
        print_numbers(r->shape, r->ndim, r->numbers);
        break;
    }
}

void ctl_answer_chunk(const struct wire_chunk *c, int width)
{
    const int64_t shape[] = {c->n, c->width};

    margin(c->task, width);
    printf("rows %lld..%lld  ", (long long)c->first, (long long)(c->first + c->n - 1));
    print_numbers(shape, 2, c->numbers);
}

/* ---- the rest ----------------------------------------------------------------------------------
 */

void ctl_answer_handle(const char *handle, double expires_s)
{
    if (!handle) {
        printf("  was not kept\n");
        return;
    }
    printf("  kept for %.0f s as ", expires_s);
    ctl_answer_text(handle);
    printf("\n");
}

/* Milliseconds with about as many digits as matter. */
static const char *ms_text(double ms, char buf[32])
{
    snprintf(buf, 32, "%.*f", ms < 1 ? 2 : ms < 100 ? 1 : 0, ms);
    return buf;
}

void ctl_answer_costs(const struct wire_reply *r)
{
    const struct wire_stages *g = &r->gmac;
    char total[32], encode[32], process[32], decode[32];

    printf("  %s ms (encode %s, process %s, decode %s), %lld tokens, %.3g GMAC%s\n",
           ms_text(r->ms.total, total), ms_text(r->ms.encode, encode),
           ms_text(r->ms.process, process), ms_text(r->ms.decode, decode), (long long)r->tokens,
           g->encode + g->process + g->decode, r->cached ? ", from the cache" : "");
}
