/* Fully connected: y (batch, n) = x (batch, k) w (k, n) + b. */
#include <string.h>

#include "layer.h"
#include "parallel.h"
#include "tree.h"

static mnd_status plan(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                       mnd_need *need) {
    int n = 0;
    (void)max_seg;
    mnd_status status = mnd_layer_int(layer, 0, "number of outputs", &n);
    if (status != MND_OK) return status;
    if (layer->n_arg > 1)
        return mnd_layer_fail(layer, "'%s' is one argument too many", layer->arg[1]);
    if (layer->in.ndim != 1)
        return mnd_layer_fail(layer, "needs flat input, not an image: put flatten before it");
    const int k = layer->in.dim[0];
    layer->out = (mnd_shape){.ndim = 1, .dim = {n}};
    layer->fan_in = k;
    layer->fan_out = n;
    mnd_layer_params(layer, 2, (const int64_t[]){k, n}, n);
    need->scratch = kernels->scratch(rows, n, k, NULL);
    /* the tree of bias gradients */
    need->state = (size_t)MND_TREE_DEPTH * (size_t)n * sizeof(float);
    return MND_OK;
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_pass *pass;
    const float *x, *dy;
    float *y, *dx;
    int from; /* first row of the weight gradient */
} job;

static void forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const int k = l->in.dim[0], n = l->out.dim[0];
    j->pass->kernels->forward(&j->pass->work[thread], j->pass->seg, first, last, n, k, j->x,
                              l->param, l->param + l->array[0].count, l->relu, j->y);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    job j = {.layer = layer, .pass = pass, .x = x, .y = y};
    mnd_parallel(pass->product_threads, pass->rows, 6, forward_range, &j);
}

static void input_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    j->pass->kernels->input_grad(&j->pass->work[thread], j->pass->seg, first, last, l->out.dim[0],
                                 l->in.dim[0], j->dy, l->param, j->dx);
}

static void weight_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    j->pass->kernels->weight_grad(&j->pass->work[thread], j->pass->seg, j->from + first,
                                  j->from + last, l->out.dim[0], l->in.dim[0], j->pass->x,
                                  j->pass->dy, l->grad, j->pass->grad_stride);
}

void mnd_dense_weight_grad(const mnd_layer *layer, const mnd_pass *pass, int first, int last) {
    job j = {.layer = layer, .pass = pass, .from = first};
    mnd_parallel(pass->product_threads, last - first, 6, weight_range, &j);
}

static void bias_leaf(void *context, int s, float *out) {
    const job *j = context;
    const int n = j->layer->out.dim[0], row = j->pass->seg->start[s];
    memset(out, 0, (size_t)n * sizeof *out);
    j->pass->kernels->column_sum(j->pass->seg->start[s + 1] - row, n, j->dy + (ptrdiff_t)row * n,
                                 out);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    job j = {.layer = layer, .pass = pass, .x = x, .dy = dy, .dx = dx};
    const int k = layer->in.dim[0], n = layer->out.dim[0];
    if (layer->dy == NULL) {
        for (int s = 0; s < pass->seg->n_seg; s++) {
            pass->x[s] = x + (ptrdiff_t)pass->seg->start[s] * k;
            pass->dy[s] = dy + (ptrdiff_t)pass->seg->start[s] * n;
        }
        mnd_dense_weight_grad(layer, pass, 0, k);
    }
    mnd_tree_over_segments(pass->seg, (size_t)n, layer->state, bias_leaf, &j, pass->kernels->add,
                           layer->grad + layer->array[0].count, pass->grad_stride);
    if (dx != NULL) mnd_parallel(pass->product_threads, pass->rows, 16, input_range, &j);
}

const mnd_layer_ops mnd_layer_dense = {
    .kind = "dense", .plan = plan, .forward = forward, .backward = backward};
