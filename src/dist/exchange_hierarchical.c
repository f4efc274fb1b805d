/*
 * exchange_hierarchical.c - several nodes: shared memory inside a node, messages among the
 * processes that have the same slice of the parameters on the other nodes (its counterparts).
 *
 * The processes of a node sum their subtrees to the subtrees of the node: the fewest that cover the
 * logical ranks of the node, usually one. The counterparts of a slice swap these, finish the sum in
 * the same tree, and update the node's one copy of the parameters. There are two ways:
 *
 *   everyone   Each gets the others' sums of the whole slice, and every node takes the same step:
 *              one message each way, (N - 1) M slices for N nodes with M subtrees.
 *   in ranges  Node k gets all sums of range k of the slice alone, steps it, and sends the new
 *              parameters back: two messages each way, (N - 1) / N (M + 1) slices, and an N-th of
 *              the optimizer's work and state.
 *
 * The first is as cheap for two nodes with one subtree each and wins where latency counts, the
 * second where there is much to send. In between both are timed when the exchange is opened.
 * Nodes may have unequal numbers of processes (the smallest node's number takes part in the
 * messages), and ranks may be placed on nodes in any order: M then grows, the bits stay.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist.h"
#include "exchange_impl.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/node.h"
#include "mnist_dist/timer.h"

/*
 * Differences, in floats sent by a process, that need no timing: 4 KB take less than a message
 * costs by itself on any network, 1 MB more.
 */
enum { SURELY_LATENCY = 1024, SURELY_VOLUME = 262144 };

enum { TAG_SUMS = 1, TAG_PARAM = 2, TAG_TRIAL = 3 };

/* Turns of each way that are timed, after some that open connections and windows. */
enum { TRIALS = 6, TRIAL_WARM_UP = 3 };

/* A range of parameters that node k steps, and the messages about it. */
typedef struct range {
    size_t first, count;
    float *sums; /* (own subtrees, count rounded up), then a line with flags: goes to node k */
} range;

typedef struct hierarchical {
    mnd_node *node;
    int local;       /* rank in the node */
    mnd_comm *peers; /* owned: the counterparts of this process */
    int n_node, me;  /* nodes, and which is this one */
    int slices;      /* of a node: the smallest node's number of processes */
    int active;      /* whether this process has a slice */
    size_t slice_first, slice;
    int everyone;
    /* The subtrees of all nodes in the order of the tree. */
    int n_all, n_own;
    int *subtree;      /* (n_all + 1), boundaries */
    int *subtree_node; /* (n_all) */
    int *subtrees_of;  /* (n_node) how many are node j's */
    mnd_sum_plan sum;
    const float **source; /* (n_all) this process' range of every node's subtrees */
    /* How each subtree of this node is summed from those of its processes. */
    mnd_sum_plan *own_sum;    /* (n_own) */
    const float **own_source; /* (buffers of this node's processes), whole rows */
    int *own_begin;           /* (n_own) index into own_source */
    range *range;             /* (n_node) */
    float *memory;            /* all message buffers */
    float **received;         /* (n_node) sums of node j for this range, then its flags */
    int *rank_of;             /* (n_node) rank of node j's process among the peers */
    /* Persistent: sums from others, sums to others, then parameters from and to others. */
    MPI_Request *request; /* (4 (n_node - 1)) */
    MPI_Status *outcome;
    int n_request;
} hierarchical;

static size_t round_line(size_t count) {
    return (count + MND_LINE_FLOATS - 1) / MND_LINE_FLOATS * MND_LINE_FLOATS;
}

/* Floats of the message with all sums that node j has of a range. */
static size_t message(const hierarchical *x, int j, const range *r) {
    return (size_t)x->subtrees_of[j] * round_line(r->count) + MND_LINE_FLOATS;
}

/* Where a rank runs: its node (numbered by its first rank) and its rank there. */
typedef struct place {
    int leader, local, node;
} place;

static mnd_status find_places(mnd_exchange *ex, const hierarchical *x, place *place_of) {
    mnd_status status = MND_OK;
    place mine = {.leader = ex->rank, .local = x->local};
    MND_TRY(mnd_comm_bcast(mnd_node_comm(x->node), &mine.leader, sizeof mine.leader, 0));
    MND_TRY(mnd_comm_allgather(ex->comm, &mine, sizeof mine, place_of));
    int n = 0;
    for (int r = 0; r < ex->size; r++)
        place_of[r].node = place_of[r].leader == r ? n++ : place_of[place_of[r].leader].node;
cleanup:
    return status;
}

/* The subtrees of the nodes: those of each run of neighbouring ranks on one node. */
static mnd_status find_subtrees(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    mnd_status status = MND_OK;
    void *p = NULL;
    /* Merging only ever makes fewer of them. */
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_subtree + 1, sizeof *x->subtree, "exchange"));
    x->subtree = p;
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_subtree, sizeof *x->subtree_node, "exchange"));
    x->subtree_node = p;
    for (int r = 0, end; r < ex->size; r = end) {
        for (end = r + 1; end < ex->size && place_of[end].node == place_of[r].node;) end++;
        const int n = mnd_subtrees(
            ex->options.logical, mnd_logical_first(ex->options.logical, ex->size, r),
            mnd_logical_first(ex->options.logical, ex->size, end), x->subtree + x->n_all);
        for (int i = 0; i < n; i++) x->subtree_node[x->n_all++] = place_of[r].node;
    }
    MND_TRY(mnd_alloc(&p, (size_t)x->n_node, sizeof *x->subtrees_of, "exchange"));
    x->subtrees_of = p;
    for (int i = 0; i < x->n_all; i++) x->subtrees_of[x->subtree_node[i]]++;
    x->n_own = x->subtrees_of[x->me];
    MND_TRY(mnd_sum_plan_make(x->n_all, x->subtree, &x->sum));

    MND_TRY(mnd_alloc(&p, (size_t)x->n_own, sizeof *x->own_sum, "exchange"));
    x->own_sum = p;
    MND_TRY(mnd_alloc(&p, (size_t)x->n_own, sizeof *x->own_begin, "exchange"));
    x->own_begin = p;
    MND_TRY(mnd_alloc(&p, (size_t)ex->n_subtree, sizeof *x->own_source, "exchange"));
    x->own_source = p;
    int own = 0, n_source = 0;
    for (int i = 0, k = 0; i < x->n_all; i++) {
        const int begin = k;
        while (k < ex->n_subtree && ex->subtree[k] < x->subtree[i + 1]) k++;
        if (x->subtree_node[i] != x->me) continue;
        MND_TRY(mnd_sum_plan_make(k - begin, ex->subtree + begin, &x->own_sum[own]));
        x->own_begin[own++] = n_source;
        n_source += k - begin;
    }
cleanup:
    return status;
}

/* Which rows of the window this node's subtrees are summed from, in the order of the tree. */
static void find_sources(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    int n = 0;
    for (int r = 0; r < ex->size; r++) {
        if (place_of[r].node != x->me) continue;
        const float *rows = mnd_node_own(x->node, place_of[r].local);
        for (int i = ex->begin[r]; i < ex->begin[r + 1]; i++, rows += ex->stride)
            x->own_source[n++] = rows;
    }
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
    x->active = x->local < x->slices;
    if (x->active) mnd_exchange_cut(ex->n_param, x->slices, x->local, &x->slice_first, &x->slice);
}

static mnd_status reserve_requests(hierarchical *x) {
    mnd_status status = MND_OK;
    void *p = NULL;
    MND_TRY(mnd_alloc(&p, 4 * (size_t)x->n_node, sizeof *x->request, "exchange"));
    x->request = p;
    MND_TRY(mnd_alloc(&p, 4 * (size_t)x->n_node, sizeof *x->outcome, "exchange"));
    x->outcome = p;
cleanup:
    return status;
}

/* `count` floats to and from every counterpart at once. */
static mnd_status trial(const hierarchical *x, int count, float *to, float *from) {
    mnd_status status = MND_OK;
    MPI_Comm comm = mnd_comm_handle(x->peers);
    MPI_Request *next = x->request;
    const int me = mnd_comm_rank(x->peers);
    for (int k = 1; k < x->n_node; k++, from += count)
        MND_MPI(MPI_Irecv(from, count, MPI_FLOAT, (me + x->n_node - k) % x->n_node, TAG_TRIAL, comm,
                          next++));
    for (int k = 1; k < x->n_node; k++)
        MND_MPI(MPI_Isend(to, count, MPI_FLOAT, (me + k) % x->n_node, TAG_TRIAL, comm, next++));
    MND_MPI(MPI_Waitall(2 * (x->n_node - 1), x->request, x->outcome));
cleanup:
    return status;
}

/* Which way the sums go; the same on every process. Collective. */
static mnd_status choose_way(mnd_exchange *ex, hierarchical *x) {
    mnd_status status = MND_OK;
    void *memory = NULL;
    size_t most = 0;
    for (int j = 0; j < x->n_node; j++)
        if ((size_t)x->subtrees_of[j] > most) most = (size_t)x->subtrees_of[j];
    const size_t n = (size_t)x->n_node, slice = ex->n_param / (size_t)x->slices + 1;
    const double whole = (double)(n - 1) * (double)most * (double)slice;
    const double more = whole - (double)(n - 1) / (double)n * (double)(most + 1) * (double)slice;
    x->everyone = more <= SURELY_LATENCY;
    if (x->everyone || more >= SURELY_VOLUME) return MND_OK;
    const size_t part = most * (slice / n + 1) + MND_LINE_FLOATS;
    const size_t all = most * slice + MND_LINE_FLOATS;
    double seconds[2][TRIALS] = {0}; /* everyone, in ranges */
    if (x->active) status = mnd_alloc(&memory, n * all, sizeof(float), "messages on trial");
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
    float *const to = memory, *const from = to + all;
    for (int t = -TRIAL_WARM_UP; x->active && t < TRIALS && status == MND_OK; t++) {
        const double start = mnd_now();
        status = trial(x, (int)all, to, from);
        const double middle = mnd_now();
        if (status == MND_OK) status = trial(x, (int)part, to, from);
        if (status == MND_OK) status = trial(x, (int)(slice / n + 1), to, from);
        if (t < 0) continue;
        seconds[0][t] = middle - start;
        seconds[1][t] = mnd_now() - middle;
    }
    if (status != MND_OK) memory = NULL; /* messages may still be under way */
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
    /* A turn takes as long as its slowest process; the best one was disturbed least. */
    MND_TRY(mnd_comm_max_f64(ex->comm, seconds[0], 2 * TRIALS));
    double best[2];
    for (int way = 0; way < 2; way++) {
        best[way] = seconds[way][0];
        for (int t = 1; t < TRIALS; t++)
            if (seconds[way][t] < best[way]) best[way] = seconds[way][t];
    }
    x->everyone = best[0] <= best[1];
cleanup:
    mnd_free(memory);
    return status;
}

/* Ranges and the memory of the messages. Nothing here needs another process. */
static mnd_status cut(mnd_exchange *ex, hierarchical *x, const place *place_of) {
    mnd_status status = MND_OK;
    void *p = NULL;
    MND_TRY(mnd_alloc(&p, (size_t)x->n_node, sizeof *x->range, "exchange"));
    x->range = p;
    for (int k = 0; k < x->n_node; k++) {
        range *r = &x->range[k];
        *r = (range){.first = x->slice_first, .count = x->slice};
        if (x->everyone) continue;
        mnd_exchange_cut(x->slice, x->n_node, k, &r->first, &r->count);
        r->first += x->slice_first;
    }
    ex->first = x->range[x->me].first;
    ex->count = x->range[x->me].count;

    size_t total = 0;
    for (int k = 0; k < x->n_node; k++) {
        const size_t to = message(x, x->me, &x->range[k]), from = message(x, k, &x->range[x->me]);
        if (to > INT_MAX || from > INT_MAX)
            MND_FAIL(MND_UNSUPPORTED, "exchange 'hierarchical' cannot send %zu parameters at once",
                     x->range[k].count);
        total += to + from;
    }
    MND_TRY(mnd_alloc(&p, total, sizeof *x->memory, "messages of gradients"));
    x->memory = p;
    MND_TRY(mnd_alloc(&p, (size_t)x->n_node, sizeof *x->received, "exchange"));
    x->received = p;
    float *next = x->memory;
    for (int k = 0; k < x->n_node; k++) {
        /* Everyone gets the same: one buffer for all. */
        x->range[k].sums = x->everyone && k > 0 ? x->range[0].sums : next;
        next += message(x, x->me, &x->range[k]);
        x->received[k] = next;
        next += message(x, k, &x->range[x->me]);
    }
    MND_TRY(mnd_alloc(&p, (size_t)x->n_all, sizeof *x->source, "exchange"));
    x->source = p;
    MND_TRY(mnd_alloc(&p, (size_t)x->n_node, sizeof *x->rank_of, "exchange"));
    x->rank_of = p;
    for (int r = 0, n_peer = 0; r < ex->size; r++)
        if (place_of[r].local == x->local && x->active) x->rank_of[place_of[r].node] = n_peer++;
    MND_TRY(mnd_exchange_map_slots(ex));
cleanup:
    return status;
}

/* Sources of the final sum: received rows, own sums, or the window where nothing is summed. */
static void find_final_sources(hierarchical *x) {
    const range *mine = &x->range[x->me];
    const size_t row = round_line(mine->count);
    for (int j = 0; j < x->n_node; j++)
        for (int i = 0, k = 0; i < x->n_all; i++) {
            if (x->subtree_node[i] != j) continue;
            x->source[i] = (j == x->me ? mine->sums : x->received[j]) + (size_t)k * row;
            if (j == x->me && x->own_sum[k].n_source == 1)
                x->source[i] = x->own_source[x->own_begin[k]] + mine->first;
            k++;
        }
}

static mnd_status connect(mnd_exchange *ex, hierarchical *x) {
    mnd_status status = MND_OK;
    if (!x->active) return MND_OK;
    MPI_Comm comm = mnd_comm_handle(x->peers);
    const range *mine = &x->range[x->me];
    MPI_Request *next = x->request;
    /* Everybody begins with another partner. */
    for (int k = 1; k < x->n_node; k++, next++, x->n_request++) {
        const int j = (x->me + x->n_node - k) % x->n_node;
        MND_MPI(MPI_Recv_init(x->received[j], (int)message(x, j, mine), MPI_FLOAT, x->rank_of[j],
                              TAG_SUMS, comm, next));
    }
    for (int k = 1; k < x->n_node; k++, next++, x->n_request++) {
        const int j = (x->me + k) % x->n_node;
        MND_MPI(MPI_Send_init(x->range[j].sums, (int)message(x, x->me, &x->range[j]), MPI_FLOAT,
                              x->rank_of[j], TAG_SUMS, comm, next));
    }
    if (x->everyone) goto cleanup;
    for (int k = 1; k < x->n_node; k++, next++, x->n_request++) {
        const int j = (x->me + x->n_node - k) % x->n_node;
        MND_MPI(MPI_Recv_init(ex->param + x->range[j].first, (int)x->range[j].count, MPI_FLOAT,
                              x->rank_of[j], TAG_PARAM, comm, next));
    }
    for (int k = 1; k < x->n_node; k++, next++, x->n_request++) {
        const int j = (x->me + k) % x->n_node;
        MND_MPI(MPI_Send_init(ex->param + mine->first, (int)mine->count, MPI_FLOAT, x->rank_of[j],
                              TAG_PARAM, comm, next));
    }
cleanup:
    return status;
}

static mnd_status hierarchical_open(mnd_exchange *ex) {
    mnd_status status = MND_OK;
    place *place_of = NULL;
    hierarchical *x = calloc(1, sizeof *x);
    ex->self = x;
    place_of = calloc((size_t)ex->size, sizeof *place_of);
    if (x == NULL || place_of == NULL) status = mnd_fail(MND_NO_MEMORY, "exchange: no memory");
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
    const size_t row = ex->stride * sizeof(float), rows = (size_t)mnd_exchange_n_grad(ex);
    MND_TRY(mnd_node_open(ex->comm, row, rows * row, &x->node));
    x->local = mnd_comm_rank(mnd_node_comm(x->node));
    MND_TRY(mnd_comm_agree(ex->comm, find_places(ex, x, place_of), NULL));
    for (int r = 0; r < ex->size; r++)
        if (place_of[r].node >= x->n_node) x->n_node = place_of[r].node + 1;
    x->me = place_of[ex->rank].node;
    cut_slices(ex, x, place_of);
    status = find_subtrees(ex, x, place_of);
    if (status == MND_OK) status = reserve_requests(x);
    MND_TRY(mnd_comm_agree(ex->comm, status, NULL));
    MND_TRY(mnd_comm_split(ex->comm, x->active ? x->local : ex->size, &x->peers));
    MND_TRY(choose_way(ex, x));
    MND_TRY(mnd_comm_agree(ex->comm, cut(ex, x, place_of), NULL));
    ex->param = mnd_node_common(x->node);
    ex->grad = mnd_node_own(x->node, x->local);
    ex->writes_param = x->local == 0;
    find_sources(ex, x, place_of);
    find_final_sources(x);
    /* First touch: memory lies near the process that works on it. */
    memset(ex->param + ex->first, 0, ex->count * sizeof(float));
    memset(ex->grad, 0, rows * row);
    /* Of a slice that every node steps, those of the first node speak for all. */
    ex->gives = !x->everyone || x->me == 0;
    MND_TRY(mnd_comm_agree(ex->comm, connect(ex, x), NULL));
    mnd_node_barrier(x->node, 0);
cleanup:
    free(place_of);
    return status;
}

static void hierarchical_close(mnd_exchange *ex) {
    hierarchical *x = ex->self;
    if (x == NULL) return;
    /* A failure here has no consequence that a caller could act on. */
    for (int i = 0; i < x->n_request; i++) (void)MPI_Request_free(&x->request[i]);
    mnd_comm_finish(&x->peers);
    mnd_node_close(&x->node);
    for (int i = 0; i < x->n_own && x->own_sum != NULL; i++) mnd_sum_plan_free(&x->own_sum[i]);
    mnd_sum_plan_free(&x->sum);
    mnd_free(x->own_sum);
    mnd_free(x->own_begin);
    mnd_free(x->own_source);
    mnd_free(x->subtree);
    mnd_free(x->subtree_node);
    mnd_free(x->subtrees_of);
    mnd_free(x->source);
    mnd_free(x->range);
    mnd_free(x->memory);
    mnd_free(x->received);
    mnd_free(x->rank_of);
    mnd_free(x->request);
    mnd_free(x->outcome);
    free(x);
}

static mnd_status hierarchical_publish(mnd_exchange *ex) {
    const hierarchical *x = ex->self;
    mnd_node_barrier(x->node, 0);
    return MND_OK;
}

/* This node's sums of one range into its buffer; one of a single source only if it is sent. */
static void sum_range(hierarchical *x, const range *r, int sent) {
    float *row = r->sums;
    for (int p = 0; p < x->n_own; p++, row += round_line(r->count)) {
        const mnd_sum_plan *plan = &x->own_sum[p];
        if (plan->n_source == 1 && !sent) continue;
        for (size_t i = 0; i < r->count; i += MND_SUM_BLOCK) {
            const size_t n = r->count - i < MND_SUM_BLOCK ? r->count - i : MND_SUM_BLOCK;
            memcpy(row + i, mnd_sum_block(plan, x->own_source + x->own_begin[p], r->first + i, n),
                   n * sizeof *row);
        }
    }
}

/* Swaps the sums of this node with the counterparts; returns the flags of all nodes in *flags. */
static mnd_status swap_sums(hierarchical *x, uint32_t *flags) {
    mnd_status status = MND_OK;
    const int others = x->n_node - 1;
    MPI_Request *from = x->request, *to = from + others;
    const range *mine = &x->range[x->me];
    for (int k = 1; k <= x->n_node; k++) {
        const int j = (x->me + k) % x->n_node;
        range *r = &x->range[j];
        if (!x->everyone || k == 1) {
            sum_range(x, r, j != x->me);
            /* Sixteen bits are exact in a float. */
            r->sums[message(x, x->me, r) - MND_LINE_FLOATS] = (float)*flags;
        }
        if (j != x->me) MND_MPI(MPI_Start(&to[k - 1]));
    }
    MND_MPI(MPI_Waitall(others, from, x->outcome));
    for (int j = 0; j < x->n_node; j++)
        if (j != x->me) *flags |= (uint32_t)x->received[j][message(x, j, mine) - MND_LINE_FLOATS];
cleanup:
    return status;
}

static mnd_status hierarchical_step(mnd_exchange *ex, const mnd_update *update, uint32_t flags,
                                    uint32_t *all_flags) {
    mnd_status status = MND_OK;
    hierarchical *x = ex->self;
    const int others = x->n_node - 1;
    MPI_Request *from = x->request, *to = from + others, *param = to + others;
    const double start = mnd_now();
    if (x->active) MND_MPI(MPI_Startall(others, from));
    flags = mnd_node_barrier(x->node, flags);
    const double middle = mnd_now();
    if (x->active) {
        MND_TRY(swap_sums(x, &flags));
        MND_TRY(mnd_exchange_sum_update(ex, &x->sum, x->source, ex->first, update));
        if (!x->everyone) MND_MPI(MPI_Startall(2 * others, param));
        MND_MPI(MPI_Waitall(x->n_request - others, to, x->outcome));
    } else if (update->n_measure > 0) {
        MND_TRY(mnd_exchange_update(ex, update, NULL));
    }
    /* Processes of a node without a slice learn of other nodes' flags here. */
    *all_flags = mnd_node_barrier(x->node, flags);
    ex->times.wait += middle - start;
    ex->times.exchange += mnd_now() - middle;
cleanup:
    return status;
}

const mnd_exchange_ops mnd_exchange_hierarchical = {
    .name = "hierarchical",
    .text = "several nodes: shared inside a node, messages between equal slices",
    .open = hierarchical_open,
    .close = hierarchical_close,
    .publish = hierarchical_publish,
    .step = hierarchical_step,
};
