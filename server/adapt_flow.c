/* adapt_flow.c - a pair of pictures becomes tiles: items of one request.
 *
 * With points, only the tiles that hold one are items, and of those only the asked rows. */
#include "server/adapt_internal.h"

#include <stdlib.h>

bool srv_adapt_is_flow(const struct adapt *a)
{
    return !a->p->kept && a->info->ninputs == 1 && a->info->inputs[0].kind == PCV_INPUT_IMAGE_PAIR;
}

void srv_job_flow_free(struct srv_job_flow *f)
{
    if (!f)
        return;
    if (f->rows)
        free(f->rows[0]);
    free(f->rows);
    free(f->tile);
    free(f);
}

static int take_points(struct adapt *a, struct srv_job_flow *f)
{
    const struct wire_query *q = a->request->nqueries ? &a->request->queries[0] : NULL;
    f->npoints = q ? q->npoints : 0;
    f->points = q ? q->points : NULL;
    for (int i = 0; i < f->npoints; i++)
        if (f->points[i][0] >= f->grid.width || f->points[i][1] >= f->grid.height) {
            pcv_fail(a->e, PCV_ERANGE, "(%d, %d) is outside the pictures' %d x %d pixels",
                     f->points[i][0], f->points[i][1], f->grid.width, f->grid.height);
            return pcv_err_at(a->e, "$.queries[0].points[%d]", i);
        }
    return 0;
}

/* Rows of each tile: count [tiles], and which they are when points are asked. */
static int take_rows(struct adapt *a, struct srv_job_flow *f, int *count, int64_t *total)
{
    const int tiles = f->grid.nx * f->grid.ny;
    *total = 0;
    for (int t = 0; !f->npoints && t < tiles; t++)
        *total += count[t] = f->grid.tile_width * f->grid.tile_height;
    if (!f->npoints)
        return 0;
    pcv_flow_rows(&f->grid, f->points, f->npoints, count, NULL);
    for (int t = 0; t < tiles; t++)
        *total += count[t];
    f->rows = calloc((size_t)tiles, sizeof *f->rows);
    if (f->rows)
        f->rows[0] = calloc((size_t)*total, sizeof *f->rows[0]);
    if (!f->rows || !f->rows[0])
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d points", f->npoints);
    for (int t = 1; t < tiles; t++)
        f->rows[t] = f->rows[t - 1] + count[t - 1];
    pcv_flow_rows(&f->grid, f->points, f->npoints, count, f->rows);
    return 0;
}

/* Memory for tiles, what the network says of them, the field and its reply. */
static int take_memory(struct adapt *a, const struct pcv_flow *pair, int nitems, int64_t total)
{
    const struct srv_job_flow *f = a->job->flow;
    struct srv_answer *answer = &a->job->answers[0];
    double pixels = f->npoints ? f->npoints : (double)f->grid.width * f->grid.height;
    double reply = f->npoints ? 100 : 8 + 3 + 11; /* numbers, colours, base64 or PNG */
    if (srv_adapt_budget(a, (double)nitems * (double)pcv_flow_input_bytes(pair) +
                                (double)total * 8 + pixels * reply))
        return a->e->code;
    answer->rows = total;
    answer->width = 2;
    answer->numbers = malloc((size_t)total * 2 * sizeof(float));
    return answer->numbers ? 0 : pcv_fail(a->e, PCV_ENOMEM, "no memory for a flow field");
}

static int make_tile(struct adapt *a, const struct pcv_flow *pair, int tile, int rows, int i,
                     int64_t at)
{
    struct srv_job *j = a->job;
    struct srv_job_flow *f = j->flow;
    float *numbers = j->answers[0].numbers + 2 * at;
    if (atomic_load(a->p->cancelled))
        return pcv_fail(a->e, PCV_EIO, "cancelled");
    if (pcv_flow_input(&j->of[i].input, pair, tile, a->e))
        return a->e->code;
    j->queries[i] = (struct pcv_query){.task = j->answers[0].task,
                                       .nrows = rows,
                                       .rows = f->npoints ? f->rows[tile] : NULL,
                                       .logits = numbers};
    j->items[i] = (struct pcv_item){.input = j->of[i].input,
                                    .queries = &j->queries[i],
                                    .nqueries = 1,
                                    .cancelled = a->p->cancelled};
    f->tile[tile] = numbers;
    j->tokens += pcv_input_tokens(j->of[i].input);
    return 0;
}

static int make_tiles(struct adapt *a, const struct pcv_flow *pair, int *count)
{
    struct srv_job_flow *f = a->job->flow;
    const int tiles = f->grid.nx * f->grid.ny;
    int64_t total, at = 0;
    int n = 0;
    if (take_rows(a, f, count, &total))
        return a->e->code;
    for (int t = 0; t < tiles; t++)
        n += count[t] > 0;
    if (n > a->p->max_items) {
        pcv_fail(a->e, PCV_ELIMIT, "%d x %d pixels are %d tiles, more than the %d taken at once",
                 f->grid.width, f->grid.height, n, a->p->max_items);
        return pcv_err_at(a->e, "$.inputs");
    }
    if (take_memory(a, pair, n, total) || srv_adapt_room(a, n))
        return a->e->code;
    a->job->queries = calloc((size_t)n + 1, sizeof *a->job->queries);
    if (!a->job->queries)
        return pcv_fail(a->e, PCV_ENOMEM, "no memory for %d tiles", n);
    a->job->run = a->job->items;
    a->job->nrun = n;
    for (int t = 0, i = 0; t < tiles; t++) {
        if (count[t] && make_tile(a, pair, t, count[t], i++, at))
            return a->e->code;
        at += count[t];
    }
    a->job->output_queries = total;
    return 0;
}

static int adapt_pair(struct adapt *a, const struct pcv_flow *pair)
{
    struct srv_job_flow *f = a->job->flow;
    f->grid = *pcv_flow_grid(pair);
    const size_t tiles = (size_t)f->grid.nx * (size_t)f->grid.ny;
    f->tile = calloc(tiles, sizeof *f->tile);
    int *count = calloc(tiles, sizeof *count);
    int code = f->tile && count ? take_points(a, f) : pcv_fail(a->e, PCV_ENOMEM, "no memory");
    if (!code)
        code = make_tiles(a, pair, count);
    free(count);
    return code;
}

int srv_adapt_flow(struct adapt *a)
{
    struct pcv_media *media;
    struct pcv_flow *pair;
    int n;
    if (a->request->nitems > 1) {
        pcv_fail(a->e, PCV_EFORMAT, "pairs of pictures are asked one at a time");
        return pcv_err_at(a->e, "$.inputs");
    }
    if (srv_adapt_flow_query(a) || srv_adapt_media(a, 0, &media, &n))
        return a->e->code;
    int code = pcv_flow_open(&pair, a->model, media, n, a->e);
    free(media);
    if (code)
        return srv_adapt_at_input(a, 0, code);
    a->job->flow = calloc(1, sizeof *a->job->flow);
    code = a->job->flow ? adapt_pair(a, pair) : pcv_fail(a->e, PCV_ENOMEM, "no memory");
    pcv_flow_free(pair);
    return code;
}
