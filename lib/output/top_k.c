#include "lib/perceiver.h"

#include <math.h>

/* Better first; of equals, the smaller index. */
static bool before(float a, int i, const struct pcv_score *b)
{
    return a > b->score || (a == b->score && i < b->index);
}

int pcv_top_k(const float *logits, int n, int k, struct pcv_score *out)
{
    int have = 0;
    double sum = 0;

    if (k <= 0)
        return 0;
    for (int i = 0; i < n; i++) {
        int at = have;

        if (have == k && !before(logits[i], i, &out[k - 1]))
            continue;
        if (have < k)
            have++;
        else
            at = k - 1;
        for (; at > 0 && before(logits[i], i, &out[at - 1]); at--)
            out[at] = out[at - 1];
        out[at] = (struct pcv_score){.index = i, .score = logits[i]};
    }
    if (have == 0)
        return 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - out[0].score);
    for (int i = have - 1; i >= 0; i--) /* the first last: it is the maximum of all */
        out[i].score = (float)(exp((double)out[i].score - out[0].score) / sum);
    return have;
}
