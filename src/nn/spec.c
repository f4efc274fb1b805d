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

/* The length of the layer that the text begins with: "conv:8:3", "residual(" or ")". */
static size_t layer_length(const char *text) {
    if (text[0] == ')') return 1;
    const size_t length = strcspn(text, ",()");
    return length + (text[length] == '(');
}

/* Splits "conv:28:3" into its kind and its arguments. */
static mnd_status split_words(mnd_layer *layer, char kind[MND_LAYER_WORD]) {
    const char *p = layer->text;
    for (int i = -1;; i++) {
        const size_t length = strcspn(p, ":(");
        char *to = i < 0 ? kind : layer->args.word[i];
        if (length >= MND_LAYER_WORD) return mnd_layer_fail(layer, "a word in it is too long");
        memcpy(to, p, length);
        to[length] = '\0';
        layer->args.n = i + 1;
        if (p[length] != ':') return MND_OK;
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
    if (layer->ops == NULL) return mnd_layer_unknown(layer, kind);
    const bool opens = text[length - 1] == '(';
    if (opens && layer->ops->end == NULL) return mnd_layer_fail(layer, "it cannot enclose layers");
    if (!opens && layer->ops->end != NULL)
        return mnd_layer_fail(layer, "it encloses layers: write %s", layer->ops->usage);
    return MND_OK;
}

/* The layers that are open where the text is read, innermost last. */
typedef struct open_layers {
    int n;
    const mnd_layer *layer[MND_MAX_LAYERS];
} open_layers;

/* ")", which closes the innermost open layer. */
static mnd_status parse_end(mnd_layer *layer, open_layers *open) {
    strcpy(layer->text, ")");
    if (open->n == 0) return mnd_layer_fail(layer, "there is no '(' that it could close");
    const mnd_layer *begin = open->layer[--open->n];
    if (begin == layer - 1) return mnd_layer_fail(begin, "there is no layer in it");
    layer->ops = begin->ops->end;
    return MND_OK;
}

/* Layer by layer. Each but the last is followed by a comma, by ")", or, if it opens, by a layer. */
static mnd_status parse_layers(mnd_model *model) {
    mnd_status status = MND_OK;
    open_layers open = {0};
    const char *p = model->text;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        l->index = i;
        if (*p == ')' && (p == model->text || p[-1] == ',')) MND_TRY(parse_layer(l, p, 0));
        if (*p == ')') MND_TRY(parse_end(l, &open));
        l->depth = open.n;
        const size_t length = layer_length(p);
        if (*p != ')') MND_TRY(parse_layer(l, p, length));
        p += length;
        if (l->ops->end != NULL) {
            open.layer[open.n++] = l;
            if (*p == '\0') break;
        } else if (*p == ',') {
            p++;
        } else if (*p != ')' && *p != '\0') {
            return mnd_layer_fail(l, "a ',' must follow it, not '%c'", *p);
        }
    }
    if (open.n > 0) return mnd_layer_fail(open.layer[open.n - 1], "its ')' is missing");
cleanup:
    return status;
}

mnd_status mnd_spec_parse(mnd_model *model) {
    int n = 1; /* "residual(" and ")" are two */
    for (const char *p = model->text; *p != '\0'; p++) n += *p == ',' || *p == '(' || *p == ')';
    if (n > MND_MAX_LAYERS)
        return mnd_fail(MND_USAGE, "the model has %d layers; at most %d are possible", n,
                        MND_MAX_LAYERS);
    void *layers;
    const mnd_status status = mnd_alloc(&layers, (size_t)n, sizeof(mnd_layer), "layers");
    if (status != MND_OK) return status;
    model->layer = layers;
    model->n_layer = n;
    return parse_layers(model);
}
