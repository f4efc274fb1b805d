/*
 * exchange.c - what a step's exchange and optimizer cost together, for every exchange beside "mpi":
 * MPI_Allreduce of the flat gradient, then the whole Adam step on every rank.
 *
 *   mpirun -np 2 bench_exchange [REPEATS] [N_PARAM...]
 *
 * First each exchange is checked against a plain sum. Then the exchanges take turns of ten steps in
 * one run, each step with gradients freshly written as a backward pass would leave them. The time
 * of a step is that of its slowest rank; printed are medians, and ratios of medians (this
 * exchange's time over that of mpi: smaller is better).
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "median.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/subnormal.h"
#include "mnist_dist/timer.h"

/* A turn is some steps of one exchange, the first ones not counted: they find the other's data in
   cache. */
enum { MAX_SIDES = 8, TURN = 10, WARM_UP = 3 };

typedef struct side {
    mnd_exchange *ex;
    float *param;
    double *seconds; /* (repeats), of the slowest rank */
} side;

static mnd_optimizer adam;
static mnd_step_size adam_step;
static int rank, size;

static void require(mnd_status status) {
    if (status == MND_OK) return;
    fprintf(stderr, "bench_exchange: rank %d: %s\n", rank, mnd_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

static void require_mpi(int code) {
    if (code != MPI_SUCCESS) require(mnd_fail(MND_COMM, "MPI error %d", code));
}

static void *take(size_t count, size_t bytes) {
    void *p;
    require(mnd_alloc(&p, count, bytes, "bench"));
    return p;
}

static void apply(void *context, size_t first, size_t count, float *param, const float *grad) {
    const side *s = context;
    mnd_bit_sum sum = {0};
    const mnd_slice slice = {
        .first = first,
        .count = count,
        .param = param,
        .grad = grad,
        .sum = &sum,
        .slot = {mnd_exchange_slot(s->ex, 0) + first, mnd_exchange_slot(s->ex, 1) + first}};
    adam.ops->apply(&adam_step, &slice);
}

static void step(side *s, int64_t t) {
    const mnd_update update = {.context = s, .apply = apply};
    uint32_t flags = 0;
    adam.ops->prepare(&adam, adam.lr, t, &adam_step);
    require(mnd_exchange_step(s->ex, &update, 0, &flags));
}

static float gradient_of(int r, size_t i) {
    return sinf((float)(i % 1009) + 17.0F * (float)r) * 1e-2F;
}

static void open_side(side *s, mnd_comm *comm, const char *name, size_t n, int repeats) {
    const mnd_exchange_options options = {
        .name = name, .logical = size, .n_param = n, .n_slot = adam.ops->n_slot};
    *s = (side){.seconds = take((size_t)repeats, sizeof(double))};
    require(mnd_exchange_create(comm, &options, &s->ex));
    s->param = mnd_exchange_param(s->ex);
    for (size_t i = 0; i < n && mnd_exchange_writes_param(s->ex); i++) s->param[i] = 0.1F;
    require(mnd_exchange_publish(s->ex));
}

static void close_side(side *s) {
    mnd_exchange_destroy(&s->ex);
    mnd_free(s->seconds);
}

static float *gradient(const side *s) {
    size_t stride;
    return mnd_exchange_grad(s->ex, &stride);
}

/* One step from known gradients, against a sum of them all. */
static void verify(side *s, size_t n, const float *mine) {
    memcpy(gradient(s), mine, n * sizeof *mine);
    step(s, 1);
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int r = 0; r < size; r++) sum += (double)gradient_of(r, i);
        /* Adam's first step: lr * g / (|g| + epsilon). */
        const double expected =
            0.1 - adam.lr * sum / (fabs(sum) + mnd_optimizer_get(&adam, "epsilon"));
        if (fabs(sum) > 1e-4) worst = fmax(worst, fabs((double)s->param[i] - expected));
    }
    if (!(worst < 1e-6)) {
        fprintf(stderr, "bench_exchange: %s is wrong by %g\n", mnd_exchange_name(s->ex), worst);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

static void time_turn(side *s, size_t n, const float *mine, double *seconds, int count) {
    for (int u = -WARM_UP; u < count; u++) {
        memcpy(gradient(s), mine, n * sizeof *mine);
        require_mpi(MPI_Barrier(MPI_COMM_WORLD));
        const double start = mnd_now();
        step(s, 2);
        if (u >= 0) seconds[u] = mnd_now() - start;
    }
}

static void report(const side *s, double seconds, double base) {
    const mnd_exchange_times t = mnd_exchange_time(s->ex);
    const double all = t.exchange + t.update + t.wait;
    printf(
        "  %-14s %10.1f us   %5.2f of mpi   (exchange %2.0f %%, update %2.0f %%, wait %2.0f %%)\n",
        mnd_exchange_name(s->ex), 1e6 * seconds, seconds / base, 100 * t.exchange / all,
        100 * t.update / all, 100 * t.wait / all);
}

static void bench(mnd_comm *comm, size_t n, int repeats) {
    side sides[MAX_SIDES];
    int n_sides = 0;
    open_side(&sides[n_sides++], comm, "mpi", n, repeats);
    if (size == 1) {
        open_side(&sides[n_sides++], comm, "local", n, repeats);
    } else {
        open_side(&sides[n_sides++], comm, "tree", n, repeats);
        open_side(&sides[n_sides++], comm, mnd_comm_nodes(comm) == 1 ? "shared" : "hierarchical", n,
                  repeats);
    }
    float *mine = take(n, sizeof *mine);
    for (size_t i = 0; i < n; i++) mine[i] = gradient_of(rank, i);
    for (int k = 0; k < n_sides; k++) verify(&sides[k], n, mine);
    for (int t = 0; t < repeats; t += TURN)
        for (int k = 0; k < n_sides; k++)
            time_turn(&sides[k], n, mine, sides[k].seconds + t,
                      repeats - t < TURN ? repeats - t : TURN);

    if (rank == 0) printf("%zu parameters, %d ranks, median of %d\n", n, size, repeats);
    double base = 0.0;
    for (int k = 0; k < n_sides; k++) {
        require(mnd_comm_max_f64(comm, sides[k].seconds, (size_t)repeats));
        const double seconds = median(sides[k].seconds, repeats);
        if (k == 0) base = seconds;
        if (rank == 0) report(&sides[k], seconds, base);
        close_side(&sides[k]);
    }
    mnd_free(mine);
}

int main(int argc, char **argv) {
    mnd_comm *comm = NULL;
    (void)mnd_flush_subnormals();
    if (mnd_comm_start(&comm) != MND_OK || strcmp(mnd_comm_library(comm), "none") == 0) {
        fprintf(stderr, "bench_exchange: start it with mpirun\n");
        return 2;
    }
    rank = mnd_comm_rank(comm);
    size = mnd_comm_size(comm);
    require(mnd_optimizer_default("adam", &adam));
    const long repeats = argc > 1 ? strtol(argv[1], NULL, 10) : 200;
    if (repeats < 1 || repeats > 1000000 || size > 1024) {
        fprintf(stderr, "bench_exchange: REPEATS must be 1 to 1000000, ranks at most 1024\n");
        return 2;
    }
    if (argc > 2) {
        for (int i = 2; i < argc; i++) bench(comm, strtoul(argv[i], NULL, 10), (int)repeats);
    } else {
        bench(comm, 13002, (int)repeats);
        bench(comm, 669706, (int)repeats);
        bench(comm, 4000000, (int)repeats);
    }
    mnd_comm_finish(&comm);
    return 0;
}
