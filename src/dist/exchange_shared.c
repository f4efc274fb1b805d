/*
 * exchange_shared.c - one node: gradients lie in a shared-memory window, and so does the node's
 * single copy of the parameters. Every process sums its slice straight from its neighbours'
 * memory, a block at a time, and steps the optimizer on the block while it is in the L1 cache. Two
 * meetings hold it together: all gradients are there; all parameters are new. Where the model has
 * owned ranges nothing is summed: between the meetings their owner computes their gradient.
 */
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
} shared;

static mnd_status allocate(mnd_exchange *ex, shared *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    mnd_exchange_cut_owned(ex);
    MND_TRY(mnd_sum_plan_make(ex->logical, ex->n_all, ex->part, &x->sum));
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_all, sizeof *x->source, "exchange"));
    x->source = p;
    if (ex->lend > 0) {
        ex->lent = calloc((size_t)ex->size, sizeof *ex->lent);
        if (ex->lent == NULL) MND_FAIL(MND_NO_MEMORY, "exchange: no memory");
    }
    MND_TRY(mnd_exchange_map_slots(ex));
cleanup:
    return status;
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
    for (int r = 0, i = 0; r < ex->size; r++)
        for (int k = 0; i < ex->part_begin[r + 1]; i++, k++)
            x->source[i] =
                (float *)(void *)(x->node.own[r] + lend) + (size_t)k * ex->stride + ex->first;
    for (int r = 0; r < ex->size && ex->lend > 0; r++) ex->lent[r] = x->node.own[r];
    ex->param = (float *)(void *)x->node.common;
    ex->grad = (float *)(void *)(x->node.own[ex->rank] + lend);
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

static mnd_status shared_step(mnd_exchange *ex, mnd_update_fn update, void *context, uint32_t flags,
                              uint32_t *all_flags) {
    shared *x = ex->impl;
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
        update(context, from, to - from, ex->grad + from);
        const double seconds = mnd_now() - begin;
        ex->times.update += seconds;
        elsewhere += seconds;
        at = to;
    }
    mnd_exchange_sum_update(ex, &x->sum, x->source, ex->first, at, end - at, update, context);
    mnd_node_meet(&x->node, 0);
    ex->times.wait += middle - start;
    ex->times.exchange += mnd_now() - middle - elsewhere;
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
};
