/* flow_pair.c - tiles of a pair of pictures as the network's patches.
 *
 * Easy to get wrong:
 * - Pixels are x / 255 * 2 - 1, and what lies beyond a tile's edge is 0 (grey) even where the
 * picture goes on: that is what the network saw in training.
 * - Patch channels count row, column, colour; the first frame's 27 come before the second's. */
#include "lib/input/flow_pair.h"

#include "lib/base/mem.h"

enum { PATCH = 3, COLORS = 3 };

int pcv_flow_lay(struct pcv_flow *f, struct pcv_err *e)
{
    const struct pcv_image *a = &f->frame[0], *b = &f->frame[1];
    const int *size = f->adapter->grid.size;

    if (a->width != b->width || a->height != b->height) {
        pcv_fail(e, PCV_ESHAPE, "%d x %d pixels, the first picture has %d x %d", b->width,
                 b->height, a->width, a->height);
        return pcv_err_at(e, "second");
    }
    if (a->width < size[1] || a->height < size[0]) {
        pcv_fail(e, PCV_ESHAPE, "%d x %d pixels; the model needs %d x %d or more", a->width,
                 a->height, size[1], size[0]);
        return pcv_err_at(e, "first");
    }
    return pcv_flow_tiling(&f->grid, a->width, a->height, size[1], size[0], e);
}

/* Plane of one patch element: what every pixel of the tile has at (dy, dx) from itself. */
static void plane(const struct pcv_image *im, int x0, int y0, int width, int height, int dx, int dy,
                  int color, float *out)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int py = y + dy, px = x + dx;
            const bool inside = py >= 0 && py < height && px >= 0 && px < width;

            *out++ =
                inside
                    ? (float)im->rgb[((size_t)(y0 + py) * (size_t)im->width + (size_t)(x0 + px)) *
                                         COLORS +
                                     (size_t)color] /
                              255.0f * 2.0f -
                          1.0f
                    : 0.0f;
        }
}

int pcv_flow_append(struct pcv_input *in, const struct pcv_flow *f, int tile, struct pcv_err *e)
{
    const struct pcv_flow_grid *g = &f->grid;
    const size_t pixels = (size_t)g->tile_width * (size_t)g->tile_height;
    const int size[] = {g->tile_height, g->tile_width};
    float *planes = pcv_alloc((size_t)2 * PATCH * PATCH * COLORS * pixels, sizeof(float));
    float *out = planes;
    int x, y, r;

    if (!planes)
        return pcv_fail(e, PCV_ENOMEM, "no memory for a tile of %zu pixels", pixels);
    pcv_flow_corner(g, tile, &x, &y);
    for (int frame = 0; frame < 2; frame++)
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++)
                for (int c = 0; c < COLORS; c++, out += pixels)
                    plane(&f->frame[frame], x, y, g->tile_width, g->tile_height, dx, dy, c, out);
    r = pcv_grid_from_planes(in, f->adapter, planes, size, e);
    pcv_free(planes);
    return r;
}
