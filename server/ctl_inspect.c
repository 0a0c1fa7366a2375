/* ctl_inspect.c - perceiverctl inspect: a model's blueprint, parameters and multiply-adds. */
#include "server/ctl.h"

#include <stdio.h>

static void print_tensor(const struct pcv_tensor_spec *t, const char *role)
{
    char shape[96];

    printf("  %-15s %s %s %s%s\n", t->name, role, pcv_dtype_name(t->dtype),
           pcv_shape_text(t->shape, t->ndim, shape, sizeof(shape)), t->optional ? " optional" : "");
}

static void print_cost(const struct pcv_model *m)
{
    struct pcv_cost done, dense;

    pcv_cost_nominal(m, 0, &done, &dense);
    printf("\nmultiply-adds of a full-size input, all output queries, in GMAC\n");
    printf("  %-16s %10s %10s %10s %10s\n", "", "encode", "process", "decode", "total");
    printf("  %-16s %10.4f %10.4f %10.4f %10.4f\n", "plain algorithm", dense.encode / 1e9,
           dense.process / 1e9, dense.decode / 1e9,
           (dense.encode + dense.process + dense.decode) / 1e9);
    printf("  %-16s %10.4f %10.4f %10.4f %10.4f\n", "this plan", done.encode / 1e9,
           done.process / 1e9, done.decode / 1e9, (done.encode + done.process + done.decode) / 1e9);
}

int ctl_inspect(int argc, char **argv)
{
    const struct ctl_usage usage = {
        "MODEL_DIR", 1, 1, "Says what a model is: inputs, tasks, parameters, multiply-adds.", NULL};
    const int n = ctl_parse(&usage, argc, argv);
    const struct pcv_model_info *info;
    struct pcv_model *m;
    struct pcv_err e;

    if (n < 0)
        return ~n;
    if (pcv_model_open(&m, argv[1], NULL, &e) < 0)
        return ctl_fail(&e);
    info = pcv_model_info(m);
    printf("%s (%s)\n", info->architecture, info->upstream);
    printf("  %-15s %llu\n", "parameters", (unsigned long long)info->parameters);
    printf("  %-15s %.1f MB mapped, %.1f MB computed\n", "memory", (double)info->mapped_bytes / 1e6,
           (double)info->owned_bytes / 1e6);
    printf("  %-15s %d x %d\n", "latents", info->num_latents, info->d_latents);
    printf("\ninputs\n");
    for (int i = 0; i < info->ninputs; i++) {
        printf("  %-15s up to %lld tokens; takes", info->inputs[i].name,
               (long long)info->inputs[i].max_tokens);
        for (const char *const *t = info->inputs[i].media; *t; t++)
            printf(" %s", *t);
        printf("%s\n", info->inputs[i].media[0] ? "" : " tensors only");
    }
    for (int i = 0; i < info->ntensors; i++)
        print_tensor(&info->tensors[i], "tensor");
    printf("\ntasks\n");
    for (int i = 0; i < info->ntasks; i++) {
        const struct pcv_task_info *t = &info->tasks[i];

        printf("  %-15s up to %lld output queries of %d logits%s\n", t->name,
               (long long)t->max_rows, t->width, t->labels ? ", labelled" : "");
        print_tensor(&t->output, "output");
    }
    print_cost(m);
    pcv_model_close(m);
    return 0;
}
