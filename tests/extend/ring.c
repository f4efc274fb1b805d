/*
 * ring.c - a ring allreduce (Patarasuk and Yuan, JPDC 2009): process r passes slices of the
 * gradient to r + 1, adding its own to what it receives, until each has the sum of one slice; then
 * the sums go round once more. Every process has all parameters and steps them all.
 */
#include <stdlib.h>

#include "extend.h"

/* What this process receives: a slice, at most. */
static mnd_status ring_open(mnd_exchange *ex) {
    size_t first, count, most = 0;
    for (int q = 0; q < ex->size; q++) {
        mnd_exchange_cut(ex->n_param, ex->size, q, &first, &count);
        if (count > most) most = count;
    }
    ex->self = malloc((most + 1) * sizeof(float));
    const mnd_status status = ex->self != NULL
                                  ? mnd_exchange_private(ex)
                                  : mnd_fail(MND_NO_MEMORY, "exchange ring: no memory");
    return mnd_comm_agree(ex->comm, status, NULL);
}

static void ring_close(mnd_exchange *ex) { free(ex->self); }

/* Passes slice `out` on and receives slice `in` in `to`. */
static mnd_status pass_on(mnd_exchange *ex, int out, int in, float *to) {
    const int p = ex->size, next = (ex->rank + 1) % p, previous = (ex->rank + p - 1) % p;
    size_t out_first, out_count, in_first, in_count;
    mnd_exchange_cut(ex->n_param, p, out, &out_first, &out_count);
    mnd_exchange_cut(ex->n_param, p, in, &in_first, &in_count);
    return mnd_comm_sendrecv(ex->comm, next, ex->grad + out_first, out_count * sizeof(float),
                             previous, to, in_count * sizeof(float));
}

static mnd_status ring_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                            uint32_t *all_flags) {
    mnd_status status = MND_OK;
    const int p = ex->size;
    float *const received = ex->self;
    size_t first, count;
    *all_flags = flags;
    for (int k = 0; k < p - 1; k++) {
        const int out = (ex->rank + p - k) % p, in = (out + p - 1) % p;
        MND_TRY(pass_on(ex, out, in, received));
        mnd_exchange_cut(ex->n_param, p, in, &first, &count);
        for (size_t i = 0; i < count; i++) ex->grad[first + i] += received[i];
    }
    for (int k = 0; k < p - 1; k++) {
        const int out = (ex->rank + 1 + p - k) % p, in = (out + p - 1) % p;
        uint32_t theirs = 0;
        mnd_exchange_cut(ex->n_param, p, in, &first, &count);
        MND_TRY(pass_on(ex, out, in, ex->grad + first));
        MND_TRY(mnd_comm_sendrecv(ex->comm, (ex->rank + 1) % p, all_flags, sizeof *all_flags,
                                  (ex->rank + p - 1) % p, &theirs, sizeof theirs));
        *all_flags |= theirs;
    }
    MND_TRY(mnd_exchange_update(ex, update, ex->grad));
cleanup:
    return status;
}

const mnd_exchange_ops ring = {
    .name = "ring", .any_order = true, .open = ring_open, .close = ring_close, .step = ring_step};
