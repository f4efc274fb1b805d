/*
 * exchange_mpi.c - the textbook: every process has the parameters for itself. MPI_Allreduce sums
 * the gradients of all processes, and each takes the same optimizer step on all parameters. The
 * library chooses the order of the additions, so that bits depend on the number of processes.
 */
#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/timer.h"

static mnd_status mpi_open(mnd_exchange *ex) {
    return mnd_comm_agree(ex->comm, mnd_exchange_private(ex), NULL);
}

/* The counts of MPI 3 are ints: a larger buffer takes several calls. */
static mnd_status sum_gradients(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    for (size_t at = 0, n; at < ex->n_param; at += n) {
        n = ex->n_param - at < mnd_comm_chunk() ? ex->n_param - at : mnd_comm_chunk();
        MND_MPI(MPI_Allreduce(MPI_IN_PLACE, ex->grad + at, (int)n, MPI_FLOAT, MPI_SUM,
                              mnd_comm_handle(ex->comm)));
    }
cleanup:
    return status;
}

static mnd_status mpi_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                           uint32_t *all_flags) {
    mnd_status status = MND_OK;
    const double start = mnd_now();
    *all_flags = flags;
    if (ex->size > 1) {
        MND_TRY(sum_gradients(ex));
        MND_MPI(
            MPI_Allreduce(&flags, all_flags, 1, MPI_UINT32_T, MPI_BOR, mnd_comm_handle(ex->comm)));
    }
    const double middle = mnd_now();
    MND_TRY(mnd_exchange_update(ex, update, ex->grad));
    ex->times.exchange += middle - start;
    ex->times.update += mnd_now() - middle;
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_mpi = {
    .name = "mpi", .any_order = true, .open = mpi_open, .step = mpi_step};
