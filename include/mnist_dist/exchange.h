/*
 * exchange.h - from the gradients of all processes to new parameters, by one of several algorithms.
 *
 * An exchange owns parameters and gradient buffers, which its algorithm may share, and optimizer
 * slots. A step sums the gradient over all logical ranks and calls the caller's update on
 * the parameters that this process is to update; when it returns, the parameters are new on every
 * process. All algorithms but "mpi" sum in the fixed tree of logical.h and give the same bits on
 * any number of processes.
 *
 *   local         one process
 *   mpi           MPI_Allreduce of one flat buffer; every process updates all: the textbook
 *   tree          reduce-scatter and allgather in the fixed tree; every process updates all
 *   shared        one node: each process sums and updates a slice in a shared-memory window
 *   hierarchical  several nodes: shared inside a node, messages among equal slices across nodes
 *
 * To add one: exchange_kind.h.
 */
#ifndef MNIST_DIST_EXCHANGE_H
#define MNIST_DIST_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/status.h"

typedef struct mnd_exchange mnd_exchange; /* opaque to callers */

/* Parameters are measured in blocks of so many: see mnd_update. */
enum { MND_EXCHANGE_BLOCK = 1024 };

/* What becomes of the summed gradient. */
typedef struct mnd_update {
    void *context;
    /*
     * New values of parameters [first, first + count) from their summed gradient grad[0 .. count):
     * param[0 .. count) holds the old ones and gets the new.
     */
    void (*apply)(void *context, size_t first, size_t count, float *param, const float *grad);
    /*
     * Quantities of the whole summed gradient that apply depends on, for instance its norm. Before
     * apply, for i = 0 .. n_measure - 1: `measure` writes n_value numbers for each block of
     * parameters, [first, first + count) with count = MND_EXCHANGE_BLOCK but for the last one;
     * then `measured` gets the numbers of all blocks, in order, on every process. So what is made
     * of them does not depend on which process had which block. n_measure = 0: nothing.
     */
    int n_measure, n_value;
    void (*measure)(void *context, int i, size_t first, size_t count, const float *param,
                    const float *grad, double *value);
    void (*measured)(void *context, int i, size_t n_block, const double *value);
} mnd_update;

typedef struct mnd_exchange_options {
    const char *name; /* as above, one that was registered, or "auto" */
    int logical;      /* logical ranks of all processes */
    size_t n_param;
    int n_slot;  /* buffers of optimizer state per parameter */
    int n_value; /* largest n_value of the updates to come, 0 for none */
} mnd_exchange_options;

/*
 * "auto" is local for one process, shared on one node and hierarchical on several; tree where
 * memory cannot be shared, for instance because /dev/shm is too small (mnd_exchange_note says so).
 * So that one command serves every number of processes, one process gets local whatever is named,
 * unless that adds in an order of its own (mpi), and hierarchical on one node is shared. Every
 * process gets the exchange, or every process the same error. Collective.
 */
MND_CHECKED mnd_status mnd_exchange_create(mnd_comm *comm, const mnd_exchange_options *options,
                                           mnd_exchange **out);
/* NULL-safe; sets *ex to NULL. Collective. */
void mnd_exchange_destroy(mnd_exchange **ex);

/*
 * Whether the exchange of this name ("auto" is one) sums in the fixed tree: a process then has one
 * gradient buffer per subtree of its logical ranks (mnd_subtrees), else one for all its rows.
 */
bool mnd_exchange_fixed_order(const char *name);
/* Known names, separated by `between`, and what each does. */
void mnd_exchange_names(const char *between, char *out, size_t size);

/* None of these is collective. */
const char *mnd_exchange_name(const mnd_exchange *ex);
/* What makes this exchange slower here than it could be, and how to mend it: one line, or "". */
const char *mnd_exchange_note(const mnd_exchange *ex);
/* The parameters: n_param floats, the same memory for the whole life. */
float *mnd_exchange_param(mnd_exchange *ex);
/* Gradient buffer t of this process is at the result + t * *stride (in floats), until the next
 * step. */
float *mnd_exchange_grad(mnd_exchange *ex, size_t *stride);
/* Slot s, indexed as the parameters are; only the slice of this process has a meaning. */
float *mnd_exchange_slot(mnd_exchange *ex, int s);
/* The parameters that this process updates. */
void mnd_exchange_slice(const mnd_exchange *ex, size_t *first, size_t *count);

/* Whether this process writes the initial parameters: one process per copy of them. */
bool mnd_exchange_writes_param(const mnd_exchange *ex);
/* After they were written: every process sees them. Collective. */
MND_CHECKED mnd_status mnd_exchange_publish(mnd_exchange *ex);

/*
 * One step: sum, update, and new parameters everywhere. `flags` of all processes (at most 16 bits)
 * are or-ed into *all_flags at no extra cost: so processes agree at the end of a step. Collective.
 */
MND_CHECKED mnd_status mnd_exchange_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                                         uint32_t *all_flags);
/* An update for mnd_exchange_step: the summed gradient itself becomes the parameter. */
extern const mnd_update mnd_update_keep_sum;

/* Brings slot s of all processes together in `all` (n_param floats) on rank 0. Collective. */
MND_CHECKED mnd_status mnd_exchange_gather_slot(mnd_exchange *ex, int s, float *all);
/* The same in `all` on every process. Collective. */
MND_CHECKED mnd_status mnd_exchange_collect_slot(mnd_exchange *ex, int s, float *all);

/*
 * Seconds that steps have taken since the exchange was created: waiting for the gradient of the
 * last process (where the algorithm can tell it from the exchange: mpi and tree cannot); moving and
 * summing; updating (estimated from a sample of the blocks where it is fused with the sum).
 */
typedef struct mnd_exchange_times {
    double exchange, update, wait;
} mnd_exchange_times;
mnd_exchange_times mnd_exchange_time(const mnd_exchange *ex);

#endif
