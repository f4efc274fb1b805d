/*
 * exchange_shared.c - one node: gradients lie in a shared-memory window, and so does the node's
 * single copy of the parameters. Every process sums its slice straight from its neighbours' memory,
 * a block at a time, and steps the optimizer on the block while it is in the L1 cache. Two barriers
 * hold a step together: all gradients are there; all parameters are new.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/node.h"
#include "mnist_dist/timer.h"

typedef struct shared {
    mnd_node *node;
    mnd_sum_plan sum;
    const float **source; /* (n_subtree) every gradient buffer of the node */
    float **window;       /* (size) where the gradient buffers of each process begin */
    float *outbox; /* gradient buffers in private memory, for streaming; NULL: never streams */
    bool streaming, trials; /* streams now; may change that between steps */
    uint32_t n_step;
    double end, best[2];      /* when the last step ended; shortest trial step, [streaming] */
    const mnd_update *update; /* of the current step */
} shared;

static mnd_status allocate(mnd_exchange *ex, shared *x) {
    mnd_status status = MND_OK;
    mnd_exchange_cut(ex->n_param, ex->size, ex->rank, &ex->first, &ex->count);
    MND_TRY(mnd_sum_plan_make(ex->n_subtree, ex->subtree, &x->sum));
    MND_NEW(x->source, ex->n_subtree, "exchange");
    MND_NEW(x->window, ex->size, "exchange");
    MND_TRY(mnd_exchange_map_slots(ex));
cleanup:
    return status;
}

/* The gradient buffers of process r begin at grad. */
static void set_sources(const mnd_exchange *ex, int r, const float *grad) {
    const shared *x = ex->self;
    for (int i = ex->begin[r]; i < ex->begin[r + 1]; i++, grad += ex->stride) x->source[i] = grad;
}

/* ----------------------------------------------------------------------- streaming stores */

/*
 * A store to a line that another core has in its cache first goes there to take it away: 20 to 30
 * ns per line where the cores are far apart. A streaming (non-temporal) store does not (Intel 64
 * and IA-32 Architectures Software Developer's Manual, volume 1, 10.4.6.2). So gradients are made
 * in private memory and streamed to the window, and parameters are stepped in a buffer and
 * streamed.
 */
#ifdef __SSE2__
enum { CAN_STREAM = 1 };
static void stream(float *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i < n && (uintptr_t)(to + i) % sizeof(__m128i) != 0; i++) to[i] = from[i];
    for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    for (; i < n; i++) to[i] = from[i];
}
/* A release store does not wait for streaming stores. */
static void end_stream(void) { _mm_sfence(); }
#else
enum { CAN_STREAM = 0 };
static void stream(float *to, const float *from, size_t n) { memcpy(to, from, n * sizeof *to); }
static void end_stream(void) {}
#endif

/*
 * Where the cores are near each other plain stores are faster, since what is streamed leaves the
 * shared cache. The host may move a core at any time, so the question is asked again and again: in
 * every PERIOD steps the first TRIAL go as before and the next TRIAL the other way, and the way of
 * the shortest step is kept, by the clock of rank 0.
 */
enum { TRIAL = 8, PERIOD = 256 };

static void set_streaming(mnd_exchange *ex, bool streaming) {
    shared *x = ex->self;
    x->streaming = streaming;
    ex->grad = streaming ? x->outbox : x->window[ex->rank];
    set_sources(ex, ex->rank, ex->grad);
}

/* At the end of every step. */
static void choose_streaming(mnd_exchange *ex) {
    shared *x = ex->self;
    const uint32_t step = x->n_step++ % PERIOD;
    const double now = mnd_now(), seconds = now - x->end;
    x->end = now;
    if (step == 0) x->best[0] = x->best[1] = HUGE_VAL;
    if (step < 2 * TRIAL) x->best[x->streaming] = fmin(x->best[x->streaming], seconds);
    if (step == TRIAL - 1) set_streaming(ex, !x->streaming);
    if (step != 2 * TRIAL - 1) return;
    const uint32_t mine = ex->rank == 0 && x->best[1] < x->best[0]; /* or-ed: rank 0 decides */
    set_streaming(ex, mnd_node_barrier(x->node, mine) != 0);
}

/* Copies to the window what other processes sum: this process' gradients but for its own slice. */
static void stream_gradients(const mnd_exchange *ex) {
    const shared *x = ex->self;
    const size_t end = ex->first + ex->count;
    for (int t = 0; t < mnd_exchange_n_grad(ex); t++) {
        float *const to = x->window[ex->rank] + (size_t)t * ex->stride;
        const float *const from = x->outbox + (size_t)t * ex->stride;
        stream(to, from, ex->first);
        stream(to + end, from + end, ex->n_param - end);
    }
    end_stream();
}

static void update_streamed(void *context, size_t first, size_t count, float *param,
                            const float *grad) {
    const mnd_update *update = ((const shared *)context)->update;
    float block[MND_SUM_BLOCK] __attribute__((aligned(MND_ALIGN)));
    memcpy(block, param, count * sizeof *block);
    update->apply(update->context, first, count, block, grad);
    stream(param, block, count);
}

/* ------------------------------------------------------------------------------ the steps */

static mnd_status shared_open(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    shared *x;
    const size_t row = ex->stride * sizeof(float), rows = (size_t)mnd_exchange_n_grad(ex);
    if (mnd_comm_nodes(ex->comm) > 1) /* the same on every process */
        return mnd_fail(MND_USAGE,
                        "exchange 'shared' is for one node and these processes run on %d: take "
                        "'hierarchical' or 'auto'",
                        mnd_comm_nodes(ex->comm));
    MND_NEW_AGREED(ex->comm, x, 1, "exchange");
    ex->self = x;
    MND_TRY(mnd_comm_agree(ex->comm, allocate(ex, x), NULL));
    MND_TRY(mnd_node_open(ex->comm, row, rows * row, &x->node));
    ex->param = mnd_node_common(x->node);
    ex->writes_param = ex->rank == 0;
    for (int r = 0; r < ex->size; r++) {
        x->window[r] = mnd_node_own(x->node, r);
        set_sources(ex, r, x->window[r]);
    }
    ex->grad = x->window[ex->rank];
    /* First touch: memory lies near the process that works on it. */
    memset(ex->param + ex->first, 0, ex->count * sizeof(float));
    memset(ex->grad, 0, rows * row);
    mnd_node_barrier(x->node, 0);
    const char *forced = getenv("MND_TEST_STREAM"); /* by tests: "0", "1" (always), "trials" */
    const bool always = forced != NULL && strcmp(forced, "1") == 0;
    x->trials = forced != NULL ? strcmp(forced, "trials") == 0 : !mnd_node_crowded(x->node);
    if (CAN_STREAM && ex->size > 1 && (x->trials || always)) {
        MND_NEW_AGREED(ex->comm, x->outbox, rows * ex->stride, "gradients");
        set_streaming(ex, always);
    }
cleanup:
    return status;
}

static void shared_close(mnd_exchange *ex) {
    shared *x = ex->self;
    mnd_node_close(&x->node);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->source);
    mnd_free(x->window);
    mnd_free(x->outbox);
    mnd_free(x);
}

static mnd_status shared_publish(mnd_exchange *ex) {
    const shared *x = ex->self;
    mnd_node_barrier(x->node, 0);
    return MND_OK;
}

static mnd_status shared_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                              uint32_t *all_flags) {
    mnd_status status = MND_OK;
    shared *x = ex->self;
    const mnd_update streamed = {.context = x, .apply = update_streamed};
    const bool streams = x->streaming && update->n_measure == 0; /* else apply gets a whole slice */
    const double begin = mnd_now();
    x->update = update;
    if (x->streaming) stream_gradients(ex);
    const double sent = mnd_now();
    *all_flags = mnd_node_barrier(x->node, flags);
    const double middle = mnd_now();
    MND_TRY(mnd_exchange_sum_update(ex, &x->sum, x->source, streams ? &streamed : update));
    if (streams) end_stream();
    mnd_node_barrier(x->node, 0);
    ex->times.wait += middle - sent;
    ex->times.exchange += sent - begin + mnd_now() - middle; /* less what sum_update took off */
    if (x->outbox != NULL && x->trials) choose_streaming(ex);
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_shared = {
    .name = "shared",
    .open = shared_open,
    .close = shared_close,
    .publish = shared_publish,
    .step = shared_step,
};
