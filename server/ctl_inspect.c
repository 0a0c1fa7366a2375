/* ctl_inspect.c - perceiverctl inspect: a model's blueprint, parameters and multiply-adds. */
#include "server/ctl.h"

#include <stdio.h>
#include <string.h>

static void print_tensor(const struct pcv_tensor_spec *t, const char *role)
{
    char shape[96];

    printf("  %-15s %s %s %s%s\n", t->name, role, pcv_dtype_name(t->dtype),
           pcv_shape_text(t->shape, t->ndim, shape, sizeof(shape)), t->optional ? " optional" : "");
}

static void print_costs(const struct pcv_model *m, int which)
{
    struct pcv_cost done, dense;

    pcv_cost_nominal(m, which, &done, &dense);
    printf("  %-16s %10.4f %10.4f %10.4f %10.4f\n", "plain algorithm", dense.encode / 1e9,
           dense.process / 1e9, dense.decode / 1e9,
           (dense.encode + dense.process + dense.decode) / 1e9);
    printf("  %-16s %10.4f %10.4f %10.4f %10.4f\n", "this plan", done.encode / 1e9,
           done.process / 1e9, done.decode / 1e9, (done.encode + done.process + done.decode) / 1e9);
}

/* Of each input where a request has one of them, or of all together. */
static void print_cost(const struct pcv_model *m)
{
    const struct pcv_model_info *info = pcv_model_info(m);

    printf("\nmultiply-adds of a full-size input, all output queries, in GMAC\n");
    printf("  %-16s %10s %10s %10s %10s\n", "", "encode", "process", "decode", "total");
    for (int i = 0; i < (info->together ? 1 : info->ninputs); i++) {
        if (!info->together)
            printf("  %s\n", info->inputs[i].name);
        print_costs(m, i);
    }
}

static void print_inputs(const struct pcv_model_info *info)
{
    printf("\ninputs%s\n", info->together ? "" : ", one at a time");
    for (int i = 0; i < info->ninputs; i++) {
        const struct pcv_input_info *in = &info->inputs[i];

        printf("  %-15s up to %lld tokens; takes", in->name, (long long)in->max_tokens);
        for (const char *const *t = in->media; *t; t++)
            printf(" %s", *t);
        printf("%s", in->media[0] ? "" : " tensors only");
        printf(in->encoder ? "; read by %s\n" : "\n", in->encoder);
    }
    for (int i = 0; i < info->ntensors; i++)
        print_tensor(&info->tensors[i], "tensor");
}

static void print_tasks(const struct pcv_model_info *info)
{
    const unsigned all = (1u << info->ninputs) - 1;

    printf("\ntasks\n");
    for (int i = 0; i < info->ntasks; i++) {
        const struct pcv_task_info *t = &info->tasks[i];

        printf("  %-15s up to %lld output queries of %d logits%s", t->name, (long long)t->max_rows,
               t->width, t->labels ? ", labelled" : "");
        for (int k = 0, n = 0; k < info->ninputs && t->inputs != all; k++)
            if (t->inputs >> k & 1)
                printf("%s%s", n++ ? ", " : "; of ", info->inputs[k].name);
        printf("\n");
        print_tensor(&t->output, "output");
    }
}

static int inspect(const char *dir)
{
    const struct pcv_model_info *info;
    struct pcv_model *m;
    struct pcv_err e;

    if (pcv_model_open(&m, dir, NULL, &e) < 0)
        return ctl_fail(&e);
    info = pcv_model_info(m);
    printf("%s (%s)\n", info->architecture, info->upstream);
    if (strcmp(info->upstream, "perceiver-1") == 0)
        printf("  %-15s valid against the schema\n", "perceiver.json");
    printf("  %-15s %llu\n", "parameters", (unsigned long long)info->parameters);
    printf("  %-15s %.1f MB mapped, %.1f MB computed\n", "memory", (double)info->mapped_bytes / 1e6,
           (double)info->owned_bytes / 1e6);
    printf("  %-15s %016llx\n", "fingerprint", (unsigned long long)info->fingerprint);
    printf("  %-15s %d x %d\n", "latents", info->num_latents, info->d_latents);
    print_inputs(info);
    print_tasks(info);
    print_cost(m);
    pcv_model_close(m);
    return 0;
}

int ctl_inspect(int argc, char **argv)
{
    bool schema = false;
    const struct ctl_option options[] = {
        {.name = "schema",
         .doc = "print the JSON Schema that perceiver.json is held to",
         .flag = &schema},
        {0},
    };
    const struct ctl_usage usage = {
        "MODEL_DIR", 0, 1,
        "Says what a model is: inputs, tasks, parameters, multiply-adds; or what is wrong with it.",
        options};
    const int n = ctl_parse(&usage, argc, argv);

    if (n < 0)
        return ~n;
    if (schema && n == 0) {
        printf("%s", pcv_model_schema());
        return 0;
    }
    if (schema || n == 0)
        return ~ctl_wrong(&usage, argv, n ? "--schema takes no model" : "MODEL_DIR is missing",
                          NULL);
    return inspect(argv[1]);
}
