/* exchange_local.c - one process: its one subtree is the whole tree, its gradient is the sum. */
#include "exchange_impl.h"
#include "mnist_dist/timer.h"

static mnd_status local_open(mnd_exchange *ex) {
    if (ex->size > 1)
        return mnd_fail(MND_USAGE, "exchange 'local' is for one process, not %d: take 'auto'",
                        ex->size);
    return mnd_exchange_private(ex);
}

static mnd_status local_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                             uint32_t *all_flags) {
    const double start = mnd_now();
    const mnd_status status = mnd_exchange_update(ex, update, ex->grad);
    ex->times.update += mnd_now() - start;
    *all_flags = flags;
    return status;
}

const mnd_exchange_ops mnd_exchange_local = {
    .name = "local", .open = local_open, .step = local_step};
