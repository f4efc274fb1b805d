/* exchange_slices.c - memory of an exchange, and the update of a slice: what algorithms build on.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

int mnd_exchange_n_grad(const mnd_exchange *ex) {
    return ex->begin[ex->rank + 1] - ex->begin[ex->rank];
}

void mnd_exchange_cut(size_t n, int slices, int q, size_t *first, size_t *count) {
    const size_t block = MND_EXCHANGE_BLOCK, blocks = (n + block - 1) / block;
    const size_t each = blocks / (size_t)slices, more = blocks % (size_t)slices, i = (size_t)q;
    size_t begin = (i * each + (i < more ? i : more)) * block;
    size_t end = begin + (each + (i < more)) * block;
    if (begin > n) begin = n;
    if (end > n) end = n;
    *first = begin;
    *count = end - begin;
}

mnd_status mnd_exchange_private(mnd_exchange *ex) {
    void *memory = NULL;
    const size_t buffers = 1 + (size_t)mnd_exchange_n_grad(ex) + (size_t)ex->options.n_slot;
    mnd_status status = mnd_alloc(&memory, buffers * ex->stride, sizeof(float),
                                  "parameters, gradients and optimizer state");
    if (status != MND_OK) return status;
    ex->memory->private = memory;
    ex->param = memory;
    ex->grad = ex->param + ex->stride;
    for (int s = 0; s < ex->options.n_slot; s++)
        ex->slot[s] = ex->grad + (size_t)(mnd_exchange_n_grad(ex) + s) * ex->stride;
    return MND_OK;
}

mnd_status mnd_exchange_map_slots(mnd_exchange *ex) {
    const int n = ex->options.n_slot;
    if (n == 0) return MND_OK;
    const size_t bytes = (size_t)n * ex->stride * sizeof(float);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return mnd_fail(MND_NO_MEMORY, "optimizer state: no memory for %zu bytes", bytes);
    ex->memory->slots = memory;
    ex->memory->slots_size = bytes;
    for (int s = 0; s < n; s++) ex->slot[s] = (float *)memory + (size_t)s * ex->stride;
    return MND_OK;
}

static size_t n_block(const mnd_exchange *ex) {
    return (ex->n_param + MND_EXCHANGE_BLOCK - 1) / MND_EXCHANGE_BLOCK;
}

static mnd_status allocate_measures(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    mnd_exchange_memory *m = ex->memory;
    const size_t values = n_block(ex) * (size_t)ex->options.n_value;
    MND_NEW(m->count, ex->size, "exchange");
    MND_NEW(m->bytes, ex->size, "exchange");
    if (values == 0) return MND_OK;
    MND_NEW(m->value, values, "measures of the gradient");
    MND_NEW(m->mine, values, "measures of the gradient");
    MND_NEW(m->sum, ex->count, "the summed gradient");
cleanup:
    return status;
}

mnd_status mnd_exchange_share_slices(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    mnd_exchange_memory *m = ex->memory;
    const size_t mine = ex->gives ? ex->count : 0;
    MND_TRY(mnd_comm_agree(ex->comm, allocate_measures(ex), NULL));
    MND_TRY(mnd_comm_allgather(ex->comm, &mine, sizeof mine, m->count));
    m->whole = true;
    size_t first = 0;
    for (int r = 0; r < ex->size; r++) {
        m->whole = m->whole && m->count[r] == ex->n_param;
        if (r < ex->rank) first += m->count[r];
    }
    if (!m->whole && mine > 0 && first != ex->first)
        status = mnd_fail(MND_INTERNAL, "exchange '%s': slices are not in the order of ranks",
                          ex->ops->name);
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
cleanup:
    return status;
}

void mnd_exchange_free_memory(mnd_exchange *ex) {
    mnd_exchange_memory *m = ex->memory;
    if (m == NULL) return;
    if (m->slots != NULL) (void)munmap(m->slots, m->slots_size);
    mnd_free(m->private);
    mnd_free(m->count);
    mnd_free(m->bytes);
    mnd_free(m->value);
    mnd_free(m->mine);
    mnd_free(m->sum);
}

/* ------------------------------------------------------------------------------ measures */

/* How many numbers a measure has for `count` parameters: u->n_value for each block. */
static size_t n_value(size_t count, const mnd_update *u) {
    return (count + MND_EXCHANGE_BLOCK - 1) / MND_EXCHANGE_BLOCK * (size_t)u->n_value;
}

/* The numbers of this process' blocks. */
static void measure_slice(const mnd_exchange *ex, const mnd_update *u, int i, const float *grad,
                          double *value) {
    for (size_t at = 0; at < ex->count; at += MND_EXCHANGE_BLOCK, value += u->n_value) {
        const size_t left = ex->count - at;
        u->measure(u->context, i, ex->first + at,
                   left < MND_EXCHANGE_BLOCK ? left : MND_EXCHANGE_BLOCK,
                   ex->param + ex->first + at, grad + at, value);
    }
}

mnd_status mnd_exchange_update(mnd_exchange *ex, const mnd_update *u, const float *grad) {
    mnd_status status = MND_OK;
    mnd_exchange_memory *m = ex->memory;
    for (int i = 0; i < u->n_measure; i++) {
        measure_slice(ex, u, i, grad, m->whole ? m->value : m->mine);
        for (int r = 0; r < ex->size; r++) m->bytes[r] = n_value(m->count[r], u) * sizeof *m->mine;
        if (!m->whole) MND_TRY(mnd_comm_allgatherv(ex->comm, m->mine, m->bytes, m->value));
        u->measured(u->context, i, n_block(ex), m->value);
    }
    if (ex->count > 0) u->apply(u->context, ex->first, ex->count, ex->param + ex->first, grad);
cleanup:
    return status;
}

/* ------------------------------------------------------------------- sum and update a slice */

mnd_status mnd_exchange_update_reduced(mnd_exchange *ex, const mnd_tree_reduce *sum, int size,
                                       const mnd_update *update) {
    mnd_status status = MND_OK;
    const double start = mnd_now();
    for (int q = 0; q < size; q++) {
        size_t first, count;
        const float *slice = mnd_tree_reduce_slice(sum, q, &first, &count);
        if (update->n_measure > 0) /* they are gathered, to be measured before any is updated */
            memcpy(ex->memory->sum + first, slice, count * sizeof *slice);
        else if (count > 0)
            update->apply(update->context, ex->first + first, count, ex->param + ex->first + first,
                          slice);
    }
    if (update->n_measure > 0) MND_TRY(mnd_exchange_update(ex, update, ex->memory->sum));
    ex->times.update += mnd_now() - start;
cleanup:
    return status;
}

mnd_status mnd_exchange_sum_update(mnd_exchange *ex, const mnd_sum_plan *sum,
                                   const float *const *source, const mnd_update *update) {
    if (update->n_measure > 0) { /* the whole slice is measured before it is updated */
        mnd_sum_whole(sum, source, ex->first, ex->count, ex->memory->sum);
        const double summed = mnd_now();
        const mnd_status status = mnd_exchange_update(ex, update, ex->memory->sum);
        const double seconds = mnd_now() - summed;
        ex->times.update += seconds;
        ex->times.exchange -= seconds;
        return status;
    }
    /*
     * To look at the clock around every block would cost as much as a tenth of it. One block per
     * step stands for all, another one each time; one that was interrupted cannot stand for more
     * than the whole.
     */
    const double begin = mnd_now();
    double seconds = 0.0;
    const size_t blocks = (ex->count + MND_SUM_BLOCK - 1) / MND_SUM_BLOCK;
    if (++ex->memory->sample >= blocks) ex->memory->sample = 0;
    for (size_t block = 0; block < blocks; block++) {
        const size_t at = ex->first + block * MND_SUM_BLOCK;
        const size_t left = ex->first + ex->count - at;
        const size_t n = left < MND_SUM_BLOCK ? left : MND_SUM_BLOCK;
        const float *grad = mnd_sum_block(sum, source, at, n);
        const bool timed = block == ex->memory->sample;
        const double start = timed ? mnd_now() : 0.0;
        update->apply(update->context, at, n, ex->param + at, grad);
        if (timed) seconds = (mnd_now() - start) * (double)blocks;
    }
    const double whole = mnd_now() - begin;
    if (seconds > whole) seconds = whole;
    ex->times.update += seconds;
    ex->times.exchange -= seconds;
    return MND_OK;
}

/* --------------------------------------------------------------------------- gather slots */

mnd_status mnd_exchange_gather_slot(mnd_exchange *ex, int s, float *all) {
    mnd_status status = MND_OK;
    mnd_exchange_memory *m = ex->memory;
    if (m->whole) {
        if (ex->rank == 0) memcpy(all, ex->slot[s], ex->n_param * sizeof *all);
        return MND_OK;
    }
    /* In turns, so that rank 0 never holds more unexpected data than one message. */
    size_t first = 0;
    for (int r = 0; r < ex->size; first += m->count[r++]) {
        const size_t bytes = m->count[r] * sizeof(float);
        if (r == 0 && ex->rank == 0)
            memcpy(all + first, ex->slot[s] + first, bytes);
        else if (ex->rank == 0)
            MND_TRY(mnd_comm_sendrecv(ex->comm, r, all, 0, r, all + first, bytes));
        else if (ex->rank == r)
            MND_TRY(mnd_comm_sendrecv(ex->comm, 0, ex->slot[s] + first, bytes, 0, ex->slot[s], 0));
    }
cleanup:
    return status;
}

mnd_status mnd_exchange_collect_slot(mnd_exchange *ex, int s, float *all) {
    mnd_exchange_memory *m = ex->memory;
    if (m->whole) {
        memcpy(all, ex->slot[s], ex->n_param * sizeof *all);
        return MND_OK;
    }
    for (int r = 0; r < ex->size; r++) m->bytes[r] = m->count[r] * sizeof *all;
    return mnd_comm_allgatherv(ex->comm, ex->slot[s] + ex->first, m->bytes, all);
}
