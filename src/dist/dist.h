/* dist.h - what the files of this module share: the MPI side of a communicator. */
#ifndef MND_DIST_H
#define MND_DIST_H

#include <mpi.h>

#include "mnist_dist/comm.h"

/* MPI's handle of a communicator; MPI_COMM_NULL when it is a world of one without MPI. Borrowed. */
MPI_Comm mnd_comm_handle(const mnd_comm *comm);

/* MND_OK, or MND_COMM with the name of the call (cut at its parenthesis) and MPI's own words. */
MND_CHECKED mnd_status mnd_mpi_check(int code, const char *call);

/* Runs an MPI call; on failure jumps to cleanup like MND_TRY. */
#define MND_MPI(call) MND_TRY(mnd_mpi_check((call), #call))

/*
 * The largest count of a single MPI call, INT_MAX unless a test lowers it to drive the chunked
 * paths with small messages.
 */
size_t mnd_comm_chunk(void);
void mnd_comm_set_chunk(size_t count);

#endif
