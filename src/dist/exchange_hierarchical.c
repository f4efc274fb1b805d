/*
 * exchange_hierarchical.c - several nodes: shared memory inside a node, messages among the
 * processes that have the same slice of the parameters on the other nodes (its counterparts).
 *
 * The processes of a node sum their subtrees to the subtrees of the node: the fewest that cover the
 * logical ranks of the node, usually one. The counterparts of a slice sum these in the same tree
 * (tree_reduce.h), and each updates the slice in its node's one copy of the parameters.
 *
 * Nodes may have unequal numbers of processes (the smallest node's number takes part in the
 * messages), and ranks may be placed on nodes in any order: a node then has more subtrees, the bits
 * stay.
 */
#include <stdio.h>
#include <string.h>

#include "exchange_impl.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/node.h"
#include "mnist_dist/timer.h"

/* Where a rank runs: the first rank of its node, its rank there, and the node's number. */
typedef struct place {
    int leader, local, node;
} place;

/* How a subtree of this node is summed from those of its processes. */
typedef struct node_sum {
    mnd_sum_plan plan;
    const float *const *source; /* whole gradients */
    float *sum;                 /* (ex->count), owned; NULL: the one source itself */
} node_sum;

typedef struct hierarchical {
    mnd_node *node;
    mnd_comm *peers; /* the counterparts of this process */
    mnd_tree_reduce *reduce;
    int local;            /* rank in the node */
    int n_node;           /* nodes */
    int me;               /* which is this one */
    int slices;           /* of a node: the smallest node's number of processes */
    int n_sum;            /* subtrees of this node */
    node_sum *sum;        /* (n_sum) */
    const float **source; /* (ex->n_subtree) gradient buffers of this node, NULL for others' */
    /* The subtrees of all nodes, in the order of the tree. */
    int n_all;
    int *subtree;      /* (n_all + 1), boundaries */
    int *owner;        /* (n_all) which of the counterparts has it */
    const float **row; /* (n_all) its gradient in ex's slice; NULL if another node has it */
} hierarchical;

static bool active(const hierarchical *x) { return x->local < x->slices; }

static mnd_status find_places(mnd_exchange *ex, hierarchical *x, place *place_of) {
    mnd_status status = MND_OK;
    x->local = mnd_comm_rank(mnd_node_comm(x->node));
    place mine = {.leader = ex->rank, .local = x->local};
    MND_TRY(mnd_comm_bcast(mnd_node_comm(x->node), &mine.leader, sizeof mine.leader, 0));
    MND_TRY(mnd_comm_allgather(ex->comm, &mine, sizeof mine, place_of));
    for (int r = 0; r < ex->size; r++)
        place_of[r].node =
            place_of[r].leader == r ? x->n_node++ : place_of[place_of[r].leader].node;
    x->me = place_of[ex->rank].node;
cleanup:
    return status;
}

/* Which processes have a slice, and which. */
static void cut_slices(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    int largest = 0;
    x->slices = ex->size;
    for (int j = 0; j < x->n_node; j++) {
        int ranks = 0, runs = 0;
        for (int r = 0; r < ex->size; r++) {
            ranks += place_of[r].node == j;
            runs += place_of[r].node == j && (r == 0 || place_of[r - 1].node != j);
        }
        if (ranks < x->slices) x->slices = ranks;
        if (ranks > largest) largest = ranks;
        if (runs > 1)
            snprintf(ex->note, sizeof ex->note,
                     "neighbouring ranks run on different nodes, so that nodes cannot sum before "
                     "they send: start with mpirun --map-by core or srun --distribution=block");
    }
    if (ex->note[0] == '\0' && largest > x->slices)
        snprintf(ex->note, sizeof ex->note,
                 "nodes have %d to %d ranks: only %d of each take part in the exchange", x->slices,
                 largest, x->slices);
    ex->count = 0;
    if (active(x)) mnd_exchange_cut(ex->n_param, x->slices, x->local, &ex->first, &ex->count);
    /* Every node updates the slice; those of the first node speak for all. */
    ex->gives = x->me == 0;
}

/* The rank of node j's process among the counterparts, which are ordered by rank. */
static int peer_of(const mnd_exchange *ex, const hierarchical *x, const place *place_of, int j) {
    int peer = 0;
    for (int r = 0; r < ex->size; r++) {
        if (place_of[r].local != x->local) continue;
        if (place_of[r].node == j) return peer;
        peer++;
    }
    return -1; /* this process has no slice, or none of the same number exists */
}

/* The subtrees of the nodes: those of each run of neighbouring ranks on one node. */
static mnd_status find_subtrees(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    mnd_status status = MND_OK;
    const int v = ex->options.logical;
    /* Merging only ever makes fewer of them. */
    MND_NEW(x->subtree, ex->n_subtree + 1, "exchange");
    MND_NEW(x->owner, ex->n_subtree, "exchange");
    for (int r = 0, end; r < ex->size; r = end) {
        for (end = r + 1; end < ex->size && place_of[end].node == place_of[r].node;) end++;
        const int n = mnd_subtrees(v, mnd_logical_first(v, ex->size, r),
                                   mnd_logical_first(v, ex->size, end), x->subtree + x->n_all);
        const int peer = peer_of(ex, x, place_of, place_of[r].node);
        for (int i = 0; i < n; i++) x->owner[x->n_all++] = peer;
    }
cleanup:
    return status;
}

/* The gradients of this node's subtrees: sums, or a process' buffer where nothing is added. */
static mnd_status find_rows(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    mnd_status status = MND_OK;
    MND_NEW(x->source, ex->n_subtree, "exchange");
    MND_NEW(x->row, x->n_all, "exchange");
    MND_NEW(x->sum, x->n_all, "exchange");
    for (int r = 0; r < ex->size; r++)
        for (int i = ex->begin[r]; i < ex->begin[r + 1] && place_of[r].node == x->me; i++)
            x->source[i] = (const float *)mnd_node_own(x->node, place_of[r].local) +
                           (size_t)(i - ex->begin[r]) * ex->stride;
    const int mine = peer_of(ex, x, place_of, x->me);
    for (int i = 0, k = 0; i < x->n_all; i++) {
        const int begin = k;
        while (k < ex->n_subtree && ex->subtree[k] < x->subtree[i + 1]) k++;
        if (x->owner[i] != mine) continue;
        node_sum *s = &x->sum[x->n_sum++];
        s->source = x->source + begin;
        MND_TRY(mnd_sum_plan_make(k - begin, ex->subtree + begin, &s->plan));
        if (k - begin > 1) MND_NEW(s->sum, ex->count, "gradients of the node");
        x->row[i] = s->sum != NULL ? s->sum : s->source[0] + ex->first;
    }
cleanup:
    return status;
}

/* What one process may fail in alone. Not collective. */
static mnd_status prepare(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    mnd_status status = MND_OK;
    MND_TRY(mnd_tree_reduce_fits(ex->count, x->n_node));
    MND_TRY(mnd_exchange_map_slots(ex));
    if (!active(x)) return MND_OK;
    MND_TRY(find_subtrees(ex, x, place_of));
    MND_TRY(find_rows(ex, x, place_of));
cleanup:
    return status;
}

static mnd_status connect(mnd_exchange *ex, hierarchical *x) {
    if (!active(x)) return MND_OK;
    const mnd_tree_rows rows = {.count = ex->count,
                                .n_subtree = x->n_all,
                                .subtree = x->subtree,
                                .owner = x->owner,
                                .row = x->row};
    return mnd_tree_reduce_open(x->peers, &rows, &x->reduce);
}

static mnd_status hierarchical_open(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    place *place_of = NULL;
    hierarchical *x;
    MND_NEW_AGREED(ex->comm, x, 1, "exchange");
    ex->self = x;
    MND_NEW_AGREED(ex->comm, place_of, ex->size, "exchange");
    const size_t row = ex->stride * sizeof(float), rows = (size_t)mnd_exchange_n_grad(ex);
    MND_TRY(mnd_node_open(ex->comm, row, rows * row, &x->node));
    MND_TRY(mnd_comm_agree(ex->comm, find_places(ex, x, place_of), NULL));
    cut_slices(ex, x, place_of);
    MND_TRY(mnd_comm_agree(ex->comm, prepare(ex, x, place_of), NULL));
    MND_TRY(mnd_comm_split(ex->comm, active(x) ? x->local : ex->size, &x->peers));
    MND_TRY(mnd_comm_agree(ex->comm, connect(ex, x), NULL));
    ex->param = mnd_node_common(x->node);
    ex->grad = mnd_node_own(x->node, x->local);
    ex->writes_param = x->local == 0;
    /* First touch: memory lies near the process that works on it. */
    memset(ex->param + ex->first, 0, ex->count * sizeof(float));
    memset(ex->grad, 0, rows * row);
    mnd_node_barrier(x->node, 0);
cleanup:
    mnd_free(place_of);
    return status;
}

static void hierarchical_close(mnd_exchange *ex) {
    hierarchical *x = ex->self;
    mnd_tree_reduce_close(&x->reduce);
    mnd_comm_finish(&x->peers);
    mnd_node_close(&x->node);
    for (int i = 0; i < x->n_sum; i++) {
        mnd_sum_plan_free(&x->sum[i].plan);
        mnd_free(x->sum[i].sum);
    }
    mnd_free(x->sum);
    mnd_free(x->source);
    mnd_free(x->subtree);
    mnd_free(x->owner);
    mnd_free(x->row);
    mnd_free(x);
}

static mnd_status hierarchical_publish(mnd_exchange *ex) {
    const hierarchical *x = ex->self;
    mnd_node_barrier(x->node, 0);
    return MND_OK;
}

static mnd_status hierarchical_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                                    uint32_t *all_flags) {
    mnd_status status = MND_OK;
    hierarchical *x = ex->self;
    const double start = mnd_now();
    flags = mnd_node_barrier(x->node, flags);
    const double ready = mnd_now();
    ex->times.wait += ready - start;
    for (int i = 0; i < x->n_sum; i++) {
        const node_sum *s = &x->sum[i];
        if (s->sum != NULL) mnd_sum_whole(&s->plan, s->source, ex->first, ex->count, s->sum);
    }
    if (active(x)) MND_TRY(mnd_tree_reduce_run(x->reduce, &flags));
    ex->times.exchange += mnd_now() - ready;
    if (active(x))
        MND_TRY(mnd_exchange_update_reduced(ex, x->reduce, x->n_node, update));
    else if (update->n_measure > 0)
        MND_TRY(mnd_exchange_update(ex, update, NULL));
    const double updated = mnd_now();
    /* Processes that have no slice learn of other nodes' flags here. */
    *all_flags = mnd_node_barrier(x->node, flags);
    ex->times.exchange += mnd_now() - updated;
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_hierarchical = {
    .name = "hierarchical",
    .open = hierarchical_open,
    .close = hierarchical_close,
    .publish = hierarchical_publish,
    .step = hierarchical_step,
};
