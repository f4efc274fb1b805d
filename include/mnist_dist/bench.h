/*
 * bench.h - how the program scales on these processes, where the time goes, what the exchange costs
 * alone, and what to expect of more processes.
 *
 * One launch on P processes measures 1, 2, 4 ... P of them: the first p train for some steps while
 * the others sleep. Machines change speed within minutes, so all numbers of processes take turns,
 * and efficiencies are medians of ratios within a turn.
 */
#ifndef MNIST_DIST_BENCH_H
#define MNIST_DIST_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/train.h"

/* All strings are borrowed for the time of the call. */
typedef struct mnd_bench_config {
    const char *data;     /* HDF5 file, or NULL: drawn digits, made in memory */
    int64_t images;       /* to train on, at most; 0: all of the file, 60000 without one */
    const char *model;    /* preset or spec */
    const char *exchange; /* name from exchange.h, or "auto" */
    mnd_optimizer optimizer;
    int64_t batch_size; /* strong scaling: of all processes together; weak: of each */
    int steps, repeats; /* steps of a turn, turns */
    int messages;       /* of each size in a turn of the exchange alone */
    int threads;        /* of each process */
    bool plain;         /* products by OpenBLAS */
    uint64_t seed;
} mnd_bench_config;

/* One number of processes. Seconds are of one step. */
typedef struct mnd_bench_row {
    bool weak;
    int ranks, nodes;
    int64_t batch; /* global */
    char exchange[16];
    double *rate;             /* (repeats) images/s of each turn; owned */
    double images_per_second; /* median of `rate` */
    double efficiency; /* median over turns of rate / (ranks * rate of one process in that turn) */
    double seconds;    /* a step, in the turn with the median rate */
    mnd_time_split time; /* in the same turn: means over the processes */
    double busy;         /* data + compute of the slowest process: median over turns */
    double busy_mean;    /* the same, mean over the processes */
    int slowest;         /* that process */
    char host[MND_HOST_NAME];
} mnd_bench_row;

/* One exchange (exchange.h) on one number of processes and size of message, with an update that
   only stores the sum. */
typedef struct mnd_bench_message {
    char way[16]; /* "mpi" */
    int ranks, nodes;
    size_t bytes;   /* of the gradient */
    double seconds; /* median over all turns, each message of its slowest process */
} mnd_bench_message;

/* t = alpha a + beta b, fitted to points (a, b, t). */
typedef struct mnd_bench_point {
    double a, b, t;
} mnd_bench_point;

typedef struct mnd_bench_line {
    double alpha, beta; /* both >= 0 */
    double error;       /* root of the mean square of (fit - t) / t */
    int points;         /* 0: nothing to fit, the rest is 0 */
} mnd_bench_line;

/* What the messages of one way cost. ranks > 0: t = alpha + beta n there, n in bytes. ranks = 0:
 * t = alpha A + beta C n over all numbers of processes, with A and C from mnd_bench_terms. */
typedef struct mnd_bench_fit {
    char way[16];
    int ranks, nodes;
    mnd_bench_line line;
} mnd_bench_fit;

typedef struct mnd_bench_prediction {
    bool weak;
    int ranks, nodes;
    double images_per_second, efficiency, seconds; /* predicted */
    int from;        /* measured numbers of processes that went in: 2 .. from */
    double measured; /* images/s, or 0 where there is no such measurement */
    double error;    /* predicted over measured, less one */
} mnd_bench_prediction;

typedef struct mnd_bench {
    int ranks, nodes, threads, steps, repeats;
    int64_t batch_size, images;
    size_t n_param;
    char model[256]; /* the spec, cut */
    char note[512];  /* for users, "" for none */
    int n_row, n_message, n_fit, n_prediction;
    mnd_bench_row *row;     /* strong 1, 2, 4 ... P, then weak 1, 2, 4 ... P; arrays are owned */
    mnd_bench_row textbook; /* strong, P: products by OpenBLAS, exchange by MPI_Allreduce */
    mnd_bench_message *message;
    mnd_bench_fit *fit;
    mnd_bench_prediction *prediction;
} mnd_bench;

/* How far it is; on rank 0. */
typedef void (*mnd_bench_progress_fn)(void *context, int done, int all);

/*
 * Measures. *out is filled on rank 0 and stays empty elsewhere; zero it before, free it in any
 * case. The same status on every process. MND_USAGE for more images a step than there are, else as
 * mnd_train. Collective.
 */
MND_CHECKED mnd_status mnd_bench_run(const mnd_bench_config *config, mnd_comm *comm,
                                     mnd_bench_progress_fn progress, void *context, mnd_bench *out);
void mnd_bench_free(mnd_bench *bench);

/* ------------------------------------------------------------------------------------ the models
 */

/*
 * Least squares of the relative error, so that small messages count as much as large ones. A
 * coefficient that would come out negative is set to 0 and the other fitted alone; so is alpha when
 * the points cannot tell the two apart.
 */
mnd_bench_line mnd_bench_fit_line(int n, const mnd_bench_point *point);

/*
 * The terms of t = alpha A + beta C n on p processes on N nodes, for n bytes of gradient:
 *   mpi           A = 2 lg p,      C = 2 (p - 1) / p   Rabenseifner's allreduce
 *   tree          A = 2 (p - 1),   C = 2 (p - 1) / p   pairwise reduce-scatter, ring allgather
 *   shared        A = 2 (p - 1),   C = 1               two barriers that read p - 1 cache lines
 * each; each process reads a p-th of p gradients hierarchical  A = 2 (N - 1),   C = 2 (N - 1) / p
 * messages between slices of an N / p-th The first two from Thakur, Rabenseifner, Gropp,
 * "Optimization of collective communication operations in MPICH", IJHPCA 19(1), 2005; the time to
 * add (their gamma) is part of beta. MND_USAGE for another name.
 */
MND_CHECKED mnd_status mnd_bench_terms(const char *way, int ranks, int nodes, double *a, double *c);

/*
 * From rows and messages: fits of every way on each number of processes and over all, then the
 * predictions
 *     t(p) = w0 + w1 ceil(batch / p) + o / p + x(p)
 * with o the optimizer's time on one process (o instead of o / p for mpi and tree), x the fit
 * over all numbers of processes of the way that P of them take, and w0 + w1 rows fitted to the rest
 * of a step (computing, and waiting for the slowest) in the rows with 2 or more processes and that
 * way. First for P itself from fewer processes, where that is possible,
 * with the error; then for 2 P, 4 P, 8 P, 16 P. Overwrites earlier predictions.
 */
MND_CHECKED mnd_status mnd_bench_predict(mnd_bench *bench);

#endif
