/*
 * halves.c - what two ranks of mlp512 do twice: each large product of a step whole, as one rank
 * does it, and the half of it that one of two ranks does for the rows of both, on one core in one
 * process. No rank waits for another and nothing crosses cores, so what is above a half does not
 * hang on columns (pixels are looked through and turned round for all samples) and is done by both.
 *
 *   bench_halves [DATA.h5] [REPEATS]
 *
 * Verifies first that both give the same bits, then takes turns, and prints medians. Before each,
 * the caches are emptied as the optimizer does, but for activations and gradients, which a step has
 * just made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "median.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/timer.h"
#include "must.h"

enum { ROWS = 128, PIXELS = 784, WIDE = 512, MOST = 1001, BETWEEN = 8 << 20 };

static const mnd_kernels *kernels;
static mnd_work work;
static const int start[2] = {0, ROWS}, part[2] = {0, 1};
static const mnd_rows seg = {.n_seg = 1, .start = start, .n_part = 1, .part = part};
static const uint8_t *image[ROWS];
static float *hidden, *dy, *weights, *result[2]; /* (ROWS, WIDE) twice, (PIXELS, WIDE) thrice */
/* The first half of the columns of two of them, as they lie on two ranks: for themselves. */
static float *half_dy, *half_weights;

/* n columns (of the first layer) or inputs (of the second one) of each product, 512 or 256. */
static void first_forward(int n, float *to) {
    const float *const x[1] = {hidden}; /* not read */
    const uint8_t *const *const images[1] = {image};
    const mnd_product p = {.n_group = 1,
                           .start = start,
                           .x = x,
                           .y = (float *const[]){to},
                           .k = PIXELS,
                           .ldx = PIXELS,
                           .ldy = WIDE,
                           .to = n,
                           .image = images};
    kernels->forward(&work, &p, 0, ROWS, n == WIDE ? weights : half_weights, n, weights, 1);
}

static void first_weights(int n, float *to) {
    kernels->weight_grad(&work, &seg, 0, PIXELS, n, PIXELS, (const float *const[]){hidden}, image,
                         (const float *const[]){n == WIDE ? dy : half_dy}, n + MND_LINE_FLOATS, to,
                         0);
}

/* The second layer's outputs have two sums anyway: see mnd_layer.half. */
static void second_forward(int n, float *to) {
    for (int from = 0; from < n; from += WIDE / 2, to += ROWS * WIDE) {
        const float *const x[1] = {hidden + from};
        const mnd_product p = {.n_group = 1,
                               .start = start,
                               .x = x,
                               .y = (float *const[]){to},
                               .k = WIDE / 2,
                               .ldx = WIDE,
                               .ldy = WIDE,
                               .to = WIDE};
        kernels->forward(&work, &p, 0, ROWS, weights + (ptrdiff_t)from * WIDE, WIDE, NULL, 0);
    }
}

static void second_inputs(int n, float *to) {
    const float *const x[1] = {dy};
    const mnd_product p = {.n_group = 1,
                           .start = start,
                           .x = x,
                           .y = (float *const[]){to},
                           .k = WIDE,
                           .ldx = WIDE + MND_LINE_FLOATS,
                           .ldy = WIDE,
                           .to = n};
    kernels->input_grad(&work, &p, 0, ROWS, weights, WIDE, 0);
}

static void second_weights(int n, float *to) {
    kernels->weight_grad(&work, &seg, 0, n, WIDE, WIDE, (const float *const[]){hidden}, NULL,
                         (const float *const[]){dy}, WIDE + MND_LINE_FLOATS, to, 0);
}

typedef struct product {
    const char *name;
    void (*run)(int n, float *to);
    int rows, columns; /* of the half result */
    int ld;            /* of it; that of the whole one is WIDE */
} product;

static const product products[] = {
    {"first layer, forward", first_forward, ROWS, WIDE / 2, WIDE},
    {"second layer, forward", second_forward, ROWS, WIDE, WIDE},
    {"second layer, inputs", second_inputs, ROWS, WIDE / 2, WIDE},
    {"second layer, weights", second_weights, WIDE / 2, WIDE, WIDE},
    {"first layer, weights", first_weights, PIXELS, WIDE / 2, WIDE / 2},
};
enum { PRODUCTS = sizeof products / sizeof products[0] };

static void verify(const product *p) {
    p->run(WIDE, result[0]);
    p->run(WIDE / 2, result[1]);
    for (int r = 0; r < p->rows; r++)
        if (memcmp(result[0] + (ptrdiff_t)r * WIDE, result[1] + (ptrdiff_t)r * p->ld,
                   (size_t)p->columns * sizeof(float)) != 0) {
            fprintf(stderr, "bench_halves: %s: half of it has other bits\n", p->name);
            exit(1);
        }
}

/* Of `density` in 256 not 0, as what a relu leaves. */
static void fill(mnd_rng *rng, float *to, size_t n, uint32_t density) {
    for (size_t i = 0; i < n; i++) {
        const float value = mnd_rng_uniform(rng);
        to[i] = mnd_rng_below(rng, 256) < density ? value : 0.0F;
    }
}

static void touch(const float *x, size_t n) {
    for (size_t i = 0; i < n; i += MND_LINE_FLOATS) (void)*(const volatile float *)&x[i];
}

int main(int argc, char **argv) {
    static double time_of[PRODUCTS][2][MOST];
    const char *path = argc > 1 ? argv[1] : "data/mnist.h5";
    const int repeats = argc > 2 ? atoi(argv[2]) : 201;
    if (repeats < 5 || repeats > MOST) {
        fprintf(stderr, "bench_halves: 5 to %d repeats\n", MOST);
        return 2;
    }
    kernels = mnd_kernels_native();
    if (kernels->whole) {
        fprintf(stderr, "bench_halves: this CPU has no native kernels\n");
        return 1;
    }
    mnd_dataset *data = NULL;
    must(mnd_dataset_open(path, &data));
    const int64_t images = mnd_dataset_about(data)->count[MND_TRAIN];
    uint8_t *const all = must_alloc((size_t)images, PIXELS);
    uint8_t *const label = must_alloc((size_t)images, 1);
    must(mnd_dataset_read(data, MND_TRAIN, 0, images, all, label));
    mnd_dataset_close(&data);
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    work.size = kernels->scratch(ROWS, WIDE, PIXELS, NULL);
    work.scratch = must_alloc(work.size, sizeof(float));
    hidden = must_alloc(ROWS * WIDE, sizeof(float));
    dy = must_alloc(ROWS * (WIDE + MND_LINE_FLOATS), sizeof(float));
    weights = must_alloc((size_t)PIXELS * WIDE, sizeof(float));
    fill(&rng, hidden, (size_t)ROWS * WIDE, 85);                  /* a third */
    fill(&rng, dy, (size_t)ROWS * (WIDE + MND_LINE_FLOATS), 128); /* half */
    fill(&rng, weights, (size_t)PIXELS * WIDE, 256);
    half_dy = must_alloc(ROWS * (WIDE / 2 + MND_LINE_FLOATS), sizeof(float));
    half_weights = must_alloc((size_t)PIXELS * WIDE / 2, sizeof(float));
    for (size_t r = 0; r < ROWS; r++)
        memcpy(half_dy + r * (WIDE / 2 + MND_LINE_FLOATS), dy + r * (WIDE + MND_LINE_FLOATS),
               WIDE / 2 * sizeof *dy);
    for (size_t r = 0; r < PIXELS; r++)
        memcpy(half_weights + r * (WIDE / 2), weights + r * WIDE, WIDE / 2 * sizeof *weights);
    for (int i = 0; i < 2; i++) result[i] = must_alloc((size_t)PIXELS * WIDE, sizeof(float));
    char *const between = must_alloc(BETWEEN, 1);
    for (int r = 0; r < repeats; r++) {
        for (int i = 0; i < ROWS; i++)
            image[i] = all + (size_t)mnd_rng_below(&rng, (uint32_t)images) * PIXELS;
        if (r == 0)
            for (int p = 0; p < PRODUCTS; p++) verify(&products[p]);
        for (int p = 0; p < PRODUCTS; p++)
            for (int side = 0; side < 2; side++) {
                const int which = (side + r) % 2;
                for (size_t i = 0; i < BETWEEN; i += MND_ALIGN) between[i]++;
                touch(hidden, (size_t)ROWS * WIDE);
                touch(dy, (size_t)ROWS * (WIDE + MND_LINE_FLOATS));
                touch(half_dy, (size_t)ROWS * (WIDE / 2 + MND_LINE_FLOATS));
                const double begin = mnd_now();
                products[p].run(which == 0 ? WIDE : WIDE / 2, result[which]);
                time_of[p][which][r] = 1e6 * (mnd_now() - begin);
            }
    }
    printf("%s, %d rows, one core, %d turns: us\n", kernels->name, ROWS, repeats);
    printf("%-24s %10s %10s %22s\n", "", "whole", "half", "above half of whole");
    double whole = 0.0, more = 0.0;
    for (int p = 0; p < PRODUCTS; p++) {
        const double a = median(time_of[p][0], repeats), b = median(time_of[p][1], repeats);
        printf("%-24s %10.1f %10.1f %22.1f\n", products[p].name, a, b, b - a / 2);
        whole += a;
        more += b - a / 2;
    }
    printf("%-24s %10.1f %10s %22.1f (%.1f %%)\n", "all", whole, "", more, 200.0 * more / whole);
    return 0;
}
