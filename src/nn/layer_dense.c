/* Fully connected: y (batch, n) = x (batch, k) w (k, n) + b. */
#include <string.h>

#include "layer.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "parallel.h"
#include "tree.h"

enum { DEEP = 4096 };

/*
 * Where the outputs' first sum ends, 0 if they have but one: of deep and narrow layers, whose
 * columns cannot be dealt out, and of those behind a layer whose columns can be, in two: who has
 * half of these computes the sums over them.
 */
static int first_half(const mnd_layer *layer, int k, int n) {
    const mnd_layer *behind = layer->behind;
    if (k >= DEEP && n < 2 * MND_PIECE) {
        /* Between two pixels, so that a convolution can be divided there, too. */
        const int pixel = behind != NULL && behind->out.ndim == 3 ? behind->out.dim[2] : 1;
        return k % pixel == 0 ? k / pixel / 2 * pixel : k / 2;
    }
    if (behind != NULL && behind->ops == &mnd_layer_dense && behind->half == 0 &&
        k % (2 * MND_PIECE) == 0 && n >= MND_PIECE)
        return k / 2;
    return 0;
}

/* Of the tree of bias gradients. */
static size_t tree_floats(const mnd_layer *layer) {
    return (size_t)MND_TREE_DEPTH * (size_t)layer->out.dim[0];
}

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
    layer->share_dx = 1;
    if (!kernels->whole) layer->half = first_half(layer, k, n);
    layer->apart = (size_t)layer->half * (size_t)n;
    mnd_layer_params(layer, 2, (const int64_t[]){k, n}, n);
    need->scratch = kernels->scratch(rows, n, k, NULL);
    need->state = tree_floats(layer) * sizeof(float);
    if (layer->half > 0) need->state += (size_t)rows * (size_t)n * sizeof(float);
    return MND_OK;
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_pass *pass;
    mnd_product product;
    int piece, from; /* of the gradient: which piece, and its first row */
    bool by_columns; /* threads divide the product's columns among them, else its rows */
    /* Outputs of two sums: the first to be done, and how each is divided by rows. */
    int half, blocks, block_rows;
    const float *second;
    float *y;
    int n, mask_ld; /* columns of the product; from a row of the mask to the next */
} job;

/* ---------------------------------------------------------------------- forward, input gradient */

/*
 * This process' rows alone: those of a segment together where bits hang on that. And rows of
 * `mask`, which may be NULL.
 */
static void own_rows(job *j, const float *x, float *y, const float *mask) {
    const mnd_pass *pass = j->pass;
    mnd_product *p = &j->product;
    const mnd_rows *seg = pass->seg;
    const int groups = pass->kernels->whole ? seg->n_seg : 1;
    for (int g = 0; g <= groups; g++) pass->group[g] = groups == 1 ? g * pass->rows : seg->start[g];
    for (int g = 0; g < groups; g++) {
        pass->x[g] = x + (ptrdiff_t)pass->group[g] * p->ldx;
        if (p->image != NULL) pass->images[g] = pass->image + pass->group[g];
        pass->y[g] = y + (ptrdiff_t)pass->group[g] * p->ldy;
        if (mask != NULL) pass->dy[g] = mask + (ptrdiff_t)pass->group[g] * j->mask_ld;
    }
    p->n_group = groups;
    p->to = j->n;
}

/*
 * The rows of `share` neighbours, its own first, and the columns of them that this process does.
 * x, y and mask: where they lie in its own memory, and so in everybody's; y and mask in two parts
 * if the first of them has `half` columns, not 0. Those who do the same half lie together, so that
 * columns of dx belong to weights of one's own.
 */
static void team_rows(job *j, int share, const float *x, float *y, const float *mask, int half) {
    const mnd_layer *layer = j->layer;
    const mnd_pass *pass = j->pass;
    mnd_product *p = &j->product;
    const mnd_peers *peers = pass->team->peers;
    const int me = peers->rank % share, leader = peers->rank - me;
    const bool halved = layer->share_halves > 1 && share % 2 == 0;
    const int of = halved ? share / 2 : share, part = halved ? me / 2 : me;
    pass->group[0] = 0;
    for (int g = 0; g < share; g++) {
        const int peer = leader + (me + g) % share;
        const int first = mnd_rows_before(pass->team, peer);
        pass->group[g + 1] = pass->group[g] + mnd_rows_before(pass->team, peer + 1) - first;
        const ptrdiff_t before = first - mnd_rows_before(pass->team, peers->rank);
        pass->x[g] = layer->reads_input ? x + before * p->ldx : mnd_of_peer(pass->team, peer, x);
        if (p->image != NULL) pass->images[g] = pass->image + before;
        pass->y[g] = mnd_of_peer(pass->team, peer, y);
        if (mask != NULL) pass->dy[g] = mnd_of_peer(pass->team, peer, mask);
    }
    p->n_group = share;
    const int begin = halved && me % 2 == 1 ? layer->half : 0;
    const int end = halved && me % 2 == 0 ? layer->half : j->n;
    const int64_t lines = (end - begin + MND_LINE_FLOATS - 1) / MND_LINE_FLOATS;
    const int64_t to = begin + lines * (part + 1) / of * MND_LINE_FLOATS;
    p->from = begin + (int)(lines * part / of * MND_LINE_FLOATS);
    p->to = to < end ? (int)to : end;
    if (half == 0) return;
    const int second = p->from >= half;
    const mnd_place place = mnd_part_of(peers, half, j->n, p->ldy - j->n, second);
    const mnd_place of_mask = mnd_part_of(peers, half, j->n, 0, second);
    for (int g = 0; g < share; g++) {
        pass->y[g] += place.at;
        if (mask != NULL) pass->dy[g] += of_mask.at;
    }
    p->ldy = place.ld;
    j->mask_ld = of_mask.ld;
}

/* Where the inputs of half `half` lie from x on. */
static mnd_place input_place(const mnd_layer *layer, const mnd_team *team, int half) {
    const int k = layer->in.dim[0];
    if (team == NULL || !layer->x_apart) return (mnd_place){.at = 0, .ld = k};
    return mnd_part_of(team->peers, layer->half, k, 0, half);
}

/* Where the layer's outputs have two sums, the second of own rows. */
static float *second_sums(const mnd_layer *layer) {
    return layer->extra != NULL ? layer->extra : (float *)layer->state + tree_floats(layer);
}

/* A product of one layer; each row of x and y has a pad behind it. */
typedef struct operands {
    const float *x; /* (rows, k) */
    bool bytes;     /* pass->image stands for it, if that is there */
    float *y;       /* (rows, n) */
    int k, pad_x, n, pad_y;
    float *second;     /* NULL, or where second sums go, those over inputs from layer->half on */
    const float *mask; /* NULL, or (rows, n): see own_rows */
    int half;          /* as in team_rows */
    bool sent;         /* y, of own rows, is what others read next */
    int grain;         /* rows that threads do at a time */
} operands;

/*
 * y from x, or dx from dy, by `run`. Of a team, nobody may read the others' columns before it
 * meets. Rows of second sums and their inputs lie in p.y and p.x behind the others.
 */
static void multiply(const mnd_layer *layer, const mnd_pass *pass, int share, const operands *o,
                     mnd_range_fn run) {
    job j = {.layer = layer,
             .pass = pass,
             .n = o->n,
             .mask_ld = o->n,
             .product = {.start = pass->group,
                         .x = pass->x,
                         .y = pass->y,
                         .k = o->k,
                         .ldx = o->k + o->pad_x,
                         .ldy = o->n + o->pad_y,
                         .image = o->bytes && pass->image != NULL ? pass->images : NULL}};
    mnd_team *const team = share > 1 ? pass->team : NULL;
    float *const y = team == NULL && o->sent && pass->outbox != NULL ? pass->outbox : o->y;
    if (team == NULL) {
        own_rows(&j, o->x, y, o->mask);
    } else {
        mnd_team_meet(team);
        team_rows(&j, share, o->x, o->y, o->mask, o->half);
    }
    for (int g = 0, groups = j.product.n_group; o->second != NULL && g < groups; g++) {
        pass->x[groups + g] = pass->x[g] + layer->half;
        /* As far from each other as those of y. */
        pass->y[groups + g] = o->second + (pass->y[g] - o->y);
    }
    /* By columns, each thread reads but a part of the weights. */
    const int columns = j.product.to - j.product.from, threads = pass->product_threads;
    j.by_columns = threads > 1 && columns >= threads * MND_PIECE;
    if (j.by_columns)
        mnd_parallel(threads, columns, MND_PIECE, run, &j);
    else
        mnd_parallel(threads, pass->group[j.product.n_group], o->grain, run, &j);
    if (team != NULL) team->met = false;
    if (y != o->y) {
        mnd_send(o->y, y, (size_t)pass->rows * (size_t)j.product.ldy * sizeof *y);
        mnd_sent();
    }
}

/* What a thread does of it: the product with its columns; first and last become its rows. */
static mnd_product share_of(const job *j, int *first, int *last) {
    mnd_product p = j->product;
    if (!j->by_columns) return p;
    p.to = p.from + *last;
    p.from += *first;
    *first = 0;
    *last = p.start[p.n_group];
    return p;
}

/* Columns of p by weights w and bias, as they lie in one piece; of two sums, the second goes to the
 * rows behind those of y. */
static void forward_columns(const job *j, int thread, mnd_product p, int first, int last,
                            const float *w, int wide, const float *bias) {
    const mnd_layer *l = j->layer;
    const mnd_kernels *kernels = j->pass->kernels;
    mnd_work *const work = &j->pass->work[thread];
    if (l->half == 0) {
        kernels->forward(work, &p, first, last, w, wide, bias, l->relu);
        return;
    }
    p.k = l->half;
    kernels->forward(work, &p, first, last, w, wide, bias, 0);
    p.k = l->in.dim[0] - l->half;
    p.x += p.n_group;
    p.y += p.n_group;
    kernels->forward(work, &p, first, last, w + (ptrdiff_t)l->half * wide, wide, NULL, 0);
    for (int g = 0, row = first; row < last; row++) {
        while (p.start[g + 1] <= row) g++;
        const ptrdiff_t at = (ptrdiff_t)(row - p.start[g]) * p.ldy + p.from;
        kernels->join((size_t)(p.to - p.from), p.y[g] + at, l->relu, p.y[g - p.n_group] + at);
    }
}

static void forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const int wide = l->out.dim[0] / l->pieces;
    mnd_product p = share_of(j, &first, &last);
    const int to = p.to;
    for (int piece = p.from / wide; p.from < to; p.from = ++piece * wide) {
        const size_t at = (size_t)piece * l->apart + (size_t)(p.from - piece * wide);
        p.to = (piece + 1) * wide < to ? (piece + 1) * wide : to;
        forward_columns(j, thread, p, first, last, l->param + at, wide, l->bias + at);
    }
}

/* Blocks [first, last), those of the first sum before those of the second. */
static void half_blocks(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const int rows = j->product.start[j->product.n_group];
    for (int b = first; b < last; b++) {
        const int which = b / j->blocks, h = j->half + which;
        const int row = b % j->blocks * j->block_rows;
        if (row >= rows) continue;
        mnd_product p = j->product;
        p.x += which;
        p.y += which;
        p.k = h == 0 ? l->half : l->in.dim[0] - l->half;
        j->pass->kernels->forward(&j->pass->work[thread], &p, row,
                                  row + j->block_rows < rows ? row + j->block_rows : rows,
                                  l->param + (size_t)h * l->apart, j->n, h == 0 ? l->bias : NULL,
                                  0);
    }
    if (j->product.away > 0) mnd_sent();
}

static void join_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t n = (size_t)j->n, at = (size_t)first * n;
    (void)thread;
    j->pass->kernels->join((size_t)(last - first) * n, j->second + at, j->layer->relu, j->y + at);
}

/*
 * Two sums, of own rows or one of them of two neighbours' rows: the weights of its half are then
 * nobody else's. The neighbour's rows of it go to his `extra` or come from him.
 */
static void forward_halves(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    mnd_team *const team = layer->share_halves > 1 ? pass->team : NULL;
    const int me = team != NULL ? team->peers->rank % 2 : 0;
    const int threads = pass->product_threads, halves = team == NULL ? 2 : 1;
    const int n = layer->out.dim[0];
    float *const second = second_sums(layer);
    job j = {
        .layer = layer,
        .pass = pass,
        .half = me,
        .blocks = threads > halves ? threads / halves : 1,
        .second = second,
        .y = y,
        .n = n,
        .product = {
            .start = pass->group, .x = pass->x, .y = pass->y, .ldx = layer->in.dim[0], .ldy = n}};
    if (team == NULL) {
        own_rows(&j, x, y, NULL);
        pass->x[1] = x + layer->half;
        pass->y[1] = second;
    } else {
        if (!layer->reads_own) mnd_team_meet(team);
        const mnd_place place = input_place(layer, team, me);
        j.product.ldx = place.ld;
        x += place.at + (ptrdiff_t)me * layer->half;
        team_rows(&j, 2, x, second, NULL, 0);
        pass->y[0] = y;
        j.product.from = 0;
        j.product.to = n;
        j.product.away = pass->outbox != NULL ? 1 : 0;
    }
    j.block_rows = (pass->group[j.product.n_group] + j.blocks - 1) / j.blocks;
    mnd_parallel(threads, halves * j.blocks, 1, half_blocks, &j);
    if (team != NULL) {
        team->met = false;
        mnd_team_meet(team);
        mnd_prefetch(second, (size_t)pass->rows * (size_t)n * sizeof *second);
    }
    mnd_parallel(pass->product_threads, pass->rows, 6, join_range, &j);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    if (layer->half > 0 && layer->pieces == 1)
        forward_halves(layer, pass, x, y);
    else
        multiply(layer, pass, layer->pieces,
                 &(operands){.x = x,
                             .bytes = layer->reads_input,
                             .y = y,
                             .k = layer->in.dim[0],
                             .n = layer->out.dim[0],
                             .second = layer->half > 0 ? second_sums(layer) : NULL,
                             .half = layer->y_apart ? layer->out.dim[0] / 2 : 0,
                             .grain = 6},
                 forward_range);
}

/*
 * The first row, `last` at most, behind those from `row` on that lie one behind the other; *shift:
 * how much farther they lie than if all rows did.
 */
static int together(const mnd_layer *l, int row, int last, ptrdiff_t *shift) {
    const size_t split = (size_t)l->half * (size_t)l->out.dim[0];
    *shift = 0;
    if (l->half == 0 || l->pieces > 1 || l->apart == split) return last;
    if (row >= l->half) *shift = (ptrdiff_t)(l->apart - split);
    return row < l->half && l->half < last ? l->half : last;
}

static void input_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const mnd_product p = share_of(j, &first, &last);
    ptrdiff_t shift;
    for (mnd_product part = p; part.from < p.to; part.from = part.to) {
        part.to = together(l, part.from, p.to, &shift);
        j->pass->kernels->input_grad(&j->pass->work[thread], &part, first, last, l->param + shift,
                                     l->out.dim[0] / l->pieces, (ptrdiff_t)l->apart);
    }
    /* The relu let pass what is above 0 in the rows of x, now at pass->dy. */
    for (int g = 0, row = first; l->masks && row < last; row++) {
        while (p.start[g + 1] <= row) g++;
        const ptrdiff_t r = row - p.start[g];
        j->pass->kernels->relu_backward((size_t)(p.to - p.from),
                                        j->pass->dy[g] + r * j->mask_ld + p.from,
                                        p.y[g] + r * p.ldy + p.from);
    }
}

/* --------------------------------------------------------------------- gradient of the parameters
 */

/* Floats from one row of dy to the next. */
static int apart_dy(const job *j) {
    const mnd_layer *l = j->layer;
    const int n = l->out.dim[0];
    return (j->pass->team != NULL && l->y_apart ? n / 2 : n) + l->pad;
}

static void weight_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_layer *l = j->layer;
    const int n = l->out.dim[0], to = j->from + last;
    const int ldx = input_place(l, j->pass->team, j->from >= l->half).ld;
    const uint8_t *const *const image = l->reads_input ? j->pass->image : NULL;
    ptrdiff_t shift;
    for (int row = j->from + first, end; row < to; row = end) {
        end = together(l, row, to, &shift);
        j->pass->kernels->weight_grad(&j->pass->work[thread], j->pass->seg, row, end, n / l->pieces,
                                      ldx, j->pass->x, image, j->pass->dy, apart_dy(j),
                                      l->grad + (size_t)j->piece * l->apart + shift,
                                      j->pass->grad_stride);
    }
}

static void bias_leaf(void *context, int s, float *out) {
    const job *j = context;
    const int wide = j->layer->out.dim[0] / j->layer->pieces;
    const int *const start = j->pass->seg->start;
    memset(out, 0, (size_t)wide * sizeof *out);
    j->pass->kernels->column_sum(start[s + 1] - start[s], wide, j->pass->dy[s], apart_dy(j), out);
}

void mnd_dense_param_grad(const mnd_layer *layer, const mnd_pass *pass, int piece, int first,
                          int last) {
    const int k = layer->in.dim[0];
    job j = {.layer = layer, .pass = pass, .piece = piece, .from = first};
    mnd_parallel(pass->product_threads, (last < k ? last : k) - first, 6, weight_range, &j);
    if (last > k)
        mnd_tree_over_segments(pass->seg, (size_t)(layer->out.dim[0] / layer->pieces), layer->state,
                               bias_leaf, &j, pass->kernels->add,
                               layer->bias_grad + (size_t)piece * layer->apart, pass->grad_stride);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    const int k = layer->in.dim[0], n = layer->out.dim[0];
    if (!layer->owners || pass->team == NULL) {
        for (int s = 0; s < pass->seg->n_seg; s++) {
            pass->x[s] = x + (ptrdiff_t)pass->seg->start[s] * k;
            pass->dy[s] = dy + (ptrdiff_t)pass->seg->start[s] * (n + layer->pad);
        }
        mnd_dense_param_grad(layer, pass, 0, 0, k + 1);
    }
    if (dx != NULL)
        multiply(layer, pass, layer->share_dx,
                 &(operands){.x = dy,
                             .y = dx,
                             .k = n,
                             .pad_x = layer->pad,
                             .n = k,
                             .pad_y = layer->behind != NULL ? layer->behind->pad : 0,
                             .mask = layer->masks ? x : NULL,
                             .half = layer->x_apart ? layer->half : 0,
                             .sent = layer->sends_dx,
                             .grain = 16},
                 input_range);
}

const mnd_layer_ops mnd_layer_dense = {
    .kind = "dense", .plan = plan, .forward = forward, .backward = backward};
