/* layer_activation.c - relu, sigmoid and tanh, element by element. */
#include "exp.h"
#include "layer_kinds.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/vector.h"

/* y = f(x), or dx from dy and y, for n elements. */
typedef void value_fn(size_t n, const float *x, float *y);
typedef void slope_fn(size_t n, const float *y, const float *dy, float *dx);

typedef struct job {
    value_fn *value;
    slope_fn *slope;
    const float *x, *y, *dy;
    float *out;
    size_t size; /* of a row */
} job;

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    (void)p;
    layer->out = layer->in;
    return mnd_layer_args(layer, 0);
}

static void value_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t at = (size_t)first * j->size;
    (void)thread;
    j->value((size_t)(last - first) * j->size, j->x + at, j->out + at);
}

static void slope_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t at = (size_t)first * j->size;
    (void)thread;
    j->slope((size_t)(last - first) * j->size, j->y + at, j->dy + at, j->out + at);
}

static void apply(const mnd_layer *layer, const mnd_pass *pass, job j) {
    j.size = mnd_shape_size(&layer->in);
    mnd_parallel(pass->workers->threads, pass->rows, 1, j.value != NULL ? value_range : slope_range,
                 &j);
}

MND_EACH_WIDTH static void relu_slope(size_t n, const float *restrict y, const float *restrict dy,
                                      float *restrict dx) {
    for (size_t i = 0; i < n; i++) dx[i] = y[i] > 0.0F ? dy[i] : 0.0F;
}

MND_EACH_WIDTH static void sigmoid_value(size_t n, const float *restrict x, float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = mnd_sigmoid_one(x[i]);
}

MND_EACH_WIDTH static void sigmoid_slope(size_t n, const float *restrict y,
                                         const float *restrict dy, float *restrict dx) {
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * (y[i] * (1.0F - y[i]));
}

MND_EACH_WIDTH static void tanh_value(size_t n, const float *restrict x, float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = mnd_tanh_one(x[i]);
}

MND_EACH_WIDTH static void tanh_slope(size_t n, const float *restrict y, const float *restrict dy,
                                      float *restrict dx) {
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * (1.0F - y[i] * y[i]);
}

#define ACTIVATION(name, value_of, slope_of)                                                       \
    static void name##_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) { \
        apply(layer, pass, (job){.value = value_of, .x = x, .out = y});                            \
    }                                                                                              \
    static void name##_backward(mnd_layer *layer, const mnd_pass *pass, const float *x,            \
                                const float *y, float *dy, float *dx) {                            \
        (void)x;                                                                                   \
        if (dx != NULL) apply(layer, pass, (job){.slope = slope_of, .y = y, .dy = dy, .out = dx}); \
    }                                                                                              \
    const mnd_layer_ops mnd_layer_##name = {.kind = #name,                                         \
                                            .usage = #name,                                        \
                                            .plan = plan,                                          \
                                            .forward = name##_forward,                             \
                                            .backward = name##_backward};

ACTIVATION(relu, mnd_relu, relu_slope)
ACTIVATION(sigmoid, sigmoid_value, sigmoid_slope)
ACTIVATION(tanh, tanh_value, tanh_slope)
