/* decode_pool.c - tasks without output queries. */
#include "lib/attention/decode_internal.h"
#include "lib/kernel/linear.h"

#include <string.h>

/* logits = head(LN(mean of the latents)): the original Perceiver (arXiv 2103.03206, 3.1); an
 * embedding without norm and head. There is one row, whoever asks for it more than once. */
void pcv_decode_pool_tile(const struct pcv_decoder *d, const struct pcv_kernels *k,
                          const struct pcv_decode_job *job, int row0, int rows, float *scratch)
{
    float *out = job->logits + (size_t)row0 * d->width;
    const int n = d->d_latents;

    memset(scratch, 0, (size_t)n * sizeof(float));
    for (int i = 0; i < d->latents; i++)
        k->axpy(scratch, 1.0f, job->latents + (size_t)i * n, n);
    k->scale(scratch, 1.0f / (float)d->latents, n);
    if (d->norm.gamma)
        k->norm(scratch, n, scratch, n, d->norm.gamma, d->norm.beta, 1, n, 1e-5f);
    if (d->head.w)
        pcv_linear(k, 1, d->width, n, scratch, n, d->head.w, d->head.b, out, d->width, false);
    else
        memcpy(out, scratch, (size_t)n * sizeof(float));
    for (int i = 1; i < rows; i++)
        memcpy(out + (size_t)i * d->width, out, (size_t)d->width * sizeof(float));
}

void pcv_decode_latents_tile(const struct pcv_decoder *d, const struct pcv_decode_job *job,
                             int row0, int rows)
{
    for (int i = row0; i < row0 + rows; i++)
        memcpy(job->logits + (size_t)i * d->width,
               job->latents + (size_t)pcv_decode_row(job, i) * d->d_latents,
               (size_t)d->width * sizeof(float));
}
