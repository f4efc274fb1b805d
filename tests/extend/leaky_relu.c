/* leaky_relu.c - y = x where x > 0, else slope * x (Maas, Hannun, Ng, ICML 2013). */
#include "extend.h"

typedef struct leaky {
    float slope;
} leaky;

static mnd_status plan(mnd_layer *layer, const mnd_plan *how) {
    mnd_status status = MND_OK;
    leaky *self = layer->self;
    double slope = 0.0;
    (void)how;
    MND_TRY(mnd_layer_real(layer, 0, "slope", &slope));
    MND_TRY(mnd_layer_args(layer, 1));
    self->slope = (float)slope;
    layer->out = layer->in;
cleanup:
    return status;
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const leaky *self = layer->self;
    const size_t n = (size_t)pass->rows * mnd_shape_size(&layer->in);
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0.0F ? x[i] : self->slope * x[i];
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const leaky *self = layer->self;
    const size_t n = (size_t)pass->rows * mnd_shape_size(&layer->in);
    (void)y;
    for (size_t i = 0; i < n && dx != NULL; i++) dx[i] = x[i] > 0.0F ? dy[i] : self->slope * dy[i];
}

const mnd_layer_ops leaky_relu = {.kind = "leakyrelu",
                                  .usage = "leakyrelu:slope",
                                  .self_size = sizeof(leaky),
                                  .plan = plan,
                                  .forward = forward,
                                  .backward = backward};
