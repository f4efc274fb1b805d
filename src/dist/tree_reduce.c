#include "tree_reduce.h"

#include <limits.h>

#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/memory.h"

struct mnd_tree_reduce {
    MPI_Comm handle; /* borrowed */
    int rank, size;
    size_t length;        /* of a subtree's gradient */
    size_t first, count;  /* the slice that is summed here */
    float *received;      /* (subtrees of others, count rounded up): slices of theirs */
    const float **source; /* (n_subtree) this slice of every gradient */
    mnd_sum_plan sum;
    float *gathered; /* of each process its slice of the sum, then a cache line with its flags */
    int *counts, *displs; /* (size), (size + 1): what each process gives to `gathered` */
    MPI_Request *request; /* persistent: the receives and the sends */
    int n_request;
    MPI_Status *outcome; /* (n_request): gcc warns of MPICH's MPI_STATUSES_IGNORE */
};

static size_t round_line(size_t count) {
    return mnd_align_up(count * sizeof(float)) / sizeof(float);
}

mnd_status mnd_tree_reduce_fits(size_t count, int size) {
    if (count + 2 * MND_LINE_FLOATS * (size_t)size <= INT_MAX) return MND_OK;
    return mnd_fail(MND_UNSUPPORTED, "the exchange cannot gather %zu parameters in one call",
                    count);
}

static mnd_status allocate(mnd_tree_reduce *x, const mnd_tree_rows *rows) {
    mnd_status status = MND_OK;
    MND_TRY(mnd_tree_reduce_fits(rows->count, x->size));
    mnd_exchange_cut(x->length, x->size, x->rank, &x->first, &x->count);
    MND_NEW(x->counts, x->size, "exchange");
    MND_NEW(x->displs, x->size + 1, "exchange");
    for (int q = 0; q < x->size; q++) {
        size_t first, count;
        mnd_exchange_cut(x->length, x->size, q, &first, &count);
        x->counts[q] = (int)round_line(count) + MND_LINE_FLOATS;
        x->displs[q + 1] = x->displs[q] + x->counts[q];
    }
    MND_NEW(x->gathered, x->displs[x->size], "the summed gradient");
    MND_TRY(mnd_sum_plan_make(rows->n_subtree, rows->subtree, &x->sum));
    MND_NEW(x->source, rows->n_subtree, "exchange");
    int own = 0;
    for (int i = 0; i < rows->n_subtree; i++) own += rows->owner[i] == x->rank;
    const int most = rows->n_subtree - own + own * x->size;
    MND_NEW(x->request, most, "exchange");
    MND_NEW(x->outcome, most, "exchange");
    MND_NEW(x->received, (size_t)(rows->n_subtree - own) * round_line(x->count),
            "received gradients");
    float *next = x->received;
    for (int i = 0; i < rows->n_subtree; i++) {
        x->source[i] = rows->owner[i] == x->rank ? rows->row[i] + x->first : next;
        if (rows->owner[i] != x->rank) next += round_line(x->count);
    }
cleanup:
    return status;
}

/* Every process begins with another partner. The tag counts the sender's subtrees (rows). */
static mnd_status connect(mnd_tree_reduce *x, const mnd_tree_rows *rows) {
    mnd_status status = MND_OK;
    for (int k = 1; k < x->size && x->count > 0; k++) {
        const int from = (x->rank + x->size - k) % x->size;
        for (int i = 0, tag = 0; i < rows->n_subtree; i++) {
            if (rows->owner[i] != from) continue;
            MND_MPI(MPI_Recv_init((void *)x->source[i], (int)x->count, MPI_FLOAT, from, tag++,
                                  x->handle, &x->request[x->n_request]));
            x->n_request++;
        }
    }
    for (int k = 1; k < x->size; k++) {
        const int to = (x->rank + k) % x->size;
        size_t first, count;
        mnd_exchange_cut(x->length, x->size, to, &first, &count);
        for (int i = 0, tag = 0; i < rows->n_subtree && count > 0; i++) {
            if (rows->owner[i] != x->rank) continue;
            MND_MPI(MPI_Send_init(rows->row[i] + first, (int)count, MPI_FLOAT, to, tag++, x->handle,
                                  &x->request[x->n_request]));
            x->n_request++;
        }
    }
cleanup:
    return status;
}

mnd_status mnd_tree_reduce_open(mnd_comm *comm, const mnd_tree_rows *rows, mnd_tree_reduce **out) {
    mnd_status status = MND_OK;
    MND_NEW(*out, 1, "exchange");
    **out = (mnd_tree_reduce){.handle = mnd_comm_handle(comm),
                              .rank = mnd_comm_rank(comm),
                              .size = mnd_comm_size(comm),
                              .length = rows->count};
    MND_TRY(allocate(*out, rows));
    MND_TRY(connect(*out, rows));
cleanup:
    return mnd_comm_agree(comm, status, NULL);
}

void mnd_tree_reduce_close(mnd_tree_reduce **out) {
    mnd_tree_reduce *x = *out;
    *out = NULL;
    if (x == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    for (int i = 0; i < x->n_request; i++) (void)MPI_Request_free(&x->request[i]);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->received);
    mnd_free(x->source);
    mnd_free(x->gathered);
    mnd_free(x->counts);
    mnd_free(x->displs);
    mnd_free(x->request);
    mnd_free(x->outcome);
    mnd_free(x);
}

/* Where process q says its flags. */
static float *flags_of(const mnd_tree_reduce *x, int q) {
    return x->gathered + x->displs[q + 1] - MND_LINE_FLOATS;
}

mnd_status mnd_tree_reduce_run(mnd_tree_reduce *x, uint32_t *flags) {
    mnd_status status = MND_OK;
    MND_MPI(MPI_Startall(x->n_request, x->request));
    MND_MPI(MPI_Waitall(x->n_request, x->request, x->outcome));
    mnd_sum_whole(&x->sum, x->source, 0, x->count, x->gathered + x->displs[x->rank]);
    *flags_of(x, x->rank) = (float)*flags; /* sixteen bits are exact in a float */
    MND_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x->gathered, x->counts, x->displs,
                           MPI_FLOAT, x->handle));
    for (int q = 0; q < x->size; q++) *flags |= (uint32_t)*flags_of(x, q);
cleanup:
    return status;
}

const float *mnd_tree_reduce_slice(const mnd_tree_reduce *x, int q, size_t *first, size_t *count) {
    mnd_exchange_cut(x->length, x->size, q, first, count);
    return x->gathered + x->displs[q];
}
