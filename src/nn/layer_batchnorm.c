/*
 * layer_batchnorm.c - batch normalization (Ioffe and Szegedy, ICML 2015) of each channel of an
 * image, or of each feature of flat input:
 *
 *     y = gamma (x - mean) / sqrt(variance + EPSILON) + beta
 *
 * In training mean and (biased) variance are those of each group of the batch alone (mnd_batch; the
 * ghost batches of Hoffer et al., NIPS 2017), or with "sync" of the whole batch. Otherwise they are
 * the running ones: of each batch they take the part 1 - momentum, groups weighted by their rows.
 *
 * A group is read as a matrix whose columns are channels, in blocks of LINES lines. A line holds as
 * many pixels side by side as fit LANES, so that few channels fill a vector, too. Within a block
 * each lane is a chain of floats: its mean, then the squares of the distances from it. Lanes and
 * blocks are added in double, in ascending order. So the bits depend on the group alone. Squares
 * are combined about the running mean, which every process has (Chan, Golub, LeVeque, 1983).
 */
#include <math.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/tree.h"
#include "mnist_dist/vector.h"

enum { LANES = 64, LINES = 64 };
enum { GAMMA, BETA, MEAN, VARIANCE, ARRAYS };
static const double EPSILON = 1e-3; /* as Keras */

typedef struct batchnorm {
    double momentum;
    bool sync, relu; /* relu: with the relu that follows it (fuse.c) */
    int c, pixels;   /* channels; pixels of a sample */
    int repeat;      /* pixels of a line */
    int blocks, groups, depth;
} batchnorm;

/* Memory from forward to backward. Statistics are those of a group; with sync there is one. */
typedef struct memory {
    int *first;    /* (groups + 1) its first block */
    double *part;  /* (blocks, 2, c) sums of each block */
    double *total; /* (groups, 2 * c + 1) of each group */
    double *count; /* (groups) elements of a channel that the statistics are of */
    float *mean, *variance, *inverse; /* (groups, c); inverse: 1 / sqrt(variance + EPSILON) */
    float *factor;                    /* (groups, 5, line) factors of the lanes of a line */
    float *stack;                     /* (depth, ARRAYS, c) */
} memory;

/* The factors of a line. y = (x - mean) scale + beta; dx = scale ((dy - shift) - (x - mean) slope)
 */
typedef struct factors {
    float *mean, *scale, *beta, *shift, *slope;
} factors;

static size_t line_of(const batchnorm *b) { return (size_t)b->repeat * (size_t)b->c; }

static void *take(char *state, size_t *at, size_t n, size_t size) {
    void *const p = state != NULL ? state + *at : NULL;
    *at += mnd_align_up(n * size);
    return p;
}

/* Divides the state; returns its size. */
static size_t divide(const batchnorm *b, void *state, memory *m) {
    const size_t c = (size_t)b->c, groups = (size_t)b->groups;
    size_t at = 0;
    m->first = take(state, &at, groups + 1, sizeof *m->first);
    m->part = take(state, &at, (size_t)b->blocks * 2 * c, sizeof *m->part);
    m->total = take(state, &at, groups * (2 * c + 1), sizeof *m->total);
    m->count = take(state, &at, groups, sizeof *m->count);
    m->mean = take(state, &at, groups * c, sizeof *m->mean);
    m->variance = take(state, &at, groups * c, sizeof *m->variance);
    m->inverse = take(state, &at, groups * c, sizeof *m->inverse);
    m->factor = take(state, &at, groups * 5 * line_of(b), sizeof *m->factor);
    m->stack = take(state, &at, (size_t)b->depth * ARRAYS * c, sizeof *m->stack);
    return at;
}

static factors factors_of(const batchnorm *b, const memory *m, int group) {
    const size_t line = line_of(b);
    float *const at = m->factor + (size_t)group * 5 * line;
    return (factors){at, at + line, at + 2 * line, at + 3 * line, at + 4 * line};
}

/* [:momentum][:sync] */
static mnd_status read_arguments(const mnd_layer *layer, batchnorm *b) {
    b->momentum = 0.9;
    for (int i = 0; i < layer->args.n; i++) {
        if (i == layer->args.n - 1 && strcmp(layer->args.word[i], "sync") == 0) {
            b->sync = true;
            continue;
        }
        if (i > 0) return mnd_layer_args(layer, i);
        const mnd_status status = mnd_layer_real(layer, i, "momentum", &b->momentum);
        if (status != MND_OK) return status;
        if (!(b->momentum >= 0.0 && b->momentum < 1.0))
            return mnd_layer_fail(layer, "the momentum must be at least 0 and below 1, not '%s'",
                                  layer->args.word[i]);
    }
    return MND_OK;
}

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    static const char *const name[] = {"gamma", "beta", "moving_mean", "moving_variance"};
    batchnorm *const b = layer->self;
    *b = (batchnorm){0};
    const mnd_status status = read_arguments(layer, b);
    if (status != MND_OK) return status;
    layer->out = layer->in;
    b->c = layer->in.dim[layer->in.ndim - 1];
    b->pixels = (int)(mnd_shape_size(&layer->in) / (size_t)b->c);
    b->repeat = b->c < LANES ? LANES / b->c : 1;
    b->groups = !p->training ? 1 : p->max_group > p->max_seg ? p->max_group : p->max_seg;
    b->depth = mnd_tree_depth(p->max_seg);
    if (p->training) {
        const size_t points = (size_t)p->rows * (size_t)b->pixels;
        b->blocks = (int)(points / ((size_t)b->repeat * LINES)) + 2 * b->groups;
    }
    for (int i = 0; i < ARRAYS; i++)
        layer->array[i] =
            (mnd_array){.name = name[i],
                        .ndim = 1,
                        .dim = {b->c},
                        .init = i == GAMMA || i == VARIANCE ? MND_INIT_ONES : MND_INIT_ZEROS,
                        .untrained = i == MEAN || i == VARIANCE};
    layer->n_array = ARRAYS;
    layer->sum_values = b->sync ? 2 * b->c + 1 : 0;
    layer->group_values = b->sync ? 0 : b->pixels;
    memory m;
    layer->state_size = divide(b, NULL, &m);
    return MND_OK;
}

/* ---------------------------------------------------------------------------- loops over a block
 */

/* Lines [0, lines) of `width` elements each, `stride` apart. */
typedef struct block {
    int lines, width, stride, c;
    const float *x, *dy;
    float *out;
    bool relu;
} block;

/* Adds lanes [first, first + n) to their channels. */
static inline __attribute__((always_inline)) void fold(const block *k, int first, int n,
                                                       const double *restrict a,
                                                       const double *restrict b,
                                                       double *restrict sum) {
    for (int p = 0; p < n; p += k->c)
        for (int i = 0; i < k->c && i < n - p; i++) {
            sum[first + i] += a[p + i];
            sum[k->c + first + i] += b[p + i];
        }
}

/* Of n <= LANES columns: the sum, and the sum of squares about `shift`. */
static inline __attribute__((always_inline)) void moments(const block *k, int first, int n,
                                                          const float *restrict shift,
                                                          double *restrict out) {
    float sum[LANES] = {0.0F}, square[LANES] = {0.0F}, mean[LANES];
    const float *restrict x = k->x + first;
    for (int l = 0; l < k->lines; l++)
        for (int i = 0; i < n; i++) sum[i] += x[(ptrdiff_t)l * k->stride + i];
    for (int i = 0; i < n; i++) mean[i] = sum[i] / (float)k->lines;
    for (int l = 0; l < k->lines; l++)
        for (int i = 0; i < n; i++) {
            const float d = x[(ptrdiff_t)l * k->stride + i] - mean[i];
            square[i] += d * d;
        }
    double s[LANES], q[LANES];
    for (int i = 0; i < n; i++) {
        const double lines = k->lines, far = (double)sum[i] / lines - (double)shift[first + i];
        s[i] = (double)sum[i];
        q[i] = (double)square[i] + lines * far * far;
    }
    fold(k, first, n, s, q, out);
}

MND_EACH_WIDTH static void block_moments(const block *k, const factors *f, double *out) {
    memset(out, 0, 2 * (size_t)k->c * sizeof *out);
    for (int first = 0; first < k->width; first += LANES) {
        if (k->width - first >= LANES)
            moments(k, first, LANES, f->mean, out);
        else
            moments(k, first, k->width - first, f->mean, out);
    }
}

/* Of n <= LANES columns: the sums of dy and of dy (x - mean). With relu, dy is 0 where y is. */
static inline __attribute__((always_inline)) void slopes(const block *k, int first, int n,
                                                         const factors *f, double *restrict out) {
    float sum[LANES] = {0.0F}, product[LANES] = {0.0F};
    const float *restrict x = k->x + first, *restrict dy = k->dy + first;
    const float *restrict mean = f->mean + first, *restrict scale = f->scale + first;
    const float *restrict beta = f->beta + first;
    for (int l = 0; l < k->lines; l++)
        for (int i = 0; i < n; i++) {
            const float far = x[(ptrdiff_t)l * k->stride + i] - mean[i];
            float d = dy[(ptrdiff_t)l * k->stride + i];
            if (k->relu) d = far * scale[i] + beta[i] > 0.0F ? d : 0.0F;
            sum[i] += d;
            product[i] += d * far;
        }
    double s[LANES], q[LANES];
    for (int i = 0; i < n; i++) {
        s[i] = (double)sum[i];
        q[i] = (double)product[i];
    }
    fold(k, first, n, s, q, out);
}

MND_EACH_WIDTH static void block_slopes(const block *k, const factors *f, double *out) {
    memset(out, 0, 2 * (size_t)k->c * sizeof *out);
    for (int first = 0; first < k->width; first += LANES) {
        if (k->width - first >= LANES)
            slopes(k, first, LANES, f, out);
        else
            slopes(k, first, k->width - first, f, out);
    }
}

MND_EACH_WIDTH static void block_forward(const block *k, const factors *f) {
    const float *restrict mean = f->mean, *restrict scale = f->scale, *restrict beta = f->beta;
    for (int l = 0; l < k->lines; l++) {
        const float *restrict x = k->x + (ptrdiff_t)l * k->stride;
        float *restrict y = k->out + (ptrdiff_t)l * k->stride;
        if (k->relu) {
            for (int i = 0; i < k->width; i++) {
                const float value = (x[i] - mean[i]) * scale[i] + beta[i];
                y[i] = value <= 0.0F ? 0.0F : value;
            }
        } else {
            for (int i = 0; i < k->width; i++) y[i] = (x[i] - mean[i]) * scale[i] + beta[i];
        }
    }
}

MND_EACH_WIDTH static void block_backward(const block *k, const factors *f) {
    const float *restrict mean = f->mean, *restrict scale = f->scale, *restrict beta = f->beta;
    const float *restrict shift = f->shift, *restrict slope = f->slope;
    for (int l = 0; l < k->lines; l++) {
        const float *restrict x = k->x + (ptrdiff_t)l * k->stride;
        const float *restrict dy = k->dy + (ptrdiff_t)l * k->stride;
        float *restrict dx = k->out + (ptrdiff_t)l * k->stride;
        if (k->relu) {
            for (int i = 0; i < k->width; i++) {
                const float far = x[i] - mean[i];
                const float d = far * scale[i] + beta[i] > 0.0F ? dy[i] : 0.0F;
                dx[i] = scale[i] * ((d - shift[i]) - far * slope[i]);
            }
        } else {
            for (int i = 0; i < k->width; i++)
                dx[i] = scale[i] * ((dy[i] - shift[i]) - (x[i] - mean[i]) * slope[i]);
        }
    }
}

/* ------------------------------------------------------------------------------ all blocks */

typedef struct job {
    const batchnorm *b;
    memory m;
    const int *group; /* (n + 1) first rows */
    int n;
    const float *x, *dy;
    float *out;
    void (*sums)(const block *k, const factors *f, double *out); /* or */
    void (*lines)(const block *k, const factors *f);
} job;

static job open_job(const mnd_layer *layer, const mnd_pass *pass, const int whole[2]) {
    const batchnorm *b = layer->self;
    job j = {.b = b, .group = whole, .n = 1};
    if (pass->batch != NULL && pass->batch->group != NULL) {
        j.group = pass->batch->group;
        j.n = pass->batch->n_group;
    } else if (pass->seg != NULL) {
        j.group = pass->seg->start;
        j.n = pass->seg->n_seg;
    }
    (void)divide(b, layer->state, &j.m);
    const int64_t lines = (int64_t)LINES * b->repeat;
    j.m.first[0] = 0;
    for (int g = 0; g < j.n; g++) {
        const int64_t points = (int64_t)(j.group[g + 1] - j.group[g]) * b->pixels;
        const int64_t rest = points % b->repeat;
        j.m.first[g + 1] =
            j.m.first[g] + (int)((points - rest + lines - 1) / lines) + (rest > 0 ? 1 : 0);
    }
    return j;
}

static void block_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const batchnorm *b = j->b;
    const int64_t line = (int64_t)line_of(b);
    int g = 0;
    (void)thread;
    for (int i = first; i < last; i++) {
        while (j->m.first[g + 1] <= i) g++;
        const int64_t begin = (int64_t)j->group[g] * b->pixels * b->c;
        const int64_t size = (int64_t)(j->group[g + 1] - j->group[g]) * b->pixels * b->c;
        const int64_t at = (int64_t)(i - j->m.first[g]) * LINES * line;
        const int64_t whole = size / line; /* lines of the group, but for the rest of its pixels */
        int64_t lines = whole - (int64_t)(i - j->m.first[g]) * LINES;
        if (lines > LINES) lines = LINES;
        const bool rest = lines <= 0;
        const int64_t from = begin + (rest ? whole * line : at);
        const block k = {.lines = rest ? 1 : (int)lines,
                         .width = (int)(rest ? size - whole * line : line),
                         .stride = (int)line,
                         .c = b->c,
                         .x = j->x + from,
                         .dy = j->dy != NULL ? j->dy + from : NULL,
                         .out = j->out != NULL ? j->out + from : NULL,
                         .relu = b->relu};
        const factors f = factors_of(b, &j->m, b->sync ? 0 : g);
        if (j->sums != NULL)
            j->sums(&k, &f, j->m.part + (size_t)i * 2 * (size_t)b->c);
        else
            j->lines(&k, &f);
    }
}

static void each_block(const mnd_pass *pass, job *j) {
    mnd_parallel(pass->workers->threads, j->m.first[j->n], 1, block_range, j);
}

/* Adds the blocks of each group, n_value numbers of a group: its sums and its count. */
static void total_groups(const job *j, int n_value) {
    const int c2 = 2 * j->b->c;
    for (int g = 0; g < j->n; g++) {
        double *const total = j->m.total + (size_t)g * (size_t)n_value;
        memset(total, 0, (size_t)n_value * sizeof *total);
        for (int i = j->m.first[g]; i < j->m.first[g + 1]; i++) {
            const double *part = j->m.part + (size_t)i * (size_t)c2;
            for (int v = 0; v < c2; v++) total[v] += part[v];
        }
        if (n_value > c2) total[c2] = (double)(j->group[g + 1] - j->group[g]) * j->b->pixels;
    }
}

/* The sum over all groups of the batch, in the tree, into the first one's place. */
static void sum_groups(const mnd_batch *batch, int n, int n_value, double *value) {
    if (batch->sum != NULL) {
        batch->sum(batch->sum_context, n_value, value);
        return;
    }
    for (int step = 1; step < n; step *= 2)
        for (int g = 0; g + step < n; g += 2 * step)
            for (int v = 0; v < n_value; v++)
                value[(size_t)g * (size_t)n_value + (size_t)v] +=
                    value[(size_t)(g + step) * (size_t)n_value + (size_t)v];
}

/* --------------------------------------------------------------------------------- forward */

/* Repeats c numbers over the lanes of a line. */
static void spread(const batchnorm *b, const float *from, float *to) {
    for (int p = 0; p < b->repeat; p++)
        memcpy(to + (ptrdiff_t)p * b->c, from, (size_t)b->c * sizeof *to);
}

/* Mean, variance and what follows from them, from the totals of a group. */
static void take_statistics(const mnd_layer *layer, const memory *m, int g) {
    const batchnorm *b = layer->self;
    const size_t c = (size_t)b->c;
    const double *total = m->total + (size_t)g * (2 * c + 1), n = total[2 * c];
    float *const mean = m->mean + (size_t)g * c, *const variance = m->variance + (size_t)g * c;
    m->count[g] = n;
    for (size_t i = 0; i < c; i++) {
        const double of = n > 0.0 ? 1.0 / n : 0.0, exact = total[i] * of;
        const double far = exact - (double)layer->array[MEAN].value[i];
        mean[i] = (float)exact;
        const double square = total[c + i] * of - far * far;
        variance[i] = square < 0.0 ? 0.0F : (float)square; /* fmax would hide a NaN */
    }
}

static void set_factors(const mnd_layer *layer, const memory *m, int g, const float *mean,
                        const float *variance) {
    const batchnorm *b = layer->self;
    const factors f = factors_of(b, m, g);
    float *const inverse = m->inverse + (ptrdiff_t)g * b->c;
    for (int i = 0; i < b->c; i++) {
        inverse[i] = (float)(1.0 / sqrt((double)variance[i] + EPSILON));
        f.scale[i] = layer->array[GAMMA].value[i] * inverse[i];
    }
    for (int p = 1; p < b->repeat; p++)
        memcpy(f.scale + (ptrdiff_t)p * b->c, f.scale, (size_t)b->c * sizeof *f.scale);
    spread(b, mean, f.mean);
    spread(b, layer->array[BETA].value, f.beta);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const batchnorm *b = layer->self;
    const int whole[2] = {0, pass->rows};
    job j = open_job(layer, pass, whole);
    j.x = x;
    j.out = y;
    if (pass->batch == NULL) {
        set_factors(layer, &j.m, 0, layer->array[MEAN].value, layer->array[VARIANCE].value);
    } else {
        const int n = b->sync ? 1 : j.n, n_value = 2 * b->c + 1;
        for (int g = 0; g < n; g++) /* the sums of squares are about these */
            spread(b, layer->array[MEAN].value, factors_of(b, &j.m, g).mean);
        j.sums = block_moments;
        each_block(pass, &j);
        total_groups(&j, n_value);
        if (b->sync) sum_groups(pass->batch, j.n, n_value, j.m.total);
        for (int g = 0; g < n; g++) {
            const ptrdiff_t at = (ptrdiff_t)g * b->c;
            take_statistics(layer, &j.m, g);
            set_factors(layer, &j.m, g, j.m.mean + at, j.m.variance + at);
        }
    }
    j.sums = NULL;
    j.lines = block_forward;
    each_block(pass, &j);
}

/* -------------------------------------------------------------------------------- backward */

typedef struct arrays_sum {
    const mnd_layer *layer;
    const mnd_batch *batch;
    const job *j;
    int next; /* the first group that was not added */
} arrays_sum;

/* The gradients of gamma and beta and the increments of the running statistics, of one group. */
static void add_group(const arrays_sum *a, int g, float *out) {
    const batchnorm *b = a->layer->self;
    const memory *m = &a->j->m;
    const size_t c = (size_t)b->c, at = b->sync ? 0 : (size_t)g * c;
    const double *total = m->total + (size_t)g * 2 * c;
    const int rows = a->j->group[g + 1] - a->j->group[g];
    const double weight = (1.0 - b->momentum) * rows * (double)a->batch->scale;
    const float *mean = a->layer->array[MEAN].value, *variance = a->layer->array[VARIANCE].value;
    if (rows == 0) return;
    for (size_t i = 0; i < c; i++) {
        out[GAMMA * c + i] += (float)(total[c + i] * (double)m->inverse[at + i]);
        out[BETA * c + i] += (float)total[i];
        out[MEAN * c + i] += (float)(weight * ((double)m->mean[at + i] - (double)mean[i]));
        out[VARIANCE * c + i] +=
            (float)(weight * ((double)m->variance[at + i] - (double)variance[i]));
    }
}

/* A segment is one group or, where the batch is one segment, all of them. */
static void leaf(void *context, int s, float *out) {
    arrays_sum *a = context;
    const int *end = a->j->group + 1;
    memset(out, 0, ARRAYS * (size_t)((const batchnorm *)a->layer->self)->c * sizeof *out);
    for (; a->next < a->j->n && end[a->next] <= a->batch->seg->start[s + 1]; a->next++)
        add_group(a, a->next, out);
}

/* dx = scale (dy - mean of dy - (x - mean) inverse^2 (mean of dy (x - mean))) */
static void set_slopes(const batchnorm *b, const memory *m, int g) {
    const factors f = factors_of(b, m, g);
    const double *total = m->total + (ptrdiff_t)g * 2 * b->c;
    const double of = m->count[g] > 0.0 ? 1.0 / m->count[g] : 0.0;
    for (int i = 0; i < b->c; i++) {
        const double inverse = (double)m->inverse[(ptrdiff_t)g * b->c + i];
        f.shift[i] = (float)(total[i] * of);
        f.slope[i] = (float)(total[b->c + i] * of * inverse * inverse);
    }
    for (int p = 1; p < b->repeat; p++) {
        memcpy(f.shift + (ptrdiff_t)p * b->c, f.shift, (size_t)b->c * sizeof *f.shift);
        memcpy(f.slope + (ptrdiff_t)p * b->c, f.slope, (size_t)b->c * sizeof *f.slope);
    }
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const batchnorm *b = layer->self;
    const int whole[2] = {0, pass->rows};
    job j = open_job(layer, pass, whole);
    (void)y;
    j.x = x;
    j.dy = dy;
    j.sums = block_slopes;
    each_block(pass, &j);
    total_groups(&j, 2 * b->c);
    arrays_sum a = {.layer = layer, .batch = pass->batch, .j = &j};
    mnd_tree_sum_segments(pass->seg, ARRAYS * (size_t)b->c, leaf, &a, j.m.stack,
                          layer->array[GAMMA].grad, pass->grad_stride);
    if (dx == NULL) return;
    if (b->sync) sum_groups(pass->batch, j.n, 2 * b->c, j.m.total);
    for (int g = 0; g < (b->sync ? 1 : j.n); g++) set_slopes(b, &j.m, g);
    j.sums = NULL;
    j.lines = block_backward;
    j.out = dx;
    each_block(pass, &j);
}

const mnd_layer_ops mnd_layer_batchnorm = {.kind = "batchnorm",
                                           .usage = "batchnorm[:momentum][:sync]",
                                           .self_size = sizeof(batchnorm),
                                           .plan = plan,
                                           .forward = forward,
                                           .backward = backward};

static mnd_status plan_relu(mnd_layer *layer, const mnd_plan *p) {
    const mnd_status status = plan(layer, p);
    ((batchnorm *)layer->self)->relu = true;
    return status;
}

const mnd_layer_ops mnd_layer_batchnorm_relu = {.kind = "batchnorm+relu",
                                                .self_size = sizeof(batchnorm),
                                                .plan = plan_relu,
                                                .forward = forward,
                                                .backward = backward};
