#include "mnist_dist/comm.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist.h"
#include "mnist_dist/launch.h"

struct mnd_comm {
    MPI_Comm handle; /* MPI_COMM_NULL: a world of one without MPI */
    bool world;      /* made by mnd_comm_start: finalizes MPI at the end */
    int rank, size, nodes;
    int world_rank, world_size;
    int *layout; /* owned: (2, size) counts and displacements of the v collectives */
    char host[MND_HOST_NAME];
    char library[64];
};

static size_t chunk = INT_MAX;

size_t mnd_comm_chunk(void) { return chunk; }
void mnd_comm_set_chunk(size_t count) { chunk = count < 1 ? 1 : count > INT_MAX ? INT_MAX : count; }

MPI_Comm mnd_comm_handle(const mnd_comm *comm) { return comm->handle; }

mnd_status mnd_mpi_check(int code, const char *call) {
    if (code == MPI_SUCCESS) return MND_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n = 0;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS)
        snprintf(text, sizeof text, "error %d", code);
    return mnd_fail(MND_COMM, "%.*s failed: %s", (int)strcspn(call, "("), call, text);
}

static void library_name(char *out, size_t size) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n = 0;
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) {
        snprintf(out, size, "unknown MPI");
        return;
    }
    static const char open_mpi[] = "Open MPI v", mpich[] = "MPICH Version:";
    const char *name = "", *rest = text;
    if (strncmp(text, open_mpi, sizeof open_mpi - 1) == 0) {
        name = "Open MPI ";
        rest = text + sizeof open_mpi - 1;
    } else if (strncmp(text, mpich, sizeof mpich - 1) == 0) {
        name = "MPICH ";
        rest = text + sizeof mpich - 1;
        rest += strspn(rest, " \t");
    }
    snprintf(out, size, "%s%.*s", name, (int)strcspn(rest, ",\n"), rest);
}

static mnd_status comm_new(mnd_comm **out) {
    mnd_comm *comm = calloc(1, sizeof *comm);
    *out = comm;
    if (comm == NULL) return mnd_fail(MND_NO_MEMORY, "communicator: no memory");
    comm->handle = MPI_COMM_NULL;
    comm->size = comm->nodes = comm->world_size = 1;
    /* POSIX leaves the end of a cut name open. */
    if (gethostname(comm->host, sizeof comm->host) != 0)
        snprintf(comm->host, sizeof comm->host, "unknown");
    comm->host[sizeof comm->host - 1] = '\0';
    snprintf(comm->library, sizeof comm->library, "none");
    return MND_OK;
}

/*
 * The node on which a test pretends this process to run: entry (world rank modulo length) of the
 * comma-separated list in MND_TEST_NODES. It can only split real nodes further, never join them.
 */
static int test_node(void) {
    const char *list = getenv("MND_TEST_NODES");
    if (list == NULL || *list == '\0') return 0;
    int n = 1, rank = 0;
    for (const char *p = list; *p != '\0'; p++) n += *p == ',';
    if (MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS) return 0;
    for (int skip = rank % n; skip > 0; skip--) list = strchr(list, ',') + 1;
    return (int)(strtol(list, NULL, 10) & 0xffff);
}

static mnd_status node_handle(MPI_Comm all, int rank, MPI_Comm *out) {
    mnd_status status = MND_OK;
    MPI_Comm shared = MPI_COMM_NULL;
    *out = MPI_COMM_NULL;
    MND_MPI(MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &shared));
    MND_MPI(MPI_Comm_split(shared, test_node(), rank, out));
cleanup:
    if (shared != MPI_COMM_NULL && MPI_Comm_free(&shared) != MPI_SUCCESS && status == MND_OK)
        status = mnd_fail(MND_COMM, "MPI_Comm_free failed");
    return status;
}

/*
 * Takes ownership of `handle`: fills in what is asked for later without communication. `nodes` is
 * their number if it is known, else 0. Collective.
 */
static mnd_status adopt(mnd_comm *comm, MPI_Comm handle, int nodes) {
    mnd_status status = MND_OK;
    MPI_Comm node = MPI_COMM_NULL;
    comm->handle = handle;
    MND_MPI(MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN));
    MND_MPI(MPI_Comm_rank(handle, &comm->rank));
    MND_MPI(MPI_Comm_size(handle, &comm->size));
    MND_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &comm->world_rank));
    MND_MPI(MPI_Comm_size(MPI_COMM_WORLD, &comm->world_size));
    library_name(comm->library, sizeof comm->library);
    comm->layout = calloc(2 * (size_t)comm->size, sizeof *comm->layout);
    status = comm->layout != NULL ? MND_OK : mnd_fail(MND_NO_MEMORY, "communicator: no memory");
    MND_TRY(mnd_comm_agree(comm, status, NULL));
    comm->nodes = nodes;
    if (nodes > 0) goto cleanup;
    MND_TRY(node_handle(handle, comm->rank, &node));
    int node_rank = 0;
    MND_MPI(MPI_Comm_rank(node, &node_rank));
    comm->nodes = node_rank == 0;
    MND_MPI(MPI_Allreduce(MPI_IN_PLACE, &comm->nodes, 1, MPI_INT, MPI_SUM, handle));
cleanup:
    if (node != MPI_COMM_NULL && MPI_Comm_free(&node) != MPI_SUCCESS && status == MND_OK)
        status = mnd_fail(MND_COMM, "MPI_Comm_free failed");
    return status;
}

mnd_status mnd_comm_self(mnd_comm **out) { return comm_new(out); }

mnd_status mnd_comm_start(mnd_comm **out) {
    mnd_status status = MND_OK;
    mnd_comm *comm = NULL;
    MND_TRY(comm_new(&comm));
    mnd_launch launch;
    mnd_launch_examine(&launch);
    if (launch.joins) {
        /* Threads compute; only the main thread calls MPI. */
        int provided = 0;
        MND_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
        comm->world = true;
        MND_MPI(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN));
        MND_TRY(adopt(comm, MPI_COMM_WORLD, 0));
    }
cleanup:
    if (status != MND_OK) mnd_comm_finish(&comm);
    *out = comm;
    return status;
}

void mnd_comm_finish(mnd_comm **out) {
    mnd_comm *comm = *out;
    *out = NULL;
    if (comm == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    if (comm->world) {
        (void)MPI_Finalize();
    } else if (comm->handle != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&comm->handle);
    }
    free(comm->layout);
    free(comm);
}

/* A communicator around a handle made by a split; frees the handle on failure. Collective. */
static mnd_status comm_around(mnd_comm *parent, MPI_Comm handle, int nodes, mnd_comm **out) {
    mnd_comm *comm = NULL;
    mnd_status status = comm_new(&comm);
    status = mnd_comm_agree(parent, status, NULL);
    if (status == MND_OK) {
        status = adopt(comm, handle, nodes);
    } else if (handle != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&handle);
    }
    if (status != MND_OK) mnd_comm_finish(&comm);
    *out = comm;
    return status;
}

mnd_status mnd_comm_split(mnd_comm *comm, int color, mnd_comm **out) {
    mnd_status status = MND_OK;
    MPI_Comm handle = MPI_COMM_NULL;
    *out = NULL;
    if (comm->handle == MPI_COMM_NULL) return comm_new(out);
    MND_MPI(MPI_Comm_split(comm->handle, color, comm->rank, &handle));
    MND_TRY(comm_around(comm, handle, 0, out));
cleanup:
    return status;
}

mnd_status mnd_comm_split_node(mnd_comm *comm, mnd_comm **out) {
    mnd_status status = MND_OK;
    MPI_Comm handle = MPI_COMM_NULL;
    *out = NULL;
    if (comm->handle == MPI_COMM_NULL) return comm_new(out);
    MND_TRY(node_handle(comm->handle, comm->rank, &handle));
    MND_TRY(comm_around(comm, handle, 1, out));
cleanup:
    return status;
}

int mnd_comm_rank(const mnd_comm *comm) { return comm->rank; }
int mnd_comm_size(const mnd_comm *comm) { return comm->size; }
int mnd_comm_world_rank(const mnd_comm *comm) { return comm->world_rank; }
int mnd_comm_world_size(const mnd_comm *comm) { return comm->world_size; }
const char *mnd_comm_host(const mnd_comm *comm) { return comm->host; }
int mnd_comm_nodes(const mnd_comm *comm) { return comm->nodes; }
const char *mnd_comm_library(const mnd_comm *comm) { return comm->library; }

mnd_status(mnd_comm_agree)(mnd_comm *comm, mnd_status mine, int *who) {
    mnd_status status = MND_OK;
    if (who != NULL) *who = 0;
    if (comm->handle == MPI_COMM_NULL) return mine;
    /* MPI_MAXLOC takes the lowest rank among equals. */
    struct {
        int value, rank;
    } worst = {(int)mine, comm->rank};
    MND_MPI(MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_2INT, MPI_MAXLOC, comm->handle));
    if (worst.value == MND_OK) return MND_OK;
    char line[1024];
    snprintf(line, sizeof line, "%s", mnd_error());
    MND_MPI(MPI_Bcast(line, (int)sizeof line, MPI_CHAR, worst.rank, comm->handle));
    line[sizeof line - 1] = '\0';
    if (who != NULL) *who = worst.rank;
    status = mnd_fail((mnd_status)worst.value, "%s", line);
cleanup:
    return status;
}

mnd_status mnd_comm_barrier(mnd_comm *comm) {
    mnd_status status = MND_OK;
    if (comm->handle != MPI_COMM_NULL) MND_MPI(MPI_Barrier(comm->handle));
cleanup:
    return status;
}

mnd_status mnd_comm_rest(mnd_comm *comm) {
    mnd_status status = MND_OK;
    MPI_Request request = MPI_REQUEST_NULL;
    if (comm->handle == MPI_COMM_NULL) return MND_OK;
    MND_MPI(MPI_Ibarrier(comm->handle, &request));
    /* From 20 us to 1 ms: short waits end early, long ones cost a thousandth of a core. */
    long nap = 20000;
    int done = 0;
    MND_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    while (!done) {
        const struct timespec t = {.tv_nsec = nap};
        (void)nanosleep(&t, NULL);
        if (nap < 1000000) nap += nap / 2;
        MND_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    }
cleanup:
    return status;
}

mnd_status mnd_comm_bcast(mnd_comm *comm, void *data, size_t bytes, int root) {
    mnd_status status = MND_OK;
    if (comm->handle == MPI_COMM_NULL) return MND_OK;
    for (char *p = data; bytes > 0;) {
        const size_t n = bytes < chunk ? bytes : chunk;
        MND_MPI(MPI_Bcast(p, (int)n, MPI_BYTE, root, comm->handle));
        p += n;
        bytes -= n;
    }
cleanup:
    return status;
}

/* In place, n elements of `size` bytes. */
static mnd_status reduce(mnd_comm *comm, void *value, size_t n, size_t size, MPI_Datatype type,
                         MPI_Op op) {
    mnd_status status = MND_OK;
    if (comm->handle == MPI_COMM_NULL) return MND_OK;
    char *p = value;
    for (size_t m; n > 0; n -= m, p += m * size) {
        m = n < chunk ? n : chunk;
        MND_MPI(MPI_Allreduce(MPI_IN_PLACE, p, (int)m, type, op, comm->handle));
    }
cleanup:
    return status;
}

mnd_status mnd_comm_sum_i64(mnd_comm *comm, int64_t *value, size_t n) {
    return reduce(comm, value, n, sizeof *value, MPI_INT64_T, MPI_SUM);
}

mnd_status mnd_comm_max_f64(mnd_comm *comm, double *value, size_t n) {
    return reduce(comm, value, n, sizeof *value, MPI_DOUBLE, MPI_MAX);
}

mnd_status mnd_comm_allgather(mnd_comm *comm, const void *mine, size_t bytes, void *all) {
    mnd_status status = MND_OK;
    if (comm->handle == MPI_COMM_NULL) {
        if (bytes > 0) memmove(all, mine, bytes);
        return MND_OK;
    }
    if (bytes <= chunk) {
        MND_MPI(MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, comm->handle));
        return MND_OK;
    }
    memcpy((char *)all + (size_t)comm->rank * bytes, mine, bytes);
    for (int r = 0; r < comm->size; r++)
        MND_TRY(mnd_comm_bcast(comm, (char *)all + (size_t)r * bytes, bytes, r));
cleanup:
    return status;
}

/* Fills comm->layout with counts and displacements as MPI wants them; false when they are too big.
 */
static bool set_layout(mnd_comm *comm, const size_t *bytes) {
    size_t offset = 0;
    for (int r = 0; r < comm->size; r++) {
        if (bytes[r] > chunk - offset) return false;
        comm->layout[r] = (int)bytes[r];
        comm->layout[comm->size + r] = (int)offset;
        offset += bytes[r];
    }
    return true;
}

mnd_status mnd_comm_allgatherv(mnd_comm *comm, const void *mine, const size_t *bytes, void *all) {
    mnd_status status = MND_OK;
    if (comm->handle == MPI_COMM_NULL) {
        if (bytes[0] > 0) memmove(all, mine, bytes[0]);
        return MND_OK;
    }
    if (set_layout(comm, bytes)) {
        MND_MPI(MPI_Allgatherv(mine, comm->layout[comm->rank], MPI_BYTE, all, comm->layout,
                               comm->layout + comm->size, MPI_BYTE, comm->handle));
    } else {
        char *p = all;
        for (int r = 0; r < comm->size; p += bytes[r++]) {
            if (r == comm->rank && bytes[r] > 0) memcpy(p, mine, bytes[r]);
            MND_TRY(mnd_comm_bcast(comm, p, bytes[r], r));
        }
    }
cleanup:
    return status;
}

mnd_status mnd_comm_sendrecv(mnd_comm *comm, int to, const void *out, size_t out_bytes, int from,
                             void *in, size_t in_bytes) {
    mnd_status status = MND_OK;
    const char *o = out;
    char *i = in;
    if (comm->handle == MPI_COMM_NULL) {
        if (in_bytes > 0) memcpy(in, out, in_bytes);
        return MND_OK;
    }
    /* Sender and receiver know the size and cut it into the same chunks. */
    while (out_bytes > 0 || in_bytes > 0) {
        const size_t n = out_bytes < chunk ? out_bytes : chunk;
        const size_t m = in_bytes < chunk ? in_bytes : chunk;
        MND_MPI(MPI_Sendrecv(o, (int)n, MPI_BYTE, n > 0 ? to : MPI_PROC_NULL, 0, i, (int)m,
                             MPI_BYTE, m > 0 ? from : MPI_PROC_NULL, 0, comm->handle,
                             MPI_STATUS_IGNORE));
        o += n;
        i += m;
        out_bytes -= n;
        in_bytes -= m;
    }
cleanup:
    return status;
}

_Noreturn void mnd_comm_abort(mnd_comm *comm, int code) {
    if (comm != NULL && comm->handle != MPI_COMM_NULL) (void)MPI_Abort(MPI_COMM_WORLD, code);
    /* No MPI, or MPI_Abort came back. No exit handlers: they may wait for dead ranks. */
    _exit(code);
}
