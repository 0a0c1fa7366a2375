/* results_embed.c - the latents as an answer: their mean, or each of them. */
#include "server/results_internal.h"

#include <stdlib.h>

int srv_native_embed(struct srv_native *n, const struct wire_query *q, struct wire_result *r,
                     struct pcv_err *e)
{
    const int rows = n->info->num_latents, width = n->info->d_latents;
    r->task = "embed";
    r->kind = n->request->format == WIRE_RAW ? WIRE_TENSOR : WIRE_VECTORS;
    if (q->pool == WIRE_POOL_NONE) {
        r->numbers = n->job->latents;
        r->ndim = 2;
        r->shape[0] = rows;
        r->shape[1] = width;
        return 0;
    }
    float *mean = srv_native_own(n, malloc((size_t)width * sizeof *mean));
    if (!mean)
        return pcv_fail(e, PCV_ENOMEM, "no memory for the answer");
    for (int c = 0; c < width; c++) {
        double sum = 0;
        for (int i = 0; i < rows; i++)
            sum += n->job->latents[(size_t)i * (size_t)width + (size_t)c];
        mean[c] = (float)(sum / rows);
    }
    r->numbers = mean;
    r->ndim = 1;
    r->shape[0] = width;
    return 0;
}
