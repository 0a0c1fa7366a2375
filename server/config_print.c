/* config_print.c - a configuration as a file that reads back the same. */
#include "server/config.h"

#include <string.h>

static void print_value(FILE *out, const struct srv_option *o, const void *base, bool set)
{
    char text[8192];
    srv_option_text(o, base, text, sizeof text);
    fprintf(out, "%s%s =%s%s\n", set ? "" : "# ", o->key, *text ? " " : "", text);
}

static void print_row(FILE *out, const struct srv_option *o, const void *base, bool set)
{
    char variable[64], flag[64], how[256];
    fputc('\n', out);
    srv_wrap(out, "# ", o->doc);
    snprintf(how, sizeof how, "(--%s, %s)", srv_option_flag(o, flag, sizeof flag),
             srv_option_variable(o, variable, sizeof variable));
    srv_wrap(out, "# ", how);
    print_value(out, o, base, set);
}

/* Only what this model sets itself. */
static void print_model(FILE *out, const struct srv_model_config *m)
{
    fprintf(out, "\n[model %s]\n", m->name);
    for (int i = 0; i < srv_noptions; i++)
        if (srv_options[i].per_model && m->source[i])
            print_value(out, &srv_options[i], m, true);
}

void srv_config_print(const struct srv_config *c, FILE *out)
{
    const char *section = "";
    fprintf(out, "# perceiverd.conf - printed by perceiverd --print-config.\n"
                 "#\n"
                 "# Values here give way to the environment, and that to the command line.\n"
                 "# What is commented out has its default value.\n");
    for (int i = 0; i < srv_noptions; i++) {
        const struct srv_option *o = &srv_options[i];
        if (strcmp(section, o->section)) {
            section = o->section;
            fprintf(out, "\n[%s]\n", section);
            if (o->per_model)
                fprintf(out, "# For all models; a section [model NAME] sets them for one.\n");
        }
        if (o->per_model && !strcmp(o->key, "path"))
            continue;
        static const struct srv_config no_models; /* they have sections of their own below */
        bool models = !o->per_model && !strcmp(o->key, "model");
        const void *base = o->per_model ? (const void *)&c->model_defaults
                                        : (const void *)(models ? &no_models : c);
        uint8_t source = o->per_model ? c->model_defaults.source[i] : c->source[i];
        print_row(out, o, base, source && !models);
    }
    if (!c->nmodels)
        fprintf(out, "\n# [model NAME]\n# path = DIRECTORY\n");
    for (int i = 0; i < c->nmodels; i++)
        print_model(out, &c->models[i]);
}
