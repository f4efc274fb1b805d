/*
 * step.c - how far a training step is from its floor: the matrix products of the same network, by
 * cblas_sgemm in the same process, at the same shapes, on buffers as cold as in training.
 *
 *   bench_step [DATA.h5] [REPEATS]
 *
 * Verifies first that the step learns (the loss falls), then alternates blocks of steps and blocks
 * of bare products and prints medians (processor time) and the ratio. One thread. Choose OpenBLAS'
 * kernel by OPENBLAS_CORETYPE: the floor is only fair with the fastest one the CPU can run.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "median.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/subnormal.h"
#include "must.h"

enum { BATCH = 128, STEPS = 40, PIXELS = 784, COPIES = 8 };

/* Seconds of processor time of this thread: other load on the machine disturbs it less. */
static double cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One product of the network: out (m, n) from inner size k, `times` a step. */
typedef struct product {
    int m, n, k, ta, tb, times;
} product;

/* Dense layer (k, n) over the batch: forward, weight gradient and, but for the first, input
 * gradient. */
static int dense(product *p, int k, int n, int first) {
    p[0] = (product){BATCH, n, k, 0, 0, 1};
    p[1] = (product){k, n, BATCH, 1, 0, 1};
    p[2] = (product){BATCH, k, n, 0, 1, 1};
    return first ? 2 : 3;
}

/* Convolution of `pixels` outputs from k inputs each, image by image, as im2col gives them. */
static int conv(product *p, int pixels, int k, int filters, int first) {
    p[0] = (product){pixels, filters, k, 0, 0, BATCH};
    p[1] = (product){k, filters, pixels, 1, 0, BATCH};
    p[2] = (product){pixels, k, filters, 0, 1, BATCH};
    return first ? 2 : 3;
}

static int products_of(const char *name, product *p) {
    int n = 0;
    if (strcmp(name, "mlp16") == 0) {
        n += dense(p + n, 784, 16, 1);
        n += dense(p + n, 16, 16, 0);
        n += dense(p + n, 16, 10, 0);
    } else if (strcmp(name, "mlp512") == 0) {
        n += dense(p + n, 784, 512, 1);
        n += dense(p + n, 512, 512, 0);
        n += dense(p + n, 512, 10, 0);
    } else if (strcmp(name, "cnn2") == 0) {
        n += conv(p + n, 676, 9, 16, 1);
        n += conv(p + n, 121, 144, 32, 0);
        n += dense(p + n, 800, 128, 0);
        n += dense(p + n, 128, 10, 0);
    } else {
        n += conv(p + n, 676, 9, 28, 1);
        n += dense(p + n, 4732, 128, 0);
        n += dense(p + n, 128, 10, 0);
    }
    return n;
}

/* A block of steps' worth of products. Each product has its buffers, and there are COPIES of them
   all, used in turn, so that they come from where training finds them. */
static double floor_block(const product *p, int n, float **buffer) {
    const double begin = cpu_time();
    for (int s = 0; s < STEPS; s++) {
        float *at = buffer[s % COPIES];
        for (int i = 0; i < n; i++) {
            const size_t a = (size_t)p[i].m * (size_t)p[i].k, b = (size_t)p[i].k * (size_t)p[i].n;
            const size_t c = (size_t)p[i].m * (size_t)p[i].n;
            for (int t = 0; t < p[i].times; t++)
                cblas_sgemm(CblasRowMajor, p[i].ta ? CblasTrans : CblasNoTrans,
                            p[i].tb ? CblasTrans : CblasNoTrans, p[i].m, p[i].n, p[i].k, 1.0F, at,
                            p[i].ta ? p[i].m : p[i].k, at + a, p[i].tb ? p[i].k : p[i].n, 0.0F,
                            at + a + b, p[i].n);
            at += a + b + c;
        }
    }
    return (cpu_time() - begin) / STEPS;
}

typedef struct bench {
    mnd_model *model;
    mnd_exchange *exchange;
    mnd_optimizer optimizer;
    mnd_step_size step_size;
    int64_t step;
    uint8_t *image, *label;
    uint32_t *order;
    int64_t images;
    double loss;
} bench;

static void apply(void *context, size_t first, size_t count, float *param, const float *grad) {
    const bench *b = context;
    mnd_bit_sum sum = {0};
    const mnd_slice slice = {.first = first,
                             .count = count,
                             .param = param,
                             .grad = grad,
                             .sum = &sum,
                             .slot = {mnd_exchange_slot(b->exchange, 0) + first,
                                      mnd_exchange_slot(b->exchange, 1) + first}};
    b->optimizer.ops->apply(&b->step_size, &slice);
}

static void step(bench *b, double *loss) {
    const int start[2] = {0, BATCH}, subtree[2] = {0, 1};
    const mnd_segments segments = {.n_seg = 1, .start = start, .n_subtree = 1, .subtree = subtree};
    const mnd_update update = {.context = b, .apply = apply};
    uint8_t label[BATCH];
    float *const input = mnd_model_input(b->model);
    uint32_t sample[BATCH], flags;
    int64_t correct;
    for (int i = 0; i < BATCH; i++) {
        const uint32_t at = b->order[(b->step * BATCH + i) % b->images];
        for (int k = 0; k < PIXELS; k++)
            input[i * PIXELS + k] = (float)b->image[(size_t)at * PIXELS + (size_t)k] / 255.0F;
        label[i] = b->label[at];
        sample[i] = at;
    }
    const mnd_batch batch = {.seg = &segments,
                             .label = label,
                             .sample = sample,
                             .seed = 1,
                             .epoch = 1,
                             .scale = 1.0F / BATCH};
    mnd_model_gradient(b->model, &batch, loss, &correct);
    b->optimizer.ops->prepare(&b->optimizer, b->optimizer.lr, ++b->step, &b->step_size);
    must(mnd_exchange_step(b->exchange, &update, 0, &flags));
}

static double step_block(bench *b) {
    double loss;
    const double begin = cpu_time();
    b->loss = 0.0;
    for (int s = 0; s < STEPS; s++) {
        step(b, &loss);
        b->loss += loss / (BATCH * STEPS);
    }
    return (cpu_time() - begin) / STEPS;
}

static void open_model(const char *name, mnd_comm *comm, bench *b) {
    const mnd_shape input = {.ndim = 3, .dim = {28, 28, 1}};
    const mnd_model_options options = {
        .max_rows = BATCH, .max_seg = 1, .training = true, .threads = 1};
    size_t stride;
    must(mnd_model_create(name, &input, 10, &options, &b->model));
    const mnd_exchange_options exchange = {
        .name = "local", .logical = 1, .n_param = mnd_model_n_param(b->model), .n_slot = 2};
    must(mnd_exchange_create(comm, &exchange, &b->exchange));
    float *grad = mnd_exchange_grad(b->exchange, &stride);
    mnd_model_bind(b->model, mnd_exchange_param(b->exchange), grad, stride);
    mnd_model_initialize(b->model, MND_INIT_GLOROT, 1);
    b->step = 0;
    (void)step_block(b);
    const double first_loss = b->loss;
    for (int i = 0; i < 4; i++) (void)step_block(b);
    if (!(b->loss < first_loss)) {
        fprintf(stderr, "bench_step: %s does not learn: loss %g, then %g\n", name, first_loss,
                b->loss);
        exit(1);
    }
}

static void run(const char *name, mnd_comm *comm, bench *b, int repeats) {
    product p[16];
    float *buffer[COPIES];
    double step[101], floor_[101], ratio[101];
    const int n = products_of(name, p);
    size_t size = 0;
    for (int i = 0; i < n; i++)
        size += (size_t)p[i].m * (size_t)p[i].k + (size_t)p[i].k * (size_t)p[i].n +
                (size_t)p[i].m * (size_t)p[i].n;
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    for (int c = 0; c < COPIES; c++) {
        buffer[c] = must_alloc(size, sizeof(float));
        for (size_t i = 0; i < size; i++) buffer[c][i] = mnd_rng_uniform(&rng) - 0.5F;
    }
    open_model(name, comm, b);
    (void)floor_block(p, n, buffer);
    for (int r = 0; r < repeats; r++) {
        step[r] = step_block(b);
        floor_[r] = floor_block(p, n, buffer);
        ratio[r] = step[r] / floor_[r];
    }
    const double middle = median(ratio, repeats);
    printf("%-8s %10.1f %10.1f %10.3f %10.3f %10.3f\n", name, 1e6 * median(step, repeats),
           1e6 * median(floor_, repeats), middle, ratio[0], ratio[repeats - 1]);
    mnd_exchange_destroy(&b->exchange);
    mnd_model_destroy(&b->model);
    for (int c = 0; c < COPIES; c++) mnd_free(buffer[c]);
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "data/mnist.h5";
    int repeats = argc > 2 ? atoi(argv[2]) : 15;
    if (repeats < 5) repeats = 5;
    if (repeats > 101) repeats = 101;
    mnd_dataset *data = NULL;
    mnd_comm *comm = NULL;
    bench b = {0};
    (void)mnd_flush_subnormals();
    mnd_blas_set_threads(1);
    must(mnd_comm_self(&comm));
    must(mnd_dataset_open(path, &data));
    b.images = mnd_dataset_about(data)->count[MND_TRAIN];
    b.image = must_alloc((size_t)b.images, PIXELS);
    b.label = must_alloc((size_t)b.images, 1);
    b.order = must_alloc((size_t)b.images, sizeof *b.order);
    must(mnd_dataset_read(data, MND_TRAIN, 0, b.images, b.image, b.label));
    mnd_dataset_close(&data);
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_SHUFFLE, 0, 0);
    mnd_rng_permutation(&rng, (uint32_t)b.images, b.order);
    must(mnd_optimizer_default("adam", &b.optimizer));
    printf("step: %s; floor: %s; batch %d, one thread, %d alternating blocks of %d steps\n",
           mnd_products_name(false), mnd_products_name(true), BATCH, repeats, STEPS);
    printf("%-8s %10s %10s %10s %10s %10s\n", "model", "step us", "floor us", "ratio", "least",
           "most");
    static const char *const names[] = {"mlp16", "mlp512", "cnn", "cnn2"};
    for (int i = 0; i < 4; i++) run(names[i], comm, &b, repeats);
    mnd_free(b.image);
    mnd_free(b.label);
    mnd_free(b.order);
    mnd_comm_finish(&comm);
    return 0;
}
