/* public_header.c - a program of somebody else's: it has the installed header and library, and
 * nothing of the tree. public_header.py compiles and runs it. */
#include <perceiver.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    const float logits[3] = {0, 2, 1};
    struct pcv_score top[2];
    struct pcv_model *model = NULL;
    struct pcv_safetensors *file = NULL;
    struct pcv_err e;

    if (pcv_model_open(&model, "no/such/model", NULL, &e) == 0 || model ||
        !strstr(e.where, "no/such"))
        return 1;
    if (pcv_safetensors_open(&file, "no/such/file", &e) != PCV_EIO || file)
        return 2;
    if (pcv_top_k(logits, 3, 2, top) != 2 || top[0].index != 1 || top[1].index != 2)
        return 3;
    printf("%s %s %s\n", pcv_version(), pcv_isa(), pcv_code_name(e.code));
    return 0;
}
