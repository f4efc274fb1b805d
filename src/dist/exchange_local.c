/* exchange_local.c - one process: its one part is the whole tree, so its gradient is the sum. */
#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

static mnd_status local_open(mnd_exchange *ex) {
    if (ex->size > 1)
        return mnd_fail(MND_USAGE, "exchange 'local' is for one process, not %d: take 'auto'",
                        ex->size);
    return mnd_exchange_private(ex, &ex->impl);
}

static void local_close(mnd_exchange *ex) { mnd_free(ex->impl); }

static mnd_status local_step(mnd_exchange *ex, mnd_update_fn update, void *context, uint32_t flags,
                             uint32_t *all_flags) {
    const double start = mnd_now();
    update(context, 0, ex->n_param, ex->param, ex->grad);
    ex->times.update += mnd_now() - start;
    *all_flags = flags;
    return MND_OK;
}

const mnd_exchange_ops mnd_exchange_ops_LOCAL = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .publish = mnd_exchange_publish_private,
    .step = local_step,
    .gather = mnd_exchange_gather_private,
};
