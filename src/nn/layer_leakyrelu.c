/*
 * layer_leakyrelu.c - leaky relu (Maas, Hannun, Ng, ICML 2013): y = x where x > 0, else slope * x.
 * The default slope is Keras' 0.3.
 */
#include "layer_kinds.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/vector.h"

typedef struct leaky {
    float slope;
} leaky;

/* out = a where x is positive, else slope * a: a is x, or the gradient of y. */
typedef struct job {
    float slope;
    size_t size; /* of a row */
    const float *x, *a;
    float *out;
} job;

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    mnd_status status = MND_OK;
    double slope = 0.3;
    (void)p;
    MND_TRY(mnd_layer_args(layer, 1));
    if (layer->args.n > 0) MND_TRY(mnd_layer_real(layer, 0, "slope", &slope));
    if (!(slope >= 0.0))
        return mnd_layer_fail(layer, "the slope must not be negative: '%s'", layer->args.word[0]);
    ((leaky *)layer->self)->slope = (float)slope;
    layer->out = layer->in;
cleanup:
    return status;
}

MND_EACH_WIDTH static void scale(size_t n, float slope, const float *x, const float *a,
                                 float *restrict out) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] > 0.0F ? a[i] : slope * a[i];
}

static void range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t at = (size_t)first * j->size;
    (void)thread;
    scale((size_t)(last - first) * j->size, j->slope, j->x + at, j->a + at, j->out + at);
}

static void run(const mnd_layer *layer, const mnd_pass *pass, const float *x, const float *a,
                float *out) {
    const leaky *self = layer->self;
    job j = {.slope = self->slope, .size = mnd_shape_size(&layer->in), .x = x, .a = a, .out = out};
    mnd_parallel(pass->workers->threads, pass->rows, 1, range, &j);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    run(layer, pass, x, x, y);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    if (dx != NULL) run(layer, pass, x, dy, dx);
}

const mnd_layer_ops mnd_layer_leakyrelu = {.kind = "leakyrelu",
                                           .usage = "leakyrelu[:slope]",
                                           .self_size = sizeof(leaky),
                                           .plan = plan,
                                           .forward = forward,
                                           .backward = backward};
