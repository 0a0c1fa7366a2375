/* respelt.h - golden models whose configuration is changed before they are opened: what contradicts
 * the tensors must be refused, with both named. */
#ifndef RESPELT_H
#define RESPELT_H

#include "lib/perceiver.h"
#include "tests/unit/check.h"

#include <jansson.h>
#include <unistd.h>

static char respelt_dir[] = "/tmp/perceiver_layout.XXXXXX";
static struct pcv_err e;

static const char *respelt_path(const char *file)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", respelt_dir, file);
    return path;
}

static inline int respelt_setup(void **state)
{
    (void)state;
    return mkdtemp(respelt_dir) ? 0 : -1;
}

static inline int respelt_teardown(void **state)
{
    static const char *const files[] = {"config.json", "preprocessor_config.json",
                                        "model.safetensors"};

    (void)state;
    for (size_t i = 0; i < LEN(files); i++)
        unlink(respelt_path(files[i]));
    return rmdir(respelt_dir);
}

static inline void respelt_write(const char *file, const char *text)
{
    FILE *f = fopen(respelt_path(file), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Opens golden model `name` with the keys of `change` (JSON; objects are merged, null is absent).
 */
static inline int respelt_open(struct pcv_model **m, const char *name, const char *change)
{
    char golden[160], weights[256], here[128];
    json_t *config, *changes = json_loads(change, 0, NULL);
    char *text;

    snprintf(golden, sizeof(golden), "tests/golden/%s/config.json", name);
    config = json_load_file(golden, 0, NULL);
    assert_true(config && changes && getcwd(here, sizeof(here)));
    assert_int_equal(json_object_update_recursive(config, changes), 0);
    text = json_dumps(config, 0);
    respelt_write("config.json", text);
    free(text);
    json_decref(config);
    json_decref(changes);
    snprintf(weights, sizeof(weights), "%s/build/golden/%s/model.safetensors", here, name);
    unlink(respelt_path("model.safetensors"));
    assert_int_equal(symlink(weights, respelt_path("model.safetensors")), 0);
    return pcv_model_open(m, respelt_dir, NULL, &e);
}

struct respelt {
    const char *model, *change;
    int code;
    const char *where, *message; /* parts of them */
};

static inline void respelt_refused(const struct respelt *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pcv_model *m = NULL;
        const int r = respelt_open(&m, c[i].model, c[i].change);

        if (r != c[i].code || !strstr(e.where, c[i].where) || !strstr(e.msg, c[i].message))
            fail_msg("%s, %s: %s at \"%s\": %s; want %s at \"%s\": %s", c[i].model, c[i].change,
                     pcv_code_name(r), e.where, e.msg, pcv_code_name(c[i].code), c[i].where,
                     c[i].message);
        assert_null(m);
    }
}

#endif
