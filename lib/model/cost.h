/* cost.h - multiply-adds of the stages, in closed form. Products are counted, additions and
 * elementwise work are not. Any thread. */
#ifndef PCV_MODEL_COST_H
#define PCV_MODEL_COST_H

#include "lib/attention/decode.h"
#include "lib/attention/encode.h"
#include "lib/layout/blueprint.h"

/* A token array of the usual size, without numbers: of input `which`, or of all together where the
 * model takes them so. */
void pcv_tokens_nominal(const struct pcv_blueprint *bp, int which, struct pcv_tokens *t);

/* The cheaper way for tokens of this input: tables only where every group is a constant table. */
enum pcv_encode_mode pcv_encode_choose(const struct pcv_encoder *enc,
                                       const struct pcv_blueprint *bp, int which);

/* Attention, out projection and MLP of one encode, as enc->mode does it. */
double pcv_encode_cost(const struct pcv_encoder *enc, enum pcv_encode_mode mode,
                       const struct pcv_tokens *t);

/* One attention layer computed plainly: nq rows read nkv rows. */
double pcv_layer_cost(const struct pcv_layer_dims *d, double nq, double nkv);

/* Out projection and MLP of `rows` rows. */
double pcv_tail_cost(const struct pcv_layer_dims *d, double rows);

#endif
