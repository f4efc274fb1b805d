/* layer_dense.c - fully connected: y (rows, n) = x (rows, k) w (k, n) + b (n). */
#include "layer_kinds.h"
#include "mnist_dist/tree.h"

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    mnd_status status = MND_OK;
    int n = 0;
    MND_TRY(mnd_layer_int(layer, 0, "number of outputs", &n));
    MND_TRY(mnd_layer_args(layer, 1));
    if (layer->in.ndim != 1)
        return mnd_layer_fail(layer, "needs flat input, not an image: put flatten before it");
    const int k = layer->in.dim[0];
    layer->out = (mnd_shape){.ndim = 1, .dim = {n}};
    mnd_layer_params(layer, 2, (const int64_t[]){k, n});
    layer->scratch = p->kernels->product_scratch(p->rows, k, n, p->max_seg);
    layer->state_size = (size_t)mnd_tree_depth(p->max_seg) * (size_t)n * sizeof(float);
cleanup:
    return status;
}

void mnd_dense_forward(const mnd_layer *layer, const mnd_pass *pass, const float *x, float *y,
                       bool relu) {
    const int k = layer->in.dim[0], n = layer->out.dim[0];
    pass->kernels->forward(pass->workers, &(mnd_product){.m = pass->rows,
                                                         .n = n,
                                                         .k = k,
                                                         .a = x,
                                                         .lda = k,
                                                         .b = layer->array[0].value,
                                                         .ldb = n,
                                                         .c = y,
                                                         .ldc = n,
                                                         .bias = layer->array[1].value,
                                                         .relu = relu,
                                                         .seg = pass->seg});
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    mnd_dense_forward(layer, pass, x, y, false);
}

/* dw = x^T dy and db = the sum of dy, segment by segment; dx = dy w^T. */
static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    const int k = layer->in.dim[0], n = layer->out.dim[0];
    pass->kernels->weight_grad(pass->workers, &(mnd_product){.m = k,
                                                             .n = n,
                                                             .k = pass->rows,
                                                             .a = x,
                                                             .lda = k,
                                                             .b = dy,
                                                             .ldb = n,
                                                             .c = layer->array[0].grad,
                                                             .ldc = n,
                                                             .seg = pass->seg,
                                                             .stride = pass->grad_stride});
    mnd_tree_sum_rows(pass->seg, (size_t)n, dy, layer->state, layer->array[1].grad,
                      pass->grad_stride);
    if (dx == NULL) return;
    pass->kernels->input_grad(pass->workers, &(mnd_product){.m = pass->rows,
                                                            .n = k,
                                                            .k = n,
                                                            .a = dy,
                                                            .lda = n,
                                                            .b = layer->array[0].value,
                                                            .ldb = n,
                                                            .c = dx,
                                                            .ldc = k,
                                                            .seg = pass->seg});
}

const mnd_layer_ops mnd_layer_dense = {
    .kind = "dense", .usage = "dense:n", .plan = plan, .forward = forward, .backward = backward};
