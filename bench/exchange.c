/*
 * exchange.c - what a step's exchange and optimizer cost together, for every exchange beside the
 * usual way: flat MPI_Allreduce of the gradient, then the whole Adam step on every rank.
 *
 *   mpirun -np 2 bench_exchange [REPEATS] [N_PARAM...]
 *
 * First each exchange is checked against a plain sum. Then the sides take turns of ten steps in one
 * run, each step with gradients freshly written as a backward pass would leave them. The time
 * of a step is that of its slowest rank; printed are medians, and ratios of medians (this
 * exchange's time over that of flat allreduce: smaller is better). Everything is stored as usual:
 * what mnd_exchange_choose_sending gains lies in writing gradients, which is not timed here, and
 * where others have read the parameters, which nobody does.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "median.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/subnormal.h"
#include "mnist_dist/timer.h"

/* A turn is some steps of one side, the first ones not counted: they find the other's data in
 * cache. */
enum { MAX_SIDES = 8, TURN = 10, WARM_UP = 3 };

typedef struct side {
    const char *name;
    mnd_exchange *ex; /* NULL: the flat allreduce */
    float *param, *grad, *slot[MND_MAX_SLOTS];
    double *seconds; /* (repeats), of the slowest rank */
} side;

static mnd_optimizer adam;
static int rank, size;
static int64_t step_number;

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

static void update(void *context, size_t first, size_t count, float *param, const float *grad) {
    const side *s = context;
    float *const slot[MND_MAX_SLOTS] = {s->slot[0] + first, s->slot[1] + first};
    mnd_optimizer_step(&adam, adam.lr, step_number, count, param, grad, slot);
}

static void step(side *s, size_t n) {
    if (s->ex != NULL) {
        uint32_t flags = 0;
        require(mnd_exchange_step(s->ex, update, s, 0, &flags));
        return;
    }
    require_mpi(MPI_Allreduce(MPI_IN_PLACE, s->grad, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD));
    update(s, 0, n, s->param, s->grad);
}

static float gradient_of(int r, size_t i) {
    return sinf((float)(i % 1009) + 17.0F * (float)r) * 1e-2F;
}

static void add_side(side *s, mnd_comm *comm, const char *name, size_t n, int repeats) {
    *s = (side){.name = name, .seconds = take((size_t)repeats, sizeof(double))};
    if (name == NULL) {
        s->name = "flat MPI_Allreduce";
        s->param = take(n, sizeof(float));
        s->grad = take(n, sizeof(float));
        s->slot[0] = take(n, sizeof(float));
        s->slot[1] = take(n, sizeof(float));
    } else {
        size_t stride;
        require(mnd_exchange_create(comm, name, size, n, 2, NULL, &s->ex));
        s->param = mnd_exchange_param(s->ex);
        s->grad = mnd_exchange_grad(s->ex, &stride);
        s->slot[0] = mnd_exchange_slot(s->ex, 0);
        s->slot[1] = mnd_exchange_slot(s->ex, 1);
    }
    for (size_t i = 0; i < n; i++)
        if (s->ex == NULL || mnd_exchange_writes_param(s->ex)) s->param[i] = 0.1F;
    if (s->ex != NULL) require(mnd_exchange_publish(s->ex));
}

/* One step from known gradients, against the tree written down by hand. */
static void verify(side *s, size_t n, const float *mine) {
    memcpy(s->grad, mine, n * sizeof *mine);
    step_number = 1;
    step(s, n);
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        double value[1024], sum;
        for (int r = 0; r < size; r++) value[r] = (double)gradient_of(r, i);
        sum = mnd_tree_sum(value, size);
        /* Adam's first step: lr * g / (|g| + epsilon). */
        const double expected = 0.1 - adam.lr * sum / (fabs(sum) + adam.epsilon);
        if (fabs(sum) > 1e-4) worst = fmax(worst, fabs((double)s->param[i] - expected));
    }
    if (!(worst < 1e-6)) {
        fprintf(stderr, "bench_exchange: %s is wrong by %g\n", s->name, worst);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

static void bench(mnd_comm *comm, size_t n, int repeats) {
    side sides[MAX_SIDES];
    int n_sides = 0;
    add_side(&sides[n_sides++], comm, NULL, n, repeats);
#define BENCH_SIDE(id, name, text)                                                                 \
    if (MND_BENCH_TAKES_##id) add_side(&sides[n_sides++], comm, name, n, repeats);
#define MND_BENCH_TAKES_LOCAL (size == 1)
#define MND_BENCH_TAKES_ALLREDUCE (size > 1)
#define MND_BENCH_TAKES_SHARED (size > 1 && mnd_comm_nodes(comm) == 1)
#define MND_BENCH_TAKES_HIERARCHICAL (size > 1 && mnd_comm_nodes(comm) > 1)
    MND_EXCHANGE_TABLE(BENCH_SIDE)
#undef BENCH_SIDE
    float *mine = take(n, sizeof *mine);
    for (size_t i = 0; i < n; i++) mine[i] = gradient_of(rank, i);
    for (int k = 0; k < n_sides; k++) verify(&sides[k], n, mine);

    for (int t = 0; t < repeats; t += TURN)
        for (int k = 0; k < n_sides; k++)
            for (int u = -WARM_UP; u < TURN && t + u < repeats; u++) {
                side *s = &sides[k];
                step_number++;
                memcpy(s->grad, mine, n * sizeof *mine);
                require_mpi(MPI_Barrier(MPI_COMM_WORLD));
                const double start = mnd_now();
                step(s, n);
                if (u >= 0) s->seconds[t + u] = mnd_now() - start;
            }
    if (rank == 0) printf("%zu parameters, %d ranks, median of %d\n", n, size, repeats);
    double base = 0.0;
    for (int k = 0; k < n_sides; k++) {
        side *s = &sides[k];
        require(mnd_comm_max_f64(comm, s->seconds, (size_t)repeats));
        const double seconds = median(s->seconds, repeats);
        if (k == 0) base = seconds;
        if (rank == 0) {
            printf("  %-20s %10.1f us   %5.2f of flat", s->name, 1e6 * seconds, seconds / base);
            if (s->ex != NULL) {
                const mnd_exchange_times t = mnd_exchange_time(s->ex);
                const double all = t.exchange + t.update + t.wait;
                printf("   (exchange %2.0f %%, update %2.0f %%, wait %2.0f %%)",
                       100 * t.exchange / all, 100 * t.update / all, 100 * t.wait / all);
            }
            printf("\n");
        }
        if (s->ex == NULL) {
            mnd_free(s->param);
            mnd_free(s->grad);
            mnd_free(s->slot[0]);
            mnd_free(s->slot[1]);
        }
        mnd_exchange_destroy(&s->ex);
        mnd_free(s->seconds);
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
