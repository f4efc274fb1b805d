/* spec.c - from the one-line spec of a model to a list of layers. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "layer_kinds.h"
#include "model_impl.h"

static const struct {
    const char *name, *body; /* without the last dense layer */
} presets[] = {
    {"mlp16", "flatten,dense:16,relu,dense:16,relu"},
    {"mlp512", "flatten,dense:512,relu,dense:512,relu"},
    {"cnn", "conv:28:3,maxpool:2,flatten,dense:128,relu,dropout:0.2"},
    {"cnn2", "conv:16:3,relu,maxpool:2,conv:32:3,relu,maxpool:2,flatten,dropout:0.2,dense:128,relu,"
             "dropout:0.3"},
};

mnd_status mnd_model_spec(const char *name_or_spec, int classes, char *out, size_t size) {
    int n = -1;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(presets[i].name, name_or_spec) == 0)
            n = snprintf(out, size, "%s,dense:%d", presets[i].body, classes);
    if (n < 0) n = snprintf(out, size, "%s", name_or_spec);
    if (n < 0 || (size_t)n >= size)
        return mnd_fail(MND_USAGE, "the model spec is longer than %zu characters", size - 1);
    return MND_OK;
}

/* Splits "conv:28:3" into its kind and its arguments. */
static mnd_status split_words(mnd_layer *layer, char kind[MND_LAYER_WORD]) {
    const char *p = layer->text;
    for (int i = -1;; i++) {
        const size_t length = strcspn(p, ":");
        char *to = i < 0 ? kind : layer->args.word[i];
        if (length >= MND_LAYER_WORD) return mnd_layer_fail(layer, "a word in it is too long");
        memcpy(to, p, length);
        to[length] = '\0';
        layer->args.n = i + 1;
        if (p[length] == '\0') return MND_OK;
        if (i + 1 == MND_LAYER_ARGS) return mnd_layer_fail(layer, "it has too many arguments");
        p += length + 1;
    }
}

static mnd_status parse_layer(mnd_layer *layer, const char *text, size_t length) {
    if (length == 0 || length >= MND_LAYER_TEXT)
        return mnd_fail(MND_USAGE, "model, layer %d: it is %s", layer->index + 1,
                        length == 0 ? "empty" : "too long");
    memcpy(layer->text, text, length);
    layer->text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)text[i]))
            return mnd_fail(MND_USAGE, "model, layer %d: it holds a blank or control character",
                            layer->index + 1);
    char kind[MND_LAYER_WORD];
    const mnd_status status = split_words(layer, kind);
    if (status != MND_OK) return status;
    layer->ops = mnd_layer_find(kind);
    return layer->ops != NULL ? MND_OK : mnd_layer_unknown(layer, kind);
}

mnd_status mnd_spec_parse(mnd_model *model) {
    int n = 1;
    for (const char *p = model->text; *p != '\0'; p++) n += *p == ',';
    if (n > MND_MAX_LAYERS)
        return mnd_fail(MND_USAGE, "the model has %d layers; at most %d are possible", n,
                        MND_MAX_LAYERS);
    void *layers;
    mnd_status status = mnd_alloc(&layers, (size_t)n, sizeof(mnd_layer), "layers");
    if (status != MND_OK) return status;
    model->layer = layers;
    model->n_layer = n;
    const char *p = model->text;
    for (int i = 0; i < n; i++) {
        const size_t length = strcspn(p, ",");
        model->layer[i].index = i;
        status = parse_layer(&model->layer[i], p, length);
        if (status != MND_OK) return status;
        p += length + 1;
    }
    return MND_OK;
}
