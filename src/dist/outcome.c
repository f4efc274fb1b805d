#include "mnist_dist/outcome.h"

#include <stdbool.h>

#include "dist.h"

struct mnd_outcomes {
    mnd_comm *comm; /* borrowed */
    int rank, size;
    bool told;
    int32_t mine;
    int32_t *number;       /* (size) what has come; 0 before. Owned */
    MPI_Request *incoming; /* (size), owned */
    MPI_Request *outgoing; /* (size), owned */
};

mnd_status mnd_outcomes_open(mnd_comm *comm, mnd_outcomes **out) {
    mnd_status status = MND_OK;
    mnd_outcomes *o;
    *out = NULL;
    MND_NEW_AGREED(comm, o, 1, "outcomes");
    o->comm = comm;
    o->rank = mnd_comm_rank(comm);
    const int size = mnd_comm_size(comm);
    MND_NEW_AGREED(comm, o->number, size, "outcomes");
    MND_NEW_AGREED(comm, o->incoming, size, "outcomes");
    MND_NEW_AGREED(comm, o->outgoing, size, "outcomes");
    o->size = size;
    for (int r = 0; r < size; r++) o->incoming[r] = o->outgoing[r] = MPI_REQUEST_NULL;
    for (int r = 0; r < size; r++)
        if (r != o->rank)
            MND_MPI(MPI_Irecv(&o->number[r], 1, MPI_INT32_T, r, 0, mnd_comm_handle(comm),
                              &o->incoming[r]));
    *out = o;
    o = NULL;
cleanup:
    mnd_outcomes_close(&o);
    return status;
}

mnd_status mnd_outcomes_tell(mnd_outcomes *o, int32_t number) {
    mnd_status status = MND_OK;
    o->told = true;
    o->mine = number;
    for (int r = 0; r < o->size; r++)
        if (r != o->rank)
            MND_MPI(MPI_Isend(&o->mine, 1, MPI_INT32_T, r, 0, mnd_comm_handle(o->comm),
                              &o->outgoing[r]));
cleanup:
    return status;
}

mnd_status mnd_outcomes_largest(mnd_outcomes *o, int32_t *largest) {
    mnd_status status = MND_OK;
    *largest = 0;
    for (int r = 0; r < o->size; r++) {
        int come = 0;
        if (r == o->rank) continue;
        MND_MPI(MPI_Test(&o->incoming[r], &come, MPI_STATUS_IGNORE));
        if (come && o->number[r] > *largest) *largest = o->number[r];
    }
cleanup:
    return status;
}

void mnd_outcomes_close(mnd_outcomes **outcomes) {
    mnd_outcomes *o = *outcomes;
    *outcomes = NULL;
    if (o == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    for (int r = 0; r < o->size; r++) {
        if (r == o->rank) continue; /* perhaps there is no MPI */
        if (!o->told && o->incoming[r] != MPI_REQUEST_NULL) (void)MPI_Cancel(&o->incoming[r]);
        (void)MPI_Wait(&o->incoming[r], MPI_STATUS_IGNORE);
        (void)MPI_Wait(&o->outgoing[r], MPI_STATUS_IGNORE);
    }
    mnd_free(o->number);
    mnd_free(o->incoming);
    mnd_free(o->outgoing);
    mnd_free(o);
}
