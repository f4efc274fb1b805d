/* elu.c - y = x where x > 0, else alpha * (exp(x) - 1) (Clevert, Unterthiner, Hochreiter, ICLR
   2016). */
#include <string.h>

#include "extend.h"
#include "mnist_dist/loops.h"

typedef struct elu_data {
    float alpha;
} elu_data;

static mnd_status plan(mnd_layer *layer, const mnd_plan *how) {
    mnd_status status = MND_OK;
    elu_data *self = layer->self;
    double alpha = 0.0;
    (void)how;
    MND_TRY(mnd_layer_real(layer, 0, "alpha", &alpha));
    MND_TRY(mnd_layer_args(layer, 1));
    self->alpha = (float)alpha;
    layer->out = layer->in;
cleanup:
    return status;
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const elu_data *self = layer->self;
    const size_t n = (size_t)pass->rows * mnd_shape_size(&layer->in);
    memcpy(y, x, n * sizeof *y);
    mnd_exp(n, y);
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0.0F ? x[i] : self->alpha * (y[i] - 1.0F);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const elu_data *self = layer->self;
    const size_t n = (size_t)pass->rows * mnd_shape_size(&layer->in);
    for (size_t i = 0; i < n && dx != NULL; i++)
        dx[i] = x[i] > 0.0F ? dy[i] : (y[i] + self->alpha) * dy[i];
}

const mnd_layer_ops elu = {.kind = "elu",
                           .usage = "elu:alpha",
                           .self_size = sizeof(elu_data),
                           .plan = plan,
                           .forward = forward,
                           .backward = backward};
