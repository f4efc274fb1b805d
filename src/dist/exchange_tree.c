/*
 * exchange_tree.c - a sum in the fixed tree by messages: slice q of every gradient buffer goes to
 * process q, which adds them up in the tree (reduce-scatter); then all processes get all sums
 * (allgather), and each takes the whole optimizer step. MPI_Allreduce would add in an order of its
 * own, which depends on the number of processes.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

typedef struct tree {
    MPI_Comm comm;        /* a duplicate: its messages mix with no others; NULL when alone */
    size_t first, count;  /* the slice that is summed here */
    float *received;      /* (buffers of others, count rounded up): their slices */
    const float **source; /* (n_subtree) this slice of every gradient buffer */
    mnd_sum_plan sum;
    /* What is gathered: the slice of each process, then a cache line with its flags. */
    float *gathered;
    size_t *offset;       /* (size + 1), in floats */
    int *counts, *displs; /* (size), in floats */
    MPI_Request *request; /* persistent: the receives, then the sends */
    int n_request;
    MPI_Status *outcome; /* (n_request): gcc warns of MPICH's MPI_STATUSES_IGNORE */
} tree;

static size_t round_line(size_t count) {
    return (count + MND_LINE_FLOATS - 1) / MND_LINE_FLOATS * MND_LINE_FLOATS;
}

/* Where what is gathered lies. */
static mnd_status lay_out(const mnd_exchange *ex, tree *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    const size_t size = (size_t)ex->size;
    MND_TRY(mnd_alloc(&p, size + 1, sizeof *x->offset, "exchange"));
    x->offset = p;
    MND_TRY(mnd_alloc(&p, 2 * size, sizeof *x->counts, "exchange"));
    x->counts = p;
    x->displs = x->counts + size;
    for (int q = 0; q < ex->size; q++) {
        size_t first, count;
        mnd_exchange_cut(ex->n_param, ex->size, q, &first, &count);
        const size_t length = round_line(count) + MND_LINE_FLOATS;
        x->counts[q] = (int)length;
        x->displs[q] = (int)x->offset[q];
        x->offset[q + 1] = x->offset[q] + length;
    }
    MND_TRY(mnd_alloc(&p, x->offset[ex->size], sizeof(float), "summed gradient"));
    x->gathered = p;
cleanup:
    return status;
}

static mnd_status allocate(mnd_exchange *ex, tree *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    const int own = mnd_exchange_n_grad(ex);
    const size_t others = (size_t)(ex->n_subtree - own);
    mnd_exchange_cut(ex->n_param, ex->size, ex->rank, &x->first, &x->count);
    if (ex->n_param + 32 * (size_t)ex->size > INT_MAX)
        MND_FAIL(MND_UNSUPPORTED, "exchange 'tree' cannot gather %zu parameters in one call",
                 ex->n_param);
    MND_TRY(mnd_exchange_private(ex));
    MND_TRY(mnd_alloc(&p, others * round_line(x->count), sizeof(float), "received gradients"));
    x->received = p;
    MND_TRY(mnd_sum_plan_make(ex->n_subtree, ex->subtree, &x->sum));
    MND_TRY(lay_out(ex, x));
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_subtree, sizeof *x->source, "exchange"));
    x->source = p;
    const size_t most = others + (size_t)own * (size_t)ex->size;
    MND_TRY(mnd_alloc(&p, most, sizeof *x->request, "exchange"));
    x->request = p;
    MND_TRY(mnd_alloc(&p, most, sizeof *x->outcome, "exchange"));
    x->outcome = p;
    const float *row = x->received;
    for (int i = 0; i < ex->n_subtree; i++) {
        const int mine = i - ex->begin[ex->rank];
        if (mine >= 0 && mine < own) {
            x->source[i] = ex->grad + (size_t)mine * ex->stride + x->first;
        } else {
            x->source[i] = row;
            row += round_line(x->count);
        }
    }
cleanup:
    return status;
}

static mnd_status connect(mnd_exchange *ex, tree *x) {
    mnd_status status = MND_OK;
    if (ex->size == 1) return MND_OK;
    MND_MPI(MPI_Comm_dup(mnd_comm_handle(ex->comm), &x->comm));
    MND_MPI(MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN));
    /* Every process begins with another partner. The tag is the buffer's place at its sender. */
    for (int k = 1; k < ex->size && x->count > 0; k++) {
        const int from = (ex->rank + ex->size - k) % ex->size;
        for (int i = ex->begin[from]; i < ex->begin[from + 1]; i++) {
            MND_MPI(MPI_Recv_init((void *)x->source[i], (int)x->count, MPI_FLOAT, from,
                                  i - ex->begin[from], x->comm, &x->request[x->n_request]));
            x->n_request++;
        }
    }
    for (int k = 1; k < ex->size; k++) {
        const int to = (ex->rank + k) % ex->size;
        size_t first, count;
        mnd_exchange_cut(ex->n_param, ex->size, to, &first, &count);
        for (int i = 0; i < mnd_exchange_n_grad(ex) && count > 0; i++) {
            MND_MPI(MPI_Send_init(ex->grad + (size_t)i * ex->stride + first, (int)count, MPI_FLOAT,
                                  to, i, x->comm, &x->request[x->n_request]));
            x->n_request++;
        }
    }
cleanup:
    return status;
}

static mnd_status tree_open(mnd_exchange *ex) {
    mnd_status status;
    tree *x = calloc(1, sizeof *x);
    ex->self = x;
    if (x == NULL) {
        status = mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    } else {
        x->comm = MPI_COMM_NULL;
        status = allocate(ex, x);
    }
    status = mnd_comm_agree(ex->comm, status, NULL);
    return status == MND_OK ? mnd_comm_agree(ex->comm, connect(ex, x), NULL) : status;
}

static void tree_close(mnd_exchange *ex) {
    tree *x = ex->self;
    if (x == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    for (int i = 0; i < x->n_request; i++) (void)MPI_Request_free(&x->request[i]);
    if (x->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&x->comm);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->received);
    mnd_free(x->source);
    mnd_free(x->gathered);
    mnd_free(x->offset);
    mnd_free(x->counts);
    mnd_free(x->request);
    mnd_free(x->outcome);
    free(x);
}

/* The sums of all slices, and the flags of all processes. */
static mnd_status sum_gradients(mnd_exchange *ex, tree *x, uint32_t flags, uint32_t *all_flags) {
    mnd_status status = MND_OK;
    if (x->n_request > 0) {
        MND_MPI(MPI_Startall(x->n_request, x->request));
        MND_MPI(MPI_Waitall(x->n_request, x->request, x->outcome));
    }
    float *mine = x->gathered + x->offset[ex->rank];
    for (size_t i = 0; i < x->count; i += MND_SUM_BLOCK) {
        const size_t n = x->count - i < MND_SUM_BLOCK ? x->count - i : MND_SUM_BLOCK;
        memcpy(mine + i, mnd_sum_block(&x->sum, x->source, i, n), n * sizeof *mine);
    }
    /* Sixteen bits are exact in a float. */
    x->gathered[x->offset[ex->rank + 1] - MND_LINE_FLOATS] = (float)flags;
    if (ex->size > 1)
        MND_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x->gathered, x->counts,
                               x->displs, MPI_FLOAT, x->comm));
    *all_flags = 0;
    for (int q = 0; q < ex->size; q++)
        *all_flags |= (uint32_t)x->gathered[x->offset[q + 1] - MND_LINE_FLOATS];
cleanup:
    return status;
}

static mnd_status tree_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                            uint32_t *all_flags) {
    mnd_status status = MND_OK;
    tree *x = ex->self;
    const double start = mnd_now();
    MND_TRY(sum_gradients(ex, x, flags, all_flags));
    const double middle = mnd_now();
    for (int q = 0; q < ex->size; q++) {
        size_t first, count;
        mnd_exchange_cut(ex->n_param, ex->size, q, &first, &count);
        const float *sum = x->gathered + x->offset[q];
        if (update->n_measure > 0) /* measured as a whole, where this gradient no longer counts */
            memcpy(ex->grad + first, sum, count * sizeof *sum);
        else if (count > 0)
            update->apply(update->context, first, count, ex->param + first, sum);
    }
    if (update->n_measure > 0) MND_TRY(mnd_exchange_update(ex, update, ex->grad));
    ex->times.exchange += middle - start;
    ex->times.update += mnd_now() - middle;
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_tree = {
    .name = "tree",
    .text = "reduce-scatter and allgather in the fixed tree, every rank steps everything",
    .open = tree_open,
    .close = tree_close,
    .step = tree_step};
