/* build.c - checks and plans a model and gives it memory. */
#include <string.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/parallel.h"
#include "model_impl.h"

/* Largest tensor of one sample, in elements, and most parameters: the int arithmetic of layers and
   kernels stays safe. */
enum { SIZE_LIMIT = 1 << 28 };

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

/* Gives the arrays of a layer their places from `offset` on; returns the end. */
static size_t place_arrays(mnd_layer *layer, size_t offset) {
    for (int a = 0; a < layer->n_array; a++) {
        mnd_array *const array = &layer->array[a];
        array->count = 1;
        for (int d = 0; d < array->ndim; d++) array->count *= (size_t)array->dim[d];
        array->offset = offset;
        offset += array->count;
    }
    return offset;
}

/* Makes two layers that enclose others known to each other; again after layers have moved. */
static void pair_layers(mnd_model *model) {
    mnd_layer *open[MND_MAX_LAYERS];
    int depth = 0;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        if (l->ops->end != NULL) {
            open[depth++] = l;
        } else if (depth > 0 && l->ops == open[depth - 1]->ops->end) {
            l->partner = open[--depth];
            l->partner->partner = l;
        }
    }
}

static mnd_status plan_layers(mnd_model *model, const mnd_plan *plan) {
    mnd_shape shape = model->input;
    pair_layers(model);
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        l->in = shape;
        mnd_status status = mnd_layer_plan(l, plan);
        if (status == MND_OK) status = check_size(l);
        if (status != MND_OK) return status;
        model->n_param = place_arrays(l, model->n_param);
        model->n_array += l->n_array;
        shape = l->out;
        if (model->n_param > SIZE_LIMIT)
            return mnd_layer_fail(l, "the model has more than %d parameters", SIZE_LIMIT);
    }
    if (model->n_param == 0) return mnd_fail(MND_USAGE, "the model has no layer with parameters");
    if (shape.ndim != 1 || shape.dim[0] != model->classes)
        return mnd_fail(MND_USAGE,
                        "the model's last layer (%s) gives %zu outputs%s; the data has %d classes: "
                        "end with dense:%d",
                        model->layer[model->n_layer - 1].text, mnd_shape_size(&shape),
                        shape.ndim == 3 ? " as an image" : "", model->classes, model->classes);
    return MND_OK;
}

/* Records the layers and arrays of the spec, for queries, before fuse replaces layers. */
static mnd_status keep_info(mnd_model *model) {
    mnd_status status = MND_OK;
    void *p;
    MND_TRY(mnd_alloc(&p, (size_t)model->n_layer, sizeof *model->info, "layers"));
    model->info = p;
    MND_TRY(mnd_alloc(&p, (size_t)model->n_array, sizeof *model->array, "arrays"));
    model->array = p;
    mnd_array_info *to = model->array;
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        mnd_layer_info *const info = &model->info[model->n_info++];
        *info = (mnd_layer_info){.kind = l->ops->kind,
                                 .out = l->out,
                                 .depth = l->depth,
                                 .group_values = l->group_values};
        memcpy(info->text, l->text, sizeof info->text);
        for (int a = 0; a < l->n_array; a++, to++) {
            const mnd_array *array = &l->array[a];
            *to = (mnd_array_info){.layer = i,
                                   .kind = l->ops->kind,
                                   .name = array->name,
                                   .ndim = array->ndim,
                                   .offset = array->offset,
                                   .count = array->count,
                                   .trained = !array->untrained};
            memcpy(to->dim, array->dim, sizeof to->dim);
            info->n_param += array->count;
        }
    }
cleanup:
    return status;
}

/* Fuses layers and places the arrays again: a fused layer has those of the layers it replaces. */
static mnd_status fuse(mnd_model *model, const mnd_plan *plan) {
    const mnd_status status = model->options.plain ? MND_OK : mnd_fuse(model, plan);
    size_t offset = 0;
    pair_layers(model);
    model->first_with_arrays = -1;
    for (int i = 0; i < model->n_layer; i++) {
        offset = place_arrays(&model->layer[i], offset);
        if (model->layer[i].n_array > 0 && model->first_with_arrays < 0)
            model->first_with_arrays = i;
    }
    return status;
}

/* a + n * each * size, the product rounded up to MND_ALIGN. An overflow becomes SIZE_MAX / 4, more
   than any allocation can give. */
static size_t grown(size_t a, size_t n, size_t each, size_t size) {
    size_t more, sum;
    if (__builtin_mul_overflow(n, each, &more) || __builtin_mul_overflow(more, size, &more) ||
        more > SIZE_MAX / 4 || __builtin_add_overflow(a, mnd_align_up(more), &sum) ||
        sum > SIZE_MAX / 4)
        return SIZE_MAX / 4;
    return sum;
}

/* The workspace: the input; for each layer its state and outputs; two gradients of activations;
   scratch. */
static mnd_status reserve(mnd_model *model) {
    const size_t rows = (size_t)model->options.max_rows, threads = (size_t)model->options.threads;
    const size_t in = mnd_shape_size(&model->input);
    size_t bytes = grown(0, rows, in, sizeof(float)), widest = 0, scratch = 0;
    for (int i = 0; i < model->n_layer; i++) {
        const mnd_layer *l = &model->layer[i];
        const size_t out = mnd_shape_size(&l->out);
        bytes = grown(bytes, 1, l->state_size, 1);
        if (l->ops->forward != NULL) bytes = grown(bytes, rows, out, sizeof(float));
        if (out > widest) widest = out;
        if (l->scratch > scratch) scratch = l->scratch;
    }
    scratch = mnd_align_up(scratch * sizeof(float)) / sizeof(float);
    if (model->options.training) bytes = grown(bytes, 2 * rows, widest, sizeof(float));
    bytes = grown(bytes, threads, scratch, sizeof(float));
    const size_t slack = 2 * MND_ALIGN; /* the two gradients: counted as one, rounded up as two */
    mnd_status status = mnd_arena_create(&model->arena, bytes + slack, "the model's workspace");
    if (status != MND_OK) return status;

    model->x = mnd_arena_take(&model->arena, rows * in * sizeof(float));
    float *y = model->x;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        l->state = mnd_arena_take(&model->arena, l->state_size);
        if (l->ops->forward != NULL)
            y = mnd_arena_take(&model->arena, rows * mnd_shape_size(&l->out) * sizeof(float));
        l->y = y;
    }
    for (int i = 0; i < 2 && model->options.training; i++)
        model->d[i] = mnd_arena_take(&model->arena, rows * widest * sizeof(float));
    model->workers =
        (mnd_workers){.threads = model->options.threads,
                      .scratch = mnd_arena_take(&model->arena, threads * scratch * sizeof(float)),
                      .each = scratch};
    return MND_OK;
}

mnd_status mnd_model_create(const char *spec, const mnd_shape *input, int classes,
                            const mnd_model_options *options, mnd_model **out) {
    mnd_status status = MND_OK;
    mnd_model *model = NULL;
    void *p = NULL;
    *out = NULL;
    if (options->threads < 1 || options->threads > MND_MAX_THREADS)
        MND_FAIL(MND_USAGE, "%d threads: must be 1 to %d", options->threads, MND_MAX_THREADS);
    if (classes < 1 || classes > MND_CLASSES_MAX)
        MND_FAIL(MND_USAGE, "%d classes: must be 1 to %d", classes, MND_CLASSES_MAX);
    MND_TRY(check_input(input));
    MND_TRY(mnd_alloc(&p, 1, sizeof *model, "the model"));
    model = p;
    model->input = *input;
    model->classes = classes;
    model->options = *options;
    model->kernels = options->plain ? mnd_kernels_base() : mnd_kernels_fast();
    MND_TRY(mnd_model_spec(spec, classes, model->text, sizeof model->text));
    MND_TRY(mnd_spec_parse(model));
    const mnd_plan plan = {.kernels = model->kernels,
                           .rows = options->max_rows,
                           .max_seg = options->max_seg,
                           .max_group =
                               options->max_group > 0 ? options->max_group : options->max_seg,
                           .threads = options->threads,
                           .training = options->training};
    MND_TRY(plan_layers(model, &plan));
    MND_TRY(keep_info(model));
    MND_TRY(fuse(model, &plan));
    if (options->max_rows > 0) MND_TRY(reserve(model));
    *out = model;
    model = NULL;
cleanup:
    mnd_model_destroy(&model);
    return status;
}

void mnd_model_destroy(mnd_model **out) {
    mnd_model *model = *out;
    *out = NULL;
    if (model == NULL) return;
    for (int i = 0; i < model->n_layer; i++) mnd_free(model->layer[i].self);
    mnd_free(model->layer);
    mnd_free(model->info);
    mnd_free(model->array);
    mnd_arena_destroy(&model->arena);
    mnd_free(model);
}
