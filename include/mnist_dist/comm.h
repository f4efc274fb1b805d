/*
 * comm.h - the processes of a run. The only window to MPI: no MPI type appears here.
 *
 * Counts are size_t and may exceed INT_MAX. Every call reports MPI's own failures as MND_COMM.
 * "Collective" means: every process of the communicator must make the call, in the same order.
 */
#ifndef MNIST_DIST_COMM_H
#define MNIST_DIST_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/status.h"

#define MND_HOST_NAME 64

typedef struct mnd_comm mnd_comm; /* opaque */

/*
 * Joins the other processes if a launcher started this one (mpirun, mpiexec, srun: see launch.h);
 * otherwise makes a world of one without starting MPI at
 * all, which takes microseconds. Collective.
 */
MND_CHECKED mnd_status mnd_comm_start(mnd_comm **out);
/* A communicator of this process alone, however it was started. Not collective. */
MND_CHECKED mnd_status mnd_comm_self(mnd_comm **out);
/* Leaves; after mnd_comm_start this finalizes MPI. NULL-safe; sets *comm to NULL. Collective. */
void mnd_comm_finish(mnd_comm **comm);
/* A communicator of the processes with the same colour, ordered by rank. Collective. */
MND_CHECKED mnd_status mnd_comm_split(mnd_comm *comm, int color, mnd_comm **out);
/* The processes that share memory with this one. Collective. */
MND_CHECKED mnd_status mnd_comm_split_node(mnd_comm *comm, mnd_comm **out);

/* Not collective. */
int mnd_comm_rank(const mnd_comm *comm);
int mnd_comm_size(const mnd_comm *comm);
int mnd_comm_world_rank(const mnd_comm *comm);      /* of this process among all of the job */
int mnd_comm_world_size(const mnd_comm *comm);      /* processes of the job */
const char *mnd_comm_host(const mnd_comm *comm);    /* this process' host name */
int mnd_comm_nodes(const mnd_comm *comm);           /* number of nodes in the world */
const char *mnd_comm_library(const mnd_comm *comm); /* "Open MPI 4.1.4", "none" */

/*
 * The worst status of all processes, on all processes, with the explanation of the lowest rank that
 * has it as mnd_error() everywhere. Call it before the next collective whenever something local
 * could fail. *who (may be NULL) gets that rank. Collective.
 */
MND_CHECKED mnd_status mnd_comm_agree(mnd_comm *comm, mnd_status mine, int *who);
#ifdef __clang_analyzer__
/* As in status.h: what is agreed on is never better than one's own. */
#define mnd_comm_agree(comm, mine, who)                                                            \
    ((mine) != MND_OK ? ((void)!(mnd_comm_agree)((comm), (mine), (who)), (mine))                   \
                      : (mnd_comm_agree)((comm), (mine), (who)))
#endif

/* MND_NEW of memory.h on every process, or on none: a failure of one fails all. Collective. */
#define MND_NEW_AGREED(comm, pointer, count, what)                                                 \
    do {                                                                                           \
        void *mnd_new_;                                                                            \
        status = mnd_alloc(&mnd_new_, (size_t)(count), sizeof *(pointer), (what));                 \
        (pointer) = mnd_new_;                                                                      \
        MND_TRY(mnd_comm_agree((comm), status, NULL));                                             \
    } while (0)

/* Collective. */
MND_CHECKED mnd_status mnd_comm_barrier(mnd_comm *comm);
/*
 * A barrier for waits of seconds: who waits sleeps, up to a millisecond at a time, and leaves its
 * core to those that work. Collective.
 */
MND_CHECKED mnd_status mnd_comm_rest(mnd_comm *comm);
MND_CHECKED mnd_status mnd_comm_bcast(mnd_comm *comm, void *data, size_t bytes, int root);
MND_CHECKED mnd_status mnd_comm_sum_i64(mnd_comm *comm, int64_t *value, size_t n); /* in place */
MND_CHECKED mnd_status mnd_comm_max_f64(mnd_comm *comm, double *value, size_t n);  /* in place */
/* Every process gives `bytes` bytes and gets size * bytes, ordered by rank. */
MND_CHECKED mnd_status mnd_comm_allgather(mnd_comm *comm, const void *mine, size_t bytes,
                                          void *all);
/* As above with a count for each process (all processes know all counts), in bytes. */
MND_CHECKED mnd_status mnd_comm_allgatherv(mnd_comm *comm, const void *mine, const size_t *bytes,
                                           void *all);
/*
 * Sends `out_bytes` to process `to` and receives `in_bytes` from process `from`, at the same time
 * (MPI_Sendrecv). The two buffers do not overlap.
 */
MND_CHECKED mnd_status mnd_comm_sendrecv(mnd_comm *comm, int to, const void *out, size_t out_bytes,
                                         int from, void *in, size_t in_bytes);

/* Ends every process of the world with this exit code; does not return. Not collective. */
_Noreturn void mnd_comm_abort(mnd_comm *comm, int code);

#endif
