/* routes_latents.c - latents that are kept under a handle: asked, described, taken out, brought in.
 */
#include "server/routes_internal.h"

#include "proto/wire_decode.h"
#include "server/clock.h"
#include "server/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char tensor_name[] = "latents";

static void fail(struct srv_exchange *x, int status, const struct pcv_err *e, double retry_s)
{
    srv_answer_error(x, status, status == 409 ? "conflict" : srv_status_code(status), e, retry_s);
}

/* ---- handles -----------------------------------------------------------------------------------
 */

static bool is_served(const struct srv_registry *r, uint32_t print)
{
    for (int i = 0; i < r->n; i++)
        if (r->models[i].info && srv_handle_print(r->models[i].info->fingerprint) == print)
            return true;
    return false;
}

static bool all_loaded(const struct srv_registry *r)
{
    for (int i = 0; i < r->n; i++)
        if (!r->models[i].info)
            return false;
    return true;
}

/* What the path names, or NULL when it was answered. */
static const struct srv_entry *entry_of(struct srv_routes *s, struct srv_exchange *x,
                                        const struct srv_match *m)
{
    struct pcv_err e;
    uint32_t print;
    int status = 404;
    const struct srv_entry *entry =
        srv_store_handle(srv_flow_store(s->flow), m->id, m->id_len, srv_now_ns());
    if (entry)
        return entry;
    if (!srv_handle_read(m->id, m->id_len, &print) || is_served(s->registry, print)) {
        pcv_fail(&e, PCV_EUNKNOWN, "no latents are kept under this handle, or not any more");
    } else if (!all_loaded(s->registry)) {
        pcv_fail(&e, PCV_EIO, "models are being loaded");
        status = 503;
    } else {
        pcv_fail(&e, PCV_EFORMAT, "these latents were made by another version of the model");
        status = 409;
    }
    pcv_err_at(&e, "%.200s", srv_exchange_path(x));
    fail(x, status, &e, status == 503 ? (double)s->config->server_retry_after / 1e3 : 0);
    return NULL;
}

void srv_latents_query(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    const struct srv_entry *entry = entry_of(s, x, m);
    if (entry)
        srv_flow_ask(s->flow, x, &s->registry->models[entry->kept->model], entry->kept);
}

void srv_latents_delete(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    const struct srv_entry *entry = entry_of(s, x, m);
    if (!entry)
        return;
    srv_store_delete(srv_flow_store(s->flow), entry);
    srv_http_reply(x, 204, NULL, NULL, 0, NULL, 0);
}

/* ---- descriptions ------------------------------------------------------------------------------
 */

/* Tasks that can be asked of latents: tasks has room for all of the model's, and two more. */
static int tasks_of(const struct srv_model *m, const struct pcv_latents *l, const char **tasks)
{
    const struct pcv_input *in = pcv_latents_input(l);
    bool embed = false;
    int n = 0;
    for (int t = 0; t < m->info->ntasks; t++) {
        struct pcv_query all = {.task = t};
        struct pcv_err e;
        if (!(m->info->tasks[t].inputs >> pcv_latents_which(l) & 1) ||
            pcv_query_check(m->engine, in, &all, &e))
            continue;
        tasks[n++] = m->info->tasks[t].name;
        embed |= !strcmp(m->info->tasks[t].name, "embed");
    }
    if (!embed)
        tasks[n++] = "embed";
    if (in)
        tasks[n++] = "attention";
    return n;
}

/* own: free(). NULL without memory. */
static char *describe(const struct srv_model *m, const struct srv_entry *entry)
{
    const uint64_t now = srv_now_ns();
    const struct pcv_latents *l = entry->kept->latents;
    const char **tasks = calloc((size_t)m->info->ntasks + 2, sizeof *tasks);
    struct wire_latents_desc d = {
        .handle = entry->handle,
        .model = m->name,
        .version = SRV_MODEL_VERSION,
        .input = m->info->inputs[pcv_latents_which(l)].name,
        .num_latents = m->info->num_latents,
        .d_latents = m->info->d_latents,
        .age_s = (double)(now - entry->made_ns) / 1e9,
        .expires_s = entry->expires_ns > now ? (double)(entry->expires_ns - now) / 1e9 : 0,
        .bytes = (int64_t)entry->kept->bytes,
        .has_input = pcv_latents_input(l) != NULL,
        .tasks = tasks,
    };
    if (!tasks)
        return NULL;
    d.ntasks = tasks_of(m, l, tasks);
    char *json = wire_latents_json(&d);
    free(tasks);
    return json;
}

void srv_latents_get(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    const struct srv_entry *entry = entry_of(s, x, m);
    if (entry)
        srv_answer_json(x, 200, describe(&s->registry->models[entry->kept->model], entry));
}

/* ---- files -------------------------------------------------------------------------------------
 */

void srv_latents_tensor(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    const struct srv_entry *entry = entry_of(s, x, m);
    struct pcv_err e;
    void *file;
    size_t len;
    char print[20];
    if (!entry)
        return;
    const struct srv_model *model = &s->registry->models[entry->kept->model];
    const struct pcv_latents *l = entry->kept->latents;
    snprintf(print, sizeof print, "%016llx", (unsigned long long)model->info->fingerprint);
    const struct pcv_note notes[] = {
        {"fingerprint", print},
        {"input", model->info->inputs[pcv_latents_which(l)].name},
        {"model", model->name},
    };
    const struct pcv_tensor t = {.name = tensor_name,
                                 .dtype = PCV_F32,
                                 .ndim = 2,
                                 .shape = {model->info->num_latents, model->info->d_latents},
                                 .data = pcv_latents_numbers(l),
                                 .nbytes = (size_t)model->info->num_latents *
                                           (size_t)model->info->d_latents * sizeof(float)};
    if (pcv_safetensors_encode(&file, &len, &t, 1, notes, 3, &e)) {
        fail(x, wire_status(e.code), &e, 0);
        return;
    }
    srv_http_reply(x, 200, "application/octet-stream", file, len, NULL, 0);
}

/* What a request to bring in latents says beside them. */
struct import {
    const struct srv_model *model;
    const char *input; /* NULL: not said */
    uint64_t keep_ms;
};

static int import_args(struct import *im, const struct srv_exchange *x, const struct srv_config *c,
                       struct pcv_err *e)
{
    im->keep_ms = (uint64_t)c->latents_ttl;
    for (int i = 0; i < srv_exchange_nargs(x); i++) {
        const char *name, *value;
        srv_exchange_arg(x, i, &name, &value);
        if (!strcmp(name, "input") && value) {
            im->input = value;
        } else if (!strcmp(name, "keep") && value) {
            if (wire_keep_of(value, strlen(value), &im->keep_ms, e))
                return pcv_err_at(e, "?keep");
        } else {
            pcv_fail(e, PCV_EFORMAT, "it takes input and keep");
            return pcv_err_at(e, "?%.64s", name);
        }
    }
    if (im->keep_ms <= (uint64_t)c->latents_max_keep)
        return 0;
    pcv_fail(e, PCV_ERANGE, "%.3f s are more than the %.3f s that latents are kept",
             (double)im->keep_ms / 1e3, (double)c->latents_max_keep / 1e3);
    return pcv_err_at(e, "?keep");
}

/* Index of the input that they were made of, or PCV_E*. */
static int import_which(const struct import *im, const struct pcv_safetensors *f, struct pcv_err *e)
{
    const struct pcv_model_info *info = im->model->info;
    const char *noted = pcv_safetensors_note(f, "input");
    const char *name = im->input ? im->input : noted;
    if (im->input && noted && strcmp(im->input, noted) != 0) {
        pcv_fail(e, PCV_EFORMAT, "the file says that they were made of input %.64s", noted);
        return pcv_err_at(e, "?input");
    }
    for (int i = 0; name && i < info->ninputs; i++)
        if (!strcmp(info->inputs[i].name, name))
            return info->together ? 0 : i;
    if (name)
        pcv_fail(e, PCV_EFORMAT, "the model has no input \"%.64s\"", name);
    else if (info->ninputs == 1 || info->together)
        return 0;
    else
        pcv_fail(e, PCV_EMISSING, "which of the model's inputs they were made of is not said");
    return pcv_err_at(e, "?input");
}

/* The numbers, checked. borrow: from f */
static int import_tensor(const struct import *im, const struct pcv_safetensors *f,
                         const struct pcv_tensor **ret, struct pcv_err *e)
{
    const struct pcv_model_info *info = im->model->info;
    const struct pcv_tensor *t = pcv_safetensors_find(f, tensor_name);
    char shape[96];
    if (!t)
        pcv_fail(e, PCV_EMISSING, "the file has no tensor of this name");
    else if (t->dtype != PCV_F32)
        pcv_fail(e, PCV_EFORMAT, "%s, and F32 is taken", pcv_dtype_name(t->dtype));
    else if (t->ndim != 2 || t->shape[0] != info->num_latents || t->shape[1] != info->d_latents)
        pcv_fail(e, PCV_ESHAPE, "shape %s, and the model's latents are [%d,%d]",
                 pcv_shape_text(t->shape, t->ndim, shape, sizeof shape), info->num_latents,
                 info->d_latents);
    else {
        *ret = t;
        return 0;
    }
    return pcv_err_at(e, "%s", tensor_name);
}

static bool is_foreign(const struct import *im, const struct pcv_safetensors *f)
{
    char print[20];
    const char *noted = pcv_safetensors_note(f, "fingerprint");
    snprintf(print, sizeof print, "%016llx", (unsigned long long)im->model->info->fingerprint);
    return noted && strcmp(noted, print) != 0;
}

/* Latents of a file, with one reference. Copied first: numbers in a file may lie at any byte. */
static int import_kept(const struct import *im, const struct pcv_safetensors *f,
                       struct srv_kept **ret, struct pcv_err *e)
{
    const struct pcv_tensor *t = NULL;
    struct pcv_latents *l = NULL;
    int which = import_which(im, f, e);
    if (which < 0)
        return which;
    if (import_tensor(im, f, &t, e))
        return e->code;
    float *numbers = malloc(t->nbytes);
    if (!numbers)
        return pcv_fail(e, PCV_ENOMEM, "no memory for latents");
    memcpy(numbers, t->data, t->nbytes);
    int code = pcv_latents_import(&l, im->model->engine, which, numbers, e);
    free(numbers);
    if (code)
        return pcv_err_at(e, "%s", tensor_name);
    *ret = srv_kept_new(l, im->model->index);
    if (!*ret)
        return pcv_fail(e, PCV_ENOMEM, "no memory for latents");
    (*ret)->bytes = pcv_latents_bytes(l);
    return 0;
}

/* Into the store, and out with the handle. k: the caller's reference stays. */
static void import_keep(struct srv_routes *s, struct srv_exchange *x, const struct import *im,
                        struct srv_kept *k)
{
    const uint64_t now = srv_now_ns();
    const struct srv_entry *entry;
    struct pcv_err e;
    if (srv_store_keep(srv_flow_store(s->flow), k, im->model->info->fingerprint, now,
                       now + im->keep_ms * 1000000, &entry, &e)) {
        fail(x, wire_status(e.code), &e, 0);
        return;
    }
    srv_answer_json(x, 201, describe(im->model, entry));
}

void srv_latents_import(struct srv_routes *s, struct srv_exchange *x, const struct srv_match *m)
{
    struct import im = {.model = srv_route_model(s, x, m)};
    struct pcv_safetensors *f = NULL;
    struct srv_kept *k = NULL;
    struct pcv_err e;
    size_t len;
    const void *body = srv_exchange_body(x, &len);
    if (!im.model || !srv_route_ready(s, x, im.model))
        return;
    int code = import_args(&im, x, s->config, &e);
    if (!code && (code = pcv_safetensors_parse(&f, body ? body : "", len, &e)))
        pcv_err_at(&e, "body");
    if (!code && is_foreign(&im, f)) {
        pcv_fail(&e, PCV_EFORMAT,
                 "these latents were made by another model, or another version "
                 "of it");
        pcv_err_at(&e, "__metadata__.fingerprint");
        fail(x, 409, &e, 0);
    } else if (code || (code = import_kept(&im, f, &k, &e))) {
        srv_answer_error(x, wire_status(code), pcv_code_name(code), &e, 0);
    } else {
        import_keep(s, x, &im, k);
    }
    srv_kept_release(k);
    pcv_safetensors_close(f);
}
