/*
 * Convolution over images (batch, h, w, c), kernel (kh, kw, c, n), as cross-correlation, valid or
 * TensorFlow's "same" padding; and the fused form with 2x2 max-pooling behind it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "mnist_dist/logical.h"
#include "parallel.h"
#include "tree.h"

/* Buffers in the layer's state, in floats from its start. */
typedef struct parts {
    size_t flipped; /* (kh, kw, n, c): the kernel for the input gradient */
    size_t tree;    /* MND_TREE_DEPTH sums of kernel and bias */
    size_t second;  /* kernel and bias: the second sum of a segment; fused only */
    size_t sums;    /* what a kernel sums, of two sums: fused only */
    size_t sums_size;
    size_t padded; /* per thread: a padded image, or a spread gradient */
    size_t padded_size;
    size_t arg; /* (rows, ph, pw, n) bytes: fused only */
} parts;

static mnd_conv spread_geometry(const mnd_layer *l) {
    /* The input gradient is a convolution of the gradient, spread by the stride and framed by
       zeros, with the flipped kernel. */
    const mnd_conv *g = &l->geometry;
    const int h = l->in.dim[0], w = l->in.dim[1];
    return (mnd_conv){.h = h + g->kh - 1,
                      .w = w + g->kw - 1,
                      .c = g->n,
                      .kh = g->kh,
                      .kw = g->kw,
                      .stride = 1,
                      .oh = h,
                      .ow = w,
                      .n = g->c};
}

static parts layout(const mnd_layer *l, int threads) {
    const mnd_conv *g = &l->geometry, s = spread_geometry(l);
    parts p = {.flipped = 0};
    p.tree = (l->array[0].count + 15) / 16 * 16;
    const size_t sum = (l->n_param + 15) / 16 * 16;
    p.second = p.tree + (size_t)MND_TREE_DEPTH * sum;
    p.sums = p.second + sum;
    /* Vectors have at most 16 lanes. */
    p.sums_size = (size_t)(l->fan_in + 1) * (((size_t)g->n + 15) / 16 * 16);
    p.padded = p.sums + 2 * p.sums_size;
    const size_t image = (size_t)g->h * (size_t)g->w * (size_t)g->c;
    const size_t spread = (size_t)s.h * (size_t)s.w * (size_t)s.c;
    p.padded_size = ((image > spread ? image : spread) + 15) / 16 * 16;
    p.arg = p.padded + (size_t)threads * p.padded_size;
    return p;
}

static mnd_status plan(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                       mnd_need *need) {
    (void)rows;
    (void)max_seg;
    int n = 0, kh = 0, kw = 0, stride = 1, used = 0;
    bool same = false;
    mnd_status status = mnd_layer_int(layer, 0, "number of filters", &n);
    if (status != MND_OK) return status;
    if (layer->n_arg < 2) return mnd_layer_fail(layer, "the kernel size is missing (conv:28:3)");
    const char *size = layer->arg[1];
    if (sscanf(size, "%4dx%4d%n", &kh, &kw, &used) == 2 && size[used] == '\0') {
        /* height x width */
    } else if (sscanf(size, "%4d%n", &kh, &used) == 1 && size[used] == '\0') {
        kw = kh;
    } else {
        kh = 0;
    }
    if (kh < 1 || kw < 1 || strspn(size, "0123456789x") != strlen(size))
        return mnd_layer_fail(layer, "the kernel size must be like 3 or 3x5, not '%s'", size);
    status = mnd_layer_window(layer, 2, &stride, &same);
    if (status != MND_OK) return status;
    if (layer->in.ndim != 3) return mnd_layer_fail(layer, "needs an image, not flat input");

    const int h = layer->in.dim[0], w = layer->in.dim[1], c = layer->in.dim[2];
    int ph = 0, pw = 0, oh, ow;
    if (same) {
        oh = (h + stride - 1) / stride;
        ow = (w + stride - 1) / stride;
        ph = (oh - 1) * stride + kh - h;
        pw = (ow - 1) * stride + kw - w;
        if (ph < 0) ph = 0;
        if (pw < 0) pw = 0;
    } else {
        if (kh > h || kw > w)
            return mnd_layer_fail(layer, "the kernel is larger than its input of %d x %d", h, w);
        oh = (h - kh) / stride + 1;
        ow = (w - kw) / stride + 1;
    }
    /* The products of geometry below are ints. */
    const double image = ((double)h + ph) * ((double)w + pw) * c;
    const double taps = (double)kh * kw * (c > n ? c : n);
    if (image > 1 << 28 || taps > 1 << 28)
        return mnd_layer_fail(layer, "the kernel is too large for its input of %d x %d x %d", h, w,
                              c);
    layer->pad_top = ph / 2;
    layer->pad_left = pw / 2;
    layer->geometry = (mnd_conv){.h = h + ph,
                                 .w = w + pw,
                                 .c = c,
                                 .kh = kh,
                                 .kw = kw,
                                 .stride = stride,
                                 .oh = oh,
                                 .ow = ow,
                                 .n = n};
    layer->out = (mnd_shape){.ndim = 3, .dim = {oh, ow, n}};
    layer->fan_in = kh * kw * c;
    layer->fan_out = kh * kw * n;
    mnd_layer_params(layer, 4, (const int64_t[]){kh, kw, c, n}, n);
    const mnd_conv spread = spread_geometry(layer);
    need->scratch = kernels->scratch(0, n, kh * kw * c, &layer->geometry);
    const size_t input = kernels->scratch(0, c, kh * kw * n, &spread);
    if (input > need->scratch) need->scratch = input;
    return MND_OK;
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_pass *pass;
    parts at;
    const float *x, *y, *dy;
    float *out;
    int seg;
    /* fused: which rows, pooled positions, and where the largest of each window is noted */
    int row, end, from, to;
    int blocks;      /* of images, where two halves of them are divided among threads */
    mnd_place place; /* of the pooled */
    uint8_t *arg;
    int pair; /* the first process of that which has the next logical rank */
} job;

static job make_job(const mnd_layer *layer, const mnd_pass *pass) {
    return (job){.layer = layer, .pass = pass, .at = layout(layer, pass->threads)};
}

/* Image i of x, with its padding: either as it lies, or copied into the thread's buffer. */
static const float *padded(const job *j, int thread, int i) {
    const mnd_layer *l = j->layer;
    const mnd_conv *g = &l->geometry;
    const int h = l->in.dim[0], w = l->in.dim[1];
    const size_t row = (size_t)(w * g->c);
    const float *image = j->x + (size_t)i * (size_t)h * row;
    if (g->h == h && g->w == w) return image;
    float *buffer = (float *)l->state + j->at.padded + (size_t)thread * j->at.padded_size;
    memset(buffer, 0, (size_t)(g->h * g->w * g->c) * sizeof *buffer);
    for (int y = 0; y < h; y++)
        memcpy(buffer + ((ptrdiff_t)(y + l->pad_top) * g->w + l->pad_left) * g->c,
               image + (size_t)y * row, row * sizeof *buffer);
    return buffer;
}

static void forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const size_t size = mnd_shape_size(&l->out);
    j->pass->kernels->conv_prepare(&j->pass->work[thread], &l->geometry, l->param);
    for (int i = first; i < last; i++)
        j->pass->kernels->conv_forward(&j->pass->work[thread], &l->geometry, padded(j, thread, i),
                                       l->param, l->param + l->array[0].count, l->relu,
                                       j->out + (size_t)i * size);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    job j = make_job(layer, pass);
    j.x = x;
    j.out = y;
    mnd_parallel(pass->threads, pass->rows, 1, forward_range, &j);
}

static void weight_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const size_t size = mnd_shape_size(&l->out);
    for (int i = j->pass->seg->start[j->seg]; i < j->pass->seg->start[j->seg + 1]; i++)
        j->pass->kernels->conv_weight_grad(&j->pass->work[thread], &l->geometry, first, last,
                                           padded(j, thread, i), j->dy + (size_t)i * size, j->out);
}

static void leaf(void *context, int s, float *out) {
    job *j = context;
    const mnd_layer *l = j->layer;
    const int row = j->pass->seg->start[s], positions = l->geometry.oh * l->geometry.ow;
    const int rows = j->pass->seg->start[s + 1] - row;
    memset(out, 0, l->n_param * sizeof *out);
    j->seg = s;
    j->out = out;
    mnd_parallel(j->pass->product_threads, l->fan_in, 6, weight_range, j);
    for (int i = row; i < row + rows; i++)
        j->pass->kernels->column_sum(positions, l->geometry.n,
                                     j->dy + (ptrdiff_t)i * positions * l->geometry.n,
                                     l->geometry.n, out + l->array[0].count);
}

static void input_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const mnd_conv *g = &l->geometry, s = spread_geometry(l);
    const float *flipped = (const float *)l->state + j->at.flipped;
    float *buffer = (float *)l->state + j->at.padded + (size_t)thread * j->at.padded_size;
    const size_t dy_size = mnd_shape_size(&l->out), dx_size = mnd_shape_size(&l->in);
    const size_t pixel = (size_t)g->n;
    j->pass->kernels->conv_prepare(&j->pass->work[thread], &s, flipped);
    const int top = g->kh - 1 - l->pad_top, left = g->kw - 1 - l->pad_left;
    for (int i = first; i < last; i++) {
        const float *dy = j->dy + (size_t)i * dy_size;
        memset(buffer, 0, (size_t)(s.h * s.w) * pixel * sizeof *buffer);
        for (int y = 0; y < g->oh; y++)
            for (int x = 0; x < g->ow; x++)
                memcpy(buffer +
                           ((ptrdiff_t)(top + y * g->stride) * s.w + left + x * g->stride) * g->n,
                       dy + ((ptrdiff_t)y * g->ow + x) * g->n, pixel * sizeof *buffer);
        j->pass->kernels->conv_forward(&j->pass->work[thread], &s, buffer, flipped, NULL, 0,
                                       j->out + (size_t)i * dx_size);
    }
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    job j = make_job(layer, pass);
    j.x = x;
    j.dy = dy;
    mnd_tree_over_segments(pass->seg, layer->n_param, (float *)layer->state + j.at.tree, leaf, &j,
                           pass->kernels->add, layer->grad, pass->grad_stride);
    if (dx == NULL) return;
    const mnd_conv *g = &layer->geometry;
    float *flipped = (float *)layer->state + j.at.flipped;
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++) {
            const float *from =
                layer->param + (ptrdiff_t)((g->kh - 1 - ky) * g->kw + g->kw - 1 - kx) * g->c * g->n;
            float *to = flipped + (ptrdiff_t)(ky * g->kw + kx) * g->n * g->c;
            for (int c = 0; c < g->c; c++)
                for (int n = 0; n < g->n; n++) to[n * g->c + c] = from[c * g->n + n];
        }
    j.out = dx;
    mnd_parallel(pass->threads, pass->rows, 1, input_range, &j);
}

const mnd_layer_ops mnd_layer_conv = {
    .kind = "conv", .plan = plan, .forward = forward, .backward = backward};

/* ------------------------------------------------- conv, bias, relu, maxpool:2 in one go */

static uint8_t *arg_of(const job *j) { return (uint8_t *)((float *)j->layer->state + j->at.arg); }

static int pooled_positions(const mnd_conv *g) { return (g->oh / 2) * (g->ow / 2); }

static size_t pooled_size(const mnd_conv *g) { return (size_t)pooled_positions(g) * (size_t)g->n; }

/* The positions of sum `which` of two; all if there is but one. */
static void positions_of(const mnd_layer *l, int which, int *from, int *to) {
    *from = which == 0 ? 0 : l->split;
    *to = which == 0 && l->split > 0 ? l->split : pooled_positions(&l->geometry);
}

/* Images [first, last) of those at j->x. */
static void fused_forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const size_t in = mnd_shape_size(&l->in), out = pooled_size(&l->geometry);
    mnd_work *const work = &j->pass->work[thread];
    j->pass->kernels->convpool_prepare(work, &l->geometry, l->param, l->bias);
    for (int i = first; i < last; i++)
        j->pass->kernels->convpool_forward(
            work, &l->geometry, j->from, j->to, j->x + (size_t)i * in, l->relu,
            j->out + j->place.at + (ptrdiff_t)i * j->place.ld, j->arg + (size_t)i * out);
}

/* Blocks [first, last), those of the first half of all images before those of the second: each
   thread then leaves its half where it reads it in the dense layer above. */
static void fused_forward_blocks(void *context, int thread, int first, int last) {
    const job *j = context;
    const int rows = j->pass->rows, block_rows = (rows + j->blocks - 1) / j->blocks;
    for (int b = first; b < last; b++) {
        job half = *j;
        positions_of(j->layer, b / j->blocks, &half.from, &half.to);
        const int row = b % j->blocks * block_rows, end = row + block_rows;
        if (row < rows) fused_forward_range(&half, thread, row, end < rows ? end : rows);
    }
}

/*
 * Points the job at the rows of peer p: `mine` are the own rows of the input, which those of the
 * other surround; what was pooled of it lies here.
 */
static void point_at_peer(job *j, int p, const float *mine, const float *y) {
    const mnd_layer *l = j->layer;
    const mnd_team *team = j->pass->team;
    const int me = team->peers->rank;
    const int away = mnd_rows_before(team, p) - mnd_rows_before(team, me);
    j->x = mine + (ptrdiff_t)away * (ptrdiff_t)mnd_shape_size(&l->in);
    j->y = mnd_of_peer(team, p, y);
    j->arg = arg_of(j);
    if (p != me) j->arg += (size_t)team->peers->max_rows * pooled_size(&l->geometry);
    positions_of(l, me % 2, &j->from, &j->to);
    j->place = mnd_part_of(team->peers, l->split * l->geometry.n, (int)pooled_size(&l->geometry), 0,
                           me % 2);
}

static void fused_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    job j = make_job(layer, pass);
    const mnd_team *const team = layer->share_split > 1 ? pass->team : NULL;
    if (team == NULL) {
        j.x = x;
        j.out = y;
        j.arg = arg_of(&j);
        j.to = pooled_positions(&layer->geometry);
        j.place.ld = (int)pooled_size(&layer->geometry);
        j.blocks = pass->threads / 2;
        if (layer->split > 0 && pass->threads % 2 == 0)
            mnd_parallel(pass->threads, 2 * j.blocks, 1, fused_forward_blocks, &j);
        else
            mnd_parallel(pass->threads, pass->rows, 1, fused_forward_range, &j);
        return;
    }
    for (int g = 0; g < 2; g++) {
        const int p = team->peers->rank ^ g;
        point_at_peer(&j, p, x, y);
        j.out = mnd_of_peer(team, p, y);
        mnd_parallel(pass->threads, mnd_rows_before(team, p + 1) - mnd_rows_before(team, p), 1,
                     fused_forward_range, &j);
    }
}

/* Images [j->row, j->end) of those at j->x. */
static void fused_weight_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const size_t in = mnd_shape_size(&l->in), size = pooled_size(&l->geometry);
    (void)thread;
    for (int i = j->row; i < j->end; i++) {
        const ptrdiff_t at = j->place.at + (ptrdiff_t)i * j->place.ld;
        j->pass->kernels->convpool_weight_grad(
            &l->geometry, first, last, j->from, j->to, j->x + (size_t)i * in, j->y + at,
            j->arg + (size_t)i * size, j->dy + at, l->relu, j->out);
    }
}

static int filter_vectors(const job *j) {
    const int lanes = j->pass->kernels->lanes;
    return (j->layer->geometry.n + lanes - 1) / lanes;
}

/* Vectors [first, last) of filters, those of the first sum before those of the second. */
static void fused_halves_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const int vectors = filter_vectors(j);
    for (int v = first, end; v < last; v = end) {
        const int which = v / vectors;
        end = (which + 1) * vectors < last ? (which + 1) * vectors : last;
        job half = *j;
        positions_of(j->layer, which, &half.from, &half.to);
        half.out += (size_t)which * j->at.sums_size;
        fused_weight_range(&half, thread, v - which * vectors, end - which * vectors);
    }
}

/* One sum over the positions of the job. */
static void fused_sum(job *j, float *out) {
    const mnd_layer *l = j->layer;
    j->out = (float *)l->state + j->at.sums;
    memset(j->out, 0, j->at.sums_size * sizeof *j->out);
    mnd_parallel(j->pass->threads, filter_vectors(j), 1, fused_weight_range, j);
    j->pass->kernels->convpool_unpack(&l->geometry, j->out, out, out + l->array[0].count);
}

static void fused_leaf(void *context, int s, float *out) {
    job *j = context;
    const mnd_layer *l = j->layer;
    const mnd_kernels *kernels = j->pass->kernels;
    j->row = j->pass->seg->start[s];
    j->end = j->pass->seg->start[s + 1];
    positions_of(l, 0, &j->from, &j->to);
    if (l->split == 0) {
        fused_sum(j, out);
        return;
    }
    float *const second = (float *)l->state + j->at.second;
    const size_t bias = l->array[0].count, size = j->at.sums_size;
    j->out = (float *)l->state + j->at.sums;
    memset(j->out, 0, 2 * size * sizeof *j->out);
    mnd_parallel(j->pass->threads, 2 * filter_vectors(j), 1, fused_halves_range, j);
    kernels->convpool_unpack(&l->geometry, j->out, out, out + bias);
    kernels->convpool_unpack(&l->geometry, j->out + size, second, second + bias);
    kernels->add(l->n_param, second, out);
}

/* Where process p leaves its sum of logical rank s, which its pair has. */
static float *lent_sum(const mnd_team *team, const mnd_layer *l, int p, int s) {
    const mnd_peers *peers = team->peers;
    const int first = mnd_logical_first(peers->logical, peers->count, p / 2 * 2);
    float *const sums = (float *)(void *)(team->memory[p] + l->shared_sums);
    return sums + (size_t)(s - first) * l->n_param;
}

static void fused_backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                           float *dy, float *dx) {
    (void)dx; /* only ever the first layer with parameters */
    job j = make_job(layer, pass);
    const mnd_team *const team = layer->share_split > 1 ? pass->team : NULL;
    if (team == NULL) {
        j.x = x;
        j.y = y;
        j.dy = dy;
        j.arg = arg_of(&j);
        j.place.ld = (int)pooled_size(&layer->geometry);
        mnd_tree_over_segments(pass->seg, layer->n_param, (float *)layer->state + j.at.tree,
                               fused_leaf, &j, pass->kernels->add, layer->grad, pass->grad_stride);
        return;
    }
    const mnd_peers *peers = team->peers;
    for (int g = 0; g < 2; g++) {
        const int p = peers->rank ^ g;
        point_at_peer(&j, p, x, y);
        j.dy = mnd_of_peer(team, p, dy);
        for (int s = mnd_logical_first(peers->logical, peers->count, p);
             s < mnd_logical_first(peers->logical, peers->count, p + 1); s++) {
            j.row = team->start[s] - mnd_rows_before(team, p);
            j.end = team->start[s + 1] - mnd_rows_before(team, p);
            fused_sum(&j, lent_sum(team, layer, peers->rank, s));
        }
    }
}

/* Logical ranks come in ascending order. */
static void lent_leaf(void *context, int s, float *out) {
    job *j = context;
    const mnd_team *team = j->pass->team;
    const mnd_layer *l = j->layer;
    while (mnd_logical_first(team->peers->logical, team->peers->count, j->pair + 2) <= s)
        j->pair += 2;
    memcpy(out, lent_sum(team, l, j->pair, s), l->n_param * sizeof *out);
    j->pass->kernels->add(l->n_param, lent_sum(team, l, j->pair + 1, s), out);
}

void mnd_conv_param_grad(const mnd_layer *layer, const mnd_pass *pass) {
    job j = make_job(layer, pass);
    mnd_tree_over_segments(pass->seg, layer->n_param, (float *)layer->state + j.at.tree, lent_leaf,
                           &j, pass->kernels->add, layer->grad, pass->grad_stride);
}

const mnd_layer_ops mnd_layer_convpool = {
    .kind = "conv", .plan = plan, .forward = fused_forward, .backward = fused_backward};

size_t mnd_conv_state(const mnd_layer *layer, int rows, int threads) {
    const parts p = layout(layer, threads);
    size_t bytes = p.arg * sizeof(float);
    if (layer->ops == &mnd_layer_convpool) bytes += (size_t)rows * pooled_size(&layer->geometry);
    return bytes;
}
