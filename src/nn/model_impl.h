/* model_impl.h - the model, shared by the files that build it (spec.c, build.c, arrays.c) and the
   one that runs it (model.c). */
#ifndef MND_NN_MODEL_IMPL_H
#define MND_NN_MODEL_IMPL_H

#include "mnist_dist/layer.h"
#include "mnist_dist/memory.h"

enum { MND_SPEC_TEXT = 1024, MND_CLASSES_MAX = 256 /* labels are bytes, as in data sets */ };

struct mnd_model {
    char text[MND_SPEC_TEXT];
    mnd_layer *layer; /* (n_layer), in the order in which they run; owned */
    int n_layer;
    int first_with_arrays; /* the first layer with arrays: no gradient is needed below it */
    mnd_layer_info *info;  /* (n_info) as the spec names them; owned */
    int n_info, n_array;
    mnd_array_info *array; /* (n_array), owned */
    size_t n_param;
    mnd_shape input;
    int classes;
    mnd_model_options options;
    const mnd_kernels *kernels;
    mnd_arena arena;
    mnd_workers workers;
    float *x;            /* (max_rows, input) */
    float *d[2];         /* gradients of activations, in turn */
    float *param, *grad; /* borrowed */
    size_t grad_stride;
};

/* Fills model->layer from model->text: kinds and arguments. */
MND_CHECKED mnd_status mnd_spec_parse(mnd_model *model);

/* Gives a layer memory for its kind's own struct, and plans it. */
MND_CHECKED mnd_status mnd_layer_plan(mnd_layer *layer, const mnd_plan *plan);

/* fuse.c: replaces layers that fast kernels compute in one; n_layer shrinks. */
MND_CHECKED mnd_status mnd_fuse(mnd_model *model, const mnd_plan *plan);

#endif
