/*
 * fuse.c - the combinations of layers that fast kernels compute in one. A combination gives the
 * bits of the layers that it replaces, and has their arrays.
 */
#include <string.h>

#include "layer_kinds.h"
#include "model_impl.h"

/* Longest first. A word is a kind or a whole layer. `first`: only as the first layer with arrays,
   because the combination has no input gradient. */
static const struct {
    const char *word[3];
    const mnd_layer_ops *ops;
    bool first;
} pattern[] = {
    {{"conv", "relu", "maxpool:2"}, &mnd_layer_convpool_relu, true},
    {{"conv", "maxpool:2", NULL}, &mnd_layer_convpool, true},
    {{"conv", "relu", NULL}, &mnd_layer_conv_relu, false},
    {{"dense", "relu", NULL}, &mnd_layer_dense_relu, false},
    {{"batchnorm", "relu", NULL}, &mnd_layer_batchnorm_relu, false},
};
enum { N_PATTERN = sizeof pattern / sizeof pattern[0], LONGEST = 3 };

/* How many layers from `at` on the pattern matches; 0: it does not. */
static int match(const mnd_model *model, int at, const char *const word[LONGEST]) {
    int n = 0;
    for (; n < LONGEST && word[n] != NULL; n++) {
        if (at + n >= model->n_layer) return 0;
        const mnd_layer *l = &model->layer[at + n];
        if (strcmp(word[n], l->ops->kind) != 0 && strcmp(word[n], l->text) != 0) return 0;
    }
    return n;
}

/* Replaces layers [at, at + n) by one, planned as the first of them. */
static mnd_status replace(mnd_model *model, int at, int n, const mnd_layer_ops *ops,
                          const mnd_plan *plan) {
    mnd_layer *const first = &model->layer[at];
    mnd_layer fused = {.ops = ops, .index = first->index, .args = first->args, .in = first->in};
    memcpy(fused.text, first->text, sizeof fused.text);
    const mnd_status status = mnd_layer_plan(&fused, plan);
    if (status != MND_OK) {
        mnd_free(fused.self);
        return status;
    }
    for (int i = 0; i < n; i++) mnd_free(first[i].self);
    *first = fused;
    memmove(first + 1, first + n, (size_t)(model->n_layer - at - n) * sizeof *first);
    model->n_layer -= n - 1;
    return MND_OK;
}

mnd_status mnd_fuse(mnd_model *model, const mnd_plan *plan) {
    bool first = true;
    for (int i = 0; i < model->n_layer; i++) {
        for (int p = 0; p < N_PATTERN; p++) {
            const int n = match(model, i, pattern[p].word);
            if (n == 0 || (pattern[p].first && !first)) continue;
            const mnd_status status = replace(model, i, n, pattern[p].ops, plan);
            if (status == MND_OK) break;
            if (status != MND_UNSUPPORTED) return status; /* else the next pattern */
        }
        first = first && model->layer[i].n_array == 0;
    }
    return MND_OK;
}
