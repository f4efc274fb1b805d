#include "layer.h"
#include "mnist_dist/logical.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t mnd_shape_size(const mnd_shape *shape) {
    size_t size = 1;
    for (int i = 0; i < shape->ndim; i++) size *= (size_t)shape->dim[i];
    return size;
}

extern const mnd_layer_ops mnd_layer_conv, mnd_layer_maxpool, mnd_layer_avgpool, mnd_layer_flatten,
    mnd_layer_dropout, mnd_layer_relu, mnd_layer_sigmoid, mnd_layer_tanh;

/* A new kind of layer is one new file and one row here. */
static const mnd_layer_ops *const kinds[] = {
    &mnd_layer_dense,   &mnd_layer_conv, &mnd_layer_maxpool, &mnd_layer_avgpool, &mnd_layer_flatten,
    &mnd_layer_dropout, &mnd_layer_relu, &mnd_layer_sigmoid, &mnd_layer_tanh,
};

const mnd_layer_ops *mnd_layer_find(const char *kind) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i]->kind, kind) == 0) return kinds[i];
    return NULL;
}

mnd_status mnd_layer_fail(const mnd_layer *layer, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return mnd_fail(MND_USAGE, "model, layer %d (%s): %s", layer->index + 1, layer->text, text);
}

/* A whole number in [1, 2^20] that ends at *end. */
static bool positive(const char *text, const char **end, int *out) {
    if (*text < '0' || *text > '9') return false;
    char *stop = NULL;
    errno = 0;
    const long value = strtol(text, &stop, 10);
    if (errno != 0 || value < 1 || value > 1 << 20) return false;
    *out = (int)value;
    *end = stop;
    return true;
}

mnd_status mnd_layer_int(const mnd_layer *layer, int i, const char *what, int *out) {
    const char *end = "";
    if (i >= layer->n_arg) return mnd_layer_fail(layer, "the %s is missing", what);
    if (!positive(layer->arg[i], &end, out) || *end != '\0')
        return mnd_layer_fail(layer, "the %s must be a whole number from 1 to 1048576, not '%s'",
                              what, layer->arg[i]);
    return MND_OK;
}

mnd_status mnd_layer_window(const mnd_layer *layer, int i, int *stride, bool *same) {
    bool strided = false, padded = false;
    for (; i < layer->n_arg; i++) {
        const char *word = layer->arg[i], *end = "";
        bool *seen = &strided;
        if (same != NULL && (strcmp(word, "same") == 0 || strcmp(word, "valid") == 0)) {
            *same = word[0] == 's';
            seen = &padded;
        } else if (word[0] != 's' || !positive(word + 1, &end, stride) || *end != '\0') {
            return mnd_layer_fail(layer, "'%s' is neither a stride (s2)%s", word,
                                  same != NULL ? " nor a padding (same, valid)" : "");
        }
        if (*seen) return mnd_layer_fail(layer, "'%s' is one too many", word);
        *seen = true;
    }
    return MND_OK;
}

void mnd_layer_params(mnd_layer *layer, int ndim, const int64_t *dim, int64_t bias) {
    size_t count = 1;
    mnd_param_info *kernel = &layer->array[0];
    *kernel = (mnd_param_info){
        .layer = layer->index, .kind = layer->ops->kind, .name = "kernel", .ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        kernel->dim[i] = dim[i];
        count *= (size_t)dim[i];
    }
    kernel->count = count;
    layer->array[1] = (mnd_param_info){.layer = layer->index,
                                       .kind = layer->ops->kind,
                                       .name = "bias",
                                       .ndim = 1,
                                       .dim = {bias},
                                       .offset = count,
                                       .count = (size_t)bias};
    layer->n_array = 2;
    layer->n_param = count + (size_t)bias;
    layer->pieces = layer->cut = layer->share_halves = 1;
}

int mnd_rows_before(const mnd_team *team, int p) {
    return team->start[mnd_logical_first(team->peers->logical, team->peers->count, p)];
}

float *mnd_of_peer(const mnd_team *team, int p, const float *mine) {
    const ptrdiff_t at = (const char *)mine - team->memory[team->peers->rank];
    return (float *)(void *)(team->memory[p] + at);
}

void mnd_team_meet(mnd_team *team) {
    if (!team->met) team->meet(team->context);
    team->met = true;
}
