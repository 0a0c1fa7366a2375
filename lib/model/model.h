/* model.h - an opened model, as the files of this folder see it. */
#ifndef PCV_MODEL_MODEL_H
#define PCV_MODEL_MODEL_H

#include "lib/input/input.h"
#include "lib/load/weights.h"
#include "lib/model/plan.h"

struct pcv_model {
    struct pcv_blueprint bp;
    struct pcv_plan plan;
    struct pcv_weights *weights;
    struct pcv_model_info info;
    struct pcv_input_info inputs[PCV_MAX_INPUTS];
    struct pcv_task_info tasks[PCV_MAX_TASKS];
    struct pcv_tensor_spec tensors[2 * PCV_MAX_INPUTS + PCV_MAX_TASKS + 1];
};

/* The query array that a task's decoder reads for this input; NULL when it reads none. */
const struct pcv_tokens *pcv_queries_of(const struct pcv_model *m, int task,
                                        const struct pcv_input *in);

#endif
