/* flow.c - tiles of a picture, and one flow field from what the network says of them. */
#include "lib/perceiver.h"

/* How far neighbours overlap, what the network's output is multiplied by, and how many tiles of a
 * row, at most, hold a pixel: two that overlap and the last one. */
enum { OVERLAP = 20, SCALE = 20, PER_AXIS = 3 };

/* Most tiles of a picture. */
enum { MAX_TILES = 4096 };

static int stride_of(int tile)
{
    return tile - (tile < 2 * OVERLAP ? tile / 2 : OVERLAP);
}

static int count_of(int side, int tile)
{
    const int stride = stride_of(tile);

    return (side - tile + stride - 1) / stride + 1;
}

static int start_of(int side, int tile, int i)
{
    const int at = i * stride_of(tile);

    return at < side - tile ? at : side - tile;
}

int pcv_flow_tiling(struct pcv_flow_grid *g, int width, int height, int tile_width, int tile_height,
                    struct pcv_err *e)
{
    const int nx = count_of(width, tile_width), ny = count_of(height, tile_height);

    if ((int64_t)nx * ny > MAX_TILES)
        return pcv_fail(e, PCV_ELIMIT, "%d x %d pixels are %lld tiles; at most %d are served",
                        width, height, (long long)nx * ny, MAX_TILES);
    *g = (struct pcv_flow_grid){width, height, tile_width, tile_height, nx, ny};
    return 0;
}

void pcv_flow_corner(const struct pcv_flow_grid *g, int tile, int *x, int *y)
{
    *x = start_of(g->width, g->tile_width, tile % g->nx);
    *y = start_of(g->height, g->tile_height, tile / g->nx);
}

/* A tile that holds a pixel. */
struct part {
    int tile;
    int32_t row;
    float weight;
};

/* The places of a pixel in the tiles of one axis: which tile, and where in it. */
struct place {
    int i, at;
};

static int places(int side, int tile, int n, int v, struct place *to)
{
    int found = 0;

    for (int i = v < tile ? 0 : (v - tile) / stride_of(tile); i < n; i++) {
        const int at = v - start_of(side, tile, i);

        if (at < 0)
            break;
        if (at < tile)
            to[found++] = (struct place){i, at};
    }
    return found;
}

static int nearest_edge(int at, int tile)
{
    return at + 1 < tile - at ? at + 1 : tile - at;
}

static int parts_of(const struct pcv_flow_grid *g, int x, int y, struct part *to)
{
    struct place h[PER_AXIS + 1], v[PER_AXIS + 1];
    const int nh = places(g->width, g->tile_width, g->nx, x, h);
    const int nv = places(g->height, g->tile_height, g->ny, y, v);
    int n = 0;

    for (int j = 0; j < nv; j++)
        for (int i = 0; i < nh; i++) {
            const int a = nearest_edge(h[i].at, g->tile_width);
            const int b = nearest_edge(v[j].at, g->tile_height);

            to[n++] = (struct part){
                .tile = v[j].i * g->nx + h[i].i,
                .row = v[j].at * g->tile_width + h[i].at,
                .weight = (float)(a < b ? a : b),
            };
        }
    return n;
}

enum { MAX_PARTS = (PER_AXIS + 1) * (PER_AXIS + 1) };

void pcv_flow_rows(const struct pcv_flow_grid *g, const int32_t (*points)[2], int n, int *count,
                   int32_t *const *rows)
{
    struct part part[MAX_PARTS];

    for (int t = 0; t < g->nx * g->ny; t++)
        count[t] = 0;
    for (int i = 0; i < n; i++) {
        const int parts = parts_of(g, points[i][0], points[i][1], part);

        for (int k = 0; k < parts; k++) {
            if (rows)
                rows[part[k].tile][count[part[k].tile]] = part[k].row;
            count[part[k].tile]++;
        }
    }
}

/* Adds one tile's answer; the sum of weights is one pixel's. */
struct sum {
    float u, v, weight;
};

static void add(struct sum *s, const float *uv, float weight)
{
    s->u += weight * uv[0];
    s->v += weight * uv[1];
    s->weight += weight;
}

static void finish(const struct sum *s, float *uv)
{
    uv[0] = SCALE * (s->u / s->weight);
    uv[1] = SCALE * (s->v / s->weight);
}

void pcv_flow_blend(const struct pcv_flow_grid *g, const float *const *tile, float *uv)
{
    struct part part[MAX_PARTS];

    for (int y = 0; y < g->height; y++)
        for (int x = 0; x < g->width; x++, uv += 2) {
            const int n = parts_of(g, x, y, part);
            struct sum s = {0};

            for (int k = 0; k < n; k++)
                add(&s, tile[part[k].tile] + 2 * (size_t)part[k].row, part[k].weight);
            finish(&s, uv);
        }
}

void pcv_flow_blend_points(const struct pcv_flow_grid *g, const int32_t (*points)[2], int n,
                           const float *const *tile, float *uv)
{
    const int tiles = g->nx * g->ny;
    int used[MAX_TILES];
    struct part part[MAX_PARTS];

    for (int t = 0; t < tiles; t++)
        used[t] = 0;
    for (int i = 0; i < n; i++) {
        const int parts = parts_of(g, points[i][0], points[i][1], part);
        struct sum s = {0};

        for (int k = 0; k < parts; k++) {
            const int t = part[k].tile;

            add(&s, tile[t] + 2 * (size_t)used[t]++, part[k].weight);
        }
        finish(&s, uv + 2 * (size_t)i);
    }
}
