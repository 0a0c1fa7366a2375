/* shared.h - a block's long pieces of work, of which threads that wait take parts.
 *
 * Blocks of latents are handed out beforehand, a thread may still be late: another program has its
 * core, or there is one block too many. Then the others take columns of its products, and heads of
 * its attention. Bits stay: each column and head is computed as it would be alone. */
#ifndef PCV_ATTENTION_SHARED_H
#define PCV_ATTENTION_SHARED_H

#include "lib/base/pool.h"
#include "lib/kernel/panel.h"

/* k->product(p), by columns. w NULL: alone. */
void pcv_shared_product(const struct pcv_worker *w, const struct pcv_panel_kernels *k,
                        const struct pcv_product *p);

/* Whether a unit of so many multiply-adds is worth handing over. */
static inline bool pcv_worth_sharing(size_t macs)
{
    return macs >= (size_t)1 << 20; /* some 20 us */
}

#endif
