/* relu, sigmoid, tanh and flatten: element by element, in place. */
#include "layer.h"
#include "parallel.h"

static mnd_status no_arguments(mnd_layer *layer) {
    if (layer->n_arg > 0) return mnd_layer_fail(layer, "takes no arguments");
    layer->out = layer->in;
    layer->elementwise = true;
    return MND_OK;
}

static mnd_status plan_relu(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                            mnd_need *need) {
    (void)kernels;
    (void)rows;
    (void)max_seg;
    (void)need;
    layer->keeps = 1;
    layer->spoils = 1; /* the sign of what was positive stays */
    return no_arguments(layer);
}

static mnd_status plan_curve(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                             mnd_need *need) {
    mnd_status status = plan_relu(layer, kernels, rows, max_seg, need);
    layer->keeps = 2;
    layer->spoils = 0;
    return status;
}

static mnd_status plan_flatten(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                               mnd_need *need) {
    mnd_status status = plan_relu(layer, kernels, rows, max_seg, need);
    layer->keeps = 0;
    layer->spoils = 2;
    layer->skip = true;
    layer->out = (mnd_shape){.ndim = 1, .dim = {(int)mnd_shape_size(&layer->in)}};
    return status;
}

typedef struct job {
    const mnd_pass *pass;
    const float *y;
    float *x;
    size_t size;
} job;

/* One row of the batch after another; in place: y is x. */
#define ROWS(j, first) ((size_t)(first) * (j)->size)

static void relu_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    for (size_t i = ROWS(j, first); i < ROWS(j, last); i++)
        j->x[i] = j->x[i] <= 0.0F ? 0.0F : j->x[i]; /* NaN passes */
}

static void relu_backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    j->pass->kernels->relu_backward(ROWS(j, last - first), j->y + ROWS(j, first),
                                    j->x + ROWS(j, first));
}

static void sigmoid_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    j->pass->kernels->sigmoid(ROWS(j, last - first), j->x + ROWS(j, first));
}

static void sigmoid_backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    for (size_t i = ROWS(j, first); i < ROWS(j, last); i++) j->x[i] *= j->y[i] * (1.0F - j->y[i]);
}

static void tanh_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    j->pass->kernels->tanh(ROWS(j, last - first), j->x + ROWS(j, first));
}

static void tanh_backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    for (size_t i = ROWS(j, first); i < ROWS(j, last); i++) j->x[i] *= 1.0F - j->y[i] * j->y[i];
}

#define ACTIVATION(name, planner)                                                                  \
    static void name##_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) { \
        (void)x;                                                                                   \
        job j = {.pass = pass, .x = y, .size = mnd_shape_size(&layer->in)};                        \
        mnd_parallel(pass->threads, pass->rows, 1, name##_range, &j);                              \
    }                                                                                              \
    static void name##_backward_all(mnd_layer *layer, const mnd_pass *pass, const float *x,        \
                                    const float *y, float *dy, float *dx) {                        \
        (void)x;                                                                                   \
        (void)dx;                                                                                  \
        job j = {.pass = pass, .y = y, .x = dy, .size = mnd_shape_size(&layer->in)};               \
        mnd_parallel(pass->threads, pass->rows, 1, name##_backward_range, &j);                     \
    }                                                                                              \
    const mnd_layer_ops mnd_layer_##name = {.kind = #name,                                         \
                                            .plan = planner,                                       \
                                            .forward = name##_forward,                             \
                                            .backward = name##_backward_all};

extern const mnd_layer_ops mnd_layer_relu, mnd_layer_sigmoid, mnd_layer_tanh, mnd_layer_flatten;

ACTIVATION(relu, plan_relu)
ACTIVATION(sigmoid, plan_curve)
ACTIVATION(tanh, plan_curve)

/* Nothing to do: skip. */
const mnd_layer_ops mnd_layer_flatten = {.kind = "flatten", .plan = plan_flatten};
