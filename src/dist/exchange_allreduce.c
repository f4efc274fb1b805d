/*
 * exchange_allreduce.c - the textbook: every process has the parameters for itself and takes the
 * whole optimizer step. The sum over all gradients is a reduce-scatter (slice q of every part goes
 * to process q, which adds them up in the tree) and an allgather of the sums; MPI_Allreduce itself
 * adds in an order of its own choice, which would depend on the number of processes.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

typedef struct allreduce {
    void *memory;         /* of mnd_exchange_private */
    MPI_Comm comm;        /* a duplicate: messages of nobody else; NULL when alone */
    size_t first, count;  /* the slice summed here */
    float *received;      /* (parts of others, line-rounded count): my slice of them */
    const float **source; /* (n_all): my slice of every part */
    mnd_sum_plan sum;
    /* What is gathered: per process its slice rounded up to lines, then a line with its flags. */
    float *gathered;
    size_t *offset;       /* (size + 1), in floats */
    int *counts, *displs; /* (size), in floats */
    MPI_Request *request; /* persistent: the receives, then the sends */
    int n_request;
    MPI_Status *outcome; /* (n_request): gcc warns of MPICH's MPI_STATUSES_IGNORE */
} allreduce;

static size_t round_line(size_t count) {
    return (count + MND_LINE_FLOATS - 1) / MND_LINE_FLOATS * MND_LINE_FLOATS;
}

static mnd_status allocate(mnd_exchange *ex, allreduce *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    const size_t size = (size_t)ex->size;
    mnd_exchange_cut(ex->n_param, ex->size, ex->rank, &x->first, &x->count);
    if (ex->n_param + 32 * size > INT_MAX)
        MND_FAIL(MND_UNSUPPORTED, "exchange 'allreduce' cannot gather %zu parameters in one call",
                 ex->n_param);
    MND_TRY(mnd_exchange_private(ex, &x->memory));
    const size_t others = (size_t)(ex->n_all - ex->n_part);
    MND_TRY(mnd_alloc(&p, others * round_line(x->count), sizeof(float), "received gradients"));
    x->received = p;
    MND_TRY(mnd_sum_plan_make(ex->logical, ex->n_all, ex->part, &x->sum));
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
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_all, sizeof *x->source, "exchange"));
    x->source = p;
    const size_t most = others + (size_t)ex->n_part * size;
    MND_TRY(mnd_alloc(&p, most, sizeof *x->request, "exchange"));
    x->request = p;
    MND_TRY(mnd_alloc(&p, most, sizeof *x->outcome, "exchange"));
    x->outcome = p;
    const float *row = x->received;
    for (int i = 0; i < ex->n_all; i++) {
        const int mine = i - ex->part_begin[ex->rank];
        if (mine >= 0 && mine < ex->n_part) {
            x->source[i] = ex->grad + (size_t)mine * ex->stride + x->first;
        } else {
            x->source[i] = row;
            row += round_line(x->count);
        }
    }
cleanup:
    return status;
}

static mnd_status connect(mnd_exchange *ex, allreduce *x) {
    mnd_status status = MND_OK;
    if (ex->size == 1) return MND_OK;
    MND_MPI(MPI_Comm_dup(mnd_comm_handle(ex->comm), &x->comm));
    MND_MPI(MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN));
    /* Everybody begins with another partner. The tag is the part's place among its owner's. */
    for (int k = 1; k < ex->size && x->count > 0; k++) {
        const int from = (ex->rank + ex->size - k) % ex->size;
        for (int i = ex->part_begin[from]; i < ex->part_begin[from + 1]; i++) {
            MND_MPI(MPI_Recv_init((void *)x->source[i], (int)x->count, MPI_FLOAT, from,
                                  i - ex->part_begin[from], x->comm, &x->request[x->n_request]));
            x->n_request++;
        }
    }
    for (int k = 1; k < ex->size; k++) {
        const int to = (ex->rank + k) % ex->size;
        size_t first, count;
        mnd_exchange_cut(ex->n_param, ex->size, to, &first, &count);
        for (int i = 0; i < ex->n_part && count > 0; i++) {
            MND_MPI(MPI_Send_init(ex->grad + (size_t)i * ex->stride + first, (int)count, MPI_FLOAT,
                                  to, i, x->comm, &x->request[x->n_request]));
            x->n_request++;
        }
    }
cleanup:
    return status;
}

static mnd_status allreduce_open(mnd_exchange *ex) {
    allreduce *x = calloc(1, sizeof *x);
    ex->impl = x;
    mnd_status status;
    if (x == NULL) {
        status = mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    } else {
        x->comm = MPI_COMM_NULL;
        status = allocate(ex, x);
    }
    status = mnd_comm_agree(ex->comm, status, NULL);
    if (status == MND_OK) status = mnd_comm_agree(ex->comm, connect(ex, x), NULL);
    return status;
}

static void allreduce_close(mnd_exchange *ex) {
    allreduce *x = ex->impl;
    if (x == NULL) return;
    /* A failure to let go has no consequence that anybody could act upon. */
    for (int i = 0; i < x->n_request; i++) (void)MPI_Request_free(&x->request[i]);
    if (x->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&x->comm);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->memory);
    mnd_free(x->received);
    mnd_free(x->source);
    mnd_free(x->gathered);
    mnd_free(x->offset);
    mnd_free(x->counts);
    mnd_free(x->request);
    mnd_free(x->outcome);
    free(x);
}

static mnd_status allreduce_step(mnd_exchange *ex, mnd_update_fn update, void *context,
                                 uint32_t flags, uint32_t *all_flags) {
    mnd_status status = MND_OK;
    allreduce *x = ex->impl;
    const double start = mnd_now();
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
    const double middle = mnd_now();
    for (int q = 0; q < ex->size; q++) {
        size_t first, count;
        mnd_exchange_cut(ex->n_param, ex->size, q, &first, &count);
        if (count > 0) update(context, first, count, ex->param + first, x->gathered + x->offset[q]);
    }
    ex->times.exchange += middle - start;
    ex->times.update += mnd_now() - middle;
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_ops_ALLREDUCE = {
    .name = "allreduce",
    .open = allreduce_open,
    .close = allreduce_close,
    .publish = mnd_exchange_publish_private,
    .step = allreduce_step,
    .gather = mnd_exchange_gather_private,
};
