/* model.c - the forward and the backward pass: layer after layer, and back. */
#include "model_impl.h"

#include "mnist_dist/loss.h"

static mnd_pass make_pass(const mnd_model *model, int rows, const mnd_batch *batch) {
    return (mnd_pass){.kernels = model->kernels,
                      .workers = &model->workers,
                      .rows = rows,
                      .seg = batch != NULL ? batch->seg : NULL,
                      .batch = batch,
                      .grad_stride = model->grad_stride};
}

/* What layer i reads. */
static const float *input_of(const mnd_model *model, int i) {
    return i == 0 ? model->x : model->layer[i - 1].y;
}

/* The outputs of the last layer. */
static const float *run_forward(mnd_model *model, const mnd_pass *pass) {
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        if (l->ops->forward != NULL) l->ops->forward(l, pass, input_of(model, i), l->y);
    }
    return model->layer[model->n_layer - 1].y;
}

/* From dy, the gradient of the last layer's outputs, down to the first layer with parameters. */
static void run_backward(mnd_model *model, const mnd_pass *pass, float *dy) {
    for (int i = model->n_layer - 1; i >= model->first_with_arrays; i--) {
        mnd_layer *const l = &model->layer[i];
        if (l->ops->backward == NULL) continue;
        float *dx = dy == model->d[0] ? model->d[1] : model->d[0];
        if (l->ops->in_place) dx = dy;
        if (i == model->first_with_arrays) dx = NULL;
        l->ops->backward(l, pass, input_of(model, i), l->y, dy, dx);
        if (dx != NULL) dy = dx;
    }
}

void mnd_model_gradient(mnd_model *model, const mnd_batch *batch, double *loss_sum,
                        int64_t *correct) {
    const mnd_segments *seg = batch->seg;
    const mnd_pass pass = make_pass(model, seg->start[seg->n_seg], batch);
    const float *logits = run_forward(model, &pass);
    float *const d = model->d[0];
    for (int s = 0; s < seg->n_seg; s++) {
        const int first = seg->start[s], rows = seg->start[s + 1] - first;
        const ptrdiff_t at = (ptrdiff_t)first * model->classes;
        correct[s] = 0;
        const uint8_t *const label = batch->label + first;
        loss_sum[s] = mnd_cross_entropy(logits + at, label, rows, model->classes, batch->scale,
                                        d + at, &correct[s]);
        loss_sum[s] += mnd_smooth_labels(logits + at, label, rows, model->classes, batch->smoothing,
                                         batch->scale, d + at);
    }
    run_backward(model, &pass, d);
}

const float *mnd_model_forward(mnd_model *model, int n) {
    const mnd_pass pass = make_pass(model, n, NULL);
    return run_forward(model, &pass);
}

float *mnd_model_input(mnd_model *model) { return model->x; }

void mnd_model_bind(mnd_model *model, float *param, float *grad, size_t grad_stride) {
    model->param = param;
    model->grad = grad;
    model->grad_stride = grad_stride;
    for (int i = 0; i < model->n_layer; i++) {
        mnd_layer *const l = &model->layer[i];
        for (int a = 0; a < l->n_array; a++) {
            l->array[a].value = param + l->array[a].offset;
            l->array[a].grad = grad != NULL ? grad + l->array[a].offset : NULL;
        }
    }
}
