/* layer.c - the table of kinds, and what their plans have in common. */
#include "mnist_dist/layer.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/registry.h"
#include "model_impl.h"

/* A new kind of layer is one new file and one row here. */
static const void *const kinds[] = {
    &mnd_layer_dense,         &mnd_layer_conv,      &mnd_layer_maxpool, &mnd_layer_avgpool,
    &mnd_layer_globalavgpool, &mnd_layer_flatten,   &mnd_layer_dropout, &mnd_layer_relu,
    &mnd_layer_leakyrelu,     &mnd_layer_sigmoid,   &mnd_layer_tanh,    &mnd_layer_lstm,
    &mnd_layer_residual,      &mnd_layer_batchnorm,
};
static mnd_registry registry = {
    .what = "layer", .n_built_in = sizeof kinds / sizeof kinds[0], .built_in = kinds};

const mnd_layer_ops *mnd_layer_find(const char *kind) { return mnd_registry_find(&registry, kind); }

mnd_status mnd_layer_register(const mnd_layer_ops *ops) { return mnd_registry_add(&registry, ops); }

mnd_status mnd_layer_unknown(const mnd_layer *layer, const char *kind) {
    char known[256];
    mnd_registry_names(&registry, " ", known, sizeof known);
    return mnd_layer_fail(
        layer, "'%s' is none of %s, nor is the model one of mlp16 mlp512 cnn cnn2", kind, known);
}

mnd_status mnd_layer_plan(mnd_layer *layer, const mnd_plan *plan) {
    if (layer->self == NULL && layer->ops->self_size > 0) {
        const mnd_status status = mnd_alloc(&layer->self, 1, layer->ops->self_size, "a layer");
        if (status != MND_OK) return status;
    }
    layer->n_array = layer->sum_values = layer->group_values = 0;
    layer->state_size = layer->scratch = 0;
    return layer->ops->plan(layer, plan);
}

size_t mnd_shape_size(const mnd_shape *shape) {
    size_t size = 1;
    for (int i = 0; i < shape->ndim; i++) size *= (size_t)shape->dim[i];
    return size;
}

mnd_status mnd_layer_fail(const mnd_layer *layer, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const size_t length = strlen(layer->text);
    const bool opens = length > 0 && layer->text[length - 1] == '(';
    return mnd_fail(MND_USAGE, "model, layer %d (%s%s): %s", layer->index + 1, layer->text,
                    opens ? "...)" : "", text);
}

mnd_status mnd_layer_args(const mnd_layer *layer, int n) {
    if (layer->args.n <= n) return MND_OK;
    if (n == 0) return mnd_layer_fail(layer, "takes no arguments");
    return mnd_layer_fail(layer, "'%s' is one argument too many: write %s", layer->args.word[n],
                          layer->ops->usage);
}

/* Reads a whole number in [1, 2^20], which ends at *end. */
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
    if (i >= layer->args.n)
        return mnd_layer_fail(layer, "the %s is missing: write %s", what, layer->ops->usage);
    if (!positive(layer->args.word[i], &end, out) || *end != '\0')
        return mnd_layer_fail(layer, "the %s must be a whole number from 1 to 1048576, not '%s'",
                              what, layer->args.word[i]);
    return MND_OK;
}

mnd_status mnd_layer_real(const mnd_layer *layer, int i, const char *what, double *out) {
    if (i >= layer->args.n)
        return mnd_layer_fail(layer, "the %s is missing: write %s", what, layer->ops->usage);
    char *end = NULL;
    *out = strtod(layer->args.word[i], &end);
    if (end == layer->args.word[i] || *end != '\0' || !isfinite(*out))
        return mnd_layer_fail(layer, "the %s must be a number, not '%s'", what,
                              layer->args.word[i]);
    return MND_OK;
}

mnd_status mnd_layer_window(const mnd_layer *layer, int i, int *stride, bool *same) {
    bool strided = false, padded = false;
    for (; i < layer->args.n; i++) {
        const char *word = layer->args.word[i], *end = "";
        bool *seen = &strided;
        if (same != NULL && (strcmp(word, "same") == 0 || strcmp(word, "valid") == 0)) {
            *same = word[0] == 's';
            seen = &padded;
        } else if (word[0] != 's' || !positive(word + 1, &end, stride) || *end != '\0') {
            return mnd_layer_fail(layer, "'%s' is not a stride (s2)%s", word,
                                  same != NULL ? " or a padding (same, valid)" : "");
        }
        if (*seen) return mnd_layer_fail(layer, "'%s' is one too many", word);
        *seen = true;
    }
    return MND_OK;
}

int mnd_layer_outputs(int in, int k, int stride, bool same, int *pad) {
    *pad = 0;
    if (!same) return (in - k) / stride + 1;
    const int out = (in + stride - 1) / stride, needed = (out - 1) * stride + k - in;
    if (needed > 0) *pad = needed / 2;
    return out;
}

void mnd_layer_params(mnd_layer *layer, int ndim, const int64_t *dim) {
    /* dim is (..., in, out); what is before them is a window, which counts for both fans. */
    int64_t window = 1;
    for (int i = 0; i < ndim - 2; i++) window *= dim[i];
    mnd_array *kernel = &layer->array[0], *bias = &layer->array[1];
    *kernel = (mnd_array){.name = "kernel",
                          .ndim = ndim,
                          .init = MND_INIT_GLOROT,
                          .fan_in = (int)(window * dim[ndim - 2]),
                          .fan_out = (int)(window * dim[ndim - 1])};
    memcpy(kernel->dim, dim, (size_t)ndim * sizeof *dim);
    *bias = (mnd_array){.name = "bias", .ndim = 1, .dim = {dim[ndim - 1]}, .init = MND_INIT_ZEROS};
    layer->n_array = 2;
}
