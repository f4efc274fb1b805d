/*
 * layer_lstm.c - long short-term memory (Hochreiter, Schmidhuber, Neural Computation 1997, with the
 * forget gate of Gers et al., 2000). An image (h, w, c) is a sequence of h steps of w * c features;
 * the output is the hidden state after the last. With a kernel (w * c, 4 n), a recurrent kernel
 * (n, 4 n) and a bias (4 n), as Keras' LSTM, gates in the order i, f, g, o:
 *
 *     z = x kernel + bias + hidden recurrent_kernel
 *     i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_g)
 *     cell = f cell + i g;  hidden = o tanh(cell)
 *
 * What is kept of all steps lies as (rows, h, ...): so the gradients of both kernels are products
 * over all rows and steps, in which a segment has h times its rows, added in the order in which
 * they lie: row by row, and of a row step by step.
 */
#include <limits.h>
#include <string.h>

#include "exp.h"
#include "layer_kinds.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/tree.h"
#include "mnist_dist/vector.h"

enum { KERNEL, RECURRENT, BIAS, N_ARRAY, MOST = 1 << 28 };

typedef struct lstm {
    int steps, features, units;
    int rows, max_seg; /* of the largest batch */
} lstm;

/* The state. "Before": a step finds it, zeros at the first one. */
typedef struct memory {
    float *gate;   /* (rows, steps, 4 units) i, f, g, o; the backward pass puts dz in their place */
    float *cell;   /* (rows, steps, units) before each step */
    float *hidden; /* (rows, steps, units) before each step */
    float *squash; /* (rows, steps, units) tanh(cell) after each step */
    float *z;      /* (rows, 4 units) hidden times recurrent kernel of one step */
    float *dh;     /* (rows, units) gradient of hidden */
    float *dcell;  /* (rows, units) gradient of cell */
    float *stack;  /* for the bias' gradient */
    int *start;    /* (segments + 1) where each begins, in rows times steps */
} memory;

/* The parts of the state in m, where there is one yet, and its size in bytes. */
static size_t parts_of(const lstm *l, void *state, memory *m) {
    const size_t rows = (size_t)l->rows, n = (size_t)l->units, all = rows * (size_t)l->steps * n;
    const size_t stack = (size_t)mnd_tree_depth(l->max_seg) * 4 * n;
    const size_t size[] = {
        4 * all, all, all, all, 4 * rows * n, rows * n, rows * n, stack, (size_t)l->max_seg + 1};
    float **const part[] = {&m->gate, &m->cell, &m->hidden, &m->squash,
                            &m->z,    &m->dh,   &m->dcell,  &m->stack};
    size_t at = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        *part[i] = state != NULL ? (float *)state + at : NULL;
        at += mnd_align_up(size[i] * sizeof(float)) / sizeof(float);
    }
    m->start = state != NULL ? (int *)((float *)state + at) : NULL;
    return (at + size[sizeof part / sizeof part[0]]) * sizeof(float);
}

static mnd_status check(const mnd_layer *layer, const lstm *l, int rows) {
    if ((double)l->steps * 4 * l->units > MOST)
        return mnd_layer_fail(layer, "it is too large: %d steps of 4 x %d numbers", l->steps,
                              l->units);
    if ((double)rows * l->steps > INT_MAX)
        return mnd_fail(MND_NO_MEMORY, "model, layer %d (%s): a batch of %d images is too large",
                        layer->index + 1, layer->text, rows);
    return MND_OK;
}

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    mnd_status status = MND_OK;
    lstm *const l = layer->self;
    memory m;
    int n = 0;
    MND_TRY(mnd_layer_int(layer, 0, "number of units", &n));
    MND_TRY(mnd_layer_args(layer, 1));
    if (layer->in.ndim != 3)
        return mnd_layer_fail(layer, "needs an image, whose rows are its steps, not flat input");
    const int k = layer->in.dim[1] * layer->in.dim[2];
    *l = (lstm){layer->in.dim[0], k, n, p->rows, p->max_seg};
    MND_TRY(check(layer, l, p->rows));
    layer->out = (mnd_shape){.ndim = 1, .dim = {n}};
    layer->n_array = N_ARRAY;
    layer->array[KERNEL] = (mnd_array){.name = "kernel",
                                       .ndim = 2,
                                       .dim = {k, 4 * n},
                                       .init = MND_INIT_GLOROT,
                                       .fan_in = k,
                                       .fan_out = 4 * n};
    layer->array[RECURRENT] = (mnd_array){
        .name = "recurrent_kernel", .ndim = 2, .dim = {n, 4 * n}, .init = MND_INIT_ORTHOGONAL};
    layer->array[BIAS] =
        (mnd_array){.name = "bias", .ndim = 1, .dim = {4 * n}, .init = MND_INIT_FORGET};
    const int width = k > n ? k : n;
    layer->scratch = p->kernels->product_scratch(p->rows * l->steps, width, 4 * n, p->max_seg);
    layer->state_size = parts_of(l, NULL, &m);
cleanup:
    return status;
}

/* One step of one pass. */
typedef struct job {
    const lstm *l;
    memory m;
    int t;
    float *y;        /* the outputs */
    const float *dh; /* (rows, units) gradient of the hidden state after the step */
} job;

/* One step of one row. */
MND_EACH_WIDTH static void advance(size_t n, float *restrict gate, const float *restrict z,
                                   const float *restrict cell, float *restrict next_cell,
                                   float *restrict squash, float *restrict next_hidden) {
    float *const restrict i = gate, *const restrict f = gate + n, *const restrict g = f + n,
                          *const restrict o = g + n;
    for (size_t u = 0; u < n; u++) {
        i[u] = mnd_sigmoid_one(i[u] + z[u]);
        f[u] = mnd_sigmoid_one(f[u] + z[n + u]);
        g[u] = mnd_tanh_one(g[u] + z[2 * n + u]);
        o[u] = mnd_sigmoid_one(o[u] + z[3 * n + u]);
        next_cell[u] = f[u] * cell[u] + i[u] * g[u];
        squash[u] = mnd_tanh_one(next_cell[u]);
        next_hidden[u] = o[u] * squash[u];
    }
}

static void forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t n = (size_t)j->l->units, steps = (size_t)j->l->steps;
    const bool ends = j->t + 1 == j->l->steps;
    (void)thread;
    for (size_t r = (size_t)first; r < (size_t)last; r++) {
        const size_t at = r * steps + (size_t)j->t;
        /* After the last step the cell is of no use: dcell is free in the forward pass. */
        advance(n, j->m.gate + at * 4 * n, j->m.z + r * 4 * n, j->m.cell + at * n,
                ends ? j->m.dcell + r * n : j->m.cell + (at + 1) * n, j->m.squash + at * n,
                ends ? j->y + r * n : j->m.hidden + (at + 1) * n);
    }
}

/* Before the first step: no hidden state, no cell. */
static void begin(const lstm *l, const memory *m, int rows) {
    const size_t n = (size_t)l->units;
    memset(m->z, 0, (size_t)rows * 4 * n * sizeof *m->z);
    for (size_t r = 0; r < (size_t)rows; r++) {
        memset(m->cell + r * (size_t)l->steps * n, 0, n * sizeof *m->cell);
        memset(m->hidden + r * (size_t)l->steps * n, 0, n * sizeof *m->hidden);
    }
}

/* The segments of products over all rows and steps; `start` is theirs. */
static mnd_segments in_steps(const mnd_segments *seg, int steps, int *start) {
    for (int s = 0; s <= seg->n_seg; s++) start[s] = seg->start[s] * steps;
    return (mnd_segments){
        .n_seg = seg->n_seg, .start = start, .n_subtree = seg->n_subtree, .subtree = seg->subtree};
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const lstm *l = layer->self;
    job j = {.l = l, .y = y};
    (void)parts_of(l, layer->state, &j.m);
    const int n = l->units;
    mnd_segments all = {0};
    if (pass->seg != NULL) all = in_steps(pass->seg, l->steps, j.m.start);
    pass->kernels->forward(pass->workers, &(mnd_product){.m = pass->rows * l->steps,
                                                         .n = 4 * n,
                                                         .k = l->features,
                                                         .a = x,
                                                         .lda = l->features,
                                                         .b = layer->array[KERNEL].value,
                                                         .ldb = 4 * n,
                                                         .c = j.m.gate,
                                                         .ldc = 4 * n,
                                                         .bias = layer->array[BIAS].value,
                                                         .seg = pass->seg != NULL ? &all : NULL});
    begin(l, &j.m, pass->rows);
    for (; j.t < l->steps; j.t++) {
        if (j.t > 0)
            pass->kernels->forward(pass->workers,
                                   &(mnd_product){.m = pass->rows,
                                                  .n = 4 * n,
                                                  .k = n,
                                                  .a = j.m.hidden + (ptrdiff_t)j.t * n,
                                                  .lda = l->steps * n,
                                                  .b = layer->array[RECURRENT].value,
                                                  .ldb = 4 * n,
                                                  .c = j.m.z,
                                                  .ldc = 4 * n,
                                                  .seg = pass->seg});
        mnd_parallel(pass->workers->threads, pass->rows, 1, forward_range, &j);
    }
}

/* The gradients of one step of one row: that of z takes the place of the gates, that of the cell
   before the step the place of that after it. */
MND_EACH_WIDTH static void retreat(size_t n, float *restrict gate, const float *restrict cell,
                                   const float *restrict squash, const float *restrict dh,
                                   float *restrict dcell) {
    for (size_t u = 0; u < n; u++) {
        const float i = gate[u], f = gate[n + u], g = gate[2 * n + u], o = gate[3 * n + u];
        const float d = dcell[u] + dh[u] * o * (1.0F - squash[u] * squash[u]);
        gate[u] = d * g * (i * (1.0F - i));
        gate[n + u] = d * cell[u] * (f * (1.0F - f));
        gate[2 * n + u] = d * i * (1.0F - g * g);
        gate[3 * n + u] = dh[u] * squash[u] * (o * (1.0F - o));
        dcell[u] = d * f;
    }
}

static void backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t n = (size_t)j->l->units;
    (void)thread;
    for (size_t r = (size_t)first; r < (size_t)last; r++) {
        const size_t at = r * (size_t)j->l->steps + (size_t)j->t;
        retreat(n, j->m.gate + at * 4 * n, j->m.cell + at * n, j->m.squash + at * n, j->dh + r * n,
                j->m.dcell + r * n);
    }
}

/* dz of all steps, the last first. */
static void through_time(const mnd_layer *layer, const mnd_pass *pass, job *j) {
    const int n = j->l->units, steps = j->l->steps;
    memset(j->m.dcell, 0, (size_t)pass->rows * (size_t)n * sizeof(float));
    for (j->t = steps - 1; j->t >= 0; j->t--) {
        mnd_parallel(pass->workers->threads, pass->rows, 1, backward_range, j);
        if (j->t == 0) break;
        pass->kernels->input_grad(pass->workers,
                                  &(mnd_product){.m = pass->rows,
                                                 .n = n,
                                                 .k = 4 * n,
                                                 .a = j->m.gate + (ptrdiff_t)j->t * 4 * n,
                                                 .lda = steps * 4 * n,
                                                 .b = layer->array[RECURRENT].value,
                                                 .ldb = 4 * n,
                                                 .c = j->m.dh,
                                                 .ldc = n,
                                                 .seg = pass->seg});
        j->dh = j->m.dh;
    }
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const lstm *l = layer->self;
    const int n = l->units;
    job j = {.l = l, .dh = dy};
    (void)y;
    (void)parts_of(l, layer->state, &j.m);
    through_time(layer, pass, &j);
    const float *const dz = j.m.gate;
    const mnd_segments all = in_steps(pass->seg, l->steps, j.m.start);
    mnd_product p = {.m = l->features,
                     .n = 4 * n,
                     .k = pass->rows * l->steps,
                     .a = x,
                     .lda = l->features,
                     .b = dz,
                     .ldb = 4 * n,
                     .c = layer->array[KERNEL].grad,
                     .ldc = 4 * n,
                     .seg = &all,
                     .stride = pass->grad_stride};
    pass->kernels->weight_grad(pass->workers, &p);
    p.m = p.lda = n;
    p.a = j.m.hidden;
    p.c = layer->array[RECURRENT].grad;
    pass->kernels->weight_grad(pass->workers, &p);
    mnd_tree_sum_rows(&all, 4 * (size_t)n, dz, j.m.stack, layer->array[BIAS].grad,
                      pass->grad_stride);
    if (dx == NULL) return;
    pass->kernels->input_grad(pass->workers, &(mnd_product){.m = pass->rows * l->steps,
                                                            .n = l->features,
                                                            .k = 4 * n,
                                                            .a = dz,
                                                            .lda = 4 * n,
                                                            .b = layer->array[KERNEL].value,
                                                            .ldb = 4 * n,
                                                            .c = dx,
                                                            .ldc = l->features,
                                                            .seg = &all});
}

const mnd_layer_ops mnd_layer_lstm = {.kind = "lstm",
                                      .usage = "lstm:n",
                                      .self_size = sizeof(lstm),
                                      .plan = plan,
                                      .forward = forward,
                                      .backward = backward};
