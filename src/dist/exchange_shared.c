/*
 * exchange_shared.c - one node: gradients lie in a shared-memory window, and so does the node's
 * single copy of the parameters. Every process sums its slice straight from its neighbours'
 * memory, a block at a time, and steps the optimizer on the block while it is in the L1 cache. Two
 * meetings hold it together: all gradients are there; all parameters are new. Where the model has
 * owned ranges nothing is summed: between the meetings their owner computes their gradient. Where
 * sending was chosen (mnd_exchange_choose_sending), gradients are made in private memory instead,
 * and what the others read of them is copied to the window before the first meeting.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"
#include "node.h"

typedef struct shared {
    mnd_node node;
    mnd_sum_plan sum;
    const float **source; /* (n_all): this process' slice of every part */
    float **grad;         /* (size): where those of each process begin in the window */
    float *outbox;        /* gradients of this process' parts to be sent, once that was chosen */
} shared;

static mnd_status allocate(mnd_exchange *ex, shared *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    mnd_exchange_cut_owned(ex);
    MND_TRY(mnd_sum_plan_make(ex->logical, ex->n_all, ex->part, &x->sum));
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_all, sizeof *x->source, "exchange"));
    x->source = p;
    MND_TRY(mnd_alloc(&p, (size_t)ex->size, sizeof *x->grad, "exchange"));
    x->grad = p;
    if (ex->lend > 0) {
        ex->lent = calloc((size_t)ex->size, sizeof *ex->lent);
        if (ex->lent == NULL) MND_FAIL(MND_NO_MEMORY, "exchange: no memory");
    }
    MND_TRY(mnd_exchange_map_slots(ex));
cleanup:
    return status;
}

/* The parts of process r begin at grad. */
static void set_sources(const mnd_exchange *ex, int r, const float *grad) {
    const shared *x = ex->impl;
    for (int i = ex->part_begin[r]; i < ex->part_begin[r + 1]; i++, grad += ex->stride)
        x->source[i] = grad + ex->first;
}

static mnd_status shared_open(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    shared *x = calloc(1, sizeof *x);
    ex->impl = x;
    if (mnd_comm_nodes(ex->comm) > 1)
        status = mnd_fail(MND_USAGE,
                          "exchange 'shared' is for one node and these processes run on %d: take "
                          "'hierarchical' or 'auto'",
                          mnd_comm_nodes(ex->comm));
    else
        status = x != NULL ? allocate(ex, x) : mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    status = mnd_comm_agree(ex->comm, status, NULL);
    if (status != MND_OK) return status;
    MND_TRY(mnd_node_open(ex->comm, &x->node));
    /* What is lent comes first: the numbers of parts differ. */
    const size_t lend = mnd_align_up(ex->lend);
    MND_TRY(mnd_node_allocate(ex->comm, &x->node, ex->stride * sizeof(float),
                              lend + (size_t)ex->n_part * ex->stride * sizeof(float)));
    for (int r = 0; r < ex->size; r++) {
        x->grad[r] = (float *)(void *)(x->node.own[r] + lend);
        set_sources(ex, r, x->grad[r]);
    }
    for (int r = 0; r < ex->size && ex->lend > 0; r++) ex->lent[r] = x->node.own[r];
    ex->param = (float *)(void *)x->node.common;
    ex->grad = x->grad[ex->rank];
    ex->writes_param = ex->rank == 0;
    /* First touch: who works on memory gets it near. */
    memset(ex->param + ex->first, 0, ex->count * sizeof(float));
    memset(ex->grad, 0, (size_t)ex->n_part * ex->stride * sizeof(float));
    MND_TRY(mnd_exchange_give(ex, ex->first, ex->count));
    mnd_node_meet(&x->node, 0);
cleanup:
    return status;
}

static void shared_close(mnd_exchange *ex) {
    shared *x = ex->impl;
    if (x == NULL) return;
    mnd_node_close(&x->node);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->source);
    mnd_free(x->grad);
    mnd_free(x->outbox);
    free(x);
}

static mnd_status shared_publish(mnd_exchange *ex) {
    shared *x = ex->impl;
    mnd_node_meet(&x->node, 0);
    return MND_OK;
}

static void shared_meet(mnd_exchange *ex) {
    shared *x = ex->impl;
    (void)mnd_node_meet(&x->node, 0);
}

/*
 * A look writes more than a CPU can have on its way at a time. Stores as usual may take a few times
 * as long and still be the better way: in a step they hide behind what is computed, and what was
 * sent comes from memory. On Zen 4, the hand-over takes 1.4 to 1.9 times as long where cores share
 * their third cache, and sending costs a step of mlp512 2.4 %; 7 times where they do not, and
 * sending gains 10 %.
 */
enum { LOOK_BYTES = 1 << 16, LOOKS = 3, CHUNK = 512, TIMES_AS_LONG = 3 };

/* Seconds from here to the next process and there to its end, for all at the same time. */
static double hand_over(const mnd_exchange *ex, bool send) {
    shared *x = ex->impl;
    static const char chunk[CHUNK] __attribute__((aligned(MND_ALIGN)));
    const size_t room = ex->stride * sizeof(float) / CHUNK * CHUNK;
    const size_t bytes = room < LOOK_BYTES ? room : LOOK_BYTES;
    char *const to = (char *)x->grad[ex->rank];
    const char *const from = (const char *)x->grad[(ex->rank + 1) % ex->size];
    const double begin = mnd_now();
    for (size_t at = 0; at < bytes; at += CHUNK)
        if (send)
            mnd_send(to + at, chunk, CHUNK);
        else
            memcpy(to + at, chunk, CHUNK);
    mnd_sent();
    mnd_node_meet(&x->node, 0);
    mnd_prefetch(from, bytes);
    for (size_t at = 0; at < bytes; at += MND_ALIGN) (void)*(const volatile char *)(from + at);
    mnd_node_meet(&x->node, 0);
    return mnd_now() - begin;
}

static bool sending_pays(const mnd_exchange *ex) {
    double best[2] = {HUGE_VAL, HUGE_VAL};
    for (int i = 0; i <= LOOKS; i++)
        for (int send = 0; send < 2; send++) {
            const double seconds = hand_over(ex, send);
            if (i > 0 && seconds < best[send]) best[send] = seconds; /* the first one warms up */
        }
    return best[0] > TIMES_AS_LONG * best[1];
}

static void shared_choose_sending(mnd_exchange *ex) {
    shared *x = ex->impl;
    const mnd_sending wanted = mnd_send_wanted();
    /* All look or nobody does. Ranks that take turns on a core would measure how long a turn is. */
    const bool decided = wanted != MND_SEND_IF_FASTER || x->node.patience == 0;
    const bool looks = mnd_node_meet(&x->node, decided) == 0;
    ex->sends = looks ? sending_pays(ex) : wanted == MND_SEND_ALWAYS;
    void *p = x->outbox;
    if (ex->sends && p == NULL)
        ex->sends =
            mnd_alloc(&p, (size_t)ex->n_part * ex->stride, sizeof(float), "gradients") == MND_OK;
    x->outbox = p;
    ex->grad = ex->sends ? x->outbox : x->grad[ex->rank];
    set_sources(ex, ex->rank, ex->grad);
}

/* Gradients [from, to) of this process' parts, to where the others read them. */
static void send_range(const mnd_exchange *ex, size_t from, size_t to) {
    const shared *x = ex->impl;
    if (from >= to) return;
    for (size_t at = from, p = 0; p < (size_t)ex->n_part; p++, at += ex->stride)
        mnd_send(x->grad[ex->rank] + at, x->outbox + at, (to - from) * sizeof(float));
}

/* All that is summed, but for the own slice. */
static void send_gradients(const mnd_exchange *ex) {
    const size_t end = ex->first + ex->count;
    for (int i = 0; i <= ex->n_range; i++) {
        const size_t from = i > 0 ? ex->range[i - 1].first + ex->range[i - 1].count : 0;
        const size_t to = i < ex->n_range ? ex->range[i].first : ex->n_param;
        send_range(ex, from, to < ex->first ? to : ex->first);
        send_range(ex, from > end ? from : end, to);
    }
    mnd_sent();
}

static mnd_status shared_step(mnd_exchange *ex, mnd_update_fn update, void *context, uint32_t flags,
                              uint32_t *all_flags) {
    shared *x = ex->impl;
    const double sent_from = mnd_now();
    if (ex->sends) send_gradients(ex);
    const double start = mnd_now();
    *all_flags = mnd_node_meet(&x->node, flags);
    const double middle = mnd_now();
    const size_t end = ex->first + ex->count;
    size_t at = ex->first;
    double elsewhere = 0.0;
    if (ex->n_range > 0 && ex->count > 0) {
        ex->owner(ex->owner_context);
        elsewhere = mnd_now() - middle;
        ex->times.owner += elsewhere;
    }
    for (int i = 0; i < ex->n_range; i++) {
        const mnd_owned *r = &ex->range[i];
        const size_t from = r->first > at ? r->first : at;
        const size_t to = r->first + r->count < end ? r->first + r->count : end;
        if (from >= to) continue;
        mnd_exchange_sum_update(ex, &x->sum, x->source, ex->first, at, from - at, update, context);
        const double begin = mnd_now();
        update(context, from, to - from, ex->param + from, ex->grad + from);
        const double seconds = mnd_now() - begin;
        ex->times.update += seconds;
        elsewhere += seconds;
        at = to;
    }
    mnd_exchange_sum_update(ex, &x->sum, x->source, ex->first, at, end - at, update, context);
    mnd_node_meet(&x->node, 0);
    ex->times.wait += middle - start;
    ex->times.exchange += start - sent_from + mnd_now() - middle - elsewhere;
    return MND_OK;
}

const mnd_exchange_ops mnd_exchange_ops_SHARED = {
    .name = "shared",
    .open = shared_open,
    .close = shared_close,
    .publish = shared_publish,
    .step = shared_step,
    .gather = mnd_exchange_gather_given,
    .meet = shared_meet,
    .choose_sending = shared_choose_sending,
};
