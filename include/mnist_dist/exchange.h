/*
 * exchange.h - from gradients of parts to stepped parameters, by one of several algorithms.
 *
 * An exchange owns the memory that the algorithm shares: parameters, gradient parts and optimizer
 * slots. A step sums the gradient over all logical ranks in the fixed tree of logical.h and calls
 * the caller's update on the ranges of parameters that this process is in charge of; when it
 * returns, the parameters of every process are new. All algorithms give the same bits.
 */
#ifndef MNIST_DIST_EXCHANGE_H
#define MNIST_DIST_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/comm.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/status.h"

/* id, name, description */
#define MND_EXCHANGE_TABLE(X)                                                                      \
    X(LOCAL, "local", "one process: sums its own parts")                                           \
    X(ALLREDUCE, "allreduce",                                                                      \
      "reduce-scatter and allgather over MPI, every rank steps everything")                        \
    X(SHARED, "shared", "one node: shared memory, every rank sums and steps a slice")              \
    X(HIERARCHICAL, "hierarchical",                                                                \
      "several nodes: shared inside a node, messages between equal slices")

typedef struct mnd_exchange mnd_exchange; /* opaque */

/*
 * Seconds that steps have taken since the exchange was created: waiting for the last process
 * in mnd_exchange_meet and for its gradient to be complete (where the algorithm can tell,
 * "allreduce" cannot), moving and summing, updating (estimated from a sample of the blocks where it
 * is fused with the sum), and in the mnd_owner_fn.
 */
typedef struct mnd_exchange_times {
    double exchange, update, wait, owner;
} mnd_exchange_times;

/*
 * For gradients that their owners compute themselves (mnd_peers in model.h; this room does not see
 * that one): memory that all processes of a node can read, and the ranges of parameters, in
 * ascending order, whose gradient is not summed. Slices then hold equal cost.
 */
typedef struct mnd_exchange_owned {
    size_t bytes; /* of memory for each process, the same on all; 0 for none */
    int n_range;
    const mnd_owned *range; /* (n_range), borrowed during the call */
    int groups;             /* a divisor of the number of processes: slices lie in the order of the
                               ranks' remainders by it; 1: of ranks */
} mnd_exchange_owned;

/*
 * `name` is one of the table or "auto": local for one process, shared on one node, hierarchical on
 * several; allreduce where memory cannot be shared, for instance because /dev/shm is too small
 * (mnd_exchange_note says so). One process
 * gets local and one node gets shared whenever that is what the named one comes down to, so that
 * one command serves every number of processes. `logical` = V. Collective: either every process
 * gets the exchange or every process gets the same error. `owned` may be NULL; whether the
 * algorithm takes the offer says mnd_exchange_lent.
 */
MND_CHECKED mnd_status mnd_exchange_create(mnd_comm *comm, const char *name, int logical,
                                           size_t n_param, int n_slot,
                                           const mnd_exchange_owned *owned, mnd_exchange **out);
/* NULL-safe; sets *ex to NULL. Collective. */
void mnd_exchange_destroy(mnd_exchange **ex);

/* Not collective. */
const char *mnd_exchange_name(const mnd_exchange *ex);
/*
 * One line for people about what makes this exchange slower than it could be here and how to mend
 * it (shared memory too small for what "auto" would take, ranks dealt out to nodes in turn); ""
 * when there is nothing to say.
 */
const char *mnd_exchange_note(const mnd_exchange *ex);
/* The parameters: n_param floats, the same memory for the whole life. */
float *mnd_exchange_param(mnd_exchange *ex);
/* Gradient of part p of this process at grad + p * stride, until mnd_exchange_choose_sending;
   stride in floats. */
float *mnd_exchange_grad(mnd_exchange *ex, size_t *stride);
/* Slot s, indexed like the parameters; only the slice of this process is meaningful. */
float *mnd_exchange_slot(mnd_exchange *ex, int s);
/*
 * The memory that was asked for with `owned`, of every process (size), aligned to pages; NULL where
 * the algorithm does without: then all gradients are summed.
 */
char *const *mnd_exchange_lent(const mnd_exchange *ex);
/*
 * Where memory was lent: what each process wrote to it before, all see afterwards. Collective; all
 * call it as often between two steps. Time counts as wait.
 */
void mnd_exchange_meet(mnd_exchange *ex);
/* The slice [first, first + count) whose parameters this process updates. */
void mnd_exchange_slice(const mnd_exchange *ex, size_t *first, size_t *count);
mnd_exchange_times mnd_exchange_time(const mnd_exchange *ex);

/* True when this process should write the initial parameters (one writer a copy). */
int mnd_exchange_writes_param(const mnd_exchange *ex);
/* After writing initial parameters: they are visible to all. Collective. */
MND_CHECKED mnd_status mnd_exchange_publish(mnd_exchange *ex);

/*
 * Completes the gradient of the owned ranges within this process' slice; called in every step, once
 * all processes have come to it. Needed where mnd_exchange_lent is not NULL.
 */
typedef void (*mnd_owner_fn)(void *context);
void mnd_exchange_set_owner(mnd_exchange *ex, mnd_owner_fn owner, void *context);

/*
 * New parameters for [first, first + count) from their gradient grad[0 .. count): param[0 .. count)
 * holds the old ones and gets the new.
 */
typedef void (*mnd_update_fn)(void *context, size_t first, size_t count, float *param,
                              const float *grad);
/* One of them, which needs no context: the gradient itself becomes the parameter. */
void mnd_exchange_keep_sum(void *context, size_t first, size_t count, float *param,
                           const float *grad);

/*
 * One step. `flags` of all processes are or-ed into *all_flags at no extra cost (at most 16 bits):
 * this is how processes agree at a step's end. Collective.
 */
MND_CHECKED mnd_status mnd_exchange_step(mnd_exchange *ex, mnd_update_fn update, void *context,
                                         uint32_t flags, uint32_t *all_flags);

/*
 * Between two steps, now and then: measures what is faster now where one process writes what
 * another one reads next, storing as usual or mnd_send (the host of a virtual machine may move its
 * cores), and from then on does that with gradients and parameters that are summed and stepped for
 * others; mnd_exchange_sends tells whether by mnd_send, so that callers can do alike. Only "shared"
 * ever sends; nothing is measured where ranks outnumber CPUs, or where MNIST_DIST_SEND decides for
 * any process (mnd_send_wanted). Processes may come to different ends, for no bit hangs on it.
 * Afterwards the gradients are without meaning and may lie elsewhere: ask mnd_exchange_grad again.
 * Takes 0.1 to 0.3 ms, the first time also for the memory of n_param floats a part that sending
 * needs. Collective.
 */
void mnd_exchange_choose_sending(mnd_exchange *ex);
bool mnd_exchange_sends(const mnd_exchange *ex);

/* Brings slot s of all slices together in `all` (n_param floats) on rank 0. Collective. */
MND_CHECKED mnd_status mnd_exchange_gather_slot(mnd_exchange *ex, int s, float *all);

#endif
