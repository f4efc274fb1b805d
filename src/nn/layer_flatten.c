/* layer_flatten.c - an image read as a row of numbers: (h, w, c) -> (h*w*c). */
#include "layer_kinds.h"

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    (void)p;
    layer->out = (mnd_shape){.ndim = 1, .dim = {(int)mnd_shape_size(&layer->in)}};
    return mnd_layer_args(layer, 0);
}

const mnd_layer_ops mnd_layer_flatten = {.kind = "flatten", .usage = "flatten", .plan = plan};
