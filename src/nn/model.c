#include "mnist_dist/model.h"

#include <cblas.h>
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"
#include "parallel.h"

enum { SPEC_MAX = 1024, CLASSES_MAX = 256 /* labels are bytes */ };

struct mnd_model {
    char text[SPEC_MAX];
    mnd_layer *layer; /* (n_layer), owned */
    int n_layer, n_array;
    mnd_shape input;
    int classes;
    mnd_model_options options;
    const mnd_kernels *kernels;
    size_t n_param;
    int first_trained;   /* the first layer with parameters */
    int reach;           /* neighbours whose rows the input holds once memory is shared */
    int groups;          /* of processes that do the same part of products: as many as parts */
    float *param, *grad; /* borrowed */
    size_t grad_stride;
    mnd_arena arena;
    float *x;    /* (max_rows, input) */
    bool sends;  /* what others read next goes by mnd_send */
    float *d[2]; /* gradients of activations, in turn */
    mnd_work work[MND_MAX_THREADS];
    const float **seg_x, **seg_dy; /* two pointers for every segment of a product */
    float **seg_y;
    const uint8_t *const **seg_image;
    int *group;                  /* and where its rows begin */
    mnd_team team;               /* memory NULL: none */
    const uint8_t *const *image; /* of the current batch, borrowed */
};

/* ------------------------------------------------------------------------------------ the spec */

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

/* Splits "conv:28:3" into kind and arguments. */
static mnd_status parse_layer(mnd_layer *layer, const char *text, size_t length) {
    if (length == 0 || length >= MND_LAYER_TEXT)
        return mnd_fail(MND_USAGE, "model, layer %d: %s", layer->index + 1,
                        length == 0 ? "it is empty" : "it is too long");
    memcpy(layer->text, text, length);
    layer->text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)text[i]))
            return mnd_fail(MND_USAGE, "model, layer %d: it holds a blank or control character",
                            layer->index + 1);
    char kind[24];
    const char *p = layer->text;
    for (int i = -1;; i++) {
        const size_t word = strcspn(p, ":");
        char *to = i < 0 ? kind : layer->arg[i];
        if (word >= sizeof kind) return mnd_layer_fail(layer, "a word in it is too long");
        memcpy(to, p, word);
        to[word] = '\0';
        layer->n_arg = i + 1;
        if (p[word] == '\0') break;
        if (i + 1 == MND_LAYER_ARGS) return mnd_layer_fail(layer, "it has too many arguments");
        p += word + 1;
    }
    layer->ops = mnd_layer_find(kind);
    if (layer->ops == NULL)
        return mnd_layer_fail(layer,
                              "'%s' is none of dense conv maxpool avgpool flatten dropout relu "
                              "sigmoid tanh, nor is the model one of mlp16 mlp512 cnn cnn2",
                              kind);
    return MND_OK;
}

static mnd_status parse(mnd_model *model) {
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

/* ------------------------------------------------------------------------------------ planning */

/* Largest tensor of one sample, in elements, and most parameters, that counters stay safe with. */
enum { SIZE_LIMIT = 1 << 28 };

static mnd_status check_size(const mnd_layer *layer) {
    double size = 1.0;
    for (int i = 0; i < layer->out.ndim; i++) size *= (double)layer->out.dim[i];
    double params = 0.0;
    for (int a = 0; a < layer->n_array; a++) {
        double count = 1.0;
        for (int i = 0; i < layer->array[a].ndim; i++) count *= (double)layer->array[a].dim[i];
        params += count;
    }
    if (size > SIZE_LIMIT || params > SIZE_LIMIT)
        return mnd_layer_fail(layer, "it is too large (%.3g outputs, %.3g parameters)", size,
                              params);
    return MND_OK;
}

static mnd_status check_input(const mnd_shape *input) {
    double size = 1.0;
    bool fits = input->ndim == 1 || input->ndim == 3;
    for (int i = 0; fits && i < input->ndim; i++) {
        fits = input->dim[i] >= 1;
        size *= (double)input->dim[i];
    }
    if (fits && size <= SIZE_LIMIT) return MND_OK;
    return mnd_fail(MND_USAGE, "the model's input must have 1 or 3 dimensions and 1 to %d elements",
                    SIZE_LIMIT);
}

/*
 * Lets a layer's forward do the relu behind it, a dense layer's backward that before it, and conv
 * the pooling too.
 */
static void fuse(mnd_model *model) {
    if (model->options.plain) return;
    for (int i = 0; i + 1 < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i], *next = &model->layer[i + 1];
        if (l->n_array == 0) continue;
        if (strcmp(next->ops->kind, "relu") == 0) {
            l->relu = true;
            next->skip_forward = true;
            mnd_layer *const relu = next;
            next = i + 2 < model->n_layer ? &model->layer[i + 2] : NULL;
            if (next != NULL && next->ops == &mnd_layer_dense) relu->skip = next->masks = true;
        }
        const mnd_conv *g = &l->geometry;
        if (next == NULL || strcmp(l->ops->kind, "conv") != 0 || i != model->first_trained ||
            strcmp(next->ops->kind, "maxpool") != 0 || model->kernels->convpool_forward == NULL)
            continue;
        if (g->stride != 1 || g->h != l->in.dim[0] || g->w != l->in.dim[1] ||
            g->kh * g->kw * g->c > MND_CONVPOOL_TAPS || next->geometry.kh != 2 ||
            next->geometry.stride != 2)
            continue;
        l->ops = &mnd_layer_convpool;
        l->keeps = l->relu ? 1 : 0; /* backward asks where the relu let through */
        for (mnd_layer *skipped = l + 1; skipped <= next; skipped++) skipped->skip = true;
    }
}

static mnd_status plan(mnd_model *model, mnd_need *need) {
    mnd_shape shape = model->input;
    size_t offset = 0;
    const mnd_layer *behind = NULL;
    model->first_trained = -1;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        l->in = shape;
        l->behind = behind;
        mnd_status status = l->ops->plan(l, model->kernels, model->options.max_rows,
                                         model->options.max_seg, &need[i]);
        if (status == MND_OK) status = check_size(l);
        if (status != MND_OK) return status;
        for (int a = 0; a < l->n_array; a++) l->array[a].offset += offset;
        offset += l->n_param;
        if (l->n_array > 0) behind = l;
        if (l->n_array > 0 && model->first_trained < 0) model->first_trained = i;
        model->n_array += l->n_array;
        shape = l->out;
        if (offset > SIZE_LIMIT)
            return mnd_layer_fail(l, "the model has more than %d parameters", SIZE_LIMIT);
    }
    if (model->first_trained < 0)
        return mnd_fail(MND_USAGE, "the model has no layer with parameters");
    if (shape.ndim != 1 || shape.dim[0] != model->classes)
        return mnd_fail(MND_USAGE,
                        "the model's last layer (%s) gives %zu outputs%s; the data has %d classes: "
                        "end with dense:%d",
                        model->layer[model->n_layer - 1].text, mnd_shape_size(&shape),
                        shape.ndim == 3 ? " as an image" : "", model->classes, model->classes);
    model->n_param = offset;
    return MND_OK;
}

/*
 * Whether `c` neighbours save time by dealing out columns of a product (rows, n) of (rows, k): if
 * none of them does a tenth more than its share, and all read and write less of others' memory than
 * they save of the other factor (k, n).
 */
static bool worth_sharing(const mnd_peers *p, int c, int k, int n) {
    const double rows = (double)p->batch / p->count, panels = ceil((double)n / MND_PIECE);
    const double widest = ceil(ceil((double)n / c) / MND_PIECE);
    return p->count % c == 0 && widest * c <= 1.1 * panels &&
           (c - 1) * rows * (k + (double)n / c) < (double)k * n * (1.0 - 1.0 / c);
}

/* Whether the weights of a layer are cut into c pieces if any are. */
static bool worth_cutting(const mnd_peers *p, const mnd_layer *l, int c) {
    return l->owners && l->out.dim[0] % (c * MND_PIECE) == 0 &&
           worth_sharing(p, c, l->in.dim[0], l->out.dim[0]);
}

/* Whether c neighbours, which must be pairs, save time by dealing out the two sums of a layer's
 * outputs. */
static bool worth_halving(const mnd_peers *p, const mnd_layer *l, int c) {
    const double rows = (double)p->batch / p->count, k = l->in.dim[0], n = l->out.dim[0];
    return c == 2 && l->owners && l->half > 0 && p->count % 2 == 0 &&
           rows * (k / 2 + n) < k / 2 * n;
}

/* Into how many parts the weights of a layer are cut if c neighbours deal them out: of columns, or
 * of inputs where its outputs have two sums. */
static int parts_of(const mnd_peers *p, const mnd_layer *l, int c) {
    if (worth_halving(p, l, c)) return 2;
    return worth_cutting(p, l, c) ? c : 1;
}

/* Into how many it is cut once memory is shared. */
static int n_parts(const mnd_layer *l) { return l->cut * l->share_halves; }

/* Parameters of a part of a layer. */
static size_t part_count(const mnd_layer *l, int part) {
    if (l->share_halves == 1) return l->n_param / (size_t)l->cut;
    const size_t first = (size_t)l->half * (size_t)l->out.dim[0];
    return part == 0 ? first : l->n_param - first;
}

/* Whether a layer reads what another one left behind as it was, but for what that did itself. */
static bool untouched(const mnd_layer *from, const mnd_layer *to) {
    for (const mnd_layer *between = from + 1; between < to; between++)
        if (!between->skip && !between->skip_forward) return false;
    return true;
}

/* Whether no layer between works on what is between, in either direction. */
static bool adjacent(const mnd_layer *from, const mnd_layer *to) {
    for (const mnd_layer *between = from + 1; between < to; between++)
        if (!between->skip) return false;
    return true;
}

/* See mnd_layer.split. It decides about bits, so it hangs on nothing but the layers. */
static void choose_split(mnd_model *model) {
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        if (l->half == 0 || l->behind == NULL || l->behind->ops != &mnd_layer_convpool ||
            !untouched(l->behind, l) || l->half % l->behind->geometry.n != 0)
            continue;
        model->layer[l->behind->index].split = l->half / l->behind->geometry.n;
    }
}

/* Whether the model's input is what its first layer with parameters reads. */
static void choose_reads_input(mnd_model *model) {
    mnd_layer *l = model->layer;
    while (l->skip) l++;
    l->reads_input = l == &model->layer[model->first_trained];
}

/*
 * Where the inputs of the half that a process does are what it did itself of the layer before, it
 * need not wait for others. A convolution is dealt out with it if the model's input can be.
 */
static void choose_reads_own(mnd_model *model, mnd_layer *l) {
    if (l->share_halves == 1 || l->behind == NULL || !untouched(l->behind, l)) return;
    mnd_layer *const behind = &model->layer[l->behind->index];
    const mnd_peers *p = &model->options.peers;
    if (behind->cut == 2 && 2 * l->half == behind->out.dim[0]) {
        l->reads_own = behind->read_by_writers = true;
        /* Nobody else wants dy, either, where there is no dx of it and no relu of its own. */
        l->x_apart = behind == &model->layer[model->first_trained] && adjacent(behind, l) &&
                     l->share_dx % 2 == 0;
    } else if (behind->split > 0 && behind->reads_input &&
               (double)p->logical * (double)behind->n_param <= (double)p->batch * l->in.dim[0]) {
        /* Else the sums of the logical ranks would be more than what need not cross. */
        l->reads_own = true;
        behind->share_split = l->share_dx = model->reach = 2;
        l->x_apart = true;
    }
    behind->y_apart = l->x_apart;
}

/* Cuts as much of the weights of owned layers into parts as pays, all into as many. */
static void choose_parts(mnd_model *model) {
    const mnd_peers *p = &model->options.peers;
    size_t most = 0;
    for (int c = 2; c <= p->count; c++) {
        size_t weights = 0;
        int ranges = model->n_layer;
        for (int i = 0; i < model->n_layer; i++) {
            if (parts_of(p, &model->layer[i], c) == 1) continue;
            weights += model->layer[i].array[0].count;
            ranges += c;
        }
        if (weights == 0 || weights < most || ranges > MND_MAX_LAYERS) continue;
        most = weights;
        model->groups = c;
    }
    /* All layers' first parts, then their second ones and so on, then everything else. */
    size_t at = 0;
    for (int part = 0; part < model->groups; part++)
        for (int i = 0; i < model->n_layer; i++) {
            mnd_layer *l = &model->layer[i];
            if (model->groups == 1 || parts_of(p, l, model->groups) == 1) continue;
            if (worth_halving(p, l, model->groups))
                l->share_halves = 2;
            else
                l->cut = model->groups;
            if (part == 0) l->kernel_at = at;
            if (part == 1) l->parts_apart = at - l->kernel_at;
            at += part_count(l, part);
        }
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (l->n_array == 0) continue;
        if (n_parts(l) == 1) {
            l->kernel_at = at;
            l->parts_apart = l->apart;
            at += l->n_param;
        }
        for (int c = 2; c <= p->count && l->owners; c++)
            if (worth_sharing(p, c, l->out.dim[0], l->in.dim[0])) l->share_dx = c;
        choose_reads_own(model, l);
    }
}

/*
 * Which weights are computed by their owners: see mnd_peers. Not where the bits hang on how many
 * rows a product has.
 */
static void choose_owned(mnd_model *model, mnd_need *need) {
    const mnd_peers *p = &model->options.peers;
    model->groups = model->reach = 1;
    if (p->count < 2 || !model->options.training || model->kernels->whole) return;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (l->ops != &mnd_layer_dense) continue;
        const double k = l->in.dim[0], n = l->out.dim[0];
        if ((double)p->batch * (k / p->count + n) > k * n || p->batch > INT_MAX / 2) continue;
        l->owners = true;
        const size_t scratch =
            model->kernels->scratch((int)p->batch, l->out.dim[0], l->in.dim[0], NULL);
        if (scratch > need[i].scratch) need[i].scratch = scratch;
    }
    choose_parts(model);
    const mnd_layer *first = &model->layer[model->first_trained];
    if (first->owners && first->reads_input) model->reach = p->count;
}

enum { PAD = MND_LINE_FLOATS };

/* See mnd_layer.pad. */
static void choose_pads(mnd_model *model) {
    if (model->kernels->whole) return;
    for (int i = 0; i + 1 < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        const mnd_layer *above = l + 1;
        while (above < model->layer + model->n_layer - 1 && above->skip) above++;
        if (l->ops != &mnd_layer_dense || above->ops != &mnd_layer_dense) continue;
        if (l->out.dim[0] > MND_PIECE && l->out.dim[0] % (4 * MND_LINE_FLOATS) == 0) l->pad = PAD;
    }
}

/* Shares activation buffers among layers that work in place. */
static void share(mnd_model *model) {
    int wanted = 0; /* what earlier layers still want of the current buffer */
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (l->skip) continue;
        if (!l->elementwise) wanted = 0;
        if (l->elementwise && wanted > l->spoils) {
            l->copies = true;
            wanted = 0;
        }
        if (l->keeps > wanted) wanted = l->keeps;
    }
}

static bool own_buffer(const mnd_layer *l) { return !l->skip && (!l->elementwise || l->copies); }

/* Elements of one sample of what layer i leaves behind: of the pooling, where that is fused in. */
static size_t y_size(const mnd_model *model, int i) {
    while (i + 1 < model->n_layer && model->layer[i + 1].skip) i++;
    return mnd_shape_size(&model->layer[i].out);
}

/* a + n * each; what no counter holds becomes what no machine has. */
static size_t grown(size_t a, size_t n, size_t each) {
    size_t more, sum;
    if (__builtin_mul_overflow(n, each, &more) || __builtin_add_overflow(a, more, &sum) ||
        sum > SIZE_MAX / 2)
        return SIZE_MAX / 2;
    return sum;
}

/* Rows that a convolution keeps something of. */
static int conv_rows(const mnd_model *model, const mnd_layer *l) {
    return l->share_split > 1 ? 2 * model->options.peers.max_rows : model->options.max_rows;
}

static mnd_status reserve(mnd_model *model, const mnd_need *need) {
    const size_t rows = (size_t)model->options.max_rows;
    const size_t threads = (size_t)model->options.threads;
    const size_t all = model->reach > 1 ? (size_t)model->options.peers.batch : 0;
    const size_t x = (all > rows ? all : rows) * mnd_shape_size(&model->input) * sizeof(float);
    size_t bytes = mnd_align_up(x);
    size_t scratch = 0, widest = (size_t)model->classes;
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        const bool conv = strcmp(l->ops->kind, "conv") == 0;
        const size_t state =
            conv ? mnd_conv_state(l, conv_rows(model, l), model->options.threads) : need[i].state;
        bytes = grown(bytes, 1, mnd_align_up(state));
        if (own_buffer(l))
            bytes = grown(bytes, 1, mnd_align_up(rows * y_size(model, i) * sizeof(float)));
        if (need[i].scratch > scratch) scratch = need[i].scratch;
        if (y_size(model, i) > widest) widest = y_size(model, i);
    }
    const size_t d = mnd_align_up(rows * (widest + PAD) * sizeof(float));
    if (model->options.training) bytes = grown(bytes, 2, d);
    int segments = model->options.max_seg;
    if (model->options.peers.logical > segments) segments = model->options.peers.logical;
    const size_t pointers = mnd_align_up((2 * (size_t)segments + 2) * sizeof(float *));
    bytes = grown(bytes, 5, pointers);
    bytes = grown(bytes, threads, mnd_align_up(scratch * sizeof(float)));
    mnd_status status = mnd_arena_create(&model->arena, bytes, "the model's workspace");
    if (status != MND_OK) return status;

    model->x = mnd_arena_take(&model->arena, x);
    float *y = model->x;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        const bool conv = strcmp(l->ops->kind, "conv") == 0;
        l->state = mnd_arena_take(
            &model->arena,
            conv ? mnd_conv_state(l, conv_rows(model, l), model->options.threads) : need[i].state);
        if (own_buffer(l))
            y = mnd_arena_take(&model->arena, rows * y_size(model, i) * sizeof(float));
        l->y = y;
    }
    if (model->options.training)
        for (int i = 0; i < 2; i++) model->d[i] = mnd_arena_take(&model->arena, d);
    model->seg_x = mnd_arena_take(&model->arena, pointers);
    model->seg_dy = mnd_arena_take(&model->arena, pointers);
    model->seg_y = mnd_arena_take(&model->arena, pointers);
    model->seg_image = mnd_arena_take(&model->arena, pointers);
    model->group = mnd_arena_take(&model->arena, pointers);
    for (size_t t = 0; t < threads; t++)
        model->work[t] = (mnd_work){
            .scratch = mnd_arena_take(&model->arena, scratch * sizeof(float)), .size = scratch};
    return MND_OK;
}

mnd_status mnd_model_create(const char *spec, const mnd_shape *input, int classes,
                            const mnd_model_options *options, mnd_model **out) {
    mnd_status status = MND_OK;
    mnd_model *model = NULL;
    void *p = NULL;
    mnd_need *need = NULL;
    *out = NULL;
    if (options->threads < 1 || options->threads > MND_MAX_THREADS)
        MND_FAIL(MND_USAGE, "%d threads: must be 1 to %d", options->threads, MND_MAX_THREADS);
    if (classes < 1 || classes > CLASSES_MAX)
        MND_FAIL(MND_USAGE, "%d classes: must be 1 to %d", classes, CLASSES_MAX);
    MND_TRY(check_input(input));
    MND_TRY(mnd_alloc(&p, 1, sizeof *model, "the model"));
    model = p;
    model->input = *input;
    model->classes = classes;
    model->options = *options;
    model->kernels = options->plain ? mnd_kernels_plain() : mnd_kernels_choose();
    MND_TRY(mnd_model_spec(spec, classes, model->text, sizeof model->text));
    MND_TRY(parse(model));
    MND_TRY(mnd_alloc(&p, (size_t)model->n_layer, sizeof *need, "the model's plan"));
    need = p;
    MND_TRY(plan(model, need));
    fuse(model);
    choose_reads_input(model);
    choose_split(model);
    choose_owned(model, need);
    choose_pads(model);
    share(model);
    if (options->max_rows > 0) MND_TRY(reserve(model, need));
    *out = model;
    model = NULL;
cleanup:
    mnd_free(need);
    mnd_model_destroy(&model);
    return status;
}

void mnd_model_destroy(mnd_model **model) {
    if (*model == NULL) return;
    mnd_free((*model)->layer);
    mnd_arena_destroy(&(*model)->arena);
    mnd_free(*model);
    *model = NULL;
}

size_t mnd_model_n_param(const mnd_model *model) { return model->n_param; }

size_t mnd_model_workspace(const mnd_model *model) { return model->arena.size; }

const char *mnd_model_text(const mnd_model *model) { return model->text; }

int mnd_model_n_layer(const mnd_model *model) { return model->n_layer; }

mnd_layer_info mnd_model_layer(const mnd_model *model, int i) {
    const mnd_layer *l = &model->layer[i];
    return (mnd_layer_info){
        .kind = l->ops->kind, .text = l->text, .out = l->out, .n_param = l->n_param};
}

int mnd_model_n_array(const mnd_model *model) { return model->n_array; }

mnd_param_info mnd_model_array(const mnd_model *model, int i) {
    const mnd_layer *l = model->layer;
    for (; i >= l->n_array; l++) i -= l->n_array;
    return l->array[i];
}

/* ------------------------------------------------------------------------------------- running */

void mnd_model_bind(mnd_model *model, float *param, float *grad, size_t grad_stride) {
    model->param = param;
    model->grad = grad;
    model->grad_stride = grad_stride;
    const bool cut = model->team.memory != NULL;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (l->n_array == 0) continue;
        const size_t kernel = cut ? l->kernel_at : l->array[0].offset;
        const size_t part = l->array[0].count / (size_t)(cut ? l->cut : 1);
        const size_t split = (size_t)l->half * (size_t)l->out.dim[0];
        const size_t bias = part + (l->pieces == 1 ? l->apart - split : 0);
        l->param = param + kernel;
        l->bias = l->param + bias;
        l->grad = grad == NULL ? NULL : grad + kernel;
        l->bias_grad = grad == NULL ? NULL : l->grad + bias;
    }
}

/*
 * Where parameter j of a layer is kept, counted from the first of all, and how many more of its
 * followers lie behind it.
 */
static size_t kept_at(const mnd_model *model, const mnd_layer *l, size_t j, size_t *count) {
    const size_t first = (size_t)(l->param - model->param);
    *count = l->n_param - j;
    const size_t n = (size_t)l->out.dim[0], wide = n / (size_t)l->pieces;
    const size_t split = (size_t)l->half * n;
    if (l->pieces == 1 && j < split) {
        *count = split - j;
        return first + j;
    }
    if (l->pieces == 1) return first + l->apart + j - split;
    /* The bias is one more row. */
    *count = wide - j % wide;
    return first + j % n / wide * l->apart + j / n * wide + j % wide;
}

/* Copies all parameters, to where they are kept or from there. */
static void rearrange(const mnd_model *model, const float *from, float *to, bool keep) {
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        for (size_t j = 0, count; j < l->n_param; j += count) {
            const size_t kept = kept_at(model, l, j, &count), at = l->array[0].offset + j;
            memcpy(to + (keep ? kept : at), from + (keep ? at : kept), count * sizeof *to);
        }
    }
}

void mnd_model_keep(const mnd_model *model, const float *described, float *kept) {
    rearrange(model, described, kept, true);
}

void mnd_model_describe(const mnd_model *model, const float *kept, float *described) {
    rearrange(model, kept, described, false);
}

void mnd_model_initialize(mnd_model *model, mnd_init init, uint64_t seed) {
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        if (l->n_array == 0) continue;
        mnd_rng rng;
        mnd_rng_start(&rng, seed, MND_RNG_INIT, (uint32_t)i, 0);
        const float limit = sqrtf(6.0F / (float)(l->fan_in + l->fan_out));
        const float deviation = sqrtf(2.0F / (float)l->fan_in);
        for (size_t j = 0, count; j < l->n_param; j += count) {
            float *const to = model->param + kept_at(model, l, j, &count);
            for (size_t q = 0; q < count; q++) {
                if (j + q >= l->array[0].count)
                    to[q] = 0.0F;
                else if (init == MND_INIT_HE)
                    to[q] = deviation * mnd_rng_normal(&rng);
                else
                    to[q] = limit * (2.0F * mnd_rng_uniform(&rng) - 1.0F);
            }
        }
    }
}

float *mnd_model_input(mnd_model *model) { return model->x; }

void mnd_model_reads(const mnd_model *model, int *first, int *last) {
    const mnd_peers *peers = &model->options.peers;
    *first = peers->rank - peers->rank % model->reach;
    *last = *first + model->reach;
}

/* Rows of the input before the own ones. */
static ptrdiff_t rows_of_others(const mnd_model *model, const mnd_team *team) {
    if (team == NULL) return 0;
    int first, last;
    mnd_model_reads(model, &first, &last);
    return mnd_rows_before(team, team->peers->rank) - mnd_rows_before(team, first);
}

static const float *own_input(const mnd_model *model, const mnd_team *team) {
    return model->x + rows_of_others(model, team) * (ptrdiff_t)mnd_shape_size(&model->input);
}

static const uint8_t *const *own_images(const mnd_model *model, const mnd_team *team) {
    return model->image != NULL ? model->image + rows_of_others(model, team) : NULL;
}

/* This process has written what others may read. */
static void written(const mnd_pass *pass) {
    if (pass->team != NULL) pass->team->met = false;
}

static const float *run_forward(mnd_model *model, const mnd_pass *pass) {
    const float *x = own_input(model, pass->team);
    /* Nobody reads this process' input where each has the rows of all; and all met behind the step
       or the forward pass before. */
    if (pass->team != NULL) pass->team->met = model->reach > 1;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (l->skip) continue;
        if (l->copies) memcpy(l->y, x, (size_t)pass->rows * mnd_shape_size(&l->in) * sizeof *x);
        if (!l->skip_forward) l->ops->forward(l, pass, x, l->y);
        if (l->pieces <= 1 && (l->copies || !l->skip_forward))
            written(pass);
        else if (l->pieces > 1 && pass->team != NULL && !l->read_by_writers)
            mnd_team_meet(pass->team);
        x = l->y;
    }
    return x;
}

/* The buffer that layer i read. */
static const float *input_of(const mnd_model *model, int i) {
    return i == 0 ? model->x : model->layer[i - 1].y;
}

/* What layer i read of this process' rows. */
static const float *own_input_of(const mnd_model *model, const mnd_team *team, int i) {
    const float *x = input_of(model, i);
    return x == model->x ? own_input(model, team) : x;
}

static int product_threads(const mnd_model *model) {
    return model->kernels->whole ? 1 : model->options.threads;
}

/* The layer whose output's gradient that of layer i is: of elementwise layers, the one below. */
static int below_elementwise(const mnd_model *model, int i) {
    while (model->layer[i].skip || (model->layer[i].elementwise && i > model->first_trained)) i--;
    return i;
}

/* The one of d that is not `taken`. */
static float *other_gradient(const mnd_model *model, const float *taken) {
    return model->d[0] != taken ? model->d[0] : model->d[1];
}

/* What is sent is made there: see mnd_pass. `taken` is in use. */
static float *outbox(const mnd_model *model, const float *taken) {
    return model->sends ? other_gradient(model, taken) : NULL;
}

/* Where the gradient of the output of layer i goes, if not to `taken`. */
static float *gradient_of(const mnd_model *model, int i, const float *taken) {
    i = below_elementwise(model, i);
    if (model->layer[i].dy != NULL) return model->layer[i].dy;
    return other_gradient(model, taken);
}

/* seg_x and seg_dy, from the first column of a piece on, of all logical ranks, for part `part` of
 * the weights. */
static void point_at_all_rows(mnd_model *model, const mnd_layer *l, const int *start, int part) {
    const mnd_peers *peers = &model->options.peers;
    mnd_place x_place = {.ld = l->in.dim[0]}, dy_place = {.ld = l->out.dim[0] + l->pad};
    const int piece = part % l->pieces, wide = l->out.dim[0] / l->pieces;
    if (l->x_apart) x_place = mnd_part_of(peers, l->half, l->in.dim[0], 0, part);
    if (l->y_apart) dy_place = mnd_part_of(peers, wide, l->out.dim[0], l->pad, piece);
    const size_t k = (size_t)x_place.ld, n = (size_t)dy_place.ld;
    const ptrdiff_t column = dy_place.at + (ptrdiff_t)piece * wide;
    for (int p = 0; p < peers->count; p++) {
        const int begin = mnd_logical_first(peers->logical, peers->count, p);
        const char *const memory = model->team.memory[p];
        const float *x = (const float *)(const void *)(memory + l->shared_x) + x_place.at;
        const float *dy = (const float *)(const void *)(memory + l->shared_dy) + column;
        for (int s = begin; s < mnd_logical_first(peers->logical, peers->count, p + 1); s++) {
            const size_t row = (size_t)(start[s] - start[begin]);
            model->seg_x[s] = l->reads_input ? model->x + (size_t)start[s] * k : x + row * k;
            model->seg_dy[s] = dy + row * n;
        }
    }
}

/* Whether the gradient of a layer is computed by owners. */
static bool owned(const mnd_layer *l) { return l->owners || l->share_split > 1; }

/* The own rows of the weight gradient of layer i, over the rows of all. */
static void owned_gradient(mnd_model *model, int i) {
    const mnd_peers *peers = &model->options.peers;
    const mnd_layer *l = &model->layer[i];
    const int *const start = model->team.start;
    const size_t first = model->team.first, count = model->team.count;
    const int all_ranks[2] = {0, peers->logical};
    const mnd_rows seg = {.n_seg = peers->logical, .start = start, .n_part = 1, .part = all_ranks};
    const mnd_pass pass = {.kernels = model->kernels,
                           .work = model->work,
                           .threads = model->options.threads,
                           .product_threads = product_threads(model),
                           .seg = &seg,
                           .rows = start[peers->logical],
                           .grad_stride = model->grad_stride,
                           .x = model->seg_x,
                           .dy = model->seg_dy,
                           .image = model->image,
                           .team = &model->team};
    if (l->share_split > 1) {
        if (first <= l->kernel_at && l->kernel_at < first + count) mnd_conv_param_grad(l, &pass);
        return;
    }
    const size_t wide = (size_t)(l->out.dim[0] / l->pieces);
    for (int part = 0; part < n_parts(l); part++) {
        const size_t offset = l->kernel_at + (size_t)part * l->parts_apart;
        const size_t all = part_count(l, part);
        const size_t from = first > offset ? first - offset : 0;
        const size_t end = first + count > offset ? first + count - offset : 0;
        if (from >= all || end == 0) continue;
        const int piece = part % l->pieces, row = part < l->pieces ? 0 : l->half;
        point_at_all_rows(model, l, start, part);
        mnd_dense_param_grad(l, &pass, piece, row + (int)(from / wide),
                             row + (int)((end < all ? end : all) / wide));
    }
}

/*
 * Whether that is done as soon as dy is there, because all meet then anyway: x is still near. Of
 * other layers it is done when all have their gradients.
 */
static bool owned_early(const mnd_model *model, int i) {
    const mnd_layer *l = &model->layer[i];
    return l->owners && l->share_dx > 1 && model->team.memory != NULL && i > model->first_trained;
}

/* dy of other processes' rows. */
static void fetch_others(const mnd_model *model, const mnd_layer *l, const float *dy) {
    const mnd_team *team = &model->team;
    for (int p = 0; p < team->peers->count; p++) {
        const int rows = mnd_rows_before(team, p + 1) - mnd_rows_before(team, p);
        if (p != team->peers->rank)
            mnd_prefetch(mnd_of_peer(team, p, dy),
                         (size_t)rows * (size_t)(l->out.dim[0] + l->pad) * sizeof *dy);
    }
}

/*
 * Shuffled images lie all over memory, and the CPU cannot guess which comes next: without this,
 * more than half of the time went into waiting for them.
 */
enum { AHEAD = 8 };

static void load(mnd_model *model, int rows, const uint8_t *const *image) {
    const size_t n = mnd_shape_size(&model->input);
    for (int i = 0; i < rows; i++) {
        if (i + AHEAD < rows) mnd_prefetch(image[i + AHEAD], n);
        mnd_pixels(n, image[i], model->x + (size_t)i * n);
    }
}

/* Whether the first layer does with the batch's bytes. (Second sums would need half images.) */
static bool takes_bytes(const mnd_model *model, const mnd_batch *batch, const mnd_team *team) {
    const mnd_layer *l = &model->layer[model->first_trained];
    if (l->ops != &mnd_layer_dense || !l->reads_input || l->half > 0 || model->kernels->whole)
        return false;
    mnd_rows all = *batch->rows;
    if (l->owners && team != NULL) {
        all.n_seg = model->options.peers.logical;
        all.start = batch->all_start;
    }
    return model->kernels->takes_bytes(&all, l->out.dim[0] / l->pieces, l->in.dim[0], batch->image);
}

/* The batch's images: as bytes, if that is all that is wanted of them, else as floats. */
static void take_images(mnd_model *model, const mnd_batch *batch, const mnd_team *team) {
    model->image = NULL;
    if (batch->image == NULL) return;
    if (takes_bytes(model, batch, team)) {
        model->image = batch->image;
        return;
    }
    int rows = batch->rows->start[batch->rows->n_seg];
    if (team != NULL) {
        int first, last;
        mnd_model_reads(model, &first, &last);
        rows = mnd_rows_before(team, last) - mnd_rows_before(team, first);
    }
    load(model, rows, batch->image);
}

void mnd_model_gradient(mnd_model *model, const mnd_batch *batch, double *loss_sum,
                        int64_t *correct) {
    const mnd_rows *seg = batch->rows;
    mnd_team *const team = model->team.memory != NULL ? &model->team : NULL;
    model->team.start = batch->all_start;
    take_images(model, batch, team);
    mnd_pass pass = {.kernels = model->kernels,
                     .work = model->work,
                     .threads = model->options.threads,
                     .product_threads = product_threads(model),
                     .seg = seg,
                     .rows = seg->start[seg->n_seg],
                     .batch = batch,
                     .grad_stride = model->grad_stride,
                     .x = model->seg_x,
                     .dy = model->seg_dy,
                     .y = model->seg_y,
                     .group = model->group,
                     .images = model->seg_image,
                     .image = own_images(model, team),
                     .team = team,
                     .outbox = outbox(model, NULL)};
    const float *logits = run_forward(model, &pass);
    float *dy = gradient_of(model, model->n_layer - 1, NULL);
    for (int s = 0; s < seg->n_seg; s++) {
        const ptrdiff_t at = (ptrdiff_t)seg->start[s] * model->classes;
        correct[s] = 0;
        loss_sum[s] = mnd_cross_entropy(logits + at, batch->label + seg->start[s],
                                        seg->start[s + 1] - seg->start[s], model->classes,
                                        batch->scale, dy + at, &correct[s]);
    }
    written(&pass);
    bool dealt_out = false; /* dy: its columns may not all be there yet */
    for (int i = model->n_layer - 1; i >= model->first_trained; i--) {
        mnd_layer *l = &model->layer[i];
        if (l->skip) continue;
        /* The first one's owners read dy when all have come to mnd_model_owned_gradient. */
        if (dealt_out && !(owned(l) && i == model->first_trained)) mnd_team_meet(&model->team);
        float *dx = dy;
        if (!l->elementwise) dx = i > model->first_trained ? gradient_of(model, i - 1, dy) : NULL;
        if (owned_early(model, i)) {
            mnd_team_meet(&model->team);
            fetch_others(model, l, dy);
            owned_gradient(model, i);
        }
        pass.outbox = outbox(model, dy);
        l->ops->backward(l, &pass, own_input_of(model, pass.team, i), l->y, dy, dx);
        dealt_out = pass.team != NULL && dx != NULL && l->share_dx > 1;
        if (!dealt_out) written(&pass);
        if (dx != NULL) dy = dx;
    }
}

/* ---------------------------------------------------------------------- the owner-computes rule */

/*
 * How many rows a weight's gradient sums in the time that Adam takes for it (measured: AVX-512,
 * Zen 5), of dense inputs and of digits. Only how evenly the work is dealt out hangs on them.
 */
enum { ROWS_A_STEP = 38, PIXELS_A_STEP = 63 };

static mnd_owned owned_range(const mnd_layer *l, int part, bool pixels, int64_t batch) {
    const size_t per_step = pixels ? PIXELS_A_STEP : ROWS_A_STEP;
    return (mnd_owned){.first = l->kernel_at + (size_t)part * l->parts_apart,
                       .count = part_count(l, part),
                       .unit = l->share_split > 1 ? l->n_param : (size_t)(l->out.dim[0] / l->cut),
                       .cost = MND_UPDATE_COST + MND_UPDATE_COST * (size_t)batch / per_step};
}

int mnd_model_owned(const mnd_model *model, mnd_owned *range) {
    const mnd_peers *peers = &model->options.peers;
    int n = 0;
    /* What is cut into parts, then the rest. */
    for (int part = 0; part <= model->groups; part++)
        for (int i = 0; i < model->n_layer; i++) {
            const mnd_layer *l = &model->layer[i];
            const bool cut = n_parts(l) > 1, rest = part == model->groups;
            if (owned(l) && cut != rest)
                range[n++] =
                    owned_range(l, rest ? 0 : part, i == model->first_trained, peers->batch);
        }
    return n;
}

int mnd_model_groups(const mnd_model *model) { return model->groups; }

/* Whether what layer i leaves behind is, with all that work on it in place, read by an owned one.
 */
static bool read_by_owned(const mnd_layer *layer, int n_layer, int i) {
    for (i++; i < n_layer && (layer[i].skip || (layer[i].elementwise && !layer[i].copies)); i++) {
    }
    return i < n_layer && layer[i].owners;
}

/* Whether others write second sums of its rows. */
static bool has_extra(const mnd_layer *l) { return l->half > 0 && n_parts(l) > 1; }

/*
 * Where x and dy of the owned layers lie, and shared y and dx, one after the other; returns the
 * bytes.
 */
static size_t lay_out(const mnd_model *model) {
    const size_t rows = (size_t)model->options.peers.max_rows;
    mnd_layer *const layer = model->layer;
    const int n_layer = model->n_layer;
    size_t bytes = 0;
    for (int i = 0; i < n_layer; i++) {
        mnd_layer *l = &layer[i];
        l->shared_sums = bytes;
        if (l->share_split > 1) {
            const mnd_peers *p = &model->options.peers;
            const size_t most = 2 * (size_t)((p->logical + p->count - 1) / p->count);
            bytes += mnd_align_up(most * l->n_param * sizeof(float));
        }
        if (!l->owners) continue;
        const size_t pads = 2; /* of two parts */
        const size_t in =
            mnd_align_up(rows * (mnd_shape_size(&l->in) + pads * PAD) * sizeof(float));
        const size_t out =
            mnd_align_up(rows * (mnd_shape_size(&l->out) + pads * PAD) * sizeof(float));
        l->shared_x = bytes;
        if (!l->reads_input) bytes += in;
        l->shared_dy = bytes;
        bytes += out;
        l->shared_y = bytes;
        if (l->cut > 1 && !read_by_owned(layer, n_layer, i)) bytes += out;
        l->shared_extra = bytes;
        if (has_extra(l)) bytes += out;
        l->shared_dx = bytes;
        if (i > model->first_trained && l->share_dx > 1 &&
            !layer[below_elementwise(model, i - 1)].owners)
            bytes += in;
    }
    return bytes;
}

size_t mnd_model_shared_size(const mnd_model *model) { return lay_out(model); }

/* From layer i on, what was in buffer `old` is at `now`. */
static void move(mnd_model *model, int i, const float *old, float *now) {
    if (model->x == old) model->x = now;
    for (; i < model->n_layer; i++)
        if (model->layer[i].y == old) model->layer[i].y = now;
}

void mnd_model_share(mnd_model *model, char *const *memory, size_t first, size_t count,
                     mnd_meet_fn *meet, void *context) {
    char *const mine = memory[model->options.peers.rank];
    model->team = (mnd_team){.peers = &model->options.peers,
                             .memory = memory,
                             .first = first,
                             .count = count,
                             .meet = meet,
                             .context = context};
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        l->pieces = l->cut;
        l->apart = l->parts_apart;
    }
    mnd_model_bind(model, model->param, model->grad, model->grad_stride);
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *l = &model->layer[i];
        if (!l->owners) continue;
        l->dy = (float *)(void *)(mine + l->shared_dy);
        if (has_extra(l)) l->extra = (float *)(void *)(mine + l->shared_extra);
        if (!l->reads_input)
            move(model, 0, input_of(model, i), (float *)(void *)(mine + l->shared_x));
        if (l->cut > 1 && !read_by_owned(model->layer, model->n_layer, i))
            move(model, i, l->y, (float *)(void *)(mine + l->shared_y));
    }
    /* What others write of dx must lie there, too. */
    for (int i = model->first_trained + 1; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        mnd_layer *const below = &model->layer[below_elementwise(model, i - 1)];
        if (l->share_dx > 1 && !below->owners) below->dy = (float *)(void *)(mine + l->shared_dx);
        l->sends_dx = l->share_dx <= 1 && below->owners && adjacent(below, l);
    }
}

void mnd_model_send(mnd_model *model, bool sends) { model->sends = sends; }

void mnd_model_owned_gradient(mnd_model *model) {
    for (int i = 0; i < model->n_layer; i++)
        if (owned(&model->layer[i]) && !owned_early(model, i)) owned_gradient(model, i);
}

const float *mnd_model_forward(mnd_model *model, int n) {
    const int start[2] = {0, n}, part[2] = {0, 1};
    const mnd_rows seg = {.n_seg = 1, .start = start, .n_part = 1, .part = part};
    const mnd_pass pass = {.kernels = model->kernels,
                           .work = model->work,
                           .threads = model->options.threads,
                           .product_threads = product_threads(model),
                           .seg = &seg,
                           .rows = n,
                           .x = model->seg_x,
                           .y = model->seg_y,
                           .group = model->group};
    return run_forward(model, &pass);
}

int mnd_model_bad_array(const mnd_model *model) {
    for (int i = 0, a = 0; i < model->n_layer; a += model->layer[i++].n_array) {
        const mnd_layer *l = &model->layer[i];
        for (size_t j = 0, count; j < l->n_param; j += count) {
            const float *const grad = model->grad + kept_at(model, l, j, &count);
            for (size_t q = 0; q < count; q++)
                if (!isfinite(grad[q])) return a + (j + q >= l->array[0].count);
        }
    }
    return -1;
}

/* ------------------------------------------------------------------------------------ products */

void mnd_pixels(size_t n, const uint8_t *in, float *out) {
    mnd_kernels_native()->from_bytes(n, in, out);
}

static bool uses_blas(bool plain) { return plain || mnd_kernels_choose() == mnd_kernels_plain(); }

static const char *openblas_name(void) {
    static char name[128];
    /* The configuration begins with "OpenBLAS 0.3.21 ...". */
    char config[64];
    snprintf(config, sizeof config, "%s", openblas_get_config());
    char *blank = strchr(config, ' ');
    if (blank != NULL) blank = strchr(blank + 1, ' ');
    if (blank != NULL) *blank = '\0';
    snprintf(name, sizeof name, "%s %s", config, openblas_get_corename());
    return name;
}

const char *mnd_products_name(bool plain) {
    static char name[64];
    if (uses_blas(plain)) return openblas_name();
    snprintf(name, sizeof name, "native %s", mnd_kernels_native()->name);
    return name;
}

const char *mnd_arithmetic(bool plain) {
    return uses_blas(plain) ? openblas_name() : MND_NATIVE_ARITHMETIC;
}

void mnd_blas_set_threads(int threads) { openblas_set_num_threads(threads); }
