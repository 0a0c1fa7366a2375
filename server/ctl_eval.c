/* ctl_eval.c - perceiverctl eval: one forward offline, tensors from a file to a file.
 *
 * The fixed interface that holds the engine against reference implementations: what goes in has the
 * upstream's names, what comes out are logits and, with --stages, what the model held on the way.
 */
#include "server/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct options {
    const char *model, *in, *out;
    bool stages, dense;
    int threads, repeat;
};

enum { ADAPT, ENCODE, PROCESS, DECODE, TOTAL, STAGES };
static const char *const stage_names[STAGES] = {"adapt", "encode", "process", "decode", "total"};

struct eval {
    struct options o;
    struct pcv_pool *pool;
    struct pcv_model *m;
    struct pcv_ws *ws;
    struct pcv_safetensors *in;
    int64_t batch;
    struct pcv_tensor tensors[64];
    int ntensors;
    struct pcv_input **inputs; /* [batch] */
    struct pcv_item *items;    /* [batch] */
    struct pcv_query *queries; /* [batch, ntasks] */
    int asked[64], nasked;     /* tasks that have an answer for the input */
    float *logits[64];         /* by task: [batch, rows, width] */
    int64_t rows[64];
    int32_t *points[64]; /* by task: output query rows that a tensor names, or NULL */
    float *encoded, *latents, *adapted;
    double *ms[STAGES]; /* [repeat] */
};

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int no_memory(struct pcv_err *e)
{
    return pcv_fail(e, PCV_ENOMEM, "no memory for the results");
}

static int load(struct eval *v, struct pcv_err *e)
{
    int r;

    if ((r = pcv_pool_new(&v->pool, v->o.threads, e)) < 0 ||
        (r = pcv_model_open(&v->m, v->o.model, v->pool, e)) < 0 ||
        (r = pcv_safetensors_open(&v->in, v->o.in, e)) < 0)
        return r;
    v->ntensors = pcv_safetensors_count(v->in);
    if (v->ntensors > 64)
        return pcv_fail(e, PCV_ELIMIT, "%d tensors in %s", v->ntensors, v->o.in);
    for (int i = 0; i < v->ntensors; i++)
        v->tensors[i] = *pcv_safetensors_at(v->in, i);
    v->batch = pcv_tensors_batch(v->m, v->tensors, v->ntensors, e);
    if (v->batch < 0) {
        pcv_err_at(e, "%s", v->o.in);
        return e->code;
    }
    if (v->batch > 65536)
        return pcv_fail(e, PCV_ELIMIT, "a batch of %lld", (long long)v->batch);
    r = pcv_ws_new(&v->ws, v->pool, e);
    return r < 0 ? r : pcv_ws_reserve(v->ws, v->m, (int)v->batch, v->o.dense ? PCV_WS_DENSE : 0, e);
}

/* Rows of a batch may mask different tokens out; their positions are equally many. */
static int adapt(struct eval *v, struct pcv_err *e)
{
    for (int64_t i = 0; i < v->batch; i++) {
        struct pcv_input *in;
        int r = pcv_input_from_tensors(&in, v->m, v->tensors, v->ntensors, i, e);

        if (r < 0) {
            pcv_err_at(e, "%s", v->o.in);
            return r;
        }
        pcv_input_free(v->inputs[i]);
        v->inputs[i] = in;
        v->items[i].input = in;
    }
    return 0;
}

/* Room for the results of a task, for as many rows as the inputs or a tensor say. */
static int take_task(struct eval *v, int t, struct pcv_err *e)
{
    const size_t width = (size_t)pcv_model_info(v->m)->tasks[t].width;
    int n;
    const int r =
        pcv_query_rows_from_tensors(v->m, t, v->tensors, v->ntensors, &v->points[t], &n, e);

    if (r < 0)
        return r;
    v->rows[t] = v->points[t] ? n : pcv_query_rows_all(v->m, t, v->inputs[0]);
    v->logits[t] = calloc((size_t)v->batch * (size_t)v->rows[t] * width, sizeof(float));
    return v->logits[t] ? 0 : no_memory(e);
}

/* What is asked of row i of the batch: all that has an answer. */
static int ask(struct eval *v, size_t i, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(v->m);
    const size_t width = (size_t)info->num_latents * (size_t)info->d_latents;
    struct pcv_item *it = &v->items[i];
    int r = 0;

    it->queries = v->queries + i * (size_t)info->ntasks;
    it->nqueries = v->nasked;
    it->encoded = v->encoded ? v->encoded + i * width : NULL;
    it->latents = v->latents ? v->latents + i * width : NULL;
    for (int k = 0; k < v->nasked && r == 0; k++) {
        const int t = v->asked[k];

        it->queries[k] = (struct pcv_query){
            .task = t,
            .rows = v->points[t],
            .nrows = (int)v->rows[t],
            .logits = v->logits[t] + i * (size_t)v->rows[t] * (size_t)info->tasks[t].width,
        };
        if (v->rows[t] > 0) /* none: queries of the caller that are not given */
            r = pcv_query_check(v->m, v->inputs[i], &it->queries[k], e);
        if (r < 0)
            pcv_err_at(e, "%s", info->tasks[t].name);
    }
    return r;
}

/* Results are as large as the inputs say: taken once, after the first adapt. */
static int take_results(struct eval *v, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(v->m);
    const size_t width = (size_t)info->num_latents * (size_t)info->d_latents;
    const size_t batch = (size_t)v->batch;
    int r = 0;

    if (v->o.stages) {
        v->encoded = malloc(batch * width * sizeof(float));
        v->latents = malloc(batch * width * sizeof(float));
        if (!v->encoded || !v->latents)
            return no_memory(e);
    }
    for (int t = 0; t < info->ntasks && r == 0; t++)
        if (info->tasks[t].inputs >> pcv_input_which(v->inputs[0]) & 1) {
            v->asked[v->nasked++] = t;
            r = take_task(v, t, e);
        }
    for (size_t i = 0; i < batch && r == 0; i++)
        r = ask(v, i, e);
    return r;
}

static int run(struct eval *v, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(v->m);
    int r = 0;

    v->inputs = calloc((size_t)v->batch, sizeof(*v->inputs));
    v->items = calloc((size_t)v->batch, sizeof(*v->items));
    v->queries = calloc((size_t)v->batch * (size_t)info->ntasks, sizeof(*v->queries));
    for (int s = 0; s < STAGES; s++)
        v->ms[s] = calloc((size_t)v->o.repeat, sizeof(double));
    if (!v->inputs || !v->items || !v->queries || !v->ms[TOTAL])
        return no_memory(e);
    for (int i = 0; i < v->o.repeat && r == 0; i++) {
        const double start = now_ms();
        struct pcv_timing t;
        double adapted;

        r = adapt(v, e);
        adapted = now_ms();
        if (r == 0 && i == 0)
            r = take_results(v, e);
        if (r == 0)
            r = pcv_forward(v->m, v->ws, v->items, (int)v->batch, &t, e);
        if (r < 0)
            return r;
        v->ms[ADAPT][i] = adapted - start;
        v->ms[ENCODE][i] = t.encode_s * 1e3;
        v->ms[PROCESS][i] = t.process_s * 1e3;
        v->ms[DECODE][i] = t.decode_s * 1e3;
        v->ms[TOTAL][i] = now_ms() - start;
    }
    return r;
}

/* "attention_mask", "mask" or "text.mask". */
static bool is_mask(const char *name)
{
    const size_t n = strlen(name);

    return n >= 4 && strcmp(name + n - 4, "mask") == 0 && (n == 4 || strchr("_.", name[n - 5]));
}

/* The whole token array, masked tokens too: adapted again without the mask. */
static int adapted_inputs(struct eval *v, struct pcv_tensor *out, struct pcv_err *e)
{
    struct pcv_tensor kept[64];
    int n = 0, r = 0;
    int64_t tokens = 0, channels = 0;

    for (int i = 0; i < v->ntensors; i++)
        if (!is_mask(v->tensors[i].name))
            kept[n++] = v->tensors[i];
    for (int64_t i = 0; i < v->batch && r == 0; i++) {
        struct pcv_input *in;

        r = pcv_input_from_tensors(&in, v->m, kept, n, i, e);
        if (r < 0)
            return r;
        tokens = pcv_input_tokens(in);
        channels = pcv_input_channels(in);
        if (!v->adapted)
            v->adapted = malloc((size_t)(v->batch * tokens * channels) * sizeof(float));
        r = v->adapted ? pcv_input_dense(in, v->adapted + i * tokens * channels, e) : no_memory(e);
        pcv_input_free(in);
    }
    *out = (struct pcv_tensor){.name = "adapted_inputs",
                               .dtype = PCV_F32,
                               .ndim = 3,
                               .shape = {v->batch, tokens, channels},
                               .data = v->adapted};
    return r;
}

static int write_results(struct eval *v, struct pcv_err *e)
{
    const struct pcv_model_info *info = pcv_model_info(v->m);
    struct pcv_tensor out[70] = {0};
    int n = 0, r = 0;

    for (int i = 0; i < v->nasked; i++) {
        const int t = v->asked[i];
        const struct pcv_tensor_spec *s = &info->tasks[t].output;
        struct pcv_tensor *o = &out[n++];

        *o = (struct pcv_tensor){
            .name = s->name, .dtype = PCV_F32, .ndim = s->ndim, .data = v->logits[t]};
        memcpy(o->shape, s->shape, sizeof(o->shape));
        o->shape[0] = v->batch;
        if (s->ndim == 2 && s->shape[1] < 0) /* rows and their numbers in one dimension */
            o->shape[1] = v->rows[t] * info->tasks[t].width;
        else if (s->ndim == 3)
            o->shape[1] = v->rows[t];
    }
    if (v->o.stages) {
        const int64_t shape[3] = {v->batch, info->num_latents, info->d_latents};

        r = adapted_inputs(v, &out[n++], e);
        for (int i = 0; i < 2; i++) {
            out[n] =
                (struct pcv_tensor){.name = i ? "latents_after_process" : "latents_after_encode",
                                    .dtype = PCV_F32,
                                    .ndim = 3,
                                    .data = i ? v->latents : v->encoded};
            memcpy(out[n++].shape, shape, sizeof(shape));
        }
    }
    for (int i = 0; i < n; i++)
        out[i].nbytes = (size_t)pcv_shape_bytes(PCV_F32, out[i].shape, out[i].ndim);
    return r < 0 ? r : pcv_safetensors_write(v->o.out, out, n, e);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_costs(const char *name, const struct pcv_cost *c)
{
    printf("\"%s\": {\"encode\": %.6g, \"process\": %.6g, \"decode\": %.6g, \"total\": %.6g}", name,
           c->encode / 1e9, c->process / 1e9, c->decode / 1e9,
           (c->encode + c->process + c->decode) / 1e9);
}

static void print_report(struct eval *v)
{
    struct pcv_cost done = {0}, dense = {0}, a, b;
    struct rusage usage;

    printf("{\"ms\": {");
    for (int s = 0; s < STAGES; s++) {
        qsort(v->ms[s], (size_t)v->o.repeat, sizeof(double), by_value);
        printf("%s\"%s\": {\"min\": %.4f, \"median\": %.4f}", s ? ", " : "", stage_names[s],
               v->ms[s][0], v->ms[s][v->o.repeat / 2]);
    }
    for (int64_t i = 0; i < v->batch; i++) {
        pcv_cost_item(v->m, &v->items[i], &a, &b);
        done = (struct pcv_cost){done.encode + a.encode, done.process + a.process,
                                 done.decode + a.decode};
        dense = (struct pcv_cost){dense.encode + b.encode, dense.process + b.process,
                                  dense.decode + b.decode};
    }
    printf("}, \"gmac\": {");
    print_costs("done", v->o.dense ? &dense : &done);
    printf(", ");
    print_costs("dense", &dense);
    getrusage(RUSAGE_SELF, &usage);
    printf("}, \"threads\": %d, \"peak_rss_mb\": %.1f}\n", pcv_pool_threads(v->pool),
           (double)usage.ru_maxrss / 1024);
}

static void release(struct eval *v)
{
    for (int64_t i = 0; v->inputs && i < v->batch; i++)
        pcv_input_free(v->inputs[i]);
    for (int t = 0; t < 64; t++)
        free(v->logits[t]);
    for (int t = 0; t < 64; t++)
        free(v->points[t]);
    for (int s = 0; s < STAGES; s++)
        free(v->ms[s]);
    free(v->inputs);
    free(v->items);
    free(v->queries);
    free(v->encoded);
    free(v->latents);
    free(v->adapted);
    pcv_ws_free(v->ws);
    pcv_safetensors_close(v->in);
    pcv_model_close(v->m);
    pcv_pool_free(v->pool);
}

int ctl_eval(int argc, char **argv)
{
    struct eval v = {.o = {.repeat = 1}};
    const struct ctl_option options[] = {
        {.name = "stages",
         .doc = "write the adapted inputs and the latents too",
         .flag = &v.o.stages},
        {.name = "dense", .doc = "compute the plain way", .flag = &v.o.dense},
        {.name = "threads",
         .value = "N",
         .doc = "default: what the process may use",
         .number = &v.o.threads,
         .min = 1,
         .max = 256},
        {.name = "repeat",
         .value = "N",
         .doc = "times to run it, for the timing",
         .number = &v.o.repeat,
         .min = 1,
         .max = 100000},
        {0},
    };
    const struct ctl_usage usage = {
        "MODEL_DIR IN.safetensors OUT.safetensors", 3, 3,
        "Runs one forward on tensors from a file, writes logits to another, and prints\n"
        "times and multiply-adds as one line of JSON.",
        options};
    const int n = ctl_parse(&usage, argc, argv);
    struct pcv_err e;
    int r;

    if (n < 0)
        return ~n;
    v.o.model = argv[1];
    v.o.in = argv[2];
    v.o.out = argv[3];
    r = load(&v, &e);
    if (r == 0)
        r = run(&v, &e);
    if (r == 0)
        r = write_results(&v, &e);
    if (r == 0)
        print_report(&v);
    release(&v);
    return r < 0 ? ctl_fail(&e) : 0;
}
