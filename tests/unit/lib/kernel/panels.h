/* panels.h - what the tests of panels share: the tables of this processor, matrices laid out in
 * panels element by element, guards around what kernels write.
 *
 * A matrix here is what panel.h says of it and no more: lanes without a row hold NaN or infinity,
 * so that a kernel that lets them into a row is seen. */
#ifndef PANELS_H
#define PANELS_H

#include "lib/base/cpu.h"
#include "lib/kernel/panel.h"
#include "tests/unit/check.h"

enum { GUARD = 64 /* floats on each side */ };

static const struct pcv_panel_kernels *tables[3];
static int ntables;

#define EACH_TABLE(k)                                                                              \
    for (const struct pcv_panel_kernels *k, **t_ = tables; t_ < tables + ntables && (k = *t_); t_++)

static int find_tables(void **state)
{
    const struct pcv_cpu cpu = pcv_cpu_detect();

    (void)state;
    tables[ntables++] = &pcv_panel_scalar;
#if defined(__x86_64__)
    if (cpu.avx2_fma)
        tables[ntables++] = &pcv_panel_avx2;
#if defined(AVX512_EMULATED)
    if (cpu.avx2_fma) /* linked with intrinsics that need no more */
#else
    if (cpu.avx512)
#endif
        tables[ntables++] = &pcv_panel_avx512;
#else
    (void)cpu;
#endif
    return 0;
}

static inline const char *table_name(const struct pcv_panel_kernels *k)
{
    return k == &pcv_panel_scalar ? "scalar" : k->lanes == 24 ? "avx2" : "avx512";
}

/* n floats, aligned as panels are, between guards; each is `fill`. own: guarded_free */
static inline float *guarded_new(size_t n, float fill)
{
    const size_t bytes = (2 * GUARD + n + 15) / 16 * 16 * sizeof(float);
    float *all = aligned_alloc(64, bytes);

    assert_non_null(all);
    for (size_t i = 0; i < bytes / sizeof(float); i++)
        all[i] = i >= GUARD && i < GUARD + n ? fill : 1234.5f;
    return all + GUARD;
}

#define CHECK_GUARDS(x, n) check_guards(__FILE__, __LINE__, #x, x, n)
static inline void check_guards(const char *file, int line, const char *what, const float *x,
                                size_t n)
{
    for (size_t i = 0; i < GUARD; i++)
        if (x[-1 - (ptrdiff_t)i] != 1234.5f || x[n + i] != 1234.5f)
            fail_msg("%s:%d: written beside the %zu floats of %s", file, line, n, what);
}

static inline void guarded_free(float *x)
{
    free(x - GUARD);
}

/* A matrix [rows, n] in blocks of `block` rows; its panels are `step` floats apart, perhaps more
 * than n channels. */
struct laid {
    int lanes, rows, block, n;
    size_t step;
    size_t floats; /* from the first panel to the end of the last */
    float *at;
};

/* Where element (row, c) lies. */
static inline size_t place(const struct laid *m, int row, int c)
{
    const int b = row / m->block, left = m->rows - b * m->block;
    int in = row % m->block, of = left < m->block ? left : m->block;
    size_t panel = (size_t)b * (size_t)pcv_panel_count(m->block, m->lanes);

    for (int n; in >= (n = pcv_panel_rows(of, m->lanes)); in -= n, of -= n)
        panel++;
    return panel * m->step + (size_t)c * (size_t)m->lanes + (size_t)in;
}

/* Room for a matrix whose panels have n channels and `more`; every float is `fill`. own:
 * guarded_free(at) */
static inline struct laid laid_new(const struct pcv_panel_kernels *k, int rows, int block, int n,
                                   int more, float fill)
{
    struct laid m = {k->lanes, rows, block, n, (size_t)(n + more) * (size_t)k->lanes, 0, NULL};
    const int last = (rows - 1) / block; /* blocks before the last are whole */

    m.floats = m.step * (size_t)(last * pcv_panel_count(block, k->lanes) +
                                 pcv_panel_count(rows - last * block, k->lanes));
    assert_true(m.floats <= pcv_panel_need(rows, block) * (size_t)(n + more));
    m.at = guarded_new(m.floats, fill);
    return m;
}

/* Row-major x [rows, n] into the panels. */
static inline void lay(const struct laid *m, const float *x)
{
    for (int row = 0; row < m->rows; row++)
        for (int c = 0; c < m->n; c++)
            m->at[place(m, row, c)] = x[(size_t)row * (size_t)m->n + (size_t)c];
}

/* Row `row` of the panels: to [n]. */
static inline void lift_row(const struct laid *m, int row, float *to)
{
    for (int c = 0; c < m->n; c++)
        to[c] = m->at[place(m, row, c)];
}

static inline struct pcv_panels view(const struct laid *m)
{
    return (struct pcv_panels){m->at, m->step, m->rows, m->block};
}

#endif
